package handler

import (
	"fmt"
	"maps"
	"slices"

	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// How DescribeClientQuotas asks for a part of an entity.
const (
	matchExact     = 0
	matchDefault   = 1
	matchSpecified = 2
)

// describeClientQuotas lists the quotas of the entities that match a filter (KIP-546).
func (d *AdminDesk) describeClientQuotas(r *server.Request) {
	req := new(api.DescribeClientQuotasRequest)
	if !r.Decode(req) {
		return
	}
	a := api.NewDescribeClientQuotasResponse()
	if code, why := checkQuotaFilter(req); code != wire.ErrNone {
		a.ErrorCode, a.ErrorMessage, a.Entries = code, &why, nil
		r.Answer(a)
		return
	}
	a.Entries = []api.DescribeClientQuotasResponseEntry{}
	for q := range d.Image().Quotas.All() {
		if quotaMatches(q, req) {
			a.Entries = append(a.Entries, quotaEntry(q))
		}
	}
	r.Answer(a)
}

func checkQuotaFilter(req *api.DescribeClientQuotasRequest) (wire.ErrorCode, string) {
	seen := map[string]bool{}
	for _, c := range req.Components {
		invalid := func(text string) (wire.ErrorCode, string) { return wire.ErrInvalidRequest, text }
		switch {
		case c.EntityType == "":
			return invalid("Invalid empty entity type.")
		case seen[c.EntityType]:
			return invalid("Entity type " + c.EntityType + " cannot appear more than once in the filter.")
		case c.EntityType != controller.QuotaIP && c.EntityType != controller.QuotaUser && c.EntityType != controller.QuotaClientID:
			return wire.ErrUnsupportedVersion, "Unsupported entity type " + c.EntityType
		case c.MatchType == matchExact && c.Match == nil:
			return invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.")
		case c.MatchType == matchDefault && c.Match != nil:
			return invalid("Request specified MATCH_TYPE_DEFAULT, but also specified a match string.")
		case c.MatchType == matchSpecified && c.Match != nil:
			return invalid("Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.")
		case c.MatchType < matchExact || c.MatchType > matchSpecified:
			return invalid(fmt.Sprintf("Unknown match type %d", c.MatchType))
		}
		seen[c.EntityType] = true
	}
	if seen[controller.QuotaIP] && len(seen) > 1 {
		return wire.ErrInvalidRequest, "Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component."
	}
	return wire.ErrNone, ""
}

func quotaMatches(q *image.QuotaEntity, req *api.DescribeClientQuotasRequest) bool {
	if req.Strict && len(q.Entity) != len(req.Components) {
		return false
	}
	for _, c := range req.Components {
		found := false
		for _, p := range q.Entity {
			if p.EntityType != c.EntityType {
				continue
			}
			switch c.MatchType {
			case matchExact:
				found = p.EntityName != nil && *p.EntityName == *c.Match
			case matchDefault:
				found = p.EntityName == nil
			default:
				found = true
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func quotaEntry(q *image.QuotaEntity) api.DescribeClientQuotasResponseEntry {
	var e api.DescribeClientQuotasResponseEntry
	for _, p := range q.Entity {
		e.Entity = append(e.Entity, api.DescribeClientQuotasResponseEntryEntity{EntityType: p.EntityType, EntityName: p.EntityName})
	}
	for _, key := range slices.Sorted(maps.Keys(q.Values)) {
		e.Values = append(e.Values, api.DescribeClientQuotasResponseEntryValue{Key: key, Value: q.Values[key]})
	}
	return e
}

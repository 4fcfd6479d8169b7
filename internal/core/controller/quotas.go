package controller

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Parts of a quota entity (KIP-546, KIP-612).
const (
	QuotaUser     = "user"
	QuotaClientID = "client-id"
	QuotaIP       = "ip"
)

// quotaMax is the largest value of each quota of users and clients; quotas without one may have fractions.
var quotaMax = map[string]float64{"producer_byte_rate": math.MaxInt64, "consumer_byte_rate": math.MaxInt64, "request_percentage": 0, "controller_mutation_rate": 0}

// ipQuotaMax is the same for IP addresses.
var ipQuotaMax = map[string]float64{"connection_creation_rate": math.MaxInt32}

// quotaOp is one change of one quota; a nil value removes it.
type quotaOp struct {
	key   string
	value *float64
}

// alterClientQuotas sets and removes quotas. Whether a host name among the entities means a machine is not asked here: that
// takes a look at the network, and so is done before the request comes.
func (c *Controller) alterClientQuotas(r *api.AlterClientQuotasRequest) Decision {
	answer := api.NewAlterClientQuotasResponse()
	at := map[string]int{} // entities by their text, and where the answer has them
	var records []image.Record
	for i := range r.Entries {
		entity := quotaEntity(r.Entries[i].Entity)
		text := quotaEntityText(entity)
		n, seen := at[text]
		if !seen {
			n = len(answer.Entries)
			at[text] = n
			ae := api.AlterClientQuotasResponseEntry{}
			for _, p := range entity {
				ae.Entity = append(ae.Entity, api.AlterClientQuotasResponseEntryEntity{EntityType: p.EntityType, EntityName: p.EntityName})
			}
			answer.Entries = append(answer.Entries, ae)
		}
		ops, twice := quotaOps(r.Entries[i].Ops)
		var e *Error
		if seen || twice { // of an entity that comes twice, the first change stands
			e = errorf(wire.ErrInvalidRequest, "Ignoring duplicate entity "+text)
		} else {
			var recs []image.Record
			if recs, e = c.alterQuotaEntity(entity, ops); e == nil {
				records = append(records, recs...)
			}
		}
		answer.Entries[n].ErrorCode, answer.Entries[n].ErrorMessage = e.code(), e.Message()
		if len(records) > MaxRecordsPerOp {
			return Decision{Err: errTooManyRecords()}
		}
	}
	if r.ValidateOnly {
		records = nil
	}
	return Decision{Records: records, Atomic: true, Answer: answer}
}

// quotaEntity is an entity as Kafka's map has it: the last part of each type, in the order of a Java HashMap.
func quotaEntity(parts []api.AlterClientQuotasRequestEntryEntity) []logrec.ClientQuotaRecordEntity {
	var out []logrec.ClientQuotaRecordEntity
	for _, p := range parts {
		part := logrec.ClientQuotaRecordEntity{EntityType: p.EntityType, EntityName: p.EntityName}
		if i := slices.IndexFunc(out, func(o logrec.ClientQuotaRecordEntity) bool { return o.EntityType == p.EntityType }); i >= 0 {
			out[i] = part
		} else {
			out = append(out, part)
		}
	}
	javaOrder(out, len(parts), func(p logrec.ClientQuotaRecordEntity) string { return p.EntityType })
	return out
}

func quotaEntityText(entity []logrec.ClientQuotaRecordEntity) string {
	parts := make([]string, len(entity))
	for i, p := range entity {
		parts[i] = p.EntityType + "=null"
		if p.EntityName != nil {
			parts[i] = p.EntityType + "=" + *p.EntityName
		}
	}
	return "ClientQuotaEntity(entries={" + strings.Join(parts, ", ") + "})"
}

func quotaOps(all []api.AlterClientQuotasRequestEntryOp) (ops []quotaOp, twice bool) {
	seen := make(map[string]bool, len(all))
	for _, o := range all {
		if seen[o.Key] {
			return nil, true
		}
		seen[o.Key] = true
		op := quotaOp{key: o.Key}
		if !o.Remove {
			op.value = &o.Value
		}
		ops = append(ops, op)
	}
	javaOrder(ops, len(all), func(o quotaOp) string { return o.key })
	return ops, false
}

func (c *Controller) alterQuotaEntity(entity []logrec.ClientQuotaRecordEntity, ops []quotaOp) ([]image.Record, *Error) {
	keys, e := quotaKeysOf(entity)
	if e != nil {
		return nil, e
	}
	var current map[string]float64
	if q := c.img.Quotas.Of(entity); q != nil {
		current = q.Values
	}
	var records []image.Record
	for _, op := range ops {
		old, had := current[op.key]
		rec := &logrec.ClientQuotaRecord{Entity: entity, Key: op.key}
		switch {
		case op.value == nil && !had:
			continue
		case op.value == nil:
			rec.Remove = true
		default:
			if e := checkQuota(keys, op.key, *op.value); e != nil {
				return nil, e
			}
			if had && (old == *op.value || old != old && *op.value != *op.value) {
				continue
			}
			rec.Value = *op.value
		}
		records = append(records, image.Record{Message: rec})
	}
	return records, nil
}

// quotaKeysOf checks which parts an entity has, and returns the quotas that it may have.
func quotaKeysOf(entity []logrec.ClientQuotaRecordEntity) (map[string]float64, *Error) {
	invalid := func(text string) (map[string]float64, *Error) { return nil, errorf(wire.ErrInvalidRequest, text) }
	if len(entity) == 0 {
		return invalid("Invalid empty client quota entity")
	}
	ip := false
	for _, p := range entity {
		switch p.EntityType {
		case QuotaUser, QuotaClientID:
		case QuotaIP:
			ip = true
		default:
			return invalid("Unhandled client quota entity type: " + p.EntityType)
		}
		if p.EntityName != nil && *p.EntityName == "" {
			return invalid("Empty " + p.EntityType + " not supported")
		}
	}
	switch {
	case ip && len(entity) > 1:
		return invalid("Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId") // so does Kafka spell it
	case ip:
		return ipQuotaMax, nil
	}
	return quotaMax, nil
}

func checkQuota(keys map[string]float64, key string, value float64) *Error {
	most, ok := keys[key]
	switch {
	case !ok:
		return errorf(wire.ErrInvalidRequest, "Invalid configuration key "+key)
	case value <= 0:
		return errorf(wire.ErrInvalidRequest, "Quota "+key+" must be greater than 0")
	case most == 0:
		return nil
	case value > most:
		kind := "a LONG"
		if most == math.MaxInt32 {
			kind = "an INT"
		}
		return errorf(wire.ErrInvalidRequest, fmt.Sprintf("Proposed value for %s is too large for %s.", key, kind))
	case math.Abs(math.Mod(value, 1)) > 1e-6:
		return errorf(wire.ErrInvalidRequest, key+" cannot be a fractional value.")
	}
	return nil
}

// javaOrder puts s into the order in which a Java HashMap made for n entries iterates over them. Kafka's records and texts have
// it, and which of several errors is told depends on it.
func javaOrder[T any](s []T, n int, key func(T) string) {
	size := 1
	for size < n {
		size *= 2
	}
	for len(s) > size*3/4 {
		size *= 2
	}
	bucket := func(v T) uint32 {
		h := uint32(0)
		for _, u := range utf16.Encode([]rune(key(v))) {
			h = 31*h + uint32(u)
		}
		return (h ^ h>>16) & uint32(size-1)
	}
	slices.SortStableFunc(s, func(a, b T) int { return int(bucket(a)) - int(bucket(b)) })
}

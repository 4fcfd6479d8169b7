package handler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// listGroups serves ListGroups for the groups whose coordinator is this broker; by state since 4, by type since 5.
func (d *GroupDesk) listGroups(r *server.Request) {
	req := api.NewListGroupsRequest()
	if !r.Decode(req) {
		return
	}
	resp := api.NewListGroupsResponse()
	code := d.groups.ReadAll(func(s *group.Shard) {
		resp.Groups = append(resp.Groups, s.ListGroups(req.StatesFilter, req.TypesFilter)...)
	})
	if code != wire.ErrNone {
		resp.ErrorCode, resp.Groups = coord.ClientError(code), nil
	}
	r.Answer(resp)
}

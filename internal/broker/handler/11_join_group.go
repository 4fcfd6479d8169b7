package handler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// joinGroup serves JoinGroup. The protocol name is nullable since 7 and empty before.
func (d *GroupDesk) joinGroup(r *server.Request) {
	req := api.NewJoinGroupRequest()
	if !r.Decode(req) {
		return
	}
	d.do(r, d.partitionOf(req.GroupID), func(body any, code wire.ErrorCode) {
		resp, ok := body.(*api.JoinGroupResponse)
		if !ok && !down(code) {
			resp = d.config.RefuseJoin(req)
		}
		if resp == nil {
			resp = api.NewJoinGroupResponse()
			resp.ErrorCode = coord.ClientError(code)
			if down(code) {
				resp.MemberID = req.MemberID
			}
		}
		if r.Version() < 7 && resp.ProtocolName == nil {
			resp.ProtocolName = new(string)
		} else if r.Version() >= 7 && resp.ProtocolName != nil && *resp.ProtocolName == "" {
			resp.ProtocolName = nil
		}
		r.Answer(resp)
	}, func(s *group.Shard, t group.Turn) shard.Result { return s.JoinGroup(t, req) })
}

package handler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// leaveGroup serves LeaveGroup: one member before version 3, several since.
func (d *GroupDesk) leaveGroup(r *server.Request) {
	req := api.NewLeaveGroupRequest()
	if !r.Decode(req) {
		return
	}
	if r.Version() < 3 {
		req.Members = []api.LeaveGroupRequestMember{{MemberID: req.MemberID}}
	}
	failed := func(code wire.ErrorCode) wire.Message {
		resp := api.NewLeaveGroupResponse()
		resp.ErrorCode = code
		return resp
	}
	d.do(r, d.partitionOf(req.GroupID), func(body any, code wire.ErrorCode) {
		resp, ok := body.(*api.LeaveGroupResponse)
		switch {
		case !ok && req.GroupID == "" && !down(code):
			r.Answer(failed(wire.ErrInvalidGroupID))
		case !ok:
			r.Answer(failed(coord.ClientError(code)))
		case r.Version() < 3 && resp.ErrorCode == wire.ErrNone:
			r.Answer(failed(resp.Members[0].ErrorCode))
		default:
			r.Answer(resp)
		}
	}, func(s *group.Shard, t group.Turn) shard.Result { return s.LeaveGroup(t, req) })
}

package handler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// syncGroup serves SyncGroup. Since 5 the protocol's type and name must be there (KIP-559).
func (d *GroupDesk) syncGroup(r *server.Request) {
	req := api.NewSyncGroupRequest()
	if !r.Decode(req) {
		return
	}
	failed := func(code wire.ErrorCode) wire.Message {
		resp := api.NewSyncGroupResponse()
		resp.ErrorCode, resp.Assignment = code, []byte{}
		return resp
	}
	if r.Version() >= 5 && (req.ProtocolType == nil || req.ProtocolName == nil) {
		r.Answer(failed(wire.ErrInconsistentGroupProtocol))
		return
	}
	d.decide(r, req.GroupID, failed, func(s *group.Shard, t group.Turn) shard.Result { return s.SyncGroup(t, req) })
}

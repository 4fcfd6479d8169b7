package handler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// heartbeat serves Heartbeat. While the group is loading every heartbeat is fine: sessions start when it has loaded.
func (d *GroupDesk) heartbeat(r *server.Request) {
	req := api.NewHeartbeatRequest()
	if !r.Decode(req) {
		return
	}
	d.decide(r, req.GroupID, func(code wire.ErrorCode) wire.Message {
		resp := api.NewHeartbeatResponse()
		if code != wire.ErrCoordinatorLoadInProgress {
			resp.ErrorCode = code
		}
		return resp
	}, func(s *group.Shard, t group.Turn) shard.Result { return s.Heartbeat(t, req) })
}

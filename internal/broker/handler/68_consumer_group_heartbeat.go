package handler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// consumerGroupHeartbeat serves ConsumerGroupHeartbeat (KIP-848): members of consumer groups join, leave, say what they have and are told
// what they should have. Since version 1 members name themselves, and subscribe by pattern.
func (d *GroupDesk) consumerGroupHeartbeat(r *server.Request) {
	req := api.NewConsumerGroupHeartbeatRequest()
	if !r.Decode(req) {
		return
	}
	if d.consumersOff() {
		resp := api.NewConsumerGroupHeartbeatResponse()
		resp.ErrorCode = wire.ErrUnsupportedVersion
		r.Answer(resp)
		return
	}
	d.do(r, d.partitionOf(req.GroupID), func(body any, code wire.ErrorCode) {
		resp, ok := body.(*api.ConsumerGroupHeartbeatResponse)
		if !ok && !down(code) {
			resp = d.config.Consumer.RefuseHeartbeat(r.Version(), req)
		}
		if resp == nil {
			resp = api.NewConsumerGroupHeartbeatResponse()
			resp.ErrorCode = coord.ClientError(code)
		}
		r.Answer(resp)
	}, func(s *group.Shard, t group.Turn) shard.Result { return s.ConsumerGroupHeartbeat(t, req) })
}

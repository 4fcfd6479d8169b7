package handler

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// offsetForLeaderEpoch serves OffsetForLeaderEpoch 2 to 4 (KIP-101, KIP-320).
func (d *ReplicaDesk) offsetForLeaderEpoch(req *server.Request) {
	in := api.NewOffsetForLeaderEpochRequest()
	if !req.Decode(in) {
		return
	}
	out := api.OffsetForLeaderEpochResponse{Topics: make([]api.OffsetForLeaderEpochResponseTopic, 0, len(in.Topics))}
	for _, topic := range in.Topics {
		rt := api.OffsetForLeaderEpochResponseTopic{Topic: topic.Topic}
		for _, p := range topic.Partitions {
			r := api.OffsetForLeaderEpochResponseTopicPartition{Partition: p.Partition, LeaderEpoch: int32(id.NoLeaderEpoch), EndOffset: int64(id.NoOffset)}
			end, err := d.replicas.OffsetForLeaderEpoch(id.TopicPartition{Topic: topic.Topic, Partition: p.Partition},
				id.LeaderEpoch(p.CurrentLeaderEpoch), id.LeaderEpoch(p.LeaderEpoch))
			if r.ErrorCode = d.replicaCode(err, "offset for leader epoch", topic.Topic, p.Partition); r.ErrorCode == wire.ErrNone {
				r.LeaderEpoch, r.EndOffset = int32(end.Epoch), int64(end.EndOffset)
			}
			rt.Partitions = append(rt.Partitions, r)
		}
		out.Topics = append(out.Topics, rt)
	}
	req.Answer(&out)
}

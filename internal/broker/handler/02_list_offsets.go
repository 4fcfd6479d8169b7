package handler

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// debuggingReplica is the replica id of a tool that may ask any replica.
const debuggingReplica = -2

// timestampKnown reports whether a ListOffsets version may ask for a special timestamp.
func timestampKnown(timestamp int64, version int16) bool {
	switch timestamp {
	case log.LatestTimestamp, log.EarliestTimestamp:
		return true
	case log.MaxTimestamp: // KIP-734
		return version >= 7
	case log.EarliestLocalTimestamp: // KIP-405
		return version >= 8
	case log.LatestTieredTimestamp: // KIP-1005
		return version >= 9
	case log.EarliestPendingUploadTimestamp: // KIP-1023
		return version >= 11
	}
	return timestamp >= 0
}

// listOffsets serves ListOffsets 1 to 11.
func (d *ReplicaDesk) listOffsets(req *server.Request) {
	in := api.NewListOffsetsRequest()
	if !req.Decode(in) {
		return
	}
	repeated := repeatedPartitions(in)
	out := api.ListOffsetsResponse{Topics: make([]api.ListOffsetsResponseTopic, 0, len(in.Topics))}
	for i := range in.Topics {
		topic := &in.Topics[i]
		rt := api.ListOffsetsResponseTopic{Name: topic.Name}
		for j := range topic.Partitions {
			p := &topic.Partitions[j]
			tp := id.TopicPartition{Topic: topic.Name, Partition: p.PartitionIndex}
			twice, known := repeated[tp]
			if known && !twice {
				continue // answered at its first mention
			}
			if known {
				repeated[tp] = false
				rt.Partitions = append(rt.Partitions, noOffset(p.PartitionIndex, wire.ErrInvalidRequest))
				continue
			}
			rt.Partitions = append(rt.Partitions, d.listOffset(req.Version(), in, tp, p))
		}
		if len(rt.Partitions) > 0 {
			out.Topics = append(out.Topics, rt)
		}
	}
	req.Answer(&out)
}

func (d *ReplicaDesk) listOffset(version int16, in *api.ListOffsetsRequest, tp id.TopicPartition, p *api.ListOffsetsRequestTopicPartition) api.ListOffsetsResponseTopicPartition {
	if !timestampKnown(p.Timestamp, version) {
		return noOffset(p.PartitionIndex, wire.ErrUnsupportedVersion)
	}
	if !knownIsolation(in.IsolationLevel) {
		return noOffset(p.PartitionIndex, wire.ErrUnknownServerError)
	}
	q := replica.OffsetQuery{TopicPartition: tp, Timestamp: p.Timestamp, CurrentLeaderEpoch: id.LeaderEpoch(p.CurrentLeaderEpoch),
		Isolation: log.ReadLogEnd, AnyReplica: in.ReplicaID == debuggingReplica}
	if in.ReplicaID == -1 {
		q.Isolation = log.ReadHighWatermark
		if in.IsolationLevel == 1 {
			q.Isolation = log.ReadCommitted
		}
	}
	found, err := d.replicas.ListOffset(q)
	code := d.replicaCode(err, "list offsets", tp.Topic, tp.Partition)
	if code == wire.ErrOffsetNotAvailable && version < 5 {
		code = wire.ErrLeaderNotAvailable
	}
	r := noOffset(p.PartitionIndex, code)
	if code == wire.ErrNone && found.Found {
		r.Timestamp, r.Offset = found.Timestamp, int64(found.Offset)
		if version >= 4 {
			r.LeaderEpoch = int32(found.LeaderEpoch)
		}
	}
	return r
}

func noOffset(n int32, code wire.ErrorCode) api.ListOffsetsResponseTopicPartition {
	return api.ListOffsetsResponseTopicPartition{PartitionIndex: n, ErrorCode: code, Timestamp: -1, Offset: -1, LeaderEpoch: -1}
}

// repeatedPartitions finds the partitions that a request mentions more than once; it is nil for nearly every request.
func repeatedPartitions(in *api.ListOffsetsRequest) map[id.TopicPartition]bool {
	n := 0
	for i := range in.Topics {
		n += len(in.Topics[i].Partitions)
	}
	if n < 2 {
		return nil
	}
	seen := make(map[id.TopicPartition]struct{}, n)
	var repeated map[id.TopicPartition]bool
	for i := range in.Topics {
		for _, p := range in.Topics[i].Partitions {
			tp := id.TopicPartition{Topic: in.Topics[i].Name, Partition: p.PartitionIndex}
			if _, twice := seen[tp]; twice {
				if repeated == nil {
					repeated = map[id.TopicPartition]bool{}
				}
				repeated[tp] = true
			}
			seen[tp] = struct{}{}
		}
	}
	return repeated
}

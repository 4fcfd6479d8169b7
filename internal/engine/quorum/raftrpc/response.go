package raftrpc

import (
	"fmt"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// Response returns the response that carries an answer, in the version of the request and for the listener it came through.
// logStart, in a fetch's, is where the log begins.
func Response(m raft.Message, logStart id.Offset, listener string, version int16) wire.Message {
	e, hasEndpoint := endpoint(m, listener)
	switch m.Type {
	case raft.MsgVoteAnswer:
		r := api.NewVoteResponse()
		p := api.NewVoteResponseTopicPartition()
		p.ErrorCode, p.LeaderID, p.LeaderEpoch, p.VoteGranted = m.Error, int32(m.Leader), int32(m.Epoch), m.Granted
		r.Topics = []api.VoteResponseTopic{{TopicName: topic, Partitions: []api.VoteResponseTopicPartition{p}}}
		if version >= 1 && hasEndpoint {
			r.NodeEndpoints = []api.VoteResponseNodeEndpoint{{NodeID: int32(m.Leader), Host: e.Host, Port: e.Port}}
		}
		return r
	case raft.MsgBeginEpochAnswer:
		r := api.NewBeginQuorumEpochResponse()
		p := api.NewBeginQuorumEpochResponseTopicPartition()
		p.ErrorCode, p.LeaderID, p.LeaderEpoch = m.Error, int32(m.Leader), int32(m.Epoch)
		r.Topics = []api.BeginQuorumEpochResponseTopic{{TopicName: topic, Partitions: []api.BeginQuorumEpochResponseTopicPartition{p}}}
		if version >= 1 && hasEndpoint {
			r.NodeEndpoints = []api.BeginQuorumEpochResponseNodeEndpoint{{NodeID: int32(m.Leader), Host: e.Host, Port: e.Port}}
		}
		return r
	case raft.MsgEndEpochAnswer:
		r := api.NewEndQuorumEpochResponse()
		p := api.NewEndQuorumEpochResponseTopicPartition()
		p.ErrorCode, p.LeaderID, p.LeaderEpoch = m.Error, int32(m.Leader), int32(m.Epoch)
		r.Topics = []api.EndQuorumEpochResponseTopic{{TopicName: topic, Partitions: []api.EndQuorumEpochResponseTopicPartition{p}}}
		if version >= 1 && hasEndpoint {
			r.NodeEndpoints = []api.EndQuorumEpochResponseNodeEndpoint{{NodeID: int32(m.Leader), Host: e.Host, Port: e.Port}}
		}
		return r
	case raft.MsgFetchAnswer:
		return fetchResponse(m, logStart, e, hasEndpoint && version >= 17)
	case raft.MsgFetchSnapshotAnswer:
		return snapshotResponse(m, e, hasEndpoint && version >= 1)
	}
	panic(fmt.Sprintf("raftrpc: a message of type %s is no answer", m.Type))
}

// endpoint is where the leader that an answer names can be found, by whoever came through a listener.
func endpoint(m raft.Message, listener string) (raft.Endpoint, bool) {
	for _, e := range m.Endpoints {
		if e.Name == listener && m.Leader >= 0 {
			return e, true
		}
	}
	return raft.Endpoint{}, false
}

func fetchResponse(m raft.Message, logStart id.Offset, e raft.Endpoint, withEndpoint bool) *api.FetchResponse {
	p := api.NewFetchResponseResponsePartition()
	p.ErrorCode, p.HighWatermark, p.LogStartOffset = m.Error, int64(m.HighWatermark), int64(logStart)
	p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = int32(m.Leader), int32(m.Epoch)
	p.Records = wire.Records{Bytes: m.Records}
	if p.Records.IsNull() {
		p.Records.Bytes = []byte{}
	}
	if d := m.Diverging; d != nil {
		p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset = int32(d.Epoch), int64(d.Offset)
	}
	if s := m.Snapshot; s != nil {
		p.SnapshotID.Epoch, p.SnapshotID.EndOffset = int32(s.Epoch), int64(s.Offset)
	}
	r := api.NewFetchResponse()
	r.Responses = []api.FetchResponseResponse{{Topic: topic, TopicID: id.MetadataTopicID, Partitions: []api.FetchResponseResponsePartition{p}}}
	if withEndpoint {
		n := api.NewFetchResponseNodeEndpoint()
		n.NodeID, n.Host, n.Port = int32(m.Leader), e.Host, int32(e.Port)
		r.NodeEndpoints = []api.FetchResponseNodeEndpoint{n}
	}
	return r
}

func snapshotResponse(m raft.Message, e raft.Endpoint, withEndpoint bool) *api.FetchSnapshotResponse {
	p := api.NewFetchSnapshotResponseTopicPartition()
	p.ErrorCode, p.UnalignedRecords = m.Error, wire.Records{Bytes: m.Records}
	p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = int32(m.Leader), int32(m.Epoch)
	if p.UnalignedRecords.IsNull() {
		p.UnalignedRecords.Bytes = []byte{}
	}
	if s := m.Snapshot; s != nil && m.Error == wire.ErrNone {
		p.SnapshotID.EndOffset, p.SnapshotID.Epoch = int64(s.Offset), int32(s.Epoch)
		p.Size, p.Position = m.Size, m.At
	}
	r := api.NewFetchSnapshotResponse()
	r.Topics = []api.FetchSnapshotResponseTopic{{Name: topic, Partitions: []api.FetchSnapshotResponseTopicPartition{p}}}
	if withEndpoint {
		r.NodeEndpoints = []api.FetchSnapshotResponseNodeEndpoint{{NodeID: int32(m.Leader), Host: e.Host, Port: e.Port}}
	}
	return r
}

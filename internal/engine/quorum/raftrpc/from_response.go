package raftrpc

import (
	"fmt"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// FromResponse returns the answer that a response carries to the message asked, which went out through a listener of the name.
// The error wraps the wire.ErrorCode of a response that was refused as a whole, and is another for one that is not about the
// metadata partition: neither is an answer.
func FromResponse(resp wire.Message, asked raft.Message, listener string) (raft.Message, error) {
	m := raft.Message{Type: asked.Type + 1, From: raft.Replica{ID: asked.To, DirectoryID: asked.ToDirectory}, To: asked.From.ID,
		Request: asked.Request, PreVote: asked.PreVote, Log: asked.Log, At: asked.At, HighWatermark: -1}
	switch r := resp.(type) {
	case *api.VoteResponse:
		if len(r.Topics) != 1 || r.Topics[0].TopicName != topic || len(r.Topics[0].Partitions) != 1 || r.Topics[0].Partitions[0].PartitionIndex != 0 {
			return m, notAbout(r.ErrorCode, "Vote")
		}
		p := r.Topics[0].Partitions[0]
		answered(&m, p.ErrorCode, p.LeaderID, p.LeaderEpoch)
		m.Granted = p.VoteGranted
		for _, e := range r.NodeEndpoints {
			leaderAt(&m, listener, e.NodeID, e.Host, int32(e.Port))
		}
		return m, whole(r.ErrorCode, "Vote")
	case *api.BeginQuorumEpochResponse:
		if len(r.Topics) != 1 || r.Topics[0].TopicName != topic || len(r.Topics[0].Partitions) != 1 || r.Topics[0].Partitions[0].PartitionIndex != 0 {
			return m, notAbout(r.ErrorCode, "BeginQuorumEpoch")
		}
		p := r.Topics[0].Partitions[0]
		answered(&m, p.ErrorCode, p.LeaderID, p.LeaderEpoch)
		for _, e := range r.NodeEndpoints {
			leaderAt(&m, listener, e.NodeID, e.Host, int32(e.Port))
		}
		return m, whole(r.ErrorCode, "BeginQuorumEpoch")
	case *api.EndQuorumEpochResponse:
		if len(r.Topics) != 1 || r.Topics[0].TopicName != topic || len(r.Topics[0].Partitions) != 1 || r.Topics[0].Partitions[0].PartitionIndex != 0 {
			return m, notAbout(r.ErrorCode, "EndQuorumEpoch")
		}
		p := r.Topics[0].Partitions[0]
		answered(&m, p.ErrorCode, p.LeaderID, p.LeaderEpoch)
		for _, e := range r.NodeEndpoints {
			leaderAt(&m, listener, e.NodeID, e.Host, int32(e.Port))
		}
		return m, whole(r.ErrorCode, "EndQuorumEpoch")
	case *api.FetchResponse:
		return fromFetchResponse(r, m, listener)
	case *api.FetchSnapshotResponse:
		return fromSnapshotResponse(r, m, listener)
	}
	return m, fmt.Errorf("%T answers no message", resp)
}

func whole(code wire.ErrorCode, name string) error {
	if code != wire.ErrNone {
		return fmt.Errorf("%s is refused: %w", name, code)
	}
	return nil
}

func notAbout(code wire.ErrorCode, name string) error {
	if err := whole(code, name); err != nil {
		return err
	}
	return fmt.Errorf("%s is not answered for the metadata partition", name)
}

func answered(m *raft.Message, code wire.ErrorCode, leader, epoch int32) {
	m.Error, m.Leader, m.Epoch = code, id.BrokerID(leader), id.LeaderEpoch(epoch)
	if leader < 0 {
		m.Leader = id.NoBroker
	}
}

// leaderAt takes the endpoint of a node if that node leads. Others, and ports that are none, are left out.
func leaderAt(m *raft.Message, listener string, node int32, host string, port int32) {
	if id.BrokerID(node) == m.Leader && m.Leader >= 0 && port > 0 && port <= 65535 {
		m.Endpoints = append(m.Endpoints, raft.Endpoint{Name: listener, Host: host, Port: uint16(port)})
	}
}

func fromFetchResponse(r *api.FetchResponse, m raft.Message, listener string) (raft.Message, error) {
	if len(r.Responses) != 1 || r.Responses[0].TopicID != id.MetadataTopicID || len(r.Responses[0].Partitions) != 1 || r.Responses[0].Partitions[0].PartitionIndex != 0 {
		return m, notAbout(r.ErrorCode, "Fetch")
	}
	p := r.Responses[0].Partitions[0]
	answered(&m, p.ErrorCode, p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch)
	for _, e := range r.NodeEndpoints {
		leaderAt(&m, listener, e.NodeID, e.Host, e.Port)
	}
	m.HighWatermark, m.Records = id.Offset(p.HighWatermark), p.Records.Bytes
	if d := p.DivergingEpoch; d.Epoch != -1 || d.EndOffset != -1 {
		m.Diverging = &raft.Position{Offset: id.Offset(d.EndOffset), Epoch: id.LeaderEpoch(d.Epoch)}
	}
	if s := p.SnapshotID; s.Epoch != -1 || s.EndOffset != -1 {
		m.Snapshot = &raft.Position{Offset: id.Offset(s.EndOffset), Epoch: id.LeaderEpoch(s.Epoch)}
	}
	return m, whole(r.ErrorCode, "Fetch")
}

func fromSnapshotResponse(r *api.FetchSnapshotResponse, m raft.Message, listener string) (raft.Message, error) {
	if len(r.Topics) != 1 || r.Topics[0].Name != topic || len(r.Topics[0].Partitions) != 1 || r.Topics[0].Partitions[0].Index != 0 {
		return m, notAbout(r.ErrorCode, "FetchSnapshot")
	}
	p := r.Topics[0].Partitions[0]
	answered(&m, p.ErrorCode, p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch)
	for _, e := range r.NodeEndpoints {
		leaderAt(&m, listener, e.NodeID, e.Host, int32(e.Port))
	}
	if p.ErrorCode == wire.ErrNone {
		m.Snapshot = &raft.Position{Offset: id.Offset(p.SnapshotID.EndOffset), Epoch: id.LeaderEpoch(p.SnapshotID.Epoch)}
		m.At, m.Size, m.Records = p.Position, p.Size, p.UnalignedRecords.Bytes
	}
	return m, whole(r.ErrorCode, "FetchSnapshot")
}

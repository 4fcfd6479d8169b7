package raftrpc

import (
	"fmt"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// FromRequest returns the message that a request carries, for the node self of a cluster. A request that is not about this
// cluster and its metadata partition has no message: refusal is its answer then.
func FromRequest(req wire.Message, self id.BrokerID, clusterID string) (m raft.Message, l Limits, refusal wire.Message) {
	switch req := req.(type) {
	case *api.VoteRequest:
		if code := vet(req.ClusterID, clusterID, oneVote(req)); code != wire.ErrNone {
			a := api.NewVoteResponse()
			a.ErrorCode = code
			return m, l, a
		}
		return fromVote(req, self), l, nil
	case *api.BeginQuorumEpochRequest:
		if code := vet(req.ClusterID, clusterID, oneBegin(req)); code != wire.ErrNone {
			a := api.NewBeginQuorumEpochResponse()
			a.ErrorCode = code
			return m, l, a
		}
		return fromBegin(req, self), l, nil
	case *api.EndQuorumEpochRequest:
		if code := vet(req.ClusterID, clusterID, oneEnd(req)); code != wire.ErrNone {
			a := api.NewEndQuorumEpochResponse()
			a.ErrorCode = code
			return m, l, a
		}
		return fromEnd(req, self), l, nil
	case *api.FetchRequest:
		if code := vet(req.ClusterID, clusterID, oneFetch(req)); code != wire.ErrNone {
			a := api.NewFetchResponse()
			a.ErrorCode = code
			return m, l, a
		}
		m, l = fromFetch(req, self)
		return m, l, nil
	case *api.FetchSnapshotRequest:
		return fromSnapshot(req, self, clusterID)
	}
	panic(fmt.Sprintf("raftrpc: %T carries no message", req))
}

// vet checks a request's cluster, which may be left out, and whether it has the one partition.
func vet(asked *string, clusterID string, ok bool) wire.ErrorCode {
	switch {
	case asked != nil && *asked != clusterID:
		return wire.ErrInconsistentClusterID
	case !ok:
		return wire.ErrInvalidRequest
	}
	return wire.ErrNone
}

func oneVote(r *api.VoteRequest) bool {
	return len(r.Topics) == 1 && r.Topics[0].TopicName == topic && len(r.Topics[0].Partitions) == 1 && r.Topics[0].Partitions[0].PartitionIndex == 0
}

func oneBegin(r *api.BeginQuorumEpochRequest) bool {
	return len(r.Topics) == 1 && r.Topics[0].TopicName == topic && len(r.Topics[0].Partitions) == 1 && r.Topics[0].Partitions[0].PartitionIndex == 0
}

func oneEnd(r *api.EndQuorumEpochRequest) bool {
	return len(r.Topics) == 1 && r.Topics[0].TopicName == topic && len(r.Topics[0].Partitions) == 1 && r.Topics[0].Partitions[0].PartitionIndex == 0
}

// oneFetch goes by the topic's id, which a request has from version 13 on. An older one has the zero id and is refused, as
// Kafka's is.
func oneFetch(r *api.FetchRequest) bool {
	return len(r.Topics) == 1 && r.Topics[0].TopicID == id.MetadataTopicID && len(r.Topics[0].Partitions) == 1 && r.Topics[0].Partitions[0].Partition == 0
}

// receiver is the node that a request names, or this one.
func receiver(named int32, self id.BrokerID) id.BrokerID {
	if named < 0 {
		return self
	}
	return id.BrokerID(named)
}

func fromVote(r *api.VoteRequest, self id.BrokerID) raft.Message {
	p := r.Topics[0].Partitions[0]
	m := raft.Message{Type: raft.MsgVote, From: raft.Replica{ID: id.BrokerID(p.ReplicaID), DirectoryID: p.ReplicaDirectoryID},
		To: receiver(r.VoterID, self), Epoch: id.LeaderEpoch(p.ReplicaEpoch), Leader: id.NoBroker, PreVote: p.PreVote,
		Log: raft.Position{Offset: id.Offset(p.LastOffset), Epoch: id.LeaderEpoch(p.LastOffsetEpoch)}, HighWatermark: -1}
	if r.VoterID >= 0 {
		m.ToDirectory = p.VoterDirectoryID
	}
	return m
}

func fromBegin(r *api.BeginQuorumEpochRequest, self id.BrokerID) raft.Message {
	p := r.Topics[0].Partitions[0]
	m := raft.Message{Type: raft.MsgBeginEpoch, From: raft.Replica{ID: id.BrokerID(p.LeaderID)}, To: receiver(r.VoterID, self),
		Epoch: id.LeaderEpoch(p.LeaderEpoch), Leader: id.BrokerID(p.LeaderID), HighWatermark: -1}
	if r.VoterID >= 0 {
		m.ToDirectory = p.VoterDirectoryID
	}
	for _, e := range r.LeaderEndpoints {
		m.Endpoints = append(m.Endpoints, raft.Endpoint{Name: e.Name, Host: e.Host, Port: e.Port})
	}
	return m
}

func fromEnd(r *api.EndQuorumEpochRequest, self id.BrokerID) raft.Message {
	p := r.Topics[0].Partitions[0]
	m := raft.Message{Type: raft.MsgEndEpoch, From: raft.Replica{ID: id.BrokerID(p.LeaderID)}, To: self, Epoch: id.LeaderEpoch(p.LeaderEpoch),
		Leader: id.BrokerID(p.LeaderID), HighWatermark: -1}
	for _, e := range r.LeaderEndpoints {
		m.Endpoints = append(m.Endpoints, raft.Endpoint{Name: e.Name, Host: e.Host, Port: e.Port})
	}
	for _, c := range p.PreferredCandidates {
		m.Successors = append(m.Successors, raft.Replica{ID: id.BrokerID(c.CandidateID), DirectoryID: c.CandidateDirectoryID})
	}
	if len(p.PreferredCandidates) == 0 { // version 0 names no directories
		for _, n := range p.PreferredSuccessors {
			m.Successors = append(m.Successors, raft.Replica{ID: id.BrokerID(n)})
		}
	}
	return m
}

func fromFetch(r *api.FetchRequest, self id.BrokerID) (raft.Message, Limits) {
	p := r.Topics[0].Partitions[0]
	n := r.ReplicaID
	if n == -1 {
		n = r.ReplicaState.ReplicaID
	}
	m := raft.Message{Type: raft.MsgFetch, From: raft.Replica{ID: id.BrokerID(n), DirectoryID: p.ReplicaDirectoryID}, To: self,
		Epoch: id.LeaderEpoch(p.CurrentLeaderEpoch), Leader: id.NoBroker, Anonymous: n < 0,
		Log: raft.Position{Offset: id.Offset(p.FetchOffset), Epoch: id.LeaderEpoch(p.LastFetchedEpoch)}, HighWatermark: id.Offset(p.HighWatermark)}
	if r.MaxWaitMs < 0 {
		m.Log.Offset = -1 // no more valid than a fetch from there: the core refuses both, and says who leads
	}
	return m, Limits{MaxBytes: r.MaxBytes, MaxWaitMs: max(r.MaxWaitMs, 0)}
}

func fromSnapshot(r *api.FetchSnapshotRequest, self id.BrokerID, clusterID string) (m raft.Message, l Limits, refusal wire.Message) {
	a := api.NewFetchSnapshotResponse()
	if r.ClusterID != nil && *r.ClusterID != clusterID {
		a.ErrorCode = wire.ErrInconsistentClusterID
		return m, l, a
	}
	var p *api.FetchSnapshotRequestTopicPartition
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			if p == nil && r.Topics[i].Name == topic && r.Topics[i].Partitions[j].Partition == 0 {
				p = &r.Topics[i].Partitions[j]
			}
		}
	}
	switch {
	case len(r.Topics) == 0 || len(r.Topics[0].Partitions) == 0 || len(r.Topics) != 1 && len(r.Topics[0].Partitions) != 1 || r.MaxBytes < 0:
		a.ErrorCode = wire.ErrInvalidRequest
		return m, l, a
	case p == nil:
		ap := api.NewFetchSnapshotResponseTopicPartition()
		ap.Index, ap.ErrorCode = r.Topics[0].Partitions[0].Partition, wire.ErrUnknownTopicOrPartition
		a.Topics = []api.FetchSnapshotResponseTopic{{Name: r.Topics[0].Name, Partitions: []api.FetchSnapshotResponseTopicPartition{ap}}}
		return m, l, a
	}
	m = raft.Message{Type: raft.MsgFetchSnapshot, From: raft.Replica{ID: id.BrokerID(r.ReplicaID), DirectoryID: p.ReplicaDirectoryID}, To: self,
		Epoch: id.LeaderEpoch(p.CurrentLeaderEpoch), Leader: id.NoBroker, Anonymous: r.ReplicaID < 0, At: p.Position, HighWatermark: -1,
		Snapshot: &raft.Position{Offset: id.Offset(p.SnapshotID.EndOffset), Epoch: id.LeaderEpoch(p.SnapshotID.Epoch)}}
	return m, Limits{MaxBytes: r.MaxBytes}, nil
}

package raftrpc

import (
	"fmt"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

const topic = controller.ClusterMetadataTopic

// Limits are what a fetch and a request for a piece of a snapshot carry beside the message.
type Limits struct {
	MaxBytes  int32
	MaxWaitMs int32 // of a fetch alone
}

// firstWithPreVote is the version of Vote that can carry a question.
const firstWithPreVote = 2

// Request returns the request that carries a message, in a version of its API. The error wraps UNSUPPORTED_VERSION when that
// version cannot carry it: then the receiver is too old, which is what the core must be told (KIP-996).
func Request(m raft.Message, clusterID string, l Limits, version int16) (wire.Request, error) {
	switch m.Type {
	case raft.MsgVote:
		if m.PreVote && version < firstWithPreVote {
			return nil, fmt.Errorf("%w: Vote version %d cannot carry a pre-vote", wire.ErrUnsupportedVersion, version)
		}
		return voteRequest(m, clusterID), nil
	case raft.MsgBeginEpoch:
		return beginRequest(m, clusterID), nil
	case raft.MsgEndEpoch:
		return endRequest(m, clusterID), nil
	case raft.MsgFetch:
		return fetchRequest(m, clusterID, l, version), nil
	case raft.MsgFetchSnapshot:
		return snapshotRequest(m, clusterID, l), nil
	}
	return nil, fmt.Errorf("a message of type %s is no request", m.Type)
}

func voteRequest(m raft.Message, clusterID string) *api.VoteRequest {
	p := api.NewVoteRequestTopicPartition()
	p.ReplicaEpoch, p.ReplicaID, p.ReplicaDirectoryID = int32(m.Epoch), int32(m.From.ID), m.From.DirectoryID
	p.VoterDirectoryID, p.LastOffsetEpoch, p.LastOffset, p.PreVote = m.ToDirectory, int32(m.Log.Epoch), int64(m.Log.Offset), m.PreVote
	r := api.NewVoteRequest()
	r.ClusterID, r.VoterID = &clusterID, int32(m.To)
	r.Topics = []api.VoteRequestTopic{{TopicName: topic, Partitions: []api.VoteRequestTopicPartition{p}}}
	return r
}

func beginRequest(m raft.Message, clusterID string) *api.BeginQuorumEpochRequest {
	p := api.NewBeginQuorumEpochRequestTopicPartition()
	p.VoterDirectoryID, p.LeaderID, p.LeaderEpoch = m.ToDirectory, int32(m.From.ID), int32(m.Epoch)
	r := api.NewBeginQuorumEpochRequest()
	r.ClusterID, r.VoterID = &clusterID, int32(m.To)
	r.Topics = []api.BeginQuorumEpochRequestTopic{{TopicName: topic, Partitions: []api.BeginQuorumEpochRequestTopicPartition{p}}}
	for _, e := range m.Endpoints {
		r.LeaderEndpoints = append(r.LeaderEndpoints, api.BeginQuorumEpochRequestLeaderEndpoint{Name: e.Name, Host: e.Host, Port: e.Port})
	}
	return r
}

// endRequest leaves the leader's endpoints out, as Kafka does: who leads no more need not be reached.
func endRequest(m raft.Message, clusterID string) *api.EndQuorumEpochRequest {
	p := api.NewEndQuorumEpochRequestTopicPartition()
	p.LeaderID, p.LeaderEpoch = int32(m.From.ID), int32(m.Epoch)
	p.PreferredSuccessors = []int32{}
	for _, s := range m.Successors {
		p.PreferredSuccessors = append(p.PreferredSuccessors, int32(s.ID))
		p.PreferredCandidates = append(p.PreferredCandidates,
			api.EndQuorumEpochRequestTopicPartitionPreferredCandidate{CandidateID: int32(s.ID), CandidateDirectoryID: s.DirectoryID})
	}
	r := api.NewEndQuorumEpochRequest()
	r.ClusterID = &clusterID
	r.Topics = []api.EndQuorumEpochRequestTopic{{TopicName: topic, Partitions: []api.EndQuorumEpochRequestTopicPartition{p}}}
	return r
}

// sender is the replica id under which a message goes out: nobody's when it does not want to be counted.
func sender(m raft.Message) int32 {
	if m.Anonymous {
		return int32(id.NoBroker)
	}
	return int32(m.From.ID)
}

func fetchRequest(m raft.Message, clusterID string, l Limits, version int16) *api.FetchRequest {
	p := api.NewFetchRequestTopicPartition()
	p.CurrentLeaderEpoch, p.LastFetchedEpoch, p.FetchOffset = int32(m.Epoch), int32(m.Log.Epoch), int64(m.Log.Offset)
	p.ReplicaDirectoryID, p.HighWatermark = m.From.DirectoryID, int64(m.HighWatermark)
	p.PartitionMaxBytes = 0 // the request's bound counts
	r := api.NewFetchRequest()
	r.ClusterID, r.MaxBytes, r.MaxWaitMs = &clusterID, l.MaxBytes, l.MaxWaitMs
	if version < 15 {
		r.ReplicaID = sender(m)
	} else {
		r.ReplicaState.ReplicaID = sender(m)
	}
	r.Topics = []api.FetchRequestTopic{{Topic: topic, TopicID: id.MetadataTopicID, Partitions: []api.FetchRequestTopicPartition{p}}}
	return r
}

func snapshotRequest(m raft.Message, clusterID string, l Limits) *api.FetchSnapshotRequest {
	p := api.NewFetchSnapshotRequestTopicPartition()
	p.CurrentLeaderEpoch, p.Position, p.ReplicaDirectoryID = int32(m.Epoch), m.At, m.From.DirectoryID
	if m.Snapshot != nil {
		p.SnapshotID.EndOffset, p.SnapshotID.Epoch = int64(m.Snapshot.Offset), int32(m.Snapshot.Epoch)
	}
	r := api.NewFetchSnapshotRequest()
	r.ClusterID, r.ReplicaID, r.MaxBytes = &clusterID, sender(m), l.MaxBytes
	r.Topics = []api.FetchSnapshotRequestTopic{{Name: topic, Partitions: []api.FetchSnapshotRequestTopicPartition{p}}}
	return r
}

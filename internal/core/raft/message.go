package raft

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// MessageType says what a Message is; the answers follow their requests.
type MessageType int8

// The messages, each the content of one RPC of Kafka.
const (
	MsgVote MessageType = iota // Vote (52)
	MsgVoteAnswer
	MsgBeginEpoch // BeginQuorumEpoch (53)
	MsgBeginEpochAnswer
	MsgEndEpoch // EndQuorumEpoch (54)
	MsgEndEpochAnswer
	MsgFetch // Fetch (1)
	MsgFetchAnswer
	MsgFetchSnapshot // FetchSnapshot (59)
	MsgFetchSnapshotAnswer
)

var messageNames = [...]string{"Vote", "VoteAnswer", "BeginEpoch", "BeginEpochAnswer", "EndEpoch", "EndEpochAnswer", "Fetch", "FetchAnswer", "FetchSnapshot", "FetchSnapshotAnswer"}

// String returns the type's name.
func (t MessageType) String() string { return messageNames[t] }

// IsAnswer reports whether the message answers another.
func (t MessageType) IsAnswer() bool { return t%2 == 1 }

// Message is a request to another node, or its answer.
//
// An answer repeats some fields of its request: Request, PreVote, Log, Snapshot, At. Where Kafka's response does not carry them, the
// transport knows them from the request. From, in an answer, is whom the request was sent to, also where that is one of
// Config.Bootstrap whose real id nobody knows. An answer that belongs to a request from before the last start of this node
// must not be delivered; connections that end with the process see to that.
type Message struct {
	Type MessageType
	From Replica
	To   id.BrokerID
	// ToDirectory is, in a vote and a begin of epoch, the directory of the voter that is meant; zero when not known.
	ToDirectory id.UUID
	// Epoch is the sender's epoch; of a pre-vote and a vote, the one voted for.
	Epoch id.LeaderEpoch
	// Leader is, in a begin and an end of epoch, the sender; in answers, whom the sender knows as leader of Epoch, or
	// id.NoBroker. Endpoints are the leader's, where the sender knows them.
	Leader    id.BrokerID
	Endpoints []Endpoint
	// Request numbers the fetches of a node, so that it knows the answer to the one under way. The transport keeps it.
	Request uint64
	// PreVote marks a vote and its answer as a mere question (KIP-996).
	PreVote bool
	Granted bool
	// Log is, in a vote, the end of the candidate's log; in a fetch, where the follower is.
	Log Position
	// Anonymous, in a fetch, asks not to be counted: the sender cannot vouch for what it promised before. It goes out with
	// replica id -1.
	Anonymous bool
	// Diverging, in a fetch's answer, is where the leader's log and the follower's part; the follower cuts its log there.
	Diverging *Position
	// Snapshot is, in a fetch's answer, the snapshot that the follower has to load first; in a request for a snapshot and
	// its answer, the snapshot. Nil in the answer that has none.
	Snapshot *Position
	// At is the place in the snapshot, in bytes, from where a piece is asked for or where Records belong; Size is how large
	// the whole snapshot is.
	At, Size int64
	// HighWatermark is, in a fetch, the follower's, and in its answer the leader's; -1 when it knows none.
	HighWatermark id.Offset
	// Records are whole batches in a fetch's answer, any bytes in a snapshot's.
	Records []byte
	// Successors, in an end of epoch, are the voters in the order in which they should stand for election.
	Successors []Replica
	// Error is the answer's error for the partition, wire.ErrNone when there is none.
	Error wire.ErrorCode
}

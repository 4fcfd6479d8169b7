package log

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

// Origin says on whose behalf an append happens; the checks depend on it.
type Origin = record.Origin

// The origins of an append.
const (
	OriginClient      = record.OriginClient      // a produce request
	OriginCoordinator = record.OriginCoordinator // a coordinator of this node; sequence numbers are not checked
	OriginRaftLeader  = record.OriginRaftLeader  // the quorum's leader: offsets and epochs are already set in the batches
	OriginReplication = record.OriginReplication // a follower's fetch
)

// AppendInfo goes with an append by the leader.
type AppendInfo struct {
	LeaderEpoch        id.LeaderEpoch // stamped into every batch
	Origin             Origin         // not OriginReplication
	ProduceVersion     int16          // of the produce request; 0 when there was none
	TransactionVersion int16          // of an end transaction marker; ignored for data
	// Guard is what BeginVerification returned for a transactional append, after the coordinator agreed; NoGuard otherwise.
	Guard VerificationGuard
	// DeferFlush returns without waiting for the fsync that flush.messages asks for. The caller then calls Flush with
	// AppendResult.NextOffset before it counts the append.
	DeferFlush bool
}

// AppendResult tells where an append went. For a duplicate of an earlier batch the offsets and the timestamp are the original's.
type AppendResult struct {
	BaseOffset           id.Offset // of the first record
	LastOffset           id.Offset // inclusive
	NextOffset           id.Offset // the log end after this append (exclusive)
	LogStartOffset       id.Offset
	LogAppendTime        int64 // milliseconds, -1 when the topic uses create time
	MaxTimestamp         int64
	OffsetOfMaxTimestamp id.Offset // -1 when unknown (duplicate)
	Batches              int
	Records              int
	Bytes                int
	Duplicate            bool
	FlushDue             bool // flush.messages was reached and DeferFlush left it to the caller
}

// Isolation bounds what a reader sees.
type Isolation int8

// The bounds of a read.
const (
	ReadLogEnd        Isolation = iota // followers, and loaders of this node's own state
	ReadHighWatermark                  // consumers reading uncommitted
	ReadCommitted                      // consumers reading committed: up to the last stable offset
)

// Reader says who reads.
type Reader struct {
	ReplicaID    id.BrokerID    // id.NoBroker for a consumer
	ReplicaEpoch id.BrokerEpoch // id.NoBrokerEpoch when unknown
}

// ReadRequest asks for the batches from one offset on.
type ReadRequest struct {
	Offset           id.Offset
	MaxBytes         int
	MinOneMessage    bool // return the first batch even if it alone exceeds MaxBytes
	Isolation        Isolation
	Reader           Reader
	LastFetchedEpoch id.LeaderEpoch // id.NoLeaderEpoch: do not check for divergence (KIP-595)
}

// ReadResult is what a read found, with the log's ends at that moment.
type ReadResult struct {
	Section          *FileSection // whole batches; nil when there is nothing to return
	FetchOffset      id.Offset    // as asked
	LogStartOffset   id.Offset
	LogEndOffset     id.Offset // exclusive
	HighWatermark    id.Offset
	LastStableOffset id.Offset
	AbortedTxns      []AbortedTxn    // only for ReadCommitted
	Diverging        *EpochEndOffset // set when the reader's log is not a prefix of this one; Section is nil then
}

// AbortedTxn is one aborted transaction that a committed reader must filter out.
type AbortedTxn struct {
	ProducerID       id.ProducerID
	FirstOffset      id.Offset
	LastOffset       id.Offset // of the abort marker
	LastStableOffset id.Offset // when the marker was written
}

// EpochEndOffset is the end of a leader epoch in this log: the start of the next one, or the log end.
type EpochEndOffset struct {
	Epoch     id.LeaderEpoch // id.NoLeaderEpoch when unknown
	EndOffset id.Offset      // exclusive; id.NoOffset when unknown
}

// The special timestamps of ListOffsets.
const (
	LatestTimestamp                = -1
	EarliestTimestamp              = -2
	MaxTimestamp                   = -3
	EarliestLocalTimestamp         = -4
	LatestTieredTimestamp          = -5
	EarliestPendingUploadTimestamp = -6
)

// TimestampOffset answers a lookup by time. Timestamp is -1 for the special positions; Found is false when no record matches.
type TimestampOffset struct {
	Found       bool
	Timestamp   int64
	Offset      id.Offset
	LeaderEpoch id.LeaderEpoch
}

// ProducerInfo describes an active producer, as DescribeProducers reports it.
type ProducerInfo struct {
	ProducerID            id.ProducerID
	ProducerEpoch         id.ProducerEpoch
	LastSequence          int32
	LastTimestamp         int64
	CoordinatorEpoch      int32
	CurrentTxnStartOffset id.Offset // -1 without an open transaction
}

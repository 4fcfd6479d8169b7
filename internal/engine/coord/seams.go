package coord

import (
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
)

// Log is the internal topic as the runtime sees it. All methods refuse, with NOT_LEADER_OR_FOLLOWER or FENCED_LEADER_EPOCH, if
// this broker does not lead the partition in that epoch; errors wrap a wire.ErrorCode. Safe for concurrent use.
type Log interface {
	// Append writes one batch and returns the offset after it. It does not wait for replicas. The bytes are modified, not kept.
	Append(partition int32, epoch id.LeaderEpoch, batch Batch) (next id.Offset, err error)
	// Read returns whole batches from offset on, committed or not, at most about maxBytes but at least one; none at the end. It
	// may use and grow buf.
	Read(partition int32, epoch id.LeaderEpoch, offset id.Offset, maxBytes int, buf []byte) ([]byte, error)
	// Ends returns the partition's offsets.
	Ends(partition int32, epoch id.LeaderEpoch) (Ends, error)
	// Watch calls advanced with each new high watermark until cancel is called; calls may overlap and overtake each other, and
	// may come from inside Append. advanced does not block.
	Watch(partition int32, advanced func(highWatermark id.Offset)) (cancel func(), err error)
}

// Batch is one batch on its way to the log: records, records of a transaction, or the marker that ends one.
type Batch struct {
	Bytes []byte
	// TransactionVersion says by which rules the epoch of a marker is checked; 0 for everything else.
	TransactionVersion int16
	// Guard is shard.Producer.Guard for the records of a transaction.
	Guard uint64
}

// Ends are the offsets of a partition, exclusive but for Start.
type Ends struct{ Start, HighWatermark, End id.Offset }

// Machine is the core of one partition. Its methods are called one at a time.
type Machine interface {
	Replayer
	Worker
	Timed
}

// Replayer is the part of a Machine that builds it from the log.
type Replayer interface {
	// Replay folds one record; known is false for a record type of a later release, which is skipped.
	Replay(at id.Offset, producer id.ProducerID, key, value []byte) (known bool, err error)
	// EndTransaction folds a transaction marker.
	EndTransaction(at id.Offset, producer id.ProducerID, commit bool)
	// Loaded ends the replay; next is the offset of the next record. The Messages of its Result are about what the log has: they leave
	// when that is committed, whatever becomes of the Records.
	Loaded(now time.Time, next id.Offset) shard.Result
}

// Worker is the part of a Machine that follows its own records.
type Worker interface {
	// Apply folds a record of a Result that will have offset at; of a Result's marker there is only the Change.
	Apply(at id.Offset, r shard.Record)
	// Revert takes back every record from offset at on.
	Revert(at id.Offset)
	// Committed says that everything below the high watermark is committed, also what is not replayed yet.
	Committed(highWatermark id.Offset)
}

// Timed is the part of a Machine that has deadlines.
type Timed interface {
	// Deadline returns the earliest deadline, if there is one.
	Deadline() (at time.Time, ok bool)
	// Expire decides about one passed deadline; ok is false if none has passed.
	Expire(now time.Time) (res shard.Result, ok bool)
}

// Event is something that nobody waits for: a message's answer, news of the cluster. It is a decision like any other.
type Event[M Machine] func(m M, now time.Time) shard.Result

// Sender takes one message of a committed decision. It is called with no lock held, by whoever made the commit known, and does
// not block: it puts the message into a bounded queue of its own, or does the work in a goroutine. What comes back goes to
// from.Report. A message is sent at least once, not exactly once: a core that is loaded sends again what its log does not show
// as done.
type Sender[M Machine] func(from Origin[M], message any)

// Reply ends a ticket: with the core's answer, or with a code that says why there is none. It is called once, with no lock held,
// and does not block.
type Reply func(body any, code wire.ErrorCode)

// ClientError maps why an operation of a coordinator failed to what its client is told, as Kafka does for all coordinators:
// errors of the internal topic's log mean nothing to the client.
func ClientError(code wire.ErrorCode) wire.ErrorCode {
	switch code {
	case wire.ErrUnknownTopicOrPartition, wire.ErrNotEnoughReplicas, wire.ErrNotEnoughReplicasAfterAppend, wire.ErrRequestTimedOut:
		return wire.ErrCoordinatorNotAvailable
	case wire.ErrNotLeaderOrFollower, wire.ErrFencedLeaderEpoch, wire.ErrKafkaStorageError:
		return wire.ErrNotCoordinator
	case wire.ErrMessageTooLarge, wire.ErrRecordListTooLarge, wire.ErrInvalidFetchSize:
		return wire.ErrUnknownServerError
	}
	return code
}

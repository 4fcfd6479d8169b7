package txn

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
)

// State is where a transaction stands; the numbers are those of the log.
type State int8

// The states. Dead and PrepareEpochFence exist in Apache Kafka's memory only and are never written.
const (
	Empty          State = 0
	Ongoing        State = 1
	PrepareCommit  State = 2
	PrepareAbort   State = 3
	CompleteCommit State = 4
	CompleteAbort  State = 5
)

var stateNames = [...]string{"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort"}

// known names the states that a client may filter by and that none of our transactions is ever in.
var unreached = [...]string{"Dead", "PrepareEpochFence"}

// String returns the name that DescribeTransactions and ListTransactions use.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return "Unknown"
	}
	return stateNames[s]
}

// KnownState reports whether name is that of a state (KIP-664).
func KnownState(name string) bool {
	return slices.Contains(stateNames[:], name) || slices.Contains(unreached[:], name)
}

func (s State) ended() bool     { return s == Empty || s == CompleteCommit || s == CompleteAbort }
func (s State) preparing() bool { return s == PrepareCommit || s == PrepareAbort }

// maxEpoch is the largest producer epoch. A client never gets it: the coordinator must be able to fence whoever has the epoch
// before it (KAFKA-20090).
const maxEpoch id.ProducerEpoch = 1<<15 - 1

// exhausted reports that no client may get an epoch after e.
func exhausted(e id.ProducerEpoch) bool { return e >= maxEpoch-1 }

// NoTimeout is the timeout of a transaction that takes part in a two-phase commit (KIP-939): it never times out.
const NoTimeout int32 = 1<<31 - 1

// Transaction is what is known of one transactional id after one of its records. It is never changed.
type Transaction struct {
	// ProducerID and Epoch are the producer's. In PrepareCommit and PrepareAbort of a client with epoch bumps the epoch is
	// one above the client's, and the markers carry it.
	ProducerID id.ProducerID
	Epoch      id.ProducerEpoch
	// PreviousProducerID is the producer id of the record before. NextProducerID is the one that the end of the transaction
	// changes to, because the epochs are exhausted; else NoProducer.
	PreviousProducerID, NextProducerID id.ProducerID
	// LastEpoch is the epoch before Epoch, to recognise a repeated request, or NoProducerEpoch. It is not in the log.
	LastEpoch id.ProducerEpoch
	TimeoutMs int32
	State     State
	// Partitions are those of the transaction, in order, each once.
	Partitions []id.TopicPartition
	// StartMs is when the transaction began, -1 if none did; UpdateMs is when the newest record was made. (Apache Kafka dates the end of
	// a transaction to when its markers were sent: a transactional id whose markers took a week would expire with its last one.)
	StartMs, UpdateMs int64
	// ClientVersion is the transaction.version that the client of the newest step works by: 0 or 2.
	ClientVersion int16
}

// bumps reports whether transactions of this version end with a new epoch (KIP-890).
func bumps(version int16) bool { return version >= 2 }

func (t *Transaction) has(tp id.TopicPartition) bool {
	_, found := slices.BinarySearchFunc(t.Partitions, tp, id.TopicPartition.Compare)
	return found
}

// step returns a copy in the given state. The record before it is t's.
func (t *Transaction) step(s State, nowMs int64) *Transaction {
	next := *t
	next.PreviousProducerID = t.ProducerID
	next.State, next.UpdateMs = s, nowMs
	return &next
}

// adding returns the transaction with partitions added.
func (t *Transaction) adding(partitions []id.TopicPartition, version int16, nowMs int64) *Transaction {
	next := t.step(Ongoing, nowMs)
	if t.State.ended() {
		next.StartMs = nowMs
	}
	all := make([]id.TopicPartition, 0, len(t.Partitions)+len(partitions))
	all = append(append(all, t.Partitions...), partitions...)
	slices.SortFunc(all, id.TopicPartition.Compare)
	next.Partitions = slices.Compact(all)
	next.ClientVersion = version
	return next
}

// preparing returns the transaction about to commit or abort. successor is the producer id to go on with if the epochs are
// exhausted; begun is false for the abort of a transaction that the coordinator has not heard of.
func (t *Transaction) preparing(s State, version int16, successor id.ProducerID, begun bool, nowMs int64) *Transaction {
	next := t.step(s, nowMs)
	if bumps(version) {
		if t.Epoch < maxEpoch {
			next.Epoch = t.Epoch + 1
		}
		next.LastEpoch = t.Epoch
	}
	if !begun {
		next.StartMs = nowMs
	}
	next.NextProducerID = successor
	next.ClientVersion = version
	return next
}

// completed returns the prepared transaction with all markers written.
func (t *Transaction) completed(nowMs int64) *Transaction {
	s := CompleteAbort
	if t.State == PrepareCommit {
		s = CompleteCommit
	}
	next := t.step(s, nowMs)
	next.ProducerID, next.Epoch = t.after()
	next.NextProducerID = id.NoProducer
	next.Partitions = nil
	return next
}

// after returns the producer id and epoch that a prepared transaction ends with.
func (t *Transaction) after() (id.ProducerID, id.ProducerEpoch) {
	if bumps(t.ClientVersion) && t.NextProducerID != id.NoProducer {
		return t.NextProducerID, 0
	}
	return t.ProducerID, t.Epoch
}

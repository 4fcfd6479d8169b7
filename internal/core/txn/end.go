package txn

import (
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
)

// Producer is who speaks for a transactional id.
type Producer struct {
	TransactionalID string
	ID              id.ProducerID
	Epoch           id.ProducerEpoch
}

// AddPartitions makes partitions part of the producer's transaction, beginning one if none is under way. version is the
// transaction.version that the client works by. The answer is a wire.ErrorCode.
func (s *Shard) AddPartitions(turn Turn, p Producer, partitions []id.TopicPartition, version int16) shard.Result {
	s.begin(turn.Now)
	t, code := s.of(p)
	switch {
	case t != nil && t.State.preparing():
		code = wire.ErrConcurrentTransactions // whoever asks, see End
	case code != wire.ErrNone:
	case t.State == Ongoing && t.hasAll(partitions):
	default:
		s.write(p.TransactionalID, t.adding(partitions, version, turn.Now.UnixMilli()))
	}
	return s.reply(code)
}

// Verify says which partitions are part of the producer's transaction. The answer is one wire.ErrorCode for each, in order:
// TRANSACTION_ABORTABLE for those that are not.
func (s *Shard) Verify(turn Turn, p Producer, partitions []id.TopicPartition) shard.Result {
	s.begin(turn.Now)
	t, code := s.of(p)
	if code == wire.ErrNone && t.State.preparing() {
		code = wire.ErrConcurrentTransactions
	}
	codes := make([]wire.ErrorCode, len(partitions))
	for i, tp := range partitions {
		switch {
		case code != wire.ErrNone:
			codes[i] = code
		case !t.has(tp):
			codes[i] = wire.ErrTransactionAbortable
		}
	}
	return s.reply(codes)
}

// of returns the transaction of p's name, if there is one, and what is wrong with p.
func (s *Shard) of(p Producer) (*Transaction, wire.ErrorCode) {
	if p.TransactionalID == "" {
		return nil, wire.ErrInvalidRequest
	}
	t := s.txns[p.TransactionalID]
	switch {
	case t == nil || t.ProducerID != p.ID:
		return t, wire.ErrInvalidProducerIDMapping
	case t.Epoch != p.Epoch:
		return t, wire.ErrProducerFenced
	}
	return t, wire.ErrNone
}

func (t *Transaction) hasAll(partitions []id.TopicPartition) bool {
	for _, tp := range partitions {
		if !t.has(tp) {
			return false
		}
	}
	return true
}

// End commits or aborts the producer's transaction. version is the transaction.version that the client works by. The answer,
// an Identity, leaves when the decision is committed, before the markers are written.
//
// So a producer may be at its next transaction while the markers of the last one are on their way, with an epoch and even an id
// that count only after these. Until then nothing can be said about who asks for what, and everybody is told to come again.
func (s *Shard) End(turn Turn, p Producer, commit bool, version int16) shard.Result {
	s.begin(turn.Now)
	if p.TransactionalID == "" {
		return s.refuse(turn, nameless(wire.ErrInvalidRequest))
	}
	t := s.txns[p.TransactionalID]
	if t == nil {
		return s.reply(nameless(wire.ErrInvalidProducerIDMapping))
	}
	if bumps(version) {
		return s.reply(s.endBumping(p, t, commit, version))
	}
	return s.reply(s.endPlain(p, t, commit))
}

// endPlain ends a transaction for a client whose epoch stays. A request that was delayed until the next transaction of the
// same producer cannot be told from one of that transaction; only epoch bumps close this.
func (s *Shard) endPlain(p Producer, t *Transaction, commit bool) Identity {
	switch {
	case t.ProducerID != p.ID:
		return nameless(wire.ErrInvalidProducerIDMapping)
	case t.Epoch != p.Epoch:
		return nameless(wire.ErrProducerFenced)
	case t.State == Ongoing:
		s.prepare(p.TransactionalID, t.preparing(prepared(commit), 0, id.NoProducer, true, s.now.UnixMilli()))
		return nameless(wire.ErrNone)
	case t.State.preparing():
		return nameless(wire.ErrConcurrentTransactions)
	case t.State == completed(commit):
		return nameless(wire.ErrNone)
	}
	return nameless(wire.ErrInvalidTxnState)
}

// endBumping ends a transaction for a client that gets a new epoch with each end (KIP-890). The epoch tells the repetition of
// a request that was served from the end of another transaction:
//
//	                 repeated abort  abort     repeated commit  commit
//	Empty            fenced          new epoch fenced           invalid
//	CompleteAbort    as answered     new epoch invalid          invalid
//	CompleteCommit   invalid         new epoch as answered      invalid
func (s *Shard) endBumping(p Producer, t *Transaction, commit bool, version int16) Identity {
	if t.State.preparing() {
		return nameless(wire.ErrConcurrentTransactions)
	}
	// After an end that changed the producer id the repetition carries the old id and its last epoch.
	overflowed := t.PreviousProducerID == p.ID && p.Epoch == maxEpoch-1 && t.Epoch == 0
	// One epoch behind is the repetition only if the end bumped the epoch. If a client without bumps ended the transaction
	// here, the epoch came from its InitProducerId, which fenced whoever has the one before (Apache Kafka lets it back in).
	repeated := overflowed || int(t.Epoch) == int(p.Epoch)+1 && bumps(t.ClientVersion)
	if t.ProducerID != p.ID && !overflowed {
		return nameless(wire.ErrInvalidProducerIDMapping)
	}
	over := t.State == CompleteCommit || t.State == CompleteAbort
	if t.Epoch != p.Epoch && !(over && repeated) {
		return nameless(wire.ErrProducerFenced)
	}
	switch {
	case t.State == Ongoing:
		return s.endNew(p.TransactionalID, t, prepared(commit), version, true)
	case repeated:
		if t.State == completed(commit) {
			return Identity{wire.ErrNone, t.ProducerID, t.Epoch}
		}
	case !commit:
		// The client may have sent records whose partitions never got here; its abort must fence these.
		return s.endNew(p.TransactionalID, t, PrepareAbort, version, false)
	}
	return nameless(wire.ErrInvalidTxnState)
}

func (s *Shard) endNew(name string, t *Transaction, to State, version int16, begun bool) Identity {
	successor, code := s.successor(t)
	if code != wire.ErrNone {
		return nameless(code)
	}
	next := t.preparing(to, version, successor, begun, s.now.UnixMilli())
	s.prepare(name, next)
	producer, epoch := next.after()
	return Identity{wire.ErrNone, producer, epoch}
}

func prepared(commit bool) State {
	if commit {
		return PrepareCommit
	}
	return PrepareAbort
}

func completed(commit bool) State {
	if commit {
		return CompleteCommit
	}
	return CompleteAbort
}

// prepare writes that t is about to commit or abort, and asks for its markers. Without partitions there are none, and both
// steps are taken at once.
func (s *Shard) prepare(name string, t *Transaction) {
	s.write(name, t)
	if len(t.Partitions) == 0 {
		s.complete(name, t)
		return
	}
	s.mark(name, t)
}

func (s *Shard) mark(name string, t *Transaction) {
	s.res.Messages = append(s.res.Messages, Markers{
		TransactionalID: name, ProducerID: t.ProducerID, Epoch: t.Epoch, Commit: t.State == PrepareCommit, Version: t.ClientVersion,
		Partitions: t.Partitions, of: t,
	})
}

func (s *Shard) complete(name string, t *Transaction) { s.write(name, t.completed(s.now.UnixMilli())) }

// Written says that partitions have the marker that was asked for, or do not exist any more. With the last of them the
// transaction is complete. What does not belong to the transaction as it is now is ignored, be it of one with the same epoch and outcome,
// as a client without epoch bumps has them.
func (s *Shard) Written(now time.Time, m Markers, partitions []id.TopicPartition) shard.Result {
	s.begin(now)
	w := s.marking[m.TransactionalID]
	if w == nil || w.of != m.of {
		return s.end()
	}
	some := false
	for _, tp := range partitions {
		if _, ok := w.left[tp]; ok {
			delete(w.left, tp)
			some = true
		}
	}
	if some && len(w.left) == 0 {
		s.complete(m.TransactionalID, w.of)
	}
	return s.end()
}

package txn

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
)

// Init is an InitProducerId request with a transactional id.
type Init struct {
	TransactionalID string
	TimeoutMs       int32
	// ProducerID and Epoch are what the producer believes to have; both NoProducer and NoProducerEpoch if it starts.
	ProducerID id.ProducerID
	Epoch      id.ProducerEpoch
	// TwoPhase and KeepPrepared are the flags of KIP-939.
	TwoPhase, KeepPrepared bool
}

// Identity answers an Init and an End: what the producer goes on with. With an error, and after the End of a client that does not
// bump epochs, the id and the epoch are NoProducer and NoProducerEpoch.
type Identity struct {
	Code       wire.ErrorCode
	ProducerID id.ProducerID
	Epoch      id.ProducerEpoch
}

// nameless is an Identity with nothing but a code.
func nameless(code wire.ErrorCode) Identity { return Identity{code, id.NoProducer, id.NoProducerEpoch} }

// InitProducerID gives a producer its id and an epoch that fences all who had the transactional id before. A transaction
// that is under way is aborted first, and the producer told to come again with CONCURRENT_TRANSACTIONS. The answer is an
// Identity.
func (s *Shard) InitProducerID(turn Turn, r Init) shard.Result {
	s.begin(turn.Now)
	timeout := r.TimeoutMs
	if r.TwoPhase {
		timeout = NoTimeout
	}
	if code := s.cfg.CheckInit(r); code != wire.ErrNone {
		return s.refuse(turn, nameless(code))
	}
	name, nowMs := r.TransactionalID, turn.Now.UnixMilli()
	t := s.txns[name]
	if t == nil {
		producer, ok := s.cfg.NextProducerID()
		if !ok {
			return s.reply(nameless(wire.ErrCoordinatorLoadInProgress))
		}
		return s.initialized(name, &Transaction{
			ProducerID: producer, PreviousProducerID: producer, NextProducerID: id.NoProducer, Epoch: 0, LastEpoch: id.NoProducerEpoch,
			TimeoutMs: timeout, StartMs: -1, UpdateMs: nowMs,
		})
	}
	if t.State.preparing() {
		return s.reply(nameless(wire.ErrConcurrentTransactions)) // whoever asks, see End
	}
	known := r.ProducerID != id.NoProducer
	if known && r.ProducerID != t.ProducerID && !(r.ProducerID == t.PreviousProducerID && exhausted(r.Epoch)) {
		// The last case is the repetition of a request that changed the producer id, whose answer was lost.
		return s.reply(nameless(wire.ErrProducerFenced))
	}
	if t.State == Ongoing {
		code := s.fence(name, t)
		if code == wire.ErrNone {
			code = wire.ErrConcurrentTransactions
		}
		return s.reply(nameless(code))
	}
	next := t.step(Empty, nowMs)
	next.TimeoutMs, next.Partitions, next.StartMs = timeout, nil, -1
	switch {
	case exhausted(t.Epoch) && (!known || r.Epoch == t.Epoch):
		producer, ok := s.cfg.NextProducerID()
		if !ok {
			return s.reply(nameless(wire.ErrCoordinatorLoadInProgress))
		}
		next.ProducerID, next.Epoch, next.LastEpoch = producer, 0, id.NoProducerEpoch
		if known {
			next.LastEpoch = t.Epoch
		}
	case !known:
		next.Epoch, next.LastEpoch = t.Epoch+1, id.NoProducerEpoch
	case r.Epoch == t.LastEpoch:
		// The repetition of a request that was served: the epoch it got is the current one. It may be repeated once more.
		next.PreviousProducerID = t.PreviousProducerID
	case r.Epoch == t.Epoch:
		next.Epoch, next.LastEpoch = t.Epoch+1, t.Epoch
	default:
		return s.reply(nameless(wire.ErrProducerFenced))
	}
	return s.initialized(name, next)
}

// CheckInit looks at what is wrong with a request whatever the state is, and whoever the coordinator is.
func (c *Config) CheckInit(r Init) wire.ErrorCode {
	switch {
	case r.TransactionalID == "":
		return wire.ErrInvalidRequest
	case len(r.TransactionalID) > maxName:
		return wire.ErrUnknownServerError // no record can hold it
	case r.TwoPhase && !c.TwoPhaseCommit:
		return wire.ErrTransactionalIDAuthorizationFailed
	case r.KeepPrepared:
		return wire.ErrUnsupportedVersion
	case !r.TwoPhase && (r.TimeoutMs <= 0 || r.TimeoutMs > c.MaxTimeoutMs):
		return wire.ErrInvalidTransactionTimeout
	}
	return wire.ErrNone
}

func (s *Shard) initialized(name string, t *Transaction) shard.Result {
	s.write(name, t)
	return s.reply(Identity{wire.ErrNone, t.ProducerID, t.Epoch})
}

// fence aborts the ongoing transaction t with an epoch that its producer does not have.
func (s *Shard) fence(name string, t *Transaction) wire.ErrorCode {
	level := s.cfg.Level()
	if !bumps(level) {
		fenced := *t
		if fenced.Epoch < maxEpoch {
			fenced.Epoch++
		}
		fenced.LastEpoch = id.NoProducerEpoch
		s.prepare(name, fenced.preparing(PrepareAbort, 0, id.NoProducer, true, s.now.UnixMilli()))
		return wire.ErrNone
	}
	successor, code := s.successor(t)
	if code != wire.ErrNone {
		return code
	}
	s.prepare(name, t.preparing(PrepareAbort, level, successor, true, s.now.UnixMilli()))
	return wire.ErrNone
}

// successor returns the producer id that follows t's if its epochs are exhausted, else NoProducer.
func (s *Shard) successor(t *Transaction) (id.ProducerID, wire.ErrorCode) {
	if !exhausted(t.Epoch) {
		return id.NoProducer, wire.ErrNone
	}
	if producer, ok := s.cfg.NextProducerID(); ok {
		return producer, wire.ErrNone
	}
	return id.NoProducer, wire.ErrCoordinatorLoadInProgress
}

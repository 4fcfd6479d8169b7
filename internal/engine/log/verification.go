package log

import (
	"math"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// VerificationGuard ties the first append of a transaction to the question to its coordinator that preceded it (KIP-890). It is
// unique in its log: a late answer to an earlier question does not let an append pass.
type VerificationGuard uint64

// NoGuard goes with an append that nobody verified: it passes while its producer has a transaction open in the log.
const NoGuard VerificationGuard = 0

// verification is a question that is open, or was answered and not used yet.
type verification struct {
	guard          VerificationGuard
	atMs           int64
	lowestSequence int32
	epoch          id.ProducerEpoch
	epochBump      bool // the client speaks transactions of version 2
}

// SetTransactionVerification turns transaction.partition.verification.enable on or off for all logs: with it, the first
// transactional batch of a transaction needs a guard.
func (m *Manager) SetTransactionVerification(on bool) { m.o.dynamic.verifyTransactions.Store(on) }

// BeginVerification is asked before a transactional append by a client or a coordinator. NoGuard says that the producer has a
// transaction open here and the append may go on. Any other guard goes with the append (AppendInfo.Guard) after the transaction's
// coordinator has said that the partition is part of the transaction. sequence is the batch's first.
//
// Errors: *RefusedError with INVALID_PRODUCER_EPOCH for an epoch below the one last seen.
func (l *Log) BeginVerification(pid id.ProducerID, epoch id.ProducerEpoch, sequence int32, supportsEpochBump bool) (VerificationGuard, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Err(); err != nil {
		return NoGuard, err
	}
	p := &l.producers
	if e := p.entries[pid]; e != nil {
		if epoch < e.epoch {
			return NoGuard, refuse(wire.ErrInvalidProducerEpoch, "Epoch of producer %d is %d, which is smaller than the last seen epoch %d", pid, epoch, e.epoch)
		}
		if e.txnFirst >= 0 && e.epoch == epoch {
			return NoGuard, nil
		}
	}
	v := p.verifications[pid]
	if v == nil {
		if p.verifications == nil {
			p.verifications = map[id.ProducerID]*verification{}
		}
		p.guards++
		v = &verification{guard: p.guards, atMs: l.nowMs(), lowestSequence: sequence, epoch: epoch, epochBump: supportsEpochBump}
		p.verifications[pid] = v
	}
	// A lower sequence that failed before must be written first: what is above the lowest one seen is refused.
	switch {
	case epoch > v.epoch:
		v.epoch, v.lowestSequence = epoch, sequence
	case epoch == v.epoch:
		v.lowestSequence = min(v.lowestSequence, sequence)
	}
	return v.guard, nil
}

// HasOngoingTransaction reports whether the producer has a transaction open in this log, with that epoch.
func (l *Log) HasOngoingTransaction(pid id.ProducerID, epoch id.ProducerEpoch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.producers.entries[pid]
	return e != nil && e.txnFirst >= 0 && e.epoch == epoch
}

// checkVerified refuses a transactional data batch that neither continues a transaction nor was verified.
func (l *Log) checkVerified(b record.Batch, a *producerAppend, info AppendInfo) error {
	if info.Origin != OriginClient && info.Origin != OriginCoordinator || !b.IsTransactional() {
		return nil
	}
	if a.next.txnFirst >= 0 && a.next.epoch == b.ProducerEpoch() {
		return nil
	}
	if b.ProducerEpoch() < a.next.epoch {
		return refuse(wire.ErrInvalidProducerEpoch, "Epoch of producer %d is %d, which is smaller than the last seen epoch %d", a.id, b.ProducerEpoch(), a.next.epoch)
	}
	if b.IsControl() || !l.o.dynamic.verifyTransactions.Load() {
		return nil
	}
	if v := a.verification; info.Guard == NoGuard || v == nil || v.guard != info.Guard {
		return refuse(wire.ErrInvalidTxnState, "Record was not part of an ongoing transaction")
	}
	return nil
}

// checkLowestSequence holds back a batch whose predecessors were refused or not verified yet.
func (a *producerAppend) checkLowestSequence(tp id.TopicPartition, seq int32, offset id.Offset) error {
	v := a.verification
	if v == nil {
		return nil
	}
	if v.epochBump && seq != 0 && a.current.n == 0 {
		return refuse(wire.ErrOutOfOrderSequenceNumber, "Invalid sequence number for producer %d at offset %d in partition %v: %d (incoming seq. number). Expected sequence 0 for transactions v2 idempotent producer with no existing state.",
			a.id, offset, tp, seq)
	}
	if seq > v.lowestSequence {
		return refuse(wire.ErrOutOfOrderSequenceNumber, "Out of order sequence number for producer %d at offset %d in partition %v: %d (incoming seq. number), %d (earliest seen sequence)",
			a.id, offset, tp, seq, v.lowestSequence)
	}
	return nil
}

// verified forgets a question once the transaction has begun or ended. A marker with the epoch of a question that is open belongs
// to the transaction before: a client of version 2 has a new epoch by then.
func (p *producerState) verified(b record.Batch) {
	v := p.verifications[b.ProducerID()]
	if v == nil || !b.IsTransactional() {
		return
	}
	if v.epochBump && b.IsControl() && b.ProducerEpoch() == v.epoch {
		return
	}
	delete(p.verifications, b.ProducerID())
}

// expireVerifications forgets questions that were never used.
func (p *producerState) expireVerifications(nowMs int64, after time.Duration) {
	for pid, v := range p.verifications {
		if nowMs-v.atMs >= min(after.Milliseconds(), math.MaxInt64) {
			delete(p.verifications, pid)
		}
	}
	if len(p.verifications) == 0 {
		p.verifications = nil
	}
}

// AbortedTransactions lists the aborted transactions that a committed reader of [from, upTo) must filter out, in order of their
// markers; also the metadata that ReadResult.AbortedTxns holds for one read. Unlike Read it looks at every segment of the range.
func (l *Log) AbortedTransactions(from, upTo id.Offset) ([]AbortedTxn, error) {
	if err := l.Err(); err != nil {
		return nil, err
	}
	segs := *l.segments.Load()
	out, err := collectAborted(segs[max(0, floor(segs, from)):], from, upTo)
	if err != nil {
		return nil, l.storageError("read transaction index of", err)
	}
	return out, nil
}

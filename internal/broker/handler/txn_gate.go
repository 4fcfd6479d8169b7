package handler

import (
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/metric"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
)

// TxnOperation is what a write asks of the coordinator of its transaction; the version of the request that writes tells.
type TxnOperation int8

// The operations.
const (
	// VerifyOld and Verify ask if the partitions are part of the transaction. Clients of the first do not know
	// TRANSACTION_ABORTABLE (KIP-890 part 1).
	VerifyOld TxnOperation = iota
	Verify
	// Add makes the partitions a part of it (KIP-890 part 2).
	Add
)

// The versions of Produce and TxnOffsetCommit that know TRANSACTION_ABORTABLE; the ones after them add partitions by themselves.
const (
	produceVerifies int16 = 11
	commitVerifies  int16 = 4
)

func txnOperation(version, verifies int16) TxnOperation {
	switch {
	case version > verifies:
		return Add
	case version == verifies:
		return Verify
	}
	return VerifyOld
}

// TxnGate asks the coordinator of a transaction before something is written in it.
type TxnGate interface {
	// Needed is false if a write of this kind is let in unasked (transaction.partition.verification.enable).
	Needed(op TxnOperation) bool
	// Enter calls done once, from any goroutine, perhaps before it returns, with a code for each partition in order.
	Enter(p txn.Producer, partitions []id.TopicPartition, op TxnOperation, done func([]wire.ErrorCode))
}

// LocalTxnGate is the gate to the transaction coordinators of this broker.
type LocalTxnGate struct {
	Txns   *coord.Txns
	Image  func() *image.Image
	Config func() *conf.Broker
	Places *Places
	// Failures counts partitions that a coordinator has not let in, Took the microseconds until it says so or lets them in.
	Failures metric.Meter
	Took     metric.Histogram
}

// Needed implements TxnGate.
func (g *LocalTxnGate) Needed(op TxnOperation) bool {
	return op == Add || g.Config().Bool("transaction.partition.verification.enable")
}

// firstWaits is how many waits are shorter than the configured one: of 20 ms the first is 0.3 ms.
const firstWaits = 6

// Enter implements TxnGate. A producer that begins its next transaction while the markers of the last are still on their way is
// not sent away at once: it is tried again for a moment, since the markers are about to arrive. They mostly take less than a
// millisecond, so the first waits are a small part of the configured one, and each is twice the one before.
func (g *LocalTxnGate) Enter(p txn.Producer, partitions []id.TopicPartition, op TxnOperation, done func([]wire.ErrorCode)) {
	c := g.Config()
	retry := c.Millis("add.partitions.to.txn.retry.backoff.ms")
	until := time.Now().Add(min(c.Millis("add.partitions.to.txn.retry.backoff.max.ms"), c.Millis("request.timeout.ms")))
	wait := retry >> firstWaits
	var try func()
	try = func() {
		g.ask(p, partitions, op, func(codes []wire.ErrorCode) {
			if op == Add && slices.Contains(codes, wire.ErrConcurrentTransactions) && time.Now().Before(until) {
				this := wait
				wait = min(2*wait, retry)
				time.AfterFunc(this, try)
				return
			}
			done(codes)
		})
	}
	try()
}

func (g *LocalTxnGate) ask(p txn.Producer, partitions []id.TopicPartition, op TxnOperation, done func([]wire.ErrorCode)) {
	same := func(code wire.ErrorCode) []wire.ErrorCode {
		return slices.Repeat([]wire.ErrorCode{code}, len(partitions))
	}
	img := g.Image()
	partition := g.Places.of(img, coord.TransactionsTopic, p.TransactionalID, 1)
	if c := img.Topics.Partition(coord.TransactionsTopic, partition); c == nil || c.Leader == id.NoBroker {
		done(same(wire.ErrCoordinatorNotAvailable))
		return
	}
	asked := time.Now()
	decideTxn(g.Txns, partition, func(body any, code wire.ErrorCode) {
		codes, ok := body.([]wire.ErrorCode)
		if !ok {
			if c, ok := body.(wire.ErrorCode); ok {
				code = c
			}
			codes = same(code)
		}
		failures := int64(0)
		for i, c := range codes {
			if c != wire.ErrNone {
				failures++
			}
			switch {
			case c == wire.ErrProducerFenced:
				codes[i] = wire.ErrInvalidProducerEpoch // what producers expect here
			case c == wire.ErrTransactionAbortable && op == VerifyOld:
				codes[i] = wire.ErrInvalidTxnState
			}
		}
		now := time.Now()
		g.Failures.Mark(now, failures)
		g.Took.Observe(now.Sub(asked).Microseconds())
		done(codes)
	}, func(s *txn.Shard, t txn.Turn) shard.Result {
		if op == Add {
			return s.AddPartitions(t, p, partitions, bumpingTxns)
		}
		return s.Verify(t, p, partitions)
	})
}

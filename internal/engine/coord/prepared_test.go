package coord

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/wire"
)

// TestNoTransactionStaysPrepared: whatever the log refuses, holds back or cuts off, and whatever becomes of markers on their way, every
// transaction whose end was decided comes to it once the trouble is over, and one that nobody ends is aborted.
func TestNoTransactionStaysPrepared(t *testing.T) {
	first, only := seed.First(t)
	runs := uint64(40)
	if only {
		runs = 1
	}
	for n := first; n < first+runs; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { prepareAndTrouble(t, rand.New(rand.NewPCG(n, 3))) })
		})
	}
}

func prepareAndTrouble(t *testing.T, rnd *rand.Rand) {
	const names, partitions = 6, 3
	w := newMarkerWorld(t, 2, 3, 2)
	w.txns.opts.MaxBatchBytes = func(int32) int { return 150 + int(time.Now().UnixMilli()%400) }
	producers := make([]txn.Producer, names)
	for i := range producers {
		producers[i] = txn.Producer{TransactionalID: fmt.Sprint("id-", i), ID: id.NoProducer, Epoch: id.NoProducerEpoch}
	}
	request := func(op func(*txn.Shard, txn.Turn) shard.Result, took func(txn.Identity)) {
		go w.txns.Do(0, func(body any, code wire.ErrorCode) {
			if r, ok := body.(txn.Identity); ok && code == wire.ErrNone && r.Code == wire.ErrNone && took != nil {
				took(r)
			}
		}, func(s *txn.Shard, now time.Time, t shard.Ticket) shard.Result {
			return op(s, txn.Turn{Now: now, Ticket: t})
		})
	}
	answer := func(codes ...wire.ErrorCode) {
		w.mu.Lock()
		calls := w.calls
		w.calls = nil
		w.mu.Unlock()
		for _, c := range calls {
			all := make([]wire.ErrorCode, len(c.partitions))
			for i := range all {
				all[i] = codes[rnd.IntN(len(codes))]
			}
			c.done(all)
		}
	}
	for range 300 {
		p := &producers[rnd.IntN(names)]
		keep := func(r txn.Identity) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if r.ProducerID >= 0 {
				p.ID, p.Epoch = r.ProducerID, r.Epoch
			}
		}
		w.mu.Lock()
		who := *p
		w.mu.Unlock()
		switch rnd.IntN(12) {
		case 0, 1:
			request(func(s *txn.Shard, turn txn.Turn) shard.Result {
				return s.InitProducerID(turn, txn.Init{TransactionalID: who.TransactionalID, TimeoutMs: 5000, ProducerID: -1, Epoch: -1})
			}, keep)
		case 2, 3, 4:
			some := []id.TopicPartition{{Topic: "t", Partition: rnd.Int32N(partitions)}}
			request(func(s *txn.Shard, turn txn.Turn) shard.Result { return s.AddPartitions(turn, who, some, 2) }, nil)
		case 5, 6, 7:
			commit := rnd.IntN(2) == 0
			request(func(s *txn.Shard, turn txn.Turn) shard.Result { return s.End(turn, who, commit, 2) }, keep)
		case 8:
			refuse := []error{nil, nil, wire.ErrNotEnoughReplicas, wire.ErrKafkaStorageError}[rnd.IntN(4)]
			w.l.set(0, func(p *memPartition) { p.refuse = refuse })
		case 9:
			w.l.set(0, func(p *memPartition) { p.hold = rnd.IntN(2) == 0 })
		case 10:
			answer(wire.ErrNone, wire.ErrNone, wire.ErrNetworkException)
		case 11:
			if rnd.IntN(4) == 0 {
				w.txns.Elected(0, w.l.depose(0))
			}
		}
		if rnd.IntN(3) > 0 {
			pass(time.Duration(rnd.IntN(400)) * time.Millisecond)
		}
	}
	w.l.set(0, func(p *memPartition) { p.refuse, p.hold = nil, false })
	for range 100 {
		pass(500 * time.Millisecond)
		synctest.Wait()
		answer(wire.ErrNone)
	}
	synctest.Wait()
	if code := w.txns.Read(0, func(s *txn.Shard) {
		s.List(func(name string, tx *txn.Transaction) {
			if tx.State == txn.PrepareCommit || tx.State == txn.PrepareAbort || tx.State == txn.Ongoing {
				t.Errorf("%s stays in %s with %v", name, tx.State, tx.Partitions)
			}
		})
	}); code != wire.ErrNone {
		t.Error(code.Name())
	}
}

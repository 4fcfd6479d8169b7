package coord

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/wire"
)

// startTxns is a transaction coordinator of two partitions, which forgets ids after an hour.
func startTxns(t *testing.T, maxBatchBytes int) (*Txns, *memLog) {
	t.Helper()
	l, ids := newMemLog(t, 2), id.ProducerID(0)
	cfg := txn.DefaultConfig()
	cfg.Expiration = time.Hour
	cfg.Level = func() int16 { return 2 }
	cfg.NextProducerID = func() (id.ProducerID, bool) { ids++; return ids, true }
	r := New(Options[*txn.Shard]{Log: l, New: func(int32) *txn.Shard { return txn.New(cfg) }, Linger: Adaptive,
		MaxBatchBytes: func(int32) int { return maxBatchBytes }})
	t.Cleanup(r.Close)
	for p := range int32(2) {
		r.Elected(p, 0)
	}
	synctest.Wait()
	return r, l
}

// initTxn returns what a client that starts is told.
func initTxn(r *Txns, partition int32, name string) string {
	answer := make(chan string, 1)
	r.Do(partition, func(body any, code wire.ErrorCode) {
		if b, ok := body.(txn.Identity); ok {
			answer <- fmt.Sprint(b.Code.Name(), " ", b.ProducerID, "/", b.Epoch)
			return
		}
		answer <- ClientError(code).Name()
	}, func(s *txn.Shard, now time.Time, t shard.Ticket) shard.Result {
		return s.InitProducerID(txn.Turn{Now: now, Ticket: t}, txn.Init{TransactionalID: name, TimeoutMs: 1000, ProducerID: -1, Epoch: -1})
	})
	return <-answer
}

func known(r *Txns, partition int32) int {
	synctest.Wait()
	n := 0
	r.Read(partition, func(s *txn.Shard) { s.List(func(string, *txn.Transaction) { n++ }) })
	return n
}

// TestTransactionNotWritten: what a client is told when the log refuses its record, and that the next request finds the state as if
// it had never come.
func TestTransactionNotWritten(t *testing.T) {
	for code, told := range map[wire.ErrorCode]wire.ErrorCode{
		wire.ErrUnknownTopicOrPartition:      wire.ErrCoordinatorNotAvailable,
		wire.ErrNotEnoughReplicas:            wire.ErrCoordinatorNotAvailable,
		wire.ErrNotEnoughReplicasAfterAppend: wire.ErrCoordinatorNotAvailable,
		wire.ErrRequestTimedOut:              wire.ErrCoordinatorNotAvailable,
		wire.ErrKafkaStorageError:            wire.ErrNotCoordinator,
		wire.ErrMessageTooLarge:              wire.ErrUnknownServerError,
		wire.ErrRecordListTooLarge:           wire.ErrUnknownServerError,
		wire.ErrInvalidProducerEpoch:         wire.ErrInvalidProducerEpoch,
		wire.ErrNotLeaderOrFollower:          wire.ErrNotCoordinator,
		wire.ErrFencedLeaderEpoch:            wire.ErrNotCoordinator,
	} {
		t.Run(code.Name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, l := startTxns(t, 0)
				if got := initTxn(r, 0, "a"); got != "NONE 1/0" {
					t.Fatal(got)
				}
				l.set(0, func(p *memPartition) { p.refuse = code })
				if got := initTxn(r, 0, "a"); got != told.Name() {
					t.Errorf("told %s, want %s", got, told.Name())
				}
				l.set(0, func(p *memPartition) { p.refuse = nil })
				want := "NONE 1/1"
				if code == wire.ErrNotLeaderOrFollower || code == wire.ErrFencedLeaderEpoch { // until it is elected again
					want = "NOT_COORDINATOR"
				}
				if got := initTxn(r, 0, "a"); got != want {
					t.Errorf("afterwards %s, want %s", got, want)
				}
			})
		})
	}
}

// TestManyIDsExpire: tombstones fill batches that the topic takes. A partition that cannot write them, because it is in trouble or
// because not one is small enough, keeps its ids and holds up no other.
func TestManyIDsExpire(t *testing.T) {
	const limit = 512
	for _, trouble := range []wire.ErrorCode{wire.ErrKafkaStorageError, wire.ErrMessageTooLarge} {
		t.Run(trouble.Name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, l := startTxns(t, limit)
				const ids = 200
				for i := range ids {
					for p := range int32(2) {
						if got := initTxn(r, p, fmt.Sprint("transactional-id-", i)); got[:4] != "NONE" {
							t.Fatal(got)
						}
					}
				}
				var before int
				l.set(0, func(p *memPartition) { before = len(p.batches) })
				l.set(1, func(p *memPartition) { p.refuse = trouble })
				pass(time.Hour)
				if n := known(r, 0); n != 0 {
					t.Errorf("%d ids are left", n)
				}
				l.set(0, func(p *memPartition) {
					if n := len(p.batches) - before; n < 10 || n > 40 {
						t.Errorf("%d batches", n)
					}
					for _, b := range p.batches[before:] {
						if len(b) > limit {
							t.Errorf("a batch of %d bytes", len(b))
						}
					}
				})
				if n := known(r, 1); n != ids {
					t.Errorf("%d ids are left where nothing can be written", n)
				}
				l.set(1, func(p *memPartition) { p.refuse = nil })
				pass(time.Hour)
				if n := known(r, 1); n != 0 {
					t.Errorf("%d ids are left", n)
				}
			})
		})
	}
}

package handler

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// gateOnPrepared is a gate to a transaction that stays in PrepareCommit, because the leader of its partition is elsewhere, with
// its producer's next epoch.
func gateOnPrepared(t *testing.T, overrides ...string) (*LocalTxnGate, txn.Producer) {
	t.Helper()
	r, _ := newGroupRooms(t)
	c, _, err := conf.Load(map[string]string{"process.roles": "broker,controller", "node.id": "1", "controller.quorum.voters": "1@localhost:9093",
		"controller.listener.names": "CONTROLLER", "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093"}, overrides)
	if err != nil {
		t.Fatal(err)
	}
	txns, markers := coord.NewTxns(coord.TxnDeps{Config: c, Replicas: r.manager, Groups: r.groups, NextProducerID: func() (id.ProducerID, bool) { return 7, true }})
	t.Cleanup(func() { txns.Close(); markers.Close() })
	r.topic("t", 1)
	r.replay(&logrec.PartitionChangeRecord{TopicID: testTopicID("t"), Leader: 2, Replicas: []int32{2}, Isr: []int32{2}})
	r.topic(coord.TransactionsTopic, 1)
	g := &LocalTxnGate{Txns: txns, Image: r.image, Places: new(Places), Config: func() *conf.Broker { return c }}
	p := txn.Producer{TransactionalID: "a", ID: 7}
	do := func(op func(*txn.Shard, txn.Turn) shard.Result) any {
		answer := make(chan any, 1)
		for {
			decideTxn(txns, 0, func(body any, code wire.ErrorCode) {
				if code == wire.ErrNotCoordinator || code == wire.ErrCoordinatorLoadInProgress {
					answer <- nil
					return
				}
				answer <- body
			}, op)
			if body := <-answer; body != nil {
				return body
			}
		}
	}
	tp := []id.TopicPartition{{Topic: "t"}}
	do(func(s *txn.Shard, turn txn.Turn) shard.Result {
		return s.InitProducerID(turn, txn.Init{TransactionalID: "a", TimeoutMs: 1000, ProducerID: -1, Epoch: -1})
	})
	do(func(s *txn.Shard, turn txn.Turn) shard.Result { return s.AddPartitions(turn, p, tp, bumpingTxns) })
	if r := do(func(s *txn.Shard, turn txn.Turn) shard.Result { return s.End(turn, p, true, bumpingTxns) }).(txn.Identity); r.Code != wire.ErrNone {
		t.Fatal(r.Code.Name())
	} else {
		p.Epoch = r.Epoch
	}
	return g, p
}

func enter(t *testing.T, g *LocalTxnGate, p txn.Producer, op TxnOperation) (wire.ErrorCode, time.Duration) {
	t.Helper()
	start, got := time.Now(), make(chan wire.ErrorCode, 1)
	g.Enter(p, []id.TopicPartition{{Topic: "t"}}, op, func(codes []wire.ErrorCode) { got <- codes[0] })
	return <-got, time.Since(start)
}

// TestGateBackoff sees the wait between two attempts, of which the first is a 64th.
func TestGateBackoff(t *testing.T) {
	for _, backoff := range []time.Duration{640 * time.Millisecond, 6400 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			g, p := gateOnPrepared(t, fmt.Sprint("add.partitions.to.txn.retry.backoff.ms=", backoff.Milliseconds()), "add.partitions.to.txn.retry.backoff.max.ms=1")
			if code, took := enter(t, g, p, Verify); code != wire.ErrConcurrentTransactions || took != 0 {
				t.Errorf("a verification: %s after %v", code.Name(), took)
			}
			if code, took := enter(t, g, p, Add); code != wire.ErrConcurrentTransactions || took != backoff/64 {
				t.Errorf("%s after %v", code.Name(), took)
			}
		})
	}
}

// TestGateLimit sees how long attempts go on.
func TestGateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, p := gateOnPrepared(t, "add.partitions.to.txn.retry.backoff.ms=1", "add.partitions.to.txn.retry.backoff.max.ms=200")
		if code, took := enter(t, g, p, Add); code != wire.ErrConcurrentTransactions || took < 200*time.Millisecond || took > 201*time.Millisecond {
			t.Errorf("%s after %v", code.Name(), took)
		}
		p.Epoch--
		if code, _ := enter(t, g, p, Verify); code != wire.ErrInvalidProducerEpoch {
			t.Errorf("an old epoch: %s", code.Name())
		}
		p.ID++
		if code, _ := enter(t, g, p, VerifyOld); code != wire.ErrInvalidProducerIDMapping {
			t.Errorf("somebody else's: %s", code.Name())
		}
	})
}

// TestGateWithoutCoordinator: a partition without a leader has no coordinator to ask, which is not to say that it is elsewhere.
func TestGateWithoutCoordinator(t *testing.T) {
	r, c := newGroupRooms(t)
	g := &LocalTxnGate{Image: r.image, Places: new(Places), Config: func() *conf.Broker { return c }}
	want := func(without string) {
		t.Helper()
		if code, _ := enter(t, g, txn.Producer{TransactionalID: "a", ID: 7}, Verify); code != wire.ErrCoordinatorNotAvailable {
			t.Errorf("without %s: %s", without, code.Name())
		}
	}
	want("the topic")
	u := testTopicID(coord.TransactionsTopic)
	r.replay(&logrec.TopicRecord{Name: coord.TransactionsTopic, TopicID: u},
		&logrec.PartitionRecord{TopicID: u, Replicas: []int32{2}, Isr: []int32{2}, Leader: -1})
	want("a leader")
}

// TestRefusedAmongAdmitted: what a producer is told of a partition does not depend on which others of its request were let in.
func TestRefusedAmongAdmitted(t *testing.T) {
	for asked := range 3 { // how many of the two that were let in before it the coordinator was asked about, from the back
		p := &produceTask{}
		p.out.Responses = []api.ProduceResponseResponse{{PartitionResponses: make([]api.ProduceResponseResponsePartitionResponse, 3)}}
		for i := range 3 {
			p.app.Partitions = append(p.app.Partitions, replica.AppendPartition{Topic: "t", Partition: int32(i)})
			p.places = append(p.places, producePlace{partition: i})
		}
		p.sift([]wire.ErrorCode{wire.ErrNone, wire.ErrNone, wire.ErrInvalidTxnState}, []int{0, 1, 2}[2-asked:], VerifyOld)
		if got := p.out.Responses[0].PartitionResponses[2].ErrorMessage; got == nil || *got != "Partition was not added to the transaction" {
			t.Errorf("of %d others asked about: %v", asked, got)
		}
		if len(p.app.Partitions) != 2 || len(p.places) != 2 {
			t.Errorf("%d partitions are let in", len(p.app.Partitions))
		}
	}
}

package embedded_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

const transactionsTopic = "__transaction_state"

// txnProofs are the keys of transactions.
func txnProofs() []proof {
	one := map[string]string{"transaction.state.log.num.partitions": "1"}
	and := func(key, value string) map[string]string {
		return map[string]string{"transaction.state.log.num.partitions": "1", key: value}
	}
	out := []proof{
		staticProof("transaction.max.timeout.ms", "2000", one, func(w *world) {
			w.txnCoordinator()
			w.want(w.initTxn("a", 2000).ErrorCode, wire.ErrNone)
			w.want(w.initTxn("a", 2001).ErrorCode, wire.ErrInvalidTransactionTimeout)
		}),
		staticProof("transaction.abort.timed.out.transaction.cleanup.interval.ms", "20", one, func(w *world) {
			w.txnCoordinator()
			p := w.initTxn("a", 1)
			w.want(w.addToTxn("a", p), wire.ErrNone)
			w.eventually(func() string { return differs(w.txnState("a"), "CompleteAbort") })
		}),
		staticProof("transactional.id.expiration.ms", "1", and("transaction.remove.expired.transaction.cleanup.interval.ms", "20"), forgets),
		staticProof("transaction.remove.expired.transaction.cleanup.interval.ms", "20", and("transactional.id.expiration.ms", "1"), forgets),
		staticProof("transaction.state.log.num.partitions", "3", nil, func(w *world) {
			w.txnCoordinator()
			w.want(len(w.metadata(transactionsTopic).Topics[0].Partitions), 3)
		}),
		staticProof("transaction.state.log.replication.factor", "2", nil, func(w *world) {
			for range 3 {
				w.want(w.findTxnCoordinator(), wire.ErrCoordinatorNotAvailable)
			}
			w.want(w.metadata(transactionsTopic).Topics[0].ErrorCode, wire.ErrUnknownTopicOrPartition)
		}),
		staticProof("transaction.state.log.min.isr", "7", one, func(w *world) {
			w.eventually(func() string { return differs(w.findTxnCoordinator().Name(), "NONE") })
			w.want(w.topicConfig(transactionsTopic, "min.insync.replicas"), "7")
		}),
		staticProof("transaction.state.log.segment.bytes", "2000000", one, func(w *world) {
			w.txnCoordinator()
			w.want(w.topicConfig(transactionsTopic, "segment.bytes"), "2000000")
		}),
		{key: "transaction.state.log.load.buffer.size", how: static, see: func(t *testing.T) {
			mem := vfs.NewMem()
			w := rawNode(t, mem, one)
			w.txnCoordinator()
			for i := range 60 {
				w.want(w.initTxn(fmt.Sprint(i)+strings.Repeat("m", 4000), 1000).ErrorCode, wire.ErrNone)
			}
			w.stop()
			for size, more := range map[string]bool{"10000": false, "5242880": true} {
				reads := &readSizes{FS: mem}
				w = rawNode(t, reads, and("transaction.state.log.load.buffer.size", size))
				w.txnCoordinator()
				if most := reads.most.Load(); (most > 100_000) != more || most < 4000 {
					t.Errorf("with a buffer of %s the largest read has %d bytes", size, most)
				}
				w.stop()
			}
		}},
		staticProof("unstable.api.versions.enable", "true", one, func(w *world) {
			w.txnCoordinator()
			w.want(w.initTwoPhase("a").ErrorCode, wire.ErrTransactionalIDAuthorizationFailed)
		}),
		staticProof("transaction.two.phase.commit.enable", "true", and("unstable.api.versions.enable", "true"), func(w *world) {
			w.txnCoordinator()
			w.want(w.initTwoPhase("a").ErrorCode, wire.ErrNone)
		}),
		{key: "add.partitions.to.txn.retry.backoff.ms", how: static, elsewhere: "internal/broker/handler.TestGateBackoff"},
		{key: "add.partitions.to.txn.retry.backoff.max.ms", how: static, elsewhere: "internal/broker/handler.TestGateLimit"},
	}
	n := 0
	return append(out, dynamicProofs("transaction.partition.verification.enable", "false", one, func(w *world) string {
		w.txnCoordinator()
		n++
		name := fmt.Sprint("verified-", n)
		return w.produceInTxn(name, w.initTxn(name, 60_000)).Name()
	}, "INVALID_TXN_STATE", "NONE")...)
}

// forgets sees a transactional id go.
func forgets(w *world) {
	w.txnCoordinator()
	w.want(w.initTxn("a", 1000).ErrorCode, wire.ErrNone)
	w.eventually(func() string { return differs(w.txnState("a"), "TRANSACTIONAL_ID_NOT_FOUND") })
}

func (w *world) findTxnCoordinator() wire.ErrorCode {
	w.t.Helper()
	var a api.FindCoordinatorResponse
	w.call(4, &api.FindCoordinatorRequest{KeyType: 1, CoordinatorKeys: []string{"a"}}, &a)
	return a.Coordinators[0].ErrorCode
}

// txnCoordinator waits until __transaction_state is there and served, and makes topic t.
func (w *world) txnCoordinator() {
	w.t.Helper()
	if w.metadata("t").Topics[0].ErrorCode != wire.ErrNone {
		w.create("t", 1)
	}
	w.eventually(func() string { return differs(w.findTxnCoordinator().Name(), "NONE") })
	w.eventually(func() string { return differs(w.initTxn("there", 1000).ErrorCode.Name(), "NONE") })
}

func (w *world) initTxn(name string, timeoutMs int32) api.InitProducerIDResponse {
	w.t.Helper()
	var a api.InitProducerIDResponse
	w.call(4, &api.InitProducerIDRequest{TransactionalID: &name, TransactionTimeoutMs: timeoutMs, ProducerID: -1, ProducerEpoch: -1}, &a)
	return a
}

// initTwoPhase asks for transactions without timeout.
func (w *world) initTwoPhase(name string) api.InitProducerIDResponse {
	w.t.Helper()
	var a api.InitProducerIDResponse
	w.call(6, &api.InitProducerIDRequest{TransactionalID: &name, ProducerID: -1, ProducerEpoch: -1, Enable2Pc: true}, &a)
	return a
}

func (w *world) addToTxn(name string, p api.InitProducerIDResponse) wire.ErrorCode {
	w.t.Helper()
	var a api.AddPartitionsToTxnResponse
	w.call(3, &api.AddPartitionsToTxnRequest{V3AndBelowTransactionalID: name, V3AndBelowProducerID: p.ProducerID, V3AndBelowProducerEpoch: p.ProducerEpoch,
		V3AndBelowTopics: []api.AddPartitionsToTxnRequestTopic{{Name: "t", Partitions: []int32{0}}}}, &a)
	return a.ResultsByTopicV3AndBelow[0].ResultsByPartition[0].PartitionErrorCode
}

// txnState is the state of a transactional id, or why there is none.
func (w *world) txnState(name string) string {
	w.t.Helper()
	var a api.DescribeTransactionsResponse
	w.call(0, &api.DescribeTransactionsRequest{TransactionalIDs: []string{name}}, &a)
	if s := a.TransactionStates[0]; s.ErrorCode == wire.ErrNone {
		return s.TransactionState
	}
	return a.TransactionStates[0].ErrorCode.Name()
}

// produceInTxn sends a transactional batch as a client that adds partitions by itself and has not.
func (w *world) produceInTxn(name string, p api.InitProducerIDResponse) wire.ErrorCode {
	w.t.Helper()
	return w.produceInTxnAt(name, p, time.Now())
}

// produceInTxnAt produces a record with a timestamp.
func (w *world) produceInTxnAt(name string, p api.InitProducerIDResponse, at time.Time) wire.ErrorCode {
	w.t.Helper()
	o := record.NewOptions()
	o.Transactional, o.ProducerID, o.ProducerEpoch, o.BaseSequence = true, id.ProducerID(p.ProducerID), id.ProducerEpoch(p.ProducerEpoch), 0
	b := record.NewBuilder(o)
	if err := b.Append(at.UnixMilli(), nil, []byte("value")); err != nil {
		w.t.Fatal(err)
	}
	raw, err := b.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	var a api.ProduceResponse
	w.call(9, &api.ProduceRequest{TransactionalID: &name, Acks: -1, TimeoutMs: 5000, TopicData: []api.ProduceRequestTopicData{{Name: "t",
		PartitionData: []api.ProduceRequestTopicDataPartitionData{{Records: wire.Records{Bytes: raw}}}}}}, &a)
	return a.Responses[0].PartitionResponses[0].ErrorCode
}

func (w *world) topicConfig(topic, key string) string {
	w.t.Helper()
	return w.config(2, topic, key)
}

// config is what the node says that a key of a resource has.
func (w *world) config(kind int8, name, key string) string {
	w.t.Helper()
	var a api.DescribeConfigsResponse
	w.call(4, &api.DescribeConfigsRequest{Resources: []api.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name, ConfigurationKeys: []string{key}}}}, &a)
	if len(a.Results[0].Configs) == 0 {
		return a.Results[0].ErrorCode.Name()
	}
	return deref(a.Results[0].Configs[0].Value)
}

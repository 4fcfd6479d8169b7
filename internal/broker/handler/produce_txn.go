package handler

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// enter takes the partitions with transactional batches through the gate: first the log says which of them begin their
// transaction, then the transaction's coordinator is asked about these, then the rest is appended with the log's guards. Two
// floors, in this order: the guard must be older than the coordinator's answer, so that a marker between answer and append is
// noticed (KIP-890).
func (t *produceTask) enter() {
	op := txnOperation(t.req.Version(), produceVerifies)
	p := txn.Producer{TransactionalID: *t.in.TransactionalID, ID: id.NoProducer}
	for i := range t.app.Partitions {
		b := record.Batch(t.app.Partitions[i].Batches)
		if !b.IsTransactional() {
			continue
		}
		if p.ID != id.NoProducer && (p.ID != b.ProducerID() || p.Epoch != b.ProducerEpoch()) {
			t.refuse(wire.ErrInvalidProducerIDMapping, "Transactional records contained more than one producer ID")
			return
		}
		p.ID, p.Epoch = b.ProducerID(), b.ProducerEpoch()
	}
	if p.ID == id.NoProducer || t.desk.gate == nil || !t.desk.gate.Needed(op) {
		t.append()
		return
	}
	var asked []id.TopicPartition
	var slots []int
	codes := make([]wire.ErrorCode, len(t.app.Partitions))
	for i := range t.app.Partitions {
		part := &t.app.Partitions[i]
		b := record.Batch(part.Batches)
		if !b.IsTransactional() {
			continue
		}
		guard, err := t.desk.replicas.BeginVerification(part.Topic, part.TopicID, part.Partition, p.ID, p.Epoch, b.BaseSequence(), op == Add)
		if err != nil {
			codes[i] = replica.ErrorCode(err)
		} else if part.Guard = guard; guard != log.NoGuard {
			asked = append(asked, id.TopicPartition{Topic: part.Topic, Partition: part.Partition})
			slots = append(slots, i)
		}
	}
	if len(asked) == 0 {
		t.admit(codes, nil, op)
		return
	}
	t.desk.gate.Enter(p, asked, op, func(answers []wire.ErrorCode) {
		for n, code := range answers {
			codes[slots[n]] = code
		}
		t.admit(codes, slots, op)
	})
}

// admit appends to the partitions that were let in, and answers for the others. asked are those that the coordinator answered for.
func (t *produceTask) admit(codes []wire.ErrorCode, asked []int, op TxnOperation) {
	t.sift(codes, asked, op)
	t.append()
}

// sift leaves the partitions that were let in, and answers for the others.
func (t *produceTask) sift(codes []wire.ErrorCode, asked []int, op TxnOperation) {
	kept := 0
	for i := range t.app.Partitions {
		wasAsked := len(asked) > 0 && asked[0] == i
		if wasAsked {
			asked = asked[1:]
		}
		if codes[i] == wire.ErrNone {
			t.app.Partitions[kept], t.places[kept] = t.app.Partitions[i], t.places[i]
			kept++
			continue
		}
		out := &t.out.Responses[t.places[i].topic].PartitionResponses[t.places[i].partition]
		if out.ErrorCode = codes[i]; wasAsked {
			out.ErrorCode, out.ErrorMessage = refusedEntry(codes[i], op)
		}
	}
	clear(t.app.Partitions[kept:])
	t.app.Partitions, t.places = t.app.Partitions[:kept], t.places[:kept]
}

// refusedEntry is what a producer is told for an answer of the coordinator. What will pass is made NOT_ENOUGH_REPLICAS, which
// clients of every age try again without looking for another leader.
func refusedEntry(code wire.ErrorCode, op TxnOperation) (wire.ErrorCode, *string) {
	switch code {
	case wire.ErrInvalidTxnState:
		return code, textOrNull("Partition was not added to the transaction")
	case wire.ErrConcurrentTransactions:
		if op == Add {
			return code, nil
		}
	case wire.ErrNetworkException, wire.ErrCoordinatorLoadInProgress, wire.ErrCoordinatorNotAvailable, wire.ErrNotCoordinator:
	default:
		return code, nil
	}
	return wire.ErrNotEnoughReplicas, textOrNull("Unable to verify the partition has been added to the transaction. Underlying error: " + code.Name())
}

package disk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// travellers are clients that live on while the directory changes hands: what they began at one product they go on with, and end,
// at the other, as if one broker had restarted.
type travellers struct {
	idempotent *kgo.Client
	pid        int64
	epoch      int16
	written    int // records of the idempotent producer, by partition
	open       []openTransaction
}

// openTransaction is under way while the directory changes hands.
type openTransaction struct {
	client *kgo.Client
	end    kgo.TransactionEndTry
	// partition of the topic is its own: what is read as committed there is what this client has committed.
	partition int32
	records   int
	group     string
	at        int64 // where the group is committed if the transaction is
}

// topicAcross is what the travellers write to: two partitions of the idempotent producer, one of what is committed, one of what is
// aborted. Its segments are rolled all the time.
const topicAcross = "across"

const acrossPartitions = 4

func (t *travellers) close() {
	if t.idempotent != nil {
		t.idempotent.Close()
	}
	for _, o := range t.open {
		o.client.Close()
	}
	*t = travellers{}
}

// arrive goes on at the product that has just opened the directory.
func (w *writer) arrive(ctx context.Context) error {
	if w.across.idempotent == nil {
		return nil // the first opening
	}
	if err := w.goOn(ctx); err != nil {
		return fmt.Errorf("the idempotent producer: %w", err)
	}
	for i := range w.across.open {
		o := &w.across.open[i]
		if err := w.finish(ctx, o); err != nil {
			return fmt.Errorf("the transaction to be ended with commit=%t: %w", o.end, err)
		}
	}
	return nil
}

// goOn writes more records with the sequences that follow those the other product has seen.
func (w *writer) goOn(ctx context.Context) error {
	t := &w.across
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for i := range 10 {
		r := w.record(topicAcross, int32(i%2), i, nil)
		if err := t.idempotent.ProduceSync(ctx, r).FirstErr(); err != nil {
			return err
		}
		if want := int64(t.written + i/2); r.Offset != want {
			return fmt.Errorf("a record went to offset %d of partition %d, want %d", r.Offset, r.Partition, want)
		}
		w.m.set(fmt.Sprintf("log/%s/%d/@%d", topicAcross, r.Partition, r.Offset), recordFact(r))
	}
	t.written += 5
	pid, epoch, err := t.idempotent.ProducerID(ctx)
	if err != nil {
		return err
	}
	if t.written > 5 && (pid != t.pid || epoch != t.epoch) {
		return fmt.Errorf("it was %d, epoch %d, and is %d, epoch %d: its sequence was not taken up", t.pid, t.epoch, pid, epoch)
	}
	t.pid, t.epoch = pid, epoch
	return nil
}

func (w *writer) finish(ctx context.Context, o *openTransaction) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := o.client.EndTransaction(ctx, o.end); err != nil {
		return err
	}
	if o.end == kgo.TryCommit {
		w.m.addCommitted(topicAcross, o.partition, o.records)
		w.m.set(commitPath(o.group, topicAcross, 0), commitFact(kadm.Offset{At: o.at, LeaderEpoch: -1, Metadata: "sent with a transaction"}))
	}
	w.m.forget("group/" + o.group)
	return nil
}

// depart begins what is to be ended at the next opening.
func (w *writer) depart(ctx context.Context) error {
	if !w.serves(kmsg.AddPartitionsToTxn) || !w.serves(kmsg.EndTxn) || !w.serves(kmsg.TxnOffsetCommit) {
		return nil
	}
	t := &w.across
	if t.idempotent == nil {
		var err error
		if t.idempotent, err = kgo.NewClient(kgo.SeedBrokers(w.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.StopProducerOnDataLossDetected()); err != nil {
			return err
		}
		for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
			cl, err := kgo.NewClient(kgo.SeedBrokers(w.addr), kgo.TransactionalID(fmt.Sprintf("across-%t", end)),
				kgo.TransactionTimeout(14*time.Minute), kgo.RecordPartitioner(kgo.ManualPartitioner()))
			if err != nil {
				return err
			}
			t.open = append(t.open, openTransaction{client: cl, end: end, partition: int32(2 + i), group: fmt.Sprintf("across-%t", end)})
		}
		if err := w.goOn(ctx); err != nil {
			return fmt.Errorf("the idempotent producer: %w", err)
		}
	}
	for i := range t.open {
		if err := w.begin(ctx, &t.open[i]); err != nil {
			return fmt.Errorf("begin a transaction: %w", err)
		}
	}
	return nil
}

// begin opens a transaction with records and the position of a group.
func (w *writer) begin(ctx context.Context, o *openTransaction) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := o.client.BeginTransaction(); err != nil {
		return err
	}
	o.records = 1 + w.rnd.IntN(5)
	for i := range o.records {
		r := w.record(topicAcross, o.partition, i, nil)
		if err := o.client.ProduceSync(ctx, r).FirstErr(); err != nil {
			return err
		}
		w.m.set(fmt.Sprintf("log/%s/%d/@%d", topicAcross, r.Partition, r.Offset), recordFact(r))
	}
	o.at++
	return w.sendOffsets(ctx, o)
}

// sendOffsets adds the position of a group to the transaction.
func (w *writer) sendOffsets(ctx context.Context, o *openTransaction) error {
	pid, epoch, err := o.client.ProducerID(ctx)
	if err != nil {
		return err
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = fmt.Sprintf("across-%t", o.end), pid, epoch, o.group
	added, err := add.RequestWith(ctx, o.client)
	if err == nil {
		err = kerr.ErrorForCode(added.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("add the offsets of a group: %w", err)
	}
	topics, err := w.ListTopics(ctx, topicAcross)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = add.TransactionalID, o.group, pid, epoch, -1
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID = topicAcross, topics[topicAcross].ID
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = 0, o.at, -1, ptr("sent with a transaction")
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, o.client)
	if err != nil {
		return fmt.Errorf("commit offsets in a transaction: %w", err)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode))
		}
	}
	if err != nil {
		return fmt.Errorf("commit offsets in a transaction: %w", err)
	}
	return nil
}

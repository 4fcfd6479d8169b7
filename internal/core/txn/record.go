package txn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// ErrBadRecord reports a record of __transaction_state that cannot be read.
var ErrBadRecord = errors.New("bad transaction record")

// maxName bounds a transactional id in bytes: strings in the log have 16-bit lengths.
const maxName = 1<<15 - 1

// maxValueVersion is the newest version of a value that is understood here.
const maxValueVersion = 1

// change is what a record does: name has this transaction from now on, or none if t is nil.
type change struct {
	name string
	t    *Transaction
}

// transactionRecord is the record of a transaction; t nil is its tombstone. level is the transaction.version of the cluster,
// which says how values are written.
func transactionRecord(name string, t *Transaction, level int16) shard.Record {
	r := shard.Record{Key: logrec.EncodeGroupKey(&logrec.TransactionLogKey{TransactionalID: name}), Change: change{name, t}}
	if t == nil {
		return r
	}
	value := &logrec.TransactionLogValue{
		ProducerID: int64(t.ProducerID), PreviousProducerID: int64(t.PreviousProducerID), NextProducerID: int64(t.NextProducerID),
		ProducerEpoch: int16(t.Epoch), NextProducerEpoch: int16(id.NoProducerEpoch), TransactionTimeoutMs: t.TimeoutMs,
		TransactionStatus: int8(t.State), TransactionLastUpdateTimestampMs: t.UpdateMs, TransactionStartTimestampMs: t.StartMs,
		ClientTransactionVersion: t.ClientVersion,
	}
	if t.State != Empty {
		value.TransactionPartitions = []logrec.TransactionLogValueTransactionPartition{}
		for _, tp := range t.Partitions {
			last := len(value.TransactionPartitions) - 1
			if last < 0 || value.TransactionPartitions[last].Topic != tp.Topic {
				value.TransactionPartitions = append(value.TransactionPartitions, logrec.TransactionLogValueTransactionPartition{Topic: tp.Topic})
				last++
			}
			ids := &value.TransactionPartitions[last].PartitionIDs
			*ids = append(*ids, tp.Partition)
		}
	}
	version := int16(0)
	if level >= 1 {
		version = 1
	} else {
		// Version 0 cannot hold the tagged fields; their defaults are what a reader sees.
		value.PreviousProducerID, value.NextProducerID, value.ClientTransactionVersion = -1, -1, 0
	}
	r.Value = logrec.EncodeVersioned(value, version)
	return r
}

// Replay folds one record of the log; known is false for a record type or version of a later release, which is skipped.
func (s *Shard) Replay(at id.Offset, _ id.ProducerID, key, value []byte) (known bool, err error) {
	s.next = at + 1
	if len(key) < 2 {
		return false, fmt.Errorf("%w at offset %d: key of %d bytes", ErrBadRecord, at, len(key))
	}
	if typ := binary.BigEndian.Uint16(key); typ != 0 {
		return false, nil
	}
	if len(value) >= 2 && binary.BigEndian.Uint16(value) > maxValueVersion {
		return false, nil
	}
	k, v0, err := logrec.DecodeTxn(key, value)
	if err != nil {
		return true, fmt.Errorf("%w at offset %d: %w", ErrBadRecord, at, err)
	}
	name := k.(*logrec.TransactionLogKey).TransactionalID
	if v0 == nil {
		s.set(at, name, nil)
		return true, nil
	}
	v := v0.(*logrec.TransactionLogValue)
	if v.TransactionStatus < int8(Empty) || v.TransactionStatus > int8(CompleteAbort) {
		return true, fmt.Errorf("%w at offset %d: %q is in state %d", ErrBadRecord, at, name, v.TransactionStatus)
	}
	t := &Transaction{
		ProducerID: id.ProducerID(v.ProducerID), Epoch: id.ProducerEpoch(v.ProducerEpoch), LastEpoch: id.NoProducerEpoch,
		PreviousProducerID: id.ProducerID(v.PreviousProducerID), NextProducerID: id.ProducerID(v.NextProducerID),
		TimeoutMs: v.TransactionTimeoutMs, State: State(v.TransactionStatus), StartMs: v.TransactionStartTimestampMs,
		UpdateMs: v.TransactionLastUpdateTimestampMs, ClientVersion: v.ClientTransactionVersion,
	}
	if t.State != Empty {
		for _, topic := range v.TransactionPartitions {
			for _, p := range topic.PartitionIDs {
				t.Partitions = append(t.Partitions, id.TopicPartition{Topic: topic.Topic, Partition: p})
			}
		}
		slices.SortFunc(t.Partitions, id.TopicPartition.Compare)
		t.Partitions = slices.Compact(t.Partitions)
	}
	s.set(at, name, t)
	return true, nil
}

// EndTransaction would fold a transaction marker; nobody writes to __transaction_state in a transaction.
func (s *Shard) EndTransaction(id.Offset, id.ProducerID, bool) {}

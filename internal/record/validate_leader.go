package record

import (
	"fmt"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// validateLeader looks into the one batch of v, sets its timestamps, and rewrites it if it must.
func validateLeader(v *Validated, o *ValidateOptions) error {
	switch v.Batches {
	case 0:
		return refuse(wire.ErrInvalidRecord, "Record batch has no batches at all")
	case 1:
	default:
		return refuse(wire.ErrInvalidRecord, "Compressed outer record has more than one batch")
	}
	b := Batch(v.Bytes)
	if o.Origin == OriginClient {
		if err := checkClientBatch(b, o); err != nil {
			return err
		}
	}
	target := o.Target
	if o.KeepCodec {
		target.Codec = b.Codec()
	}
	inPlace := b.Codec() == target.Codec
	if b.Codec() == None && b.IsControl() {
		inPlace = true // control records are not compressed unless they came compressed
	}
	var w walker
	if inPlace && !w.walkPlain(b, o) {
		if err := w.walk(b, o, nil); err != nil {
			return err
		}
	}
	if inPlace && w.consecutive {
		v.Records = int(w.count)
		v.stamp(b, w.maxTimestampMs, o)
		return nil
	}
	return v.rewrite(b, target, o)
}

// checkClientBatch holds what a producer may send.
func checkClientBatch(b Batch, o *ValidateOptions) error {
	fromOffsets := int64(b.LastOffset()-b.BaseOffset()) + 1
	count := int64(b.Count())
	switch {
	case fromOffsets <= 0:
		return refuse(wire.ErrInvalidRecord, "Batch has an invalid offset range: [%d, %d] in topic partition %s", b.BaseOffset(), b.LastOffset(), o.TopicPartition)
	case count <= 0:
		return refuse(wire.ErrInvalidRecord, "Invalid reported count for record batch: %d in topic partition %s", count, o.TopicPartition)
	case fromOffsets != count:
		return refuse(wire.ErrInvalidRecord, "Inconsistent batch offset range [%d, %d] and count of records %d in topic partition %s", b.BaseOffset(), b.LastOffset(), count, o.TopicPartition)
	case b.IsControl():
		return refuse(wire.ErrInvalidRecord, "Clients are not allowed to write control records in topic partition %s", o.TopicPartition)
	case b.HasProducerID() && b.BaseSequence() < 0:
		return refuse(wire.ErrInvalidRecord, "Invalid sequence number %d in record batch with producerId %d in topic partition %s", b.BaseSequence(), b.ProducerID(), o.TopicPartition)
	}
	return nil
}

// stamp sets the timestamps of a batch that is kept, and v's facts about it. The batch becomes relative to offset 0.
func (v *Validated) stamp(b Batch, maxTimestampMs int64, o *ValidateOptions) {
	v.LastOffset = id.Offset(b.LastOffsetDelta())
	v.FirstOffset = 0
	v.MaxTimestampMs = maxTimestampMs
	if o.TimestampType == LogAppendTime {
		v.MaxTimestampMs, v.LogAppendMs = o.NowMs, o.NowMs
	}
	b.SetMaxTimestamp(o.TimestampType, v.MaxTimestampMs)
	v.OffsetOfMaxTimestamp = -1
	if v.MaxTimestampMs != NoTimestamp {
		v.OffsetOfMaxTimestamp = v.LastOffset
	}
}

// maxRewriteBytes bounds the records of a batch that must be compressed anew: unlike those of a batch that is kept, they are
// held in memory all at once.
const maxRewriteBytes = 64 << 20

// rewrite builds the batch anew, with the target codec and offsets 0, 1, 2...
func (v *Validated) rewrite(b Batch, target Compression, o *ValidateOptions) error {
	to := o.Scratch
	if to == nil {
		to = new(Builder)
	}
	to.Reset(Options{
		LeaderEpoch: id.NoLeaderEpoch, Compression: target, TimestampType: o.TimestampType, LogAppendMs: o.NowMs,
		ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(), BaseSequence: b.BaseSequence(),
		Transactional: b.IsTransactional(), Control: b.IsControl(),
	})
	limited := *o
	limited.DecompressedLimit = min(o.DecompressedLimit, maxRewriteBytes)
	var w walker
	if err := w.walk(b, &limited, to); err != nil {
		return err
	}
	out, err := to.Build()
	if err != nil {
		return asError(err)
	}
	if o.MaxBatchBytes > 0 && len(out) > o.MaxBatchBytes {
		return refuse(wire.ErrMessageTooLarge, "Message batch size is %d bytes in append to partition %s which exceeds the maximum configured size of %d.", len(out), o.TopicPartition, o.MaxBatchBytes)
	}
	v.Bytes, v.Rewritten, v.Records = out, true, int(w.count)
	v.stamp(out, out.MaxTimestamp(), o)
	return nil
}

// walker visits the records of a batch and checks each. It holds nothing but results, so that options and batch do not
// escape to the heap with the complaints.
type walker struct {
	count          int32
	consecutive    bool // the records are numbered from 0 without a gap
	maxTimestampMs int64
	errs           []RecordError
	errCount       int
	timestampErrs  bool
}

// walk checks every record and, if to is not nil, copies each to it as long as there is no complaint.
func (w *walker) walk(b Batch, o *ValidateOptions, to *Builder) error {
	w.consecutive, w.maxTimestampMs = true, NoTimestamp
	it := b.Records(o.DecompressedLimit)
	it.BoundRecords(o.MaxRecordBytes)
	it.skim = to == nil
	defer it.Close()
	var r Record
	for it.Next(&r) {
		w.check(b, o, &r, to == nil && it.stream != nil)
		if r.OffsetDelta != w.count {
			w.consecutive = false
		}
		if to != nil && w.errCount == 0 {
			if err := to.AppendRecord(id.Offset(w.count), &r); err != nil {
				return &Error{Code: wire.ErrInvalidRecord, Message: err.Error(), Err: err}
			}
		}
		w.maxTimestampMs = max(w.maxTimestampMs, r.TimestampMs)
		w.count++
	}
	if err := it.Err(); err != nil {
		return asError(err)
	}
	if w.errCount > 0 {
		return w.complain()
	}
	return nil
}

// check notes what is wrong with a record: the key first, then the timestamp.
func (w *walker) check(b Batch, o *ValidateOptions, r *Record, partial bool) {
	if o.Compacted && r.Key == nil {
		w.note(fmt.Sprintf("Compacted topic cannot accept message without key in topic partition %s", o.TopicPartition))
		return
	}
	if o.TimestampType == CreateTime && r.TimestampMs != NoTimestamp {
		diff := o.NowMs - r.TimestampMs
		if diff > o.TimestampBeforeMs || -diff > o.TimestampAfterMs {
			w.timestampErrs = true
			w.note(fmt.Sprintf("Timestamp %d of message with offset %d is out of range. The timestamp should be within [%d, %d]",
				r.TimestampMs, r.Offset, o.NowMs-o.TimestampBeforeMs, o.NowMs+o.TimestampAfterMs))
		}
		return
	}
	if b.TimestampType() == LogAppendTime {
		w.timestampErrs = true
		w.note(fmt.Sprintf("Invalid timestamp type in message %s. Producer should not set timestamp type to LogAppendTime.", describe(r, partial)))
	}
}

// describe prints a record as Kafka does; partial is how it calls one of which it did not read key and value.
func describe(r *Record, partial bool) string {
	name, keySize, valueSize := "DefaultRecord", len(r.Key), len(r.Value)
	if partial {
		name = "PartialDefaultRecord"
		if r.Key == nil {
			keySize = -1
		}
		if r.Value == nil {
			valueSize = -1
		}
	}
	return fmt.Sprintf("%s(offset=%d, timestamp=%d, key=%d bytes, value=%d bytes)", name, r.Offset, r.TimestampMs, keySize, valueSize)
}

func (w *walker) note(message string) {
	if w.errCount++; w.errCount <= maxRecordErrors {
		w.errs = append(w.errs, RecordError{Index: w.count, Message: message})
	}
}

// complain makes one error of the complaints.
func (w *walker) complain() error {
	if w.timestampErrs {
		return &Error{Code: wire.ErrInvalidTimestamp, Message: "One or more records have been rejected due to invalid timestamp", Records: w.errs}
	}
	var first []string
	for _, e := range w.errs[:min(3, len(w.errs))] {
		first = append(first, e.String())
	}
	return &Error{
		Code: wire.ErrInvalidRecord,
		Message: fmt.Sprintf("One or more records have been rejected due to %d record errors in total, and only showing the first three errors at most: [%s]",
			w.errCount, strings.Join(first, ", ")),
		Records: w.errs,
	}
}

package log

import (
	"bytes"
	"math"

	"github.com/moldau-io/moldau/internal/record"
)

// filter writes what stays of a batch. A batch of which everything stays is copied as it is; another is built anew with the same
// offsets, epochs, timestamps, sequence numbers and codec.
//
// A tombstone, and a marker whose transaction has no data left, stay for delete.retention.ms from the first pass that finds them:
// that pass writes the end of the wait into the batch, where its base timestamp was (KIP-534).
func (c *cleanPass) filter(h header, raw []byte) error {
	c.stats.bytesRead += h.size
	if h.magic != record.Magic {
		return c.filterLegacy(h, raw)
	}
	b := record.Batch(raw)
	horizon, hasHorizon := b.DeleteHorizonMs()
	var useless, discard bool
	if b.IsControl() {
		var err error
		if useless, err = c.txns.control(b); err != nil {
			return &errBadBatch{h.position, err.Error()}
		}
		discard = useless && hasHorizon && horizon <= c.nowMs
		if discard && b.Count() > 0 {
			c.marker = b.LastOffset()
		}
	} else {
		useless = c.txns.data(b)
		discard = useless
	}
	c.stats.recordsRead += int64(b.Count())
	keepEmpty := c.isLastOfProducer(b) || b.NextOffset() == c.upper
	switch {
	case discard && !keepEmpty:
		c.changed = true
		return nil
	case discard:
		return c.emitEmpty(b)
	case b.IsControl() && b.Count() > 0:
		if useless && !hasHorizon {
			return c.rebuild(b, h, int(b.Count()), nil, c.horizon())
		}
		return c.copy(b)
	}
	return c.filterData(b, h, horizon, hasHorizon, keepEmpty)
}

// isLastOfProducer reports whether the batch must stay, if only empty, for what it says about its producer.
func (c *cleanPass) isLastOfProducer(b record.Batch) bool {
	if !b.HasProducerID() {
		return false
	}
	last, ok := c.idle[b.ProducerID()]
	switch {
	case !ok:
		return false
	case last.offset >= 0:
		return b.LastOffset() == last.offset
	}
	return b.IsControl() && b.ProducerEpoch() == last.epoch
}

func (c *cleanPass) filterData(b record.Batch, h header, horizon int64, hasHorizon, keepEmpty bool) error {
	keepTombstones := !hasHorizon || c.nowMs < horizon
	it := b.Records(decompressLimit)
	defer it.Close()
	var r record.Record
	c.keep = c.keep[:0]
	kept, tombstones := 0, false
	for it.Next(&r) {
		keep := c.keepRecord(&r, keepTombstones)
		c.keep = append(c.keep, keep)
		if keep {
			kept++
			tombstones = tombstones || r.Value == nil
		}
	}
	if err := it.Err(); err != nil {
		return &errBadBatch{h.position, err.Error()}
	}
	needHorizon := tombstones && !hasHorizon
	switch {
	case kept == 0 && keepEmpty:
		return c.emitEmpty(b)
	case kept == 0:
		c.changed = true
		return nil
	case kept == len(c.keep) && !needHorizon:
		return c.copy(b)
	}
	at := int64(0)
	if needHorizon {
		at = c.horizon()
	} else if hasHorizon {
		at = horizon
	}
	return c.rebuild(b, h, kept, c.keep, at)
}

func (c *cleanPass) keepRecord(r *record.Record, keepTombstones bool) bool {
	if r.Offset > c.keys.latest {
		return true
	}
	if r.Key == nil {
		c.stats.withoutKey++
		return false
	}
	return r.Offset >= c.keys.last(r.Key) && (r.Value != nil || keepTombstones)
}

// horizon is when what is found useless now may go.
func (c *cleanPass) horizon() int64 {
	if c.deleteWaitMs > math.MaxInt64-c.nowMs {
		return math.MaxInt64
	}
	return c.nowMs + c.deleteWaitMs
}

func (c *cleanPass) copy(b record.Batch) error {
	start := len(c.out)
	c.out = append(c.out, b...)
	return c.emit(start, int(b.Count()))
}

// emitEmpty writes a batch without records in the place of another.
func (c *cleanPass) emitEmpty(b record.Batch) error {
	start := len(c.out)
	c.out = record.EmptyBatch(c.out, headerOptions(b), b.LastOffset(), b.MaxTimestamp())
	c.changed = c.changed || !bytes.Equal(c.out[start:], b)
	return c.emit(start, 0)
}

func headerOptions(b record.Batch) record.Options {
	o := record.Options{
		BaseOffset: b.BaseOffset(), LeaderEpoch: b.LeaderEpoch(), TimestampType: b.TimestampType(), LogAppendMs: record.NoTimestamp,
		ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(), BaseSequence: b.BaseSequence(),
		Transactional: b.IsTransactional(), Control: b.IsControl(),
	}
	if o.TimestampType == record.LogAppendTime {
		o.LogAppendMs = b.MaxTimestamp()
	}
	return o
}

// rebuild writes the records of a batch for which keep is true; nil keeps all. A horizon of 0 is none.
func (c *cleanPass) rebuild(b record.Batch, h header, kept int, keep []bool, horizon int64) error {
	c.changed = true
	o := headerOptions(b)
	o.DeleteHorizonMs = horizon
	o.Compression = record.Compression{Codec: b.Codec()}
	if c.c.Compression.Codec == o.Compression.Codec {
		o.Compression = c.c.Compression
	}
	c.builder.Reset(o)
	it := b.Records(decompressLimit)
	defer it.Close()
	var r record.Record
	for i := 0; it.Next(&r); i++ {
		if keep != nil && !keep[i] {
			continue
		}
		if err := c.builder.AppendRecord(r.Offset, &r); err != nil {
			return &errBadBatch{h.position, err.Error()}
		}
	}
	if err := it.Err(); err != nil {
		return &errBadBatch{h.position, err.Error()}
	}
	start := len(c.out)
	var err error
	if c.out, err = c.builder.AppendTo(c.out); err != nil {
		return &errBadBatch{h.position, err.Error()}
	}
	if n := record.Batch(c.out[start:]); n.LastOffsetDelta() != b.LastOffsetDelta() {
		n.SetLastOffsetDelta(b.LastOffsetDelta())
	}
	return c.emit(start, kept)
}

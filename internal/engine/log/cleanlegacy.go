package log

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

// Entries of the formats 0 and 1 become batches of today when a pass goes over them, as in Kafka since 4.0: with the offsets,
// times and codec that they have, without leader epoch and producer, and with a delete horizon where a tombstone is among them.

// eachLegacy visits the records of an entry.
func eachLegacy(h header, raw []byte, visit func(r *record.Record) error) error {
	e, _, err := record.NextLegacy(raw)
	if err != nil {
		return &errBadBatch{h.position, err.Error()}
	}
	it := e.Records(legacyRecordLimit)
	defer it.Close()
	var r record.Record
	for it.Next(&r) {
		if err := visit(&r); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return &errBadBatch{h.position, err.Error()}
	}
	return nil
}

func (c *cleanPass) mapLegacy(h header, raw []byte) error {
	err := eachLegacy(h, raw, func(r *record.Record) error {
		c.stats.mapRecords++
		if r.Key != nil && r.Offset >= c.firstDirty && !c.keys.put(r.Key, r.Offset) {
			return errMapFull
		}
		return nil
	})
	if err != nil {
		return err
	}
	if h.last >= c.firstDirty {
		c.keys.seen(h.last)
	}
	return nil
}

func (c *cleanPass) filterLegacy(h header, raw []byte) error {
	c.changed = true
	c.keep = c.keep[:0]
	kept, first, tombstones := 0, id.NoOffset, false
	err := eachLegacy(h, raw, func(r *record.Record) error {
		keep := c.keepRecord(r, c.keepLegacy)
		c.keep = append(c.keep, keep)
		if c.stats.recordsRead++; !keep {
			return nil
		}
		if kept++; kept == 1 {
			first = r.Offset
		}
		tombstones = tombstones || r.Value == nil
		return nil
	})
	if err != nil || kept == 0 {
		return err
	}
	e := record.Legacy(raw)
	o := record.NewOptions()
	o.BaseOffset, o.Compression = first, record.Compression{Codec: e.Codec()}
	if e.LogAppendTime() {
		o.TimestampType, o.LogAppendMs = record.LogAppendTime, e.TimestampMs()
	}
	if tombstones {
		o.DeleteHorizonMs = c.horizon()
	}
	c.builder.Reset(o)
	i := 0
	err = eachLegacy(h, raw, func(r *record.Record) error {
		if i++; !c.keep[i-1] {
			return nil
		}
		if err := c.builder.AppendRecord(r.Offset, r); err != nil {
			return &errBadBatch{h.position, err.Error()}
		}
		return nil
	})
	if err != nil {
		return err
	}
	start := len(c.out)
	if c.out, err = c.builder.AppendTo(c.out); err != nil {
		return &errBadBatch{h.position, err.Error()}
	}
	return c.emit(start, kept)
}

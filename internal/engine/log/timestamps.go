package log

import (
	"errors"
	"fmt"
	"io"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

// LookupTimestamp finds the first offset whose timestamp is at least ts, or one of the special positions. It looks at the whole
// log; what a reader may see of that is the caller's business.
func (l *Log) LookupTimestamp(ts int64) (TimestampOffset, error) {
	if err := l.Err(); err != nil {
		return TimestampOffset{}, err
	}
	special := func(o id.Offset, e id.LeaderEpoch) (TimestampOffset, error) {
		return TimestampOffset{Found: true, Timestamp: record.NoTimestamp, Offset: o, LeaderEpoch: e}, nil
	}
	switch ts {
	case EarliestTimestamp, EarliestLocalTimestamp:
		start := l.StartOffset()
		return special(start, l.epochs.at(start))
	case LatestTimestamp:
		return special(l.EndOffset(), l.epochs.latest())
	case LatestTieredTimestamp, EarliestPendingUploadTimestamp:
		return special(id.NoOffset, id.NoLeaderEpoch) // nothing is tiered
	}
	var last error
	for range readAttempts {
		segs, err := l.timedSegments()
		if err != nil {
			return TimestampOffset{}, l.fault("look up a timestamp in", err)
		}
		var r TimestampOffset
		if ts == MaxTimestamp {
			r, err = l.findMax(segs)
		} else {
			r, err = l.findTimestamp(segs, ts)
		}
		if err == nil {
			return r, nil
		}
		last = err // a segment went away meanwhile; or the disk is at fault
	}
	if err := l.Err(); err != nil {
		return TimestampOffset{}, err
	}
	return TimestampOffset{}, l.storageError("look up a timestamp in", last)
}

// timedSegment is a segment with its largest timestamp at one moment.
type timedSegment struct {
	*segment
	largest   int64 // or the time of the last modification
	maxTS     int64
	maxOffset id.Offset
	bytes     int64
}

func (l *Log) timedSegments() ([]timedSegment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	segs := *l.segments.Load()
	out := make([]timedSegment, len(segs))
	for i, s := range segs {
		largest, err := s.largestTS()
		if err != nil {
			return nil, err
		}
		out[i] = timedSegment{s, largest, s.maxTS, s.maxTSOffset, s.size.Load()}
	}
	return out, nil
}

func (l *Log) findTimestamp(segs []timedSegment, ts int64) (TimestampOffset, error) {
	for _, s := range segs {
		if s.largest < ts || s.bytes == 0 {
			continue
		}
		from, err := s.times.lookup(ts)
		if err != nil {
			from = s.base // without the index the whole segment is searched
		}
		start := l.StartOffset()
		var r TimestampOffset
		err = l.walkFrom(s, max(from, start), func(h header, load func() ([]byte, error)) (bool, error) {
			if h.maxTS < ts || h.last < start {
				return false, nil
			}
			b, err := load()
			if err != nil {
				return false, err
			}
			r, err = firstRecord(h, b, l.cfg.Load().MaxRecordBytes, func(o id.Offset, t int64) bool { return t >= ts && o >= start })
			return r.Found, err
		})
		// Only the first segment that reaches the timestamp is searched.
		return r, err
	}
	return TimestampOffset{}, nil
}

func (l *Log) findMax(segs []timedSegment) (TimestampOffset, error) {
	best := segs[0]
	for _, s := range segs[1:] {
		if s.maxTS > best.maxTS {
			best = s
		}
	}
	var r TimestampOffset
	if best.maxTS < 0 {
		return r, nil
	}
	err := l.walkFrom(best, best.maxOffset, func(h header, load func() ([]byte, error)) (bool, error) {
		if h.maxTS != best.maxTS {
			return false, nil
		}
		b, err := load()
		if err != nil {
			return false, err
		}
		r, err = firstRecord(h, b, l.cfg.Load().MaxRecordBytes, func(_ id.Offset, t int64) bool { return t >= h.maxTS })
		return r.Found, err
	})
	return r, err
}

// firstRecord finds the first record that matches, unless one of more than most bytes comes before it.
func firstRecord(h header, bytes []byte, most int, match func(o id.Offset, ts int64) bool) (TimestampOffset, error) {
	if h.magic != record.Magic {
		return firstLegacyRecord(bytes, match)
	}
	b := record.Batch(bytes)
	it := b.Records(decompressLimit)
	it.BoundRecords(most)
	defer it.Close()
	var r record.Record
	for it.Next(&r) {
		if match(r.Offset, r.TimestampMs) {
			return TimestampOffset{Found: true, Timestamp: r.TimestampMs, Offset: r.Offset, LeaderEpoch: b.LeaderEpoch()}, nil
		}
	}
	return TimestampOffset{}, it.Err()
}

// walkFrom visits the batches of a segment from the one that holds offset on, until visit says that it is done. load reads the
// batch and checks its CRC.
func (l *Log) walkFrom(s timedSegment, offset id.Offset, visit func(h header, load func() ([]byte, error)) (bool, error)) error {
	if s.bytes == 0 {
		return nil // the file may not have been made yet
	}
	f, err := s.log.acquire(false)
	if err != nil {
		return err
	}
	defer s.log.release()
	buf := l.o.bufs.get()
	defer l.o.bufs.put(buf)
	w := walker{f: f, buf: buf, limit: s.bytes}
	h, err := s.find(&w, offset, s.bytes)
	for ; err == nil; h, err = w.header(h.position + h.size) {
		done, err := visit(h, func() ([]byte, error) {
			b := make([]byte, h.size)
			if n, err := f.ReadAt(b, h.position); n < len(b) {
				return nil, fmt.Errorf("read a batch of %d bytes: %w", h.size, errors.Join(err, io.ErrUnexpectedEOF))
			}
			return b, checkBatch(b, h)
		})
		if done || err != nil {
			return err
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

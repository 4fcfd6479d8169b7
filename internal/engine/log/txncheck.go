package log

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

// A transaction index has no checksum, and what it says cannot be seen to be wrong by whoever reads it: records of an aborted
// transaction would be served as good. A start compares it with the log.

// maxTxnChecks bounds how many transactions of a log are looked up in it at a start; of the others it is seen that they can be.
const maxTxnChecks = 256

// checkTxns finds a transaction in a segment's index that cannot be, or that the log knows otherwise, and lowers left by how many were
// looked up.
func (l *Log) checkTxns(s *segment, end id.Offset, left *int) error {
	if err := s.txns.check(); err != nil {
		return err
	}
	txns, err := s.txns.readable()
	if err != nil {
		return err
	}
	last := s.base - 1
	for _, t := range txns {
		wrong := func() error { return &errCorruptIndex{fmt.Sprintf("aborted transaction %+v after %d", t, last)} }
		if t.ProducerID < 0 || t.FirstOffset < 0 || t.FirstOffset > t.LastOffset || t.LastOffset <= last || t.LastOffset >= end ||
			t.LastStableOffset < 0 || t.LastStableOffset > t.LastOffset+1 {
			return wrong()
		}
		last = t.LastOffset
		if *left <= 0 {
			continue
		}
		*left--
		if ok, err := l.knowsTxn(t); err != nil {
			return err
		} else if !ok {
			return wrong()
		}
	}
	return nil
}

// knowsTxn reports whether a transaction is in the log: its marker, the batch it began with, and that of the transaction up to which
// the log was stable. Where a cleaner was, only the marker need be there.
func (l *Log) knowsTxn(t AbortedTxn) (bool, error) {
	b, err := l.batchHeader(t.LastOffset)
	if err != nil || b == nil || !b.IsControl() || b.ProducerID() != t.ProducerID {
		return false, err
	}
	if l.clean.Load() > 0 || l.cfg.Load().CleanupCompact {
		return true, nil
	}
	start := max(l.StartOffset(), (*l.segments.Load())[0].base)
	for _, at := range []id.Offset{t.FirstOffset, t.LastStableOffset} {
		if at < start || at == t.LastOffset+1 {
			continue
		}
		b, err := l.batchHeader(at)
		if err != nil || b == nil || b.BaseOffset() != at || !b.IsTransactional() || b.IsControl() || (b.ProducerID() == t.ProducerID) != (at == t.FirstOffset) {
			return false, err
		}
	}
	return true, nil
}

// batchHeader is the header of the batch that holds an offset, nil if there is none.
func (l *Log) batchHeader(offset id.Offset) (record.Batch, error) {
	segs := *l.segments.Load()
	i := floor(segs, offset)
	if i < 0 || segs[i].size.Load() == 0 {
		return nil, nil
	}
	s := segs[i]
	f, err := s.log.acquire(false)
	if err != nil {
		return nil, err
	}
	defer s.log.release()
	buf := l.o.bufs.get()
	defer l.o.bufs.put(buf)
	h, err := s.find(&walker{f: f, buf: buf}, offset, s.size.Load())
	if errors.Is(err, io.EOF) || isBadBatch(err) || err == nil && (h.magic != record.Magic || h.base > offset) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, headerPeekBytes)
	if n, err := f.ReadAt(b, h.position); n < len(b) {
		return nil, err
	}
	return record.Batch(b), nil
}

// segmentEnd is where the segment behind i begins.
func segmentEnd(segs []*segment, i int) id.Offset {
	if i+1 < len(segs) {
		return segs[i+1].base
	}
	return math.MaxInt64
}

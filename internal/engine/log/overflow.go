package log

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// Releases of Apache Kafka before 1.0 could leave a segment with offsets that do not fit into 31 bits relative to its base, so that
// no index can name them (KAFKA-6264). Such a segment is served as it is. When it is scanned, by a start that must, or by the
// cleaner, it is split first: into pieces of its own bytes, which take its place as cleaned segments do (cleanswap.go).
//
// Only what is known to belong to the log is split. A batch's base offset is not covered by its checksum: one that is far away where
// nobody knew of it, at the unflushed end of a log, is what a disk made of another offset, and ends the log.

// lostAtMost bounds how many offsets a power loss can take out of the middle of a log: between segments a larger gap is a gap that
// the log always had.
const lostAtMost = 1 << 30

// errOffsetOverflow reports an offset that cannot be written relative to the base of its segment.
type errOffsetOverflow struct {
	segment *segment
	offset  id.Offset
}

func (e *errOffsetOverflow) Error() string {
	return fmt.Sprintf("offset %d is too far from the base %d of its segment", e.offset, e.segment.base)
}

// mayOverflow reports whether an offset that does not fit into a segment belongs to it all the same: a later segment begins behind
// it, or it is below what is known to be flushed or compacted.
func (l *Log) mayOverflow(s *segment, last id.Offset) bool {
	segs := *l.segments.Load()
	if i := slices.Index(segs, s); i >= 0 && i+1 < len(segs) {
		return last < segs[i+1].base
	}
	return last < l.known
}

// recoverAt recovers the segment at an index of the list. One that overflows is split first. It returns how many segments are there
// now.
func (l *Log) recoverAt(i int) (n int, err error) {
	s := (*l.segments.Load())[i]
	var over *errOffsetOverflow
	if err := l.recoverSegment(s); !errors.As(err, &over) {
		return 1, err
	}
	pieces, err := l.splitFound(s)
	if err != nil {
		return 0, err
	}
	return len(pieces), l.recoverSegment(pieces[len(pieces)-1]) // with what was no batch
}

// splitFound splits a segment of a log that is being loaded: nobody else knows it. It needs mu.
func (l *Log) splitFound(s *segment) ([]*segment, error) {
	l.producersLoaded = false // the state may have part of the segment
	if err := l.loadProducersTo(s.base); err != nil {
		return nil, err
	}
	pieces, err := l.makePieces(s, true)
	if err != nil {
		return nil, err
	}
	return pieces, l.swapFiles(pieces, func() error { return l.replaceLocked(pieces, []*segment{s}) })
}

// splitLive splits an inactive segment of a log that is in service.
func (l *Log) splitLive(s *segment, truncations int) error {
	pieces, err := l.makePieces(s, false)
	if err != nil {
		return err
	}
	if begun, err := l.swapIn(pieces, []*segment{s}, truncations); err != nil {
		if !begun {
			err = errors.Join(err, removeAll(pieces))
		}
		return err
	}
	return nil
}

// makePieces writes the batches of a segment into as many new ones as their offsets need, whose files end in .cleaned and are
// durable. What follows a bad batch stays behind the last good one: whoever scans that piece finds it bad again. With replay the
// batches go through the producer state, which must be that at the segment's base, and the transaction indexes are made anew;
// otherwise they are taken from the segment's.
func (l *Log) makePieces(s *segment, replay bool) (pieces []*segment, err error) {
	l.o.Logger.Warn("splitting a segment whose offsets are too far apart", "partition", l.tp.String(), "segment", int64(s.base), "bytes", s.size.Load())
	f, err := s.log.acquire(false)
	if err != nil {
		return nil, err
	}
	defer s.log.release()
	w := splitter{l: l, from: s, next: s.base, replay: replay}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeAll(w.pieces))
		}
	}()
	size := s.size.Load()
	good, err := scanBatches(l.o.bufs, f, 0, size, w.batch)
	if err != nil && !isBadBatch(err) {
		return nil, err
	}
	if err := w.rest(f, good, size); err != nil {
		return nil, err
	}
	return w.pieces, w.finish()
}

func removeAll(segs []*segment) error {
	var errs []error
	for _, s := range segs {
		errs = append(errs, s.remove())
	}
	return errors.Join(errs...)
}

// splitter makes the pieces.
type splitter struct {
	l      *Log
	from   *segment
	replay bool
	next   id.Offset // the offset after the last batch
	pieces []*segment
	out    []byte // of the last piece, not written yet
}

func (w *splitter) batch(h header, b []byte) error {
	if err := w.l.abandoned(); err != nil {
		return err
	}
	if h.base < w.from.base || h.base < w.next && h.magic == record.Magic || !fits(w.from.base, h.last) && !w.l.mayOverflow(w.from, h.last) {
		return &errBadBatch{h.position, fmt.Sprintf("offsets %d to %d after %d", h.base, h.last, w.next-1)}
	}
	if err := checkBatch(b, h); err != nil {
		return err
	}
	if n := len(w.pieces); n == 0 || !fits(w.pieces[n-1].base, h.last) {
		if err := w.begin(h, b); err != nil {
			return err
		}
	}
	dest := w.pieces[len(w.pieces)-1]
	h.position = dest.size.Load() + int64(len(w.out))
	if h.position+h.size > math.MaxInt32 {
		return fmt.Errorf("a segment of more than %d bytes cannot be split", math.MaxInt32)
	}
	w.out = append(w.out, b...)
	dest.note(h, w.l.cfg.Load().IndexIntervalBytes)
	w.next = h.last + 1
	if w.replay {
		if w.l.epochs.raise(h.epoch, h.base) {
			w.l.epochsDirty = true
		}
		if err := w.l.replay(dest, h, b); err != nil {
			return err
		}
	}
	if len(w.out) >= scanChunk {
		return w.write()
	}
	return nil
}

// begin makes the next piece. It begins where the one before ends if the batch fits there: in what is found later there is no gap
// that was not there.
func (w *splitter) begin(h header, b []byte) error {
	base := w.next
	if !fits(base, h.last) {
		var err error
		if base, err = firstOffset(h, b); err != nil {
			return err
		}
	}
	if err := w.write(); err != nil {
		return err
	}
	if w.replay {
		// The snapshot at the beginning of a segment: a recovery of this one begins with it.
		w.l.producers.end = max(w.l.producers.end, base)
		if err := w.l.producers.take(w.l.at, false); err != nil {
			return err
		}
	}
	dest, err := w.l.newCleanedSegment(base)
	if err == nil {
		dest.modifiedMs, dest.jitter = w.from.modifiedMs, w.from.jitter
		w.pieces = append(w.pieces, dest)
	}
	return err
}

func (w *splitter) write() error {
	if len(w.out) == 0 {
		return nil
	}
	dest := w.pieces[len(w.pieces)-1]
	if _, err := dest.write(w.out); err != nil {
		return err
	}
	dest.size.Add(int64(len(w.out)))
	w.out = w.out[:0]
	return nil
}

// rest copies what is not known to be batches.
func (w *splitter) rest(f vfs.File, from, size int64) error {
	if len(w.pieces) == 0 {
		return fmt.Errorf("segment %d has nothing to split", w.from.base)
	}
	buf := make([]byte, walkBytes)
	for at := from; at < size; {
		n, err := f.ReadAt(buf[:min(walkBytes, size-at)], at)
		if n == 0 {
			return errors.Join(err, io.ErrUnexpectedEOF)
		}
		if w.out = append(w.out, buf[:n]...); len(w.out) >= scanChunk {
			if err := w.write(); err != nil {
				return err
			}
		}
		at += int64(n)
	}
	return w.write()
}

// finish writes the indexes and makes everything durable.
func (w *splitter) finish() error {
	bytes := int64(0)
	for i, p := range w.pieces {
		end := id.Offset(math.MaxInt64)
		if i+1 < len(w.pieces) {
			end = w.pieces[i+1].base
		}
		if !w.replay {
			if err := p.txns.take(&w.from.txns, p.base, end); err != nil {
				return err
			}
		}
		if err := errors.Join(p.finish(), p.writeIndexes()); err != nil {
			return err
		}
		if err := p.sync(true); err != nil {
			return w.l.dir.fail("flush a piece of a split segment of", w.l.tp.String(), err)
		}
		p.synced, p.needsDirSync = true, false // the directory is synced with the new names
		bytes += p.size.Load()
	}
	if size := w.from.size.Load(); bytes != size {
		return fmt.Errorf("segment %d has %d bytes, its pieces have %d", w.from.base, size, bytes)
	}
	return w.l.at.fs.SyncDir(w.l.Path())
}

// take appends the transactions of another index whose markers lie in [from, to).
func (x *txnIndex) take(other *txnIndex, from, to id.Offset) error {
	txns, err := other.readable()
	for _, t := range txns {
		if t.LastOffset >= from && t.LastOffset < to {
			x.add(t)
		}
	}
	return err
}

// firstOffset is the offset of an entry's first record: for a wrapper of an old format it is inside.
func firstOffset(h header, b []byte) (id.Offset, error) {
	if h.magic == record.Magic {
		return h.base, nil
	}
	r, err := firstLegacyRecord(b, func(id.Offset, int64) bool { return true })
	if err != nil || !r.Found {
		return 0, &errBadBatch{h.position, fmt.Sprintf("no record at its beginning: %v", err)}
	}
	return r.Offset, nil
}

// beginsAt reports whether a segment's first record has an offset.
func (s *segment) beginsAt(offset id.Offset) (bool, error) {
	f, err := s.log.acquire(false)
	if err != nil {
		return false, err
	}
	defer s.log.release()
	size, err := f.Size()
	if err != nil || size < legacyOverhead {
		return false, err
	}
	var head [headerPeekBytes]byte
	n, err := f.ReadAt(head[:min(headerPeekBytes, size)], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	h, err := parseHeader(head[:n], 0, size)
	if err != nil || h.magic == record.Magic || h.size > maxScanBatch {
		return err == nil && h.base == offset, nil
	}
	b := make([]byte, h.size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	first, err := firstOffset(h, b)
	return err == nil && first == offset, nil
}

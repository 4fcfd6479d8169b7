package log

import (
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// unknownTimestamp marks a first timestamp that is not known yet.
const unknownTimestamp = -2

// segment is one .log file with its indexes. Everything that is not said to be for readers is guarded by the log's mutex.
type segment struct {
	base  id.Offset
	log   handle      // for readers
	index offsetIndex // for readers
	times timeIndex   // for readers
	txns  txnIndex    // for readers

	size atomic.Int64 // bytes of whole batches in the file; for readers
	// covered is an offset (exclusive) that is not below any whose batch lies below size. It is stored before size: the log end is
	// stored later, and a reader between the two must not take the new bytes for old ones.
	covered atomic.Int64

	maxTS        int64     // largest timestamp so far, -1 if none; valid when maxTSKnown
	maxTSOffset  id.Offset // last offset of the batch that holds it
	maxTSKnown   bool
	firstTS      int64 // max timestamp of the first batch; unknownTimestamp until it was looked up
	createdMs    int64 // when this process made or emptied the segment, or opened it
	modifiedMs   int64 // last modification, for segments without timestamps
	sinceIndex   int64 // bytes since the last index entry
	jitter       time.Duration
	synced       bool // an inactive segment that is durable with its indexes
	needsDirSync bool // the file's name is not durable yet
}

func newSegment(at *place, base id.Offset, nowMs int64, jitter time.Duration) *segment {
	s := &segment{base: base, createdMs: nowMs, modifiedMs: nowMs, firstTS: unknownTimestamp, jitter: jitter}
	s.log.init(at, base, suffixLog)
	s.index.init(at, base)
	s.times.init(at, base)
	s.txns.init(at, base)
	return s
}

// emptySegment is a segment whose files have yet to be made.
func emptySegment(at *place, base id.Offset, nowMs int64, jitter time.Duration) *segment {
	s := newSegment(at, base, nowMs, jitter)
	s.maxTS, s.maxTSOffset, s.maxTSKnown, s.needsDirSync = -1, base, true, true
	return s
}

// createSegment makes an empty segment; with an error it returns what has to be removed.
func createSegment(at *place, base id.Offset, nowMs int64, jitter time.Duration) (*segment, error) {
	s := emptySegment(at, base, nowMs, jitter)
	return s, s.createFiles()
}

// createFiles makes the files empty. Kafka wants the index files to be there: without .index it rescans the segment.
func (s *segment) createFiles() error {
	for _, h := range []*handle{&s.log, &s.index.h, &s.times.h} {
		f, err := h.acquire(true)
		if err != nil {
			return err
		}
		size, err := f.Size()
		if err == nil && size != 0 {
			// Left behind by a failed roll, or an index whose log is gone.
			err = f.Truncate(0)
		}
		h.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// rollParams are what shouldRoll decides upon.
type rollParams struct {
	maxBytes, bytes     int64
	maxAge              time.Duration
	maxIndexBytes       int64
	nowMs               int64
	maxTSInMessages     int64
	lastOffsetInMessage id.Offset
}

// shouldRoll reports whether an append belongs into a new segment.
func (s *segment) shouldRoll(p rollParams) (bool, error) {
	size := s.size.Load()
	if size > p.maxBytes-p.bytes || !fits(s.base, p.lastOffsetInMessage) {
		return true, nil
	}
	if size > 0 && p.maxAge != Forever {
		waited, err := s.waitedMs(p.nowMs, p.maxTSInMessages)
		if err != nil {
			return false, err
		}
		if waited > (p.maxAge - s.jitter).Milliseconds() {
			return true, nil
		}
	}
	entries, err := s.index.count()
	if err != nil {
		return false, err
	}
	timeEntries, err := s.times.count()
	if err != nil {
		return false, err
	}
	// The time index keeps a slot free for the entry that closes the segment.
	return int64(entries) >= p.maxIndexBytes/offsetEntryBytes || int64(timeEntries) >= p.maxIndexBytes/timeEntryBytes-1, nil
}

// waitedMs is the age that segment.ms is about: measured in record time when the first batch has a timestamp, else since creation.
func (s *segment) waitedMs(nowMs, messageTS int64) (int64, error) {
	if err := s.loadFirstTS(); err != nil {
		return 0, err
	}
	if s.firstTS >= 0 {
		return messageTS - s.firstTS, nil
	}
	return nowMs - s.createdMs, nil
}

func (s *segment) loadFirstTS() error {
	if s.firstTS != unknownTimestamp || s.size.Load() == 0 {
		return nil
	}
	f, err := s.log.acquire(false)
	if err != nil {
		return err
	}
	defer s.log.release()
	w := walker{f: f, buf: new([walkBytes]byte), limit: s.size.Load()}
	h, err := w.header(0)
	if err != nil {
		return err
	}
	s.firstTS = h.maxTS
	return nil
}

// loadMaxTS finds the largest timestamp: the last entry of the time index, which a closed segment always has.
func (s *segment) loadMaxTS() error {
	if s.maxTSKnown {
		return nil
	}
	ts, offset, err := s.times.last()
	if err != nil {
		return err
	}
	s.maxTS, s.maxTSOffset, s.maxTSKnown = ts, offset, true
	return nil
}

// largestTS is the largest timestamp, or the time of the last modification when no record has one.
func (s *segment) largestTS() (int64, error) {
	if err := s.loadMaxTS(); err != nil {
		return 0, err
	}
	if s.maxTS >= 0 {
		return s.maxTS, nil
	}
	return s.modifiedMs, nil
}

// note enters a batch that was written, or found, at its position.
func (s *segment) note(h header, interval int64) {
	s.covered.Store(int64(h.last) + 1)
	if h.maxTS > s.maxTS {
		s.maxTS, s.maxTSOffset = h.maxTS, h.last
	}
	if h.position == 0 {
		s.firstTS = h.maxTS
	}
	if s.sinceIndex > interval {
		s.index.add(h.last, h.position)
		s.times.add(s.maxTS, s.maxTSOffset) // an index that cannot be read is rebuilt when it is next opened
		s.sinceIndex = 0
	}
	s.sinceIndex += h.size
}

// write puts whole batches at the end of the file. On an error the file is as long as before: undone says whether that worked.
func (s *segment) write(b []byte) (undone bool, err error) {
	f, err := s.log.acquire(false)
	if err != nil {
		return true, err
	}
	defer s.log.release()
	size := s.size.Load()
	n, err := f.WriteAt(b, size)
	if err == nil {
		return true, nil
	}
	if n > 0 || !isFull(err) {
		if err := f.Truncate(size); err != nil {
			return false, err
		}
	}
	return true, err
}

// finish is called when no more is appended: the time index gets the largest timestamp, and the indexes their last entries.
func (s *segment) finish() error {
	if err := s.loadMaxTS(); err != nil {
		return err
	}
	if err := s.times.add(s.maxTS, s.maxTSOffset); err != nil {
		return err
	}
	if err := s.times.write(); err != nil {
		return err
	}
	if s.index.held {
		if err := s.times.sync(); err != nil {
			return err
		}
	}
	return s.index.write()
}

// writeIndexes brings index entries from memory to the files. Nothing is lost when that fails.
func (s *segment) writeIndexes() error {
	if err := s.index.write(); err != nil {
		return err
	}
	if err := s.times.write(); err != nil {
		return err
	}
	if n, err := s.txns.count(); err != nil || n == 0 {
		return err
	}
	return s.txns.write()
}

// sync makes the segment durable. Indexes are included for a finished segment only: the active one's are rebuilt after a crash.
// After an error nothing is known about what is on disk.
func (s *segment) sync(finished bool) error {
	f, err := s.log.acquire(false)
	if err != nil {
		return err
	}
	err = f.Sync()
	s.log.release()
	if err != nil || !finished {
		return err
	}
	for _, x := range []*entryFile{&s.index.entryFile, &s.times.entryFile, &s.txns.entryFile} {
		if err := x.sync(); err != nil {
			return err
		}
	}
	return nil
}

// find returns the header of the first batch in [0, limit) whose last offset is at or above offset; io.EOF if there is none.
// It is for readers.
func (s *segment) find(w *walker, offset id.Offset, limit int64) (header, error) {
	w.limit = limit
	start, err := s.index.lookup(offset)
	if err != nil || start < 0 || start >= limit {
		start = 0 // the log itself is the truth
	}
	h, err := w.seek(start, offset)
	if start > 0 && (err == nil && h.base > offset && h.position == start || err != nil && isBadBatch(err)) {
		// The index pointed beyond the offset or into the middle of a batch: do without it.
		return w.seek(0, offset)
	}
	return h, err
}

// seek walks from position to the first batch whose last offset is at or above offset.
func (w *walker) seek(position int64, offset id.Offset) (header, error) {
	for {
		h, err := w.header(position)
		if err != nil || h.last >= offset {
			return h, err
		}
		position += h.size
	}
}

func isBadBatch(err error) bool {
	var bad *errBadBatch
	return errors.As(err, &bad)
}

// nextOffset walks to the end of the segment and returns the offset after its last batch.
func (s *segment) nextOffset(bufs *buffers) (id.Offset, error) {
	size := s.size.Load()
	if size == 0 {
		return s.base, nil
	}
	f, err := s.log.acquire(false)
	if err != nil {
		return 0, err
	}
	defer s.log.release()
	buf := bufs.get()
	defer bufs.put(buf)
	start, err := s.index.lookupPosition(size)
	if err != nil || start < 0 || start >= size {
		start = 0
	}
	for {
		w := walker{f: f, buf: buf, limit: size}
		next, pos := s.base, start
		for pos < size {
			var h header
			if h, err = w.header(pos); err != nil {
				break
			}
			next, pos = h.last+1, pos+h.size
		}
		if err == nil || start == 0 {
			return next, err
		}
		start, err = 0, nil
	}
}

// maxTailCheck bounds what is read of a segment to check its end: a batch of the default size, and an index interval.
const maxTailCheck = 1<<20 + 8192

// checkTail checks the batches behind the last index entry, an *errBadBatch if one is damaged.
func (s *segment) checkTail(bufs *buffers) error {
	size := s.size.Load()
	start, err := s.index.lookupPosition(size)
	if err != nil || start < 0 || start >= size {
		start = 0
	}
	if size == 0 || size-start > maxTailCheck {
		return nil
	}
	f, err := s.log.acquire(false)
	if err != nil {
		return err
	}
	defer s.log.release()
	_, err = scanBatches(bufs, f, start, size, func(h header, b []byte) error { return checkBatch(b, h) })
	return err
}

// truncateTo removes the batches from the one that holds offset on, and returns where the log ends now: at offset, unless that
// was inside of a batch, which then is gone as a whole. Nothing is done when offset is beyond the segment's batches.
func (s *segment) truncateTo(offset id.Offset, bufs *buffers, nowMs int64) (id.Offset, error) {
	f, err := s.log.acquire(false)
	if err != nil {
		return 0, err
	}
	defer s.log.release()
	buf := bufs.get()
	defer bufs.put(buf)
	h, err := s.find(&walker{f: f, buf: buf}, offset, s.size.Load())
	if errors.Is(err, io.EOF) {
		return offset, nil
	}
	if err != nil {
		return 0, err
	}
	offset = min(offset, h.base)
	// Indexes first: entries beyond the end would point at what is written next.
	if err := s.index.truncateTo(offset); err != nil {
		return 0, err
	}
	if err := s.times.truncateTo(offset); err != nil {
		return 0, err
	}
	if err := s.txns.truncateTo(offset); err != nil {
		return 0, err
	}
	s.size.Store(h.position)
	if err := f.Truncate(h.position); err != nil {
		return 0, err
	}
	// What was cut off must not come back after a crash, behind what is appended next.
	if err := f.Sync(); err != nil {
		return 0, err
	}
	s.sinceIndex, s.synced = 0, false
	if h.position == 0 {
		s.createdMs, s.firstTS = nowMs, unknownTimestamp
	}
	return offset, s.rescanMaxTS(buf)
}

// rescanMaxTS recomputes the largest timestamp after a truncation: from the last time index entry on.
func (s *segment) rescanMaxTS(buf *[walkBytes]byte) error {
	ts, offset, err := s.times.last()
	if err != nil {
		return err
	}
	s.maxTS, s.maxTSOffset, s.maxTSKnown = ts, offset, true
	file, err := s.log.acquire(false)
	if err != nil {
		return err
	}
	defer s.log.release()
	w := walker{f: file, buf: buf, limit: s.size.Load()}
	h, err := s.find(&w, offset, w.limit)
	for ; err == nil; h, err = w.header(h.position + h.size) {
		if h.maxTS > s.maxTS {
			s.maxTS, s.maxTSOffset = h.maxTS, h.last
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// handles are all files of the segment.
func (s *segment) handles() [4]*handle {
	return [4]*handle{&s.log, &s.index.h, &s.times.h, &s.txns.h}
}

// markDeleted renames the files so that a restart removes them. The log file goes first: an index without a log is harmless.
func (s *segment) markDeleted() error {
	for _, h := range s.handles() {
		if err := h.addSuffix(suffixDeleted); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// remove deletes the files.
func (s *segment) remove() error {
	var errs []error
	for _, h := range s.handles() {
		errs = append(errs, h.remove())
	}
	return errors.Join(errs...)
}

// drop closes the files as soon as nobody uses them.
func (s *segment) drop() error {
	var errs []error
	for _, h := range s.handles() {
		errs = append(errs, h.drop())
	}
	return errors.Join(errs...)
}

func (s *segment) sweep() {
	for _, h := range s.handles() {
		h.sweep()
	}
}

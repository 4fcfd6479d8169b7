package log

import (
	"errors"
	"io"
	"io/fs"

	"github.com/moldau-io/moldau/internal/base/id"
)

// readAttempts bounds how often a read starts over because segments changed under it.
const readAttempts = 5

// Read returns whole batches from the one that contains the offset. It takes no lock of the log.
//
// Errors: *OffsetOutOfRangeError, *StorageError.
func (l *Log) Read(r ReadRequest) (ReadResult, error) {
	var err error
	for range readAttempts {
		if err := l.Err(); err != nil {
			return ReadResult{}, err
		}
		var res ReadResult
		res, err = l.readOnce(r)
		if err == nil {
			return res, nil
		}
		var outOfRange *OffsetOutOfRangeError
		if errors.As(err, &outOfRange) {
			return res, err
		}
		// A segment was deleted or truncated between the moment its name was loaded and the moment it was read: what is
		// loaded next shows it. An error that stays is the disk's.
	}
	if err := l.Err(); err != nil {
		return ReadResult{}, err
	}
	if isBadBatch(err) || errors.Is(err, fs.ErrClosed) || errors.Is(err, errVanished) {
		return ReadResult{}, l.storageError("read from", err)
	}
	return ReadResult{}, l.fault("read from", err)
}

// errVanished reports that a range that was there is not there any more.
var errVanished = errors.New("segment changed during the read")

func (l *Log) readOnce(r ReadRequest) (ReadResult, error) {
	start := l.StartOffset()
	res := ReadResult{FetchOffset: r.Offset, LogStartOffset: start, HighWatermark: l.HighWatermark(), LastStableOffset: l.LastStableOffset()}
	res.LogEndOffset = l.EndOffset()
	if r.Offset < start || r.Offset > res.LogEndOffset {
		return res, &OffsetOutOfRangeError{TopicPartition: l.tp, Offset: r.Offset, Start: start, End: res.LogEndOffset}
	}
	if r.LastFetchedEpoch >= 0 {
		// KIP-595: the reader's last batch must be of the epoch that this log has at that offset.
		e := l.EndOffsetForEpoch(r.LastFetchedEpoch)
		if e.EndOffset < 0 {
			return res, &OffsetOutOfRangeError{TopicPartition: l.tp, Offset: r.Offset, Start: start, End: res.LogEndOffset}
		}
		if e.Epoch < r.LastFetchedEpoch || e.EndOffset < r.Offset {
			res.Diverging = &e
			return res, nil
		}
	}
	bound := res.LogEndOffset
	switch r.Isolation {
	case ReadHighWatermark:
		bound = res.HighWatermark
	case ReadCommitted:
		bound = res.LastStableOffset
	}
	if r.Offset >= bound {
		return res, nil
	}
	segs := *l.segments.Load()
	for i := floor(segs, r.Offset); i >= 0 && i < len(segs); i++ {
		sec, last, err := l.readSegment(segs, i, r, bound)
		if errors.Is(err, io.EOF) {
			continue // everything from the offset on was compacted out of this segment
		}
		if err != nil {
			return res, err
		}
		res.Section = sec
		if r.Isolation == ReadCommitted && sec != nil {
			res.AbortedTxns, err = collectAborted(segs[i:], r.Offset, last)
			if err != nil {
				sec.Release()
				return res, err
			}
		}
		return res, nil
	}
	return res, nil
}

// readSegment finds the range in one segment. last is an offset (exclusive) that is not below the end of the range. io.EOF says
// that the segment has no batch at or above the offset.
func (l *Log) readSegment(segs []*segment, i int, r ReadRequest, bound id.Offset) (sec *FileSection, last id.Offset, err error) {
	seg := segs[i]
	// The size is loaded before the end: every byte below it belongs to an offset below an end that is loaded later. The log end
	// alone would not do, for an append stores it after the size.
	size := seg.size.Load()
	end := max(l.EndOffset(), id.Offset(seg.covered.Load()))
	if size == 0 {
		return nil, 0, io.EOF
	}
	f, err := seg.log.acquire(false)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if sec == nil {
			seg.log.release() // otherwise the section does
		}
	}()
	buf := l.o.bufs.get()
	defer l.o.bufs.put(buf)
	w := walker{f: f, buf: buf}

	first, err := seg.find(&w, r.Offset, size)
	if err != nil {
		return nil, 0, err
	}
	if first.base >= bound {
		return nil, 0, nil // a hole reaches up to the bound
	}
	limit, last := size, end
	if i+1 < len(segs) {
		last = segs[i+1].base
	}
	if bound < last {
		// The bound lies in this segment. Batches are never cut: what begins below the bound ends below it.
		h, err := seg.find(&w, bound, size)
		switch {
		case err == nil:
			limit = h.position // also when the bound is inside of this batch: half a batch is not served
		case !errors.Is(err, io.EOF):
			return nil, 0, err
		}
		last = bound
	}
	n, err := l.cut(seg, &w, first, limit, r)
	if err != nil || n == 0 {
		return nil, 0, err
	}
	if limit < first.position+n {
		return nil, 0, errVanished
	}
	return &FileSection{h: &seg.log, file: f, pos: first.position, size: int(n)}, last, nil
}

// cut returns how many bytes from the first batch on fit: whole batches within MaxBytes and below limit.
func (l *Log) cut(seg *segment, w *walker, first header, limit int64, r ReadRequest) (int64, error) {
	if limit <= first.position {
		return 0, nil
	}
	maxBytes := int64(max(r.MaxBytes, 0))
	if limit-first.position <= maxBytes {
		return limit - first.position, nil
	}
	if first.size >= maxBytes {
		if first.size == maxBytes || r.MinOneMessage {
			return first.size, nil
		}
		return 0, nil
	}
	stop := first.position + maxBytes
	pos := first.position + first.size
	if p, err := seg.index.lookupPosition(stop); err == nil && p > pos && p < limit {
		if n, err := l.walkTo(w, p, stop, limit); err == nil {
			return n - first.position, nil
		}
		// A bad index: walk all the way instead.
	}
	n, err := l.walkTo(w, pos, stop, limit)
	return n - first.position, err
}

// walkTo walks batches from position and returns the last boundary at or below stop.
func (l *Log) walkTo(w *walker, position, stop, limit int64) (int64, error) {
	w.limit = limit
	for position < stop {
		h, err := w.header(position)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		if position+h.size > stop {
			break
		}
		position += h.size
	}
	return position, nil
}

// collectAborted gathers the aborted transactions that overlap [from, bound): from this segment and those behind it, until one
// says that no later one can matter.
func collectAborted(segs []*segment, from, bound id.Offset) ([]AbortedTxn, error) {
	var out []AbortedTxn
	for _, s := range segs {
		var done bool
		var err error
		if out, done, err = s.txns.collect(out, from, bound); err != nil || done {
			return out, err
		}
	}
	return out, nil
}

package log

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"

	"github.com/moldau-io/moldau/internal/base/checkpoint"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

// load brings the log into being from what is in its directory.
func (l *Log) load(o LogOptions, created bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var dir found
	var err error
	if !created {
		if dir, err = l.list(); err != nil {
			return l.storageError("list", err)
		}
	}
	l.start.Store(int64(max(o.LogStartOffset, 0)))
	l.known = max(o.RecoveryPoint, o.CleanUpTo)
	if o.RecoveryPoint < 0 && o.Config.CleanupCompact {
		l.known = math.MaxInt64
	}
	segs := l.foundSegments(dir)
	below := 0
	for below+1 < len(segs) && segs[below+1].base <= o.LogStartOffset {
		below++
	}
	l.setSegments(segs[below:])
	l.producers.snapshots = dir.snapshots
	// What lies below the log start was to be deleted. If a crash undid a part of that there are holes in it, which must not be
	// taken for holes in the log. It must not come back either: the checkpoints forget a log start that is a segment's beginning.
	if below > 0 {
		if err := l.discardNow(segs[:below]); err != nil {
			return l.storageError("delete segments of", err)
		}
	}
	segs = segs[below:]
	if !created {
		// A recovery of everything finds all epochs on its way.
		scanned := !o.CleanShutdown && len(segs) > 0 && o.RecoveryPoint <= segs[0].base
		if err := l.loadEpochs(dir.epochs, len(segs) > 0 && !scanned); err != nil {
			return err
		}
	}
	if err := l.repairIndexes(dir, o.CleanShutdown); err != nil {
		return l.storageError("rebuild indexes of", err)
	}
	if !o.CleanShutdown {
		if err := l.recover(o.RecoveryPoint); err != nil {
			return l.storageError("recover", err)
		}
	}
	end, err := l.findEnd(max(o.LogStartOffset, 0), o.CleanShutdown)
	if err != nil {
		return l.storageError("find the end of", err)
	}
	segs = *l.segments.Load()
	start := min(max(o.LogStartOffset, segs[0].base), end)
	l.start.Store(int64(start))
	l.end.Store(int64(end))
	if err := l.completeEpochs(start, end); err != nil {
		return l.storageError("rebuild leader epochs of", err)
	}
	// The file is written later: what is missing in it is found in the batches again, should there be no flush before the next
	// start, and what is stale is removed again.
	if l.epochs.truncateStart(max(o.LogStartOffset, 0)) {
		l.epochsDirty = true
	}
	if before := l.epochs.snapshot(); l.epochs.truncateEnd(end) {
		l.epochsDirty, l.staleEpochs = true, before[l.epochs.len():]
	}
	n := len(l.producers.snapshots)
	fresh := created || o.CleanShutdown && (n == 0 || l.producers.snapshots[n-1] <= end) // one beyond the end had something to say
	if err := l.keepSegmentSnapshots(end); err != nil {
		return l.storageError("remove producer snapshots of", err)
	}
	if recovered := l.producersLoaded && l.producers.end == end; recovered && !o.CleanShutdown {
		l.producers.startAt(start)
	} else if err := l.rebuildProducers(end, fresh); err != nil {
		return l.storageError("rebuild producer state of", err)
	}
	// A clean shutdown synced everything. Otherwise only what the checkpoint says was synced.
	l.durable.Store(int64(end))
	if !o.CleanShutdown {
		l.durable.Store(int64(min(max(o.RecoveryPoint, start), end)))
		if o.RecoveryPoint > end {
			l.dir.durableChanged.Store(true) // the checkpoint must not speak for what comes next
		}
	}
	for i, s := range segs[:len(segs)-1] {
		s.synced = o.CleanShutdown || i < firstUnsynced(segs, o.RecoveryPoint)
	}
	l.lastFlushMs = l.nowMs()
	l.hw.Store(int64(min(max(o.HighWatermark, start), end)))
	l.producers.highWatermarkAt(l.HighWatermark())
	l.publishUnstable()
	return nil
}

// loadEpochs reads the epoch file. A malformed one is rebuilt from the batches; so is a missing one, if it is said to be missed.
func (l *Log) loadEpochs(exists, missed bool) error {
	path := l.at.path(fileEpochs)
	if !exists && !missed {
		return nil
	}
	if exists {
		entries, err := checkpoint.ReadEpochs(l.at.fs, path)
		var bad *checkpoint.FormatError
		switch {
		case err == nil:
			l.epochs.load(entries)
			return nil
		case !errors.As(err, &bad):
			return l.storageError("read leader epochs of", err)
		}
		l.o.Logger.Warn("leader epoch checkpoint is malformed and is rebuilt from the log", "path", path, "err", err)
	}
	if err := l.rebuildEpochs(); err != nil {
		return l.storageError("rebuild leader epochs of", err)
	}
	return nil
}

// rebuildEpochs reads the epochs from the batches.
func (l *Log) rebuildEpochs() error {
	l.epochs.clear()
	for _, s := range *l.segments.Load() {
		if err := l.scanHeaders(s, func(h header) bool { l.epochs.raise(h.epoch, h.base); return true }); err != nil {
			return err
		}
	}
	if l.epochs.latest() >= 0 {
		l.epochsDirty = true
		l.wants() // Apache Kafka would not know them from the batches below the recovery point
	}
	return nil
}

// completeEpochs rebuilds the epochs if they do not know the log's first batch. The log start moves up in the epoch file at once
// and in its own checkpoint later; a crash in between lets the log begin below its first epoch.
func (l *Log) completeEpochs(start, end id.Offset) error {
	if start >= end || l.epochs.at(start) >= 0 {
		return nil
	}
	segs := *l.segments.Load()
	epoch := id.NoLeaderEpoch
	err := l.scanHeaders(segs[max(0, floor(segs, start))], func(h header) bool { epoch = h.epoch; return h.last < start })
	if err != nil || epoch < 0 {
		return err // no epochs in the log: of an old format
	}
	return l.rebuildEpochs()
}

// raise notes an epoch that a batch in the log has, if it is a later one.
func (c *epochCache) raise(epoch id.LeaderEpoch, base id.Offset) bool {
	return epoch > c.latest() && c.assign(epoch, base)
}

// scanHeaders visits the headers of a segment until visit returns false or something is no batch.
func (l *Log) scanHeaders(s *segment, visit func(h header) bool) error {
	size := s.size.Load()
	if size == 0 {
		return nil
	}
	f, err := s.log.acquire(false)
	if err != nil {
		return err
	}
	defer s.log.release()
	buf := l.o.bufs.get()
	defer l.o.bufs.put(buf)
	w := walker{f: f, buf: buf, limit: size}
	for pos := int64(0); pos < size; {
		h, err := w.header(pos)
		if isBadBatch(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if !visit(h) {
			return nil
		}
		if err := l.abandoned(); err != nil {
			return err
		}
		pos += h.size
	}
	return nil
}

// repairIndexes rebuilds the indexes of segments of which one is missing or cannot be right. The active segment's are looked into,
// and every transaction index; of the others only the sizes are, and a lookup that leads nowhere falls back to the log.
func (l *Log) repairIndexes(d found, clean bool) error {
	segs, left := *l.segments.Load(), maxTxnChecks
	for i := 0; i < len(segs); i++ {
		s := segs[i]
		if !clean && i == len(segs)-1 {
			break // is recovered in any case
		}
		fsg := d.segments[s.base]
		reason := ""
		switch {
		case fsg.indexBytes < 0:
			reason = "offset index is missing"
		case fsg.timeBytes < 0:
			reason = "time index is missing"
		case fsg.indexBytes%offsetEntryBytes != 0, fsg.timeBytes%timeEntryBytes != 0, fsg.txnBytes > 0 && fsg.txnBytes%abortedTxnBytes != 0:
			reason = "index has an odd size"
		default:
			var errs []error
			if fsg.txnBytes > 0 { // few segments have one, and a reader of committed records has nothing else to go by
				errs = append(errs, l.checkTxns(s, segmentEnd(segs, i), &left))
			}
			if i == len(segs)-1 {
				errs = append(errs, s.index.check(s.size.Load()), s.times.check())
			}
			for _, err := range errs {
				if corrupt := (*errCorruptIndex)(nil); errors.As(err, &corrupt) {
					reason = corrupt.reason
				} else if err != nil {
					return err
				}
			}
		}
		if reason == "" {
			continue
		}
		l.o.Logger.Warn("rebuilding indexes of a segment", "partition", l.tp.String(), "segment", int64(s.base), "reason", reason)
		err := l.rebuildIndexes(s, i == len(segs)-1)
		if over := (*errOffsetOverflow)(nil); errors.As(err, &over) {
			var pieces []*segment
			if pieces, err = l.splitFound(s); err == nil {
				segs = *l.segments.Load()
				i += len(pieces) - 1 // they have their indexes
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rebuildIndexes scans a segment and writes its indexes anew. With cut, the file ends at the first bad batch
// afterwards; otherwise it stays as it is: it was synced once, and what became bad since is an error to whoever reads it.
//
// Of a finished segment the offset index is away until the others are whole and durable, and until it is itself, so that a start after
// a crash in between does it again: an index that lacks its end, or its content, looks like a good one. Its name until then is one
// that every start removes.
func (l *Log) rebuildIndexes(s *segment, cut bool) error {
	nothing := func(header, []byte) error { return nil }
	if s == l.active() {
		if err := l.rebuildTxns(s, cut); err != nil {
			return err
		}
		return l.scanSegment(s, cut, nothing)
	}
	if err := l.at.fs.Remove(s.index.h.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := l.at.fs.SyncDir(l.Path()); err != nil {
		return err
	}
	s.index.found(-1)
	if err := l.rebuildTxns(s, cut); err != nil {
		return err
	}
	s.index.held = true
	err := s.index.h.setSuffix(suffixCleaned)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = l.scanSegment(s, cut, nothing)
	}
	s.index.held = false
	if err == nil {
		err = s.index.sync()
	}
	if err != nil {
		return err
	}
	if err = s.index.h.setSuffix(""); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// scanSegment checks every batch of a segment, rebuilds its indexes and visits the good ones.
func (l *Log) scanSegment(s *segment, cut bool, visit func(h header, b []byte) error) error {
	if err := errors.Join(s.index.truncate(0), s.times.truncate(0)); err != nil {
		return err
	}
	s.maxTS, s.maxTSOffset, s.maxTSKnown, s.sinceIndex, s.firstTS = -1, s.base, true, 0, unknownTimestamp
	f, err := s.log.acquire(true)
	if err != nil {
		return err
	}
	defer s.log.release()
	size := s.size.Load()
	interval := int64(l.cfg.Load().IndexIntervalBytes)
	last := s.base - 1
	good, err := scanBatches(l.o.bufs, f, 0, size, func(h header, b []byte) error {
		if err := l.abandoned(); err != nil {
			return err
		}
		over := !fits(s.base, h.last)
		if h.base <= last && h.magic == record.Magic || h.base < s.base || over && !l.mayOverflow(s, h.last) {
			return &errBadBatch{h.position, fmt.Sprintf("offsets %d to %d after %d in a segment from %d", h.base, h.last, last, s.base)}
		}
		if err := checkBatch(b, h); err != nil {
			return err
		}
		if over {
			return &errOffsetOverflow{s, h.last}
		}
		if err := visit(h, b); err != nil {
			return err
		}
		last = h.last
		s.note(h, interval)
		return nil
	})
	if err != nil && !isBadBatch(err) {
		return err
	}
	if err != nil {
		l.o.Logger.Warn("bad batch in a segment", "path", s.log.path(), "partition", l.tp.String(), "position", good, "bytes", size, "cut", cut, "err", err)
	}
	if cut && good < size {
		// The segments behind go first: should the process end in between, nobody could tell that there is a hole before them.
		if i := slices.Index(*l.segments.Load(), s); i >= 0 {
			if err := l.dropFrom(i + 1); err != nil {
				return err
			}
		}
		if err := f.Truncate(good); err != nil {
			return err
		}
		// Valid batches may lie behind the bad one. They must not come back behind what is appended here next.
		if err := f.Sync(); err != nil {
			return err
		}
		s.size.Store(good)
	}
	if s == l.active() {
		// It will be appended to. Its index entries stay in memory as those of an append do: most partitions that a kill leaves
		// behind are small, and need no file made now.
		return s.times.add(s.maxTS, s.maxTSOffset)
	}
	return s.finish()
}

// recover scans the segments that may not be durable: from the one that holds the recovery point on. The first bad batch, or a
// hole between segments, ends the log.
func (l *Log) recover(point id.Offset) error {
	segs := *l.segments.Load()
	first := firstUnsynced(segs, max(point, 0))
	for i := first; i < len(segs); {
		if i > first && l.isHole(segs[i-1], segs[i], point) {
			return l.dropFrom(i)
		}
		n, err := l.recoverAt(i)
		if err != nil {
			return err
		}
		i += n
		if l.cutShort {
			l.cutShort = false
			return l.dropFrom(i)
		}
		segs = *l.segments.Load()
	}
	return nil
}

// firstUnsynced is the first segment that may not be durable: the one that holds the last offset below the recovery point. When
// the point is a segment's base, that is the segment before it: its bytes are durable, but it was the active one when they were
// synced, and its indexes may not have been since.
func firstUnsynced(segs []*segment, point id.Offset) int { return max(0, floor(segs, max(point-1, 0))) }

// isHole reports whether a segment cannot follow the recovered one before it. Offsets are gapless but for what compaction took
// out, whatever the policy is now: below the recovery point, or below where the cleaner was; when neither is known, anywhere in a
// compacted log. (A follower that rolls at a gap of its leader moves the recovery point at once.) Elsewhere a gap means lost
// bytes, unless it is larger than anything that could be lost. (An empty segment below the end of its predecessor is
// left over from a roll that was taken back.)
func (l *Log) isHole(before, s *segment, point id.Offset) bool {
	end := l.producers.end
	if s.base == end || s.base-end > lostAtMost || s.base > end && (s.base <= max(point, id.Offset(l.clean.Load())) || point < 0 && l.cfg.Load().CleanupCompact) {
		return false
	}
	l.o.Logger.Warn("segment does not continue the log", "partition", l.tp.String(), "segment", int64(s.base), "bytes", s.size.Load(),
		"expected", int64(end), "after", int64(before.base))
	return true
}

// dropFrom removes the segments from index i on.
func (l *Log) dropFrom(i int) error {
	segs := *l.segments.Load()
	if i >= len(segs) {
		return nil
	}
	l.o.Logger.Warn("removing segments behind the end of the log", "partition", l.tp.String(), "segments", len(segs)-i, "first", int64(segs[i].base))
	l.setSegments(slices.Clone(segs[:i]))
	return l.discardNow(segs[i:])
}

// recoverSegment rebuilds indexes, epochs and producer state from a segment and cuts it at the first bad batch.
func (l *Log) recoverSegment(s *segment) error {
	if l.producers.end != s.base || !l.producersLoaded {
		if err := l.loadProducersTo(s.base); err != nil {
			return err
		}
	}
	if n, err := s.txns.count(); err != nil {
		return err
	} else if n > 0 {
		if err := s.txns.truncate(0); err != nil {
			return err
		}
	}
	size := s.size.Load()
	err := l.scanSegment(s, true, func(h header, b []byte) error {
		if l.epochs.raise(h.epoch, h.base) {
			l.epochsDirty = true
		}
		return l.replay(s, h, b)
	})
	if err != nil {
		return err
	}
	l.cutShort = s.size.Load() < size
	if s.size.Load() == 0 {
		l.producers.end = max(l.producers.end, s.base)
	}
	if s == l.active() {
		return nil // the next start after a kill could not begin with what would be written here
	}
	if err := l.producers.take(l.at, false); err != nil {
		return err
	}
	return s.writeIndexes()
}

// findEnd returns the log end, after making sure that there is an active segment at it.
//
// What says that the log was closed cleanly may be wrong, of a copy for one: the end of the last segment is checked all the same.
func (l *Log) findEnd(start id.Offset, clean bool) (id.Offset, error) {
	for {
		segs := *l.segments.Load()
		if len(segs) == 0 {
			s := emptySegment(l.at, start, l.nowMs(), l.jitter())
			if l.born {
				if err := s.createFiles(); err != nil {
					return 0, err
				}
				if start > 0 { // only the file's name tells where the log begins
					if err := l.at.fs.SyncDir(l.Path()); err != nil {
						return 0, err
					}
				}
			}
			l.setSegments([]*segment{s})
			return start, nil
		}
		last := segs[len(segs)-1]
		end, err := last.nextOffset(l.o.bufs)
		if err == nil && clean {
			err = last.checkTail(l.o.bufs)
		}
		if isBadBatch(err) {
			l.o.Logger.Warn("the log does not end with a whole batch", "partition", l.tp.String(), "err", err)
			if _, err = l.recoverAt(len(segs) - 1); err == nil {
				segs = *l.segments.Load()
				last = segs[len(segs)-1]
				end, err = last.nextOffset(l.o.bufs)
			}
			l.cutShort = false
		}
		if err != nil {
			return 0, err
		}
		if last.size.Load() == 0 && len(segs) > 1 {
			// Left over from a roll that was taken back?
			before, err := segs[len(segs)-2].nextOffset(l.o.bufs)
			if err == nil && before > last.base {
				if err := l.dropFrom(len(segs) - 1); err != nil {
					return 0, err
				}
				continue
			}
		}
		if end >= start {
			return end, nil
		}
		l.o.Logger.Warn("the log ends below its start and is emptied", "partition", l.tp.String(), "log_end_offset", int64(end), "log_start_offset", int64(start))
		l.epochs.clear()
		l.epochsDirty = true
		if err := l.dropFrom(0); err != nil {
			return 0, err
		}
	}
}

package log

import (
	"errors"
	"io/fs"
	"slices"
	"time"
)

// DeleteOldSegments removes the oldest segments that retention allows to go, and returns how many. Nothing at or above the
// high watermark goes.
func (l *Log) DeleteOldSegments(now time.Time) (int, error) {
	l.swap.Lock()
	defer l.swap.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Err(); err != nil {
		return 0, err
	}
	c := l.cfg.Load()
	segs := *l.segments.Load()
	n, err := l.deletable(segs, func(i int) (bool, error) {
		return i+1 < len(segs) && segs[i+1].base <= l.StartOffset(), nil
	})
	total := 0
	if err == nil {
		total, err = l.deleteFirst(n, "log start offset")
	}
	if err != nil || !c.CleanupDelete {
		return total, err
	}
	if n, err = l.deleteBySize(c.RetentionBytes); err != nil {
		return total, err
	}
	total += n
	n, err = l.deleteByTime(now, c.RetentionTime)
	return total + n, err
}

// retain deletes old segments, unless the cleaner is at the log: what it makes of them would be for nothing. It looks again when
// it has nothing to clean.
func (l *Log) retain(now time.Time) error {
	if !l.cleaning.TryLock() {
		return nil
	}
	defer l.cleaning.Unlock()
	_, err := l.DeleteOldSegments(now)
	return err
}

// RetentionSizePercent is how much of retention.bytes the log takes, 0 when there is no bound.
func (l *Log) RetentionSizePercent() int {
	limit := l.cfg.Load().RetentionBytes
	if limit <= 0 {
		return 0
	}
	return int(float64(l.SizeBytes()) * 100 / float64(limit))
}

func (l *Log) deleteBySize(limit int64) (int, error) {
	excess := l.SizeBytes() - limit
	if limit < 0 || excess < 0 {
		return 0, nil
	}
	segs := *l.segments.Load()
	n, err := l.deletable(segs, func(i int) (bool, error) {
		size := segs[i].size.Load()
		if excess-size < 0 {
			return false, nil
		}
		excess -= size
		return true, nil
	})
	if err != nil {
		return 0, err
	}
	return l.deleteFirst(n, "retention size")
}

func (l *Log) deleteByTime(now time.Time, keep time.Duration) (int, error) {
	if keep < 0 || keep == Forever {
		return 0, nil
	}
	segs := *l.segments.Load()
	n, err := l.deletable(segs, func(i int) (bool, error) {
		ts, err := segs[i].largestTS()
		return now.UnixMilli()-ts > keep.Milliseconds(), err
	})
	if err != nil {
		return 0, err
	}
	return l.deleteFirst(n, "retention time")
}

// deletable counts the segments from the oldest on that may go. The active segment may go too, unless it is empty.
func (l *Log) deletable(segs []*segment, want func(i int) (bool, error)) (int, error) {
	n := 0
	for i, s := range segs {
		upper := l.EndOffset()
		if i+1 < len(segs) {
			upper = segs[i+1].base
		} else if s.size.Load() == 0 {
			break
		}
		if l.HighWatermark() < upper {
			break
		}
		ok, err := want(i)
		if err != nil {
			return 0, l.fault("check retention of", err)
		}
		if !ok {
			break
		}
		n = i + 1
	}
	return n, nil
}

// deleteFirst needs mu.
func (l *Log) deleteFirst(n int, reason string) (int, error) {
	if n == 0 {
		return 0, nil
	}
	if n == len(*l.segments.Load()) {
		// There must always be a segment; its base offset keeps the log end.
		if _, err := l.roll(l.EndOffset()); err != nil && !IsFull(err) {
			return 0, err
		}
	}
	segs := *l.segments.Load()
	if n >= len(segs) {
		n = len(segs) - 1
	}
	if n == 0 {
		return 0, nil // a full disk, and one segment
	}
	at := n // segments deleted at a time
	// The start offset moves before the segments disappear, so that a reader never finds a hole. Readers who have the old
	// list read the renamed files.
	l.raiseStart(segs[n].base)
	if n > 1 {
		// A crash may undo the renaming of some segments and not of others. Whatever comes back lies below the log start then.
		switch err := l.dir.startsRaised(); {
		case isFull(err):
			at = 1 // deletion is what makes room for the checkpoint; one after the other they leave no hole
		case err != nil:
			return 0, err
		}
	}
	l.o.Logger.Info("deleting segments", "partition", l.tp.String(), "segments", n, "reason", reason,
		"first", int64(segs[0].base), "log_start_offset", int64(segs[n].base))
	for i := 0; i < n; i += at {
		l.setSegments(slices.Clone(segs[i+at:]))
		err := l.discard(segs[i : i+at])
		if err == nil && n > 1 {
			err = l.at.fs.SyncDir(l.Path()) // before the checkpoint forgets the log start, which is the first segment's base now
		}
		if err != nil {
			return 0, l.fault("delete segments of", err)
		}
	}
	return n, nil
}

// Tick does the log's background work that is due at now: flushing what was rolled, writing an epoch file that is behind,
// removing files. It returns when there will be more to do, zero if nothing waits.
func (l *Log) Tick(now time.Time) (next time.Time, err error) {
	if l.Err() != nil {
		return time.Time{}, nil
	}
	// What a full disk refuses is tried again; files are removed all the same, as that is what makes room.
	full := l.flushRolled()
	if full != nil && !IsFull(full) {
		return time.Time{}, full
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Err() != nil {
		return time.Time{}, nil
	}
	if l.gapped {
		err := l.dir.lowered()
		if err != nil && !isFull(err) {
			return time.Time{}, err
		}
		l.gapped = err != nil
		full = errors.Join(full, err)
	}
	if l.epochsDirty && !l.fresh {
		err := l.writeEpochs()
		if err != nil && !IsFull(err) {
			return time.Time{}, err
		}
		full = errors.Join(full, err)
	}
	kept := l.doomed[:0]
	for _, d := range l.doomed {
		if d.at.After(now) {
			kept = append(kept, d)
			if next.IsZero() || d.at.Before(next) {
				next = d.at
			}
			continue
		}
		if err := l.removeDoomed(d); err != nil {
			return time.Time{}, l.fault("remove files of", err)
		}
	}
	clear(l.doomed[len(kept):])
	l.doomed = kept
	if len(kept) == 0 {
		l.doomed = nil
	}
	return next, full
}

func (l *Log) removeDoomed(d doomedFiles) error {
	if d.snapshot != "" {
		if err := l.at.fs.Remove(l.at.path(d.snapshot)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.segment.remove()
}

// flushRolled makes finished segments durable, so that a restart does not scan them.
func (l *Log) flushRolled() error {
	segs := *l.segments.Load()
	l.mu.Lock()
	due := len(segs) > 1 && !segs[len(segs)-2].synced
	l.mu.Unlock()
	if !due {
		return nil
	}
	return l.flushFinished()
}

// flushDue reports whether flush.ms has passed since there is something to flush.
func (l *Log) flushDue(now time.Time) bool {
	interval := l.cfg.Load().FlushInterval
	if interval == Forever || l.durable.Load() >= l.end.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.UnixMilli()-l.lastFlushMs >= interval.Milliseconds()
}

// expireProducers forgets idle producers.
func (l *Log) expireProducers(now time.Time, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.producers.expire(now.UnixMilli(), after)
}

// sweep closes files that were not used since the last sweep, and gives back what an idle log does not need.
func (l *Log) sweep() {
	for _, s := range *l.segments.Load() {
		s.sweep()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.producers.scratch, l.producers.closed, l.aborted = nil, nil, nil
}

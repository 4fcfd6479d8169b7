package log

import (
	"fmt"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// DeleteRecords raises the log start offset to before, at most the high watermark, and returns the log start offset now in
// force. Whole segments below it are removed by the next retention check; its checkpoint is written in the background.
func (l *Log) DeleteRecords(before id.Offset) (id.Offset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Err(); err != nil {
		return 0, err
	}
	if hw := l.HighWatermark(); before > hw || before < 0 {
		return 0, &OffsetOutOfRangeError{TopicPartition: l.tp, Offset: before, Start: l.StartOffset(), End: hw}
	}
	l.raiseStart(before)
	return l.StartOffset(), nil
}

// RaiseStart lets the log begin at start if that is higher than now, and moves the high watermark along if need be: a follower
// is told where its leader's log begins. start must not be above the log end.
func (l *Log) RaiseStart(start id.Offset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	if end := l.EndOffset(); start > end {
		return &OffsetOutOfRangeError{TopicPartition: l.tp, Offset: start, Start: l.StartOffset(), End: end}
	}
	l.raiseStart(start)
	return nil
}

// raiseStart needs mu.
func (l *Log) raiseStart(start id.Offset) {
	if start <= l.StartOffset() {
		return
	}
	l.start.Store(int64(start))
	if l.epochs.truncateStart(start) {
		l.epochsDirty = true
		l.wants()
	}
	l.producers.startAt(start)
	if l.HighWatermark() < start {
		l.setHighWatermark(start)
	}
	l.publishUnstable()
	// The durable end stays: until the checkpoint of the starts is written a power loss brings back what lies below the new start,
	// and a recovery point above it would let that pass unchecked.
	l.dir.startsChanged.Store(true)
}

// TruncateTo removes everything from the batch that holds offset on. The high watermark comes down with the log end.
func (l *Log) TruncateTo(offset id.Offset) error {
	l.swap.Lock()
	defer l.swap.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	if offset < 0 {
		return fmt.Errorf("truncate %v to %d: negative offset", l.tp, offset)
	}
	if offset >= l.EndOffset() {
		// An epoch may begin at the log end without a batch; the leader it came from may not be the one now followed.
		if l.epochs.truncateEnd(l.EndOffset()) {
			l.epochsDirty = true
			l.wants()
		}
		return nil
	}
	if hw := l.HighWatermark(); offset < hw {
		l.o.Logger.Warn("truncating below the high watermark", "partition", l.tp.String(), "offset", int64(offset), "high_watermark", int64(hw))
	}
	segs := *l.segments.Load()
	if segs[0].base > offset {
		return l.restartAt(offset)
	}
	return l.truncate(offset)
}

// truncate needs mu and an offset in the log.
//
// The durable end and the high watermark come down first: should the process end half way, nothing claims what is gone.
func (l *Log) truncate(offset id.Offset) error {
	l.truncations++
	l.lowerClean(offset)
	segs := *l.segments.Load()
	keep := floor(segs, offset) + 1
	if int64(offset) < l.durable.Load() {
		l.durable.Store(int64(offset))
		if err := l.dir.lowered(); err != nil {
			return err
		}
	}
	gone := segs[keep:]
	if len(gone) > 0 {
		l.setSegments(slices.Clone(segs[:keep]))
		// Durable at once: segments that came back after a crash would continue the log behind what is appended next.
		if err := l.discardNow(gone); err != nil {
			return l.dir.fail("truncate", l.tp.String(), err)
		}
	}
	last := segs[keep-1]
	end, err := last.truncateTo(offset, l.o.bufs, l.nowMs())
	if err != nil {
		// The file may be shorter than its indexes say, or longer than the log: only a recovery tells.
		return l.dir.fail("truncate", l.tp.String(), err)
	}
	last.synced = false
	l.end.Store(int64(end))
	var lowered error
	if int64(end) < l.durable.Load() {
		// The offset was inside of a batch, which is gone as a whole. What is appended in its place is not durable.
		l.durable.Store(int64(end))
		lowered = l.dir.lowered()
	}
	l.epochs.truncateEnd(end)
	l.start.Store(min(l.start.Load(), int64(end)))
	if err := l.writeEpochs(); err != nil {
		return err
	}
	if err := l.rebuildProducers(end, false); err != nil {
		return l.fault("rebuild producer state of", err)
	}
	if l.HighWatermark() >= end {
		l.setHighWatermark(end)
	} else {
		l.producers.highWatermarkAt(l.HighWatermark()) // of transactions that ended long ago the state has just been told
		l.publishUnstable()
	}
	return lowered
}

// TruncateFullyAndStartAt empties the log and lets it begin at offset.
func (l *Log) TruncateFullyAndStartAt(offset id.Offset) error {
	l.swap.Lock()
	defer l.swap.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	return l.restartAt(offset)
}

// restartAt needs mu.
func (l *Log) restartAt(offset id.Offset) error {
	if err := l.ensure(); err != nil {
		return err
	}
	l.truncations++
	l.lowerClean(offset)
	// A power loss may keep some of the renames below and not others. The hole that leaves is seen only above the recovery point.
	if first := int64((*l.segments.Load())[0].base); min(first, int64(offset)) < l.durable.Load() {
		l.durable.Store(min(first, int64(offset)))
		if err := l.dir.lowered(); err != nil {
			return err
		}
	}
	old := *l.segments.Load()
	// The old files are renamed first: one of them may have the new segment's name.
	if err := l.discardNow(old); err != nil {
		return l.dir.fail("empty", l.tp.String(), err)
	}
	seg, err := createSegment(l.at, offset, l.nowMs(), l.jitter())
	if err != nil {
		return l.dir.fail("empty", l.tp.String(), err) // the log has no segment now
	}
	// Only the file's name tells where the log begins.
	sync := func() error { return l.at.fs.SyncDir(l.Path()) }
	if !l.rooted {
		sync = func() error { return l.syncNames(l.bornAt) }
	}
	if err := sync(); err != nil {
		return l.dir.fail("empty", l.tp.String(), err)
	}
	l.rooted = true
	l.setSegments([]*segment{seg})
	l.epochs.clear()
	if err := l.producers.keepSnapshots(l.at, func(id.Offset) bool { return false }); err != nil {
		return l.fault("remove producer snapshots of", err)
	}
	l.producers.reset(offset)
	l.producers.snapshotEnd = 0
	l.start.Store(int64(offset))
	l.end.Store(int64(offset))
	l.durable.Store(int64(offset))
	l.setHighWatermark(offset)
	l.dir.startsChanged.Store(true)
	return l.writeEpochs()
}

// discard needs mu. It takes segments and the snapshots at their beginning out of use: files are renamed now and removed after
// file.delete.delay.ms, so that readers who have them finish.
func (l *Log) discard(segs []*segment) error {
	return l.discardReplaced(segs, id.NoOffset)
}

// discardReplaced is discard for segments in whose place another comes that begins at base: the snapshot there stays.
func (l *Log) discardReplaced(segs []*segment, base id.Offset) error {
	at := l.o.Now().Add(min(l.cfg.Load().FileDeleteDelay, time.Duration(1)<<56))
	for _, s := range segs {
		if err := l.removeNamesake(s.base); err != nil {
			return err
		}
		if err := s.markDeleted(); err != nil {
			return err
		}
		name := ""
		if s.base != base {
			var err error
			if name, err = l.producers.markSnapshotDeleted(l.at, s.base); err != nil {
				return err
			}
		}
		l.doomed = append(l.doomed, doomedFiles{at: at, segment: s, snapshot: name})
	}
	if len(segs) > 0 {
		l.wants()
	}
	return nil
}

func (l *Log) discardNow(segs []*segment) error {
	if err := l.discard(segs); err != nil {
		return err
	}
	return l.at.fs.SyncDir(l.Path())
}

// removeNamesake removes a segment that waits for its deletion and has the name that another is about to get: it would be found
// under it by whoever has the older one. Readers who have its files open finish with them.
func (l *Log) removeNamesake(base id.Offset) error {
	for i, d := range l.doomed {
		if d.segment.base == base {
			l.doomed = slices.Delete(l.doomed, i, i+1)
			return l.removeDoomed(d)
		}
	}
	return nil
}

// lowerClean notes that what lies at and above offset is not clean any more.
func (l *Log) lowerClean(offset id.Offset) {
	for {
		at := l.clean.Load()
		if at <= int64(offset) {
			return
		}
		if l.clean.CompareAndSwap(at, int64(offset)) {
			l.dir.cleanChanged.Store(true)
			return
		}
	}
}

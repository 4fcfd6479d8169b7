package log

import (
	"errors"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

// rebuildProducers makes the producer state that of the log up to end: from the newest snapshot at or below it, and the batches
// from there. It needs mu. fresh says that a log without any snapshot has none because it needs none.
func (l *Log) rebuildProducers(end id.Offset, fresh bool) error {
	p := &l.producers
	if l.producersLoaded && p.end == end {
		p.startAt(l.StartOffset())
		return p.take(l.at, true)
	}
	if fresh && len(p.snapshots) == 0 && !l.producersLoaded {
		// After a clean shutdown a snapshot would be there if anybody had had one to write. An empty one saves the next start
		// from asking.
		l.producersLoaded = true
		p.reset(end)
		p.snapshotEnd = 0
		return p.take(l.at, true)
	}
	if err := l.loadProducersTo(end); err != nil {
		return err
	}
	return p.take(l.at, true)
}

// loadProducersTo needs mu.
func (l *Log) loadProducersTo(end id.Offset) error {
	p := &l.producers
	start := l.StartOffset()
	segs := *l.segments.Load()
	first := start
	if len(segs) > 0 {
		first = segs[0].base
	}
	// One from before the first segment cannot be brought up to date: what lay between is gone. It may even be from a log that was
	// truncated since, and have come back in a crash.
	if err := p.keepSnapshots(l.at, func(at id.Offset) bool { return at <= end && at > start && at >= first }); err != nil {
		return err
	}
	start = max(start, first)
	if err := p.readSnapshot(l.at, min(start, end), l.nowMs(), l.o); err != nil {
		return err
	}
	l.producersLoaded = true
	for i := max(0, floor(segs, p.end)); i < len(segs) && segs[i].base < end; i++ {
		if err := l.replaySegment(segs[i], end); err != nil {
			return err
		}
	}
	p.end = end
	return nil
}

// replaySegment feeds the batches from the state's end to end into the state. These bytes were checked when they were written
// or recovered; should they have become bad since, the state ends there and whoever reads them is told.
func (l *Log) replaySegment(s *segment, end id.Offset) error {
	p := &l.producers
	size := s.size.Load()
	if size == 0 {
		return nil
	}
	f, err := s.log.acquire(false)
	if err != nil {
		return err
	}
	defer s.log.release()
	from := int64(0)
	if p.end > s.base {
		if from, err = s.index.lookup(p.end); err != nil || from < 0 || from >= size {
			from = 0
		}
	}
	replay := func(from int64) error {
		_, err := scanBatches(l.o.bufs, f, from, size, func(h header, b []byte) error {
			if err := l.abandoned(); err != nil {
				return err
			}
			if h.base >= end || h.last < p.end {
				return nil
			}
			return l.replay(nil, h, b)
		})
		return err
	}
	err = replay(from)
	if isBadBatch(err) && from > 0 {
		err = replay(0)
	}
	if isBadBatch(err) {
		l.o.Logger.Warn("producer state ends at a bad batch", "path", s.log.path(), "partition", l.tp.String(), "err", err)
		return nil
	}
	return err
}

// rebuildTxns makes a segment's transaction index what its batches say: whoever lost the other indexes may have lost this one, and
// its absence looks like that of aborted transactions. Behind a bad batch that stays, what the index says is all there is.
func (l *Log) rebuildTxns(s *segment, cut bool) error {
	old, err := s.txns.readable()
	if err != nil {
		return err
	}
	// With a state of its own: the snapshots behind the segment are as good as they were.
	state, loaded := l.producers, l.producersLoaded
	defer func() { l.producers, l.producersLoaded = state, loaded }()
	l.producers = producerState{snapshots: slices.DeleteFunc(slices.Clone(state.snapshots), func(at id.Offset) bool { return at > s.base })}
	if err := l.loadProducersTo(s.base); err != nil {
		return err
	}
	f, err := s.log.acquire(true)
	if err != nil {
		return err
	}
	defer s.log.release()
	var txns []AbortedTxn
	last := s.base - 1
	_, err = scanBatches(l.o.bufs, f, 0, s.size.Load(), func(h header, b []byte) error {
		if err := errors.Join(l.abandoned(), checkBatch(b, h)); err != nil {
			return err
		}
		l.aborted = l.aborted[:0]
		if err := l.replay(nil, h, b); err != nil {
			return err
		}
		txns, last = append(txns, l.aborted...), h.last
		return nil
	})
	if err != nil && !isBadBatch(err) {
		return err
	}
	if err != nil && !cut {
		txns = append(txns, slices.DeleteFunc(slices.Clone(old), func(t AbortedTxn) bool { return t.LastOffset <= last })...)
	}
	if n, err := s.txns.count(); err != nil || len(txns) == n && slices.Equal(txns, old) {
		return err
	}
	if err := s.txns.truncate(0); err != nil {
		return err
	}
	for _, t := range txns {
		s.txns.add(t)
	}
	if err := s.txns.write(); err != nil {
		return err
	}
	return s.txns.sync()
}

// replay feeds one batch that is in the log into the producer state. Aborted transactions go to the segment's index, if one is
// given. Nothing is refused: what is in the log happened.
func (l *Log) replay(s *segment, h header, bytes []byte) error {
	p := &l.producers
	defer func() { p.end = h.last + 1 }()
	if h.magic != record.Magic {
		return nil
	}
	b := record.Batch(bytes)
	if !b.HasProducerID() {
		return nil
	}
	p.begin()
	if err := l.checkProducer(b, AppendInfo{Origin: OriginReplication}); err != nil {
		l.o.Logger.Warn("batch in the log contradicts the producer state", "partition", l.tp.String(), "offset", int64(h.base), "err", err)
		p.begin()
		return nil
	}
	l.aborted = p.commit(l.aborted[:0])
	if s != nil {
		for _, t := range l.aborted {
			s.txns.add(t)
		}
	}
	return nil
}

// keepSegmentSnapshots removes the snapshots that no recovery would start from: all but those at the beginning of a segment,
// and the newest that is not beyond the log end if it is beyond the last segment's beginning.
func (l *Log) keepSegmentSnapshots(end id.Offset) error {
	p := &l.producers
	segs := *l.segments.Load()
	newest, last := id.NoOffset, segs[len(segs)-1].base
	for _, at := range p.snapshots {
		if at <= end {
			newest = at
		}
	}
	return p.keepSnapshots(l.at, func(at id.Offset) bool {
		return at == newest && at > last || slices.ContainsFunc(segs, func(s *segment) bool { return s.base == at })
	})
}

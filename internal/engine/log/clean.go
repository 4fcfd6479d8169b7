package log

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

// cleanStats say what a pass did.
type cleanStats struct {
	mapRecords, mapBytes          int64
	recordsRead, bytesRead        int64
	recordsWritten, bytesWritten  int64
	withoutKey                    int64 // records that a compacted log should not have
	utilization                   float64
	mapTime, elapsed              time.Duration
	segmentsBefore, segmentsAfter int
}

// cleanPass compacts one log once: it maps the keys of the dirty part, and writes every segment up to the end of what was mapped
// anew, without the records that a later one of the same key makes useless.
type cleanPass struct {
	l           *Log
	c           Config
	nowMs       int64
	firstDirty  id.Offset
	upper       id.Offset  // the base of the first segment that is left alone
	segs        []*segment // as they were when the pass began
	all         []*segment // with those behind, where the markers of transactions may be
	truncations int
	mapBytes    int64 // bound of the map of keys
	load        float64
	in          batchReader
	stats       *cleanStats

	keys     *keyMap
	txns     *cleanedTxns
	idle     map[id.ProducerID]lastRecord
	legacyMs int64 // tombstones of old formats in segments that were last changed before go

	dest         *segment
	position     int64
	out          []byte
	builder      record.Builder
	keep         []bool
	marker       id.Offset // of the last marker that goes from the present segment
	changed      bool      // the present segment differs from what it is made from
	keepLegacy   bool
	deleteWaitMs int64
}

// lastRecord is what must stay of a producer, so that a restart without snapshots knows it: the batch with its last sequence
// number, or a marker with its epoch.
type lastRecord struct {
	offset id.Offset // of the last data record, id.NoOffset without one
	epoch  id.ProducerEpoch
}

// run does the pass. It returns the offset up to which the log is clean.
func (c *cleanPass) run(now func() time.Time) (id.Offset, error) {
	began := now()
	c.deleteWaitMs = durationMs(c.c.DeleteRetention)
	if n := floor(c.segs, c.firstDirty-1); n >= 0 && c.firstDirty > 0 {
		c.l.mu.Lock()
		c.legacyMs = subtractMs(c.segs[n].modifiedMs, c.deleteWaitMs)
		c.l.mu.Unlock()
	}
	c.keys = newKeyMap(c.mapBytes, c.load, int64(c.upper-c.firstDirty))
	if err := c.mapKeys(); err != nil {
		return 0, err
	}
	c.stats.mapTime, c.stats.utilization = now().Sub(began), c.keys.utilization()
	end := c.keys.latest + 1
	if end <= c.firstDirty {
		return 0, fmt.Errorf("nothing from offset %d to %d could be mapped", c.firstDirty, c.upper)
	}
	segs := segmentsIn(c.segs, 0, end)
	c.txns = newCleanedTxns()
	groups, err := c.groups(segs)
	if err != nil {
		return 0, err
	}
	for at := 0; len(groups) > 0; groups = groups[1:] {
		if err := c.cleanGroup(at, groups[0]); err != nil {
			return 0, err
		}
		at += len(groups[0])
		c.stats.segmentsBefore += len(groups[0])
		c.stats.segmentsAfter++
	}
	c.stats.elapsed = now().Sub(began)
	return end, nil
}

func subtractMs(a, b int64) int64 {
	if b > a && b-a < 0 || b == math.MaxInt64 {
		return math.MinInt64
	}
	return a - b
}

// segmentsIn are the segments that hold offsets in [from, to), by their bases: the one that holds from, and those behind it that
// begin below to.
func segmentsIn(segs []*segment, from, to id.Offset) []*segment {
	lo := max(0, floor(segs, from))
	hi := lo
	for hi < len(segs) && segs[hi].base < to {
		hi++
	}
	return segs[lo:hi]
}

// next is where the segment behind i begins.
func (c *cleanPass) next(i int) id.Offset {
	if i+1 < len(c.segs) {
		return c.segs[i+1].base
	}
	return c.upper
}

// mapKeys fills the map from the dirty part, as far as it has room.
func (c *cleanPass) mapKeys() error {
	first := max(0, floor(c.segs, c.firstDirty))
	c.txns = newCleanedTxns()
	aborted, err := collectAborted(c.all[first:], c.firstDirty, c.upper)
	if err != nil {
		return err
	}
	c.txns.add(aborted)
	for i := first; i < len(c.segs) && c.segs[i].base < c.upper; i++ {
		full, err := c.mapSegment(c.segs[i])
		if err != nil || full {
			return err
		}
		c.keys.seen(c.next(i) - 1) // also when the last offsets are missing
	}
	return nil
}

var errMapFull = errors.New("the map of keys is full")

func (c *cleanPass) mapSegment(s *segment) (full bool, err error) {
	size := s.size.Load()
	if size == 0 {
		return false, nil
	}
	f, err := s.log.acquire(false)
	if err != nil {
		return false, err
	}
	defer s.log.release()
	from, err := s.index.lookup(c.firstDirty)
	if err != nil || from < 0 || from >= size {
		from = 0
	}
	err = c.in.each(f, s.log.path(), from, size, func(h header, b []byte) error {
		c.stats.mapBytes += h.size
		return c.mapBatch(h, b)
	})
	if errors.Is(err, errMapFull) {
		return true, nil
	}
	return false, err
}

func (c *cleanPass) mapBatch(h header, bytes []byte) error {
	if h.magic != record.Magic {
		return c.mapLegacy(h, bytes)
	}
	b := record.Batch(bytes)
	if b.IsControl() {
		if _, err := c.txns.control(b); err != nil {
			return &errBadBatch{h.position, err.Error()}
		}
		c.stats.mapRecords++
	} else if c.txns.data(b) {
		c.stats.mapRecords += int64(b.Count())
	} else {
		it := b.Records(decompressLimit)
		defer it.Close()
		var r record.Record
		for it.Next(&r) {
			c.stats.mapRecords++
			if r.Key != nil && r.Offset >= c.firstDirty && !c.keys.put(r.Key, r.Offset) {
				return errMapFull
			}
		}
		if err := it.Err(); err != nil {
			return &errBadBatch{h.position, err.Error()}
		}
	}
	if h.last >= c.firstDirty {
		c.keys.seen(h.last)
	}
	return nil
}

// groups puts segments together whose bytes and indexes fit into one.
func (c *cleanPass) groups(segs []*segment) ([][]*segment, error) {
	var out [][]*segment
	var bytes, index, times int64
	for i, s := range segs {
		entries, err := s.index.count()
		if err != nil {
			return nil, err
		}
		timeEntries, err := s.times.count()
		if err != nil {
			return nil, err
		}
		size, indexBytes, timeBytes := s.size.Load(), int64(entries)*offsetEntryBytes, int64(timeEntries)*timeEntryBytes
		if n := len(out) - 1; n >= 0 && bytes+size <= c.c.SegmentBytes && index+indexBytes <= c.c.SegmentIndexBytes && times+timeBytes <= c.c.SegmentIndexBytes &&
			(size == 0 || fits(out[n][0].base, min(c.next(i), c.upper)-1)) {
			out[n] = append(out[n], s)
			bytes, index, times = bytes+size, index+indexBytes, times+timeBytes
			continue
		}
		out = append(out, []*segment{s})
		bytes, index, times = size, indexBytes, timeBytes
	}
	return out, nil
}

// cleanGroup makes one segment out of the group that begins at c.segs[at], and puts it in their place.
func (c *cleanPass) cleanGroup(at int, group []*segment) (err error) {
	l := c.l
	c.dest, err = l.newCleanedSegment(group[0].base)
	if err != nil {
		return err
	}
	swapping := false
	defer func() {
		if err != nil && !swapping {
			err = errors.Join(err, c.dest.remove())
		}
	}()
	c.position, c.changed, c.out, c.marker = 0, len(group) > 1, c.out[:0], id.NoOffset
	c.txns.kept = c.dest.txns.add
	c.idle = l.lastRecords()
	for i, s := range group {
		aborted, err := collectAborted(c.all[at+i:], s.base, c.next(at+i))
		if err != nil {
			return err
		}
		c.txns.add(aborted)
		if err := c.cleanSegment(s); err != nil {
			return c.splitIf(err, s, c.next(at+i))
		}
	}
	if err := c.writeOut(); err != nil {
		return err
	}
	if !c.changed {
		return c.dest.remove() // it is what is there already
	}
	last := group[len(group)-1]
	l.mu.Lock()
	c.dest.modifiedMs, c.dest.jitter = last.modifiedMs, last.jitter
	l.mu.Unlock()
	if err := errors.Join(c.dest.finish(), c.dest.writeIndexes()); err != nil {
		return err
	}
	if err := c.dest.sync(true); err != nil {
		return l.dir.fail("flush a cleaned segment of", l.tp.String(), err)
	}
	if err := l.forgetSnapshots(c.marker); err != nil {
		return err
	}
	swapping, err = l.swapIn([]*segment{c.dest}, group, c.truncations)
	return err
}

// splitIf splits a segment whose offsets are too far apart for a cleaned one, and ends the pass: the next one finds the pieces. Any
// other error is returned.
func (c *cleanPass) splitIf(err error, s *segment, end id.Offset) error {
	var over *errOffsetOverflow
	if !errors.As(err, &over) || fits(s.base, end-1) {
		return err
	}
	if err := c.dest.remove(); err != nil { // a piece may have its name
		return err
	}
	if err := c.l.splitLive(s, c.truncations); err != nil {
		return err
	}
	return errCleaningStopped
}

func (c *cleanPass) cleanSegment(s *segment) error {
	size := s.size.Load()
	if size == 0 {
		return nil
	}
	c.l.mu.Lock()
	c.keepLegacy = s.modifiedMs > c.legacyMs
	c.l.mu.Unlock()
	f, err := s.log.acquire(false)
	if err != nil {
		return err
	}
	defer s.log.release()
	return c.in.each(f, s.log.path(), 0, size, c.filter)
}

// emit puts a batch behind those before it.
func (c *cleanPass) emit(start, records int) error {
	b := record.Batch(c.out[start:])
	h, err := parseHeader(b[:min(len(b), headerPeekBytes)], c.position, math.MaxInt64)
	if err != nil {
		return err
	}
	if !fits(c.dest.base, h.last) {
		return &errOffsetOverflow{c.dest, h.last}
	}
	if c.position+h.size > math.MaxInt32 {
		return fmt.Errorf("a cleaned segment from %d cannot hold offset %d at position %d", c.dest.base, h.last, c.position)
	}
	c.dest.note(h, c.c.IndexIntervalBytes)
	c.position += h.size
	c.stats.recordsWritten += int64(records)
	c.stats.bytesWritten += h.size
	if len(c.out) >= c.in.start {
		return c.writeOut()
	}
	return nil
}

func (c *cleanPass) writeOut() error {
	if len(c.out) == 0 {
		return nil
	}
	if _, err := c.dest.write(c.out); err != nil {
		return err
	}
	c.dest.size.Store(c.position)
	n := len(c.out)
	c.out = c.out[:0]
	if cap(c.out) > 4*c.in.start {
		c.out = nil // a single large batch does not stay in memory
	}
	return c.in.pause(n)
}

// lastRecords is what must stay of every active producer.
func (l *Log) lastRecords() map[id.ProducerID]lastRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[id.ProducerID]lastRecord, len(l.producers.entries))
	for pid, e := range l.producers.entries {
		r := lastRecord{offset: id.NoOffset, epoch: e.epoch}
		if e.n > 0 {
			r.offset = e.batches[e.n-1].lastOffset
		}
		out[pid] = r
	}
	return out
}

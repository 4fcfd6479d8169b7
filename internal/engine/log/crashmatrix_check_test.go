package log

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// check starts a node on what a crash left and compares everything with what there should be. power tells a power loss from the
// end of a process.
func (w *matrix) check(disk *vfs.Mem, fsys vfs.FS, power bool) (err error) {
	m, err := w.open(fsys)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer func() {
		if closed := m.Close(8); err == nil && closed != nil {
			err = fmt.Errorf("close: %w", closed)
		}
		if err == nil {
			err = w.leftovers(disk, true)
		}
	}()
	if err := w.leftovers(disk, false); err != nil {
		return err
	}
	for _, tp := range append([]id.TopicPartition{plainTP, keyedTP, shortTP}, w.strict...) {
		if err := w.checkLog(m, tp, power); err != nil {
			return fmt.Errorf("%v: %w", tp, err)
		}
	}
	return nil
}

func (w *matrix) checkLog(m *Manager, tp id.TopicPartition, power bool) error {
	e := w.logs[tp]
	if e == nil {
		return nil
	}
	l, ok := m.Get(tp)
	if ok && tp == shortTP && l.EndOffset() > 0 {
		// An incarnation that was deleted may be back after a power loss; it is known by its topic id, which is there at the
		// latest when the first flush is.
		var err error
		if e, err = w.incarnation(l); err != nil {
			return err
		}
	}
	least := e.end
	if power {
		least = e.durable
	}
	if e.cut >= 0 {
		least = min(least, e.cut)
	}
	if e.emptied {
		least = 0
	}
	if !ok {
		if least > 0 {
			return fmt.Errorf("the log is gone, its end was %d", least)
		}
		return nil
	}
	if l.EndOffset() < least {
		return fmt.Errorf("log end %d, promised was %d", l.EndOffset(), least)
	}
	start, end := l.StartOffset(), l.EndOffset()
	if start > max(e.maxStart, e.base) || start > end {
		return fmt.Errorf("log %d to %d, its start should be at most %d", start, end, e.maxStart)
	}
	if hw := l.HighWatermark(); hw < start || hw > end {
		return fmt.Errorf("high watermark %d outside of %d to %d", hw, start, end)
	}
	got, err := readFrom(l, start)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if tp == keyedTP {
		err = compareKeyed(got, e.history, end)
	} else {
		err = comparePlain(got, e, start, end)
	}
	if err != nil {
		return err
	}
	return errors.Join(checkEpochs(l, got), checkIndexes(l), checkTimes(l, got), checkProducers(l, got, e.sawStart), checkCommitted(l, got, e.sawStart), w.checkAppend(l, got, e.sawStart))
}

// incarnation is the one of short that a log is of.
func (w *matrix) incarnation(l *Log) (*expected, error) {
	if e := w.shorts[l.TopicID()]; e != nil {
		return e, nil
	}
	if !l.TopicID().IsZero() {
		return nil, fmt.Errorf("topic id %v was never used", l.TopicID())
	}
	got, err := readFrom(l, l.StartOffset())
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	for _, u := range w.shortIDs {
		if e := w.shorts[u]; e.durable == 0 && comparePlain(got, e, l.StartOffset(), l.EndOffset()) == nil {
			return e, nil
		}
	}
	return nil, fmt.Errorf("a log of %d batches has no topic id and no incarnation", len(got))
}

// comparePlain: what is there is a gapless part of what was written.
func comparePlain(got []record.Batch, e *expected, start, end id.Offset) error {
	if len(got) == 0 {
		if e.emptied || start == end {
			return nil
		}
		return fmt.Errorf("nothing to read in %d to %d", start, end)
	}
	match := func(history []record.Batch) error {
		i := slices.IndexFunc(history, func(b record.Batch) bool { return b.NextOffset() > start })
		if i < 0 {
			return fmt.Errorf("batch at %d was never written", got[0].BaseOffset())
		}
		for j, b := range got {
			if i+j >= len(history) {
				return fmt.Errorf("batch at %d was never written", b.BaseOffset())
			}
			if !bytes.Equal(b, history[i+j]) {
				return fmt.Errorf("batch %d to %d in place of %d to %d, or of other content", b.BaseOffset(), b.LastOffset(), history[i+j].BaseOffset(), history[i+j].LastOffset())
			}
		}
		return nil
	}
	err := match(e.history)
	if err != nil && e.anyOld != nil {
		err = match(e.anyOld)
	}
	return err
}

// compareKeyed: every record is one that was written, and of every key the latest below the end is there.
func compareKeyed(got, history []record.Batch, end id.Offset) error {
	type entry struct {
		key, value string
	}
	collect := func(batches []record.Batch) map[id.Offset]entry {
		out := map[id.Offset]entry{}
		for _, b := range batches {
			it := b.Records(1 << 20)
			for r := (record.Record{}); it.Next(&r); {
				out[b.BaseOffset()+id.Offset(r.OffsetDelta)] = entry{string(r.Key), string(r.Value)}
			}
			it.Close()
		}
		return out
	}
	have, wrote := collect(got), collect(history)
	for o, h := range have {
		if wrote[o] != h {
			return fmt.Errorf("record at %d is %v, %v was written", o, h, wrote[o])
		}
	}
	latest := map[string]id.Offset{}
	for o, h := range wrote {
		if o < end {
			latest[h.key] = max(latest[h.key], o)
		}
	}
	for key, o := range latest {
		if _, ok := have[o]; !ok {
			return fmt.Errorf("the latest record of %s, at %d below the log end %d, is gone", key, o, end)
		}
	}
	return nil
}

func checkEpochs(l *Log, got []record.Batch) error {
	for _, b := range got {
		if e := l.EpochAt(b.LastOffset()); e != b.LeaderEpoch() {
			return fmt.Errorf("epoch at %d is %d, the batch has %d", b.BaseOffset(), e, b.LeaderEpoch())
		}
	}
	if n := len(got); n > 0 && l.LatestEpoch() < got[n-1].LeaderEpoch() {
		return fmt.Errorf("latest epoch %d, the last batch has %d", l.LatestEpoch(), got[n-1].LeaderEpoch())
	}
	return nil
}

// checkIndexes compares every entry with the batches of its segment: an offset entry names the batch it points at, a time entry
// the largest timestamp up to its batch, and both rise.
func checkIndexes(l *Log) error {
	for _, s := range *l.segments.Load() {
		at := map[int64]header{} // by position
		tops := map[id.Offset]int64{}
		top, topAt, size := int64(-1), s.base, int64(0)
		if err := l.scanHeaders(s, func(h header) bool {
			at[h.position] = h
			if h.maxTS > top {
				top, topAt = h.maxTS, h.last
				tops[topAt] = top
			}
			size = h.position + h.size
			return true
		}); err != nil {
			return err
		}
		if size != s.size.Load() {
			return fmt.Errorf("segment %d has %d bytes, its batches %d", s.base, s.size.Load(), size)
		}
		n, err := s.index.count()
		if err != nil {
			return err
		}
		before := s.base - 1
		for i := range n {
			var b [maxEntryBytes]byte
			if err := s.index.at(i, b[:]); err != nil {
				return err
			}
			last, pos := s.index.decode(b[:])
			if h, ok := at[pos]; !ok || h.last != last || last <= before {
				return fmt.Errorf("index entry %d of segment %d says %d at %d, there is %d to %d", i, s.base, last, pos, h.base, h.last)
			}
			before = last
		}
		if n, err = s.times.count(); err != nil {
			return err
		}
		lastTS := int64(-1)
		for i := range n {
			var b [maxEntryBytes]byte
			if err := s.times.at(i, b[:]); err != nil {
				return err
			}
			ts, o := s.times.decode(b[:])
			if want, ok := tops[o]; len(at) > 0 && ts >= 0 && (!ok || want != ts) || ts <= lastTS {
				return fmt.Errorf("time entry %d of segment %d says %d at %d, largest there is %d (%v)", i, s.base, ts, o, want, ok)
			}
			lastTS = ts
		}
		if s != l.active() && len(at) > 0 && lastTS != top {
			return fmt.Errorf("the time index of finished segment %d ends with %d, its largest timestamp is %d", s.base, lastTS, top)
		}
	}
	return nil
}

// checkTimes looks up the times of some batches.
func checkTimes(l *Log, got []record.Batch) error {
	l.AdvanceHighWatermark(l.EndOffset())
	for i := 0; i < len(got); i += 3 {
		ts := got[i].MaxTimestamp()
		r, err := l.LookupTimestamp(ts)
		if err != nil {
			return fmt.Errorf("look-up of %d: %w", ts, err)
		}
		want := id.NoOffset
		for _, b := range got {
			if b.MaxTimestamp() >= ts && b.LastOffset() >= l.StartOffset() && b.Count() > 0 {
				it := b.Records(1 << 20)
				for rec := (record.Record{}); it.Next(&rec); {
					o := b.BaseOffset() + id.Offset(rec.OffsetDelta)
					if rec.TimestampMs >= ts && o >= l.StartOffset() && want < 0 {
						want = o
					}
				}
				it.Close()
			}
			if want >= 0 {
				break
			}
		}
		if !r.Found && l.StartOffset() > (*l.segments.Load())[0].base {
			continue // as in Apache Kafka the first segment that has the time is searched, also where it is deleted there
		}
		if want >= 0 && r.Offset != want {
			return fmt.Errorf("look-up of %d gives %d, the first record is at %d", ts, r.Offset, want)
		}
	}
	return nil
}

// replayed is what the batches of a log say about their producers: written apart from the code that does it for a log.
type replayed struct {
	infos   map[id.ProducerID]ProducerInfo
	data    map[id.ProducerID]bool // has a batch of data in the log
	seen    map[id.ProducerID]bool // has one that every rebuild saw
	below   map[id.ProducerID]bool // has a batch below the highest start the log ever had: a rebuild in between did not see it
	aborted []AbortedTxn
	stable  id.Offset
}

func replayAll(got []record.Batch, sawStart, end id.Offset) (replayed, error) {
	r := replayed{infos: map[id.ProducerID]ProducerInfo{}, data: map[id.ProducerID]bool{}, seen: map[id.ProducerID]bool{}, below: map[id.ProducerID]bool{}, stable: end}
	for _, b := range got {
		if !b.HasProducerID() {
			continue
		}
		pid := b.ProducerID()
		r.below[pid] = r.below[pid] || b.BaseOffset() < sawStart
		p, ok := r.infos[pid]
		if !ok {
			p = ProducerInfo{ProducerID: pid, LastSequence: -1, CoordinatorEpoch: -1, CurrentTxnStartOffset: -1}
		}
		p.ProducerEpoch, p.LastTimestamp = b.ProducerEpoch(), b.MaxTimestamp()
		if b.IsControl() {
			m, ok, err := parseMarker(b)
			if err != nil || !ok {
				return r, fmt.Errorf("marker at %d: %v", b.BaseOffset(), err)
			}
			if p.CurrentTxnStartOffset >= 0 && !m.commit {
				r.aborted = append(r.aborted, AbortedTxn{ProducerID: pid, FirstOffset: p.CurrentTxnStartOffset, LastOffset: b.LastOffset()})
			}
			p.CurrentTxnStartOffset, p.CoordinatorEpoch = -1, m.coordinatorEpoch
		} else {
			r.data[pid], r.seen[pid] = true, r.seen[pid] || b.BaseOffset() >= sawStart
			p.LastSequence = b.LastSequence()
			if b.IsTransactional() && p.CurrentTxnStartOffset < 0 {
				p.CurrentTxnStartOffset = b.BaseOffset()
			}
		}
		r.infos[pid] = p
	}
	for _, p := range r.infos {
		if p.CurrentTxnStartOffset >= 0 {
			r.stable = min(r.stable, p.CurrentTxnStartOffset)
		}
	}
	return r, nil
}

// lastOf is the base offset of a producer's last batch.
func lastOf(got []record.Batch, pid id.ProducerID) id.Offset {
	last := id.NoOffset
	for _, b := range got {
		if b.HasProducerID() && b.ProducerID() == pid {
			last = b.BaseOffset()
		}
	}
	return last
}

// checkProducers compares the producer state with a replay. Of producers whose records were deleted less is known to a replay.
func checkProducers(l *Log, got []record.Batch, sawStart id.Offset) error {
	want, err := replayAll(got, sawStart, l.EndOffset())
	if err != nil {
		return err
	}
	vague := false
	begun := map[id.ProducerID]bool{} // whose first transaction in the log may have begun before it
	for _, p := range l.Producers() {
		w, ok := want.infos[p.ProducerID]
		delete(want.infos, p.ProducerID)
		if !ok {
			if p.CurrentTxnStartOffset >= l.StartOffset() {
				return fmt.Errorf("producer %d has a transaction from %d, which is not in the log", p.ProducerID, p.CurrentTxnStartOffset)
			}
			if p.CurrentTxnStartOffset >= 0 {
				begun[p.ProducerID] = true
			}
			continue
		}
		if w.CoordinatorEpoch < 0 {
			w.CoordinatorEpoch = p.CoordinatorEpoch // its marker may be below the log start
		}
		if !want.data[p.ProducerID] || p.LastSequence < 0 && !want.seen[p.ProducerID] {
			w.LastSequence = p.LastSequence
		}
		if p.CurrentTxnStartOffset >= 0 && p.CurrentTxnStartOffset < l.StartOffset() && w.CurrentTxnStartOffset >= 0 {
			w.CurrentTxnStartOffset = p.CurrentTxnStartOffset
			begun[p.ProducerID] = true
		}
		if want.below[p.ProducerID] {
			w.CoordinatorEpoch = p.CoordinatorEpoch
			if w.CurrentTxnStartOffset >= 0 && w.CurrentTxnStartOffset < sawStart && p.CurrentTxnStartOffset > w.CurrentTxnStartOffset {
				w.CurrentTxnStartOffset = p.CurrentTxnStartOffset
				vague = true
			}
		}
		if p != w {
			var batches []string
			for _, b := range got {
				if b.HasProducerID() && b.ProducerID() == p.ProducerID {
					batches = append(batches, fmt.Sprintf("%d-%d epoch %d seq %d control %v", b.BaseOffset(), b.LastOffset(), b.ProducerEpoch(), b.BaseSequence(), b.IsControl()))
				}
			}
			return fmt.Errorf("producer state %+v, a replay gives %+v from %v", p, w, batches)
		}
	}
	for pid, w := range want.infos {
		if want.below[pid] && lastOf(got, pid) < sawStart {
			vague = vague || w.CurrentTxnStartOffset >= 0
			continue
		}
		return fmt.Errorf("producer %d is in the log and unknown: %+v", w.ProducerID, w)
	}
	stable := want.stable
	if len(begun) > 0 {
		stable = l.StartOffset()
	}
	if l.LastStableOffset() != stable && !vague {
		return fmt.Errorf("last stable offset %d, a replay gives %d", l.LastStableOffset(), stable)
	}
	return nil
}

// checkCommitted compares what a committed reader is told with a replay.
func checkCommitted(l *Log, got []record.Batch, sawStart id.Offset) error {
	want, err := replayAll(got, sawStart, l.EndOffset())
	if err != nil {
		return err
	}
	have := map[AbortedTxn]bool{}
	for next := l.StartOffset(); next < l.LastStableOffset(); {
		r, err := l.Read(ReadRequest{Offset: next, MaxBytes: 700, MinOneMessage: true, Isolation: ReadCommitted, Reader: Reader{ReplicaID: id.NoBroker}, LastFetchedEpoch: id.NoLeaderEpoch})
		if err != nil {
			return err
		}
		if r.Section == nil {
			break
		}
		b, err := r.Section.Bytes()
		r.Section.Release()
		if err != nil {
			return err
		}
		from := next
		for len(b) > 0 {
			batch, rest, err := record.Next(b)
			if err != nil {
				return err
			}
			next, b = batch.NextOffset(), rest
		}
		told := map[AbortedTxn]bool{}
		for _, a := range r.AbortedTxns {
			a.LastStableOffset = 0
			if a.FirstOffset < max(sawStart, l.StartOffset()) {
				// Its beginning was deleted: a replay sees it begin later.
				if i := slices.IndexFunc(want.aborted, func(w AbortedTxn) bool { return w.ProducerID == a.ProducerID && w.LastOffset == a.LastOffset }); i >= 0 {
					a.FirstOffset = want.aborted[i].FirstOffset
				}
			}
			told[a], have[a] = true, true
		}
		for _, a := range want.aborted {
			if a.LastOffset >= from && a.FirstOffset < next && a.FirstOffset >= sawStart && !told[a] {
				return fmt.Errorf("a committed reader of %d to %d is not told of the aborted transaction %+v, but of %v", from, next, a, r.AbortedTxns)
			}
		}
	}
	for a := range have {
		if !slices.Contains(want.aborted, a) && a.FirstOffset >= max(sawStart, l.StartOffset()) && !want.beganDeleted(got, a, sawStart) {
			return fmt.Errorf("a committed reader is told of an aborted transaction that is not in the log: %+v", a)
		}
	}
	return nil
}

// beganDeleted reports whether an aborted transaction is the rest of one whose beginning was deleted, forgotten by a rebuild, and came
// back with a log start that was not durable: to the log it began with its first batch at or above that start.
func (r replayed) beganDeleted(got []record.Batch, a AbortedTxn, sawStart id.Offset) bool {
	whole := slices.ContainsFunc(r.aborted, func(w AbortedTxn) bool {
		return w.ProducerID == a.ProducerID && w.LastOffset == a.LastOffset && w.FirstOffset < sawStart
	})
	i := slices.IndexFunc(got, func(b record.Batch) bool {
		return b.BaseOffset() >= sawStart && b.HasProducerID() && b.ProducerID() == a.ProducerID && b.IsTransactional() && !b.IsControl()
	})
	return whole && i >= 0 && got[i].BaseOffset() == a.FirstOffset
}

// checkAppend sends the last batch of a producer again, and a new one. What lies below the highest start the log ever had may be back,
// and its producer forgotten.
func (w *matrix) checkAppend(l *Log, got []record.Batch, sawStart id.Offset) error {
	for i := len(got) - 1; i >= 0; i-- {
		b := got[i]
		if !b.HasProducerID() || b.IsControl() || b.ProducerID() != 9 {
			continue
		}
		if b.BaseOffset() < sawStart {
			break
		}
		again := bytes.Clone(b)
		record.Batch(again).SetBaseOffset(0)
		r, err := l.AppendAsLeader(again, AppendInfo{LeaderEpoch: max(0, l.LatestEpoch())})
		if err != nil || !r.Duplicate || r.BaseOffset != b.BaseOffset() || r.LastOffset != b.LastOffset() {
			return fmt.Errorf("a batch sent again went to %+v, %w", r, err)
		}
		break
	}
	end := l.EndOffset()
	var key []byte
	if l.tp == keyedTP {
		key = []byte("new")
	}
	builder := record.NewBuilder(record.NewOptions())
	if err := builder.Append(w.clock.ms, key, []byte("after the crash")); err != nil {
		return err
	}
	raw, err := builder.Build()
	if err != nil {
		return err
	}
	r, err := l.AppendAsLeader(bytes.Clone(raw), AppendInfo{LeaderEpoch: max(0, l.LatestEpoch()) + 1})
	if err != nil || r.BaseOffset != end {
		return fmt.Errorf("append after the start: %+v, %w", r, err)
	}
	if again, err := readFrom(l, l.StartOffset()); err != nil || len(again) != len(got)+1 {
		return fmt.Errorf("%d batches after an append to %d, %w", len(again), len(got), err)
	}
	return nil
}

// leftovers looks for files that nobody would know what to do with.
func (w *matrix) leftovers(disk *vfs.Mem, closed bool) error {
	for _, dir := range w.dirs {
		if err := leftoversIn(disk, dir, closed); err != nil {
			return err
		}
	}
	return nil
}

func leftoversIn(disk *vfs.Mem, dir string, closed bool) error {
	entries, err := disk.List(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if !e.IsDir() {
			switch name {
			case fileLock, fileMetaProperties, fileRecoveryPoint, fileStartOffset, fileHighWatermark, fileCleanerOffset:
				continue
			case fileCleanShutdown:
				if closed {
					continue
				}
			}
			if strings.HasSuffix(name, ".tmp") {
				continue // overwritten by whoever writes the file next
			}
			return fmt.Errorf("file %s after a start", name)
		}
		_, kind, ok := parseDirName(name)
		if !ok {
			return fmt.Errorf("directory %s", name)
		}
		if kind == dirDelete {
			continue
		}
		if kind == dirFuture {
			return fmt.Errorf("the copy of a log %s/%s after a start", dir, name)
		}
		files, err := disk.List(dir + "/" + name)
		if err != nil {
			return err
		}
		logs := map[id.Offset]bool{}
		for _, f := range files {
			if base, suffix, ok := parseSegmentName(f.Name()); ok && suffix == suffixLog {
				logs[base] = true
			}
		}
		for _, f := range files {
			switch f.Name() {
			case fileEpochs, filePartitionMeta, fileEpochs + ".tmp", filePartitionMeta + ".tmp":
				continue
			}
			base, suffix, ok := parseSegmentName(f.Name())
			switch {
			case ok && (suffix == suffixLog || suffix == suffixSnapshot || strings.HasSuffix(suffix, suffixDeleted)):
			case ok && (suffix == suffixIndex || suffix == suffixTime || suffix == suffixTxn) && logs[base]:
			default:
				return fmt.Errorf("file %s/%s after a start", name, f.Name())
			}
		}
	}
	return nil
}

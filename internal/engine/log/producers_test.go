package log

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// step is a batch of a transactional producer, a marker if it ends a transaction.
type step struct {
	pid id.ProducerID
	seq int32
	end record.ControlType
}

// data is a step that is no marker.
const data = record.ControlType(-1)

// inOneAppend lets a follower append all steps at once, an offset each.
func inOneAppend(t *testing.T, l *Log, steps ...step) {
	t.Helper()
	var all []byte
	at := l.EndOffset()
	for _, s := range steps {
		b := batchSpec{txn: true, pid: s.pid, seq: s.seq, base: at}.build(t)
		if s.end != data {
			m, err := record.EndTxnMarker(s.pid, 0, s.end == record.ControlCommit, epochMs, []byte{0, 0, 0, 0, 0, 3})
			if err != nil {
				t.Fatal(err)
			}
			m.SetBaseOffset(at)
			m.SetLeaderEpoch(0)
			b = m
		}
		all = append(all, b...)
		at++
	}
	if _, err := l.AppendAsFollower(all, 0); err != nil {
		t.Fatal(err)
	}
}

// Markers of several producers in one append come into the transaction index in their order, and a truncation between two of them
// keeps what lies before it.
func TestMarkersOfOneAppend(t *testing.T) {
	l := openTest(t, mem(t), testConfig(), nil)
	inOneAppend(t, l, step{1, 0, data}, step{2, 0, data}, step{3, 0, data},
		step{2, 0, record.ControlAbort}, step{1, 0, record.ControlAbort}, step{4, 0, data}, step{3, 0, record.ControlAbort}, step{5, 0, data})
	want := []AbortedTxn{{2, 1, 3, 0}, {1, 0, 4, 2}, {3, 2, 6, 5}}
	if got := abortedIn(t, l); !slices.Equal(got, want) {
		t.Errorf("aborted %+v, want %+v", got, want)
	}
	if err := l.TruncateTo(4); err != nil {
		t.Fatal(err)
	}
	if got := abortedIn(t, l); !slices.Equal(got, want[:1]) {
		t.Errorf("aborted %+v after a truncation, want %+v", got, want[:1])
	}
	l.AdvanceHighWatermark(4)
	if got := l.LastStableOffset(); got != 0 {
		t.Errorf("last stable offset %d with a transaction open from 0", got)
	}
}

// An append that ends a transaction, has markers of empty ones, a whole one, and one that stays open.
func TestEmptyTransactionsOfOneAppend(t *testing.T) {
	l := openTest(t, mem(t), testConfig(), nil)
	inOneAppend(t, l, step{1, 0, data})
	inOneAppend(t, l, step{1, 0, record.ControlCommit}, step{1, 0, record.ControlCommit}, step{1, 0, record.ControlAbort}, step{1, 1, data},
		step{1, 0, record.ControlAbort}, step{1, 0, record.ControlAbort}, step{1, 2, data})
	if got, want := abortedIn(t, l), []AbortedTxn{{1, 4, 5, 6}}; !slices.Equal(got, want) {
		t.Errorf("aborted %+v, want %+v", got, want)
	}
	for _, x := range [][2]id.Offset{{1, 0}, {2, 2}, {5, 4}, {6, 6}, {8, 7}} { // a high watermark, and what is stable then
		l.AdvanceHighWatermark(x[0])
		if got := l.LastStableOffset(); got != x[1] {
			t.Errorf("last stable offset %d with a high watermark of %d, want %d", got, x[0], x[1])
		}
	}
}

// A batch that is looked at changes nothing before it is written, and is remembered as what it was.
func TestPreparedAppend(t *testing.T) {
	tp := id.TopicPartition{Topic: "t"}
	var p producerState
	prepare := func(seq int32, n int, base id.Offset) {
		t.Helper()
		p.begin()
		b := record.Batch(batchSpec{idem: true, pid: 1, seq: seq, records: n, base: base}.build(t))
		if err := p.prepare(1).data(tp, b, OriginClient); err != nil {
			t.Fatal(err)
		}
	}
	prepare(0, 6, 15)
	if len(p.entries) != 0 {
		t.Fatalf("%v before the append", p.infos())
	}
	p.commit(nil)
	first := batchMeta{lastOffset: 20, timestamp: epochMs, lastSeq: 5, offsetDelta: 5}
	second := batchMeta{lastOffset: 30, timestamp: epochMs, lastSeq: 10, offsetDelta: 4}
	prepare(6, 5, 26)
	if e := p.entries[1]; e.n != 1 || e.batches[0] != first {
		t.Fatalf("%+v before the append", e)
	}
	p.commit(nil)
	if e := p.entries[1]; e.n != 2 || e.batches[0] != first || e.batches[1] != second || first.firstSeq() != 0 || second.firstSeq() != 6 || second.firstOffset() != 26 {
		t.Fatalf("%+v after the append", e)
	}
}

// Sequences wrap within a batch.
func TestSequenceOfWrappedBatch(t *testing.T) {
	for _, c := range []struct{ last, delta, first int32 }{{9, 20, math.MaxInt32 - 10}, {0, 1, math.MaxInt32}, {0, 0, 0}, {math.MaxInt32, 0, math.MaxInt32}, {5, 5, 0}} {
		if got := (batchMeta{lastSeq: c.last, offsetDelta: c.delta}).firstSeq(); got != c.first {
			t.Errorf("%d records before sequence %d are from %d, not %d", c.delta, c.last, got, c.first)
		}
	}
}

// What a coordinator of this node writes has no sequence numbers.
func TestCoordinatorWithoutSequences(t *testing.T) {
	l := openTest(t, mem(t), testConfig(), nil)
	for range 2 {
		wantCode(t, appendGuarded(t, l, batchSpec{txn: true, pid: 1, seq: record.NoSequence}, NoGuard, OriginCoordinator), wire.ErrNone)
	}
	if e := l.producers.entries[1]; e.lastSeq() != record.NoSequence || e.txnFirst != 0 {
		t.Errorf("%+v", e)
	}
}

// A control batch that compaction left empty says nothing of transactions.
func TestEmptyControlBatch(t *testing.T) {
	l := openTest(t, mem(t), testConfig(), nil)
	openTxn(t, l, 1, 0, 1)
	for _, pid := range []id.ProducerID{1, 23423} {
		m, err := record.EndTxnMarker(pid, 0, false, epochMs, []byte{0, 0, 0, 0, 0, 3})
		if err != nil {
			t.Fatal(err)
		}
		b := m[:record.HeaderSize]
		binary.BigEndian.PutUint32(b[8:], record.HeaderSize-record.LogOverhead)
		binary.BigEndian.PutUint32(b[57:], 0)
		b.SetBaseOffset(l.producers.end)
		b.SetCRC()
		if err := l.replay(nil, header{base: b.BaseOffset(), last: b.LastOffset(), magic: record.Magic}, b); err != nil {
			t.Fatal(err)
		}
	}
	if one, other := l.producers.entries[1], l.producers.entries[23423]; one.txnFirst != 0 || other == nil || other.txnFirst != id.NoOffset || l.producers.end != 3 {
		t.Errorf("%+v, %+v up to %d", one, other, l.producers.end)
	}
}

// Who is forgotten when, by a look at a state and by a start from a snapshot.
func TestProducersExpire(t *testing.T) {
	const after = 24 * time.Hour
	for name, c := range map[string]struct {
		age   time.Duration
		txn   id.Offset
		known bool
	}{
		"fresh":            {0, id.NoOffset, true},
		"almost":           {after - time.Millisecond, id.NoOffset, true},
		"just":             {after, id.NoOffset, false},
		"long ago":         {30 * after, id.NoOffset, false},
		"in a transaction": {30 * after, 99, true},
	} {
		l := openTest(t, mem(t), testConfig(), nil)
		mustAppend(t, l, batchSpec{}) // so that there is a directory
		now := l.nowMs()
		e := emptyProducer()
		e.epoch, e.lastTimestamp, e.txnFirst = 5, now-c.age.Milliseconds(), c.txn
		p := &l.producers
		p.entries, p.end = map[id.ProducerID]*producerEntry{1: &e}, 100
		if err := p.take(l.at, false); err != nil {
			t.Fatal(err)
		}
		p.expire(now, after)
		q := producerState{snapshots: slices.Clone(p.snapshots)}
		if err := q.readSnapshot(l.at, 0, now, l.o); err != nil {
			t.Fatal(err)
		}
		if known, read := p.entries[1] != nil, q.entries[1] != nil; known != c.known || read != c.known || q.end != 100 || q.firstUnstable() != c.txn {
			t.Errorf("%s: known %t, after a start %t, up to %d, first unstable %d", name, known, read, q.end, q.firstUnstable())
		}
	}
}

// A log has a late transaction when nothing came for long from the producer of the oldest open one, in this life and the next; a
// record of his, and the end of the transaction, make it none.
func TestLateTransactions(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	o := managerOptions(t, disk, ck, "/data")
	o.MaxTransactionTimeout = time.Minute
	m := mustOpen(t, o)
	l := mustCreate(t, m, partition("t", 0))
	want := func(late bool) {
		t.Helper()
		if got := l.HasLateTransaction(); got != late {
			t.Errorf("late: %v, want %v", got, late)
		}
	}
	want(false)
	mustAppend(t, l, batchSpec{size: 10, idem: true, pid: 4}) // no transaction
	openTxn(t, l, 6, 0, 1)
	ck.advance(6 * time.Minute)
	want(false)
	mustAppend(t, l, batchSpec{size: 10, txn: true, pid: 7, ts: ck.ms}) // a younger one
	ck.advance(time.Millisecond)
	want(true)
	if err := m.Close(1); err != nil {
		t.Fatal(err)
	}
	m = mustOpen(t, o)
	defer func() { m.Close(1) }()
	l, _ = m.Get(partition("t", 0))
	want(true)
	mustAppend(t, l, batchSpec{size: 10, txn: true, pid: 6, seq: 1, ts: ck.ms})
	want(false)
	ck.advance(6*time.Minute + time.Millisecond)
	want(true)
	endTxn(t, l, 6, 0, record.ControlAbort)
	want(true) // that of producer 7
	endTxn(t, l, 7, 0, record.ControlCommit)
	want(false)
	ck.advance(time.Hour)
	want(false)
}

// A snapshot holds every producer with its last batch.
func TestSnapshotRoundTrip(t *testing.T) {
	with := func(e producerEntry, batches ...batchMeta) *producerEntry {
		for _, m := range batches {
			e.addMeta(m)
		}
		return &e
	}
	open := producerEntry{epoch: 2, coordinatorEpoch: 3, lastTimestamp: record.NoTimestamp, txnFirst: 100}
	last := batchMeta{lastOffset: 2, timestamp: record.NoTimestamp, lastSeq: 1, offsetDelta: 3}
	marked := producerEntry{epoch: 12, coordinatorEpoch: 13, lastTimestamp: 123456, txnFirst: id.NoOffset}
	for _, c := range []struct {
		state, want map[id.ProducerID]*producerEntry
	}{
		{nil, nil},
		{map[id.ProducerID]*producerEntry{1: with(open, batchMeta{lastOffset: 1, lastSeq: 0}, last), 11: with(marked)},
			map[id.ProducerID]*producerEntry{1: with(open, last), 11: with(marked)}},
	} {
		b := encodeSnapshot(c.state)
		got, err := decodeSnapshot(b)
		if err != nil || len(got) != len(c.want) || len(b) != snapshotHeaderBytes+len(c.state)*snapshotEntryBytes {
			t.Fatalf("%d producers in %d bytes: %v", len(got), len(b), err)
		}
		for pid, want := range c.want {
			if *got[pid] != *want {
				t.Errorf("producer %d: %+v, want %+v", pid, got[pid], want)
			}
		}
	}
}

// withSnapshots is a log of n batches of producer 1, with a snapshot behind each.
func withSnapshots(t *testing.T, disk *vfs.Mem, n int) *Log {
	l := openTest(t, disk, testConfig(), quiet)
	for i := range n {
		mustAppend(t, l, batchSpec{idem: true, pid: 1, seq: int32(i)})
		for range 2 { // the second time there is nothing new
			if err := l.producers.take(l.at, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(l.producers.snapshots) != n || len(snapshotsIn(t, disk)) != n {
		t.Fatalf("snapshots %v, files %v", l.producers.snapshots, snapshotsIn(t, disk))
	}
	return l
}

// A snapshot that is damaged goes, and the one before it counts.
func TestDamagedSnapshots(t *testing.T) {
	for name, damage := range map[string]func(b []byte) []byte{
		"empty":          func([]byte) []byte { return nil },
		"cut":            func(b []byte) []byte { return b[:len(b)/2] },
		"cut by a byte":  func(b []byte) []byte { return b[:len(b)-1] },
		"zeros in front": func(b []byte) []byte { return append(make([]byte, 37), b[37:]...) },
		"garbage behind": func(b []byte) []byte { return append(b, 7) },
		"older version":  func(b []byte) []byte { b[1] = 0; return b },
		"newer version":  func(b []byte) []byte { b[1] = 2; return b },
		"too many":       func(b []byte) []byte { b[6] = 0x7f; return b },
		"one bit":        func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
	} {
		disk := mem(t)
		l := withSnapshots(t, disk, 2)
		path := l.at.path(segmentName(2, suffixSnapshot))
		b, err := vfs.ReadFile(disk, path, 1<<10)
		if err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(disk, path, damage(b)); err != nil {
			t.Fatal(err)
		}
		p := producerState{snapshots: []id.Offset{1, 2}}
		if err := p.readSnapshot(l.at, 0, l.nowMs(), l.o); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e := p.entries[1]; p.end != 1 || p.snapshotEnd != 1 || e == nil || e.lastSeq() != 0 || !slices.Equal(p.snapshots, []id.Offset{1}) || vfs.Exists(disk, path) {
			t.Errorf("%s: up to %d, %v, snapshots %v", name, p.end, p.infos(), p.snapshots)
		}
	}
}

// A state that is made for a part of the log keeps the snapshots in it.
func TestSnapshotsInRange(t *testing.T) {
	disk := mem(t)
	l := withSnapshots(t, disk, 5)
	l.start.Store(1)
	if err := l.loadProducersTo(3); err != nil {
		t.Fatal(err)
	}
	if p := &l.producers; !slices.Equal(p.snapshots, []id.Offset{2, 3}) || len(snapshotsIn(t, disk)) != 2 || p.end != 3 || p.entries[1].lastSeq() != 2 {
		t.Errorf("snapshots %v, files %v, up to %d, %v", p.snapshots, snapshotsIn(t, disk), p.end, p.infos())
	}
	// One that goes with its segment has another name until then; whether it is there or not, it is not counted on.
	if name, err := l.producers.markSnapshotDeleted(l.at, 2); err != nil || name != segmentName(2, suffixSnapshot)+suffixDeleted || !vfs.Exists(disk, l.at.path(name)) {
		t.Errorf("%q, %v", name, err)
	}
	if err := disk.Remove(l.at.path(segmentName(3, suffixSnapshot))); err != nil {
		t.Fatal(err)
	}
	for _, at := range []id.Offset{3, 4} {
		if name, err := l.producers.markSnapshotDeleted(l.at, at); err != nil || name != "" {
			t.Errorf("%q, %v", name, err)
		}
	}
	if got := l.producers.snapshots; len(got) != 0 {
		t.Errorf("snapshots %v", got)
	}
	// A log that begins anew has none, and takes its first at once.
	l = withSnapshots(t, mem(t), 3)
	if err := l.TruncateFullyAndStartAt(0); err != nil {
		t.Fatal(err)
	}
	if got := l.producers.snapshots; len(got) != 0 || len(l.producers.entries) != 0 {
		t.Errorf("snapshots %v, %v", got, l.producers.infos())
	}
	mustAppend(t, l, batchSpec{idem: true, pid: 1})
	if err := l.producers.take(l.at, true); err != nil || !slices.Equal(l.producers.snapshots, []id.Offset{1}) {
		t.Errorf("snapshots %v, %v", l.producers.snapshots, err)
	}
}

// A snapshot from before the first segment says nothing of what lay between them, and may have come back in a crash; one at its
// beginning does.
func TestSnapshotsBeforeTheFirstSegment(t *testing.T) {
	for _, first := range []id.Offset{2, 3} {
		disk := mem(t)
		l := withSnapshots(t, disk, 3)
		old, err := vfs.ReadFile(disk, l.at.path(segmentName(2, suffixSnapshot)), 1<<10)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.TruncateFullyAndStartAt(first); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, batchSpec{idem: true, pid: 2, seq: 9})
		if err := vfs.WriteFile(disk, l.at.path(segmentName(2, suffixSnapshot)), old); err != nil {
			t.Fatal(err)
		}
		l.producers.snapshots, l.producersLoaded = []id.Offset{2}, false
		l.start.Store(1) // as the checkpoint says, until the segments have been looked at
		if err := l.loadProducersTo(first + 1); err != nil {
			t.Fatal(err)
		}
		stale, has := l.producers.entries[1], l.producers.entries[2]
		if first == 3 && (stale != nil || len(l.producers.snapshots) != 0) || first == 2 && stale == nil {
			t.Errorf("from %d: %v, snapshots %v", first, l.producers.infos(), l.producers.snapshots)
		}
		if has == nil || has.lastSeq() != 9 {
			t.Errorf("from %d: %v, want 9 of the second producer", first, l.producers.infos())
		}
	}
}

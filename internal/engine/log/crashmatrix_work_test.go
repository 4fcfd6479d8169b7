package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// The partitions of the crash matrix: plain has transactions, truncations and retention, keyed is compacted, and short is
// deleted and made again under another topic id.
var (
	plainTP = id.TopicPartition{Topic: "plain"}
	keyedTP = id.TopicPartition{Topic: "keyed"}
	shortTP = id.TopicPartition{Topic: "short"}
)

// expected is what one log may and must hold.
type expected struct {
	history  []record.Batch // every batch that may be found, gapless from base on
	base     id.Offset      // where history begins
	end      id.Offset      // of the calls that were answered: what a killed process leaves
	durable  id.Offset      // what a power loss leaves
	maxStart id.Offset      // the log may begin anywhere up to here
	sawStart id.Offset      // the highest start it ever had
	cut      id.Offset      // a truncation to here is under way; -1 otherwise
	emptied  bool           // a full truncation is under way, or was not flushed yet: an empty log may begin anywhere
	anyOld   []record.Batch // during one: what was there before
}

func newExpected() *expected { return &expected{cut: -1} }

// forget drops the history from end on.
func (e *expected) forget(end id.Offset) {
	for n := len(e.history); n > 0 && e.history[n-1].BaseOffset() >= end; n-- {
		e.history = e.history[:n-1]
	}
}

// matrix is one seeded run of everything a manager does to its disk, with a crash tried at every change.
type matrix struct {
	t      testing.TB
	seed   uint64
	rng    *rand.Rand
	disk   *vfs.Mem
	fault  *vfs.Faults
	clock  *clock
	epochs map[id.ProducerID]id.ProducerEpoch
	leader id.LeaderEpoch
	m      *Manager
	dirs   []string
	mv     *Move               // of one log to another directory
	moved  int                 // logs that arrived
	strict []id.TopicPartition // see makeStrict; usually none

	logs     map[id.TopicPartition]*expected
	shortIDs []id.UUID             // of the incarnations of short, newest last
	shorts   map[id.UUID]*expected // by topic id
	ops      map[string]int        // crashes tried by operation, to see what the run covers
	crash    func(op string) error // called at every change
	failed   error                 // the first thing that was found wrong
	trace    []string
}

func matrixConfig(tp string) Config {
	c := testConfig()
	c.SegmentBytes, c.IndexIntervalBytes, c.FileDeleteDelay = 1500, 200, time.Second
	c.RetentionTime, c.RetentionBytes = Forever, -1
	switch tp {
	case keyedTP.Topic:
		c.CleanupCompact, c.CleanupDelete = true, false
		c.MinCompactionLag, c.MaxCompactionLag, c.MinCleanableRatio, c.DeleteRetention = 0, Forever, 0, Forever
	case plainTP.Topic:
		c.RetentionBytes = 9000
	case strictTP.Topic:
		c.FlushMessages = 1
	}
	return c
}

func newMatrix(t testing.TB, seed uint64, more ...string) *matrix {
	w := &matrix{t: t, seed: seed, dirs: append([]string{"/data"}, more...), rng: rand.New(rand.NewPCG(seed, 77)), disk: mem(t), clock: &clock{ms: epochMs},
		logs: map[id.TopicPartition]*expected{plainTP: newExpected(), keyedTP: newExpected()}, shorts: map[id.UUID]*expected{}, ops: map[string]int{}, epochs: map[id.ProducerID]id.ProducerEpoch{}}
	for _, dir := range more {
		if err := errors.Join(w.disk.MkdirAll(dir, 0o755), w.disk.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
	}
	w.disk.SetNow(w.clock.now)
	w.fault = vfs.NewFaults(w.disk)
	return w
}

func (w *matrix) options(fsys vfs.FS) Options {
	cleaner := DefaultCleanerConfig()
	cleaner.DedupeBufferBytes, cleaner.IOBufferBytes = 64<<10, 8<<10
	return Options{FS: fsys, Dirs: w.dirs, Now: w.clock.now, Config: matrixConfig(""), AutoFormat: true, ClusterID: "c", NodeID: 1,
		Manual: true, Deferred: true, Logger: slog.New(slog.DiscardHandler), Cleaner: cleaner,
		RetentionCheckInterval: time.Second, InitialDelay: time.Second, RecoveryPointInterval: time.Second,
		StartOffsetInterval: time.Second, HighWatermarkInterval: time.Second}
}

// open starts a manager as a node does.
func (w *matrix) open(fsys vfs.FS) (*Manager, error) {
	m, err := Open(w.options(fsys))
	if err != nil {
		return nil, err
	}
	if err := m.Load(LoadOptions{TopicConfig: matrixConfig}); err != nil {
		m.Close(0)
		return nil, err
	}
	return m, nil
}

func (w *matrix) fail(format string, args ...any) {
	if w.failed == nil {
		w.failed = fmt.Errorf(format, args...)
	}
}

func (w *matrix) log(tp id.TopicPartition) *Log {
	l, ok := w.m.Get(tp)
	if !ok {
		w.fail("%v is gone in a running node", tp)
	}
	return l
}

// run works until steps are done or something is wrong. Between two starts the node is stopped, or killed and nothing is lost.
func (w *matrix) run(steps int) {
	w.start()
	for i := 0; i < steps && w.failed == nil; i++ {
		w.step()
	}
	if w.failed == nil {
		w.stop()
	}
}

func (w *matrix) start() {
	var err error
	if w.m, err = w.open(w.fault); err != nil {
		w.fail("start: %v", err)
		return
	}
	for _, tp := range append([]id.TopicPartition{plainTP, keyedTP}, w.strict...) {
		if _, err := w.m.Create(tp, CreateOptions{TopicID: id.MetadataTopicID, Config: matrixConfig(tp.Topic)}); err != nil {
			w.fail("create: %v", err)
			return
		}
	}
	if len(w.shortIDs) == 0 {
		w.newShort()
	}
	for tp, dir := range w.m.Unfinished() {
		w.beginMove(tp, dir)
	}
}

func (w *matrix) newShort() {
	rng := rand.New(rand.NewPCG(w.seed, uint64(len(w.shortIDs)))) // the id is of the seed as well
	var u id.UUID
	for ok := false; !ok; {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], rng.Uint64())
		binary.BigEndian.PutUint64(b[8:], rng.Uint64())
		u, ok = id.NewUUID(b)
	}
	w.shortIDs = append(w.shortIDs, u)
	w.shorts[u] = newExpected()
	w.logs[shortTP] = w.shorts[u]
	if _, err := w.m.Create(shortTP, CreateOptions{TopicID: u, Config: matrixConfig(shortTP.Topic)}); err != nil {
		w.fail("create: %v", err)
	}
}

func (w *matrix) stop() {
	w.mv = nil
	if err := w.m.Close(7); err != nil {
		w.fail("close: %v", err)
		return
	}
	for _, e := range w.logs {
		e.durable, e.emptied, e.anyOld = e.end, false, nil
	}
}

func (w *matrix) step() {
	if len(w.dirs) > 1 && w.rng.IntN(3) == 0 {
		w.move()
		return
	}
	if len(w.strict) > 0 && w.rng.IntN(2) == 0 {
		w.strictStep()
		return
	}
	switch n := w.rng.IntN(100); {
	case n < 18:
		w.appendPlain()
	case n < 34:
		w.txn()
	case n < 50:
		w.appendKeyed()
	case n < 55:
		w.append(shortTP, batchSpec{records: 1 + w.rng.IntN(3), size: 100, ts: w.clock.ms}.build(w.t), AppendInfo{LeaderEpoch: 1})
	case n < 64:
		w.flush()
	case n < 70:
		w.say("tick")
		w.clock.advance(2 * time.Second)
		l := w.log(plainTP)
		l.AdvanceHighWatermark(l.EndOffset())
		// Retention may take every segment but the active one.
		w.logs[plainTP].maxStart = max(w.logs[plainTP].maxStart, l.active().base)
		w.m.Tick(w.clock.now())
	case n < 76:
		w.truncate(plainTP)
	case n < 78:
		w.empty()
	case n < 82:
		w.deleteRecords()
	case n < 86:
		w.say("roll")
		if err := w.log([]id.TopicPartition{plainTP, keyedTP, shortTP}[w.rng.IntN(3)]).Roll(); err != nil {
			w.fail("roll: %v", err)
		}
	case n < 93:
		w.say("clean")
		l := w.log(keyedTP)
		l.AdvanceHighWatermark(l.EndOffset())
		// The cleaner flushes what it decides by; that promise is not ours to note before it returns.
		w.m.Clean()
	case n < 95:
		w.recreate()
	case n < 97:
		w.say("stop and start")
		w.stop()
		w.start()
	default:
		w.clock.advance(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
	}
}

func (w *matrix) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// append writes one batch; its bytes may be found from the moment the call begins, and must be when it has returned.
func (w *matrix) append(tp id.TopicPartition, b []byte, info AppendInfo) {
	e, l := w.logs[tp], w.log(tp)
	if l == nil {
		return
	}
	w.say("append to %v at %d, %d bytes", tp, e.end, len(b))
	batch := record.Batch(bytes.Clone(b))
	batch.SetBaseOffset(e.end)
	batch.SetLeaderEpoch(info.LeaderEpoch)
	e.history = append(e.history, batch)
	r, err := l.AppendAsLeader(b, info)
	if err != nil || r.BaseOffset != e.end || r.Duplicate || !bytes.Equal(b, batch) {
		w.fail("append to %v at %d: %+v, %v", tp, e.end, r, err)
		return
	}
	e.end = r.NextOffset
}

// producer is what the log says of a producer. One that the log does not know begins with a new epoch, as its coordinator sees
// to; a sequence number never comes twice in an epoch.
func (w *matrix) producer(l *Log, pid id.ProducerID) ProducerInfo {
	for _, p := range l.Producers() {
		if p.ProducerID == pid && (p.LastSequence >= 0 || p.ProducerEpoch == w.epochs[pid]) {
			return p
		}
	}
	w.epochs[pid]++
	return ProducerInfo{ProducerID: pid, ProducerEpoch: w.epochs[pid], LastSequence: -1, CurrentTxnStartOffset: -1}
}

// epoch is the leader epoch of the next append; they never fall.
func (w *matrix) epoch(l *Log) id.LeaderEpoch {
	w.leader = max(w.leader, l.LatestEpoch())
	if w.rng.IntN(8) == 0 {
		w.leader++
	}
	return w.leader
}

func (w *matrix) appendPlain() {
	l := w.log(plainTP)
	s := batchSpec{records: 1 + w.rng.IntN(3), size: 20 + w.rng.IntN(200), ts: w.clock.ms + int64(w.rng.IntN(1000)), fill: byte(w.rng.IntN(16))}
	if w.rng.IntN(2) == 0 {
		p := w.producer(l, 9)
		s.idem, s.pid, s.epoch, s.seq = true, 9, p.ProducerEpoch, p.LastSequence+1
	}
	w.append(plainTP, s.build(w.t), AppendInfo{LeaderEpoch: w.epoch(l)})
}

// txn goes on with the transaction of one of three producers, or ends it.
func (w *matrix) txn() {
	l := w.log(plainTP)
	p := w.producer(l, id.ProducerID(20+w.rng.IntN(3)))
	if p.CurrentTxnStartOffset >= 0 && w.rng.IntN(2) == 0 {
		m, err := record.EndTxnMarker(p.ProducerID, p.ProducerEpoch, w.rng.IntN(2) == 0, w.clock.ms, []byte{0, 0, 0, 0, 0, 3})
		if err != nil {
			w.t.Fatal(err)
		}
		w.append(plainTP, m, AppendInfo{LeaderEpoch: w.epoch(l), Origin: OriginCoordinator})
		return
	}
	s := batchSpec{records: 1 + w.rng.IntN(2), size: 60, ts: w.clock.ms, txn: true, pid: p.ProducerID, epoch: p.ProducerEpoch, seq: p.LastSequence + 1}
	w.append(plainTP, s.build(w.t), AppendInfo{LeaderEpoch: w.epoch(l)})
}

func (w *matrix) appendKeyed() {
	b := record.NewBuilder(record.NewOptions())
	for range 1 + w.rng.IntN(3) {
		if err := b.Append(w.clock.ms, fmt.Appendf(nil, "k%d", w.rng.IntN(6)), fmt.Appendf(nil, "%0*d", 20+w.rng.IntN(60), w.rng.IntN(1000))); err != nil {
			w.t.Fatal(err)
		}
	}
	raw, err := b.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	w.append(keyedTP, bytes.Clone(raw), AppendInfo{LeaderEpoch: w.epoch(w.log(keyedTP))})
}

func (w *matrix) flush() {
	for _, tp := range []id.TopicPartition{plainTP, keyedTP, shortTP} {
		if w.rng.IntN(3) == 0 {
			continue
		}
		w.say("flush %v", tp)
		e, l := w.logs[tp], w.log(tp)
		if err := l.Flush(l.EndOffset()); err != nil {
			w.fail("flush: %v", err)
			return
		}
		e.durable, e.emptied, e.anyOld = e.end, false, nil
	}
}

// truncate cuts a log somewhere, while a reader holds a section of what goes.
func (w *matrix) truncate(tp id.TopicPartition) {
	e, l := w.logs[tp], w.log(tp)
	if e.end <= l.StartOffset() {
		return
	}
	to := l.StartOffset() + id.Offset(w.rng.Int64N(int64(e.end-l.StartOffset())+1))
	end := to
	for _, b := range e.history {
		if b.BaseOffset() < to && b.NextOffset() > to {
			end = b.BaseOffset()
		}
	}
	w.say("truncate %v from %d to %d", tp, e.end, to)
	var want []byte
	r, err := l.Read(ReadRequest{Offset: l.StartOffset(), MaxBytes: 1 << 20, Isolation: ReadLogEnd, Reader: Reader{ReplicaID: 2}, LastFetchedEpoch: id.NoLeaderEpoch})
	if err != nil {
		w.fail("read before a truncation: %v", err)
		return
	}
	if r.Section != nil {
		if want, err = r.Section.Bytes(); err != nil {
			w.fail("read before a truncation: %v", err)
			return
		}
		defer r.Section.Release()
	}
	e.durable, e.cut = min(e.durable, end), end
	if err := l.TruncateTo(to); err != nil || l.EndOffset() != end {
		w.fail("truncation to %d: log end %d instead of %d, %v", to, l.EndOffset(), end, err)
		return
	}
	e.cut, e.end = -1, end
	e.forget(end)
	if r.Section != nil {
		if got, err := r.Section.Bytes(); err == nil && !bytes.Equal(got, want) || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			w.fail("a reader who held a section across a truncation got %d bytes of %d, %v", len(got), len(want), err)
		}
	}
}

func (w *matrix) empty() {
	e, l := w.logs[plainTP], w.log(plainTP)
	at := e.end + id.Offset(w.rng.IntN(50))
	w.say("empty and start at %d", at)
	e.emptied, e.anyOld, e.durable = true, slices.Clone(e.history), 0
	e.maxStart = max(e.maxStart, at)
	if err := l.TruncateFullyAndStartAt(at); err != nil || l.EndOffset() != at || l.StartOffset() != at {
		w.fail("emptying: %d to %d, %v", l.StartOffset(), l.EndOffset(), err)
		return
	}
	e.history, e.base, e.end, e.durable, e.emptied, e.anyOld = nil, at, at, at, false, nil
}

func (w *matrix) deleteRecords() {
	e, l := w.logs[plainTP], w.log(plainTP)
	l.AdvanceHighWatermark(l.EndOffset())
	before := l.StartOffset() + id.Offset(w.rng.Int64N(int64(e.end-l.StartOffset())+1))
	w.say("delete records below %d", before)
	e.maxStart = max(e.maxStart, before)
	if got, err := l.DeleteRecords(before); err != nil || got != before {
		w.fail("delete records below %d: %d, %v", before, got, err)
	}
}

// recreate deletes a partition and makes another of the same name.
func (w *matrix) recreate() {
	w.say("delete and make again")
	e := w.logs[shortTP]
	e.durable, e.end = 0, 0
	if err := w.m.Delete(shortTP); err != nil {
		w.fail("delete: %v", err)
		return
	}
	w.newShort()
}

// beginMove begins to move a log to another directory, or to the one it is in, which is nothing.
func (w *matrix) beginMove(tp id.TopicPartition, dir string) {
	w.say("begin to move %v to %s", tp, dir)
	mv, err := w.m.BeginMove(tp, dir)
	if err != nil {
		w.fail("begin to move %v to %s: %v", tp, dir, err)
		return
	}
	w.mv = mv
}

// move does a step of a move, or begins one.
func (w *matrix) move() {
	if w.mv == nil || w.mv.Over() {
		all := append([]id.TopicPartition{plainTP, keyedTP, shortTP}, w.strict...)
		w.beginMove(all[w.rng.IntN(len(all))], w.dirs[w.rng.IntN(len(w.dirs))])
		return
	}
	var err error
	tp := w.mv.TopicPartition()
	switch n := w.rng.IntN(24); {
	case n == 0:
		w.say("abandon the move of %v", tp)
		w.mv.Abandon()
	case n < 12:
		w.say("copy a part of %v", tp)
		_, err = w.mv.Copy(1 + w.rng.IntN(3000))
	case n < 16:
		w.say("flush the copy of %v", tp)
		err = w.mv.Arrive()
	default:
		w.say("move %v", tp)
		if _, err = w.mv.Finish(); err == nil {
			w.moved++
			e := w.logs[tp]
			e.durable, e.emptied, e.anyOld = e.end, false, nil
		}
	}
	if err != nil {
		w.fail("move of %v: %v", tp, err)
	}
}

// live is a log of the running node, if it runs.
func (w *matrix) live(tp id.TopicPartition) (*Log, bool) {
	if w.m == nil {
		return nil, false
	}
	return w.m.Get(tp)
}

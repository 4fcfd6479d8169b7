package log

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

var (
	tp0 = id.TopicPartition{Topic: "t"}
	tp1 = id.TopicPartition{Topic: "t", Partition: 1}
)

func crashConfig() Config {
	c := testConfig()
	c.SegmentBytes, c.IndexIntervalBytes, c.FileDeleteDelay = 2500, 300, time.Second
	return c
}

// world is a manager with one log on a disk that may fail, and what the log should hold.
type world struct {
	t     testing.TB
	disk  *vfs.Mem
	fault *vfs.Faults
	clock *clock
	m     *Manager
	l     *Log

	batches  []record.Batch // in the log, or once in the log and not overwritten since; offsets ascending
	end      id.Offset      // log end, as far as calls succeeded
	durable  id.Offset      // what Flush promised
	start    id.Offset      // low bound for the log start
	maxStart id.Offset      // high bound for the log start
	seq      int32

	cutting bool // a truncation was begun and failed half way
	cutEnd  id.Offset
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, disk: mem(t), clock: &clock{ms: epochMs}}
	w.disk.SetNow(w.clock.now)
	w.fault = vfs.NewFaults(w.disk)
	return w
}

func (w *world) options(fsys vfs.FS) Options {
	return Options{FS: fsys, Dirs: []string{"/data"}, Now: w.clock.now, Config: crashConfig(), AutoFormat: true, ClusterID: "c", NodeID: 1, Manual: true,
		Logger: slog.New(slog.DiscardHandler), RetentionCheckInterval: time.Second, InitialDelay: time.Second,
		RecoveryPointInterval: time.Second, StartOffsetInterval: time.Second, HighWatermarkInterval: time.Second}
}

// run does everything a log does to its disk. Errors end a step, not the run; a crash ends the run.
func (w *world) run() {
	var err error
	if w.m, err = Open(w.options(w.fault)); err != nil {
		return
	}
	if w.l, err = w.m.Create(tp0, CreateOptions{TopicID: id.MetadataTopicID, Config: crashConfig()}); err != nil {
		w.m.Close(7)
		return
	}
	w.m.Create(tp1, CreateOptions{TopicID: id.MetadataTopicID, Config: crashConfig()}) // never written to
	for i := range 8 {
		w.append(1, 200+i*50)
	}
	w.flush()
	w.append(2, 300)
	w.tick()
	w.l.AdvanceHighWatermark(w.l.EndOffset())
	for range 6 {
		w.append(2, 400)
	}
	w.flush()
	w.tick()
	w.truncate(w.end - 9)
	for range 9 {
		w.append(3, 250)
	}
	w.tick()
	w.truncate(w.end - 2)
	w.append(4, 250)
	w.append(4, 250)
	w.flush()
	w.l.AdvanceHighWatermark(w.l.EndOffset())
	w.maxStart = max(w.maxStart, 6)
	if _, err := w.l.DeleteRecords(6); err == nil {
		w.start = 0 // the checkpoint may be lost: it is written in the background
	}
	w.tick()
	w.append(5, 250)
	w.tick()
	if err := w.m.Close(7); err == nil {
		w.durable = w.end
	}
}

func (w *world) append(epoch id.LeaderEpoch, size int) {
	if w.fault.Crashed() {
		return
	}
	b := batchSpec{records: 2, size: size, idem: true, pid: 9, seq: w.seq, fill: byte(w.seq)}.build(w.t)
	r, err := w.l.AppendAsLeader(b, AppendInfo{LeaderEpoch: epoch})
	if err != nil {
		if w.fault.Crashed() {
			// The bytes may have reached the disk whole, although nobody was told.
			record.Batch(b).SetBaseOffset(w.end)
			record.Batch(b).SetLeaderEpoch(epoch)
			w.keepBelow(w.end)
			w.batches = append(w.batches, b)
		}
		return
	}
	if r.BaseOffset != w.end || r.Duplicate {
		w.t.Fatalf("append went to %+v, the log end was %d", r, w.end)
	}
	w.seq += 2
	w.keepBelow(w.end)
	w.batches = append(w.batches, bytes.Clone(b))
	w.end = r.NextOffset
}

// keepBelow forgets what is being overwritten, and a batch of which only a part was left below the log start.
func (w *world) keepBelow(end id.Offset) {
	for n := len(w.batches); n > 0 && w.batches[n-1].NextOffset() > end; n-- {
		w.batches = w.batches[:n-1]
	}
}

func (w *world) flush() {
	if w.l.Flush(w.end) == nil {
		w.durable = max(w.durable, w.end)
	}
}

func (w *world) truncate(to id.Offset) {
	if w.l.Err() != nil {
		return
	}
	// From here on less may be found, whether or not the call succeeds.
	end := to
	first := (*w.l.segments.Load())[0].base // what lies below is gone, also half a batch
	for _, b := range w.batches {
		if b.BaseOffset() >= first && b.BaseOffset() < to && b.NextOffset() > to {
			end = b.BaseOffset()
		}
	}
	w.durable = min(w.durable, end)
	w.cutting = true
	if err := w.l.TruncateTo(to); err != nil {
		if w.l.Err() == nil && w.l.EndOffset() != w.end && w.l.EndOffset() != end {
			w.t.Fatalf("failed truncation to %d left the log at %d", to, w.l.EndOffset())
		}
		w.end = w.l.EndOffset()
		w.cutting = w.l.Err() != nil
		w.cutEnd = end
	} else {
		w.cutting = false
		if w.l.EndOffset() != end {
			w.t.Fatalf("truncated to %d, end is %d, want %d", to, w.l.EndOffset(), end)
		}
		w.end = end
		w.seq = int32(0)
		for _, b := range w.batches {
			if b.BaseOffset() < w.end {
				w.seq = b.BaseSequence() + 2
			}
		}
	}
}

func (w *world) tick() {
	w.clock.advance(2 * time.Second)
	w.m.Tick(w.clock.now())
}

// check opens a disk and compares the log with what it should be. least is the lowest log end allowed.
func (w *world) check(disk vfs.FS, least id.Offset) error {
	m, err := Open(w.options(disk))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer m.Close(8)
	other, err := m.Create(tp1, CreateOptions{TopicID: id.MetadataTopicID, Config: crashConfig()})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if r, err := other.AppendAsLeader(batchSpec{}.build(w.t), AppendInfo{LeaderEpoch: 9}); err != nil || r.BaseOffset != 0 {
		return fmt.Errorf("append to an empty log: %+v, %w", r, err)
	}
	l, ok := m.Get(tp0)
	if !ok {
		if least > 0 {
			return fmt.Errorf("the log is gone, its end was %d", least)
		}
		return nil
	}
	if least > 0 && l.TopicID().IsZero() {
		return errors.New("the topic id is gone")
	}
	if l.EndOffset() < least {
		return fmt.Errorf("log end %d, promised was %d", l.EndOffset(), least)
	}
	if s := l.StartOffset(); s < w.start || s > w.maxStart {
		return fmt.Errorf("log start %d outside of %d to %d", s, w.start, w.maxStart)
	}
	if hw := l.HighWatermark(); hw < l.StartOffset() || hw > l.EndOffset() {
		return fmt.Errorf("high watermark %d outside of %d to %d", hw, l.StartOffset(), l.EndOffset())
	}
	got, err := readFrom(l, l.StartOffset())
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if err := w.compare(got, l.StartOffset()); err != nil {
		return err
	}
	if len(got) > 0 {
		last := got[len(got)-1]
		if l.LatestEpoch() < last.LeaderEpoch() {
			return fmt.Errorf("latest epoch %d, the last batch has %d", l.LatestEpoch(), last.LeaderEpoch())
		}
		for _, b := range got {
			if e := l.EpochAt(b.LastOffset()); e != b.LeaderEpoch() {
				return fmt.Errorf("epoch at %d is %d, the batch has %d", b.BaseOffset(), e, b.LeaderEpoch())
			}
		}
		// The producer sends its last batch again.
		again := bytes.Clone(last)
		record.Batch(again).SetBaseOffset(0)
		r, err := l.AppendAsLeader(again, AppendInfo{LeaderEpoch: 9})
		if err != nil || !r.Duplicate || r.BaseOffset != last.BaseOffset() || r.LastOffset != last.LastOffset() {
			return fmt.Errorf("a batch sent again went to %+v, %w", r, err)
		}
	}
	next := batchSpec{records: 5, size: 300, fill: 'z'}.build(w.t)
	r, err := l.AppendAsLeader(next, AppendInfo{LeaderEpoch: 9})
	if err != nil || r.BaseOffset != r.NextOffset-5 {
		return fmt.Errorf("append after recovery: %+v, %w", r, err)
	}
	if again, err := readFrom(l, l.StartOffset()); err != nil || len(again) != len(got)+1 {
		return fmt.Errorf("read after an append: %d batches instead of %d, %w", len(again), len(got)+1, err)
	}
	return nil
}

// compare checks that the batches are a gapless part of those appended.
func (w *world) compare(got []record.Batch, start id.Offset) error {
	i := 0
	for i < len(w.batches) && w.batches[i].LastOffset() < start {
		i++
	}
	for j, b := range got {
		if i+j >= len(w.batches) {
			return fmt.Errorf("batch at %d was never appended", b.BaseOffset())
		}
		if want := w.batches[i+j]; !bytes.Equal(b, want) {
			return fmt.Errorf("batch %v in place of %v", b, want)
		}
	}
	return nil
}

// Every change of the disk is made the last one before a crash, whole or torn, and the disk is looked at as several crashes
// would leave it.
func TestCrashMatrix(t *testing.T) {
	race.Skip(t)
	seed := seed.Of(t) | 2
	steps := 0
	for _, mode := range []struct {
		name string
		rule vfs.Rule
	}{
		{"before", vfs.Rule{Op: vfs.OpChange, Crash: true}},
		{"torn", vfs.Rule{Op: vfs.OpChange, Crash: true, Short: 0.6}},
		{"after", vfs.Rule{Op: vfs.OpChange, Crash: true, After: true}},
	} {
		for n := 1; ; n++ {
			w := newWorld(t)
			mode.rule.Nth = n
			w.fault.Add(mode.rule)
			w.run()
			crashed := w.fault.Crashed()
			for _, c := range []struct {
				seed  uint64
				least id.Offset
			}{{vfs.LoseUnsynced, w.durable}, {vfs.KeepUnsynced, w.killedEnd()}, {seed, w.durable}, {seed + 1, w.durable}, {seed + 2, w.durable}} {
				if err := w.check(w.disk.CrashClone(c.seed), c.least); err != nil {
					t.Fatalf("crash %s change %d, clone %d: %v", mode.name, n, c.seed, err)
				}
			}
			if !crashed {
				steps += n - 1
				break
			}
		}
	}
	t.Logf("%d crash points", steps)
	if steps < 200 {
		t.Errorf("only %d crash points: the run does not do what it should", steps)
	}
}

// killedEnd is what must be there when only the process died: every append that was answered, unless a truncation was under way.
func (w *world) killedEnd() id.Offset {
	if w.cutting {
		return min(w.end, w.cutEnd)
	}
	return w.end
}

// Every change of the disk fails once, with a full disk or an I/O error, and the node goes on as far as it can.
func TestErrorMatrix(t *testing.T) {
	race.Skip(t)
	for _, mode := range []struct {
		name string
		rule vfs.Rule
	}{
		{"full", vfs.Rule{Op: vfs.OpChange, Err: syscall.ENOSPC, Short: 0.5}},
		{"error", vfs.Rule{Op: vfs.OpChange, Err: syscall.EIO, Short: 0.5}},
	} {
		for n := 1; ; n++ {
			w := newWorld(t)
			mode.rule.Nth = n
			w.fault.Add(mode.rule)
			w.run()
			if w.l != nil && w.l.Err() == nil {
				t.Fatalf("%s at change %d: the log was not closed", mode.name, n)
			}
			if w.m != nil {
				// What was refused must not have left anything: a restart finds every append that succeeded.
				if err := w.check(w.disk, w.killedEnd()); err != nil {
					t.Fatalf("%s at change %d: %v", mode.name, n, err)
				}
			}
			if w.fault.Changes() < n {
				break
			}
		}
	}
}

// A disk that is full for a while refuses appends, serves reads, and works again when there is room, without a restart.
func TestFullDiskRecovers(t *testing.T) {
	w := newWorld(t)
	var err error
	if w.m, err = Open(w.options(w.disk)); err != nil {
		t.Fatal(err)
	}
	c := crashConfig()
	c.SegmentBytes = 1 << 20
	if w.l, err = w.m.Create(tp0, CreateOptions{TopicID: id.MetadataTopicID, Config: c}); err != nil {
		t.Fatal(err)
	}
	w.append(0, 300)
	w.disk.SetFree(200)
	for range 3 {
		_, err := w.l.AppendAsLeader(batchSpec{size: 1000}.build(t), AppendInfo{})
		var se *StorageError
		if !errors.As(err, &se) || IsOffline(err) {
			t.Fatalf("append to a full disk: %v", err)
		}
	}
	if got := readAll(t, w.l); len(got) != 1 {
		t.Fatalf("%d batches after refused appends", len(got))
	}
	w.disk.SetFree(-1)
	w.append(0, 300)
	if got := readAll(t, w.l); len(got) != 2 {
		t.Fatalf("%d batches after there was room again", len(got))
	}
	if err := w.m.Close(1); err != nil {
		t.Fatal(err)
	}
}

// A failed fsync takes the directory offline: nothing that was not synced is ever called durable.
func TestFailedSyncTakesDirectoryOffline(t *testing.T) {
	w := newWorld(t)
	var err error
	if w.m, err = Open(w.options(w.fault)); err != nil {
		t.Fatal(err)
	}
	if w.l, err = w.m.Create(tp0, CreateOptions{TopicID: id.MetadataTopicID, Config: crashConfig()}); err != nil {
		t.Fatal(err)
	}
	w.append(0, 300)
	w.fault.Add(vfs.Rule{Op: vfs.OpSync, Path: "*.log", Nth: 1, Err: syscall.EIO})
	if err := w.l.Flush(w.end); !IsOffline(err) {
		t.Fatalf("flush: %v", err)
	}
	if w.l.DurableEnd() != 0 {
		t.Fatalf("durable end %d after a failed sync", w.l.DurableEnd())
	}
	if err := w.l.Flush(w.end); !IsOffline(err) {
		t.Fatalf("second flush: %v", err)
	}
	if _, err := w.l.AppendAsLeader(batchSpec{}.build(t), AppendInfo{}); !IsOffline(err) {
		t.Fatalf("append: %v", err)
	}
	if _, err := w.l.Read(ReadRequest{MaxBytes: 1}); !IsOffline(err) {
		t.Fatalf("read: %v", err)
	}
	select {
	case <-w.m.Failures():
	default:
		t.Fatal("the failure was not signalled")
	}
	if d := w.m.Dirs(); d[0].Err == nil {
		t.Fatal("the directory is not reported offline")
	}
	w.m.Close(1)
	if vfs.Exists(w.disk, "/data/.kafka_cleanshutdown") {
		t.Fatal("clean shutdown mark in a failed directory")
	}
}

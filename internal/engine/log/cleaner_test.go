package log

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// dirtyModel is a log with work for a cleaner: segments of which some are clean, transactions that ended both ways.
func dirtyModel(t testing.TB, seed uint64) *cleanModel {
	w := newCleanModel(t, seed)
	w.c.MinCompactionLag, w.c.MaxCompactionLag, w.c.MinCleanableRatio = 0, Forever, 0
	w.cl.DedupeBufferBytes = 128 << 20
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(2 * time.Second)
	w.m.Tick(w.clock.now())
	for i := range 90 {
		var err error
		switch {
		case i%4 == 3:
			err = w.end()
		case i == 50:
			err = w.clean()
		default:
			err = w.append()
		}
		if err != nil {
			t.Fatal(err)
		}
		w.clock.advance(100 * time.Millisecond)
	}
	for len(w.open) > 0 {
		if err := w.end(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.l.Roll(); err != nil {
		t.Fatal(err)
	}
	if err := w.append(); err != nil {
		t.Fatal(err)
	}
	if err := w.l.Flush(w.l.EndOffset()); err != nil {
		t.Fatal(err)
	}
	w.l.AdvanceHighWatermark(w.l.EndOffset())
	return w
}

// on is the model over another disk.
func (w *cleanModel) on(disk *vfs.Mem) *cleanModel {
	c := *w
	c.disk = disk
	c.disk.SetNow(c.clock.now)
	c.batches, c.txns = slices.Clone(w.batches), slices.Clone(w.txns)
	c.open, c.epochs, c.seqs = maps.Clone(w.open), maps.Clone(w.epochs), maps.Clone(w.seqs)
	return &c
}

// Every change of the disk in a pass is made the last one before a crash. What is found afterwards is what was there before the
// pass or after it, a committed reader sees no difference, and the next pass works.
func TestCleanerCrashMatrix(t *testing.T) {
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
			w := dirtyModel(t, seed)
			rule := mode.rule
			rule.Nth = n
			w.fault.Add(rule)
			least := w.l.DurableEnd()
			w.m.Clean()
			crashed := w.fault.Crashed()
			for _, clone := range []uint64{vfs.LoseUnsynced, vfs.KeepUnsynced, seed, seed + 1} {
				c := w.on(w.disk.CrashClone(clone))
				err := c.start()
				if err == nil {
					err = c.afterCrash(least)
				}
				if err == nil {
					err = c.check()
				}
				if err == nil {
					err = c.clean()
				}
				if err == nil {
					err = c.checkProducers()
				}
				if err != nil {
					t.Fatalf("crash %s change %d, clone %d: %v", mode.name, n, clone, err)
				}
				if entries, _ := c.disk.List("/data/t-0"); slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return leftOver(e.Name()) }) {
					t.Fatalf("crash %s change %d, clone %d: files of the cleaner are left", mode.name, n, clone)
				}
			}
			if !crashed {
				steps += n - 1
				break
			}
		}
	}
	t.Logf("%d crash points", steps)
	if steps < 60 {
		t.Errorf("only %d crash points: the pass does not do what it should", steps)
	}
}

func leftOver(name string) bool {
	_, suffix, _ := parseSegmentName(name)
	return bytes.HasSuffix([]byte(suffix), []byte(suffixCleaned)) || bytes.HasSuffix([]byte(suffix), []byte(suffixSwap))
}

// Every change of the disk in a pass fails once. With a full disk the log goes on and is cleaned when there is room; another error
// may take the directory offline, and a restart finds everything.
func TestCleanerErrorMatrix(t *testing.T) {
	race.Skip(t)
	seed := seed.Of(t)
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO} {
		for n := 1; ; n++ {
			w := dirtyModel(t, seed)
			changes := w.fault.Changes()
			w.fault.Add(vfs.Rule{Op: vfs.OpChange, Nth: n, Err: errno, Short: 0.5})
			w.m.Clean()
			if len(w.m.Uncleanable()) > 0 {
				t.Fatalf("%v at change %d: the log was set aside: %v", errno, n, w.m.Uncleanable())
			}
			done := w.fault.Changes()-changes < n
			w.fault.Clear()
			if w.l.Err() != nil {
				w.m.Close(1)
				w = w.on(w.disk)
				if err := w.start(); err != nil {
					t.Fatalf("%v at change %d: %v", errno, n, err)
				}
			}
			if err := w.check(); err != nil {
				t.Fatalf("%v at change %d: %v", errno, n, err)
			}
			if err := w.clean(); err != nil {
				t.Fatalf("%v at change %d: %v", errno, n, err)
			}
			if done {
				break
			}
		}
	}
}

// compacted makes a manager with logs that have work for the cleaner.
func compacted(t *testing.T, o Options, disk *vfs.Mem, logs int, change func(c *Config)) *Manager {
	t.Helper()
	c := testConfig()
	c.CleanupCompact, c.CleanupDelete, c.SegmentBytes = true, false, 1000
	if change != nil {
		change(&c)
	}
	o.FS, o.Config = disk, c
	m := mustOpen(t, o)
	for p := range logs {
		l, err := m.Create(partition("t", int32(p)), CreateOptions{TopicID: id.MetadataTopicID, Config: c})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			appendKey(t, l, fmt.Sprint("k", i%4), fmt.Sprint("value ", i), o.Now().UnixMilli())
		}
		l.AdvanceHighWatermark(l.EndOffset())
	}
	return m
}

func appendKey(t testing.TB, l *Log, key, value string, ts int64) {
	t.Helper()
	b := record.NewBuilder(record.NewOptions())
	var v []byte
	if value != "" {
		v = []byte(value)
	}
	if err := b.Append(ts, []byte(key), v); err != nil {
		t.Fatal(err)
	}
	raw, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendAsLeader(bytes.Clone(raw), AppendInfo{}); err != nil {
		t.Fatal(err)
	}
}

func recordsOf(t testing.TB, l *Log) (n int) {
	t.Helper()
	for _, b := range readAll(t, l) {
		n += int(b.Count())
	}
	return n
}

// A log that cannot be cleaned is set aside and counted, the others are cleaned; it stays readable and is back after a restart.
func TestUncleanableLogIsSetAside(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	o := managerOptions(t, disk, ck, "/data")
	m := compacted(t, o, disk, 3, nil)
	path := "/data/t-1/" + segmentName(0, suffixLog)
	b := []byte(content(t, disk, path))
	good := bytes.Clone(b)
	b[len(b)-3] ^= 1
	f, err := disk.OpenFile(path, createTruncate&^syscall.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt(b, 0)
	for range 5 {
		m.Clean()
	}
	for p, want := range map[int32]bool{0: true, 1: false, 2: true} {
		l, _ := m.Get(partition("t", p))
		if cleaned := l.clean.Load() > 0; cleaned != want {
			t.Errorf("partition %d: cleaned %t", p, cleaned)
		}
	}
	s := m.CleanerStats()
	if len(m.Uncleanable()) != 1 || s.Dirs[0].UncleanablePartitions != 1 || s.Dirs[0].UncleanableBytes < 1000 || s.RecopyPercent <= 0 || s.RecopyPercent > 90 {
		t.Errorf("%v, %+v", m.Uncleanable(), s)
	}
	f.WriteAt(good, 0)
	f.Close()
	m.Close(1)
	o.Config = m.o.Config
	m = mustOpen(t, o)
	if !m.Clean() {
		t.Error("the log is not taken up after a restart")
	}
	// A deleted log is forgotten.
	m.Delete(partition("t", 1))
	if got := m.Uncleanable(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	m.Close(1)
}

// min.compaction.lag.ms keeps young segments; max.compaction.lag.ms makes a log due that is not dirty enough.
func TestCompactionLags(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	m := compacted(t, managerOptions(t, disk, ck, "/data"), disk, 1, func(c *Config) { c.MinCompactionLag = time.Hour; c.MinCleanableRatio = 0 })
	if m.Clean() {
		t.Error("cleaned within min.compaction.lag.ms")
	}
	ck.advance(2 * time.Hour)
	l, _ := m.Get(tp0)
	if !m.Clean() || recordsOf(t, l) > 25 {
		t.Errorf("%d records left after the lag", recordsOf(t, l))
	}
	c := l.Config()
	c.MinCleanableRatio, c.MinCompactionLag = 1, 0
	l.SetConfig(c)
	for i := range 40 {
		appendKey(t, l, fmt.Sprint("k", i%4), "again", ck.ms)
	}
	l.AdvanceHighWatermark(l.EndOffset())
	ck.advance(time.Hour)
	if m.Clean() {
		t.Error("cleaned although not dirty enough")
	}
	c.MaxCompactionLag = 30 * time.Minute
	l.SetConfig(c)
	if !m.Clean() {
		t.Error("not cleaned beyond max.compaction.lag.ms")
	}
	if s := m.CleanerStats(); s.MaxCompactionDelay != 150*time.Minute { // the first dirty segment began three hours ago
		t.Errorf("delay %v", s.MaxCompactionDelay)
	}
	// The active segment rolls in time.
	if got := c.maxSegmentAge(); got != 30*time.Minute {
		t.Errorf("segments roll after %v", got)
	}
	m.Close(1)
}

// A tombstone stays for delete.retention.ms after the first pass that finds it, and goes with the next pass then.
func TestTombstonesWait(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	m := compacted(t, managerOptions(t, disk, ck, "/data"), disk, 1, func(c *Config) { c.MinCleanableRatio = 0; c.DeleteRetention = time.Hour })
	l, _ := m.Get(tp0)
	has := func() (tombstones, values int) {
		for _, b := range readAll(t, l) {
			it := b.Records(1 << 20)
			var r record.Record
			for it.Next(&r) {
				if string(r.Key) == "k1" && r.Value == nil {
					tombstones++
				} else if string(r.Key) == "k1" {
					values++
				}
			}
			it.Close()
		}
		return tombstones, values
	}
	appendKey(t, l, "k1", "", ck.ms)
	pass := func() {
		t.Helper()
		l.Roll()
		appendKey(t, l, "other", "x", ck.ms)
		l.AdvanceHighWatermark(l.EndOffset())
		if !m.Clean() {
			t.Fatal("no pass")
		}
	}
	pass()
	for _, b := range readAll(t, l) {
		if ms, ok := b.DeleteHorizonMs(); ok && ms != ck.ms+time.Hour.Milliseconds() {
			t.Errorf("delete horizon %d", ms-ck.ms)
		}
	}
	if tombstones, values := has(); tombstones != 1 || values != 0 {
		t.Fatalf("%d tombstones and %d values after the first pass", tombstones, values)
	}
	ck.advance(time.Hour - time.Millisecond)
	pass()
	if tombstones, _ := has(); tombstones != 1 {
		t.Fatal("the tombstone went too early")
	}
	ck.advance(time.Millisecond)
	pass()
	if tombstones, values := has(); tombstones != 0 || values != 0 {
		t.Fatalf("%d tombstones and %d values after the wait", tombstones, values)
	}
	m.Close(1)
}

// The workers: a log is cleaned without anybody asking, at the rate that is allowed; options change while they run.
func TestCleanerWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, ck := mem(t), &clock{ms: epochMs}
		o := managerOptions(t, disk, ck, "/data")
		o.Manual = false
		o.Now = time.Now
		o.Cleaner = DefaultCleanerConfig()
		o.Cleaner.Enable = false
		m := compacted(t, o, disk, 2, nil)
		l, _ := m.Get(tp0)
		time.Sleep(time.Minute)
		if l.clean.Load() >= 0 {
			t.Error("cleaned although log.cleaner.enable is false")
		}
		config := o.Cleaner
		config.Enable, config.Threads, config.MaxIOBytesPerSecond, config.IOBufferBytes = true, 2, 1000, 1
		m.SetCleaner(config)
		time.Sleep(time.Second)
		if l.clean.Load() >= 0 {
			t.Error("3 KB were read and written within a second at 1 KB/s")
		}
		time.Sleep(time.Minute)
		if l.clean.Load() <= 0 {
			t.Error("not cleaned after a minute")
		}
		if other, _ := m.Get(tp1); other.clean.Load() <= 0 {
			t.Error("the second log is not cleaned")
		}
		config.MaxIOBytesPerSecond = math.MaxFloat64
		m.SetCleaner(config)
		for i := range 80 {
			appendKey(t, l, fmt.Sprint("k", i%4), "again", time.Now().UnixMilli())
		}
		l.AdvanceHighWatermark(l.EndOffset())
		before := l.clean.Load()
		time.Sleep(config.Backoff + time.Second)
		if l.clean.Load() <= before {
			t.Error("not taken up again after the backoff")
		}
		if s := m.CleanerStats(); s.SinceLastRun > config.Backoff+time.Second {
			t.Errorf("%+v", s)
		}
		m.Close(1)
	})
}

// compact,delete: old segments go by retention, and the others are compacted.
func TestCompactAndDelete(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	m := compacted(t, managerOptions(t, disk, ck, "/data"), disk, 1, func(c *Config) {
		c.CleanupDelete, c.RetentionTime, c.MinCleanableRatio = true, time.Hour, 0
	})
	l, _ := m.Get(tp0)
	if !m.Clean() {
		t.Fatal("no pass")
	}
	clean := id.Offset(l.clean.Load())
	ck.advance(2 * time.Hour)
	for i := range 20 {
		appendKey(t, l, fmt.Sprint("k", i%4), "new", ck.ms)
	}
	l.AdvanceHighWatermark(l.EndOffset())
	m.Tick(ck.now())
	if l.StartOffset() < clean {
		t.Errorf("log start %d, the clean part ended at %d", l.StartOffset(), clean)
	}
	l.Roll()
	if !m.Clean() {
		t.Error("no pass over a log that begins later")
	}
	m.Close(1)
}

// A map that holds few keys lets a log be cleaned in several passes.
func TestKeyMap(t *testing.T) {
	m := newKeyMap(100*keySlotBytes, 0.5, 1000)
	for i := range 50 {
		if !m.put(fmt.Appendf(nil, "key %d", i), id.Offset(i)) {
			t.Fatalf("full after %d keys", i)
		}
	}
	if m.put([]byte("one more"), 50) || m.latest != 49 || m.utilization() != 0.5 {
		t.Errorf("latest %d, utilization %g", m.latest, m.utilization())
	}
	for i := range 60 {
		want := id.NoOffset
		if i < 50 {
			want = id.Offset(i)
		}
		if got := m.last(fmt.Appendf(nil, "key %d", i)); got != want {
			t.Errorf("key %d is at %d", i, got)
		}
	}
	if small := newKeyMap(1000*keySlotBytes, 0.9, 10); len(small.slots) > 20 || !small.put([]byte("key"), 1) || small.utilization() != 0.001 {
		t.Errorf("%d slots for 10 keys, utilization %g", len(small.slots), small.utilization())
	}
}

// A truncation into the clean part takes the cleaner's checkpoint down at once: after a crash nothing that is written in its place
// counts as clean.
func TestTruncationLowersCleanerCheckpoint(t *testing.T) {
	for name, cut := range map[string]func(l *Log) error{
		"in the clean part": func(l *Log) error { return l.TruncateTo(10) },
		"everything":        func(l *Log) error { return l.TruncateFullyAndStartAt(10) },
	} {
		disk, ck := mem(t), &clock{ms: epochMs}
		m := compacted(t, managerOptions(t, disk, ck, "/data"), disk, 1, func(c *Config) { c.MinCleanableRatio = 0 })
		if !m.Clean() {
			t.Fatal("no pass")
		}
		l, _ := m.Get(tp0)
		if at := l.clean.Load(); at <= 10 || !strings.Contains(content(t, disk, "/data/"+fileCleanerOffset), fmt.Sprint("t 0 ", at)) {
			t.Fatalf("clean up to %d, the checkpoint says %q", at, content(t, disk, "/data/"+fileCleanerOffset))
		}
		if err := cut(l); err != nil {
			t.Fatal(err)
		}
		end := min(l.EndOffset(), 10)
		text := content(t, disk.CrashClone(vfs.LoseUnsynced), "/data/"+fileCleanerOffset)
		if !strings.Contains(text, fmt.Sprint("t 0 ", end, "\n")) {
			t.Errorf("%s: the checkpoint says %q, the log ends at %d", name, text, l.EndOffset())
		}
		m.Close(1)
	}
}

// A pass ends without effect when its log is not to be compacted any more.
func TestPassEndsWithThePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := mem(t)
		o, config := idleCleaner(t, disk)
		m := compacted(t, o, disk, 1, nil)
		l, _ := m.Get(tp0)
		config.MaxIOBytesPerSecond, config.IOBufferBytes = 1000, 1
		m.SetCleaner(config)
		time.Sleep(time.Second)
		m.cleaner.mu.Lock()
		busy := m.cleaner.busy[l]
		m.cleaner.mu.Unlock()
		if !busy {
			t.Fatal("the log is not taken up")
		}
		before := recordsOf(t, l)
		c := l.Config()
		c.CleanupCompact, c.CleanupDelete = false, true
		l.SetConfig(c)
		time.Sleep(10 * time.Minute)
		if l.clean.Load() >= 0 || recordsOf(t, l) != before || len(m.Uncleanable()) > 0 {
			t.Errorf("clean up to %d, %d records of %d, %v", l.clean.Load(), recordsOf(t, l), before, m.Uncleanable())
		}
		c.CleanupCompact = true
		l.SetConfig(c)
		time.Sleep(10 * time.Minute)
		if l.clean.Load() <= 0 {
			t.Error("not cleaned when it is to be compacted again")
		}
		m.Close(1)
	})
}

// A worker that ends in a panic is counted until the workers are started anew.
func TestDeadWorkersAreCounted(t *testing.T) {
	var broken atomic.Bool
	faults := make(chan error, 10)
	o, config := idleCleaner(t, mem(t))
	o.Fault = func(err error) { faults <- err }
	o.Now = func() time.Time {
		if broken.Load() {
			panic("boom")
		}
		return time.Now()
	}
	m := mustOpen(t, o)
	if n := m.CleanerStats().DeadThreads; n != 0 {
		t.Errorf("%d dead before any lived", n)
	}
	m.dirs[0].o.Logger = slog.New(slog.DiscardHandler)
	broken.Store(true)
	config.Threads = 2
	m.SetCleaner(config)
	dead := make(chan struct{})
	go func() { m.cleaner.running.Wait(); close(dead) }()
	select {
	case <-dead:
	case <-time.After(30 * time.Second):
		t.Fatal("they live")
	}
	broken.Store(false)
	if len(faults) < 2 { // the manager's own goroutine may have asked for the time, too
		t.Errorf("%d were heard of", len(faults))
	}
	if err := <-faults; !strings.Contains(err.Error(), "boom") {
		t.Error(err)
	}
	if n := m.CleanerStats().DeadThreads; n != 2 {
		t.Errorf("%d are dead, two panicked", n)
	}
	config.Threads = 1
	m.SetCleaner(config)
	if n := m.CleanerStats().DeadThreads; n != 0 {
		t.Errorf("%d are dead after a new start", n)
	}
	m.Close(1)
}

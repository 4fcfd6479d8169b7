package log

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/checkpoint"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

func managerOptions(t testing.TB, fsys vfs.FS, ck *clock, dirs ...string) Options {
	return Options{FS: fsys, Dirs: dirs, Now: ck.now, Config: testConfig(), AutoFormat: true, ClusterID: "cluster", NodeID: 3, Manual: true, Logger: logOutput(t)}
}

func mustOpen(t testing.TB, o Options) *Manager {
	t.Helper()
	m, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func partition(topic string, p int32) id.TopicPartition {
	return id.TopicPartition{Topic: topic, Partition: p}
}

func mustCreate(t testing.TB, m *Manager, tp id.TopicPartition) *Log {
	t.Helper()
	l, err := m.Create(tp, CreateOptions{TopicID: id.UUID{1: 9}, Config: testConfig()})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func content(t testing.TB, fsys vfs.FS, path string) string {
	t.Helper()
	b, err := vfs.ReadFile(fsys, path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "<absent>"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The files of a directory, byte for byte, after a clean shutdown.
func TestDirectoryFiles(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	m := mustOpen(t, managerOptions(t, disk, ck, "/data"))
	if _, ok := m.PreviousBrokerEpoch(); ok {
		t.Error("a new directory had a clean shutdown")
	}
	l := mustCreate(t, m, partition("orders", 1))
	for range 5 {
		mustAppend(t, l, batchSpec{records: 2, leader: 4})
	}
	l.AdvanceHighWatermark(8)
	if _, err := l.DeleteRecords(4); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, mustCreate(t, m, partition("orders", 0)), batchSpec{leader: 2})
	if err := m.Close(17); err != nil {
		t.Fatal(err)
	}
	meta := content(t, disk, "/data/meta.properties")
	for _, line := range []string{"node.id=3", "version=1", "cluster.id=cluster", "directory.id="} {
		if !strings.Contains(meta, line) {
			t.Errorf("meta.properties has no %s:\n%s", line, meta)
		}
	}
	for name, want := range map[string]string{
		".kafka_cleanshutdown":                `{"version":0,"brokerEpoch":17}`,
		"recovery-point-offset-checkpoint":    "0\n2\norders 0 1\norders 1 10\n",
		"replication-offset-checkpoint":       "0\n2\norders 0 0\norders 1 8\n",
		"log-start-offset-checkpoint":         "0\n1\norders 1 4\n",
		".lock":                               "",
		"orders-1/leader-epoch-checkpoint":    "0\n1\n4 4\n",
		"orders-1/partition.metadata":         "version: 0\ntopic_id: AAkAAAAAAAAAAAAAAAAAAA",
		"orders-0/00000000000000000000.index": "",
	} {
		if got := content(t, disk, "/data/"+name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	m = mustOpen(t, managerOptions(t, disk, ck, "/data"))
	if e, ok := m.PreviousBrokerEpoch(); !ok || e != 17 {
		t.Errorf("previous broker epoch %d %v", e, ok)
	}
	if got := content(t, disk, "/data/.kafka_cleanshutdown"); got != "<absent>" {
		t.Errorf("the mark is still there while the node runs: %q", got)
	}
	l, ok := m.Get(partition("orders", 1))
	if !ok || l.StartOffset() != 4 || l.EndOffset() != 10 || l.HighWatermark() != 8 || l.TopicID() != (id.UUID{1: 9}) {
		t.Fatalf("%v", l)
	}
	m.Close(18)
}

func TestForeignDirectories(t *testing.T) {
	ck := &clock{ms: epochMs}
	for _, c := range []struct{ name, meta, want string }{
		{"another cluster", "version=1\ncluster.id=other\nnode.id=3\n", "belongs to cluster other"},
		{"another node", "version=1\ncluster.id=cluster\nnode.id=4\n", "belongs to node 4"},
		{"version", "version=7\n", "unknown version"},
		{"node id", "node.id=x\n", "node.id"},
		{"directory id", "directory.id=??\n", "directory.id"},
	} {
		disk := mem(t)
		vfs.WriteFile(disk, "/data/meta.properties", []byte(c.meta))
		_, err := Open(managerOptions(t, disk, ck, "/data"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if l, err := disk.Lock("/data/.lock"); err != nil {
			t.Errorf("%s: the lock was not released: %v", c.name, err)
		} else {
			l.Close()
		}
	}
	// As Java may have written it, or a person.
	disk := mem(t)
	vfs.WriteFile(disk, "/data/meta.properties", []byte("# c\r\n! c\r\n\r\n cluster.id = cluster\r\nnode.id:3\r\nbroker.id=8\nversion 1\ndirectory.id=4L6g3nShT-eMCtK--X86sw\nunknown=x\\=y"))
	m := mustOpen(t, managerOptions(t, disk, ck, "/data"))
	if got := m.Dirs()[0].DirectoryID.String(); got != "4L6g3nShT-eMCtK--X86sw" {
		t.Error(got)
	}
	if _, err := Open(managerOptions(t, disk, ck, "/data")); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("second manager on the directory: %v", err)
	}
	m.Close(1)
	o := managerOptions(t, mem(t), ck, "/data")
	o.AutoFormat = false
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "not formatted") {
		t.Errorf("unformatted directory: %v", err)
	}
	if _, err := Open(managerOptions(t, mem(t), ck, "/data", "/data/")); err == nil {
		t.Error("a directory configured twice was accepted")
	}
}

func TestDeleteAndRecreate(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	m := mustOpen(t, managerOptions(t, disk, ck, "/data"))
	tp := partition(strings.Repeat("x", 249), 7)
	l := mustCreate(t, m, tp)
	for range 30 {
		mustAppend(t, l, batchSpec{})
	}
	l.AdvanceHighWatermark(30)
	l.DeleteRecords(25)
	l.Flush(30)
	ck.advance(2 * time.Minute)
	m.Tick(ck.now()) // checkpoints speak of the log
	r, err := l.Read(ReadRequest{Offset: 26, MaxBytes: 1000, Isolation: ReadLogEnd, LastFetchedEpoch: id.NoLeaderEpoch})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Delete(tp); err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendAsLeader(batchSpec{}.build(t), AppendInfo{}); !errors.Is(err, ErrDeleted) {
		t.Errorf("append to a deleted log: %v", err)
	}
	if _, err := l.Read(ReadRequest{Offset: 26}); !errors.Is(err, ErrDeleted) {
		t.Errorf("read of a deleted log: %v", err)
	}
	var doomed string
	entries, _ := disk.List("/data")
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "-delete") {
			doomed = e.Name()
		}
	}
	if got, kind, ok := parseDirName(doomed); !ok || kind != dirDelete || got.Partition != 7 || len(doomed) > 255 {
		t.Fatalf("%q", doomed)
	}
	// The name is free at once, and nothing of the old log is inherited, even by a restart after a crash.
	l2 := mustCreate(t, m, tp)
	mustAppend(t, l2, batchSpec{})
	l2.Flush(1)
	crashed := mustOpen(t, managerOptions(t, disk.CrashClone(vfs.LoseUnsynced), ck, "/data"))
	if l3, ok := crashed.Get(tp); !ok || l3.StartOffset() != 0 || l3.EndOffset() != 1 {
		t.Errorf("after a crash: %v %v", l3.StartOffset(), l3.EndOffset())
	}
	crashed.Close(1)
	ck.advance(59 * time.Second)
	m.Tick(ck.now())
	if !vfs.Exists(disk, "/data/"+doomed) {
		t.Error("removed before file.delete.delay.ms")
	}
	ck.advance(2 * time.Second)
	m.Tick(ck.now())
	if vfs.Exists(disk, "/data/"+doomed) {
		t.Error("not removed after file.delete.delay.ms")
	}
	if b, err := r.Section.Bytes(); err != nil || len(b) == 0 {
		t.Errorf("a section handed out before: %v", err)
	}
	r.Section.Release()
	m.Close(1)
}

func TestPlacement(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	x := vfs.NewFaults(disk)
	m := mustOpen(t, managerOptions(t, x, ck, "/data/a", "/data/b", "/data/c"))
	count := map[string]int{}
	for p := range int32(9) {
		count[filepath.Dir(mustCreate(t, m, partition("t", p)).Path())]++
	}
	if fmt.Sprint(count) != "map[/data/a:3 /data/b:3 /data/c:3]" {
		t.Errorf("%v", count)
	}
	want := m.Dirs()[1]
	l, err := m.Create(partition("u", 0), CreateOptions{Config: testConfig(), DirectoryID: want.DirectoryID})
	if err != nil || l.DirectoryID() != want.DirectoryID || filepath.Dir(l.Path()) != want.Path {
		t.Errorf("%v %v", l.Path(), err)
	}
	m.Tick(ck.now()) // the directories are made
	// One directory fails: the others serve, and new logs go there.
	mustAppend(t, l, batchSpec{})
	x.Add(vfs.Rule{Op: vfs.OpSync, Path: "*.log", Nth: 1, Err: syscall.EIO})
	if err := l.Flush(1); !IsOffline(err) {
		t.Fatal(err)
	}
	if d := m.Dirs(); d[0].Err != nil || d[1].Err == nil || d[2].Err != nil || len(d[0].Logs) != 3 {
		t.Errorf("%+v", d)
	}
	// One that the metadata has in the failed directory may be there.
	if l, err := m.Create(partition("w", 0), CreateOptions{Config: testConfig(), DirectoryID: want.DirectoryID}); !IsOffline(err) {
		t.Errorf("%v, %v", l, err)
	}
	for p := range int32(2) {
		l, err := m.Create(partition("v", p), CreateOptions{Config: testConfig()})
		if err != nil || l.DirectoryID() == want.DirectoryID {
			t.Errorf("%v", err)
		}
	}
	m.Close(5)
	for dir, mark := range map[string]bool{"a": true, "b": false, "c": true} {
		if vfs.Exists(disk, "/data/"+dir+"/.kafka_cleanshutdown") != mark {
			t.Errorf("clean shutdown mark in %s", dir)
		}
	}
	m = mustOpen(t, managerOptions(t, disk, ck, "/data/a", "/data/b", "/data/c"))
	if _, ok := m.PreviousBrokerEpoch(); ok {
		t.Error("a broker epoch although one directory was not closed cleanly")
	}
	if n := len(m.Logs()); n != 12 {
		t.Errorf("%d logs", n)
	}
	m.Close(5)
	// A partition in two directories is not guessed about.
	disk.MkdirAll("/data/a/u-0", 0o755)
	if _, err := Open(managerOptions(t, disk, ck, "/data/a", "/data/b", "/data/c")); err == nil || !strings.Contains(err.Error(), "two directories") {
		t.Error(err)
	}
}

func TestStrangersInTheDirectory(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	for _, dir := range []string{"lost+found", "__cluster_metadata-0", "t-0.0123456789abcdef0123456789abcdef-delete", "t-1.0123456789abcdef0123456789abcdef-future",
		"t-2.0123456789abcdef0123456789abcdef-stray", "t-x", "remote-log-index-cache", "t-3"} {
		disk.MkdirAll("/data/"+dir, 0o755)
	}
	vfs.WriteFile(disk, "/data/recovery-point-offset-checkpoint", []byte("0\n1\nt 3\n"))
	vfs.WriteFile(disk, "/data/replication-offset-checkpoint", []byte("garbage"))
	m := mustOpen(t, managerOptions(t, disk, ck, "/data"))
	if logs := m.Logs(); len(logs) != 2 || logs[0].TopicPartition() != partition("t", 1) || logs[1].TopicPartition() != partition("t", 3) {
		t.Errorf("%v", logs)
	}
	m.Tick(ck.now())
	entries, _ := disk.List("/data")
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if got := strings.Join(names, " "); got != "__cluster_metadata-0 lost+found remote-log-index-cache t-1 t-2.0123456789abcdef0123456789abcdef-stray t-3 t-x" {
		t.Error(got)
	}
	m.Close(1)
}

// The background goroutine does what is due, in virtual time: retention, flush, checkpoints, removal.
func TestBackgroundWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := mem(t)
		c := testConfig()
		c.SegmentBytes, c.RetentionBytes, c.FlushInterval = 1000, 2000, 3*time.Second
		m := mustOpen(t, Options{FS: disk, Dirs: []string{"/data"}, Config: c, AutoFormat: true, Logger: logOutput(t), FlushCheckInterval: time.Second})
		l, err := m.Create(partition("t", 0), CreateOptions{Config: c})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now().UnixMilli()
		for range 10 {
			mustAppend(t, l, batchSpec{size: 400, ts: now})
		}
		l.AdvanceHighWatermark(10)
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		if d := l.DurableEnd(); d < 8 || d > 10 {
			t.Errorf("rolled segments are not flushed: durable end %d", d)
		}
		mustAppend(t, l, batchSpec{size: 400, ts: now})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if l.DurableEnd() != 11 {
			t.Errorf("flush.ms: durable end %d", l.DurableEnd())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got, _ := checkpoint.ReadOffsets(disk, "/data/replication-offset-checkpoint"); got[partition("t", 0)] != 10 {
			t.Errorf("high watermark checkpoint %v", got)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if l.StartOffset() != 6 || l.Segments() != 3 {
			t.Errorf("retention: start %d, %d segments", l.StartOffset(), l.Segments())
		}
		if got, _ := checkpoint.ReadOffsets(disk, "/data/recovery-point-offset-checkpoint"); got[partition("t", 0)] != 11 {
			t.Errorf("recovery point checkpoint %v", got)
		}
		entries, _ := disk.List("/data/t-0")
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".deleted") {
				t.Errorf("%s is still there", e.Name())
			}
		}
		if err := m.Close(1); err != nil {
			t.Error(err)
		}
	})
}

// slowSync lets a test hold syncs of .log files back and count them.
type slowSync struct {
	syncs atomic.Int32
	enter chan struct{} // a sync has begun
	leave chan struct{} // lets one go on
}

func (s *slowSync) disk(t *testing.T) vfs.FS {
	f := vfs.NewFaults(mem(t))
	f.Add(vfs.Rule{Op: vfs.OpSync, Path: "*.log", Call: func(string) error {
		s.syncs.Add(1)
		s.enter <- struct{}{}
		<-s.leave
		return nil
	}})
	return f
}

// Appends that arrive while a sync runs share the next one, and none of them holds the log's lock.
func TestGroupCommit(t *testing.T) {
	s := &slowSync{enter: make(chan struct{}, 100), leave: make(chan struct{})}
	c := testConfig()
	c.FlushMessages = 1
	l := openTest(t, s.disk(t), c, nil)
	done := make(chan AppendResult, 100)
	add := func() {
		b := batchSpec{}.build(t)
		go func() {
			r, err := l.AppendAsLeader(b, AppendInfo{})
			if err != nil {
				t.Error(err)
			}
			if l.DurableEnd() < r.NextOffset || l.AckableEnd() < r.NextOffset {
				t.Errorf("answered before it was durable: %d, durable end %d", r.NextOffset, l.DurableEnd())
			}
			done <- r
		}()
	}
	add()
	<-s.enter // the first append is being synced
	for range 20 {
		add()
	}
	for l.EndOffset() < 21 { // all are written although the sync still runs
		runtime.Gosched()
	}
	if l.DurableEnd() != 0 || l.AckableEnd() != 0 || len(done) != 0 {
		t.Fatalf("durable end %d before any sync returned", l.DurableEnd())
	}
	s.leave <- struct{}{}
	<-s.enter
	s.leave <- struct{}{}
	for range 21 {
		<-done
	}
	if n := s.syncs.Load(); n != 2 || l.DurableEnd() != 21 {
		t.Errorf("%d syncs, durable end %d", n, l.DurableEnd())
	}
}

// A truncation during a sync: what is written afterwards is not called durable by it.
func TestTruncationDuringSync(t *testing.T) {
	s := &slowSync{enter: make(chan struct{}, 100), leave: make(chan struct{}, 100)}
	l := openTest(t, s.disk(t), testConfig(), nil)
	for range 4 {
		mustAppend(t, l, batchSpec{size: 100})
	}
	flushed := make(chan error)
	go func() { flushed <- l.Flush(4) }()
	<-s.enter
	truncated := make(chan error)
	go func() { truncated <- l.TruncateTo(1) }()
	<-s.enter      // of the truncation itself
	close(s.leave) // also for the sync that the flush needs again
	if err := <-truncated; err != nil {
		t.Fatal(err)
	}
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	if l.DurableEnd() > 1 {
		t.Errorf("durable end %d after a truncation to 1", l.DurableEnd())
	}
}

// Readers, appenders, retention and truncation at once: every section is whole.
func TestConcurrentReaders(t *testing.T) {
	c := testConfig()
	c.SegmentBytes, c.IndexIntervalBytes, c.FileDeleteDelay, c.RetentionBytes = 4000, 300, 0, 8000
	dir := filepath.Join(t.TempDir(), "t-0")
	l := openTest(t, vfs.OS(), c, func(o *LogOptions) { o.Dir = dir; quiet(o) })
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				start, hw := l.StartOffset(), l.HighWatermark()
				if start == hw {
					continue
				}
				r, err := l.Read(ReadRequest{Offset: start + (hw-start)/2, MaxBytes: 2000, MinOneMessage: true, Isolation: ReadHighWatermark, LastFetchedEpoch: id.NoLeaderEpoch})
				if _, gone := errors.AsType[*OffsetOutOfRangeError](err); gone {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if r.Section == nil {
					continue
				}
				b, err := r.Section.Bytes()
				r.Section.Release()
				if err != nil {
					t.Error(err)
					return
				}
				if err := checkWhole(b); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 600 {
		mustAppend(t, l, batchSpec{records: 1 + i%3, size: 200})
		l.AdvanceHighWatermark(l.EndOffset())
		if i%20 == 0 {
			l.DeleteOldSegments(time.UnixMilli(epochMs))
			l.Tick(time.UnixMilli(epochMs + 1))
			l.sweep()
		}
	}
	close(stop)
	wg.Wait()
	l.Close()
	entries, _ := os.ReadDir(dir)
	if len(entries) > 40 {
		t.Errorf("%d files left", len(entries))
	}
}

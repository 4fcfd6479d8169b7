package log

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// gated lets nobody open the segments of topic slow until the gate is.
func gated(inner vfs.FS) (fsys vfs.FS, gate chan struct{}) {
	gate = make(chan struct{})
	f := vfs.NewFaults(inner)
	for _, op := range []vfs.Op{vfs.OpOpen, vfs.OpCreate} {
		f.Add(vfs.Rule{Op: op, Path: "slow-*/*.log", Call: func(string) error { <-gate; return nil }})
	}
	return f, gate
}

// killed leaves two topics of three partitions with five records each, of which three are behind the recovery point.
func killed(t *testing.T, ck *clock) *vfs.Mem {
	disk := mem(t)
	m := mustOpen(t, managerOptions(t, disk, ck, "/data"))
	for _, topic := range []string{"fast", "slow"} {
		for p := range int32(3) {
			l := mustCreate(t, m, partition(topic, p))
			mustAppend(t, l, batchSpec{records: 2})
			if err := l.Flush(l.EndOffset()); err != nil {
				t.Fatal(err)
			}
			mustAppend(t, l, batchSpec{records: 3})
			if _, err := l.DeleteRecords(0); err != nil {
				t.Fatal(err)
			}
			l.AdvanceHighWatermark(2)
		}
	}
	ck.advance(2 * time.Minute)
	m.Tick(ck.now()) // the checkpoints
	m.unlock()
	return disk
}

func recoverBehind(t *testing.T, fsys vfs.FS, ck *clock) (*Manager, chan id.TopicPartition) {
	t.Helper()
	o := managerOptions(t, fsys, ck, "/data")
	o.Deferred, o.RecoveryThreads = true, 2
	m := mustOpen(t, o)
	ch := make(chan id.TopicPartition, 100)
	if err := m.Load(LoadOptions{Recovered: func(tp id.TopicPartition) { ch <- tp }}); err != nil {
		t.Fatal(err)
	}
	return m, ch
}

// heldUp is a manager after a kill that has recovered topic fast. The logs of topic slow are held up at the gate, two of them, and
// the third waits for its turn.
func heldUp(t *testing.T, ck *clock) (m *Manager, disk *vfs.Mem, recovered chan id.TopicPartition, gate chan struct{}) {
	t.Helper()
	disk = killed(t, ck)
	g, gate := gated(disk)
	m, recovered = recoverBehind(t, g, ck)
	for range 3 {
		<-recovered
	}
	return m, disk, recovered, gate
}

// TestRecoveryBehindTheStart: small logs are there when Load returns; one that takes long holds nobody up, is there when it is
// recovered, and meanwhile the checkpoints keep what they said of it.
func TestRecoveryBehindTheStart(t *testing.T) {
	ck := &clock{ms: epochMs}
	disk := killed(t, ck)
	want := content(t, disk, "/data/"+fileRecoveryPoint)
	if !strings.Contains(want, "slow 0 2") {
		t.Fatalf("recovery points before the kill:\n%s", want)
	}
	g, gate := gated(disk)
	m, recovered := recoverBehind(t, g, ck)
	for range 3 {
		if tp := <-recovered; tp.Topic != "fast" {
			t.Fatalf("%v was recovered first", tp)
		}
	}
	if l, ok := m.Get(partition("fast", 0)); !ok || l.EndOffset() != 5 {
		t.Fatal("a recovered log is not there, or not whole")
	}
	for p := range int32(3) {
		if _, ok := m.Get(partition("slow", p)); ok || !m.Recovering(partition("slow", p)) {
			t.Fatalf("slow-%d is there before it is recovered", p)
		}
	}
	if _, ok := m.DirectoryOf(partition("slow", 2)); !ok {
		t.Error("nobody knows where a pending log is")
	}
	m.dirs[0].durableChanged.Store(true)
	m.Tick(ck.now().Add(2 * time.Minute))
	if got := content(t, disk, "/data/"+fileRecoveryPoint); got != want {
		t.Errorf("recovery points while logs are pending:\n%s\nbefore:\n%s", got, want)
	}
	close(gate)
	for range 3 {
		tp := <-recovered
		l, ok := m.Get(tp)
		if !ok || l.EndOffset() != 5 || l.DurableEnd() != 2 || l.HighWatermark() != 2 {
			t.Errorf("%v after its recovery: %v", tp, l)
		}
	}
	if err := m.Close(1); err != nil {
		t.Fatal(err)
	}
	if !vfs.Exists(disk, "/data/"+fileCleanShutdown) {
		t.Error("no mark of a clean shutdown")
	}
}

// TestPendingLogsGo: deleted and moved aside before their recovery, they are renamed as they are; a log of the same name begins
// empty; a shutdown before the recovery leaves no mark.
func TestPendingLogsGo(t *testing.T) {
	ck := &clock{ms: epochMs}
	m, disk, _, gate := heldUp(t, ck)
	waiting := partition("slow", -1)
	m.mu.Lock()
	for tp, p := range m.pending {
		if !p.running {
			waiting = tp
		}
	}
	m.mu.Unlock()
	if err := m.Delete(waiting); err != nil {
		t.Fatal(err)
	}
	if m.Recovering(waiting) {
		t.Error("a deleted log waits for its recovery")
	}
	if l := mustCreate(t, m, waiting); l.EndOffset() != 0 {
		t.Errorf("a new log ends at %d", l.EndOffset())
	}
	deleted := 0
	entries, err := disk.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), waiting.String()+".") && strings.HasSuffix(e.Name(), suffixDirDelete) {
			deleted++
		}
	}
	if deleted != 1 {
		t.Errorf("%d directories wait to be removed", deleted)
	}
	other := partition("slow", (waiting.Partition+1)%3)
	done := make(chan error)
	go func() { done <- m.Delete(other) }()
	close(gate) // the deletion may be waiting for the recovery, or come later
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, ok := m.Get(other); ok || m.Recovering(other) {
		t.Error("a log that was deleted in its recovery is there")
	}
	if err := m.Close(1); err != nil && !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// TestStopBeforeRecovery: what was not recovered when the node stopped is recovered by the next start.
func TestStopBeforeRecovery(t *testing.T) {
	ck := &clock{ms: epochMs}
	m, disk, _, gate := heldUp(t, ck)
	closed := make(chan error)
	go func() { closed <- m.Close(1) }()
	for open := true; open; {
		m.mu.Lock()
		open = !m.closed
		m.mu.Unlock()
	}
	close(gate)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if vfs.Exists(disk, "/data/"+fileCleanShutdown) {
		t.Error("a log was not recovered, and the directory says that it was closed cleanly")
	}
	m = mustOpen(t, managerOptions(t, disk, ck, "/data"))
	for _, l := range m.Logs() {
		if l.EndOffset() != 5 {
			t.Errorf("%v ends at %d", l.TopicPartition(), l.EndOffset())
		}
	}
	if n := len(m.Logs()); n != 6 {
		t.Errorf("%d logs", n)
	}
}

// badDisk cannot open the segments of slow-1.
type badDisk struct{ vfs.FS }

func (d badDisk) OpenFile(path string, flag int, perm os.FileMode) (vfs.File, error) {
	if strings.Contains(path, "/slow-1/") && strings.HasSuffix(path, ".log") {
		return nil, syscall.EIO
	}
	return d.FS.OpenFile(path, flag, perm)
}

// TestRecoveryFails: a disk that cannot be read in a recovery takes its directory offline. The log is nowhere else: it is not made
// anew, and whoever asks hears of the disk.
func TestRecoveryFails(t *testing.T) {
	ck := &clock{ms: epochMs}
	m, _ := recoverBehind(t, badDisk{killed(t, ck)}, ck)
	m.recovering.Wait()
	tp := partition("slow", 1)
	if !m.Recovering(tp) || !m.RecoveryFailed(tp) || m.dirs[0].err() == nil {
		t.Fatalf("recovering %t, failed %t, directory %v", m.Recovering(tp), m.RecoveryFailed(tp), m.dirs[0].err())
	}
	if _, err := m.Create(tp, CreateOptions{Config: testConfig()}); !IsOffline(err) {
		t.Errorf("a log was made anew, or: %v", err)
	}
	if err := m.Delete(tp); err != nil {
		t.Error(err)
	}
	if m.Recovering(tp) {
		t.Error("a deleted log waits for its recovery")
	}
	if err := m.Close(1); err != nil && !IsOffline(err) {
		t.Error(err)
	}
}

// TestRecoveryKeepsWhatIsClean: where the cleaner was is known after an unclean stop and the next one. A gap that it left below
// that is no lost bytes, however low the recovery point is, and nothing behind it is given up.
func TestRecoveryKeepsWhatIsClean(t *testing.T) {
	ck := &clock{ms: epochMs}
	disk := mem(t)
	m := mustOpen(t, managerOptions(t, disk, ck, "/data"))
	tp := partition("compacted", 0)
	l := mustCreate(t, m, tp)
	for range 3 {
		mustAppend(t, l, batchSpec{records: 2})
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, l, batchSpec{records: 2})
	m.unlock()
	// As if the cleaner had left nothing of the second segment, and the recovery point were still before it.
	for _, ext := range []string{".log", ".index", ".timeindex", ".snapshot"} {
		if err := disk.Remove("/data/compacted-0/00000000000000000002" + ext); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	for name, at := range map[string]string{fileRecoveryPoint: "1", fileCleanerOffset: "6"} {
		if err := vfs.ReplaceFile(disk, "/data/"+name, ".tmp", []byte("0\n1\ncompacted 0 "+at+"\n")); err != nil {
			t.Fatal(err)
		}
	}
	for start := range 2 {
		m, recovered := recoverBehind(t, disk, ck)
		<-recovered
		l, ok := m.Get(tp)
		if !ok || l.EndOffset() != 8 || l.clean.Load() != 6 {
			t.Fatalf("start %d: %v ends at %d and is clean up to %d, want 8 and 6", start, l, l.EndOffset(), l.clean.Load())
		}
		m.dirs[0].cleanChanged.Store(true)
		if err := m.checkpointClean(m.dirs[0]); err != nil {
			t.Fatal(err)
		}
		if got := content(t, disk, "/data/"+fileCleanerOffset); !strings.Contains(got, "compacted 0 6") {
			t.Errorf("start %d: the cleaner's checkpoint is\n%s", start, got)
		}
		m.unlock()
	}
}

// TestDeleteInRecovery: who deletes a log in its recovery, or sets it aside, does not wait for it. The recovery ends at once, then the
// directory is renamed, and a log of the same name that was asked for meanwhile begins empty.
func TestDeleteInRecovery(t *testing.T) {
	ck := &clock{ms: epochMs}
	m, disk, recovered, gate := heldUp(t, ck)
	var running []id.TopicPartition
	m.mu.Lock()
	for tp, p := range m.pending {
		if p.running {
			running = append(running, tp)
		}
	}
	m.mu.Unlock()
	if len(running) != 2 {
		t.Fatalf("%d recoveries are under way", len(running))
	}
	// The gate is closed: a call that waited for the recovery would never return.
	if err := m.Delete(running[0]); err != nil {
		t.Fatal(err)
	}
	if err := m.SetAside(running[1]); err != nil {
		t.Fatal(err)
	}
	for _, tp := range running {
		if _, ok := m.Get(tp); ok || m.Recovering(tp) {
			t.Errorf("%v is there after it was taken away", tp)
		}
		if _, ok := m.DirectoryOf(tp); ok {
			t.Errorf("%v is still in a directory", tp)
		}
	}
	made := make(chan *Log)
	go func() {
		l, err := m.Create(running[0], CreateOptions{Config: testConfig()})
		if err != nil {
			t.Error(err)
		}
		made <- l
	}()
	close(gate)
	l := <-made
	if l.EndOffset() != 0 {
		t.Errorf("the new log ends at %d", l.EndOffset())
	}
	mustAppend(t, l, batchSpec{})
	m.recovering.Wait()
	kinds := map[string]int{}
	entries, err := disk.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		for _, suffix := range []string{suffixDirDelete, suffixDirStray} {
			if strings.HasSuffix(e.Name(), suffix) {
				kinds[suffix]++
			}
		}
	}
	if kinds[suffixDirDelete] != 1 || kinds[suffixDirStray] != 1 || vfs.Exists(disk, "/data/"+running[1].String()) {
		t.Errorf("directories: %v", kinds)
	}
	if got := readAll(t, l); len(got) != 1 {
		t.Errorf("%d batches in the new log", len(got))
	}
	select {
	case tp := <-recovered:
		if tp == running[0] || tp == running[1] {
			t.Errorf("%v was told to be recovered", tp)
		}
	default:
	}
	if err := m.Close(1); err != nil {
		t.Fatal(err)
	}
	if !vfs.Exists(disk, "/data/"+fileCleanShutdown) {
		t.Error("nothing is left to recover, and there is no mark of a clean shutdown")
	}
}

// A recovery that is under way ends in the middle of a segment when its log is taken away.
func TestAbandonedRecovery(t *testing.T) {
	disk := mem(t)
	l := openTest(t, disk, testConfig(), nil)
	for range 100 {
		mustAppend(t, l, batchSpec{size: 1000})
	}
	var stop atomic.Bool
	reads := 0
	slow := vfs.NewFaults(disk) // the first read of a segment is the moment in which nobody wants the log any more
	slow.Add(vfs.Rule{Op: vfs.OpRead, Path: "*.log", Call: func(string) error { reads++; stop.Store(true); return nil }})
	_, err := tryOpen(t, slow, testConfig(), func(o *LogOptions) { quiet(o); o.CleanShutdown = false; o.stop = &stop })
	if !errors.Is(err, errAbandoned) {
		t.Fatalf("opened with %v", err)
	}
	if reads > 4 {
		t.Errorf("%d reads after nobody wanted the log", reads)
	}
}

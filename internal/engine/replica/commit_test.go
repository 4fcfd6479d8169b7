package replica

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/wire"
)

// gates is a disk on which every fsync of a partition's log file waits until it is let go.
type gates struct {
	mu     sync.Mutex
	open   bool
	begun  int                   // fsyncs, all in all
	inside map[string]chan error // by partition
}

func (g *gates) disk() vfs.FS {
	f := vfs.NewFaults(vfs.NewMem())
	f.Add(vfs.Rule{Op: vfs.OpSync, Path: "*.log", Call: g.pass})
	return f
}

func (g *gates) pass(path string) error {
	partition := filepath.Base(filepath.Dir(path))
	g.mu.Lock()
	if g.open {
		g.mu.Unlock()
		return nil
	}
	if g.inside[partition] != nil {
		g.mu.Unlock()
		return fmt.Errorf("two fsyncs of %s at a time", partition)
	}
	g.begun++
	wait := make(chan error, 1)
	g.inside[partition] = wait
	g.mu.Unlock()
	return <-wait
}

// syncing lists the partitions whose fsync is under way.
func (g *gates) syncing() string {
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for p := range g.inside {
		out = append(out, p)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// end lets the fsyncs of some partitions end, and everything that follows happen.
func (g *gates) end(err error, partitions ...string) {
	g.mu.Lock()
	for _, p := range partitions {
		g.inside[p] <- err
		delete(g.inside, p)
	}
	g.mu.Unlock()
	synctest.Wait()
}

// endAll lets everything end that is under way and that will come.
func (g *gates) endAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
	for _, wait := range g.inside {
		wait <- nil
	}
}

// strictRig has a topic "t" with flush.messages=1.
func strictRig(t *testing.T, dirs string, partitions int) (*rig, *gates) {
	g := &gates{inside: map[string]chan error{}}
	r := newRigOn(t, g.disk(), dirs, nil)
	t.Cleanup(g.endAll)
	c := TopicConfig{Log: log.DefaultConfig(), MinInSyncReplicas: 1}
	c.Log.FlushMessages = 1
	r.configs["t"] = c
	r.topic("t", partitions)
	return r, g
}

func (r *rig) to(partition int32) *answer {
	r.t.Helper()
	return r.produce(-1, longTime, AppendPartition{Topic: "t", Partition: partition, Batches: plain(r.t, 1)})
}

func wantSyncing(t *testing.T, g *gates, want string) {
	t.Helper()
	if got := g.syncing(); got != want {
		t.Fatalf("being synced: %q, want %q", got, want)
	}
}

func (a *answer) isDone() bool {
	_, done := a.get()
	return done
}

// endBadly stops a rig with a directory that failed, which cannot be closed properly.
func (r *rig) endBadly() {
	r.stop = func() { r.Close(); r.logs.Close(id.NoBrokerEpoch) }
}

// TestRounds: what comes while a round runs is taken by the next one, all logs side by side; each is answered when its own log is
// synced, and the next round begins with the end of the last.
func TestRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g := strictRig(t, "/data", 4)
		first := r.to(0)
		wantSyncing(t, g, "t-0")
		var second []*answer
		for range 3 {
			for p := range int32(4) {
				second = append(second, r.to(p))
			}
		}
		wantSyncing(t, g, "t-0")
		g.end(nil, "t-0")
		wantCode(t, first.one(t).Err, wire.ErrNone)
		wantSyncing(t, g, "t-0 t-1 t-2 t-3")
		third := r.to(2)
		g.end(nil, "t-2", "t-1")
		for i, a := range second {
			if done, want := a.isDone(), i%4 == 1 || i%4 == 2; done != want {
				t.Errorf("append %d to partition %d: answered %t", i/4, i%4, done)
			}
		}
		fourth := r.to(1)
		wantSyncing(t, g, "t-0 t-3")
		g.end(nil, "t-0", "t-3")
		wantSyncing(t, g, "t-1 t-2")
		g.end(nil, "t-1", "t-2")
		for _, a := range append(second, third, fourth) {
			wantCode(t, a.one(t).Err, wire.ErrNone)
		}
		if g.begun != 7 {
			t.Errorf("%d fsyncs for 15 appends to 4 logs in 3 rounds", g.begun)
		}
	})
}

// TestLoneProducerDoesNotWait: one fsync each, at once.
func TestLoneProducerDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g := strictRig(t, "/data", 3)
		start := time.Now()
		for i := range int32(12) {
			a := r.to(i % 3)
			wantSyncing(t, g, fmt.Sprint("t-", i%3))
			g.end(nil, fmt.Sprint("t-", i%3))
			wantCode(t, a.one(t).Err, wire.ErrNone)
		}
		if waited := time.Since(start); waited != 0 || g.begun != 12 {
			t.Errorf("12 appends took %v beside the disk and %d fsyncs", waited, g.begun)
		}
	})
}

// TestPatience: a log that takes long holds up the next round for a moment only, and is not in two rounds at a time.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g := strictRig(t, "/data", 3)
		slow := r.to(0)
		wantSyncing(t, g, "t-0")
		behind, other := r.to(0), r.to(1)
		time.Sleep(patience - 1)
		wantSyncing(t, g, "t-0")
		time.Sleep(1)
		wantSyncing(t, g, "t-0 t-1")
		g.end(nil, "t-1")
		wantCode(t, other.one(t).Err, wire.ErrNone)
		// The slow one is no longer waited for.
		another := r.to(2)
		wantSyncing(t, g, "t-0 t-2")
		g.end(nil, "t-0")
		wantCode(t, slow.one(t).Err, wire.ErrNone)
		wantSyncing(t, g, "t-2") // its next turn is the next round's
		g.end(nil, "t-2")
		wantCode(t, another.one(t).Err, wire.ErrNone)
		wantSyncing(t, g, "t-0")
		// Nobody waits when patience ends: who comes then begins at once.
		time.Sleep(patience)
		last := r.to(1)
		wantSyncing(t, g, "t-0 t-1")
		g.end(nil, "t-0", "t-1")
		wantCode(t, behind.one(t).Err, wire.ErrNone)
		wantCode(t, last.one(t).Err, wire.ErrNone)
		wantSyncing(t, g, "")
	})
}

// TestRoundsAreBounded: no more than so many logs are synced at a time, and none is forgotten.
func TestRoundsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g := strictRig(t, "/data", syncsAtOnce+10)
		answers := []*answer{r.to(0)}
		synctest.Wait()
		for p := range int32(syncsAtOnce + 10) {
			answers = append(answers, r.to(p))
		}
		time.Sleep(patience)
		if n := len(strings.Fields(g.syncing())); n != syncsAtOnce {
			t.Errorf("%d fsyncs at a time", n)
		}
		for now := g.syncing(); now != ""; now = g.syncing() {
			g.end(nil, strings.Fields(now)...)
		}
		for _, a := range answers {
			wantCode(t, a.one(t).Err, wire.ErrNone)
		}
	})
}

// TestRoundsOfDirectories: directories do not wait for each other.
func TestRoundsOfDirectories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g := strictRig(t, "/one,/two", 4)
		byDir := map[id.UUID][]int32{}
		for n := range int32(4) {
			dir := r.partition("t", n).log().DirectoryID()
			byDir[dir] = append(byDir[dir], n)
		}
		here := byDir[r.partition("t", 0).log().DirectoryID()]
		if len(byDir) != 2 || len(here) != 2 {
			t.Fatal(byDir)
		}
		there := slices.DeleteFunc([]int32{0, 1, 2, 3}, func(n int32) bool { return slices.Contains(here, n) })
		slow := r.to(here[0])
		waits := r.to(here[1])
		quick := r.to(there[0])
		name := fmt.Sprint("t-", there[0])
		if got := g.syncing(); !strings.Contains(got, name) || len(strings.Fields(got)) != 2 {
			t.Fatal(got)
		}
		g.end(errors.New("no disk"), fmt.Sprint("t-", here[0]))
		wantCode(t, slow.one(t).Err, wire.ErrKafkaStorageError)
		wantCode(t, waits.one(t).Err, wire.ErrKafkaStorageError)
		wantSyncing(t, g, name)
		g.end(nil, name)
		wantCode(t, quick.one(t).Err, wire.ErrNone)
		r.endBadly()
	})
}

// TestFailureInARound: one of several fsyncs fails. Nothing is acknowledged in the directory from then on, not even where an fsync
// succeeds a moment later, and none is begun any more.
func TestFailureInARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g := strictRig(t, "/data", 5)
		first := r.to(4)
		synctest.Wait()
		var round []*answer
		for p := range int32(4) {
			round = append(round, r.to(p))
		}
		g.end(nil, "t-4")
		wantCode(t, first.one(t).Err, wire.ErrNone)
		wantSyncing(t, g, "t-0 t-1 t-2 t-3")
		next := []*answer{r.to(1), r.to(4)}
		g.end(nil, "t-0")
		wantCode(t, round[0].one(t).Err, wire.ErrNone)
		g.end(syscall.EIO, "t-1")
		wantCode(t, round[1].one(t).Err, wire.ErrKafkaStorageError)
		g.end(nil, "t-2")
		wantCode(t, round[2].one(t).Err, wire.ErrKafkaStorageError)
		g.end(syscall.EIO, "t-3")
		wantCode(t, round[3].one(t).Err, wire.ErrKafkaStorageError)
		begun := g.begun
		r.CheckDirectories()
		for _, a := range append(next, r.to(0), r.to(1), r.to(2)) {
			wantCode(t, a.one(t).Err, wire.ErrKafkaStorageError)
		}
		time.Sleep(10 * patience)
		wantSyncing(t, g, "")
		if g.begun != begun || begun != 5 {
			t.Errorf("%d fsyncs, %d of them after one had failed", g.begun, g.begun-begun)
		}
		r.endBadly()
	})
}

// TestDeletionInARound: a topic goes while its logs are synced, and the others in the round do not suffer.
func TestDeletionInARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g := strictRig(t, "/data", 2)
		r.configs["u"] = r.configs["t"]
		r.topic("u", 1)
		first := r.to(0)
		synctest.Wait()
		gone := []*answer{r.to(0), r.to(1)}
		stays := r.produce(-1, longTime, AppendPartition{Topic: "u", Batches: plain(t, 1)})
		g.end(nil, "t-0")
		wantCode(t, first.one(t).Err, wire.ErrNone)
		wantSyncing(t, g, "t-0 t-1 u-0")
		r.deleteTopic("t")
		for _, a := range gone {
			if err := a.one(t).Err; err == nil {
				t.Error("acknowledged in a deleted topic")
			}
		}
		g.end(errors.New("the file is gone"), "t-0", "t-1")
		g.end(nil, "u-0")
		wantCode(t, stays.one(t).Err, wire.ErrNone)
		again := r.produce(-1, longTime, AppendPartition{Topic: "u", Batches: plain(t, 1)})
		wantSyncing(t, g, "u-0")
		g.end(nil, "u-0")
		wantCode(t, again.one(t).Err, wire.ErrNone)
	})
}

// TestFailedRoundLosesNothing: under load an fsync fails, or a write, or the directory's; whatever was acknowledged is on the disk that
// a power loss leaves.
func TestFailedRoundLosesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed.Of(t), 5))
	for range 10 {
		rule := vfs.Rule{Op: []vfs.Op{vfs.OpSync, vfs.OpSync, vfs.OpSyncDir, vfs.OpWrite}[rng.IntN(4)], Err: syscall.EIO, Nth: 1 + rng.IntN(60)}
		switch rule.Op {
		case vfs.OpSync:
			rule.Path = "*.log"
		case vfs.OpSyncDir:
			rule.Nth = 1 + rule.Nth%6
		}
		if err := failUnderLoad(t, rule); err != nil {
			t.Fatalf("%+v: %v", rule, err)
		}
	}
}

func failUnderLoad(t *testing.T, rule vfs.Rule) error {
	const partitions, producers = 6, 16
	disk := vfs.NewMem()
	faults := vfs.NewFaults(disk)
	r := newRigOn(t, faults, "/data", nil)
	c := TopicConfig{Log: log.DefaultConfig(), MinInSyncReplicas: 1}
	c.Log.FlushMessages, c.Log.SegmentBytes = 1, 1500
	r.configs["t"] = c
	r.topic("t", partitions)
	faults.Add(rule)
	var acked [partitions]atomic.Int64 // exclusive end
	var wg sync.WaitGroup
	for g := range producers {
		wg.Go(func() {
			for i := range 400 {
				n := (g + i) % partitions
				res := r.send(-1, longTime, []AppendPartition{{Topic: "t", Partition: int32(n), Batches: plain(t, 1)}}).one(t)
				if res.Err != nil {
					return
				}
				for end := int64(res.BaseOffset) + 1; ; {
					if old := acked[n].Load(); old >= end || acked[n].CompareAndSwap(old, end) {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	r.endBadly()
	if err := r.logs.Dirs()[0].Err; err == nil {
		return errors.New("the directory is in service")
	}
	after := disk.CrashClone(vfs.LoseUnsynced)
	r.stop()
	logs, err := log.Open(log.Options{FS: after, Dirs: []string{"/data"}, Config: c.Log, ClusterID: "c", NodeID: self, Manual: true})
	if err != nil {
		return err
	}
	defer logs.Close(id.NoBrokerEpoch)
	for n := range acked {
		end := id.Offset(0)
		if l, ok := logs.Get(id.TopicPartition{Topic: "t", Partition: int32(n)}); ok {
			end = l.EndOffset()
		}
		if want := id.Offset(acked[n].Load()); end < want {
			return fmt.Errorf("partition %d ends at %d, %d was acknowledged", n, end, want)
		}
	}
	return nil
}

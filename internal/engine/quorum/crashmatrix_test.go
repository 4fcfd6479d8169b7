package quorum

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire"
)

// crashes is how many the matrix tries: MOLDAU_CRASHES, or enough for every run of the tests.
func crashes() int {
	if n, err := strconv.Atoi(os.Getenv("MOLDAU_CRASHES")); err == nil {
		return n
	}
	return 1000
}

// life is a controller's life on a memory disk. The n-th change sets one of a few keys to n, so that any state tells up to which
// change it goes.
type life struct {
	t     testing.TB
	seed  uint64
	rng   *rand.Rand
	mem   *vfs.Mem
	fault *vfs.Faults
	n     *testNode

	mu     sync.Mutex // guards the rest
	asked  int        // changes that were begun
	acked  int        // changes that were answered
	voted  id.LeaderEpoch
	tried  int
	ops    map[string]int
	failed error
}

const lifeKeys = 7

func newLife(t testing.TB, seed uint64) *life {
	l := &life{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 5)), mem: vfs.NewMem(), ops: map[string]int{}}
	l.fault = vfs.NewFaults(l.mem)
	l.n = formatWith(t, l.fault, "/data", true, l.rng)
	l.n.edit = l.small
	return l
}

// small lets snapshots, segments and cleanings come often.
func (l *life) small(o *Options) {
	o.MaxIdleInterval, o.SnapshotMaxNewRecordBytes, o.SegmentBytes, o.RetentionBytes = 0, 900, 1500, 6000
	o.ElectionTimeout, o.Seed = 20*time.Millisecond, l.seed
}

// change makes the next change.
func (l *life) change(q *Quorum) error {
	l.mu.Lock()
	l.asked++
	n := l.asked
	l.mu.Unlock()
	if err := setConfig(q, fmt.Sprint("k", n%lifeKeys), fmt.Sprintf("%06d%s", n, strings.Repeat("x", n%150))); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked = n
	return nil
}

// reached tells up to which change an image goes, which must have all that came before and nothing else.
func reached(img *image.Image) (int, error) {
	last := 0
	have := map[int]int{}
	for k := range lifeKeys {
		text := configOf(img, fmt.Sprint("k", k))
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text[:min(6, len(text))])
		if err != nil || text != fmt.Sprintf("%06d%s", n, strings.Repeat("x", n%150)) || n%lifeKeys != k {
			return 0, fmt.Errorf("k%d is %q", k, text)
		}
		have[k], last = n, max(last, n)
	}
	for k := range lifeKeys {
		want := last - (last-k+lifeKeys*1000)%lifeKeys
		if want <= 0 {
			want = 0
		}
		if have[k] != want {
			return 0, fmt.Errorf("the last change is %d, and k%d is of %d, not %d", last, k, have[k], want)
		}
	}
	return last, nil
}

// check starts a controller on a disk that a crash left.
func (l *life) check(disk *vfs.Mem, acked, asked int, epoch id.LeaderEpoch) error {
	again := *l.n
	again.fs = disk
	q, err := Open(again.options())
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer q.Close()
	if err := q.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := q.AwaitImage(ctx, func(i *image.Image) bool { return i.Features.MetadataVersion == 33 }); err != nil {
		return fmt.Errorf("no metadata.version: %w, %v, %+v", err, q.Err(), q.Status())
	}
	// What was in the log is committed and published before this is.
	if err := setConfig(q, "after", "1"); err != nil {
		return fmt.Errorf("change after the start: %w", err)
	}
	img := q.Image()
	got, err := reached(img)
	if err != nil {
		return err
	}
	if got < acked || got > asked {
		return fmt.Errorf("the state is that of change %d, %d were answered of %d", got, acked, asked)
	}
	if now := q.Status().Leader.Epoch; now <= epoch {
		return fmt.Errorf("leads in epoch %d, there was a leader of epoch %d", now, epoch)
	}
	if err := q.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	entries, err := disk.List(filepath.Join("/data", logDirName))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffixPart) || strings.HasSuffix(e.Name(), suffixDeleted) && strings.Contains(e.Name(), ".checkpoint") {
			return fmt.Errorf("file %s after a start", e.Name())
		}
	}
	return nil
}

// watch tries a crash before a change of the disk.
func (l *life) watch(op vfs.Op, path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return
	}
	l.ops[string(op)+" "+quorumKind(path)]++
	r := l.seed*31 + uint64(l.tried) + 2
	for _, clone := range []uint64{vfs.LoseUnsynced, vfs.KeepUnsynced, r, r + 1} {
		l.tried++
		if err := l.check(l.mem.CrashClone(clone), l.acked, l.asked, l.voted); err != nil {
			l.failed = fmt.Errorf("crash before %s of %s, clone %d: %w", op, path, clone, err)
			return
		}
	}
}

// run lives for a while: changes, snapshots, cleanings, depositions and restarts.
func (l *life) run(lives, changes int) {
	l.fault.Watch(l.watch)
	defer l.fault.Watch(nil)
	for range lives {
		q, err := Open(l.n.options())
		if err == nil {
			err = q.Start()
		}
		for i := 0; err == nil && i < changes; i++ {
			if err = l.change(q); err == nil && i == 0 {
				l.mu.Lock()
				l.voted = q.Status().Leader.Epoch
				l.mu.Unlock()
			}
			if l.failed != nil {
				break
			}
		}
		if q != nil {
			if l.rng.IntN(2) == 0 { // a deposition between, whose uncommitted end is committed by the next leader
				q.Depose()
			}
			err = errors.Join(err, q.Close())
		}
		l.mu.Lock()
		if l.failed == nil && err != nil {
			l.failed = err
		}
		l.mu.Unlock()
		if l.failed != nil {
			return
		}
	}
}

// quorumKinds are the kinds of files of the metadata directory, and of what a file may be on its way to one.
var quorumKinds = []string{"quorum-state", "bootstrap snapshot", "snapshot", "log", "index", "timeindex", "txnindex", "producer snapshot", "leader-epoch-checkpoint",
	"partition.metadata", "meta.properties", "log directory", "metadata directory"}

// quorumKind names the kind of a file.
func quorumKind(path string) string {
	name := filepath.Base(path)
	base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, suffixTmp), suffixPart), suffixDeleted)
	_, rest, isSnapshot := parseSnapshotName(base)
	switch {
	case name == logDirName:
		return "metadata directory"
	case isSnapshot && rest == "" && base == snapshotName(bootstrapID):
		return "bootstrap snapshot"
	case isSnapshot && rest == "":
		return "snapshot"
	case strings.HasPrefix(base, fileState):
		return "quorum-state"
	case strings.HasSuffix(base, ".log"):
		return "log"
	case strings.HasSuffix(base, ".index"):
		return "index"
	case strings.HasSuffix(base, ".timeindex"):
		return "timeindex"
	case strings.HasSuffix(base, ".txnindex"):
		return "txnindex"
	case strings.HasSuffix(base, ".snapshot"):
		return "producer snapshot"
	case base == "leader-epoch-checkpoint", base == "partition.metadata", base == fileMeta:
		return base
	case filepath.Dir(path) == "/":
		return "log directory"
	}
	return "unknown file " + name
}

// TestCrashEverywhere: a machine stops before any change of the metadata directory. Whatever part of what was not synced is kept,
// the controller starts, has everything that was answered, nothing that was not asked for, no change without those before it, and
// leads in an epoch of its own.
func TestCrashEverywhere(t *testing.T) {
	race.Skip(t)
	seed, n := seed.Of(t), crashes()
	ops := map[string]int{}
	tried, runs := 0, 0
	for ; tried < n; runs++ {
		l := newLife(t, seed+uint64(runs))
		l.run(2, 18)
		if l.failed != nil {
			t.Fatalf("MOLDAU_SEED=%d: %v", l.seed, l.failed)
		}
		tried += l.tried
		for op, k := range l.ops {
			ops[op] += k
		}
	}
	t.Logf("seed %d: %d runs, %d crashes: %v", seed, runs, tried, ops)
	for op := range ops {
		if _, kind, _ := strings.Cut(op, " "); !slices.Contains(quorumKinds, kind) {
			t.Errorf("%s: no such kind is known", op)
		}
	}
	for _, op := range []string{"write log", "sync log", "create log", "write quorum-state", "rename quorum-state", "write snapshot", "rename snapshot", "remove snapshot",
		"syncdir metadata directory", "rename log", "write leader-epoch-checkpoint", "create partition.metadata"} {
		if ops[op] == 0 {
			t.Errorf("no crash at %q", op)
		}
	}
}

// TestCrashInFormat: a machine stops while two directories are formatted. What is left is not formatted, or whole; formatting it once
// more gives a cluster that starts.
func TestCrashInFormat(t *testing.T) {
	dirs, seed := []string{"/data", "/more"}, seed.Of(t)
	for _, dynamic := range []bool{false, true} {
		mem := vfs.NewMem()
		fault := vfs.NewFaults(mem)
		rng := rand.New(rand.NewPCG(seed, 9))
		o := FormatOptions{FS: fault, ClusterID: testCluster, NodeID: 1, MetadataDir: "/data", Dirs: dirs, Dynamic: dynamic, Now: time.Now(), Rand: rng,
			IgnoreFormatted: true}
		if dynamic {
			o.Voters = []Voter{{ID: 1, DirectoryID: NewDirectoryID(rng), Endpoints: []Endpoint{{"CONTROLLER", "localhost", 19093}}}}
		}
		tried, halves := 0, 0
		check := func(disk *vfs.Mem) error {
			whole := 0
			for _, dir := range dirs {
				m, err := ReadMetaProperties(disk, dir)
				switch {
				case isNotFormatted(err):
				case err != nil:
					return fmt.Errorf("half a meta.properties: %w", err)
				case m.ClusterID != testCluster || m.NodeID != 1 || m.DirectoryID.IsZero():
					return fmt.Errorf("%s: %+v", dir, m)
				default:
					whole++
				}
			}
			if whole == 1 {
				halves++
			}
			again := o
			again.FS, again.Rand = disk, rand.New(rand.NewPCG(rng.Uint64(), 1))
			done, err := Format(again)
			if err != nil {
				return fmt.Errorf("format again: %w", err)
			}
			if done[0].DirectoryID == done[1].DirectoryID || done[0].Unreadable || done[1].Unreadable {
				return fmt.Errorf("formatted %+v", done)
			}
			n := &testNode{t: t, fs: disk, dir: "/data", dirID: done[0].DirectoryID, dynamic: dynamic}
			q, err := Open(n.options())
			if err != nil {
				return fmt.Errorf("open: %w", err)
			}
			defer q.Close()
			if err := q.Start(); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if _, err := q.AwaitImage(ctx, func(i *image.Image) bool { return i.Features.MetadataVersion == 33 }); err != nil {
				return fmt.Errorf("%w: %v", err, q.Err())
			}
			return setConfig(q, "a", "1")
		}
		var failed error
		try := func(what string) {
			for _, clone := range []uint64{vfs.LoseUnsynced, vfs.KeepUnsynced, rng.Uint64(), rng.Uint64(), rng.Uint64()} {
				tried++
				if err := check(mem.CrashClone(clone)); err != nil && failed == nil {
					failed = fmt.Errorf("crash before %s, clone %d: %w", what, clone, err)
				}
			}
		}
		fault.Watch(func(op vfs.Op, path string) {
			if failed == nil {
				try(fmt.Sprintf("%s of %s", op, path))
			}
		})
		if _, err := Format(o); err != nil {
			t.Fatal(err)
		}
		fault.Watch(nil)
		try("the end")
		if failed != nil {
			t.Fatal(failed)
		}
		if tried < 50 || halves == 0 {
			t.Errorf("%d crashes, one of two directories formatted in %d", tried, halves)
		}
	}
}

// TestVoteIsKept: a vote that was given stands after a crash before any change of the disk that follows, and one that could not be
// kept is not given.
func TestVoteIsKept(t *testing.T) {
	mem := vfs.NewMem()
	faults := vfs.NewFaults(mem)
	n := format(t, faults, "/data", true)
	q := n.start()
	vote := raft.Message{Type: raft.MsgVote, From: raft.Replica{ID: 2, DirectoryID: id.UUID{5}}, To: 1, Epoch: 9, Log: raft.Position{Offset: 1 << 40, Epoch: 8}}
	ask := func(q *Quorum, m raft.Message) raft.Message {
		done := make(chan Reply, 1)
		q.Ask(Ask{Message: m}, func(r Reply) { done <- r })
		return (<-done).Message
	}
	broken := errors.New("broken")
	faults.Add(vfs.Rule{Op: vfs.OpSyncDir, Path: logDirName, Err: broken, After: true}) // quorum-state is written, and nobody knows
	if a := ask(q, vote); a.Granted || a.Error != wire.ErrBrokerNotAvailable {
		t.Fatalf("%+v", a)
	}
	if <-q.Failed(); !errors.Is(q.Err(), broken) {
		t.Fatal(q.Err())
	}
	if err := q.Close(); err != nil {
		t.Log(err) // its directory failed
	}
	n.fs = mem.CrashClone(vfs.LoseUnsynced)
	h, err := readState(n.fs, filepath.Join(n.dir, logDirName))
	if err != nil || h.Epoch != 9 || h.Voted != vote.From {
		t.Fatalf("%+v, %v", h, err)
	}
	q = n.start()
	vote.From.ID = 3
	if a := ask(q, vote); a.Granted || a.Error != wire.ErrFencedLeaderEpoch { // the node stood itself, in a later epoch
		t.Fatalf("%+v", a)
	}
}

package log

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// crashes is how many the matrix tries: MOLDAU_CRASHES, or enough for every run of the tests.
func crashes() int {
	if n, err := strconv.Atoi(os.Getenv("MOLDAU_CRASHES")); err == nil {
		return n
	}
	return 10_000
}

// A machine may stop before any change of its disk, and in the middle of any write. The work of a node is done once, and at each
// of these moments four disks are looked at: without anything that was not synced, with all of it, and with two random parts of
// it; now and then the start on such a disk is itself stopped at every change.
func TestCrashEverywhere(t *testing.T) { crashTest(t, crashes(), nil) }

// The same with two log directories between which logs move.
func TestCrashEverywhereInTwoDirectories(t *testing.T) { crashTest(t, crashes()*2/5, nil, "/more") }

func crashTest(t *testing.T, n int, change func(*matrix), more ...string) {
	t.Parallel()
	seed := seed.Of(t)
	covered := []string{"write .log", "sync .log", "rename partition", "mkdir partition", "syncdir directory", "write checkpoint"}
	if len(more) == 0 && change == nil {
		covered = append(covered, "write .index", "write .timeindex", "write .snapshot", "create .log", "truncate .log", "rename .log",
			"write .cleaned", "rename .cleaned", "rename .swap", "remove .deleted", "rename checkpoint", "syncdir partition", "write meta.properties")
	}
	tried, ops := 0, map[string]int{}
	runs, moved := 0, 0
	missing := func() string {
		for _, op := range covered {
			if ops[op] == 0 {
				return op
			}
		}
		if len(more) > 0 && moved == 0 {
			return "move"
		}
		return ""
	}
	for ; tried < n || missing() != "" && runs < 20; runs++ { // chance may leave something out of a few runs
		w := newMatrix(t, seed+uint64(runs), more...)
		if change != nil {
			change(w)
		}
		if race.Enabled { // in the work goroutines meet; what a crash leaves of it is for one of them
			if w.run(90); w.failed == nil {
				return
			}
		} else {
			tried += w.crashEverywhere(90, 300)
		}
		if w.failed != nil {
			t.Fatalf("MOLDAU_SEED=%d: %v\nlast steps: %s", w.seed, w.failed, strings.Join(w.trace[max(0, len(w.trace)-40):], "; "))
		}
		moved += w.moved
		for op, k := range w.ops {
			ops[op] += k
		}
	}
	t.Logf("seed %d: %d runs, %d crashes, %d logs moved: %v", seed, runs, tried, moved, ops)
	if op := missing(); op != "" {
		t.Errorf("no crash at %q in %d runs", op, runs)
	}
}

// crashEverywhere runs the work and returns how many crashes were tried. Of every so many starts one is crashed itself.
func (w *matrix) crashEverywhere(steps, nested int) int {
	var mu sync.Mutex
	tried := 0
	w.fault.Watch(func(op vfs.Op, path string) {
		mu.Lock() // closing a manager changes several logs at a time
		defer mu.Unlock()
		if w.failed != nil {
			return
		}
		if l, ok := w.live(plainTP); ok {
			w.logs[plainTP].sawStart = max(w.logs[plainTP].sawStart, l.StartOffset())
		}
		kind := string(op) + " " + fileKind(path)
		w.ops[kind]++
		r := w.seed*31 + uint64(tried) + 2
		for _, clone := range []uint64{vfs.LoseUnsynced, vfs.KeepUnsynced, r, r + 1} {
			tried++
			disk := w.disk.CrashClone(clone)
			power := clone != vfs.KeepUnsynced
			if tried%nested == 0 {
				n, err := w.crashStart(disk, power)
				if tried += n; err != nil {
					w.fail("crash before %s of %s, clone %d, and another in the start: %w", op, path, clone, err)
					return
				}
				continue
			}
			if err := w.check(disk, disk, power); err != nil {
				w.fail("crash before %s of %s, clone %d: %w%s", op, path, clone, err, listing(w.disk.CrashClone(clone)))
				return
			}
		}
	})
	w.run(steps)
	w.fault.Watch(nil)
	return tried
}

// crashStart starts a node on a disk and tries a crash at every change that the start makes. Nothing more is lost for good.
func (w *matrix) crashStart(disk *vfs.Mem, power bool) (tried int, err error) {
	f := vfs.NewFaults(disk)
	f.Watch(func(op vfs.Op, path string) {
		if err != nil {
			return
		}
		for _, clone := range []uint64{vfs.LoseUnsynced, vfs.KeepUnsynced, w.seed + uint64(tried) + 2} {
			tried++
			again := disk.CrashClone(clone)
			if e := w.check(again, again, power); e != nil {
				err = fmt.Errorf("before %s of %s, clone %d: %w%s", op, path, clone, e, listing(disk.CrashClone(clone)))
				return
			}
		}
	})
	m, opened := w.open(f)
	f.Watch(nil)
	if opened != nil {
		return tried, fmt.Errorf("start: %w", opened)
	}
	m.unlock()
	m.dropAll()
	return tried, err
}

// fileKind is what a path is, for the count of what was covered.
func fileKind(path string) string {
	name := filepath.Base(path)
	switch {
	case name == "data", name == "more":
		return "directory"
	case strings.Contains(name, fileMetaProperties):
		return fileMetaProperties
	case strings.Contains(name, "checkpoint"), strings.Contains(name, filePartitionMeta):
		return "checkpoint"
	case strings.Contains(name, "."):
		if _, _, ok := parseDirName(name); ok && !strings.HasPrefix(name, "0") {
			return "partition"
		}
		return filepath.Ext(name)
	case strings.Contains(name, "-"):
		return "partition"
	}
	return name
}

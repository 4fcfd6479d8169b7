package quorum

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/record"
)

// restKinds are the kinds of files that a metadata directory holds at rest, and what a start may make of one that is damaged. A file
// of another kind fails the test, and so does a kind of which there is no file.
var restKinds = map[string]struct {
	refuses bool // a start may be refused, with the file and the reason
	loses   bool // changes at the end may be lost with it: they are nowhere else
}{
	"quorum-state":            {refuses: true},
	"bootstrap snapshot":      {refuses: true},
	"snapshot":                {refuses: true, loses: true}, // an older log or snapshot may be all that is left
	"log":                     {refuses: true, loses: true},
	"index":                   {},
	"timeindex":               {},
	"producer snapshot":       {},
	"leader-epoch-checkpoint": {refuses: true, loses: true}, // without it a torn end cannot be told from damage
	"partition.metadata":      {refuses: true},
	"meta.properties":         {refuses: true},
	".lock":                   {},
}

func restKind(path string) string {
	if filepath.Base(path) == ".lock" {
		return ".lock"
	}
	return quorumKind(path)
}

// filesOf reads every file below a directory.
func filesOf(t *testing.T, fsys vfs.FS, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	entries, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			for k, v := range filesOf(t, fsys, path) {
				out[k] = v
			}
		} else if out[path], err = vfs.ReadFile(fsys, path, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// damagesOf are the ways in which a file may come to be another one.
func damagesOf(kind string, b, stale []byte, rng *rand.Rand) []vfs.Damage {
	how := vfs.Thoroughness{CutEvery: 1 + len(b)/40, Flips: 40}
	if kind == "log" { // at every offset of the last batch
		how.CutEvery = 1
		for rest := b; len(rest) > 0; {
			_, next, err := record.Next(rest)
			if err != nil {
				break
			}
			how.CutFrom, rest = len(b)-len(rest), next
		}
	}
	out := vfs.Damages(b, stale, how, rng)
	for old, to := range map[string]string{`"data_version":1`: `"data_version":9`, "version: 0": "version: 9", "version=1": "version=9"} {
		if v := bytes.Replace(b, []byte(old), []byte(to), 1); !bytes.Equal(v, b) {
			out = append(out, vfs.Damage{Name: "another version", Bytes: v})
		}
	}
	return out
}

// TestAtRest: every file of a metadata directory is damaged in every way. The controller starts, or says which file keeps it from
// starting, and why. Its state is one that was, as far as a change that was made; and it is the last one, unless the damage is in what
// alone has it.
func TestAtRest(t *testing.T) {
	race.Skip(t)
	seed := seed.Of(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	l := newLife(t, seed)
	lives := func(n int) {
		l.run(n, 14)
		if l.failed != nil {
			t.Fatal(l.failed)
		}
	}
	l.fault = vfs.NewFaults(l.mem) // nobody watches
	lives(1)
	stale := filesOf(t, l.mem, "/data")
	lives(2)
	files := filesOf(t, l.mem, "/data")
	if len(stale) == 0 || l.acked != l.asked {
		t.Fatal(l.acked, l.asked)
	}
	files["/data/.lock"] = []byte{} // as the log manager makes it
	paths := make([]string, 0, len(files))
	for path := range files {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	tried, refused := map[string]int{}, map[string]int{}
	for _, path := range paths {
		kind := restKind(path)
		rule, ok := restKinds[kind]
		if !ok {
			t.Errorf("%s is of no kind in the table", path)
			continue
		}
		for _, d := range damagesOf(kind, files[path], stale[path], rng) {
			disk := l.mem.CrashClone(vfs.KeepUnsynced)
			var err error
			if d.Bytes == nil {
				if kind != ".lock" {
					err = disk.Remove(path)
				}
			} else {
				err = vfs.WriteFile(disk, path, d.Bytes)
			}
			if err != nil {
				t.Fatal(err)
			}
			tried[kind]++
			got, err := l.look(disk, kind)
			switch {
			case err != nil && strings.HasPrefix(err.Error(), "panic"):
				t.Errorf("%s, %s: %v", path, d.Name, err)
			case err != nil && !rule.refuses:
				t.Errorf("%s, %s: %v", path, d.Name, err)
			case err != nil:
				refused[kind]++
				if !strings.Contains(err.Error(), filepath.Base(path)) && !(kind == "snapshot" || kind == "log") || !strings.Contains(err.Error(), "/data") {
					t.Errorf("%s, %s: an error that does not name the file: %v", path, d.Name, err)
				}
			case got > l.acked, got < l.acked && !rule.loses:
				t.Errorf("%s, %s: the state is that of change %d of %d", path, d.Name, got, l.acked)
			}
		}
	}
	n := 0
	for kind := range restKinds {
		if n += tried[kind]; tried[kind] == 0 {
			t.Errorf("no %s was damaged", kind)
		}
	}
	t.Logf("%d damages %v, starts refused %v", n, tried, refused)
}

// look starts a controller on a disk and says up to which change its state goes.
func (l *life) look(disk *vfs.Mem, kind string) (last int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if kind == "meta.properties" { // the node reads it
		m, err := ReadMetaProperties(disk, "/data")
		if err != nil {
			return 0, fmt.Errorf("/data/%s: %w", fileMeta, err)
		}
		if m.NodeID != 1 || m.DirectoryID != l.n.dirID {
			return 0, fmt.Errorf("/data/%s: of node %d and directory %s", fileMeta, m.NodeID, m.DirectoryID) // as the node finds out
		}
	}
	again := *l.n
	again.fs = disk
	q, err := Open(again.options())
	if err != nil {
		return 0, err
	}
	defer q.Close()
	if err := q.Start(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := q.AwaitImage(ctx, func(i *image.Image) bool { return i.Features.MetadataVersion == 33 }); err != nil {
		if q.Err() != nil {
			return 0, q.Err()
		}
		return 0, fmt.Errorf("no metadata.version: %w, %+v", err, q.Status())
	}
	if err := setConfig(q, "after", "1"); err != nil {
		return 0, fmt.Errorf("change after the start: %w", err)
	}
	last, err = reached(q.Image())
	if err != nil {
		return 0, fmt.Errorf("panic: wrong data is served: %w", err)
	}
	return last, nil
}

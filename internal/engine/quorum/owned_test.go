package quorum

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/engine/log"
)

// TestForeignWriter: another process writes into the metadata log, as Apache Kafka does before it finds the directory locked. The
// quorum stops before it writes over it, and what the other wrote is there for the next start.
func TestForeignWriter(t *testing.T) {
	segment := func(n *testNode) string { return filepath.Join(n.dir, logDirName, "00000000000000000000.log") }
	for name, intrude := range map[string]func(t *testing.T, n *testNode){
		"votes": func(t *testing.T, n *testNode) {
			h, err := readState(n.fs, filepath.Join(n.dir, logDirName))
			if err != nil {
				t.Fatal(err)
			}
			h.Epoch++
			if err := writeState(n.fs, filepath.Join(n.dir, logDirName), h, raft.Membership{KRaftVersion: 1}); err != nil {
				t.Fatal(err)
			}
		},
		"appends": func(t *testing.T, n *testNode) {
			f, err := n.fs.OpenFile(segment(n), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			size, err := f.Size()
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 61) // a batch of the other, copied from the beginning
			if _, err := f.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(b, size); err != nil {
				t.Fatal(err)
			}
		},
		"cuts": func(t *testing.T, n *testNode) {
			f, err := n.fs.OpenFile(segment(n), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			size, err := f.Size()
			if err = errors.Join(err, f.Truncate(size-1)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := format(t, vfs.NewMem(), "/data", true)
			n.edit = func(o *Options) { o.MaxIdleInterval = 0 }
			q, err := Open(n.options())
			if err != nil {
				t.Fatal(err)
			}
			q.d.log.quiet = 50 * time.Millisecond
			if err := q.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { q.Close() })
			if _, err := q.AwaitImage(t.Context(), func(i *image.Image) bool { return i.Features.MetadataVersion == 33 }); err != nil {
				t.Fatal(err)
			}
			if err := setConfig(q, "a", "1"); err != nil {
				t.Fatal(err)
			}
			intrude(t, n)
			dir := filepath.Join(n.dir, logDirName)
			before := contents(t, n.fs, dir)
			if err := setConfig(q, "b", "2"); err == nil {
				t.Fatal("acknowledged into somebody else's log")
			}
			<-q.Failed()
			if err := q.Err(); !errors.Is(err, log.ErrForeign) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("stopped with %v", err)
			}
			q.Close()
			after := contents(t, n.fs, dir)
			for name, was := range before {
				if after[name] != was {
					t.Errorf("%s was changed: %d bytes, were %d", name, len(after[name]), len(was))
				}
			}
			if len(after) != len(before) {
				t.Errorf("%d files, were %d", len(after), len(before))
			}
		})
	}
}

func contents(t *testing.T, fsys vfs.FS, dir string) map[string]string {
	t.Helper()
	entries, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		b, err := vfs.ReadFile(fsys, filepath.Join(dir, e.Name()), 1<<24)
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

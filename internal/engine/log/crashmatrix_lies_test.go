package log

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// The matrix is worth what it finds. Each of these is a mistake one can make, made for the program by the disk; the matrix must
// notice every one, within a few runs.
func TestCrashEverywhereFindsMistakes(t *testing.T) {
	race.Skip(t)
	t.Parallel()
	ahead := regexp.MustCompile(`(?m)^(plain|keyed) 0 \d+$`)
	for _, mistake := range []struct {
		name string
		rule vfs.Rule
		more []string // log directories
		from uint64   // a seed that finds it soon
	}{
		{"the log is not synced", vfs.Rule{Op: vfs.OpSync, Path: "*.log", Skip: true}, nil, 0},
		{"a checkpoint is renamed before it is synced", vfs.Rule{Op: vfs.OpSync, Path: "*checkpoint.tmp", Skip: true}, nil, 0},
		{"the names in a partition's directory are not synced", vfs.Rule{Op: vfs.OpSyncDir, Path: "plain-0", Skip: true}, nil, 0},
		{"the names of partitions are not synced", vfs.Rule{Op: vfs.OpSyncDir, Path: "data", Skip: true}, nil, 0},
		{"a cleaned segment is not synced", vfs.Rule{Op: vfs.OpSync, Path: "*.log.cleaned", Skip: true}, nil, 0},
		{"the names of a cleaned segment are not synced", vfs.Rule{Op: vfs.OpSyncDir, Path: "keyed-0", Skip: true}, nil, 0},
		{"a finished segment's time index is not synced", vfs.Rule{Op: vfs.OpSync, Path: "*.timeindex", Skip: true}, nil, 0},
		{"the clean shutdown mark stays", vfs.Rule{Op: vfs.OpRemove, Path: fileCleanShutdown, Skip: true}, nil, 0},
		{"recovery points are ahead of the data", vfs.Rule{Op: vfs.OpWrite, Path: fileRecoveryPoint + "*", Alter: func(b []byte) []byte {
			return ahead.ReplaceAll(b, []byte("$1 0 100000"))
		}}, nil, 0},
		{"a cut of the log does not reach the disk", vfs.Rule{Op: vfs.OpTruncate, Path: "*.log", Skip: true}, nil, 0},
		{"log start offsets are not written", vfs.Rule{Op: vfs.OpWrite, Path: fileStartOffset + "*", Alter: func([]byte) []byte { return []byte("0\n0\n") }}, nil, 8},
		{"topic ids get lost", vfs.Rule{Op: vfs.OpWrite, Path: "partition.metadata*", Alter: func(b []byte) []byte { return bytes.Repeat([]byte{0}, len(b)) }}, nil, 0},
		{"leader epochs are not written", vfs.Rule{Op: vfs.OpWrite, Path: fileEpochs + "*", Alter: func([]byte) []byte { return []byte("0\n0\n") }}, nil, 0},
		{"the directory that a log left is not synced", vfs.Rule{Op: vfs.OpSyncDir, Path: "data", Skip: true}, []string{"/more"}, 0},
		{"the directory that a log went to is not synced", vfs.Rule{Op: vfs.OpSyncDir, Path: "more", Skip: true}, []string{"/more"}, 0},
		{"the copy of a log is not synced", vfs.Rule{Op: vfs.OpSync, Path: "0*.log", Skip: true}, []string{"/more"}, 0},
		{"no mistake in two directories", vfs.Rule{Op: vfs.OpSync, Path: "no such file", Skip: true}, []string{"/more"}, 0},
		{"no mistake", vfs.Rule{Op: vfs.OpSync, Path: "no such file", Skip: true}, nil, 0},
	} {
		t.Run(mistake.name, func(t *testing.T) {
			tried, none := 0, strings.HasPrefix(mistake.name, "no mistake")
			for seed := max(mistake.from, 1); seed < 40; seed++ {
				w := newMatrix(t, seed, mistake.more...)
				w.fault.Add(mistake.rule)
				tried += w.crashEverywhere(90, 1<<30)
				if w.failed != nil {
					if none {
						t.Fatal(w.failed)
					}
					t.Logf("found after %d crashes: %.150s", tried, w.failed)
					return
				}
				if none && int(seed)+len(mistake.more) == 2 {
					return
				}
			}
			t.Errorf("not found in %d crashes", tried)
		})
	}
}

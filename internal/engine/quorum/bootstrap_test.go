package quorum

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
)

// TestOldBootstrap: the first records of a cluster lie where Apache Kafka up to 4.3 left them. They count as long as the log is
// empty, and a file that cannot be read is refused by its name.
func TestOldBootstrap(t *testing.T) {
	n := &testNode{t: t, fs: vfs.NewMem(), dir: "/data"}
	done, err := Format(FormatOptions{FS: n.fs, ClusterID: testCluster, NodeID: 1, MetadataDir: n.dir, Dirs: []string{n.dir}, Now: time.Now(),
		Rand: rand.New(rand.NewPCG(1, 1)), Features: []FeatureLevel{{Name: image.MetadataVersionFeature, Level: 25}, {Name: "group.version", Level: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	n.dirID = done[0].DirectoryID
	old := filepath.Join(n.dir, fileBootstrap)
	if err := n.fs.Rename(filepath.Join(n.dir, logDirName, snapshotName(bootstrapID)), old); err != nil {
		t.Fatal(err)
	}
	whole, err := vfs.ReadFile(n.fs, old, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	damaged := []byte(string(whole))
	damaged[len(damaged)/2] ^= 1
	for what, b := range map[string][]byte{"damaged": damaged, "cut": whole[:len(whole)-20], "empty": nil} {
		if err := vfs.WriteFile(n.fs, old, b); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(n.options()); err == nil || !strings.Contains(err.Error(), old) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := vfs.WriteFile(n.fs, old, whole); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		q, err := Open(n.options())
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Start(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		img, err := q.AwaitImage(ctx, func(i *image.Image) bool { return i.Features.MetadataVersion > 0 })
		cancel()
		if err != nil || img.Features.MetadataVersion != 25 {
			t.Fatalf("metadata.version %d, %v", img.Features.MetadataVersion, err)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

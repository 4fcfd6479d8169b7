package quorum

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// golden reads a bootstrap snapshot that the format command of Apache Kafka 4.4.0 wrote.
func golden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// atOneTime gives every batch, and the header record, the same time.
func atOneTime(t *testing.T, b []byte) []byte {
	t.Helper()
	b = bytes.Clone(b)
	header := record.Batch(b[:record.Batch(b).SizeBytes()])
	// The header's record: length, attributes, deltas, key, value length, then version and time.
	copy(header.Payload()[1+1+1+1+1+4+1+2:], make([]byte, 8))
	for rest := b; len(rest) > 0; {
		batch, next, err := record.Next(rest)
		if err != nil {
			t.Fatal(err)
		}
		copy(batch[27:43], make([]byte, 16))
		batch.SetCRC()
		rest = next
	}
	return b
}

func TestFormatWritesWhatKafkaWrites(t *testing.T) {
	dirID, err := id.ParseUUID("SWVX05qgTd2KwJ8ThLrvQA")
	if err != nil {
		t.Fatal(err)
	}
	for name, voters := range map[string][]Voter{
		"bootstrap-static.hex":  nil,
		"bootstrap-dynamic.hex": {{ID: 1, DirectoryID: dirID, Endpoints: []Endpoint{{"CONTROLLER", "localhost", 19741}}}},
	} {
		fsys := vfs.NewMem()
		done, err := Format(FormatOptions{FS: fsys, ClusterID: testCluster, NodeID: 1, MetadataDir: "/a/b", Dirs: []string{"/c", "/a/b"},
			Dynamic: voters != nil, Voters: voters, Now: time.Now(), Rand: rand.New(rand.NewPCG(1, 2))})
		if err != nil {
			t.Fatal(err)
		}
		got, err := vfs.ReadFile(fsys, "/a/b/__cluster_metadata-0/00000000000000000000-0000000000.checkpoint", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(hex.Dump(atOneTime(t, golden(t, name))), hex.Dump(atOneTime(t, got))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if len(done) != 2 || done[0].Metadata || !done[1].Metadata || voters != nil && done[1].DirectoryID != dirID || vfs.Exists(fsys, "/c/"+logDirName) {
			t.Errorf("%s: %+v", name, done)
		}
		for _, d := range done {
			m, err := ReadMetaProperties(fsys, d.Dir)
			if err != nil || m != (MetaProperties{testCluster, 1, d.DirectoryID}) || d.DirectoryID.IsZero() {
				t.Errorf("%s: %+v, %v", d.Dir, m, err)
			}
		}
	}
}

func TestFormatTwice(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	o := FormatOptions{FS: n.fs, ClusterID: testCluster, NodeID: 1, MetadataDir: "/data", Dirs: []string{"/data"}, Now: time.Now(), Rand: rand.New(rand.NewPCG(1, 2))}
	if _, err := Format(o); !errors.Is(err, ErrAlreadyFormatted) {
		t.Fatalf("%v", err)
	}
	o.IgnoreFormatted, o.Dirs = true, []string{"/data", "/more"}
	done, err := Format(o)
	if err != nil || !done[0].Already || done[0].DirectoryID != n.dirID || done[1].Already || done[1].DirectoryID.IsZero() {
		t.Fatalf("%+v, %v", done, err)
	}
	o.ClusterID = "AAAAAAAAAAAAAAAAAAAAAQ"
	if _, err := Format(o); err == nil || !strings.Contains(err.Error(), "Invalid cluster.id in: /data/meta.properties") {
		t.Fatalf("%v", err)
	}
	o.ClusterID, o.NodeID = testCluster, 2
	if _, err := Format(o); err == nil || !strings.Contains(err.Error(), "Stored node id 1 doesn't match previous node id 2") {
		t.Fatalf("%v", err)
	}
}

// TestFormatBesideDamage: a directory whose meta.properties cannot be read is left alone and said; one that belongs to nobody or
// to two is refused.
func TestFormatBesideDamage(t *testing.T) {
	fsys := vfs.NewMem()
	write := func(dir, text string) {
		t.Helper()
		if err := fsys.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := vfs.ReplaceFile(fsys, dir+"/"+fileMeta, suffixTmp, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	o := FormatOptions{FS: fsys, ClusterID: testCluster, NodeID: 1, MetadataDir: "/good", Dirs: []string{"/bad", "/good"}, IgnoreFormatted: true,
		Now: time.Now(), Rand: rand.New(rand.NewPCG(1, 2))}
	write("/bad", "version=7\n")
	done, err := Format(o)
	if err != nil || !done[0].Unreadable || done[0].Already || done[1].Unreadable || done[1].DirectoryID.IsZero() {
		t.Fatalf("%+v, %v", done, err)
	}
	o.MetadataDir, o.Dirs = "/bad", []string{"/bad"}
	if _, err := Format(o); err == nil || !strings.Contains(err.Error(), "No available log directories to format.") {
		t.Fatalf("%v", err)
	}
	meta := "version=1\ncluster.id=" + testCluster + "\nnode.id=1\ndirectory.id="
	write("/x", meta+"AAAAAAAAAAAAAAAAAAAABQ\n")
	o.MetadataDir, o.Dirs = "/x", []string{"/x"}
	if _, err := Format(o); err == nil || !strings.Contains(err.Error(), "Invalid reserved directory ID AAAAAAAAAAAAAAAAAAAABQ found in /x") {
		t.Fatalf("%v", err)
	}
	write("/x", meta+"SWVX05qgTd2KwJ8ThLrvQA\n")
	write("/y", meta+"SWVX05qgTd2KwJ8ThLrvQA\n")
	o.Dirs = []string{"/x", "/y"}
	if _, err := Format(o); err == nil || !strings.Contains(err.Error(), "Duplicate directory ID SWVX05qgTd2KwJ8ThLrvQA found. It was the ID of /x, but also of /y") {
		t.Fatalf("%v", err)
	}
}

func TestSnapshotsThatAreNotWhole(t *testing.T) {
	whole := golden(t, "bootstrap-dynamic.hex")
	s, err := parseSnapshot(whole, bootstrapID)
	if err != nil || len(s.records) != 6 || s.members.KRaftVersion != 1 || len(s.members.Voters) != 1 || s.members.Voters[0].Endpoints[0].Port != 19741 || s.lastMs == 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	flipped := bytes.Clone(whole)
	flipped[200] ^= 1
	for name, b := range map[string][]byte{
		"empty": nil, "no footer": whole[:len(whole)-75], "half a footer": whole[:len(whole)-3], "flipped": flipped,
		"no header": whole[0xa6:], "twice": append(bytes.Clone(whole), whole...),
	} {
		if _, err := parseSnapshot(b, bootstrapID); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

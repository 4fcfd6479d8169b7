package log

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// snapshotFiles returns every file below dir with its content.
func snapshotFiles(t testing.TB, fsys vfs.FS, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if path := dir + "/" + e.Name(); !e.IsDir() {
			out[path] = content(t, fsys, path)
		} else {
			for k, v := range snapshotFiles(t, fsys, path) {
				out[k] = v
			}
		}
	}
	return out
}

// A manager that never learns the metadata touches nothing, and a start that fails there costs the next one nothing.
func TestDeferredLoad(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	m := mustOpen(t, managerOptions(t, disk, ck, "/data"))
	for range 3 {
		mustAppend(t, mustCreate(t, m, partition("t", 0)), batchSpec{})
	}
	if err := m.Close(17); err != nil {
		t.Fatal(err)
	}
	before := snapshotFiles(t, disk, "/data")
	o := managerOptions(t, disk, ck, "/data")
	o.Deferred = true
	m = mustOpen(t, o)
	if e, ok := m.PreviousBrokerEpoch(); !ok || e != 17 {
		t.Errorf("previous broker epoch %d %t", e, ok)
	}
	ck.advance(24 * time.Hour)
	m.Tick(ck.now())
	if _, err := m.Create(partition("u", 0), CreateOptions{Config: testConfig()}); err == nil {
		t.Error("a log was created before the others were loaded")
	}
	if m.Loaded() || len(m.Logs()) != 0 {
		t.Errorf("%v", m.Logs())
	}
	if err := m.Close(18); err != nil {
		t.Fatal(err)
	}
	after := snapshotFiles(t, disk, "/data")
	for path, want := range before {
		if after[path] != want {
			t.Errorf("%s was %q and is %q", path, want, after[path])
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files instead of %d", len(after), len(before))
	}
	if err := m.Load(LoadOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("load after close: %v", err)
	}
	m = mustOpen(t, o)
	if err := m.Load(LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	if l, ok := m.Get(partition("t", 0)); !ok || l.EndOffset() != 3 {
		t.Errorf("%v", l)
	}
	if err := m.Load(LoadOptions{}); err == nil {
		t.Error("loaded twice")
	}
	m.Close(19)
}

// The configuration is known when a compacted log is recovered: its gaps are none.
func TestLoadKnowsConfig(t *testing.T) {
	for _, compact := range []bool{true, false} {
		disk, ck := mem(t), &clock{ms: epochMs}
		c := testConfig()
		l := openTest(t, disk, c, nil)
		for range 2 {
			mustAppend(t, l, batchSpec{records: 3})
		}
		if _, err := l.AppendAsFollower(batchSpec{base: 20}.build(t), 0); err != nil {
			t.Fatal(err)
		}
		l.Close()
		// Split at the gap, as a compaction of the first segment leaves it.
		b := []byte(content(t, disk, "/data/t-0/00000000000000000000.log"))
		cut := len(b) - len(batchSpec{}.build(t))
		vfs.WriteFile(disk, "/data/t-0/00000000000000000000.log", b[:cut])
		vfs.WriteFile(disk, "/data/t-0/00000000000000000020.log", b[cut:])
		o := managerOptions(t, disk, ck, "/data")
		o.Deferred = true
		m := mustOpen(t, o)
		c.CleanupCompact = compact
		if err := m.Load(LoadOptions{TopicConfig: func(string) Config { return c }}); err != nil {
			t.Fatal(err)
		}
		l, _ = m.Get(tp0)
		if want := map[bool]id.Offset{true: 21, false: 6}[compact]; l.EndOffset() != want {
			t.Errorf("compact=%t: log end %d", compact, l.EndOffset())
		}
		m.Close(1)
	}
}

// SetAside keeps the files for ever; the log itself is out of service and its name is free.
func TestSetAside(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	m := mustOpen(t, managerOptions(t, disk, ck, "/data"))
	long := partition(strings.Repeat("x", 249), 7)
	for _, tp := range []id.TopicPartition{tp0, long} {
		l := mustCreate(t, m, tp)
		mustAppend(t, l, batchSpec{})
		l.Flush(1)
	}
	old, _ := m.Get(tp0)
	if err := m.SetAside(tp0, long, partition("absent", 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := old.AppendAsLeader(batchSpec{}.build(t), AppendInfo{}); !errors.Is(err, ErrDeleted) {
		t.Errorf("append to a stray: %v", err)
	}
	if l := mustCreate(t, m, tp0); l.EndOffset() != 0 {
		t.Errorf("the new log ends at %d", l.EndOffset())
	}
	ck.advance(1000 * time.Hour)
	m.Tick(ck.now())
	m.Close(1)
	m = mustOpen(t, managerOptions(t, disk, ck, "/data"))
	ck.advance(1000 * time.Hour)
	m.Tick(ck.now())
	if n := len(m.Logs()); n != 1 {
		t.Errorf("%d logs after a restart", n)
	}
	m.Close(1)
	found := 0
	for path, b := range snapshotFiles(t, disk, "/data") {
		dir := strings.Split(path, "/")[2]
		if tp, kind, ok := parseDirName(dir); ok && kind == dirStray && strings.HasSuffix(path, ".log") && len(b) > 0 {
			found++
			if len(dir) > 255 || tp != tp0 && tp.Partition != 7 {
				t.Errorf("%s", dir)
			}
		}
	}
	if found != 2 {
		t.Errorf("%d strays kept their records", found)
	}
}

// What a power loss leaves of partition.metadata when its content was not synced counts as none; anything else stops the start.
func TestTornPartitionMetadata(t *testing.T) {
	for text, want := range map[string]string{"": "", "\x00\x00\x00": "", "vers\x00\x00": "", "version: 0\ntopic_id: AAAA": "", "topic_id: x": "is malformed",
		"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAA!": "is malformed", "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA": "is malformed"} {
		disk, ck := mem(t), &clock{ms: epochMs}
		openTest(t, disk, testConfig(), nil).Close()
		vfs.WriteFile(disk, "/data/t-0/partition.metadata", []byte(text))
		m, err := Open(managerOptions(t, disk, ck, "/data"))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", text, err)
		}
		if err == nil {
			if l, _ := m.Get(tp0); !l.TopicID().IsZero() {
				t.Errorf("%q: topic id %v", text, l.TopicID())
			}
			m.Close(1)
		}
	}
}

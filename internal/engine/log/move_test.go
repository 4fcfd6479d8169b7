package log

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// known is what there is to know of a log.
type known struct {
	Start, End, HW, LSO id.Offset
	Clean               int64
	Epochs              string
	Producers           []ProducerInfo
	Aborted             []AbortedTxn
	Records             string
}

func knownOf(t *testing.T, l *Log) known {
	t.Helper()
	k := known{Start: l.StartOffset(), End: l.EndOffset(), HW: l.HighWatermark(), LSO: l.LastStableOffset(), Clean: l.clean.Load(),
		Epochs: fmt.Sprint(l.epochs.snapshot()), Producers: l.Producers()}
	var err error
	if k.Aborted, err = l.AbortedTransactions(k.Start, k.End); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, batch := range readAll(t, l) {
		b.Write(batch)
	}
	k.Records = b.String()
	return k
}

// newMover is a manager of two directories with one log in /data, of which there is much to know.
func newMover(t *testing.T, fsys vfs.FS, ck *clock) (*Manager, *Log) {
	t.Helper()
	m := mustOpen(t, managerOptions(t, fsys, ck, "/data", "/more"))
	c := testConfig()
	c.SegmentBytes, c.IndexIntervalBytes, c.CleanupCompact, c.MinCleanableRatio, c.DeleteRetention = 1500, 200, true, 0, time.Hour
	l, err := m.Create(partition("t", 0), CreateOptions{TopicID: id.UUID{7}, Config: c, DirectoryID: m.dirs[0].id})
	if err != nil {
		t.Fatal(err)
	}
	appendKeys := func(n int) {
		b := record.NewBuilder(record.NewOptions())
		for i := range n {
			if err := b.Append(ck.ms, fmt.Appendf(nil, "k%d", i), bytes.Repeat([]byte("v"), 200)); err != nil {
				t.Fatal(err)
			}
		}
		raw, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.AppendAsLeader(bytes.Clone(raw), AppendInfo{LeaderEpoch: 2}); err != nil {
			t.Fatal(err)
		}
	}
	mustAppendTo := func(s batchSpec) {
		t.Helper()
		if _, err := l.AppendAsLeader(s.build(t), AppendInfo{LeaderEpoch: max(2, l.LatestEpoch())}); err != nil {
			t.Fatal(err)
		}
	}
	l.SetConfig(func() Config { plain := c; plain.CleanupCompact = false; return plain }())
	mustAppendTo(batchSpec{records: 3, size: 300, idem: true, pid: 5}) // of which nothing will be left
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		appendKeys(4)
	}
	appendTxn(t, l, 6, 0, 2, record.ControlAbort)
	appendTxn(t, l, 6, 0, 2, record.ControlCommit)
	mustAppendTo(batchSpec{records: 2, size: 30, idem: true, pid: 8})
	l.SetConfig(c)
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	l.AdvanceHighWatermark(l.EndOffset())
	if !m.Clean() {
		t.Fatal("nothing was cleaned")
	}
	l.SetConfig(func() Config { plain := c; plain.CleanupCompact = false; return plain }())
	openTxn(t, l, 9, 0, 2)
	l.AdvanceHighWatermark(l.EndOffset() - 1)
	if _, err := l.DeleteRecords(9); err != nil {
		t.Fatal(err)
	}
	if err := l.AssignEpoch(5, l.EndOffset()); err != nil { // without a record
		t.Fatal(err)
	}
	return m, l
}

// A log that has moved is the one that it was, also in the next life; what it leaves behind goes in time.
func TestMoveKeepsWhatIsKnown(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	m, l := newMover(t, disk, ck)
	want := knownOf(t, l)
	if len(want.Producers) != 4 || len(want.Aborted) != 1 || want.LSO >= want.HW || want.Clean < 0 {
		t.Fatalf("%+v", want)
	}
	mv, err := m.BeginMove(l.tp, "/more")
	if err != nil || mv == nil {
		t.Fatal(mv, err)
	}
	if again, err := m.BeginMove(l.tp, "/more/"); again != nil || err != nil {
		t.Fatal(again, err)
	}
	for !mv.CaughtUp() {
		if n, err := mv.Copy(400); err != nil || n == 0 && !mv.CaughtUp() {
			t.Fatal(n, err)
		}
	}
	if info := m.Dirs()[1]; len(info.Moves) != 1 || info.Moves[0].Copy.EndOffset() != want.End || len(info.Logs) != 0 {
		t.Fatalf("%+v", info)
	}
	if dir, _ := m.DirectoryOf(l.tp); dir != m.dirs[0].id {
		t.Fatal("it is said to be where it is going before it arrived")
	}
	if err := mv.Arrive(); err != nil {
		t.Fatal(err)
	}
	if dir, _ := m.DirectoryOf(l.tp); dir != m.dirs[1].id {
		t.Fatal("it is not said to be where it is going")
	}
	if m.Clean() {
		t.Error("a log that moves was cleaned")
	}
	now, err := mv.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, knownOf(t, now)); diff != "" {
		t.Error(diff)
	}
	if got, _ := m.Get(l.tp); got != now || now.DurableEnd() != want.End || !mv.Over() || len(m.Dirs()[1].Moves) != 0 || !errors.Is(l.Err(), ErrDeleted) {
		t.Errorf("%v, durable to %d, the old one %v", got.Path(), now.DurableEnd(), l.Err())
	}
	if _, err := mv.Copy(1); !errors.Is(err, ErrMoveOver) {
		t.Error(err)
	}
	m.Tick(ck.now())
	ck.advance(2 * time.Minute)
	m.Tick(ck.now())
	if entries, _ := disk.List("/data"); slices.ContainsFunc(entries, fs.DirEntry.IsDir) {
		t.Errorf("left behind: %v", entries)
	}
	if err := m.Close(1); err != nil {
		t.Fatal(err)
	}
	m = mustOpen(t, managerOptions(t, disk, ck, "/data", "/more"))
	defer m.Close(1)
	now, _ = m.Get(l.tp)
	want.HW = now.HighWatermark()
	want.LSO = now.LastStableOffset()
	want.Epochs = "[{2 9}]" // one without a record ends with the life
	if diff := cmp.Diff(want, knownOf(t, now)); diff != "" || !strings.HasPrefix(now.Path(), "/more/") {
		t.Errorf("in the next life, in %s: %s", now.Path(), diff)
	}
}

// The disk fails at the end of a move: whoever still has the log goes on with it.
func TestMoveFails(t *testing.T) {
	for _, c := range []struct {
		name    string
		rule    vfs.Rule
		offline []bool // of the two directories, afterwards
		moved   bool
	}{
		{"the copy cannot be made durable", vfs.Rule{Op: vfs.OpSync, Path: "0*.log", Err: syscall.EIO}, []bool{false, true}, false},
		{"the old directory cannot be renamed", vfs.Rule{Op: vfs.OpRename, Path: "t-0", Err: syscall.EIO}, []bool{true, false}, false},
		{"the new directory cannot be renamed", vfs.Rule{Op: vfs.OpRename, Path: "t-0*-future", Nth: 1, Err: syscall.EIO}, []bool{false, true}, false},
		{"the old name cannot be made durable", vfs.Rule{Op: vfs.OpSyncDir, Path: "data", Err: syscall.EIO}, []bool{true, false}, true},
		{"the checkpoints of the new directory have no room", vfs.Rule{Op: vfs.OpWrite, Path: fileRecoveryPoint + "*", Nth: 1, Err: syscall.ENOSPC}, []bool{false, false}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk, ck := mem(t), &clock{ms: epochMs}
			faults := vfs.NewFaults(disk)
			m, l := newMover(t, faults, ck)
			defer m.Close(1)
			if err := l.Flush(l.EndOffset()); err != nil {
				t.Fatal(err)
			}
			want := knownOf(t, l)
			mv, err := m.BeginMove(l.tp, "/more")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := mv.Copy(1 << 20); err != nil {
				t.Fatal(err)
			}
			faults.Add(c.rule)
			now, err := mv.Finish()
			faults.Clear()
			if (err == nil) != c.moved {
				t.Fatal(err)
			}
			if now == nil {
				now = l
				mv.Leave()
			}
			for i, d := range m.dirs {
				if (d.err() != nil) != c.offline[i] {
					t.Errorf("%s: %v", d.path, d.err())
				}
			}
			if now.dir.err() != nil {
				return // a start finds it
			}
			if diff := cmp.Diff(want, knownOf(t, now)); diff != "" {
				t.Error(diff)
			}
			mustAppend(t, now, batchSpec{size: 10, leader: 6})
		})
	}
}

// Copies that a start finds beside their logs go, and the move is told of; one without a log becomes it, when no log can be elsewhere.
func TestCopiesThatAStartFinds(t *testing.T) {
	const hex = ".0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		name       string
		logIn      string // "" for none
		bad        bool   // the other directory cannot be read
		assigned   bool   // the metadata has the replica where the copy is
		stray      bool
		want       string // the partition's directories afterwards
		unfinished bool
	}{
		{name: "beside the log", logIn: "/data", want: "/data/t-0", unfinished: true},
		{name: "in the directory of the log", logIn: "/more", want: "/more/t-0"},
		{name: "alone", want: "/more/t-0"},
		{name: "alone, of a topic that is gone", stray: true, want: "/more/t-0" + hex + "-stray"},
		{name: "alone, a directory is offline", bad: true, want: "/more/t-0" + hex + "-future"},
		{name: "alone, a directory is offline, and the metadata knows", bad: true, assigned: true, want: "/more/t-0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk, ck := mem(t), &clock{ms: epochMs}
			m := mustOpen(t, managerOptions(t, disk, ck, "/data", "/more"))
			for i, dir := range []string{"/data", "/more"} {
				l, err := m.Create(partition(fmt.Sprint("x", i), 0), CreateOptions{TopicID: id.UUID{7}, DirectoryID: m.dirs[i].id})
				if err != nil {
					t.Fatal(err)
				}
				mustAppend(t, l, batchSpec{size: 100})
				mustAppend(t, l, batchSpec{size: 100})
				if !strings.HasPrefix(l.Path(), dir) {
					t.Fatal(l.Path())
				}
			}
			moreID := m.dirs[1].id
			m.Close(1)
			// What the two logs are called decides what they are.
			if err := disk.Rename("/more/x1-0", "/more/t-0"+hex+"-future"); err != nil {
				t.Fatal(err)
			}
			switch c.logIn {
			case "/data":
				disk.Rename("/data/x0-0", "/data/t-0")
			case "/more":
				disk.Rename("/data/x0-0", "/more/t-0")
			default:
				disk.RemoveAll("/data/x0-0")
			}
			faults := vfs.NewFaults(disk)
			if c.bad {
				faults.Add(vfs.Rule{Op: vfs.OpList, Path: "data", Err: syscall.EIO})
			}
			o := managerOptions(t, faults, ck, "/data", "/more")
			o.Deferred = true
			m, err := Open(o)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close(1)
			if err := m.Load(LoadOptions{
				Stray:    func(id.TopicPartition, id.UUID, bool) bool { return c.stray },
				Assigned: func(id.TopicPartition, id.UUID) (id.UUID, bool) { return moreID, c.assigned },
			}); err != nil {
				t.Fatal(err)
			}
			m.Tick(ck.now())
			var at []string
			for _, dir := range []string{"/data", "/more"} {
				entries, _ := disk.List(dir)
				for _, e := range entries {
					if e.IsDir() {
						name := dir + "/" + e.Name()
						if strings.HasSuffix(name, suffixDirStray) {
							name = dir + "/t-0" + hex + suffixDirStray // its hex is another one
						}
						at = append(at, name)
					}
				}
			}
			if got := strings.Join(at, " "); got != c.want {
				t.Errorf("there is %s, want %s", got, c.want)
			}
			l, ok := m.Get(partition("t", 0))
			if ok != (c.want == "/data/t-0" || c.want == "/more/t-0") || ok && l.EndOffset() != 2 {
				t.Errorf("%v, %v", ok, l)
			}
			if left := m.Unfinished(); (left[partition("t", 0)] == "/more") != c.unfinished || len(m.Unfinished()) != 0 {
				t.Errorf("unfinished: %v", left)
			}
		})
	}
}

func TestMovesThatCannotBe(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	m, l := newMover(t, disk, ck)
	defer m.Close(1)
	long := id.TopicPartition{Topic: strings.Repeat("l", 220)}
	for _, c := range []struct {
		tp   id.TopicPartition
		path string
		want wire.ErrorCode
	}{
		{l.tp, "/none", wire.ErrLogDirNotFound}, {partition("t", 1), "/more", wire.ErrReplicaNotAvailable}, {long, "/more", wire.ErrInvalidTopicException},
	} {
		if mv, err := m.BeginMove(c.tp, c.path); mv != nil || ErrorCode(err) != c.want {
			t.Errorf("%v to %s: %v", c.tp, c.path, err)
		}
	}
	// Nobody may ask for a cordoned directory; what was on its way goes on.
	m.SetCordoned([]string{"/more"})
	for _, c := range []struct {
		tp   id.TopicPartition
		path string
		want wire.ErrorCode
	}{
		{l.tp, "/data", 0}, {l.tp, "/more", wire.ErrInvalidReplicaAssignment}, {partition("t", 1), "/more", wire.ErrInvalidReplicaAssignment},
		{l.tp, "/none", wire.ErrLogDirNotFound}, {long, "/more", wire.ErrInvalidTopicException},
	} {
		if err := m.Destination(c.tp, c.path); (err != nil || c.want != 0) && ErrorCode(err) != c.want {
			t.Errorf("destination %s of %v: %v", c.path, c.tp, err)
		}
	}
	mv, err := m.BeginMove(l.tp, "/more")
	if err != nil {
		t.Fatal(err)
	}
	mv.Abandon()
	m.SetCordoned(nil)
	if mv, err := m.BeginMove(l.tp, "/data"); mv != nil || err != nil {
		t.Error(mv, err)
	}
	// A wish is kept until the partition is made.
	if err := m.Prefer(partition("u", 0), "/more"); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"/more", "/more"} { // the second one goes where there are fewer
		u, err := m.Create(partition("u", int32(i)), CreateOptions{})
		if err != nil || !strings.HasPrefix(u.Path(), want) && i == 0 {
			t.Errorf("%v, %v", u, err)
		}
	}
	if mv, err = m.BeginMove(l.tp, "/more"); err != nil {
		t.Fatal(err)
	}
	if err := m.Delete(l.tp); err != nil {
		t.Fatal(err)
	}
	if _, err := mv.Finish(); !errors.Is(err, ErrMoveOver) {
		t.Errorf("a move of a log that was deleted: %v", err)
	}
	m.dirs[1].fail("test", "test", syscall.EIO)
	if _, err := m.BeginMove(partition("u", 1), "/more"); !IsOffline(err) {
		t.Error(err)
	}
	if _, err := m.BeginMove(partition("u", 1), "/data"); err != nil && !IsOffline(err) {
		t.Error(err)
	}
}

// A log that has no directory yet leaves nothing behind that would be removed later: its name may be another log's by then, or its own.
func TestMoveOfANewLog(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	m := mustOpen(t, managerOptions(t, disk, ck, "/data", "/more"))
	tp := partition("t", 0)
	if _, err := m.Create(tp, CreateOptions{TopicID: id.UUID{7}, Config: testConfig(), DirectoryID: m.dirs[0].id}); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"/more", "/data"} {
		mv, err := m.BeginMove(tp, to)
		if err != nil {
			t.Fatal(err)
		}
		l, err := mv.Finish()
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, batchSpec{size: 10})
	}
	m.Tick(ck.now())
	ck.advance(time.Hour)
	m.Tick(ck.now())
	m.Close(1)
	m = mustOpen(t, managerOptions(t, disk, ck, "/data", "/more"))
	defer m.Close(1)
	if l, ok := m.Get(tp); !ok || l.EndOffset() != 2 || l.Path() != "/data/t-0" {
		t.Errorf("%v, %v", ok, l)
	}
}

// A partition that is deleted in one directory and made again in another is in one of them after a power loss.
func TestMadeAgainElsewhere(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	m := mustOpen(t, managerOptions(t, disk, ck, "/data", "/more"))
	tp := partition("t", 0)
	for i, d := range m.dirs {
		l, err := m.Create(tp, CreateOptions{TopicID: id.UUID{7, byte(i)}, Config: testConfig(), DirectoryID: d.id})
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, batchSpec{size: 10})
		if err := l.Flush(1); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := m.Delete(tp); err != nil {
				t.Fatal(err)
			}
		}
	}
	m = mustOpen(t, managerOptions(t, disk.CrashClone(vfs.LoseUnsynced), ck, "/data", "/more"))
	if l, ok := m.Get(tp); !ok || l.Path() != "/more/t-0" {
		t.Errorf("%v, %v", ok, l)
	}
}

// What an old release wrote moves as it is.
func TestMoveOfOldFormats(t *testing.T) {
	for name, segment := range legacySegments(t) {
		want := readLegacy(t, segment)
		disk, ck := mem(t), &clock{ms: epochMs}
		if err := disk.MkdirAll("/data/t-0", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(disk, "/data/t-0/00000000000000000000.log", segment); err != nil {
			t.Fatal(err)
		}
		o := managerOptions(t, disk, ck, "/data", "/more")
		o.Config.SegmentBytes, o.Config.IndexIntervalBytes = int64(len(segment))/2, 100
		m := mustOpen(t, o)
		l, ok := m.Get(partition("t", 0))
		if !ok {
			t.Fatalf("%s: no log", name)
		}
		mustAppend(t, l, batchSpec{records: 3, leader: 7, ts: slices.Max(want.times) + 10_000})
		mv, err := m.BeginMove(l.tp, "/more")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mv.Copy(len(segment) / 3); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		now, err := mv.Finish()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if now.EndOffset() != want.end()+3 || now.LatestEpoch() != 7 {
			t.Errorf("%s: ends at %d in epoch %d", name, now.EndOffset(), now.LatestEpoch())
		}
		checkLegacy(t, name, now, segment, want)
		for range 2 { // after a stop, and after a kill
			disk = disk.CrashClone(vfs.KeepUnsynced)
			o.FS = disk
			m = mustOpen(t, o)
			l, _ := m.Get(partition("t", 0))
			if l.Path() != "/more/t-0" || l.EndOffset() != want.end()+3 {
				t.Errorf("%s: %s ends at %d", name, l.Path(), l.EndOffset())
			}
			checkLegacy(t, name, l, segment, want)
			m.Close(1)
		}
	}
}

package log

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// spread is a segment as it is laid out on a disk: its base and its batches.
type spread struct {
	base    id.Offset
	batches [][]byte
}

// keyedAt is a batch of records whose keys are their offsets.
func keyedAt(t testing.TB, base id.Offset, records int) []byte {
	t.Helper()
	o := record.NewOptions()
	o.BaseOffset, o.LeaderEpoch = base, 3
	b := record.NewBuilder(o)
	for i := range records {
		key := fmt.Append(nil, base+id.Offset(i))
		if err := b.Append(epochMs+int64(base/1000), key, key); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(raw)
}

// sample is what one run of a producer leaves: two batches at once and one that is as far away as an index can say.
func sample(t testing.TB, base id.Offset) [][]byte {
	return [][]byte{keyedAt(t, base, 1), keyedAt(t, base+1, 2), keyedAt(t, base+math.MaxInt32-1, 1)}
}

// overflowed are three segments, of which the second has two runs.
func overflowed(t testing.TB) []spread {
	const m = math.MaxInt32
	return []spread{{0, sample(t, 0)}, {m, append(sample(t, m), sample(t, 2*m)...)}, {3 * m, sample(t, 3*m)}}
}

func layOut(t testing.TB, disk *vfs.Mem, segs []spread) { layOutIn(t, disk, "/data/t-0", segs) }

func layOutIn(t testing.TB, disk vfs.FS, dir string, segs []spread) {
	t.Helper()
	if err := disk.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, s := range segs {
		// The indexes are there as of a closed segment: a start that trusts them does not look into it.
		last, _, err := record.Next(s.batches[len(s.batches)-1])
		var times [timeEntryBytes]byte
		if err == nil {
			binary.BigEndian.PutUint64(times[:], uint64(last.MaxTimestamp()))
			binary.BigEndian.PutUint32(times[8:], uint32(min(last.LastOffset()-s.base, math.MaxInt32)))
		}
		for name, b := range map[string][]byte{suffixLog: bytes.Join(s.batches, nil), suffixIndex: nil, suffixTime: times[:]} {
			if err := vfs.WriteFile(disk, filepath.Join(dir, segmentName(s.base, name)), b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := disk.SyncDir(dir); err != nil {
		t.Fatal(err)
	}
	if err := disk.SyncDir(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
}

func (s spread) end(t testing.TB) id.Offset {
	b, _, err := record.Next(s.batches[len(s.batches)-1])
	if err != nil {
		t.Fatal(err)
	}
	return b.NextOffset()
}

// checkSpread compares a log with what was laid out, batch by batch and through every index.
func checkSpread(t testing.TB, l *Log, segs []spread) {
	t.Helper()
	if err := sameSpread(l, segs); err != nil {
		t.Fatal(err)
	}
	for _, s := range *l.segments.Load() {
		if end, err := s.nextOffset(l.o.bufs); err != nil || end > s.base && !fits(s.base, end-1) {
			t.Errorf("segment %d ends at %d, %v", s.base, end, err)
		}
	}
}

func sameSpread(l *Log, segs []spread) error {
	var want [][]byte
	for _, s := range segs {
		want = append(want, s.batches...)
	}
	got, err := readFrom(l, l.StartOffset())
	if err != nil {
		return err
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d batches of %d", len(got), len(want))
	}
	for i, b := range got {
		if !bytes.Equal(b, want[i]) {
			return fmt.Errorf("batch %d is %d to %d", i, b.BaseOffset(), b.LastOffset())
		}
		at, err := readFrom(l, b.LastOffset())
		if err != nil || len(at) != len(want)-i {
			return fmt.Errorf("from %d on: %d batches of %d, %v", b.LastOffset(), len(at), len(want)-i, err)
		}
		r, err := l.LookupTimestamp(b.MaxTimestamp())
		if err != nil || !r.Found || r.Timestamp < b.MaxTimestamp() || r.Offset > b.BaseOffset() {
			return fmt.Errorf("time of batch %d at %d: %+v, %v", i, b.BaseOffset(), r, err)
		}
	}
	return nil
}

func bases(l *Log) (out []id.Offset) {
	for _, s := range *l.segments.Load() {
		out = append(out, s.base)
	}
	return out
}

func compactedConfig() Config {
	c := testConfig()
	c.CleanupCompact, c.CleanupDelete, c.IndexIntervalBytes = true, false, 1
	return c
}

// A segment whose offsets do not fit to its base is split by the start that looks into it, and served as it is by one that does not.
func TestSplitAtStart(t *testing.T) {
	const m = math.MaxInt32
	whole, split := []id.Offset{0, m, 3 * m}, []id.Offset{0, m, 2*m + 1, 3 * m}
	for name, c := range map[string]struct {
		change func(o *LogOptions)
		remove string // of the second segment
		want   []id.Offset
	}{
		"nothing is known":           {func(o *LogOptions) { o.CleanShutdown = false; o.RecoveryPoint = id.NoOffset }, "", split},
		"nothing was flushed":        {func(o *LogOptions) { o.CleanShutdown = false }, "", split},
		"nothing, and no compaction": {func(o *LogOptions) { o.CleanShutdown = false; o.Config.CleanupCompact = false }, "", split},
		"flushed in its middle":      {func(o *LogOptions) { o.CleanShutdown = false; o.RecoveryPoint = m + 2 }, "", split},
		"flushed behind it":          {func(o *LogOptions) { o.CleanShutdown = false; o.RecoveryPoint = 3*m + 2 }, "", whole},
		"closed":                     {func(o *LogOptions) { o.RecoveryPoint = 4 * m }, "", whole},
		"closed, no index":           {func(o *LogOptions) { o.RecoveryPoint = 4 * m }, suffixIndex, split},
		"closed, no time index":      {func(o *LogOptions) { o.RecoveryPoint = 4 * m }, suffixTime, split},
	} {
		disk, segs := mem(t), overflowed(t)
		layOut(t, disk, segs)
		if c.remove != "" {
			if err := disk.Remove("/data/t-0/" + segmentName(m, c.remove)); err != nil {
				t.Fatal(err)
			}
		}
		l := openTest(t, disk, compactedConfig(), func(o *LogOptions) { quiet(o); c.change(o) })
		if got := bases(l); !slices.Equal(got, c.want) {
			t.Errorf("%s: segments %v, want %v", name, got, c.want)
		}
		if err := sameSpread(l, segs); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(c.want) == 4 {
			checkSpread(t, l, segs)
		}
		if l.EndOffset() != 4*m {
			t.Errorf("%s: log end %d", name, l.EndOffset())
		}
		appendKey(t, l, "k", "v", epochMs)
		// The old files are there for readers for a while, and a second start finds nothing to do.
		if _, err := l.Tick(l.o.Now().Add(l.cfg.Load().FileDeleteDelay)); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = openTest(t, disk, compactedConfig(), func(o *LogOptions) { quiet(o); c.change(o) })
		if got := bases(l); !slices.Equal(got[:len(c.want)], c.want) {
			t.Errorf("%s, second start: segments %v, want %v", name, got, c.want)
		}
		if l.EndOffset() != 4*m+1 {
			t.Errorf("%s, second start: log end %d", name, l.EndOffset())
		}
		noLeftOver(t, name, disk)
	}
}

func noLeftOver(t *testing.T, name string, disk *vfs.Mem) {
	t.Helper()
	entries, err := disk.List("/data/t-0")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if leftOver(e.Name()) || strings.HasSuffix(e.Name(), suffixDeleted) {
			t.Errorf("%s: %s is left", name, e.Name())
		}
	}
}

// In an active segment of which nothing fits, the first piece gets a base of its own.
func TestSplitDegenerate(t *testing.T) {
	const m = math.MaxInt32
	for name, c := range map[string]struct {
		seg  spread
		base id.Offset
	}{
		"every batch":             {spread{0, [][]byte{keyedAt(t, m+1, 1), keyedAt(t, m+2, 1)}}, m + 1},
		"the end of the only one": {spread{0, [][]byte{keyedAt(t, m-1, 3)}}, m - 1},
	} {
		for _, clean := range []bool{true, false} {
			disk := mem(t)
			layOut(t, disk, []spread{c.seg})
			if clean {
				if err := disk.Remove("/data/t-0/" + segmentName(0, suffixIndex)); err != nil {
					t.Fatal(err)
				}
			}
			l := openTest(t, disk, compactedConfig(), func(o *LogOptions) { quiet(o); o.CleanShutdown = clean; o.RecoveryPoint = math.MaxInt64 })
			if got := bases(l); !slices.Equal(got, []id.Offset{c.base}) || l.StartOffset() != c.base {
				t.Errorf("%s: segments %v, log start %d", name, got, l.StartOffset())
			}
			checkSpread(t, l, []spread{c.seg})
			appendKey(t, l, "k", "v", epochMs)
		}
	}
}

// At the unflushed end of a log, an offset that is too far away is what a disk made of another: the log ends before it. So does one
// that contradicts the segment behind.
func TestStrayOffsetIsNoOverflow(t *testing.T) {
	flipped := keyedAt(t, 3, 1)
	flipped[1] ^= 1 // of the base offset, which no checksum covers
	for name, c := range map[string]struct {
		segs   []spread
		change func(o *LogOptions)
		end    id.Offset
	}{
		"active":           {[]spread{{0, [][]byte{keyedAt(t, 0, 1), keyedAt(t, 1, 2), flipped}}}, func(o *LogOptions) {}, 3},
		"before the next":  {[]spread{{0, [][]byte{keyedAt(t, 0, 1), keyedAt(t, 1, 2), flipped}}, {4, [][]byte{keyedAt(t, 4, 1)}}}, func(o *LogOptions) {}, 3},
		"in the middle":    {[]spread{{0, [][]byte{keyedAt(t, 0, 3), flipped, keyedAt(t, 4, 1)}}}, func(o *LogOptions) {}, 3},
		"behind the point": {[]spread{{0, [][]byte{keyedAt(t, 0, 3), flipped}}}, func(o *LogOptions) { o.RecoveryPoint = 3 }, 3},
	} {
		disk := mem(t)
		layOut(t, disk, c.segs)
		conf := testConfig()
		l := openTest(t, disk, conf, func(o *LogOptions) { quiet(o); o.CleanShutdown = false; c.change(o) })
		if l.EndOffset() != c.end || l.Segments() != 1 {
			t.Errorf("%s: %d segments, log end %d", name, l.Segments(), l.EndOffset())
		}
	}
}

// A torn tail of an overflowed segment is cut as any other is, behind the split.
func TestSplitTorn(t *testing.T) {
	const m = math.MaxInt32
	for cut := 1; cut < 300; cut += 7 {
		disk, segs := mem(t), overflowed(t)[:2]
		b := &segs[1].batches[len(segs[1].batches)-1]
		*b = (*b)[:max(0, len(*b)-cut)]
		layOut(t, disk, segs)
		l := openTest(t, disk, compactedConfig(), func(o *LogOptions) { quiet(o); o.CleanShutdown = false; o.RecoveryPoint = 3 * m })
		segs[1].batches = segs[1].batches[:5]
		if got := bases(l); !slices.Equal(got, []id.Offset{0, m, 2*m + 1}) {
			t.Fatalf("cut by %d: segments %v", cut, got)
		}
		checkSpread(t, l, segs)
		if l.EndOffset() != segs[1].end(t) {
			t.Errorf("cut by %d: log end %d", cut, l.EndOffset())
		}
		appendKey(t, l, "k", "v", epochMs)
	}
}

// Aborted transactions stay with the piece that has their marker, whether the pieces are recovered or not.
func TestSplitKeepsTransactions(t *testing.T) {
	const m = math.MaxInt32
	txn := func(base id.Offset, epoch id.ProducerEpoch) [][]byte {
		o := record.NewOptions()
		o.BaseOffset, o.LeaderEpoch, o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = base, 3, 7, epoch, 0, true
		b := record.NewBuilder(o)
		if err := b.Append(epochMs, fmt.Append(nil, base), []byte("x")); err != nil {
			t.Fatal(err)
		}
		data, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		data = bytes.Clone(data)
		marker, err := record.EndTxnMarker(7, epoch, false, epochMs, []byte{0, 0, 0, 0, 0, 3})
		if err != nil {
			t.Fatal(err)
		}
		v := record.Batch(marker)
		v.SetBaseOffset(base + 1)
		v.SetLeaderEpoch(3)
		return [][]byte{data, marker}
	}
	segs := []spread{{0, slices.Concat(txn(0, 1), txn(m+5, 2), txn(2*m+10, 3))}, {2*m + 12, [][]byte{keyedAt(t, 2*m+12, 1)}}}
	for _, clean := range []bool{false, true} {
		disk := mem(t)
		layOut(t, disk, segs)
		if clean {
			x := new(txnIndex)
			x.init(newPlace(disk, newOpenFiles(10), "/data/t-0"), 0)
			for _, at := range []id.Offset{0, m + 5, 2*m + 10} {
				x.add(AbortedTxn{ProducerID: 7, FirstOffset: at, LastOffset: at + 1, LastStableOffset: at + 2})
			}
			if err := x.write(); err != nil {
				t.Fatal(err)
			}
			x.h.drop()
			if err := disk.Remove("/data/t-0/" + segmentName(0, suffixIndex)); err != nil {
				t.Fatal(err)
			}
		}
		l := openTest(t, disk, compactedConfig(), func(o *LogOptions) {
			quiet(o)
			if o.CleanShutdown = clean; clean {
				o.RecoveryPoint = 3 * m
			}
		})
		if got := bases(l); !slices.Equal(got, []id.Offset{0, 2, 2*m + 10, 2*m + 12}) && !slices.Equal(got, []id.Offset{0, m + 5, 2*m + 10, 2*m + 12}) {
			t.Errorf("clean %t: segments %v", clean, got)
		}
		l.AdvanceHighWatermark(l.EndOffset())
		for _, at := range []id.Offset{0, m + 5, 2*m + 10} {
			r, err := l.Read(ReadRequest{Offset: at, MaxBytes: 1, MinOneMessage: true, Isolation: ReadCommitted, LastFetchedEpoch: id.NoLeaderEpoch})
			if err != nil || len(r.AbortedTxns) == 0 || r.AbortedTxns[0].FirstOffset != at {
				t.Errorf("clean %t: aborted at %d: %+v, %v", clean, at, r.AbortedTxns, err)
			}
			r.Section.Release()
		}
	}
}

// Every change of the disk in a start that splits is made the last one before a crash. Whatever is left of them, the next start
// finds every batch once.
func TestSplitCrashMatrix(t *testing.T) {
	race.Skip(t)
	seed := seed.Of(t) | 2
	const m = math.MaxInt32
	for name, segs := range map[string][]spread{
		"two pieces":   overflowed(t),
		"three pieces": {{0, slices.Concat(sample(t, 0), sample(t, m), sample(t, 2*m))}, {3 * m, sample(t, 3*m)}},
		"degenerate":   {{0, [][]byte{keyedAt(t, m+1, 1), keyedAt(t, m+2, 1)}}},
	} {
		for _, open := range []func(o *LogOptions){
			func(o *LogOptions) { o.CleanShutdown = false; o.RecoveryPoint = id.NoOffset },
			func(o *LogOptions) { o.CleanShutdown = false; o.RecoveryPoint = 0; o.CleanUpTo = 4 * m },
			func(o *LogOptions) { o.CleanShutdown = false; o.RecoveryPoint = segs[0].end(t) },
		} {
			disk := mem(t)
			layOut(t, disk, segs)
			if steps := splitCrashes(t, name, disk, segs, open, seed, 1); steps < 20 {
				t.Errorf("%s: only %d crash points", name, steps)
			}
		}
	}
}

// splitCrashes tries a crash at every change of a start, and again in the starts after those, as deep as nested says.
func splitCrashes(t *testing.T, name string, disk *vfs.Mem, segs []spread, open func(o *LogOptions), seed uint64, nested int) (steps int) {
	stride := 200
	if crashes() > 10_000 {
		stride = 10
	}
	var clones []*vfs.Mem
	watched := disk.CrashClone(vfs.KeepUnsynced)
	f := vfs.NewFaults(watched)
	f.Watch(func(vfs.Op, string) {
		steps++
		for _, c := range []uint64{vfs.LoseUnsynced, vfs.KeepUnsynced, seed + uint64(steps), seed + uint64(steps)*7} {
			clones = append(clones, watched.CrashClone(c))
		}
	})
	start := func(fsys vfs.FS) *Log {
		l, err := tryOpen(t, fsys, compactedConfig(), func(o *LogOptions) { quiet(o); open(o) })
		if err != nil {
			t.Fatalf("%s, change %d: %v", name, steps, err)
		}
		return l
	}
	checkSpread(t, start(f), segs)
	f.Watch(nil)
	for i, c := range clones {
		if nested > 0 && i%stride == int(seed%uint64(stride)) {
			splitCrashes(t, fmt.Sprintf("%s, crash %d", name, i), c.CrashClone(vfs.KeepUnsynced), segs, open, seed+uint64(i), nested-1)
		}
		found := listing(c)
		l := start(c)
		if err := sameSpread(l, segs); err != nil {
			t.Fatalf("%s, crash %d: %v\nfound:%s\nleft:%s", name, i, err, found, listing(c))
		}
		checkSpread(t, l, segs)
		if entries, _ := c.List("/data/t-0"); slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return leftOver(e.Name()) }) {
			t.Fatalf("%s, crash %d: files of the split are left", name, i)
		}
	}
	return steps
}

// The cleaner splits what it finds, ends its pass, and cleans the pieces in the next.
func TestCleanerSplits(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	segs := overflowed(t)
	const m = math.MaxInt32
	// The keys of the second run are those of the first: a pass has something to do.
	again := keyedAt(t, m, 3)
	record.Batch(again).SetBaseOffset(3*m + 10)
	segs[2].batches = append(segs[2].batches[:2], again)
	layOut(t, disk, segs)
	if err := vfs.WriteFile(disk, "/data/t-0/"+filePartitionMeta, []byte("version: 0\ntopic_id: "+id.MetadataTopicID.String())); err != nil {
		t.Fatal(err)
	}
	o := managerOptions(t, disk, ck, "/data")
	o.Config = compactedConfig()
	o.Config.MinCleanableRatio = 0
	for name, text := range map[string]string{fileRecoveryPoint: "0\n1\nt 0 9000000000\n", fileCleanShutdown: `{"version":0,"brokerEpoch":1}`} {
		if err := vfs.WriteFile(disk, "/data/"+name, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	man := mustOpen(t, o)
	l, ok := man.Get(id.TopicPartition{Topic: "t"})
	if !ok {
		t.Fatal("no log")
	}
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	mustAppendKeyed(t, l)
	l.AdvanceHighWatermark(l.EndOffset())
	r, err := l.Read(ReadRequest{Offset: m, MaxBytes: 1 << 20, MinOneMessage: true, Isolation: ReadLogEnd, LastFetchedEpoch: id.NoLeaderEpoch})
	if err != nil {
		t.Fatal(err)
	}
	held, _ := r.Section.Bytes()
	if man.Clean() {
		t.Error("the pass that split a segment says that it cleaned the log")
	}
	if got := bases(l); !slices.Equal(got[:4], []id.Offset{0, m, 2*m + 1, 3 * m}) {
		t.Fatalf("segments %v", got)
	}
	if err := sameKeys(l, segs); err != nil {
		t.Error(err)
	}
	if still, err := r.Section.Bytes(); err != nil || !bytes.Equal(still, held) {
		t.Errorf("a reader who held the segment: %v", err)
	}
	r.Section.Release()
	if !man.Clean() || len(man.Uncleanable()) > 0 {
		t.Fatalf("not cleaned: %v", man.Uncleanable())
	}
	seen := map[string]int{}
	for _, b := range readAll(t, l) {
		it := b.Records(1 << 20)
		var rec record.Record
		for it.Next(&rec) {
			seen[string(rec.Key)]++
		}
		it.Close()
	}
	for key, n := range seen {
		if n != 1 {
			t.Errorf("key %s is there %d times", key, n)
		}
	}
	if len(seen) < 12 {
		t.Errorf("%d keys are left", len(seen))
	}
	man.Close(1)
}

func mustAppendKeyed(t *testing.T, l *Log) {
	t.Helper()
	appendKey(t, l, "last", "x", epochMs)
}

func sameKeys(l *Log, segs []spread) error {
	got, err := readFrom(l, 0)
	if err != nil {
		return err
	}
	n := 0
	for _, s := range segs {
		for _, b := range s.batches {
			if n >= len(got) || !bytes.Equal(got[n], b) {
				return fmt.Errorf("batch %d of %d differs", n, len(got))
			}
			n++
		}
	}
	return nil
}

// Entries of the format 1 whose offsets are too far apart are split as batches of today are.
func TestSplitLegacy(t *testing.T) {
	for name, segment := range legacySegments(t) {
		if strings.HasPrefix(name, "0-") {
			continue // wrappers of format 0 have their offsets inside, under their checksum
		}
		segment = bytes.Clone(segment)
		want := readLegacy(t, segment)
		from := want.ends[len(want.ends)/2-1]
		for at := from; at < len(segment); {
			binary.BigEndian.PutUint64(segment[at:], binary.BigEndian.Uint64(segment[at:])+3<<31)
			at += 12 + int(binary.BigEndian.Uint32(segment[at+8:]))
		}
		want = readLegacy(t, segment)
		disk := mem(t)
		layOut(t, disk, []spread{{0, [][]byte{segment}}})
		l := openTest(t, disk, compactedConfig(), func(o *LogOptions) { quiet(o); o.CleanShutdown = false; o.RecoveryPoint = id.NoOffset })
		var read []byte
		for next := id.Offset(0); next < l.EndOffset(); {
			r, err := l.Read(ReadRequest{Offset: next, MaxBytes: 1 << 20, MinOneMessage: true, Isolation: ReadLogEnd, LastFetchedEpoch: id.NoLeaderEpoch})
			if err != nil || r.Section == nil {
				t.Fatalf("%s: read at %d: %v", name, next, err)
			}
			b, err := r.Section.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			r.Section.Release()
			read = append(read, b...)
			i := slices.Index(want.ends, len(read))
			if i < 0 {
				t.Fatalf("%s: %d bytes up to no end of an entry", name, len(read))
			}
			next = want.last[i] + 1
		}
		if !bytes.Equal(read, segment) {
			t.Errorf("%s: %d bytes are served, not the %d written", name, len(read), len(segment))
		}
		got := bases(l)
		if n, _ := slices.BinarySearch(want.offsets, got[len(got)-1]); len(got) != 2 || want.offsets[n] != got[1] || got[1] < 3<<31 {
			t.Errorf("%s: segments %v", name, got)
		}
	}
}

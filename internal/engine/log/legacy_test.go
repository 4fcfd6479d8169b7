package log

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// legacySegments are segments of the formats 0 and 1 that an old release of Kafka's client built.
func legacySegments(t *testing.T) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("../../record/testdata/legacy-*.hex")
	if err != nil || len(names) == 0 {
		t.Fatalf("no segments of old formats: %v", err)
	}
	out := map[string][]byte{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "legacy-"), ".hex")] = b
	}
	return out
}

// legacyContent is what is in a segment, read record by record.
type legacyContent struct {
	ends    []int // where entries end, in bytes
	last    []id.Offset
	offsets []id.Offset
	times   []int64
}

func readLegacy(t *testing.T, b []byte) (c legacyContent) {
	t.Helper()
	whole := len(b)
	for len(b) > 0 {
		e, rest, err := record.NextLegacy(b)
		if err != nil {
			t.Fatal(err)
		}
		b = rest
		c.ends, c.last = append(c.ends, whole-len(b)), append(c.last, e.Offset())
		it := e.Records(1 << 20)
		var r record.Record
		for it.Next(&r) {
			c.offsets, c.times = append(c.offsets, r.Offset), append(c.times, r.TimestampMs)
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
		it.Close()
	}
	return c
}

func (c legacyContent) end() id.Offset { return c.last[len(c.last)-1] + 1 }

// atOrAfter is what a time look-up must find.
func (c legacyContent) atOrAfter(ts int64) TimestampOffset {
	for i, x := range c.times {
		if x >= ts {
			return TimestampOffset{Found: true, Timestamp: x, Offset: c.offsets[i], LeaderEpoch: id.NoLeaderEpoch}
		}
	}
	return TimestampOffset{}
}

func legacyLog(t *testing.T, segment []byte, clean bool) (*Log, *vfs.Mem) {
	t.Helper()
	m := mem(t)
	if err := m.MkdirAll("/data/t-0", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := m.OpenFile("/data/t-0/00000000000000000000.log", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(segment, 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	c := testConfig()
	c.IndexIntervalBytes = 100
	return openTest(t, m, c, func(o *LogOptions) { o.CleanShutdown = clean }), m
}

// TestLegacyLog: recovered and opened without recovery, a segment of an old format is served byte for byte from every offset, its
// times are found, and batches of today follow it.
func TestLegacyLog(t *testing.T) {
	for name, segment := range legacySegments(t) {
		want := readLegacy(t, segment)
		for _, clean := range []bool{false, true} {
			l, m := legacyLog(t, segment, clean)
			checkLegacy(t, name, l, segment, want)
			if len(want.ends) < 3 {
				t.Fatalf("%s has %d entries", name, len(want.ends))
			}
			if n, err := l.active().index.count(); err != nil || n == 0 {
				t.Errorf("%s: %d entries in the offset index, %v", name, n, err)
			}
			if n, err := l.active().times.count(); err != nil || (n == 0) != strings.HasPrefix(name, "0-") {
				t.Errorf("%s: %d entries in the time index, %v", name, n, err)
			}
			later := slices.Max(want.times) + 10_000
			r := mustAppend(t, l, batchSpec{records: 3, leader: 7, ts: later})
			if r.BaseOffset != want.end() {
				t.Fatalf("%s: appended at %d, the log ended at %d", name, r.BaseOffset, want.end())
			}
			if got, err := l.LookupTimestamp(later); err != nil || got.Offset != r.BaseOffset || got.LeaderEpoch != 7 {
				t.Errorf("%s: time of today's batch: %+v, %v", name, got, err)
			}
			checkLegacy(t, name, l, segment, want)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			for _, again := range []bool{true, false} {
				l = openTest(t, m, testConfig(), func(o *LogOptions) { o.CleanShutdown = again })
				if l.EndOffset() != want.end()+3 || l.LatestEpoch() != 7 {
					t.Errorf("%s: reopened, the log ends at %d in epoch %d", name, l.EndOffset(), l.LatestEpoch())
				}
				checkLegacy(t, name, l, segment, want)
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func checkLegacy(t *testing.T, name string, l *Log, segment []byte, want legacyContent) {
	t.Helper()
	for o := id.Offset(0); o < want.end(); o++ {
		i, _ := slices.BinarySearch(want.last, o)
		from := 0
		if i > 0 {
			from = want.ends[i-1]
		}
		r, err := l.Read(ReadRequest{Offset: o, MaxBytes: 1, MinOneMessage: true, Isolation: ReadLogEnd, LastFetchedEpoch: id.NoLeaderEpoch})
		if err != nil || r.Section == nil {
			t.Fatalf("%s: read at %d: %v", name, o, err)
		}
		b, err := r.Section.Bytes()
		r.Section.Release()
		if err != nil || string(b) != string(segment[from:want.ends[i]]) {
			t.Fatalf("%s: read at %d gives %d bytes that are not the entry up to %d, %v", name, o, len(b), want.last[i], err)
		}
	}
	for _, ts := range append(slices.Clone(want.times), 0, slices.Max(want.times)-1) {
		if ts < 0 {
			continue
		}
		w := want.atOrAfter(ts)
		if !w.Found && l.EndOffset() > want.end() {
			continue // a batch of today answers
		}
		if got, err := l.LookupTimestamp(ts); err != nil || got != w {
			t.Fatalf("%s: time %d: %+v, %v, want %+v", name, ts, got, err, w)
		}
	}
	if l.EndOffset() == want.end() {
		most := slices.Max(want.times)
		got, err := l.LookupTimestamp(MaxTimestamp)
		if err != nil || got.Found != (most >= 0) || got.Found && got.Timestamp != most {
			t.Errorf("%s: largest time %+v, %v, want %d", name, got, err, most)
		}
	}
}

// TestLegacyTorn cuts the last entry at every byte and damages one in the middle: the log ends at the last good entry.
func TestLegacyTorn(t *testing.T) {
	for name, segment := range legacySegments(t) {
		want := readLegacy(t, segment)
		n := len(want.ends)
		for cut := want.ends[n-2]; cut < len(segment); cut += 1 + (len(segment)-want.ends[n-2])/40 {
			l, _ := legacyLog(t, segment[:cut], false)
			if l.EndOffset() != want.last[n-2]+1 || l.active().size.Load() != int64(want.ends[n-2]) {
				t.Errorf("%s cut at %d of %d: ends at %d", name, cut, len(segment), l.EndOffset())
			}
		}
		bad := slices.Clone(segment)
		bad[want.ends[n/2]-1] ^= 1
		l, _ := legacyLog(t, bad, false)
		if l.EndOffset() != want.last[n/2-1]+1 {
			t.Errorf("%s damaged in entry %d: ends at %d, want %d", name, n/2, l.EndOffset(), want.last[n/2-1]+1)
		}
	}
}

// TestLegacyTruncated truncates at every entry and in the middle of wrappers, which go as a whole.
func TestLegacyTruncated(t *testing.T) {
	for name, segment := range legacySegments(t) {
		want := readLegacy(t, segment)
		for i := range want.ends {
			for _, to := range []id.Offset{want.last[i], want.last[i] + 1} {
				l, _ := legacyLog(t, segment, true)
				if err := l.TruncateTo(to); err != nil {
					t.Fatal(err)
				}
				keep := i
				if to > want.last[i] {
					keep++
				}
				size := 0
				if keep > 0 {
					size = want.ends[keep-1]
				}
				if l.EndOffset() != to || l.active().size.Load() != int64(size) {
					t.Fatalf("%s truncated to %d: ends at %d with %d bytes, want %d", name, to, l.EndOffset(), l.active().size.Load(), size)
				}
			}
		}
	}
}

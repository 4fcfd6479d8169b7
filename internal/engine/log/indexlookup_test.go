package log

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// indexBase is where the segments of the indexes in these tests begin.
const indexBase = 45

func indexPlace(t *testing.T) (*vfs.Mem, *place) {
	disk := mem(t)
	if err := disk.MkdirAll("/data/t-0", 0o755); err != nil {
		t.Fatal(err)
	}
	return disk, newPlace(disk, newOpenFiles(10), "/data/t-0")
}

// must takes the value of a call that has no reason to fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// An offset index finds the last entry at or below what is looked for, wherever the end of its file is among the entries, after it
// was opened again, and after any part of it was cut off; and goes on from there.
func TestOffsetIndexLookups(t *testing.T) {
	race.Skip(t)
	rng := rand.New(rand.NewPCG(seed.Of(t), 1))
	type entry struct {
		last     id.Offset
		position int64
	}
	grow := func(x *offsetIndex, entries []entry, n, inFile int) []entry {
		for i := range n {
			e := entry{indexBase + id.Offset(rng.IntN(3)), int64(rng.IntN(3))}
			if k := len(entries); k > 0 {
				e = entry{entries[k-1].last + 1 + id.Offset(rng.IntN(15)), entries[k-1].position + 1 + int64(rng.IntN(15))}
			}
			x.add(e.last, e.position)
			entries = append(entries, e)
			if i+1 == inFile {
				if err := x.write(); err != nil {
					t.Fatal(err)
				}
			}
		}
		return entries
	}
	check := func(x *offsetIndex, entries []entry, when string) {
		t.Helper()
		if n := must(x.count()); n != len(entries) {
			t.Fatalf("%s: %d entries, not %d", when, n, len(entries))
		}
		at := int64(0) // without an entry that is low enough the search begins at the beginning
		for target, next := id.Offset(indexBase), 0; next < len(entries) || target < indexBase+5; target++ {
			if next < len(entries) && entries[next].last <= target {
				at = entries[next].position
				next++
			}
			if got := must(x.lookup(target)); got != at {
				t.Fatalf("%s: %d is looked for from %d, not %d", when, target, got, at)
			}
		}
		if got := must(x.lookup(1 << 40)); got != at {
			t.Fatalf("%s: what is far behind is looked for from %d, not %d", when, got, at)
		}
		at = 0
		for limit, next := int64(0), 0; next < len(entries); limit++ {
			if entries[next].position <= limit {
				at = limit
				next++
			}
			if got := must(x.lookupPosition(limit)); got != at {
				t.Fatalf("%s: the entry below position %d is that of %d, not %d", when, limit, got, at)
			}
		}
	}
	for _, inFile := range []int{0, 1, tailEntries - 1, tailEntries, 150, 200} {
		_, at := indexPlace(t)
		x := new(offsetIndex)
		x.init(at, indexBase)
		check(x, nil, "empty")
		entries := grow(x, nil, 200, inFile)
		check(x, entries, "whole")
		for cut := 0; len(entries) > 0; cut++ {
			n := rng.IntN(len(entries))
			target := entries[n].last
			switch {
			case cut == 0:
				n, target = len(entries), entries[len(entries)-1].last+1 // nothing to cut
			case cut%2 == 0 && (n == 0 || entries[n-1].last < target-1):
				target-- // between two entries
			case cut == 9:
				n, target = 0, indexBase
			}
			if err := x.truncateTo(target); err != nil {
				t.Fatal(err)
			}
			entries = entries[:n]
			check(x, entries, "cut")
			if cut%3 == 0 {
				entries = grow(x, entries, 5, rng.IntN(10))
				check(x, entries, "cut and grown")
			}
		}
		entries = grow(x, nil, 3, 0)
		if err := errors.Join(x.write(), x.h.drop()); err != nil {
			t.Fatal(err)
		}
		x = new(offsetIndex)
		x.init(at, indexBase)
		check(x, entries, "opened again")
		if err := x.check(entries[2].position + 1); err != nil {
			t.Fatal(err)
		}
	}
}

// What a time index finds, takes, and has left when it is cut.
func TestTimeIndexLookups(t *testing.T) {
	_, at := indexPlace(t)
	x := new(timeIndex)
	x.init(at, indexBase)
	last := func() [2]int64 {
		ts, offset, err := x.last()
		if err != nil {
			t.Fatal(err)
		}
		return [2]int64{ts, int64(offset)}
	}
	want := func(got, want [2]int64) {
		t.Helper()
		if got != want {
			t.Fatalf("%v, not %v", got, want)
		}
	}
	want(last(), [2]int64{-1, indexBase})
	want([2]int64{0, int64(must(x.lookup(100)))}, [2]int64{0, indexBase})
	fill := func() {
		for i := range int64(29) {
			if err := x.add(10*(i+1), id.Offset(indexBase+10*(i+1))); err != nil {
				t.Fatal(err)
			}
			if i == 14 {
				if err := x.write(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	fill()
	for ts, offset := range map[int64]id.Offset{-1: indexBase, 9: indexBase, 10: 55, 25: 65, 30: 75, 150: 195, 155: 195, 160: 205, 289: 325, 290: 335, 1 << 50: 335} {
		if got := must(x.lookup(ts)); got != offset {
			t.Errorf("%d is looked for from %d, not %d", ts, got, offset)
		}
	}
	// The same again, which is what a segment that ends brings, and an earlier time change nothing.
	for _, ts := range []int64{290, 289, -1} {
		if err := x.add(ts, 335); err != nil || must(x.count()) != 29 {
			t.Fatalf("%d entries after time %d: %v", must(x.count()), ts, err)
		}
	}
	for _, c := range []struct {
		to   id.Offset
		left int
	}{{336, 29}, {335, 28}, {326, 28}, {325, 27}, {205, 15}, {195, 14}, {190, 14}, {56, 1}, {55, 0}, {indexBase, 0}} {
		if err := x.truncateTo(c.to); err != nil || must(x.count()) != c.left {
			t.Errorf("%d entries below %d, not %d: %v", must(x.count()), c.to, c.left, err)
		}
	}
	fill()
	want(last(), [2]int64{290, 335})
}

// What an index says of itself that cannot be.
func TestIndexChecks(t *testing.T) {
	pair := func(relative, position int32) (b []byte) {
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(relative)), uint32(position))
	}
	timed := func(ts int64, relative int32) []byte {
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, uint64(ts)), uint32(relative))
	}
	aborted := func(last id.Offset) []byte {
		b := make([]byte, abortedTxnBytes)
		binary.BigEndian.PutUint64(b[18:], uint64(last))
		return b
	}
	for _, c := range []struct {
		name    string
		good    bool
		entries [][]byte
	}{
		{"nothing", true, nil},
		{"the last offset is the base", true, [][]byte{pair(0, 0)}},
		{"in order", true, [][]byte{pair(0, 0), pair(4, 99)}},
		{"below the base", false, [][]byte{pair(-1, 0)}},
		{"last below the base", false, [][]byte{pair(1, 0), pair(-1, 50)}},
		{"preallocated", false, [][]byte{pair(3, 9), pair(0, 0)}},
		{"beyond the log", false, [][]byte{pair(1, 0), pair(2, 100)}},
		{"before the log", false, [][]byte{pair(1, -1)}},
		{"nothing timed", true, nil},
		{"times in order", true, [][]byte{timed(10, 0), timed(20, 4)}},
		{"last offset below the base", false, [][]byte{timed(10, 0), timed(20, -1)}},
		{"last time below the first", false, [][]byte{timed(10, 0), timed(9, 4)}},
		{"preallocated times", false, [][]byte{timed(10, 0), timed(0, 0)}},
		{"no transactions", true, nil},
		{"markers", true, [][]byte{aborted(indexBase), aborted(60)}},
		{"a marker of the segment before", false, [][]byte{aborted(60), aborted(indexBase - 1)}},
		{"a version to come", false, [][]byte{append([]byte{0, 1}, aborted(60)[2:]...)}},
	} {
		_, at := indexPlace(t)
		var x offsetIndex
		var y timeIndex
		var z txnIndex
		x.init(at, indexBase)
		y.init(at, indexBase)
		z.init(at, indexBase)
		for _, e := range c.entries {
			for _, f := range []*entryFile{&x.entryFile, &y.entryFile, &z.entryFile} {
				if f.entrySize == len(e) {
					f.append(e)
				}
			}
		}
		err := errors.Join(x.check(100), y.check(), z.check())
		if corrupt := (*errCorruptIndex)(nil); (err == nil) != c.good || err != nil && !errors.As(err, &corrupt) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// What a transaction index tells a committed reader, keeps when it is cut, and finds when it is opened again.
func TestTxnIndex(t *testing.T) {
	disk, at := indexPlace(t)
	open := func() *txnIndex {
		x := new(txnIndex)
		x.init(at, 0)
		return x
	}
	all := []AbortedTxn{{0, 0, 10, 11}, {1, 5, 15, 13}, {2, 18, 35, 25}, {3, 32, 50, 40}}
	x := open()
	path := "/data/t-0/" + segmentName(0, suffixTxn)
	if err := errors.Join(x.sync(), x.truncateTo(0), x.check()); err != nil || vfs.Exists(disk, path) {
		t.Fatalf("there is a file without a transaction: %v", err)
	}
	if n := must(x.count()); n != 0 {
		t.Fatalf("%d entries", n)
	}
	for i, txn := range all {
		x.add(txn)
		if i == 1 { // the rest stays in memory for now
			if err := errors.Join(x.write(), x.sync()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		from, bound id.Offset
		first, upTo int // of all
		done        bool
	}{{0, 100, 0, 4, false}, {0, 32, 0, 3, true}, {0, 35, 0, 4, true}, {10, 35, 0, 4, true}, {11, 35, 1, 4, true}, {20, 41, 2, 4, false}, {51, 100, 4, 4, false}} {
		got, done, err := x.collect(nil, c.from, c.bound)
		if err != nil || done != c.done || !slices.Equal(got, all[c.first:c.upTo]) {
			t.Errorf("[%d, %d): %v, done %t, %v", c.from, c.bound, got, done, err)
		}
	}
	for _, c := range []struct {
		to   id.Offset
		left int
	}{{51, 4}, {50, 3}, {36, 3}, {35, 2}} {
		if err := x.truncateTo(c.to); err != nil || !slices.Equal(must(x.readable()), all[:c.left]) {
			t.Errorf("cut at %d: %v, %v", c.to, must(x.readable()), err)
		}
	}
	if err := x.h.drop(); err != nil {
		t.Fatal(err)
	}
	x = open()
	more := AbortedTxn{3, 50, 60, 55}
	x.add(more)
	if got := must(x.readable()); !slices.Equal(got, append(all[:2:2], more)) {
		t.Errorf("opened again: %v", got)
	}
	// A file that has another name by now, as that of a segment that goes, is still the one that is written to.
	if err := errors.Join(x.h.addSuffix(suffixDeleted), x.write()); err != nil {
		t.Fatal(err)
	}
	b, err := vfs.ReadFile(disk, path+suffixDeleted, 1<<10)
	if _, missing := vfs.ReadFile(disk, path, 1<<10); err != nil || len(b) != 3*abortedTxnBytes || !errors.Is(missing, fs.ErrNotExist) {
		t.Errorf("%d bytes, %v, %v", len(b), err, missing)
	}
	if got := must(x.readable()); !slices.Equal(got, append(all[:2:2], more)) {
		t.Errorf("renamed: %v", got)
	}
	want := []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 55}
	if got := b[2*abortedTxnBytes:]; !slices.Equal(got, want) {
		t.Errorf("an entry is written as % x", got)
	}
}

// An index that is missing or no whole number of entries is made anew by a start, as it was.
func TestIndexOfOddSize(t *testing.T) {
	c := testConfig()
	c.SegmentBytes, c.IndexIntervalBytes = 3000, 200
	disk := mem(t)
	l := openTest(t, disk, c, nil)
	for i := range 40 {
		mustAppend(t, l, batchSpec{records: 2, size: 80, ts: epochMs + int64(i)})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	indexes := func(disk *vfs.Mem) map[string]string {
		out := map[string]string{}
		entries, err := disk.List("/data/t-0")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if _, suffix, ok := parseSegmentName(e.Name()); ok && (suffix == suffixIndex || suffix == suffixTime) {
				out[e.Name()] = string(must(vfs.ReadFile(disk, "/data/t-0/"+e.Name(), 1<<20)))
			}
		}
		return out
	}
	whole := indexes(disk)
	if len(whole) < 6 {
		t.Fatalf("%d indexes", len(whole))
	}
	for name, b := range whole {
		if len(b) == 0 {
			t.Fatalf("%s is empty", name)
		}
		for _, damaged := range []string{b[:len(b)-1], b + "\x00", "\x00" + b} {
			x := disk.CrashClone(vfs.KeepUnsynced)
			if err := vfs.WriteFile(x, "/data/t-0/"+name, []byte(damaged)); err != nil {
				t.Fatal(err)
			}
			l := openTest(t, x, c, quiet)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if got := indexes(x); !maps.Equal(got, whole) {
				t.Errorf("%s of %d bytes: %q, was %q", name, len(damaged), got[name], b)
			}
		}
	}
}

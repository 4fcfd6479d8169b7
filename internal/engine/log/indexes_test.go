package log

import (
	"slices"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Several batches of one append are indexed as they would be one by one, and a timestamp that falls back does not come into the time
// index.
func TestIndexOfSeveralBatches(t *testing.T) {
	c := testConfig()
	c.IndexIntervalBytes = 1
	times := []int64{20, 10, 30, 30, 25, 40}
	single := openTest(t, mem(t), c, nil)
	together := openTest(t, mem(t), c, func(o *LogOptions) { o.Dir = "/data/u-0" })
	var all []byte
	for i, ts := range times {
		b := batchSpec{records: 2, size: 10 * (i + 1), ts: epochMs + ts, base: id.Offset(2 * i), leader: 1}.build(t)
		all = append(all, b...)
		if _, err := single.AppendAsFollower(b, 1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := together.AppendAsFollower(all, 1); err != nil {
		t.Fatal(err)
	}
	type entry struct {
		last     id.Offset
		position int64
		ts       int64
	}
	entries := func(l *Log) (out []entry) {
		s := l.active()
		for _, x := range []*entryFile{&s.index.entryFile, &s.times.entryFile} {
			n, err := x.count()
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				var b [maxEntryBytes]byte
				if err := x.at(i, b[:]); err != nil {
					t.Fatal(err)
				}
				if x == &s.index.entryFile {
					last, position := s.index.decode(b[:])
					out = append(out, entry{last, position, -1})
				} else {
					ts, last := s.times.decode(b[:])
					out = append(out, entry{last, -1, ts - epochMs})
				}
			}
		}
		return out
	}
	got := entries(together)
	if want := entries(single); !slices.Equal(got, want) || len(got) == 0 {
		t.Errorf("entries %v, one by one %v", got, want)
	}
	want := []entry{{1, -1, 20}, {5, -1, 30}, {11, -1, 40}}
	if at := slices.IndexFunc(got, func(e entry) bool { return e.ts >= 0 }); at != len(times)-1 || !slices.Equal(got[at:], want) {
		t.Errorf("%d offset entries, time entries %v, want %v", at, got[max(at, 0):], want)
	}
	for i := range times {
		if got, err := readFrom(together, id.Offset(2*i+1)); err != nil || len(got) != len(times)-i {
			t.Errorf("from %d: %d batches, %v", 2*i+1, len(got), err)
		}
	}
}

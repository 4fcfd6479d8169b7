package log

import (
	"slices"
	"testing"

	"github.com/moldau-io/moldau/internal/base/checkpoint"
	"github.com/moldau-io/moldau/internal/base/id"
)

// epochList is a cache's entries, short to write.
type epochList []struct {
	Epoch       id.LeaderEpoch
	StartOffset id.Offset
}

func (l epochList) entries() (out []checkpoint.EpochEntry) {
	for _, e := range l {
		out = append(out, e)
	}
	return out
}

func (l epochList) cache() *epochCache {
	c := new(epochCache)
	for _, e := range l {
		c.assign(e.Epoch, e.StartOffset)
	}
	return c
}

// Epochs and their offsets rise strictly: the last assignment wins over what contradicts it.
func TestEpochAssignments(t *testing.T) {
	type list = epochList
	for _, c := range []struct {
		assigned, want list
		changed        bool // by the last of them
	}{
		{list{{2, 10}}, list{{2, 10}}, true},
		{list{{2, 9}, {2, 10}}, list{{2, 9}}, false},
		{list{{2, 9}, {3, 9}}, list{{3, 9}}, true},
		{list{{2, 6}, {3, 5}}, list{{3, 5}}, true},
		{list{{1, 5}, {2, 6}, {1, 7}}, list{{1, 7}}, true},
		{list{{5, 11}, {6, 12}, {7, 13}, {7, 12}}, list{{5, 11}, {7, 12}}, true},
		{list{{5, 11}, {6, 12}, {7, 13}, {9, 11}}, list{{9, 11}}, true},
		{list{{1, 11}, {1, 12}, {2, 13}, {2, 14}, {3, 15}, {3, 16}}, list{{1, 11}, {2, 13}, {3, 15}}, false},
		{list{{2, 6}, {-1, 7}}, list{{2, 6}}, false},
		{list{{2, 6}, {3, -1}}, list{{2, 6}}, false},
	} {
		n := len(c.assigned) - 1
		x := c.assigned[:n].cache()
		if changed := x.assign(c.assigned[n].Epoch, c.assigned[n].StartOffset); changed != c.changed || !slices.Equal(x.snapshot(), c.want.entries()) {
			t.Errorf("%v: %v, changed %t", c.assigned, x.snapshot(), changed)
		}
		// Nor does a file make a difference that says the same.
		y := new(epochCache)
		y.load(slices.Clone(x.snapshot()))
		if !slices.Equal(y.snapshot(), c.want.entries()) || y.latest() != c.want[len(c.want)-1].Epoch {
			t.Errorf("%v: loaded as %v", c.want, y.snapshot())
		}
	}
	// A file whose entries contradict each other is read in the order of its epochs.
	x := new(epochCache)
	if x.load(list{{4, 20}, {2, 6}, {-3, 1}, {3, 30}}.entries()); !slices.Equal(x.snapshot(), list{{2, 6}, {4, 20}}.entries()) {
		t.Errorf("loaded as %v", x.snapshot())
	}
}

// Where an epoch ends, and whose an offset is.
func TestEpochLookups(t *testing.T) {
	type entries = epochList
	unknown := EpochEndOffset{id.NoLeaderEpoch, id.NoOffset}
	const end = 100
	for _, c := range []struct {
		entries entries
		epoch   id.LeaderEpoch
		want    EpochEndOffset
	}{
		{nil, 0, unknown},
		{nil, 7, unknown},
		{nil, id.NoLeaderEpoch, unknown},
		{entries{{2, 11}, {3, 12}}, id.NoLeaderEpoch, unknown},
		{entries{{2, 11}}, 2, EpochEndOffset{2, end}},
		{entries{{2, 99}}, 3, unknown},
		{entries{{5, 11}, {6, 12}, {7, 13}}, 4, EpochEndOffset{4, 11}},
		{entries{{5, 11}, {7, 12}}, 5, EpochEndOffset{5, 12}},
		{entries{{5, 11}, {7, 12}}, 6, EpochEndOffset{5, 12}},
		{entries{{1, 11}, {2, 13}, {3, 15}}, 2, EpochEndOffset{2, 15}},
		{entries{{0, 10}, {2, 13}, {4, 17}}, 1, EpochEndOffset{0, 13}},
		{entries{{0, 10}, {2, 13}, {4, 17}}, 3, EpochEndOffset{2, 17}},
		{entries{{1, 0}}, 0, EpochEndOffset{0, 0}},
		{entries{{0, 0}, {1, 3}, {2, 6}}, 0, EpochEndOffset{0, 3}},
		{entries{{0, 0}, {1, 3}, {2, 6}}, 2, EpochEndOffset{2, end}},
	} {
		if got := c.entries.cache().endFor(c.epoch, end); got != c.want {
			t.Errorf("%v: epoch %d: %+v, want %+v", c.entries, c.epoch, got, c.want)
		}
	}
	x := entries{{0, 10}, {1, 20}, {5, 30}}.cache()
	for offset, want := range map[id.Offset]id.LeaderEpoch{5: id.NoLeaderEpoch, 10: 0, 19: 0, 20: 1, 25: 1, 30: 5, 50: 5} {
		if got := x.at(offset); got != want {
			t.Errorf("offset %d is of epoch %d, not %d", offset, got, want)
		}
	}
	if got := new(epochCache).latest(); got != id.NoLeaderEpoch {
		t.Errorf("the latest of no epochs is %d", got)
	}
}

// What a cut at either end leaves.
func TestEpochTruncations(t *testing.T) {
	type list = epochList
	all := list{{2, 6}, {3, 8}, {4, 11}}
	for _, c := range []struct {
		atStart bool
		offset  id.Offset
		want    list
	}{
		{false, 8, list{{2, 6}}},
		{false, 9, list{{2, 6}, {3, 8}}},
		{false, 11, list{{2, 6}, {3, 8}}},
		{false, 12, all},
		{false, 6, list{}},
		{false, 0, list{}},
		{false, id.NoOffset, all},
		{true, 8, list{{3, 8}, {4, 11}}},
		{true, 9, list{{3, 9}, {4, 11}}},
		{true, 7, list{{2, 7}, {3, 8}, {4, 11}}},
		{true, 1, all},
		{true, 6, all},
		{true, 11, list{{4, 11}}},
		{true, 15, list{{4, 15}}},
		{true, id.NoOffset, all},
	} {
		x := all.cache()
		cut := x.truncateEnd
		if c.atStart {
			cut = x.truncateStart
		}
		if changed := cut(c.offset); !slices.Equal(x.snapshot(), c.want.entries()) || changed == slices.Equal(c.want, all) {
			t.Errorf("start %t, at %d: %v, changed %t", c.atStart, c.offset, x.snapshot(), changed)
		}
	}
	if x := new(epochCache); x.truncateEnd(7) || x.truncateStart(7) {
		t.Error("no epochs were changed")
	}
}

// TestStaleEpochStaysAway: an epoch that was cut off with the log end is still in the file after a start. Batches of an older
// epoch follow, as a follower gets them from another leader, and the process is killed before any flush. The epoch must not be
// back over them.
func TestStaleEpochStaysAway(t *testing.T) {
	disk := mem(t)
	l := openTest(t, disk, testConfig(), nil)
	mustAppend(t, l, batchSpec{leader: 3})
	if err := l.AssignEpoch(4, l.EndOffset()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, disk, testConfig(), nil)
	if got := l.LatestEpoch(); got != 3 {
		t.Fatalf("the latest epoch is %d after a start, and not that of the last batch", got)
	}
	mustAppend(t, l, batchSpec{leader: 3})
	l = openTest(t, disk, testConfig(), func(o *LogOptions) { o.CleanShutdown, o.RecoveryPoint = false, 1 })
	if latest, last := l.LatestEpoch(), l.EpochAt(l.EndOffset()-1); latest != 3 || last != 3 {
		t.Fatalf("latest epoch %d, that of the last offset %d; 3 was appended", latest, last)
	}
}

// TestEpochsBehindTheFile: epochs that began since the last flush are found in the batches after a kill.
func TestEpochsBehindTheFile(t *testing.T) {
	disk := mem(t)
	l := openTest(t, disk, testConfig(), nil)
	mustAppend(t, l, batchSpec{leader: 1})
	if err := l.Flush(l.EndOffset()); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, batchSpec{leader: 2})
	mustAppend(t, l, batchSpec{leader: 5, records: 3})
	want := l.epochs.snapshot()
	l = openTest(t, disk, testConfig(), func(o *LogOptions) { o.CleanShutdown, o.RecoveryPoint = false, l.DurableEnd() })
	got := l.epochs.snapshot()
	if !slices.Equal(got, want) {
		t.Fatalf("epochs %v after a kill, %v before", got, want)
	}
}

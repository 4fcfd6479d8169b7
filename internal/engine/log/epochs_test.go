package log

import (
	"slices"
	"testing"
)

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

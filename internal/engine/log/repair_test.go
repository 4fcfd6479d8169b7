package log

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// mixedTxns fills a log with transactions of four producers over several segments, and says which were aborted.
func mixedTxns(t *testing.T, l *Log) []AbortedTxn {
	seqs := map[id.ProducerID]int32{}
	data := func(pid id.ProducerID, n int) {
		b := batchSpec{records: n, size: 20, txn: true, pid: pid, seq: seqs[pid]}.build(t)
		seqs[pid] += int32(n)
		if _, err := l.AppendAsLeader(b, AppendInfo{}); err != nil {
			t.Fatal(err)
		}
	}
	data(1, 5)
	mustAppend(t, l, batchSpec{records: 3})
	data(2, 2)
	data(1, 4)
	data(3, 3)
	mustAppend(t, l, batchSpec{records: 2})
	data(1, 10)
	endTxn(t, l, 1, 0, record.ControlAbort)
	data(2, 6)
	data(4, 3)
	mustAppend(t, l, batchSpec{records: 10})
	data(3, 9)
	endTxn(t, l, 3, 0, record.ControlCommit)
	data(4, 8)
	data(2, 7)
	endTxn(t, l, 2, 0, record.ControlAbort)
	mustAppend(t, l, batchSpec{records: 10})
	data(4, 4)
	endTxn(t, l, 4, 0, record.ControlCommit)
	return []AbortedTxn{{1, 0, 29, 8}, {2, 8, 74, 36}}
}

func abortedIn(t *testing.T, l *Log) (out []AbortedTxn) {
	for _, s := range *l.segments.Load() {
		txns, err := s.txns.readable()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, txns...)
	}
	return out
}

// Who removes the indexes of a log to have them made anew gets the transaction index, too, wherever the recovery point is. One that
// is damaged is made anew, whichever segment's it is, and the snapshots stay.
func TestTransactionIndexIsRebuilt(t *testing.T) {
	c := testConfig()
	c.SegmentBytes = 640
	for name, x := range map[string]struct {
		clean  bool
		damage func(disk *vfs.Mem, path string) error
	}{
		"all away, nothing flushed": {false, func(disk *vfs.Mem, path string) error {
			if strings.HasSuffix(path, suffixIndex) || strings.HasSuffix(path, suffixTxn) || strings.HasSuffix(path, suffixTime) {
				return disk.Remove(path)
			}
			return nil
		}},
		"all away, closed": {true, func(disk *vfs.Mem, path string) error {
			if strings.HasSuffix(path, suffixIndex) || strings.HasSuffix(path, suffixTxn) {
				return disk.Remove(path)
			}
			return nil
		}},
		"time index and transactions away": {true, func(disk *vfs.Mem, path string) error {
			if strings.HasSuffix(path, suffixTime) || strings.HasSuffix(path, suffixTxn) {
				return disk.Remove(path)
			}
			return nil
		}},
		"unknown version": {true, func(disk *vfs.Mem, path string) error {
			return flipIn(disk, path, suffixTxn, 1)
		}},
		"impossible end": {true, func(disk *vfs.Mem, path string) error {
			return flipIn(disk, path, suffixTxn, 18)
		}},
		"another producer":  {true, func(disk *vfs.Mem, path string) error { return flipIn(disk, path, suffixTxn, 9) }},
		"another beginning": {true, func(disk *vfs.Mem, path string) error { return flipIn(disk, path, suffixTxn, 17) }},
		"another end":       {true, func(disk *vfs.Mem, path string) error { return flipIn(disk, path, suffixTxn, 25) }},
		"stable for longer": {true, func(disk *vfs.Mem, path string) error { return flipIn(disk, path, suffixTxn, 33) }},
		"torn": {true, func(disk *vfs.Mem, path string) error {
			if !strings.HasSuffix(path, suffixTxn) {
				return nil
			}
			b, err := vfs.ReadFile(disk, path, 1<<20)
			if err != nil {
				return err
			}
			return vfs.WriteFile(disk, path, b[:len(b)-5])
		}},
		"stale entry behind": {true, func(disk *vfs.Mem, path string) error {
			if !strings.HasSuffix(path, suffixTxn) {
				return nil
			}
			b, err := vfs.ReadFile(disk, path, 1<<20)
			if err != nil {
				return err
			}
			if err := disk.Remove(strings.TrimSuffix(path, suffixTxn) + suffixIndex); err != nil {
				return err
			}
			return vfs.WriteFile(disk, path, append(b, b...))
		}},
	} {
		disk := mem(t)
		l := openTest(t, disk, c, nil)
		want := mixedTxns(t, l)
		if got := abortedIn(t, l); !slices.Equal(got, want) || l.Segments() < 5 {
			t.Fatalf("%d segments, aborted %v", l.Segments(), got)
		}
		producers := fmt.Sprint(l.Producers())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		snapshots := snapshotsIn(t, disk)
		entries, err := disk.List("/data/t-0")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := x.damage(disk, "/data/t-0/"+e.Name()); err != nil {
				t.Fatal(err)
			}
		}
		l = openTest(t, disk, c, func(o *LogOptions) { quiet(o); o.CleanShutdown, o.HighWatermark = x.clean, 91 })
		if got := abortedIn(t, l); !slices.Equal(got, want) {
			t.Errorf("%s: aborted %v, want %v", name, got, want)
		}
		if got := fmt.Sprint(l.Producers()); got != producers {
			t.Errorf("%s: producers %s, want %s", name, got, producers)
		}
		if got := snapshotsIn(t, disk); x.clean && !slices.Equal(got, snapshots) {
			t.Errorf("%s: snapshots %v, were %v", name, got, snapshots)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = openTest(t, disk, c, func(o *LogOptions) { quiet(o); o.HighWatermark = 91 })
		r, err := l.Read(ReadRequest{Offset: 0, MaxBytes: 1, MinOneMessage: true, Isolation: ReadCommitted, LastFetchedEpoch: id.NoLeaderEpoch})
		if err != nil || !slices.Equal(r.AbortedTxns, want) { // the first segment reaches beyond where the second began
			t.Errorf("%s: a committed reader is told of %v, %v", name, r.AbortedTxns, err)
		}
		r.Section.Release()
	}
}

func flipIn(disk *vfs.Mem, path, suffix string, at int) error {
	if !strings.HasSuffix(path, suffix) {
		return nil
	}
	b, err := vfs.ReadFile(disk, path, 1<<20)
	if err != nil {
		return err
	}
	b[at] ^= 0x80
	return vfs.WriteFile(disk, path, b)
}

func snapshotsIn(t *testing.T, disk *vfs.Mem) (out []string) {
	entries, err := disk.List("/data/t-0")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffixSnapshot) {
			out = append(out, e.Name())
		}
	}
	return out
}

package log

import (
	"slices"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

// step is a batch of a transactional producer, a marker if it ends a transaction.
type step struct {
	pid id.ProducerID
	seq int32
	end record.ControlType
}

// data is a step that is no marker.
const data = record.ControlType(-1)

// inOneAppend lets a follower append all steps at once, an offset each.
func inOneAppend(t *testing.T, l *Log, steps ...step) {
	t.Helper()
	var all []byte
	at := l.EndOffset()
	for _, s := range steps {
		b := batchSpec{txn: true, pid: s.pid, seq: s.seq, base: at}.build(t)
		if s.end != data {
			m, err := record.EndTxnMarker(s.pid, 0, s.end == record.ControlCommit, epochMs, []byte{0, 0, 0, 0, 0, 3})
			if err != nil {
				t.Fatal(err)
			}
			m.SetBaseOffset(at)
			m.SetLeaderEpoch(0)
			b = m
		}
		all = append(all, b...)
		at++
	}
	if _, err := l.AppendAsFollower(all, 0); err != nil {
		t.Fatal(err)
	}
}

// Markers of several producers in one append come into the transaction index in their order, and a truncation between two of them
// keeps what lies before it.
func TestMarkersOfOneAppend(t *testing.T) {
	l := openTest(t, mem(t), testConfig(), nil)
	inOneAppend(t, l, step{1, 0, data}, step{2, 0, data}, step{3, 0, data},
		step{2, 0, record.ControlAbort}, step{1, 0, record.ControlAbort}, step{4, 0, data}, step{3, 0, record.ControlAbort}, step{5, 0, data})
	want := []AbortedTxn{{2, 1, 3, 0}, {1, 0, 4, 2}, {3, 2, 6, 5}}
	if got := abortedIn(t, l); !slices.Equal(got, want) {
		t.Errorf("aborted %+v, want %+v", got, want)
	}
	if err := l.TruncateTo(4); err != nil {
		t.Fatal(err)
	}
	if got := abortedIn(t, l); !slices.Equal(got, want[:1]) {
		t.Errorf("aborted %+v after a truncation, want %+v", got, want[:1])
	}
	l.AdvanceHighWatermark(4)
	if got := l.LastStableOffset(); got != 0 {
		t.Errorf("last stable offset %d with a transaction open from 0", got)
	}
}

// An append that ends a transaction, has markers of empty ones, a whole one, and one that stays open.
func TestEmptyTransactionsOfOneAppend(t *testing.T) {
	l := openTest(t, mem(t), testConfig(), nil)
	inOneAppend(t, l, step{1, 0, data})
	inOneAppend(t, l, step{1, 0, record.ControlCommit}, step{1, 0, record.ControlCommit}, step{1, 0, record.ControlAbort}, step{1, 1, data},
		step{1, 0, record.ControlAbort}, step{1, 0, record.ControlAbort}, step{1, 2, data})
	if got, want := abortedIn(t, l), []AbortedTxn{{1, 4, 5, 6}}; !slices.Equal(got, want) {
		t.Errorf("aborted %+v, want %+v", got, want)
	}
	for _, x := range [][2]id.Offset{{1, 0}, {2, 2}, {5, 4}, {6, 6}, {8, 7}} { // a high watermark, and what is stable then
		l.AdvanceHighWatermark(x[0])
		if got := l.LastStableOffset(); got != x[1] {
			t.Errorf("last stable offset %d with a high watermark of %d, want %d", got, x[0], x[1])
		}
	}
}

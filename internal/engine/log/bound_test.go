package log

import (
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
)

// TestReadBesideAppend reads while an append has stored the segment's new size and not yet the log's new end: what it appends lies
// above every bound that a reader can have, and is not served.
func TestReadBesideAppend(t *testing.T) {
	for _, isolation := range []Isolation{ReadLogEnd, ReadHighWatermark, ReadCommitted} {
		l := openTest(t, mem(t), testConfig(), nil)
		first := mustAppend(t, l, batchSpec{records: 2})
		l.AdvanceHighWatermark(first.NextOffset)
		second := mustAppend(t, l, batchSpec{records: 3})
		l.end.Store(int64(first.NextOffset)) // as it is between the two stores
		r, err := l.Read(ReadRequest{Offset: 0, MaxBytes: 1 << 20, Isolation: isolation})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Section.Size(); got != first.Bytes {
			t.Errorf("isolation %d: %d bytes, want the %d of the first batch; the second has %d", isolation, got, first.Bytes, second.Bytes)
		}
		r.Section.Release()
		l.end.Store(int64(second.NextOffset))
		if end := l.EndOffset(); end != id.Offset(5) {
			t.Fatalf("log end %d", end)
		}
	}
}

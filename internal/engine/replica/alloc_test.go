package replica

import (
	"context"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/race"
)

// TestAllocations holds the hot path to its discipline: nothing is allocated per record, and little per request.
func TestAllocations(t *testing.T) {
	race.Skip(t) // there a sync.Pool forgets at random, and counts mean nothing
	r := newRig(t)
	r.topic("t", 8)
	var results []AppendResult
	done := func(res []AppendResult) {
		results = res
		for i := range res {
			if res[i].Err != nil {
				t.Fatal(res[i].Err)
			}
		}
	}
	appends := func(records, partitions int) float64 {
		req := &AppendRequest{Acks: -1, Timeout: time.Second}
		for n := range partitions {
			req.Partitions = append(req.Partitions, AppendPartition{Topic: "t", Partition: int32(n), Batches: plain(t, records)})
		}
		return allocations(func() {
			rewind(req)
			r.Append(req, results, done)
		})
	}
	few, many := appends(1, 1), appends(1000, 1)
	t.Logf("append of 1 record: %v allocations, of 1000 records: %v, to 8 partitions: %v", few, many, appends(1, 8))
	if many > few+1 {
		t.Errorf("1000 records cost %v allocations, one record %v", many, few)
	}
	if limit := 4.0; few > limit {
		t.Errorf("an append costs %v allocations, want at most %v", few, limit)
	}
	req := consumer(FetchPartition{Topic: "t"}, FetchPartition{Topic: "t", Partition: 1})
	var fetched []FetchResult
	n := allocations(func() { fetched = r.Fetch(context.Background(), req, fetched) })
	t.Logf("fetch of two partitions: %v allocations", n)
	if limit := 12.0; n > limit {
		t.Errorf("a fetch costs %v allocations, want at most %v", n, limit)
	}
}

// allocations counts what a call allocates by itself: the least of some counts, as collections empty pools and the manager's own
// goroutines allocate now and then.
func allocations(call func()) float64 {
	least := testing.AllocsPerRun(100, call)
	for range 4 {
		least = min(least, testing.AllocsPerRun(100, call))
	}
	return least
}

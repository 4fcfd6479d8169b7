package replica

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// TestAllocations holds the hot path to its discipline: nothing is allocated per record, and little per request.
func TestAllocations(t *testing.T) {
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
		return testing.AllocsPerRun(100, func() {
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
	n := testing.AllocsPerRun(100, func() { fetched = r.Fetch(context.Background(), req, fetched) })
	t.Logf("fetch of two partitions: %v allocations", n)
	if limit := 12.0; n > limit {
		t.Errorf("a fetch costs %v allocations, want at most %v", n, limit)
	}
}

// rewind makes batches that were appended look as a client sends them.
func rewind(req *AppendRequest) {
	for i := range req.Partitions {
		record.Batch(req.Partitions[i].Batches).SetBaseOffset(0)
	}
}

// BenchmarkAppend appends one batch to one partition, in memory and on disk.
func BenchmarkAppend(b *testing.B) {
	for _, where := range []string{"mem", "disk"} {
		for _, size := range []int{100, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%d", where, size), func(b *testing.B) {
				r := newRig(b)
				if where == "disk" {
					r = newRigOn(b, vfs.OS(), b.TempDir(), nil)
				}
				r.topic("t", 1)
				data := batch(b, max(1, size/1000), min(size, 1000), record.NewOptions())
				req := &AppendRequest{Acks: -1, Timeout: time.Second, Partitions: []AppendPartition{{Topic: "t", Batches: data}}}
				var results []AppendResult
				done := func(res []AppendResult) { results = res }
				b.ReportAllocs()
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					rewind(req)
					r.Append(req, results, done)
				}
			})
		}
	}
}

// BenchmarkFetch reads one partition at its beginning (records) and at its end (nothing).
func BenchmarkFetch(b *testing.B) {
	for _, at := range []string{"records", "end"} {
		b.Run(at, func(b *testing.B) {
			r := newRigOn(b, vfs.OS(), b.TempDir(), nil)
			r.topic("t", 1)
			for range 20 {
				r.mustProduce("t", 1000)
			}
			req := consumer(FetchPartition{Topic: "t", MaxBytes: 64 << 10})
			if at == "end" {
				req.Partitions[0].Offset = 20000
			}
			var results []FetchResult
			b.ReportAllocs()
			for b.Loop() {
				results = r.Fetch(context.Background(), req, results)
				if s := results[0].Section; s != nil {
					s.Release()
					results[0].Section = nil
				}
			}
		})
	}
}

// BenchmarkApplyDelta makes partitions on disk: many topics of one partition in one delta, and one topic of many partitions.
func BenchmarkApplyDelta(b *testing.B) {
	for _, shape := range []struct{ topics, partitions int }{{1000, 1}, {1, 1000}} {
		b.Run(fmt.Sprintf("%dx%d", shape.topics, shape.partitions), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				r := newRigOn(b, vfs.OS(), b.TempDir(), nil)
				var recs []logrec.MetadataRecord
				for i := range shape.topics {
					u := id.UUID{1, byte(i >> 8), byte(i)}
					recs = append(recs, &logrec.TopicRecord{Name: fmt.Sprint("t", i), TopicID: u})
					for n := range shape.partitions {
						recs = append(recs, &logrec.PartitionRecord{PartitionID: int32(n), TopicID: u, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1})
					}
				}
				b.StartTimer()
				r.replay(recs...)
				b.StopTimer()
				r.stop()
				b.StartTimer()
			}
		})
	}
}

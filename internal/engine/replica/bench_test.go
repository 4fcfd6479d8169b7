package replica

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

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

// BenchmarkCommit is flush.messages=1 on disk: producers that wait for each record, in turn to all partitions.
func BenchmarkCommit(b *testing.B) {
	for _, shape := range []struct{ producers, partitions int }{{1, 1}, {64, 1}, {64, 8}, {64, 64}} {
		b.Run(fmt.Sprintf("%d/%d", shape.producers, shape.partitions), func(b *testing.B) {
			r := newRigOn(b, vfs.OS(), b.TempDir(), nil)
			c := TopicConfig{Log: log.DefaultConfig(), MinInSyncReplicas: 1}
			c.Log.FlushMessages = 1
			r.configs["t"] = c
			r.topic("t", shape.partitions)
			data := batch(b, 1, 100, record.NewOptions())
			b.ReportAllocs()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for g := range shape.producers {
				wg.Go(func() {
					done := make(chan error, 1)
					answer := func(res []AppendResult) { done <- res[0].Err }
					req := &AppendRequest{Acks: -1, Timeout: time.Minute, Partitions: []AppendPartition{{Topic: "t", Batches: slices.Clone(data)}}}
					for i := g; left.Add(-1) >= 0; i++ {
						rewind(req)
						req.Partitions[0].Partition = int32(i % shape.partitions)
						r.Append(req, nil, answer)
						if err := <-done; err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

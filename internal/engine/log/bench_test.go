package log

import (
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// A produce of one 64 KiB batch of 1 KB records, without the network: validation, offsets, producer state, one write, indexes.
func BenchmarkAppendAsLeader64K(b *testing.B) {
	for _, idem := range []bool{false, true} {
		b.Run(fmt.Sprintf("idempotent=%v", idem), func(b *testing.B) {
			c := testConfig()
			c.RetentionBytes = 256 << 20
			l := openTest(b, vfs.OS(), c, func(o *LogOptions) { o.Dir = filepath.Join(b.TempDir(), "t-0") })
			spec := batchSpec{records: 63, size: 1020, idem: idem, pid: 1}
			batch := spec.build(b)
			scratch := make([]byte, len(batch))
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				copy(scratch, batch)
				if idem {
					// The state is made to expect the same sequence again; a client would count on.
					l.mu.Lock()
					l.producers.entries = nil
					l.mu.Unlock()
				}
				if _, err := l.AppendAsLeader(scratch, AppendInfo{LeaderEpoch: 1}); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			l.Close()
		})
	}
}

func BenchmarkReadAtTail(b *testing.B) {
	l := openTest(b, vfs.OS(), testConfig(), func(o *LogOptions) { o.Dir = filepath.Join(b.TempDir(), "t-0") })
	for range 500 {
		mustAppend(b, l, batchSpec{records: 60, size: 1000})
	}
	l.AdvanceHighWatermark(l.EndOffset())
	last := l.EndOffset() - 60
	b.ReportAllocs()
	for b.Loop() {
		r, err := l.Read(ReadRequest{Offset: last, MaxBytes: 1 << 20, Isolation: ReadHighWatermark, LastFetchedEpoch: id.NoLeaderEpoch})
		if err != nil || r.Section == nil {
			b.Fatal(err)
		}
		r.Section.Release()
	}
}

// Strict flush with 16 concurrent appenders: they share fsyncs.
func BenchmarkStrictFlush16(b *testing.B) {
	c := testConfig()
	c.FlushMessages = 1
	l := openTest(b, vfs.OS(), c, func(o *LogOptions) { o.Dir = filepath.Join(b.TempDir(), "t-0") })
	batch := batchSpec{records: 1, size: 1000}.build(b)
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(p *testing.PB) {
		mine := make([]byte, len(batch))
		for p.Next() {
			copy(mine, batch)
			if _, err := l.AppendAsLeader(mine, AppendInfo{}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// Heap and time of 2,000 idle partitions, opened after a clean shutdown.
func BenchmarkOpenIdlePartitions(b *testing.B) {
	const partitions = 2000
	dir := b.TempDir()
	o := Options{FS: vfs.OS(), Dirs: []string{dir}, AutoFormat: true, NodeID: 1, Config: testConfig(), RecoveryThreads: 2, Manual: true}
	m, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	for p := range int32(partitions) {
		wg.Go(func() {
			l, err := m.Create(id.TopicPartition{Topic: "t", Partition: p}, CreateOptions{Config: o.Config})
			if err == nil {
				_, err = l.AppendAsLeader(batchSpec{}.build(b), AppendInfo{LeaderEpoch: 1})
			}
			if err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	if err := m.Close(1); err != nil {
		b.Fatal(err)
	}
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		m, err := Open(o)
		if err != nil {
			b.Fatal(err)
		}
		for range 2 {
			for _, l := range m.Logs() {
				l.sweep()
			}
		}
		b.ReportMetric(float64(heap()-before)/partitions, "heap-B/partition")
		if err := m.Close(1); err != nil {
			b.Fatal(err)
		}
	}
}

// New logs on a real disk: what a caller waits for, and what it costs in all until their directories are there.
func BenchmarkCreateLogs(b *testing.B) {
	for _, born := range []bool{false, true} {
		b.Run(fmt.Sprintf("directories=%v", born), func(b *testing.B) {
			o := managerOptions(b, vfs.OS(), &clock{ms: epochMs}, b.TempDir())
			m := mustOpen(b, o)
			n := int32(0)
			for b.Loop() {
				l, err := m.Create(partition("topic-with-a-name", n), CreateOptions{TopicID: id.UUID{1: 9}, Config: o.Config})
				if err == nil {
					err = l.AssignEpoch(0, 0)
				}
				if err != nil {
					b.Fatal(err)
				}
				n++
				if born {
					m.tickBirths()
				}
			}
			b.StopTimer()
			for _, d := range m.dirs {
				d.fail("end", d.path, fmt.Errorf("the benchmark is over")) // closing properly syncs every log
			}
			m.Close(1)
		})
	}
}

// Deleting many logs with one call, and removing their files later.
func BenchmarkDelete1000Logs(b *testing.B) {
	o := managerOptions(b, vfs.OS(), &clock{ms: epochMs}, b.TempDir())
	m := mustOpen(b, o)
	var create, births, del time.Duration
	for b.Loop() {
		t := time.Now()
		var tps []id.TopicPartition
		for n := range int32(1000) {
			tps = append(tps, partition("topic-with-a-name", n))
			mustCreate(b, m, tps[n])
		}
		create += time.Since(t)
		t = time.Now()
		m.tickBirths()
		births += time.Since(t)
		t = time.Now()
		if err := m.Delete(tps...); err != nil {
			b.Fatal(err)
		}
		del += time.Since(t)
	}
	b.ReportMetric(create.Seconds()*1000/float64(b.N), "ms/create")
	b.ReportMetric(births.Seconds()*1000/float64(b.N), "ms/births")
	b.ReportMetric(del.Seconds()*1000/float64(b.N), "ms/delete")
	b.StopTimer()
	m.Close(1)
}

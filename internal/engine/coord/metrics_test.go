package coord

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TestMetrics: where time goes, what waits, and how partitions stand.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 3)
		cfg := group.DefaultConfig()
		cfg.OffsetMetadataMaxSize = 1 << 20
		r := start(t, l, func(o *Options[*group.Shard]) {
			o.Linger = 500 * time.Millisecond
			o.New = func(int32) *group.Shard { return group.New(cfg, rand.New(rand.NewPCG(1, 1))) }
		})
		m := r.Metrics()
		gauges := func(what string, want Gauges) {
			t.Helper()
			synctest.Wait()
			got := r.Gauges()
			if want.BufferBytes < 0 && got.BufferBytes > 0 {
				want.BufferBytes = got.BufferBytes
			}
			if got != want {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
		}
		stall := make(chan struct{})
		l.set(0, func(p *memPartition) { p.stall = stall })
		r.Elected(0, 0)
		gauges("loading", Gauges{Loading: 1})
		pass(3 * time.Second)
		l.set(0, func(p *memPartition) { p.stall = nil })
		close(stall)
		r.Elected(1, 7) // the log has another epoch
		gauges("loaded, and failed", Gauges{Active: 1, Failed: 1})
		if f := m.LoadTime.Read(time.Now()); f.Count != 1 || f.Max != int64(3*time.Second) {
			t.Errorf("loading: %+v", f)
		}
		r.Resigned(1, 8)
		gauges("resigned", Gauges{Active: 1})

		l.set(0, func(p *memPartition) { p.hold = true })
		slow := make(chan struct{})
		l.set(0, func(p *memPartition) { p.slow = slow })
		waits := commit(r, 0, "g", 1)
		pass(2500 * time.Millisecond) // half a second for company, two in the log
		r.DoAll(func(*group.Shard, time.Time) shard.Result { return shard.Result{} })
		gauges("an event in the queue", Gauges{Active: 1, Queued: 1, BufferBytes: -1})
		pass(time.Second)
		l.set(0, func(p *memPartition) { p.slow = nil })
		close(slow)
		gauges("none", Gauges{Active: 1, BufferBytes: -1})
		pass(time.Second)
		expect(t, "held", waits, "")
		l.set(0, func(p *memPartition) { p.hold = false })
		expect(t, "released", waits, "NONE")
		for name, x := range map[string]struct{ got, want time.Duration }{
			"linger":     {time.Duration(m.LingerTime.Read(time.Now()).Max), 500 * time.Millisecond},
			"flush":      {time.Duration(m.FlushTime.Read(time.Now()).Max), 3 * time.Second},
			"queue":      {time.Duration(m.QueueTime.Read(time.Now()).Max), time.Second},
			"processing": {time.Duration(m.ProcessingTime.Read(time.Now()).Max), 3 * time.Second},
			"busy":       {time.Duration(m.Busy.Total()), 3 * time.Second},
			"purgatory":  {time.Duration(m.PurgatoryTime.Read(time.Now()).Max), 4500 * time.Millisecond},
		} {
			if x.got != x.want {
				t.Errorf("%s: %v, want %v", name, x.got, x.want)
			}
		}
		if n := m.Flushes.Total(); n != 1 {
			t.Errorf("%d flushes", n)
		}

		// Who waits in vain has waited, too: for a batch that is refused, and for the end of the leadership.
		waits = commit(r, 0, "g", 1)
		pass(300 * time.Millisecond)
		l.set(0, func(p *memPartition) { p.refuse = wire.ErrNotEnoughReplicas })
		pass(time.Second)
		expect(t, "refused", waits, "NOT_ENOUGH_REPLICAS")
		l.set(0, func(p *memPartition) { p.refuse, p.hold = nil, true })
		commit(r, 0, "g", 1)
		pass(600 * time.Millisecond)
		commit(r, 0, "g", 1)
		synctest.Wait()
		count := m.PurgatoryTime.Read(time.Now()).Count
		if count != 2 {
			t.Errorf("%d have waited", count)
		}
		r.Elected(0, l.depose(0))
		gauges("elected again", Gauges{Active: 1})
		if f := m.PurgatoryTime.Read(time.Now()); f.Count != 4 || time.Duration(f.Sum) != 5600*time.Millisecond {
			t.Errorf("waiting: %+v", f)
		}
		commit(r, 0, "g", 1)
		pass(time.Second)

		kept := r.Gauges().BufferBytes
		large := strings.Repeat("m", 30_000)
		req := commitRequest("g", 0, 2)
		for p := range int32(40) {
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, api.OffsetCommitRequestTopicPartition{PartitionIndex: p, CommittedOffset: 1, CommittedMetadata: &large})
		}
		r.Do(0, func(any, wire.ErrorCode) {}, func(s *group.Shard, now time.Time, t shard.Ticket) shard.Result {
			return s.OffsetCommit(group.Turn{Now: now, Ticket: t, Version: 9}, req)
		})
		pass(time.Second)
		if got := r.Gauges().BufferBytes; got != 0 || kept == 0 || m.DroppedBuffers.Load() != 1 {
			t.Errorf("%d bytes are kept after a large batch, %d before; %d buffers were dropped", got, kept, m.DroppedBuffers.Load())
		}
	})
}

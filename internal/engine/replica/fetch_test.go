package replica

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

func TestFetchCodes(t *testing.T) { freeAndHeld(t, testFetchCodes) }

func testFetchCodes(t *testing.T, r *rig) {
	u := r.topic("t", 1)
	r.topic("follows", 1)
	r.mustProduce("t", 10)
	r.lead("follows", 2)
	tests := []struct {
		name   string
		part   FetchPartition
		change func(*FetchRequest)
		want   wire.ErrorCode
	}{
		{"good", FetchPartition{Topic: "t"}, nil, wire.ErrNone},
		{"at the end", FetchPartition{Topic: "t", Offset: 10}, nil, wire.ErrNone},
		{"beyond the end", FetchPartition{Topic: "t", Offset: 11}, nil, wire.ErrOffsetOutOfRange},
		{"negative", FetchPartition{Topic: "t", Offset: -1}, nil, wire.ErrOffsetOutOfRange},
		{"id", FetchPartition{Topic: "t", TopicID: u}, nil, wire.ErrNone},
		{"other id", FetchPartition{Topic: "t", TopicID: id.UUID{3}}, nil, wire.ErrInconsistentTopicID},
		{"no topic", FetchPartition{Topic: "u"}, nil, wire.ErrUnknownTopicOrPartition},
		{"right epoch", FetchPartition{Topic: "t"}, func(q *FetchRequest) { q.Partitions[0].CurrentLeaderEpoch = 0 }, wire.ErrNone},
		{"later epoch", FetchPartition{Topic: "t"}, func(q *FetchRequest) { q.Partitions[0].CurrentLeaderEpoch = 1 }, wire.ErrUnknownLeaderEpoch},
		{"fenced", FetchPartition{Topic: "follows"}, func(q *FetchRequest) { q.Partitions[0].CurrentLeaderEpoch = 0 }, wire.ErrFencedLeaderEpoch},
		{"a follower serves new clients", FetchPartition{Topic: "follows"}, nil, wire.ErrNone},
		{"and not old ones", FetchPartition{Topic: "follows"}, func(q *FetchRequest) { q.AllowFollower = false }, wire.ErrNotLeaderOrFollower},
		{"negative bytes", FetchPartition{Topic: "t", MaxBytes: -1}, nil, wire.ErrUnknownServerError},
		{"unknown replica", FetchPartition{Topic: "t"}, func(q *FetchRequest) { q.ReplicaID, q.AllowFollower = 7, false }, wire.ErrNotLeaderOrFollower},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := consumer(tt.part)
			req.MaxWait = longTime
			if tt.want == wire.ErrNone {
				req.MaxWait = 0 // errors are told at once, whatever the wait
			}
			if tt.change != nil {
				tt.change(req)
			}
			res := r.fetch(req)
			wantCode(t, res[0].Err, tt.want)
			if tt.want != wire.ErrNone && (res[0].HighWatermark != -1 || res[0].LogStartOffset != -1 || res[0].LastStableOffset != -1) {
				t.Errorf("offsets with an error: %+v", res[0])
			}
		})
	}
}

func TestDivergence(t *testing.T) { freeAndHeld(t, testDivergence) }

func testDivergence(t *testing.T, r *rig) {
	r.topic("t", 1)
	r.mustProduce("t", 10)
	r.lead("t", 1) // epoch 1 begins at 10
	r.mustProduce("t", 5)
	for _, tt := range []struct {
		offset id.Offset
		epoch  id.LeaderEpoch
		want   string
	}{
		{10, 0, "records"},
		{12, 0, "diverging 0 10"},
		{15, 1, "nothing"},
		{12, 1, "records"},
		{5, 3, "OFFSET_OUT_OF_RANGE"},
		{99, 0, "diverging 0 10"},
		{99, 1, "diverging 1 15"},
	} {
		req := consumer(FetchPartition{Topic: "t", Offset: tt.offset})
		req.Partitions[0].LastFetchedEpoch = tt.epoch
		res := r.fetch(req)[0]
		got := "nothing"
		switch {
		case res.Err != nil:
			got = ErrorCode(res.Err).Name()
		case res.Diverging != nil:
			got = fmt.Sprintf("diverging %d %d", res.Diverging.Epoch, res.Diverging.EndOffset)
		case res.Section != nil:
			got = "records"
		}
		if got != tt.want {
			t.Errorf("fetch at %d in epoch %d: %s, want %s", tt.offset, tt.epoch, got, tt.want)
		}
	}
}

// TestMaxBytes is the table of KIP-74: bounds, whole batches, and the first batch of the first partition that has any.
func TestMaxBytes(t *testing.T) { allWays(t, testMaxBytes) }

func testMaxBytes(t *testing.T, r *rig) {
	r.topic("t", 3)
	size := len(batch(t, 1, 500, record.NewOptions()))
	for n := range 2 { // partition 2 stays empty
		for range 4 {
			r.produce(-1, time.Second, AppendPartition{Topic: "t", Partition: int32(n), Batches: batch(t, 1, 500, record.NewOptions())}).one(t)
		}
	}
	for _, tt := range []struct {
		name  string
		max   int
		parts []int32
		each  int
		want  []int
	}{
		{"all", 1 << 20, []int32{0, 1}, 1 << 20, []int{4, 4}},
		{"partition bound", 1 << 20, []int32{0, 1}, 2 * size, []int{2, 2}},
		{"partition bound within a batch", 1 << 20, []int32{0, 1}, 2*size + 10, []int{2, 2}},
		{"response bound", 5 * size, []int32{0, 1}, 1 << 20, []int{4, 1}},
		{"one batch at least", 1, []int32{0, 1}, 1 << 20, []int{1, 0}},
		{"one batch at least, partition bound", 1 << 20, []int32{0, 1}, 1, []int{1, 0}},
		{"of the first that has one", 1, []int32{2, 1, 0}, 1, []int{0, 1, 0}},
		{"zero", 0, []int32{0, 1}, 0, []int{1, 0}},
		{"order counts", 4 * size, []int32{1, 0}, 1 << 20, []int{4, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var parts []FetchPartition
			for _, n := range tt.parts {
				parts = append(parts, FetchPartition{Topic: "t", Partition: n})
			}
			req := consumer(parts...)
			req.MaxBytes = tt.max
			for i := range req.Partitions {
				req.Partitions[i].MaxBytes = int32(tt.each)
			}
			res := r.fetch(req)
			var got []int
			for i := range res {
				got = append(got, len(offsets(t, &res[i])))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// waiting starts a fetch in a bubble and returns when it sleeps.
func waiting(t *testing.T, r *rig, ctx context.Context, req *FetchRequest) <-chan []FetchResult {
	t.Helper()
	out := make(chan []FetchResult, 1)
	go func() { out <- r.Fetch(ctx, req, nil) }()
	asleep(t, out)
	if n := r.Gauges().WaitingFetches; n != len(req.Partitions) {
		t.Fatalf("%d entries in the waiting rooms", n)
	}
	return out
}

// asleep checks that a fetch still sleeps when everybody else does.
func asleep(t *testing.T, out <-chan []FetchResult) {
	t.Helper()
	synctest.Wait()
	select {
	case res := <-out:
		t.Fatalf("woke too early: %+v", res)
	default:
	}
}

func total(res []FetchResult) (n int) {
	for i := range res {
		n += res[i].Size()
	}
	return n
}

// TestFetchWaits has one row for each way in which the wait of a fetch ends. Each runs in a bubble with three empty partitions.
func TestFetchWaits(t *testing.T) {
	size := len(plain(t, 1))
	put := func(t *testing.T, r *rig, n int32) {
		r.produce(1, 0, AppendPartition{Topic: "t", Partition: n, Batches: plain(t, 1)}).one(t)
	}
	rows := map[string]func(t *testing.T, r *rig){
		"one byte": func(t *testing.T, r *rig) {
			req := consumer(FetchPartition{Topic: "t"}, FetchPartition{Topic: "t", Partition: 1})
			req.MaxWait = longTime
			out := waiting(t, r, t.Context(), req)
			put(t, r, 2)
			asleep(t, out)
			put(t, r, 1)
			if res := <-out; res[0].Size() != 0 || res[1].Size() != size {
				t.Errorf("%+v", res)
			}
		},
		"bytes add up over partitions": func(t *testing.T, r *rig) {
			req := consumer(FetchPartition{Topic: "t"}, FetchPartition{Topic: "t", Partition: 1})
			req.MaxWait, req.MinBytes = longTime, 3*size
			out := waiting(t, r, t.Context(), req)
			put(t, r, 0)
			asleep(t, out)
			put(t, r, 1)
			asleep(t, out)
			put(t, r, 1)
			if n := total(<-out); n != 3*size {
				t.Errorf("%d bytes", n)
			}
		},
		"bytes that were there count": func(t *testing.T, r *rig) {
			put(t, r, 1)
			req := consumer(FetchPartition{Topic: "t", Partition: 1})
			req.MaxWait, req.MinBytes = longTime, 2*size
			out := waiting(t, r, t.Context(), req)
			put(t, r, 1)
			if n := total(<-out); n != 2*size {
				t.Errorf("%d bytes", n)
			}
		},
		"held bytes do not count until they are released": func(t *testing.T, r *rig) {
			r.Hold()
			put(t, r, 2)
			req := consumer(FetchPartition{Topic: "t", Partition: 2})
			req.MaxWait, req.MinBytes = longTime, 2*size
			out := waiting(t, r, t.Context(), req)
			put(t, r, 2)
			asleep(t, out)
			r.Release()
			if n := total(<-out); n != 2*size {
				t.Errorf("%d bytes", n)
			}
		},
		"held and released without an append": func(t *testing.T, r *rig) {
			r.Hold()
			put(t, r, 2)
			req := consumer(FetchPartition{Topic: "t", Partition: 2})
			req.MaxWait = longTime
			out := waiting(t, r, t.Context(), req)
			r.Release()
			if n := total(<-out); n != size {
				t.Errorf("%d bytes", n)
			}
		},
		"too little becomes visible": func(t *testing.T, r *rig) {
			r.Hold()
			put(t, r, 2)
			req := consumer(FetchPartition{Topic: "t", Partition: 2})
			req.MaxWait, req.MinBytes = longTime, 2*size
			out := waiting(t, r, t.Context(), req)
			r.Release()
			asleep(t, out)
			put(t, r, 2)
			if n := total(<-out); n != 2*size {
				t.Errorf("%d bytes", n)
			}
		},
		"a follower sees what is held": func(t *testing.T, r *rig) {
			r.topic("two", 1, 1, 2)
			req := consumer(FetchPartition{Topic: "two"})
			req.ReplicaID, req.ReplicaEpoch, req.Isolation, req.AllowFollower, req.MaxWait = 2, 100, log.ReadLogEnd, false, longTime
			out := waiting(t, r, t.Context(), req)
			r.produce(1, 0, AppendPartition{Topic: "two", Batches: plain(t, 1)}).one(t)
			if n := total(<-out); n != size {
				t.Errorf("%d bytes", n)
			}
		},
		"all there is at the end of the wait": func(t *testing.T, r *rig) {
			put(t, r, 2)
			req := consumer(FetchPartition{Topic: "t", Partition: 2})
			req.MaxWait, req.MinBytes = 700*time.Millisecond, 1000*size
			start := time.Now()
			res := r.fetch(req)
			if d := time.Since(start); total(res) != size || d != req.MaxWait {
				t.Errorf("%d bytes after %v", total(res), d)
			}
			if r.Metrics().FetchExpired.Load() != 1 {
				t.Error("not counted")
			}
		},
		"a closed connection": func(t *testing.T, r *rig) {
			ctx, cancel := context.WithCancel(t.Context())
			req := consumer(FetchPartition{Topic: "t"})
			req.MaxWait = longTime
			out := waiting(t, r, ctx, req)
			cancel()
			<-out
		},
		"a closed manager": func(t *testing.T, r *rig) {
			req := consumer(FetchPartition{Topic: "t"})
			req.MaxWait = longTime
			out := waiting(t, r, t.Context(), req)
			r.Close()
			<-out
		},
		"deposed": func(t *testing.T, r *rig) {
			req := consumer(FetchPartition{Topic: "t", Partition: 1}, FetchPartition{Topic: "t"})
			req.MaxWait, req.AllowFollower = longTime, false
			out := waiting(t, r, t.Context(), req)
			r.lead("t", 2)
			wantCode(t, (<-out)[0].Err, wire.ErrNotLeaderOrFollower)
		},
		"a raised epoch": func(t *testing.T, r *rig) {
			req := consumer(FetchPartition{Topic: "t"})
			req.MaxWait, req.Partitions[0].CurrentLeaderEpoch = longTime, 0
			out := waiting(t, r, t.Context(), req)
			r.lead("t", 1)
			wantCode(t, (<-out)[0].Err, wire.ErrFencedLeaderEpoch)
		},
		"deleted": func(t *testing.T, r *rig) {
			req := consumer(FetchPartition{Topic: "t"})
			req.MaxWait = longTime
			out := waiting(t, r, t.Context(), req)
			r.deleteTopic("t")
			wantCode(t, (<-out)[0].Err, wire.ErrUnknownTopicOrPartition)
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.topic("t", 3)
				row(t, r)
				r.Release()
				if g := r.Gauges(); g.WaitingFetches != 0 || g.WaitingProduces != 0 {
					t.Errorf("somebody still waits: %+v", g)
				}
			})
		})
	}
}

// TestTailingConsumers has consumers read everything that producers write, with no wake-up lost: the waits are so long that one
// lost would hang the test.
func TestTailingConsumers(t *testing.T) { inWays(t, testTailingConsumers, wayFree) }

func testTailingConsumers(t *testing.T, r *rig) {
	r.topic("t", 2)
	const perProducer, producers, consumers = 200, 3, 3
	var wg sync.WaitGroup
	for range producers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range perProducer {
				r.produce(-1, longTime, AppendPartition{Topic: "t", Partition: int32(i % 2), Batches: plain(t, 1)}).one(t)
			}
		}()
	}
	for c := range consumers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			at := []id.Offset{0, 0}
			for at[0]+at[1] < perProducer*producers {
				req := consumer(FetchPartition{Topic: "t", Offset: at[0]}, FetchPartition{Topic: "t", Partition: 1, Offset: at[1]})
				req.MaxWait, req.MinBytes = longTime, 1+c*3*len(plain(t, 1))
				if left := perProducer*producers - int(at[0]+at[1]); left <= 1+c*3 {
					req.MinBytes = 1
				}
				res := r.Fetch(t.Context(), req, nil)
				for n := range res {
					for _, o := range offsets(t, &res[n]) {
						if o != at[n] {
							t.Errorf("partition %d: offset %d, want %d", n, o, at[n])
							return
						}
						at[n]++
					}
				}
			}
		}()
	}
	wg.Wait()
}

func TestReadCommittedIsBounded(t *testing.T) { allWays(t, testReadCommittedIsBounded) }

func testReadCommittedIsBounded(t *testing.T, r *rig) {
	r.topic("t", 1)
	r.mustProduce("t", 2)
	req := consumer(FetchPartition{Topic: "t"})
	req.Isolation = log.ReadCommitted
	res := r.fetch(req)[0]
	if res.LastStableOffset != 2 || len(offsets(t, &res)) != 1 {
		t.Errorf("%+v", res)
	}
}

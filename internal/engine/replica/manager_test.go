package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

func TestAppendCodes(t *testing.T) { allWays(t, testAppendCodes) }

func testAppendCodes(t *testing.T, r *rig) {
	r.topic("t", 2)
	r.topic("__consumer_offsets", 1)
	r.topic("elsewhere", 1)
	r.lead("elsewhere", 2)
	r.replay(&logrec.TopicRecord{Name: "far", TopicID: id.UUID{5}}, &logrec.PartitionRecord{TopicID: id.UUID{5}, Replicas: []int32{2}, Isr: []int32{2}, Leader: 2})
	corrupt := plain(t, 1)
	corrupt[len(corrupt)-1] ^= 1
	tests := []struct {
		name string
		acks int16
		part AppendPartition
		want wire.ErrorCode
	}{
		{"good", -1, AppendPartition{Topic: "t", Batches: plain(t, 1)}, wire.ErrNone},
		{"acks 1", 1, AppendPartition{Topic: "t", Batches: plain(t, 1)}, wire.ErrNone},
		{"acks 0", 0, AppendPartition{Topic: "t", Batches: plain(t, 1)}, wire.ErrNone},
		{"acks 2", 2, AppendPartition{Topic: "t", Batches: plain(t, 1)}, wire.ErrInvalidRequiredAcks},
		{"acks -2", -2, AppendPartition{Topic: "t", Batches: plain(t, 1)}, wire.ErrInvalidRequiredAcks},
		{"right id", 1, AppendPartition{Topic: "t", TopicID: r.ids["t"], Batches: plain(t, 1)}, wire.ErrNone},
		{"wrong id", 1, AppendPartition{Topic: "t", TopicID: id.UUID{3}, Batches: plain(t, 1)}, wire.ErrUnknownTopicID},
		{"no such topic", 1, AppendPartition{Topic: "u", Batches: plain(t, 1)}, wire.ErrUnknownTopicOrPartition},
		{"no such partition", 1, AppendPartition{Topic: "t", Partition: 2, Batches: plain(t, 1)}, wire.ErrUnknownTopicOrPartition},
		{"negative partition", 1, AppendPartition{Topic: "t", Partition: -1, Batches: plain(t, 1)}, wire.ErrUnknownTopicOrPartition},
		{"internal topic", 1, AppendPartition{Topic: "__consumer_offsets", Batches: plain(t, 1)}, wire.ErrInvalidTopicException},
		{"led elsewhere", 1, AppendPartition{Topic: "elsewhere", Batches: plain(t, 1)}, wire.ErrNotLeaderOrFollower},
		{"hosted elsewhere", 1, AppendPartition{Topic: "far", Batches: plain(t, 1)}, wire.ErrNotLeaderOrFollower},
		{"corrupt", 1, AppendPartition{Topic: "t", Batches: corrupt}, wire.ErrCorruptMessage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := r.produce(tt.acks, time.Second, tt.part).one(t)
			wantCode(t, res.Err, tt.want)
			if (res.Err == nil) != (res.BaseOffset >= 0) {
				t.Errorf("base offset %d with error %v", res.BaseOffset, res.Err)
			}
		})
	}
	r.Append(&AppendRequest{Acks: 1, InternalAllowed: true, Partitions: []AppendPartition{{Topic: "__consumer_offsets", Batches: plain(t, 1)}}}, nil,
		func(res []AppendResult) { wantCode(t, res[0].Err, wire.ErrNone) })
}

func TestAppendOffsetsAndMetrics(t *testing.T) { freeAndHeld(t, testAppendOffsetsAndMetrics) }

func testAppendOffsetsAndMetrics(t *testing.T, r *rig) {
	r.topic("t", 2)
	a := r.produce(-1, time.Second, AppendPartition{Topic: "t", Partition: 1, Batches: plain(t, 3)}, AppendPartition{Topic: "nope", Batches: plain(t, 1)},
		AppendPartition{Topic: "t", Partition: 0, Batches: plain(t, 2)}, AppendPartition{Topic: "t", Partition: 1, Batches: plain(t, 1)})
	res, ok := a.get()
	if !ok {
		t.Fatal("a produce to lone replicas must be answered at once")
	}
	var got []string
	for _, x := range res {
		got = append(got, fmt.Sprintf("%d %s", x.BaseOffset, ErrorCode(x.Err).Name()))
	}
	if diff := cmp.Diff([]string{"0 NONE", "-1 UNKNOWN_TOPIC_OR_PARTITION", "0 NONE", "3 NONE"}, got); diff != "" {
		t.Error(diff)
	}
	m := &r.Metrics().All
	if n := m.MessagesIn.Load(); n != 6 {
		t.Errorf("messages in: %d", n)
	}
	if n := m.TotalProduceRequests.Load(); n != 4 {
		t.Errorf("produce requests: %d", n)
	}
	g := r.Gauges()
	if g.Partitions != 2 || g.Leaders != 2 || g.UnderReplicated != 0 || g.AtMinISR != 2 {
		t.Errorf("gauges: %+v", g)
	}
}

// TestDuplicates sends a batch again: it gets the original offset and is not appended, also while the first is not committed yet.
func TestDuplicates(t *testing.T) {
	for _, held := range []bool{false, true} {
		t.Run(fmt.Sprintf("held=%t", held), func(t *testing.T) {
			r := newRig(t)
			r.topic("t", 1)
			r.mustProduce("t", 5)
			o := record.NewOptions()
			o.ProducerID, o.ProducerEpoch, o.BaseSequence = 7, 0, 0
			b := batch(t, 3, 10, o)
			if held {
				r.Hold()
			}
			first := r.produce(-1, longTime, AppendPartition{Topic: "t", Batches: slices.Clone(b)})
			again := r.produce(-1, longTime, AppendPartition{Topic: "t", Batches: slices.Clone(b)})
			if _, done := again.get(); done == held {
				t.Fatalf("answered: %t", done)
			}
			r.Release()
			for _, a := range []*answer{first, again} {
				if res := a.one(t); res.Err != nil || res.BaseOffset != 5 {
					t.Errorf("got %+v", res)
				}
			}
			if end := r.partition("t", 0).log().EndOffset(); end != 8 {
				t.Errorf("log end %d", end)
			}
			o.BaseSequence = 9
			res := r.produce(-1, time.Second, AppendPartition{Topic: "t", Batches: batch(t, 1, 10, o)}).one(t)
			wantCode(t, res.Err, wire.ErrOutOfOrderSequenceNumber)
		})
	}
}

// TestThreeWays runs random produces in three ways: as they come, held and then released, held and then deposed. Nothing may be
// told or shown before it is committed, everything must be answered exactly once, and after a deposition with failure.
func TestThreeWays(t *testing.T) {
	seed := seed.Of(t)
	for _, way := range []string{"free", "released", "deposed", "deleted"} {
		t.Run(way, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			r := newRig(t)
			r.topic("t", 4)
			if way != "free" {
				r.Hold()
			}
			var all, weak []*answer
			for range 60 {
				var parts []AppendPartition
				for range 1 + rnd.IntN(3) {
					parts = append(parts, AppendPartition{Topic: "t", Partition: int32(rnd.IntN(4)), Batches: plain(t, 1+rnd.IntN(3))})
				}
				if rnd.IntN(3) == 0 {
					weak = append(weak, r.produce(1, longTime, parts...))
				} else {
					all = append(all, r.produce(-1, longTime, parts...))
				}
			}
			for _, a := range weak {
				if _, done := a.get(); !done {
					t.Error("acks=1 must not wait for the watermark")
				}
			}
			for n := range 4 {
				res := r.fetch(consumer(FetchPartition{Topic: "t", Partition: int32(n)}))
				if got := len(offsets(t, &res[0])); (got > 0) != (way == "free") {
					t.Errorf("consumer sees %d batches", got)
				}
				last, err := r.ListOffset(OffsetQuery{TopicPartition: id.TopicPartition{Topic: "t", Partition: int32(n)}, Timestamp: log.LatestTimestamp,
					CurrentLeaderEpoch: -1, Isolation: log.ReadHighWatermark})
				if err != nil || (last.Offset > 0) != (way == "free") {
					t.Errorf("latest offset %+v %v", last, err)
				}
			}
			want := wire.ErrNone
			switch way {
			case "released":
				r.Release()
			case "deposed":
				r.lead("t", 2)
				r.Release()
				want = wire.ErrNotLeaderOrFollower
			case "deleted":
				r.deleteTopic("t")
				r.Release()
				want = wire.ErrUnknownTopicOrPartition
			}
			for i, a := range all {
				res, done := a.get()
				if !done || a.calls != 1 {
					t.Fatalf("produce %d: answered %d times", i, a.calls)
				}
				for _, x := range res {
					wantCode(t, x.Err, want)
				}
			}
			g := r.Gauges()
			if g.WaitingProduces != 0 || g.WaitingFetches != 0 {
				t.Errorf("somebody still waits: %+v", g)
			}
		})
	}
}

// TestDeposedAndBack loses the leadership and wins it again while a produce waits: the offsets may name other records by now.
func TestDeposedAndBack(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	r.Hold()
	a := r.produce(-1, longTime, AppendPartition{Topic: "t", Batches: plain(t, 1)})
	r.lead("t", 2)
	r.lead("t", int32(self))
	r.Release()
	wantCode(t, a.one(t).Err, wire.ErrNotLeaderOrFollower)
	// An epoch that rises under unbroken leadership cuts nothing off.
	r.Hold()
	a = r.produce(-1, longTime, AppendPartition{Topic: "t", Batches: plain(t, 1)})
	r.lead("t", int32(self))
	if _, done := a.get(); done {
		t.Fatal("answered too early")
	}
	r.Release()
	wantCode(t, a.one(t).Err, wire.ErrNone)
}

func TestMinISR(t *testing.T) { allWays(t, testMinISR) }

func testMinISR(t *testing.T, r *rig) {
	r.configs["t"] = TopicConfig{Log: log.DefaultConfig(), MinInSyncReplicas: 2}
	r.topic("t", 1, 1, 2, 3)
	before := r.produce(-1, longTime, AppendPartition{Topic: "t", Batches: plain(t, 1)})
	if _, done := before.get(); done {
		t.Fatal("answered before the followers have it")
	}
	r.isr("t", 1)
	wantCode(t, r.produce(-1, longTime, AppendPartition{Topic: "t", Batches: plain(t, 1)}).one(t).Err, wire.ErrNotEnoughReplicas)
	wantCode(t, r.produce(1, longTime, AppendPartition{Topic: "t", Batches: plain(t, 1)}).one(t).Err, wire.ErrNone)
	if hw := r.partition("t", 0).log().HighWatermark(); hw != 0 {
		t.Errorf("high watermark %d rose under min.insync.replicas", hw)
	}
	r.configure("t", func(c *TopicConfig) { c.MinInSyncReplicas = 1 })
	if _, done := before.get(); done {
		t.Fatal("replicas 2 and 3 were in sync a moment ago: they are waited for while their brokers live")
	}
	for b := range int32(2) {
		c := logrec.NewBrokerRegistrationChangeRecord()
		c.BrokerID, c.BrokerEpoch, c.Fenced = b+2, 100, 1
		r.replay(c)
	}
	wantCode(t, before.one(t).Err, wire.ErrNone)
}

// TestFollowers lets two followers fetch: the watermark follows the slower one, and a produce is answered when it has passed.
func TestFollowers(t *testing.T) { freeAndHeld(t, testFollowers) }

func testFollowers(t *testing.T, r *rig) {
	r.topic("t", 1, 1, 2, 3)
	a := r.produce(-1, longTime, AppendPartition{Topic: "t", Batches: plain(t, 4)})
	follower := func(b id.BrokerID, at id.Offset) FetchResult {
		req := consumer(FetchPartition{Topic: "t", Offset: at})
		req.ReplicaID, req.ReplicaEpoch, req.Isolation, req.AllowFollower = b, 100, log.ReadLogEnd, false
		req.Partitions[0].CurrentLeaderEpoch = 0
		return r.fetch(req)[0]
	}
	if got := follower(2, 0); len(offsets(t, &got)) != 1 {
		t.Errorf("follower sees %+v", got)
	}
	follower(2, 4)
	if _, done := a.get(); done {
		t.Error("answered although replica 3 has nothing")
	}
	follower(3, 4)
	wantCode(t, a.one(t).Err, wire.ErrNone)
	stranger := follower(9, 0)
	wantCode(t, stranger.Err, wire.ErrUnknownLeaderEpoch)
	// Replica 3 falls out; the rest goes on.
	a = r.produce(-1, longTime, AppendPartition{Topic: "t", Batches: plain(t, 1)})
	follower(2, 5)
	r.isr("t", 1, 2)
	if _, done := a.get(); done {
		t.Log("replica 3 was caught up a moment ago and should be waited for")
		t.Fail()
	}
	follower(3, 5)
	wantCode(t, a.one(t).Err, wire.ErrNone)
}

// TestStrictFlush asks for an fsync before each acknowledgement, acks=1 included.
func TestStrictFlush(t *testing.T) { freeAndHeld(t, testStrictFlush) }

func testStrictFlush(t *testing.T, r *rig) {
	r.configs["t"] = TopicConfig{Log: log.DefaultConfig(), MinInSyncReplicas: 1}
	c := r.configs["t"]
	c.Log.FlushMessages = 1
	r.configs["t"] = c
	r.topic("t", 3)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 20 {
				n := int32((g + i) % 3)
				a := r.produce(int16(1-2*(i%2)), longTime, AppendPartition{Topic: "t", Partition: n, Batches: plain(t, 1)})
				res := a.one(t)
				if res.Err != nil {
					t.Error(res.Err)
					return
				}
				if l := r.partition("t", n).log(); l.DurableEnd() <= res.BaseOffset {
					t.Errorf("offset %d acknowledged with durable end %d", res.BaseOffset, l.DurableEnd())
				}
			}
		}()
	}
	wg.Wait()
	for n := range int32(3) {
		if l := r.partition("t", n).log(); l.HighWatermark() != l.EndOffset() {
			t.Errorf("high watermark %d, end %d", l.HighWatermark(), l.EndOffset())
		}
	}
}

func TestProduceTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.topic("t", 2)
		r.Hold()
		start := time.Now()
		a := r.produce(-1, 30*time.Second, AppendPartition{Topic: "t", Batches: plain(t, 1)}, AppendPartition{Topic: "nope"},
			AppendPartition{Topic: "t", Partition: 1, Batches: plain(t, 1)})
		longer := r.produce(-1, 31*time.Second, AppendPartition{Topic: "t", Batches: plain(t, 1)})
		<-a.done
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("answered after %v", d)
		}
		res, _ := a.get()
		wantCode(t, res[0].Err, wire.ErrRequestTimedOut)
		wantCode(t, res[1].Err, wire.ErrUnknownTopicOrPartition)
		wantCode(t, res[2].Err, wire.ErrRequestTimedOut)
		if res[0].BaseOffset != 0 {
			t.Errorf("base offset %d: the records are in the log", res[0].BaseOffset)
		}
		r.Release()
		wantCode(t, longer.one(t).Err, wire.ErrNone)
		if n := r.Metrics().ProduceExpired.Load(); n != 2 {
			t.Errorf("expired: %d", n)
		}
		wantCode(t, r.produce(-1, -time.Second, AppendPartition{Topic: "t", Batches: plain(t, 1)}).one(t).Err, wire.ErrNone)
		r.Hold()
		wantCode(t, r.produce(-1, 0, AppendPartition{Topic: "t", Batches: plain(t, 1)}).one(t).Err, wire.ErrRequestTimedOut)
	})
}

func TestCloseEndsWaitingProduces(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	r.Hold()
	a := r.produce(-1, longTime, AppendPartition{Topic: "t", Batches: plain(t, 1)})
	r.Close()
	wantCode(t, a.one(t).Err, wire.ErrRequestTimedOut)
	wantCode(t, r.produce(1, 0, AppendPartition{Topic: "t", Batches: plain(t, 1)}).one(t).Err, wire.ErrNotLeaderOrFollower)
}

func TestTopicsComeAndGo(t *testing.T) { allWays(t, testTopicsComeAndGo) }

func testTopicsComeAndGo(t *testing.T, r *rig) {
	first := r.topic("t", 1)
	r.mustProduce("t", 3)
	r.deleteTopic("t")
	if _, err := r.Partition("t", 0); ErrorCode(err) != wire.ErrUnknownTopicOrPartition {
		t.Errorf("deleted topic: %v", err)
	}
	second := r.topic("t", 2)
	if first == second {
		t.Fatal("same id")
	}
	if got := r.mustProduce("t", 1); got != 0 {
		t.Errorf("base offset %d in the new topic", got)
	}
	if name, ok := r.TopicName(second); !ok || name != "t" {
		t.Errorf("name %q", name)
	}
	if _, ok := r.TopicName(first); ok {
		t.Error("the old id still has a name")
	}
	// One more partition, and one that moves away.
	r.replay(&logrec.PartitionRecord{PartitionID: 2, TopicID: second, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1})
	if !r.Exists("t", 2) || r.Exists("t", 3) {
		t.Error("partitions 0 to 2 exist")
	}
	c := logrec.NewPartitionChangeRecord()
	c.PartitionID, c.TopicID, c.Replicas, c.Isr, c.Leader = 1, second, []int32{2}, []int32{2}, 2
	r.replay(c)
	if _, err := r.Partition("t", 1); ErrorCode(err) != wire.ErrNotLeaderOrFollower {
		t.Errorf("moved partition: %v", err)
	}
	if _, ok := r.logs.Get(id.TopicPartition{Topic: "t", Partition: 1}); ok {
		t.Error("the moved partition's log is still there")
	}
}

// recorder notes what watchers are told.
type recorder struct {
	mu     sync.Mutex
	events []string
}

func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, fmt.Sprintf(format, args...))
}
func (r *recorder) Elected(tp id.TopicPartition, e id.LeaderEpoch)  { r.note("elected %s %d", tp, e) }
func (r *recorder) Resigned(tp id.TopicPartition, e id.LeaderEpoch) { r.note("resigned %s %d", tp, e) }
func (r *recorder) HighWatermarkAdvanced(tp id.TopicPartition, hw id.Offset) {
	r.note("watermark %s %d", tp, hw)
}
func (r *recorder) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := strings.Join(r.events, "; ")
	r.events = nil
	return s
}

func TestCoordinatorsFace(t *testing.T) {
	const topic = "__consumer_offsets"
	tp := id.TopicPartition{Topic: topic}
	r := newRig(t)
	w := &recorder{}
	r.WatchLeadership(topic, w)
	r.topic(topic, 2)
	if got := w.take(); got != "elected __consumer_offsets-0 0; elected __consumer_offsets-1 0" {
		t.Error(got)
	}
	late := &recorder{}
	r.WatchLeadership(topic, late)
	if got := late.take(); got != "elected __consumer_offsets-0 0; elected __consumer_offsets-1 0" {
		t.Error(got)
	}
	r.WatchLeadership(topic, w)
	w.take()
	r.partition(topic, 0).WatchHighWatermark(w)
	r.Hold()
	res, err := r.AppendInternal(tp, 0, plain(t, 2))
	if err != nil || res.NextOffset != 2 {
		t.Fatalf("%+v %v", res, err)
	}
	if got := w.take(); got != "" {
		t.Error(got)
	}
	r.Release()
	if got := w.take(); got != "watermark __consumer_offsets-0 2" {
		t.Error(got)
	}
	_, err = r.AppendInternal(tp, 1, plain(t, 1))
	wantCode(t, err, wire.ErrUnknownLeaderEpoch)
	ends, err := r.Ends(tp, 0)
	if err != nil || ends != (InternalEnds{0, 2, 2}) {
		t.Errorf("%+v %v", ends, err)
	}
	r.AppendInternal(tp, 0, plain(t, 5))
	var next id.Offset
	var buf []byte
	for {
		if buf, err = r.ReadInternal(tp, 0, next, 80, buf); err != nil {
			t.Fatal(err)
		}
		if len(buf) == 0 {
			break
		}
		b, _, err := record.Next(buf)
		if err != nil {
			t.Fatal(err)
		}
		next = b.NextOffset()
	}
	if next != 7 {
		t.Errorf("read up to %d", next)
	}
	w.take()
	r.lead(topic, 2)
	if got := w.take(); got != "resigned __consumer_offsets-0 1; resigned __consumer_offsets-1 1" {
		t.Error(got)
	}
	_, err = r.AppendInternal(tp, 0, plain(t, 1))
	wantCode(t, err, wire.ErrFencedLeaderEpoch)
	r.lead(topic, 1)
	w.take()
	r.deleteTopic(topic)
	if got := w.take(); got != "resigned __consumer_offsets-0 -1; resigned __consumer_offsets-1 -1" {
		t.Error(got)
	}
}

func TestOffsets(t *testing.T) { freeAndHeld(t, testOffsets) }

func testOffsets(t *testing.T, r *rig) {
	r.topic("t", 1)
	tp := id.TopicPartition{Topic: "t"}
	o := record.NewOptions()
	for i, ts := range []int64{1000, 3000, 2000} {
		b := record.NewBuilder(o)
		b.Append(ts, nil, []byte{byte(i)})
		out, _ := b.Build()
		if res := r.produce(-1, time.Second, AppendPartition{Topic: "t", Batches: slices.Clone(out)}).one(t); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	r.Hold()
	b := record.NewBuilder(o)
	b.Append(9000, nil, nil)
	out, _ := b.Build()
	r.produce(1, time.Second, AppendPartition{Topic: "t", Batches: slices.Clone(out)})
	ask := func(ts int64, iso log.Isolation, epoch id.LeaderEpoch) string {
		got, err := r.ListOffset(OffsetQuery{TopicPartition: tp, Timestamp: ts, Isolation: iso, CurrentLeaderEpoch: epoch})
		if err != nil {
			return ErrorCode(err).Name()
		}
		if !got.Found {
			return "none"
		}
		return fmt.Sprintf("%d@%d", got.Offset, got.Timestamp)
	}
	tests := []struct {
		ts    int64
		iso   log.Isolation
		epoch id.LeaderEpoch
		want  string
	}{
		{log.LatestTimestamp, log.ReadHighWatermark, -1, "3@-1"},
		{log.LatestTimestamp, log.ReadCommitted, -1, "3@-1"},
		{log.LatestTimestamp, log.ReadLogEnd, -1, "4@-1"},
		{log.EarliestTimestamp, log.ReadHighWatermark, 0, "0@-1"},
		{log.EarliestLocalTimestamp, log.ReadHighWatermark, 0, "0@-1"},
		{1500, log.ReadHighWatermark, -1, "1@3000"},
		{3000, log.ReadHighWatermark, -1, "1@3000"},
		{4000, log.ReadHighWatermark, -1, "none"},
		{4000, log.ReadLogEnd, -1, "3@9000"},
		{99999, log.ReadLogEnd, -1, "none"},
		{log.LatestTimestamp, log.ReadHighWatermark, 1, "UNKNOWN_LEADER_EPOCH"},
	}
	for _, tt := range tests {
		if got := ask(tt.ts, tt.iso, tt.epoch); got != tt.want {
			t.Errorf("timestamp %d isolation %d epoch %d: %s, want %s", tt.ts, tt.iso, tt.epoch, got, tt.want)
		}
	}
	// A new epoch starts above the held watermark: the latest offset would seem to go back.
	r.lead("t", 1)
	if got := ask(log.LatestTimestamp, log.ReadHighWatermark, 1); got != "OFFSET_NOT_AVAILABLE" {
		t.Error(got)
	}
	if got := ask(9000, log.ReadHighWatermark, 1); got != "OFFSET_NOT_AVAILABLE" {
		t.Error(got)
	}
	if got := ask(log.EarliestTimestamp, log.ReadHighWatermark, 0); got != "FENCED_LEADER_EPOCH" {
		t.Error(got)
	}
	r.Release()
	if got := ask(log.LatestTimestamp, log.ReadHighWatermark, 1); got != "4@-1" {
		t.Error(got)
	}
	r.mustProduce("t", 1)
	for epoch, want := range map[id.LeaderEpoch]log.EpochEndOffset{0: {Epoch: 0, EndOffset: 4}, 1: {Epoch: 1, EndOffset: 5}, 7: {Epoch: -1, EndOffset: -1}} {
		if got, err := r.OffsetForLeaderEpoch(tp, 1, epoch); err != nil || got != want {
			t.Errorf("epoch %d: %+v %v, want %+v", epoch, got, err, want)
		}
	}
	_, err := r.OffsetForLeaderEpoch(tp, 9, 0)
	wantCode(t, err, wire.ErrUnknownLeaderEpoch)
	_, err = r.OffsetForLeaderEpoch(id.TopicPartition{Topic: "u"}, -1, 0)
	wantCode(t, err, wire.ErrUnknownTopicOrPartition)
}

func TestDeleteRecords(t *testing.T) { allWays(t, testDeleteRecords) }

func testDeleteRecords(t *testing.T, r *rig) {
	r.topic("t", 1)
	r.topic("compacted", 1)
	r.configure("compacted", func(c *TopicConfig) { c.Log.CleanupCompact, c.Log.CleanupDelete = true, false })
	r.topic("__consumer_offsets", 1)
	r.topic("two", 1, 1, 2)
	r.mustProduce("t", 5)
	r.mustProduce("t", 5)
	del := func(topic string, at id.Offset) DeleteRecordsResult {
		return r.DeleteRecords(context.Background(), []DeleteTarget{{id.TopicPartition{Topic: topic}, at}}, 20*time.Millisecond)[0]
	}
	for _, tt := range []struct {
		topic string
		at    id.Offset
		low   id.Offset
		code  wire.ErrorCode
	}{
		{"t", 3, 3, wire.ErrNone},
		{"t", 2, 3, wire.ErrNone},
		{"t", 11, -1, wire.ErrOffsetOutOfRange},
		{"t", -2, -1, wire.ErrOffsetOutOfRange},
		{"t", HighWatermarkOffset, 10, wire.ErrNone},
		{"u", 0, -1, wire.ErrUnknownTopicOrPartition},
		{"compacted", 0, -1, wire.ErrPolicyViolation},
		{"__consumer_offsets", 0, -1, wire.ErrInvalidTopicException},
	} {
		got := del(tt.topic, tt.at)
		wantCode(t, got.Err, tt.code)
		if got.LowWatermark != tt.low {
			t.Errorf("%s at %d: low watermark %d, want %d", tt.topic, tt.at, got.LowWatermark, tt.low)
		}
	}
	// With a follower it waits until the follower's log starts there too.
	a := r.produce(-1, longTime, AppendPartition{Topic: "two", Batches: plain(t, 4)})
	fetch := func(at, start id.Offset) {
		req := consumer(FetchPartition{Topic: "two", Offset: at, LogStartOffset: start})
		req.ReplicaID, req.ReplicaEpoch, req.Isolation = 2, 100, log.ReadLogEnd
		r.fetch(req)
	}
	fetch(4, 0)
	wantCode(t, a.one(t).Err, wire.ErrNone)
	wantCode(t, del("two", 2).Err, wire.ErrRequestTimedOut)
	done := make(chan DeleteRecordsResult)
	go func() {
		done <- r.DeleteRecords(context.Background(), []DeleteTarget{{id.TopicPartition{Topic: "two"}, 2}}, longTime)[0]
	}()
	fetch(4, 2)
	if got := <-done; got.Err != nil || got.LowWatermark != 2 {
		t.Errorf("%+v", got)
	}
	go func() {
		done <- r.DeleteRecords(context.Background(), []DeleteTarget{{id.TopicPartition{Topic: "two"}, 4}}, longTime)[0]
	}()
	r.lead("two", 2)
	wantCode(t, (<-done).Err, wire.ErrNotLeaderOrFollower)
}

func TestErrorsCarryCodes(t *testing.T) {
	err := fmt.Errorf("x: %w", wire.ErrNotEnoughReplicas)
	if ErrorCode(err) != wire.ErrNotEnoughReplicas || ErrorCode(errors.New("y")) != wire.ErrUnknownServerError || ErrorCode(nil) != wire.ErrNone {
		t.Error("codes get lost")
	}
}

// TestCounters watches every counter move.
func TestCounters(t *testing.T) { inWays(t, testCounters, wayFree) }

func testCounters(t *testing.T, r *rig) {
	r.topic("t", 1)
	r.configure("t", func(c *TopicConfig) { c.Log.MaxMessageBytes = 200 })
	b := plain(t, 2)
	r.produce(-1, 0, AppendPartition{Topic: "t", Batches: b}).one(t)
	wantCode(t, r.produce(1, 0, AppendPartition{Topic: "t", Batches: batch(t, 1, 500, record.NewOptions())}).one(t).Err, wire.ErrMessageTooLarge)
	o := record.NewOptions()
	o.ProducerID, o.ProducerEpoch, o.BaseSequence = 1, 0, 0
	r.produce(1, 0, AppendPartition{Topic: "t", Batches: batch(t, 1, 1, o)}).one(t)
	o.BaseSequence = 7
	wantCode(t, r.produce(1, 0, AppendPartition{Topic: "t", Batches: batch(t, 1, 1, o)}).one(t).Err, wire.ErrOutOfOrderSequenceNumber)
	res := r.fetch(consumer(FetchPartition{Topic: "t"}, FetchPartition{Topic: "t", MaxBytes: -1}))
	r.FetchSent("t", false, res[0].Size())
	r.FetchSent("t", true, 5)
	for name, m := range map[string]*TopicMetrics{"all": &r.Metrics().All, "topic": &r.topics.named("t").metrics} {
		for _, c := range []struct {
			name      string
			got, want int64
		}{
			{"messages in", m.MessagesIn.Load(), 3},
			{"bytes out", m.BytesOut.Load(), int64(res[0].Size())},
			{"bytes in", m.BytesIn.Load(), int64(res[0].Size())},
			{"bytes rejected", m.BytesRejected.Load(), int64(len(batch(t, 1, 500, record.NewOptions())))},
			{"replication bytes out", m.ReplicationBytesOut.Load(), 5},
			{"produce requests", m.TotalProduceRequests.Load(), 4},
			{"failed produce requests", m.FailedProduceRequests.Load(), 1},
			{"fetch requests", m.TotalFetchRequests.Load(), 2},
			{"failed fetch requests", m.FailedFetchRequests.Load(), 0},
		} {
			if c.got != c.want {
				t.Errorf("%s of %s: %d, want %d", c.name, name, c.got, c.want)
			}
		}
	}
	if g := r.Gauges(); g.ProducerIDs != 1 {
		t.Errorf("%+v", g)
	}
}

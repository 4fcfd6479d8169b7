package group

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// benchGroup is a stable consumer group of that many members, who share 1,000 partitions.
func benchGroup(tb testing.TB, members int) (w *world, beat func(i int) shard.Result) {
	cfg := DefaultConfig()
	cfg.Consumer.AssignmentInterval = 0
	w = &world{t: tb, cfg: cfg, now: time.UnixMilli(1_700_000_000_000), tickets: map[shard.Ticket]string{}, alias: map[string]string{}, names: map[string]string{}}
	w.s = New(cfg, rand.New(rand.NewPCG(1, 7)))
	s := &simConsumers{world: w, rnd: rand.New(rand.NewPCG(1, 1)), sizes: map[string]int{}}
	for s.sizes["t"] < 1000 {
		s.grow("t")
	}
	epochs := make([]int32, members)
	at := id.Offset(0)
	beat = func(i int) shard.Result {
		req := api.NewConsumerGroupHeartbeatRequest()
		req.GroupID, req.MemberID, req.MemberEpoch = "g", fmt.Sprintf("member-%d", i), epochs[i]
		if req.MemberEpoch == 0 {
			req.RebalanceTimeoutMs, req.SubscribedTopicNames = 30_000, []string{"t"}
		}
		req.TopicPartitions = []heartbeatPartitions{}
		res := w.s.ConsumerGroupHeartbeat(Turn{Now: w.now, Ticket: 1, Version: 1, Client: Client{ID: "c", Host: "/h"}, Image: w.image}, req)
		for _, r := range res.Records {
			w.s.Apply(at, r)
			at++
		}
		w.s.Committed(at)
		epochs[i] = res.Reply.(*api.ConsumerGroupHeartbeatResponse).MemberEpoch
		return res
	}
	return w, beat
}

// BenchmarkConsumerJoins lets 100 members into an empty group, one after the other, and settles them.
func BenchmarkConsumerJoins(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, beat := benchGroup(b, 100)
		for i := range 100 {
			beat(i)
		}
		for range 3 {
			for i := range 100 {
				beat(i)
			}
		}
	}
}

// BenchmarkConsumerHeartbeat is a heartbeat of a stable group of 1,000 members.
func BenchmarkConsumerHeartbeat(b *testing.B) {
	_, beat := benchGroup(b, 1000)
	for range 3 {
		for i := range 1000 {
			beat(i)
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if res := beat(i % 1000); len(res.Records) > 0 {
			b.Fatal("the group is not stable")
		}
	}
}

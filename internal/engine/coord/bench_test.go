package coord

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

func benchRuntime(b *testing.B) *Groups {
	r := start(b, newMemLog(b, 1), func(o *Options[*group.Shard]) {
		o.New = func(int32) *group.Shard {
			cfg := group.DefaultConfig()
			cfg.InitialRebalanceDelay = 0
			return group.New(cfg, rand.New(rand.NewPCG(1, 1)))
		}
	})
	r.Elected(0, 0)
	for fetch(r, 0, "g") != "-1" {
		<-time.After(time.Millisecond)
	}
	return r
}

// BenchmarkCommit is one offset committed, by callers in parallel.
func BenchmarkCommit(b *testing.B) {
	r := benchRuntime(b)
	var n atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		req := commitRequest(fmt.Sprintf("g%d", n.Add(1)), 0, 1)
		var done sync.WaitGroup
		for pb.Next() {
			done.Add(1)
			r.Do(0, func(any, wire.ErrorCode) { done.Done() }, func(s *group.Shard, now time.Time, t shard.Ticket) shard.Result {
				return s.OffsetCommit(group.Turn{Now: now, Ticket: t, Version: 9}, req)
			})
			done.Wait()
		}
	})
}

// BenchmarkHeartbeat is one heartbeat in a shard with ten thousand groups of one member.
func BenchmarkHeartbeat(b *testing.B) {
	r := benchRuntime(b)
	const groups = 10_000
	names, ids := make([]string, groups), make([]string, groups)
	var joined sync.WaitGroup
	for i := range groups {
		names[i] = fmt.Sprint(i)
		joined.Add(1)
		r.Do(0, func(body any, code wire.ErrorCode) {
			ids[i] = body.(*api.JoinGroupResponse).MemberID
			joined.Done()
		}, func(s *group.Shard, now time.Time, t shard.Ticket) shard.Result {
			return s.JoinGroup(group.Turn{Now: now, Ticket: t, Version: 3, Client: group.Client{ID: "c"}}, &api.JoinGroupRequest{
				GroupID: names[i], SessionTimeoutMs: 1_800_000, RebalanceTimeoutMs: 1_800_000, ProtocolType: "x", Protocols: []api.JoinGroupRequestProtocol{{Name: "p"}}})
		})
	}
	joined.Wait()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 1) % groups
		r.Do(0, func(body any, _ wire.ErrorCode) {
			if code := body.(*api.HeartbeatResponse).ErrorCode; code != wire.ErrNone {
				b.Fatal(code)
			}
		}, func(s *group.Shard, now time.Time, t shard.Ticket) shard.Result {
			return s.Heartbeat(group.Turn{Now: now, Ticket: t, Version: 4}, &api.HeartbeatRequest{GroupID: names[i], MemberID: ids[i], GenerationID: 1})
		})
	}
}

// BenchmarkLoad loads a partition with 200,000 commits of 200 groups, a tenth of them not overwritten, until it answers.
func BenchmarkLoad(b *testing.B) {
	const groups, partitions, rounds = 200, 100, 10
	l := newMemLog(b, 1)
	r := start(b, l, nil)
	r.Elected(0, 0)
	for fetch(r, 0, "g") != "-1" {
		<-time.After(time.Millisecond)
	}
	for round := range rounds {
		for g := range groups {
			req := &api.OffsetCommitRequest{GroupID: fmt.Sprint("load-", g), GenerationIDOrMemberEpoch: -1, RetentionTimeMs: -1,
				Topics: []api.OffsetCommitRequestTopic{{Name: "bench", TopicID: id.UUID{1}}}}
			for p := range partitions {
				req.Topics[0].Partitions = append(req.Topics[0].Partitions, api.OffsetCommitRequestTopicPartition{PartitionIndex: int32(p), CommittedOffset: int64(round), CommittedLeaderEpoch: -1})
			}
			done := make(chan struct{})
			r.Do(0, func(any, wire.ErrorCode) { close(done) }, func(s *group.Shard, now time.Time, t shard.Ticket) shard.Result {
				return s.OffsetCommit(group.Turn{Now: now, Ticket: t, Version: 9}, req)
			})
			<-done
		}
	}
	r.Close()
	b.ReportAllocs()
	for b.Loop() {
		again := start(b, l, nil)
		c := newCell(again, 0, 0)
		core := again.opts.New(0)
		if _, n, err := c.replay(core); err != nil || n != groups*partitions*rounds {
			b.Fatal(n, err)
		}
	}
}

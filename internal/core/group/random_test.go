package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TestRandomAgainstReplay does random things to a shard, with the high watermark held at times and batches lost at others, and
// holds it against its log: the working state is the replay of all of the log, what is visible is the replay of what is
// committed.
func TestRandomAgainstReplay(t *testing.T) {
	seed := seed.Of(t)
	for round := range uint64(20) {
		randomRun(t, seed+round, 400)
	}
}

func randomRun(t *testing.T, seed uint64, steps int) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	cfg := DefaultConfig()
	cfg.InitialRebalanceDelay = time.Duration(rnd.IntN(3)) * time.Second
	cfg.MaxSize = 3 + rnd.IntN(10)
	cfg.OffsetsRetention = time.Hour
	w := newWorld(t, cfg, seed)
	for i := range steps {
		randomStep(w, rnd, i)
		if d := cmp.Diff(durable(w.replay(len(w.log))), durable(w.s)); d != "" {
			t.Fatalf("seed %d step %d: working state is not the replay of the log (-replay +working)\n%s", seed, i, d)
		}
		if d := cmp.Diff(visible(w.replay(w.hw)), visible(w.s)); d != "" {
			t.Fatalf("seed %d step %d: reads do not see the committed log (-replay +visible)\n%s", seed, i, d)
		}
		check(t, w.s, seed, i)
	}
	// Everybody gets an answer in the end: sessions and rebalances run out.
	w.release()
	w.advance(2 * time.Hour)
	if len(w.tickets) != 0 {
		t.Fatalf("seed %d: tickets without an answer: %v", seed, w.tickets)
	}
	for _, name := range w.s.names() {
		if g := w.s.classic(name); g != nil && g.state != Empty {
			t.Fatalf("seed %d: group %s still %v after all sessions are over", seed, name, g.state)
		}
	}
}

// check holds the soft state of all groups against its own counts.
func check(t *testing.T, s *Shard, seed uint64, step int) {
	t.Helper()
	for _, name := range s.names() {
		g := s.classic(name)
		waiting, supported := 0, map[string]int{}
		for _, m := range g.list() {
			if m.awaitingJoin != shard.NoTicket {
				waiting++
			}
			for _, p := range m.protocols {
				supported[p.name]++
			}
			if g.byID[m.id] != m || m.instance != nil && g.static[*m.instance] != m.id {
				t.Fatalf("seed %d step %d: group %s: member %s is not indexed", seed, step, name, m.id)
			}
			if !s.timers.Has(timerKey{timerSession, name, m.id}) && !m.satisfiesHeartbeat() {
				t.Fatalf("seed %d step %d: group %s in %v: member %s has no session", seed, step, name, g.state, m.id)
			}
		}
		if waiting != g.awaitingJoin || len(g.byID) != len(g.list()) {
			t.Fatalf("seed %d step %d: group %s counts %d waiting of %d, has %d of %d", seed, step, name, g.awaitingJoin, len(g.byID), waiting, len(g.list()))
		}
		if d := cmp.Diff(supported, g.supported); d != "" {
			t.Fatalf("seed %d step %d: group %s supports (-want +got)\n%s", seed, step, name, d)
		}
		if (g.state == Empty) != (len(g.byID) == 0) && g.state != PreparingRebalance {
			t.Fatalf("seed %d step %d: group %s is %v with %d members", seed, step, name, g.state, len(g.byID))
		}
		if g.leader != "" && g.byID[g.leader] == nil || g.leader == "" && len(g.byID) > 0 {
			t.Fatalf("seed %d step %d: group %s is led by %q", seed, step, name, g.leader)
		}
	}
}

// pick returns a member id, mostly of the group, and its group instance id.
func pick(w *world, rnd *rand.Rand, name string) (string, *string) {
	g := w.s.classic(name)
	if g == nil || len(g.byID) == 0 || rnd.IntN(20) == 0 {
		if known := slices.Sorted(maps.Keys(w.alias)); len(known) > 0 {
			return known[rnd.IntN(len(known))], nil // pending, or gone
		}
		return "stranger", nil
	}
	m := g.list()[rnd.IntN(len(g.byID))]
	return m.id, m.instance
}

func randomStep(w *world, rnd *rand.Rand, i int) {
	name := fmt.Sprintf("g%d", rnd.IntN(2))
	who := fmt.Sprintf("t%d", i)
	g := w.s.classic(name)
	generation := int32(-1)
	if g != nil && rnd.IntN(10) > 0 {
		generation = g.generation
	}
	switch rnd.IntN(18) {
	case 0, 1, 2, 3:
		randomJoin(w, rnd, name, who)
	case 4, 5, 6, 7:
		req := api.NewSyncGroupRequest()
		req.GroupID, req.GenerationID = name, generation
		req.MemberID, req.GroupInstanceID = pick(w, rnd, name)
		if g != nil && rnd.IntN(2) == 0 && g.leader != "" {
			req.MemberID, req.GroupInstanceID = g.leader, nil
		}
		if g != nil {
			for _, m := range g.list() {
				req.Assignments = append(req.Assignments, api.SyncGroupRequestAssignment{MemberID: m.id, Assignment: []byte(who)})
			}
		}
		w.do(who, 5, func(t Turn) shard.Result { return w.s.SyncGroup(t, req) })
	case 8:
		req := api.NewHeartbeatRequest()
		req.GroupID, req.GenerationID = name, generation
		req.MemberID, req.GroupInstanceID = pick(w, rnd, name)
		w.do(who, 4, func(t Turn) shard.Result { return w.s.Heartbeat(t, req) })
	case 9:
		req := api.NewLeaveGroupRequest()
		req.GroupID = name
		member, instance := pick(w, rnd, name)
		req.Members = []api.LeaveGroupRequestMember{{MemberID: member, GroupInstanceID: instance}}
		w.do(who, 5, func(t Turn) shard.Result { return w.s.LeaveGroup(t, req) })
	case 10, 11:
		req := api.NewOffsetCommitRequest()
		req.GroupID, req.GenerationIDOrMemberEpoch, req.RetentionTimeMs = name, generation, -1
		if rnd.IntN(2) == 0 {
			req.MemberID, req.GroupInstanceID = pick(w, rnd, name)
		} else {
			req.GenerationIDOrMemberEpoch = -1
			req.GroupID = fmt.Sprintf("simple%d", rnd.IntN(2))
		}
		for range 1 + rnd.IntN(3) {
			req.Topics = append(req.Topics, api.OffsetCommitRequestTopic{Name: "t", Partitions: []api.OffsetCommitRequestTopicPartition{
				{PartitionIndex: int32(rnd.IntN(3)), CommittedOffset: int64(i), CommittedLeaderEpoch: -1}}})
		}
		w.do(who, 9, func(t Turn) shard.Result { return w.s.OffsetCommit(t, req) })
	case 12:
		req := api.NewOffsetDeleteRequest()
		req.GroupID = []string{name, "simple0", "simple1"}[rnd.IntN(3)]
		req.Topics = []api.OffsetDeleteRequestTopic{{Name: "t", Partitions: []api.OffsetDeleteRequestTopicPartition{{PartitionIndex: int32(rnd.IntN(3))}}}}
		w.do(who, 0, func(t Turn) shard.Result { return w.s.OffsetDelete(t, req) })
	case 13:
		names := []string{name, "simple0", "simple1"}
		w.do(who, 2, func(t Turn) shard.Result { return w.s.DeleteGroups(t, names[rnd.IntN(3):]) })
	case 14:
		w.advance(time.Duration(rnd.IntN(20)) * time.Second)
	case 15:
		if rnd.IntN(3) == 0 {
			w.advance(time.Duration(rnd.IntN(20)) * time.Minute)
		}
	case 16:
		if w.hold = !w.hold; !w.hold {
			w.release()
		}
	case 17:
		switch rnd.IntN(4) {
		case 0:
			w.restart()
		case 1:
			w.lose(wire.ErrNotEnoughReplicas)
		}
	}
	w.out = nil
	w.out = nil
}

func randomJoin(w *world, rnd *rand.Rand, name, who string) {
	req := api.NewJoinGroupRequest()
	req.GroupID, req.ProtocolType = name, "consumer"
	req.SessionTimeoutMs, req.RebalanceTimeoutMs = int32(6000+rnd.IntN(20_000)), int32(1000+rnd.IntN(60_000))
	all := []string{"range", "roundrobin", "sticky"}
	rnd.Shuffle(3, func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, p := range all[:1+rnd.IntN(3)] {
		req.Protocols = append(req.Protocols, api.JoinGroupRequestProtocol{Name: p, Metadata: consumerMetadata([]string{"t", "u"}[rnd.IntN(2)])})
	}
	switch rnd.IntN(4) {
	case 0:
		req.GroupInstanceID = new([]string{"i1", "i2", "i3"}[rnd.IntN(3)])
	case 1, 2:
		req.MemberID, req.GroupInstanceID = pick(w, rnd, name)
	}
	w.do(who, int16(rnd.IntN(10)), func(t Turn) shard.Result { return w.s.JoinGroup(t, req) })
}

// BenchmarkLaggingWatermark commits offsets with the high watermark a long way behind, and moves it record by record.
func BenchmarkLaggingWatermark(b *testing.B) {
	for _, lag := range []int{100, 100_000} {
		b.Run(fmt.Sprint(lag), func(b *testing.B) {
			s := New(DefaultConfig(), rand.New(rand.NewPCG(1, 1)))
			at := 0
			commit := func() {
				res := s.OffsetCommit(Turn{Ticket: 1, Version: 9}, &api.OffsetCommitRequest{GroupID: "g", GenerationIDOrMemberEpoch: -1, RetentionTimeMs: -1,
					Topics: []api.OffsetCommitRequestTopic{{Name: "t", Partitions: []api.OffsetCommitRequestTopicPartition{{CommittedOffset: int64(at)}}}}})
				s.Apply(id.Offset(at), res.Records[0])
				at++
			}
			for range lag {
				commit()
			}
			b.ReportAllocs()
			for b.Loop() {
				commit()
				s.Committed(id.Offset(at - lag))
			}
		})
	}
}

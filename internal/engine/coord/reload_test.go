package coord

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// ask makes a decision and returns its answer once it is there.
func ask[T any](t *testing.T, r *Groups, decide func(*group.Shard, group.Turn) shard.Result) T {
	t.Helper()
	got := make(chan any, 1)
	r.Do(0, func(body any, code wire.ErrorCode) {
		if code != wire.ErrNone {
			body = code
		}
		got <- body
	}, func(s *group.Shard, now time.Time, ticket shard.Ticket) shard.Result {
		return decide(s, group.Turn{Now: now, Ticket: ticket, Version: 3, Client: group.Client{ID: "c", Host: "/127.0.0.1"}})
	})
	body := <-got
	answer, ok := body.(T)
	if !ok {
		t.Fatalf("answered %v, want a %T", body, answer)
	}
	return answer
}

// states are the groups that can be seen.
func states(r *Groups) string {
	var all []string
	if code := r.Read(0, func(m *group.Shard) {
		for _, g := range m.ListGroups(nil, nil) {
			all = append(all, g.GroupID+" "+g.GroupState)
		}
	}); code != wire.ErrNone {
		return code.Name()
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// enter lets a member of the consumer protocol join.
func enter(s *group.Shard, turn group.Turn, memberID string) shard.Result {
	req := api.NewConsumerGroupHeartbeatRequest()
	req.GroupID, req.MemberID, req.RebalanceTimeoutMs, req.SubscribedTopicNames = "consumer", memberID, 60_000, []string{"t"}
	req.TopicPartitions = []api.ConsumerGroupHeartbeatRequestTopicPartition{}
	return s.ConsumerGroupHeartbeat(turn, req)
}

// TestSessionsAfterReloads: sessions are started anew when a partition is loaded, each time, and nobody has to ask for anything to make
// them end.
func TestSessionsAfterReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 1)
		r := start(t, l, nil)
		r.Elected(0, 0)
		synctest.Wait()
		joined := ask[*api.JoinGroupResponse](t, r, func(s *group.Shard, turn group.Turn) shard.Result {
			return s.JoinGroup(turn, &api.JoinGroupRequest{GroupID: "classic", SessionTimeoutMs: 10_000, RebalanceTimeoutMs: 60_000, ProtocolType: "x",
				Protocols: []api.JoinGroupRequestProtocol{{Name: "p"}}})
		})
		ask[*api.SyncGroupResponse](t, r, func(s *group.Shard, turn group.Turn) shard.Result {
			return s.SyncGroup(turn, &api.SyncGroupRequest{GroupID: "classic", MemberID: joined.MemberID, GenerationID: joined.GenerationID})
		})
		ask[*api.ConsumerGroupHeartbeatResponse](t, r, func(s *group.Shard, turn group.Turn) shard.Result {
			return enter(s, turn, "m")
		})
		look := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := states(r); got != want {
				t.Errorf("groups are %s, want %s", got, want)
			}
		}
		look("classic Stable, consumer Stable")
		for i := range 12 {
			pass(9 * time.Second)
			late := &call{}
			if i%2 == 0 { // a member whose records are never committed: nobody knows it after that
				l.set(0, func(p *memPartition) { p.hold = true })
				r.Do(0, late.reply, func(s *group.Shard, now time.Time, ticket shard.Ticket) shard.Result {
					return enter(s, group.Turn{Now: now, Ticket: ticket, Version: 1}, "late")
				})
			}
			r.Elected(0, l.depose(0))
			look("classic Stable, consumer Stable")
			if i%2 == 0 {
				expect(t, "who joined the old leader", late, "NOT_COORDINATOR")
			}
		}
		pass(9999 * time.Millisecond)
		look("classic Stable, consumer Stable")
		pass(2 * time.Millisecond)
		look("classic Empty, consumer Stable")
		pass(34_990 * time.Millisecond)
		look("classic Empty, consumer Stable")
		pass(20 * time.Millisecond)
		look("classic Empty, consumer Empty")
	})
}

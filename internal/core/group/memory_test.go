package group

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// driven is a shard whose records are committed at once, driven by requests whose texts and bytes are their own, as a connection's
// are.
type driven struct {
	tb   testing.TB
	w    *world
	at   id.Offset
	said map[shard.Ticket]any
	last shard.Ticket
}

func newDriven(tb testing.TB, cfg Config) *driven {
	w := &world{t: tb, cfg: cfg, now: time.UnixMilli(1_700_000_000_000), tickets: map[shard.Ticket]string{}, alias: map[string]string{}, names: map[string]string{}}
	w.s = New(cfg, rand.New(rand.NewPCG(1, 7)))
	s := &simConsumers{world: w, rnd: rand.New(rand.NewPCG(1, 1)), sizes: map[string]int{}}
	for s.sizes["t"] < 10 {
		s.grow("t")
	}
	return &driven{tb: tb, w: w, said: map[shard.Ticket]any{}}
}

// do makes a decision and returns its ticket; answers are in said.
func (d *driven) do(version int16, decide func(Turn) shard.Result) shard.Ticket {
	d.last++
	t := d.last
	d.carry(t, decide(Turn{Now: d.w.now, Ticket: t, Version: version, Client: Client{ID: strings.Clone("consumer-1"), Host: strings.Clone("/10.0.0.1")}, Image: d.w.image}))
	return t
}

func (d *driven) carry(t shard.Ticket, res shard.Result) {
	for _, a := range res.Answers {
		d.said[a.Ticket] = a.Body
	}
	for _, r := range res.Records {
		d.w.s.Apply(d.at, r)
		d.at++
	}
	d.w.s.Committed(d.at)
	if res.Then != nil {
		d.carry(shard.NoTicket, res.Then(d.w.now, wire.ErrNone))
	}
	if res.Reply != nil {
		d.said[t] = res.Reply
	}
}

// pass lets time go on.
func (d *driven) pass(by time.Duration) {
	d.w.now = d.w.now.Add(by)
	for {
		res, ok := d.w.s.Expire(d.w.now)
		if !ok {
			return
		}
		d.carry(shard.NoTicket, res)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemberMemory: what the members of idle groups take. 100,000 of them must fit into a process of 300 MB that lets its heap grow
// to three times of what lives in it.
func TestMemberMemory(t *testing.T) {
	const groups, members, most = 400, 10, 850
	for _, c := range []struct {
		name string
		make func(d *driven, group string)
	}{
		{"classic", func(d *driven, group string) { d.classic(group, members) }},
		{"consumer", func(d *driven, group string) { d.consumers(group, members) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.InitialRebalanceDelay, cfg.Consumer.SessionTimeout = 10*time.Millisecond, 24*time.Hour
			d := newDriven(t, cfg)
			c.make(d, "first")
			before := heap()
			for i := range groups {
				c.make(d, fmt.Sprint("group-", i))
			}
			d.said = map[shard.Ticket]any{}
			if n := len(d.w.s.groups); n != groups+1 {
				t.Fatalf("%d groups are left", n)
			}
			each := (heap() - before) / (groups * members)
			t.Logf("%d bytes a member", each)
			if each > most {
				t.Errorf("a member takes %d bytes, more than %d", each, most)
			}
			runtime.KeepAlive(d)
		})
	}
}

// classic makes a stable group.
func (d *driven) classic(group string, members int) {
	var joins []shard.Ticket
	for range members {
		req := api.NewJoinGroupRequest()
		req.GroupID, req.ProtocolType, req.SessionTimeoutMs, req.RebalanceTimeoutMs = strings.Clone(group), "consumer", 1_800_000, 60_000
		for _, name := range []string{"range", "cooperative-sticky"} {
			req.Protocols = append(req.Protocols, api.JoinGroupRequestProtocol{Name: strings.Clone(name), Metadata: consumerMetadata("t")})
		}
		joins = append(joins, d.do(3, func(t Turn) shard.Result { return d.w.s.JoinGroup(t, req) }))
	}
	for d.w.s.classic(group).state == PreparingRebalance {
		d.pass(10 * time.Millisecond)
	}
	for _, join := range joins {
		resp := d.said[join].(*api.JoinGroupResponse)
		req := api.NewSyncGroupRequest()
		req.GroupID, req.MemberID, req.GenerationID = group, resp.MemberID, resp.GenerationID
		for i, m := range resp.Members {
			req.Assignments = append(req.Assignments, api.SyncGroupRequestAssignment{MemberID: m.MemberID, Assignment: assignmentBytes([]string{fmt.Sprint("t-", i)})})
		}
		d.do(3, func(t Turn) shard.Result { return d.w.s.SyncGroup(t, req) })
	}
	if state := d.w.s.classic(group).state; state != Stable {
		d.tb.Fatalf("group %s is %v", group, state)
	}
}

// consumers makes a stable group.
func (d *driven) consumers(group string, members int) {
	epochs, has := make([]int32, members), make([][]heartbeatPartitions, members)
	beat := func(i int) {
		req := api.NewConsumerGroupHeartbeatRequest()
		req.GroupID, req.MemberID, req.MemberEpoch, req.TopicPartitions = strings.Clone(group), fmt.Sprintf("%s-member-%d", group, i), epochs[i], has[i]
		if req.MemberEpoch == 0 {
			req.RebalanceTimeoutMs, req.SubscribedTopicNames, req.TopicPartitions = 60_000, []string{strings.Clone("t")}, []heartbeatPartitions{}
		}
		ticket := d.do(1, func(t Turn) shard.Result { return d.w.s.ConsumerGroupHeartbeat(t, req) })
		resp := d.said[ticket].(*api.ConsumerGroupHeartbeatResponse)
		if resp.ErrorCode != wire.ErrNone {
			d.tb.Fatalf("heartbeat: %v", resp.ErrorCode)
		}
		if epochs[i] = resp.MemberEpoch; resp.Assignment != nil {
			has[i] = []heartbeatPartitions{}
			for _, p := range resp.Assignment.TopicPartitions {
				has[i] = append(has[i], heartbeatPartitions{TopicID: p.TopicID, Partitions: slices.Clone(p.Partitions)})
			}
		}
	}
	for range 5 {
		for i := range members {
			beat(i)
		}
		d.pass(time.Second)
	}
	if state := d.w.s.groups[group].consumer.state(); state != "Stable" {
		d.tb.Fatalf("group %s is %s", group, state)
	}
}

package group

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TestStaticIDs: somebody brings 100,000 static ids into one group. Each takes no more than a member, the record of all of them does
// not fit and is lost, another group goes on as if nothing were, and when nobody comes back nothing is left.
func TestStaticIDs(t *testing.T) {
	const ids = 100_000
	cfg := DefaultConfig()
	cfg.InitialRebalanceDelay = 10 * time.Millisecond
	d := newDriven(t, cfg)
	d.classic("other", 3)
	other := d.w.s.classic("other")
	before := heap()
	joins := make([]shard.Ticket, ids)
	for i := range ids {
		req := api.NewJoinGroupRequest()
		req.GroupID, req.GroupInstanceID, req.ProtocolType = "many", new(fmt.Sprint("instance-", i)), "consumer"
		req.SessionTimeoutMs, req.RebalanceTimeoutMs = 10_000, 60_000
		req.Protocols = []api.JoinGroupRequestProtocol{{Name: "range", Metadata: consumerMetadata("t")}}
		joins[i] = d.do(9, func(t Turn) shard.Result { return d.w.s.JoinGroup(t, req) })
	}
	if each := (heap() - before) / ids; each > 1200 {
		t.Errorf("a static id takes %d bytes", each)
	}
	g := d.w.s.classic("many")
	if len(g.byID) != ids || len(g.static) != ids {
		t.Fatalf("%d members, %d static", len(g.byID), len(g.static))
	}
	d.pass(20 * time.Millisecond)
	d.pass(20 * time.Millisecond)
	leader := d.said[joins[0]].(*api.JoinGroupResponse)
	if leader.ErrorCode != wire.ErrNone || len(leader.Members) != ids {
		t.Fatalf("join: %v with %d members", leader.ErrorCode, len(leader.Members))
	}
	sync := api.NewSyncGroupRequest()
	sync.GroupID, sync.MemberID, sync.GenerationID = "many", leader.MemberID, leader.GenerationID
	res := d.w.s.SyncGroup(Turn{Now: d.w.now, Ticket: 1 << 40, Version: 5}, sync)
	if len(res.Records) != 1 || len(res.Records[0].Value) < 1<<20 || res.Then == nil {
		t.Fatalf("the record of the group has %d bytes", len(res.Records[0].Value))
	}
	d.carry(shard.NoTicket, res.Then(d.w.now, wire.ErrMessageTooLarge)) // as the runtime does with such a record
	if answer, ok := d.said[1<<40].(*api.SyncGroupResponse); !ok || answer.ErrorCode != wire.ErrUnknownServerError {
		t.Fatalf("sync: %+v", d.said[1<<40])
	}
	clear(d.said)
	for _, m := range other.list() {
		req := &api.HeartbeatRequest{GroupID: "other", MemberID: m.id, GenerationID: other.generation}
		ticket := d.do(4, func(t Turn) shard.Result { return d.w.s.Heartbeat(t, req) })
		if resp := d.said[ticket].(*api.HeartbeatResponse); resp.ErrorCode != wire.ErrNone {
			t.Errorf("heartbeat in another group: %v", resp.ErrorCode)
		}
	}
	d.pass(11 * time.Second)
	d.pass(time.Minute)
	if len(g.byID) != 0 || len(g.static) != 0 || len(g.list()) != 0 || g.state != Empty {
		t.Errorf("%d members and %d static ids are left in %v", len(g.byID), len(g.static), g.state)
	}
	if n := d.w.s.timers.Len(); n > 10 {
		t.Errorf("%d deadlines are left", n)
	}
	joins, leader = nil, nil
	d.said = map[shard.Ticket]any{}
	if left := heap() - before; left > 16<<20 {
		t.Errorf("%d bytes are left", left)
	}
	if other.state != Stable || len(other.byID) != 3 {
		t.Errorf("the other group is %v with %d members", other.state, len(other.byID))
	}
}

// TestLongMetadata: a commit whose metadata is too long is refused and kept nowhere; the bound counts as Java does.
func TestLongMetadata(t *testing.T) {
	d := newDriven(t, DefaultConfig())
	commit := func(offset int64, metadata string) wire.ErrorCode {
		req := &api.OffsetCommitRequest{GroupID: "g", GenerationIDOrMemberEpoch: -1, RetentionTimeMs: -1, Topics: []api.OffsetCommitRequestTopic{{Name: "t",
			Partitions: []api.OffsetCommitRequestTopicPartition{{CommittedOffset: offset, CommittedMetadata: &metadata}}}}}
		ticket := d.do(9, func(t Turn) shard.Result { return d.w.s.OffsetCommit(t, req) })
		return d.said[ticket].(*api.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode
	}
	if code := commit(1, strings.Repeat("x", 4096)); code != wire.ErrNone {
		t.Fatalf("4,096 characters: %v", code)
	}
	before, at := heap(), d.at
	for range 2000 {
		for _, metadata := range []string{strings.Repeat("x", 4097), strings.Repeat("é", 4097), strings.Repeat("😀", 2049), strings.Repeat("x", 1<<15)} {
			if code := commit(2, metadata); code != wire.ErrOffsetMetadataTooLarge {
				t.Fatalf("%d bytes: %v", len(metadata), code)
			}
		}
		clear(d.said)
	}
	if d.at != at {
		t.Errorf("%d records", d.at-at)
	}
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("%d bytes are kept", grown)
	}
	if offset, _ := d.w.s.Offset("g", "t", 0); offset != 1 {
		t.Errorf("the offset is %d", offset)
	}
}

// TestNegativeTimes: times below zero are refused or count as none; nobody spins, and nobody else is touched.
func TestNegativeTimes(t *testing.T) {
	cfg := DefaultConfig()
	cfg.InitialRebalanceDelay, cfg.Consumer.AssignmentInterval = 0, 0
	d := newDriven(t, cfg)
	d.classic("other", 3)
	for _, session := range []int32{-1, 0, -1 << 31, 1<<31 - 1} {
		req := &api.JoinGroupRequest{GroupID: "g", SessionTimeoutMs: session, RebalanceTimeoutMs: 1000, ProtocolType: "consumer", Protocols: []api.JoinGroupRequestProtocol{{Name: "range"}}}
		ticket := d.do(9, func(t Turn) shard.Result { return d.w.s.JoinGroup(t, req) })
		if resp := d.said[ticket].(*api.JoinGroupResponse); resp.ErrorCode != wire.ErrInvalidSessionTimeout {
			t.Errorf("session of %d: %v", session, resp.ErrorCode)
		}
	}
	// A member of the consumer protocol that allows less than no time gives up its partitions at once.
	epochs := map[string]int32{}
	beat := func(member string) *api.ConsumerGroupHeartbeatResponse {
		req := api.NewConsumerGroupHeartbeatRequest()
		req.GroupID, req.MemberID, req.MemberEpoch = "c", member, epochs[member]
		if req.MemberEpoch == 0 {
			req.RebalanceTimeoutMs, req.SubscribedTopicNames, req.TopicPartitions = -1<<31, []string{"t"}, []heartbeatPartitions{}
		}
		ticket := d.do(1, func(t Turn) shard.Result { return d.w.s.ConsumerGroupHeartbeat(t, req) })
		resp := d.said[ticket].(*api.ConsumerGroupHeartbeatResponse)
		epochs[member] = resp.MemberEpoch
		return resp
	}
	beat("a")
	beat("b")
	beat("a") // has to give half of them back
	at := d.at
	d.pass(time.Second)
	if resp := beat("a"); resp.ErrorCode != wire.ErrUnknownMemberID {
		t.Errorf("the member that gave nothing back: %v", resp.ErrorCode)
	}
	if d.at-at > 20 {
		t.Errorf("%d records", d.at-at)
	}
	// Offsets with a retention below zero have expired when they come.
	req := &api.OffsetCommitRequest{GroupID: "r", GenerationIDOrMemberEpoch: -1, RetentionTimeMs: -1000, Topics: []api.OffsetCommitRequestTopic{{Name: "t",
		Partitions: []api.OffsetCommitRequestTopicPartition{{CommittedOffset: 1}}}}}
	d.do(4, func(t Turn) shard.Result { return d.w.s.OffsetCommit(t, req) })
	d.w.s.Loaded(d.w.now, d.at) // starts the looks at expired offsets
	d.pass(cfg.RetentionCheckInterval)
	if _, ok := d.w.s.Offset("r", "t", 0); ok {
		t.Error("the offset is still there")
	}
	if g := d.w.s.classic("other"); g.state != Stable || len(g.byID) != 3 {
		t.Errorf("the other group is %v with %d members", g.state, len(g.byID))
	}
}

// TestHostilePatterns: patterns that explode in other engines, or are large, cost what their length says, and resolving them over many
// topics comes in bounded steps between which others have their turn.
func TestHostilePatterns(t *testing.T) {
	d := newDriven(t, DefaultConfig())
	beat := func(member, pattern string) *api.ConsumerGroupHeartbeatResponse {
		req := api.NewConsumerGroupHeartbeatRequest()
		req.GroupID, req.MemberID, req.RebalanceTimeoutMs, req.TopicPartitions, req.SubscribedTopicRegex = "c", member, 60_000, []heartbeatPartitions{}, &pattern
		ticket := d.do(1, func(t Turn) shard.Result { return d.w.s.ConsumerGroupHeartbeat(t, req) })
		return d.said[ticket].(*api.ConsumerGroupHeartbeatResponse)
	}
	for i, pattern := range []string{"(a+)+b", "(a|a)*b", "(.*)*(.*)*(.*)*x", "((a?){30}a{30})", strings.Repeat("(", 300) + "a" + strings.Repeat(")+", 300)} {
		if resp := beat(fmt.Sprint("m", i), pattern); resp.ErrorCode != wire.ErrNone {
			t.Errorf("%.30s: %v", pattern, resp.ErrorCode)
		}
	}
	before := heap()
	for i, pattern := range []string{"(", "[z-a]", "(?=x)", "(a)\\1", "a{1001}", "((a{100}){100}){100}", strings.Repeat("(", 5000) + strings.Repeat(")", 5000), strings.Repeat("a{1000}", 300)} {
		for range 20 {
			if resp := beat(fmt.Sprint("bad", i), pattern); resp.ErrorCode != wire.ErrInvalidRegularExpression {
				t.Errorf("%.30s: %v", pattern, resp.ErrorCode)
			}
		}
	}
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("%d bytes are kept of patterns that were refused", grown)
	}
	if n := d.w.s.groups["c"].consumer.members.Len(); n != 5 {
		t.Errorf("%d members", n)
	}
	if d.w.s.regexJobs["c"] == nil {
		t.Fatal("nothing is resolved")
	}
	for range 1000 { // each pass ends, however far it gets
		if d.pass(10 * time.Millisecond); d.w.s.regexJobs["c"] == nil {
			return
		}
	}
	t.Error("patterns are not resolved")
}

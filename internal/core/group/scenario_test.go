package group

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// args reads a scenario command's arguments.
type args struct {
	t  *testing.T
	td *datadriven.TestData
}

func (a args) str(key, otherwise string) string {
	for _, arg := range a.td.CmdArgs {
		if arg.Key == key {
			return strings.Join(arg.Vals, ",")
		}
	}
	return otherwise
}

func (a args) has(key string) bool { return a.td.HasArg(key) }

func (a args) opt(key string) *string {
	if !a.has(key) {
		return nil
	}
	s := a.str(key, "")
	return &s
}

func (a args) num(key string, otherwise int64) int64 {
	s := a.str(key, "")
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		a.td.Fatalf(a.t, "%s: %v", key, err)
	}
	return n
}

func (a args) list(key string) []string {
	if s := a.str(key, ""); s != "" {
		return strings.Split(s, ",")
	}
	return nil
}

func (a args) duration(key string, otherwise time.Duration) time.Duration {
	s := a.str(key, "")
	if s == "" {
		return otherwise
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		a.td.Fatalf(a.t, "%s: %v", key, err)
	}
	return d
}

// first is the first bare argument.
func (a args) first() string {
	if len(a.td.CmdArgs) == 0 {
		a.td.Fatalf(a.t, "name missing")
	}
	return a.td.CmdArgs[0].Key
}

// topicsOf turns "a-0=5,b-1=7" into topics with partitions in order.
func topicsOf(list []string, each func(topic string, partition int32, value string)) {
	for _, item := range list {
		place, value, _ := strings.Cut(item, ":")
		i := strings.LastIndexByte(place, '-')
		n, _ := strconv.Atoi(place[i+1:])
		each(place[:i], int32(n), value)
	}
}

// commitRequest reads offsets=topic-partition:offset, with /metadata behind an offset that has its own, and who commits them.
func commitRequest(w *world, a args, group string) *api.OffsetCommitRequest {
	req := api.NewOffsetCommitRequest()
	req.GroupID, req.MemberID, req.GroupInstanceID = group, w.id(a.str("member", "")), a.opt("instance")
	req.GenerationIDOrMemberEpoch = int32(a.num("generation", -1))
	req.RetentionTimeMs = -1
	if a.has("retention") {
		req.RetentionTimeMs = a.duration("retention", 0).Milliseconds()
	}
	metadata := a.str("metadata", "")
	if n := a.num("metadata-length", 0); n > 0 {
		metadata = strings.Repeat("x", int(n))
	}
	topicsOf(a.list("offsets"), func(topic string, partition int32, value string) {
		value, own, has := strings.Cut(value, "/")
		if !has {
			own = metadata
		}
		n, _ := strconv.ParseInt(value, 10, 64)
		p := api.OffsetCommitRequestTopicPartition{PartitionIndex: partition, CommittedOffset: n, CommittedLeaderEpoch: int32(a.num("epoch", -1)), CommittedMetadata: &own}
		if k := len(req.Topics); k > 0 && req.Topics[k-1].Name == topic {
			req.Topics[k-1].Partitions = append(req.Topics[k-1].Partitions, p)
			return
		}
		one := api.OffsetCommitRequestTopic{Name: topic, TopicID: topicID(a.str("id", topic)), Partitions: []api.OffsetCommitRequestTopicPartition{p}}
		if a.has("no-id") {
			one.TopicID = id.UUID{}
		}
		req.Topics = append(req.Topics, one)
	})
	return req
}

// step runs one scenario command in a world.
func step(w *world, a args) {
	group := a.str("group", "g")
	switch a.td.Cmd {
	case "join":
		req := api.NewJoinGroupRequest()
		req.GroupID, req.MemberID, req.GroupInstanceID = group, w.id(a.str("member", "")), a.opt("instance")
		req.SessionTimeoutMs = int32(a.duration("session", 10*time.Second).Milliseconds())
		req.RebalanceTimeoutMs = int32(a.duration("rebalance", 60*time.Second).Milliseconds())
		req.ProtocolType = a.str("type", "consumer")
		for _, p := range strings.Split(a.str("protocols", "range:orders"), ",") {
			if p == "" {
				continue
			}
			name, topics, _ := strings.Cut(p, ":")
			names := strings.FieldsFunc(topics, func(c rune) bool { return c == '+' })
			metadata := consumerMetadata(names...)
			if a.has("owned") {
				metadata = ownedMetadata(names, a.list("owned"))
			}
			switch {
			case topics == "null": // no list at all where one must be
				metadata = []byte{0, 1, 0xff, 0xff, 0xff, 0xff}
			case req.ProtocolType != "consumer" || topics == "junk":
				metadata = []byte(topics)
			case a.has("prefix"): // the version that the metadata says it has
				binary.BigEndian.PutUint16(metadata, uint16(a.num("prefix", 0)))
			}
			req.Protocols = append(req.Protocols, api.JoinGroupRequestProtocol{Name: name, Metadata: metadata})
		}
		w.do(a.first(), int16(a.num("version", 9)), func(t Turn) shard.Result { return w.s.JoinGroup(t, req) })
	case "sync":
		req := api.NewSyncGroupRequest()
		req.GroupID, req.MemberID, req.GenerationID = group, w.id(a.str("member", a.first())), int32(a.num("generation", 1))
		req.GroupInstanceID, req.ProtocolType, req.ProtocolName = a.opt("instance"), a.opt("type"), a.opt("protocol")
		for _, item := range a.list("assign") {
			who, what, _ := strings.Cut(item, ":")
			req.Assignments = append(req.Assignments, api.SyncGroupRequestAssignment{MemberID: w.id(who), Assignment: []byte(what)})
		}
		for _, item := range a.list("assigned") {
			who, what, _ := strings.Cut(item, ":")
			req.Assignments = append(req.Assignments, api.SyncGroupRequestAssignment{MemberID: w.id(who), Assignment: assignmentBytes(strings.Split(what, "+"))})
			if data := a.str("user-data", ""); a.has("user-data") {
				b := &req.Assignments[len(req.Assignments)-1].Assignment
				*b = append(append((*b)[:len(*b)-4], 0, 0, 0, byte(len(data))), data...)
			}
		}
		w.do(a.first(), 5, func(t Turn) shard.Result { return w.s.SyncGroup(t, req) })
	case "heartbeat":
		req := api.NewHeartbeatRequest()
		req.GroupID, req.MemberID, req.GenerationID, req.GroupInstanceID = group, w.id(a.str("member", a.first())), int32(a.num("generation", 1)), a.opt("instance")
		w.do(a.first(), 4, func(t Turn) shard.Result { return w.s.Heartbeat(t, req) })
	case "leave":
		req := api.NewLeaveGroupRequest()
		req.GroupID = group
		for _, who := range a.list("members") {
			member, instance, static := strings.Cut(who, "/")
			m := api.LeaveGroupRequestMember{MemberID: w.id(member)}
			if static {
				m.GroupInstanceID = &instance
			}
			req.Members = append(req.Members, m)
		}
		w.do("leaver", 5, func(t Turn) shard.Result { return w.s.LeaveGroup(t, req) })
	case "commit":
		req := commitRequest(w, a, group)
		w.do(a.str("by", "commit"), int16(a.num("version", 9)), func(t Turn) shard.Result { return w.s.OffsetCommit(t, req) })
	case "txn-commit", "end-txn":
		w.txnStep(a, group)
	case "offset-delete":
		req := api.NewOffsetDeleteRequest()
		req.GroupID = group
		topicsOf(a.list("offsets"), func(topic string, partition int32, _ string) {
			req.Topics = append(req.Topics, api.OffsetDeleteRequestTopic{Name: topic, Partitions: []api.OffsetDeleteRequestTopicPartition{{PartitionIndex: partition}}})
		})
		w.do("admin", 0, func(t Turn) shard.Result { return w.s.OffsetDelete(t, req) })
	case "fetch", "fetch-stable":
		req := api.NewOffsetFetchRequestGroup()
		req.GroupID, req.Topics = group, nil
		topicsOf(a.list("offsets"), func(topic string, partition int32, other string) {
			one := api.OffsetFetchRequestGroupTopic{Name: topic, PartitionIndexes: []int32{partition}}
			if other != "" {
				one.TopicID = topicID(other)
			}
			req.Topics = append(req.Topics, one)
		})
		if a.has("member") {
			who := w.id(a.str("member", ""))
			req.MemberID, req.MemberEpoch = &who, int32(a.num("epoch", -1))
		}
		if a.td.Cmd == "fetch" {
			w.say("fetcher: %s", w.render("", w.s.FetchOffsets(&req)))
			return
		}
		w.do("fetcher", 9, func(t Turn) shard.Result { return w.s.FetchStableOffsets(t, &req) })
	case "describe":
		for _, g := range w.s.DescribeGroups([]string{group}, int16(a.num("version", 6))) {
			s := fmt.Sprintf("%s %s state=%s type=%q protocol=%q", g.GroupID, g.ErrorCode.Name(), g.GroupState, g.ProtocolType, g.ProtocolData)
			for _, m := range g.Members {
				s += fmt.Sprintf(" (%s instance=%s client=%s host=%s %q -> %q)", w.name(m.MemberID), text(m.GroupInstanceID), m.ClientID, m.ClientHost, m.MemberMetadata, m.MemberAssignment)
			}
			w.say("%s", s)
		}
	case "list":
		for _, g := range w.s.ListGroups(a.list("states"), a.list("types")) {
			w.say("%s protocol=%q state=%s type=%s", g.GroupID, g.ProtocolType, g.GroupState, g.GroupType)
		}
	case "delete":
		w.do("admin", 2, func(t Turn) shard.Result { return w.s.DeleteGroups(t, a.list("groups")) })
	case "topic-deleted":
		w.carry(shard.NoTicket, w.s.TopicsDeleted(w.now, []DeletedTopic{{Name: a.first(), ID: topicID(a.str("id", a.first()))}}))
		w.settle()
	case "consumer", "consumer-describe", "given", "topic", "rack", "group-config", "broker-config":
		w.consumerStep(a, group)
	case "advance":
		d, err := time.ParseDuration(a.first())
		if err != nil {
			a.td.Fatalf(a.t, "%v", err)
		}
		w.advance(d)
	case "hold":
		w.hold = true
	case "release":
		w.release()
	case "lose":
		w.lose(wire.ErrNotEnoughReplicas)
	case "restart":
		// With migration=P the next leader has another policy, with max-size=N another limit.
		w.cfg.migration(a.str("migration", ""))
		w.cfg.MaxSize = int(a.num("max-size", int64(w.cfg.MaxSize)))
		w.restart()
	case "counts":
		w.sayCounts()
	default:
		a.td.Fatalf(a.t, "unknown command %s", a.td.Cmd)
	}
}

// migration sets group.consumer.migration.policy.
func (cfg *Config) migration(policy string) {
	if policy != "" {
		cfg.Consumer.Upgrade, cfg.Consumer.Downgrade = policy == "both" || policy == "upgrade", policy == "both" || policy == "downgrade"
	}
}

// lags are by how many records the high watermark is held back. The largest holds back everything.
var lags = []int{1, 3, 1 << 30}

// TestScenarios runs testdata. Every scenario also runs held (the high watermark follows some records behind, until each step is
// over; the story must be the same, and nothing may be told before) and every step also ends, once, in the loss of the
// records, and in the loss of the leadership.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if err := runThreeWays(t, path, ""); err != nil {
			t.Error(err)
		}
	})
}

// TestHeldRunsCanFail: each fault of a driver, or of what it drives, is found by some scenario.
func TestHeldRunsCanFail(t *testing.T) {
	for _, fault := range []string{"reply before the commit", "commit what is held", "no undo", "lose nothing"} {
		found := false
		datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
			found = found || runThreeWays(t, path, fault) != nil
		})
		if !found {
			t.Errorf("%s, and nobody notices", fault)
		}
	}
}

// runThreeWays runs a file, and returns the first thing that is wrong when it runs held or deposed.
func runThreeWays(t *testing.T, path, fault string) (wrong error) {
	cfg := DefaultConfig()
	var w *world
	var held []*world
	var done []*datadriven.TestData
	datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
		a := args{t, td}
		if td.Cmd == "config" {
			cfg = DefaultConfig()
			cfg.MaxSize = int(a.num("max-size", int64(cfg.MaxSize)))
			cfg.InitialRebalanceDelay = a.duration("initial-delay", cfg.InitialRebalanceDelay)
			cfg.OffsetsRetention = a.duration("retention", cfg.OffsetsRetention)
			cfg.RetentionCheckInterval = a.duration("check", cfg.RetentionCheckInterval)
			cfg.OffsetMetadataMaxSize = int(a.num("max-metadata", int64(cfg.OffsetMetadataMaxSize)))
			cfg.Consumer.AssignmentInterval = a.duration("assignment-interval", 0)
			cfg.Consumer.MaxSize = int(a.num("consumer-max-size", int64(cfg.Consumer.MaxSize)))
			cfg.migration(a.str("migration", "both"))
			w, held, done = nil, nil, nil
			return ""
		}
		if w == nil {
			w = newWorld(t, cfg, 1)
			for range lags {
				held = append(held, newWorld(t, cfg, 1))
			}
		}
		step(w, a)
		out := strings.Join(w.out, "\n")
		w.out = nil
		for i, h := range held {
			if wrong != nil {
				break
			}
			h.fault = fault
			if td.Cmd != "hold" && td.Cmd != "lose" && !w.hold {
				if i == 0 {
					wrong = depose(t, cfg, done, td, fault)
				}
				if err := runHeld(h, a, out, lags[i]); wrong == nil {
					wrong = err
				}
			} else {
				step(h, a)
				h.out = nil
			}
		}
		copied := *td
		done = append(done, &copied)
		return out
	})
	return wrong
}

// runHeld takes the step with the high watermark held back by lag records. Only the order of lines may differ from the free run.
func runHeld(w *world, a args, free string, lag int) error {
	where := fmt.Sprintf("%s, held back by %d", a.td.Pos, lag)
	w.lag = lag
	before := visible(w.s)
	step(w, a)
	if lag == lags[len(lags)-1] && a.td.Cmd != "restart" && visible(w.s) != before {
		return fmt.Errorf("%s: visible before its commit:\n%s", where, visible(w.s))
	}
	if err := w.whole(); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	w.lag = 0
	w.release()
	if got := strings.Join(w.out, "\n"); !sameLines(got, free) && a.td.Cmd != "advance" {
		return fmt.Errorf("%s: the story differs:\n%s\n---- free:\n%s", where, got, free)
	}
	w.out = nil
	return nil
}

// whole holds the working state against a replay of the log, and what reads see against one of what is committed.
func (w *world) whole() error {
	if d := cmp.Diff(durable(w.replay(len(w.log))), durable(w.s)); d != "" {
		return fmt.Errorf("the working state is not the replay of the log (-replay +working)\n%s", d)
	}
	if d := cmp.Diff(visible(w.replay(w.hw)), visible(w.s)); d != "" {
		return fmt.Errorf("reads do not see the committed log (-replay +visible)\n%s", d)
	}
	return nil
}

func sameLines(a, b string) bool {
	count := map[string]int{}
	for _, l := range strings.Split(a, "\n") {
		count[l]++
	}
	for _, l := range strings.Split(b, "\n") {
		count[l]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// depose takes the story up to a step, holds the watermark, takes the step and loses what it wrote: first because the log does
// not take it, then with the leadership. What is left must be what was there before, and nothing that depended on the step may
// have been told.
func depose(t *testing.T, cfg Config, done []*datadriven.TestData, td *datadriven.TestData, fault string) error {
	t.Helper()
	for _, way := range []string{"lost", "deposed"} {
		w := newWorld(t, cfg, 1)
		for _, d := range done {
			step(w, args{t, d})
		}
		if w.hold {
			return nil
		}
		before, end := durable(w.replay(w.hw)), w.hw
		w.hold, w.out, w.fault = true, nil, fault
		step(w, args{t, td})
		for _, p := range w.pending {
			if _, open := w.tickets[p.ticket]; p.reply != nil && !open {
				return fmt.Errorf("%s: a reply left before its commit: %s", td.Pos, strings.Join(w.out, "\n"))
			}
		}
		if td.Cmd == "restart" {
			return nil
		}
		if way == "lost" {
			w.lose(wire.ErrNotEnoughReplicas)
			if err := w.whole(); err != nil {
				return fmt.Errorf("%s, and the log did not take it: %w", td.Pos, err)
			}
			continue
		}
		w.restart()
		if after := durable(w.replay(end)); after != before || w.hw < end {
			return fmt.Errorf("%s: deposed, the next leader finds\n%s---- before\n%s", td.Pos, after, before)
		}
		if err := w.whole(); err != nil {
			return fmt.Errorf("%s: deposed: %w", td.Pos, err)
		}
		if len(w.tickets) != 0 {
			return fmt.Errorf("%s: deposed, %d tickets stay open", td.Pos, len(w.tickets))
		}
	}
	return nil
}

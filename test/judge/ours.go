package judge

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// side is one of the two coordinators.
type side interface {
	// do runs a step and says what came of it, as java/Judge.java does. ids are the random bytes of member ids that the other side made.
	do(line string, q request, ids []string) ([]string, error)
}

var start = time.UnixMilli(1_700_000_000_000)

// ours is our shard with the runtime's part.
type ours struct {
	fault string // what it gets wrong, for TestPlanted

	cfg     group.Config
	s       *group.Shard
	src     *source
	now     time.Time
	log     []shard.Record
	hw      int // the first records of the log that are committed
	hold    bool
	waiting map[shard.Ticket]bool
	pending []op
	out     []string
}

// op is a decision whose records are not committed.
type op struct {
	ticket shard.Ticket
	reply  any
	then   shard.Continuation
	needs  int
}

// source hands out the random numbers that the other side used, or makes some.
type source struct {
	queue []uint64
	own   *rand.PCG
	made  []uint64
}

func (s *source) Uint64() uint64 {
	if len(s.queue) > 0 {
		n := s.queue[0]
		s.queue = s.queue[1:]
		return n
	}
	n := s.own.Uint64()
	s.made = append(s.made, n)
	return n
}

func (o *ours) do(_ string, q request, ids []string) ([]string, error) {
	o.out = nil
	if q.cmd == "init" {
		*o = ours{fault: o.fault, now: start, cfg: group.DefaultConfig(), waiting: map[shard.Ticket]bool{}}
		o.cfg.MinSessionTimeout, o.cfg.OffsetsRetention = 0, 5*time.Minute
		o.cfg.InitialRebalanceDelay = time.Duration(q.num("delay")) * time.Millisecond
		o.cfg.MaxSize = q.num("max")
		switch o.fault {
		case "delay":
			o.cfg.InitialRebalanceDelay += time.Millisecond
		case "size":
			o.cfg.MaxSize++
		case "retention":
			o.cfg.OffsetsRetention += 10 * time.Minute
		}
		o.src = &source{own: rand.NewPCG(uint64(q.num("seed")), 1)}
		o.load()
	}
	o.src.queue, o.src.made = nil, nil
	for _, s := range ids {
		for _, half := range []string{s[:16], s[16:]} {
			n, err := strconv.ParseUint(half, 16, 64)
			if err != nil {
				return nil, err
			}
			o.src.queue = append(o.src.queue, n)
		}
	}
	o.step(q)
	if !o.hold {
		o.look("g")
		o.look("h")
	}
	for i := 0; i+1 < len(o.src.made); i += 2 {
		o.out = append(o.out, fmt.Sprintf("i %016x%016x", o.src.made[i], o.src.made[i+1]))
	}
	return o.out, nil
}

func (o *ours) step(q request) {
	name, member, inst := q.args["group"], q.text("member"), q.get("inst")
	switch q.cmd {
	case "join":
		r := api.NewJoinGroupRequest()
		r.GroupID, r.MemberID, r.GroupInstanceID, r.ProtocolType = name, member, inst, q.text("type")
		r.SessionTimeoutMs, r.RebalanceTimeoutMs = int32(q.num("session")), int32(q.num("rebalance"))
		if o.fault == "session" {
			r.SessionTimeoutMs++
		}
		for _, p := range q.list("protos") {
			n, md, _ := strings.Cut(p, ":")
			r.Protocols = append(r.Protocols, api.JoinGroupRequestProtocol{Name: n, Metadata: []byte(md)})
		}
		o.ask(q, q.num("v"), func(t group.Turn) shard.Result { return o.s.JoinGroup(t, r) })
	case "sync":
		r := api.NewSyncGroupRequest()
		r.GroupID, r.MemberID, r.GroupInstanceID, r.GenerationID = name, member, inst, int32(q.num("gen"))
		r.ProtocolType, r.ProtocolName = q.get("ptype"), q.get("pname")
		for _, p := range q.list("assign") {
			at := strings.LastIndexByte(p, ':')
			r.Assignments = append(r.Assignments, api.SyncGroupRequestAssignment{MemberID: p[:at], Assignment: []byte(p[at+1:])})
		}
		o.ask(q, 5, func(t group.Turn) shard.Result { return o.s.SyncGroup(t, r) })
	case "hb":
		r := api.NewHeartbeatRequest()
		r.GroupID, r.MemberID, r.GroupInstanceID, r.GenerationID = name, member, inst, int32(q.num("gen"))
		o.ask(q, 4, func(t group.Turn) shard.Result { return o.s.Heartbeat(t, r) })
	case "leave":
		r := api.NewLeaveGroupRequest()
		r.GroupID = name
		for _, p := range q.list("members") {
			m, i, _ := strings.Cut(p, "/")
			one := api.LeaveGroupRequestMember{MemberID: m, GroupInstanceID: &i}
			if i == "-" {
				one.GroupInstanceID = nil
			}
			r.Members = append(r.Members, one)
		}
		o.ask(q, 5, func(t group.Turn) shard.Result { return o.s.LeaveGroup(t, r) })
	case "delete":
		o.ask(q, 2, func(t group.Turn) shard.Result { return o.s.DeleteGroups(t, []string{name}) })
	case "commit":
		r := api.NewOffsetCommitRequest()
		r.GroupID, r.MemberID, r.GroupInstanceID, r.GenerationIDOrMemberEpoch = name, member, inst, int32(q.num("gen"))
		p := api.OffsetCommitRequestTopicPartition{PartitionIndex: int32(q.num("p")), CommittedOffset: int64(q.num("offset")), CommittedLeaderEpoch: -1, CommittedMetadata: new(string)}
		r.Topics = []api.OffsetCommitRequestTopic{{Name: "t", Partitions: []api.OffsetCommitRequestTopicPartition{p}}}
		o.ask(q, q.num("v"), func(t group.Turn) shard.Result { return o.s.OffsetCommit(t, r) })
	case "offdel":
		r := api.NewOffsetDeleteRequest()
		r.GroupID = name
		r.Topics = []api.OffsetDeleteRequestTopic{{Name: "t", Partitions: []api.OffsetDeleteRequestTopicPartition{{PartitionIndex: int32(q.num("p"))}}}}
		o.ask(q, 0, func(t group.Turn) shard.Result { return o.s.OffsetDelete(t, r) })
	case "advance":
		o.advance(o.now.Add(time.Duration(q.num("ms")) * time.Millisecond))
	case "hold":
		o.hold = true
	case "release":
		o.hold = false
		o.settle()
	case "lose":
		o.lose()
	case "restart":
		o.log = o.log[:o.hw]
		o.cfg.MaxSize = q.num("max")
		o.hold, o.pending = false, nil
		clear(o.waiting)
		o.load()
	}
}

// load is what a new coordinator does.
func (o *ours) load() {
	o.s = group.New(o.cfg, rand.New(o.src))
	for i, r := range o.log {
		if _, err := o.s.Replay(id.Offset(i), id.NoProducer, r.Key, r.Value); err != nil {
			panic(err)
		}
		o.s.Committed(id.Offset(i + 1))
	}
	o.take(shard.NoTicket, o.s.Loaded(o.now, id.Offset(len(o.log))))
	o.settle()
}

func (o *ours) happened(format string, args ...any) {
	o.out = append(o.out, fmt.Sprintf("@%d ", o.now.Sub(start).Milliseconds())+fmt.Sprintf(format, args...))
}

func (o *ours) ask(q request, version int, decide func(group.Turn) shard.Result) {
	t := shard.Ticket(q.num("t"))
	o.waiting[t] = true
	o.take(t, decide(group.Turn{Now: o.now, Ticket: t, Version: int16(version), Client: group.Client{ID: "client", Host: "/10.0.0.1"}}))
	o.settle()
}

func (o *ours) take(t shard.Ticket, res shard.Result) {
	for _, a := range res.Answers {
		o.answer(a.Ticket, a.Body)
	}
	for _, r := range res.Records {
		o.s.Apply(id.Offset(len(o.log)), r)
		o.log = append(o.log, r)
		value := "nil"
		if r.Value != nil {
			value = fmt.Sprintf("%x", r.Value)
		}
		o.happened("R %x %s", r.Key, value)
	}
	if o.waiting[t] || res.Then != nil {
		o.pending = append(o.pending, op{t, res.Reply, res.Then, len(o.log)})
	}
}

// settle commits what may be committed, and goes on with what waited for that.
func (o *ours) settle() {
	for {
		if !o.hold && o.hw < len(o.log) {
			o.hw = len(o.log)
			o.s.Committed(id.Offset(o.hw))
		}
		if len(o.pending) == 0 || o.pending[0].needs > o.hw {
			return
		}
		p := o.pending[0]
		o.pending = o.pending[1:]
		if p.then != nil {
			o.take(shard.NoTicket, p.then(o.now, wire.ErrNone))
		}
		if p.reply != nil {
			o.answer(p.ticket, p.reply)
		}
	}
}

// lose takes back what is not committed, as a failed append does.
func (o *ours) lose() {
	if o.fault != "loss" {
		o.s.Revert(id.Offset(o.hw))
		o.log = o.log[:o.hw]
	}
	failed := o.pending
	o.pending, o.hold = nil, false
	for _, p := range failed {
		if p.then != nil {
			o.take(shard.NoTicket, p.then(o.now, wire.ErrNotEnoughReplicas))
		}
		if o.waiting[p.ticket] {
			delete(o.waiting, p.ticket)
			o.happened("a %d lost", p.ticket)
		}
	}
	o.settle()
}

func (o *ours) advance(end time.Time) {
	for at, ok := o.s.Deadline(); ok && !at.After(end); at, ok = o.s.Deadline() {
		if at.After(o.now) {
			o.now = at
		}
		res, ok := o.s.Expire(o.now)
		if !ok {
			panic("a deadline has passed, and nothing expired")
		}
		o.take(shard.NoTicket, res)
		o.settle()
	}
	o.now = end
}

func null(p *string) string {
	if p == nil {
		return "-"
	}
	return *p
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func sorted(l []string) string {
	slices.Sort(l)
	return "[" + strings.Join(l, " ") + "]"
}

func (o *ours) answer(t shard.Ticket, body any) {
	if !o.waiting[t] {
		return
	}
	delete(o.waiting, t)
	var s string
	switch m := body.(type) {
	case *api.JoinGroupResponse:
		var l []string
		for _, x := range m.Members {
			l = append(l, fmt.Sprintf("%s/%s/%s", x.MemberID, null(x.GroupInstanceID), x.Metadata))
		}
		s = fmt.Sprintf("join %d %s %d %s %s leader=%s skip=%v %s", m.ErrorCode, dash(m.MemberID), m.GenerationID, dash(null(m.ProtocolType)), dash(null(m.ProtocolName)), dash(m.Leader), m.SkipAssignment, sorted(l))
	case *api.SyncGroupResponse:
		s = fmt.Sprintf("sync %d %s %s %s", m.ErrorCode, dash(null(m.ProtocolType)), dash(null(m.ProtocolName)), dash(string(m.Assignment)))
	case *api.HeartbeatResponse:
		s = fmt.Sprintf("hb %d", m.ErrorCode)
	case *api.LeaveGroupResponse:
		s = fmt.Sprintf("leave %d", m.ErrorCode)
		for _, x := range m.Members {
			s += fmt.Sprintf(" %s/%s=%d", x.MemberID, null(x.GroupInstanceID), x.ErrorCode)
		}
	case []api.DeleteGroupsResponseResult:
		s = fmt.Sprintf("delete %d", m[0].ErrorCode)
	case *api.OffsetCommitResponse:
		s = fmt.Sprintf("commit %d", m.Topics[0].Partitions[0].ErrorCode)
	case *api.OffsetDeleteResponse:
		s = fmt.Sprintf("offdel %d", m.ErrorCode)
		for _, x := range m.Topics {
			s += fmt.Sprintf(" %d", x.Partitions[0].ErrorCode)
		}
	default:
		panic(fmt.Sprintf("an answer of type %T", body))
	}
	o.happened("a %d %s", t, s)
}

// look prints what clients see of a group.
func (o *ours) look(name string) {
	g := o.s.DescribeGroups([]string{name}, 6)[0]
	var l []string
	for _, m := range g.Members {
		l = append(l, fmt.Sprintf("%s/%s/%s/%s", m.MemberID, null(m.GroupInstanceID), m.MemberMetadata, m.MemberAssignment))
	}
	o.out = append(o.out, fmt.Sprintf("s %s %d %s %s %s %s", name, g.ErrorCode, g.GroupState, dash(g.ProtocolType), dash(g.ProtocolData), sorted(l)))
	f := o.s.FetchOffsets(&api.OffsetFetchRequestGroup{GroupID: name, MemberEpoch: -1})
	l = nil
	for _, t := range f.Topics {
		for _, p := range t.Partitions {
			l = append(l, fmt.Sprintf("%s-%d=%d", t.Name, p.PartitionIndex, p.CommittedOffset))
		}
	}
	o.out = append(o.out, fmt.Sprintf("s %s offsets %d %s", name, f.ErrorCode, sorted(l)))
}

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
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
	"github.com/moldau-io/moldau/test/judge/pair"
)

// side is one of the two coordinators.
type side interface {
	// do runs a step and says what came of it, as java/Judge.java does. ids are the random bytes of member ids that the other side made.
	do(line string, q pair.Request, ids []string) ([]string, error)
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
	image   *image.Image
	made    map[string]int // topics, by name
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

func (o *ours) do(_ string, q pair.Request, ids []string) ([]string, error) {
	o.out = nil
	if q.Cmd == "init" {
		*o = ours{fault: o.fault, now: start, cfg: group.DefaultConfig(), waiting: map[shard.Ticket]bool{}, made: map[string]int{}}
		o.cfg.MinSessionTimeout, o.cfg.OffsetsRetention = 0, 5*time.Minute
		o.cfg.InitialRebalanceDelay = time.Duration(q.Num("delay")) * time.Millisecond
		o.cfg.MaxSize = q.Num("max")
		o.cfg.Consumer.MaxSize, o.cfg.Consumer.Assignors = o.cfg.MaxSize, q.List("assignors")
		if o.cfg.Consumer.Assignors == nil {
			o.cfg.Consumer.Assignors = []string{"range"}
		}
		o.cfg.Consumer.AssignmentInterval = time.Duration(q.Num("interval")) * time.Millisecond
		o.cfg.Consumer.Upgrade, o.cfg.Consumer.Downgrade = true, true
		if policy := q.Text("policy"); policy != "" {
			o.cfg.Consumer.Upgrade = policy == "bidirectional" || policy == "upgrade"
			o.cfg.Consumer.Downgrade = policy == "bidirectional" || policy == "downgrade"
		}
		o.image = image.Empty()
		o.image.Provenance.Offset = 100 // there are records before the first topic
		if q.Get("refresh") != nil {
			o.cfg.Consumer.RegexRefreshInterval = time.Duration(q.Num("refresh")) * time.Millisecond
		}
		switch o.fault {
		case "refresh":
			o.cfg.Consumer.RegexRefreshInterval += time.Minute
		case "delay":
			o.cfg.InitialRebalanceDelay += time.Millisecond
		case "size":
			o.cfg.MaxSize++
		case "interval":
			o.cfg.Consumer.AssignmentInterval += time.Millisecond
		case "consumer session":
			o.cfg.Consumer.SessionTimeout += time.Millisecond
		case "assignor":
			if o.cfg.Consumer.Assignors[0] == "uniform" {
				o.cfg.Consumer.Assignors = []string{"range", "uniform"}
			}
		case "policy":
			o.cfg.Consumer.Upgrade = !o.cfg.Consumer.Upgrade
		case "retention":
			o.cfg.OffsetsRetention += 10 * time.Minute
		}
		o.src = &source{own: rand.NewPCG(uint64(q.Num("seed")), 1)}
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
		var l []string
		for _, g := range o.s.ListGroups(nil, nil) {
			l = append(l, fmt.Sprintf("%s/%s/%s/%s", g.GroupID, g.ProtocolType, g.GroupState, g.GroupType))
		}
		o.out = append(o.out, "s list "+sorted(l))
	}
	for i := 0; i+1 < len(o.src.made); i += 2 {
		o.out = append(o.out, fmt.Sprintf("i %016x%016x", o.src.made[i], o.src.made[i+1]))
	}
	return o.out, nil
}

func (o *ours) step(q pair.Request) {
	name, member, inst := q.Args["group"], q.Text("member"), q.Get("inst")
	switch q.Cmd {
	case "join":
		r := api.NewJoinGroupRequest()
		r.GroupID, r.MemberID, r.GroupInstanceID, r.ProtocolType = name, member, inst, q.Text("type")
		r.SessionTimeoutMs, r.RebalanceTimeoutMs = int32(q.Num("session")), int32(q.Num("rebalance"))
		if o.fault == "session" {
			r.SessionTimeoutMs++
		}
		for _, p := range q.List("protos") {
			n, md, _ := strings.Cut(p, ":")
			r.Protocols = append(r.Protocols, api.JoinGroupRequestProtocol{Name: n, Metadata: unspell(md)})
		}
		o.ask(q, q.Num("v"), func(t group.Turn) shard.Result { return o.s.JoinGroup(t, r) })
	case "sync":
		r := api.NewSyncGroupRequest()
		r.GroupID, r.MemberID, r.GroupInstanceID, r.GenerationID = name, member, inst, int32(q.Num("gen"))
		r.ProtocolType, r.ProtocolName = q.Get("ptype"), q.Get("pname")
		for _, p := range q.List("assign") {
			at := strings.LastIndexByte(p, ':')
			r.Assignments = append(r.Assignments, api.SyncGroupRequestAssignment{MemberID: p[:at], Assignment: unspell(p[at+1:])})
		}
		o.ask(q, 5, func(t group.Turn) shard.Result { return o.s.SyncGroup(t, r) })
	case "topic":
		o.change(q.Args["name"], int32(q.Num("n")))
	case "beat":
		r := api.NewConsumerGroupHeartbeatRequest()
		r.GroupID, r.MemberID, r.InstanceID = name, member, inst
		r.MemberEpoch, r.RebalanceTimeoutMs, r.SubscribedTopicNames = int32(q.Num("epoch")), int32(q.Num("rebalance")), q.List("topics")
		r.ServerAssignor, r.SubscribedTopicRegex = q.Get("assignor"), q.Get("regex")
		if has := q.Get("has"); has != nil {
			r.TopicPartitions = []api.ConsumerGroupHeartbeatRequestTopicPartition{}
			for _, t := range byTopic(*has) {
				r.TopicPartitions = append(r.TopicPartitions, api.ConsumerGroupHeartbeatRequestTopicPartition{TopicID: o.topicID(t.name), Partitions: t.partitions})
			}
		}
		o.ask(q, 1, func(t group.Turn) shard.Result { return o.s.ConsumerGroupHeartbeat(t, r) })
	case "hb":
		r := api.NewHeartbeatRequest()
		r.GroupID, r.MemberID, r.GroupInstanceID, r.GenerationID = name, member, inst, int32(q.Num("gen"))
		o.ask(q, 4, func(t group.Turn) shard.Result { return o.s.Heartbeat(t, r) })
	case "leave":
		r := api.NewLeaveGroupRequest()
		r.GroupID = name
		for _, p := range q.List("members") {
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
		r.GroupID, r.MemberID, r.GroupInstanceID, r.GenerationIDOrMemberEpoch = name, member, inst, int32(q.Num("gen"))
		p := api.OffsetCommitRequestTopicPartition{PartitionIndex: int32(q.Num("p")), CommittedOffset: int64(q.Num("offset")), CommittedLeaderEpoch: -1, CommittedMetadata: new(string)}
		r.Topics = []api.OffsetCommitRequestTopic{{Name: "t", Partitions: []api.OffsetCommitRequestTopicPartition{p}}}
		o.ask(q, q.Num("v"), func(t group.Turn) shard.Result { return o.s.OffsetCommit(t, r) })
	case "offdel":
		r := api.NewOffsetDeleteRequest()
		r.GroupID = name
		r.Topics = []api.OffsetDeleteRequestTopic{{Name: "t", Partitions: []api.OffsetDeleteRequestTopicPartition{{PartitionIndex: int32(q.Num("p"))}}}}
		o.ask(q, 0, func(t group.Turn) shard.Result { return o.s.OffsetDelete(t, r) })
	case "advance":
		o.advance(o.now.Add(time.Duration(q.Num("ms")) * time.Millisecond))
	case "hold":
		o.hold = true
	case "release":
		o.hold = false
		o.settle()
	case "lose":
		o.lose()
	case "restart":
		o.log = o.log[:o.hw]
		o.cfg.MaxSize = q.Num("max")
		o.cfg.Consumer.MaxSize = o.cfg.MaxSize
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
	o.s.Observe(o.image)
	o.take(shard.NoTicket, o.s.Loaded(o.now, id.Offset(len(o.log))))
	o.settle()
}

func (o *ours) happened(format string, args ...any) {
	o.out = append(o.out, fmt.Sprintf("@%d ", o.now.Sub(start).Milliseconds())+fmt.Sprintf(format, args...))
}

func (o *ours) ask(q pair.Request, version int, decide func(group.Turn) shard.Result) {
	t := shard.Ticket(q.Num("t"))
	o.waiting[t] = true
	o.take(t, decide(group.Turn{Now: o.now, Ticket: t, Version: int16(version), Client: group.Client{ID: "client", Host: "/10.0.0.1"}, Image: o.image}))
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

// topicID is the topic's one letter, sixteen times, but that how often there was such a topic is in it, and that Java's hash tables have it
// in its order.
func (o *ours) topicID(name string) (u id.UUID) {
	for i := range u {
		u[i] = name[0]
	}
	u[14] ^= byte(o.made[name])
	u[15] ^= name[0] - 't'
	return u
}

// change gives a topic more partitions, makes it or, with none, deletes it.
func (o *ours) change(name string, n int32) {
	var rs []logrec.MetadataRecord
	from := int32(0)
	if t := o.image.Topics.ByName(name); t != nil {
		from = int32(len(t.Partitions))
	}
	if n == 0 && from > 0 {
		rs = append(rs, &logrec.RemoveTopicRecord{TopicID: o.topicID(name)})
	}
	if n > 0 && from == 0 {
		o.made[name]++
		rs = append(rs, &logrec.TopicRecord{Name: name, TopicID: o.topicID(name)})
	}
	for p := from; p < n; p++ {
		rs = append(rs, &logrec.PartitionRecord{TopicID: o.topicID(name), PartitionID: p, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1})
	}
	d := image.NewDelta(o.image)
	for _, r := range rs {
		if err := d.Replay(r); err != nil {
			panic(err)
		}
	}
	p := o.image.Provenance
	p.Offset++
	o.image = d.Apply(p)
	o.s.Observe(o.image)
}

func tps(l []string) string {
	slices.Sort(l)
	if len(l) == 0 {
		return "''"
	}
	return strings.Join(l, ",")
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
			l = append(l, fmt.Sprintf("%s/%s/%s", x.MemberID, null(x.GroupInstanceID), spell(x.Metadata)))
		}
		s = fmt.Sprintf("join %d %s %d %s %s leader=%s skip=%v %s", m.ErrorCode, dash(m.MemberID), m.GenerationID, dash(null(m.ProtocolType)), dash(null(m.ProtocolName)), dash(m.Leader), m.SkipAssignment, sorted(l))
	case *api.SyncGroupResponse:
		s = fmt.Sprintf("sync %d %s %s %s", m.ErrorCode, dash(null(m.ProtocolType)), dash(null(m.ProtocolName)), dash(spell(m.Assignment)))
	case *api.ConsumerGroupHeartbeatResponse:
		if s = fmt.Sprintf("beat %d", m.ErrorCode); m.ErrorCode != 0 {
			break
		}
		has := "-"
		if m.Assignment != nil {
			var l []string
			for _, x := range m.Assignment.TopicPartitions {
				for _, p := range x.Partitions {
					l = append(l, fmt.Sprintf("%c-%d", x.TopicID[0], p))
				}
			}
			has = tps(l)
		}
		s += fmt.Sprintf(" %s %d %d %s", null(m.MemberID), m.MemberEpoch, m.HeartbeatIntervalMs, has)
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
		l = append(l, fmt.Sprintf("%s/%s/%s/%s", m.MemberID, null(m.GroupInstanceID), spell(m.MemberMetadata), spell(m.MemberAssignment)))
	}
	o.out = append(o.out, fmt.Sprintf("s %s %d %s %s %s %s", name, g.ErrorCode, g.GroupState, dash(g.ProtocolType), dash(g.ProtocolData), sorted(l)))
	if c := o.s.DescribeConsumerGroups([]string{name}, o.image)[0]; c.ErrorCode == 0 {
		show := func(a api.ConsumerGroupDescribeResponseAssignment) string {
			var l []string
			for _, x := range a.TopicPartitions {
				for _, p := range x.Partitions {
					l = append(l, fmt.Sprintf("%c-%d", x.TopicID[0], p))
				}
			}
			return tps(l)
		}
		l = nil
		for _, m := range c.Members {
			l = append(l, fmt.Sprintf("%s/%s/%d/%d/%s/%s", m.MemberID, null(m.InstanceID), m.MemberType, m.MemberEpoch, show(m.Assignment), show(m.TargetAssignment)))
		}
		o.out = append(o.out, fmt.Sprintf("s %s %s %s %d %d %s", name, c.GroupState, c.AssignorName, c.GroupEpoch, c.AssignmentEpoch, sorted(l)))
	}
	f := o.s.FetchOffsets(&api.OffsetFetchRequestGroup{GroupID: name, MemberEpoch: -1})
	l = nil
	for _, t := range f.Topics {
		for _, p := range t.Partitions {
			l = append(l, fmt.Sprintf("%s-%d=%d", t.Name, p.PartitionIndex, p.CommittedOffset))
		}
	}
	o.out = append(o.out, fmt.Sprintf("s %s offsets %d %s", name, f.ErrorCode, sorted(l)))
}

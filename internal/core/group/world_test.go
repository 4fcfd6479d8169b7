package group

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// world drives one shard over a log in memory. With hold set the high watermark stays, so that nothing commits until release.
type world struct {
	t       testing.TB
	cfg     Config
	s       *Shard
	now     time.Time
	log     []shard.Record
	txns    map[int]txnPart // which records of the log are of transactions
	hw      int
	hold    bool
	lag     int                     // the high watermark stays this many records behind
	fault   string                  // what the driver, or the shard, gets wrong
	tickets map[shard.Ticket]string // who waits
	last    shard.Ticket
	pending []pendingOp
	alias   map[string]string // member id to name
	names   map[string]string // and back
	out     []string
	leaders uint64
	image   *image.Image
	atomic  [][2]int                       // where batches are that become visible whole
	figures [Figures]int                   // what was counted
	heard   func(t shard.Ticket, body any) // told of every answer, if set
}

type pendingOp struct {
	ticket   shard.Ticket
	reply    any
	then     shard.Continuation
	required int
}

func newWorld(t testing.TB, cfg Config, seed uint64) *world {
	w := &world{t: t, cfg: cfg, now: time.UnixMilli(1_700_000_000_000), tickets: map[shard.Ticket]string{}, txns: map[int]txnPart{}, alias: map[string]string{}, names: map[string]string{}}
	if w.cfg.Count == nil {
		w.cfg.Count = func(what Figure, n int) { w.figures[what] += n }
	}
	w.s = New(w.cfg, rand.New(rand.NewPCG(seed, 7)))
	w.carry(shard.NoTicket, w.s.Loaded(w.now, 0))
	return w
}

func (w *world) say(format string, args ...any) { w.out = append(w.out, fmt.Sprintf(format, args...)) }

// do makes a decision for somebody called name.
func (w *world) do(name string, version int16, decide func(Turn) shard.Result) {
	w.last++
	w.tickets[w.last] = name
	w.carry(w.last, decide(Turn{Now: w.now, Ticket: w.last, Version: version, Client: Client{ID: "client", Host: "/10.0.0.1"}, Image: w.image}))
	w.settle()
}

func (w *world) carry(t shard.Ticket, res shard.Result) {
	for _, a := range res.Answers {
		w.answer(a.Ticket, a.Body)
	}
	if res.Atomic && len(res.Records) > 1 {
		w.atomic = append(w.atomic, [2]int{len(w.log), len(w.log) + len(res.Records)})
	}
	for _, r := range res.Records {
		w.s.Apply(id.Offset(len(w.log)), r)
		w.say("record %s%s", w.describe(r.Key, r.Value), w.noteTxn(res.Producer))
		w.log = append(w.log, r)
	}
	if m := res.Marker; m != nil {
		w.writeMarker(m)
	}
	if w.fault == "reply before the commit" && res.Reply != nil {
		w.answer(t, res.Reply)
	}
	// As the runtime does: also who waits without a reply of this decision fails with the records before it.
	if _, open := w.tickets[t]; open || res.Then != nil {
		w.pending = append(w.pending, pendingOp{t, res.Reply, res.Then, len(w.log)})
	}
}

func (w *world) settle() {
	w.follow()
	for len(w.pending) > 0 && w.pending[0].required <= w.hw {
		p := w.pending[0]
		w.pending = w.pending[1:]
		if p.then != nil {
			w.carry(shard.NoTicket, p.then(w.now, wire.ErrNone))
		}
		if p.reply != nil {
			w.answer(p.ticket, p.reply)
		}
		w.follow()
	}
}

// follow moves the high watermark as far as it may go.
func (w *world) follow() {
	if w.fault == "commit what is held" {
		w.s.Committed(id.Offset(len(w.log)))
	}
	hw := len(w.log) - w.lag
	for _, b := range w.atomic {
		if b[0] < hw && hw < b[1] {
			hw = b[0]
		}
	}
	if !w.hold && w.hw < hw {
		w.hw = hw
		w.s.Committed(id.Offset(hw))
	}
}

// release lets the high watermark go.
func (w *world) release() {
	w.hold = false
	w.settle()
}

// lose takes everything beyond the high watermark back, as a failed append does.
func (w *world) lose(code wire.ErrorCode) {
	switch w.fault {
	case "no undo":
		w.cut()
	case "lose nothing":
		w.s.Revert(id.Offset(w.hw))
	default:
		w.s.Revert(id.Offset(w.hw))
		w.cut()
	}
	failed := w.pending
	w.pending = nil
	for _, p := range failed {
		if p.then != nil {
			w.carry(shard.NoTicket, p.then(w.now, code))
		}
		if name, open := w.tickets[p.ticket]; open {
			delete(w.tickets, p.ticket)
			w.say("%s: failed %s", name, code.Name())
		}
	}
	w.settle()
}

// cut takes what is not committed out of the log.
func (w *world) cut() {
	w.log = w.log[:w.hw]
	maps.DeleteFunc(w.txns, func(at int, _ txnPart) bool { return at >= w.hw })
	w.atomic = slices.DeleteFunc(w.atomic, func(b [2]int) bool { return b[1] > w.hw })
}

// advance lets time pass, stopping at each deadline.
func (w *world) advance(d time.Duration) {
	end := w.now.Add(d)
	for {
		at, ok := w.s.Deadline()
		if !ok || at.After(end) {
			break
		}
		if at.After(w.now) {
			w.now = at
		}
		res, ok := w.s.Expire(w.now)
		if !ok {
			w.t.Fatalf("deadline %v has passed, and nothing expired", at)
		}
		w.carry(shard.NoTicket, res)
		w.settle()
	}
	w.now = end
}

// replay returns a fresh shard with the first n records of the log. All, half or none of them are known to be committed beforehand.
func (w *world) replay(n int) *Shard {
	s := New(w.cfg, rand.New(rand.NewPCG(1, 1)))
	s.now = w.now
	s.Committed(id.Offset([]int{n, n / 2, 0}[n%3]))
	for i, r := range w.log[:n] {
		part, ofTxn := w.txns[i]
		if !ofTxn {
			part.producer = id.NoProducer
		}
		if part.marker {
			s.EndTransaction(id.Offset(i), part.producer, part.commit)
		} else if _, err := s.Replay(id.Offset(i), part.producer, r.Key, r.Value); err != nil {
			w.t.Fatalf("replay: %v", err)
		}
		s.Committed(id.Offset(i + 1))
	}
	return s
}

// restart is what a new leader does: it knows only the log.
func (w *world) restart() {
	w.cut()
	w.pending = nil
	for _, t := range slices.Sorted(maps.Keys(w.tickets)) {
		w.say("%s: failed NOT_COORDINATOR", w.tickets[t])
	}
	clear(w.tickets)
	w.s = w.replay(w.hw)
	w.s.Observe(w.image)
	w.leaders++
	w.s.rnd = rand.New(rand.NewPCG(w.leaders, 11)) // or it would give out the ids of the leader before
	w.carry(shard.NoTicket, w.s.Loaded(w.now, id.Offset(w.hw)))
	w.settle()
}

func (w *world) answer(t shard.Ticket, body any) {
	name, open := w.tickets[t]
	if !open {
		return
	}
	delete(w.tickets, t)
	if w.heard != nil {
		w.heard(t, body)
	}
	w.say("%s: %s", name, w.render(name, body))
}

func (w *world) name(memberID string) string {
	if a, ok := w.alias[memberID]; ok {
		return a
	}
	return memberID
}

func (w *world) id(name string) string {
	if real, ok := w.names[name]; ok {
		return real
	}
	return name
}

// learn gives a member id the name of who got it.
func (w *world) learn(memberID, name string) {
	if _, ok := w.alias[memberID]; memberID == "" || ok {
		return
	}
	w.alias[memberID], w.names[name] = name, memberID
}

func text(p *string) string {
	if p == nil {
		return "-"
	}
	return *p
}

func (w *world) render(name string, body any) string {
	switch m := body.(type) {
	case *api.JoinGroupResponse:
		w.learn(m.MemberID, name)
		s := fmt.Sprintf("join %s member=%s", m.ErrorCode.Name(), w.name(m.MemberID))
		if m.ErrorCode != wire.ErrNone {
			return s
		}
		s += fmt.Sprintf(" generation=%d protocol=%s leader=%s", m.GenerationID, text(m.ProtocolName), w.name(m.Leader))
		if m.SkipAssignment {
			s += " skip-assignment"
		}
		for _, o := range m.Members {
			s += fmt.Sprintf(" (%s instance=%s %q)", w.name(o.MemberID), text(o.GroupInstanceID), o.Metadata)
		}
		return s
	case *api.SyncGroupResponse:
		return fmt.Sprintf("sync %s protocol=%s assignment=%q", m.ErrorCode.Name(), text(m.ProtocolName), m.Assignment)
	case *api.ConsumerGroupHeartbeatResponse:
		if m.ErrorCode != wire.ErrNone {
			return fmt.Sprintf("consumer %s %s", m.ErrorCode.Name(), w.rename(text(m.ErrorMessage)))
		}
		w.learn(*m.MemberID, name)
		s := fmt.Sprintf("consumer member=%s epoch=%d", w.name(*m.MemberID), m.MemberEpoch)
		if every := m.HeartbeatIntervalMs; m.MemberEpoch >= 0 && every != 5000 || m.MemberEpoch < 0 && every != 0 {
			s += fmt.Sprintf(" every=%dms", every)
		}
		if m.Assignment != nil {
			s += " has"
			for _, t := range m.Assignment.TopicPartitions {
				s += fmt.Sprintf(" %s%v", topicName(t.TopicID), t.Partitions)
			}
		}
		return s
	case *api.HeartbeatResponse:
		return "heartbeat " + m.ErrorCode.Name()
	case *api.LeaveGroupResponse:
		s := "leave " + m.ErrorCode.Name()
		for _, o := range m.Members {
			s += fmt.Sprintf(" %s/%s=%s", w.name(o.MemberID), text(o.GroupInstanceID), o.ErrorCode.Name())
		}
		return s
	case *api.OffsetCommitResponse:
		s := "commit"
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				s += fmt.Sprintf(" %s-%d=%s", t.Name, p.PartitionIndex, p.ErrorCode.Name())
			}
		}
		return s
	case *api.OffsetDeleteResponse:
		s := "offset-delete " + m.ErrorCode.Name()
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				s += fmt.Sprintf(" %s-%d=%s", t.Name, p.PartitionIndex, p.ErrorCode.Name())
			}
		}
		return s
	case []api.DeleteGroupsResponseResult:
		s := "delete"
		for _, r := range m {
			s += fmt.Sprintf(" %s=%s", r.GroupID, r.ErrorCode.Name())
		}
		return s
	case wire.ErrorCode:
		return "end-txn " + m.Name()
	case api.OffsetFetchResponseGroup:
		s := "fetch"
		if m.ErrorCode != wire.ErrNone {
			s += " " + m.ErrorCode.Name()
		}
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				s += fmt.Sprintf(" %s-%d=%d/%d/%q", t.Name, p.PartitionIndex, p.CommittedOffset, p.CommittedLeaderEpoch, short(text(p.Metadata)))
				if p.ErrorCode != wire.ErrNone {
					s += "/" + p.ErrorCode.Name()
				}
			}
		}
		return s
	}
	return fmt.Sprintf("%T", body)
}

// describe prints a record with times relative to the start of the world.
func (w *world) describe(key, value []byte) string {
	k, v, err := logrec.DecodeGroup(key, value)
	if err != nil {
		return "error " + err.Error()
	}
	switch k := k.(type) {
	case *logrec.OffsetCommitKey:
		if v == nil {
			return fmt.Sprintf("offset %s %s-%d tombstone", k.Group, k.Topic, k.Partition)
		}
		c := v.(*logrec.OffsetCommitValue)
		s := fmt.Sprintf("offset %s %s-%d %d epoch=%d %q v%d", k.Group, k.Topic, k.Partition, c.Offset, c.LeaderEpoch, short(c.Metadata), value[1])
		if c.ExpireTimestamp != -1 {
			s += fmt.Sprintf(" expires=%ds", (c.ExpireTimestamp-c.CommitTimestamp)/1000)
		}
		return s
	case *logrec.GroupMetadataKey:
		if v == nil {
			return fmt.Sprintf("group %s tombstone", k.Group)
		}
		g := v.(*logrec.GroupMetadataValue)
		s := fmt.Sprintf("group %s type=%q generation=%d protocol=%s leader=%s v%d", k.Group, g.ProtocolType, g.Generation, text(g.Protocol), leaderName(w, g.Leader), value[1])
		for _, m := range g.Members {
			s += fmt.Sprintf(" (%s instance=%s %q -> %q)", w.name(m.MemberID), text(m.GroupInstanceID), m.Subscription, m.Assignment)
		}
		return s
	}
	if s, ok := w.describeConsumer(k, v); ok {
		return s
	}
	return fmt.Sprintf("%T of %d bytes", k, len(value))
}

func short(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("%s..%d", s[:8], len(s))
	}
	return s
}

func leaderName(w *world, leader *string) string {
	if leader == nil {
		return "-"
	}
	return w.name(*leader)
}

// durable prints what a log determines: offsets, and each group's last record.
func durable(s *Shard) string {
	var b strings.Builder
	for _, name := range s.names() {
		e := s.groups[name]
		switch {
		case e.consumer != nil:
			b.WriteString(consumerText(e.consumer))
		case e.modern != nil:
			fmt.Fprintf(&b, "%s %s members=%d\n", e.modern.kind, name, e.modern.members)
			for _, key := range slices.Sorted(maps.Keys(e.modern.records)) {
				fmt.Fprintf(&b, "  %x=%x\n", key, e.modern.records[key])
			}
		case !e.classic.logged:
			fmt.Fprintf(&b, "simple %s\n", name)
		default:
			fmt.Fprintf(&b, "classic %s\n", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.offsets)) {
		for _, tp := range s.offsets.partitions(name) {
			c := *s.offsets.get(name, tp)
			fmt.Fprintf(&b, "offset %s %v %+v\n", name, tp, c)
		}
	}
	for _, pending := range txnCounts(s) {
		fmt.Fprintf(&b, "pending %s\n", pending)
	}
	return b.String()
}

// consumerText prints a consumer group whole.
func consumerText(g *consumerGroup) string {
	var b strings.Builder
	fmt.Fprintf(&b, "consumer %s epoch=%d hash=%x target=%d@%d legacy=%v %s\n", g.name, g.epoch, g.hash, g.targetEpoch, g.targetMs, g.legacyMetadata, g.state())
	for _, m := range g.memberIDs() {
		c := *g.member(m)
		instance, rack, wants := text(c.instance), text(c.rack), text(c.assignor)
		c.instance, c.rack, c.assignor = nil, nil, nil
		speaks := ""
		if c.classic != nil {
			speaks = fmt.Sprintf("%x", encodeClassic(c.classic))
		}
		c.classic = nil
		fmt.Fprintf(&b, "  member %+v instance=%s rack=%s assignor=%s classic=%s\n", c, instance, rack, wants, speaks)
	}
	for _, m := range sortedIn(g.target) {
		fmt.Fprintf(&b, "  target %s %v\n", m, g.targetOf(m))
	}
	for _, r := range sortedIn(g.regexes) {
		fmt.Fprintf(&b, "  regex %s %+v\n", r, *g.pattern(r))
	}
	return b.String()
}

// sayCounts prints what metrics show: groups by type and state, offsets, and what was counted since the start.
func (w *world) sayCounts() {
	c := Counts{Groups: make(map[[2]string]int)}
	w.s.Add(&c)
	for _, of := range slices.SortedFunc(maps.Keys(c.Groups), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		w.say("groups %s %s %d", of[0], of[1], c.Groups[of])
	}
	f := w.figures
	w.say("offsets %d: committed %d expired %d deleted %d", c.Offsets, f[CommittedOffsets], f[ExpiredOffsets], f[DeletedOffsets])
	w.say("rebalances: classic %d consumer %d", f[CompletedRebalances], f[ConsumerRebalances])
}

// visible prints what reads can see.
func visible(s *Shard) string {
	var b strings.Builder
	for _, name := range s.committedNames() {
		fmt.Fprintf(&b, "%s\n", name)
		resp := s.FetchOffsets(&api.OffsetFetchRequestGroup{GroupID: name, MemberEpoch: -1})
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				fmt.Fprintf(&b, "  %s-%d=%d %s\n", t.Name, p.PartitionIndex, p.CommittedOffset, *p.Metadata)
			}
		}
	}
	return b.String()
}

func consumerMetadata(topics ...string) []byte {
	return logrec.EncodeVersioned(&logrec.ConsumerProtocolSubscription{Topics: topics}, 0)
}

func topicID(name string) id.UUID {
	var u id.UUID
	copy(u[:], bytes.Repeat([]byte(name), 16)[:16])
	return u
}

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
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// simClient is a client of a consumer group: what it believes, which the coordinator may not know yet.
type simClient struct {
	name, memberID string
	instance       *string
	classic        bool
	epoch          int32 // member epoch, or generation; 0: has to join
	synced         bool  // a classic client that has its assignment
	topics         []string
	regex          *string
	has            map[string]bool // topic-partition
	full           bool            // the next heartbeat says everything
	session        time.Duration   // of a classic client
	rebalance      time.Duration
	waits          shard.Ticket // of a classic client whose answer to JoinGroup comes later
	late           any          // that answer
}

// simConsumers runs clients against one shard. Answers can be lost, batches can, and the leadership can.
type simConsumers struct {
	*world
	rnd     *rand.Rand
	clients []*simClient
	joined  int
	sizes   map[string]int
	sure    bool // no answer is lost
	classic int  // one client in so many is
}

// TestRandomConsumerGroups lets clients of both protocols come, go, crash and change their minds while answers, batches and the
// leadership get lost. At no time may two members own a partition, the working state is the replay of the log, and when it is quiet
// again every partition has an owner who knows it.
func TestRandomConsumerGroups(t *testing.T) {
	seed := seed.Of(t)
	for round := range uint64(5) {
		consumerRun(t, seed+round, 300)
	}
}

func consumerRun(t *testing.T, seed uint64, steps int) {
	s := newSimConsumers(t, seed, rand.New(rand.NewPCG(seed, 5)))
	for i := range steps {
		s.step(i)
		s.out = nil
		if d := cmp.Diff(durable(s.replay(len(s.log))), durable(s.s)); d != "" {
			t.Fatalf("seed %d step %d: the working state is not the replay of the log (-replay +working)\n%s", seed, i, d)
		}
		if err := s.exclusive(); err != nil {
			t.Fatalf("seed %d step %d: %v\n%s", seed, i, err, durable(s.s))
		}
		if err := s.viewed(); err != nil {
			t.Fatalf("seed %d step %d: %v", seed, i, err)
		}
		if err := s.watched(); err != nil {
			t.Fatalf("seed %d step %d: %v", seed, i, err)
		}
	}
	s.release()
	if err := s.settleDown(); err != nil {
		t.Fatalf("seed %d: %v\n%s", seed, err, durable(s.s))
	}
	s.hold = false
	s.advance(3 * time.Hour)
	if e := s.s.groups["g"]; e != nil && !e.empty() {
		t.Fatalf("seed %d: after all sessions are over there is still\n%s", seed, durable(s.s))
	}
}

func newSimConsumers(t *testing.T, seed uint64, rnd *rand.Rand) *simConsumers {
	cfg := DefaultConfig()
	cfg.Consumer.AssignmentInterval = time.Duration(rnd.IntN(2)) * time.Second
	cfg.InitialRebalanceDelay = 0
	cfg.Consumer.Downgrade = rnd.IntN(3) > 0 // or a consumer group may be of nothing but classic members
	s := &simConsumers{world: newWorld(t, cfg, seed), rnd: rnd, sizes: map[string]int{}, classic: 4}
	s.heard = func(ticket shard.Ticket, body any) {
		for _, c := range s.clients {
			if c.waits == ticket {
				c.late = body
			}
		}
	}
	s.grow("t")
	s.grow("u")
	return s
}

func (s *simConsumers) grow(topic string) {
	u := topicID(topic)
	var records []logrec.MetadataRecord
	if s.sizes[topic] == 0 {
		records = append(records, &logrec.TopicRecord{Name: topic, TopicID: u})
	}
	for range 1 + s.rnd.IntN(4) {
		records = append(records, &logrec.PartitionRecord{TopicID: u, PartitionID: int32(s.sizes[topic]), Replicas: []int32{1}, Isr: []int32{1}, Leader: 1})
		s.sizes[topic]++
	}
	s.change(records...)
}

// exclusive: no two members have the same partition, be it assigned or about to be given back. Members that came over from the classic
// protocol have what their leader gave them.
func (s *simConsumers) exclusive() error {
	e := s.s.groups["g"]
	if e == nil || e.consumer == nil {
		return nil
	}
	owners := map[string]string{}
	for _, memberID := range e.consumer.memberIDs() {
		m := e.consumer.member(memberID)
		for _, a := range []partitionEpochs{m.assigned, m.revoking} {
			for p := range a.all() {
				at := fmt.Sprintf("%s-%d", topicName(p.topic), p.partition)
				if other, ok := owners[at]; ok {
					return fmt.Errorf("%s belongs to %s and %s", at, other, memberID)
				}
				owners[at] = memberID
			}
		}
	}
	return nil
}

// viewed: what the group keeps of its members and patterns is what follows from them.
func (s *simConsumers) viewed() error {
	e := s.s.groups["g"]
	if e == nil || e.consumer == nil {
		return nil
	}
	again := newConsumerGroup("g")
	for _, memberID := range e.consumer.memberIDs() {
		again.setMember(e.consumer.member(memberID))
	}
	for _, regex := range sortedIn(e.consumer.regexes) {
		again.setPattern(regex, e.consumer.pattern(regex))
	}
	if got, want := viewText(&e.consumer.view), viewText(&again.view); got != want {
		return fmt.Errorf("the group sees\n%s, its members are\n%s", got, want)
	}
	return nil
}

func viewText(v *consumerView) string {
	text := fmt.Sprintln("classic", v.classic)
	for _, m := range []image.Map[string, int]{v.patterns, v.assignors, v.protocols} {
		for _, key := range sortedIn(m) {
			n, _ := m.Get(key)
			text += fmt.Sprint(key, "=", n, " ")
		}
		text += "\n"
	}
	for _, topic := range sortedIn(v.topics) {
		n, _ := v.topics.Get(topic)
		text += fmt.Sprintln(topic, n)
	}
	for _, instance := range sortedIn(v.static) {
		memberID, _ := v.static.Get(instance)
		text += fmt.Sprintln(instance, memberID)
	}
	var owned []string
	for at, n := range v.owned.All() {
		owned = append(owned, fmt.Sprint(at, n))
	}
	slices.Sort(owned)
	return text + fmt.Sprintln(owned)
}

// watched: every member has a session, but for a classic one whose JoinGroup has yet to be committed.
func (s *simConsumers) watched() error {
	e := s.s.groups["g"]
	if e == nil || e.consumer == nil {
		return nil
	}
	for memberID, m := range e.consumer.members.All() {
		joins := s.hold && m.classic != nil && s.s.committedGroup("g").member(memberID) != m
		if !joins && !s.s.timers.Has(timerKey{timerMember, "g", memberID}) {
			return fmt.Errorf("member %s has no session", memberID)
		}
		if m.owesPartitions() && !s.s.timers.Has(timerKey{timerRevoke, "g", memberID}) && !s.hold {
			return fmt.Errorf("member %s has for ever to give back", memberID)
		}
	}
	return nil
}

func (s *simConsumers) step(i int) {
	switch n := s.rnd.IntN(40); {
	case n < 5 && len(s.clients) < 7:
		s.newClient()
	case n < 7:
		if len(s.clients) > 0 {
			s.leaves(s.clients[s.rnd.IntN(len(s.clients))])
		}
	case n < 9:
		if len(s.clients) > 0 { // crashes without a word
			k := s.rnd.IntN(len(s.clients))
			s.clients = slices.Delete(s.clients, k, k+1)
		}
	case n == 9:
		s.grow([]string{"t", "u", "to"}[s.rnd.IntN(3)])
	case n == 10:
		s.advance(time.Duration(s.rnd.IntN(20)) * time.Second)
	case n == 11:
		if s.hold = !s.hold; !s.hold {
			s.release()
		}
	case n == 12 && s.rnd.IntN(2) == 0:
		s.restart()
	case n == 12:
		s.lose(wire.ErrNotEnoughReplicas)
	case n == 13 && len(s.clients) > 0:
		if c := s.clients[s.rnd.IntN(len(s.clients))]; !c.classic {
			s.subscribe(c)
			c.full = true
		}
	case n == 14 && len(s.clients) > 0:
		if c := s.clients[s.rnd.IntN(len(s.clients))]; c.instance != nil { // is started again with the other protocol
			s.clients = slices.DeleteFunc(s.clients, func(o *simClient) bool { return o == c })
			s.newClient()
			o := s.clients[len(s.clients)-1]
			o.instance = c.instance
			o.speak(!c.classic)
			s.subscribe(o)
		}
	default:
		s.advance(time.Duration(s.rnd.IntN(300)) * time.Millisecond)
		if len(s.clients) > 0 {
			s.heartbeat(s.clients[s.rnd.IntN(len(s.clients))])
		}
	}
}

func (s *simConsumers) newClient() {
	s.joined++
	c := &simClient{name: fmt.Sprintf("c%d", s.joined), full: true, has: map[string]bool{}}
	c.session = time.Duration(6000+s.rnd.IntN(50_000)) * time.Millisecond
	c.rebalance = time.Duration(5000+s.rnd.IntN(55_000)) * time.Millisecond
	c.speak(s.rnd.IntN(s.classic) == 0)
	if s.rnd.IntN(3) == 0 {
		c.instance = new(fmt.Sprintf("i%d", s.rnd.IntN(2)))
	}
	s.subscribe(c)
	s.clients = append(s.clients, c)
}

// speak sets the protocol of a new client. One of the classic protocol is given its id.
func (c *simClient) speak(classic bool) {
	if c.classic, c.memberID = classic, "member-"+c.name; classic {
		c.memberID = ""
	}
}

func (s *simConsumers) subscribe(c *simClient) {
	c.topics, c.regex = []string{"t"}, nil
	switch s.rnd.IntN(4) {
	case 0:
		c.topics = []string{"t", "u"}
	case 1:
		if !c.classic {
			c.topics, c.regex = []string{}, new("t.?")
		}
	}
	if c.regex == nil && !c.classic {
		c.regex = new("")
	}
}

// ask sends a request and returns its answer, or nil if it is lost or not there yet.
func (s *simConsumers) ask(name string, version int16, decide func(Turn) shard.Result) any {
	s.last++
	ticket := s.last
	s.tickets[ticket] = name
	var got any
	res := decide(Turn{Now: s.now, Ticket: ticket, Version: version, Client: Client{ID: "client", Host: "/10.0.0.1"}, Image: s.image})
	for _, a := range res.Answers {
		if a.Ticket == ticket {
			got = a.Body
		}
	}
	if res.Reply != nil && !s.hold {
		got = res.Reply
	}
	s.carry(ticket, res)
	s.settle()
	if !s.sure && s.rnd.IntN(12) == 0 {
		return nil // lost
	}
	return got
}

func (s *simConsumers) heartbeat(c *simClient) {
	if c.classic {
		s.classicStep(c)
		return
	}
	req := api.NewConsumerGroupHeartbeatRequest()
	req.GroupID, req.MemberID, req.MemberEpoch, req.InstanceID = "g", c.memberID, c.epoch, c.instance
	if c.epoch == 0 {
		c.has = map[string]bool{}
	}
	if c.epoch == 0 || c.full || s.rnd.IntN(3) == 0 {
		req.RebalanceTimeoutMs, req.SubscribedTopicNames, req.SubscribedTopicRegex = int32(c.rebalance.Milliseconds()), c.topics, c.regex
		req.TopicPartitions = []heartbeatPartitions{}
		for at := range c.has {
			topicsOf([]string{at}, func(topic string, p int32, _ string) {
				req.TopicPartitions = append(req.TopicPartitions, heartbeatPartitions{TopicID: topicID(topic), Partitions: []int32{p}})
			})
		}
	}
	resp, ok := s.ask(c.name, 1, func(t Turn) shard.Result { return s.s.ConsumerGroupHeartbeat(t, req) }).(*api.ConsumerGroupHeartbeatResponse)
	if !ok {
		c.full = true // as clients do after an error
		return
	}
	switch resp.ErrorCode {
	case wire.ErrNone:
		c.epoch, c.full = resp.MemberEpoch, false
		if resp.Assignment != nil {
			c.has = map[string]bool{}
			for _, t := range resp.Assignment.TopicPartitions {
				for _, p := range t.Partitions {
					c.has[fmt.Sprintf("%s-%d", topicName(t.TopicID), p)] = true
				}
			}
			c.full = true // acknowledges
		}
	case wire.ErrFencedMemberEpoch, wire.ErrUnknownMemberID, wire.ErrGroupIDNotFound:
		c.epoch, c.full = 0, true
	case wire.ErrUnreleasedInstanceID, wire.ErrFencedInstanceID:
		s.clients = slices.DeleteFunc(s.clients, func(o *simClient) bool { return o == c })
	default:
		s.t.Fatalf("%s: %s", c.name, resp.ErrorCode.Name())
	}
}

// classicStep is a cooperative consumer of the classic protocol.
func (s *simConsumers) classicStep(c *simClient) {
	if c.epoch > 0 && c.synced {
		req := &api.HeartbeatRequest{GroupID: "g", MemberID: c.memberID, GenerationID: c.epoch, GroupInstanceID: c.instance}
		resp, ok := s.ask(c.name, 4, func(t Turn) shard.Result { return s.s.Heartbeat(t, req) }).(*api.HeartbeatResponse)
		if ok && resp.ErrorCode != wire.ErrNone {
			s.classicError(c, resp.ErrorCode)
		}
		return
	}
	if c.epoch > 0 {
		req := api.NewSyncGroupRequest()
		req.GroupID, req.MemberID, req.GenerationID, req.GroupInstanceID = "g", c.memberID, c.epoch, c.instance
		if e := s.s.groups["g"]; e != nil && e.classic != nil && e.classic.leader == c.memberID {
			s.lead(e.classic, req)
		}
		resp, ok := s.ask(c.name, 5, func(t Turn) shard.Result { return s.s.SyncGroup(t, req) }).(*api.SyncGroupResponse)
		if !ok {
			return
		}
		if resp.ErrorCode != wire.ErrNone {
			s.classicError(c, resp.ErrorCode)
			return
		}
		c.synced, c.has = true, map[string]bool{}
		if a, ok := decodeAssignment(resp.Assignment); ok {
			for _, tp := range a.AssignedPartitions {
				for _, p := range tp.Partitions {
					c.has[fmt.Sprintf("%s-%d", tp.Topic, p)] = true
				}
			}
		}
		return
	}
	if c.waits != shard.NoTicket {
		if _, open := s.tickets[c.waits]; open && (c.instance != nil || s.rnd.IntN(8) > 0) {
			return
		}
		resp, _ := c.late.(*api.JoinGroupResponse)
		if c.waits, c.late = shard.NoTicket, nil; resp != nil {
			s.classicJoined(c, resp)
			return
		}
	}
	req := api.NewJoinGroupRequest()
	req.GroupID, req.MemberID, req.ProtocolType, req.SessionTimeoutMs = "g", c.memberID, "consumer", int32(c.session.Milliseconds())
	req.RebalanceTimeoutMs, req.GroupInstanceID = int32(c.rebalance.Milliseconds()), c.instance
	var owned []string
	for at := range c.has {
		owned = append(owned, at)
	}
	req.Protocols = []api.JoinGroupRequestProtocol{{Name: "range", Metadata: ownedMetadata(c.topics, owned)}}
	c.waits = s.last + 1
	resp, _ := s.ask(c.name, 9, func(t Turn) shard.Result { return s.s.JoinGroup(t, req) }).(*api.JoinGroupResponse)
	if _, open := s.tickets[c.waits]; resp == nil && open {
		return
	}
	if late, ok := c.late.(*api.JoinGroupResponse); ok && (s.sure || s.rnd.IntN(4) > 0) {
		resp = late
	}
	if c.waits, c.late = shard.NoTicket, nil; resp != nil {
		s.classicJoined(c, resp)
	}
}

func (s *simConsumers) classicJoined(c *simClient, resp *api.JoinGroupResponse) {
	switch resp.ErrorCode {
	case wire.ErrNone:
		c.memberID, c.epoch, c.synced = resp.MemberID, resp.GenerationID, false
	case wire.ErrMemberIDRequired:
		c.memberID = resp.MemberID
	default:
		s.classicError(c, resp.ErrorCode)
	}
}

// classicError lets a classic client join again, but for one whose instance has another client now.
func (s *simConsumers) classicError(c *simClient, code wire.ErrorCode) {
	c.epoch, c.synced = 0, false
	switch code {
	case wire.ErrUnknownMemberID:
		c.memberID, c.has = "", map[string]bool{}
	case wire.ErrFencedInstanceID:
		s.clients = slices.DeleteFunc(s.clients, func(o *simClient) bool { return o == c })
	}
}

// lead gives out partitions as the leader of a classic group does, each topic in turn to those who read it.
func (s *simConsumers) lead(g *classicGroup, req *api.SyncGroupRequest) {
	given := make(map[string][]string)
	for topic, n := range s.sizes {
		var readers []string
		for _, m := range g.list() {
			if sub, ok := decodeSubscription(m.metadata("range")); ok && slices.Contains(sub.Topics, topic) {
				readers = append(readers, m.id)
			}
		}
		for p := range n {
			if len(readers) > 0 {
				to := readers[p%len(readers)]
				given[to] = append(given[to], fmt.Sprintf("%s-%d", topic, p))
			}
		}
	}
	for _, m := range g.list() {
		req.Assignments = append(req.Assignments, api.SyncGroupRequestAssignment{MemberID: m.id, Assignment: assignmentBytes(given[m.id])})
	}
}

func (s *simConsumers) leaves(c *simClient) {
	if c.classic {
		req := &api.LeaveGroupRequest{GroupID: "g", Members: []api.LeaveGroupRequestMember{{MemberID: c.memberID}}}
		s.ask(c.name, 5, func(t Turn) shard.Result { return s.s.LeaveGroup(t, req) })
	} else {
		req := api.NewConsumerGroupHeartbeatRequest()
		req.GroupID, req.MemberID, req.MemberEpoch, req.InstanceID = "g", c.memberID, epochLeave, c.instance
		if c.instance != nil && s.rnd.IntN(2) == 0 {
			req.MemberEpoch = epochStaticLeave
		}
		s.ask(c.name, 1, func(t Turn) shard.Result { return s.s.ConsumerGroupHeartbeat(t, req) })
	}
	s.clients = slices.DeleteFunc(s.clients, func(o *simClient) bool { return o == c })
}

// settleDown lets everybody who is left go on until nothing moves, and looks whether the partitions are where they should be.
func (s *simConsumers) settleDown() error {
	for range 120 {
		s.advance(2 * time.Second)
		for _, c := range slices.Clone(s.clients) {
			s.heartbeat(c)
			s.heartbeat(c)
		}
	}
	s.out = nil
	return s.complete()
}

// complete: the partitions of a consumer group are where they should be.
func (s *simConsumers) complete() error {
	e := s.s.groups["g"]
	switch {
	case e == nil:
		return nil // nobody is left
	case e.classic != nil:
		return s.classicComplete(e.classic)
	}
	g := e.consumer
	if g.state() != "Stable" && g.state() != "Empty" {
		return fmt.Errorf("the group is %s", g.state())
	}
	reads := map[id.UUID]bool{}
	for _, m := range g.members.All() {
		for _, t := range s.s.topicIDs(g.memberTopics(m)) {
			reads[t] = true
		}
	}
	for t := range reads {
		for p := range s.sizes[topicName(t)] {
			if !g.isOwned(t, int32(p)) {
				return fmt.Errorf("nobody has %s-%d", topicName(t), p)
			}
		}
	}
	for _, c := range s.clients {
		m := g.member(c.memberID)
		if m == nil {
			return fmt.Errorf("client %s is not in the group", c.name)
		}
		n := 0
		for p := range m.assigned.all() {
			n++
			if at := fmt.Sprintf("%s-%d", topicName(p.topic), p.partition); !c.has[at] {
				return fmt.Errorf("client %s does not know that it has %s", c.name, at)
			}
		}
		if n != len(c.has) {
			return fmt.Errorf("client %s has %d, the group says %d", c.name, len(c.has), n)
		}
	}
	return nil
}

// classicComplete: every client knows what the leader of the classic group gave it, or what it had when the group became one.
func (s *simConsumers) classicComplete(g *classicGroup) error {
	for _, c := range s.clients {
		m := g.byID[c.memberID]
		if m == nil || g.state != Stable {
			continue // of the other protocol, where the policy does not let both be in one group
		}
		has := map[string]bool{}
		if a, ok := decodeAssignment(m.assignment); ok {
			for _, tp := range a.AssignedPartitions {
				for _, p := range tp.Partitions {
					has[fmt.Sprintf("%s-%d", tp.Topic, p)] = true
				}
			}
		}
		if !maps.Equal(has, c.has) {
			return fmt.Errorf("client %s has %v, the group says %v", c.name, c.has, has)
		}
	}
	return nil
}

package coordinators

import (
	"fmt"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

const sessionTimeout = 6 * time.Second

// member is a consumer in a group. Those of the group "work" consume, transform and produce; those of "plain" only commit.
type member struct {
	group, topic string
	id           string
	modern       bool  // the consumer protocol
	life         int   // of the group in which it got its epoch
	epoch        int32 // member epoch, or generation; 0: has to join
	synced       bool  // a classic member that has its assignment
	leads        []api.JoinGroupResponseMember
	full         bool // the next heartbeat says everything
	busy         bool // a request of the group protocol is under way
	gone         bool
	has          map[int32]int  // partitions, each with the number of the time that it was got
	positions    map[int32]int  // where to go on, as far as known
	asking       map[int32]bool // positions that were asked for
	times        int            // counts what was got
	p            *producer      // of a worker
	committing   bool           // of a plain member
	count        int            // of its commits
}

func (w *World) newMember(name string, p *producer) *member {
	w.serial++
	m := &member{group: name, topic: topicIn, modern: w.rnd.IntN(2) == 0, full: true, p: p}
	if p == nil {
		m.topic = topicOut
	}
	if m.modern {
		m.id = fmt.Sprintf("member-%d", w.serial)
	}
	m.forget()
	return m
}

// forget gives everything up.
func (m *member) forget() {
	m.epoch, m.synced, m.full = 0, false, true
	m.has, m.positions, m.asking = map[int32]int{}, map[int32]int{}, map[int32]bool{}
	if m.p != nil {
		m.p.abort()
	}
}

// holds takes over what the coordinator says the member has.
func (m *member) holds(w *World, all []int32) {
	if w.bugs.WrongMember && w.rnd.IntN(10) == 0 {
		all = nil
		for p := range int32(w.partitionsOf(m.topic)) {
			all = append(all, p)
		}
	}
	w.trace("%s: %s has %v at %d", m.group, m.id, all, m.epoch)
	for p := range m.has {
		if !slices.Contains(all, p) {
			delete(m.has, p)
			delete(m.positions, p)
			delete(m.asking, p)
			if m.p != nil {
				m.p.abort()
			}
		}
	}
	for _, p := range all {
		if m.has[p] == 0 {
			m.times++
			m.has[p] = m.times
		}
	}
}

func (w *World) partitionsOf(topic string) int {
	if topic == topicIn {
		return inPartitions
	}
	return outPartitions
}

// step is one thing of the group protocol, or of the member's work.
func (m *member) step(w *World) {
	switch {
	case m.gone:
	case !m.busy && w.rnd.IntN(3) == 0:
		if w.rnd.IntN(150) == 0 || w.opts.Restless && m.ending() && w.rnd.IntN(2) == 0 {
			m.leave(w)
		} else if m.modern {
			m.heartbeat(w)
		} else {
			m.classic(w)
		}
	case m.p != nil:
		m.work(w)
	default:
		m.commit(w)
	}
}

// ending says that the member's transaction has all it needs and waits for its end.
func (m *member) ending() bool {
	return m.p != nil && m.p.txn != nil && len(m.p.script) > 0 && m.p.script[0].end && m.p.script[0].commit
}

func (m *member) send(w *World, doubled bool, version int16, decide func(s *group.Shard, t group.Turn) shard.Result, done func(body any)) {
	m.busy = true
	w.ask(doubled, func(r reply) {
		w.groups.do(nil, func(s *group.Shard, t shard.Ticket) shard.Result {
			return decide(s, group.Turn{Now: w.now, Ticket: t, Version: version, Client: group.Client{ID: "client", Host: "/10.0.0.1"}, Image: w.image})
		}, r)
	}, func(body any, _ wire.ErrorCode) {
		m.busy = false
		if !m.gone {
			done(body)
		}
	})
}

func (m *member) heartbeat(w *World) {
	req := api.NewConsumerGroupHeartbeatRequest()
	req.GroupID, req.MemberID, req.MemberEpoch = m.group, m.id, m.epoch
	if m.epoch == 0 || m.full || w.rnd.IntN(4) == 0 {
		none := ""
		req.RebalanceTimeoutMs, req.SubscribedTopicNames, req.SubscribedTopicRegex = 30_000, []string{m.topic}, &none
		req.TopicPartitions = []api.ConsumerGroupHeartbeatRequestTopicPartition{}
		if len(m.has) > 0 {
			one := api.ConsumerGroupHeartbeatRequestTopicPartition{TopicID: topicID(m.topic)}
			for p := range int32(w.partitionsOf(m.topic)) {
				if m.has[p] > 0 {
					one.Partitions = append(one.Partitions, p)
				}
			}
			req.TopicPartitions = append(req.TopicPartitions, one)
		}
	}
	m.send(w, true, 1, func(s *group.Shard, t group.Turn) shard.Result { return s.ConsumerGroupHeartbeat(t, req) }, func(body any) {
		a, ok := body.(*api.ConsumerGroupHeartbeatResponse)
		if !ok {
			m.full = true // as clients do after an error
			return
		}
		switch a.ErrorCode {
		case wire.ErrNone:
			m.epoch, m.full = a.MemberEpoch, false
			if a.Assignment != nil {
				var all []int32
				for _, t := range a.Assignment.TopicPartitions {
					all = append(all, t.Partitions...)
				}
				m.holds(w, all)
				m.full = true // acknowledges
			}
			w.claim(m)
		case wire.ErrFencedMemberEpoch, wire.ErrUnknownMemberID, wire.ErrGroupIDNotFound:
			m.forget()
		case wire.ErrGroupMaxSizeReached, wire.ErrCoordinatorLoadInProgress:
			m.full = true
		default:
			w.fail("heartbeat", "%s: %s", m.id, a.ErrorCode.Name())
		}
	})
}

// classic is the next request of a member of the classic protocol.
func (m *member) classic(w *World) {
	switch {
	case m.epoch > 0 && m.synced:
		req := &api.HeartbeatRequest{GroupID: m.group, MemberID: m.id, GenerationID: m.epoch}
		m.send(w, true, 4, func(s *group.Shard, t group.Turn) shard.Result { return s.Heartbeat(t, req) }, func(body any) {
			if a, ok := body.(*api.HeartbeatResponse); ok && a.ErrorCode != wire.ErrNone {
				m.rejoin(a.ErrorCode)
			}
		})
	case m.epoch > 0:
		m.sync(w)
	default:
		m.join(w)
	}
}

// rejoin gives the partitions up, as eager consumers do.
func (m *member) rejoin(code wire.ErrorCode) {
	m.forget()
	if code == wire.ErrUnknownMemberID {
		m.id = ""
	}
}

func (m *member) join(w *World) {
	req := api.NewJoinGroupRequest()
	req.GroupID, req.MemberID, req.ProtocolType, req.SessionTimeoutMs, req.RebalanceTimeoutMs = m.group, m.id, "consumer", int32(sessionTimeout.Milliseconds()), 30_000
	sub := &logrec.ConsumerProtocolSubscription{Topics: []string{m.topic}, OwnedPartitions: []logrec.ConsumerProtocolSubscriptionOwnedPartition{}, GenerationID: -1}
	req.Protocols = []api.JoinGroupRequestProtocol{{Name: "range", Metadata: logrec.EncodeVersioned(sub, 3)}}
	m.send(w, true, 9, func(s *group.Shard, t group.Turn) shard.Result { return s.JoinGroup(t, req) }, func(body any) {
		a, ok := body.(*api.JoinGroupResponse)
		if !ok {
			return
		}
		switch a.ErrorCode {
		case wire.ErrNone:
			m.id, m.epoch, m.synced, m.leads = a.MemberID, a.GenerationID, false, a.Members
			if a.Leader != a.MemberID {
				m.leads = nil
			} else {
				w.Generations++
			}
		case wire.ErrMemberIDRequired:
			m.id = a.MemberID
		case wire.ErrUnknownMemberID:
			m.id = ""
		}
	})
}

func (m *member) sync(w *World) {
	req := api.NewSyncGroupRequest()
	req.GroupID, req.MemberID, req.GenerationID = m.group, m.id, m.epoch
	for i, o := range m.leads {
		a := &logrec.ConsumerProtocolAssignment{}
		one := logrec.ConsumerProtocolAssignmentAssignedPartition{Topic: m.topic}
		for p := i; p < w.partitionsOf(m.topic); p += len(m.leads) {
			one.Partitions = append(one.Partitions, int32(p))
		}
		if len(one.Partitions) > 0 {
			a.AssignedPartitions = append(a.AssignedPartitions, one)
		}
		req.Assignments = append(req.Assignments, api.SyncGroupRequestAssignment{MemberID: o.MemberID, Assignment: logrec.EncodeVersioned(a, 3)})
	}
	m.send(w, true, 5, func(s *group.Shard, t group.Turn) shard.Result { return s.SyncGroup(t, req) }, func(body any) {
		a, ok := body.(*api.SyncGroupResponse)
		switch {
		case !ok:
		case a.ErrorCode != wire.ErrNone:
			m.rejoin(a.ErrorCode)
		default:
			m.synced = true
			var all []int32
			if len(a.Assignment) > 0 {
				var got logrec.ConsumerProtocolAssignment
				if _, err := logrec.DecodeVersioned(a.Assignment, &got); err != nil {
					w.fail("sync", "%v", err)
				}
				for _, tp := range got.AssignedPartitions {
					all = append(all, tp.Partitions...)
				}
			}
			m.holds(w, all)
			w.claim(m)
		}
	})
}

func (m *member) leave(w *World) {
	if m.modern {
		req := api.NewConsumerGroupHeartbeatRequest()
		req.GroupID, req.MemberID, req.MemberEpoch = m.group, m.id, -1
		m.send(w, true, 1, func(s *group.Shard, t group.Turn) shard.Result { return s.ConsumerGroupHeartbeat(t, req) }, func(any) {})
	} else {
		req := &api.LeaveGroupRequest{GroupID: m.group, Members: []api.LeaveGroupRequestMember{{MemberID: m.id}}}
		m.send(w, true, 5, func(s *group.Shard, t group.Turn) shard.Result { return s.LeaveGroup(t, req) }, func(any) {})
	}
	m.forget()
	m.gone = true
	if m.p != nil && m.p.txn != nil { // its transaction goes on without it
		w.enlist(m.p)
	}
}

// offsets are what a member wants to commit for one partition.
type offsets struct {
	m          *member
	partition  int32
	next       int
	memberID   string
	life       int
	generation int32
}

func (m *member) offsets(p int32, next int) *offsets {
	return &offsets{m: m, partition: p, next: next, memberID: m.id, generation: m.epoch, life: m.life}
}

// commit is OffsetCommit of a plain member.
func (m *member) commit(w *World) {
	if m.committing || len(m.has) == 0 {
		return
	}
	p := int32(w.rnd.IntN(w.partitionsOf(m.topic)))
	if m.has[p] == 0 {
		return
	}
	m.count++
	o, version := m.offsets(p, m.count), int16(8)
	if m.modern {
		version = 10
	}
	m.committing = true
	var sent *commit
	w.ask(true, func(r reply) {
		c := w.newCommit(o, nil)
		if sent == nil {
			sent = c
		}
		req := c.request(w)
		w.groups.do(c, func(s *group.Shard, t shard.Ticket) shard.Result {
			res := s.OffsetCommit(group.Turn{Now: w.now, Ticket: t, Version: version, Image: w.image}, req)
			if len(res.Records) > 0 {
				w.decided(c)
			}
			return res
		}, r)
	}, func(body any, _ wire.ErrorCode) {
		m.committing = false
		if a, ok := body.(*api.OffsetCommitResponse); ok && sent != nil {
			if sent.refused = a.Topics[0].Partitions[0].ErrorCode != wire.ErrNone; !sent.refused {
				sent.acked = true
				w.acknowledged(sent)
			}
		}
	})
}

// work is what a worker does next: find out where to go on, or read a few records, write a result for each, and commit both.
func (m *member) work(w *World) {
	if m.p.dead {
		if m.forget(); w.rnd.IntN(2) == 0 {
			m.p = w.newProducer(m.p.name)
		} else {
			m.leave(w)
		}
		return
	}
	if m.p.busy || m.p.txn != nil || m.p.pid == id.NoProducer || m.p.restart {
		m.p.goOn(w)
		return
	}
	p := int32(w.rnd.IntN(inPartitions))
	at, known := m.positions[p]
	switch {
	case m.has[p] == 0 || m.epoch <= 0:
	case !known:
		m.position(w, p)
	default:
		m.transform(w, p, at)
	}
}

// position asks where the group goes on in a partition.
func (m *member) position(w *World, p int32) {
	if m.asking[p] {
		return
	}
	m.asking[p] = true
	time := m.has[p]
	w.fetch(m.group, topicIn, p, !w.bugs.Unstable, func(at int, ok bool) {
		if m.has[p] != time {
			return
		}
		delete(m.asking, p)
		if ok {
			m.positions[p] = max(at, 0)
		}
	})
}

func (m *member) transform(w *World, p int32, at int) {
	var script []action
	in, time := w.in[p], m.has[p]
	var read []*value
	next := in.read(w, at, 1+w.rnd.IntN(3), func(at int, v *value) {
		read = append(read, v)
		script = append(script, action{value: w.give(place{in, at}), to: w.out[w.rnd.IntN(outPartitions)]})
		if w.opts.Curious {
			script = append(script, action{poll: true}, action{poll: true})
		}
	})
	if len(script) == 0 {
		return
	}
	if w.rnd.IntN(4) == 0 {
		script = append(script, action{poll: true})
	}
	script = append(script, action{offsets: m.offsets(p, next)}, action{end: true, commit: w.rnd.IntN(6) > 0})
	m.p.begin(w, script)
	for _, v := range read {
		w.see(v, m.p.txn)
	}
	delete(m.positions, p) // known again when the transaction has ended
	m.p.ended = func(f fate) {
		if f == committed && m.has[p] == time {
			m.positions[p] = next
		}
	}
}

package group

import (
	"time"

	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// retryFence is how long after a lost write a member's deadline comes again.
const retryFence = 500 * time.Millisecond

func (s *Shard) consumerLeave(req *api.ConsumerGroupHeartbeatRequest) *refusal {
	g, no := s.consumerByName(req.GroupID)
	if no != nil {
		return no
	}
	d := &consumerStep{s: s, g: g}
	m, no := s.consumerSender(d, req.MemberID, req.InstanceID, false, false)
	if no != nil {
		return no
	}
	resp := api.NewConsumerGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = &m.id, req.MemberEpoch
	s.res.Reply = resp
	if req.InstanceID != nil && req.MemberEpoch == epochStaticLeave {
		// It keeps what it has until it comes back or its session ends; whoever comes back gets it under new epochs.
		away := *m
		away.epoch, away.assigned, away.revoking = epochStaticLeave, m.assigned.withEpoch(0), nil
		d.add(consumerCurrentRecord(g.name, &away))
		return nil
	}
	s.fence(d, m)
	return nil
}

// fence removes members from their group, whether they leave or are found gone.
func (s *Shard) fence(d *consumerStep, members ...*consumerMember) {
	if len(members) == 0 {
		return
	}
	name := d.g.name
	if s.downgradeAfter(d.g, members) {
		s.downgrade(d, members)
		return
	}
	patterns := make(map[string]bool)
	for _, m := range members {
		if m.regex != "" {
			patterns[m.regex] = true
		}
	}
	for _, m := range members {
		d.remove(m.id)
	}
	for _, p := range sortedKeys(patterns) {
		if _, left := d.g.view.patterns.Get(p); !left {
			d.add(consumerRegexTombstone(name, p))
		}
	}
	d.add(consumerEpochRecord(name, d.g.epoch+1, s.groupHash(d.g.view.topics)))
	if d.g.members.Len() == 0 {
		d.add(consumerTargetRecord(name, d.g.epoch, 0))
	}
	for _, m := range members {
		s.endConsumerTimers(name, m.id)
		s.endClassicWaits(name, m.id)
	}
	s.watchIfLost(name, members...)
}

// watchIfLost sees to it that members which this decision removes are watched over again if its records are lost: their deadlines are
// cancelled, or pass and find nobody.
func (s *Shard) watchIfLost(name string, members ...*consumerMember) {
	s.chain(func(now time.Time, code wire.ErrorCode) {
		e := s.groups[name]
		if code == wire.ErrNone || e == nil || e.consumer == nil {
			return
		}
		for _, m := range members {
			still := e.consumer.member(m.id)
			if still == nil {
				continue
			}
			for _, kind := range []timerKind{timerMember, timerRevoke} {
				if key := (timerKey{kind, name, m.id}); !s.timers.Has(key) && (kind == timerMember || still.owesPartitions()) {
					s.timers.Set(key, now.Add(retryFence), struct{}{})
				}
			}
		}
	})
}

// expireMember removes a member that has not been heard of for its session timeout.
func (s *Shard) expireMember(name, memberID string) {
	if e := s.groups[name]; e != nil && e.consumer != nil {
		if m := e.consumer.member(memberID); m != nil {
			s.fence(&consumerStep{s: s, g: e.consumer}, m)
			s.res.Atomic = true
		}
	}
}

// expireRevocation removes a member that has not given its partitions back within its rebalance timeout.
func (s *Shard) expireRevocation(name, memberID string) {
	if m := s.groups[name].member(memberID); m != nil && m.owesPartitions() {
		s.fence(&consumerStep{s: s, g: s.groups[name].consumer}, m)
		s.res.Atomic = true
	} else if m = s.committedGroup(name).member(memberID); m != nil && m.owesPartitions() {
		// It has given them back, by a record that may yet be lost.
		s.timers.Set(timerKey{timerRevoke, name, memberID}, s.now.Add(retryFence), struct{}{})
	}
}

// member returns the member of that id if this is a consumer group that has it, else nil. e may be nil.
func (e *entry) member(memberID string) *consumerMember {
	if e == nil || e.consumer == nil {
		return nil
	}
	return e.consumer.member(memberID)
}

// loadedConsumer starts the deadlines of a group that was loaded. Kafka gives classic members the session of the group here, until their
// next request; here they have their own from the beginning.
func (s *Shard) loadedConsumer(g *consumerGroup) {
	for _, memberID := range g.memberIDs() {
		s.watchConsumer(g.name, g.member(memberID))
	}
}

// watchConsumer starts the deadlines of a member.
func (s *Shard) watchConsumer(group string, m *consumerMember) {
	s.restartConsumerSession(group, m)
	if m.state == memberUnrevoked && m.epoch != epochStaticLeave {
		// The time that a classic member had to join again was not in the log. It gets it anew without being told to by a heartbeat
		// first, of which there may be none.
		kind := timerRevoke
		if m.classic != nil {
			kind = timerRejoin
		}
		s.timers.Set(timerKey{kind, group, m.id}, s.now.Add(time.Duration(m.rebalanceTimeoutMs)*time.Millisecond), struct{}{})
	}
}

// owesPartitions says whether the member has a deadline for giving partitions back. One of the classic protocol has one for joining
// again instead, and one that is away has given all of them back.
func (m *consumerMember) owesPartitions() bool {
	return m.state == memberUnrevoked && m.classic == nil && m.epoch != epochStaticLeave
}

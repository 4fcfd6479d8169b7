package group

import (
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// joinConsumer lets a member of the classic protocol into a consumer group (KIP-848). To it, each of its own epochs is a generation,
// and a change of its assignment a rebalance.
func (s *Shard) joinConsumer(t Turn, g *consumerGroup, req *api.JoinGroupRequest) {
	s.observe(t.Image)
	if code, memberID := s.joinConsumerAs(t, g, req); code != wire.ErrNone {
		s.res = shard.Result{}
		s.refuseJoin(t, memberID, code)
	}
}

func (s *Shard) joinConsumerAs(t Turn, g *consumerGroup, req *api.JoinGroupRequest) (wire.ErrorCode, string) {
	if !s.cfg.Consumer.Upgrade && !s.cfg.Consumer.Downgrade {
		return wire.ErrInconsistentGroupProtocol, ""
	}
	memberID, unknown := req.MemberID, req.MemberID == ""
	if unknown {
		memberID = s.newUUID()
	}
	if no := s.consumerFull(g, memberID, req.GroupInstanceID); no != nil {
		return no.code, ""
	}
	if !g.supportsClassic(req) {
		return wire.ErrInconsistentGroupProtocol, ""
	}
	if unknown && req.GroupInstanceID == nil && t.Version >= 4 {
		return wire.ErrMemberIDRequired, memberID
	}
	d := &consumerStep{s: s, g: g}
	var replaced *consumerMember
	if req.GroupInstanceID != nil {
		replaced = g.staticMember(*req.GroupInstanceID)
	}
	m, no := s.consumerSender(d, memberID, req.GroupInstanceID, req.GroupInstanceID == nil || unknown, true)
	if no != nil {
		return no.code, ""
	}
	sub, ok := decodeSubscription(req.Protocols[0].Metadata)
	if !ok {
		return wire.ErrInconsistentGroupProtocol, ""
	}
	updated := *m
	updated.clientID, updated.clientHost, updated.regex = t.Client.ID, t.Client.Host, ""
	if req.GroupInstanceID != nil {
		updated.instance = req.GroupInstanceID
	}
	if sub.RackID != nil && *sub.RackID != "" {
		updated.rack = sub.RackID
	}
	if req.RebalanceTimeoutMs != -1 {
		updated.rebalanceTimeoutMs = req.RebalanceTimeoutMs
	}
	updated.topics, updated.classic = uniqueSorted(sub.Topics), classicMetadata(req)
	if replaced != nil && replaced.classic == nil && s.canDowngrade(g, []*consumerMember{replaced}, 1) {
		no = s.joinAndDowngrade(t, d, m, &updated, replaced, &sub)
	} else {
		no = s.joinAndStay(t, d, m, &updated, &sub)
	}
	if no != nil {
		return no.code, ""
	}
	return wire.ErrNone, ""
}

func classicMetadata(req *api.JoinGroupRequest) *logrec.ConsumerGroupMemberMetadataValueClassicMemberMetadata {
	c := &logrec.ConsumerGroupMemberMetadataValueClassicMemberMetadata{
		SessionTimeoutMs:   req.SessionTimeoutMs,
		SupportedProtocols: []logrec.ConsumerGroupMemberMetadataValueClassicMemberMetadataSupportedProtocol{},
	}
	for _, p := range req.Protocols {
		c.SupportedProtocols = append(c.SupportedProtocols, logrec.ConsumerGroupMemberMetadataValueClassicMemberMetadataSupportedProtocol{
			Name: p.Name, Metadata: slices.Clone(p.Metadata)})
	}
	return c
}

// supportsClassic says whether a classic member fits: it has a protocol in common with all the other classic members.
func (g *consumerGroup) supportsClassic(req *api.JoinGroupRequest) bool {
	if req.ProtocolType != consumerProtocol || len(req.Protocols) == 0 {
		return false
	}
	return slices.ContainsFunc(req.Protocols, func(p api.JoinGroupRequestProtocol) bool {
		n, _ := g.view.protocols.Get(p.Name)
		return n == g.view.classic
	})
}

func joinedConsumer(m *consumerMember) *api.JoinGroupResponse {
	resp := api.NewJoinGroupResponse()
	resp.MemberID, resp.GenerationID = m.id, m.epoch
	kind := consumerProtocol
	resp.ProtocolType, resp.ProtocolName = &kind, &m.classic.SupportedProtocols[0].Name
	return resp
}

func (s *Shard) joinAndStay(t Turn, d *consumerStep, m, updated *consumerMember, sub *logrec.ConsumerProtocolSubscription) *refusal {
	after, no := s.consumerUpdate(d, m, updated, s.ownedOf(sub))
	if no != nil {
		return no
	}
	name := d.g.name
	s.res.Atomic = true
	s.res.Reply = joinedConsumer(after)
	s.chain(func(now time.Time, code wire.ErrorCode) {
		e := s.groups[name]
		if code != wire.ErrNone || e == nil || e.consumer == nil || e.consumer.member(after.id) == nil {
			return
		}
		s.timers.Cancel(timerKey{timerRejoin, name, after.id})
		s.restartConsumerSession(name, after)
		s.timers.Set(timerKey{timerResync, name, after.id}, now.Add(time.Duration(after.rebalanceTimeoutMs)*time.Millisecond), struct{}{})
	})
	return nil
}

// joinAndDowngrade lets a classic member take the place of the last member of the consumer protocol, which makes the group a classic
// one again.
func (s *Shard) joinAndDowngrade(t Turn, d *consumerStep, m, updated, replaced *consumerMember, sub *logrec.ConsumerProtocolSubscription) *refusal {
	before := s.groups[d.g.name].consumer
	joined := d.g.clone() // with the member in the place of the other, but what it says
	if !updated.sameMetadata(m) {
		d.add(consumerMemberRecord(d.g.name, updated))
	}
	changed, _, no := s.consumerPattern(d, joined, m, updated)
	if no != nil {
		return no
	}
	bump := changed || !slices.Equal(m.topics, updated.topics)
	if bump || s.metadataStale(before) {
		s.consumerMetadata(d, bump)
	}
	after := updated
	rebalance := d.g.targetEpoch < d.g.epoch
	if !rebalance {
		if after, no = s.reconcile(d, updated, bump, s.ownedOf(sub)); no != nil {
			return no
		}
	}
	var stays []*consumerMember
	ids := before.memberIDs()
	inTableOrder(ids)
	for _, memberID := range ids {
		if m := d.g.member(memberID); m != nil && memberID != after.id {
			stays = append(stays, m)
		}
	}
	stays = append(stays, after) // the first is to lead
	// In a stable group nobody would tell a member that what it waits for is free, nor wait until it is. Kafka makes such a group stable.
	rebalance = rebalance || slices.ContainsFunc(stays, func(m *consumerMember) bool { return !m.reconciled(d.g.targetEpoch) })
	epoch, targetOf := before.epoch, d.g.targetOf
	s.buryConsumer(d.g)
	g := s.toClassic(before, epoch, stays, targetOf, !rebalance)
	s.endConsumerTimers(before.name, replaced.id)
	s.endClassicWaits(before.name, replaced.id)
	s.undoDowngrade(before)
	s.res.Atomic = true
	s.res.Reply = joinedConsumer(after)
	if rebalance {
		s.prepareRebalance(g)
	}
	return nil
}

// consumerSpeaker returns the classic member of a consumer group that sends a request, if it is one and in that generation.
func (s *Shard) consumerSpeaker(g *consumerGroup, memberID string, instance *string, generation int32) (*consumerMember, wire.ErrorCode) {
	m := g.member(memberID)
	if instance != nil {
		if m = g.staticMember(*instance); m != nil && m.id != memberID {
			return nil, wire.ErrFencedInstanceID
		}
	}
	switch {
	case m == nil, m.classic == nil:
		return nil, wire.ErrUnknownMemberID
	case m.epoch != generation:
		return nil, wire.ErrIllegalGeneration
	}
	return m, wire.ErrNone
}

// expectJoin gives a classic member its rebalance timeout to join again, unless it has that already.
func (s *Shard) expectJoin(g *consumerGroup, m *consumerMember) {
	if key := (timerKey{timerRejoin, g.name, m.id}); !s.timers.Has(key) {
		s.timers.Set(key, s.now.Add(time.Duration(m.rebalanceTimeoutMs)*time.Millisecond), struct{}{})
	}
}

// expireClassicWait removes a classic member that did not join again, or did not ask for its assignment, in time. One that speaks the
// consumer protocol by now, under the same id, owes neither.
func (s *Shard) expireClassicWait(name, memberID string) {
	if e := s.groups[name]; e != nil && e.consumer != nil {
		if m := e.consumer.member(memberID); m != nil && m.classic != nil {
			s.expireMember(name, memberID)
		}
	}
}

// heartbeatConsumer answers the Heartbeat of a classic member in a consumer group: a rebalance is when there is something to give
// back or to be had.
func (s *Shard) heartbeatConsumer(t Turn, g *consumerGroup, req *api.HeartbeatRequest) {
	s.observe(t.Image)
	resp := api.NewHeartbeatResponse()
	m, code := s.consumerSpeaker(g, req.MemberID, req.GroupInstanceID, req.GenerationID)
	if code != wire.ErrNone {
		resp.ErrorCode = code
		s.answer(t.Ticket, resp)
		return
	}
	s.restartConsumerSession(g.name, m)
	if m.epoch < g.targetEpoch || s.joinMovesGroup(g) || m.state == memberUnrevoked || m.state == memberUnreleased && !g.waitsForRelease(m) {
		resp.ErrorCode = wire.ErrRebalanceInProgress
		s.expectJoin(g, m)
	}
	s.res.Reply = resp
}

// joinMovesGroup says whether the group needs something that only a member which joins can bring about: a new assignment, or a look at
// topics that have changed. Members of the consumer protocol do both with their heartbeats. Where there are none Kafka leaves the group
// as it is until somebody comes, with partitions that nobody has.
func (s *Shard) joinMovesGroup(g *consumerGroup) bool {
	switch {
	case g.view.classic < g.members.Len():
		return false
	case s.targetDue(g):
		return true
	case !s.metadataStale(g):
		return false
	case s.groupHash(g.view.topics) == g.hash:
		s.checked(g)
		return false
	}
	return true
}

// syncConsumer tells a classic member of a consumer group its assignment.
func (s *Shard) syncConsumer(t Turn, g *consumerGroup, req *api.SyncGroupRequest) {
	s.observe(t.Image)
	m, code := s.consumerSpeaker(g, req.MemberID, req.GroupInstanceID, req.GenerationID)
	switch {
	case code != wire.ErrNone:
	case req.ProtocolType != nil && *req.ProtocolType != consumerProtocol,
		req.ProtocolName != nil && *req.ProtocolName != m.classic.SupportedProtocols[0].Name:
		code = wire.ErrInconsistentGroupProtocol
	case g.targetEpoch > m.epoch && m.state != memberUnrevoked:
		s.expectJoin(g, m)
		code = wire.ErrRebalanceInProgress
	}
	if code != wire.ErrNone {
		s.answer(t.Ticket, syncError(code))
		return
	}
	version, _ := classicVersion(m.classic.SupportedProtocols[0].Metadata)
	resp := api.NewSyncGroupResponse()
	resp.ProtocolType, resp.ProtocolName, resp.Assignment = req.ProtocolType, req.ProtocolName, s.encodeAssignment(m.assigned.list(), version)
	s.res.Reply = resp
	name := g.name
	s.chain(func(now time.Time, code wire.ErrorCode) {
		if e := s.groups[name]; code == wire.ErrNone && e != nil && e.consumer != nil && e.consumer.member(m.id) != nil {
			s.timers.Cancel(timerKey{timerResync, name, m.id})
			s.restartConsumerSession(name, m)
		}
	})
}

// leaveConsumer decides a LeaveGroup request for members of a consumer group, whichever protocol they speak.
func (s *Shard) leaveConsumer(t Turn, g *consumerGroup, req *api.LeaveGroupRequest) {
	resp := api.NewLeaveGroupResponse()
	var leaving []*consumerMember
	for _, who := range req.Members {
		one := api.LeaveGroupResponseMember{MemberID: who.MemberID, GroupInstanceID: who.GroupInstanceID}
		m := g.member(who.MemberID)
		if who.GroupInstanceID != nil {
			if m = g.staticMember(*who.GroupInstanceID); m != nil && who.MemberID != "" && m.id != who.MemberID {
				one.ErrorCode = wire.ErrFencedInstanceID
			}
		}
		switch {
		case one.ErrorCode != wire.ErrNone:
		case m == nil:
			one.ErrorCode = wire.ErrUnknownMemberID
		case !slices.Contains(leaving, m):
			leaving = append(leaving, m)
		}
		resp.Members = append(resp.Members, one)
	}
	s.observe(t.Image)
	s.fence(&consumerStep{s: s, g: g}, leaving...)
	s.res.Atomic = true
	s.res.Reply = resp
}

package group

import (
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// JoinGroup decides a JoinGroup request. The answer may come with this decision or with a later one, when the join phase ends.
func (s *Shard) JoinGroup(t Turn, req *api.JoinGroupRequest) shard.Result {
	s.begin(t.Now)
	refusal := s.cfg.RefuseJoin(req)
	switch {
	case refusal != nil:
		s.answer(t.Ticket, refusal)
	case namesTooLong(t, req):
		s.refuseJoin(t, "", wire.ErrUnknownServerError)
	default:
		if t.Version == 0 {
			// Version 0 has no rebalance timeout.
			req.RebalanceTimeoutMs = req.SessionTimeoutMs
		}
		s.join(t, req)
	}
	return s.end()
}

// RefuseJoin answers a request that is wrong in itself, whatever the group is up to; nil if it is not.
func (c *Config) RefuseJoin(req *api.JoinGroupRequest) *api.JoinGroupResponse {
	session := time.Duration(req.SessionTimeoutMs) * time.Millisecond
	switch {
	case req.GroupID == "":
		return joinError(req.MemberID, wire.ErrInvalidGroupID)
	case session < c.MinSessionTimeout || session > c.MaxSessionTimeout:
		return joinError(req.MemberID, wire.ErrInvalidSessionTimeout)
	}
	return nil
}

// namesTooLong says whether the group's record could not hold a name of the request.
func namesTooLong(t Turn, req *api.JoinGroupRequest) bool {
	longest := max(len(req.GroupID), len(t.Client.ID), len(t.Client.Host), len(req.MemberID), len(req.ProtocolType))
	if req.GroupInstanceID != nil {
		longest = max(longest, len(*req.GroupInstanceID))
	}
	for i := range req.Protocols {
		longest = max(longest, len(req.Protocols[i].Name))
	}
	return longest > maxName
}

func (s *Shard) refuseJoin(t Turn, memberID string, code wire.ErrorCode) {
	s.answer(t.Ticket, joinError(memberID, code))
}

func joinError(memberID string, code wire.ErrorCode) *api.JoinGroupResponse {
	resp := api.NewJoinGroupResponse()
	resp.MemberID, resp.ErrorCode = memberID, code
	return resp
}

func (s *Shard) join(t Turn, req *api.JoinGroupRequest) {
	e := s.groups[req.GroupID]
	unknown := req.MemberID == ""
	if e != nil && e.consumer != nil && !e.empty() {
		s.joinConsumer(t, e.consumer, req)
		return
	}
	if e != nil && e.classic == nil {
		if !e.empty() || e.modern != nil && e.modern.kind == kindShare {
			// Members of another protocol are in the group; there is no way from these to the classic protocol.
			s.refuseJoin(t, "", wire.ErrInconsistentGroupProtocol)
			return
		}
		if !unknown {
			s.refuseJoin(t, req.MemberID, wire.ErrUnknownMemberID)
			return
		}
		// An empty group of another protocol becomes a classic group.
		s.buryGroup(req.GroupID, e)
		e = nil
	}
	isNew := e == nil
	if isNew {
		if !unknown {
			s.refuseJoin(t, req.MemberID, wire.ErrUnknownMemberID)
			return
		}
		e = &entry{classic: newClassicGroup(req.GroupID, t.Now)}
		s.setGroup(s.next, req.GroupID, e)
	}
	g := e.classic
	before := len(s.res.Records)
	switch {
	case !s.accepts(g, req.MemberID):
		s.drop(g, req.MemberID)
		s.refuseJoin(t, "", wire.ErrGroupMaxSizeReached)
	case unknown:
		s.joinNew(t, g, req)
	default:
		s.joinExisting(t, g, req)
	}
	if isNew && len(s.res.Records) == before {
		// The group must be in the log, so that it is committed like everything else. If that fails it is gone, and a member
		// that waits in it has to hear so.
		s.append(emptyGroupRecord(g))
		s.res.Then = func(now time.Time, code wire.ErrorCode) shard.Result {
			s.begin(now)
			if code != wire.ErrNone {
				s.answer(t.Ticket, joinError("", joinWriteError(code)))
			}
			return s.end()
		}
	}
}

// accepts applies group.max.size. While members rejoin, those that wait count, so that the last to come are turned away when
// the limit was lowered; afterwards all members count.
func (s *Shard) accepts(g *classicGroup, memberID string) bool {
	m := g.byID[memberID]
	switch g.state {
	case PreparingRebalance:
		return m != nil && m.awaitingJoin != shard.NoTicket || g.awaitingJoin < s.cfg.MaxSize
	case CompletingRebalance, Stable:
		return m != nil || len(g.byID) < s.cfg.MaxSize
	default:
		return true
	}
}

func (s *Shard) joinNew(t Turn, g *classicGroup, req *api.JoinGroupRequest) {
	if !g.supports(req.ProtocolType, req.Protocols) {
		s.refuseJoin(t, "", wire.ErrInconsistentGroupProtocol)
		return
	}
	if req.GroupInstanceID != nil {
		memberID := s.newMemberID(*req.GroupInstanceID)
		if existing, ok := g.static[*req.GroupInstanceID]; ok {
			s.replaceStatic(t, g, req, existing, memberID)
		} else {
			s.addMember(t, g, req, memberID)
		}
		return
	}
	memberID := s.newMemberID(t.Client.ID)
	if t.Version < 4 {
		s.addMember(t, g, req, memberID)
		return
	}
	// KIP-394: hand out the id and ask the client to come again with it, so that a client that retries does not leave one
	// member behind with every try.
	g.pendingJoin[memberID] = struct{}{}
	s.timers.Set(timerKey{timerSession, g.name, memberID}, t.Now.Add(time.Duration(req.SessionTimeoutMs)*time.Millisecond), struct{}{})
	s.refuseJoin(t, memberID, wire.ErrMemberIDRequired)
}

func (s *Shard) newMemberID(prefix string) string {
	a, b := s.rnd.Uint64(), s.rnd.Uint64()
	a = a&^(0xf<<12) | 4<<12 // version 4
	b = b&^(3<<62) | 1<<63   // variant 10
	var u [16]byte
	binary.BigEndian.PutUint64(u[:8], a)
	binary.BigEndian.PutUint64(u[8:], b)
	name := append(make([]byte, 0, len(prefix)+37), prefix...)
	for _, part := range [][]byte{u[:4], u[4:6], u[6:8], u[8:10], u[10:]} {
		name = hex.AppendEncode(append(name, '-'), part)
	}
	return string(name)
}

func (s *Shard) joinExisting(t Turn, g *classicGroup, req *api.JoinGroupRequest) {
	if !g.supports(req.ProtocolType, req.Protocols) {
		s.refuseJoin(t, req.MemberID, wire.ErrInconsistentGroupProtocol)
		return
	}
	if _, pending := g.pendingJoin[req.MemberID]; pending {
		if req.GroupInstanceID != nil {
			// Ids of static members are never pending, so this is a client in error. Kafka trips over its own assertion.
			s.answer(t.Ticket, joinError("", wire.ErrUnknownServerError))
			return
		}
		s.addMember(t, g, req, req.MemberID)
		return
	}
	if code := g.check(req.MemberID, req.GroupInstanceID); code != wire.ErrNone {
		s.refuseJoin(t, req.MemberID, code)
		return
	}
	m := g.byID[req.MemberID]
	same := m.matches(req.Protocols)
	switch {
	case g.state == PreparingRebalance,
		g.state == CompletingRebalance && !same,
		// A leader that joins again asks for a rebalance, for reasons that its metadata need not show (a new partition, say).
		g.state == Stable && (g.leader == m.id || !same):
		// Whoever asked before under this id lost its connection, or is a repetition of this request.
		s.finishJoin(g, m, joinError(m.id, wire.ErrRebalanceInProgress))
		g.update(m, req, t.Ticket)
		s.rebalanceOrCompleteJoin(g)
	case g.state == CompletingRebalance, g.state == Stable:
		// Nothing changed: most likely the answer got lost. Tell the current generation again.
		s.answer(t.Ticket, s.joinAnswer(g, m, g.state == CompletingRebalance && g.leader == m.id))
	default:
		s.refuseJoin(t, req.MemberID, wire.ErrUnknownMemberID)
	}
}

// joinAnswer tells a member the current generation, and a leader who is in it.
func (s *Shard) joinAnswer(g *classicGroup, m *member, withMembers bool) *api.JoinGroupResponse {
	resp := api.NewJoinGroupResponse()
	resp.MemberID, resp.GenerationID = m.id, g.generation
	resp.ProtocolType, resp.ProtocolName, resp.Leader = optional(g.protocolType), g.protocol, g.leader
	if withMembers {
		resp.Members = make([]api.JoinGroupResponseMember, 0, len(g.byID))
		for _, o := range g.list() {
			resp.Members = append(resp.Members, api.JoinGroupResponseMember{
				MemberID: o.id, GroupInstanceID: o.instance, Metadata: o.metadata(*g.protocol)})
		}
	}
	return resp
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func (s *Shard) addMember(t Turn, g *classicGroup, req *api.JoinGroupRequest, memberID string) {
	m := &member{
		id: memberID, instance: req.GroupInstanceID, clientID: t.Client.ID, clientHost: t.Client.Host,
		rebalanceTimeoutMs: req.RebalanceTimeoutMs, sessionTimeoutMs: req.SessionTimeoutMs,
		assignment: []byte{}, awaitingJoin: t.Ticket, isNew: true,
	}
	m.setProtocols(req.Protocols, g.first())
	if g.state == PreparingRebalance && g.previous == Empty {
		g.newMemberAdded = true // the initial rebalance may wait longer
	}
	g.add(m, req.ProtocolType)
	// The member cannot send heartbeats: it has no id yet, or waits for this answer. If its connection is gone it will come
	// again as somebody else, so it gets a bounded time to be met by the end of the join phase.
	s.timers.Set(timerKey{timerSession, g.name, m.id}, s.now.Add(s.cfg.NewMemberJoinTimeout), struct{}{})
	s.rebalanceOrCompleteJoin(g)
}

func (s *Shard) restartSession(g *classicGroup, m *member) {
	s.timers.Set(timerKey{timerSession, g.name, m.id}, s.now.Add(time.Duration(m.sessionTimeoutMs)*time.Millisecond), struct{}{})
}

// replaceStatic gives a static member that came back without its id a new one (KIP-345). Whoever still waits under the old id
// is fenced.
func (s *Shard) replaceStatic(t Turn, g *classicGroup, req *api.JoinGroupRequest, oldID, newID string) {
	formerLeader := g.leader
	m := s.renameStatic(g, *req.GroupInstanceID, oldID, newID)
	s.restartSession(g, m)
	old := *m
	g.update(m, req, t.Ticket)
	switch g.state {
	case Stable:
		if g.protocol == nil || *g.protocol != g.selectProtocol() {
			s.rebalanceOrCompleteJoin(g)
			return
		}
		// Nothing changes for the others: no rebalance, only the new id has to be in the log before the member may use it.
		s.append(groupRecord(g, nil))
		s.res.Then = func(now time.Time, code wire.ErrorCode) shard.Result {
			s.begin(now)
			s.staticReplaced(t, g, m, old, formerLeader, [2]string{oldID, newID}, code)
			return s.end()
		}
	case CompletingRebalance:
		// The leader may assign to the old id already, so the new one would come out empty-handed.
		s.prepareRebalance(g)
	default:
		s.tryCompleteJoin(g)
	}
}

func (s *Shard) renameStatic(g *classicGroup, instance, oldID, newID string) *member {
	m := g.byID[oldID]
	if m.awaitingJoin != shard.NoTicket {
		s.finishJoin(g, m, joinError(oldID, wire.ErrFencedInstanceID))
	}
	s.finishSync(m, syncError(wire.ErrFencedInstanceID))
	// If the member has yet to ask for its assignment it still has to, under its new id. Kafka waits for the old one to ask, which
	// cannot, and rebalances when it has waited long enough.
	delete(g.byID, oldID)
	m.id, m.isNew = newID, false
	g.byID[newID] = m
	g.static[instance] = newID
	if g.leader == oldID {
		g.leader = newID
	}
	return m
}

// staticReplaced goes on when the record with the new id is committed, or takes the id back when it was lost; ids are the old
// and the new one.
func (s *Shard) staticReplaced(t Turn, g *classicGroup, m *member, old member, formerLeader string, ids [2]string, code wire.ErrorCode) {
	if m.awaitingJoin != t.Ticket || g.byID[m.id] != m {
		// Answered meanwhile: fenced by the next instance, removed, or with a newer generation, whose assignment brings the new id into
		// the log. Kafka takes the id back even then, and fences a member that it has just let in.
		return
	}
	if code != wire.ErrNone {
		resp := joinError("", joinWriteError(code))
		resp.GenerationID, resp.ProtocolType, resp.ProtocolName, resp.Leader = g.generation, optional(g.protocolType), g.protocol, formerLeader
		g.count(m, -1)
		m.protocols, m.rebalanceTimeoutMs, m.sessionTimeoutMs = old.protocols, old.rebalanceTimeoutMs, old.sessionTimeoutMs
		g.count(m, 1)
		g.setAwaitingJoin(m, shard.NoTicket)
		s.renameStatic(g, *m.instance, m.id, ids[0])
		s.restartSession(g, m)
		s.answer(t.Ticket, resp)
		return
	}
	// KIP-814: since version 9 a leader can be told to skip the assignment. Before, the old leader's id keeps it from assigning.
	resp := s.joinAnswer(g, m, false)
	if t.Version >= 9 {
		leads := g.leader == m.id
		resp = s.joinAnswer(g, m, leads)
		resp.SkipAssignment = leads
	} else {
		resp.Leader = formerLeader
	}
	s.finishJoin(g, m, resp)
	s.restartSession(g, m) // it may have passed, unnoticed, while the member waited
}

// joinWriteError maps why a group's record was lost to what a joining or syncing member is told.
func joinWriteError(code wire.ErrorCode) wire.ErrorCode {
	switch code {
	case wire.ErrUnknownTopicOrPartition, wire.ErrNotEnoughReplicas, wire.ErrRequestTimedOut:
		return wire.ErrCoordinatorNotAvailable
	case wire.ErrNotLeaderOrFollower, wire.ErrKafkaStorageError:
		return wire.ErrNotCoordinator
	case wire.ErrMessageTooLarge, wire.ErrRecordListTooLarge, wire.ErrInvalidFetchSize:
		return wire.ErrUnknownServerError
	default:
		return code
	}
}

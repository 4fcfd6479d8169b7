package group

import (
	"time"

	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

func joinKey(g *classicGroup) timerKey { return timerKey{kind: timerJoin, group: g.name} }
func syncKey(g *classicGroup) timerKey { return timerKey{kind: timerSync, group: g.name} }

// rebalanceOrCompleteJoin starts a rebalance, or ends the join phase of the one under way if all have come.
func (s *Shard) rebalanceOrCompleteJoin(g *classicGroup) {
	if g.canRebalance() {
		s.prepareRebalance(g)
	} else {
		s.tryCompleteJoin(g)
	}
}

// tryCompleteJoin ends the join phase if all have come; an initial rebalance waits for its delay in any case.
func (s *Shard) tryCompleteJoin(g *classicGroup) {
	if g.state == PreparingRebalance && g.previous != Empty && g.allJoined() {
		s.completeJoin(g)
	}
}

// prepareRebalance opens the join phase.
func (s *Shard) prepareRebalance(g *classicGroup) {
	if g.state == CompletingRebalance {
		s.resetAssignment(g, wire.ErrRebalanceInProgress)
	}
	g.expectSync(false)
	s.timers.Cancel(syncKey(g))
	if g.state == Empty {
		// A new group: most of the members are still starting, so a short wait saves as many rebalances.
		delay := s.cfg.InitialRebalanceDelay
		g.initial, g.remaining, g.comingSteps = true, max(g.rebalanceTimeout()-delay, 0), comingSteps
		s.timers.Set(joinKey(g), s.now.Add(delay), struct{}{})
		g.transition(PreparingRebalance, s.now)
		return
	}
	g.transition(PreparingRebalance, s.now)
	if g.allJoined() {
		s.completeJoin(g)
		return
	}
	g.initial = false
	s.timers.Set(joinKey(g), s.now.Add(g.rebalanceTimeout()), struct{}{})
}

// A member comes in two steps: it asks for an id, then joins with it (KIP-394). A new group waits for those between the two, so many
// steps at the most: an id is given to whoever asks.
const (
	comingStep  = time.Millisecond
	comingSteps = 50
)

// endInitialRebalance ends the delay of a new group, or extends it while members keep coming and the rebalance timeout allows. Who
// comes right behind the end makes the group rebalance again, which its members may learn from their next heartbeats only.
func (s *Shard) endInitialRebalance(g *classicGroup) {
	delay := time.Duration(0)
	switch {
	case g.newMemberAdded && g.remaining > 0:
		delay = min(s.cfg.InitialRebalanceDelay, g.remaining)
		g.newMemberAdded, g.remaining = false, max(g.remaining-delay, 0)
	case len(g.pendingJoin) > 0 && g.comingSteps > 0:
		delay = comingStep
		g.comingSteps--
	default:
		s.completeJoin(g)
		return
	}
	s.timers.Set(joinKey(g), s.now.Add(delay), struct{}{})
}

// staticPause is how long to wait at least before static members are looked for again: they may have a rebalance timeout of 0.
const staticPause = 100 * time.Millisecond

// completeJoin ends the join phase: who has not come is out, unless static, and all that wait get their answers.
func (s *Shard) completeJoin(g *classicGroup) {
	s.timers.Cancel(joinKey(g))
	g.initial = false
	if g.state != PreparingRebalance {
		return // a deadline that was overtaken
	}
	var late []string
	for _, m := range g.list() {
		if m.awaitingJoin == shard.NoTicket && m.instance == nil {
			late = append(late, m.id)
		}
	}
	s.drop(g, late...)
	if !electLeader(g) && len(g.byID) > 0 {
		// Only static members are left and none has come. Their sessions decide how long to wait for them.
		s.timers.Set(joinKey(g), s.now.Add(max(g.rebalanceTimeout(), staticPause)), struct{}{})
		return
	}
	g.newMemberAdded = false // or the next new generation would wait for more members because of the last that came to this one, as in Kafka
	g.nextGeneration(s.now)
	if g.state == Empty {
		// If this record is lost, the former generation comes back after a failover and its members time out again.
		s.append(groupRecord(g, nil))
		return
	}
	for _, m := range g.list() {
		s.finishJoin(g, m, s.joinAnswer(g, m, g.leader == m.id))
		s.restartSession(g, m)
		m.isNew = false
	}
	g.expectSync(true)
	g.syncFor = g.generation
	s.timers.Set(syncKey(g), s.now.Add(g.rebalanceTimeout()), struct{}{})
}

// electLeader replaces a leader that has not come by the first member that has. It returns whether the group has a leader that
// came.
func electLeader(g *classicGroup) bool {
	if g.leader == "" {
		return false
	}
	if m := g.byID[g.leader]; m != nil && m.awaitingJoin != shard.NoTicket {
		return true
	}
	for _, m := range g.list() {
		if m.awaitingJoin != shard.NoTicket {
			g.leader = m.id
			return true
		}
	}
	return false
}

func (s *Shard) finishJoin(g *classicGroup, m *member, resp *api.JoinGroupResponse) {
	if m.awaitingJoin != shard.NoTicket {
		s.answer(m.awaitingJoin, resp)
		g.setAwaitingJoin(m, shard.NoTicket)
	}
}

func (s *Shard) finishSync(m *member, resp *api.SyncGroupResponse) bool {
	if m.awaitingSync == shard.NoTicket {
		return false
	}
	s.answer(m.awaitingSync, resp)
	m.awaitingSync = shard.NoTicket
	return true
}

// resetAssignment takes the assignments of the generation under way back and tells those that wait for theirs why.
func (s *Shard) resetAssignment(g *classicGroup, code wire.ErrorCode) {
	for _, m := range g.list() {
		m.assignment = []byte{}
		if s.finishSync(m, syncError(code)) {
			s.restartSession(g, m)
		}
	}
}

// expireSession ends a member's session, or the time a pending member had to come back.
func (s *Shard) expireSession(name, memberID string) {
	g := s.classic(name)
	if g == nil {
		return
	}
	if _, pending := g.pendingJoin[memberID]; pending {
		s.drop(g, memberID)
		if g.state == PreparingRebalance && g.allJoined() {
			s.completeJoin(g)
		}
		return
	}
	m := g.byID[memberID]
	if m == nil || m.satisfiesHeartbeat() {
		return
	}
	s.drop(g, memberID) // a new member can time out while it waits
	switch {
	case g.state == Stable || g.state == CompletingRebalance:
		s.rebalanceOrCompleteJoin(g)
	case g.state == PreparingRebalance && g.allJoined():
		s.completeJoin(g)
	}
}

// expireSync removes the members that did not ask for their assignment within the rebalance timeout (KAFKA-10888).
func (s *Shard) expireSync(name string) {
	g := s.classic(name)
	if g == nil || g.generation != g.syncFor || g.state != CompletingRebalance && g.state != Stable || g.unsynced == 0 {
		return
	}
	var late []string
	for _, m := range g.list() {
		if m.unsynced {
			late = append(late, m.id)
		}
	}
	s.drop(g, late...)
	s.prepareRebalance(g)
}

// SyncGroup decides a SyncGroup request. Everybody is answered when the leader's assignment is committed.
func (s *Shard) SyncGroup(t Turn, req *api.SyncGroupRequest) shard.Result {
	s.begin(t.Now)
	s.sync(t, req)
	return s.end()
}

func syncError(code wire.ErrorCode) *api.SyncGroupResponse {
	resp := api.NewSyncGroupResponse()
	resp.ErrorCode = code
	resp.Assignment = []byte{}
	return resp
}

func (s *Shard) sync(t Turn, req *api.SyncGroupRequest) {
	if req.GroupID == "" {
		s.answer(t.Ticket, syncError(wire.ErrInvalidGroupID))
		return
	}
	if e := s.groups[req.GroupID]; e != nil && e.consumer != nil {
		s.syncConsumer(t, e.consumer, req)
		return
	}
	g := s.classic(req.GroupID)
	if g == nil || g.state == Empty {
		s.answer(t.Ticket, syncError(wire.ErrUnknownMemberID))
		return
	}
	if code := g.checkSync(req); code != wire.ErrNone {
		s.answer(t.Ticket, syncError(code))
		return
	}
	m := g.byID[req.MemberID]
	switch g.state {
	case PreparingRebalance:
		s.answer(t.Ticket, syncError(wire.ErrRebalanceInProgress))
	case CompletingRebalance:
		s.finishSync(m, syncError(wire.ErrRebalanceInProgress)) // an earlier try of the same member
		m.awaitingSync = t.Ticket
		s.synced(g, m)
		if g.leader == m.id {
			s.storeAssignment(g, req)
		}
	case Stable:
		s.synced(g, m)
		// A coordinator that was elected just now knows the assignment from records that may yet be lost.
		s.res.Reply = syncAnswer(g, m)
	}
}

func (g *classicGroup) checkSync(req *api.SyncGroupRequest) wire.ErrorCode {
	if code := g.check(req.MemberID, req.GroupInstanceID); code != wire.ErrNone {
		return code
	}
	switch {
	case req.GenerationID != g.generation:
		return wire.ErrIllegalGeneration
	case req.ProtocolType != nil && g.protocolType != "" && *req.ProtocolType != g.protocolType,
		req.ProtocolName != nil && g.protocol != nil && *req.ProtocolName != *g.protocol:
		return wire.ErrInconsistentGroupProtocol
	}
	return wire.ErrNone
}

func (s *Shard) synced(g *classicGroup, m *member) {
	g.setUnsynced(m, false)
	if g.unsynced == 0 {
		s.timers.Cancel(syncKey(g))
	}
}

func syncAnswer(g *classicGroup, m *member) *api.SyncGroupResponse {
	resp := api.NewSyncGroupResponse()
	resp.ProtocolType, resp.ProtocolName, resp.Assignment = optional(g.protocolType), g.protocol, m.assignment
	return resp
}

// storeAssignment writes the leader's assignment; once committed the group is stable and all that wait get theirs.
func (s *Shard) storeAssignment(g *classicGroup, req *api.SyncGroupRequest) {
	assignment := make(map[string][]byte, len(req.Assignments))
	for _, a := range req.Assignments {
		assignment[a.MemberID] = append([]byte{}, a.Assignment...)
	}
	for _, m := range g.list() {
		if assignment[m.id] == nil {
			assignment[m.id] = []byte{}
		}
	}
	generation := g.generation
	s.append(groupRecord(g, assignment))
	s.res.Then = func(now time.Time, code wire.ErrorCode) shard.Result {
		s.begin(now)
		// A member may have joined or left meanwhile: then the next generation is on its way and this one does not matter.
		if g.state == CompletingRebalance && g.generation == generation && s.classic(g.name) == g {
			if code != wire.ErrNone {
				s.resetAssignment(g, joinWriteError(code))
				s.rebalanceOrCompleteJoin(g)
				return s.end()
			}
			for _, m := range g.list() {
				m.assignment = assignment[m.id]
				if s.finishSync(m, syncAnswer(g, m)) {
					// The session may have passed, unnoticed, while the member waited.
					s.restartSession(g, m)
				}
			}
			g.transition(Stable, now)
			s.count(CompletedRebalances, 1)
		}
		return s.end()
	}
}

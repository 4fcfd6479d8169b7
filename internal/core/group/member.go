package group

import (
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// Heartbeat decides a Heartbeat request.
func (s *Shard) Heartbeat(t Turn, req *api.HeartbeatRequest) shard.Result {
	s.begin(t.Now)
	if e := s.groups[req.GroupID]; e != nil && e.consumer != nil {
		s.heartbeatConsumer(t, e.consumer, req)
		return s.end()
	}
	resp := api.NewHeartbeatResponse()
	if resp.ErrorCode = s.checkHeartbeat(req); resp.ErrorCode != wire.ErrNone {
		s.answer(t.Ticket, resp)
		return s.end()
	}
	g := s.classic(req.GroupID)
	s.restartSession(g, g.byID[req.MemberID])
	if g.state == PreparingRebalance {
		resp.ErrorCode = wire.ErrRebalanceInProgress
	}
	s.res.Reply = resp
	return s.end()
}

func (s *Shard) checkHeartbeat(req *api.HeartbeatRequest) wire.ErrorCode {
	if req.GroupID == "" {
		return wire.ErrInvalidGroupID
	}
	g := s.classic(req.GroupID)
	if g == nil {
		return wire.ErrUnknownMemberID
	}
	if code := g.check(req.MemberID, req.GroupInstanceID); code != wire.ErrNone {
		return code
	}
	if req.GenerationID != g.generation {
		return wire.ErrIllegalGeneration
	}
	return wire.ErrNone
}

// LeaveGroup decides a LeaveGroup request for the members named in req.Members, whatever its version. Reasons (KIP-800) are
// for the log of whoever has one; they do not change the decision.
func (s *Shard) LeaveGroup(t Turn, req *api.LeaveGroupRequest) shard.Result {
	s.begin(t.Now)
	resp := api.NewLeaveGroupResponse()
	if req.GroupID == "" {
		resp.ErrorCode = wire.ErrInvalidGroupID
		s.answer(t.Ticket, resp)
		return s.end()
	}
	if e := s.groups[req.GroupID]; e != nil && e.consumer != nil {
		s.leaveConsumer(t, e.consumer, req)
		return s.end()
	}
	g := s.classic(req.GroupID)
	left := false
	for _, m := range req.Members {
		one := api.LeaveGroupResponseMember{MemberID: m.MemberID, GroupInstanceID: m.GroupInstanceID, ErrorCode: wire.ErrUnknownMemberID}
		if g != nil {
			one.ErrorCode = s.leave(g, m.MemberID, m.GroupInstanceID)
		}
		left = left || one.ErrorCode == wire.ErrNone
		resp.Members = append(resp.Members, one)
	}
	if g == nil {
		s.answer(t.Ticket, resp)
		return s.end()
	}
	if left && g.state != Empty {
		s.rebalanceOrCompleteJoin(g)
	}
	s.res.Reply = resp
	return s.end()
}

// leave removes one member: by its id, or, as tools do it, by its group instance id alone.
func (s *Shard) leave(g *classicGroup, memberID string, instance *string) wire.ErrorCode {
	if memberID == "" {
		if instance == nil {
			return wire.ErrUnknownMemberID
		}
		existing, ok := g.static[*instance]
		if !ok {
			return wire.ErrUnknownMemberID
		}
		memberID = existing
	} else if _, pending := g.pendingJoin[memberID]; pending {
		s.drop(g, memberID)
		return wire.ErrNone
	} else if code := g.check(memberID, instance); code != wire.ErrNone {
		return code
	}
	s.drop(g, memberID)
	return wire.ErrNone
}

// drop removes members and pending ones. Whoever still waits under such an id is told, and joins again if it lives.
func (s *Shard) drop(g *classicGroup, memberIDs ...string) {
	for _, memberID := range memberIDs {
		if m := g.byID[memberID]; m != nil {
			s.finishJoin(g, m, joinError("", wire.ErrUnknownMemberID))
			s.finishSync(m, syncError(wire.ErrUnknownMemberID))
		}
		g.remove(memberID)
		s.timers.Cancel(timerKey{timerSession, g.name, memberID})
	}
}

package raft

import (
	"errors"
	"math"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// prospective asks the others whether an election could be won. It changes no epoch, so that a node that was cut off does
// not disturb a working quorum when it comes back (KIP-996).
func (r *Raft) prospective(now time.Time) {
	r.become(Prospective, now)
	r.vote(r.cfg.Self.ID, true, now)
}

func (r *Raft) candidate(now time.Time) {
	if r.hard.Epoch == math.MaxInt32 {
		r.alarm = errors.New("there is no epoch left for an election")
		r.unattach(r.hard, now)
		return
	}
	r.set(HardState{Epoch: r.hard.Epoch + 1, Leader: id.NoBroker, Voted: r.cfg.Self.Replica})
	r.become(Candidate, now)
	r.vote(r.cfg.Self.ID, true, now)
}

// tally counts the votes.
func (r *Raft) tally() (yes, no int) {
	for _, g := range r.votes {
		if g {
			yes++
		} else {
			no++
		}
	}
	return yes, no
}

// rejected reports whether those who have not voted are too few to win.
func (r *Raft) rejected() bool {
	_, no := r.tally()
	return no > len(r.members.Voters)-r.members.Voters.Majority()
}

// vote counts a vote, and asks for those that are missing after the first, which is the node's own.
func (r *Raft) vote(from id.BrokerID, granted bool, now time.Time) {
	if !r.knows(from) {
		return
	}
	first := len(r.votes) == 0
	r.votes[from] = granted
	delete(r.retry, from)
	yes, _ := r.tally()
	switch {
	case yes >= r.members.Voters.Majority() && r.role == Prospective:
		r.candidate(now)
	case yes >= r.members.Voters.Majority():
		r.lead(now)
	case r.rejected() && r.role == Prospective:
		r.lost(now)
	case r.rejected():
		r.retry = nil // the rest of the timeout is a pause
	case first:
		r.retry = map[id.BrokerID]time.Time{}
		for _, v := range r.members.Voters {
			if v.ID != r.cfg.Self.ID {
				r.retry[v.ID] = now
			}
		}
		r.askAgain(now)
	}
}

// lost leaves a question that was answered with no, or by too few.
func (r *Raft) lost(now time.Time) {
	if l := r.hard.Leader; l != id.NoBroker && l != r.cfg.Self.ID && r.reachable(l, r.endpoints) {
		endpoints := r.endpoints
		r.follow(r.hard.Epoch, l, endpoints, now)
		return
	}
	r.unattach(r.hard, now)
}

// askAgain sends what retry says is due.
func (r *Raft) askAgain(now time.Time) {
	for _, v := range r.members.Voters { // in order, so that a run can be repeated
		at, ok := r.retry[v.ID]
		if !ok || now.Before(at) {
			continue
		}
		r.retry[v.ID] = now.Add(r.cfg.RequestTimeout)
		switch r.role {
		case Prospective, Candidate:
			r.send(Message{Type: MsgVote, To: v.ID, Epoch: r.hard.Epoch, PreVote: r.role == Prospective, Log: r.cfg.Log.End()})
		case Resigned:
			r.send(Message{Type: MsgEndEpoch, To: v.ID, Epoch: r.hard.Epoch, Successors: r.successors})
		}
	}
}

// stepVote answers a vote or a question. The errors are those of Kafka's Vote API.
func (r *Raft) stepVote(now time.Time, m Message) {
	refuse := func(code wire.ErrorCode) {
		a := r.Answer(m)
		a.Error = code
		r.out = append(r.out, a)
	}
	// A candidate has raised its epoch and so has no record of it; who merely asks may have one.
	illegal := m.Log.Epoch >= m.Epoch && !m.PreVote || m.Log.Epoch > m.Epoch
	if m.Log.Offset < 0 || m.Log.Epoch < 0 || illegal {
		refuse(wire.ErrInvalidRequest)
		return
	}
	if code := r.fromVoter(m); code != wire.ErrNone {
		refuse(code)
		return
	}
	if m.Epoch > r.hard.Epoch { // also a question comes in the epoch that its sender is in
		r.unattach(HardState{Epoch: m.Epoch, Leader: id.NoBroker, Voted: NoReplica}, now)
	}
	if !r.isMeant(m) {
		refuse(wire.ErrInvalidVoterKey)
		return
	}
	if r.distrust != nil { // what this node could say is not all that it may have promised
		refuse(wire.ErrBrokerNotAvailable)
		return
	}
	a := r.Answer(m)
	a.Granted = r.mayVote(m)
	r.out = append(r.out, a)
	if !a.Granted || m.PreVote || r.hard.Voted.ID != id.NoBroker {
		return
	}
	// Whoever got the vote is as good a leader as this node: it gets the time of an election.
	r.set(HardState{Epoch: r.hard.Epoch, Leader: r.hard.Leader, Voted: m.From})
	if r.role == Prospective {
		r.prospective(now)
	} else if r.isVoter() {
		r.deadline = r.electionDeadline(now)
	}
}

// fromVoter checks what the requests between voters have in common.
func (r *Raft) fromVoter(m Message) wire.ErrorCode {
	switch {
	case m.Epoch < r.hard.Epoch:
		return wire.ErrFencedLeaderEpoch
	case m.From.ID < 0 || m.From.ID == r.cfg.Self.ID:
		return wire.ErrInvalidRequest
	}
	return wire.ErrNone
}

// isMeant reports whether a request that names its receiver names this node.
func (r *Raft) isMeant(m Message) bool {
	self := r.cfg.Self.Replica
	return m.To == self.ID && (m.ToDirectory.IsZero() || m.ToDirectory == self.DirectoryID)
}

// mayVote reports whether a vote of the current epoch can be given. One who hears from a leader, or leads, or stands itself,
// gives none; a mere question is answered by what the logs say. Whether the sender votes is not asked: it may know a set of
// voters that this node does not have yet.
func (r *Raft) mayVote(m Message) bool {
	upToDate := !m.Log.Behind(r.cfg.Log.End())
	switch {
	case r.role == Leader:
		return false
	case r.role == Candidate, r.role == Resigned:
		return m.PreVote && upToDate
	case r.role == Follower:
		// A follower that has fetched from its leader knows that no election is needed.
		return m.PreVote && !r.fetching.succeeded && upToDate
	case m.PreVote:
		return upToDate
	case r.hard.Voted.ID != id.NoBroker:
		return r.hard.Voted.ID == m.From.ID && (r.hard.Voted.DirectoryID.IsZero() || r.hard.Voted == m.From)
	}
	return r.hard.Leader == id.NoBroker && upToDate
}

func (r *Raft) stepVoteAnswer(now time.Time, m Message) {
	if r.distrust != nil {
		r.observeAnswer(m, now)
		if m.Error == wire.ErrNone || m.Error == wire.ErrFencedLeaderEpoch {
			r.hear(m.From.ID, now)
		}
		return
	}
	if m.Error == wire.ErrUnsupportedVersion {
		if r.role == Prospective && m.PreVote { // somebody is too old for questions (before KIP-996)
			r.candidate(now)
		}
		return
	}
	if r.observeAnswer(m, now) || m.Error != wire.ErrNone {
		return
	}
	if m.PreVote && r.role == Prospective || !m.PreVote && r.role == Candidate {
		r.vote(m.From.ID, m.Granted, now)
	}
}

// Resign ends a leadership on purpose: the voters that know most are asked to stand at once.
func (r *Raft) Resign(now time.Time) {
	if r.role != Leader {
		return
	}
	r.resign(r.bySize(), now)
}

// resign tells the other voters, until they have acknowledged or a new epoch begins.
func (r *Raft) resign(successors []Replica, now time.Time) {
	r.become(Resigned, now)
	r.hw = -1
	r.successors, r.retry = successors, map[id.BrokerID]time.Time{}
	for _, v := range r.members.Voters {
		if v.ID != r.cfg.Self.ID {
			r.retry[v.ID] = now
		}
	}
	r.askAgain(now)
}

func (r *Raft) stepEndEpoch(now time.Time, m Message) {
	a := r.Answer(m)
	if a.Error = r.fromVoter(m); a.Error == wire.ErrNone && !r.observe(m.Epoch, m.From.ID, m.Endpoints, true, now) {
		a.Error = wire.ErrInvalidRequest
	}
	a.Epoch, a.Leader, a.Endpoints = r.hard.Epoch, r.hard.Leader, r.LeaderEndpoints()
	r.out = append(r.out, a)
	if a.Error != wire.ErrNone || r.role != Follower || r.hard.Leader != m.From.ID || !r.isVoter() {
		return
	}
	r.fetching.succeeded = false // the leader itself says that an election is needed
	// The first successor stands at once, each of the others after it had its time.
	if wait := r.successionDelay(m.Successors); wait > 0 {
		r.deadline = now.Add(wait)
	} else {
		r.prospective(now)
	}
}

// successionDelay is how long this node waits for better successors: twice as long for each rank, up to a bound, which also
// holds for who is not named.
func (r *Raft) successionDelay(successors []Replica) time.Duration {
	rank := len(successors)
	for i, s := range successors {
		if s.ID == r.cfg.Self.ID && (s.DirectoryID.IsZero() || s.DirectoryID == r.cfg.Self.DirectoryID) {
			rank = i
			break
		}
	}
	most := r.cfg.ElectionBackoffMax
	switch {
	case rank == 0:
		return 0
	case rank >= len(successors) || len(successors) > 32:
		return most
	}
	return min(most, most>>(len(successors)-1)<<(rank-1))
}

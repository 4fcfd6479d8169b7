package raft

import (
	"fmt"
	"math"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// Deadline is when Tick has something to do; false when nothing is due ever.
func (r *Raft) Deadline() (at time.Time, ok bool) {
	consider := func(t time.Time) {
		if !t.IsZero() && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	if r.role == Leader {
		if len(r.members.Voters) > 1 {
			consider(r.leading.beginAt)
			consider(r.leading.checkQuorum)
		}
		return at, ok
	}
	consider(r.deadline)
	for _, t := range r.retry {
		consider(t)
	}
	if r.fetches() {
		consider(r.fetching.next)
	}
	if r.distrust != nil {
		consider(r.distrust.askAt)
	}
	return at, ok
}

// Tick does what time demands.
func (r *Raft) Tick(now time.Time) {
	if r.role == Leader {
		r.tickLeader(now)
		return
	}
	r.enfranchise(now)
	if !r.deadline.IsZero() && !now.Before(r.deadline) {
		r.expire(now)
	}
	r.askAgain(now)
	r.askForTrust(now)
	r.settleFetch(now)
}

// expire ends what the deadline was for.
func (r *Raft) expire(now time.Time) {
	switch {
	case !r.isVoter(): // an observer has no elections
		r.deadline = time.Time{}
	case r.role == Resigned: // nobody took over; the epoch is spent, since this node led it
		r.unattach(HardState{Epoch: r.hard.Epoch + 1, Leader: id.NoBroker, Voted: NoReplica}, now)
		r.prospective(now)
	case r.role == Prospective:
		r.lost(now)
		if r.role == Unattached { // too few have answered: ask again at once
			r.prospective(now)
		}
	default: // Candidate included: a lost election is followed by another question
		r.prospective(now)
	}
}

// maxEpoch is the largest epoch that is believed: one beyond it is forged, and to follow it would leave no room for elections.
const maxEpoch = math.MaxInt32 - 1<<16

// Step takes a message of another node.
func (r *Raft) Step(now time.Time, m Message) {
	if m.Epoch > maxEpoch {
		r.alarm = fmt.Errorf("node %d is said to be in epoch %d", m.From.ID, m.Epoch)
		if !m.Type.IsAnswer() {
			a := r.Answer(m)
			a.Error = wire.ErrInvalidRequest
			r.out = append(r.out, a)
		}
		return
	}
	switch m.Type {
	case MsgVote:
		r.stepVote(now, m)
	case MsgVoteAnswer:
		r.stepVoteAnswer(now, m)
	case MsgBeginEpoch:
		r.stepBeginEpoch(now, m)
	case MsgBeginEpochAnswer:
		r.observeAnswer(m, now)
	case MsgEndEpoch:
		r.stepEndEpoch(now, m)
	case MsgEndEpochAnswer:
		if !r.observeAnswer(m, now) && r.role == Resigned && m.Error == wire.ErrNone {
			delete(r.retry, m.From.ID)
		}
	case MsgFetch:
		r.stepFetch(now, m)
	case MsgFetchAnswer:
		r.stepFetchAnswer(now, m)
	case MsgFetchSnapshot:
		r.stepFetchSnapshot(now, m)
	case MsgFetchSnapshotAnswer:
		r.stepFetchSnapshotAnswer(now, m)
	}
	r.enfranchise(now)
	r.settleFetch(now)
}

// enfranchise lets a node that became a voter meanwhile wait for an election.
func (r *Raft) enfranchise(now time.Time) {
	if r.role == Unattached && r.deadline.IsZero() && r.isVoter() {
		r.deadline = r.electionDeadline(now)
	}
}

// Unreachable says that a request could not be delivered, or that its connection broke before the answer. It is tried again
// after a pause; a fetch goes to another node once, which may know of another leader.
func (r *Raft) Unreachable(now time.Time, m Message) {
	again := now.Add(r.cfg.RetryBackoff)
	switch m.Type {
	case MsgVote:
		if r.distrust != nil {
			return
		}
		fallthrough
	case MsgEndEpoch:
		if _, waiting := r.retry[m.To]; waiting && m.Epoch == r.hard.Epoch {
			r.retry[m.To] = again
		}
	case MsgFetch, MsgFetchSnapshot:
		if r.fetching.busy && r.fetching.to == m.To {
			r.fetchFailed(again)
		}
	}
}

func (r *Raft) stepBeginEpoch(now time.Time, m Message) {
	a := r.Answer(m)
	switch a.Error = r.fromVoter(m); {
	case a.Error != wire.ErrNone:
	case !r.observe(m.Epoch, m.From.ID, m.Endpoints, true, now):
		a.Error = wire.ErrInvalidRequest
	case !r.isMeant(m):
		a.Error = wire.ErrInvalidVoterKey
	}
	a.Epoch, a.Leader, a.Endpoints = r.hard.Epoch, r.hard.Leader, r.LeaderEndpoints()
	r.out = append(r.out, a)
}

// reachable reports whether a leader of whom endpoints are told can be followed. Voters of a static quorum are told by the
// configuration alone; where they are in the log, the sender may know newer ones.
func (r *Raft) reachable(leader id.BrokerID, endpoints []Endpoint) bool {
	return r.knows(leader) || len(endpoints) > 0 && (r.members.KRaftVersion > 0 || len(r.members.Voters) == 0)
}

// observe takes note of another node's epoch and leader. It reports false for what contradicts what this node knows to be so:
// two leaders of one epoch, or itself as the leader where it is none. direct says that it is the leader who speaks.
func (r *Raft) observe(epoch id.LeaderEpoch, leader id.BrokerID, endpoints []Endpoint, direct bool, now time.Time) bool {
	self := r.cfg.Self.ID
	if leader == self && r.distrust != nil {
		leader = id.NoBroker // it may have been
	}
	switch {
	case epoch < r.hard.Epoch:
		return true
	case epoch == r.hard.Epoch && leader != id.NoBroker && r.hard.Leader != id.NoBroker && leader != r.hard.Leader:
		r.alarm = fmt.Errorf("epoch %d has the leader %d, and is said to have the leader %d", epoch, r.hard.Leader, leader)
		return false
	case leader == self && (epoch > r.hard.Epoch || r.hard.Leader != self):
		r.alarm = fmt.Errorf("this node is said to lead epoch %d, but it is in epoch %d and did not", epoch, r.hard.Epoch)
		if epoch > r.hard.Epoch { // whatever happened, that epoch is spent
			r.unattach(HardState{Epoch: epoch, Leader: id.NoBroker, Voted: NoReplica}, now)
		}
		return false
	case leader == id.NoBroker || leader == self || !r.reachable(leader, endpoints):
		known := leader == id.NoBroker || leader == self
		if epoch > r.hard.Epoch && (known || !direct) {
			r.unattach(HardState{Epoch: epoch, Leader: id.NoBroker, Voted: NoReplica}, now)
		}
		return known
	case epoch > r.hard.Epoch, r.hard.Leader == id.NoBroker:
		r.follow(epoch, leader, endpoints, now)
	case r.role == Unattached, r.role == Prospective && direct: // known, but given up
		r.follow(epoch, leader, endpoints, now)
	case r.role == Follower && len(endpoints) > len(r.endpoints):
		r.endpoints = endpoints
	}
	return true
}

// observeAnswer takes note of what an answer says of epoch and leader. It reports whether nothing else in it counts.
func (r *Raft) observeAnswer(m Message, now time.Time) (done bool) {
	if m.Epoch < r.hard.Epoch || m.Error == wire.ErrUnknownLeaderEpoch {
		return true
	}
	newer := m.Epoch > r.hard.Epoch
	return !r.observe(m.Epoch, m.Leader, m.Endpoints, false, now) || newer ||
		m.Error == wire.ErrFencedLeaderEpoch || m.Error == wire.ErrNotLeaderOrFollower
}

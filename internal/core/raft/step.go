package raft

import (
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Deadline is when Tick has something to do; false when nothing is due ever.
func (r *Raft) Deadline() (time.Time, bool) {
	if r.role == Follower && r.fetching && r.fetchRetry.Before(r.deadline) {
		return r.fetchRetry, true
	}
	if r.role != Leader {
		return r.deadline, !r.deadline.IsZero()
	}
	if len(r.members.Voters) == 1 {
		return time.Time{}, false
	}
	if r.beginAt.Before(r.checkQuorum) {
		return r.beginAt, true
	}
	return r.checkQuorum, true
}

// Tick does what time demands.
func (r *Raft) Tick(now time.Time) {
	if r.role == Leader {
		r.tickLeader(now)
		return
	}
	if r.role == Follower && r.fetching && !now.Before(r.fetchRetry) {
		r.fetching = false // the answer is lost
		r.fetch(now)
	}
	if r.deadline.IsZero() || now.Before(r.deadline) {
		return
	}
	switch {
	case !r.isVoter():
		r.become(Unattached, now)
	case r.role == Resigned: // nobody took over; the epoch is spent, since this node led it
		r.set(HardState{Epoch: r.hard.Epoch + 1, Leader: id.NoBroker, Voted: NoReplica})
		r.become(Unattached, now)
		r.prospective(now)
	case r.role == Prospective:
		r.lost(now)
	default: // Candidate included: a lost election is followed by another question
		r.prospective(now)
	}
}

// Resign ends a leadership on purpose: the voters that know most are asked to stand at once.
func (r *Raft) Resign(now time.Time) {
	if r.role != Leader {
		return
	}
	successors := r.bySize()
	for _, v := range r.members.Voters {
		if v.ID != r.cfg.Self.ID {
			r.send(Message{Type: MsgEndEpoch, To: v.ID, Epoch: r.hard.Epoch, Successors: successors})
		}
	}
	r.become(Resigned, now)
}

// observe takes note of another node's epoch and leader. It reports whether the sender is behind.
func (r *Raft) observe(epoch id.LeaderEpoch, leader id.BrokerID, now time.Time) (old bool) {
	switch {
	case epoch < r.hard.Epoch:
		return true
	case epoch > r.hard.Epoch:
		r.set(HardState{Epoch: epoch, Leader: id.NoBroker, Voted: NoReplica})
		r.become(Unattached, now)
	}
	if leader != id.NoBroker && leader != r.cfg.Self.ID && r.hard.Leader == id.NoBroker && r.knows(leader) {
		r.set(HardState{Epoch: epoch, Leader: leader, Voted: r.hard.Voted})
		r.become(Follower, now)
	}
	return false
}

// Step takes a message of another node.
func (r *Raft) Step(now time.Time, m Message) {
	switch m.Type {
	case MsgVote:
		r.stepVote(now, m)
	case MsgVoteAnswer:
		if r.observe(m.Epoch, m.Leader, now) || m.Refused {
			return
		}
		if m.PreVote && r.role == Prospective || !m.PreVote && r.role == Candidate {
			r.vote(m.From.ID, m.Granted, now)
		}
	case MsgBeginEpoch:
		old := !r.knows(m.From.ID) || r.observe(m.Epoch, m.From.ID, now)
		r.send(Message{Type: MsgBeginEpochAnswer, To: m.From.ID, Epoch: r.hard.Epoch, Refused: old})
	case MsgBeginEpochAnswer:
		if !r.observe(m.Epoch, m.Leader, now) && r.role == Leader && !m.Refused {
			r.replica(m.From).acknowledged = true
		}
	case MsgEndEpoch:
		r.stepEndEpoch(now, m)
	case MsgEndEpochAnswer:
		r.observe(m.Epoch, m.Leader, now)
	case MsgFetch:
		r.stepFetch(now, m)
	case MsgFetchAnswer:
		r.stepFetchAnswer(now, m)
	}
}

func (r *Raft) stepVote(now time.Time, m Message) {
	if m.Epoch > r.hard.Epoch { // also a question comes in the epoch that its sender is in
		r.observe(m.Epoch, id.NoBroker, now)
	}
	granted := m.Epoch >= r.hard.Epoch && r.mayVote(m)
	if granted && !m.PreVote {
		r.set(HardState{Epoch: r.hard.Epoch, Leader: r.hard.Leader, Voted: m.From})
		if r.role == Prospective || r.role == Unattached {
			r.become(Unattached, now)
		}
	}
	r.send(Message{Type: MsgVoteAnswer, To: m.From.ID, Epoch: r.hard.Epoch, Leader: r.hard.Leader, PreVote: m.PreVote, Granted: granted, Refused: m.Epoch < r.hard.Epoch})
}

// mayVote reports whether a vote of the current epoch can be given. One who hears from a leader, or leads, or stands itself,
// gives none; a mere question is answered by what the logs say.
func (r *Raft) mayVote(m Message) bool {
	upToDate := !m.Log.Behind(r.cfg.Log.End())
	switch r.role {
	case Leader, Candidate, Resigned:
		return m.PreVote && r.role != Leader && upToDate
	case Follower:
		// A follower that has fetched from its leader knows that no election is needed.
		return m.PreVote && r.hw < 0 && upToDate
	}
	if m.PreVote {
		return upToDate
	}
	if r.hard.Voted.ID != id.NoBroker {
		return r.hard.Voted.ID == m.From.ID && (r.hard.Voted.DirectoryID.IsZero() || r.hard.Voted == m.From)
	}
	return r.hard.Leader == id.NoBroker && upToDate
}

func (r *Raft) stepEndEpoch(now time.Time, m Message) {
	old := r.observe(m.Epoch, m.From.ID, now)
	r.send(Message{Type: MsgEndEpochAnswer, To: m.From.ID, Epoch: r.hard.Epoch, Refused: old})
	if old || r.role != Follower || r.hard.Leader != m.From.ID || !r.isVoter() {
		return
	}
	// The first successor stands at once, the others after it had its time.
	rank := slices.Index(m.Successors, r.cfg.Self.ID)
	if rank <= 0 {
		r.prospective(now)
		return
	}
	r.deadline = now.Add(time.Duration(rank) * r.cfg.ElectionTimeout)
}

package raft

import (
	"cmp"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// tickLeader announces the epoch to voters that do not fetch, and resigns when a majority is not heard from.
func (r *Raft) tickLeader(now time.Time) {
	if len(r.members.Voters) > 1 && !now.Before(r.checkQuorum) {
		r.Resign(now)
		return
	}
	if !now.Before(r.beginAt) {
		r.beginEpoch(now)
	}
}

func (r *Raft) beginEpoch(now time.Time) {
	r.beginAt = now.Add(r.cfg.FetchTimeout / 2)
	for _, v := range r.members.Voters {
		if v.ID == r.cfg.Self.ID {
			continue
		}
		if p := r.replicas[v.Replica]; p == nil || now.Sub(p.lastFetch) >= r.cfg.FetchTimeout/2 {
			r.send(Message{Type: MsgBeginEpoch, To: v.ID, Epoch: r.hard.Epoch})
		}
	}
}

// replica is the progress of a voter or an observer.
func (r *Raft) replica(k Replica) *progress {
	p := r.replicas[k]
	if p == nil {
		if len(r.replicas) >= maxReplicas {
			r.forgetIdle()
		}
		p = &progress{end: -1}
		r.replicas[k] = p
	}
	return p
}

// maxReplicas bounds how many voters and observers are kept in mind.
const maxReplicas = 10_000

// forgetIdle drops the replica that was not heard from for the longest time and does not vote.
func (r *Raft) forgetIdle() {
	var oldest Replica
	var at time.Time
	for k, p := range r.replicas {
		if !r.members.Voters.Has(k) && (at.IsZero() || p.lastFetch.Before(at)) {
			oldest, at = k, p.lastFetch
		}
	}
	delete(r.replicas, oldest)
}

// stepFetch learns from a fetch how far its sender is. The owner serves it: the answer's records, the waiting for new ones
// and the answer itself are its business; Diverges tells whether the follower must cut its log first.
func (r *Raft) stepFetch(now time.Time, m Message) {
	if r.observe(m.Epoch, id.NoBroker, now) || r.role != Leader {
		r.send(Message{Type: MsgFetchAnswer, To: m.From.ID, Epoch: r.hard.Epoch, Leader: r.hard.Leader, HighWatermark: -1, Refused: true, Log: m.Log})
		return
	}
	if d := r.Diverges(m.Log); d != nil {
		r.send(Message{Type: MsgFetchAnswer, To: m.From.ID, Epoch: r.hard.Epoch, Leader: r.hard.Leader, HighWatermark: r.hw, Diverging: d, Log: m.Log})
		return
	}
	p := r.replica(m.From)
	end := r.cfg.Log.End().Offset
	if m.Log.Offset >= end {
		p.lastCaughtUp = now
	}
	p.end, p.lastFetch = m.Log.Offset, now
	if !r.members.Voters.Has(m.From) {
		return
	}
	r.heardFrom[m.From.ID] = true
	needed := r.members.Voters.Majority()
	if r.isVoter() {
		needed--
	}
	if len(r.heardFrom) >= needed {
		clear(r.heardFrom)
		r.checkQuorum = now.Add(r.cfg.FetchTimeout * 3 / 2)
	}
	r.advance()
}

// Diverges compares a follower's position with the log: nil when the log contains it, else where the two part at the latest.
func (r *Raft) Diverges(at Position) *Position {
	have, ok := r.cfg.Log.EndOffsetForEpoch(at.Epoch)
	if at.Offset == 0 && at.Epoch <= 0 {
		return nil // an empty log is a prefix of every log
	}
	if !ok {
		return &Position{}
	}
	if have.Epoch != at.Epoch || have.Offset < at.Offset {
		return &have
	}
	return nil
}

// Durable says that the log is durable up to end (exclusive). A leader's own copy counts for the majority only that far.
func (r *Raft) Durable(end id.Offset) {
	r.durable = max(r.durable, end)
	if r.role == Leader {
		r.advance()
	}
}

// advance moves the high watermark to where a majority of the voters is, once that is beyond the start of the epoch: what
// came before is committed only by a record of this epoch (Raft, section 5.4.2).
func (r *Raft) advance() {
	ends := make([]id.Offset, 0, 8)
	for _, v := range r.members.Voters {
		end := id.Offset(-1)
		if v.Is(r.cfg.Self.Replica) {
			end = r.durable
		} else if p := r.find(v); p != nil {
			end = p.end
		}
		ends = append(ends, end)
	}
	if len(ends) == 0 {
		return
	}
	slices.SortFunc(ends, func(a, b id.Offset) int { return cmp.Compare(b, a) })
	if at := ends[r.members.Voters.Majority()-1]; at > r.epochStart && at > r.hw {
		r.hw = at
	}
}

// find returns the progress of a voter, whose directory may not be known (kraft.version 0).
func (r *Raft) find(v Voter) *progress {
	if p := r.replicas[v.Replica]; p != nil {
		return p
	}
	var best *progress
	for k, p := range r.replicas {
		if v.Is(k) && (best == nil || p.lastFetch.After(best.lastFetch)) {
			best = p
		}
	}
	return best
}

// bySize lists the other voters, the one that has most first.
func (r *Raft) bySize() []id.BrokerID {
	type entry struct {
		id  id.BrokerID
		end id.Offset
	}
	var es []entry
	for _, v := range r.members.Voters {
		if v.ID == r.cfg.Self.ID {
			continue
		}
		e := entry{v.ID, -1}
		if p := r.find(v); p != nil {
			e.end = p.end
		}
		es = append(es, e)
	}
	slices.SortFunc(es, func(a, b entry) int { return cmp.Or(cmp.Compare(b.end, a.end), cmp.Compare(a.id, b.id)) })
	out := make([]id.BrokerID, len(es))
	for i, e := range es {
		out[i] = e.id
	}
	return out
}

// fetch asks the leader for what comes after the log's end. There is one fetch at a time.
func (r *Raft) fetch(now time.Time) {
	if r.role != Follower || r.fetching {
		return
	}
	r.fetching, r.fetchAt, r.fetchRetry = true, r.cfg.Log.End(), now.Add(r.cfg.FetchTimeout/2)
	r.send(Message{Type: MsgFetch, To: r.hard.Leader, Epoch: r.hard.Epoch, Log: r.fetchAt, HighWatermark: r.hw})
}

// stepFetchAnswer takes the leader's answer. If it Accepts, the owner has appended its records and made them durable before.
func (r *Raft) stepFetchAnswer(now time.Time, m Message) {
	if r.observe(m.Epoch, m.Leader, now) || r.role != Follower || m.From.ID != r.hard.Leader {
		return
	}
	if !r.fetching || m.Log != r.fetchAt {
		// A repeated or late answer to another fetch. To cut the log by it would lose what was appended since and what the
		// leader has counted.
		return
	}
	r.fetching = false
	if m.Refused {
		return // the deadline ends this, or a new leader
	}
	r.deadline = now.Add(r.cfg.FetchTimeout)
	if m.Diverging != nil {
		r.truncate(*m.Diverging)
		return
	}
	if hw := min(m.HighWatermark, r.cfg.Log.End().Offset); hw > r.hw {
		r.hw = hw
	}
	r.fetch(now)
}

// Accepts reports whether a fetch's answer is one to append: of the current leader, to the fetch that is under way, and its
// records begin where the log ends.
func (r *Raft) Accepts(m Message) bool {
	return m.Type == MsgFetchAnswer && r.role == Follower && r.fetching && !m.Refused && m.Diverging == nil &&
		m.Epoch == r.hard.Epoch && m.From.ID == r.hard.Leader && m.Log == r.fetchAt && m.Log == r.cfg.Log.End()
}

// truncate cuts the log to where it can agree with the leader's: the end of the largest epoch both have.
func (r *Raft) truncate(leader Position) {
	to := id.Offset(0)
	if mine, ok := r.cfg.Log.EndOffsetForEpoch(leader.Epoch); ok {
		to = mine.Offset
		if mine.Epoch == leader.Epoch {
			to = min(to, leader.Offset)
		}
	}
	to = max(to, r.hw, 0) // what is committed is never cut
	r.cut = &to
}

// Truncated says that the cut which Ready asked for is done.
func (r *Raft) Truncated(now time.Time) { r.fetch(now) }

// ReplicaStatus is how far a replica is, as the leader knows.
type ReplicaStatus struct {
	Replica
	End          id.Offset // exclusive, -1 unknown
	LastFetch    time.Time
	LastCaughtUp time.Time
}

// Status lists the voters in order, and then the observers. Only a leader knows more than the voters' names.
func (r *Raft) Status(now time.Time) (voters, observers []ReplicaStatus) {
	for _, v := range r.members.Voters {
		s := ReplicaStatus{Replica: v.Replica, End: -1}
		switch p := r.find(v); {
		case v.Is(r.cfg.Self.Replica):
			s.End, s.LastFetch, s.LastCaughtUp = r.cfg.Log.End().Offset, now, now
		case p != nil:
			s.End, s.LastFetch, s.LastCaughtUp = p.end, p.lastFetch, p.lastCaughtUp
		}
		voters = append(voters, s)
	}
	for k, p := range r.replicas {
		if !r.members.Voters.Has(k) {
			observers = append(observers, ReplicaStatus{k, p.end, p.lastFetch, p.lastCaughtUp})
		}
	}
	slices.SortFunc(observers, func(a, b ReplicaStatus) int { return cmp.Compare(a.ID, b.ID) })
	return voters, observers
}

package raft

import (
	"cmp"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// progress is how far another replica is, as the leader knows.
type progress struct {
	end          id.Offset // exclusive; -1 unknown
	lastFetch    time.Time
	lastCaughtUp time.Time
	leaderEnd    id.Offset // the end of the leader's log at the last fetch
}

// leading is the state of a leader.
type leading struct {
	epochStart  id.Offset
	durable     id.Offset
	replicas    map[Replica]*progress
	heardFrom   map[id.BrokerID]bool
	checkQuorum time.Time
	alone       bool // there was no other voter, and so checkQuorum was not kept
	beginAt     time.Time
	// known are the voters as they describe themselves, of which a static quorum keeps no record (kraft.version 0).
	known Voters
}

// maxReplicas bounds how many voters and observers are kept in mind, and observerSession how long.
const (
	maxReplicas     = 10_000
	observerSession = 5 * time.Minute
)

// EpochStart is the offset at which the leader's epoch begins. Only for a leader.
func (r *Raft) EpochStart() id.Offset { return r.leading.epochStart }

// lead begins this node's leadership.
func (r *Raft) lead(now time.Time) {
	r.granted = r.granted[:0]
	for n, g := range r.votes {
		if g {
			r.granted = append(r.granted, n)
		}
	}
	slices.Sort(r.granted)
	r.set(HardState{Epoch: r.hard.Epoch, Leader: r.cfg.Self.ID, Voted: NoReplica})
	r.become(Leader, now)
	r.hw = -1
	r.leading = leading{epochStart: r.cfg.Log.End().Offset, durable: -1, replicas: map[Replica]*progress{}, heardFrom: map[id.BrokerID]bool{},
		checkQuorum: now.Add(r.cfg.FetchTimeout * 3 / 2)}
	if r.members.KRaftVersion == 0 {
		r.leading.known = r.members.Voters.With(r.cfg.Self)
	}
	r.begun = true
	r.beginEpoch(now)
}

// tickLeader announces the epoch to voters that do not fetch, and resigns when a majority is not heard from.
func (r *Raft) tickLeader(now time.Time) {
	l := &r.leading
	switch {
	case len(r.members.Voters) == 1:
		l.alone = true
	case l.alone:
		l.alone, l.checkQuorum = false, now.Add(r.cfg.FetchTimeout*3/2)
	case !now.Before(l.checkQuorum):
		r.Resign(now)
		return
	}
	if !now.Before(r.leading.beginAt) {
		r.beginEpoch(now)
	}
}

func (r *Raft) beginEpoch(now time.Time) {
	r.leading.beginAt = now.Add(r.cfg.FetchTimeout / 2)
	for _, v := range r.members.Voters {
		if v.ID == r.cfg.Self.ID {
			continue
		}
		if p := r.find(v); p == nil || now.Sub(p.lastFetch) >= r.cfg.FetchTimeout/2 {
			r.send(Message{Type: MsgBeginEpoch, To: v.ID, Epoch: r.hard.Epoch})
		}
	}
}

// replica is the progress of a voter or an observer.
func (r *Raft) replica(k Replica, now time.Time) *progress {
	p := r.leading.replicas[k]
	if p == nil {
		if len(r.leading.replicas) >= maxReplicas {
			r.forgetIdle(now)
		}
		p = &progress{end: -1, leaderEnd: -1}
		r.leading.replicas[k] = p
	}
	return p
}

// forgetIdle drops the observers that were not heard from for a while, and one in any case.
func (r *Raft) forgetIdle(now time.Time) {
	var oldest Replica
	var at time.Time
	for k, p := range r.leading.replicas {
		switch {
		case r.members.Voters.Has(k):
		case now.Sub(p.lastFetch) >= observerSession:
			delete(r.leading.replicas, k)
		case at.IsZero() || p.lastFetch.Before(at):
			oldest, at = k, p.lastFetch
		}
	}
	if len(r.leading.replicas) >= maxReplicas {
		delete(r.leading.replicas, oldest)
	}
}

// forLeader checks what the requests to a leader have in common.
func (r *Raft) forLeader(epoch id.LeaderEpoch) wire.ErrorCode {
	switch {
	case epoch < r.hard.Epoch:
		return wire.ErrFencedLeaderEpoch
	case epoch > r.hard.Epoch:
		return wire.ErrUnknownLeaderEpoch
	case r.role != Leader:
		return wire.ErrNotLeaderOrFollower
	}
	return wire.ErrNone
}

// fetchError is what a fetch is refused with.
func (r *Raft) fetchError(m Message) wire.ErrorCode {
	if m.Log.Offset < 0 || m.Log.Epoch < 0 || m.Log.Epoch > m.Epoch {
		return wire.ErrInvalidRequest
	}
	if code := r.forLeader(m.Epoch); code != wire.ErrNone {
		return code
	}
	if m.From.ID == r.cfg.Self.ID {
		return wire.ErrUnknownServerError
	}
	return wire.ErrNone
}

// Serves reports whether a request that was stepped is the owner's to answer: a fetch, with records from Log.Offset on, once
// there are some, or the high watermark is above the request's, or its time is over; or a piece of a snapshot, or the error
// that there is no such snapshot (SNAPSHOT_NOT_FOUND) or place in it (POSITION_OUT_OF_RANGE). All else is answered here.
func (r *Raft) Serves(m Message) bool {
	switch m.Type {
	case MsgFetch:
		if r.fetchError(m) != wire.ErrNone {
			return false
		}
		diverging, snapshot := r.Check(m.Log)
		return diverging == nil && snapshot == nil
	case MsgFetchSnapshot:
		return r.snapshotError(m) == wire.ErrNone
	}
	return false
}

// stepFetch learns from a fetch how far its sender is. A fetch does not change epochs: an observer may be in an epoch that
// this node does not know yet, and anybody can send one.
func (r *Raft) stepFetch(now time.Time, m Message) {
	a := r.Answer(m)
	if a.Error = r.fetchError(m); a.Error != wire.ErrNone {
		r.out = append(r.out, a)
		return
	}
	if a.Diverging, a.Snapshot = r.Check(m.Log); a.Diverging != nil || a.Snapshot != nil {
		a.HighWatermark = r.hw
		r.out = append(r.out, a)
		return
	}
	if m.Anonymous || m.From.ID < 0 {
		return
	}
	p := r.replica(m.From, now)
	end := r.cfg.Log.End().Offset
	switch {
	case m.Log.Offset >= end:
		p.lastCaughtUp = now
	case p.leaderEnd > 0 && m.Log.Offset >= p.leaderEnd && p.lastFetch.After(p.lastCaughtUp):
		p.lastCaughtUp = p.lastFetch // it has all that there was then
	}
	p.end, p.lastFetch, p.leaderEnd = m.Log.Offset, now, end
	r.hearFrom(m.From, now)
	if r.members.Voters.Has(m.From) {
		r.advance()
	}
}

// hearFrom counts a voter that is following, and puts off the resignation when a majority does.
func (r *Raft) hearFrom(from Replica, now time.Time) {
	if !r.members.Voters.Has(from) {
		return
	}
	r.leading.heardFrom[from.ID] = true
	needed := r.members.Voters.Majority()
	if r.isVoter() {
		needed--
	}
	if len(r.leading.heardFrom) >= needed {
		clear(r.leading.heardFrom)
		r.leading.checkQuorum = now.Add(r.cfg.FetchTimeout * 3 / 2)
	}
}

// snapshotError is what a request for a piece of a snapshot is refused with.
func (r *Raft) snapshotError(m Message) wire.ErrorCode {
	if code := r.forLeader(m.Epoch); code != wire.ErrNone {
		return code
	}
	switch {
	case m.Snapshot == nil || m.Snapshot.Offset <= 0 || m.Snapshot.Epoch < 0: // the bootstrap snapshot is not replicated
		return wire.ErrSnapshotNotFound
	case m.At < 0:
		return wire.ErrPositionOutOfRange
	}
	return wire.ErrNone
}

func (r *Raft) stepFetchSnapshot(now time.Time, m Message) {
	a := r.Answer(m)
	if a.Error = r.snapshotError(m); a.Error != wire.ErrNone {
		r.out = append(r.out, a)
		return
	}
	r.hearFrom(m.From, now)
}

// Check compares a follower's position with the log. Both results are nil when the log contains it; else either says where
// the two logs part at the latest, or which snapshot the follower has to load.
func (r *Raft) Check(at Position) (diverging, snapshot *Position) {
	start := r.cfg.Log.StartOffset()
	earliest, latest, ok := r.cfg.Log.Snapshots()
	switch {
	case at.Offset == 0 && ok: // to load it is quicker than to read the log from its beginning
		return nil, &latest
	case at.Offset == 0 && start == 0:
		return nil, nil // an empty log is a prefix of every log
	case ok && (at.Offset < start || at.Offset == start && start > 0 && at.Epoch != earliest.Epoch || at.Epoch < earliest.Epoch):
		return nil, &latest
	}
	have, ok := r.endOffsetForEpoch(at.Epoch)
	if !ok {
		return &Position{}, nil
	}
	if have.Epoch != at.Epoch || have.Offset < at.Offset {
		return &have, nil
	}
	return nil, nil
}

// endOffsetForEpoch is the log's, which begins with the earliest snapshot.
func (r *Raft) endOffsetForEpoch(e id.LeaderEpoch) (Position, bool) {
	if p, ok := r.cfg.Log.EndOffsetForEpoch(e); ok {
		return p, true
	}
	if earliest, _, ok := r.cfg.Log.Snapshots(); ok && r.cfg.Log.StartOffset() > 0 && earliest.Epoch <= e {
		return Position{r.cfg.Log.StartOffset(), earliest.Epoch}, true
	}
	return Position{}, false
}

// Durable says that the log is durable up to end (exclusive). A leader's own copy counts for the majority only that far.
func (r *Raft) Durable(end id.Offset) {
	if r.role == Leader {
		r.leading.durable = max(r.leading.durable, end)
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
			end = r.leading.durable
		} else if p := r.find(v); p != nil {
			end = p.end
		}
		ends = append(ends, end)
	}
	if len(ends) == 0 {
		return
	}
	slices.SortFunc(ends, func(a, b id.Offset) int { return cmp.Compare(b, a) })
	if at := ends[r.members.Voters.Majority()-1]; at > r.leading.epochStart {
		r.learnCommitted(at)
	}
}

// find returns the progress of a voter, whose directory may not be known (kraft.version 0).
func (r *Raft) find(v Voter) *progress {
	if p := r.leading.replicas[v.Replica]; p != nil || !v.DirectoryID.IsZero() {
		return p
	}
	var best *progress
	for k, p := range r.leading.replicas {
		if v.Is(k) && (best == nil || p.lastFetch.After(best.lastFetch)) {
			best = p
		}
	}
	return best
}

// bySize lists the other voters, the one that has most first.
func (r *Raft) bySize() []Replica {
	type entry struct {
		Replica
		end id.Offset
	}
	var es []entry
	for _, v := range r.members.Voters {
		if v.ID == r.cfg.Self.ID {
			continue
		}
		e := entry{v.Replica, -1}
		if p := r.find(v); p != nil {
			e.end = p.end
		}
		es = append(es, e)
	}
	slices.SortStableFunc(es, func(a, b entry) int { return cmp.Or(cmp.Compare(b.end, a.end), cmp.Compare(a.ID, b.ID)) })
	out := make([]Replica, len(es))
	for i, e := range es {
		out[i] = e.Replica
	}
	return out
}

// ReplicaStatus is how far a replica is, as the leader knows.
type ReplicaStatus struct {
	Replica
	End          id.Offset // exclusive, -1 unknown
	LastFetch    time.Time
	LastCaughtUp time.Time
}

// Status lists the voters in order, and then the observers of the last minutes. Only a leader knows more than the voters'
// names.
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
	for k, p := range r.leading.replicas {
		if !r.members.Voters.Has(k) && now.Sub(p.lastFetch) < observerSession {
			observers = append(observers, ReplicaStatus{k, p.end, p.lastFetch, p.lastCaughtUp})
		}
	}
	slices.SortFunc(observers, func(a, b ReplicaStatus) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), slices.Compare(a.DirectoryID[:], b.DirectoryID[:]))
	})
	return voters, observers
}

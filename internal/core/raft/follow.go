package raft

import (
	"fmt"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// fetching is how a node that does not lead gets the log. There is one request at a time.
type fetching struct {
	busy bool // a request is under way
	to   id.BrokerID
	at   Position  // where the request begins
	next time.Time // busy: when the request is given up; else: when the next one goes out
	// astray is set when the leader could not be reached: the next fetch goes to another node, which may know a new leader.
	astray    bool
	succeeded bool // the leader has answered with success, since this node follows it
	held      bool // the log is being cut, or replaced by a snapshot, by the owner

	snapshot *Position // the snapshot that is being fetched, nil when none
	got      int64     // bytes of it
	size     int64     // 0 until known
	asked    *Position // the request under way is one for this snapshot
}

// fetches reports whether the role gets the log from others.
func (r *Raft) fetches() bool {
	return (r.role == Follower || r.role == Unattached) && !r.fetching.held
}

// settleFetch sends the next fetch when one is due: to the leader, or, while none is known or it cannot be reached, to any
// node that may know it.
func (r *Raft) settleFetch(now time.Time) {
	f := &r.fetching
	if !r.fetches() || now.Before(f.next) {
		return
	}
	if f.busy { // the answer is lost
		r.fetchFailed(now)
	}
	f.to, f.asked = id.NoBroker, nil
	if r.role == Follower && !f.astray {
		f.to = r.hard.Leader
		f.asked = f.snapshot
	} else if to, ok := r.bootstrap(); ok {
		f.to, f.astray = to, false
	} else if r.role == Follower {
		f.to, f.astray = r.hard.Leader, false
	}
	f.next = now.Add(r.cfg.RequestTimeout)
	if f.to == id.NoBroker {
		return // nobody to ask
	}
	f.busy = true
	r.requests++
	anonymous := r.distrust != nil
	if f.asked != nil {
		at := *f.asked
		r.send(Message{Type: MsgFetchSnapshot, To: f.to, Request: r.requests, Epoch: r.hard.Epoch, Snapshot: &at, At: f.got, Anonymous: anonymous})
		return
	}
	f.at = r.cfg.Log.End()
	r.send(Message{Type: MsgFetch, To: f.to, Request: r.requests, Epoch: r.hard.Epoch, Log: f.at, HighWatermark: r.hw, Anonymous: anonymous})
}

// bootstrap picks a node that may know the leader.
func (r *Raft) bootstrap() (id.BrokerID, bool) {
	if n := uint64(len(r.cfg.Bootstrap)); n > 0 {
		return r.cfg.Bootstrap[r.cfg.Rand.Uint64()%n], true
	}
	others := make([]id.BrokerID, 0, 8)
	for _, v := range r.members.Voters {
		if v.ID != r.cfg.Self.ID {
			others = append(others, v.ID)
		}
	}
	if len(others) == 0 {
		return id.NoBroker, false
	}
	return others[r.cfg.Rand.Uint64()%uint64(len(others))], true
}

// fetchFailed gives a request up.
func (r *Raft) fetchFailed(again time.Time) {
	f := &r.fetching
	f.astray = r.role == Follower && f.to == r.hard.Leader
	f.busy, f.next = false, again
}

// fetchAgain ends a request that was answered; the next one goes out at the given time.
func (r *Raft) fetchAgain(at time.Time) { r.fetching.busy, r.fetching.next = false, at }

// succeed notes a good answer of the leader.
func (r *Raft) succeed(now time.Time) {
	r.fetching.succeeded = true
	r.deadline = now.Add(r.cfg.FetchTimeout)
	r.fetchAgain(now)
}

// stepFetchAnswer takes the answer to a fetch. If it Accepts, the owner has appended its records and made them durable before.
func (r *Raft) stepFetchAnswer(now time.Time, m Message) {
	f := &r.fetching
	// A repeated or late answer to another fetch. To cut the log by it would lose what was appended since and what the leader
	// has counted.
	mine := f.busy && f.asked == nil && r.isAnswered(m)
	if mine {
		r.fetchAgain(now.Add(r.cfg.RetryBackoff))
	}
	role, leader := r.role, r.hard.Leader
	if r.observeAnswer(m, now) || !mine || r.role != role || r.hard.Leader != leader {
		return
	}
	if role != Follower || m.From.ID != leader || m.Leader != leader || m.Error != wire.ErrNone {
		return // the deadline ends this, or a new leader
	}
	switch {
	case m.Diverging != nil:
		r.truncate(*m.Diverging, now)
	case m.Snapshot != nil:
		r.beginSnapshot(*m.Snapshot, now)
	default:
		if hw := min(m.HighWatermark, r.cfg.Log.End().Offset); hw > r.hw {
			r.learnCommitted(hw)
		}
		r.succeed(now)
	}
}

// Accepts reports whether a fetch's answer is one to append: of the current leader, to the fetch that is under way, and its
// records begin where the log ends.
func (r *Raft) Accepts(m Message) bool {
	f := &r.fetching
	return m.Type == MsgFetchAnswer && r.role == Follower && f.busy && f.asked == nil && m.Error == wire.ErrNone &&
		m.Diverging == nil && m.Snapshot == nil && m.Epoch == r.hard.Epoch && m.Leader == r.hard.Leader &&
		r.isAnswered(m) && f.to == r.hard.Leader && m.Log == f.at && m.Log == r.cfg.Log.End()
}

// isAnswered reports whether m answers the request under way.
func (r *Raft) isAnswered(m Message) bool {
	return r.fetching.busy && m.Request == r.requests && m.From.ID == r.fetching.to
}

// truncate cuts the log to where it can agree with the leader's: the end of the largest epoch both have.
func (r *Raft) truncate(leader Position, now time.Time) {
	to := min(leader.Offset, r.cfg.Log.End().Offset)
	if leader.Epoch > 0 {
		if mine, ok := r.endOffsetForEpoch(leader.Epoch); !ok {
			to = r.cfg.Log.StartOffset()
		} else if mine.Epoch == leader.Epoch {
			to = min(mine.Offset, leader.Offset)
		} else {
			to = mine.Offset
		}
	}
	to = max(to, r.cfg.Log.StartOffset())
	if to < r.floor || leader.Offset < 0 || leader.Epoch < 0 {
		r.alarm = fmt.Errorf("leader %d of epoch %d asks to cut the log to offset %d, but it is committed up to %d",
			r.hard.Leader, r.hard.Epoch, leader.Offset, r.floor)
		return
	}
	r.succeed(now)
	r.cut, r.fetching.held = &to, true
}

// Truncated says that the cut which Ready asked for is done.
func (r *Raft) Truncated(now time.Time) {
	r.fetching.held = false
	r.settleFetch(now)
}

// beginSnapshot asks for a snapshot from now on, if it is one that a leader would offer.
func (r *Raft) beginSnapshot(at Position, now time.Time) {
	if at.Offset <= 0 || at.Epoch < 0 || at.Offset < r.floor || !r.cfg.Log.End().Behind(at) {
		r.alarm = fmt.Errorf("leader %d of epoch %d offers a snapshot that ends at offset %d of epoch %d, but the log is at %d of epoch %d and committed up to %d",
			r.hard.Leader, r.hard.Epoch, at.Offset, at.Epoch, r.cfg.Log.End().Offset, r.cfg.Log.End().Epoch, r.floor)
		return
	}
	r.fetching.snapshot, r.fetching.got, r.fetching.size = &at, 0, 0
	r.succeed(now)
}

// stepFetchSnapshotAnswer takes a piece of a snapshot.
func (r *Raft) stepFetchSnapshotAnswer(now time.Time, m Message) {
	f := &r.fetching
	mine := f.busy && f.asked != nil && r.isAnswered(m) && m.At == f.got && (m.Snapshot == nil || *m.Snapshot == *f.asked)
	if mine {
		r.fetchAgain(now.Add(r.cfg.RetryBackoff))
	}
	role, leader := r.role, r.hard.Leader
	if r.observeAnswer(m, now) || !mine || r.role != role || r.hard.Leader != leader || role != Follower || f.snapshot == nil {
		return
	}
	switch {
	case m.Error == wire.ErrSnapshotNotFound, m.Error == wire.ErrNone && m.Snapshot == nil:
		f.snapshot = nil // the leader has a newer one by now
		r.succeed(now)
	case m.Error == wire.ErrPositionOutOfRange:
		f.snapshot = nil
	case m.Error != wire.ErrNone:
	case len(m.Records) == 0 || m.Size < f.got+int64(len(m.Records)) || f.got > 0 && m.Size != f.size:
		f.snapshot = nil // no progress can come of this one
	default:
		r.piece = &Piece{Snapshot: *f.snapshot, At: f.got, Bytes: m.Records, Last: f.got+int64(len(m.Records)) == m.Size}
		f.got, f.size = f.got+int64(len(m.Records)), m.Size
		r.succeed(now)
		f.held = r.piece.Last
	}
}

// SnapshotDone says what became of the snapshot whose last piece Ready gave: its content is in place of the log, or, sound
// being false, it could not be read and is dropped.
func (r *Raft) SnapshotDone(now time.Time, sound bool) {
	f := &r.fetching
	at := f.snapshot
	f.held, f.snapshot = false, nil
	if !sound || at == nil {
		f.next = now.Add(r.cfg.RetryBackoff)
		return
	}
	r.learnCommitted(at.Offset)
	r.settleFetch(now)
}

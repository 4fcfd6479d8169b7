package raft

import (
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// distrust is the state of a node that may have promised more than it remembers.
type distrust struct {
	heard map[id.BrokerID]bool // voters that told their epoch since the start
	askAt time.Time
}

// askForTrust asks the voters that were not heard yet in which epoch they are, by a question that binds nobody.
func (r *Raft) askForTrust(now time.Time) {
	d := r.distrust
	if d == nil || now.Before(d.askAt) {
		return
	}
	d.askAt = now.Add(r.cfg.RequestTimeout)
	for _, v := range r.members.Voters {
		if v.ID != r.cfg.Self.ID && !d.heard[v.ID] {
			r.send(Message{Type: MsgVote, To: v.ID, Epoch: r.hard.Epoch, PreVote: true, Log: r.cfg.Log.End()})
		}
	}
	if !r.members.Voters.Has(r.cfg.Self.Replica) { // nothing to be trusted with any more
		r.hear(id.NoBroker, now)
	}
}

// hear notes that a voter which trusts itself has told its epoch. Whoever asked for this node's vote in some epoch is itself
// in that epoch or a later one, and this node cannot have stood in an epoch beyond the one after, because a majority has to
// answer a question in the epoch before. So nothing was promised beyond the largest epoch heard and one.
func (r *Raft) hear(from id.BrokerID, now time.Time) {
	r.distrust.heard[from] = true
	for _, v := range r.members.Voters {
		if v.ID != r.cfg.Self.ID && !r.distrust.heard[v.ID] {
			return
		}
	}
	r.distrust = nil
	r.unattach(HardState{Epoch: r.hard.Epoch + 2, Leader: id.NoBroker, Voted: NoReplica}, now)
}

package sim

import (
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Chaos is what befalls the nodes, by mean times between two events of a kind; 0: never.
type Chaos struct {
	Crash, Pause, Cut, Depose, Hold, Upgrade time.Duration
	// Down is how long a node stays down, paused or cut off, in the mean.
	Down time.Duration
	Torn bool // a crash can leave a quorum-state that cannot be read
	// LosesDisks says that nodes lose what was durable, which no protocol survives in full: M3 and M4 are not held.
	LosesDisks bool
}

// Bugs are mistakes that an owner can make. Each of them breaks an invariant.
type Bugs struct {
	ForgetVotes     bool // the vote is not in quorum-state
	NoSync          bool // the log is not made durable before others count on it
	CommitOldEpochs bool // a majority is enough, without a record of the leader's epoch
	Agreeable       bool // a leader sends records without comparing the logs
	NoTruncate      bool // a follower does not cut what diverges
	AppendAnything  bool // a follower appends what comes, whether it asked for it or not
	VoteBlindly     bool // the logs are not compared in an election
	TrustTorn       bool // a node whose quorum-state is lost votes
	AnswerEarly     bool // clients are answered when their records are appended
	SnapshotAhead   bool // a snapshot names more than is committed
	KeepLog         bool // the log is not replaced by the snapshot that was loaded
}

// schedule begins the faults and the clients.
func (s *Sim) schedule() {
	if s.o.Chaos.Down <= 0 {
		s.o.Chaos.Down = 2 * time.Second
	}
	for _, n := range s.nodes {
		n.log.agreeable = s.o.Bugs.Agreeable
	}
	every := func(mean time.Duration, always bool, do func()) {
		if mean <= 0 {
			return
		}
		var again func()
		again = func() {
			if s.quiet && !always {
				return
			}
			if !always || !s.idle {
				do()
			}
			s.After(s.about(mean), again)
		}
		s.After(s.about(mean), again)
	}
	c := s.o.Chaos
	every(c.Crash, false, func() {
		n := s.any()
		if n.raft == nil {
			return
		}
		if s.rnd.IntN(2) == 0 { // in the midst of what it does next
			n.crashIn = 1 + s.rnd.IntN(6)
			return
		}
		n.Kill()
		s.After(s.about(c.Down), n.Start)
	})
	every(c.Pause, false, func() {
		s.Counts.Pauses++
		n := s.any()
		n.pausedUntil = s.now.Add(s.about(c.Down))
		if n.awake && n.wake.Before(n.pausedUntil) {
			n.wake = n.pausedUntil
		}
	})
	every(c.Cut, false, func() {
		a, b := s.any().ID, s.any().ID
		switch s.rnd.IntN(4) {
		case 0:
			s.Isolate(a)
			s.After(s.about(c.Down), func() { s.Rejoin(a) })
		case 1:
			s.cut[a][b], s.cut[b][a] = true, true
			s.After(s.about(c.Down), func() { s.cut[a][b], s.cut[b][a] = false, false })
		default:
			s.cut[a][b] = true
			s.After(s.about(c.Down), func() { s.cut[a][b] = false })
		}
	})
	every(c.Depose, false, func() {
		if n := s.Leader(); n != nil && !s.now.Before(n.pausedUntil) {
			n.Resign()
		}
	})
	every(c.Hold, false, func() {
		s.Hold(1 + s.rnd.IntN(20))
		depose := s.rnd.IntN(2) == 0
		s.After(s.about(c.Down), func() {
			if n := s.Leader(); depose && n != nil && !s.now.Before(n.pausedUntil) {
				n.Resign()
			}
			s.Hold(0)
		})
	})
	every(c.Upgrade, false, func() {
		if n := s.Leader(); n != nil && n.active && !s.now.Before(n.pausedUntil) {
			n.Upgrade()
		}
	})
	every(s.o.ClientEvery, true, func() {
		for _, n := range s.nodes {
			n.Propose()
		}
	})
	every(s.o.SnapshotEvery, true, func() {
		if n := s.any(); !s.now.Before(n.pausedUntil) {
			n.TakeSnapshot()
		}
	})
}

func (s *Sim) any() *Node { return s.nodes[s.rnd.IntN(len(s.nodes))] }

// Leader is the node that leads the newest epoch, nil when none does.
func (s *Sim) Leader() *Node {
	var best *Node
	for _, n := range s.nodes {
		if n.Leads() && (best == nil || n.raft.HardState().Epoch > best.raft.HardState().Epoch) {
			best = n
		}
	}
	return best
}

// Hold keeps the last records of each leader's log back, so that nobody else has them and they are not committed; 0 lets
// them go. The record that opens an epoch is not held.
func (s *Sim) Hold(records int) {
	s.hold = records
	if records > 0 {
		s.Counts.Held++
	}
	for _, n := range s.nodes {
		if n.raft != nil && !s.now.Before(n.pausedUntil) {
			n.act(n.durable)
		}
	}
}

// Consistent reports whether a majority of the running voters follows one leader.
func (s *Sim) Consistent() bool {
	l := s.Leader()
	if l == nil {
		return false
	}
	for _, n := range s.nodes[:s.o.Voters] {
		if n.raft != nil && n.raft.HardState().Leader != l.ID {
			return false
		}
	}
	return true
}

// Reached reports whether all of these nodes know offset hw as committed; without names, all that run.
func (s *Sim) Reached(hw id.Offset, nodes ...id.BrokerID) bool {
	for _, n := range nodes {
		if s.nodes[n].HighWatermark() < hw {
			return false
		}
	}
	if len(nodes) > 0 {
		return true
	}
	for _, n := range s.nodes {
		if n.raft != nil && n.HighWatermark() < hw {
			return false
		}
	}
	return true
}

// StopClients ends the requests of clients and the snapshots, until StartClients.
func (s *Sim) StopClients() { s.idle = true }

// StartClients lets clients ask again.
func (s *Sim) StartClients() { s.idle = false }

package sim

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
)

// history is what has ever been committed, and its replay.
type history struct {
	entries []Entry
	replay  Machine
	applied int
	states  map[int]any // by end, at the ends of batches
	leaders map[id.LeaderEpoch]id.BrokerID
	epoch   id.LeaderEpoch // of the newest leader that knew a high watermark
	hw      id.Offset      // and that one
	every   int
	shape   int
	batches int
}

func newHistory(m Machine) history {
	h := history{replay: m, states: map[int]any{0: m.State()}, leaders: map[id.LeaderEpoch]id.BrokerID{}, hw: -1, every: 1}
	if p, ok := m.(Pacer); ok {
		h.every = p.Every()
	}
	return h
}

// Committed is how many records are known to be committed by anybody.
func (s *Sim) Committed() id.Offset { return id.Offset(len(s.history.entries)) }

// check holds the invariants after a step.
func (s *Sim) check() {
	shape := 0
	grown := false
	for _, n := range s.nodes {
		shape += n.shape
		n.checkEpoch()
		if n.raft == nil {
			continue
		}
		if n.raft.Role() == raft.Leader {
			s.checkLeader(n, n.raft.HardState().Epoch)
		}
		if hw := min(n.highWatermark(), n.log.end()); hw > n.seenHW {
			grown = s.checkCommitted(n, hw) || grown
		}
	}
	if grown || shape != s.history.shape {
		s.history.shape = shape
		s.checkMajority()
	}
}

// checkEpoch holds M3. An observer that loses its quorum-state begins anew: it promises nothing to anybody.
func (n *Node) checkEpoch() {
	s := n.s
	if s.o.Chaos.LosesDisks || int(n.ID) >= s.o.Voters {
		return
	}
	if n.hard.Epoch < n.seenEpoch {
		s.fail("M3", "node %d was in epoch %d and its disk says %d", n.ID, n.seenEpoch, n.hard.Epoch)
	}
	n.seenEpoch = max(n.seenEpoch, n.hard.Epoch)
	if n.raft == nil || !n.raft.Trusted() {
		return
	}
	if e := n.raft.HardState().Epoch; e < n.seenEpoch {
		s.fail("M3", "node %d was in epoch %d and is in %d", n.ID, n.seenEpoch, e)
	}
}

// checkLeader holds M2, and that the high watermark of leaders does not go back.
func (s *Sim) checkLeader(n *Node, epoch id.LeaderEpoch) {
	h := &s.history
	if other, ok := h.leaders[epoch]; ok && other != n.ID {
		s.fail("M2", "epoch %d has the leaders %d and %d", epoch, other, n.ID)
	} else if !ok {
		h.leaders[epoch] = n.ID
	}
	hw := n.highWatermark()
	if hw < 0 || epoch < h.epoch {
		return
	}
	if hw < h.hw {
		s.fail("M5", "leader %d of epoch %d has the high watermark %d, but there was %d in epoch %d", n.ID, epoch, hw, h.hw, h.epoch)
	}
	h.epoch, h.hw = epoch, hw
}

// checkCommitted holds M5 for what a node came to know as committed.
func (s *Sim) checkCommitted(n *Node, hw id.Offset) (grown bool) {
	h := &s.history
	for o := max(n.seenHW, n.log.start); o < hw; o++ {
		e := n.log.at(o)
		switch {
		case int(o) == len(h.entries):
			h.entries = append(h.entries, e)
			grown = true
		case int(o) > len(h.entries):
			s.fail("M5", "node %d knows offset %d as committed, and nobody knows %d", n.ID, o, len(h.entries))
			return grown
		case !h.entries[o].same(e):
			s.fail("M5", "offset %d was committed as %d of epoch %d and is %d of epoch %d on node %d", o, h.entries[o].ID, h.entries[o].Epoch, e.ID, e.Epoch, n.ID)
			return grown
		}
	}
	n.seenHW = hw
	s.Counts.Committed = len(h.entries)
	return grown
}

// checkMajority holds M4.
func (s *Sim) checkMajority() {
	h := &s.history
	end := id.Offset(len(h.entries))
	if end == 0 || s.o.Chaos.LosesDisks {
		return
	}
	last, have := h.entries[end-1], 0
	for _, n := range s.nodes[:s.o.Voters] {
		switch {
		case n.log.durable < end:
		case n.log.start >= end: // a snapshot has it
			have++
		case n.log.at(end - 1).same(last):
			have++
		}
	}
	if have < s.o.Voters/2+1 {
		s.fail("M4", "offset %d is committed and on %d disks of %d", end-1, have, s.o.Voters)
	}
}

// replayTo brings the replay of the history to end.
func (s *Sim) replayTo(end int) {
	h := &s.history
	for h.applied < end {
		to := h.applied + 1
		for to < len(h.entries) && h.entries[to-1].Open {
			to++
		}
		if err := h.replay.Fold(id.Offset(h.applied), h.entries[h.applied:to]); err != nil {
			s.fail("M5", "replay of offset %d: %v", h.applied, err)
			return
		}
		h.applied = to
		h.states[to] = h.replay.State()
	}
}

// compare holds that a node's state is the replay of what is committed.
func (s *Sim) compare(n *Node) {
	h := &s.history
	if hw := min(n.highWatermark(), n.log.end()); hw > n.seenHW {
		s.checkCommitted(n, hw)
	}
	if s.err != nil {
		return
	}
	s.replayTo(int(n.applied))
	if h.batches++; h.batches%h.every != 0 {
		return
	}
	s.compareState(n)
}

func (s *Sim) compareState(n *Node) {
	want, ok := s.history.states[int(n.applied)]
	if !ok {
		s.fail("M5", "node %d has folded %d, which is not the end of a batch", n.ID, n.applied)
	} else if !s.history.replay.Same(want, n.machine.State()) {
		s.fail("M5", "the state of node %d at offset %d is not the replay", n.ID, n.applied)
	}
}

// answered holds M1: what a client was told is committed.
func (s *Sim) answered(w waiter) {
	s.Counts.Acked++
	if w.end > id.Offset(len(s.history.entries)) || !s.history.entries[w.end-1].same(w.entry) {
		s.fail("M1", "offset %d was answered and is not committed", w.end-1)
	}
}

// Settled reports whether every node runs, is trusted, follows one leader and has folded everything.
func (s *Sim) Settled() bool {
	leader := id.NoBroker
	var epoch id.LeaderEpoch
	for _, n := range s.nodes {
		if n.raft == nil || !n.raft.Trusted() || n.raft.HardState().Leader == id.NoBroker {
			return false
		}
		h := n.raft.HardState()
		if leader == id.NoBroker {
			leader, epoch = h.Leader, h.Epoch
		}
		if h.Leader != leader || h.Epoch != epoch || n.applied < s.Committed() {
			return false
		}
	}
	return s.nodes[leader].Leads() && s.nodes[leader].active && s.nodes[leader].log.end() == s.Committed()
}

// CheckEnd compares all nodes' states with the replay, and their logs with what was committed.
func (s *Sim) CheckEnd() error {
	for _, n := range s.nodes {
		if n.raft == nil {
			continue
		}
		s.compareState(n)
		for o := n.log.start; o < min(s.Committed(), n.log.end()); o++ {
			if o < n.applied && !n.log.at(o).same(s.history.entries[o]) {
				s.fail("M5", "node %d has something else at offset %d", n.ID, o)
			}
		}
		if n.log.start > 0 {
			if at, _, ok := n.log.Snapshots(); !ok || at.Offset != n.log.start {
				s.fail("snapshot", "the log of node %d begins at %d, where no snapshot ends", n.ID, n.log.start)
			} else if d, sn := n.raft.Check(at); d != nil || sn != nil {
				s.fail("snapshot", "node %d does not know the position %v at which its log begins: %v, %v", n.ID, at, d, sn)
			}
		}
	}
	if s.err != nil {
		return s.err
	}
	return nil
}

package sim

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire"
)

// serve answers the parked fetches for which there is something, or whose time is over.
func (n *Node) serve() {
	if len(n.parked) == 0 {
		return
	}
	leads, hw, end := n.raft.Role() == raft.Leader, n.highWatermark(), id.Offset(0)
	if leads {
		end = n.visible()
	}
	kept := n.parked[:0]
	for _, p := range n.parked {
		a := n.raft.Answer(p.m)
		at := p.m.Log.Offset
		switch {
		case !leads || p.m.Epoch != n.raft.HardState().Epoch:
			a.Error = wire.ErrNotLeaderOrFollower
			n.s.send(packet{m: a, life: p.life})
			continue
		case end <= at && hw <= p.m.HighWatermark && n.s.now.Before(p.until):
			kept = append(kept, p)
			continue
		}
		a.HighWatermark = hw
		var es []Entry
		if _, a.Snapshot = n.raft.Check(p.m.Log); a.Snapshot == nil && at < end {
			es = n.batches(at, end)
		}
		n.s.send(packet{m: a, entries: es, life: p.life})
	}
	clear(n.parked[len(kept):])
	n.parked = kept
}

// batches are some whole batches from at on.
func (n *Node) batches(at, end id.Offset) []Entry {
	to := min(end, at+1+id.Offset(n.s.rnd.IntN(8)))
	for to < end && n.log.at(to-1).Open {
		to++
	}
	return slices.Clone(n.log.slice(at, to))
}

func (n *Node) serveSnapshot(p packet) {
	a := n.raft.Answer(p.m)
	i := slices.IndexFunc(n.log.snaps, func(s *Snapshot) bool { return s.At == *p.m.Snapshot })
	switch {
	case i < 0:
		a.Error = wire.ErrSnapshotNotFound
	case p.m.At >= int64(len(n.log.snaps[i].Bytes)):
		a.Error = wire.ErrPositionOutOfRange
	default:
		rest := n.log.snaps[i].Bytes[p.m.At:]
		at := *p.m.Snapshot
		a.Snapshot, a.Size = &at, int64(len(n.log.snaps[i].Bytes))
		a.Records = rest[:min(len(rest), 1+n.s.rnd.IntN(40))]
	}
	n.s.send(packet{m: a, life: p.life})
}

// highWatermark is what the node takes as committed.
func (n *Node) highWatermark() id.Offset {
	hw := n.raft.HighWatermark()
	if !n.s.o.Bugs.CommitOldEpochs || n.raft.Role() != raft.Leader {
		return hw
	}
	voters, _ := n.raft.Status(n.s.now)
	var ends []id.Offset
	for _, v := range voters {
		end := v.End
		if v.ID == n.ID {
			end = n.log.durable
		}
		ends = append(ends, end)
	}
	slices.SortFunc(ends, func(a, b id.Offset) int { return cmp.Compare(b, a) })
	return max(hw, ends[len(ends)/2])
}

// commit folds what is committed and lets the clients know.
func (n *Node) commit() {
	hw := min(n.highWatermark(), n.log.end())
	for n.applied < hw {
		if n.applied < n.log.start {
			n.s.fail("owner", "node %d: the log begins at %d, but only %d is folded", n.ID, n.log.start, n.applied)
			return
		}
		to := n.applied + 1
		for to < hw && n.log.at(to-1).Open {
			to++
		}
		if n.log.at(to - 1).Open {
			n.s.fail("M5", "node %d: the high watermark %d is inside a batch", n.ID, hw)
			return
		}
		if err := n.machine.Fold(n.applied, n.log.slice(n.applied, to)); err != nil {
			n.s.fail("M5", "node %d: fold offset %d: %v", n.ID, n.applied, err)
			return
		}
		n.applied = to
		n.s.compare(n)
	}
	done := 0
	for _, w := range n.waiting {
		if w.end > n.applied && !n.s.o.Bugs.AnswerEarly {
			break
		}
		n.s.answered(w)
		done++
	}
	n.waiting = n.waiting[done:]
}

// checkOffice takes the machine out of office when the node does not lead any more. What waits fails.
func (n *Node) checkOffice() {
	if !n.active || n.raft.Role() == raft.Leader && n.raft.HardState().Epoch == n.epoch {
		return
	}
	n.active = false
	n.s.Counts.Failed += len(n.waiting)
	n.waiting = nil
	if d, ok := n.machine.(Decider); ok {
		if err := d.Resign(); err != nil {
			n.s.fail("leak", "node %d: resign: %v", n.ID, err)
		}
	}
}

// lead lets the machine decide once everything before the leadership is folded.
func (n *Node) lead() {
	if n.active || n.raft.Role() != raft.Leader || n.applied <= n.raft.EpochStart() {
		return
	}
	n.active, n.epoch = true, n.raft.HardState().Epoch
	d, ok := n.machine.(Decider)
	if !ok {
		return
	}
	batches, err := d.Lead(n.env())
	if err != nil {
		n.s.fail("leak", "node %d: take office in epoch %d: %v", n.ID, n.epoch, err)
		return
	}
	n.decided(batches)
}

func (n *Node) env() Env {
	return Env{Now: n.s.now, Next: n.log.end(), Epoch: n.raft.HardState().Epoch, Rand: n.s.rnd, KRaftVersion: n.raft.Membership().KRaftVersion}
}

// Propose lets a client ask the node for something. It reports false when the node does not decide.
func (n *Node) Propose() bool {
	if n.raft == nil || !n.active || n.s.now.Before(n.pausedUntil) {
		return false
	}
	n.act(func() {
		if n.checkOffice(); !n.active {
			return
		}
		if d, ok := n.machine.(Decider); ok {
			n.decided(d.Propose(n.env()))
			return
		}
		batch := make([]any, 1+n.s.rnd.IntN(3))
		n.decided([][]any{batch})
	})
	return true
}

// decided appends batches of a decision, and lets a client wait for the last.
func (n *Node) decided(batches [][]any) {
	for _, b := range batches {
		if len(b) == 0 {
			continue
		}
		es := make([]Entry, len(b))
		for i, d := range b {
			es[i] = n.s.entry(n.raft.HardState().Epoch, d)
			es[i].Open = i < len(b)-1
		}
		if n.disk() || n.append(es...) {
			return
		}
		n.waiting = append(n.waiting, waiter{n.log.end(), es[len(es)-1]})
	}
	n.sync()
}

// TakeSnapshot writes a snapshot of what is folded, and cleans the log behind one of those that are there.
func (n *Node) TakeSnapshot() {
	if n.raft == nil || n.applied <= n.log.start || n.log.latest() != nil && n.log.latest().At.Offset >= n.applied {
		return
	}
	at := raft.Position{Offset: n.applied, Epoch: n.log.at(n.applied - 1).Epoch}
	state := n.machine.State()
	if n.s.o.Bugs.SnapshotAhead && n.log.end() > n.applied {
		at = n.log.End()
	}
	if _, ok := n.machine.(Pacer); ok && !n.machine.(Pacer).Whole() {
		return
	}
	snap := &Snapshot{At: at, Members: n.log.membershipAt(at.Offset), State: state}
	n.s.pack(snap)
	n.s.Counts.Snapshots++
	n.log.keep(snap)
	n.s.trace("node %d takes snapshot %v", n.ID, at)
	if n.s.rnd.IntN(4) > 0 {
		n.log.cleanTo(n.log.snaps[n.s.rnd.IntN(len(n.log.snaps))])
	}
	n.poke()
}

// Upgrade raises kraft.version to 1 on a leader of a static quorum.
func (n *Node) Upgrade() {
	n.act(func() {
		for _, v := range n.raft.Membership().Voters {
			n.raft.UpdateVoter(n.s.self(v.ID))
		}
		records, err := n.raft.UpgradeRecords(1)
		if err != nil || len(records) == 0 {
			return
		}
		n.s.Counts.Upgrades++
		n.begin(records)
	})
}

// entry is a new entry.
func (s *Sim) entry(epoch id.LeaderEpoch, data any) Entry {
	s.nextID++
	return Entry{Epoch: epoch, ID: s.nextID, Data: data}
}

// pack gives a snapshot the bytes by which it travels: its number and a random rest.
func (s *Sim) pack(snap *Snapshot) {
	s.nextID++
	b := binary.BigEndian.AppendUint64(nil, s.nextID)
	for range s.rnd.IntN(80) {
		b = append(b, byte(s.rnd.Uint32()))
	}
	snap.Bytes = b
	s.sent[s.nextID] = snap
}

func (s *Sim) unpack(b []byte) *Snapshot {
	if len(b) < 8 {
		return nil
	}
	snap := s.sent[binary.BigEndian.Uint64(b)]
	if snap == nil || !bytes.Equal(b, snap.Bytes) {
		return nil
	}
	return snap
}

package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// Node is the owner of one Raft: its disk, its state machine, and the promises that an owner keeps.
type Node struct {
	s  *Sim
	ID id.BrokerID

	// on the disk
	log  *Log
	hard raft.HardState
	torn bool // quorum-state cannot be read

	raft        *raft.Raft // nil while down
	life        int        // counts the starts
	pausedUntil time.Time
	wake        time.Time // when tick has something to do, if awake
	awake       bool
	crashIn     int // crashes after so many things done to the disk; -1: not
	crashed     bool
	replyLife   int // of the request that is being answered

	parked  []parked
	partial *partial

	machine Machine
	applied id.Offset // the machine has folded everything before
	active  bool      // the machine decides
	epoch   id.LeaderEpoch
	waiting []waiter

	seenEpoch id.LeaderEpoch // largest ever, for M3
	seenHW    id.Offset      // checked up to there
	shape     int            // of the log, when M4 was checked
}

// parked is a fetch that waits for something new.
type parked struct {
	packet
	until time.Time
}

// partial is a snapshot that is being fetched.
type partial struct {
	at    raft.Position
	bytes []byte
}

// waiter is a client that waits for its records to be committed.
type waiter struct {
	end   id.Offset
	entry Entry // the last one
}

func newNode(s *Sim, n id.BrokerID, m raft.Membership) *Node {
	return &Node{s: s, ID: n, log: newLog(m), hard: raft.HardState{Leader: id.NoBroker, Voted: raft.NoReplica}, crashIn: -1}
}

// String says where the node is.
func (n *Node) String() string {
	if n.raft == nil {
		return fmt.Sprintf("node %d: down, log [%d, %d)", n.ID, n.log.start, n.log.end())
	}
	return fmt.Sprintf("node %d: %v %+v trusted %t, log [%d, %v) durable %d, hw %d, applied %d", n.ID, n.raft.Role(), n.raft.HardState(), n.raft.Trusted(),
		n.log.start, n.log.End(), n.log.durable, n.raft.HighWatermark(), n.applied)
}

// Raft is the node's core, nil while it is down.
func (n *Node) Raft() *raft.Raft { return n.raft }

// Log is the node's log.
func (n *Node) Log() *Log { return n.log }

// Leads reports whether the node thinks that it leads.
func (n *Node) Leads() bool { return n.raft != nil && n.raft.Role() == raft.Leader }

// HighWatermark is what the node knows as committed, -1 when it is down.
func (n *Node) HighWatermark() id.Offset {
	if n.raft == nil {
		return -1
	}
	return n.highWatermark()
}

// Start starts a node that is down.
func (n *Node) Start() {
	if n.raft != nil {
		return
	}
	n.life++
	n.crashed, n.crashIn = false, -1
	n.partial, n.parked, n.waiting, n.active = nil, nil, nil, false
	n.machine = n.s.o.Machine(n.ID)
	n.applied = 0
	if snap := n.log.latest(); snap != nil {
		n.load(snap)
	}
	n.seenHW = n.applied
	hard := n.hard
	if n.torn {
		hard = raft.HardState{Leader: id.NoBroker, Voted: raft.NoReplica}
		if n.s.o.Bugs.TrustTorn {
			hard.Epoch = n.log.End().Epoch
		}
	}
	cfg := raft.Config{Self: n.s.self(n.ID), ElectionTimeout: electionTimeout, FetchTimeout: fetchTimeout, RequestTimeout: requestTimeout,
		Distrust: n.torn && !n.s.o.Bugs.TrustTorn, Log: n.log, Rand: n.s.rnd}
	n.act(func() { n.raft = raft.New(cfg, hard, n.log.membership(), n.s.now) })
}

// Kill stops a node and loses any part of what its disk has not synced.
func (n *Node) Kill() {
	if n.raft == nil {
		return
	}
	n.s.trace("node %d crashes", n.ID)
	n.s.Counts.Crashes++
	n.raft, n.awake = nil, false
	ghost, end := len(n.log.ghost) > 0, n.log.end()
	n.log.crash(n.s.rnd)
	if ghost && n.log.end() > end {
		n.s.Counts.Ghosts++
	}
	if n.active {
		n.s.Counts.Failed += len(n.waiting)
	}
	n.shape++
}

// Wipe loses all that a node that is down has on its disk.
func (n *Node) Wipe(m raft.Membership) {
	n.log, n.hard, n.torn = newLog(m), raft.HardState{Leader: id.NoBroker, Voted: raft.NoReplica}, false
	n.seenEpoch, n.seenHW = 0, 0
}

// Resign deposes the node, if it leads.
func (n *Node) Resign() {
	n.act(func() {
		if n.raft.Role() == raft.Leader {
			n.s.Counts.Depositions++
		}
		n.raft.Resign(n.s.now)
	})
}

// act lets something happen to the node and then does what its Raft asks for.
func (n *Node) act(what func()) {
	what()
	if n.raft != nil {
		n.settle()
	}
	if n.crashed {
		n.crashed = false
		n.Kill()
		if !n.s.quiet {
			n.s.After(n.s.about(n.s.o.Chaos.Down), n.Start)
		} else {
			n.Start()
		}
	}
	n.awake = false
	if n.raft != nil {
		n.wake, n.awake = n.raft.Deadline()
		if n.wake.Before(n.pausedUntil) {
			n.wake = n.pausedUntil
		}
	}
}

func (n *Node) tick() { n.act(func() { n.raft.Tick(n.s.now) }) }

// disk is called before each change of the disk; true when the node crashes there.
func (n *Node) disk() bool {
	if n.crashIn > 0 {
		n.crashIn--
	}
	if n.crashIn == 0 {
		n.crashed = true
	}
	return n.crashed
}

func (n *Node) receive(p packet) {
	n.act(func() {
		m := p.m
		n.replyLife = p.life
		if m.Type == raft.MsgFetchAnswer && (n.raft.Accepts(m) || n.s.o.Bugs.AppendAnything && n.raft.Role() == raft.Follower && m.Error == wire.ErrNone) && len(p.entries) > 0 {
			if n.disk() || n.append(p.entries...) || n.disk() {
				return
			}
			if !n.s.o.Bugs.NoSync {
				n.log.durable = n.log.end()
			}
		}
		n.log.modest = n.s.o.Bugs.VoteBlindly && m.Type == raft.MsgVote
		n.raft.Step(n.s.now, m)
		n.log.modest = false
		if n.raft.Serves(m) {
			switch m.Type {
			case raft.MsgFetch:
				n.parked = slices.DeleteFunc(n.parked, func(o parked) bool { return o.m.From == m.From }) // one of a node
				n.parked = append(n.parked, parked{p, n.s.now.Add(fetchWait)})
				n.s.After(fetchWait, n.poke)
			case raft.MsgFetchSnapshot:
				n.serveSnapshot(p)
			}
		}
	})
}

// poke lets the node look after its parked fetches.
func (n *Node) poke() {
	if n.raft != nil && !n.s.now.Before(n.pausedUntil) {
		n.act(func() {})
	}
}

// append reports true when the node has to stop.
func (n *Node) append(es ...Entry) bool {
	if err := n.log.append(es...); err != nil {
		n.s.fail("owner", "node %d: %v", n.ID, err)
		return true
	}
	n.raft.SetMembership(n.log.membership())
	return false
}

// settle does what the Raft asks for, in the order in which it has to be done.
func (n *Node) settle() {
	for !n.crashed {
		n.checkOffice()
		rd, some := n.raft.Ready()
		if !some {
			break
		}
		if rd.Alarm != nil {
			n.s.fail("alarm", "node %d: %v", n.ID, rd.Alarm)
		}
		if rd.HardState != nil && n.persist(*rd.HardState) {
			return
		}
		if rd.TruncateTo != nil && n.cut(*rd.TruncateTo) || rd.Piece != nil && n.write(*rd.Piece) || rd.EpochStart != nil && n.begin(rd.EpochStart) {
			return
		}
		if n.raft.Role() != raft.Leader && !n.s.o.Bugs.NoSync && n.log.durable < n.log.end() {
			if n.disk() {
				return
			}
			n.log.durable = n.log.end()
		}
		if n.disk() {
			return
		}
		for _, m := range rd.Messages {
			p := packet{m: m, life: n.life}
			if m.Type.IsAnswer() {
				p.life = n.replyLife
			}
			n.s.send(p)
		}
	}
	if n.crashed {
		return
	}
	n.commit()
	n.lead()
	n.serve()
}

func (n *Node) persist(h raft.HardState) (stop bool) {
	if n.disk() { // the file is replaced whole, before or after the crash, except where disks lie
		switch x := n.s.rnd.IntN(100); {
		case n.s.o.Chaos.Torn && x < 30:
			n.torn = true
			n.s.Counts.Torn++
		case x < 65:
			n.hard, n.torn = h, false
		}
		return true
	}
	if n.s.o.Bugs.ForgetVotes {
		h.Voted = raft.NoReplica
	}
	if n.torn {
		n.s.Counts.Regained++
	}
	n.hard, n.torn = h, false
	if h.Leader == n.ID {
		n.s.Counts.Elections++
	}
	return false
}

func (n *Node) cut(to id.Offset) (stop bool) {
	if n.disk() {
		return true
	}
	if !n.s.o.Bugs.NoTruncate {
		n.s.Counts.Truncations++
		n.log.truncate(to)
		n.shape++
	}
	n.raft.SetMembership(n.log.membership())
	n.raft.Truncated(n.s.now)
	return false
}

// write takes a piece of a snapshot, and puts the snapshot in place after the last.
func (n *Node) write(p raft.Piece) (stop bool) {
	if n.disk() {
		return true
	}
	if p.At == 0 {
		n.partial = &partial{at: p.Snapshot}
	}
	if n.partial == nil || n.partial.at != p.Snapshot || int64(len(n.partial.bytes)) != p.At {
		n.s.fail("owner", "node %d: a piece at %d does not follow", n.ID, p.At)
		return true
	}
	n.partial.bytes = append(n.partial.bytes, p.Bytes...)
	if !p.Last {
		return false
	}
	snap := n.s.unpack(n.partial.bytes)
	n.partial = nil
	if snap == nil || snap.At != p.Snapshot {
		n.s.fail("owner", "node %d: the pieces of the snapshot %v do not make it", n.ID, p.Snapshot)
		return true
	}
	n.s.Counts.Installs++
	n.log.keep(snap)
	if n.disk() {
		return true
	}
	if !n.s.o.Bugs.KeepLog {
		n.log.beginAt(snap)
	}
	n.shape++
	n.load(snap)
	n.raft.SetMembership(n.log.membership())
	n.raft.SnapshotDone(n.s.now, true)
	n.seenHW = max(n.seenHW, snap.At.Offset)
	return false
}

func (n *Node) load(snap *Snapshot) {
	if err := n.machine.Load(snap.State, snap.At); err != nil {
		n.s.fail("M5", "node %d: load snapshot %v: %v", n.ID, snap.At, err)
	}
	n.applied = snap.At.Offset
}

// begin appends the records that open the epoch.
func (n *Node) begin(records []record.ControlRecord) (stop bool) {
	if n.disk() {
		return true
	}
	es := make([]Entry, len(records))
	for i, r := range records {
		es[i] = n.s.entry(n.raft.HardState().Epoch, r)
		es[i].Open = i < len(records)-1
	}
	if n.append(es...) {
		return true
	}
	n.sync()
	return false
}

// sync makes the log durable after a while. A leader goes on meanwhile.
func (n *Node) sync() {
	end, life, restarts := n.log.end(), n.life, n.log.restarts
	if n.s.o.Bugs.NoSync {
		n.raft.Durable(end)
		return
	}
	n.s.After(n.s.about(10*time.Millisecond), func() {
		if n.raft == nil || n.life != life || n.log.restarts != restarts {
			return
		}
		if n.s.now.Before(n.pausedUntil) {
			n.sync()
			return
		}
		n.log.durable = max(n.log.durable, end)
		n.act(n.durable)
	})
}

// durable tells the Raft, but not of what is held back.
func (n *Node) durable() {
	if n.raft.Role() == raft.Leader {
		n.raft.Durable(min(n.log.durable, n.visible()))
	}
}

// visible is the end of what a leader counts and gives to others: the batch that opens its epoch is never held.
func (n *Node) visible() id.Offset {
	if n.s.hold == 0 {
		return n.log.end()
	}
	open := max(n.raft.EpochStart(), n.log.start)
	for open < n.log.end() && n.log.at(open).Open {
		open++
	}
	open = min(open+1, n.log.end())
	return n.log.align(max(open, n.log.end()-id.Offset(n.s.hold)), open)
}

package raft

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// entry is a record of the simulated log. Value 0 opens an epoch.
type entry struct {
	epoch id.LeaderEpoch
	value int32
}

type simLog struct {
	entries []entry
	durable int
}

func (l *simLog) End() Position {
	p := Position{Offset: id.Offset(len(l.entries))}
	if n := len(l.entries); n > 0 {
		p.Epoch = l.entries[n-1].epoch
	}
	return p
}

func (l *simLog) EndOffsetForEpoch(e id.LeaderEpoch) (Position, bool) {
	for i := len(l.entries) - 1; i >= 0; i-- {
		if l.entries[i].epoch <= e {
			return Position{Offset: id.Offset(i + 1), Epoch: l.entries[i].epoch}, true
		}
	}
	return Position{}, false
}

func (l *simLog) StartOffset() id.Offset { return 0 }

func (l *simLog) Snapshots() (earliest, latest Position, ok bool) { return Position{}, Position{}, false }

// simNode is the owner of one Raft: it keeps its promises to it.
type simNode struct {
	s    *sim
	id   id.BrokerID
	log  *simLog
	hard HardState // what is on its disk
	raft *Raft     // nil while down
	// parked are fetches that wait for something new.
	parked []Message
}

type event struct {
	at  time.Time
	seq int
	do  func()
}

// sim runs nodes over a network that delays, drops and repeats, with crashes that lose what is not durable.
type sim struct {
	t      *testing.T
	rnd    *rand.Rand
	now    time.Time
	nodes  []*simNode
	events []event
	seq    int
	drop   float64

	leaders   map[id.LeaderEpoch]id.BrokerID
	committed []entry // what any node has ever known as committed
	next      int32
	cut       map[[2]id.BrokerID]bool
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	s.events = append(s.events, event{s.now.Add(d), s.seq, do})
}

// step runs the next event, or lets the next deadline come.
func (s *sim) step() {
	best := -1
	for i, e := range s.events {
		if best < 0 || e.at.Before(s.events[best].at) || e.at.Equal(s.events[best].at) && e.seq < s.events[best].seq {
			best = i
		}
	}
	var ticker *simNode
	var tick time.Time
	for _, n := range s.nodes {
		if n.raft == nil {
			continue
		}
		if at, ok := n.raft.Deadline(); ok && (ticker == nil || at.Before(tick)) {
			ticker, tick = n, at
		}
	}
	if best >= 0 && (ticker == nil || !tick.Before(s.events[best].at)) {
		e := s.events[best]
		s.events = append(s.events[:best], s.events[best+1:]...)
		if e.at.After(s.now) {
			s.now = e.at
		}
		e.do()
	} else if ticker != nil {
		if tick.After(s.now) {
			s.now = tick
		}
		ticker.raft.Tick(s.now)
		ticker.settle()
	} else {
		s.now = s.now.Add(time.Second)
	}
	s.check()
}

func (n *simNode) start() {
	var vs Voters
	for _, m := range n.s.nodes {
		vs = vs.With(Voter{Replica: Replica{ID: m.id}, MaxVersion: 1})
	}
	self, _ := vs.Find(n.id)
	n.raft = New(Config{Self: self, ElectionTimeout: time.Second, FetchTimeout: 2 * time.Second, Log: n.log, Rand: n.s.rnd},
		n.hard, Membership{Voters: vs, Offset: -1}, n.s.now)
	n.settle()
}

func (n *simNode) crash() {
	n.raft, n.parked = nil, nil
	keep := n.log.durable + n.s.rnd.IntN(len(n.log.entries)-n.log.durable+1) // the rest may or may not have reached the disk
	n.log.entries = n.log.entries[:keep]
	n.log.durable = keep
}

func (n *simNode) settle() {
	for n.raft != nil {
		rd, ok := n.raft.Ready()
		if !ok {
			break
		}
		if rd.HardState != nil {
			n.hard = *rd.HardState
		}
		if rd.TruncateTo != nil {
			to := int(*rd.TruncateTo)
			n.log.entries = n.log.entries[:min(to, len(n.log.entries))]
			n.log.durable = min(n.log.durable, len(n.log.entries))
			n.raft.Truncated(n.s.now)
		}
		if rd.EpochStart != nil {
			n.append(0)
		}
		for _, m := range rd.Messages {
			n.s.send(m)
		}
	}
	n.serve()
}

func (n *simNode) append(v int32) {
	n.log.entries = append(n.log.entries, entry{n.hard.Epoch, v})
	end, raft := len(n.log.entries), n.raft
	n.s.after(time.Duration(n.s.rnd.IntN(20))*time.Millisecond, func() { // the fsync ends
		if n.raft == raft && n.raft.Role() == Leader && len(n.log.entries) >= end {
			n.log.durable = max(n.log.durable, end)
			n.raft.Durable(id.Offset(end))
			n.settle()
		}
	})
}

// serve answers parked fetches when there is something to tell.
func (n *simNode) serve() {
	if n.raft == nil || n.raft.Role() != Leader {
		n.parked = nil
		return
	}
	kept := n.parked[:0]
	for _, m := range n.parked {
		if m.Epoch != n.hard.Epoch {
			continue
		}
		from := int(m.Log.Offset)
		hw := n.raft.HighWatermark()
		if from >= len(n.log.entries) && hw <= m.HighWatermark {
			kept = append(kept, m)
			continue
		}
		n.s.send(Message{Type: MsgFetchAnswer, From: Replica{ID: n.id}, To: m.From.ID, Epoch: n.hard.Epoch, Leader: n.id, Log: m.Log,
			HighWatermark: hw, Records: encode(n.log.entries[from:min(len(n.log.entries), from+1+n.s.rnd.IntN(5))])})
	}
	n.parked = kept
}

func encode(es []entry) (b []byte) {
	for _, e := range es {
		b = binary.BigEndian.AppendUint32(b, uint32(e.epoch))
		b = binary.BigEndian.AppendUint32(b, uint32(e.value))
	}
	return b
}

func (n *simNode) deliver(m Message) {
	if n.raft == nil {
		return
	}
	if n.raft.Accepts(m) {
		for b := m.Records; len(b) > 0; b = b[8:] {
			n.log.entries = append(n.log.entries, entry{id.LeaderEpoch(binary.BigEndian.Uint32(b)), int32(binary.BigEndian.Uint32(b[4:]))})
		}
		n.log.durable = len(n.log.entries)
	}
	n.raft.Step(n.s.now, m)
	if m.Type == MsgFetch && n.raft.Serves(m) {
		n.parked = append(n.parked, m)
	}
	n.settle()
}

func (s *sim) send(m Message) {
	copies := 1
	switch x := s.rnd.Float64(); {
	case x < s.drop:
		copies = 0
	case x < s.drop*1.3:
		copies = 2
	}
	for range copies {
		s.after(time.Duration(1+s.rnd.IntN(30))*time.Millisecond, func() {
			if !s.cut[[2]id.BrokerID{m.From.ID, m.To}] {
				s.nodes[m.To-1].deliver(m)
			}
		})
	}
}

// check holds Raft's promises.
func (s *sim) check() {
	for _, n := range s.nodes {
		if n.raft == nil {
			continue
		}
		h := n.raft.HardState()
		if n.raft.Role() == Leader {
			if other, ok := s.leaders[h.Epoch]; ok && other != n.id {
				s.t.Fatalf("epoch %d has the leaders %d and %d", h.Epoch, other, n.id)
			}
			s.leaders[h.Epoch] = n.id
		}
		hw := int(n.raft.HighWatermark())
		if hw > len(n.log.entries) {
			s.t.Fatalf("node %d knows %d as committed and has %d", n.id, hw, len(n.log.entries))
		}
		for i := 0; i < hw; i++ {
			switch {
			case i >= len(s.committed):
				s.committed = append(s.committed, n.log.entries[i])
			case s.committed[i] != n.log.entries[i]:
				s.t.Fatalf("offset %d was committed as %v and is %v on node %d", i, s.committed[i], n.log.entries[i], n.id)
			}
		}
	}
	// What is committed is on the disks of a majority.
	if k := len(s.committed); k > 0 {
		have := 0
		for _, n := range s.nodes {
			if n.log.durable >= k && n.log.entries[k-1] == s.committed[k-1] {
				have++
			}
		}
		if have < len(s.nodes)/2+1 {
			s.t.Fatalf("offset %d is committed and on %d disks of %d", k-1, have, len(s.nodes))
		}
	}
}

func runSim(t *testing.T, seed uint64, nodes, steps int) *sim {
	s := &sim{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(1_700_000_000, 0), leaders: map[id.LeaderEpoch]id.BrokerID{}, cut: map[[2]id.BrokerID]bool{}}
	s.drop = s.rnd.Float64() * 0.2
	for i := range nodes {
		s.nodes = append(s.nodes, &simNode{s: s, id: id.BrokerID(i + 1), log: &simLog{}, hard: HardState{Leader: id.NoBroker, Voted: NoReplica}})
	}
	for _, n := range s.nodes {
		n.start()
	}
	for range steps {
		switch x := s.rnd.IntN(1000); {
		case x < 3:
			n := s.nodes[s.rnd.IntN(nodes)]
			if n.raft != nil {
				n.crash()
			}
			s.after(time.Duration(s.rnd.IntN(5000))*time.Millisecond, func() {
				if n.raft == nil {
					n.start()
				}
			})
		case x < 5:
			a, b := id.BrokerID(1+s.rnd.IntN(nodes)), id.BrokerID(1+s.rnd.IntN(nodes))
			s.cut[[2]id.BrokerID{a, b}] = true
			s.after(time.Duration(s.rnd.IntN(8000))*time.Millisecond, func() { delete(s.cut, [2]id.BrokerID{a, b}) })
		case x < 6:
			if n := s.nodes[s.rnd.IntN(nodes)]; n.raft != nil {
				n.raft.Resign(s.now)
				n.settle()
			}
		case x < 60:
			for _, n := range s.nodes {
				if n.raft != nil && n.raft.Role() == Leader {
					s.next++
					n.append(s.next)
					n.settle()
				}
			}
		}
		s.step()
	}
	return s
}

func TestSimulation(t *testing.T) {
	base := uint64(time.Now().UnixNano())
	for _, nodes := range []int{1, 2, 3, 5} {
		for i := range uint64(12) {
			seed := base + i
			t.Run(fmt.Sprintf("%d nodes, seed %d", nodes, seed), func(t *testing.T) {
				s := runSim(t, seed, nodes, 4000)
				// Then the faults end, and the quorum must work.
				s.drop = 0
				clear(s.cut)
				for _, n := range s.nodes {
					if n.raft == nil {
						n.start()
					}
				}
				before := len(s.committed)
				for range 20_000 {
					for _, n := range s.nodes {
						if n.raft != nil && n.raft.Role() == Leader && len(n.log.entries) < before+200 {
							s.next++
							n.append(s.next)
							n.settle()
						}
					}
					s.step()
					if len(s.committed) > before+20 {
						return
					}
				}
				for _, n := range s.nodes {
					t.Logf("node %d: %v %+v, log %v, hw %d", n.id, n.raft.Role(), n.raft.HardState(), n.log.End(), n.raft.HighWatermark())
				}
				t.Fatalf("nothing is committed any more after offset %d", before)
			})
		}
	}
}

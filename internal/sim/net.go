package sim

import (
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
)

// Net is how bad the network is.
type Net struct {
	Loss, Repeat float64       // of messages
	Delay        time.Duration // at most; messages overtake each other within it
}

// packet is a message under way. Requests and their answers belong to one life of the requester: connections end with it.
type packet struct {
	m       raft.Message
	entries []Entry
	life    int // of the requester
}

func (s *Sim) send(p packet) {
	copies := 1
	switch x := s.rnd.Float64(); {
	case x < s.loss:
		copies = 0
	case x < s.loss+s.o.Net.Repeat:
		copies = 2
	}
	if p.m.To < 0 || int(p.m.To) >= len(s.nodes) {
		return
	}
	for range copies {
		s.After(time.Millisecond+time.Duration(s.rnd.Int64N(int64(s.o.Net.Delay)+1)), func() { s.deliver(p) })
	}
}

func (s *Sim) deliver(p packet) {
	from, to := s.nodes[p.m.From.ID], s.nodes[p.m.To]
	if s.cut[from.ID][to.ID] {
		return
	}
	if p.m.Type.IsAnswer() && to.life != p.life {
		return
	}
	if to.raft == nil {
		if s.rnd.IntN(2) == 0 && !p.m.Type.IsAnswer() && from.life == p.life && from.raft != nil { // refused
			from.act(func() { from.raft.Unreachable(s.now, p.m) })
		}
		return
	}
	if s.now.Before(to.pausedUntil) {
		s.After(to.pausedUntil.Sub(s.now), func() { s.deliver(p) })
		return
	}
	if s.o.Trace != nil {
		s.trace("%d -> %d %v epoch %d leader %d log %v granted %t error %d", from.ID, to.ID, p.m.Type, p.m.Epoch, p.m.Leader, p.m.Log, p.m.Granted, p.m.Error)
	}
	to.receive(p)
}

// Cut drops what one node sends to another from now on, in this direction.
func (s *Sim) Cut(from, to id.BrokerID) { s.cut[from][to] = true }

// Part drops everything between two sets of nodes.
func (s *Sim) Part(a, b []id.BrokerID) {
	for _, x := range a {
		for _, y := range b {
			s.cut[x][y], s.cut[y][x] = true, true
		}
	}
}

// Isolate drops everything from and to a node.
func (s *Sim) Isolate(n id.BrokerID) {
	for _, o := range s.nodes {
		if o.ID != n {
			s.Part([]id.BrokerID{n}, []id.BrokerID{o.ID})
		}
	}
}

// Rejoin lets everything from and to a node through again.
func (s *Sim) Rejoin(n id.BrokerID) {
	for _, o := range s.nodes {
		s.cut[n][o.ID], s.cut[o.ID][n] = false, false
	}
}

// Heal ends all faults for good: nothing is cut, lost, paused or down any more.
func (s *Sim) Heal() {
	s.quiet, s.loss, s.hold = true, 0, 0
	s.cut = [maxNodes][maxNodes]bool{}
	for _, n := range s.nodes {
		n.pausedUntil = time.Time{}
		n.crashIn = -1
		n.Start()
	}
}

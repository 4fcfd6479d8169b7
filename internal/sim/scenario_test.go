package sim

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/core/raft"
)

// script is a scenario under way; the first thing that fails ends it.
type script struct {
	t *testing.T
	*Sim
	rnd *rand.Rand
}

func (s *script) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("MOLDAU_SEED=%d: %v", s.o.Seed, err)
	}
}

func (s *script) until(what string, done func() bool) {
	s.t.Helper()
	s.must(s.RunUntil(60_000, what, done))
}

// warm starts everybody and waits for a leader and some committed records.
func (s *script) warm(hw id.Offset) *Node {
	s.t.Helper()
	s.StartAll()
	s.until("there is a leader", s.Consistent)
	s.until("records are committed", func() bool { return s.Committed() >= hw })
	s.until("there is still a leader", s.Consistent)
	return s.Leader()
}

func others(s *Sim, not ...id.BrokerID) (out []id.BrokerID) {
	for _, n := range s.Nodes() {
		if !slices.Contains(not, n.ID) {
			out = append(out, n.ID)
		}
	}
	return out
}

// chain parts five voters so that a - c, b - d, and c - d - e - c are what is left.
func chain(s *Sim, a, b, c, d, e id.BrokerID) {
	s.Part([]id.BrokerID{a}, []id.BrokerID{b, d, e})
	s.Part([]id.BrokerID{b}, []id.BrokerID{c, e})
}

// TestScenarios plays what Apache Kafka plays with its own Raft, each from many seeds, with any number of observers.
func TestScenarios(t *testing.T) {
	base, only := seed.First(t)
	all := func(s *script, hw id.Offset) {
		s.until("all know the high watermark", func() bool { return s.Reached(hw) })
	}
	scenarios := []struct {
		name     string
		min, max int // voters
		play     func(s *script)
	}{
		{"an initial leader is elected", 1, 5, func(s *script) {
			s.warm(0)
			all(s, 10)
		}},
		{"a leader that crashes is replaced", 3, 5, func(s *script) {
			l := s.warm(10)
			l.Kill()
			all(s, s.Committed()+10)
			l.Start()
			all(s, s.Committed()+10)
		}},
		{"a leader that leaves in order is replaced sooner than a timeout", 3, 5, func(s *script) {
			l := s.warm(10)
			s.StopClients()
			s.until("all have everything", s.Settled)
			at := s.Now()
			l.Resign()
			s.until("there is another leader", func() bool { n := s.Leader(); return n != nil && n != l })
			if took := s.Now().Sub(at); took > electionTimeout {
				s.t.Fatalf("it took %v", took)
			}
			s.StartClients()
			all(s, s.Committed()+10)
		}},
		{"a majority recovers after all were killed", 1, 5, func(s *script) {
			s.warm(10)
			hw := s.Committed()
			for _, n := range s.Nodes() {
				n.Kill()
			}
			for n := range s.o.Voters/2 + 1 {
				s.Node(id.BrokerID(n)).Start()
			}
			all(s, hw+10)
		}},
		{"a leader that is cut off is replaced, and gives up", 3, 5, func(s *script) {
			l := s.warm(10)
			s.Isolate(l.ID)
			s.until("the others go on", func() bool { return s.Reached(s.start0()+30, others(s.Sim, l.ID)...) })
			s.until("it does not lead any more", func() bool { return !l.Leads() })
			s.Rejoin(l.ID)
			all(s, s.Committed()+10)
		}},
		{"the larger part goes on", 5, 5, func(s *script) {
			s.warm(10)
			small, large := []id.BrokerID{0, 1}, []id.BrokerID{2, 3, 4}
			s.Part(small, large)
			end := s.Committed()
			s.until("the larger part goes on", func() bool { return s.Reached(2*end+20, large...) })
			for _, n := range small {
				if s.Node(n).HighWatermark() >= s.Node(2).HighWatermark() {
					s.t.Fatalf("node %d has gone on", n)
				}
			}
			s.Rejoin(0)
			s.Rejoin(1)
			all(s, s.Committed()+20)
		}},
		{"a network in parts elects once, if a majority is connected", 5, 5, func(s *script) {
			chain(s.Sim, 0, 1, 2, 3, 4)
			s.StartAll()
			s.until("there is a leader", func() bool { return s.Leader() != nil })
			s.steady(func() {
				l := s.Leader().ID
				majority := map[id.BrokerID][]id.BrokerID{2: {0, 2, 3, 4}, 3: {1, 2, 3, 4}, 4: {2, 3, 4}}[l]
				s.until("the majority goes on", func() bool { return s.Reached(60, majority...) })
			})
		}},
		{"leadership does not change while a majority is reached", 5, 5, func(s *script) {
			l := s.warm(10).ID
			s.until("all follow", func() bool { return s.Reached(5) })
			a, b, d, e := (l+1)%5, (l+2)%5, (l+3)%5, (l+4)%5
			chain(s.Sim, a, b, l, d, e)
			s.steady(func() {
				s.until("the majority goes on", func() bool { return s.Reached(100, a, l, d, e) })
			})
		}},
		{"one leader after the other fails", 3, 5, func(s *script) {
			first := s.warm(10)
			s.Isolate(first.ID)
			s.until("there is a second leader", func() bool { n := s.Leader(); return n != nil && n != first })
			second := s.Leader()
			s.Rejoin(first.ID)
			s.Isolate(second.ID)
			hw := s.Committed()
			s.until("there is progress", func() bool { return s.Committed() >= hw+10 })
		}},
		{"one node loses its disk", 3, 5, func(s *script) {
			s.o.Chaos.LosesDisks = true
			s.warm(10)
			n := s.Node(id.BrokerID(s.rnd.IntN(s.o.Voters)))
			m := s.Node(0).Log().members[0].m
			n.Kill()
			s.until("there is another leader", func() bool { l := s.Leader(); return l != nil && l != n && s.Consistent() })
			// Raft survives this only if what the node had confirmed is on a majority of the others.
			hw := s.Committed()
			s.until("the others have more", func() bool {
				return s.Reached(hw, slices.DeleteFunc(others(s.Sim, n.ID), func(o id.BrokerID) bool { return int(o) >= s.o.Voters })...)
			})
			n.Wipe(m)
			n.Start()
			all(s, s.Committed()+10)
		}},
		{"a follower that was away loads a snapshot", 3, 5, func(s *script) {
			l := s.warm(10)
			f := s.Node((l.ID + 1) % id.BrokerID(s.o.Voters))
			f.Kill()
			s.until("the others go on", func() bool { return s.Committed() > f.log.end()+20 })
			for _, n := range s.Nodes() {
				if n.raft != nil {
					n.TakeSnapshot()
					n.log.cleanTo(n.log.latest())
				}
			}
			installs := s.Counts.Installs
			f.Start()
			all(s, s.Committed()+10)
			if s.Counts.Installs == installs {
				s.t.Fatal("no snapshot was loaded")
			}
			if err := s.CheckEnd(); err != nil {
				s.t.Fatal(err)
			}
		}},
		{"an observer that is new loads a snapshot and follows", 1, 5, func(s *script) {
			if s.o.Observers == 0 {
				return
			}
			o := s.Nodes()[len(s.Nodes())-1]
			s.warm(10)
			o.Kill()
			o.Wipe(s.Node(0).Log().members[0].m)
			for _, n := range s.Nodes() {
				n.TakeSnapshot()
			}
			o.Start()
			all(s, s.Committed()+10)
			if o.raft.Role() != raft.Follower || o.log.start == 0 {
				s.t.Fatal(o)
			}
		}},
		{"held commits are cut when the leader is deposed", 3, 5, func(s *script) {
			l := s.warm(20)
			s.Hold(8)
			end := l.log.end()
			s.until("records are held", func() bool { return l.log.end() >= end+8 })
			if len(l.waiting) == 0 {
				s.t.Fatal("nobody waits")
			}
			held := l.log.at(l.log.end() - 1)
			failed := s.Counts.Failed
			s.Isolate(l.ID) // or it may be elected again, as its log is the longest
			l.Resign()
			if len(l.waiting) != 0 || s.Counts.Failed == failed {
				s.t.Fatal("clients still wait")
			}
			s.until("another leads", func() bool { n := s.Leader(); return n != nil && n != l && n.active })
			s.Hold(0)
			s.Rejoin(l.ID)
			s.until("the old leader has cut its log", func() bool { return !slices.ContainsFunc(l.log.entries, held.same) })
			all(s, s.Committed()+10)
		}},
		{"a lost quorum-state is trusted again after all voters were heard", 3, 5, func(s *script) {
			l := s.warm(10)
			f := s.Node((l.ID + 1) % id.BrokerID(s.o.Voters))
			other := s.Node((l.ID + 2) % id.BrokerID(s.o.Voters))
			f.Kill()
			f.torn = true
			s.Isolate(other.ID)
			f.Start()
			hw := s.Committed()
			if s.o.Voters == 5 {
				s.until("the node follows", func() bool { return f.HighWatermark() >= hw })
			} else {
				s.must(s.Run(500)) // its copy must not count, and so nothing is committed
				if s.Committed() > hw+5 {
					s.t.Fatalf("committed %d after %d", s.Committed(), hw)
				}
			}
			if f.raft.Trusted() {
				s.t.Fatal("trusted")
			}
			s.Rejoin(other.ID)
			s.until("the node trusts itself", func() bool { return f.raft.Trusted() && !f.torn })
			all(s, s.Committed()+10)
		}},
		{"kraft.version is raised while the quorum works", 1, 5, func(s *script) {
			l := s.warm(10)
			l.Upgrade()
			s.until("all have the voters", func() bool {
				for _, n := range s.Nodes() {
					if m := n.raft.Membership(); m.KRaftVersion != 1 || m.Offset < 0 || m.Voters[0].DirectoryID.IsZero() {
						return false
					}
				}
				return true
			})
			l.Kill()
			l.Start()
			all(s, s.Committed()+10)
		}},
	}
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			for n := range uint64(40) {
				rnd := rand.New(rand.NewPCG(base+n, 2))
				o := Options{Seed: base + n, Voters: sc.min + rnd.IntN(sc.max-sc.min+1), Observers: rnd.IntN(4), Net: Net{Delay: time.Duration(1+rnd.IntN(10)) * time.Millisecond},
					ClientEvery: 20 * time.Millisecond}
				if rnd.IntN(2) == 0 {
					o.SnapshotEvery = 300 * time.Millisecond
				}
				if rnd.IntN(2) == 0 && sc.name != "kraft.version is raised while the quorum works" {
					o.KRaftVersion = 1
				}
				sc.play(&script{t: t, Sim: New(o), rnd: rnd})
				if only {
					break
				}
			}
		})
	}
}

// start0 is what was committed when it was first called.
func (s *script) start0() id.Offset { return 10 }

// steady holds that nothing changes who leads while do runs.
func (s *script) steady(do func()) {
	s.t.Helper()
	l := s.Leader()
	epoch := l.raft.HardState().Epoch
	do()
	if s.Leader() != l || l.raft.HardState().Epoch != epoch {
		s.t.Fatalf("MOLDAU_SEED=%d: node %d of epoch %d led, then %v", s.o.Seed, l.ID, epoch, s.Leader())
	}
}

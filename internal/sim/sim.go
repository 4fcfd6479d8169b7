package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
)

// Options are a run. The zero value of everything but Voters is a run without faults.
type Options struct {
	Seed              uint64
	Voters, Observers int   // ids from 0, voters first
	KRaftVersion      int16 // 0: static voters; 1: voters in the log
	Net               Net
	Chaos             Chaos
	Bugs              Bugs
	// Machine makes a node's state machine; nil: a Ledger.
	Machine func(n id.BrokerID) Machine
	// ClientEvery is the mean time between two requests of clients; 0: no clients.
	ClientEvery time.Duration
	// SnapshotEvery is the mean time between two snapshots somewhere; 0: none.
	SnapshotEvery time.Duration
	// Trace is called with a line for each event; nil: none.
	Trace func(format string, args ...any)
}

// Timeouts of all nodes.
const (
	electionTimeout = time.Second
	fetchTimeout    = 2 * time.Second
	requestTimeout  = 1500 * time.Millisecond
	fetchWait       = 300 * time.Millisecond
)

// Violation is a broken invariant.
type Violation struct {
	Name string // M1 to M5, or what else was promised
	Text string
}

func (v *Violation) Error() string { return v.Name + ": " + v.Text }

// Sim is one run. It belongs to one goroutine.
type Sim struct {
	o     Options
	rnd   *rand.Rand
	now   time.Time
	start time.Time
	nodes []*Node
	queue queue
	seq   uint64
	steps int
	err   *Violation

	cut     [maxNodes][maxNodes]bool
	loss    float64
	hold    int // records at the end of a leader's log that nobody is given
	nextID  uint64
	quiet   bool // no new faults
	idle    bool // no new requests either
	history history
	sent    map[uint64]*Snapshot // what the bytes of a snapshot mean
	Counts  Counts
}

const maxNodes = 16

// Counts says what a run went through; a test that holds nothing happened proves nothing.
type Counts struct {
	Elections, Crashes, Torn, Truncations, Ghosts, Snapshots, Installs, Committed, Acked, Failed, Depositions, Regained, Upgrades, Pauses, Held int
}

// Add sums counts.
func (c *Counts) Add(o Counts) {
	for _, p := range [][2]*int{{&c.Elections, &o.Elections}, {&c.Crashes, &o.Crashes}, {&c.Torn, &o.Torn}, {&c.Truncations, &o.Truncations},
		{&c.Ghosts, &o.Ghosts}, {&c.Snapshots, &o.Snapshots}, {&c.Installs, &o.Installs}, {&c.Committed, &o.Committed}, {&c.Acked, &o.Acked},
		{&c.Failed, &o.Failed}, {&c.Depositions, &o.Depositions}, {&c.Regained, &o.Regained}, {&c.Upgrades, &o.Upgrades}, {&c.Pauses, &o.Pauses},
		{&c.Held, &o.Held}} {
		*p[0] += *p[1]
	}
}

// New makes a run in which every node is about to start.
func New(o Options) *Sim {
	if o.Voters < 1 || o.Voters+o.Observers > maxNodes {
		panic("sim: too few voters or too many nodes")
	}
	if o.Machine == nil {
		o.Machine = func(id.BrokerID) Machine { return &Ledger{} }
	}
	s := &Sim{o: o, rnd: rand.New(rand.NewPCG(o.Seed, 0x6d6f6c646175)), now: time.Unix(1_700_000_000, 0), loss: o.Net.Loss, sent: map[uint64]*Snapshot{}}
	s.start = s.now
	s.history = newHistory(o.Machine(id.NoBroker))
	var voters raft.Voters
	for n := range o.Voters {
		v := raft.Voter{Replica: raft.Replica{ID: id.BrokerID(n)}, MaxVersion: 1}
		if o.KRaftVersion > 0 {
			v = s.self(id.BrokerID(n))
		}
		voters = voters.With(v)
	}
	for n := range o.Voters + o.Observers {
		s.nodes = append(s.nodes, newNode(s, id.BrokerID(n), raft.Membership{KRaftVersion: o.KRaftVersion, Voters: voters, Offset: -1}))
	}
	s.schedule()
	return s
}

// self is a node as it describes itself.
func (s *Sim) self(n id.BrokerID) raft.Voter {
	return raft.Voter{Replica: raft.Replica{ID: n, DirectoryID: id.UUID{0: 7, 15: byte(n)}}, MaxVersion: 1,
		Endpoints: []raft.Endpoint{{Name: "CONTROLLER", Host: "localhost", Port: 9000 + uint16(n)}}}
}

// StartAll starts the nodes that are down.
func (s *Sim) StartAll() {
	for _, n := range s.nodes {
		n.Start()
	}
}

// Node is the node with an id.
func (s *Sim) Node(n id.BrokerID) *Node { return s.nodes[n] }

// Nodes are all nodes, voters first.
func (s *Sim) Nodes() []*Node { return s.nodes }

// Steps is how many events there were.
func (s *Sim) Steps() int { return s.steps }

// Now is the run's time.
func (s *Sim) Now() time.Time { return s.now }

// Rand is the run's randomness.
func (s *Sim) Rand() *rand.Rand { return s.rnd }

// Step takes the next event and checks the invariants.
func (s *Sim) Step() error {
	s.steps++
	var ticker *Node
	for _, n := range s.nodes {
		if n.raft != nil && n.awake && (ticker == nil || n.wake.Before(ticker.wake)) {
			ticker = n
		}
	}
	switch {
	case len(s.queue) > 0 && (ticker == nil || !ticker.wake.Before(s.queue[0].at)):
		e := s.queue.pop()
		s.advance(e.at)
		e.do()
	case ticker != nil:
		s.advance(ticker.wake)
		ticker.tick()
	default:
		s.advance(s.now.Add(time.Second))
	}
	if s.err == nil {
		s.check()
	}
	if s.err != nil {
		return s.err
	}
	return nil
}

func (s *Sim) advance(to time.Time) {
	if to.After(s.now) {
		s.now = to
	}
}

// Run takes so many steps, or fewer if one fails.
func (s *Sim) Run(steps int) error {
	for range steps {
		if err := s.Step(); err != nil {
			return err
		}
	}
	return nil
}

// RunUntil steps until done, at most so many times. It fails when that is not enough.
func (s *Sim) RunUntil(steps int, what string, done func() bool) error {
	for range steps {
		if done() {
			return nil
		}
		if err := s.Step(); err != nil {
			return err
		}
	}
	if done() {
		return nil
	}
	text := fmt.Sprintf("%d steps and %v were not enough until %s", steps, s.now.Sub(s.start), what)
	for _, n := range s.nodes {
		text += "\n  " + n.String()
	}
	return &Violation{"liveness", text}
}

func (s *Sim) fail(name, format string, args ...any) {
	if s.err == nil {
		s.err = &Violation{name, fmt.Sprintf("seed %d, step %d: ", s.o.Seed, s.steps) + fmt.Sprintf(format, args...)}
	}
}

func (s *Sim) trace(format string, args ...any) {
	if s.o.Trace != nil {
		s.o.Trace("%d %v "+format, append([]any{s.steps, s.now.Sub(s.start)}, args...)...)
	}
}

// After runs do in the run's time.
func (s *Sim) After(d time.Duration, do func()) {
	s.seq++
	s.queue.push(event{s.now.Add(d), s.seq, do})
}

// about is a random duration with the given mean.
func (s *Sim) about(mean time.Duration) time.Duration {
	return time.Duration(s.rnd.Int64N(2*int64(mean) + 1))
}

type event struct {
	at  time.Time
	seq uint64
	do  func()
}

func (e event) before(o event) bool { return e.at.Before(o.at) || e.at.Equal(o.at) && e.seq < o.seq }

// queue is a heap, the next event first.
type queue []event

func (q *queue) push(e event) {
	h := append(*q, e)
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].before(h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
	*q = h
}

func (q *queue) pop() event {
	h := *q
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h[last] = event{}
	h = h[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && h[c+1].before(h[c]) {
			c++
		}
		if !h[c].before(h[i]) {
			break
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
	*q = h
	return top
}

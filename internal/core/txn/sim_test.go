package txn

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
)

var (
	simSteps = flag.Int("sim.steps", 1_000_000, "steps of TestSimulation in total")
	simSeed  = flag.Uint64("sim.seed", 0, "the one seed to run; 0: what MOLDAU_SEED says")
)

// TestSimulation runs producers of both kinds, zombies among them, against one shard and a few partitions, with lost and
// late requests and answers, lost batches and new leaders, and looks at what readers of committed data would see: a
// transaction is seen in whole or not at all (atomicity), a commit that was confirmed is seen, an abort that was confirmed
// is not, nobody whose successor was let in gets anything in, nobody is told that he is fenced whom nobody has fenced, and after
// all is healed nothing is open.
func TestSimulation(t *testing.T) {
	const steps = 3_000
	first, only := *simSeed, true
	if first == 0 {
		first, only = seed.First(t)
	}
	for n := range uint64(max(1, *simSteps/steps)) {
		if wrong := newSim(t, first+n).run(steps); wrong != "" {
			t.Fatalf("MOLDAU_SEED=%d: %s", first+n, wrong)
		}
		if only {
			return
		}
	}
}

// TestSimulationSees breaks a rule at a time and expects the simulation to see it.
func TestSimulationSees(t *testing.T) {
	for name, breakIt := range map[string]func(*simulation){
		"markers leave before their decision is committed":     func(s *simulation) { s.early = true },
		"answers leave before their decision is committed":     func(s *simulation) { s.hasty = true },
		"a new leader forgets the markers that are due":        func(s *simulation) { s.forgetful = true },
		"a marker is lost, and reported as written":            func(s *simulation) { s.dropMarker = true },
		"who is at the next transaction is taken for a zombie": func(s *simulation) { s.impatient = true },
	} {
		t.Run(name, func(t *testing.T) {
			seed := seed.Of(t)
			for n := range uint64(200) {
				s := newSim(t, seed+n)
				breakIt(s)
				if wrong := s.run(3_000); wrong != "" {
					t.Log(wrong)
					return
				}
			}
			t.Fatal("not seen in 200 runs")
		})
	}
}

// simulation is the world around the shard.
type simulation struct {
	*world
	dropMarker, impatient bool
	rnd                   *rand.Rand
	partitions            map[id.TopicPartition]*simPartition
	clients               []*simClient
	waiting               map[shard.Ticket]func(body any, code wire.ErrorCode)
	late                  []func()     // requests sent a second time, some time
	flying                []simMarkers // on their way, perhaps again
	leader                int          // counts the coordinators
	outcome               map[string]*simTxn
	inits                 int
	fencedAt              map[string]int // per transactional id, the number of the newest client that was let in
	fences                map[string]int // per transactional id, how often somebody may have been fenced
}

// simPartition is a partition as its leader sees it.
type simPartition struct {
	epoch map[id.ProducerID]id.ProducerEpoch
	open  map[id.ProducerID][]*simTxn
	// leader is the newest coordinator that wrote a marker.
	leader map[id.ProducerID]int
}

// simTxn is one transaction as its client sees it.
type simTxn struct {
	of                 *simClient
	sent               int
	committed, aborted int // values, as readers see them
	confirmed          string
}

// simClient is one run of a producer.
type simClient struct {
	name    string
	version int16
	serial  int // counts those that were let in, in that order
	fences  int // what simulation.fences was when this one was let in
	coming  int // what simulation.leader was when it began to come again with what it has, plus 1; 0: it does not
	pid     id.ProducerID
	epoch   id.ProducerEpoch
	txn     *simTxn
	busy    bool
	dead    bool
}

var simNames = []string{"a", "b", "c"}

func newSim(t testing.TB, seed uint64) *simulation {
	s := &simulation{world: newWorld(t, 2), rnd: rand.New(rand.NewPCG(seed, 3)), partitions: map[id.TopicPartition]*simPartition{},
		waiting: map[shard.Ticket]func(any, wire.ErrorCode){}, outcome: map[string]*simTxn{}, fencedAt: map[string]int{}, fences: map[string]int{}}
	s.world.seen = s.trace
	s.world.heard = func(t shard.Ticket, body any, code wire.ErrorCode) {
		done := s.waiting[t]
		delete(s.waiting, t)
		if done != nil && s.rnd.IntN(20) > 0 { // else the answer is lost
			done(body, code)
		} else if done != nil {
			done(nil, wire.ErrRequestTimedOut)
		}
	}
	for _, name := range simNames {
		if s.rnd.IntN(2) == 0 { // had its transactional id for long: the epochs of its producer id soon come to their end
			pid := s.ids
			s.ids++
			s.carry(shard.NoTicket, shard.Result{Records: []shard.Record{transactionRecord(name, &Transaction{ProducerID: pid, PreviousProducerID: pid,
				NextProducerID: id.NoProducer, LastEpoch: id.NoProducerEpoch, Epoch: maxEpoch - 2 - id.ProducerEpoch(s.rnd.IntN(20)), TimeoutMs: 30_000, StartMs: -1, UpdateMs: s.now.UnixMilli()}, s.level)}})
		}
	}
	s.settle()
	for i := range 4 {
		s.partitions[id.TopicPartition{Topic: "t", Partition: int32(i)}] = &simPartition{map[id.ProducerID]id.ProducerEpoch{}, map[id.ProducerID][]*simTxn{}, map[id.ProducerID]int{}}
	}
	return s
}

// simFailure is what the simulation finds.
type simFailure string

func (s *simulation) failf(format string, args ...any) {
	panic(simFailure(fmt.Sprintf(format, args...)))
}

func (s *simulation) trace(format string, args ...any) {
	if *simSeed != 0 && testing.Verbose() {
		s.t.Logf(format, args...)
	}
}

// run returns what is wrong, or nothing.
func (s *simulation) run(steps int) (wrong string) {
	defer func() {
		switch f := recover().(type) {
		case nil:
		case simFailure:
			wrong = string(f)
		default:
			panic(f)
		}
	}()
	for range steps {
		s.step()
	}
	s.check()
	// Heal: everything arrives, everybody is gone, all times pass.
	s.release()
	for range 20 {
		for len(s.sent)+len(s.flying) > 0 {
			s.takeSent()
			s.deliver(len(s.flying) - 1)
		}
		s.advance(time.Minute)
	}
	for name, t := range s.s.txns {
		if !t.State.ended() {
			s.failf("%s is still in %v", name, t.State)
		}
	}
	for tp, p := range s.partitions {
		for pid, open := range p.open {
			if len(open) > 0 {
				s.failf("%v has %d open values of producer %d", tp, len(open), pid)
			}
		}
	}
	for key, x := range s.outcome {
		switch {
		case x.committed > 0 && x.aborted > 0:
			s.failf("%p %s is torn: %d values committed, %d aborted", x, key, x.committed, x.aborted)
		case x.confirmed == "commit" && x.aborted > 0:
			s.failf("%s was committed, and is aborted", key)
		case x.confirmed == "abort" && x.committed > 0:
			s.failf("%s was aborted, and is committed", key)
		case x.committed+x.aborted != x.sent:
			s.failf("%s: %d values sent, %d committed, %d aborted", key, x.sent, x.committed, x.aborted)
		}
	}
	return ""
}

func (s *simulation) step() {
	switch n := s.rnd.IntN(100); {
	case n < 2:
		s.hold = true
	case n < 6:
		s.release()
	case n == 6:
		s.lose(wire.ErrNotEnoughReplicas)
	case n == 7:
		s.takeSent()
		s.leader++
		s.move(s.hw + s.rnd.IntN(len(s.log)-s.hw+1))
	case n == 8:
		s.timeout(time.Duration(s.rnd.IntN(20_000)) * time.Millisecond)
	case n < 30:
		s.takeSent()
		if len(s.flying) > 0 {
			s.deliver(s.rnd.IntN(len(s.flying)))
		}
	case n < 34:
		if len(s.late) > 0 {
			i := s.rnd.IntN(len(s.late))
			again := s.late[i]
			s.late[i] = s.late[len(s.late)-1]
			s.late = s.late[:len(s.late)-1]
			again()
		}
	case n < 38 || len(s.clients) == 0:
		c := &simClient{name: simNames[s.rnd.IntN(len(simNames))], version: 2 * int16(s.rnd.IntN(2)), pid: id.NoProducer, epoch: id.NoProducerEpoch}
		s.clients = append(s.clients, c)
		if len(s.clients) > 8 {
			s.clients = s.clients[1:]
		}
	default:
		if c := s.clients[s.rnd.IntN(len(s.clients))]; !c.busy && !c.dead {
			s.act(c)
		}
	}
	if s.rnd.IntN(200) == 0 {
		s.check()
	}
}

// timeout lets time pass, and sees whose transaction has had its own.
func (s *simulation) timeout(d time.Duration) {
	ongoing := map[string]bool{}
	for name, t := range s.s.txns {
		ongoing[name] = t.State == Ongoing
	}
	s.advance(d)
	for name, t := range s.s.txns {
		if ongoing[name] && t.State != Ongoing {
			s.fences[name]++
		}
	}
}

// fenced looks at whether a client that is told so has been fenced.
func (s *simulation) fenced(c *simClient, code wire.ErrorCode) {
	if (code == wire.ErrProducerFenced || code == wire.ErrInvalidProducerIDMapping) && s.fences[c.name] == c.fences {
		s.failf("%s tells client %d %s, and nobody has fenced it", c.name, c.serial, code.Name())
	}
}

func (s *simulation) takeSent() {
	for _, m := range s.sent {
		s.flying = append(s.flying, simMarkers{m, s.leader})
	}
	s.sent = nil
}

// simMarkers are markers with the epoch of the coordinator that sends them.
type simMarkers struct {
	Markers
	leader int
}

// ask sends a request; a client that bumps epochs may find it sent once more, later.
func (s *simulation) ask(c *simClient, decide func(Turn) shard.Result, done func(any, wire.ErrorCode)) {
	c.busy = true
	send := func(done func(any, wire.ErrorCode)) {
		s.waiting[s.last+1] = done
		s.do(c.name, decide)
	}
	if c.version == 2 && s.rnd.IntN(10) == 0 && len(s.late) < 20 {
		s.late = append(s.late, func() { send(nil) })
	}
	if s.rnd.IntN(20) == 0 { // the request is lost
		c.busy = false
		done(nil, wire.ErrRequestTimedOut)
		return
	}
	send(func(body any, code wire.ErrorCode) { c.busy = false; done(body, code) })
}

func (s *simulation) act(c *simClient) {
	switch {
	case c.pid == id.NoProducer:
		s.init(c)
	case c.coming > 0 || s.rnd.IntN(15) == 0:
		s.comeAgain(c)
	case c.txn == nil:
		c.txn = &simTxn{of: c}
		s.outcome[fmt.Sprintf("%s/%d/%d", c.name, c.serial, len(s.outcome))] = c.txn
		fallthrough
	case s.rnd.IntN(3) > 0:
		tp := id.TopicPartition{Topic: "t", Partition: int32(s.rnd.IntN(4))}
		x, pid, epoch := c.txn, c.pid, c.epoch
		s.ask(c, func(t Turn) shard.Result {
			return s.s.AddPartitions(t, Producer{c.name, c.pid, c.epoch}, []id.TopicPartition{tp}, c.version)
		}, func(body any, _ wire.ErrorCode) {
			code, ok := body.(wire.ErrorCode)
			switch {
			case !ok || code == wire.ErrConcurrentTransactions:
			case code != wire.ErrNone:
				s.fenced(c, code)
				c.dead = true
			default:
				s.produce(tp, pid, epoch, x)
			}
		})
	default:
		s.end(c, s.rnd.IntN(2) == 0)
	}
}

func (s *simulation) init(c *simClient) {
	fences := 0
	s.ask(c, func(t Turn) shard.Result {
		s.fences[c.name]++
		if fences == 0 { // and not what comes late, which fences the client itself
			fences = s.fences[c.name]
		}
		return s.s.InitProducerID(t, Init{TransactionalID: c.name, TimeoutMs: 30_000, ProducerID: id.NoProducer, Epoch: id.NoProducerEpoch})
	},
		func(body any, _ wire.ErrorCode) {
			r, ok := body.(Identity)
			switch {
			case !ok || r.Code == wire.ErrConcurrentTransactions:
			case r.Code != wire.ErrNone:
				s.failf("init: %s", r.Code.Name())
			case r.Epoch < 0 || r.Epoch >= maxEpoch:
				s.failf("init gives epoch %d", r.Epoch)
			default:
				c.pid, c.epoch, c.fences = r.ProducerID, r.Epoch, fences
				s.inits++
				c.serial, s.fencedAt[c.name] = s.inits, s.inits
			}
		})
}

// comeAgain lets a client go on after an error, with the id and the epoch it has (KIP-360). What it was at is aborted.
func (s *simulation) comeAgain(c *simClient) {
	if c.coming == 0 {
		c.coming = s.leader + 1
	}
	p := Producer{c.name, c.pid, c.epoch}
	s.ask(c, func(t Turn) shard.Result {
		// Whoever has the producer's id aborts what is under way; itself it fences only by what comes late.
		if c.coming > 0 && c.pid == p.ID && c.epoch == p.Epoch && c.fences == s.fences[c.name] {
			c.fences++
		}
		s.fences[c.name]++
		return s.s.InitProducerID(t, Init{TransactionalID: p.TransactionalID, TimeoutMs: 30_000, ProducerID: p.ID, Epoch: p.Epoch})
	}, func(body any, _ wire.ErrorCode) {
		r, ok := body.(Identity)
		switch {
		case !ok || r.Code == wire.ErrConcurrentTransactions:
		case r.Code != wire.ErrNone:
			if c.coming == s.leader+1 { // the epoch before the last one is not in the log
				s.fenced(c, r.Code)
			}
			c.dead = true
		case c.serial < s.fencedAt[c.name]:
			s.failf("%s lets client %d come again after client %d", c.name, c.serial, s.fencedAt[c.name])
		case r.Epoch < 0 || r.Epoch >= maxEpoch || r.ProducerID == p.ID && r.Epoch <= p.Epoch:
			s.failf("client %d comes with epoch %d and gets %d", c.serial, p.Epoch, r.Epoch)
		default:
			if c.txn != nil {
				c.txn.confirmed = "abort"
			}
			c.pid, c.epoch, c.txn, c.coming = r.ProducerID, r.Epoch, nil, 0
		}
	})
}

func (s *simulation) end(c *simClient, commit bool) {
	x, p := c.txn, Producer{c.name, c.pid, c.epoch}
	s.ask(c, func(t Turn) shard.Result {
		if cur := s.s.txns[p.TransactionalID]; s.impatient && cur != nil && cur.State.preparing() && cur.Epoch == p.Epoch {
			return s.s.reply(nameless(wire.ErrProducerFenced))
		}
		return s.s.End(t, p, commit, c.version)
	}, func(body any, code wire.ErrorCode) {
		r, ok := body.(Identity)
		switch {
		case !ok:
			// Lost: the same again, until it is known.
			if code != wire.ErrNone && !c.dead {
				s.again(c, x, p, commit)
			}
		case r.Code == wire.ErrConcurrentTransactions:
			s.again(c, x, p, commit)
		case r.Code != wire.ErrNone:
			s.fenced(c, r.Code)
			c.dead = true
		default:
			s.ended(c, x, r, commit)
		}
	})
}

// again lets the client's next act be the repetition of an end.
func (s *simulation) again(c *simClient, x *simTxn, p Producer, commit bool) {
	c.busy = true // nothing else until then
	s.late = append(s.late, func() {
		c.busy = false
		if c.epoch == p.Epoch && c.pid == p.ID && c.txn == x {
			s.end(c, commit)
		}
	})
}

func (s *simulation) ended(c *simClient, x *simTxn, r Identity, commit bool) {
	x.confirmed = "abort"
	if commit {
		x.confirmed = "commit"
	}
	c.txn = nil
	if c.version == 2 {
		c.pid, c.epoch = r.ProducerID, r.Epoch
	}
}

// produce appends one value, as the leader of the partition would.
func (s *simulation) produce(tp id.TopicPartition, pid id.ProducerID, epoch id.ProducerEpoch, x *simTxn) {
	p := s.partitions[tp]
	if known, ok := p.epoch[pid]; ok && epoch < known {
		return
	}
	if t := s.s.txns[x.of.name]; t == nil || t.State != Ongoing || t.ProducerID != pid || t.Epoch != epoch || !t.has(tp) {
		return // the leader has heard of the marker in the meantime, or will: its guard is gone
	}
	if x.of.serial < s.fencedAt[x.of.name] {
		s.failf("%s lets client %d in after client %d", x.of.name, x.of.serial, s.fencedAt[x.of.name])
	}
	s.trace("%v: value of client %d, producer %d epoch %d, %p", tp, x.of.serial, pid, epoch, x)
	p.epoch[pid] = epoch
	p.open[pid] = append(p.open[pid], x)
	x.sent++
}

// deliver brings one set of markers to one or all of its partitions, and the report back.
func (s *simulation) deliver(i int) {
	m := s.flying[i]
	// Sometimes it comes once more. Without epoch bumps only for lack of a report, while the transaction cannot go on.
	again := s.rnd.IntN(4) == 0
	if !again {
		s.flying[i] = s.flying[len(s.flying)-1]
		s.flying = s.flying[:len(s.flying)-1]
	}
	var done []id.TopicPartition
	for _, tp := range m.Partitions {
		if s.dropMarker && s.rnd.IntN(50) == 0 {
			done = append(done, tp)
			continue
		}
		p := s.partitions[tp]
		if m.leader < p.leader[m.ProducerID] {
			continue // from a coordinator that is none any more
		}
		p.leader[m.ProducerID] = m.leader
		known, ok := p.epoch[m.ProducerID]
		if ok && (m.Epoch < known || bumps(m.Version) && m.Epoch == known && len(p.open[m.ProducerID]) > 0) {
			continue // an old one
		}
		s.trace("%v: marker of %s, producer %d epoch %d commit %v, from %d", tp, m.TransactionalID, m.ProducerID, m.Epoch, m.Commit, m.leader)
		p.epoch[m.ProducerID] = m.Epoch
		for _, x := range p.open[m.ProducerID] {
			if m.Commit {
				x.committed++
			} else {
				x.aborted++
			}
		}
		delete(p.open, m.ProducerID)
		done = append(done, tp)
	}
	if again && !bumps(m.Version) || m.leader != s.leader {
		return // no report, or one to a coordinator that is none any more
	}
	s.carry(shard.NoTicket, s.s.Written(s.now, m.Markers, done))
	s.settle()
}

package coordinators

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Bugs are mistakes of whoever drives the cores, or stands between them and their clients.
type Bugs struct {
	HastyReplies    bool // answers do not wait for their commit
	HastyMarkers    bool // markers do not wait for their decision's commit
	ForgetMarkers   bool // a new coordinator does not send what is due
	DropMarkers     bool // a marker is reported as written and is not
	KeepLost        bool // a batch that could not be written is not taken back
	OldCoordinators bool // markers of former coordinators count
	NoGuards        bool // partitions take what the coordinator has not allowed
	NoSequences     bool // partitions take a value twice
	AboveStable     bool // readers get what is not decided
	Aborted         bool // readers get what was aborted
	Unstable        bool // OffsetFetch does not wait for open transactions
	Anonymous       bool // commits do not say which member they are from
	OldMembers      bool // commits of former members are taken for those of present ones
	WrongMember     bool // assignments go to the wrong member
	CutCommitted    bool // a new leader lacks what was committed
}

// Options make a World.
type Options struct {
	Seed uint64
	Bugs Bugs
	// Restless members come and go, an Echo brings markers again and again while coordinators change, and Curious workers read results
	// all the time. Some seeds have them anyway.
	Restless, Echo, Curious bool
	Trace                   func(format string, args ...any) // nil: silence
}

// Counts say what happened in a run.
type Counts struct {
	Transactions, Committed, Aborted, Depositions, Lost, Held, Doubled, Markers, Commits, Fetches, Fenced, Generations, Results, Reads int
}

// Add adds the counts of another run.
func (c *Counts) Add(o Counts) {
	c.Transactions += o.Transactions
	c.Committed += o.Committed
	c.Aborted += o.Aborted
	c.Depositions += o.Depositions
	c.Lost += o.Lost
	c.Held += o.Held
	c.Doubled += o.Doubled
	c.Markers += o.Markers
	c.Commits += o.Commits
	c.Fetches += o.Fetches
	c.Fenced += o.Fenced
	c.Generations += o.Generations
	c.Results += o.Results
	c.Reads += o.Reads
}

// Violation is a broken promise.
type Violation struct {
	Seed    uint64
	Step    int
	Promise string
	What    string
}

// Error implements error.
func (v *Violation) Error() string {
	return fmt.Sprintf("seed %d, step %d: %s: %s", v.Seed, v.Step, v.Promise, v.What)
}

// World is two coordinators, their clients and what is between them.
type World struct {
	Counts
	opts  Options
	bugs  Bugs
	rnd   *rand.Rand
	now   time.Time
	steps int
	image *image.Image
	level int16 // transaction.version

	groups *cell[*group.Shard]
	txns   *cell[*txn.Shard]
	in     []*partition
	out    []*partition

	due    []func()  // answers that have left their cell
	late   []func()  // requests that will arrive once more
	flying []*flight // markers under way
	calm   bool      // the network is well

	producers []*producer
	members   []*member
	readers   []*reader
	runs      map[string]int // the newest run that was let in, by transactional id
	serial    int
	values    int
	all       []*transaction
	commits   []*commit
	decisions int
	claims    map[claim]string
	newest    map[claimed]claimant
	results   map[place]int
	pids      id.ProducerID
	violation *Violation
}

const (
	inPartitions  = 3
	outPartitions = 2
	topicIn       = "in"
	topicOut      = "out"
)

func topicID(name string) id.UUID {
	var u id.UUID
	copy(u[:], name+name+name)
	u[15] = 1
	return u
}

// New returns a world in which nothing has happened.
func New(o Options) *World {
	w := &World{opts: o, bugs: o.Bugs, rnd: rand.New(rand.NewPCG(o.Seed, 17)), now: time.UnixMilli(1_700_000_000_000), runs: map[string]int{},
		claims: map[claim]string{}, newest: map[claimed]claimant{}, results: map[place]int{}, pids: 1000}
	w.level = []int16{2, 2, 2, 1, 0}[w.rnd.IntN(5)]
	w.opts.Restless = o.Restless || w.rnd.IntN(4) == 0
	w.opts.Echo = o.Echo || w.rnd.IntN(4) == 0
	w.opts.Curious = o.Curious || w.rnd.IntN(8) == 0
	d := image.NewDelta(image.Empty())
	topic := func(name string, n int) (all []*partition) {
		w.must(d.Replay(&logrec.TopicRecord{Name: name, TopicID: topicID(name)}))
		for p := range n {
			w.must(d.Replay(&logrec.PartitionRecord{TopicID: topicID(name), PartitionID: int32(p), Replicas: []int32{1}, Isr: []int32{1}, Leader: 1}))
			all = append(all, newPartition(name, int32(p)))
		}
		return all
	}
	w.in, w.out = topic(topicIn, inPartitions), topic(topicOut, outPartitions)
	w.image = d.Apply(image.Empty().Provenance)
	cfg := group.DefaultConfig()
	cfg.InitialRebalanceDelay = time.Duration(w.rnd.IntN(3)) * time.Second
	cfg.RetentionCheckInterval = 10_000 * time.Hour // groups that vanish begin with the first generation again
	cfg.Consumer.SessionTimeout = sessionTimeout
	cfg.Consumer.AssignmentInterval = time.Duration(w.rnd.IntN(2)) * time.Second
	w.groups = newCell(w, "groups", func() *group.Shard {
		s := group.New(cfg, rand.New(rand.NewPCG(w.rnd.Uint64(), 5)))
		s.Observe(w.image)
		return s
	}, func(int32, any) {})
	w.groups.lives = w.follow
	tc := txn.DefaultConfig()
	tc.Level = func() int16 { return w.level }
	tc.NextProducerID = func() (id.ProducerID, bool) {
		if w.rnd.IntN(20) == 0 && !w.calm {
			return id.NoProducer, false
		}
		w.pids++
		return w.pids, true
	}
	w.txns = newCell(w, "transactions", func() *txn.Shard { return txn.New(tc) }, func(epoch int32, m any) {
		w.flying = append(w.flying, &flight{m.(txn.Markers), epoch})
	})
	if w.rnd.IntN(3) == 0 {
		w.exhaust()
	}
	w.groups.elect(0)
	w.txns.elect(len(w.txns.log))
	for range 2 {
		w.readers = append(w.readers, newReader(w))
	}
	return w
}

// exhaust begins with producers that are about to run out of epochs.
func (w *World) exhaust() {
	version := min(w.level, 1)
	for i, name := range []string{"p0", "p1", "w0", "w1"} {
		v := &logrec.TransactionLogValue{ProducerID: int64(100 + i), PreviousProducerID: -1, NextProducerID: -1, ProducerEpoch: int16(1<<15 - 1 - 2 - w.rnd.IntN(6)),
			NextProducerEpoch: -1, TransactionTimeoutMs: 30_000, TransactionStatus: int8(txn.Empty), TransactionLastUpdateTimestampMs: w.now.UnixMilli(),
			TransactionStartTimestampMs: -1}
		w.txns.log = append(w.txns.log, entry{key: logrec.EncodeGroupKey(&logrec.TransactionLogKey{TransactionalID: name}), value: logrec.EncodeVersioned(v, version)})
	}
	w.txns.hw = len(w.txns.log)
}

func (w *World) must(err error) {
	if err != nil {
		w.fail("setup", "%v", err)
	}
}

func (w *World) trace(format string, args ...any) {
	if w.opts.Trace != nil {
		w.opts.Trace(fmt.Sprintf("%6d ", w.steps)+format, args...)
	}
}

// fail records the first broken promise and ends the run.
func (w *World) fail(promise, format string, args ...any) {
	if w.violation == nil {
		w.violation = &Violation{w.opts.Seed, w.steps, promise, fmt.Sprintf(format, args...)}
	}
	panic(w.violation)
}

// Steps is how many steps were made.
func (w *World) Steps() int { return w.steps }

// Run makes steps with faults, then heals everything and judges the whole.
func (w *World) Run(steps int) (err error) {
	defer func() {
		if r := recover(); r != nil {
			v, ok := r.(*Violation)
			if !ok {
				panic(r)
			}
			err = v
		}
	}()
	for range steps {
		w.step()
	}
	w.heal()
	w.judge()
	return nil
}

// deliver hands an answer over when the cells are at rest.
func (w *World) deliver(r reply, body any, code wire.ErrorCode) {
	w.due = append(w.due, func() { r(body, code) })
}

func (w *World) drain() {
	for len(w.due) > 0 {
		f := w.due[0]
		w.due = w.due[1:]
		f()
	}
}

// ask sends a request. It may be lost, or come once more, late; its answer may be lost. done is told REQUEST_TIMED_OUT then.
func (w *World) ask(doubled bool, send func(reply), done reply) {
	if w.calm {
		send(done)
		return
	}
	if doubled && w.rnd.IntN(25) == 0 && len(w.late) < 20 {
		w.late = append(w.late, func() { w.Doubled++; send(func(any, wire.ErrorCode) {}) })
	}
	switch w.rnd.IntN(25) {
	case 0:
		w.deliver(done, nil, wire.ErrRequestTimedOut)
	case 1:
		send(func(any, wire.ErrorCode) { done(nil, wire.ErrRequestTimedOut) })
	default:
		send(done)
	}
}

func (w *World) step() {
	w.steps++
	w.advance(time.Duration(w.rnd.IntN(30)) * time.Millisecond)
	switch n := w.rnd.IntN(1000); {
	case n < 4:
		w.groups.held = true
		w.Held++
	case n < 8:
		w.txns.held = true
		w.Held++
	case n < 14:
		w.groups.lingers = true
	case n < 20:
		w.txns.lingers = true
	case n < 40:
		w.groups.release()
	case n < 60:
		w.txns.release()
	case n < 64:
		w.groups.lose(wire.ErrNotEnoughReplicas)
	case n < 68:
		w.txns.lose(wire.ErrNotEnoughReplicas)
	case n < 98:
		if n < 70 || !w.groups.up {
			change(w, w.groups)
		}
	case n < 128:
		if n < 98+w.echo(2, 20) || !w.txns.up {
			change(w, w.txns)
		}
	case n < 131:
		w.advance(time.Duration(w.rnd.IntN([]int{1_000, 5_000, 20_000}[w.rnd.IntN(3)])) * time.Millisecond)
	case n < 132:
		w.level = min(w.level+int16(w.rnd.IntN(2)), 2)
	case n < 280:
		if len(w.flying) > 0 {
			w.arrive(w.rnd.IntN(len(w.flying)))
		}
	case n < 290:
		if len(w.late) > 0 {
			i := w.rnd.IntN(len(w.late))
			f := w.late[i]
			w.late[i] = w.late[len(w.late)-1]
			w.late = w.late[:len(w.late)-1]
			f()
		}
	case n < 297, n < 305 && w.opts.Restless:
		w.newcomer()
	case n < 305:
		w.readers[w.rnd.IntN(len(w.readers))].step(w)
	case n < 315:
		w.audit()
	case n < 500:
		if len(w.producers) > 0 {
			w.producers[w.rnd.IntN(len(w.producers))].step(w)
		}
	default:
		if len(w.members) > 0 {
			w.members[w.rnd.IntN(len(w.members))].step(w)
		}
	}
	w.drain()
}

// change ends a leadership, or begins the next one with what the new leader has of the log.
func change[M machine](w *World, c *cell[M]) {
	if c.up {
		c.depose()
		w.Depositions++
		w.trace("%s: deposed", c.name)
		return
	}
	least := c.hw
	if w.bugs.CutCommitted {
		least = max(0, c.hw-10)
	}
	cuts := c.cuts(least)
	n := cuts[w.rnd.IntN(len(cuts))]
	w.trace("%s: elected with %d of %d records, %d were committed", c.name, n, len(c.log), c.hw)
	c.elect(n)
}

// advance lets time pass, from one deadline to the next.
func (w *World) advance(d time.Duration) {
	end := w.now.Add(d)
	for {
		a, okA := w.groups.next()
		b, okB := w.txns.next()
		first := okA && (!okB || !b.Before(a))
		at := b
		if first {
			at = a
		}
		if !okA && !okB || at.After(end) {
			break
		}
		if at.After(w.now) {
			w.now = at
		}
		if first {
			w.groups.expire()
		} else {
			w.txns.expire()
		}
		w.drain()
	}
	w.now = end
}

// echo is one of two numbers.
func (w *World) echo(without, with int) int {
	if w.opts.Echo {
		return with
	}
	return without
}

// flight are markers under way, with the epoch of the coordinator that sent them.
type flight struct {
	txn.Markers
	epoch int32
}

// arrive brings markers to their partitions, and the reports back.
func (w *World) arrive(i int) {
	f := w.flying[i]
	// Sometimes they come once more. Without epoch bumps only for lack of a report, while the transaction cannot go on.
	again := w.rnd.IntN(4) < w.echo(1, 3) && !w.calm
	if again {
		w.Doubled++
	} else {
		w.flying[i] = w.flying[len(w.flying)-1]
		w.flying = w.flying[:len(w.flying)-1]
	}
	report := !again || f.Version >= 2
	for _, tp := range f.Partitions {
		w.Markers++
		if w.bugs.DropMarkers && w.rnd.IntN(20) == 0 {
			w.outcome(f, tp, report, wire.ErrNone)
			continue
		}
		if p := w.partition(tp); p != nil {
			w.outcome(f, tp, report, p.end(w, f.ProducerID, f.Epoch, f.Commit, f.epoch, f.Version))
			continue
		}
		m := shard.Marker{Producer: shard.Producer{ID: f.ProducerID, Epoch: f.Epoch}, Commit: f.Commit, CoordinatorEpoch: f.epoch, Version: f.Version}
		w.groups.do(nil, func(s *group.Shard, t shard.Ticket) shard.Result {
			return s.CompleteTransaction(group.Turn{Now: w.now, Ticket: t}, m)
		}, func(_ any, code wire.ErrorCode) { w.outcome(f, tp, report, code) })
	}
}

func (w *World) outcome(f *flight, tp id.TopicPartition, report bool, code wire.ErrorCode) {
	if !report || code == wire.ErrTransactionCoordinatorFenced {
		return
	}
	one := []id.TopicPartition{tp}
	if code != wire.ErrNone && code != wire.ErrInvalidProducerEpoch {
		if f.epoch == w.txns.epoch && w.txns.up { // nobody else wants to know
			left := *f
			left.Partitions = one
			w.flying = append(w.flying, &left)
		}
		return
	}
	w.txns.event(f.epoch, func(s *txn.Shard) shard.Result { return s.Written(w.now, f.Markers, one) })
}

// partition is one of data, or nil for that of the offsets.
func (w *World) partition(tp id.TopicPartition) *partition {
	switch tp.Topic {
	case topicIn:
		return w.in[tp.Partition]
	case topicOut:
		return w.out[tp.Partition]
	}
	return nil
}

// offsetsPartition is where the groups are.
var offsetsPartition = id.TopicPartition{Topic: "__consumer_offsets", Partition: 0}

// newcomer is a client that begins, perhaps in the name of one that goes on.
func (w *World) newcomer() {
	switch w.rnd.IntN(4) {
	case 0, 1:
		w.enlist(w.newProducer([]string{"p0", "p1", "p2", "p3", "p4"}[w.rnd.IntN(5)]))
	case 2:
		w.members = append(w.members, w.newMember("work", w.newProducer([]string{"w0", "w1", "w2", "w3", "w4"}[w.rnd.IntN(5)])))
	case 3:
		w.members = append(w.members, w.newMember("plain", nil))
	}
	if len(w.members) > 8 {
		i := w.rnd.IntN(4) // one of the older ones crashes without a word
		w.members = append(w.members[:i:i], w.members[i+1:]...)
	}
}

// enlist lets a producer work by itself; the oldest one dies when there are too many.
func (w *World) enlist(p *producer) {
	if w.producers = append(w.producers, p); len(w.producers) > 6 {
		w.producers = w.producers[1:]
	}
}

// heal ends all faults and clients, and lets everything come to its end.
func (w *World) heal() {
	w.calm = true
	if !w.groups.up {
		w.groups.elect(w.groups.flushed)
	}
	if !w.txns.up {
		w.txns.elect(w.txns.flushed)
	}
	w.producers, w.members = nil, nil
	for _, f := range w.late {
		f()
		w.drain()
	}
	w.late = nil
	w.groups.release()
	w.txns.release()
	w.drain()
	for range 15 {
		for n := 0; len(w.flying) > 0; n++ {
			if n > 10_000 {
				w.fail("T5", "markers go round for ever: %+v", w.flying[0].Markers)
			}
			w.arrive(len(w.flying) - 1)
			w.drain()
		}
		w.advance(10 * time.Second)
		w.drain()
	}
}

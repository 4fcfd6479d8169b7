package coordinators

import (
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
)

// machine is a core as its driver sees it.
type machine interface {
	Replay(at id.Offset, producer id.ProducerID, key, value []byte) (known bool, err error)
	EndTransaction(at id.Offset, producer id.ProducerID, commit bool)
	Loaded(now time.Time, next id.Offset) shard.Result
	Apply(at id.Offset, r shard.Record)
	Revert(at id.Offset)
	Committed(highWatermark id.Offset)
	Deadline() (at time.Time, ok bool)
	Expire(now time.Time) (res shard.Result, ok bool)
}

// entry is a record, or a marker, in the log of a cell.
type entry struct {
	key, value []byte
	producer   *shard.Producer // of a transaction
	marker     *shard.Marker
	tag        any // whose decision wrote it
	lives      lives
}

// reply takes an answer. It is called when the cells are at rest.
type reply func(body any, code wire.ErrorCode)

// cell drives one core over a log in memory, as the runtime of coordinators does. Of the log, records below hw are committed, those
// below flushed are written and may survive a change of leaders, and the rest is the open batch.
type cell[M machine] struct {
	w         *World
	name      string
	empty     func() M
	core      M
	up        bool
	epoch     int32 // leader epoch
	log       []entry
	flushed   int
	bounds    []int // where batches end, in the written part of the log
	hw        int
	held      bool // the high watermark stays
	lingers   bool // the batch stays open
	waiting   []op
	replies   map[shard.Ticket]reply
	lives     func(before lives, e *entry) lives // may be nil
	seen      lives                              // of the groups, as the answer at hand knows them
	last      shard.Ticket
	producers producers
	send      func(epoch int32, message any)
}

// op is a decision that waits for its commit.
type op struct {
	ticket   shard.Ticket
	reply    any
	then     shard.Continuation
	messages []any
	required int
	deadline time.Time
	late     bool // the deadline has passed; only the messages are left
}

const writeTimeout = 10 * time.Second

func newCell[M machine](w *World, name string, empty func() M, send func(int32, any)) *cell[M] {
	c := &cell[M]{w: w, name: name, empty: empty, replies: map[shard.Ticket]reply{}, send: send}
	c.producers.of = map[id.ProducerID]*producerState{}
	return c
}

// elect makes a core from the first n records of the log, which end a batch.
func (c *cell[M]) elect(n int) {
	c.log = c.log[:n]
	i, _ := slices.BinarySearch(c.bounds, n+1)
	c.bounds = c.bounds[:i]
	c.flushed, c.hw, c.up = n, min(c.hw, n), true
	c.epoch++
	c.core = c.empty()
	c.producers = producers{of: map[id.ProducerID]*producerState{}, guards: c.producers.guards}
	for i, e := range c.log {
		c.replay(id.Offset(i), e)
	}
	c.core.Committed(id.Offset(c.hw))
	res := c.core.Loaded(c.w.now, id.Offset(n))
	if c.w.bugs.ForgetMarkers {
		res.Messages = nil
	}
	c.carry(shard.NoTicket, nil, res)
	c.settle()
}

func (c *cell[M]) replay(at id.Offset, e entry) {
	if m := e.marker; m != nil {
		c.producers.end(m.ID, m.Epoch, m.CoordinatorEpoch)
		c.core.EndTransaction(at, m.ID, m.Commit)
		return
	}
	producer := id.NoProducer
	if e.producer != nil {
		producer = e.producer.ID
		c.producers.accept(producer, e.producer.Epoch, noSequence, int(at))
	}
	if known, err := c.core.Replay(at, producer, e.key, e.value); err != nil || !known {
		c.w.fail("replay", "%s at %d: %v %v", c.name, at, known, err)
	}
}

// depose ends the leadership; everybody who waits is told.
func (c *cell[M]) depose() {
	c.up = false
	c.waiting = nil
	tickets := c.replies
	c.replies = map[shard.Ticket]reply{}
	for t := shard.Ticket(1); t <= c.last && len(tickets) > 0; t++ {
		if r, ok := tickets[t]; ok {
			delete(tickets, t)
			c.w.deliver(r, nil, wire.ErrNotCoordinator)
		}
	}
	c.last = 0
}

// do makes a decision for somebody who waits for an answer.
func (c *cell[M]) do(tag any, decide func(core M, t shard.Ticket) shard.Result, r reply) {
	if !c.up {
		c.w.deliver(r, nil, wire.ErrNotCoordinator)
		return
	}
	c.last++
	t := c.last
	c.replies[t] = r
	c.carry(t, tag, decide(c.core, t))
	c.settle()
}

// event makes a decision that nobody waits for, in the leadership it belongs to.
func (c *cell[M]) event(epoch int32, decide func(core M) shard.Result) {
	if !c.up || epoch != c.epoch {
		return
	}
	c.carry(shard.NoTicket, nil, decide(c.core))
	c.settle()
}

func (c *cell[M]) close(t shard.Ticket, body any, code wire.ErrorCode) {
	if r, open := c.replies[t]; open {
		delete(c.replies, t)
		c.w.deliver(r, body, code)
	}
}

// carry takes what a decision gave back.
func (c *cell[M]) carry(t shard.Ticket, tag any, res shard.Result) {
	for _, a := range res.Answers {
		c.close(a.Ticket, a.Body, wire.ErrNone)
	}
	o := op{ticket: t, reply: res.Reply, then: res.Then, messages: res.Messages, deadline: c.w.now.Add(writeTimeout)}
	if code := c.join(tag, &res); code != wire.ErrNone {
		c.meet(o, code)
		return
	}
	if c.w.bugs.HastyReplies && res.Reply != nil {
		c.close(t, res.Reply, wire.ErrNone)
	}
	if c.w.bugs.HastyMarkers {
		c.sendOff(&o)
	}
	o.required = len(c.log)
	if _, asked := c.replies[t]; asked || o.then != nil || len(o.messages) > 0 {
		c.waiting = append(c.waiting, o)
	}
}

// join adds the records of a decision to the open batch; those of a transaction are one of their own.
func (c *cell[M]) join(tag any, res *shard.Result) wire.ErrorCode {
	if len(res.Records) == 0 && res.Marker == nil {
		return wire.ErrNone
	}
	alone := res.Producer != nil || res.Marker != nil
	if alone {
		c.flush()
	}
	base := len(c.log)
	records := res.Records
	if res.Marker != nil {
		records = []shard.Record{{Change: res.Marker.Change}}
	}
	now := c.livesAt(base)
	for i := range now {
		now[i].start = now[i].members
	}
	for _, r := range records {
		c.core.Apply(id.Offset(len(c.log)), r)
		e := entry{key: r.Key, value: r.Value, producer: res.Producer, marker: res.Marker, tag: tag}
		if c.lives != nil {
			now = c.lives(now, &e)
			e.lives = now
		}
		c.log = append(c.log, e)
	}
	if !alone {
		return wire.ErrNone
	}
	code := wire.ErrNone
	if m := res.Marker; m != nil {
		if code = c.producers.checkEnd(c.w, m.ID, m.Epoch, m.CoordinatorEpoch, m.Version); code == wire.ErrNone {
			c.producers.end(m.ID, m.Epoch, m.CoordinatorEpoch)
		}
	} else if p := res.Producer; p != nil {
		if _, code = c.producers.check(c.w, p.ID, p.Epoch, noSequence, p.Guard); code == wire.ErrNone {
			c.producers.accept(p.ID, p.Epoch, noSequence, base)
			if of, ok := tag.(*commit); ok && c.w.letIn(of.txn.by) {
				c.w.fail("T3", "offsets of run %d of %s after run %d was let in", of.txn.by.serial, of.txn.by.name, c.w.runs[of.txn.by.name])
			}
		}
	}
	if code != wire.ErrNone {
		c.core.Revert(id.Offset(base))
		c.log = c.log[:base]
		return code
	}
	c.flush()
	return wire.ErrNone
}

// livesAt is what the first n records say of the lives of groups.
func (c *cell[M]) livesAt(n int) lives {
	if n == 0 {
		return lives{}
	}
	return c.log[n-1].lives
}

// flush writes the open batch.
func (c *cell[M]) flush() {
	if c.flushed < len(c.log) {
		c.flushed = len(c.log)
		c.bounds = append(c.bounds, c.flushed)
	}
}

// cuts are the ends of a log that a new leader may have, all from the high watermark on.
func (c *cell[M]) cuts(least int) []int {
	i, _ := slices.BinarySearch(c.bounds, least)
	if all := c.bounds[i:]; len(all) > 0 {
		return all
	}
	return []int{c.flushed}
}

// meet tells a decision its fate.
func (c *cell[M]) meet(o op, code wire.ErrorCode) {
	if o.then != nil {
		c.carry(shard.NoTicket, nil, o.then(c.w.now, code))
	}
	if code != wire.ErrNone {
		c.close(o.ticket, nil, code)
	} else if o.reply != nil {
		c.close(o.ticket, o.reply, wire.ErrNone)
	}
}

func (c *cell[M]) sendOff(o *op) {
	for _, m := range o.messages {
		c.send(c.epoch, m)
	}
	o.messages = nil
}

// settle brings everything as far as it may go.
func (c *cell[M]) settle() {
	for c.up {
		if !c.lingers {
			c.flush()
		}
		if !c.held && c.hw < c.flushed {
			c.hw = c.flushed
			c.core.Committed(id.Offset(c.hw))
		}
		if len(c.waiting) == 0 || c.waiting[0].required > c.hw {
			return
		}
		o := c.waiting[0]
		c.waiting = c.waiting[1:]
		seen := c.livesAt(o.required)
		c.w.due = append(c.w.due, func() { c.seen = seen })
		if !o.late {
			c.meet(o, wire.ErrNone)
		}
		c.sendOff(&o)
	}
}

// lose fails the open batch.
func (c *cell[M]) lose(code wire.ErrorCode) {
	if !c.up || c.flushed == len(c.log) {
		return
	}
	c.w.Lost++
	if !c.w.bugs.KeepLost {
		c.core.Revert(id.Offset(c.flushed))
	}
	c.log = c.log[:c.flushed]
	keep := 0
	for keep < len(c.waiting) && c.waiting[keep].required <= c.flushed {
		keep++
	}
	failed := append([]op(nil), c.waiting[keep:]...)
	c.waiting = c.waiting[:keep]
	for _, o := range failed {
		if !o.late {
			c.meet(o, code)
		}
	}
	c.settle()
}

// release ends what holds the cell back.
func (c *cell[M]) release() {
	c.held, c.lingers = false, false
	c.settle()
}

// next is when something is due.
func (c *cell[M]) next() (at time.Time, ok bool) {
	if !c.up {
		return at, false
	}
	at, ok = c.core.Deadline()
	for i := range c.waiting {
		if o := &c.waiting[i]; !o.late {
			if !ok || o.deadline.Before(at) {
				at, ok = o.deadline, true
			}
			break
		}
	}
	return at, ok
}

// expire does one thing that is due.
func (c *cell[M]) expire() {
	if res, ok := c.core.Expire(c.w.now); ok {
		c.carry(shard.NoTicket, nil, res)
		c.settle()
		return
	}
	for i := range c.waiting {
		if c.waiting[i].late || c.waiting[i].deadline.After(c.w.now) {
			continue
		}
		c.waiting[i].late = true
		c.meet(c.waiting[i], wire.ErrRequestTimedOut)
		break
	}
	c.settle()
}

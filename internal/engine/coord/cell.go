package coord

import (
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

type cellState int8

const (
	loading cellState = iota
	active
	gone // deposed, failed to load, or closed
)

// cell is one partition in one leader epoch.
type cell[M Machine] struct {
	rt        *Runtime[M]
	partition int32
	epoch     id.LeaderEpoch
	pause     time.Duration // before it loads

	dead      atomic.Bool  // ends the cell soon: loading stops, nothing comes in any more, nothing is committed any more
	up        atomic.Bool  // the state is active
	busy      atomic.Int64 // who has the cell, waits for it or is about to; each looks for what is pending before he goes
	inLine    atomic.Int64 // callers that wait for mu
	posted    atomic.Int64 // events in the inbox
	hw        atomic.Int64 // high watermark as last heard
	settled   atomic.Int64 // high watermark as last acted upon, under mu
	due       atomic.Bool  // a deadline may have passed
	scheduled atomic.Pointer[time.Time]

	inboxMu sync.Mutex // may be taken while mu is held
	inbox   []posted[M]

	mu      sync.Mutex // guards all below
	state   cellState
	turn    time.Time // when whoever has the cell got it
	core    M
	since   time.Time // when it was loaded
	crashes int       // panics of the cells before it
	next    id.Offset // of the next record
	batch   *batch
	// unshared counts the batches since one was joined by somebody.
	unshared int
	late     []shard.Record // of a decision, while the open batch is written to make room for them
	builder  *record.Builder
	wire     []byte      // reused for the batch's bytes
	below    bool        // inside Log.Append
	written  queue[op]   // decisions whose records are in the log and not committed, in order of offset and of deadline
	held     queue[held] // messages of such decisions
	fates    queue[fate] // decisions whose fate is known and not acted upon
	spare    []op        // empty, for the next batch
	tickets  map[shard.Ticket]Reply
	last     shard.Ticket
	out      []delivery
	leaving  []any // messages of committed decisions
	unwatch  func()
}

func newCell[M Machine](rt *Runtime[M], partition int32, epoch id.LeaderEpoch) *cell[M] {
	return &cell[M]{rt: rt, partition: partition, epoch: epoch, tickets: make(map[shard.Ticket]Reply)}
}

// held are messages that leave when the high watermark reaches required, however long the decision's own ticket waits.
type held struct {
	required id.Offset
	messages []any
}

// op is a decision whose fate is open.
type op struct {
	ticket   shard.Ticket
	reply    any
	then     shard.Continuation
	required id.Offset // committed when the high watermark reaches it; 0 if it waits for nothing
	deadline time.Time
}

// unwritten is what a decision requires whose batch is open.
const unwritten id.Offset = -1

type fate struct {
	op   op
	code wire.ErrorCode
}

type delivery struct {
	reply Reply
	body  any
	code  wire.ErrorCode
}

// enter takes the cell; leave must follow.
func (c *cell[M]) enter() {
	c.busy.Add(1)
	c.inLine.Add(1)
	asked := time.Now()
	c.mu.Lock()
	c.inLine.Add(-1)
	c.begun()
	c.rt.metrics.QueueTime.Observe(c.turn, c.turn.Sub(asked).Nanoseconds())
}

func (c *cell[M]) do(reply Reply, decide func(M, time.Time, shard.Ticket) shard.Result, a Agenda) {
	c.enter()
	code := c.refusal()
	if code == wire.ErrNone && len(c.tickets) >= c.rt.opts.MaxWaiting {
		code = wire.ErrCoordinatorNotAvailable
	}
	if code != wire.ErrNone {
		c.out = append(c.out, delivery{reply, nil, code})
		c.leave()
		return
	}
	c.last++
	c.tickets[c.last] = reply
	opened := c.batch == nil
	c.decide(c.last, decide)
	if b := c.batch; a != nil && opened && b != nil && !b.alone && c.rt.opts.Linger < 0 && a.Later(func() { c.write(b) }) {
		b.taken, b.ready, b.left = true, false, true
	}
	c.leave()
}

// write writes a batch that was left for later.
func (c *cell[M]) write(b *batch) {
	c.busy.Add(1)
	c.mu.Lock()
	c.begun()
	b.ready = true
	c.leave()
}

// decide makes a decision; a panic in it is its ticket's answer, and the end of the cell.
func (c *cell[M]) decide(t shard.Ticket, decide func(M, time.Time, shard.Ticket) shard.Result) {
	defer func() {
		if p := recover(); p != nil {
			c.close(t, nil, wire.ErrUnknownServerError)
			c.panicked(p)
		}
	}()
	c.carry(c.turn, t, decide(c.core, c.turn, t))
}

func (c *cell[M]) read(look func(M)) (code wire.ErrorCode) {
	c.enter()
	defer func() {
		if p := recover(); p != nil { // nothing was changed, so the cell goes on
			c.rt.opts.Logger.Error("read of a coordinator panicked", "partition", c.partition, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			code = wire.ErrUnknownServerError
		}
		c.leave()
	}()
	if code := c.refusal(); code != wire.ErrNone {
		return code
	}
	look(c.core)
	return wire.ErrNone
}

func (c *cell[M]) refusal() wire.ErrorCode {
	switch {
	case c.dead.Load():
		return wire.ErrNotCoordinator
	case c.state == loading:
		return wire.ErrCoordinatorLoadInProgress
	}
	return wire.ErrNone
}

// expire does what is due: deadlines of the core and of decisions that wait for their commit.
func (c *cell[M]) expire(now time.Time) {
	for c.state == active {
		res, ok := c.core.Expire(now)
		if !ok {
			break
		}
		c.carry(now, shard.NoTicket, res)
		c.meetAll(now)
	}
	for c.written.len() > 0 && !c.written.first().deadline.After(now) {
		c.fates.push(fate{c.written.pop(), wire.ErrRequestTimedOut})
	}
}

// advanced hears of a new high watermark, from any goroutine, also from inside Log.Append.
func (c *cell[M]) advanced(hw id.Offset) {
	for {
		old := c.hw.Load()
		if int64(hw) <= old {
			return
		}
		if c.hw.CompareAndSwap(old, int64(hw)) {
			break
		}
	}
	c.wake()
}

// leave brings the cell to rest, releases it and delivers what came out. A batch that was opened meanwhile is written after others
// have had the chance to join it. Whatever becomes pending until busy is given back is seen to here; what comes later wakes somebody up.
// busy is given back before anything is delivered, and what came out waits for a batch of ours: nobody knows how long a reply takes.
func (c *cell[M]) leave() {
	for {
		c.settle()
		var out []delivery
		var messages []any
		mine := c.take()
		if mine == nil {
			out, messages = c.out, c.leaving
			c.out, c.leaving = nil, nil
		}
		c.over()
		c.mu.Unlock()
		switch {
		case mine != nil:
			c.rt.giveWay()
		case len(out) > 0 || len(messages) > 0:
			c.busy.Add(-1)
			if c.pending() {
				c.wake()
			}
			c.deliver(out, messages)
			return
		case !c.pending() && (c.busy.Add(-1) > 0 || !c.pending() || !c.busy.CompareAndSwap(0, 1)):
			return
		}
		c.mu.Lock()
		c.begun()
		if mine != nil {
			mine.ready = true
		}
	}
}

// settle acts on fates, writes the batch if it is time, follows the high watermark, and takes what has come in, until nothing is
// left to do. Its clock is that of the turn, which is short but for the writing.
func (c *cell[M]) settle() {
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
		}
	}()
	now := c.turn
	for c.state == active {
		switch {
		case c.dead.Load(): // the high watermark may speak of another leader's records already
			c.die()
		case c.fates.len() > 0:
			c.meetAll(now)
		case c.batch != nil && c.ripe(now):
			c.flush()
			now = time.Now()
		case c.hw.Load() > c.settled.Load():
			c.commit(id.Offset(c.hw.Load()))
		case c.due.Load():
			c.due.Store(false)
			now = time.Now() // past what is due
			c.expire(now)
		case c.posted.Load() > 0:
			c.events()
		default:
			c.plan(now)
			return
		}
	}
}

// plan asks for the next tick.
func (c *cell[M]) plan(now time.Time) {
	at, ok := c.core.Deadline()
	earlier := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	if c.batch != nil && c.rt.opts.Linger > 0 {
		earlier(c.batch.began.Add(c.rt.opts.Linger))
	}
	if c.batch != nil && c.batch.left {
		earlier(c.batch.began.Add(leftAtMost))
	}
	if c.written.len() > 0 {
		earlier(c.written.first().deadline)
	}
	if ok {
		c.rt.schedule(c, at)
	}
}

func (c *cell[M]) commit(hw id.Offset) {
	c.settled.Store(int64(hw))
	c.core.Committed(hw)
	for c.written.len() > 0 && c.written.first().required <= hw {
		c.fates.push(fate{c.written.pop(), wire.ErrNone})
	}
	for c.held.len() > 0 && c.held.first().required <= hw {
		c.leaving = append(c.leaving, c.held.pop().messages...)
	}
}

// meetAll tells decisions their fates. Nothing else is decided before: what was lost may have to be put right.
func (c *cell[M]) meetAll(now time.Time) {
	for c.state == active && c.fates.len() > 0 {
		c.meet(now, c.fates.pop())
	}
}

// meet tells a decision its fate.
func (c *cell[M]) meet(now time.Time, f fate) {
	c.waited(now, f.op)
	if f.op.then != nil {
		c.carry(now, shard.NoTicket, f.op.then(now, f.code))
	}
	if f.code != wire.ErrNone {
		c.close(f.op.ticket, nil, f.code)
	} else if f.op.reply != nil {
		c.close(f.op.ticket, f.op.reply, wire.ErrNone)
	}
}

// waited counts how long a decision has waited, if it had to.
func (c *cell[M]) waited(now time.Time, o op) {
	if o.required != 0 {
		c.rt.metrics.PurgatoryTime.Observe(now, now.Sub(o.deadline.Add(-c.rt.opts.WriteTimeout)).Nanoseconds())
	}
}

// close ends a ticket; one that is closed already, or nobody's, is left alone.
func (c *cell[M]) close(t shard.Ticket, body any, code wire.ErrorCode) {
	if reply, open := c.tickets[t]; open {
		delete(c.tickets, t)
		c.out = append(c.out, delivery{reply, body, code})
	}
}

// carry takes what a decision gave back.
func (c *cell[M]) carry(now time.Time, t shard.Ticket, res shard.Result) {
	for _, a := range res.Answers {
		c.close(a.Ticket, a.Body, wire.ErrNone)
	}
	o := op{ticket: t, reply: res.Reply, then: res.Then, deadline: now.Add(c.rt.opts.WriteTimeout)}
	if len(res.Records) > 0 || res.Marker != nil {
		if code := c.join(now, &res); code != wire.ErrNone {
			c.fates.push(fate{o, code})
			return
		}
	}
	_, asked := c.tickets[t]
	asked = asked || o.then != nil
	// Also a decision without records waits for those before it: it was made on a state that may yet be taken back.
	switch {
	case c.batch != nil:
		c.batch.messages = append(c.batch.messages, res.Messages...)
		if asked {
			o.required = unwritten
			c.batch.ops = append(c.batch.ops, o)
		}
	case c.settled.Load() < int64(c.next):
		if len(res.Messages) > 0 {
			c.held.push(held{c.next, res.Messages})
		}
		if asked {
			o.required = c.next
			c.written.push(o)
		}
	default:
		c.leaving = append(c.leaving, res.Messages...)
		if asked {
			c.fates.push(fate{o, wire.ErrNone})
		}
	}
}

// end is die for who does not hold the cell.
func (c *cell[M]) end() {
	c.enter()
	c.die()
	c.leave()
}

// die ends the cell: everybody who waits is told, the core is thrown away.
func (c *cell[M]) die() {
	if c.state == gone {
		return
	}
	c.dead.Store(true)
	c.up.Store(false)
	c.state = gone
	now := time.Now()
	if c.batch != nil {
		for _, o := range c.batch.ops {
			c.waited(now, o)
		}
	}
	for _, o := range c.written.all() {
		c.waited(now, o)
	}
	for _, f := range c.fates.all() {
		c.waited(now, f.op)
	}
	for _, t := range slices.Sorted(maps.Keys(c.tickets)) {
		c.close(t, nil, wire.ErrNotCoordinator)
	}
	var none M
	c.keep(nil)
	c.core, c.batch, c.builder, c.spare = none, nil, nil, nil
	c.written, c.held, c.fates = queue[op]{}, queue[held]{}, queue[fate]{}
	c.inboxMu.Lock()
	c.inbox = slices.DeleteFunc(c.inbox, func(p posted[M]) bool { return !p.all }) // who takes the cell's place inherits them
	c.posted.Store(int64(len(c.inbox)))
	c.inboxMu.Unlock()
	if c.unwatch != nil {
		c.unwatch()
		c.unwatch = nil
	}
	c.rt.unschedule(c)
}

// errorCode finds the code in an error of the log.
func errorCode(err error) wire.ErrorCode {
	var code wire.ErrorCode
	if errors.As(err, &code) {
		return code
	}
	return wire.ErrUnknownServerError
}

package coord

import (
	"errors"
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

	dead      atomic.Bool  // ends the cell soon: loading stops, no more ticks
	inLine    atomic.Int64 // callers that wait for mu
	hw        atomic.Int64 // high watermark as last heard
	settled   atomic.Int64 // high watermark as last acted upon, under mu
	appending atomic.Bool  // the holder of mu is inside Log.Append and will look at hw afterwards
	scheduled atomic.Pointer[time.Time]

	mu      sync.Mutex // guards all below
	state   cellState
	why     wire.ErrorCode // what callers are told when gone
	core    M
	next    id.Offset // of the next record
	batch   *batch
	builder *record.Builder
	wire    []byte // reused for the batch's bytes
	written []*op  // decisions whose records are in the log and not committed, in order of offset and of deadline
	fates   []fate // decisions whose fate is known and not acted upon
	tickets map[shard.Ticket]Reply
	last    shard.Ticket
	out     []delivery
	unwatch func()
}

// batch is the open batch.
type batch struct {
	base  id.Offset
	began time.Time
	line  int64 // callers that were in line when it was opened and have not had their turn
	ops   []*op
}

// op is a decision whose fate is open.
type op struct {
	ticket   shard.Ticket
	reply    any
	then     shard.Continuation
	required id.Offset // committed when the high watermark reaches it
	deadline time.Time
}

type fate struct {
	op   *op
	code wire.ErrorCode
}

type delivery struct {
	reply Reply
	body  any
	code  wire.ErrorCode
}

// enter takes the cell; leave must follow.
func (c *cell[M]) enter() {
	c.inLine.Add(1)
	c.mu.Lock()
	c.inLine.Add(-1)
	if c.batch != nil {
		c.batch.line--
	}
}

func (c *cell[M]) do(reply Reply, decide func(M, time.Time, shard.Ticket) shard.Result) {
	c.enter()
	if code := c.refusal(); code != wire.ErrNone {
		c.out = append(c.out, delivery{reply, nil, code})
		c.leave()
		return
	}
	if len(c.tickets) >= c.rt.opts.MaxWaiting {
		c.out = append(c.out, delivery{reply, nil, wire.ErrCoordinatorNotAvailable})
		c.leave()
		return
	}
	c.last++
	t := c.last
	c.tickets[t] = reply
	now := time.Now()
	c.carry(now, t, decide(c.core, now, t))
	c.leave()
}

func (c *cell[M]) read(look func(M)) wire.ErrorCode {
	c.enter()
	defer c.leave()
	if code := c.refusal(); code != wire.ErrNone {
		return code
	}
	look(c.core)
	return wire.ErrNone
}

func (c *cell[M]) refusal() wire.ErrorCode {
	switch c.state {
	case active:
		return wire.ErrNone
	case loading:
		return wire.ErrCoordinatorLoadInProgress
	default:
		return c.why
	}
}

// tick does what is due: deadlines of the core, of the open batch and of decisions that wait for their commit.
func (c *cell[M]) tick() {
	c.enter()
	now := time.Now()
	for c.state == active {
		res, ok := c.core.Expire(now)
		if !ok {
			break
		}
		c.carry(now, shard.NoTicket, res)
	}
	for len(c.written) > 0 && !c.written[0].deadline.After(now) {
		c.fates = append(c.fates, fate{c.written[0], wire.ErrRequestTimedOut})
		c.written = c.written[1:]
	}
	c.leave()
}

// advanced hears of a new high watermark, from any goroutine.
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
	// Either appending is seen here, then its caller clears it later and looks at hw after that; or not, then a tick does.
	if !c.appending.Load() {
		c.rt.schedule(c, time.Time{})
	}
}

// leave brings the cell to rest, releases it and delivers what came out.
func (c *cell[M]) leave() {
	for {
		c.settle()
		out, dead := c.out, c.state == gone
		c.out = nil
		c.mu.Unlock()
		for _, d := range out {
			d.reply(d.body, d.code)
		}
		if dead || c.hw.Load() <= c.settled.Load() {
			return
		}
		// The watermark moved between settle and Unlock, while appending was still seen as set.
		c.enter()
	}
}

// settle acts on fates, writes the batch if it is time, and follows the high watermark, until nothing is left to do.
func (c *cell[M]) settle() {
	for c.state == active {
		now := time.Now()
		switch {
		case len(c.fates) > 0:
			f := c.fates[0]
			c.fates = c.fates[1:]
			c.meet(now, f)
		case c.batch != nil && c.ripe(now):
			c.flush()
		case c.hw.Load() > c.settled.Load():
			c.commit(id.Offset(c.hw.Load()))
		default:
			c.fates = nil
			c.plan(now)
			return
		}
	}
}

// ripe says whether the open batch is to be written now.
func (c *cell[M]) ripe(now time.Time) bool {
	if c.builder.SizeBytes() >= c.rt.opts.MaxBatchBytes {
		return true
	}
	if c.rt.opts.Linger < 0 {
		return c.inLine.Load() == 0 || c.batch.line <= 0
	}
	return now.Sub(c.batch.began) >= c.rt.opts.Linger
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
	if len(c.written) > 0 {
		earlier(c.written[0].deadline)
	}
	if ok {
		c.rt.schedule(c, at)
	}
}

func (c *cell[M]) commit(hw id.Offset) {
	c.settled.Store(int64(hw))
	c.core.Committed(hw)
	for len(c.written) > 0 && c.written[0].required <= hw {
		c.fates = append(c.fates, fate{c.written[0], wire.ErrNone})
		c.written[0] = nil
		c.written = c.written[1:]
	}
	if len(c.written) == 0 {
		c.written = nil
	}
}

// meet tells a decision its fate.
func (c *cell[M]) meet(now time.Time, f fate) {
	if f.op.then != nil {
		c.carry(now, shard.NoTicket, f.op.then(now, f.code))
	}
	if f.code != wire.ErrNone {
		c.close(f.op.ticket, nil, f.code)
	} else if f.op.reply != nil {
		c.close(f.op.ticket, f.op.reply, wire.ErrNone)
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
	o := &op{ticket: t, reply: res.Reply, then: res.Then, deadline: now.Add(c.rt.opts.WriteTimeout)}
	if len(res.Records) > 0 {
		if code := c.join(now, res); code != wire.ErrNone {
			c.fates = append(c.fates, fate{o, code})
			return
		}
	}
	if _, open := c.tickets[t]; !open && o.then == nil {
		return
	}
	// Also a decision without records waits for those before it: it was made on a state that may yet be taken back.
	switch {
	case c.batch != nil:
		c.batch.ops = append(c.batch.ops, o)
	case c.settled.Load() < int64(c.next):
		o.required = c.next
		c.written = append(c.written, o)
	default:
		c.fates = append(c.fates, fate{o, wire.ErrNone})
	}
}

// recordOverhead bounds what a record takes in a batch beyond its key and value.
const recordOverhead = 32

// join adds records to the open batch, writing it where they do not fit.
func (c *cell[M]) join(now time.Time, res shard.Result) wire.ErrorCode {
	size := func(r shard.Record) int { return len(r.Key) + len(r.Value) + recordOverhead }
	need := 0
	if res.Atomic {
		for _, r := range res.Records {
			need += size(r)
		}
	}
	for i, r := range res.Records {
		if !res.Atomic {
			need = size(r)
		}
		if (i == 0 || !res.Atomic) && c.batch != nil && c.builder.SizeBytes()+need > c.rt.opts.MaxBatchBytes {
			if code := c.flush(); code != wire.ErrNone {
				return code
			}
		}
		if c.batch == nil {
			c.open(now)
		}
		c.core.Apply(c.next, r)
		if err := c.builder.Append(now.UnixMilli(), r.Key, r.Value); err != nil {
			c.rt.opts.Logger.Error("coordinator record refused", "partition", c.partition, "err", err)
			c.fail(wire.ErrUnknownServerError)
			return wire.ErrUnknownServerError
		}
		c.next++
	}
	return wire.ErrNone
}

func (c *cell[M]) open(now time.Time) {
	o := record.NewOptions()
	o.Compression = c.rt.opts.Compression
	if c.builder == nil {
		c.builder = record.NewBuilder(o)
	} else {
		c.builder.Reset(o)
	}
	c.batch = &batch{base: c.next, began: now, line: c.inLine.Load()}
}

// flush writes the open batch. The code says why it could not; its decisions have failed then.
func (c *cell[M]) flush() wire.ErrorCode {
	b := c.batch
	bytes, err := c.builder.AppendTo(c.wire[:0])
	var next id.Offset
	if err == nil {
		c.wire = bytes
		c.appending.Store(true)
		next, err = c.rt.opts.Log.Append(c.partition, c.epoch, bytes)
		c.appending.Store(false)
	}
	if err != nil {
		code := errorCode(err)
		if code == wire.ErrNotLeaderOrFollower || code == wire.ErrFencedLeaderEpoch {
			c.rt.opts.Logger.Info("coordinator deposed", "partition", c.partition, "leader_epoch", c.epoch)
			c.die(wire.ErrNotCoordinator)
			return code
		}
		c.rt.opts.Logger.Error("coordinator append failed", "partition", c.partition, "records", len(b.ops), "err", err)
		c.fail(code)
		return code
	}
	if next != c.next {
		// Somebody else wrote to the partition: offsets in the core would be wrong from here on.
		c.rt.opts.Logger.Error("coordinator out of step with its log, reloading", "partition", c.partition, "offset", next, "expected", c.next)
		c.die(wire.ErrNotCoordinator)
		c.rt.reload(c)
		return wire.ErrNotCoordinator
	}
	c.batch = nil
	for _, o := range b.ops {
		o.required = next
	}
	c.written = append(c.written, b.ops...)
	if cap(c.wire) > c.rt.opts.MaxBatchBytes {
		c.wire = nil
	}
	return wire.ErrNone
}

// fail takes the open batch back and fails its decisions.
func (c *cell[M]) fail(code wire.ErrorCode) {
	b := c.batch
	c.batch = nil
	c.next = b.base
	c.core.Revert(b.base)
	for _, o := range b.ops {
		c.fates = append(c.fates, fate{o, code})
	}
}

// end is die for who does not hold the cell.
func (c *cell[M]) end(code wire.ErrorCode) {
	c.enter()
	c.die(code)
	c.leave()
}

// die ends the cell: everybody who waits is told, the core is thrown away.
func (c *cell[M]) die(code wire.ErrorCode) {
	if c.state == gone {
		return
	}
	c.dead.Store(true)
	c.state, c.why = gone, code
	for t := shard.Ticket(1); t <= c.last && len(c.tickets) > 0; t++ {
		c.close(t, nil, code)
	}
	var none M
	c.core, c.batch, c.written, c.fates, c.builder, c.wire = none, nil, nil, nil, nil, nil
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

package coord

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
)

// Origin names the cell that a message came from: one leadership of one partition. It is comparable.
type Origin[M Machine] struct{ c *cell[M] }

// Partition is the partition of the internal topic.
func (o Origin[M]) Partition() int32 { return o.c.partition }

// Epoch is the leader epoch of the decision.
func (o Origin[M]) Epoch() id.LeaderEpoch { return o.c.epoch }

// Live is false once the leadership is over: nobody is interested in the message any more. The next leader sends its own.
func (o Origin[M]) Live() bool { return !o.c.dead.Load() }

// Report brings what became of a message, or anything else, to the core that sent it, and to no later one. It does not wait. It
// is false if the event was not taken, because the leadership is over or, while Live, because too many wait: try again later.
func (o Origin[M]) Report(event Event[M]) bool { return o.c.post(event, false) }

// posted is an event with the time it came.
type posted[M Machine] struct {
	event Event[M]
	at    time.Time
	all   bool // for whoever leads the partition, not for this leadership only
}

// post leaves an event for whoever has the cell, or wakes somebody up for it. One for all is left in a dead cell, too, for the cell that
// takes its place.
func (c *cell[M]) post(e Event[M], all bool) bool {
	c.inboxMu.Lock()
	taken := (all || !c.dead.Load()) && len(c.inbox) < c.rt.opts.MaxWaiting
	if taken {
		c.inbox = append(c.inbox, posted[M]{e, time.Now(), all})
		c.posted.Add(1)
	}
	c.inboxMu.Unlock()
	if taken {
		c.wake()
	}
	return taken
}

// wake sees to it that somebody looks at what is pending. Whoever is busy with the cell will, before he goes.
func (c *cell[M]) wake() {
	if c.up.Load() && c.busy.CompareAndSwap(0, 1) {
		go func() {
			c.mu.Lock()
			c.begun()
			c.leave()
		}()
	}
}

// pending says that there is something to do which has not been seen to.
func (c *cell[M]) pending() bool {
	return c.up.Load() && (c.hw.Load() > c.settled.Load() || c.due.Load() || c.posted.Load() > 0)
}

// events takes the events that have come, so that they share a batch.
func (c *cell[M]) events() {
	for n := c.posted.Load(); n > 0 && c.state == active; n-- {
		p, any := c.event()
		if !any {
			return
		}
		now := time.Now()
		c.rt.metrics.QueueTime.Observe(now, now.Sub(p.at).Nanoseconds())
		c.carry(now, shard.NoTicket, p.event(c.core, now))
		c.meetAll(now)
	}
}

// event takes the event that has waited longest. A cell that is dead leaves them to whoever inherits them.
func (c *cell[M]) event() (p posted[M], any bool) {
	c.inboxMu.Lock()
	defer c.inboxMu.Unlock()
	if c.dead.Load() || len(c.inbox) == 0 {
		return p, false
	}
	p, c.inbox[0] = c.inbox[0], p
	if c.inbox = c.inbox[1:]; len(c.inbox) == 0 {
		c.inbox = nil
	}
	c.posted.Add(-1)
	return p, true
}

// inherit takes on what all partitions were told and old, which is dead, has not heard yet. Nobody knows the cell as yet.
func (c *cell[M]) inherit(old *cell[M]) {
	old.inboxMu.Lock()
	defer old.inboxMu.Unlock()
	for _, p := range old.inbox {
		if p.all {
			c.inbox = append(c.inbox, p)
		}
	}
	old.inbox = nil
	old.posted.Store(0)
	c.posted.Store(int64(len(c.inbox)))
}

// deliver lets out what came out. No lock is held.
func (c *cell[M]) deliver(out []delivery, messages []any) {
	for _, m := range messages {
		c.send(m)
	}
	// The last first: where several of them are of one connection, their answers wait for the one that has to leave first, and leave
	// with it.
	for i := len(out) - 1; i >= 0; i-- {
		c.answer(&out[i])
	}
}

func (c *cell[M]) send(message any) {
	defer c.outsidePanicked()
	c.rt.opts.Send(Origin[M]{c}, message)
}

func (c *cell[M]) answer(d *delivery) {
	defer c.outsidePanicked()
	d.reply(d.body, d.code)
}

// outsidePanicked keeps a panic of a reply or a sender from whoever happens to deliver it. The cell is not touched by it.
func (c *cell[M]) outsidePanicked() {
	if p := recover(); p != nil {
		c.rt.opts.Logger.Error("delivery from a coordinator panicked", "partition", c.partition, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

// A partition is loaded again at once after a panic, but not too often: then it has to wait.
const (
	maxCrashes   = 5
	crashesCount = time.Minute // a cell that has lived longer counts none of those before it
	crashesPause = time.Minute
)

// panicked ends the cell after a panic p of its core: a decision may have been made by halves. The log has only what was decided
// in whole, so the partition starts again from there. A panic of the log itself is for the node to judge.
func (c *cell[M]) panicked(p any) {
	c.rt.opts.Logger.Error("coordinator panicked", "partition", c.partition, "leader_epoch", c.epoch, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if c.below {
		c.die()
		c.rt.opts.Fault(fmt.Errorf("append to partition %d of a coordinator: panic: %v", c.partition, p))
		return
	}
	crashes := 1
	if time.Since(c.since) < crashesCount {
		crashes += c.crashes
	}
	if crashes > maxCrashes {
		c.rt.opts.Logger.Error("coordinator panics over and over, it pauses", "partition", c.partition, "pause", crashesPause)
		c.restart(maxCrashes, crashesPause)
		return
	}
	c.restart(crashes, 0)
}

// restart ends the cell and has its partition loaded again after a pause.
func (c *cell[M]) restart(crashes int, pause time.Duration) {
	c.rt.reload(c, crashes, pause) // first: it takes on the events
	c.die()
}

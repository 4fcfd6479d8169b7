package replica

import (
	"sync"
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/partition"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/wire"
)

// waitingRoom holds what waits on one partition. The counters are read without the lock, so that nothing is locked where nobody
// waits: who joins first counts himself and then looks at the log again; who changes the log looks at the counters afterwards.
type waitingRoom struct {
	produces atomic.Int32
	fetches  atomic.Int32

	mu      sync.Mutex // guards the rest
	durable produceHeap
	commit  produceHeap
	fetch   []*fetchEntry
	deletes chan struct{} // closed when a wait of DeleteRecords should look again; nil when none waits
}

// produceOp is a produce request that waits. It is finished by whoever completes its last partition.
type produceOp struct {
	deadline
	m       *Manager
	results []AppendResult
	entries []produceEntry
	pending atomic.Int32
	done    func([]AppendResult)
}

// produceEntry is one partition of a waiting produce. It is in one heap of the partition's room until it is decided, and only who
// takes it out of there may write its result.
type produceEntry struct {
	op       *produceOp
	p        *Partition
	slot     int       // in op.results
	required id.Offset // exclusive end of what was appended
	epoch    id.LeaderEpoch
	durable  bool // waits until it is durable (flush.messages) ...
	commit   bool // ... and then until it is committed (acks=all)
	index    int  // in the heap plus one
}

// wait puts the request into the waiting rooms.
func (op *produceOp) wait() {
	op.pending.Store(int32(len(op.entries)) + 1)
	for i := range op.entries {
		e := &op.entries[i]
		e.op = op
		room := &e.p.room
		room.mu.Lock()
		if e.durable {
			room.durable.push(e)
		} else {
			room.commit.push(e)
		}
		room.produces.Add(1)
		room.mu.Unlock()
		e.p.settleProduces()
	}
	op.expire = op.timeout
	op.m.deadlines.add(&op.deadline)
	if op.m.closed.Load() {
		op.timeout()
	}
	op.decided(1)
}

// decided counts n partitions as done and answers when none is left.
func (op *produceOp) decided(n int32) {
	if op.pending.Add(-n) == 0 {
		op.m.deadlines.remove(&op.deadline)
		op.done(op.results)
	}
}

func (op *produceOp) timeout() {
	expired := int32(0)
	for i := range op.entries {
		e := &op.entries[i]
		room := &e.p.room
		room.mu.Lock()
		waiting := e.index != 0
		if waiting {
			room.heapOf(e).remove(e)
			room.produces.Add(-1)
			op.results[e.slot].fail(wire.ErrRequestTimedOut)
			expired++
		}
		room.mu.Unlock()
	}
	op.m.metrics.ProduceExpired.Add(int64(expired))
	if expired > 0 {
		op.decided(expired)
	}
}

func (r *waitingRoom) heapOf(e *produceEntry) *produceHeap {
	if e.durable {
		return &r.durable
	}
	return &r.commit
}

// settleProduces answers the produces whose wait has ended, for better or worse.
func (p *Partition) settleProduces() {
	var few [8]*produceEntry
	finished := few[:0]
	p.mu.RLock()
	hw, durable := p.log().HighWatermark(), p.log().DurableEnd()
	r := &p.room
	r.mu.Lock()
	for len(r.durable) > 0 {
		e := r.durable[0]
		switch code := p.stillLeads(e); {
		case code != wire.ErrNone:
			e.op.results[e.slot].fail(code)
		case e.required > durable:
			goto durableDone
		case e.commit:
			r.durable.remove(e)
			e.durable = false
			r.commit.push(e)
			continue
		}
		r.durable.remove(e)
		finished = append(finished, e)
	}
durableDone:
	for len(r.commit) > 0 {
		e := r.commit[0]
		if p.gone != 0 {
			e.op.results[e.slot].fail(p.gone)
		} else {
			done, code := p.state.CheckWaiting(e.required, hw, e.epoch, p.config.MinInSyncReplicas)
			if !done {
				break
			}
			if code != wire.ErrNone {
				e.op.results[e.slot].fail(code)
			}
		}
		r.commit.remove(e)
		finished = append(finished, e)
	}
	r.produces.Add(int32(-len(finished)))
	r.mu.Unlock()
	p.mu.RUnlock()
	for _, e := range finished {
		e.op.decided(1)
	}
}

// stillLeads decides about an entry whose offset was not looked at yet. p.mu must be held.
func (p *Partition) stillLeads(e *produceEntry) wire.ErrorCode {
	if p.gone != 0 {
		return p.gone
	}
	if done, code := p.state.CheckWaiting(e.required, id.NoOffset, e.epoch, 0); done {
		return code
	}
	return wire.ErrNone
}

// produceHeap is a heap by required offset: the first entry is the first that can be answered.
type produceHeap []*produceEntry

func (h *produceHeap) push(e *produceEntry) {
	*h = append(*h, e)
	e.index = len(*h)
	h.up(len(*h) - 1)
}

func (h *produceHeap) remove(e *produceEntry) {
	i, last := e.index-1, len(*h)-1
	h.swap(i, last)
	(*h)[last] = nil
	*h = (*h)[:last]
	e.index = 0
	if last == 0 {
		*h = nil // nothing is kept for a partition on which nobody waits
	} else if i < last {
		h.down(i)
		h.up(i)
	}
}

func (h produceHeap) up(i int) {
	for i > 0 && h[i].required < h[(i-1)/2].required {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h produceHeap) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h); c++ {
			if h[c].required < h[least].required {
				least = c
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}

func (h produceHeap) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}

// fetchWaiter is one fetch that sleeps, registered on all of its partitions.
type fetchWaiter struct {
	deadline
	ready    chan struct{} // one token: look again
	expired  atomic.Bool
	minBytes int64
	upper    atomic.Int64 // at least as many bytes as could be read now
	entries  []fetchEntry
}

// fetchEntry is one partition of a sleeping fetch. All but the pointers is guarded by the partition's room.mu.
type fetchEntry struct {
	w          *fetchWaiter
	p          *Partition
	offset     id.Offset
	seen       id.Offset // the end of what was visible when the fetch read last
	appended   int64     // Partition.appended up to which upper counts
	isolation  log.Isolation
	epoch      id.LeaderEpoch
	leaderOnly bool
	index      int // in room.fetch plus one
}

func (w *fetchWaiter) signal() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// join registers the waiter on its partitions, then looks whether something happened since it read.
func (w *fetchWaiter) join() {
	for i := range w.entries {
		e := &w.entries[i]
		p := e.p
		p.room.mu.Lock()
		p.room.fetch = append(p.room.fetch, e)
		e.index = len(p.room.fetch)
		p.room.fetches.Add(1)
		p.room.mu.Unlock()
		p.mu.RLock()
		if p.check(e.epoch, e.leaderOnly) != nil {
			w.signal()
		}
		p.room.mu.Lock()
		e.look()
		p.room.mu.Unlock()
		p.mu.RUnlock()
	}
}

// leave takes the waiter out of all rooms.
func (w *fetchWaiter) leave() {
	for i := range w.entries {
		e := &w.entries[i]
		r := &e.p.room
		r.mu.Lock()
		if e.index != 0 {
			last := len(r.fetch) - 1
			moved := r.fetch[last]
			r.fetch[e.index-1], moved.index = moved, e.index
			r.fetch[last] = nil
			r.fetch = r.fetch[:last]
			e.index = 0
			if last == 0 {
				r.fetch = nil
			}
			r.fetches.Add(-1)
		}
		r.mu.Unlock()
	}
}

// look signals the waiter if its partition made progress and it may have enough by now. room.mu is held.
func (e *fetchEntry) look() {
	total := e.p.appended.Load()
	upper := e.w.upper.Add(total - e.appended)
	e.appended = total
	end := visibleEnd(e.p.log(), e.isolation)
	if end < e.offset || (end > e.seen && upper >= e.w.minBytes) {
		e.w.signal()
	}
}

// wakeFetches lets the sleeping fetches look at the partition; all of them are woken when something else than bytes changed.
func (p *Partition) wakeFetches(all bool) {
	p.room.mu.Lock()
	for _, e := range p.room.fetch {
		if all {
			e.w.signal()
		} else {
			e.look()
		}
	}
	p.room.mu.Unlock()
}

func visibleEnd(l *log.Log, isolation log.Isolation) id.Offset {
	switch isolation {
	case log.ReadHighWatermark:
		return l.HighWatermark()
	case log.ReadCommitted:
		return l.LastStableOffset()
	}
	return l.EndOffset()
}

// recordFollowerFetch takes in the position of a follower that fetched, and what follows from it.
func (p *Partition) recordFollowerFetch(ff partition.FollowerFetch) error {
	p.mu.Lock()
	moved, code := p.state.RecordFetch(ff)
	var proposal *partition.Proposal
	advanced := false
	if code == wire.ErrNone && p.gone == 0 {
		if p.m.changes != nil {
			proposal = p.state.ProposeExpand(ff.Replica, p.log().HighWatermark(), p.m)
		}
		if moved {
			advanced = p.advance(ff.NowMs)
		}
	}
	p.mu.Unlock()
	if code != wire.ErrNone {
		return code
	}
	p.wakeDeletes()
	if advanced {
		p.told(true)
	}
	p.propose(proposal)
	return nil
}

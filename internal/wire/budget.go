package wire

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// ErrBudget reports a frame whose decoded form would need more memory than its size entitles it to.
var ErrBudget = errors.New("message needs more memory than its frame may claim")

// ErrPoolExhausted reports that the node has no memory left for requests in flight. The frame itself may be fine.
var ErrPoolExhausted = errors.New("no memory left for requests in flight")

// Every frame may claim this many bytes per byte received, plus a floor.
const (
	BudgetFactor = 16
	BudgetFloor  = 64 << 10
)

// poolStep is how much a Budget draws from its Pool at a time, so that the shared counter is touched rarely.
const poolStep = 16 << 10

// Pool counts the bytes which all requests in flight of a node hold, against a limit. Safe for concurrent use.
type Pool struct {
	limit int64
	used  atomic.Int64
}

// NewPool returns a pool of limit bytes; a limit <= 0 means no limit.
func NewPool(limit int64) *Pool { return &Pool{limit: limit} }

// Take claims n bytes and reports whether they were free. A taker gives back what it took with Give.
func (p *Pool) Take(n int64) bool {
	if used := p.used.Add(n); p.limit > 0 && used > p.limit {
		p.used.Add(-n)
		return false
	}
	return true
}

// Give returns n bytes to the pool.
func (p *Pool) Give(n int64) { p.used.Add(-n) }

// Used returns the bytes in use now.
func (p *Pool) Used() int64 { return p.used.Load() }

// Budget bounds the memory which decoding one frame may allocate. It is charged before each allocation. The zero value has
// nothing to give: call Start first. A Budget belongs to one goroutine at a time and may be started again for the next frame.
type Budget struct {
	limit, used int64
	pool        *Pool
	drawn       int64 // what has been taken from pool so far, >= used unless pool is nil
}

// NewBudget returns a started budget for one frame of the given size. pool may be nil.
func NewBudget(frameSize int, pool *Pool) *Budget {
	b := new(Budget)
	b.Start(frameSize, pool)
	return b
}

// Start begins a new frame of frameSize bytes: at most BudgetFactor*frameSize + BudgetFloor bytes may be charged. What the
// budget still held of an earlier pool is given back.
func (b *Budget) Start(frameSize int, pool *Pool) {
	b.Release()
	*b = Budget{limit: BudgetFactor*int64(frameSize) + BudgetFloor, pool: pool}
}

// Charge claims n bytes. It returns nil, ErrBudget or ErrPoolExhausted (both wrapped with the figures).
func (b *Budget) Charge(n int64) error {
	if n > b.limit-b.used {
		return fmt.Errorf("%w: %d bytes wanted on top of %d, limit %d", ErrBudget, n, b.used, b.limit)
	}
	if b.pool != nil && b.used+n > b.drawn {
		step := max(b.used+n-b.drawn, min(poolStep, b.limit-b.drawn))
		if !b.pool.Take(step) {
			return fmt.Errorf("%w: %d bytes wanted", ErrPoolExhausted, step)
		}
		b.drawn += step
	}
	b.used += n
	return nil
}

// Used returns the bytes charged since Start.
func (b *Budget) Used() int64 { return b.used }

// Release returns everything to the pool. It is called once the decoded message is no longer referenced, normally when the
// request has been answered. Releasing twice does no harm; charging after Release fails.
func (b *Budget) Release() {
	if b.pool != nil {
		b.pool.Give(b.drawn)
	}
	*b = Budget{}
}

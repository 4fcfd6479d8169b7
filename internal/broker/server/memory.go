package server

import (
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Slabs come in powers of two from 4 KiB to 16 MiB; larger ones are made to measure and not kept.
const (
	minSlabBits = 12
	maxSlabBits = 24
	minSlab     = 1 << minSlabBits
	maxSlab     = 1 << maxSlabBits
	smallSlab   = 64 << 10 // up to here slabs rest in a sync.Pool, and draw on the small budget
	keepBytes   = 64 << 20 // bytes of free big slabs kept for reuse
)

// pressureWait is how long a connection waits for memory before those that hold it without sending are cut, and giveUpWait how
// long before it is cut itself.
const (
	pressureWait = 2 * time.Second
	giveUpWait   = 20 * time.Second
)

var errNoMemory = errors.New("no memory for the request: the bound on request memory is reached")

// Memory is the node-wide bound on the memory of requests, and the free lists of that memory. Slabs of up to 4 KiB are free of
// charge (a connection holds at most one beside those of its unanswered requests); up to 64 KiB they draw on one budget, larger
// ones on another, so that big requests cannot starve small ones.
//
// Big slabs are kept on explicit lists, because memory that is given back and touched again costs far more than the rest of a
// request; Trim lets them go when they have rested.
type Memory struct {
	small, big budget

	shedMu sync.Mutex
	sheds  []func() // cut connections that hold memory without sending; one per server, guarded by shedMu

	pools [smallClasses]sync.Pool

	mu   sync.Mutex
	free [bigClasses][]*slab // guarded by mu
	kept int64               // bytes in free, guarded by mu
	used bool                // big slabs moved since the last Trim, guarded by mu
}

const (
	smallClasses = 5 // 4, 8, 16, 32, 64 KiB
	bigClasses   = maxSlabBits - 16
)

// NewMemory returns a bound of limit bytes for requests of more than 64 KiB, and an eighth of it (at least 8 MiB) for smaller
// ones.
func NewMemory(limit int64) *Memory {
	m := &Memory{}
	m.big = budget{limit: limit, wait: pressureWait}
	m.small = budget{limit: max(limit/8, 8<<20), wait: pressureWait}
	return m
}

// onPressure adds what is called while someone waits for memory.
func (m *Memory) onPressure(shed func()) {
	m.shedMu.Lock()
	m.sheds = append(m.sheds, shed)
	m.shedMu.Unlock()
}

func (m *Memory) pressure() {
	m.shedMu.Lock()
	sheds := m.sheds[:len(m.sheds):len(m.sheds)]
	m.shedMu.Unlock()
	for _, shed := range sheds {
		shed()
	}
}

// InUse returns the bytes that requests hold now, as far as they are charged.
func (m *Memory) InUse() int64 { return m.small.used.Load() + m.big.used.Load() }

// Trim gives back kept slabs that nobody used since the last call.
func (m *Memory) Trim() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.used {
		m.free, m.kept = [bigClasses][]*slab{}, 0
	}
	m.used = false
}

// slab is a piece of request memory with a reference count: one for the reader that fills it and one for each request in it.
type slab struct {
	b      []byte
	refs   atomic.Int32
	mem    *Memory
	class  int8 // index of the size, -1 if made to measure
	budget *budget
}

// get returns a slab of at least n bytes with one reference, or waits for memory; stop ends the wait.
func (m *Memory) get(n int, stop <-chan struct{}) (*slab, error) {
	size := slabSize(n)
	b := m.budgetFor(size)
	if b != nil {
		if err := b.take(int64(size), stop, m.pressure); err != nil {
			return nil, err
		}
	}
	return m.make(size, b), nil
}

// tryGet is get without the wait: nil if the bound is reached.
func (m *Memory) tryGet(n int) *slab {
	size := slabSize(n)
	b := m.budgetFor(size)
	if b != nil && !b.tryTake(int64(size)) {
		return nil
	}
	return m.make(size, b)
}

func (m *Memory) budgetFor(size int) *budget {
	switch {
	case size <= minSlab:
		return nil
	case size <= smallSlab:
		return &m.small
	default:
		return &m.big
	}
}

func (m *Memory) make(size int, b *budget) *slab {
	s := m.reuse(size)
	if s == nil {
		class := int8(-1)
		if size <= maxSlab {
			class = int8(bits.Len(uint(size)) - 1 - minSlabBits)
		}
		s = &slab{b: make([]byte, size), mem: m, class: class}
	}
	s.budget = b
	s.refs.Store(1)
	return s
}

func (m *Memory) reuse(size int) *slab {
	if size > maxSlab {
		return nil
	}
	class := bits.Len(uint(size)) - 1 - minSlabBits
	if class < smallClasses {
		s, _ := m.pools[class].Get().(*slab)
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used = true
	list := m.free[class-smallClasses]
	if len(list) == 0 {
		return nil
	}
	s := list[len(list)-1]
	list[len(list)-1] = nil
	m.free[class-smallClasses] = list[:len(list)-1]
	m.kept -= int64(size)
	return s
}

func (s *slab) retain() { s.refs.Add(1) }

// release drops one reference; the last one gives the slab back.
func (s *slab) release() {
	if s.refs.Add(-1) != 0 {
		return
	}
	m, size := s.mem, int64(len(s.b))
	if s.budget != nil {
		b := s.budget
		s.budget = nil
		defer b.give(size)
	}
	switch {
	case s.class < 0:
	case s.class < smallClasses:
		m.pools[s.class].Put(s)
	default:
		m.mu.Lock()
		if m.kept+size <= keepBytes {
			m.free[s.class-smallClasses] = append(m.free[s.class-smallClasses], s)
			m.kept += size
		}
		m.mu.Unlock()
	}
}

// slabSize rounds n up to the size of a slab.
func slabSize(n int) int {
	if n <= minSlab {
		return minSlab
	}
	if n > maxSlab {
		return (n + minSlab - 1) &^ (minSlab - 1)
	}
	return 1 << bits.Len(uint(n-1))
}

// budget is a number of bytes that is taken and given back. Waiters are woken together and try again in no order.
type budget struct {
	limit int64
	wait  time.Duration // before those that hold memory without sending are cut
	used  atomic.Int64

	mu    sync.Mutex
	freed chan struct{} // closed at the next give, nil if nobody waits
}

func (b *budget) tryTake(n int64) bool {
	for {
		u := b.used.Load()
		// One request may exceed the bound when nothing else is held, so that it cannot wait for ever.
		if u+n > b.limit && u > 0 {
			return false
		}
		if b.used.CompareAndSwap(u, u+n) {
			return true
		}
	}
}

func (b *budget) take(n int64, stop <-chan struct{}, shed func()) error {
	if b.tryTake(n) {
		return nil
	}
	start := time.Now()
	timer := time.NewTimer(b.wait)
	defer timer.Stop()
	for {
		b.mu.Lock()
		if b.freed == nil {
			b.freed = make(chan struct{})
		}
		freed := b.freed
		b.mu.Unlock()
		if b.tryTake(n) {
			return nil
		}
		select {
		case <-freed:
		case <-stop:
			return errClosed
		case <-timer.C:
			if time.Since(start) >= giveUpWait {
				return errNoMemory
			}
			shed()
			timer.Reset(b.wait)
		}
	}
}

func (b *budget) give(n int64) {
	b.used.Add(-n)
	b.mu.Lock()
	if b.freed != nil {
		close(b.freed)
		b.freed = nil
	}
	b.mu.Unlock()
}

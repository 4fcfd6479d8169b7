package replica

import (
	"log/slog"
	"sync"
	"time"
)

// deadlines ends waits that last too long: one heap and one goroutine with one timer for every waiting request of the broker.
type deadlines struct {
	now    func() time.Time
	mu     sync.Mutex // guards the heap and closed
	heap   []*deadline
	closed bool
	kick   chan struct{} // the first deadline moved forward
	done   chan struct{}
	logger *slog.Logger
	fault  func(error) // hears of panics
}

// deadline is one wait. It is embedded in what waits.
type deadline struct {
	at     time.Time
	index  int // in the heap plus one; 0 when not in it
	expire func()
}

func newDeadlines(now func() time.Time, logger *slog.Logger, fault func(error)) *deadlines {
	d := &deadlines{now: now, kick: make(chan struct{}, 1), done: make(chan struct{}), logger: logger, fault: fault}
	go d.run()
	return d
}

// add arranges for w.expire to be called once, without locks, at w.at or soon after, unless remove comes first.
func (d *deadlines) add(w *deadline) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	d.heap = append(d.heap, w)
	w.index = len(d.heap)
	d.up(len(d.heap) - 1)
	first := d.heap[0] == w
	d.mu.Unlock()
	if first {
		select {
		case d.kick <- struct{}{}:
		default:
		}
	}
}

// remove forgets w; an expire that has begun goes on.
func (d *deadlines) remove(w *deadline) {
	d.mu.Lock()
	d.take(w)
	d.mu.Unlock()
}

func (d *deadlines) take(w *deadline) {
	if w.index == 0 {
		return
	}
	i, last := w.index-1, len(d.heap)-1
	d.swap(i, last)
	d.heap[last] = nil
	d.heap = d.heap[:last]
	w.index = 0
	if i < last {
		d.down(i)
		d.up(i)
	}
}

func (d *deadlines) run() {
	defer close(d.done)
	defer fault(d.logger, "the end of waits", d.fault)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next, ok := d.expireDue()
		if !ok {
			return
		}
		timer.Reset(next)
		select {
		case <-timer.C:
		case <-d.kick:
		}
	}
}

// expireDue ends what is due and returns how long the goroutine may sleep; ok is false once closed.
func (d *deadlines) expireDue() (sleep time.Duration, ok bool) {
	for {
		d.mu.Lock()
		if d.closed {
			d.mu.Unlock()
			return 0, false
		}
		if len(d.heap) == 0 {
			d.mu.Unlock()
			return time.Hour, true
		}
		w := d.heap[0]
		if wait := w.at.Sub(d.now()); wait > 0 {
			d.mu.Unlock()
			return wait, true
		}
		d.take(w)
		d.mu.Unlock()
		w.expire()
	}
}

// close stops the goroutine and ends every wait.
func (d *deadlines) close() {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	d.closed = true
	left := d.heap
	d.heap = nil
	for _, w := range left {
		w.index = 0
	}
	d.mu.Unlock()
	select {
	case d.kick <- struct{}{}:
	default:
	}
	<-d.done
	for _, w := range left {
		w.expire()
	}
}

func (d *deadlines) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !d.heap[i].at.Before(d.heap[parent].at) {
			return
		}
		d.swap(i, parent)
		i = parent
	}
}

func (d *deadlines) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(d.heap); c++ {
			if d.heap[c].at.Before(d.heap[least].at) {
				least = c
			}
		}
		if least == i {
			return
		}
		d.swap(i, least)
		i = least
	}
}

func (d *deadlines) swap(i, j int) {
	d.heap[i], d.heap[j] = d.heap[j], d.heap[i]
	d.heap[i].index, d.heap[j].index = i+1, j+1
}

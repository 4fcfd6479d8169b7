package metric

import (
	"sync"
	"sync/atomic"
	"time"
)

// span is half of what a Recent and a Meter look back upon: Kafka's metrics.sample.window.ms, of which its sensors keep
// metrics.num.samples = 2, the current and the one before.
const span = 30 * time.Second

// Recent is the distribution of the values of the last 30 to 60 seconds, for figures that Kafka takes from such a window instead of
// from the whole life of the process. Observing costs what a Histogram's does. The zero value is ready.
type Recent struct {
	mu    sync.Mutex // held while a sample begins
	parts [2]sample
}

type sample struct {
	at     atomic.Int64 // its number, counted from the epoch of time, plus one; 0: never begun
	values Histogram
	max    atomic.Int64
}

// current returns the sample that now belongs to.
func (r *Recent) current(now time.Time) *sample {
	n := number(now)
	p := &r.parts[n&1]
	if p.at.Load() != n {
		r.mu.Lock()
		if p.at.Load() < n {
			p.values.reset()
			p.max.Store(0)
			p.at.Store(n)
		}
		r.mu.Unlock()
	}
	return p
}

// number is that of the sample that now belongs to.
func number(now time.Time) int64 { return now.UnixNano()/int64(span) + 1 }

// Observe takes one value that was seen now; negative values count as 0.
func (r *Recent) Observe(now time.Time, v int64) {
	p := r.current(now)
	p.values.Observe(v)
	for {
		old := p.max.Load()
		if v <= old || p.max.CompareAndSwap(old, v) {
			return
		}
	}
}

// Figures are those of the values of the last 30 to 60 seconds. Max is exact, quantiles are too low by a quarter at most.
type Figures struct {
	Count               uint64
	Sum, Max            int64
	P50, P95, P99, P999 int64
}

// Read returns the figures as of now.
func (r *Recent) Read(now time.Time) (f Figures) {
	var counts [len(r.parts[0].values.buckets)]uint64
	n := number(now)
	for i := range r.parts {
		p := &r.parts[i]
		if at := p.at.Load(); at != n && at != n-1 {
			continue
		}
		for b := range counts {
			c := uint64(p.values.buckets[b].Load())
			counts[b] += c
			f.Count += c
		}
		f.Sum += int64(p.values.sum.Load())
		f.Max = max(f.Max, p.max.Load())
	}
	seen, b := uint64(0), 0
	for _, q := range []struct {
		share float64
		to    *int64
	}{{0.5, &f.P50}, {0.95, &f.P95}, {0.99, &f.P99}, {0.999, &f.P999}} {
		for b < len(counts)-1 && float64(seen+counts[b]) < q.share*float64(f.Count) {
			seen += counts[b]
			b++
		}
		*q.to = int64(lowest(b))
	}
	return f
}

func (h *Histogram) reset() {
	h.count.Store(0)
	h.sum.Store(0)
	for i := range h.buckets {
		h.buckets[i].Store(0)
	}
}

// Meter counts events: all of them, and how many there were a second of late. The zero value is ready.
type Meter struct {
	total atomic.Int64
	mu    sync.Mutex // held while a sample begins
	parts [2]struct{ at, n atomic.Int64 }
}

// Mark counts n events that happened now.
func (m *Meter) Mark(now time.Time, n int64) {
	m.total.Add(n)
	at := number(now)
	p := &m.parts[at&1]
	if p.at.Load() != at {
		m.mu.Lock()
		if p.at.Load() < at {
			p.n.Store(0)
			p.at.Store(at)
		}
		m.mu.Unlock()
	}
	p.n.Add(n)
}

// Total returns how many events there were.
func (m *Meter) Total() int64 { return m.total.Load() }

// Rate returns how many events there were per second in the last 30 to 60 seconds.
func (m *Meter) Rate(now time.Time) float64 {
	at, n := number(now), int64(0)
	for i := range m.parts {
		if p := &m.parts[i]; p.at.Load() == at || p.at.Load() == at-1 {
			n += p.n.Load()
		}
	}
	return float64(n) / (span + time.Duration(now.UnixNano()%int64(span))).Seconds()
}

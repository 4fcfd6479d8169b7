package log

import (
	"math"
	"sync"
	"time"
)

// moveRate holds what moves copy to a rate (replica.alter.log.dirs.io.max.bytes.per.second). It reckons as Apache Kafka's quotas do:
// what was copied is kept in samples of some length, and the rate is all of them over the time since the oldest began, at least one
// sample's length. So a copy may run ahead a little, and what it lost by waiting too long it makes up for.
type moveRate struct {
	length time.Duration // of a sample
	kept   int           // samples; one more is there for the one that is half past

	mu      sync.Mutex
	bound   int64 // bytes per second; math.MaxInt64: none
	samples []moveSample
	current int
}

type moveSample struct {
	began, last time.Time
	bytes       int64
}

func newMoveRate(o *Options) *moveRate {
	return &moveRate{length: o.MoveRateSample, kept: o.MoveRateSamples, bound: math.MaxInt64}
}

// note counts bytes that were copied, also while there is no bound: one that is set counts what went before.
func (r *moveRate) note(now time.Time, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case len(r.samples) == 0:
		r.samples = append(r.samples, moveSample{began: now})
	case now.Sub(r.samples[r.current].began) >= r.length:
		if r.current = (r.current + 1) % (r.kept + 1); r.current == len(r.samples) {
			r.samples = append(r.samples, moveSample{})
		}
		r.samples[r.current] = moveSample{began: now}
	}
	s := &r.samples[r.current]
	s.bytes += int64(bytes)
	s.last = now
}

// exceeded reports whether more was copied than the bound allows by now. It needs mu.
func (r *moveRate) exceeded(now time.Time) bool {
	if r.bound == math.MaxInt64 {
		return false
	}
	sum, elapsed := int64(0), r.length
	past := float64(r.kept) * r.length.Seconds() // centuries, too
	for i := range r.samples {
		s := &r.samples[i]
		if now.Sub(s.last).Seconds() >= past {
			*s = moveSample{began: now, last: now}
		}
		sum += s.bytes
		elapsed = max(elapsed, now.Sub(s.began))
	}
	return float64(sum)/elapsed.Seconds() > float64(r.bound)
}

// SetMoveRate bounds how many bytes per second moves copy, all together; math.MaxInt64 is no bound. It counts at once.
func (m *Manager) SetMoveRate(bytesPerSecond int64) {
	m.rate.mu.Lock()
	defer m.rate.mu.Unlock()
	m.rate.bound = bytesPerSecond
}

// MoveAllowance is how many bytes the next Move.Copy should copy at most: what the rate allows for a second, or 0 while more than it
// allows was copied already. Whoever copies asks each time.
func (m *Manager) MoveAllowance() int64 {
	r := m.rate
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.exceeded(m.o.Now()) {
		return 0
	}
	return max(r.bound, 1) // with a bound of 0 a batch, whenever all samples are past
}

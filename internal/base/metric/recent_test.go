package metric

import (
	"sync"
	"testing"
	"time"
)

// TestRecentForgets: what is older than a minute is not there, what is younger than half of one is.
func TestRecentForgets(t *testing.T) {
	begin := time.Unix(30_000_000, 0) // a sample begins here
	at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	var r Recent
	var m Meter
	if f := r.Read(at(0)); f != (Figures{}) || m.Rate(at(0)) != 0 {
		t.Fatalf("before anything: %+v, %v a second", f, m.Rate(at(0)))
	}
	r.Observe(at(1), 1000)
	m.Mark(at(1), 90)
	for range 99 {
		r.Observe(at(29), 10)
	}
	for _, c := range []struct {
		at    int
		count uint64
		max   int64
		rate  float64
	}{{29, 100, 1000, 90. / 59}, {30, 100, 1000, 3}, {59, 100, 1000, 90. / 59}, {60, 0, 0, 0}, {90, 0, 0, 0}} {
		if f := r.Read(at(c.at)); f.Count != c.count || f.Max != c.max {
			t.Errorf("after %d s: %+v, want %d values up to %d", c.at, f, c.count, c.max)
		}
		if got := m.Rate(at(c.at)); got != c.rate {
			t.Errorf("after %d s: %v a second, want %v", c.at, got, c.rate)
		}
	}
	if f := r.Read(at(30)); f.Sum != 1990 || f.P50 != 10 || f.P95 != 10 || f.P99 != 10 || f.P999 < 750 || f.P999 > 1000 {
		t.Errorf("%+v", f)
	}
	r.Observe(at(61), 7) // the sample of 0 to 30 is used again
	if f := r.Read(at(61)); f.Count != 1 || f.Max != 7 {
		t.Errorf("in a sample that is used again: %+v", f)
	}
	m.Mark(at(61), 1)
	if m.Total() != 91 {
		t.Errorf("%d in all", m.Total())
	}
}

// TestRecentTogether: many observe while samples begin.
func TestRecentTogether(t *testing.T) {
	var r Recent
	var m Meter
	now := time.Unix(30_000_000, 0)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 1000 {
				r.Observe(now.Add(time.Duration(i)*time.Millisecond), int64(i))
				m.Mark(now.Add(time.Duration(i)*time.Millisecond), 1)
				r.Read(now)
			}
		})
	}
	all.Wait()
	if f := r.Read(now); f.Count != 4000 || f.Max != 999 || m.Total() != 4000 {
		t.Errorf("%+v, %d marks", f, m.Total())
	}
}

package shard

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/seed"
)

// TestDeadlinesAgainstModel sets, cancels and pops at random and compares with a plain map.
func TestDeadlinesAgainstModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seed.Of(t), 1))
	type entry struct {
		at    time.Time
		order int
	}
	var d Deadlines[int, int]
	model := map[int]entry{}
	start := time.UnixMilli(0)
	for step := range 20_000 {
		key := rnd.IntN(60)
		switch rnd.IntN(4) {
		case 0, 1:
			at := start.Add(time.Duration(rnd.IntN(50)) * time.Second)
			d.Set(key, at, step)
			model[key] = entry{at, step}
		case 2:
			d.Cancel(key)
			delete(model, key)
		case 3:
			now := start.Add(time.Duration(rnd.IntN(50)) * time.Second)
			want, found := 0, false
			for k, e := range model {
				if e.at.After(now) {
					continue
				}
				if !found || e.at.Before(model[want].at) || e.at.Equal(model[want].at) && e.order < model[want].order {
					want, found = k, true
				}
			}
			got, value, ok := d.Pop(now)
			if ok != found || ok && (got != want || value != model[want].order) {
				t.Fatalf("step %d: popped %d (%d) %v, want %d %v", step, got, value, ok, want, found)
			}
			if found {
				delete(model, want)
			}
		}
		if d.Len() != len(model) {
			t.Fatalf("step %d: %d keys, want %d", step, d.Len(), len(model))
		}
		if _, has := model[key]; d.Has(key) != has {
			t.Fatalf("step %d: has %d: %v, want %v", step, key, d.Has(key), has)
		}
		var next time.Time
		for _, e := range model {
			if next.IsZero() || e.at.Before(next) {
				next = e.at
			}
		}
		if at, ok := d.Next(); ok != (len(model) > 0) || ok && !at.Equal(next) {
			t.Fatalf("step %d: next %v %v, want %v", step, at, ok, next)
		}
	}
}

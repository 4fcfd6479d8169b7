package replica

import (
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/seed"
)

// TestDeadlines adds and removes random waits in a bubble: each that stays ends once, not before its time, and not after it either,
// since the bubble's clock only moves when everybody sleeps.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDeadlines(time.Now, slog.New(slog.DiscardHandler), func(error) {})
		rnd := rand.New(rand.NewPCG(seed.Of(t), 3))
		type wait struct {
			deadline
			ended   []time.Time
			removed bool
		}
		var all []*wait
		for i := range 500 {
			w := &wait{}
			w.at = time.Now().Add(time.Duration(rnd.IntN(100)) * time.Second)
			w.expire = func() { w.ended = append(w.ended, time.Now()) }
			d.add(&w.deadline)
			all = append(all, w)
			if i%3 == 0 {
				v := all[rnd.IntN(len(all))]
				d.remove(&v.deadline)
				v.removed = true
			}
			if i%10 == 0 {
				time.Sleep(time.Duration(rnd.IntN(3)) * time.Second)
			}
		}
		time.Sleep(200 * time.Second)
		synctest.Wait()
		for i, w := range all {
			switch {
			case w.removed && len(w.ended) == 0:
			case len(w.ended) != 1:
				t.Errorf("wait %d ended %d times, removed %t", i, len(w.ended), w.removed)
			case !w.ended[0].Equal(w.at):
				t.Errorf("wait %d ended %v off", i, w.ended[0].Sub(w.at))
			}
		}
		late := &wait{}
		late.at = time.Now().Add(time.Hour)
		late.expire = func() { late.ended = append(late.ended, time.Now()) }
		d.add(&late.deadline)
		d.close()
		if len(late.ended) != 1 {
			t.Error("close must end what waits")
		}
	})
}

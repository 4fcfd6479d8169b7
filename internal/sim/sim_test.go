package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/seed"
)

var (
	soakSteps = flag.Int64("sim.steps", 2_000_000, "steps of TestSimulation in total")
	trace     = flag.Bool("sim.trace", false, "print every event")
)

// harsh is a run with all faults, whose shape follows from the seed.
func harsh(seed uint64) Options {
	shape := rand.New(rand.NewPCG(seed, 1))
	pick := func(n int) int { return shape.IntN(n) }
	o := Options{Seed: seed}
	o.Voters = []int{1, 3, 5, 3}[pick(4)]
	o.Observers = 2
	o.KRaftVersion = int16(pick(2))
	o.Net = Net{Loss: float64(pick(5)) * 0.04, Repeat: float64(pick(3)) * 0.05, Delay: []time.Duration{5, 30, 300}[pick(3)] * time.Millisecond}
	mean := func(d time.Duration) time.Duration { return d * time.Duration(pick(3)) }
	o.Chaos = Chaos{Crash: mean(3 * time.Second), Pause: mean(9 * time.Second), Cut: mean(5 * time.Second), Depose: mean(7 * time.Second),
		Hold: mean(5 * time.Second), Upgrade: mean(30 * time.Second), Down: time.Duration(1+pick(4)) * time.Second, Torn: pick(2) == 0}
	o.ClientEvery = []time.Duration{20, 100, 400}[pick(3)] * time.Millisecond
	o.SnapshotEvery = mean(time.Second)
	if pick(6) == 0 {
		hasty(&o)
	}
	return o
}

// hasty makes nodes crash often and be back soon, on a slow network: they are asked for the same vote again.
func hasty(o *Options) {
	o.Chaos = Chaos{Crash: 300 * time.Millisecond, Down: 50 * time.Millisecond, Depose: 2 * time.Second, Torn: o.Chaos.Torn}
	o.Net = Net{Delay: 300 * time.Millisecond}
}

const runSteps = 10_000

// run makes a run with faults, ends the faults, and demands that the quorum works again and everybody agrees.
func run(o Options, steps int) (*Sim, error) {
	s := New(o)
	s.StartAll()
	if err := s.Run(steps); err != nil {
		return s, err
	}
	s.Heal()
	before := s.Committed()
	if err := s.RunUntil(100_000, "the quorum commits again", func() bool { return s.Committed() > before+20 }); err != nil {
		return s, err
	}
	s.StopClients()
	if err := s.RunUntil(100_000, "everybody has everything", s.Settled); err != nil {
		return s, err
	}
	return s, s.CheckEnd()
}

// TestSimulation runs quorums of 1, 3 and 5 voters and 2 observers under all faults.
func TestSimulation(t *testing.T) {
	base, only := seed.First(t)
	var total Counts
	steps, runs := int64(0), 0
	for n := base; steps < *soakSteps; n++ {
		o := harsh(n)
		if *trace {
			o.Trace = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
		}
		s, err := run(o, runSteps)
		if err != nil {
			t.Fatalf("MOLDAU_SEED=%d: %v\n%+v", n, err, o)
		}
		steps += int64(s.Steps())
		runs++
		total.Add(s.Counts)
		if only {
			break
		}
	}
	t.Logf("%d steps in %d runs: %+v", steps, runs, total)
}

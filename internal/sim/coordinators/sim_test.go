package coordinators

import (
	"errors"
	"flag"
	"fmt"
	"testing"

	"github.com/moldau-io/moldau/internal/base/seed"
)

var (
	simSteps = flag.Int64("sim.steps", 1_000_000, "steps of TestSimulation in total")
	trace    = flag.Bool("sim.trace", false, "print what happens")
)

const runSteps = 4_000

// TestSimulation runs producers, workers and groups against both coordinators under all faults.
func TestSimulation(t *testing.T) {
	base, only := seed.First(t)
	var total Counts
	steps, runs := int64(0), 0
	for n := base; steps < *simSteps; n++ {
		o := Options{Seed: n}
		if *trace {
			o.Trace = func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
		}
		w := New(o)
		if err := w.Run(runSteps); err != nil {
			t.Fatalf("MOLDAU_SEED=%d: %v", n, err)
		}
		steps += int64(w.Steps())
		runs++
		total.Add(w.Counts)
		if only {
			break
		}
	}
	t.Logf("%d steps in %d runs: %+v", steps, runs, total)
}

// TestBugs proves that the simulation can fail: each mistake is found within so many runs, as what it breaks.
func TestBugs(t *testing.T) {
	base := seed.Of(t)
	for _, tt := range []struct {
		name  string
		bugs  Bugs
		shape Options // what makes the mistake show soon
	}{
		{"answers before the commit", Bugs{HastyReplies: true}, Options{}},
		{"markers before the commit", Bugs{HastyMarkers: true}, Options{}},
		{"a new coordinator forgets the markers", Bugs{ForgetMarkers: true}, Options{}},
		{"markers are dropped", Bugs{DropMarkers: true}, Options{}},
		{"a lost batch is kept", Bugs{KeepLost: true}, Options{}},
		{"markers of former coordinators", Bugs{OldCoordinators: true}, Options{Echo: true}},
		{"no guards", Bugs{NoGuards: true}, Options{}},
		{"no sequences", Bugs{NoSequences: true}, Options{}},
		{"reads above the last stable offset", Bugs{AboveStable: true}, Options{}},
		{"reads of what was aborted", Bugs{Aborted: true}, Options{}},
		{"offsets of open transactions are overlooked", Bugs{Unstable: true}, Options{Restless: true}},
		{"commits without a member", Bugs{Anonymous: true}, Options{}},
		{"commits of former members", Bugs{OldMembers: true}, Options{}},
		{"an assignment for another member", Bugs{WrongMember: true}, Options{}},
		{"a new leader lacks what was committed", Bugs{CutCommitted: true}, Options{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for n := range uint64(3000) {
				var v *Violation
				if err := New(Options{Seed: base + n, Bugs: tt.bugs, Restless: tt.shape.Restless, Echo: tt.shape.Echo}).Run(runSteps); errors.As(err, &v) {
					t.Logf("run %d: %v", n, v)
					return
				}
			}
			t.Error("not found")
		})
	}
}

// TestPromises proves that each promise is looked at: each is the first to be broken by some mistake.
func TestPromises(t *testing.T) {
	base := seed.Of(t)
	for _, tt := range []struct {
		promise string
		bugs    Bugs
		shape   Options
	}{
		{"G1", Bugs{CutCommitted: true}, Options{}},
		{"G2", Bugs{WrongMember: true}, Options{}},
		{"T1", Bugs{DropMarkers: true}, Options{}},
		{"T2", Bugs{HastyMarkers: true}, Options{}},
		{"T3", Bugs{NoGuards: true}, Options{}},
		{"T4", Bugs{Unstable: true}, Options{Restless: true}},
		{"T5", Bugs{ForgetMarkers: true}, Options{}},
		{"I5", Bugs{NoSequences: true}, Options{}},
		{"I11", Bugs{Aborted: true}, Options{}},
		{"I12", Bugs{AboveStable: true}, Options{}},
		{"I13", Bugs{AboveStable: true}, Options{Curious: true}},
	} {
		t.Run(tt.promise, func(t *testing.T) {
			for n := range uint64(10_000) {
				var v *Violation
				if err := New(Options{Seed: base + n, Bugs: tt.bugs, Restless: tt.shape.Restless, Curious: tt.shape.Curious}).Run(runSteps); errors.As(err, &v) && v.Promise == tt.promise {
					t.Logf("run %d: %v", n, v)
					return
				}
			}
			t.Error("never broken")
		})
	}
}

package pair

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"
)

var (
	sideBySide = flag.Bool("kafka", false, "start Apache Kafka's coordinator and compare")
	stepCount  = flag.Int("steps", 20_000, "how many steps")
	firstSeed  = flag.Uint64("seed", 0, "of the first run; 0: what MOLDAU_SEED says")
	script     = flag.String("script", "", "run the steps in this file instead")
)

// Begin starts Apache Kafka for a test, or skips it.
func Begin(t *testing.T, source []byte, class string) *Kafka {
	t.Helper()
	if !*sideBySide {
		t.Skip("starts Apache Kafka: run with -kafka")
	}
	jars, why := ClassPath()
	if why != "" {
		t.Skip(why)
	}
	kafka, err := Start(t.TempDir(), jars, source, class)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kafka.Stop(); err != nil {
			t.Error(err)
		}
	})
	return kafka
}

// Script is the steps of -script; ok is false without.
func Script(t *testing.T) (steps []string, ok bool) {
	t.Helper()
	if *script == "" {
		return nil, false
	}
	text, err := os.ReadFile(*script)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n"), true
}

// Runs makes run after run, each of its own seed, until there were enough steps or three of them failed. The first is of -seed, or of the
// test's own. A seed repeats its run: -seed S -steps 1.
func Runs(t *testing.T, own uint64, run func(seed uint64) (done int, ok bool)) {
	t.Helper()
	from := *firstSeed
	if from == 0 {
		from = own % 1_000_000_000
	}
	t.Logf("seeds from %d", from)
	runs, done, failed := 0, 0, 0
	for ; done < *stepCount && failed < 3; from++ {
		n, ok := run(from)
		if !ok {
			failed++
			t.Logf("that was seed %d", from)
		}
		runs, done = runs+1, done+n
	}
	t.Logf("%d runs, %d steps", runs, done)
}

// Planted wants each fault to be noticed within so many seeds and shortened, and none where there is none: the empty one.
func Planted(t *testing.T, faults []string, seeds uint64, judge func(fault string, seed uint64) (*Mismatch, error), shorten func(fault string, bad *Mismatch) *Mismatch) {
	t.Helper()
	for _, fault := range append([]string{""}, faults...) {
		var bad *Mismatch
		var err error
		for seed := uint64(1); seed <= seeds && bad == nil; seed++ {
			if bad, err = judge(fault, seed); err != nil {
				t.Fatal(err)
			}
		}
		switch {
		case fault == "" && bad != nil:
			t.Errorf("the same against the same:\n%v", bad)
		case fault != "" && bad == nil:
			t.Errorf("nobody noticed that %s is wrong", fault)
		case fault != "":
			if short := shorten(fault, bad); len(short.Steps) > 12 || len(short.Steps) > len(bad.Steps) {
				t.Errorf("%s: %d steps became %d:\n%v", fault, len(bad.Steps), len(short.Steps), short)
			}
		}
	}
}

// ShortenTime is what a judge takes to shorten a mismatch that it reports.
const ShortenTime = 10 * time.Second

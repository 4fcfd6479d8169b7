package txn

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/test/judge/pair"
)

var (
	sideBySide = flag.Bool("kafka", false, "start Apache Kafka's transaction coordinator and compare")
	stepCount  = flag.Int("steps", 20_000, "how many steps")
	firstSeed  = flag.Uint64("seed", 0, "of the first run; 0: what MOLDAU_SEED says")
	script     = flag.String("script", "", "run the steps in this file instead")
)

// TestJudge compares run after run. The seed of a run repeats it: -seed S -steps 1.
func TestJudge(t *testing.T) {
	if !*sideBySide {
		t.Skip("starts Apache Kafka: run with -kafka")
	}
	jars, why := pair.ClassPath()
	if why != "" {
		t.Skip(why)
	}
	kafka, err := startKafka(t.TempDir(), jars)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := kafka.Stop(); err != nil {
			t.Error(err)
		}
	}()
	used := counts{}
	if *script != "" {
		text, err := os.ReadFile(*script)
		if err != nil {
			t.Fatal(err)
		}
		one(t, kafka, &ours{}, strings.Split(strings.TrimSpace(string(text)), "\n"), used)
		return
	}
	from := *firstSeed
	if from == 0 {
		from = seed.Of(t) % 1_000_000_000
	}
	t.Logf("seeds from %d", from)
	runs, done, failed := 0, 0, 0
	for ; done < *stepCount && failed < 3; from++ {
		n, ok := one(t, kafka, &ours{}, history(from), used)
		if !ok {
			failed++
			t.Logf("that was seed %d", from)
		}
		runs, done = runs+1, done+n
	}
	t.Logf("%d runs, %d steps; rules and answers:%v", runs, done, used)
}

func one(t *testing.T, kafka, moldau side, steps []string, used counts) (done int, ok bool) {
	t.Helper()
	done, bad, err := judge(kafka, moldau, steps, used)
	if err != nil {
		t.Fatal(err)
	}
	if bad != nil {
		t.Errorf("mismatch after\n%v", shorten(kafka, moldau, bad, 10*time.Second))
	}
	return done, bad == nil
}

// TestPlanted sets ours against ours with a fault, which must be noticed and shortened, and without one.
func TestPlanted(t *testing.T) {
	for _, fault := range []string{"", "timeout", "expiry", "tick", "version", "epoch", "loss", "marker", "early", "filter"} {
		var bad *pair.Mismatch
		var err error
		for seed := uint64(1); seed <= 60 && bad == nil; seed++ {
			if _, bad, err = judge(&ours{}, &ours{fault: fault}, history(seed), counts{}); err != nil {
				t.Fatal(err)
			}
		}
		switch {
		case fault == "" && bad != nil:
			t.Errorf("the same against the same:\n%v", bad)
		case fault != "" && bad == nil:
			t.Errorf("nobody noticed that %s is wrong", fault)
		case fault != "":
			short := shorten(&ours{}, &ours{fault: fault}, bad, time.Minute)
			if len(short.Steps) > 12 || len(short.Steps) > len(bad.Steps) {
				t.Errorf("%s: %d steps became %d:\n%v", fault, len(bad.Steps), len(short.Steps), short)
			}
		}
	}
}

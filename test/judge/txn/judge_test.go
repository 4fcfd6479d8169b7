package txn

import (
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/test/judge/pair"
)

// TestJudge compares run after run.
func TestJudge(t *testing.T) {
	kafka := startKafka(t)
	used := pair.Counts{}
	one := func(steps []string) (done int, ok bool) {
		done, bad, err := judge(kafka, &ours{}, steps, used)
		if err != nil {
			t.Fatal(err)
		}
		if bad != nil {
			t.Errorf("mismatch after\n%v", shorten(kafka, &ours{}, bad, pair.ShortenTime))
		}
		return done, bad == nil
	}
	if steps, ok := pair.Script(t); ok {
		one(steps)
	} else {
		pair.Runs(t, seed.Of(t), func(seed uint64) (int, bool) { return one(history(seed)) })
	}
	t.Logf("rules and answers:%s", used.Text(rules, kinds...))
}

// TestPlanted sets ours against ours with a fault, which must be noticed and shortened, and without one.
func TestPlanted(t *testing.T) {
	faults := []string{"timeout", "expiry", "tick", "version", "epoch", "loss", "marker", "early", "filter"}
	pair.Planted(t, faults, 60, func(fault string, seed uint64) (*pair.Mismatch, error) {
		_, bad, err := judge(&ours{}, &ours{fault: fault}, history(seed), pair.Counts{})
		return bad, err
	}, func(fault string, bad *pair.Mismatch) *pair.Mismatch {
		return shorten(&ours{}, &ours{fault: fault}, bad, time.Minute)
	})
}

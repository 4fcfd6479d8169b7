package judge

import (
	"flag"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/test/judge/pair"
)

var only = flag.String("mode", "", "of all runs: classic, consumer, migration, uniform or patterns; else the seed says")

// TestJudge compares run after run.
func TestJudge(t *testing.T) {
	kafka := startKafka(t)
	used := pair.Counts{}
	one := func(steps []string) (done int, ok bool) {
		done, bad, err := judge(kafka, &ours{}, steps, used)
		if err != nil {
			t.Fatal(err)
		}
		if trace = nil; bad != nil {
			t.Errorf("mismatch after\n%v", shorten(kafka, &ours{}, bad, pair.ShortenTime))
		}
		return done, bad == nil
	}
	if steps, ok := pair.Script(t); ok {
		trace = t.Logf
		one(steps)
	} else {
		m, named := modeNamed(*only)
		if !named && *only != "" {
			t.Fatalf("there is no mode %q", *only)
		}
		pair.Runs(t, seed.Of(t), func(seed uint64) (int, bool) {
			if !named {
				m = modeOf(seed)
			}
			done, ok := one(newHistory(m, seed))
			if !ok {
				t.Logf("that was -mode %s", m.name)
			}
			return done, ok
		})
	}
	t.Logf("rules and answers:%s", used.Text(rules, kinds...))
}

// TestPlanted sets ours against ours with a fault, which must be noticed and shortened, and without one.
func TestPlanted(t *testing.T) {
	faults := []string{"session", "delay", "size", "retention", "loss", "interval", "consumer session", "policy", "assignor", "refresh"}
	pair.Planted(t, faults, 100, func(fault string, seed uint64) (*pair.Mismatch, error) {
		_, bad, err := judge(&ours{}, &ours{fault: fault}, newHistory(modeOf(seed), seed), pair.Counts{})
		return bad, err
	}, func(fault string, bad *pair.Mismatch) *pair.Mismatch {
		return shorten(&ours{}, &ours{fault: fault}, bad, time.Minute)
	})
}

// TestRules: what the Java side keeps or skips has a reason here.
func TestRules(t *testing.T) {
	named := regexp.MustCompile(`(?:kept|skip)\("([^"]+)"\)`).FindAllSubmatch(javaSource, -1)
	for _, m := range named {
		if !slices.ContainsFunc(rules, func(r pair.Rule) bool { return r.Name == string(m[1]) }) {
			t.Errorf("nobody says why: %s", m[1])
		}
	}
	if len(named) < 20 {
		t.Errorf("only %d kept differences found", len(named))
	}
}

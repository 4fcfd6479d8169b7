package sim

import (
	"errors"
	"testing"

	"github.com/moldau-io/moldau/internal/base/seed"
)

// TestBugs proves that the simulation can fail: each mistake an owner can make is found within so many runs.
func TestBugs(t *testing.T) {
	base := seed.Of(t)
	tests := []struct {
		name  string
		bugs  Bugs
		shape func(*Options) // what makes the mistake show soon
	}{
		{"the vote is not persisted", Bugs{ForgetVotes: true}, hasty},
		{"commits before fsync", Bugs{NoSync: true}, nil},
		{"a majority without a record of the epoch", Bugs{CommitOldEpochs: true}, nil},
		{"fetches without comparing the logs", Bugs{Agreeable: true}, nil},
		{"no truncation", Bugs{NoTruncate: true}, nil},
		{"appends whatever comes", Bugs{AppendAnything: true}, nil},
		{"elections do not compare the logs", Bugs{VoteBlindly: true}, nil},
		{"a lost quorum-state is trusted", Bugs{TrustTorn: true}, func(o *Options) { o.Chaos.Torn = true; hasty(o) }},
		{"answers before the commit", Bugs{AnswerEarly: true}, nil},
		{"a snapshot of more than is committed", Bugs{SnapshotAhead: true}, nil},
		{"the log stays beside the snapshot that was loaded", Bugs{KeepLog: true}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for n := range uint64(3000) {
				o := harsh(base + n)
				o.Voters = 3 + 2*int(n%2)
				o.Bugs = tt.bugs
				if tt.shape != nil {
					tt.shape(&o)
				}
				s, err := run(o, 4000)
				var v *Violation
				if errors.As(err, &v) {
					t.Logf("run %d, step %d: %v", n, s.Steps(), v)
					return
				}
			}
			t.Error("not found")
		})
	}
}

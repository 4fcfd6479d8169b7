package pair

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestShorten: what a mismatch needs stays, and nothing else.
func TestShorten(t *testing.T) {
	judge := func(steps []string) *Mismatch {
		if a := slices.Index(steps, "a"); a >= 0 {
			if b := slices.Index(steps[a:], "b"); b >= 0 {
				return &Mismatch{Steps: steps[:a+b+1], Line: "b", Theirs: []string{"1"}, Ours: []string{"2"}}
			}
		}
		return nil
	}
	steps := slices.Concat(slices.Repeat([]string{"x", "y"}, 50), []string{"a"}, slices.Repeat([]string{"z"}, 30), []string{"b", "c"})
	bad := Shorten(judge(steps), time.Minute, judge)
	if got := strings.Join(bad.Steps, " "); got != "x a b" && got != "a b" {
		t.Errorf("shortened to %q", got)
	}
	if text := bad.String(); !strings.HasSuffix(text, "the last was\nb\n---- only Kafka\n1\n---- only ours\n2") {
		t.Errorf("printed as %q", text)
	}
	if long := Shorten(judge(steps), -time.Second, judge); len(long.Steps) != 132 {
		t.Errorf("without time %d steps are left", len(long.Steps))
	}
}

package group

import (
	"errors"
	"strings"
	"testing"
)

func TestPatternSize(t *testing.T) {
	for _, p := range []string{"orders.*", "a{1000}", "(ab|cd|[x-z]+){3,7}", "(?i)Orders", strings.Repeat("a|", 1000) + "b"} {
		if _, states, err := compilePattern(p); err != nil || states < 1 {
			t.Errorf("%.30s: %d states, %v", p, states, err)
		}
	}
	for _, p := range []string{"(a{1000}){30}", "((a{100}){10}){99}", strings.Repeat("a{1000}", 30)} {
		if _, _, err := compilePattern(p); !errors.Is(err, errStates) && err == nil {
			t.Errorf("%.30s is let in", p)
		}
	}
	re, _, err := compilePattern("a|ab")
	if err != nil || !re.MatchString("ab") || re.MatchString("abc") || re.MatchString("xa") {
		t.Errorf("a pattern must fit the whole name: %v", err)
	}
	if re, _, err = compilePattern(`\Qa.b`); err != nil || !re.MatchString("a.b") || re.MatchString("axb") {
		t.Errorf("a quotation may be open at the end: %v", err)
	}
	if _, _, err = compilePattern("a)(b"); err == nil {
		t.Error("a pattern that is invalid by itself is let in")
	}
}

package txn

import (
	"slices"
	"strings"
	"testing"
)

func TestFilter(t *testing.T) {
	all := map[string]*Transaction{
		"o-0": {ProducerID: 0, State: Ongoing, StartMs: 1000},
		"o-1": {ProducerID: 1, State: Ongoing, StartMs: 1001},
		"pc":  {ProducerID: 2, State: PrepareCommit, StartMs: 2000},
		"ca":  {ProducerID: 3, State: CompleteAbort, StartMs: 3000},
		"e":   {ProducerID: 1, State: Empty, StartMs: -1},
	}
	for _, c := range []struct {
		what      string
		producers []int64
		states    []string
		age       int64
		pattern   string
		want      string
	}{
		{what: "no filter", age: -1, want: "ca e o-0 o-1 pc"},
		{what: "age 0", age: 0, want: "e o-0 o-1 pc"}, // it is 3000
		{what: "just that age", age: 1000, want: "e o-0 o-1"},
		{what: "just the age of one", age: 1999, want: "e o-0"},
		{what: "great age", age: 2000, want: "e"},
		{what: "negative", age: -7, want: "ca e o-0 o-1 pc"},
		{what: "states", age: -1, states: []string{"Ongoing", "Nonsense", "CompleteAbort"}, want: "ca o-0 o-1"},
		{what: "unknown states", age: -1, states: []string{"Nonsense"}},
		{what: "states nobody is in", age: -1, states: []string{"Dead", "PrepareEpochFence"}},
		{what: "producers", age: -1, producers: []int64{1, 2, 9}, want: "e o-1 pc"},
		{what: "all of them", age: 0, producers: []int64{0, 1}, states: []string{"Ongoing"}, pattern: ".-1", want: "o-1"},
		{what: "a pattern", age: -1, pattern: "o-.", want: "o-0 o-1"},
		{what: "half a pattern", age: -1, pattern: "o"},
	} {
		f := Filter{ProducerIDs: c.producers, States: c.states, MinAgeMs: c.age}
		if c.pattern != "" {
			f.Pattern, _ = Pattern(c.pattern)
		}
		var got []string
		for name, x := range all {
			if f.Passes(name, x, 3000) {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.what, s, c.want)
		}
	}
}

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		valid, match  bool
	}{
		{"a.*", "abc", true, true},
		{"b", "abc", true, false},
		{"a|abc", "abc", true, true},
		{"(?i)ABC", "abc", true, true},
		{`\Qa.c`, "a.c", true, true}, // quoted to its end
		{`\Qa.c`, "abc", true, false},
		{"a)(b", "ab", false, false},
		{"(", "", false, false},
		{"(?=a)", "a", false, false},
		{"(?m)^a$", "b\na", true, false},
		{"a\\", "a", false, false},
	} {
		re, err := Pattern(c.pattern)
		if (err == nil) != c.valid {
			t.Errorf("%q: %v", c.pattern, err)
		} else if err == nil && re.MatchString(c.name) != c.match {
			t.Errorf("%q matches %q: %v", c.pattern, c.name, !c.match)
		}
	}
}

package pair

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Request is a step whose clients are known: a word, then name=value pairs. A plain "-" is null, a pair of single quotes is empty.
type Request struct {
	Cmd  string
	Args map[string]string
}

// Get is nil for null, and for what is not there.
func (q Request) Get(name string) *string {
	switch v, ok := q.Args[name]; {
	case !ok || v == "-":
		return nil
	case v == "''":
		return new(string)
	default:
		return &v
	}
}

// Text takes null for empty.
func (q Request) Text(name string) string {
	if p := q.Get(name); p != nil {
		return *p
	}
	return ""
}

// Num panics if it is no number: steps are the judge's own.
func (q Request) Num(name string) int {
	n, err := strconv.Atoi(q.Args[name])
	if err != nil {
		panic(fmt.Sprintf("%s: %s is no number", q.Cmd, name))
	}
	return n
}

// List splits at commas; null is nil.
func (q Request) List(name string) []string {
	switch p := q.Get(name); {
	case p == nil:
		return nil
	case *p == "":
		return []string{}
	default:
		return strings.Split(*p, ",")
	}
}

// Rule is a difference that is kept on purpose.
type Rule struct{ Name, Why string }

// Counts says how often what happened: a rule was used, by its name, or something else, by a kind, a blank and more.
type Counts map[string]int

// Text prints all rules, and what else is of the kinds.
func (c Counts) Text(rules []Rule, kinds ...string) string {
	var b strings.Builder
	for _, r := range rules {
		fmt.Fprintf(&b, "\n  %-24s%6d  %s", r.Name, c[r.Name], r.Why)
	}
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if kind, _, more := strings.Cut(name, " "); more && slices.Contains(kinds, kind) {
			fmt.Fprintf(&b, "\n  %-48s%6d", name, c[name])
		}
	}
	return b.String()
}

// Minus returns what is in a more often than in b.
func Minus(a, b []string) (res []string) {
	n := map[string]int{}
	for _, l := range b {
		n[l]++
	}
	for _, l := range a {
		if n[l]--; n[l] < 0 {
			res = append(res, l)
		}
	}
	return res
}

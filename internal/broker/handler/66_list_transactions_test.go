package handler

import "testing"

func TestWholePattern(t *testing.T) {
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
		re, err := wholePattern(c.pattern)
		if (err == nil) != c.valid {
			t.Errorf("%q: %v", c.pattern, err)
		} else if err == nil && re.MatchString(c.name) != c.match {
			t.Errorf("%q matches %q: %v", c.pattern, c.name, !c.match)
		}
	}
}

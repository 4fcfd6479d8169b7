package conf

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Rule bounds the values of a key. Check returns an *Error in Kafka's words; String is the short form for documentation.
type Rule interface {
	Check(name string, v Value) error
	String() string
}

// bounds are kept as text, for the messages, and as numbers.
type bounds struct {
	min, max       string // empty: none
	minNum, maxNum float64
}

func atLeast(min int64) Rule {
	return bounds{min: strconv.FormatInt(min, 10), minNum: float64(min)}
}

func between[N int | float64](min, max N) Rule {
	return bounds{min: boundText(min), max: boundText(max), minNum: float64(min), maxNum: float64(max)}
}

func boundText[N int | float64](n N) string {
	switch n := any(n).(type) {
	case float64:
		return javaDouble(n)
	case int:
		return strconv.Itoa(n)
	}
	return ""
}

func (b bounds) Check(name string, v Value) error {
	if v.Null {
		return invalid(name, "null", "Value must be non-null")
	}
	if b.min != "" && v.number() < b.minNum {
		return invalid(name, v.Text(), "Value must be at least "+b.min)
	}
	if b.max != "" && v.number() > b.maxNum {
		return invalid(name, v.Text(), "Value must be no more than "+b.max)
	}
	return nil
}

func (b bounds) String() string {
	if b.max == "" {
		return "[" + b.min + ",...]"
	}
	return "[" + b.min + ",...," + b.max + "]"
}

// oneOf allows the listed strings only.
type oneOf []string

func (o oneOf) Check(name string, v Value) error {
	if !v.Null && slices.Contains(o, v.str) {
		return nil
	}
	return invalid(name, v.Text(), "String must be one of: "+strings.Join(o, ", "))
}

func (o oneOf) String() string { return "[" + strings.Join(o, ", ") + "]" }

// oneOfAnyCase is oneOf without regard to case.
type oneOfAnyCase []string

func (o oneOfAnyCase) Check(name string, v Value) error {
	if !v.Null && slices.ContainsFunc(o, func(s string) bool { return strings.EqualFold(s, v.str) }) {
		return nil
	}
	return invalid(name, v.Text(), "String must be one of (case insensitive): "+strings.Join(o, ", "))
}

func (o oneOfAnyCase) String() string { return "(case insensitive) " + oneOf(o).String() }

// listRule refuses repeated and empty elements, and, where words are given, any other word.
type listRule struct {
	words   oneOf
	emptyOK bool
	nullOK  bool
}

func distinct() Rule              { return listRule{emptyOK: true} }
func distinctOrNull() Rule        { return listRule{emptyOK: true, nullOK: true} }
func someDistinct() Rule          { return listRule{} }
func someDistinctOrNull() Rule    { return listRule{nullOK: true} }
func listOf(words ...string) Rule { return listRule{words: words, emptyOK: true} }
func someOf(words ...string) Rule { return listRule{words: words} }

func (l listRule) Check(name string, v Value) error {
	switch {
	case v.Null && l.nullOK:
		return nil
	case v.Null:
		return failf("Configuration '%s' values must not be null.", name)
	case len(v.list) == 0 && !l.emptyOK:
		words := "any non-empty value"
		if len(l.words) > 0 {
			words = l.words.String()
		}
		return failf("Configuration '%s' must not be empty. Valid values include: %s", name, words)
	}
	seen := make(map[string]bool, len(v.list))
	for _, s := range v.list {
		if seen[s] {
			return failf("Configuration '%s' values must not be duplicated.", name)
		}
		seen[s] = true
	}
	for _, s := range v.list {
		if s == "" {
			return failf("Configuration '%s' values must not be empty.", name)
		}
		if len(l.words) > 0 {
			if err := l.words.Check(name, Value{Type: String, str: s}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l listRule) String() string {
	if len(l.words) > 0 {
		return l.words.String()
	}
	return "distinct values"
}

// ruleFunc is a rule of one key.
type ruleFunc struct {
	text  string
	check func(name string, v Value) error
}

func (r ruleFunc) Check(name string, v Value) error { return r.check(name, v) }
func (r ruleFunc) String() string                   { return r.text }

func nonEmpty() Rule {
	return ruleFunc{"non-empty string", func(name string, v Value) error {
		if !v.Null && v.str == "" {
			return invalid(name, "", "String must be non-empty")
		}
		return nil
	}}
}

func nonNull() Rule {
	return ruleFunc{"non-null string", func(name string, v Value) error {
		if v.Null {
			return invalid(name, "null", "entry must be non null")
		}
		return nil
	}}
}

func gzipLevel() Rule {
	return ruleFunc{"[1,...,9] or -1", func(name string, v Value) error {
		if v.Null || v.num == -1 || v.num >= 1 && v.num <= 9 {
			return nil
		}
		return invalid(name, v.Text(), "Value must be between 1 and 9 or equal to -1")
	}}
}

var throttledReplica = regexp.MustCompile(`^([0-9]+:[0-9]+)?$`)

func throttledReplicas() Rule {
	return ruleFunc{"[partitionId]:[brokerId],[partitionId]:[brokerId],...", func(name string, v Value) error {
		whole := ""
		ok := true
		for _, s := range v.list {
			s = javaTrim(s)
			whole += s
			ok = ok && throttledReplica.MatchString(s)
		}
		if ok || whole == "*" {
			return nil
		}
		return invalid(name, v.shown(), name+
			" must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...")
	}}
}

var isoDuration = regexp.MustCompile(`^(?i:[-+]?P(?:[-+]?\d+D)?(T(?:[-+]?\d+H)?(?:[-+]?\d+M)?(?:[-+]?\d+(?:\.\d{0,9})?S)?)?)$`)

func shareOffsetReset() Rule {
	return ruleFunc{"[latest, earliest, by_duration:PnDTnHnMn.nS]", func(name string, v Value) error {
		s := strings.ToLower(v.str)
		d, isDuration := strings.CutPrefix(s, "by_duration:")
		switch {
		case !v.Null && (s == "earliest" || s == "latest"):
			return nil
		case !v.Null && isDuration && isoDuration.MatchString(d) && strings.ContainsAny(d, "0123456789") &&
			!strings.HasSuffix(d, "t") && !strings.Contains(d, "-"):
			return nil
		}
		return invalid(name, v.Text(), "Invalid value `"+v.Text()+"` for configuration "+name+
			". The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'.")
	}}
}

func quorumVoters() Rule {
	return ruleFunc{"{id}@{host}:{port},...", func(name string, v Value) error {
		if v.Null {
			return failf("Invalid value null for configuration %s", name)
		}
		_, err := parseVoters(v.list)
		return err
	}}
}

func bootstrapServers() Rule {
	return ruleFunc{"{host}:{port},...", func(name string, v Value) error {
		if v.Null {
			return failf("Invalid value null for configuration %s", name)
		}
		_, err := parseBootstrap(v.list)
		return err
	}}
}

package conf

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Forever is what a duration of Long.MAX_VALUE milliseconds, or any longer than time.Duration can hold, becomes.
const Forever = time.Duration(math.MaxInt64)

// Value is a parsed value of a key: null, or one of the key's type.
type Value struct {
	Type Type
	Null bool
	num  int64 // Boolean, Int, Short, Long
	dbl  float64
	str  string // String, Class, Password
	list []string
}

// Error is an invalid configuration, in the words Kafka uses for it. Over the wire it is INVALID_CONFIG, or INVALID_REQUEST
// where Request is set.
type Error struct {
	Message string
	Request bool
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

func invalid(name, value, rule string) error {
	return &Error{Message: fmt.Sprintf("Invalid value %s for configuration %s: %s", value, name, rule)}
}

func requestf(format string, args ...any) error {
	return &Error{Message: fmt.Sprintf(format, args...), Request: true}
}

func failf(format string, args ...any) error { return &Error{Message: fmt.Sprintf(format, args...)} }

// Parse reads text as the key's type and checks the key's rule.
func (k *Key) Parse(text string) (Value, error) {
	v, err := parseAs(k.Name, text, k.Type)
	if err != nil {
		return v, err
	}
	if _, ok := k.Rule.(listRule); ok {
		v.list = withoutRepeats(v.list)
	}
	return v, k.check(v)
}

// checkDynamic checks a value for a running broker, in whose lists Kafka forgives no element that is there twice.
func (k *Key) checkDynamic(text string) error {
	v, err := parseAs(k.Name, text, k.Type)
	if err != nil {
		return err
	}
	return k.check(v)
}

func (k *Key) check(v Value) error {
	if k.Rule == nil {
		return nil
	}
	return k.Rule.Check(k.Name, v)
}

// withoutRepeats keeps the first of equal elements, as Kafka does since KIP-1161.
func withoutRepeats(list []string) []string {
	out := list[:0]
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// DefaultValue returns the parsed default; a key without default yields null.
func (k *Key) DefaultValue() Value {
	if k.Null || k.NoDefault {
		return Value{Type: k.Type, Null: true}
	}
	v, err := parseAs(k.Name, k.Default, k.Type)
	if err != nil {
		panic("conf: bad default in the key table: " + err.Error())
	}
	return v
}

func parseAs(name, text string, t Type) (Value, error) {
	v := Value{Type: t}
	trimmed := javaTrim(text)
	switch t {
	case Boolean:
		switch {
		case strings.EqualFold(trimmed, "true"):
			v.num = 1
		case strings.EqualFold(trimmed, "false"):
		default:
			return v, invalid(name, text, "Expected value to be either true or false")
		}
	case Int, Short, Long:
		bits := map[Type]int{Int: 32, Short: 16, Long: 64}[t]
		n, err := strconv.ParseInt(trimmed, 10, bits)
		if err != nil {
			return v, invalid(name, text, "Not a number of type "+t.String())
		}
		v.num = n
	case Double:
		f, ok := parseJavaDouble(trimmed)
		if !ok {
			return v, invalid(name, text, "Not a number of type "+t.String())
		}
		v.dbl = f
	case List:
		v.list = splitList(trimmed)
	case Class:
		v.str = trimmed
	default:
		v.str = trimmed
	}
	return v, nil
}

// javaTrim drops what String.trim drops: all characters up to the space.
func javaTrim(s string) string { return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' }) }

// splitList splits at commas and drops white space around each, as ConfigDef does; only the empty text is the empty list.
func splitList(trimmed string) []string {
	if trimmed == "" {
		return []string{}
	}
	parts := strings.Split(trimmed, ",")
	for i, p := range parts {
		if i > 0 {
			p = strings.TrimLeft(p, " \t\n\x0b\f\r")
		}
		if i < len(parts)-1 {
			p = strings.TrimRight(p, " \t\n\x0b\f\r")
		}
		parts[i] = p
	}
	return parts
}

// parseJavaDouble accepts what Double.parseDouble accepts of decimal numbers: no underscores, no "inf", optional d or f suffix.
func parseJavaDouble(s string) (float64, bool) {
	body := strings.TrimRight(s, "dDfF")
	if len(s)-len(body) > 1 || body == "" {
		return 0, false
	}
	switch strings.TrimLeft(s, "+-") {
	case "NaN", "Infinity":
		f, err := strconv.ParseFloat(s, 64)
		return f, err == nil
	}
	for _, c := range body {
		if (c < '0' || c > '9') && !strings.ContainsRune("+-.eE", c) {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(body, 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// Text renders the value as Kafka shows it; a null value renders as "null".
func (v Value) Text() string {
	if v.Null {
		return "null"
	}
	switch v.Type {
	case Boolean:
		return strconv.FormatBool(v.num != 0)
	case Int, Short, Long:
		return strconv.FormatInt(v.num, 10)
	case Double:
		return javaDouble(v.dbl)
	case List:
		return strings.Join(v.list, ",")
	case Password:
		return "[hidden]"
	}
	return v.str
}

// shown renders the value as an exception text does: a list in brackets.
func (v Value) shown() string {
	if v.Type == List && !v.Null {
		return "[" + strings.Join(v.list, ", ") + "]"
	}
	return v.Text()
}

// javaDouble formats as Double.toString: plain between 1e-3 and 1e7, otherwise with an E.
func javaDouble(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case f == 0:
		if math.Signbit(f) {
			return "-0.0"
		}
		return "0.0"
	}
	if a := math.Abs(f); a >= 1e-3 && a < 1e7 {
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, _ := strconv.Atoi(exponent)
	return mantissa + "E" + strconv.Itoa(n)
}

// number returns the value for a bound check.
func (v Value) number() float64 {
	if v.Type == Double {
		return v.dbl
	}
	return float64(v.num)
}

// millis converts milliseconds to a duration, saturating at Forever.
func millis(ms int64) time.Duration {
	if ms > math.MaxInt64/int64(time.Millisecond) {
		return Forever
	}
	if ms < math.MinInt64/int64(time.Millisecond) {
		return math.MinInt64
	}
	return time.Duration(ms) * time.Millisecond
}

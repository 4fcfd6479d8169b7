package conf

import (
	"strings"
	"testing"
)

// TestTable holds the table to its own rules, and to the number of keys Kafka 4.4.0 has, and one more.
func TestTable(t *testing.T) {
	for _, c := range []struct {
		scope            Scope
		public, internal int
	}{{BrokerScope, 350, 29 + 1}, {TopicScope, 37, 1}, {GroupScope, 21, 6}, {ClientMetricsScope, 3, 0}} {
		public, internal := 0, 0
		for _, k := range Keys(c.scope) {
			switch {
			case k.DynamicOnly:
			case k.Internal:
				internal++
			default:
				public++
			}
			if k.Doc == "" || !strings.HasSuffix(k.Doc, ".") {
				t.Errorf("%s %s has no sentence: %q", k.Scope, k.Name, k.Doc)
			}
			if k.NoDefault != (k.Name == "process.roles" || k.Name == "node.id" || k.Name == "controller.listener.names") {
				t.Errorf("%s: required %v", k.Name, k.NoDefault)
			}
			if !k.NoDefault && !k.Null {
				if v, err := k.Parse(k.Default); err != nil || v.Text() != k.Default && k.Type != Password {
					t.Errorf("%s %s: default %q parses as %s, %v", k.Scope, k.Name, k.Default, v.Text(), err)
				}
			}
			if k.Rule != nil && k.Rule.String() == "" {
				t.Errorf("%s has a rule without text", k.Name)
			}
			for _, s := range k.Synonyms {
				b, ok := Lookup(BrokerScope, s.Name)
				if !ok {
					t.Errorf("%s: synonym %s is no broker key", k.Name, s.Name)
					continue
				}
				if k.Scope == TopicScope && s.Factor == 1 && b.Mode != ClusterWide && s.Name != "log.flush.scheduler.interval.ms" {
					t.Errorf("%s: synonym %s is %s", k.Name, s.Name, b.Mode)
				}
			}
			if (k.Reason() == "") != (k.State == Done) {
				t.Errorf("%s %s is %s: reason %q", k.Scope, k.Name, k.State, k.Reason())
			}
			if k.State == Refused && k.Scope != BrokerScope {
				t.Errorf("%s is refused, but only properties are", k.Name)
			}
		}
		if public != c.public || internal != c.internal {
			t.Errorf("%s: %d public and %d internal keys, want %d and %d", c.scope, public, internal, c.public, c.internal)
		}
	}
}

func TestParseValues(t *testing.T) {
	for _, c := range []struct{ key, text, want string }{
		{"preallocate", " TRUE ", "true"},
		{"preallocate", "1", "Invalid value 1 for configuration preallocate: Expected value to be either true or false"},
		{"segment.bytes", "+1048576", "1048576"},
		{"segment.bytes", "0x100000", "Invalid value 0x100000 for configuration segment.bytes: Not a number of type INT"},
		{"segment.bytes", "1_048_576", "Invalid value 1_048_576 for configuration segment.bytes: Not a number of type INT"},
		{"segment.bytes", "2147483648", "Invalid value 2147483648 for configuration segment.bytes: Not a number of type INT"},
		{"retention.ms", "9223372036854775808", "Invalid value 9223372036854775808 for configuration retention.ms: Not a number of type LONG"},
		{"min.cleanable.dirty.ratio", ".5d", "0.5"},
		{"min.cleanable.dirty.ratio", "1e-4", "1.0E-4"},
		{"min.cleanable.dirty.ratio", "1", "1.0"},
		{"min.cleanable.dirty.ratio", "inf", "Invalid value inf for configuration min.cleanable.dirty.ratio: Not a number of type DOUBLE"},
		{"min.cleanable.dirty.ratio", "Infinity", "Invalid value Infinity for configuration min.cleanable.dirty.ratio: Value must be no more than 1"},
		{"cleanup.policy", " compact , delete,compact ", "compact,delete"},
		{"cleanup.policy", "", ""},
		{"cleanup.policy", "compact,", "Configuration 'cleanup.policy' values must not be empty."},
		{"compression.type", " gzip", "gzip"},
	} {
		k, _ := Lookup(TopicScope, c.key)
		v, err := k.Parse(c.text)
		got := v.Text()
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s=%q: %s, want %s", c.key, c.text, got, c.want)
		}
	}
}

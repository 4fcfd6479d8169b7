package txn

import (
	"regexp"
	"regexp/syntax"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Describe returns the transaction as of the high watermark, or nil. Partitions of a prepared transaction that have their
// marker are left out, as in Apache Kafka.
func (s *Shard) Describe(name string) *Transaction {
	t := s.committed(name)
	if t == nil {
		return nil
	}
	if !t.State.preparing() {
		return t
	}
	var left map[id.TopicPartition]struct{} // empty if a record of its end is under way, whose commit would take the place of t
	if m := s.marking[name]; m != nil && m.of == t {
		left = m.left
	}
	if len(left) == len(t.Partitions) {
		return t
	}
	open := *t
	open.Partitions = make([]id.TopicPartition, 0, len(left))
	for _, tp := range t.Partitions {
		if _, ok := left[tp]; ok {
			open.Partitions = append(open.Partitions, tp)
		}
	}
	return &open
}

// List calls visit with each transaction as of the high watermark, in no order.
func (s *Shard) List(visit func(name string, t *Transaction)) {
	for name, list := range s.before {
		if list[0] != nil {
			visit(name, list[0])
		}
	}
	for name, t := range s.txns {
		if _, open := s.before[name]; !open {
			visit(name, t)
		}
	}
}

// Filter says which transactions ListTransactions lists: by state and producer id (KIP-664), by age (KIP-994), by pattern (KIP-1152).
// What is empty lets all pass.
type Filter struct {
	States      []string
	ProducerIDs []int64
	// MinAgeMs is what a transaction must be older than, to the millisecond; negative: nothing. One that never began is of all ages.
	MinAgeMs int64
	Pattern  *regexp.Regexp // from Pattern, or nil
}

// Passes reports whether a transaction passes the whole filter.
func (f *Filter) Passes(name string, t *Transaction, nowMs int64) bool {
	switch {
	case len(f.ProducerIDs) > 0 && !slices.Contains(f.ProducerIDs, int64(t.ProducerID)):
	case len(f.States) > 0 && !slices.Contains(f.States, t.State.String()):
	case f.MinAgeMs >= 0 && nowMs-t.StartMs <= f.MinAgeMs:
	case f.Pattern != nil && !f.Pattern.MatchString(name):
	default:
		return true
	}
	return false
}

// Pattern compiles a pattern that has to match a transactional id from its beginning to its end. It is RE2, here as in Apache Kafka.
func Pattern(pattern string) (*regexp.Regexp, error) {
	// What is invalid by itself must not become valid by what is put around it, nor the other way round: "a)(b" and "\Qa".
	alone, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + alone.String() + `)\z`)
}

// Unwritten is how many transactions have all their markers and wait for their end to be written again, because that has failed.
func (s *Shard) Unwritten() int {
	n := 0
	for _, m := range s.marking {
		if len(m.left) == 0 {
			n++
		}
	}
	return n
}

package txn

import "github.com/moldau-io/moldau/internal/base/id"

// Describe returns the transaction as of the high watermark, or nil. Partitions of a prepared transaction that have their
// marker are left out, as in Apache Kafka.
func (s *Shard) Describe(name string) *Transaction {
	t := s.committed(name)
	if t == nil {
		return nil
	}
	m := s.marking[name]
	if m == nil || m.of != t || len(m.left) == len(t.Partitions) {
		return t
	}
	open := *t
	open.Partitions = make([]id.TopicPartition, 0, len(m.left))
	for _, tp := range t.Partitions {
		if _, ok := m.left[tp]; ok {
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

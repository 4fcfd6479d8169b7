package group

import (
	"maps"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
)

// CompleteTransaction writes the marker of a transaction: the producer's pending offsets become committed, or vanish. The reply
// is wire.ErrNone.
func (s *Shard) CompleteTransaction(t Turn, m shard.Marker) shard.Result {
	s.begin(t.Now)
	m.Change = endChange{m.ID, m.Commit}
	s.res.Marker = &m
	s.res.Reply = wire.ErrNone
	return s.end()
}

// pendingChange sets a pending offset of a transaction.
type pendingChange struct {
	commitChange
	producer id.ProducerID
}

func (c pendingChange) apply(s *Shard, at id.Offset) {
	c.commit.recordOffset = at
	s.ensureGroup(at, c.group)
	before := s.txns.get(c.producer, c.group, c.tp)
	s.txns.put(c.producer, c.group, c.tp, c.commit)
	s.noteBare(at, func() { s.txns.set(c.producer, c.group, c.tp, before) })
}

// endChange ends a transaction.
type endChange struct {
	producer id.ProducerID
	commit   bool
}

func (c endChange) apply(s *Shard, at id.Offset) {
	table := s.txns.end(c.producer)
	if table == nil {
		return
	}
	s.noteBare(at, func() {
		for group := range table {
			for _, tp := range table.partitions(group) {
				s.txns.put(c.producer, group, tp, table.get(group, tp))
			}
		}
	})
	if !c.commit {
		return
	}
	for _, group := range slices.Sorted(maps.Keys(table)) {
		for _, tp := range table.partitions(group) {
			pending := table.get(group, tp)
			// The later record wins, whichever kind it is: compaction may have removed the earlier one.
			if have := s.offsets.get(group, tp); have == nil || pending.recordOffset > have.recordOffset {
				s.ensureGroup(at, group) // a log may have the group's tombstone and none of what was pending
				s.setCommit(at, group, tp, pending)
			}
		}
	}
}

package group

import (
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// sweep writes tombstones for expired offsets, and for groups that are empty and have none left.
func (s *Shard) sweep() {
	for _, name := range s.names() {
		e := s.groups[name]
		if e.modern != nil && e.modern.kind == kindShare {
			continue // their offsets live elsewhere
		}
		if s.expireOffsets(name, e) && e.empty() {
			s.buryGroup(name, e)
		}
	}
}

// expireOffsets returns whether the group has no offset left.
func (s *Shard) expireOffsets(name string, e *entry) bool {
	if s.offsets[name] == nil {
		return s.txns.counts[name] == nil
	}
	since, ok := expiryBase(e)
	if !ok {
		return false
	}
	all := true
	for _, tp := range s.offsets.partitions(name) {
		c := s.offsets.get(name, tp)
		expired := !s.readsTopic(e, tp.topic) && !s.txns.has(name, tp)
		if expired && c.ExpireMs != -1 {
			expired = s.now.UnixMilli() >= c.ExpireMs
		} else if expired {
			expired = time.Duration(s.now.UnixMilli()-since(c))*time.Millisecond >= s.cfg.OffsetsRetention
		}
		if expired {
			s.count(ExpiredOffsets, 1)
			s.append(commitRecord(name, tp, nil))
		} else {
			all = false
		}
	}
	return all && s.txns.counts[name] == nil
}

// readsTopic says whether members of the group may still read the topic.
func (s *Shard) readsTopic(e *entry, topic string) bool {
	switch {
	case e.classic != nil:
		return e.classic.subscribed(topic)
	case e.consumer != nil:
		return e.consumer.subscribed(topic)
	}
	return !e.empty()
}

// expiryBase returns since when the retention of an offset runs (KIP-211); ok is false if nothing expires now.
func expiryBase(e *entry) (since func(*Commit) int64, ok bool) {
	sinceCommit := func(c *Commit) int64 { return c.TimestampMs }
	g := e.classic
	switch {
	case g == nil, g.protocolType == "":
		return sinceCommit, true
	case g.state == Empty && g.stateSinceMs == -1:
		return sinceCommit, true
	case g.state == Empty:
		return func(*Commit) int64 { return g.stateSinceMs }, true
	case g.state == Stable && g.topics != nil: // is of consumers
		return sinceCommit, true
	}
	return nil, false
}

// buryGroup writes the tombstones of the group itself.
func (s *Shard) buryGroup(name string, e *entry) {
	switch {
	case e.modern != nil:
		s.buryModern(e.modern)
		return
	case e.consumer != nil:
		s.buryConsumer(e.consumer)
		return
	}
	s.append(groupTombstone(name))
}

// DeleteGroups decides a DeleteGroups request for the groups of this shard. The reply is a []api.DeleteGroupsResponseResult.
func (s *Shard) DeleteGroups(t Turn, names []string) shard.Result {
	s.begin(t.Now)
	results := make([]api.DeleteGroupsResponseResult, 0, len(names))
	done := make(map[string]bool)
	for _, name := range names {
		e := s.groups[name]
		code := wire.ErrNone
		switch {
		case e == nil || done[name]:
			code = wire.ErrGroupIDNotFound
		case !e.empty():
			code = wire.ErrNonEmptyGroup
		case e.modern != nil && e.modern.kind == kindShare:
			// Its state is in another topic that nobody here can clean up.
			code = wire.ErrUnsupportedVersion
		default:
			done[name] = true
			for _, tp := range s.allPartitions(name) {
				s.append(commitRecord(name, tp, nil))
			}
			s.buryGroup(name, e)
		}
		results = append(results, api.DeleteGroupsResponseResult{GroupID: name, ErrorCode: code})
	}
	s.res.Atomic = true
	s.res.Reply = results
	return s.end()
}

// allPartitions returns the partitions with an offset, of a transaction or not.
func (s *Shard) allPartitions(name string) []topicPartition {
	all := append(s.offsets.partitions(name), s.txns.partitions(name)...)
	slices.SortFunc(all, compareTP)
	return slices.Compact(all)
}

// DeletedTopic is a topic that is gone from the cluster.
type DeletedTopic struct {
	Name string
	ID   id.UUID
}

// TopicsDeleted removes the offsets of topics that are gone. A commit that names another topic id belongs to a later topic of
// the same name and stays.
func (s *Shard) TopicsDeleted(now time.Time, topics []DeletedTopic) shard.Result {
	s.begin(now)
	// By their offsets, not by the groups: a log may have offsets whose group is gone.
	names := append(sortedKeys(s.offsets), sortedKeys(s.txns.counts)...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		for _, tp := range s.allPartitions(name) {
			if slices.ContainsFunc(topics, func(d DeletedTopic) bool { return d.Name == tp.topic && s.mentions(name, tp, d.ID) }) {
				s.append(commitRecord(name, tp, nil))
			}
		}
	}
	return s.end()
}

func (s *Shard) mentions(name string, tp topicPartition, topic id.UUID) bool {
	of := func(c *Commit) bool { return c != nil && (c.TopicID.IsZero() || c.TopicID == topic) }
	if of(s.offsets.get(name, tp)) {
		return true
	}
	for _, table := range s.txns.byProducer {
		if of(table.get(name, tp)) {
			return true
		}
	}
	return false
}

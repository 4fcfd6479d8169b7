package group

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/assignor"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Types of the record keys of consumer groups.
const (
	typeConsumerGroup     int16 = 3
	typeConsumerMetadata  int16 = 4
	typeConsumerMember    int16 = 5
	typeConsumerTarget    int16 = 6
	typeConsumerTargetOf  int16 = 7
	typeConsumerCurrent   int16 = 8
	typeConsumerRegex     int16 = 16
	noTargetEpoch         int32 = -1
	consumerRecordVersion int16 = 0
)

// consumerChange is what one record does to a consumer group.
type consumerChange struct {
	group string
	// makes says that the record makes the group if there is none: every value does, no tombstone.
	makes bool
	// on changes the group; it returns true if the group is gone.
	on func(g *consumerGroup) (gone bool)
}

func (c consumerChange) apply(s *Shard, at id.Offset) {
	e := s.groups[c.group]
	var g *consumerGroup
	switch {
	case e != nil && e.consumer != nil:
		g = e.consumer
		if g.turn == s.turn || s.final(at) {
			break // nobody else sees this version
		}
		g = g.clone()
		g.turn = s.turn
		s.setGroup(at, c.group, &entry{consumer: g})
	case !c.makes, e != nil && (e.classic == nil || !e.classic.isSimple()):
		return // a tombstone for nothing, or a rest of what another kind of group has replaced
	default:
		g = newConsumerGroup(c.group)
		g.turn = s.turn
		s.setGroup(at, c.group, &entry{consumer: g})
	}
	if c.on(g) {
		s.setGroup(at, c.group, nil)
	}
}

func consumerRecord(group string, key logrec.Key, value logrec.Value, on func(g *consumerGroup) bool) shard.Record {
	r := shard.Record{Key: logrec.EncodeGroupKey(key), Change: consumerChange{group, value != nil, on}}
	if value != nil {
		r.Value = logrec.EncodeVersioned(value, consumerRecordVersion)
	}
	return r
}

func consumerMemberRecord(group string, m *consumerMember) shard.Record {
	value := &logrec.ConsumerGroupMemberMetadataValue{
		InstanceID: m.instance, RackID: m.rack, ClientID: m.clientID, ClientHost: m.clientHost, SubscribedTopicNames: m.topics,
		SubscribedTopicRegex: &m.regex, RebalanceTimeoutMs: m.rebalanceTimeoutMs, ServerAssignor: m.assignor, ClassicMemberMetadata: m.classic,
	}
	return consumerRecord(group, &logrec.ConsumerGroupMemberMetadataKey{GroupID: group, MemberID: m.id}, value, onMember(m.id, value))
}

func onMember(memberID string, v *logrec.ConsumerGroupMemberMetadataValue) func(*consumerGroup) bool {
	return func(g *consumerGroup) bool {
		m := newConsumerMember(memberID)
		if have := g.member(memberID); have != nil {
			*m = *have
		}
		m.instance, m.rack, m.clientID, m.clientHost = v.InstanceID, v.RackID, v.ClientID, v.ClientHost
		m.topics = uniqueSorted(v.SubscribedTopicNames)
		m.regex = ""
		if v.SubscribedTopicRegex != nil {
			m.regex = *v.SubscribedTopicRegex
		}
		m.rebalanceTimeoutMs, m.assignor, m.classic = v.RebalanceTimeoutMs, v.ServerAssignor, v.ClassicMemberMetadata
		g.share(m)
		g.setMember(m)
		return false
	}
}

func uniqueSorted(names []string) []string {
	list := slices.Clone(names)
	slices.Sort(list)
	return slices.Compact(list)
}

func consumerMemberTombstone(group, memberID string) shard.Record {
	return consumerRecord(group, &logrec.ConsumerGroupMemberMetadataKey{GroupID: group, MemberID: memberID}, nil, onNoMember(memberID))
}

func onNoMember(memberID string) func(*consumerGroup) bool {
	return func(g *consumerGroup) bool { g.dropMember(memberID); return false }
}

func consumerEpochRecord(group string, epoch int32, hash int64) shard.Record {
	value := &logrec.ConsumerGroupMetadataValue{Epoch: epoch, MetadataHash: hash}
	return consumerRecord(group, &logrec.ConsumerGroupMetadataKey{GroupID: group}, value, onEpoch(value))
}

func onEpoch(v *logrec.ConsumerGroupMetadataValue) func(*consumerGroup) bool {
	return func(g *consumerGroup) bool { g.epoch, g.hash = v.Epoch, v.MetadataHash; return false }
}

func consumerEpochTombstone(group string) shard.Record {
	return consumerRecord(group, &logrec.ConsumerGroupMetadataKey{GroupID: group}, nil, onGone)
}

func onGone(*consumerGroup) bool { return true }

func consumerTargetRecord(group string, epoch int32, atMs int64) shard.Record {
	value := &logrec.ConsumerGroupTargetAssignmentMetadataValue{AssignmentEpoch: epoch, AssignmentTimestamp: atMs}
	return consumerRecord(group, &logrec.ConsumerGroupTargetAssignmentMetadataKey{GroupID: group}, value, onTarget(value))
}

func onTarget(v *logrec.ConsumerGroupTargetAssignmentMetadataValue) func(*consumerGroup) bool {
	return func(g *consumerGroup) bool {
		g.targetEpoch, g.targetMs = v.AssignmentEpoch, v.AssignmentTimestamp
		return false
	}
}

func consumerTargetTombstone(group string) shard.Record {
	return consumerRecord(group, &logrec.ConsumerGroupTargetAssignmentMetadataKey{GroupID: group}, nil, onNoTarget)
}

func onNoTarget(g *consumerGroup) bool { g.targetEpoch, g.targetMs = noTargetEpoch, 0; return false }

func consumerTargetOfRecord(group, memberID string, target partitionList) shard.Record {
	value := &logrec.ConsumerGroupTargetAssignmentMemberValue{TopicPartitions: []logrec.ConsumerGroupTargetAssignmentMemberValueTopicPartition{}}
	for _, t := range target {
		value.TopicPartitions = append(value.TopicPartitions, logrec.ConsumerGroupTargetAssignmentMemberValueTopicPartition{TopicID: t.topic, Partitions: t.partitions})
	}
	return consumerRecord(group, &logrec.ConsumerGroupTargetAssignmentMemberKey{GroupID: group, MemberID: memberID}, value, onTargetOf(memberID, value))
}

func onTargetOf(memberID string, v *logrec.ConsumerGroupTargetAssignmentMemberValue) func(*consumerGroup) bool {
	a := make(assignor.Assignment, len(v.TopicPartitions))
	for _, t := range v.TopicPartitions {
		a[t.TopicID] = t.Partitions
	}
	target := newPartitionList(a)
	return func(g *consumerGroup) bool { g.target = g.target.With(memberID, target); return false }
}

func consumerTargetOfTombstone(group, memberID string) shard.Record {
	return consumerRecord(group, &logrec.ConsumerGroupTargetAssignmentMemberKey{GroupID: group, MemberID: memberID}, nil, onNoTargetOf(memberID))
}

func onNoTargetOf(memberID string) func(*consumerGroup) bool {
	return func(g *consumerGroup) bool { g.target = g.target.Without(memberID); return false }
}

func consumerCurrentRecord(group string, m *consumerMember) shard.Record {
	value := &logrec.ConsumerGroupCurrentMemberAssignmentValue{
		MemberEpoch: m.epoch, PreviousMemberEpoch: m.previousEpoch, State: int8(m.state),
		AssignedPartitions: partitionsInRecord(m.assigned), PartitionsPendingRevocation: partitionsInRecord(m.revoking),
	}
	return consumerRecord(group, &logrec.ConsumerGroupCurrentMemberAssignmentKey{GroupID: group, MemberID: m.id}, value, onCurrent(m.id, value))
}

func partitionsInRecord(a partitionEpochs) []logrec.ConsumerGroupCurrentMemberAssignmentValueTopicPartition {
	list := make([]logrec.ConsumerGroupCurrentMemberAssignmentValueTopicPartition, 0, len(a))
	for _, t := range a {
		one := logrec.ConsumerGroupCurrentMemberAssignmentValueTopicPartition{TopicID: t.topic}
		for _, e := range t.list {
			one.Partitions = append(one.Partitions, e.partition)
			one.AssignmentEpochs = append(one.AssignmentEpochs, e.epoch)
		}
		list = append(list, one)
	}
	return list
}

// partitionsFromRecord gives partitions without an epoch of their own, from releases before there was one, the member's.
func partitionsFromRecord(list []logrec.ConsumerGroupCurrentMemberAssignmentValueTopicPartition, otherwise int32) partitionEpochs {
	var a epochs
	for _, t := range list {
		for i, p := range t.Partitions {
			epoch := max(otherwise, 0)
			if len(t.AssignmentEpochs) == len(t.Partitions) {
				epoch = t.AssignmentEpochs[i]
			}
			a.put(t.TopicID, p, epoch)
		}
	}
	return a.done()
}

func onCurrent(memberID string, v *logrec.ConsumerGroupCurrentMemberAssignmentValue) func(*consumerGroup) bool {
	return func(g *consumerGroup) bool {
		m := newConsumerMember(memberID)
		if have := g.member(memberID); have != nil {
			*m = *have
		}
		m.epoch, m.previousEpoch, m.state = v.MemberEpoch, v.PreviousMemberEpoch, memberStateOf(v.State)
		m.assigned = partitionsFromRecord(v.AssignedPartitions, v.MemberEpoch)
		m.revoking = partitionsFromRecord(v.PartitionsPendingRevocation, v.MemberEpoch)
		g.setMember(m)
		return false
	}
}

func consumerCurrentTombstone(group, memberID string) shard.Record {
	return consumerRecord(group, &logrec.ConsumerGroupCurrentMemberAssignmentKey{GroupID: group, MemberID: memberID}, nil, onNoCurrent(memberID))
}

func onNoCurrent(memberID string) func(*consumerGroup) bool {
	return func(g *consumerGroup) bool {
		if have := g.member(memberID); have != nil {
			m := *have
			m.epoch, m.previousEpoch, m.assigned, m.revoking = epochLeave, epochLeave, nil, nil
			g.setMember(&m)
		}
		return false
	}
}

func consumerRegexRecord(group, regex string, r *resolvedRegex) shard.Record {
	value := &logrec.ConsumerGroupRegularExpressionValue{Topics: r.topics, Version: r.version, Timestamp: r.timestampMs}
	return consumerRecord(group, &logrec.ConsumerGroupRegularExpressionKey{GroupID: group, RegularExpression: regex}, value, onRegex(regex, value))
}

func onRegex(regex string, v *logrec.ConsumerGroupRegularExpressionValue) func(*consumerGroup) bool {
	r := &resolvedRegex{topics: uniqueSorted(v.Topics), version: v.Version, timestampMs: v.Timestamp}
	return func(g *consumerGroup) bool { g.setPattern(regex, r); return false }
}

func consumerRegexTombstone(group, regex string) shard.Record {
	return consumerRecord(group, &logrec.ConsumerGroupRegularExpressionKey{GroupID: group, RegularExpression: regex}, nil, onNoRegex(regex))
}

func onNoRegex(regex string) func(*consumerGroup) bool {
	return func(g *consumerGroup) bool { g.setPattern(regex, nil); return false }
}

func consumerLegacyTombstone(group string) shard.Record {
	return consumerRecord(group, &logrec.ConsumerGroupPartitionMetadataKey{GroupID: group}, nil, onLegacy(false))
}

func onLegacy(there bool) func(*consumerGroup) bool {
	return func(g *consumerGroup) bool { g.legacyMetadata = there; return false }
}

// buryConsumer writes the tombstones of a group, those that make it last.
func (s *Shard) buryConsumer(g *consumerGroup) {
	ids := g.memberIDs()
	for _, m := range ids {
		s.append(consumerCurrentTombstone(g.name, m))
	}
	for _, m := range ids {
		s.append(consumerTargetOfTombstone(g.name, m))
	}
	s.append(consumerTargetTombstone(g.name))
	for _, m := range ids {
		s.append(consumerMemberTombstone(g.name, m))
	}
	for _, regex := range sortedIn(g.regexes) {
		s.append(consumerRegexTombstone(g.name, regex))
	}
	s.append(consumerLegacyTombstone(g.name))
	s.append(consumerEpochTombstone(g.name))
}

// replayConsumer folds a record of a consumer group.
func (s *Shard) replayConsumer(at id.Offset, typ int16, key, value []byte) error {
	c, err := decodeConsumer(typ, key, value)
	if err != nil {
		return err
	}
	c.apply(s, at)
	return nil
}

func decodeConsumer(typ int16, key, value []byte) (c consumerChange, err error) {
	value = slices.Clone(value)
	c.makes = value != nil
	into := func(v logrec.Value) {
		if _, bad := logrec.DecodeVersioned(value, v); err == nil {
			err = bad
		}
	}
	switch typ {
	case typeConsumerGroup:
		var k logrec.ConsumerGroupMetadataKey
		err = decodeKey(key, &k)
		c.group, c.on = k.GroupID, onGone
		if value != nil {
			var v logrec.ConsumerGroupMetadataValue
			into(&v)
			c.on = onEpoch(&v)
		}
	case typeConsumerMetadata:
		var k logrec.ConsumerGroupPartitionMetadataKey
		err = decodeKey(key, &k)
		c.group, c.on = k.GroupID, onLegacy(value != nil)
	case typeConsumerMember:
		var k logrec.ConsumerGroupMemberMetadataKey
		err = decodeKey(key, &k)
		c.group, c.on = k.GroupID, onNoMember(k.MemberID)
		if value != nil {
			var v logrec.ConsumerGroupMemberMetadataValue
			into(&v)
			c.on = onMember(k.MemberID, &v)
		}
	case typeConsumerTarget:
		var k logrec.ConsumerGroupTargetAssignmentMetadataKey
		err = decodeKey(key, &k)
		c.group, c.on = k.GroupID, onNoTarget
		if value != nil {
			var v logrec.ConsumerGroupTargetAssignmentMetadataValue
			into(&v)
			c.on = onTarget(&v)
		}
	case typeConsumerTargetOf:
		var k logrec.ConsumerGroupTargetAssignmentMemberKey
		err = decodeKey(key, &k)
		c.group, c.on = k.GroupID, onNoTargetOf(k.MemberID)
		if value != nil {
			var v logrec.ConsumerGroupTargetAssignmentMemberValue
			into(&v)
			c.on = onTargetOf(k.MemberID, &v)
		}
	case typeConsumerCurrent:
		var k logrec.ConsumerGroupCurrentMemberAssignmentKey
		err = decodeKey(key, &k)
		c.group, c.on = k.GroupID, onNoCurrent(k.MemberID)
		if value != nil {
			var v logrec.ConsumerGroupCurrentMemberAssignmentValue
			into(&v)
			c.on = onCurrent(k.MemberID, &v)
		}
	default:
		var k logrec.ConsumerGroupRegularExpressionKey
		err = decodeKey(key, &k)
		c.group, c.on = k.GroupID, onNoRegex(k.RegularExpression)
		if value != nil {
			var v logrec.ConsumerGroupRegularExpressionValue
			into(&v)
			c.on = onRegex(k.RegularExpression, &v)
		}
	}
	return c, err
}

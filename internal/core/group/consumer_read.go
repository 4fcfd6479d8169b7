package group

import (
	"cmp"
	"maps"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/assignor"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

type heartbeatPartitions = api.ConsumerGroupHeartbeatRequestTopicPartition

func brokerID(n int32) id.BrokerID { return id.BrokerID(n) }

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func sortedIn[K cmp.Ordered, V any](m image.Map[K, V]) []K {
	keys := make([]K, 0, m.Len())
	for key := range m.All() {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// DescribeConsumerGroups describes the consumer groups of these names as of the high watermark; topics that img does not have any
// more are left out.
func (s *Shard) DescribeConsumerGroups(names []string, img *image.Image) []api.ConsumerGroupDescribeResponseGroup {
	all := make([]api.ConsumerGroupDescribeResponseGroup, 0, len(names))
	for _, name := range names {
		one := api.NewConsumerGroupDescribeResponseGroup()
		one.GroupID = name
		if e := s.committedGroup(name); e == nil || e.consumer == nil {
			one.ErrorCode = wire.ErrGroupIDNotFound
			message := "Group " + name + " not found."
			if e != nil {
				message = "Group " + name + " is not a consumer group."
			}
			one.ErrorMessage = &message
		} else {
			s.describeConsumer(&one, e.consumer, img)
		}
		all = append(all, one)
	}
	return all
}

func (s *Shard) describeConsumer(one *api.ConsumerGroupDescribeResponseGroup, g *consumerGroup, img *image.Image) {
	one.GroupState, one.GroupEpoch, one.AssignmentEpoch, one.AssignorName = g.state(), g.epoch, g.targetEpoch, s.assignorOf(g)
	ids := g.memberIDs()
	inTableOrder(ids)
	for _, memberID := range ids {
		m := g.member(memberID)
		d := api.NewConsumerGroupDescribeResponseGroupMember()
		d.MemberID, d.InstanceID, d.RackID, d.MemberEpoch = m.id, m.instance, m.rack, m.epoch
		d.ClientID, d.ClientHost, d.SubscribedTopicNames, d.SubscribedTopicRegex = m.clientID, m.clientHost, m.topics, &m.regex
		has := make(assignor.Assignment)
		for _, a := range []partitionEpochs{m.assigned, m.revoking} {
			for i := range a {
				has[a[i].topic] = append(has[a[i].topic], a[i].partitions()...)
			}
		}
		d.Assignment, d.TargetAssignment = described(newPartitionList(has), img), described(g.targetOf(memberID), img)
		d.MemberType = 1
		if m.classic != nil {
			d.MemberType = 0
		}
		one.Members = append(one.Members, d)
	}
}

func described(list partitionList, img *image.Image) api.ConsumerGroupDescribeResponseAssignment {
	out := api.ConsumerGroupDescribeResponseAssignment{TopicPartitions: []api.ConsumerGroupDescribeResponseTopicPartition{}}
	for _, t := range list {
		if topic := img.Topics.ByID(t.topic); topic != nil {
			out.TopicPartitions = append(out.TopicPartitions, api.ConsumerGroupDescribeResponseTopicPartition{TopicID: t.topic, TopicName: topic.Name, Partitions: t.partitions})
		}
	}
	return out
}

// checkConsumerCommit says whether a member of a consumer group may commit. A member that is behind may still commit for partitions
// that it has had since before that epoch: each says so, given as whole.
func checkConsumerCommit(g *consumerGroup, memberID string, instance *string, epoch int32, version int16, txn bool) (code wire.ErrorCode, each func(topic id.UUID, p int32) wire.ErrorCode) {
	if epoch < 0 && g.members.Len() == 0 {
		return wire.ErrNone, nil
	}
	if txn && epoch == -1 && memberID == "" && instance == nil {
		return wire.ErrNone, nil // a producer before KIP-447
	}
	m := g.member(memberID)
	switch {
	case m == nil:
		return wire.ErrUnknownMemberID, nil
	case !txn && m.classic == nil && version < 9:
		return wire.ErrUnsupportedVersion, nil
	case epoch == m.epoch:
		return wire.ErrNone, nil
	}
	stale := m.stale()
	if epoch > m.epoch {
		return stale, nil
	}
	return wire.ErrNone, func(topic id.UUID, p int32) wire.ErrorCode {
		since, ok := m.assigned.epoch(topic, p)
		if !ok {
			since, ok = m.revoking.epoch(topic, p)
		}
		if !ok || epoch < since {
			return stale
		}
		return wire.ErrNone
	}
}

// stale is what a member hears that names another epoch.
func (m *consumerMember) stale() wire.ErrorCode {
	if m.classic != nil {
		return wire.ErrIllegalGeneration
	}
	return wire.ErrStaleMemberEpoch
}

// checkConsumerFetch says whether the sender of an OffsetFetch may read. Who names no member may.
func checkConsumerFetch(g *consumerGroup, req *api.OffsetFetchRequestGroup) wire.ErrorCode {
	if req.MemberID == nil && req.MemberEpoch < 0 {
		return wire.ErrNone
	}
	var m *consumerMember
	if req.MemberID != nil {
		m = g.member(*req.MemberID)
	}
	switch {
	case m == nil:
		return wire.ErrUnknownMemberID
	case req.MemberEpoch != m.epoch:
		return m.stale()
	}
	return wire.ErrNone
}

package group

import (
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/assignor"
	"github.com/moldau-io/moldau/internal/wire"
)

// metadataStale says whether what the group reads may have changed in the cluster since its hash was compared with it. It is asked of the
// group as it was before the request: a pattern that is not resolved yet is no change of the cluster. A broker that is in another rack
// than before counts at once; Kafka sees it when the topic changes, or the group is loaded.
func (s *Shard) metadataStale(g *consumerGroup) bool {
	o := g.soft
	switch {
	case s.image == nil:
		return false
	case o.topics == nil, g.epoch < o.checkedAt:
		return true
	}
	if o.topics != s.image.Topics {
		for name := range g.view.topics.All() {
			if o.topics.ByName(name) != s.image.Topics.ByName(name) {
				return true
			}
		}
		o.topics = s.image.Topics
	}
	if o.cluster != s.image.Cluster {
		if s.groupHash(g.view.topics) != g.hash {
			return true
		}
		o.cluster = s.image.Cluster
	}
	return false
}

// checked remembers what the group's hash was compared with.
func (s *Shard) checked(g *consumerGroup) {
	if s.image != nil {
		g.soft.topics, g.soft.cluster, g.soft.checkedAt = s.image.Topics, s.image.Cluster, g.epoch
	}
}

// consumerMetadata compares the metadata of the subscribed topics with the group's hash, and begins a new epoch if it differs, or if
// bump says so.
func (s *Shard) consumerMetadata(d *consumerStep, bump bool) {
	hash := s.groupHash(d.g.view.topics)
	if bump || hash != d.g.hash {
		d.add(consumerEpochRecord(d.g.name, d.g.epoch+1, hash))
		s.count(ConsumerRebalances, 1)
	}
	s.checked(d.g)
	if d.g.legacyMetadata {
		d.add(consumerLegacyTombstone(d.g.name))
	}
}

// targetDue says whether the group needs a new target assignment: its epoch has gone beyond that of the present one, and the last is as
// long ago as the assignment interval demands (KIP-1263).
func (s *Shard) targetDue(g *consumerGroup) bool {
	if g.targetEpoch >= g.epoch {
		return false
	}
	interval := s.consumerSetting(g.name, "consumer.assignment.interval.ms", s.cfg.Consumer.AssignmentInterval, s.cfg.Consumer.Assignments)
	return g.targetMs == 0 || interval == 0 || s.now.UnixMilli() >= g.targetMs+interval.Milliseconds()
}

// consumerTarget computes a new target assignment if it is due.
func (s *Shard) consumerTarget(d *consumerStep) *refusal {
	g := d.g
	if !s.targetDue(g) {
		return nil
	}
	in := assignor.Input{Homogeneous: g.homogeneous(), Partitions: s.partitionCount}
	for _, memberID := range g.memberIDs() {
		m := g.member(memberID)
		in.Members = append(in.Members, assignor.Member{ID: m.id, Instance: m.instance, Topics: s.topicIDs(g.memberTopics(m)), Assigned: g.targetOf(memberID).assignment()})
	}
	result, err := assignor.ByName(s.assignorOf(g))(in)
	if err != nil {
		return refuse(wire.ErrUnknownServerError, "Failed to compute a new target assignment for epoch %d: %v", g.epoch, err)
	}
	for i := range in.Members {
		m := &in.Members[i]
		next := newPartitionList(result[m.ID])
		if old, ok := g.target.Get(m.ID); !ok || !old.equal(next) {
			d.add(consumerTargetOfRecord(g.name, m.ID, next))
		}
	}
	d.add(consumerTargetRecord(g.name, g.epoch, s.now.UnixMilli()))
	return nil
}

// topicIDs returns the ids of those topics that exist.
func (s *Shard) topicIDs(names []string) []id.UUID {
	if s.image == nil {
		return nil
	}
	ids := make([]id.UUID, 0, len(names))
	for _, name := range names {
		if t := s.image.Topics.ByName(name); t != nil {
			ids = append(ids, t.ID)
		}
	}
	return ids
}

func (s *Shard) partitionCount(topic id.UUID) int32 {
	if s.image == nil {
		return -1
	}
	t := s.image.Topics.ByID(topic)
	if t == nil {
		return -1
	}
	return int32(len(t.Partitions))
}

// owned are the partitions that a member says it has; said is false if it did not say.
type owned struct {
	list []heartbeatPartitions
	said bool
}

// any says whether the member still has one of the partitions. As long as it has not said, it has.
func (o owned) any(of partitionEpochs) bool {
	if !o.said {
		return true
	}
	for _, t := range o.list {
		for _, p := range t.Partitions {
			if of.has(t.TopicID, p) {
				return true
			}
		}
	}
	return false
}

// reconcile takes the member as far towards its target assignment as the others allow: it gives partitions back first, then goes to
// the epoch of the target, then gets what nobody has any more.
func (s *Shard) reconcile(d *consumerStep, m *consumerMember, subscriptionChanged bool, has owned) (*consumerMember, *refusal) {
	g := d.g
	if !subscriptionChanged && m.reconciled(g.targetEpoch) {
		return m, nil
	}
	next, no := s.nextAssignment(g, m, subscriptionChanged, has)
	if no != nil {
		return nil, no
	}
	if next == m || next.sameAssignment(m) && g.member(m.id) != nil && g.member(m.id).sameAssignment(next) {
		return m, nil
	}
	d.add(consumerCurrentRecord(g.name, next))
	if next.owesPartitions() {
		// The deadline of a former time stays: it finds a member that has nothing to give back, unless this record is lost.
		s.timers.Set(timerKey{timerRevoke, g.name, next.id}, s.now.Add(time.Duration(next.rebalanceTimeoutMs)*time.Millisecond), struct{}{})
	}
	return next, nil
}

func (s *Shard) nextAssignment(g *consumerGroup, m *consumerMember, subscriptionChanged bool, has owned) (*consumerMember, *refusal) {
	switch m.state {
	case memberStable:
		switch {
		case m.epoch != g.targetEpoch:
			return s.computeNext(g, m, m.epoch, has), nil
		case subscriptionChanged:
			return s.dropUnsubscribed(g, m, has), nil
		}
		return m, nil
	case memberUnrevoked:
		if has.any(m.revoking) {
			if subscriptionChanged {
				return s.dropUnsubscribed(g, m, has), nil
			}
			return m, nil
		}
		return s.computeNext(g, m, m.epoch, has), nil
	case memberUnreleased:
		return s.computeNext(g, m, m.epoch, has), nil
	}
	// A state of a later release.
	if !has.said || len(has.list) > 0 {
		return nil, refuse(wire.ErrFencedMemberEpoch, "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.")
	}
	return s.computeNext(g, m, g.targetEpoch, has), nil
}

// moved returns the member in a new epoch and assignment.
func (m *consumerMember) moved(state memberState, epoch int32, assigned, revoking partitionEpochs) *consumerMember {
	next := *m
	next.state, next.previousEpoch, next.epoch, next.assigned, next.revoking = state, m.epoch, epoch, assigned, revoking
	return &next
}

// reads returns the topics that the member is subscribed to and that exist.
func (s *Shard) reads(g *consumerGroup, m *consumerMember) map[id.UUID]bool {
	ids := s.topicIDs(g.memberTopics(m))
	set := make(map[id.UUID]bool, len(ids))
	for _, t := range ids {
		set[t] = true
	}
	return set
}

// dropUnsubscribed takes partitions of topics that the member does not read any more, without waiting for the next target.
func (s *Shard) dropUnsubscribed(g *consumerGroup, m *consumerMember, has owned) *consumerMember {
	reads := s.reads(g, m)
	var assigned, revoking epochs
	// Who reads nothing at all comes into its epoch anew even if it has nothing, as in Kafka: the epoch before is no good any more.
	changed := len(g.memberTopics(m)) == 0 && len(m.revoking) == 0
	for at, epoch := range m.assigned.all() {
		if reads[at.topic] {
			assigned.put(at.topic, at.partition, epoch)
		} else {
			changed = true
			revoking.put(at.topic, at.partition, epoch)
		}
	}
	for at, epoch := range m.revoking.all() {
		revoking.put(at.topic, at.partition, epoch)
	}
	if !changed {
		return m
	}
	if back := revoking.done(); len(back) > 0 && has.any(back) {
		return m.moved(memberUnrevoked, m.epoch, assigned.done(), back)
	}
	return m.moved(m.state, m.epoch, assigned.done(), m.revoking)
}

func (s *Shard) computeNext(g *consumerGroup, m *consumerMember, epoch int32, has owned) *consumerMember {
	reads := s.reads(g, m)
	target := g.targetOf(m.id)
	var assigned, revoking, pending epochs
	for at, epoch := range m.assigned.all() {
		if _, wanted := slices.BinarySearch(target.of(at.topic), at.partition); wanted && reads[at.topic] {
			assigned.put(at.topic, at.partition, epoch)
		} else {
			revoking.put(at.topic, at.partition, epoch)
		}
	}
	unreleased := false
	for _, t := range target {
		if !reads[t.topic] {
			continue
		}
		for _, p := range t.partitions {
			switch {
			case m.assigned.has(t.topic, p):
			case g.isOwned(t.topic, p) && !m.revoking.has(t.topic, p):
				unreleased = true
			default:
				pending.put(t.topic, p, g.targetEpoch)
			}
		}
	}
	if back := revoking.done(); len(back) > 0 && has.any(back) {
		return m.moved(memberUnrevoked, epoch, assigned.done(), back)
	}
	state := memberStable
	if unreleased {
		state = memberUnreleased
	}
	return m.moved(state, g.targetEpoch, append(assigned, pending...).done(), nil)
}

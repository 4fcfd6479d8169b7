package group

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/core/assignor"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// highestConsumerProtocol is the newest version of what classic consumers put into JoinGroup and SyncGroup.
const highestConsumerProtocol = 3

// classicVersion reads the version in front of a classic consumer's metadata.
func classicVersion(b []byte) (version int16, ok bool) {
	if len(b) < 2 {
		return 0, false
	}
	version = int16(binary.BigEndian.Uint16(b))
	return min(version, highestConsumerProtocol), version >= 0
}

// decodeSubscription reads what a classic consumer says about itself; ok is false if it cannot be understood.
func decodeSubscription(b []byte) (sub logrec.ConsumerProtocolSubscription, ok bool) {
	version, ok := classicVersion(b)
	if !ok {
		return sub, false
	}
	r := wire.NewReader(slices.Clone(b[2:]), nil)
	sub.Decode(r, version)
	return sub, r.Err() == nil
}

// decodeAssignment reads a classic consumer's assignment.
func decodeAssignment(b []byte) (a logrec.ConsumerProtocolAssignment, ok bool) {
	version, ok := classicVersion(b)
	if !ok {
		return a, false
	}
	r := wire.NewReader(slices.Clone(b[2:]), nil)
	a.Decode(r, version)
	return a, r.Err() == nil
}

// encodeAssignment writes an assignment as classic consumers of that version read it. Topics that are gone are left out.
func (s *Shard) encodeAssignment(list partitionList, version int16) []byte {
	value := &logrec.ConsumerProtocolAssignment{AssignedPartitions: []logrec.ConsumerProtocolAssignmentAssignedPartition{}}
	for _, t := range list {
		if s.image == nil {
			break
		}
		if topic := s.image.Topics.ByID(t.topic); topic != nil {
			value.AssignedPartitions = append(value.AssignedPartitions, logrec.ConsumerProtocolAssignmentAssignedPartition{Topic: topic.Name, Partitions: t.partitions})
		}
	}
	return logrec.EncodeVersioned(value, version)
}

// upgrade makes a consumer group of a classic one that has members, so that a member of the consumer protocol can join it. The
// classic members stay, with what they have.
func (s *Shard) upgrade(g *classicGroup) (*consumerStep, *refusal) {
	why := func(text string) *refusal {
		return refuse(wire.ErrGroupIDNotFound, "Cannot upgrade classic group %s to consumer group because %s.", g.name, text)
	}
	switch {
	case !s.cfg.Consumer.Upgrade:
		return nil, why("online upgrade is disabled")
	case !g.usesConsumerProtocol():
		return nil, why("the group does not use the consumer embedded protocol")
	case len(g.byID) > s.cfg.Consumer.MaxSize:
		return nil, why("the group size exceeds the consumer group maximum size")
	}
	members, targets := make([]*consumerMember, 0, len(g.byID)), make([]partitionList, 0, len(g.byID))
	for _, m := range g.list() {
		c, target, text := s.upgradedMember(g, m)
		if text != "" {
			return nil, why(text)
		}
		members, targets = append(members, c), append(targets, target)
	}
	s.append(groupTombstone(g.name))
	d := &consumerStep{s: s, g: newConsumerGroup(g.name), own: true}
	for _, m := range members {
		d.add(consumerMemberRecord(g.name, m))
	}
	d.add(consumerEpochRecord(g.name, g.generation, s.groupHash(d.g.view.topics)))
	for i, m := range members {
		d.add(consumerTargetOfRecord(g.name, m.id, targets[i]))
	}
	d.add(consumerTargetRecord(g.name, g.generation, 0))
	for _, m := range members {
		d.add(consumerCurrentRecord(g.name, m))
	}
	// A static member that changes its protocol alone changes nothing else. In the middle of a rebalance there are members without an
	// assignment, and new partitions may not have been seen by the leader yet: nobody would give any to anybody. Kafka leaves it at that.
	d.bump = g.state != Stable || s.hasUnowned(d.g)
	d.done = func() {
		s.leaveClassic(g)
		for _, m := range members {
			s.restartConsumerSession(g.name, m)
		}
	}
	return d, nil
}

// hasUnowned says whether there are partitions of what the group reads that nobody has.
func (s *Shard) hasUnowned(g *consumerGroup) bool {
	for _, topic := range s.topicIDs(sortedIn(g.view.topics)) {
		for p := range s.partitionCount(topic) {
			if !g.isOwned(topic, p) {
				return true
			}
		}
	}
	return false
}

// upgradedMember makes a member of the consumer protocol of a classic one.
func (s *Shard) upgradedMember(g *classicGroup, m *member) (c *consumerMember, target partitionList, why string) {
	const malformed = "the embedded consumer protocol is malformed"
	name := ""
	if g.protocol != nil {
		name = *g.protocol
	} else {
		name = g.selectProtocol() // the first rebalance is not over
	}
	given := make(assignor.Assignment)
	if len(m.assignment) > 0 {
		a, ok := decodeAssignment(m.assignment)
		switch {
		case !ok:
			return nil, nil, malformed
		case len(a.UserData) > 0:
			return nil, nil, "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default assignor before re-attempting the upgrade"
		}
		for _, tp := range a.AssignedPartitions {
			for _, topic := range s.topicIDs([]string{tp.Topic}) {
				list := slices.Concat(given[topic], tp.Partitions)
				slices.Sort(list)
				given[topic] = slices.Compact(list)
			}
		}
	}
	sub, ok := decodeSubscription(m.metadata(name))
	if !ok {
		return nil, nil, malformed
	}
	c = newConsumerMember(m.id)
	c.epoch, c.previousEpoch, c.instance, c.rebalanceTimeoutMs = g.generation, g.generation, m.instance, m.rebalanceTimeoutMs
	if sub.RackID != nil && *sub.RackID != "" {
		c.rack = sub.RackID
	}
	c.clientID, c.clientHost, c.topics = m.clientID, m.clientHost, uniqueSorted(sub.Topics)
	target = newPartitionList(given)
	var has epochs
	for _, t := range target {
		for _, p := range t.partitions {
			has.put(t.topic, p, g.generation)
		}
	}
	c.assigned = has.done()
	c.classic = &logrec.ConsumerGroupMemberMetadataValueClassicMemberMetadata{
		SessionTimeoutMs:   m.sessionTimeoutMs,
		SupportedProtocols: []logrec.ConsumerGroupMemberMetadataValueClassicMemberMetadataSupportedProtocol{},
	}
	for _, p := range m.protocols {
		c.classic.SupportedProtocols = append(c.classic.SupportedProtocols,
			logrec.ConsumerGroupMemberMetadataValueClassicMemberMetadataSupportedProtocol{Name: p.name, Metadata: p.metadata})
	}
	return c, target, ""
}

// leaveClassic ends the soft state of a classic group that is replaced: whoever waits is sent to join again. If the records of the
// replacement are lost, the group is there again, and rebalances if it was about to.
func (s *Shard) leaveClassic(g *classicGroup) {
	for _, m := range g.list() {
		s.finishJoin(g, m, joinError(m.id, wire.ErrRebalanceInProgress))
		s.finishSync(m, syncError(wire.ErrRebalanceInProgress))
		s.timers.Cancel(timerKey{timerSession, g.name, m.id})
	}
	for memberID := range g.pendingJoin {
		s.timers.Cancel(timerKey{timerSession, g.name, memberID})
	}
	clear(g.pendingJoin)
	s.timers.Cancel(joinKey(g))
	s.timers.Cancel(syncKey(g))
	s.chain(func(now time.Time, code wire.ErrorCode) {
		if code == wire.ErrNone || s.classic(g.name) != g {
			return
		}
		for _, m := range g.list() {
			s.endConsumerTimers(g.name, m.id)
			s.endClassicWaits(g.name, m.id)
			s.restartSession(g, m)
		}
		if g.state != Stable { // without members, and nobody to wait for any more, it becomes empty
			g.state = Stable
			s.prepareRebalance(g)
		}
	})
}

// canDowngrade says whether the members that stay, all but without, are all classic and may go back to a classic group.
func (s *Shard) canDowngrade(g *consumerGroup, without []*consumerMember, joining int) bool {
	stay := g.members.Len() + joining
	classic := g.view.classic + joining
	for _, m := range without {
		stay--
		if m.classic != nil {
			classic--
		}
	}
	return s.cfg.Consumer.Downgrade && stay > 0 && classic == stay && stay <= s.cfg.MaxSize
}

func (s *Shard) downgradeAfter(g *consumerGroup, leaving []*consumerMember) bool {
	return s.canDowngrade(g, leaving, 0)
}

// neverStable is the time in the record of a group with members that has to rebalance: the rebalance itself is not in the log, and what
// was of those that left is nobody's until it is over. Kafka writes a time, and forgets the rebalance with its leader.
const neverStable = 0

// toClassic makes a classic group of the members that stay, in their order, with what targetOf gives each. before is the group as it is.
// If it is not settled it has to rebalance next.
func (s *Shard) toClassic(before *consumerGroup, epoch int32, stays []*consumerMember, targetOf func(memberID string) partitionList, settled bool) *classicGroup {
	g := newClassicGroup(before.name, s.now)
	g.state, g.previous, g.generation = Stable, Empty, epoch
	if !settled {
		g.stateSinceMs = neverStable
	}
	for _, c := range stays {
		m := &member{
			id: c.id, instance: c.instance, clientID: c.clientID, clientHost: c.clientHost, rebalanceTimeoutMs: c.rebalanceTimeoutMs,
			sessionTimeoutMs: c.classic.SessionTimeoutMs, assignment: []byte{},
		}
		for _, p := range c.classic.SupportedProtocols {
			m.protocols = append(m.protocols, protocol{p.Name, p.Metadata})
		}
		g.add(m, consumerProtocol)
	}
	name := g.selectProtocol()
	g.protocol = &name
	g.topics = g.subscription()
	for _, m := range g.list() {
		version, _ := classicVersion(m.metadata(name))
		m.assignment = s.encodeAssignment(targetOf(m.id), version)
	}
	s.setGroup(s.next, g.name, &entry{classic: g})
	s.append(groupRecord(g, nil))
	for _, m := range g.list() {
		s.endConsumerTimers(g.name, m.id)
		s.endClassicWaits(g.name, m.id)
		s.restartSession(g, m)
	}
	return g
}

func (s *Shard) endClassicWaits(group, memberID string) {
	s.timers.Cancel(timerKey{timerRejoin, group, memberID})
	s.timers.Cancel(timerKey{timerResync, group, memberID})
}

// downgrade makes a classic group of a consumer group whose last members of the consumer protocol leave.
func (s *Shard) downgrade(d *consumerStep, leaving []*consumerMember) {
	before := d.g
	var stays []*consumerMember
	ids := before.memberIDs()
	inTableOrder(ids) // the first leads, as in Kafka
	for _, memberID := range ids {
		if m := before.member(memberID); !slices.Contains(leaving, m) {
			stays = append(stays, m)
		}
	}
	s.buryConsumer(before)
	g := s.toClassic(before, before.epoch, stays, before.targetOf, false)
	for _, m := range leaving {
		s.endConsumerTimers(before.name, m.id)
		s.endClassicWaits(before.name, m.id)
	}
	s.undoDowngrade(before)
	s.prepareRebalance(g)
}

// undoDowngrade sees to it that the members of the consumer group are watched over again if the records of a downgrade are lost.
func (s *Shard) undoDowngrade(before *consumerGroup) {
	s.chain(func(now time.Time, code wire.ErrorCode) {
		if e := s.groups[before.name]; code != wire.ErrNone && e != nil && e.consumer != nil {
			for _, m := range e.consumer.members.All() {
				s.timers.Cancel(timerKey{timerSession, before.name, m.id})
				s.watchConsumer(before.name, m)
			}
			s.timers.Cancel(timerKey{kind: timerJoin, group: before.name})
		}
	})
}

// chain adds what is to be done when the fate of the records of this decision is known.
func (s *Shard) chain(do func(now time.Time, code wire.ErrorCode)) {
	first := s.res.Then
	s.res.Then = func(now time.Time, code wire.ErrorCode) shard.Result {
		var res shard.Result
		if first != nil {
			res = first(now, code)
		}
		s.begin(now)
		s.res = res
		do(now, code)
		return s.end()
	}
}

// ownedOf turns the partitions that a classic consumer says it has into the form of the consumer protocol.
func (s *Shard) ownedOf(sub *logrec.ConsumerProtocolSubscription) owned {
	has := owned{said: true}
	for _, tp := range sub.OwnedPartitions {
		for _, topic := range s.topicIDs([]string{tp.Topic}) {
			has.list = append(has.list, heartbeatPartitions{TopicID: topic, Partitions: tp.Partitions})
		}
	}
	return has
}

// waitsForRelease says whether a member still lacks partitions that others have.
func (g *consumerGroup) waitsForRelease(m *consumerMember) bool {
	if m.state != memberUnreleased {
		return false
	}
	return slices.ContainsFunc(g.targetOf(m.id), func(t topicPartitions) bool {
		return slices.ContainsFunc(t.partitions, func(p int32) bool { return !m.assigned.has(t.topic, p) && g.isOwned(t.topic, p) })
	})
}

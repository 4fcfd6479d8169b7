package group

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// refusal is why a decision of the consumer protocol is not made.
type refusal struct {
	code    wire.ErrorCode
	message string
}

func refuse(code wire.ErrorCode, format string, args ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// consumerStep is a decision about one consumer group on its way. Records change g, a version of the group of its own, as they
// will change the group itself.
type consumerStep struct {
	s   *Shard
	g   *consumerGroup
	own bool
	// bump says that the group needs a new target assignment, whatever the request changes.
	bump bool
	// done is what has to be done when the decision is made, and not if it is refused; may be nil.
	done func()
}

func (d *consumerStep) add(r shard.Record) {
	if !d.own {
		d.g, d.own = d.g.clone(), true
	}
	r.Change.(consumerChange).on(d.g)
	d.s.append(r)
}

// ConsumerGroupHeartbeat decides a ConsumerGroupHeartbeat request (KIP-848): joins, leaves and everything between.
func (s *Shard) ConsumerGroupHeartbeat(t Turn, req *api.ConsumerGroupHeartbeatRequest) shard.Result {
	s.begin(t.Now)
	s.observe(t.Image)
	no := s.cfg.Consumer.check(t.Version, req)
	if no == nil {
		no = checkConsumerSizes(t, req)
	}
	if no == nil {
		if req.MemberEpoch == epochLeave || req.MemberEpoch == epochStaticLeave {
			no = s.consumerLeave(req)
		} else {
			no = s.consumerHeartbeat(t, req)
		}
	}
	if no != nil {
		s.res = shard.Result{}
		s.answer(t.Ticket, no.heartbeat())
		return s.end()
	}
	s.res.Atomic = true
	return s.end()
}

func (no *refusal) heartbeat() *api.ConsumerGroupHeartbeatResponse {
	resp := api.NewConsumerGroupHeartbeatResponse()
	resp.ErrorCode = no.code
	if no.message != "" {
		resp.ErrorMessage = &no.message
	}
	return resp
}

// blank says whether a text has nothing in it but what Java's trim takes away.
func blank(text string) bool {
	return strings.TrimLeftFunc(text, func(r rune) bool { return r <= ' ' }) == ""
}

// RefuseHeartbeat answers a ConsumerGroupHeartbeat that is wrong in itself, whatever the group is up to; nil if it is not.
func (c *ConsumerConfig) RefuseHeartbeat(version int16, req *api.ConsumerGroupHeartbeatRequest) *api.ConsumerGroupHeartbeatResponse {
	if no := c.check(version, req); no != nil {
		return no.heartbeat()
	}
	return nil
}

func (c *ConsumerConfig) check(version int16, req *api.ConsumerGroupHeartbeatRequest) *refusal {
	invalid := func(message string) *refusal { return &refusal{wire.ErrInvalidRequest, message} }
	switch {
	case (version >= 1 || req.MemberEpoch > 0 || req.MemberEpoch == epochLeave) && blank(req.MemberID):
		return invalid("MemberId can't be empty.")
	case blank(req.GroupID):
		return invalid("GroupId can't be empty.")
	case req.InstanceID != nil && blank(*req.InstanceID):
		return invalid("InstanceId can't be empty.")
	case req.RackID != nil && blank(*req.RackID):
		return invalid("RackId can't be empty.")
	case req.MemberEpoch == epochJoin && req.RebalanceTimeoutMs == -1:
		return invalid("RebalanceTimeoutMs must be provided in first request.")
	case req.MemberEpoch == epochJoin && (req.TopicPartitions == nil || len(req.TopicPartitions) > 0):
		return invalid("TopicPartitions must be empty when (re-)joining.")
	case req.MemberEpoch == epochJoin && req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil:
		return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
	case req.MemberEpoch == epochStaticLeave && req.InstanceID == nil:
		return invalid("InstanceId can't be null.")
	case req.MemberEpoch < epochStaticLeave:
		return invalid("MemberEpoch is invalid.")
	}
	if req.ServerAssignor != nil && !slices.Contains(c.Assignors, *req.ServerAssignor) {
		return refuse(wire.ErrUnsupportedAssignor, "ServerAssignor %s is not supported. Supported assignors: %s.", *req.ServerAssignor,
			strings.Join(c.Assignors, ", "))
	}
	return nil
}

// checkConsumerSizes refuses names that records have no place for, before they are in a group.
func checkConsumerSizes(t Turn, req *api.ConsumerGroupHeartbeatRequest) *refusal {
	longest := max(len(req.GroupID), len(req.MemberID), len(t.Client.ID), len(t.Client.Host))
	for _, text := range []*string{req.InstanceID, req.RackID, req.SubscribedTopicRegex} {
		if text != nil {
			longest = max(longest, len(*text))
		}
	}
	for _, name := range req.SubscribedTopicNames {
		longest = max(longest, len(name))
	}
	if longest > maxName {
		return refuse(wire.ErrUnknownServerError, "A name has %d bytes and does not fit into a record.", longest)
	}
	return nil
}

// consumerByName returns the working consumer group.
func (s *Shard) consumerByName(name string) (*consumerGroup, *refusal) {
	e := s.groups[name]
	switch {
	case e == nil:
		return nil, refuse(wire.ErrGroupIDNotFound, "Group %s not found.", name)
	case e.consumer == nil:
		return nil, refuse(wire.ErrGroupIDNotFound, "Group %s is not a consumer group.", name)
	}
	return e.consumer, nil
}

// consumerToJoin returns the group to join. One that does not exist is made, and an empty classic one makes place for it.
func (s *Shard) consumerToJoin(name string) (*consumerStep, *refusal) {
	e := s.groups[name]
	switch {
	case e == nil:
	case e.consumer != nil:
		return &consumerStep{s: s, g: e.consumer}, nil
	case e.classic != nil && e.empty():
		s.append(groupTombstone(name))
	case e.classic != nil:
		return s.upgrade(e.classic)
	default:
		return nil, refuse(wire.ErrGroupIDNotFound, "Group %s is not a consumer group.", name)
	}
	return &consumerStep{s: s, g: newConsumerGroup(name), own: true}, nil
}

func (s *Shard) consumerHeartbeat(t Turn, req *api.ConsumerGroupHeartbeatRequest) *refusal {
	joins := req.MemberEpoch == epochJoin
	var d *consumerStep
	var no *refusal
	if joins {
		d, no = s.consumerToJoin(req.GroupID)
	} else {
		var g *consumerGroup
		if s.groups[req.GroupID] == nil {
			return refuse(wire.ErrGroupIDNotFound, "Consumer group %s not found.", req.GroupID)
		}
		g, no = s.consumerByName(req.GroupID)
		d = &consumerStep{s: s, g: g}
	}
	if no != nil {
		return no
	}
	if no = s.consumerFull(d.g, req.MemberID, req.InstanceID); no != nil {
		return no
	}
	memberID := req.MemberID
	if memberID == "" {
		memberID = s.newUUID()
	}
	m, no := s.consumerSender(d, memberID, req.InstanceID, joins, false)
	if no == nil {
		no = checkMemberEpoch(m, req.MemberEpoch, req.TopicPartitions)
	}
	if no != nil {
		return no
	}
	updated := *m
	updated.clientID, updated.clientHost, updated.classic = t.Client.ID, t.Client.Host, nil
	updateFrom(&updated, req)
	after, no := s.consumerUpdate(d, m, &updated, owned{req.TopicPartitions, req.TopicPartitions != nil})
	if no != nil {
		return no
	}
	if d.done != nil {
		d.done()
	}
	s.restartConsumerSession(d.g.name, after)
	resp := api.NewConsumerGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = &after.id, after.epoch
	resp.HeartbeatIntervalMs = int32(s.consumerHeartbeatInterval(req.GroupID).Milliseconds())
	whole := req.RebalanceTimeoutMs != -1 && (req.SubscribedTopicNames != nil || req.SubscribedTopicRegex != nil) && req.TopicPartitions != nil
	if joins || whole || !m.assigned.same(after.assigned) {
		resp.Assignment = &api.ConsumerGroupHeartbeatResponseAssignment{TopicPartitions: []api.ConsumerGroupHeartbeatResponseTopicPartition{}}
		for i := range after.assigned {
			t := &after.assigned[i]
			resp.Assignment.TopicPartitions = append(resp.Assignment.TopicPartitions, api.ConsumerGroupHeartbeatResponseTopicPartition{
				TopicID: t.topic, Partitions: t.partitions()})
		}
	}
	s.res.Reply = resp
	return nil
}

// updateFrom takes over what the request says; what it does not say stays.
func updateFrom(m *consumerMember, req *api.ConsumerGroupHeartbeatRequest) {
	if req.InstanceID != nil {
		m.instance = req.InstanceID
	}
	if req.RackID != nil {
		m.rack = req.RackID
	}
	if req.RebalanceTimeoutMs != -1 {
		m.rebalanceTimeoutMs = req.RebalanceTimeoutMs
	}
	if req.ServerAssignor != nil {
		m.assignor = req.ServerAssignor
	}
	if req.SubscribedTopicNames != nil {
		m.topics = uniqueSorted(req.SubscribedTopicNames)
	}
	if req.SubscribedTopicRegex != nil {
		m.regex = *req.SubscribedTopicRegex
	}
}

// consumerUpdate carries a member that says something new about itself through all that may follow: its record, the group's
// epoch, the target assignment, and how far it may go towards it.
func (s *Shard) consumerUpdate(d *consumerStep, m, updated *consumerMember, has owned) (*consumerMember, *refusal) {
	before := d.g
	if d.own {
		before = d.g.clone() // records change d.g in place
	}
	if !updated.sameMetadata(m) || before.member(updated.id) == nil {
		d.add(consumerMemberRecord(before.name, updated))
	}
	topicsChanged := !slices.Equal(m.topics, updated.topics)
	patternChanged, patternKnown, no := s.consumerPattern(d, before, m, updated)
	if no != nil {
		return nil, no
	}
	bump := d.bump || topicsChanged || patternKnown || s.assignorOf(before) != s.assignorOf(d.g)
	if bump || s.metadataStale(before) {
		s.consumerMetadata(d, bump)
	}
	if no = s.consumerTarget(d); no != nil {
		return nil, no
	}
	return s.reconcile(d, updated, topicsChanged || patternChanged, has)
}

// assignorOf is the assignor that the group's members want.
func (s *Shard) assignorOf(g *consumerGroup) string {
	if name := g.preferredAssignor(); name != "" {
		return name
	}
	return s.cfg.Consumer.Assignors[0]
}

// consumerFull applies group.consumer.max.size.
func (s *Shard) consumerFull(g *consumerGroup, memberID string, instance *string) *refusal {
	if instance != nil && g.staticMember(*instance) != nil {
		return nil
	}
	if g.members.Len() >= s.cfg.Consumer.MaxSize && g.member(memberID) == nil {
		return refuse(wire.ErrGroupMaxSizeReached, "The consumer group has reached its maximum capacity of %d members.", s.cfg.Consumer.MaxSize)
	}
	return nil
}

// consumerSender returns the member that speaks, which is a new one or takes the place of its instance if it joins. classic says that
// it speaks the classic protocol.
func (s *Shard) consumerSender(d *consumerStep, memberID string, instance *string, joins, classic bool) (*consumerMember, *refusal) {
	name := d.g.name
	unknown := refuse(wire.ErrUnknownMemberID, "Member %s is not a member of group %s.", memberID, name)
	if instance == nil {
		m := d.g.member(memberID)
		if m == nil && !joins {
			return nil, unknown
		}
		if m == nil {
			m = newConsumerMember(memberID)
		}
		return m, nil
	}
	existing := d.g.staticMember(*instance)
	switch {
	case existing == nil && joins:
		if m := d.g.member(memberID); m != nil {
			return m, nil
		}
		return newConsumerMember(memberID), nil
	case existing == nil:
		return nil, refuse(wire.ErrUnknownMemberID, "Instance id %s is unknown.", *instance)
	case !joins && existing.id != memberID:
		return nil, fencedInstance(memberID, *instance, existing.id)
	case !joins:
		return existing, nil
	case !classic && existing.classic == nil && existing.epoch != epochStaticLeave:
		return nil, refuse(wire.ErrUnreleasedInstanceID,
			"Static member %s with instance id %s cannot join the group because the instance id is owned by %s member.", memberID, *instance, existing.id)
	}
	return s.replaceConsumer(d, existing, memberID), nil
}

func fencedInstance(memberID, instance, by string) *refusal {
	return refuse(wire.ErrFencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", memberID, instance, by)
}

// replaceConsumer gives what a static member has to its next incarnation.
func (s *Shard) replaceConsumer(d *consumerStep, old *consumerMember, memberID string) *consumerMember {
	m := *old
	m.id, m.epoch, m.previousEpoch = memberID, 0, 0
	target := d.g.targetOf(old.id)
	d.remove(old.id)
	d.add(consumerMemberRecord(d.g.name, &m))
	d.add(consumerTargetOfRecord(d.g.name, memberID, target))
	d.add(consumerCurrentRecord(d.g.name, &m))
	s.watchIfLost(d.g.name, old)
	return &m
}

// remove writes the tombstones of a member.
func (d *consumerStep) remove(memberID string) {
	d.add(consumerCurrentTombstone(d.g.name, memberID))
	d.add(consumerTargetOfTombstone(d.g.name, memberID))
	d.add(consumerMemberTombstone(d.g.name, memberID))
}

// checkMemberEpoch fences a member that does not know where it is. The epoch before is good enough if the member has nothing
// that it should not have: then the answer with the new one was lost.
func checkMemberEpoch(m *consumerMember, epoch int32, has []api.ConsumerGroupHeartbeatRequestTopicPartition) *refusal {
	fenced := func(how string) *refusal {
		return refuse(wire.ErrFencedMemberEpoch, "The consumer group member has a %s member epoch (%d) than the one known by the group coordinator (%d). "+
			"The member must abandon all its partitions and rejoin.", how, epoch, m.epoch)
	}
	switch {
	case epoch == epochJoin, epoch == m.epoch:
		return nil
	case epoch > m.epoch:
		return fenced("greater")
	case epoch == m.previousEpoch && has != nil && !slices.ContainsFunc(has, func(t api.ConsumerGroupHeartbeatRequestTopicPartition) bool {
		return len(m.assigned.of(t.TopicID)) == 0 || slices.ContainsFunc(t.Partitions, func(p int32) bool { return !m.assigned.has(t.TopicID, p) })
	}):
		return nil
	}
	return fenced("smaller")
}

// newUUID makes a member id for clients that leave that to the coordinator.
func (s *Shard) newUUID() string {
	for {
		var random [16]byte
		binary.BigEndian.PutUint64(random[:8], s.rnd.Uint64())
		binary.BigEndian.PutUint64(random[8:], s.rnd.Uint64())
		if u, ok := id.NewUUID(random); ok {
			return u.String()
		}
	}
}

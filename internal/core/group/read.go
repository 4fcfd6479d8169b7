package group

import (
	"maps"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// FetchOffsets answers one group of an OffsetFetch request from what is committed. Topics that are nil ask for all. Topic names
// must be filled in, whatever the version.
func (s *Shard) FetchOffsets(req *api.OffsetFetchRequestGroup) api.OffsetFetchResponseGroup {
	return s.fetch(req, s.committedGroup(req.GroupID), s.committedCommit, false)
}

// FetchStableOffsets answers like FetchOffsets, but from the working state (KIP-447): the reply, an
// api.OffsetFetchResponseGroup, leaves once all it is based on is committed. Offsets of open transactions are unstable.
func (s *Shard) FetchStableOffsets(t Turn, req *api.OffsetFetchRequestGroup) shard.Result {
	s.begin(t.Now)
	s.res.Reply = s.fetch(req, s.groups[req.GroupID], s.offsets.get, true)
	return s.end()
}

func (s *Shard) fetch(req *api.OffsetFetchRequestGroup, e *entry, get func(string, topicPartition) *Commit, stable bool) api.OffsetFetchResponseGroup {
	resp := api.OffsetFetchResponseGroup{GroupID: req.GroupID}
	if e != nil && e.consumer != nil {
		if resp.ErrorCode = checkConsumerFetch(e.consumer, req); resp.ErrorCode != wire.ErrNone {
			return resp
		}
	}
	if e != nil && e.modern != nil && e.modern.kind == kindShare {
		e = nil // it has no offsets here
	}
	if e != nil && e.modern != nil && (req.MemberID != nil || req.MemberEpoch >= 0) {
		resp.ErrorCode = wire.ErrUnknownMemberID // see checkCommit
		return resp
	}
	if req.Topics == nil {
		if e != nil {
			resp.Topics = s.fetchAll(req.GroupID, get, stable)
		}
		return resp
	}
	for i := range req.Topics {
		topic := &req.Topics[i]
		one := api.OffsetFetchResponseGroupTopic{Name: topic.Name, TopicID: topic.TopicID}
		for _, p := range topic.PartitionIndexes {
			tp := topicPartition{topic.Name, p}
			var c *Commit
			if e != nil {
				c = get(req.GroupID, tp)
			}
			if c != nil && !c.TopicID.IsZero() && !topic.TopicID.IsZero() && c.TopicID != topic.TopicID {
				c = nil // of an earlier topic of this name
			}
			one.Partitions = append(one.Partitions, s.fetched(p, c, stable && s.txns.has(req.GroupID, tp)))
		}
		resp.Topics = append(resp.Topics, one)
	}
	return resp
}

func (s *Shard) fetched(partition int32, c *Commit, unstable bool) api.OffsetFetchResponseGroupTopicPartition {
	p := api.OffsetFetchResponseGroupTopicPartition{PartitionIndex: partition, CommittedOffset: -1, CommittedLeaderEpoch: -1, Metadata: new(string)}
	switch {
	case unstable:
		p.ErrorCode = wire.ErrUnstableOffsetCommit
	case c != nil:
		p.CommittedOffset, p.CommittedLeaderEpoch, p.Metadata = int64(c.Offset), int32(c.LeaderEpoch), &c.Metadata
	}
	return p
}

func (s *Shard) fetchAll(name string, get func(string, topicPartition) *Commit, stable bool) []api.OffsetFetchResponseGroupTopic {
	all := s.offsets.partitions(name)
	if o := s.open[name]; o != nil {
		all = slices.AppendSeq(all, maps.Keys(o.commits))
		slices.SortFunc(all, compareTP)
		all = slices.Compact(all)
	}
	var topics []api.OffsetFetchResponseGroupTopic
	for _, tp := range all {
		c := get(name, tp)
		if c == nil {
			continue
		}
		if n := len(topics); n == 0 || topics[n-1].Name != tp.topic {
			topics = append(topics, api.OffsetFetchResponseGroupTopic{Name: tp.topic})
		}
		last := &topics[len(topics)-1]
		last.Partitions = append(last.Partitions, s.fetched(tp.partition, c, stable && s.txns.has(name, tp)))
	}
	return topics
}

// DescribeGroups describes the classic groups of these names; version is that of the request.
func (s *Shard) DescribeGroups(names []string, version int16) []api.DescribeGroupsResponseGroup {
	all := make([]api.DescribeGroupsResponseGroup, 0, len(names))
	for _, name := range names {
		one := api.DescribeGroupsResponseGroup{GroupID: name, AuthorizedOperations: -1 << 31}
		e := s.committedGroup(name)
		switch {
		case e != nil && e.classic != nil:
			describe(&one, e.classic)
		default:
			one.GroupState = Dead.String()
			if version >= 6 {
				one.ErrorCode = wire.ErrGroupIDNotFound
				message := "Group " + name + " not found."
				if e != nil {
					message = "Group " + name + " is not a classic group."
				}
				one.ErrorMessage = &message
			}
		}
		all = append(all, one)
	}
	return all
}

func describe(one *api.DescribeGroupsResponseGroup, g *classicGroup) {
	one.GroupState, one.ProtocolType = g.state.String(), g.protocolType
	stable := g.state == Stable && g.protocol != nil
	if stable {
		one.ProtocolData = *g.protocol
	}
	for _, m := range g.list() {
		d := api.DescribeGroupsResponseGroupMember{
			MemberID: m.id, GroupInstanceID: m.instance, ClientID: m.clientID, ClientHost: m.clientHost,
			MemberAssignment: m.assignment, MemberMetadata: []byte{},
		}
		if stable {
			d.MemberMetadata = m.metadata(*g.protocol)
		}
		one.Members = append(one.Members, d)
	}
}

// ListGroups lists the groups in one of the states and of one of the types given, in any case of letters; an empty filter lets
// all pass.
func (s *Shard) ListGroups(states, types []string) []api.ListGroupsResponseGroup {
	folded := make([]string, len(states))
	for i, text := range states {
		folded[i] = strings.ToLower(strings.TrimSpace(text))
	}
	var all []api.ListGroupsResponseGroup
	names := s.committedNames()
	inTableOrder(names)
	for _, name := range names {
		e := s.committedGroup(name)
		one := api.ListGroupsResponseGroup{GroupID: name}
		one.GroupType, one.GroupState = e.describe()
		switch {
		case e.classic != nil:
			one.ProtocolType = e.classic.protocolType
		case e.consumer != nil:
			one.ProtocolType = consumerProtocol
		default:
			one.ProtocolType = one.GroupType
		}
		if len(states) > 0 && !slices.Contains(folded, strings.ToLower(one.GroupState)) {
			continue
		}
		if len(types) > 0 && !slices.ContainsFunc(types, func(text string) bool { return strings.EqualFold(text, one.GroupType) }) {
			continue
		}
		all = append(all, one)
	}
	return all
}

// Offset returns the working commit of a partition, for tests and tools; ok is false if there is none.
func (s *Shard) Offset(name, topic string, partition int32) (offset id.Offset, ok bool) {
	if c := s.offsets.get(name, topicPartition{topic, partition}); c != nil {
		return c.Offset, true
	}
	return 0, false
}

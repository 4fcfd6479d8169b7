package group

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Epochs with a meaning of their own in ConsumerGroupHeartbeat (KIP-848).
const (
	epochJoin        = 0  // the member joins, or joins again after it was fenced
	epochLeave       = -1 // the member leaves
	epochStaticLeave = -2 // the static member leaves for a while and keeps its partitions
)

// memberState says how far a member is on its way to its target assignment. The numbers are those in the records.
type memberState int8

const (
	memberStable     memberState = 0 // has its target assignment
	memberUnrevoked  memberState = 1 // has to give partitions back first
	memberUnreleased memberState = 2 // waits for partitions that others have to give back
	memberUnknown    memberState = 127
)

// memberStateOf reads a state that a later release may have written.
func memberStateOf(n int8) memberState {
	switch s := memberState(n); s {
	case memberStable, memberUnrevoked, memberUnreleased:
		return s
	}
	return memberUnknown
}

// consumerMember is one member of a consumer group. It is never changed once made.
type consumerMember struct {
	id                   string
	epoch, previousEpoch int32
	state                memberState
	instance, rack       *string
	rebalanceTimeoutMs   int32
	clientID, clientHost string
	topics               []string // subscribed by name, ascending, without repetition
	regex                string   // subscribed by pattern; empty: none
	assignor             *string
	assigned, revoking   partitionEpochs
	classic              *logrec.ConsumerGroupMemberMetadataValueClassicMemberMetadata // of a member that speaks the classic protocol
}

func newConsumerMember(memberID string) *consumerMember {
	return &consumerMember{id: memberID, previousEpoch: -1, state: memberStable, rebalanceTimeoutMs: -1}
}

// reconciled says whether the member has what the target assignment of that epoch gives it.
func (m *consumerMember) reconciled(targetEpoch int32) bool {
	return m.state == memberStable && m.epoch == targetEpoch
}

// sameMetadata says whether the member's metadata record would be the same.
func (m *consumerMember) sameMetadata(o *consumerMember) bool {
	return equalText(m.instance, o.instance) && equalText(m.rack, o.rack) && m.rebalanceTimeoutMs == o.rebalanceTimeoutMs &&
		m.clientID == o.clientID && m.clientHost == o.clientHost && slices.Equal(m.topics, o.topics) && m.regex == o.regex &&
		equalText(m.assignor, o.assignor) && (m.classic == nil) == (o.classic == nil) &&
		(m.classic == nil || string(encodeClassic(m.classic)) == string(encodeClassic(o.classic)))
}

func encodeClassic(c *logrec.ConsumerGroupMemberMetadataValueClassicMemberMetadata) []byte {
	return logrec.EncodeVersioned(&logrec.ConsumerGroupMemberMetadataValue{ClassicMemberMetadata: c}, 0)
}

func (m *consumerMember) sameAssignment(o *consumerMember) bool {
	return m.epoch == o.epoch && m.previousEpoch == o.previousEpoch && m.state == o.state && m.assigned.equal(o.assigned) &&
		m.revoking.equal(o.revoking)
}

func equalText(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

// resolvedRegex is what a pattern means. It is never changed once made.
type resolvedRegex struct {
	topics      []string // ascending
	version     int64    // of the image
	timestampMs int64
}

// consumerGroup is a group of the consumer protocol as its records say. A group that is in the shard's map is changed only
// within the decision that made it; every other decision makes a new version first (see consumerChange), so that what is committed
// can still be read. Versions share all that is the same in them, so that one costs as much as its changes, however many members
// there are.
type consumerGroup struct {
	name        string
	epoch       int32
	hash        int64 // of the metadata of all subscribed topics
	members     image.Map[string, *consumerMember]
	target      image.Map[string, partitionList] // by member
	targetEpoch int32
	targetMs    int64 // when the target was computed; 0: nobody waits for the next
	regexes     image.Map[string, *resolvedRegex]
	// legacyMetadata says that there is a record of a kind that is not written any more.
	legacyMetadata bool

	turn uint64 // the decision that made it
	view consumerView

	// soft is shared by all versions of the group.
	soft *consumerSoft
}

// consumerSoft is what is not in the log.
type consumerSoft struct {
	// The metadata that the hash was last compared with, and the group epoch of then.
	topics    *image.Topics
	cluster   *image.Cluster
	checkedAt int32
	// What the member that was changed last says of itself. The next one mostly says the same, and shares it.
	clientID, clientHost string
	names                []string // of its topics
}

func newConsumerGroup(name string) *consumerGroup {
	return &consumerGroup{
		name: name, epoch: 1, targetEpoch: 1, members: image.NewMap[string, *consumerMember](image.HashString),
		target: image.NewMap[string, partitionList](image.HashString), regexes: image.NewMap[string, *resolvedRegex](image.HashString),
		view: newConsumerView(), soft: &consumerSoft{},
	}
}

func (g *consumerGroup) clone() *consumerGroup {
	c := *g
	return &c
}

// member returns the member of that id, or nil.
func (g *consumerGroup) member(memberID string) *consumerMember {
	m, _ := g.members.Get(memberID)
	return m
}

func (g *consumerGroup) setMember(m *consumerMember) {
	g.view.replace(g.member(m.id), m)
	g.members = g.members.With(m.id, m)
}

func (g *consumerGroup) dropMember(memberID string) {
	g.view.replace(g.member(memberID), nil)
	g.members = g.members.Without(memberID)
}

// share lets m have in common with the member before what both say of themselves.
func (g *consumerGroup) share(m *consumerMember) {
	o := g.soft
	if m.clientID == o.clientID {
		m.clientID = o.clientID
	}
	if m.clientHost == o.clientHost {
		m.clientHost = o.clientHost
	}
	if slices.Equal(m.topics, o.names) {
		m.topics = o.names
	}
	o.clientID, o.clientHost, o.names = m.clientID, m.clientHost, m.topics
}

// targetOf returns the target assignment of a member; it is nil if there is none.
func (g *consumerGroup) targetOf(memberID string) partitionList {
	a, _ := g.target.Get(memberID)
	return a
}

// pattern returns what a pattern means, or nil if that is not known.
func (g *consumerGroup) pattern(regex string) *resolvedRegex {
	r, _ := g.regexes.Get(regex)
	return r
}

// setPattern says what a pattern means; nil forgets it.
func (g *consumerGroup) setPattern(regex string, r *resolvedRegex) {
	if old := g.pattern(regex); old != nil {
		g.view.subscribe(old.topics, subscribers{byRegex: -1})
	}
	if r == nil {
		g.regexes = g.regexes.Without(regex)
		return
	}
	g.regexes = g.regexes.With(regex, r)
	g.view.subscribe(r.topics, subscribers{byRegex: 1})
}

// isOwned says whether some member has not given the partition back yet.
func (g *consumerGroup) isOwned(topic id.UUID, p int32) bool {
	_, ok := g.view.owned.Get(place{topic, p})
	return ok
}

// homogeneous says whether all members read the same topics, as far as that is cheap to see. It is asked of the group with the member that
// has just come; Kafka asks the group before if nothing else changed, and then gives a member that reads nothing yet its share.
func (g *consumerGroup) homogeneous() bool {
	v := &g.view
	if v.patterns.Len() == 0 {
		for _, n := range v.topics.All() {
			if n.byName != g.members.Len() {
				return false
			}
		}
		return true
	}
	for _, n := range v.patterns.All() {
		if n != g.members.Len() {
			return false
		}
	}
	for _, n := range v.topics.All() {
		if n.byRegex != 1 || n.byName > 0 {
			return false
		}
	}
	return true
}

// preferredAssignor is the one most members ask for; empty if none asks. At a tie it is always the same one. In Kafka it depends on the
// order of a hash table, which can be another one before and after the same heartbeat, so that each begins an epoch.
func (g *consumerGroup) preferredAssignor() string {
	best, most := "", 0
	for name, n := range g.view.assignors.All() {
		if n > most || n == most && name > best {
			best, most = name, n
		}
	}
	return best
}

func (g *consumerGroup) state() string {
	switch {
	case g.members.Len() == 0:
		return "Empty"
	case g.epoch > g.targetEpoch:
		return "Assigning"
	}
	for _, m := range g.members.All() {
		if !m.reconciled(g.targetEpoch) {
			return "Reconciling"
		}
	}
	return "Stable"
}

func (g *consumerGroup) subscribed(topic string) bool { _, ok := g.view.topics.Get(topic); return ok }

// staticMember returns the member of an instance, or nil.
func (g *consumerGroup) staticMember(instance string) *consumerMember {
	if memberID, ok := g.view.static.Get(instance); ok {
		return g.member(memberID)
	}
	return nil
}

// memberTopics returns the names that a member is subscribed to, by name or by what its pattern means, ascending.
func (g *consumerGroup) memberTopics(m *consumerMember) []string {
	r := g.pattern(m.regex)
	switch {
	case m.regex == "" || r == nil || len(r.topics) == 0:
		return m.topics
	case len(m.topics) == 0:
		return r.topics
	}
	all := slices.Concat(m.topics, r.topics)
	slices.Sort(all)
	return slices.Compact(all)
}

// memberIDs returns the ids of all members, sorted.
func (g *consumerGroup) memberIDs() []string {
	ids := make([]string, 0, g.members.Len())
	for memberID := range g.members.All() {
		ids = append(ids, memberID)
	}
	slices.Sort(ids)
	return ids
}

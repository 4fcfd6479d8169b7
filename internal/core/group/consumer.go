package group

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/assignor"
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

// partitionEpochs are partitions by topic, each with the epoch at which it was assigned. Never changed once made; no topic is
// without partitions.
type partitionEpochs map[id.UUID]map[int32]int32

func (a partitionEpochs) has(topic id.UUID, p int32) bool { _, ok := a[topic][p]; return ok }

func (a partitionEpochs) equal(b partitionEpochs) bool {
	return maps.EqualFunc(a, b, func(x, y map[int32]int32) bool { return maps.Equal(x, y) })
}

// topics returns the topics in order, so that records are the same for the same assignment.
func (a partitionEpochs) topics() []id.UUID { return slices.SortedFunc(maps.Keys(a), compareUUID) }

func compareUUID(a, b id.UUID) int { return slices.Compare(a[:], b[:]) }

// withEpoch returns the same partitions, all with that epoch.
func (a partitionEpochs) withEpoch(epoch int32) partitionEpochs {
	b := make(partitionEpochs, len(a))
	for t, list := range a {
		b[t] = make(map[int32]int32, len(list))
		for p := range list {
			b[t][p] = epoch
		}
	}
	return b
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
// within the decision that made it; every other decision makes a new one first (see consumerChange), so that what is committed
// can still be read.
type consumerGroup struct {
	name        string
	epoch       int32
	hash        int64 // of the metadata of all subscribed topics
	members     map[string]*consumerMember
	target      map[string]assignor.Assignment // by member; the inner maps are never changed
	targetEpoch int32
	targetMs    int64 // when the target was computed; 0: nobody waits for the next
	regexes     map[string]*resolvedRegex
	// legacyMetadata says that there is a record of a kind that is not written any more.
	legacyMetadata bool

	turn uint64 // the decision that made it
	view *consumerView

	// soft is shared by all versions of the group.
	soft *consumerSoft
}

// consumerSoft is what is not in the log.
type consumerSoft struct {
	// The metadata that the hash was last compared with, and the group epoch of then.
	topics    *image.Topics
	cluster   *image.Cluster
	checkedAt int32
}

func newConsumerGroup(name string) *consumerGroup {
	return &consumerGroup{
		name: name, epoch: 1, targetEpoch: 1, members: make(map[string]*consumerMember),
		target: make(map[string]assignor.Assignment), regexes: make(map[string]*resolvedRegex), soft: &consumerSoft{},
	}
}

func (g *consumerGroup) clone() *consumerGroup {
	c := *g
	c.members, c.target, c.regexes = maps.Clone(g.members), maps.Clone(g.target), maps.Clone(g.regexes)
	c.view = nil
	return &c
}

// subscribers counts how a topic is subscribed to: by how many members by name, and by how many patterns.
type subscribers struct{ byName, byRegex int }

// consumerView is what follows from a group's records, computed when it is asked for.
type consumerView struct {
	topics    map[string]subscribers
	patterns  map[string]int // members by pattern
	assignors map[string]int
	static    map[string]string // member id by instance
	classic   int               // members that speak the classic protocol
	owners    map[id.UUID]map[int32]int32
}

// see returns the view.
func (g *consumerGroup) see() *consumerView {
	if g.view != nil {
		return g.view
	}
	v := &consumerView{topics: make(map[string]subscribers), patterns: make(map[string]int), assignors: make(map[string]int), static: make(map[string]string)}
	for _, m := range g.members {
		for _, t := range m.topics {
			n := v.topics[t]
			n.byName++
			v.topics[t] = n
		}
		if m.regex != "" {
			v.patterns[m.regex]++
		}
		if m.assignor != nil {
			v.assignors[*m.assignor]++
		}
		if m.instance != nil {
			v.static[*m.instance] = m.id
		}
		if m.classic != nil {
			v.classic++
		}
	}
	for _, r := range g.regexes {
		for _, t := range r.topics {
			n := v.topics[t]
			n.byRegex++
			v.topics[t] = n
		}
	}
	g.view = v
	return v
}

// owned returns which partitions some member still has, with the member's epoch.
func (g *consumerGroup) owned() map[id.UUID]map[int32]int32 {
	v := g.see()
	if v.owners != nil {
		return v.owners
	}
	v.owners = make(map[id.UUID]map[int32]int32)
	for _, m := range g.members {
		for _, a := range []partitionEpochs{m.assigned, m.revoking} {
			for t, list := range a {
				at := v.owners[t]
				if at == nil {
					at = make(map[int32]int32, len(list))
					v.owners[t] = at
				}
				for p := range list {
					at[p] = m.epoch
				}
			}
		}
	}
	return v.owners
}

// isOwned says whether some member has not given the partition back yet.
func (g *consumerGroup) isOwned(topic id.UUID, p int32) bool {
	_, ok := g.owned()[topic][p]
	return ok
}

// homogeneous says whether all members read the same topics, as far as that is cheap to see.
func (g *consumerGroup) homogeneous() bool {
	v := g.see()
	if len(v.patterns) == 0 {
		for _, n := range v.topics {
			if n.byName != len(g.members) {
				return false
			}
		}
		return true
	}
	for _, n := range v.patterns {
		if n != len(g.members) {
			return false
		}
	}
	for _, n := range v.topics {
		if n.byRegex != 1 || n.byName > 0 {
			return false
		}
	}
	return true
}

// preferredAssignor is the one most members ask for; empty if none asks.
func (g *consumerGroup) preferredAssignor() string {
	best, most := "", 0
	counts := g.see().assignors
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		if counts[name] >= most {
			best, most = name, counts[name]
		}
	}
	return best
}

func (g *consumerGroup) state() string {
	switch {
	case len(g.members) == 0:
		return "Empty"
	case g.epoch > g.targetEpoch:
		return "Assigning"
	}
	for _, m := range g.members {
		if !m.reconciled(g.targetEpoch) {
			return "Reconciling"
		}
	}
	return "Stable"
}

func (g *consumerGroup) subscribed(topic string) bool { _, ok := g.see().topics[topic]; return ok }

// staticMember returns the member of an instance, or nil.
func (g *consumerGroup) staticMember(instance string) *consumerMember {
	if memberID, ok := g.see().static[instance]; ok {
		return g.members[memberID]
	}
	return nil
}

// memberTopics returns the names that a member is subscribed to, by name or by what its pattern means, ascending.
func (g *consumerGroup) memberTopics(m *consumerMember) []string {
	r := g.regexes[m.regex]
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
	return slices.SortedFunc(maps.Keys(g.members), strings.Compare)
}

func sortedPartitions[V any](m map[int32]V) []int32 {
	return slices.SortedFunc(maps.Keys(m), cmp.Compare[int32])
}

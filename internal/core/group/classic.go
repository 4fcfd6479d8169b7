package group

import (
	"cmp"
	"slices"
	"time"
	"unicode/utf16"

	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// State is the state of a classic group.
type State int8

// States. A group that is gone answers as Dead.
const (
	Empty State = iota
	PreparingRebalance
	CompletingRebalance
	Stable
	Dead
)

// String returns the state as DescribeGroups and ListGroups spell it.
func (s State) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead"}[s]
}

// consumerProtocol is the protocol type of consumers; only for it does the coordinator look into the members' metadata.
const consumerProtocol = "consumer"

// protocol is one protocol that a member offers, in the member's order of preference.
type protocol struct {
	name     string
	metadata []byte
}

// member is one member of a classic group.
type member struct {
	id, clientID, clientHost   string
	instance                   *string // group.instance.id of a static member (KIP-345)
	rebalanceTimeoutMs         int32
	sessionTimeoutMs           int32
	protocols                  []protocol
	assignment                 []byte
	awaitingJoin, awaitingSync shard.Ticket
	isNew                      bool // has not completed a join phase yet, so the session runs while it waits
	unsynced                   bool // is of this generation and has not sent SyncGroup
	gone                       bool // from its group
}

// satisfiesHeartbeat says whether a passed session deadline is to be overlooked because the member waits for an answer.
func (m *member) satisfiesHeartbeat() bool {
	return !m.isNew && (m.awaitingJoin != shard.NoTicket || m.awaitingSync != shard.NoTicket)
}

func (m *member) metadata(name string) []byte {
	for i := range m.protocols {
		if m.protocols[i].name == name {
			return m.protocols[i].metadata
		}
	}
	return nil
}

// matches says whether the member offered exactly these protocols, in this order.
func (m *member) matches(offered []api.JoinGroupRequestProtocol) bool {
	return slices.EqualFunc(m.protocols, offered, func(p protocol, q api.JoinGroupRequestProtocol) bool {
		return p.name == q.Name && string(p.metadata) == string(q.Metadata)
	})
}

// setProtocols keeps what is offered. If that is what the other member offers, which may be nil, both share one copy.
func (m *member) setProtocols(offered []api.JoinGroupRequestProtocol, other *member) {
	if other != nil && other.matches(offered) {
		m.protocols = other.protocols
		return
	}
	m.protocols = make([]protocol, len(offered))
	for i, p := range offered {
		m.protocols[i] = protocol{p.Name, slices.Clone(p.Metadata)}
	}
}

// classicGroup is a group of the classic protocol.
type classicGroup struct {
	name            string
	state, previous State
	stateSinceMs    int64  // -1 if the record did not say (group metadata before version 2)
	protocolType    string // empty: none, as for simple consumers
	protocol        *string
	generation      int32
	leader          string // empty: none
	// members are in order of joining. Of those that have left, the last ones may still be among them: see list and first.
	members        []*member
	left           int // how many those are
	byID           map[string]*member
	static         map[string]string   // group instance id to member id
	pendingJoin    map[string]struct{} // ids given out and not used yet (KIP-394)
	unsynced       int                 // members of this generation that have not sent SyncGroup
	awaitingJoin   int
	supported      map[string]int      // members offering each protocol
	topics         map[string]struct{} // what the members subscribe to; nil if not known
	newMemberAdded bool
	initial        bool          // this is an initial rebalance, which may be extended:
	remaining      time.Duration // how much longer it may wait for members that keep coming,
	comingSteps    int           // and for those that have been given an id
	syncFor        int32         // the generation that the sync phase has its deadline for
	logged         bool          // there is a record of the group
}

func newClassicGroup(name string, now time.Time) *classicGroup {
	return &classicGroup{
		name: name, state: Empty, previous: Dead, stateSinceMs: now.UnixMilli(),
		byID: make(map[string]*member), static: make(map[string]string), pendingJoin: make(map[string]struct{}),
		supported: make(map[string]int),
	}
}

func (g *classicGroup) transition(to State, now time.Time) {
	g.previous, g.state = g.state, to
	g.stateSinceMs = now.UnixMilli()
}

// canRebalance says whether a rebalance may start, as opposed to being under way.
func (g *classicGroup) canRebalance() bool {
	return g.state == Stable || g.state == CompletingRebalance || g.state == Empty
}

func (g *classicGroup) isSimple() bool {
	return g.protocolType == "" && g.state == Empty && len(g.pendingJoin) == 0
}

func (g *classicGroup) usesConsumerProtocol() bool { return g.protocolType == consumerProtocol }

// subscribed says whether members read the topic, as far as the coordinator knows: a consumer group whose members cannot be
// understood counts as subscribed to everything.
func (g *classicGroup) subscribed(topic string) bool {
	if g.topics == nil {
		return g.usesConsumerProtocol()
	}
	_, ok := g.topics[topic]
	return ok
}

// first returns the member that has been there longest, or nil.
func (g *classicGroup) first() *member {
	for len(g.members) > 0 && g.members[0].gone {
		g.members[0] = nil
		g.members = g.members[1:]
		g.left--
	}
	if len(g.members) == 0 {
		return nil
	}
	return g.members[0]
}

// list returns the members in order of joining. Taking one out costs little before somebody wants to see them all.
func (g *classicGroup) list() []*member {
	if g.left > 0 {
		g.members, g.left = slices.DeleteFunc(g.members, func(m *member) bool { return m.gone }), 0
	}
	return g.members
}

// share lets m have its names in common with another member: those of a group mostly run on the same client.
func (m *member) share(other *member) {
	if m.clientID == other.clientID {
		m.clientID = other.clientID
	}
	if m.clientHost == other.clientHost {
		m.clientHost = other.clientHost
	}
	if slices.EqualFunc(m.protocols, other.protocols, func(p, q protocol) bool { return p.name == q.name && string(p.metadata) == string(q.metadata) }) {
		m.protocols = other.protocols
	}
}

func (g *classicGroup) add(m *member, protocolType string) {
	if first := g.first(); first != nil {
		m.share(first)
	}
	if m.instance != nil {
		g.static[*m.instance] = m.id
	}
	if len(g.byID) == 0 {
		g.protocolType = protocolType
	}
	if g.leader == "" {
		g.leader = m.id
	}
	g.members = append(g.members, m)
	g.byID[m.id] = m
	g.count(m, 1)
	if m.awaitingJoin != shard.NoTicket {
		g.awaitingJoin++
	}
	delete(g.pendingJoin, m.id)
}

func (g *classicGroup) remove(memberID string) {
	if m := g.byID[memberID]; m != nil {
		m.gone = true
		g.left++
		delete(g.byID, memberID)
		g.count(m, -1)
		if m.awaitingJoin != shard.NoTicket {
			g.awaitingJoin--
		}
		g.setUnsynced(m, false)
		if m.instance != nil {
			delete(g.static, *m.instance)
		}
		if g.left > len(g.byID)+minDone {
			g.list() // they must not become ever more
		}
	}
	if g.leader == memberID {
		g.leader = ""
		if first := g.first(); first != nil {
			g.leader = first.id
		}
	}
	delete(g.pendingJoin, memberID)
}

func (g *classicGroup) count(m *member, by int) {
	for _, p := range m.protocols {
		if g.supported[p.name] += by; g.supported[p.name] == 0 {
			delete(g.supported, p.name)
		}
	}
}

// setAwaitingJoin keeps the count of waiting members right.
func (g *classicGroup) setAwaitingJoin(m *member, t shard.Ticket) {
	if m.awaitingJoin != shard.NoTicket {
		g.awaitingJoin--
	}
	if t != shard.NoTicket {
		g.awaitingJoin++
	}
	m.awaitingJoin = t
}

// setUnsynced keeps the count of members right that have not sent SyncGroup.
func (g *classicGroup) setUnsynced(m *member, yes bool) {
	if m.unsynced != yes {
		m.unsynced = yes
		if g.unsynced--; yes {
			g.unsynced += 2
		}
	}
}

// expectSync says whether every member has to send SyncGroup.
func (g *classicGroup) expectSync(yes bool) {
	for _, m := range g.list() {
		g.setUnsynced(m, yes)
	}
}

func (g *classicGroup) update(m *member, req *api.JoinGroupRequest, t shard.Ticket) {
	g.count(m, -1)
	m.setProtocols(req.Protocols, g.first())
	g.count(m, 1)
	m.rebalanceTimeoutMs, m.sessionTimeoutMs = req.RebalanceTimeoutMs, req.SessionTimeoutMs
	g.setAwaitingJoin(m, t)
}

func (g *classicGroup) allJoined() bool {
	return len(g.byID) == g.awaitingJoin && len(g.pendingJoin) == 0
}

// rebalanceTimeout is the longest that any member allows.
func (g *classicGroup) rebalanceTimeout() time.Duration {
	longest := int32(0)
	for _, m := range g.list() {
		longest = max(longest, m.rebalanceTimeoutMs)
	}
	return time.Duration(longest) * time.Millisecond
}

// check says whether the member, or the static member of that instance, is known.
func (g *classicGroup) check(memberID string, instance *string) wire.ErrorCode {
	if instance != nil {
		existing, ok := g.static[*instance]
		if !ok {
			return wire.ErrUnknownMemberID
		}
		if existing != memberID {
			return wire.ErrFencedInstanceID
		}
	}
	if g.byID[memberID] == nil {
		return wire.ErrUnknownMemberID
	}
	return wire.ErrNone
}

// supports says whether a member with these protocols fits: all members must have one in common.
func (g *classicGroup) supports(protocolType string, offered []api.JoinGroupRequestProtocol) bool {
	if g.state == Empty {
		return protocolType != "" && len(offered) > 0
	}
	if g.protocolType == "" || g.protocolType != protocolType {
		return false
	}
	return slices.ContainsFunc(offered, func(p api.JoinGroupRequestProtocol) bool { return g.supported[p.Name] == len(g.byID) })
}

// selectProtocol lets each member vote for its favourite among the protocols that all support; most votes win.
func (g *classicGroup) selectProtocol() string {
	var candidates []string // in order of their first vote
	votes := make(map[string]int)
	for _, m := range g.list() {
		for _, p := range m.protocols {
			if g.supported[p.name] == len(g.byID) {
				if votes[p.name]++; votes[p.name] == 1 {
					candidates = append(candidates, p.name)
				}
				break
			}
		}
	}
	// Kafka breaks a tie by the order of a Java hash map. Clients can observe that, so it is done the same way here.
	slices.SortStableFunc(candidates, func(a, b string) int { return javaBucket(a, len(candidates)) - javaBucket(b, len(candidates)) })
	best := ""
	for _, name := range candidates {
		if best == "" || votes[name] > votes[best] {
			best = name
		}
	}
	return best
}

// nextGeneration ends the join phase.
func (g *classicGroup) nextGeneration(now time.Time) {
	g.generation++
	if len(g.byID) > 0 {
		name := g.selectProtocol()
		g.protocol = &name
		g.topics = g.subscription()
		g.transition(CompletingRebalance, now)
	} else {
		g.protocol = nil
		g.topics = g.subscription()
		g.transition(Empty, now)
	}
	g.expectSync(false)
}

// subscription reads the members' topics from their metadata; nil if the group is not of consumers or cannot be understood.
func (g *classicGroup) subscription() map[string]struct{} {
	if !g.usesConsumerProtocol() {
		return nil
	}
	topics := make(map[string]struct{})
	if len(g.byID) == 0 {
		return topics
	}
	if g.protocol == nil {
		return nil
	}
	for _, m := range g.list() {
		b := m.metadata(*g.protocol)
		if len(b) < 2 {
			return nil
		}
		// Behind the version, whatever it is: version 0 is a prefix of every later one.
		r := wire.NewReader(b[2:], nil)
		var sub logrec.ConsumerProtocolSubscription
		sub.Decode(r, 0)
		if r.Err() != nil {
			return nil
		}
		for _, topic := range sub.Topics {
			topics[topic] = struct{}{}
		}
	}
	return topics
}

// PartitionOf returns the partition of __consumer_offsets that holds a group, of count partitions.
func PartitionOf(group string, count int32) int32 {
	h := javaHash(group)
	if h == -1<<31 {
		return 0
	}
	return max(h, -h) % count
}

// javaHash is String.hashCode of Java, over UTF-16 units.
func javaHash(s string) int32 {
	h := int32(0)
	for _, r := range s {
		if a, b := utf16.EncodeRune(r); r > 0xffff {
			h = 31*(31*h+int32(a)) + int32(b)
			continue
		}
		h = 31*h + r
	}
	return h
}

// javaBucket is the bucket of s in a java.util.HashMap of n entries with default load.
func javaBucket(s string, n int) int {
	size := 16
	for n > size*3/4 {
		size *= 2
	}
	h := uint32(javaHash(s))
	return int((h ^ h>>16) & uint32(size-1))
}

// inTableOrder brings names into the order in which Kafka's coordinator has them in its own hash table, where its answers take them
// from: by the upper bits of the hash, of a table that doubles when it is more than four thirds full.
func inTableOrder(names []string) {
	size, bits := 2, 1
	for len(names)*3 > size*4 {
		size, bits = size*2, bits+1
	}
	slot := func(name string) uint64 { return uint64(int64(javaHash(name))) * 0x9e3779b97f4a7c15 >> (64 - bits) }
	// In one slot the last that came is the first; which that is is not known any more, and the names stand for it.
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(slot(a), slot(b)), cmp.Compare(b, a)) })
}

// utf16Length is String.length of Java.
func utf16Length(s string) int {
	n := 0
	for _, r := range s {
		n += max(1, utf16.RuneLen(r))
	}
	return n
}

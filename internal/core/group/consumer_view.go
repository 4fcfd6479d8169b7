package group

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
)

// subscribers counts how a topic is subscribed to: by how many members by name, and by how many patterns.
type subscribers struct{ byName, byRegex int }

func hashPlace(p place) uint64 {
	return image.HashUUID(p.topic) + uint64(uint32(p.partition))*0x9e3779b97f4a7c15 // an odd factor: neighbours part at the first level
}

// consumerView is what follows from the members and patterns of a group. It goes with every change of these, at the cost of the
// change, and versions of a group share it like the rest.
type consumerView struct {
	topics    image.Map[string, subscribers]
	patterns  image.Map[string, int]    // members by pattern
	assignors image.Map[string, int]    // members by the assignor they want
	protocols image.Map[string, int]    // of the members that speak the classic protocol, those they have in common with others
	static    image.Map[string, string] // member id by instance
	owned     image.Map[place, int]     // how many members have the partition: one, but for what a classic leader assigned
	classic   int                       // members that speak the classic protocol
}

func newConsumerView() consumerView {
	counts := func() image.Map[string, int] { return image.NewMap[string, int](image.HashString) }
	return consumerView{
		topics: image.NewMap[string, subscribers](image.HashString), patterns: counts(), assignors: counts(), protocols: counts(),
		static: image.NewMap[string, string](image.HashString), owned: image.NewMap[place, int](hashPlace),
	}
}

func counted[K comparable](m image.Map[K, int], key K, by int) image.Map[K, int] {
	n, _ := m.Get(key)
	if n += by; n == 0 {
		return m.Without(key)
	}
	return m.With(key, n)
}

func (v *consumerView) subscribe(topics []string, by subscribers) {
	for _, t := range topics {
		n, _ := v.topics.Get(t)
		if n.byName, n.byRegex = n.byName+by.byName, n.byRegex+by.byRegex; n == (subscribers{}) {
			v.topics = v.topics.Without(t)
		} else {
			v.topics = v.topics.With(t, n)
		}
	}
}

// replace follows a member from old to m; nil is a member that is not there.
func (v *consumerView) replace(old, m *consumerMember) {
	if old == nil {
		old = &consumerMember{}
	}
	if m == nil {
		m = &consumerMember{}
	}
	if !slices.Equal(old.topics, m.topics) {
		v.subscribe(old.topics, subscribers{byName: -1})
		v.subscribe(m.topics, subscribers{byName: 1})
	}
	if old.regex != m.regex {
		v.patterns = countedText(v.patterns, &old.regex, -1)
		v.patterns = countedText(v.patterns, &m.regex, 1)
	}
	if !equalText(old.assignor, m.assignor) {
		v.assignors = countedText(v.assignors, old.assignor, -1)
		v.assignors = countedText(v.assignors, m.assignor, 1)
	}
	if old.id != m.id || !equalText(old.instance, m.instance) {
		v.rename(old, m)
	}
	if old.classic != m.classic {
		v.speak(old, -1)
		v.speak(m, 1)
	}
	v.own(old, m, -1)
	v.own(m, old, 1)
}

// countedText counts a text that may not be there; an empty one is not.
func countedText(m image.Map[string, int], text *string, by int) image.Map[string, int] {
	if text == nil || *text == "" {
		return m
	}
	return counted(m, *text, by)
}

func (v *consumerView) rename(old, m *consumerMember) {
	if old.instance != nil {
		if holder, _ := v.static.Get(*old.instance); holder == old.id {
			v.static = v.static.Without(*old.instance)
		}
	}
	if m.instance != nil {
		v.static = v.static.With(*m.instance, m.id)
	}
}

func (v *consumerView) speak(m *consumerMember, by int) {
	if m.classic == nil {
		return
	}
	v.classic += by
	for i := range m.classic.SupportedProtocols {
		v.protocols = counted(v.protocols, m.classic.SupportedProtocols[i].Name, by)
	}
}

// own counts the partitions that m has and not other.
func (v *consumerView) own(m, other *consumerMember, by int) {
	for at := range m.assigned.all() {
		if !other.owns(at.topic, at.partition) {
			v.owned = counted(v.owned, at, by)
		}
	}
	for at := range m.revoking.all() {
		if !other.owns(at.topic, at.partition) && !m.assigned.has(at.topic, at.partition) {
			v.owned = counted(v.owned, at, by)
		}
	}
}

// owns says whether the member has the partition, be it to give it back.
func (m *consumerMember) owns(topic id.UUID, p int32) bool {
	return m.assigned.has(topic, p) || m.revoking.has(topic, p)
}

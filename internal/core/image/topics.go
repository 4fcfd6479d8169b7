package image

import (
	"iter"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Topic is one topic with its partitions.
type Topic struct {
	Name       string
	ID         id.UUID
	Partitions []*Partition // ascending by ID; without gaps unless the log has gaps
}

// Partition returns partition n, or nil.
func (t *Topic) Partition(n int32) *Partition {
	if n >= 0 && int(n) < len(t.Partitions) && t.Partitions[n].ID == n {
		return t.Partitions[n]
	}
	if i, ok := t.search(n); ok {
		return t.Partitions[i]
	}
	return nil
}

func (t *Topic) search(n int32) (int, bool) {
	return slices.BinarySearchFunc(t.Partitions, n, func(p *Partition, n int32) int { return int(int64(p.ID) - int64(n)) })
}

// Topics are all topics, by name and by id.
type Topics struct {
	byID   Map[id.UUID, *Topic]
	byName Map[string, *Topic]
}

func newTopics() *Topics {
	return &Topics{
		byID:   NewMap[id.UUID, *Topic](func(u id.UUID) uint64 { return HashUUID(u) }),
		byName: NewMap[string, *Topic](HashString),
	}
}

// ByName returns the topic called name, or nil.
func (t *Topics) ByName(name string) *Topic {
	topic, _ := t.byName.Get(name)
	return topic
}

// ByID returns the topic with an id, or nil.
func (t *Topics) ByID(topic id.UUID) *Topic {
	found, _ := t.byID.Get(topic)
	return found
}

// Partition returns one partition of the topic called name, or nil.
func (t *Topics) Partition(name string, n int32) *Partition {
	if topic := t.ByName(name); topic != nil {
		return topic.Partition(n)
	}
	return nil
}

// Len returns the number of topics.
func (t *Topics) Len() int { return t.byID.Len() }

// All iterates over the topics in an order without meaning.
func (t *Topics) All() iter.Seq[*Topic] {
	return func(yield func(*Topic) bool) {
		for _, topic := range t.byID.All() {
			if !yield(topic) {
				return
			}
		}
	}
}

// Names returns all names in order.
func (t *Topics) Names() []string {
	names := make([]string, 0, t.Len())
	for topic := range t.All() {
		names = append(names, topic.Name)
	}
	slices.Sort(names)
	return names
}

// withIn adds or replaces a topic as part of an edit, which uses t up.
func (t *Topics) withIn(by *edit, topic *Topic) *Topics {
	return &Topics{byID: t.byID.withIn(by, topic.ID, topic), byName: t.byName.withIn(by, topic.Name, topic)}
}

// without removes a topic; its name stays when it names another topic by now.
func (t *Topics) without(topic *Topic) *Topics {
	n := &Topics{byID: t.byID.Without(topic.ID), byName: t.byName}
	if cur := t.ByName(topic.Name); cur != nil && cur.ID == topic.ID {
		n.byName = t.byName.Without(topic.Name)
	}
	return n
}

func (t *Topics) records(v MetadataVersion, elr bool, emit func(Record) bool) bool {
	for topic := range t.All() {
		if !emit(Record{Message: &logrec.TopicRecord{Name: topic.Name, TopicID: topic.ID}}) {
			return false
		}
		for _, p := range topic.Partitions {
			if !emit(p.Record(topic.ID, v, elr)) {
				return false
			}
		}
	}
	return true
}

package image

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// TopicChange is one topic that a delta created or changed.
type TopicChange struct {
	Name string
	ID   id.UUID
	// Before is the topic in the image before the delta; nil for a new one.
	Before *Topic
	after  *Topic
	parts  map[int32]*Partition
}

// PartitionChange is one partition that a delta created or changed.
type PartitionChange struct {
	Before *Partition // nil for a new one
	After  *Partition
}

// Partitions lists the partitions that were created or changed, ascending by id.
func (c *TopicChange) Partitions() []PartitionChange {
	out := make([]PartitionChange, 0, len(c.parts))
	for n, p := range c.parts {
		pc := PartitionChange{After: p}
		if c.Before != nil {
			pc.Before = c.Before.Partition(n)
		}
		out = append(out, pc)
	}
	slices.SortFunc(out, func(a, b PartitionChange) int { return int(int64(a.After.ID) - int64(b.After.ID)) })
	return out
}

// After returns the topic after the delta; nil until Apply has run.
func (c *TopicChange) After() *Topic { return c.after }

func (c *TopicChange) get(n int32) *Partition {
	if p, ok := c.parts[n]; ok {
		return p
	}
	if c.Before != nil {
		return c.Before.Partition(n)
	}
	return nil
}

// apply makes the topic after the delta: one copy of the partition list, whatever the number of changes.
func (c *TopicChange) apply() *Topic {
	t := &Topic{Name: c.Name, ID: c.ID}
	var added []*Partition
	if c.Before != nil {
		t.Partitions = slices.Clone(c.Before.Partitions)
	}
	for n, p := range c.parts {
		if i, ok := t.search(n); ok {
			t.Partitions[i] = p
		} else {
			added = append(added, p)
		}
	}
	if len(added) > 0 {
		t.Partitions = append(t.Partitions, added...)
		slices.SortFunc(t.Partitions, func(a, b *Partition) int { return int(int64(a.ID) - int64(b.ID)) })
	}
	c.after = t
	return t
}

// TopicsDelta is what a delta does to the topics.
type TopicsDelta struct {
	base    *Topics
	changed map[id.UUID]*TopicChange
	deleted map[id.UUID]*Topic // topics of base
	created map[string]id.UUID // names given by this delta
}

func newTopicsDelta(base *Topics) *TopicsDelta {
	return &TopicsDelta{base: base, changed: map[id.UUID]*TopicChange{}, deleted: map[id.UUID]*Topic{}, created: map[string]id.UUID{}}
}

// Changed lists the topics created or changed, by name. A topic created and deleted by the same delta is not in it.
func (d *TopicsDelta) Changed() []*TopicChange {
	out := make([]*TopicChange, 0, len(d.changed))
	for _, c := range d.changed {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *TopicChange) int {
		if a.Name != b.Name {
			if a.Name < b.Name {
				return -1
			}
			return 1
		}
		return a.ID.Compare(b.ID)
	})
	return out
}

// ChangedTopic returns the change of one topic, or nil.
func (d *TopicsDelta) ChangedTopic(topic id.UUID) *TopicChange { return d.changed[topic] }

// Deleted lists the topics of the old image that are gone, by name. A name that is deleted and created again by the same
// delta is in Deleted with the old id and in Changed with the new one: delete first.
func (d *TopicsDelta) Deleted() []*Topic {
	out := make([]*Topic, 0, len(d.deleted))
	for _, t := range d.deleted {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b *Topic) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// Empty reports whether no topic was created, changed or deleted.
func (d *TopicsDelta) Empty() bool { return len(d.changed) == 0 && len(d.deleted) == 0 }

func (d *TopicsDelta) byName(name string) (id.UUID, bool) {
	if u, ok := d.created[name]; ok {
		return u, true
	}
	if t := d.base.ByName(name); t != nil {
		if _, gone := d.deleted[t.ID]; !gone {
			return t.ID, true
		}
	}
	return id.UUID{}, false
}

func (d *TopicsDelta) create(r *logrec.TopicRecord) error {
	if other, ok := d.byName(r.Name); ok {
		return inconsistent("topic %s with id %v exists with id %v", r.Name, r.TopicID, other)
	}
	if d.base.ByID(r.TopicID) != nil || d.changed[r.TopicID] != nil {
		return inconsistent("topic %s takes the id %v of another topic", r.Name, r.TopicID)
	}
	d.changed[r.TopicID] = &TopicChange{Name: r.Name, ID: r.TopicID, parts: map[int32]*Partition{}}
	d.created[r.Name] = r.TopicID
	return nil
}

func (d *TopicsDelta) change(topic id.UUID) (*TopicChange, error) {
	if c := d.changed[topic]; c != nil {
		return c, nil
	}
	t := d.base.ByID(topic)
	if _, gone := d.deleted[topic]; t == nil || gone {
		return nil, inconsistent("no topic has id %v", topic)
	}
	c := &TopicChange{Name: t.Name, ID: t.ID, Before: t, parts: map[int32]*Partition{}}
	d.changed[topic] = c
	return c, nil
}

func (d *TopicsDelta) partition(r *logrec.PartitionRecord) error {
	c, err := d.change(r.TopicID)
	if err != nil {
		return err
	}
	if r.PartitionID < 0 {
		return inconsistent("topic %s has partition %d", c.Name, r.PartitionID)
	}
	p, err := partitionFromRecord(r)
	if err != nil {
		return err
	}
	c.parts[p.ID] = p
	return nil
}

func (d *TopicsDelta) partitionChange(r *logrec.PartitionChangeRecord) error {
	c, err := d.change(r.TopicID)
	if err != nil {
		return err
	}
	p := c.get(r.PartitionID)
	if p == nil {
		return inconsistent("topic %s has no partition %d to change", c.Name, r.PartitionID)
	}
	n, err := p.Changed(r)
	if err != nil {
		return err
	}
	c.parts[n.ID] = n
	return nil
}

func (d *TopicsDelta) remove(r *logrec.RemoveTopicRecord) (name string, err error) {
	if c := d.changed[r.TopicID]; c != nil {
		delete(d.changed, r.TopicID)
		if c.Before != nil {
			d.deleted[r.TopicID] = c.Before
		} else {
			delete(d.created, c.Name)
		}
		return c.Name, nil
	}
	t := d.base.ByID(r.TopicID)
	if _, gone := d.deleted[r.TopicID]; t == nil || gone {
		return "", inconsistent("no topic has id %v to delete", r.TopicID)
	}
	d.deleted[r.TopicID] = t
	return t.Name, nil
}

// clearElr empties the ELR of one topic, or of all when the record names none. Kafka bumps the partition epoch of each
// partition that had something to clear.
func (d *TopicsDelta) clearElr(r *logrec.ClearElrRecord) error {
	if r.TopicName != "" {
		topic, ok := d.byName(r.TopicName)
		if !ok {
			return inconsistent("no topic %s to clear the ELR of", r.TopicName)
		}
		return d.clearTopicElr(topic)
	}
	for _, topic := range d.created {
		if err := d.clearTopicElr(topic); err != nil {
			return err
		}
	}
	for t := range d.base.All() {
		if _, gone := d.deleted[t.ID]; gone {
			continue
		}
		if d.changed[t.ID] == nil && !slices.ContainsFunc(t.Partitions, hasElr) {
			continue
		}
		if err := d.clearTopicElr(t.ID); err != nil {
			return err
		}
	}
	return nil
}

func hasElr(p *Partition) bool { return len(p.ELR) > 0 || len(p.LastKnownELR) > 0 }

func (d *TopicsDelta) clearTopicElr(topic id.UUID) error {
	c, err := d.change(topic)
	if err != nil {
		return err
	}
	cleared := func(p *Partition) *Partition {
		n := *p
		n.ELR, n.LastKnownELR = nil, nil
		n.PartitionEpoch++
		return &n
	}
	if c.Before != nil {
		for _, p := range c.Before.Partitions {
			if _, changed := c.parts[p.ID]; !changed && hasElr(p) {
				c.parts[p.ID] = cleared(p)
			}
		}
	}
	for n, p := range c.parts {
		if hasElr(p) {
			c.parts[n] = cleared(p)
		}
	}
	return nil
}

// rebase makes a delta that was built over nothing (a snapshot) into one over base.
func (d *TopicsDelta) rebase(base *Topics) {
	for t := range base.All() {
		c := d.changed[t.ID]
		if c == nil {
			d.deleted[t.ID] = t
			continue
		}
		if slices.ContainsFunc(t.Partitions, func(p *Partition) bool { return c.parts[p.ID] == nil }) {
			// Partitions are never removed from a topic: the snapshot means a topic that was made anew.
			d.deleted[t.ID] = t
			continue
		}
		c.Before = t
		for _, p := range t.Partitions {
			if c.parts[p.ID].Equal(p) {
				delete(c.parts, p.ID)
			}
		}
		if len(c.parts) == 0 {
			delete(d.changed, t.ID)
		}
	}
	d.base = base
}

func (d *TopicsDelta) apply() *Topics {
	after := d.base
	for _, t := range d.deleted {
		after = after.without(t)
	}
	by := new(edit)
	for _, c := range d.changed {
		after = after.withIn(by, c.apply())
	}
	return after
}

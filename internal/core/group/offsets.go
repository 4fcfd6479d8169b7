package group

import (
	"cmp"
	"maps"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Commit is one committed offset. It is not changed once made.
type Commit struct {
	// Offset is where the group goes on reading.
	Offset id.Offset
	// LeaderEpoch is the epoch of the last record read, NoLeaderEpoch if the client did not say.
	LeaderEpoch id.LeaderEpoch
	// Metadata is the client's own note.
	Metadata string
	// TimestampMs is when the commit was made.
	TimestampMs int64
	// ExpireMs is when it expires, -1 unless the client asked for a retention of its own (OffsetCommit 2 to 4).
	ExpireMs int64
	// TopicID is the topic's id at that time, zero in records before version 4.
	TopicID id.UUID

	recordOffset id.Offset // of the commit record itself; -1 while it is not known
}

// offsetTable holds commits by group, topic and partition. No level is ever empty.
type offsetTable map[string]*groupOffsets

// groupOffsets are the commits of one group. It knows its own name, as topicOffsets do: a replay finds both by the bytes of a key
// and needs no copies of them.
type groupOffsets struct {
	name   string
	topics map[string]*topicOffsets
}

// topicOffsets are the commits of one group for one topic, in order of partition.
type topicOffsets struct {
	name string
	list []partitionOffset
}

type partitionOffset struct {
	partition int32
	commit    *Commit
}

func (t *topicOffsets) find(partition int32) (i int, found bool) {
	// Partitions mostly come in order, so the place behind the last one is tried first.
	if n := len(t.list); n == 0 || t.list[n-1].partition < partition {
		return n, false
	}
	return slices.BinarySearchFunc(t.list, partition, func(p partitionOffset, n int32) int { return cmp.Compare(p.partition, n) })
}

func (t *topicOffsets) get(partition int32) *Commit {
	if i, found := t.find(partition); found {
		return t.list[i].commit
	}
	return nil
}

func (t offsetTable) topic(group, topic string) *topicOffsets {
	if g := t[group]; g != nil {
		return g.topics[topic]
	}
	return nil
}

func (t offsetTable) get(group string, tp topicPartition) *Commit {
	if o := t.topic(group, tp.topic); o != nil {
		return o.get(tp.partition)
	}
	return nil
}

// put sets or, with c nil, removes. It returns what was there.
func (t offsetTable) put(group string, tp topicPartition, c *Commit) (before *Commit) {
	if c == nil {
		return t.remove(group, tp)
	}
	g := t[group]
	if g == nil {
		g = &groupOffsets{name: group, topics: make(map[string]*topicOffsets, 1)}
		t[group] = g
	}
	o := g.topics[tp.topic]
	if o == nil {
		o = &topicOffsets{name: tp.topic}
		g.topics[tp.topic] = o
	}
	i, found := o.find(tp.partition)
	if found {
		before, o.list[i].commit = o.list[i].commit, c
		return before
	}
	o.list = slices.Insert(o.list, i, partitionOffset{tp.partition, c})
	return nil
}

func (t offsetTable) remove(group string, tp topicPartition) (before *Commit) {
	o := t.topic(group, tp.topic)
	if o == nil {
		return nil
	}
	i, found := o.find(tp.partition)
	if !found {
		return nil
	}
	before = o.list[i].commit
	if o.list = slices.Delete(o.list, i, i+1); len(o.list) > 0 {
		return before
	}
	g := t[group]
	if delete(g.topics, tp.topic); len(g.topics) == 0 {
		delete(t, group)
	}
	return before
}

// partitions returns the partitions of a group in order of topic and number.
func (t offsetTable) partitions(group string) []topicPartition {
	g := t[group]
	if g == nil {
		return nil
	}
	n := 0
	for _, o := range g.topics {
		n += len(o.list)
	}
	all := make([]topicPartition, 0, n)
	for _, name := range sortedKeys(g.topics) {
		for _, p := range g.topics[name].list {
			all = append(all, topicPartition{name, p.partition})
		}
	}
	return all
}

func compareTP(a, b topicPartition) int {
	return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
}

// openTxns holds offsets of transactions that have no marker yet.
type openTxns struct {
	byProducer map[id.ProducerID]offsetTable
	counts     map[string]map[topicPartition]int // producers with an open offset, by group and partition
}

func (o *openTxns) has(group string, tp topicPartition) bool { return o.counts[group][tp] > 0 }

func (o *openTxns) put(p id.ProducerID, group string, tp topicPartition, c *Commit) {
	table := o.byProducer[p]
	if table == nil {
		table = make(offsetTable)
		o.byProducer[p] = table
	}
	if table.get(group, tp) == nil {
		o.add(group, tp, 1)
	}
	table.put(group, tp, c)
}

func (o *openTxns) get(p id.ProducerID, group string, tp topicPartition) *Commit {
	return o.byProducer[p].get(group, tp)
}

// set puts a former value back, or takes the present one away if c is nil.
func (o *openTxns) set(p id.ProducerID, group string, tp topicPartition, c *Commit) {
	if c != nil {
		o.put(p, group, tp, c)
		return
	}
	table := o.byProducer[p]
	if table.get(group, tp) == nil {
		return
	}
	table.put(group, tp, nil)
	o.add(group, tp, -1)
	if len(table) == 0 {
		delete(o.byProducer, p)
	}
}

func (o *openTxns) add(group string, tp topicPartition, n int) {
	counts := o.counts[group]
	if counts == nil {
		counts = make(map[topicPartition]int)
		o.counts[group] = counts
	}
	if counts[tp] += n; counts[tp] == 0 {
		delete(counts, tp)
	}
	if len(counts) == 0 {
		delete(o.counts, group)
	}
}

// drop forgets every open offset of a partition and returns how to take that back, or nil if there was none.
func (o *openTxns) drop(group string, tp topicPartition) (undo func()) {
	if !o.has(group, tp) {
		return nil
	}
	type kept struct {
		p id.ProducerID
		c *Commit
	}
	var all []kept
	for p, table := range o.byProducer {
		if c := table.get(group, tp); c != nil {
			all = append(all, kept{p, c})
			table.put(group, tp, nil)
			o.add(group, tp, -1)
		}
	}
	return func() {
		for _, k := range all {
			o.put(k.p, group, tp, k.c)
		}
	}
}

// end closes a transaction and returns its offsets by group.
func (o *openTxns) end(p id.ProducerID) offsetTable {
	table := o.byProducer[p]
	delete(o.byProducer, p)
	for group := range table {
		for _, tp := range table.partitions(group) {
			o.add(group, tp, -1)
		}
	}
	return table
}

// partitions returns the partitions of a group with open offsets, in order.
func (o *openTxns) partitions(group string) []topicPartition {
	return slices.SortedFunc(maps.Keys(o.counts[group]), compareTP)
}

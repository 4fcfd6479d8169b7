package group

import (
	"cmp"
	"iter"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/assignor"
)

// This file has the two forms in which partitions are kept. There is one of each for every member of a group, and most have few
// partitions, so both are lists without gaps.

// place is one partition of a topic.
type place struct {
	topic     id.UUID
	partition int32
}

func comparePlaces(a, b place) int {
	return cmp.Or(compareUUID(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
}

func compareUUID(a, b id.UUID) int { return slices.Compare(a[:], b[:]) }

// partitionList are partitions by topic, in order. It is never changed once made; no topic is without partitions.
type partitionList []topicPartitions

type topicPartitions struct {
	topic      id.UUID
	partitions []int32 // ascending
}

// newPartitionList takes partitions in any order. Lists that are in order are kept as they are.
func newPartitionList(a assignor.Assignment) partitionList {
	list := make(partitionList, 0, len(a))
	for t, partitions := range a {
		if len(partitions) > 0 {
			list = append(list, topicPartitions{t, ascending(partitions)})
		}
	}
	slices.SortFunc(list, func(a, b topicPartitions) int { return compareUUID(a.topic, b.topic) })
	return list
}

// ascending returns the numbers in order and without repetition.
func ascending(list []int32) []int32 {
	for i := 1; i < len(list); i++ {
		if list[i-1] >= list[i] {
			list = slices.Clone(list)
			slices.Sort(list)
			return slices.Compact(list)
		}
	}
	return list
}

// assignment is what assignors work with. The lists are those of l.
func (l partitionList) assignment() assignor.Assignment {
	a := make(assignor.Assignment, len(l))
	for _, t := range l {
		a[t.topic] = t.partitions
	}
	return a
}

func (l partitionList) of(topic id.UUID) []int32 {
	if i, ok := slices.BinarySearchFunc(l, topic, func(t topicPartitions, u id.UUID) int { return compareUUID(t.topic, u) }); ok {
		return l[i].partitions
	}
	return nil
}

func (l partitionList) equal(o partitionList) bool {
	return slices.EqualFunc(l, o, func(a, b topicPartitions) bool { return a.topic == b.topic && slices.Equal(a.partitions, b.partitions) })
}

// partitionEpochs are partitions by topic, in order, each with the epoch at which it was assigned. Never changed once made; no topic
// is without partitions.
type partitionEpochs []topicEpochs

type topicEpochs struct {
	topic id.UUID
	list  []partitionEpoch // ascending
}

type partitionEpoch struct{ partition, epoch int32 }

// epochs gathers a partitionEpochs, in any order.
type epochs []placeEpoch

type placeEpoch struct {
	place
	epoch int32
}

func (e *epochs) put(topic id.UUID, p, epoch int32) {
	*e = append(*e, placeEpoch{place{topic, p}, epoch})
}

// done returns what was put; of a partition that was put twice what was put first.
func (e epochs) done() partitionEpochs {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b placeEpoch) int { return comparePlaces(a.place, b.place) })
	e = slices.CompactFunc(e, func(a, b placeEpoch) bool { return a.place == b.place })
	topics := 1
	for i := 1; i < len(e); i++ {
		if e[i].topic != e[i-1].topic {
			topics++
		}
	}
	a, all := make(partitionEpochs, 0, topics), make([]partitionEpoch, len(e))
	begin := 0
	for i := range e {
		all[i] = partitionEpoch{e[i].partition, e[i].epoch}
		if i+1 == len(e) || e[i+1].topic != e[i].topic {
			a = append(a, topicEpochs{e[i].topic, all[begin : i+1 : i+1]})
			begin = i + 1
		}
	}
	return a
}

func (a partitionEpochs) of(topic id.UUID) []partitionEpoch {
	if i, ok := slices.BinarySearchFunc(a, topic, func(t topicEpochs, u id.UUID) int { return compareUUID(t.topic, u) }); ok {
		return a[i].list
	}
	return nil
}

// epoch returns the epoch of a partition; ok is false if it is not there.
func (a partitionEpochs) epoch(topic id.UUID, p int32) (epoch int32, ok bool) {
	list := a.of(topic)
	if i, ok := slices.BinarySearchFunc(list, p, func(e partitionEpoch, n int32) int { return cmp.Compare(e.partition, n) }); ok {
		return list[i].epoch, true
	}
	return 0, false
}

func (a partitionEpochs) has(topic id.UUID, p int32) bool { _, ok := a.epoch(topic, p); return ok }

// all returns every partition with its epoch, in order.
func (a partitionEpochs) all() iter.Seq2[place, int32] {
	return func(yield func(place, int32) bool) {
		for _, t := range a {
			for _, e := range t.list {
				if !yield(place{t.topic, e.partition}, e.epoch) {
					return
				}
			}
		}
	}
}

func (a partitionEpochs) equal(b partitionEpochs) bool {
	return slices.EqualFunc(a, b, func(x, y topicEpochs) bool { return x.topic == y.topic && slices.Equal(x.list, y.list) })
}

// same compares without regard to epochs.
func (a partitionEpochs) same(b partitionEpochs) bool {
	return slices.EqualFunc(a, b, func(x, y topicEpochs) bool {
		return x.topic == y.topic && slices.EqualFunc(x.list, y.list, func(p, q partitionEpoch) bool { return p.partition == q.partition })
	})
}

// partitions returns the numbers without the epochs.
func (t *topicEpochs) partitions() []int32 {
	list := make([]int32, len(t.list))
	for i, e := range t.list {
		list[i] = e.partition
	}
	return list
}

// list returns the partitions without their epochs.
func (a partitionEpochs) list() partitionList {
	l := make(partitionList, len(a))
	for i := range a {
		l[i] = topicPartitions{a[i].topic, a[i].partitions()}
	}
	return l
}

// withEpoch returns the same partitions, all with that epoch.
func (a partitionEpochs) withEpoch(epoch int32) partitionEpochs {
	var e epochs
	for at := range a.all() {
		e.put(at.topic, at.partition, epoch)
	}
	return e.done()
}

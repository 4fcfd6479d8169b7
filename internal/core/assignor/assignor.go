package assignor

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Names of the assignors, as in group.consumer.assignors.
const (
	NameUniform = "uniform"
	NameRange   = "range"
)

// ErrUnknownTopic reports a subscription to a topic without partitions.
var ErrUnknownTopic = errors.New("a member is subscribed to a topic that does not exist")

// Assignment is what one member has: partitions by topic, ascending, no topic without partitions.
type Assignment map[id.UUID][]int32

// Member is one member of the group.
type Member struct {
	ID string
	// Instance is the group.instance.id of a static member, nil otherwise.
	Instance *string
	// Topics are the topics it is subscribed to, without repetition.
	Topics []id.UUID
	// Assigned is its assignment so far. No partition is assigned to two members.
	Assigned Assignment
}

// Input is what an assignor looks at.
type Input struct {
	Members []Member
	// Homogeneous says that all members have the same subscription.
	Homogeneous bool
	// Partitions returns how many partitions a topic has, negative if there is no such topic.
	Partitions func(topic id.UUID) int32
}

// Func is an assignor. The result names every member, except that members of a group that is subscribed to nothing may be left
// out.
type Func func(in Input) (map[string]Assignment, error)

// ByName returns an assignor, or nil.
func ByName(name string) Func {
	switch name {
	case NameUniform:
		return Uniform
	case NameRange:
		return Range
	}
	return nil
}

// sorted returns the members in order of id.
func sorted(members []Member) []*Member {
	list := make([]*Member, len(members))
	for i := range members {
		list[i] = &members[i]
	}
	slices.SortFunc(list, func(a, b *Member) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// compareIDs is Uuid.compareTo of Java: two signed longs.
func compareIDs(a, b id.UUID) int {
	return cmp.Or(cmp.Compare(int64(binary.BigEndian.Uint64(a[:8])), int64(binary.BigEndian.Uint64(b[:8]))),
		cmp.Compare(int64(binary.BigEndian.Uint64(a[8:])), int64(binary.BigEndian.Uint64(b[8:]))))
}

func sortedTopics(topics []id.UUID) []id.UUID {
	list := slices.Clone(topics)
	slices.SortFunc(list, compareIDs)
	return list
}

func topicsOf(a Assignment) []id.UUID { return slices.SortedFunc(maps.Keys(a), compareIDs) }

// sizes asks for the partition count of each topic once.
func sizes(in Input, topics []id.UUID, known map[id.UUID]int32) error {
	for _, t := range topics {
		if _, ok := known[t]; ok {
			continue
		}
		n := in.Partitions(t)
		if n < 0 {
			return ErrUnknownTopic
		}
		known[t] = n
	}
	return nil
}

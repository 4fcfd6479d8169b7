package assignor

import (
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
)

// topicRange hands out the partitions of one topic from the front.
type topicRange struct {
	partitions, members int32
	extra, next         int32
	started             bool
}

// take returns the next member's range, end exclusive.
func (r *topicRange) take() (start, end int32) {
	if !r.started {
		r.started, r.extra = true, r.partitions%r.members
	}
	quota := r.partitions / r.members
	if r.extra > 0 {
		quota++
		r.extra--
	}
	start = r.next
	r.next = min(start+quota, r.partitions)
	return start, r.next
}

// Range gives each member a consecutive range of every topic it is subscribed to. Static members come first, in order of their
// instance id, so that they keep their ranges when they come back under another member id.
func Range(in Input) (map[string]Assignment, error) {
	members := sorted(in.Members)
	slices.SortStableFunc(members, func(a, b *Member) int {
		switch {
		case a.Instance != nil && b.Instance != nil:
			return strings.Compare(*a.Instance, *b.Instance)
		case a.Instance != nil:
			return -1
		case b.Instance != nil:
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
	ranges := make(map[id.UUID]*topicRange)
	known := make(map[id.UUID]int32)
	for _, m := range members {
		if err := sizes(in, m.Topics, known); err != nil {
			return nil, err
		}
		for _, t := range m.Topics {
			if ranges[t] == nil {
				ranges[t] = &topicRange{partitions: known[t]}
			}
			ranges[t].members++
		}
	}
	result := make(map[string]Assignment, len(members))
	for _, m := range members {
		assigned := make(Assignment, len(m.Topics))
		for _, t := range m.Topics {
			start, end := ranges[t].take()
			for p := start; p < end; p++ {
				assigned[t] = append(assigned[t], p)
			}
		}
		result[m.ID] = assigned
	}
	return result, nil
}

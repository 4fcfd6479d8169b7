package assignor

import (
	"maps"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Uniform gives all members about as many partitions, and lets each keep what it has as far as that allows.
func Uniform(in Input) (map[string]Assignment, error) {
	if len(in.Members) == 0 {
		return map[string]Assignment{}, nil
	}
	if in.Homogeneous {
		return uniformSame(in)
	}
	return uniformMixed(in)
}

type partition struct {
	topic id.UUID
	index int32
}

// uniformSame is Uniform for members that all read the same topics: each gets the minimum quota, and the first ones one more.
func uniformSame(in Input) (map[string]Assignment, error) {
	members := sorted(in.Members)
	topics := sortedTopics(members[0].Topics)
	if len(topics) == 0 {
		return map[string]Assignment{}, nil
	}
	count := make(map[id.UUID]int32)
	if err := sizes(in, topics, count); err != nil {
		return nil, err
	}
	owned := make(map[partition]bool)
	for _, m := range members {
		for t, list := range m.Assigned {
			for _, p := range list {
				owned[partition{t, p}] = true
			}
		}
	}
	var free []partition
	total := 0
	for _, t := range topics {
		for p := range count[t] {
			if at := (partition{t, p}); !owned[at] {
				free = append(free, at)
			}
		}
		total += int(count[t])
	}
	result := make(map[string]Assignment, len(members))
	quota, extra := total/len(members), total%len(members)
	type room struct {
		member string
		left   int
	}
	var rooms []room
	for i, m := range members {
		left, hasExtra := quota, extra > 0
		if hasExtra {
			left++
		}
		kept := make(Assignment, len(m.Assigned))
		for _, t := range topicsOf(m.Assigned) {
			if _, ok := count[t]; !ok {
				continue
			}
			list := m.Assigned[t]
			keep := min(left, len(list))
			left -= keep
			if keep > 0 {
				kept[t] = slices.Clone(list[:keep])
			}
			for _, p := range list[keep:] {
				free = append(free, partition{t, p})
			}
		}
		// A member that is not full hands its claim to one more than the rest to a later one that may already have it, while
		// there are enough later ones.
		if left > 0 && hasExtra && len(members)-i > extra {
			left--
			hasExtra = false
		}
		if left > 0 {
			rooms = append(rooms, room{m.ID, left})
		}
		if hasExtra {
			extra--
		}
		result[m.ID] = kept
	}
	for _, r := range rooms {
		n := min(r.left, len(free))
		for _, p := range free[:n] {
			result[r.member][p.topic] = append(result[r.member][p.topic], p.index)
		}
		free = free[n:]
	}
	for _, a := range result {
		for _, list := range a {
			slices.Sort(list)
		}
	}
	return result, nil
}

// maxPasses bounds how often all topics are balanced again; Kafka has the same bound.
const maxPasses = 16

// mixed is the state of Uniform for members with different subscriptions. Members are numbers, in order of their id.
type mixed struct {
	members     []*Member
	count       map[id.UUID]int32
	subscribers map[id.UUID][]int
	owners      map[id.UUID][]int // of each partition; -1: nobody
	load        []int             // partitions of each member
}

func uniformMixed(in Input) (map[string]Assignment, error) {
	u := &mixed{members: sorted(in.Members), count: make(map[id.UUID]int32), subscribers: make(map[id.UUID][]int), owners: make(map[id.UUID][]int)}
	u.load = make([]int, len(u.members))
	for i, m := range u.members {
		if err := sizes(in, m.Topics, u.count); err != nil {
			return nil, err
		}
		for _, t := range m.Topics {
			u.subscribers[t] = append(u.subscribers[t], i)
		}
	}
	if len(u.count) == 0 {
		return map[string]Assignment{}, nil
	}
	for t, n := range u.count {
		u.owners[t] = slices.Repeat([]int{-1}, int(n))
	}
	for i, m := range u.members {
		reads := make(map[id.UUID]bool, len(m.Topics))
		for _, t := range m.Topics {
			reads[t] = true
		}
		for t, list := range m.Assigned {
			if !reads[t] {
				continue
			}
			for _, p := range list {
				// A topic that came back smaller under its id does not exist; a number beyond its end is not ours to keep.
				if int(p) < len(u.owners[t]) {
					u.owners[t][p] = i
					u.load[i]++
				}
			}
		}
	}
	order := u.sort(slices.Collect(maps.Keys(u.count)))
	var b balancer
	for _, t := range order {
		u.assignFree(&b, t)
	}
	u.balance(&b, order)
	result := make(map[string]Assignment, len(u.members))
	for _, m := range u.members {
		result[m.ID] = Assignment{}
	}
	for t, owners := range u.owners {
		for p, owner := range owners {
			if owner >= 0 {
				a := result[u.members[owner].ID]
				a[t] = append(a[t], int32(p))
			}
		}
	}
	return result, nil
}

// sort puts topics with many partitions per subscriber first, then those with few subscribers.
func (u *mixed) sort(topics []id.UUID) []id.UUID {
	slices.SortFunc(topics, func(a, b id.UUID) int {
		sa, sb := len(u.subscribers[a]), len(u.subscribers[b])
		ra, rb := float64(u.count[a])/float64(sa), float64(u.count[b])/float64(sb)
		switch {
		case ra > rb:
			return -1
		case ra < rb:
			return 1
		case sa != sb:
			return sa - sb
		}
		return compareIDs(a, b)
	})
	return topics
}

// assignFree gives each partition without an owner to the least loaded subscriber.
func (u *mixed) assignFree(b *balancer, t id.UUID) {
	started := false
	for p, owner := range u.owners[t] {
		if owner >= 0 {
			continue
		}
		if !started {
			b.start(u, t)
			started = true
		}
		u.move(t, p, b.nextLeast())
	}
}

func (u *mixed) move(t id.UUID, p, to int) {
	if from := u.owners[t][p]; from >= 0 {
		u.load[from]--
	}
	u.owners[t][p] = to
	u.load[to]++
}

// balance moves partitions topic by topic until a whole round of topics moves nothing.
func (u *mixed) balance(b *balancer, order []id.UUID) {
	order = slices.DeleteFunc(order, func(t id.UUID) bool { return len(u.subscribers[t]) < 2 })
	last := -1
	for range maxPasses {
		for i, t := range order {
			if i == last {
				return
			}
			if moved := u.balanceTopic(b, t); moved > 0 || last == -1 {
				last = i
			}
		}
	}
}

func (u *mixed) balanceTopic(b *balancer, t id.UUID) (moved int) {
	if b.start(u, t) <= 1 {
		return 0
	}
	owned := make(map[int][]int) // partitions of each owner, ascending
	for p, owner := range u.owners[t] {
		owned[owner] = append(owned[owner], p)
	}
	for !b.balanced() {
		most := b.nextMost()
		for most >= 0 && len(owned[most]) == 0 {
			b.excludeMost()
			most = b.nextMost()
		}
		if most < 0 {
			break
		}
		list := owned[most]
		p := list[len(list)-1]
		owned[most] = list[:len(list)-1]
		least := b.nextLeast()
		if b.balanced() {
			break
		}
		u.move(t, p, least)
		moved++
	}
	return moved
}

// balancer walks the subscribers of one topic from both ends of their load: one that receives moves up, one that gives moves
// down. The loads are those at the start; the walk itself accounts for what moves.
type balancer struct {
	load    []int
	members []int // by load, then by number

	leastEnd, leastLoad, nextL           int // members[:leastEnd] have leastLoad
	mostStart, mostEnd, mostLoad, nextMo int // members[mostStart:mostEnd] have mostLoad; those behind have been excluded
}

// start takes the subscribers of a topic and returns how far their loads are apart.
func (b *balancer) start(u *mixed, t id.UUID) (imbalance int) {
	b.load = u.load
	b.members = append(b.members[:0], u.subscribers[t]...)
	slices.SortFunc(b.members, func(x, y int) int {
		if d := b.load[x] - b.load[y]; d != 0 {
			return d
		}
		return x - y
	})
	n := len(b.members)
	low, high := b.load[b.members[0]], b.load[b.members[n-1]]
	b.leastEnd, b.leastLoad, b.nextL = 0, low-1, 0
	b.mostStart, b.mostEnd, b.mostLoad, b.nextMo = n, n, high+1, n-1
	return high - low
}

func (b *balancer) nextLeast() int {
	if b.nextL >= b.leastEnd {
		b.leastLoad++
		for b.leastEnd < len(b.members) && b.load[b.members[b.leastEnd]] == b.leastLoad {
			b.leastEnd++
		}
		b.nextL = 0
	}
	m := b.members[b.nextL]
	b.nextL++
	return m
}

// nextMost returns -1 when nobody is left.
func (b *balancer) nextMost() int {
	if b.nextMo < b.mostStart {
		if b.mostEnd <= b.mostStart && b.mostStart > 0 {
			b.mostLoad = b.load[b.members[b.mostStart-1]]
		} else {
			b.mostLoad--
		}
		for b.mostStart > 0 && b.load[b.members[b.mostStart-1]] == b.mostLoad {
			b.mostStart--
		}
		b.nextMo = b.mostEnd - 1
	}
	if b.nextMo < 0 {
		return -1
	}
	m := b.members[b.nextMo]
	b.nextMo--
	return m
}

// excludeMost takes the one that nextMost returned out of the walk.
func (b *balancer) excludeMost() {
	i := b.nextMo + 1
	b.members[i], b.members[b.mostEnd-1] = b.members[b.mostEnd-1], b.members[i]
	b.mostEnd--
}

func (b *balancer) balanced() bool { return b.mostLoad-b.leastLoad <= 1 }

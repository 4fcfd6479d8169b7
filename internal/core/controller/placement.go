package controller

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
)

// placer deals replicas out to brokers in stripes, so that leaders and followers spread evenly and the replicas of a partition
// sit in different racks where they can. The first replica is on a broker that is not fenced. Fenced brokers are used only when
// a rack has no other.
type placer struct {
	rand   Rand
	racks  []*rack
	usable int
	live   int
	offset int
	epoch  int
}

type rack struct {
	name         *string
	fenced, live stripe
}

// stripe hands out each of its brokers once per epoch, starting one further in each.
type stripe struct {
	brokers              []int32
	index, offset, epoch int
}

func (s *stripe) next(epoch int) int32 {
	if len(s.brokers) == 0 {
		return -1
	}
	if s.epoch != epoch {
		s.epoch, s.index = epoch, 0
		s.offset = (s.offset + 1) % len(s.brokers)
	}
	if s.index >= len(s.brokers) {
		return -1
	}
	b := s.brokers[(s.index+s.offset)%len(s.brokers)]
	s.index++
	return b
}

func randN(r Rand, n int) int { return int(r.Uint64() % uint64(n)) }

func shuffle[T any](r Rand, s []T) {
	for i := len(s) - 1; i > 0; i-- {
		j := randN(r, i+1)
		s[i], s[j] = s[j], s[i]
	}
}

func (c *Controller) newPlacer(r Rand) *placer {
	p := &placer{rand: r}
	for _, n := range c.img.Cluster.BrokerIDs() {
		b := c.img.Cluster.Broker(n)
		if c.beats.of(b).shuttingDown(b) || !b.HasUncordonedDirs() {
			continue
		}
		var in *rack
		for _, k := range p.racks {
			if (k.name == nil) == (b.Rack == nil) && (b.Rack == nil || *k.name == *b.Rack) {
				in = k
			}
		}
		if in == nil {
			in = &rack{name: b.Rack}
			p.racks = append(p.racks, in)
		}
		if b.Fenced {
			in.fenced.brokers = append(in.fenced.brokers, int32(n))
		} else {
			in.live.brokers = append(in.live.brokers, int32(n))
			p.live++
		}
		p.usable++
	}
	slices.SortFunc(p.racks, func(a, b *rack) int {
		switch {
		case a.name == nil:
			return -1
		case b.name == nil:
			return 1
		}
		return strings.Compare(*a.name, *b.name)
	})
	for _, k := range p.racks {
		for _, s := range []*stripe{&k.fenced, &k.live} {
			if len(s.brokers) > 0 {
				s.offset = randN(r, len(s.brokers))
			}
		}
	}
	if len(p.racks) > 0 {
		p.offset = randN(r, len(p.racks))
	}
	return p
}

// place returns the replicas of each of n partitions.
func (p *placer) place(n int32, replicas int16) ([][]int32, *Error) {
	switch {
	case replicas <= 0:
		return nil, errorf(wire.ErrInvalidReplicationFactor, fmt.Sprintf("Invalid replication factor %d: the replication factor must be positive.", replicas))
	case p.live == 0:
		return nil, errorf(wire.ErrInvalidReplicationFactor, "All brokers are currently fenced, or have all their log directories cordoned.")
	case int(replicas) > p.usable:
		return nil, errorf(wire.ErrInvalidReplicationFactor, fmt.Sprintf("The target replication factor of %d cannot be reached because only "+
			"%d broker(s) are registered or some brokers have all their log directories cordoned.", replicas, p.usable))
	}
	out := make([][]int32, n)
	for i := range out {
		out[i] = p.one(int(replicas))
	}
	return out, nil
}

func (p *placer) one(replicas int) []int32 {
	if p.epoch == p.live && p.live > 1 {
		// Every combination that striding gives was dealt; mix the cards.
		shuffle(p.rand, p.racks)
		for _, k := range p.racks {
			shuffle(p.rand, k.fenced.brokers)
			shuffle(p.rand, k.live.brokers)
		}
		p.epoch = 0
	}
	if p.offset == len(p.racks) {
		p.offset = 0
	}
	out := make([]int32, 0, replicas)
	first := p.offset
	for {
		if b := p.racks[first].live.next(p.epoch); b >= 0 {
			out = append(out, b)
			break
		}
		first = (first + 1) % len(p.racks)
	}
	at := p.offset
	for len(out) < replicas {
		b := int32(-1)
		for b < 0 {
			if at == first {
				first = -1 // the rack of the first replica is passed over once
			} else if b = p.racks[at].live.next(p.epoch); b < 0 {
				b = p.racks[at].fenced.next(p.epoch)
			}
			at = (at + 1) % len(p.racks)
		}
		out = append(out, b)
	}
	p.epoch++
	p.offset++
	return out
}

// defaultDir is the directory that a new replica gets before its broker says where it put it: with a single directory there is
// nothing to choose.
func (c *Controller) defaultDir(broker int32) id.UUID {
	if !c.img.Features.MetadataVersion.DirectoryAssignmentSupported() {
		return image.DirMigrating
	}
	b := c.img.Cluster.Broker(id.BrokerID(broker))
	switch {
	case b == nil:
		return image.DirUnassigned
	case len(b.Directories) == 0:
		return image.DirMigrating
	case len(b.Directories) == 1:
		return b.Directories[0]
	default:
		return image.DirUnassigned
	}
}

func (c *Controller) defaultDirs(replicas []int32) []id.UUID {
	dirs := make([]id.UUID, len(replicas))
	for i, r := range replicas {
		dirs[i] = c.defaultDir(r)
	}
	return dirs
}

// newPartition is a partition as it is created: the live replicas in sync, the first of them leading.
func (c *Controller) newPartition(n int32, replicas []int32) (*image.Partition, bool) {
	isr := slices.DeleteFunc(slices.Clone(replicas), func(r int32) bool { return !c.alive(r) })
	if len(isr) == 0 {
		return nil, false
	}
	return &image.Partition{ID: n, Replicas: replicas, Directories: c.defaultDirs(replicas), ISR: isr, Leader: id.BrokerID(isr[0])}, true
}

// checkAssignment checks replicas that a user chose. want is the replication factor of the partitions before; 0 before the first.
func (c *Controller) checkAssignment(replicas []int32, want int) *Error {
	if len(replicas) == 0 {
		return errorf(wire.ErrInvalidReplicaAssignment, "The manual partition assignment includes an empty replica list.")
	}
	prev := int32(-1)
	for i, r := range slices.Sorted(slices.Values(replicas)) {
		b := c.img.Cluster.Broker(id.BrokerID(r))
		switch {
		case b == nil:
			return errorf(wire.ErrInvalidReplicaAssignment, fmt.Sprintf("The manual partition assignment includes broker %d, but no such broker is registered.", r))
		case !b.HasUncordonedDirs():
			return errorf(wire.ErrInvalidReplicaAssignment, fmt.Sprintf("The manual partition assignment includes broker %d, but all its log directories are cordoned.", r))
		case i > 0 && r == prev:
			return errorf(wire.ErrInvalidReplicaAssignment, fmt.Sprintf("The manual partition assignment includes the broker %d more than once.", r))
		}
		prev = r
	}
	if want > 0 && len(replicas) != want {
		return errorf(wire.ErrInvalidReplicaAssignment, fmt.Sprintf("The manual partition assignment includes a partition with %d replica(s), "+
			"but this is not consistent with previous partitions, which have %d replica(s).", len(replicas), want))
	}
	return nil
}

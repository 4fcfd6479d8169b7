package controller

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// election says how far a leader election may go.
type election int8

const (
	electOnline    election = iota // any replica of the ISR, or of the ELR when the ISR is empty
	electPreferred                 // the same, but the preferred replica first even when the leader is fine
	electUnclean                   // as a last resort any replica that is alive, losing what it lacks
)

// change computes the one PartitionChangeRecord that brings a partition where it should be: it completes a reassignment that
// can be completed, maintains the ELR (KIP-966), elects a leader, and decides whether the leader epoch is bumped. It starts
// with the partition as it is; the caller sets targets.
type change struct {
	topic    id.UUID
	part     *image.Partition
	version  image.MetadataVersion
	elr      bool // the ELR feature is on
	minISR   int
	election election
	// acceptable says whether a replica is alive and on an online directory.
	acceptable func(broker int32) bool
	defaultDir func(broker int32) id.UUID

	isr, replicas, removing, adding []int32
	recovery                        image.RecoveryState
	uncleanShutdown                 []int32 // replicas that lost data, and so leave the ELR
	dirs                            map[int32]id.UUID

	targetELR, targetLastKnown []int32
}

func (c *Controller) newChange(t *image.Topic, p *image.Partition, alive func(int32) bool) *change {
	ch := &change{
		topic: t.ID, part: p, version: c.img.Features.MetadataVersion, elr: c.img.Features.ElrEnabled(),
		minISR: c.effectiveMinISR(t), defaultDir: c.defaultDir,
		isr: p.ISR, replicas: p.Replicas, removing: p.Removing, adding: p.Adding, recovery: p.RecoveryState,
		targetELR: p.ELR, targetLastKnown: p.LastKnownELR,
	}
	ch.acceptable = func(broker int32) bool {
		if !alive(broker) {
			return false
		}
		dir, ok := p.Directory(id.BrokerID(broker))
		b := c.img.Cluster.Broker(id.BrokerID(broker))
		return ok && b != nil && b.HasOnlineDir(dir)
	}
	if len(p.Directories) == len(p.Replicas) {
		ch.dirs = make(map[int32]id.UUID, len(p.Replicas))
		for i, r := range p.Replicas {
			ch.dirs[r] = p.Directories[i]
		}
	}
	return ch
}

// alive is the plain rule for who may lead: registered, not fenced, not shutting down.
func (c *Controller) alive(broker int32) bool {
	b := c.img.Cluster.Broker(id.BrokerID(broker))
	return b != nil && b.Active()
}

// build returns the record, or false when nothing changes.
func (ch *change) build() (image.Record, bool) {
	r := logrec.NewPartitionChangeRecord()
	r.TopicID, r.PartitionID = ch.topic, ch.part.ID
	ch.completeReassignment()
	ch.populateELR()
	ch.elect(r)
	ch.bumpForReassignment(r)
	ch.recordELR(r)
	if r.Isr == nil && (len(ch.isr) > 0 || ch.elr) && !slices.Equal(ch.isr, ch.part.ISR) {
		r.Isr = list(ch.isr) // with ELR it may be empty
	}
	ch.bumpForShrink(r)
	ch.recordLastKnownLeader(r)
	ch.recordAssignment(r)
	if ch.recovery != ch.part.RecoveryState {
		r.LeaderRecoveryState = int8(ch.recovery)
	}
	if isNoOp(r) {
		return image.Record{}, false
	}
	return image.Record{Message: r, Version: ch.version.PartitionRecordVersion()}, true
}

func isNoOp(r *logrec.PartitionChangeRecord) bool {
	return r.Isr == nil && r.EligibleLeaderReplicas == nil && r.LastKnownElr == nil && id.BrokerID(r.Leader) == image.NoLeaderChange &&
		r.Replicas == nil && r.RemovingReplicas == nil && r.AddingReplicas == nil &&
		image.RecoveryState(r.LeaderRecoveryState) == image.RecoveryNoChange && r.Directories == nil
}

// completeReassignment ends a reassignment once every added replica is in sync, and when replicas become fewer, once all that
// stay are.
func (ch *change) completeReassignment() {
	if len(ch.removing) == 0 && len(ch.adding) == 0 {
		return
	}
	isr, replicas := without(ch.isr, ch.removing), without(ch.replicas, ch.removing)
	if len(ch.removing) > 0 && (len(isr) == 0 || len(replicas) == 0) {
		return
	}
	if !containsAll(isr, ch.adding) || len(ch.adding) < len(ch.removing) && !containsAll(isr, replicas) {
		return
	}
	ch.isr, ch.replicas, ch.removing, ch.adding = isr, replicas, nil, nil
}

// populateELR: while the ISR is below min.insync.replicas, who leaves it stays eligible, for nothing can have been committed
// without it.
func (ch *change) populateELR() {
	if !ch.elr {
		return
	}
	if len(ch.isr) >= ch.minISR {
		ch.targetELR, ch.targetLastKnown = nil, nil
		return
	}
	candidates := ordered(append(slices.Clone(ch.targetELR), ch.part.ISR...))
	lost := func(r int32) bool { return slices.Contains(ch.isr, r) || slices.Contains(ch.uncleanShutdown, r) }
	ch.targetELR = slices.DeleteFunc(slices.Clone(candidates), lost)
	last := ordered(append(slices.Clone(candidates), ch.targetLastKnown...))
	ch.targetLastKnown = slices.DeleteFunc(last, func(r int32) bool {
		return slices.Contains(ch.isr, r) || slices.Contains(ch.targetELR, r)
	})
}

func (ch *change) valid(r int32) bool {
	return (slices.Contains(ch.isr, r) || len(ch.isr) == 0 && slices.Contains(ch.targetELR, r)) && ch.acceptable(r)
}

// choose returns the leader that should be, and whether choosing it may lose records.
func (ch *change) choose() (leader int32, unclean bool) {
	if ch.election == electPreferred && len(ch.replicas) > 0 && ch.valid(ch.replicas[0]) {
		return ch.replicas[0], false
	}
	if ch.valid(int32(ch.part.Leader)) {
		return int32(ch.part.Leader), false
	}
	if i := slices.IndexFunc(ch.replicas, ch.valid); i >= 0 {
		return ch.replicas[i], false
	}
	// Nobody is known to have everything. The last leader, alone in LastKnownELR, is the best that is left.
	if ch.elr && len(ch.targetELR) == 0 && len(ch.isr) == 0 && len(ch.part.LastKnownELR) == 1 && ch.acceptable(ch.part.LastKnownELR[0]) {
		return ch.part.LastKnownELR[0], true
	}
	if ch.election == electUnclean {
		if i := slices.IndexFunc(ch.replicas, ch.acceptable); i >= 0 {
			return ch.replicas[i], true
		}
	}
	return int32(image.NoLeader), false
}

func (ch *change) elect(r *logrec.PartitionChangeRecord) {
	leader, unclean := ch.choose()
	if leader == int32(ch.part.Leader) {
		return
	}
	if slices.Contains(ch.targetELR, leader) {
		ch.isr = []int32{leader}
		ch.targetELR = without(ch.targetELR, ch.isr)
	}
	r.Leader = leader
	if unclean {
		r.Isr = []int32{leader}
		if ch.part.RecoveryState != image.Recovering {
			r.LeaderRecoveryState = int8(image.Recovering)
		}
	}
}

// bumpForReassignment: replicas that are removed must notice that they no longer lead or follow.
func (ch *change) bumpForReassignment(r *logrec.PartitionChangeRecord) {
	if id.BrokerID(r.Leader) == image.NoLeaderChange && !containsAll(ch.replicas, ch.part.Replicas) {
		r.Leader = int32(ch.part.Leader)
	}
}

func (ch *change) bumpForShrink(r *logrec.PartitionChangeRecord) {
	if ch.version.LeaderEpochBumpOnIsrShrink() && id.BrokerID(r.Leader) == image.NoLeaderChange && r.Isr != nil &&
		!containsAll(r.Isr, ch.part.ISR) {
		r.Leader = int32(ch.part.Leader)
	}
}

func (ch *change) recordELR(r *logrec.PartitionChangeRecord) {
	if r.Isr != nil || !ch.elr { // an unclean election, or the feature was switched off
		ch.targetELR = nil
	}
	if !slices.Equal(ch.targetELR, ch.part.ELR) {
		r.EligibleLeaderReplicas = list(ch.targetELR)
	}
}

// recordLastKnownLeader keeps the last leader in LastKnownELR from when a partition loses its leader until it has one again.
func (ch *change) recordLastKnownLeader(r *logrec.PartitionChangeRecord) {
	if !ch.elr {
		return
	}
	switch {
	case id.BrokerID(r.Leader) == image.NoLeader && len(ch.part.LastKnownELR) == 0:
		r.LastKnownElr = []int32{int32(ch.part.Leader)}
	case r.Leader >= 0 && len(ch.part.LastKnownELR) > 0:
		r.LastKnownElr = []int32{}
	}
}

func (ch *change) recordAssignment(r *logrec.PartitionChangeRecord) {
	if len(ch.replicas) > 0 {
		if ch.version.DirectoryAssignmentSupported() {
			dirs := make([]id.UUID, len(ch.replicas))
			for i, b := range ch.replicas {
				dir, ok := ch.dirs[b]
				if !ok {
					dir = ch.defaultDir(b)
				}
				dirs[i] = dir
			}
			if !slices.Equal(dirs, ch.part.Directories) {
				r.Directories = dirs
			}
		}
		if !slices.Equal(ch.replicas, ch.part.Replicas) {
			r.Replicas = ch.replicas
		}
	}
	if !slices.Equal(ch.removing, ch.part.Removing) {
		r.RemovingReplicas = list(ch.removing)
	}
	if !slices.Equal(ch.adding, ch.part.Adding) {
		r.AddingReplicas = list(ch.adding)
	}
}

// list keeps an empty list apart from null.
func list(s []int32) []int32 {
	if s == nil {
		return []int32{}
	}
	return s
}

// without returns s without the members of drop, in a new slice.
func without(s, drop []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(s), func(v int32) bool { return slices.Contains(drop, v) })
}

func containsAll(s, all []int32) bool {
	return !slices.ContainsFunc(all, func(v int32) bool { return !slices.Contains(s, v) })
}

// ordered sorts s and drops doubles. Kafka's sets of small ids come out in this order too.
func ordered(s []int32) []int32 {
	slices.Sort(s)
	return slices.Compact(s)
}

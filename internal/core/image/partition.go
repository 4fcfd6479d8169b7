package image

import (
	"fmt"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// NoLeader is the leader of a partition that has none; NoLeaderChange in a PartitionChangeRecord leaves it as it is.
const (
	NoLeader       id.BrokerID = -1
	NoLeaderChange id.BrokerID = -2
)

// RecoveryState says whether a leader that was elected uncleanly still recovers (KIP-704).
type RecoveryState int8

// The recovery states as they are on the wire.
const (
	RecoveryNoChange RecoveryState = -1
	Recovered        RecoveryState = 0
	Recovering       RecoveryState = 1
)

// Reserved directory ids (KIP-858).
var (
	DirMigrating  = id.UUID{}
	DirUnassigned = id.UUID{15: 1}
	DirLost       = id.UUID{15: 2}
)

// ReservedDir reports whether u is one of the first hundred ids, which never name a real directory.
func ReservedDir(u id.UUID) bool {
	for _, b := range u[:15] {
		if b != 0 {
			return false
		}
	}
	return u[15] < 100
}

// Partition is one partition of a topic. Replica lists hold broker ids as the records and answers do (int32), so that
// answers can share them.
type Partition struct {
	ID          int32
	Replicas    []int32   // in order of preference
	Directories []id.UUID // the directory of each replica, in the order of Replicas
	ISR         []int32
	Removing    []int32
	Adding      []int32
	ELR         []int32
	// LastKnownELR holds the last leader while the partition has none, or what is left of the last ELR (KIP-966).
	LastKnownELR   []int32
	Leader         id.BrokerID
	RecoveryState  RecoveryState
	LeaderEpoch    id.LeaderEpoch
	PartitionEpoch int32
}

// PreferredReplica is the first replica, or NoLeader.
func (p *Partition) PreferredReplica() id.BrokerID {
	if len(p.Replicas) == 0 {
		return NoLeader
	}
	return id.BrokerID(p.Replicas[0])
}

// HasReplica reports whether broker b holds a replica.
func (p *Partition) HasReplica(b id.BrokerID) bool { return slices.Contains(p.Replicas, int32(b)) }

// Directory returns the directory of b's replica.
func (p *Partition) Directory(b id.BrokerID) (id.UUID, bool) {
	i := slices.Index(p.Replicas, int32(b))
	if i < 0 || i >= len(p.Directories) {
		return id.UUID{}, false
	}
	return p.Directories[i], true
}

// Reassigning reports whether replicas are being added or removed.
func (p *Partition) Reassigning() bool { return len(p.Removing) > 0 || len(p.Adding) > 0 }

// Equal compares two partitions field by field.
func (p *Partition) Equal(o *Partition) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.ID == o.ID && slices.Equal(p.Replicas, o.Replicas) && slices.Equal(p.Directories, o.Directories) &&
		slices.Equal(p.ISR, o.ISR) && slices.Equal(p.Removing, o.Removing) && slices.Equal(p.Adding, o.Adding) &&
		slices.Equal(p.ELR, o.ELR) && slices.Equal(p.LastKnownELR, o.LastKnownELR) && p.Leader == o.Leader &&
		p.RecoveryState == o.RecoveryState && p.LeaderEpoch == o.LeaderEpoch && p.PartitionEpoch == o.PartitionEpoch
}

func partitionFromRecord(r *logrec.PartitionRecord) (*Partition, error) {
	dirs, err := directories(r.Directories, len(r.Replicas))
	if err != nil {
		return nil, fmt.Errorf("partition %v:%d: %w", r.TopicID, r.PartitionID, err)
	}
	if s := RecoveryState(r.LeaderRecoveryState); s != Recovered && s != Recovering {
		return nil, inconsistent("partition %v:%d has leader recovery state %d", r.TopicID, r.PartitionID, s)
	}
	return &Partition{
		ID: r.PartitionID, Replicas: slices.Clone(r.Replicas), Directories: dirs, ISR: slices.Clone(r.Isr),
		Removing: slices.Clone(r.RemovingReplicas), Adding: slices.Clone(r.AddingReplicas),
		ELR: slices.Clone(r.EligibleLeaderReplicas), LastKnownELR: slices.Clone(r.LastKnownElr),
		Leader: id.BrokerID(r.Leader), RecoveryState: RecoveryState(r.LeaderRecoveryState),
		LeaderEpoch: id.LeaderEpoch(r.LeaderEpoch), PartitionEpoch: r.PartitionEpoch,
	}, nil
}

// directories returns one directory per replica: DirMigrating for each where the record gives none at all.
func directories(dirs []id.UUID, replicas int) ([]id.UUID, error) {
	if len(dirs) != 0 && len(dirs) != replicas {
		return nil, inconsistent("%d directories for %d replicas", len(dirs), replicas)
	}
	if len(dirs) == 0 {
		return make([]id.UUID, replicas), nil
	}
	return slices.Clone(dirs), nil
}

// Changed returns the partition after a PartitionChangeRecord: every change bumps the partition epoch, and a record that
// names a leader, even the same one, bumps the leader epoch.
func (p *Partition) Changed(r *logrec.PartitionChangeRecord) (*Partition, error) {
	n := *p
	n.PartitionEpoch++
	if r.Replicas != nil {
		n.Replicas = slices.Clone(r.Replicas)
	}
	if r.Directories != nil {
		n.Directories = r.Directories
	}
	if len(n.Directories) != len(n.Replicas) && allMigrating(n.Directories) {
		n.Directories = nil
	}
	dirs, err := directories(n.Directories, len(n.Replicas))
	if err != nil {
		return nil, fmt.Errorf("partition %v:%d: %w", r.TopicID, r.PartitionID, err)
	}
	n.Directories = dirs
	if r.Isr != nil {
		n.ISR = slices.Clone(r.Isr)
	}
	if r.RemovingReplicas != nil {
		n.Removing = slices.Clone(r.RemovingReplicas)
	}
	if r.AddingReplicas != nil {
		n.Adding = slices.Clone(r.AddingReplicas)
	}
	if l := id.BrokerID(r.Leader); l != NoLeaderChange {
		n.Leader = l
		n.LeaderEpoch++
	}
	switch s := RecoveryState(r.LeaderRecoveryState); s {
	case RecoveryNoChange:
	case Recovered, Recovering:
		n.RecoveryState = s
	default:
		return nil, inconsistent("partition %v:%d changes to leader recovery state %d", r.TopicID, r.PartitionID, s)
	}
	if r.EligibleLeaderReplicas != nil {
		n.ELR = slices.Clone(r.EligibleLeaderReplicas)
	}
	if r.LastKnownElr != nil {
		n.LastKnownELR = slices.Clone(r.LastKnownElr)
	}
	return &n, nil
}

func allMigrating(dirs []id.UUID) bool {
	return !slices.ContainsFunc(dirs, func(d id.UUID) bool { return d != DirMigrating })
}

// Record returns the PartitionRecord of p in the version that metadata.version v asks for.
func (p *Partition) Record(topic id.UUID, v MetadataVersion, elr bool) Record {
	r := &logrec.PartitionRecord{
		PartitionID: p.ID, TopicID: topic, Replicas: nonNil(p.Replicas), Isr: nonNil(p.ISR),
		RemovingReplicas: nonNil(p.Removing), AddingReplicas: nonNil(p.Adding), Leader: int32(p.Leader),
		LeaderRecoveryState: int8(p.RecoveryState), LeaderEpoch: int32(p.LeaderEpoch), PartitionEpoch: p.PartitionEpoch,
		Directories: []id.UUID{},
	}
	if elr && v.ElrSupported() {
		if len(p.ELR) > 0 {
			r.EligibleLeaderReplicas = p.ELR
		}
		if len(p.LastKnownELR) > 0 {
			r.LastKnownElr = p.LastKnownELR
		}
	}
	if v.DirectoryAssignmentSupported() {
		r.Directories = nonNil(p.Directories)
	}
	return Record{Message: r, Version: v.PartitionRecordVersion()}
}

// nonNil keeps an empty list apart from null, which most record fields refuse.
func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

package image

import "github.com/moldau-io/moldau/internal/base/id"

// LocalPartition is a partition that a broker holds and that a delta created or changed.
type LocalPartition struct {
	Topic     string
	TopicID   id.UUID
	Partition *Partition
	// Before is the partition in the image before; nil when it is new.
	Before *Partition
}

// NewLeaderEpoch reports whether the leader epoch moved, so that leadership starts afresh.
func (p LocalPartition) NewLeaderEpoch() bool {
	return p.Before == nil || p.Before.LeaderEpoch != p.Partition.LeaderEpoch
}

// LocalChanges is what a delta means for the replicas of one broker.
type LocalChanges struct {
	// Deletes are replicas that the broker must drop: their topic is gone, or the partition moved away. They come first: a
	// topic that was deleted and made again is in Deletes and in the other lists.
	Deletes []LocalPartition
	// Leaders and Followers are new or changed replicas by the role that the broker now has.
	Leaders, Followers []LocalPartition
}

// LocalChanges returns what the delta means for broker b.
func (d *TopicsDelta) LocalChanges(b id.BrokerID) LocalChanges {
	var out LocalChanges
	for _, t := range d.Deleted() {
		for _, p := range t.Partitions {
			if p.HasReplica(b) {
				out.Deletes = append(out.Deletes, LocalPartition{Topic: t.Name, TopicID: t.ID, Partition: p, Before: p})
			}
		}
	}
	for _, c := range d.Changed() {
		for _, p := range c.Partitions() {
			l := LocalPartition{Topic: c.Name, TopicID: c.ID, Partition: p.After, Before: p.Before}
			switch {
			case !p.After.HasReplica(b):
				if p.Before != nil && p.Before.HasReplica(b) {
					out.Deletes = append(out.Deletes, l)
				}
			case p.Before != nil && p.Before.PartitionEpoch == p.After.PartitionEpoch && p.Before.Equal(p.After):
			case p.After.Leader == b:
				out.Leaders = append(out.Leaders, l)
			default:
				out.Followers = append(out.Followers, l)
			}
		}
	}
	return out
}

package controller

import (
	"fmt"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// alterReassignments starts, changes and cancels reassignments (KIP-455, KIP-860).
func (c *Controller) alterReassignments(r *api.AlterPartitionReassignmentsRequest) Decision {
	answer := api.NewAlterPartitionReassignmentsResponse()
	if len(r.Topics) == 0 {
		return Decision{Answer: answer} // with an empty text rather than none, as Kafka's
	}
	answer.ErrorMessage = nil
	answer.AllowReplicationFactorChange = r.AllowReplicationFactorChange
	var records []image.Record
	for i := range r.Topics {
		rt := &r.Topics[i]
		at := api.AlterPartitionReassignmentsResponseResponse{Name: rt.Name}
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			rec, ok, e := c.reassign(rt.Name, rp, r.AllowReplicationFactorChange)
			if e == nil && ok {
				records = append(records, rec)
			}
			at.Partitions = append(at.Partitions, api.AlterPartitionReassignmentsResponseResponsePartition{
				PartitionIndex: rp.PartitionIndex, ErrorCode: e.code(), ErrorMessage: e.Message()})
		}
		answer.Responses = append(answer.Responses, at)
	}
	if len(records) > MaxRecordsPerOp {
		return Decision{Err: errTooManyRecords()}
	}
	return Decision{Records: records, Atomic: true, Answer: answer}
}

func (c *Controller) reassign(topic string, rp *api.AlterPartitionReassignmentsRequestTopicPartition, allowRF bool) (image.Record, bool, *Error) {
	t := c.img.Topics.ByName(topic)
	if t == nil {
		return image.Record{}, false, errorf(wire.ErrUnknownTopicOrPartition, "Unable to find a topic named "+topic+".")
	}
	p := t.Partition(rp.PartitionIndex)
	if p == nil {
		return image.Record{}, false, errorf(wire.ErrUnknownTopicOrPartition, fmt.Sprintf("Unable to find partition %s:%d.", topic, rp.PartitionIndex))
	}
	ch := c.newChange(t, p, c.alive)
	var e *Error
	if rp.Replicas == nil {
		e = c.cancelReassignment(t, p, ch)
	} else {
		e = c.startReassignment(p, rp.Replicas, allowRF, ch)
	}
	if e != nil {
		return image.Record{}, false, e
	}
	rec, ok := ch.build()
	return rec, ok, nil
}

// cancelReassignment goes back to the replicas before. When only added replicas are in sync, that loses data and is allowed
// only where unclean elections are.
func (c *Controller) cancelReassignment(t *image.Topic, p *image.Partition, ch *change) *Error {
	if !p.Reassigning() {
		return &Error{Code: wire.ErrNoReassignmentInProgress}
	}
	ch.replicas, ch.isr = without(p.Replicas, p.Adding), without(p.ISR, p.Adding)
	ch.removing, ch.adding = []int32{}, []int32{}
	unclean := c.uncleanElectionEnabled(t.Name)
	if len(ch.isr) == 0 {
		if len(ch.replicas) == 0 {
			return errorf(wire.ErrInvalidReplicaAssignment, "Invalid replica assignment: addingReplicas contains all replicas.")
		}
		if !unclean {
			return errorf(wire.ErrInvalidReplicaAssignment, fmt.Sprintf("Unable to revert partition assignment for %s:%d because "+
				"it would require an unclean leader election.", t.Name, p.ID))
		}
		ch.isr = ch.replicas[:1]
	}
	if unclean {
		ch.election = electUnclean
	}
	return nil
}

func (c *Controller) startReassignment(p *image.Partition, target []int32, allowRF bool, ch *change) *Error {
	if e := c.checkAssignment(target, 0); e != nil {
		return e
	}
	if have := replicationFactor(p); !allowRF && have != len(target) {
		return errorf(wire.ErrInvalidReplicationFactor, fmt.Sprintf("The replication factor is changed from %d to %d", have, len(target)))
	}
	removing, adding := ordered(without(p.Replicas, target)), ordered(without(target, p.Replicas))
	ch.replicas = append(slices.Clone(target), removing...)
	if len(removing) > 0 {
		ch.removing = removing
	}
	if len(adding) > 0 {
		ch.adding = adding
	}
	return nil
}

// replicationFactor is the number of replicas that a partition has once its reassignment is done.
func replicationFactor(p *image.Partition) int {
	if !p.Reassigning() {
		return len(p.Replicas)
	}
	return len(without(ordered(append(slices.Clone(p.Replicas), p.Adding...)), p.Removing))
}

func (c *Controller) listReassignments(r *api.ListPartitionReassignmentsRequest) Decision {
	answer := api.NewListPartitionReassignmentsResponse()
	answer.ErrorMessage = nil
	add := func(t *image.Topic, parts []*image.Partition) {
		at := api.ListPartitionReassignmentsResponseTopic{Name: t.Name}
		for _, p := range parts {
			if p != nil && p.Reassigning() {
				at.Partitions = append(at.Partitions, api.ListPartitionReassignmentsResponseTopicPartition{
					PartitionIndex: p.ID, Replicas: list(p.Replicas), AddingReplicas: list(p.Adding), RemovingReplicas: list(p.Removing)})
			}
		}
		if len(at.Partitions) > 0 {
			answer.Topics = append(answer.Topics, at)
		}
	}
	if r.Topics == nil {
		for t := range c.img.Topics.All() {
			add(t, t.Partitions)
		}
		return Decision{Answer: answer}
	}
	for _, rt := range r.Topics {
		if t := c.img.Topics.ByName(rt.Name); t != nil {
			parts := make([]*image.Partition, 0, len(rt.PartitionIndexes))
			for _, n := range rt.PartitionIndexes {
				parts = append(parts, t.Partition(n))
			}
			add(t, parts)
		}
	}
	return Decision{Answer: answer}
}

// assignReplicasToDirs records in which directory a broker put its replicas (KIP-858).
func (c *Controller) assignReplicasToDirs(r *api.AssignReplicasToDirsRequest) Decision {
	if !c.img.Features.MetadataVersion.DirectoryAssignmentSupported() {
		return refuse(wire.ErrUnsupportedVersion, "Directory assignment is not supported yet.")
	}
	if e := c.checkBrokerEpoch(int64(r.BrokerID), r.BrokerEpoch); e != nil {
		return Decision{Err: e}
	}
	broker := id.BrokerID(r.BrokerID)
	b := c.img.Cluster.Broker(broker)
	answer := api.NewAssignReplicasToDirsResponse()
	var records []image.Record
	moved := map[*image.Partition]bool{} // to a directory that is offline
	for _, rd := range r.Directories {
		ad := api.AssignReplicasToDirsResponseDirectory{ID: rd.ID}
		for _, rt := range rd.Topics {
			at := api.AssignReplicasToDirsResponseDirectoryTopic{TopicID: rt.TopicID}
			t := c.img.Topics.ByID(rt.TopicID)
			for _, rp := range rt.Partitions {
				code := wire.ErrNone
				switch {
				case t == nil:
					code = wire.ErrUnknownTopicID
				case t.Partition(rp.PartitionIndex) == nil:
					code = wire.ErrUnknownTopicOrPartition
				case !t.Partition(rp.PartitionIndex).HasReplica(broker):
					code = wire.ErrNotLeaderOrFollower
				default:
					p := t.Partition(rp.PartitionIndex)
					ch := c.newChange(t, p, c.alive)
					if ch.dirs == nil {
						ch.dirs = map[int32]id.UUID{}
					}
					ch.dirs[r.BrokerID] = rd.ID
					if rec, ok := ch.build(); ok {
						records = append(records, rec)
					}
					moved[p] = moved[p] || !b.HasOnlineDir(rd.ID)
				}
				at.Partitions = append(at.Partitions, api.AssignReplicasToDirsResponseDirectoryTopicPartition{PartitionIndex: rp.PartitionIndex, ErrorCode: code})
			}
			ad.Topics = append(ad.Topics, at)
		}
		answer.Directories = append(answer.Directories, ad)
	}
	ch := leaderChange{remove: broker, add: image.NoLeader, unclean: image.NoLeader}
	for _, off := range moved {
		if off {
			records = append(records, c.leaderAndISR(ch, func(p *image.Partition) bool { return moved[p] })...)
			break
		}
	}
	return Decision{Records: records, Answer: answer}
}

package controller

import (
	"fmt"
	"iter"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// maxElectionsPerTick bounds the elections of one Tick.
const maxElectionsPerTick = 1000

// leaderChange says whose state has changed: remove leaves every ISR, add may lead although the image shows it as fenced, and
// unclean leaves ISR and ELR. image.NoLeader stands for nobody.
type leaderChange struct{ remove, add, unclean id.BrokerID }

func inISR(b id.BrokerID) func(*image.Partition) bool {
	return func(p *image.Partition) bool { return slices.Contains(p.ISR, int32(b)) }
}

func inELR(b id.BrokerID) func(*image.Partition) bool {
	return func(p *image.Partition) bool { return slices.Contains(p.ELR, int32(b)) }
}

func leaderless(p *image.Partition) bool { return p.Leader == image.NoLeader }

// partitions walks over the partitions that match. Fencing and unfencing are rare and touch partitions all over the cluster,
// so they look at each rather than keep an index that every change would have to pay for.
func (c *Controller) partitions(match func(*image.Partition) bool) iter.Seq2[*image.Topic, *image.Partition] {
	return func(yield func(*image.Topic, *image.Partition) bool) {
		for t := range c.img.Topics.All() {
			for _, p := range t.Partitions {
				if match(p) && !yield(t, p) {
					return
				}
			}
		}
	}
}

func (c *Controller) hasLeaderships(b id.BrokerID) bool {
	for range c.partitions(func(p *image.Partition) bool { return p.Leader == b }) {
		return true
	}
	return false
}

// leaderAndISR changes every partition that matches as ch asks.
func (c *Controller) leaderAndISR(ch leaderChange, match func(*image.Partition) bool) []image.Record {
	alive := func(b int32) bool {
		return b != int32(ch.remove) && b != int32(ch.unclean) && (b == int32(ch.add) || c.alive(b))
	}
	var records []image.Record
	for t, p := range c.partitions(match) {
		b := c.newChange(t, p, alive)
		if c.uncleanElectionEnabled(t.Name) {
			b.election = electUnclean
		}
		if ch.unclean != image.NoLeader {
			b.uncleanShutdown = []int32{int32(ch.unclean)}
		}
		b.isr = without(p.ISR, []int32{int32(ch.remove), int32(ch.unclean)})
		if r, ok := b.build(); ok {
			records = append(records, r)
		}
	}
	return records
}

// alterPartition carries out what leaders found out about their followers (KIP-497, KIP-841, KIP-903).
func (c *Controller) alterPartition(env Env, r *api.AlterPartitionRequest) Decision {
	if len(r.Topics) == 0 {
		return Decision{Answer: api.NewAlterPartitionResponse()}
	}
	if e := c.checkBrokerEpoch(int64(r.BrokerID), r.BrokerEpoch); e != nil {
		return Decision{Err: e}
	}
	answer := api.NewAlterPartitionResponse()
	var records []image.Record
	for i := range r.Topics {
		rt := &r.Topics[i]
		t := c.img.Topics.ByID(rt.TopicID)
		at := api.AlterPartitionResponseTopic{TopicID: rt.TopicID}
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			ap := api.AlterPartitionResponseTopicPartition{PartitionIndex: rp.PartitionIndex, Isr: []int32{}}
			if t == nil {
				ap.ErrorCode = wire.ErrUnknownTopicID
			} else {
				records = c.alterOnePartition(env, id.BrokerID(r.BrokerID), t, rp, &ap, records)
			}
			at.Partitions = append(at.Partitions, ap)
		}
		answer.Topics = append(answer.Topics, at)
	}
	return Decision{Records: records, Answer: answer}
}

func (c *Controller) alterOnePartition(env Env, broker id.BrokerID, t *image.Topic, rp *api.AlterPartitionRequestTopicPartition,
	ap *api.AlterPartitionResponseTopicPartition, records []image.Record) []image.Record {
	states := rp.NewIsrWithEpochs
	if env.APIVersion < 3 {
		states = nil
		for _, b := range rp.NewIsr {
			states = append(states, api.AlterPartitionRequestTopicPartitionNewIsrWithEpoch{BrokerID: b, BrokerEpoch: -1})
		}
	}
	isr := make([]int32, len(states))
	for i, s := range states {
		isr[i] = s.BrokerID
	}
	p := t.Partition(rp.PartitionIndex)
	if ap.ErrorCode = c.checkAlterPartition(broker, p, rp, isr, states); ap.ErrorCode != wire.ErrNone {
		return records
	}
	b := c.newChange(t, p, c.alive)
	if c.uncleanElectionEnabled(t.Name) {
		b.election = electUnclean
	}
	b.isr, b.recovery = isr, image.RecoveryState(rp.LeaderRecoveryState)
	if rec, ok := b.build(); ok {
		records = append(records, rec)
		ch := rec.Message.(*logrec.PartitionChangeRecord)
		n, err := p.Changed(ch)
		if err != nil {
			ap.ErrorCode = wire.ErrUnknownServerError
			return records[:len(records)-1]
		}
		p = n
		if l := id.BrokerID(ch.Leader); l != broker && l != image.NoLeaderChange {
			// The change completed a reassignment and moved the leader away from who asked. It stands, and the asker must look again.
			ap.ErrorCode = wire.ErrNewLeaderElected
			return records
		}
	}
	ap.LeaderID, ap.Isr, ap.LeaderRecoveryState = int32(p.Leader), list(p.ISR), int8(p.RecoveryState)
	ap.LeaderEpoch, ap.PartitionEpoch = int32(p.LeaderEpoch), p.PartitionEpoch
	return records
}

func (c *Controller) checkAlterPartition(broker id.BrokerID, p *image.Partition, rp *api.AlterPartitionRequestTopicPartition,
	isr []int32, states []api.AlterPartitionRequestTopicPartitionNewIsrWithEpoch) wire.ErrorCode {
	state := image.RecoveryState(rp.LeaderRecoveryState)
	switch {
	case p == nil:
		return wire.ErrUnknownTopicOrPartition
	case id.LeaderEpoch(rp.LeaderEpoch) > p.LeaderEpoch, rp.PartitionEpoch > p.PartitionEpoch:
		return wire.ErrNotController // the leader knows more than we do: another controller is active
	case id.LeaderEpoch(rp.LeaderEpoch) < p.LeaderEpoch:
		return wire.ErrFencedLeaderEpoch
	case broker != p.Leader:
		return wire.ErrInvalidRequest
	case rp.PartitionEpoch < p.PartitionEpoch:
		return wire.ErrInvalidUpdateVersion
	case !containsAll(p.Replicas, isr) || len(isr) == 0 || len(ordered(slices.Clone(isr))) != len(isr):
		return wire.ErrInvalidRequest
	case !slices.Contains(isr, int32(p.Leader)):
		return wire.ErrInvalidRequest
	case state != image.Recovered && state != image.Recovering:
		return wire.ErrInvalidRequest
	case state == image.Recovering && (len(isr) > 1 || p.RecoveryState == image.Recovered):
		return wire.ErrInvalidRequest
	}
	for _, s := range states {
		b := c.img.Cluster.Broker(id.BrokerID(s.BrokerID))
		if b == nil || !b.Active() || s.BrokerEpoch != -1 && id.BrokerEpoch(s.BrokerEpoch) != b.Epoch {
			return wire.ErrIneligibleReplica
		}
	}
	return wire.ErrNone
}

func (c *Controller) electLeaders(r *api.ElectLeadersRequest) Decision {
	answer := api.NewElectLeadersResponse()
	if r.TopicPartitions != nil && len(r.TopicPartitions) == 0 {
		return Decision{Answer: answer}
	}
	if r.ElectionType != 0 && r.ElectionType != 1 {
		return refuse(wire.ErrInvalidRequest, fmt.Sprintf("Unknown election type %d", r.ElectionType))
	}
	kind := electPreferred
	if r.ElectionType == 1 {
		kind = electUnclean
	}
	var records []image.Record
	one := func(result *api.ElectLeadersResponseReplicaElectionResult, topic string, n int32, all bool) {
		rec, e := c.electLeader(topic, n, kind)
		if e == nil {
			records = append(records, rec)
		} else if all && e.Code == wire.ErrElectionNotNeeded {
			return
		}
		result.PartitionResult = append(result.PartitionResult, api.ElectLeadersResponseReplicaElectionResultPartitionResult{
			PartitionID: n, ErrorCode: e.code(), ErrorMessage: e.Message()})
	}
	if r.TopicPartitions == nil {
		for t := range c.img.Topics.All() {
			result := api.ElectLeadersResponseReplicaElectionResult{Topic: t.Name}
			for _, p := range t.Partitions {
				one(&result, t.Name, p.ID, true)
			}
			answer.ReplicaElectionResults = append(answer.ReplicaElectionResults, result)
		}
	} else {
		for _, rt := range r.TopicPartitions {
			result := api.ElectLeadersResponseReplicaElectionResult{Topic: rt.Topic}
			for _, n := range rt.Partitions {
				one(&result, rt.Topic, n, false)
			}
			answer.ReplicaElectionResults = append(answer.ReplicaElectionResults, result)
		}
	}
	if len(records) > MaxRecordsPerOp {
		return Decision{Err: errTooManyRecords()}
	}
	return Decision{Records: records, Answer: answer}
}

func (c *Controller) electLeader(topic string, n int32, kind election) (image.Record, *Error) {
	t := c.img.Topics.ByName(topic)
	if t == nil {
		return image.Record{}, errorf(wire.ErrUnknownTopicOrPartition, "No such topic as "+topic)
	}
	p := t.Partition(n)
	if p == nil {
		return image.Record{}, errorf(wire.ErrUnknownTopicOrPartition, fmt.Sprintf("No such partition as %s-%d", topic, n))
	}
	if kind == electPreferred && p.Leader == p.PreferredReplica() || kind == electUnclean && p.Leader != image.NoLeader {
		return image.Record{}, plain(wire.ErrElectionNotNeeded)
	}
	ch := c.newChange(t, p, c.alive)
	ch.election = kind
	if r, ok := ch.build(); ok {
		return r, nil
	}
	if kind == electPreferred {
		return image.Record{}, plain(wire.ErrPreferredLeaderNotAvailable)
	}
	return image.Record{}, plain(wire.ErrEligibleLeadersNotAvailable)
}

func (c *Controller) balanceLeaders() []image.Record {
	var records []image.Record
	for t, p := range c.partitions(func(p *image.Partition) bool { return p.Leader != p.PreferredReplica() }) {
		ch := c.newChange(t, p, c.alive)
		ch.election = electPreferred
		if r, ok := ch.build(); ok {
			if records = append(records, r); len(records) >= maxElectionsPerTick {
				break
			}
		}
	}
	return records
}

func (c *Controller) electUncleanLeaders() []image.Record {
	var records []image.Record
	for t, p := range c.partitions(leaderless) {
		if !c.uncleanElectionEnabled(t.Name) {
			continue
		}
		if r, e := c.electLeader(t.Name, p.ID, electUnclean); e == nil {
			if records = append(records, r); len(records) >= maxElectionsPerTick {
				break
			}
		}
	}
	return records
}

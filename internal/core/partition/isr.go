package partition

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// Proposal is a change of the in-sync set that the leader asks of the controller with AlterPartition (KIP-497).
type Proposal struct {
	ISR            []id.BrokerID
	Epochs         []id.BrokerEpoch // of the ISR's members, as AlterPartition 3 wants them (KIP-903)
	LeaderEpoch    id.LeaderEpoch
	PartitionEpoch int32
	Added          id.BrokerID // the replica that joins, NoBroker for a shrink
}

// Pending returns the proposal in flight, or nil.
func (s *State) Pending() *Proposal { return s.pending }

// ProposeExpand returns a proposal to take replica b into the in-sync set, or nil. b must have reached the high watermark and the
// start of this leader epoch: below that, records of an earlier epoch that b holds may differ from the leader's.
func (s *State) ProposeExpand(b id.BrokerID, highWatermark id.Offset, brokers Brokers) *Proposal {
	f := s.follower(b)
	if f == nil || s.pending != nil || slices.Contains(s.reg.ISR, b) || !f.isEligible(brokers) ||
		f.end < highWatermark || f.end < s.epochStart {
		return nil
	}
	return s.propose(append(slices.Clone(s.reg.ISR), b), b, brokers)
}

// ProposeShrink returns a proposal without the replicas that have not been caught up for lagMaxMs, or nil.
func (s *State) ProposeShrink(leaderEnd id.Offset, nowMs, lagMaxMs int64, brokers Brokers) *Proposal {
	if !s.IsLeader() || s.pending != nil {
		return nil
	}
	isr := slices.DeleteFunc(slices.Clone(s.reg.ISR), func(b id.BrokerID) bool {
		f := s.follower(b)
		return f != nil && !f.isCaughtUp(leaderEnd, nowMs, lagMaxMs)
	})
	if len(isr) == len(s.reg.ISR) {
		return nil
	}
	return s.propose(isr, id.NoBroker, brokers)
}

func (s *State) propose(isr []id.BrokerID, added id.BrokerID, brokers Brokers) *Proposal {
	p := &Proposal{ISR: isr, Added: added, LeaderEpoch: s.reg.LeaderEpoch, PartitionEpoch: s.reg.PartitionEpoch}
	for _, b := range isr {
		epoch := id.NoBrokerEpoch
		if b == s.self {
			epoch, _ = brokers.Eligible(b)
		} else if f := s.follower(b); f != nil {
			epoch = f.brokerEpoch
		}
		p.Epochs = append(p.Epochs, epoch)
	}
	s.pending = p
	return p
}

// Accepted takes in the controller's answer to proposal p. An answer to a proposal that is no longer pending changes nothing.
func (s *State) Accepted(p *Proposal, isr []id.BrokerID, leaderEpoch id.LeaderEpoch, partitionEpoch int32) bool {
	if s.pending != p || leaderEpoch != s.reg.LeaderEpoch || partitionEpoch < s.reg.PartitionEpoch {
		return false
	}
	s.pending = nil
	s.reg.ISR, s.reg.PartitionEpoch = isr, partitionEpoch
	return true
}

// Rejected takes in a refusal of proposal p. It reports whether the same proposal should be sent again. Only a refusal that proves
// that nothing was changed puts the committed set back in force; after any other the larger set counts until the metadata log
// tells what became of it.
func (s *State) Rejected(p *Proposal, code wire.ErrorCode) (retry bool) {
	if s.pending != p {
		return false
	}
	switch code {
	case wire.ErrOperationNotAttempted, wire.ErrIneligibleReplica:
		s.pending = nil
		return false
	case wire.ErrUnknownTopicOrPartition, wire.ErrUnknownTopicID, wire.ErrNewLeaderElected, wire.ErrFencedLeaderEpoch,
		wire.ErrInvalidUpdateVersion, wire.ErrInvalidRequest:
		return false
	}
	return true
}

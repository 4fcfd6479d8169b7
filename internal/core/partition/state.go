package partition

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// Registration is what the metadata log says about a partition.
type Registration struct {
	Replicas       []id.BrokerID
	ISR            []id.BrokerID
	Adding         []id.BrokerID
	Removing       []id.BrokerID
	Leader         id.BrokerID // NoBroker when nobody leads
	LeaderEpoch    id.LeaderEpoch
	PartitionEpoch int32
}

// Brokers tells which brokers may be in an in-sync set: registered, not fenced, not in controlled shutdown. The epoch is the
// broker's registration epoch.
type Brokers interface {
	Eligible(id.BrokerID) (id.BrokerEpoch, bool)
}

// State is one replica's view of its partition. The zero value is not ready; use New. It is owned by its caller, who serialises
// all calls; methods that only read may run beside each other.
type State struct {
	self       id.BrokerID
	reg        Registration
	epochStart id.Offset      // end of the local log when this leader epoch began; NoOffset unless leading
	since      id.LeaderEpoch // first epoch of the present unbroken leadership; NoLeaderEpoch unless leading
	followers  []Follower
	pending    *Proposal
}

// New returns the state of a replica on broker self that has seen no registration yet.
func New(self id.BrokerID) State {
	return State{self: self, epochStart: id.NoOffset, since: id.NoLeaderEpoch, reg: Registration{
		Leader: id.NoBroker, LeaderEpoch: id.NoLeaderEpoch, PartitionEpoch: -1,
	}}
}

// Transition says what a registration changed.
type Transition struct {
	Stale        bool // older than what is known: nothing changed
	Leader       bool // this replica leads now
	BecameLeader bool // and did not before
	Resigned     bool // this replica led before and does not now
	NewEpoch     bool // the leader epoch rose; a leader records it with its log's end offset
}

// Apply takes in a registration. localEnd is the end offset of the local log, nowMs the time in milliseconds.
func (s *State) Apply(reg Registration, localEnd id.Offset, nowMs int64) Transition {
	if reg.PartitionEpoch < s.reg.PartitionEpoch {
		return Transition{Stale: true, Leader: s.IsLeader()}
	}
	was := s.IsLeader()
	t := Transition{NewEpoch: reg.LeaderEpoch > s.reg.LeaderEpoch, Leader: reg.Leader == s.self}
	t.BecameLeader = t.Leader && !was
	t.Resigned = was && !t.Leader
	s.pending = nil // the metadata log is newer than whatever was proposed; a late answer to it is ignored
	s.reg = reg
	if !t.Leader {
		s.epochStart, s.since, s.followers = id.NoOffset, id.NoLeaderEpoch, nil
		return t
	}
	if t.BecameLeader {
		s.since = reg.LeaderEpoch
	}
	s.keepFollowers(reg)
	if t.NewEpoch || t.BecameLeader {
		s.epochStart = localEnd
		for i := range s.followers {
			f := &s.followers[i]
			f.reset(nowMs, localEnd, t.BecameLeader, slices.Contains(reg.ISR, f.ID))
		}
	}
	return t
}

// IsLeader reports whether this replica leads.
func (s *State) IsLeader() bool { return s.reg.Leader == s.self && s.self != id.NoBroker }

// Leader returns the leader's id, or NoBroker.
func (s *State) Leader() id.BrokerID { return s.reg.Leader }

// LeaderEpoch returns the current leader epoch, or NoLeaderEpoch.
func (s *State) LeaderEpoch() id.LeaderEpoch { return s.reg.LeaderEpoch }

// PartitionEpoch returns the epoch of the last registration taken in, or -1.
func (s *State) PartitionEpoch() int32 { return s.reg.PartitionEpoch }

// EpochStart returns the log end offset at which the current leader epoch began, or NoOffset when this replica does not lead.
func (s *State) EpochStart() id.Offset { return s.epochStart }

// ISR returns the committed in-sync set. The slice must not be changed.
func (s *State) ISR() []id.BrokerID { return s.reg.ISR }

// Replicas returns the assignment. The slice must not be changed.
func (s *State) Replicas() []id.BrokerID { return s.reg.Replicas }

// IsAdding reports whether a reassignment is adding this broker (KIP-455).
func (s *State) IsAdding(b id.BrokerID) bool { return slices.Contains(s.reg.Adding, b) }

// CheckEpoch compares the leader epoch that a client believes in with ours (KIP-320). NoLeaderEpoch is never refused.
func (s *State) CheckEpoch(client id.LeaderEpoch) wire.ErrorCode {
	switch {
	case client == id.NoLeaderEpoch || client == s.reg.LeaderEpoch:
		return wire.ErrNone
	case client < s.reg.LeaderEpoch:
		return wire.ErrFencedLeaderEpoch
	default:
		return wire.ErrUnknownLeaderEpoch
	}
}

// EffectiveMinISR bounds min.insync.replicas by the number of replicas that exist.
func (s *State) EffectiveMinISR(minISR int) int { return min(minISR, len(s.followers)+1) }

// IsUnderMinISR reports whether a leader has fewer in-sync replicas than it needs.
func (s *State) IsUnderMinISR(minISR int) bool {
	return s.IsLeader() && len(s.reg.ISR) < s.EffectiveMinISR(minISR)
}

// IsAtMinISR reports whether a leader has exactly as many in-sync replicas as it needs.
func (s *State) IsAtMinISR(minISR int) bool {
	return s.IsLeader() && len(s.reg.ISR) == s.EffectiveMinISR(minISR)
}

// IsUnderReplicated reports whether a leader misses replicas in its in-sync set.
func (s *State) IsUnderReplicated() bool { return s.IsLeader() && len(s.reg.Replicas) > len(s.reg.ISR) }

// CheckAppend decides whether a leader may append a produce request with these acks (0, 1 or -1).
func (s *State) CheckAppend(acks int16, minISR int) wire.ErrorCode {
	switch {
	case !s.IsLeader():
		return wire.ErrNotLeaderOrFollower
	case acks == -1 && s.IsUnderMinISR(minISR):
		return wire.ErrNotEnoughReplicas
	}
	return wire.ErrNone
}

// CheckWaiting decides about an acks=all produce that waits until the high watermark reaches required (exclusive end of what it
// appended). appendEpoch is the leader epoch in which it appended: had another replica led since then, the records may have been
// cut off, and the offsets may now name others. A raised epoch under unbroken leadership truncates nothing.
func (s *State) CheckWaiting(required, highWatermark id.Offset, appendEpoch id.LeaderEpoch, minISR int) (done bool, code wire.ErrorCode) {
	switch {
	case !s.IsLeader() || appendEpoch < s.since:
		return true, wire.ErrNotLeaderOrFollower
	case highWatermark < required:
		return false, wire.ErrNone
	case s.EffectiveMinISR(minISR) > s.maximalISRSize():
		return true, wire.ErrNotEnoughReplicasAfterAppend
	}
	return true, wire.ErrNone
}

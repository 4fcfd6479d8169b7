package partition

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// Follower is what a leader knows of another replica.
type Follower struct {
	ID           id.BrokerID
	start        id.Offset // its log start offset, NoOffset until it fetched
	end          id.Offset // its log end offset, NoOffset until it fetched
	brokerEpoch  id.BrokerEpoch
	fetchedMs    int64     // when it fetched last
	fetchedEnd   id.Offset // the leader's end at that fetch
	caughtUpAtMs int64     // the last time at which it held everything the leader had
}

func newFollower(b id.BrokerID) Follower {
	return Follower{ID: b, start: id.NoOffset, end: id.NoOffset, fetchedEnd: id.NoOffset, brokerEpoch: id.NoBrokerEpoch}
}

// EndOffset is the follower's log end offset, NoOffset until it fetched from this leader.
func (f *Follower) EndOffset() id.Offset { return f.end }

// reset prepares the follower for a new leader epoch. Members of the in-sync set get a fresh lag budget.
func (f *Follower) reset(nowMs int64, leaderEnd id.Offset, newLeader, inSync bool) {
	caughtUp := int64(0)
	if inSync {
		caughtUp = nowMs
	}
	if newLeader {
		*f = newFollower(f.ID)
	} else {
		f.fetchedEnd, f.fetchedMs = leaderEnd, caughtUp
	}
	f.caughtUpAtMs = caughtUp
}

func (f *Follower) isCaughtUp(leaderEnd id.Offset, nowMs, lagMaxMs int64) bool {
	return f.end == leaderEnd || nowMs-f.caughtUpAtMs <= lagMaxMs
}

// isEligible reports whether the follower may join the in-sync set: its broker is live, and the epoch it fetched with, if it sent
// one, is the broker's current epoch (KIP-903).
func (f *Follower) isEligible(brokers Brokers) bool {
	epoch, ok := brokers.Eligible(f.ID)
	return ok && (f.brokerEpoch == id.NoBrokerEpoch || f.brokerEpoch == epoch)
}

// keepFollowers makes the follower list match the assignment; known followers keep what is known of them.
func (s *State) keepFollowers(reg Registration) {
	var next []Follower
	for _, b := range reg.Replicas {
		if b == s.self {
			continue
		}
		if f := s.follower(b); f != nil {
			next = append(next, *f)
		} else {
			next = append(next, newFollower(b))
		}
	}
	s.followers = next
}

func (s *State) follower(b id.BrokerID) *Follower {
	i := slices.IndexFunc(s.followers, func(f Follower) bool { return f.ID == b })
	if i < 0 {
		return nil
	}
	return &s.followers[i]
}

// Follower returns what is known of replica b, or nil when b is not another replica of a partition led here.
func (s *State) Follower(b id.BrokerID) *Follower { return s.follower(b) }

// CheckFollower decides whether broker b may fetch as a replica. currentLeaderEpoch is the one in its request: with one, an
// unknown replica is told to retry, since its assignment may be newer than ours.
func (s *State) CheckFollower(b id.BrokerID, currentLeaderEpoch id.LeaderEpoch) wire.ErrorCode {
	switch {
	case s.follower(b) != nil:
		return wire.ErrNone
	case currentLeaderEpoch != id.NoLeaderEpoch:
		return wire.ErrUnknownLeaderEpoch
	}
	return wire.ErrNotLeaderOrFollower
}

// FollowerFetch is a fetch by a replica: it holds everything below Offset.
type FollowerFetch struct {
	Replica     id.BrokerID
	BrokerEpoch id.BrokerEpoch // NoBrokerEpoch before Fetch 15
	Offset      id.Offset
	LogStart    id.Offset
	LeaderEnd   id.Offset // the leader's end before it read for this fetch
	NowMs       int64
}

// RecordFetch takes in a follower's position. It reports whether its end offset moved. A fetch of an earlier life of the broker is
// refused with NOT_LEADER_OR_FOLLOWER (KIP-903).
func (s *State) RecordFetch(ff FollowerFetch) (moved bool, code wire.ErrorCode) {
	f := s.follower(ff.Replica)
	if f == nil || (ff.BrokerEpoch != id.NoBrokerEpoch && ff.BrokerEpoch < f.brokerEpoch) {
		return false, wire.ErrNotLeaderOrFollower
	}
	switch {
	case ff.Offset >= ff.LeaderEnd:
		f.caughtUpAtMs = max(f.caughtUpAtMs, ff.NowMs)
	case ff.Offset >= f.fetchedEnd:
		f.caughtUpAtMs = max(f.caughtUpAtMs, f.fetchedMs)
	}
	moved = f.end != ff.Offset
	f.start, f.end = ff.LogStart, ff.Offset
	f.fetchedEnd = max(ff.LeaderEnd, f.fetchedEnd)
	f.fetchedMs = ff.NowMs
	f.brokerEpoch = ff.BrokerEpoch
	return moved, wire.ErrNone
}

package raft

import (
	"fmt"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Log is what an election and a fetch must know of the log.
type Log interface {
	// End is the end of the log, durable or not.
	End() Position
	// EndOffsetForEpoch returns the largest epoch of the log that is at most e, and where it ends; false when there is none.
	EndOffsetForEpoch(e id.LeaderEpoch) (Position, bool)
}

// Rand is a source of random bits.
type Rand interface{ Uint64() uint64 }

// Config is what a Raft is told once.
type Config struct {
	Self Voter // this node; its endpoints and levels go into the voters' record
	// ElectionTimeout and up to as much again passes before an election is tried. FetchTimeout without an answer of the
	// leader makes a follower prospective, 1.5 times as much without a majority of fetches makes a leader resign.
	ElectionTimeout, FetchTimeout time.Duration
	Log                           Log
	Rand                          Rand
}

// progress is how far another replica is, as the leader knows.
type progress struct {
	end          id.Offset // exclusive; -1 unknown
	lastFetch    time.Time
	lastCaughtUp time.Time
	acknowledged bool // the epoch
}

// Raft is one node's part in the quorum.
type Raft struct {
	cfg     Config
	members Membership

	role     Role
	hard     HardState
	hw       id.Offset // -1 until known
	deadline time.Time // of Unattached, Prospective, Candidate, Follower, Resigned; zero: none
	votes    map[id.BrokerID]bool
	granted  []id.BrokerID // whose votes made this node leader

	// of a leader
	epochStart  id.Offset
	durable     id.Offset
	replicas    map[Replica]*progress
	heardFrom   map[id.BrokerID]bool
	checkQuorum time.Time
	beginAt     time.Time

	// of a follower
	fetching   bool
	fetchAt    Position  // what it asked for
	fetchRetry time.Time // when an unanswered fetch is given up

	persist bool // hard changed
	begun   bool // the start of the epoch is due
	cut     *id.Offset
	out     []Message
}

// New returns a Raft in the state that a restart leaves: whoever led its last epoch resigns it, whoever stood for election
// stands again, all others wait. A node that alone is the quorum tries at once.
func New(cfg Config, hard HardState, members Membership, now time.Time) *Raft {
	r := &Raft{cfg: cfg, hard: hard, members: members, hw: -1, epochStart: -1, durable: -1, persist: true}
	end := cfg.Log.End()
	self := cfg.Self.Replica
	switch {
	case hard.Epoch < end.Epoch: // quorum-state was lost or is old
		r.hard = HardState{Epoch: end.Epoch, Leader: id.NoBroker, Voted: NoReplica}
		r.become(Unattached, now)
	case hard.Leader == self.ID:
		r.become(Resigned, now)
	case hard.Voted == self || hard.Voted.ID == self.ID && hard.Voted.DirectoryID.IsZero():
		r.become(Candidate, now)
		r.vote(self.ID, true, now)
	case hard.Leader != id.NoBroker && r.knows(hard.Leader):
		r.become(Follower, now)
	default:
		r.become(Unattached, now)
	}
	if len(members.Voters) == 1 && r.isVoter() && r.role != Candidate {
		r.prospective(now) // there is nobody to wait for
	}
	return r
}

func (r *Raft) knows(n id.BrokerID) bool {
	_, ok := r.members.Voters.Find(n)
	return ok
}

func (r *Raft) isVoter() bool { return r.members.Voters.Has(r.cfg.Self.Replica) }

// Role is the node's part now.
func (r *Raft) Role() Role { return r.role }

// HardState is the node's epoch, its leader and the vote.
func (r *Raft) HardState() HardState { return r.hard }

// Membership is the set of voters in force: the newest in the log, committed or not.
func (r *Raft) Membership() Membership { return r.members }

// HighWatermark is the end of what is committed (exclusive), -1 while unknown.
func (r *Raft) HighWatermark() id.Offset { return r.hw }

// EpochStart is the offset at which the leader's epoch begins. Only for a leader.
func (r *Raft) EpochStart() id.Offset { return r.epochStart }

// SetMembership replaces the voters, after a record that says so was appended, or cut.
func (r *Raft) SetMembership(m Membership) {
	r.members = m
	if r.role == Leader {
		r.advance()
	}
}

// Ready is what is to be done, in order of the fields. Nothing of it happened yet.
type Ready struct {
	HardState  *HardState // to be made durable before all else
	TruncateTo *id.Offset // cut the log; then call Appended
	// EpochStart are the control records that open this node's leadership: one batch at EpochStartOffset.
	EpochStart []record.ControlRecord
	Messages   []Message
}

// Ready takes what is to be done; false when there is nothing.
func (r *Raft) Ready() (Ready, bool) {
	var rd Ready
	if r.persist {
		h := r.hard
		rd.HardState = &h
	}
	if r.begun {
		rd.EpochStart = r.startRecords()
	}
	rd.TruncateTo, rd.Messages = r.cut, r.out
	some := r.persist || r.begun || r.cut != nil || len(r.out) > 0
	r.persist, r.begun, r.cut, r.out = false, false, nil, nil
	return rd, some
}

// become takes a role in the current epoch.
func (r *Raft) become(role Role, now time.Time) {
	r.role = role
	r.votes, r.heardFrom, r.replicas, r.fetching = nil, nil, nil, false
	switch role {
	case Unattached, Resigned:
		r.deadline = r.electionDeadline(now)
		if !r.isVoter() {
			r.deadline = time.Time{}
		}
	case Prospective, Candidate:
		r.deadline = r.electionDeadline(now)
		r.votes = map[id.BrokerID]bool{}
	case Follower:
		r.deadline = now.Add(r.cfg.FetchTimeout)
		r.fetch(now)
	case Leader:
		r.deadline = time.Time{}
	}
}

func (r *Raft) electionDeadline(now time.Time) time.Time {
	jitter := time.Duration(0)
	if r.cfg.ElectionTimeout > 0 {
		jitter = time.Duration(r.cfg.Rand.Uint64() % uint64(r.cfg.ElectionTimeout))
	}
	return now.Add(r.cfg.ElectionTimeout + jitter)
}

// set changes the hard state; Ready will ask for it to be made durable.
func (r *Raft) set(h HardState) {
	if h.Epoch < r.hard.Epoch {
		panic(fmt.Sprintf("raft: epoch goes back from %d to %d", r.hard.Epoch, h.Epoch))
	}
	if h != r.hard {
		r.hard, r.persist = h, true
	}
}

// prospective asks the others whether an election could be won. It changes no epoch, so that a node that was cut off does
// not disturb a working quorum when it comes back (KIP-996).
func (r *Raft) prospective(now time.Time) {
	r.become(Prospective, now)
	r.vote(r.cfg.Self.ID, true, now)
}

func (r *Raft) candidate(now time.Time) {
	r.set(HardState{Epoch: r.hard.Epoch + 1, Leader: id.NoBroker, Voted: r.cfg.Self.Replica})
	r.become(Candidate, now)
	r.vote(r.cfg.Self.ID, true, now)
}

// vote counts a vote, and asks for those that are missing after the first, which is the node's own.
func (r *Raft) vote(from id.BrokerID, granted bool, now time.Time) {
	if !r.knows(from) {
		return
	}
	first := len(r.votes) == 0
	r.votes[from] = granted
	yes := 0
	for _, g := range r.votes {
		if g {
			yes++
		}
	}
	switch {
	case yes >= r.members.Voters.Majority() && r.role == Prospective:
		r.candidate(now)
	case yes >= r.members.Voters.Majority():
		r.lead(now)
	case len(r.votes)-yes > len(r.members.Voters)-r.members.Voters.Majority() && r.role == Prospective:
		r.lost(now)
	case first:
		r.askForVotes()
	}
}

// lost leaves an election that cannot be won.
func (r *Raft) lost(now time.Time) {
	if r.hard.Leader != id.NoBroker && r.hard.Leader != r.cfg.Self.ID && r.knows(r.hard.Leader) {
		r.become(Follower, now)
		return
	}
	r.become(Unattached, now)
}

func (r *Raft) askForVotes() {
	epoch := r.hard.Epoch
	for _, v := range r.members.Voters {
		if v.ID != r.cfg.Self.ID {
			r.send(Message{Type: MsgVote, To: v.ID, Epoch: epoch, PreVote: r.role == Prospective, Log: r.cfg.Log.End()})
		}
	}
}

func (r *Raft) send(m Message) {
	m.From = r.cfg.Self.Replica
	if m.Leader == 0 && m.Type != MsgVoteAnswer {
		m.Leader = r.hard.Leader
	}
	r.out = append(r.out, m)
}

// lead begins this node's leadership.
func (r *Raft) lead(now time.Time) {
	r.granted = r.granted[:0]
	for n, g := range r.votes {
		if g {
			r.granted = append(r.granted, n)
		}
	}
	slices.Sort(r.granted)
	r.set(HardState{Epoch: r.hard.Epoch, Leader: r.cfg.Self.ID, Voted: NoReplica})
	r.become(Leader, now)
	r.epochStart = r.cfg.Log.End().Offset
	r.durable = -1
	r.replicas, r.heardFrom = map[Replica]*progress{}, map[id.BrokerID]bool{}
	r.checkQuorum = now.Add(r.cfg.FetchTimeout * 3 / 2)
	r.begun = true
	r.beginEpoch(now)
}

// startRecords are the control records that open the epoch. With kraft.version 1 the voters are written along when the log
// does not have them yet, or has them with old endpoints of this node.
func (r *Raft) startRecords() []record.ControlRecord {
	m := logrec.NewLeaderChangeMessage()
	m.LeaderID = int32(r.cfg.Self.ID)
	m.Voters, m.GrantingVoters = []logrec.LeaderChangeMessageVoter{}, []logrec.LeaderChangeMessageVoter{}
	for _, v := range r.members.Voters {
		m.Voters = append(m.Voters, logrec.LeaderChangeMessageVoter{VoterID: int32(v.ID)})
	}
	for _, n := range r.granted {
		m.GrantingVoters = append(m.GrantingVoters, logrec.LeaderChangeMessageVoter{VoterID: int32(n)})
	}
	out := []record.ControlRecord{{Type: record.ControlLeaderChange, Value: wire.Marshal(m, 0)}}
	if r.members.KRaftVersion < 1 {
		return out
	}
	old, _ := r.members.Voters.Find(r.cfg.Self.ID)
	if r.members.Offset >= 0 && sameVoter(old, r.cfg.Self) {
		return out
	}
	return append(out, MembershipRecords(r.members.KRaftVersion, r.members.Voters.With(r.cfg.Self))...)
}

func sameVoter(a, b Voter) bool {
	return a.Replica == b.Replica && a.MinVersion == b.MinVersion && a.MaxVersion == b.MaxVersion && slices.Equal(a.Endpoints, b.Endpoints)
}

// MembershipRecords are the control records that say who votes: the level of kraft.version and the voters.
func MembershipRecords(kraftVersion int16, voters Voters) []record.ControlRecord {
	v := logrec.NewKRaftVersionRecord()
	v.KRaftVersion = kraftVersion
	return []record.ControlRecord{
		{Type: record.ControlKRaftVersion, Value: wire.Marshal(v, 0)},
		{Type: record.ControlKRaftVoters, Value: wire.Marshal(voters.Record(), 0)},
	}
}

package raft

import (
	"math"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

// Log is what an election and a fetch must know of the log and its snapshots.
type Log interface {
	// End is the end of the log, durable or not: of a log without batches that begins at a snapshot, the snapshot's.
	End() Position
	// EndOffsetForEpoch returns the largest epoch of the log's batches that is at most e, and where it ends; false when there
	// is none.
	EndOffsetForEpoch(e id.LeaderEpoch) (Position, bool)
	// StartOffset is where the log begins. Beyond 0 there is a snapshot that ends there, the earliest one.
	StartOffset() id.Offset
	// Snapshots names the earliest and the latest snapshot that can be sent; false when there is none. The bootstrap
	// snapshot, at offset 0, does not count.
	Snapshots() (earliest, latest Position, ok bool)
}

// Rand is a source of random bits.
type Rand interface{ Uint64() uint64 }

// Config is what a Raft is told once.
type Config struct {
	Self Voter // this node; its endpoints and levels go into the voters' record
	// ElectionTimeout and up to as much again passes before an election is tried (controller.quorum.election.timeout.ms).
	// FetchTimeout without an answer of the leader makes a follower prospective, 1.5 times as much without a majority of
	// fetches makes a leader resign (controller.quorum.fetch.timeout.ms).
	ElectionTimeout, FetchTimeout time.Duration
	// RequestTimeout is when an unanswered request is given up (controller.quorum.request.timeout.ms); 0: FetchTimeout.
	// RetryBackoff passes before what failed is tried again (controller.quorum.retry.backoff.ms); 0: 20 ms.
	// ElectionBackoffMax bounds how long a successor of lower rank waits (controller.quorum.election.backoff.max.ms);
	// 0: ElectionTimeout.
	RequestTimeout, RetryBackoff, ElectionBackoffMax time.Duration
	// Bootstrap are the nodes that may know the leader, by which an observer finds it: ids of its own choosing below -1 for
	// addresses whose ids are not known (controller.quorum.bootstrap.servers). Empty: the voters.
	Bootstrap []id.BrokerID
	// Distrust says that quorum-state could not be read. A state older than the log is noticed without it.
	Distrust bool
	Log      Log
	Rand     Rand
}

// Raft is one node's part in the quorum.
type Raft struct {
	cfg     Config
	members Membership

	role      Role
	hard      HardState
	endpoints []Endpoint // of the leader, where its messages told them
	hw        id.Offset  // -1 until known
	floor     id.Offset  // what was known as committed in any role: never cut
	deadline  time.Time  // of Unattached, Prospective, Candidate, Follower, Resigned; zero: none
	distrust  *distrust  // nil: the node trusts its vote

	votes   map[id.BrokerID]bool
	granted []id.BrokerID // whose votes made this node leader
	// retry is when to ask again: of a Prospective and a Candidate the voters that did not answer, of a Resigned those that
	// did not acknowledge.
	retry      map[id.BrokerID]time.Time
	successors []Replica // of a Resigned

	leading  leading
	fetching fetching
	requests uint64 // how many fetches were sent

	persist bool // hard changed
	begun   bool // the start of the epoch is due
	cut     *id.Offset
	piece   *Piece
	alarm   error
	out     []Message
}

// New returns a Raft in the state that a restart leaves: whoever led its last epoch resigns it, whoever stood for election
// stands again, all others wait. A node that alone is the quorum tries at once.
func New(cfg Config, hard HardState, members Membership, now time.Time) *Raft {
	if cfg.RequestTimeout <= 0 {
		cfg.RequestTimeout = cfg.FetchTimeout
	}
	if cfg.RetryBackoff <= 0 {
		cfg.RetryBackoff = 20 * time.Millisecond
	}
	if cfg.ElectionBackoffMax <= 0 {
		cfg.ElectionBackoffMax = cfg.ElectionTimeout
	}
	r := &Raft{cfg: cfg, hard: hard, members: members, hw: -1, floor: -1, persist: true}
	r.leading.epochStart = -1
	end, self := cfg.Log.End(), cfg.Self.Replica
	stale := hard.Epoch < end.Epoch // quorum-state was lost or is old
	if stale {
		r.hard = HardState{Epoch: end.Epoch, Leader: id.NoBroker, Voted: NoReplica}
	}
	if (stale || cfg.Distrust) && members.Voters.Has(self) && len(members.Voters) > 1 {
		r.distrust, r.persist = &distrust{heard: map[id.BrokerID]bool{}}, false
	}
	switch {
	case stale || r.distrust != nil:
		r.become(Unattached, now)
	case hard.Leader == self.ID:
		r.resign(nil, now)
	case hard.Leader != id.NoBroker && r.knows(hard.Leader):
		r.become(Follower, now)
	case r.isVoter() && (hard.Voted == self || hard.Voted.ID == self.ID && hard.Voted.DirectoryID.IsZero()):
		r.become(Candidate, now)
		r.vote(self.ID, true, now)
	default:
		r.become(Unattached, now)
	}
	if len(members.Voters) == 1 && r.isVoter() && r.role != Candidate && r.role != Leader {
		r.prospective(now) // there is nobody to wait for
	}
	r.askForTrust(now)
	r.settleFetch(now)
	return r
}

func (r *Raft) knows(n id.BrokerID) bool {
	_, ok := r.members.Voters.Find(n)
	return ok
}

// isVoter reports whether this node votes, stands for election and is counted.
func (r *Raft) isVoter() bool {
	return r.distrust == nil && r.members.Voters.Has(r.cfg.Self.Replica)
}

// Role is the node's part now.
func (r *Raft) Role() Role { return r.role }

// HardState is the node's epoch, its leader and the vote.
func (r *Raft) HardState() HardState { return r.hard }

// LeaderEndpoints are the endpoints of HardState().Leader: from the voters, else from what it said; nil when not known.
func (r *Raft) LeaderEndpoints() []Endpoint {
	if r.hard.Leader == r.cfg.Self.ID {
		return r.cfg.Self.Endpoints
	}
	if v, ok := r.members.Voters.Find(r.hard.Leader); ok && len(v.Endpoints) > 0 {
		return v.Endpoints
	}
	return r.endpoints
}

// Membership is the set of voters in force: the newest in the log, committed or not.
func (r *Raft) Membership() Membership { return r.members }

// HighWatermark is the end of what is committed (exclusive), -1 while unknown. A new leader does not know it before it has
// committed a record of its own epoch, so that the leaders' high watermark never goes back.
func (r *Raft) HighWatermark() id.Offset { return r.hw }

// Trusted reports whether the node's vote counts; false from a start with a lost or old quorum-state until all other voters
// were heard.
func (r *Raft) Trusted() bool { return r.distrust == nil }

// SetMembership replaces the voters, after a record that says so was appended, or cut, or came with a snapshot.
func (r *Raft) SetMembership(m Membership) {
	r.members = m
	if r.role == Leader {
		r.advance()
	}
}

// Ready is what is to be done, in order of the fields. Nothing of it happened yet.
type Ready struct {
	HardState  *HardState // to be made durable before all else
	TruncateTo *id.Offset // cut the log; then call Truncated
	// Piece is to be written to the snapshot that is being fetched. After the last one the owner verifies the snapshot, makes
	// it durable and known, lets the log begin anew at its end, calls SetMembership with the snapshot's voters, and then
	// SnapshotDone.
	Piece *Piece
	// EpochStart are the control records that open this node's leadership, one batch at the end of the log. Call
	// SetMembership after they are appended.
	EpochStart []record.ControlRecord
	// Alarm is something that cannot happen while everybody keeps the protocol. An operator should see it; the node has
	// refused to take part in it.
	Alarm    error
	Messages []Message // to be sent once the log is durable, unless this node leads
}

// Piece is a part of a snapshot that is being fetched. One at At 0 begins a snapshot and drops any other that was begun.
type Piece struct {
	Snapshot Position
	At       int64
	Bytes    []byte
	Last     bool
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
	rd.TruncateTo, rd.Piece, rd.Alarm, rd.Messages = r.cut, r.piece, r.alarm, r.out
	some := r.persist || r.begun || r.cut != nil || r.piece != nil || r.alarm != nil || len(r.out) > 0
	r.persist, r.begun, r.cut, r.piece, r.alarm, r.out = false, false, nil, nil, nil, nil
	return rd, some
}

// become takes a role in the current epoch. What the former role had under way is void.
func (r *Raft) become(role Role, now time.Time) {
	r.role = role
	r.votes, r.retry, r.successors = nil, nil, nil
	r.leading, r.fetching = leading{epochStart: -1}, fetching{}
	r.cut, r.piece, r.begun = nil, nil, false
	r.deadline = time.Time{}
	switch role {
	case Unattached, Resigned:
		if r.isVoter() {
			r.deadline = r.electionDeadline(now)
		}
	case Prospective, Candidate:
		r.deadline = r.electionDeadline(now)
		r.votes = map[id.BrokerID]bool{}
	case Follower:
		r.deadline = now.Add(r.cfg.FetchTimeout)
	}
}

// unattach leaves the role for a state without a leader to follow. Whoever waited for an election goes on waiting for it: a
// node that is pushed from epoch to epoch must get its turn.
func (r *Raft) unattach(h HardState, now time.Time) {
	keep := time.Time{}
	switch r.role {
	case Unattached, Candidate, Resigned:
		keep = r.deadline
	case Prospective:
		if !r.rejected() {
			keep = r.deadline
		}
	}
	r.set(h)
	r.become(Unattached, now)
	if !keep.IsZero() && r.isVoter() {
		r.deadline = keep
	}
}

// follow takes leader as the leader of epoch. The vote of this epoch, if there was one, stays.
func (r *Raft) follow(epoch id.LeaderEpoch, leader id.BrokerID, endpoints []Endpoint, now time.Time) {
	voted := NoReplica
	if epoch == r.hard.Epoch {
		voted = r.hard.Voted
	}
	r.set(HardState{Epoch: epoch, Leader: leader, Voted: voted})
	r.endpoints = endpoints
	r.become(Follower, now)
}

func (r *Raft) electionDeadline(now time.Time) time.Time {
	jitter := time.Duration(0)
	if r.cfg.ElectionTimeout > 0 {
		jitter = time.Duration(r.cfg.Rand.Uint64() % uint64(r.cfg.ElectionTimeout))
	}
	return now.Add(r.cfg.ElectionTimeout + jitter)
}

// set changes the hard state; Ready will ask for it to be made durable. A node that does not trust its vote persists nothing,
// or it would trust itself after the next start.
func (r *Raft) set(h HardState) {
	if h.Epoch < r.hard.Epoch { // only where the epochs are used up
		h.Epoch = math.MaxInt32
	}
	if h.Epoch != r.hard.Epoch || h.Leader != r.hard.Leader {
		r.endpoints = nil
	}
	if h != r.hard {
		r.hard, r.persist = h, r.distrust == nil
	}
}

// learnCommitted moves the high watermark up.
func (r *Raft) learnCommitted(to id.Offset) {
	r.hw = max(r.hw, to)
	r.floor = max(r.floor, r.hw)
}

func (r *Raft) send(m Message) {
	m.From = r.cfg.Self.Replica
	m.Leader = r.hard.Leader
	m.Endpoints = r.LeaderEndpoints()
	if v, ok := r.members.Voters.Find(m.To); ok && (m.Type == MsgVote || m.Type == MsgBeginEpoch) {
		m.ToDirectory = v.DirectoryID
	}
	r.out = append(r.out, m)
}

// Answer returns the frame of an answer to a request: who answers, its epoch and leader, what an answer repeats, and no high
// watermark. The owner fills it when it Serves the request.
func (r *Raft) Answer(to Message) Message {
	return Message{Type: to.Type + 1, From: r.cfg.Self.Replica, To: to.From.ID, Epoch: r.hard.Epoch, Leader: r.hard.Leader, Endpoints: r.LeaderEndpoints(),
		Request: to.Request, PreVote: to.PreVote, Log: to.Log, Snapshot: nil, At: to.At, HighWatermark: -1}
}

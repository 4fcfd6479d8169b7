package raft

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

var start = time.Unix(1_700_000_000, 0)

func three() Voters {
	return Voters{{Replica: Replica{ID: 1}}, {Replica: Replica{ID: 2}}, {Replica: Replica{ID: 3}}}
}

// newRaft returns node self of a quorum, with a log and a hard state, and what it asked for so far taken away.
func newRaft(vs Voters, self id.BrokerID, l *simLog, h HardState) *Raft {
	v, _ := vs.Find(self)
	r := New(Config{Self: v, ElectionTimeout: time.Second, FetchTimeout: 2 * time.Second, Log: l, Rand: rand.New(rand.NewPCG(1, 1))},
		h, Membership{Voters: vs, Offset: -1}, start)
	r.Ready()
	return r
}

func fresh() HardState { return HardState{Leader: id.NoBroker, Voted: NoReplica} }

func answer(t *testing.T, r *Raft, m Message) Message {
	t.Helper()
	r.Step(start, m)
	rd, _ := r.Ready()
	if len(rd.Messages) == 0 {
		t.Fatalf("no answer to %+v", m)
	}
	return rd.Messages[0]
}

// TestQuorumOfOne holds that one voter leads by the same steps and commits only what is durable.
func TestQuorumOfOne(t *testing.T) {
	l := &simLog{}
	one := Voters{{Replica: Replica{ID: 4, DirectoryID: id.UUID{7}}, Endpoints: []Endpoint{{"C", "h", 1}}, MaxVersion: 1}}
	r := New(Config{Self: one[0], ElectionTimeout: time.Second, FetchTimeout: time.Second, Log: l, Rand: rand.New(rand.NewPCG(1, 1))},
		fresh(), Membership{KRaftVersion: 1, Voters: one, Offset: -1}, start)
	rd, ok := r.Ready()
	if !ok || r.Role() != Leader || *rd.HardState != (HardState{1, 4, NoReplica}) {
		t.Fatalf("%v, %+v", r.Role(), rd)
	}
	types := []record.ControlType{}
	for _, c := range rd.EpochStart {
		types = append(types, c.Type)
	}
	if len(types) != 3 || types[0] != record.ControlLeaderChange || types[1] != record.ControlKRaftVersion || types[2] != record.ControlKRaftVoters {
		t.Fatalf("the epoch opens with %v", types)
	}
	m := logrec.NewLeaderChangeMessage()
	if err := wire.Unmarshal(rd.EpochStart[0].Value, m, 0); err != nil || m.LeaderID != 4 || len(m.Voters) != 1 || len(m.GrantingVoters) != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	l.entries = append(l.entries, entry{1, 0}, entry{1, 1})
	if r.HighWatermark() != -1 {
		t.Fatal("committed before it is durable")
	}
	r.Durable(1)
	if r.HighWatermark() != 1 {
		t.Fatalf("high watermark %d after 1 durable record of 2", r.HighWatermark())
	}
	if _, due := r.Deadline(); due {
		t.Fatal("a leader without followers has nothing to wait for")
	}
}

// TestOldRecordsAreNotCommittedByCounting is figure 8 of the Raft paper: a majority that has records of older epochs does not
// commit them before one of the leader's own.
func TestOldRecordsAreNotCommittedByCounting(t *testing.T) {
	l := &simLog{entries: []entry{{1, 1}, {2, 2}}}
	r := newRaft(three(), 1, l, HardState{Epoch: 3, Leader: id.NoBroker, Voted: NoReplica})
	now := start.Add(3 * time.Second)
	r.Tick(now)
	r.Step(now, Message{Type: MsgVoteAnswer, From: Replica{ID: 2}, Epoch: 3, Leader: id.NoBroker, PreVote: true, Granted: true})
	r.Step(now, Message{Type: MsgVoteAnswer, From: Replica{ID: 3}, Epoch: 4, Leader: id.NoBroker, Granted: true})
	if r.Role() != Leader || r.EpochStart() != 2 {
		t.Fatalf("%v, epoch start %d", r.Role(), r.EpochStart())
	}
	r.Durable(2)
	r.Step(now, Message{Type: MsgFetch, From: Replica{ID: 2}, Epoch: 4, Log: Position{2, 2}})
	if r.HighWatermark() != -1 {
		t.Fatalf("high watermark %d", r.HighWatermark())
	}
	l.entries = append(l.entries, entry{4, 0})
	r.Durable(3)
	r.Step(now, Message{Type: MsgFetch, From: Replica{ID: 2}, Epoch: 4, Log: Position{3, 4}})
	if r.HighWatermark() != 3 {
		t.Fatalf("high watermark %d", r.HighWatermark())
	}
}

func TestVotes(t *testing.T) {
	l := &simLog{entries: []entry{{1, 1}, {2, 2}}}
	two, other := Replica{ID: 2}, Replica{ID: 3}
	unvoted := HardState{Epoch: 3, Leader: id.NoBroker, Voted: NoReplica}
	tests := []struct {
		name    string
		hard    HardState
		m       Message
		granted bool
	}{
		{"up to date", unvoted, Message{From: two, Epoch: 4, Log: Position{2, 2}}, true},
		{"in the same epoch", unvoted, Message{From: two, Epoch: 3, Log: Position{2, 2}}, true},
		{"longer log of an older epoch", unvoted, Message{From: two, Epoch: 4, Log: Position{9, 1}}, false},
		{"shorter log", unvoted, Message{From: two, Epoch: 4, Log: Position{1, 2}}, false},
		{"older epoch", unvoted, Message{From: two, Epoch: 2, Log: Position{9, 9}}, false},
		{"voted for it", HardState{3, id.NoBroker, two}, Message{From: two, Epoch: 3, Log: Position{2, 2}}, true},
		{"voted for another", HardState{3, id.NoBroker, other}, Message{From: two, Epoch: 3, Log: Position{9, 9}}, false},
		{"voted for another, in an older epoch", HardState{3, id.NoBroker, other}, Message{From: two, Epoch: 4, Log: Position{2, 2}}, true},
		{"follows a leader", HardState{3, 3, NoReplica}, Message{From: two, Epoch: 3, Log: Position{9, 9}}, false},
		{"a question, voted for another", HardState{3, id.NoBroker, other}, Message{From: two, Epoch: 3, PreVote: true, Log: Position{2, 2}}, true},
		{"a question, shorter log", unvoted, Message{From: two, Epoch: 3, PreVote: true, Log: Position{1, 2}}, false},
	}
	for _, tt := range tests {
		r := newRaft(three(), 1, l, tt.hard)
		tt.m.Type, tt.m.To = MsgVote, 1
		a := answer(t, r, tt.m)
		if a.Granted != tt.granted {
			t.Errorf("%s: granted %t", tt.name, a.Granted)
		}
		if v := r.HardState().Voted; tt.granted && !tt.m.PreVote && v != tt.m.From || tt.m.PreVote && v != tt.hard.Voted {
			t.Errorf("%s: vote noted as %v", tt.name, v)
		}
	}
}

// TestRestartedLeaderDoesNotLead holds that nobody leads an epoch twice: unflushed records of the first time may be lost.
func TestRestartedLeaderDoesNotLead(t *testing.T) {
	r := newRaft(three(), 1, &simLog{entries: []entry{{5, 0}}}, HardState{5, 1, NoReplica})
	if r.Role() != Resigned {
		t.Fatalf("%v", r.Role())
	}
	if a := answer(t, r, Message{Type: MsgVote, From: Replica{ID: 2}, To: 1, Epoch: 5, Log: Position{9, 5}}); a.Granted {
		t.Fatal("votes in an epoch that it led")
	}
	one := three()[:1]
	r = newRaft(one, 1, &simLog{entries: []entry{{5, 0}}}, HardState{5, 1, NoReplica})
	if r.Role() != Leader || r.HardState().Epoch != 6 {
		t.Fatalf("%v %+v", r.Role(), r.HardState())
	}
}

// TestLateDivergingAnswer: an answer to an earlier fetch, repeated by the network, must not cut what was appended since.
func TestLateDivergingAnswer(t *testing.T) {
	l := &simLog{entries: []entry{{1, 1}, {1, 2}}}
	r := newRaft(three(), 2, l, HardState{3, 1, NoReplica})
	diverging := Message{Type: MsgFetchAnswer, Request: 1, From: Replica{ID: 1}, To: 2, Epoch: 3, Leader: 1, Log: Position{2, 1}, Diverging: &Position{1, 1}, HighWatermark: 1}
	r.Step(start, diverging)
	rd, _ := r.Ready()
	if rd.TruncateTo == nil || *rd.TruncateTo != 1 {
		t.Fatalf("%+v", rd)
	}
	l.entries = l.entries[:1]
	r.Truncated(start)
	r.Ready()
	good := Message{Type: MsgFetchAnswer, Request: 2, From: Replica{ID: 1}, To: 2, Epoch: 3, Leader: 1, Log: Position{1, 1}, HighWatermark: 1}
	if !r.Accepts(good) {
		t.Fatal("the answer to the second fetch is not accepted")
	}
	l.entries = append(l.entries, entry{3, 0})
	r.Step(start, good)
	r.Ready()
	r.Step(start, diverging)
	if rd, _ := r.Ready(); rd.TruncateTo != nil || r.Accepts(good) {
		t.Fatalf("a late answer counts: %+v", rd)
	}
}

// entry is a record of a log in memory. Value 0 opens an epoch.
type entry struct {
	epoch id.LeaderEpoch
	value int32
}

type simLog struct {
	entries []entry
	durable int
}

func (l *simLog) End() Position {
	p := Position{Offset: id.Offset(len(l.entries))}
	if n := len(l.entries); n > 0 {
		p.Epoch = l.entries[n-1].epoch
	}
	return p
}

func (l *simLog) EndOffsetForEpoch(e id.LeaderEpoch) (Position, bool) {
	for i := len(l.entries) - 1; i >= 0; i-- {
		if l.entries[i].epoch <= e {
			return Position{Offset: id.Offset(i + 1), Epoch: l.entries[i].epoch}, true
		}
	}
	return Position{}, false
}

func (l *simLog) StartOffset() id.Offset { return 0 }

func (l *simLog) Snapshots() (earliest, latest Position, ok bool) {
	return Position{}, Position{}, false
}

package raft

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// scene is one node of a quorum whose other nodes are played by a file. Commands:
//
//	node id=1 voters=(1,2,3) [kraft=1] [epoch= leader= voted=] [log=(1,1,2)] [snapshot=10@2] [distrust] [bootstrap=(-2)] [dir=]
//	    starts a node, whose log has records of these epochs, after a snapshot if there is one
//	tick ms=1000                time passes, and Tick is called
//	step Type from=2 [...]      a message arrives; fields as they are printed, records=(3,3) in a fetch's answer
//	append n=2                  a leader appends records, which are durable at once
//	write n=2, durable to=4     the same in two steps
//	members voters=(1,2,3)      a record changes the voters
//	resign, unreachable Type to=2, status, upgrade to=1 [known=(1,2,3)], describe voter=2 levels=1
//
// The output is what the node asks for, in order, and its state. What the owner has to do is done.
type scene struct {
	t    *testing.T
	now  time.Time
	r    *Raft
	log  *sceneLog
	self Replica
	last map[MessageType]Message
}

// sceneLog is a log of epochs, after a snapshot.
type sceneLog struct {
	simLog
	start    Position
	snapshot bool
}

func (l *sceneLog) End() Position {
	if len(l.entries) == 0 {
		return l.start
	}
	return Position{l.start.Offset + id.Offset(len(l.entries)), l.entries[len(l.entries)-1].epoch}
}

func (l *sceneLog) EndOffsetForEpoch(e id.LeaderEpoch) (Position, bool) {
	p, ok := l.simLog.EndOffsetForEpoch(e)
	p.Offset += l.start.Offset
	return p, ok
}

func (l *sceneLog) StartOffset() id.Offset { return l.start.Offset }

func (l *sceneLog) Snapshots() (earliest, latest Position, ok bool) {
	return l.start, l.start, l.snapshot
}

func (l *sceneLog) append(epochs ...id.LeaderEpoch) {
	for _, e := range epochs {
		l.entries = append(l.entries, entry{e, 1})
	}
}

// zero makes every timeout the shortest.
type zero struct{}

func (zero) Uint64() uint64 { return 0 }

func dirOf(n id.BrokerID) id.UUID { return id.UUID{15: byte(n)} }

func (s *scene) voters(ids []string, kraft int16) (vs Voters) {
	for _, x := range ids {
		if x == "" {
			continue
		}
		n, err := strconv.Atoi(x)
		if err != nil {
			s.t.Fatal(err)
		}
		v := Voter{Replica: Replica{ID: id.BrokerID(n)}, MaxVersion: 1, Endpoints: []Endpoint{{"C", "h", uint16(n)}}}
		if kraft > 0 {
			v.DirectoryID = dirOf(v.ID)
		}
		vs = vs.With(v)
	}
	return vs
}

func vals(d *datadriven.TestData, key string) []string {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			return a.Vals
		}
	}
	return nil
}

func num(t *testing.T, d *datadriven.TestData, key string, otherwise int) int {
	t.Helper()
	v := vals(d, key)
	if len(v) == 0 {
		return otherwise
	}
	if v[0] == "-" {
		return -1
	}
	n, err := strconv.Atoi(v[0])
	if err != nil {
		d.Fatalf(t, "%s: %v", key, err)
	}
	return n
}

func has(d *datadriven.TestData, key string) bool {
	return slices.ContainsFunc(d.CmdArgs, func(a datadriven.CmdArg) bool { return a.Key == key })
}

// position reads offset@epoch.
func position(t *testing.T, d *datadriven.TestData, key string) *Position {
	v := vals(d, key)
	if len(v) == 0 {
		return nil
	}
	var p Position
	if _, err := fmt.Sscanf(v[0], "%d@%d", &p.Offset, &p.Epoch); err != nil {
		d.Fatalf(t, "%s: %v", key, err)
	}
	return &p
}

func epochs(t *testing.T, d *datadriven.TestData, key string) (out []id.LeaderEpoch) {
	for _, v := range vals(d, key) {
		e, err := strconv.Atoi(v)
		if err != nil {
			d.Fatalf(t, "%s: %v", key, err)
		}
		out = append(out, id.LeaderEpoch(e))
	}
	return out
}

func (s *scene) run(d *datadriven.TestData) string {
	t := s.t
	switch d.Cmd {
	case "node":
		return s.start(d)
	case "tick":
		s.now = s.now.Add(time.Duration(num(t, d, "ms", 0)) * time.Millisecond)
		s.r.Tick(s.now)
	case "step":
		return s.step(s.message(d))
	case "unreachable":
		m := s.last[messageType(t, d)]
		m.To = id.BrokerID(num(t, d, "to", int(m.To)))
		s.r.Unreachable(s.now, m)
	case "append", "write":
		s.log.append(slices.Repeat([]id.LeaderEpoch{s.r.HardState().Epoch}, num(t, d, "n", 1))...)
		if d.Cmd == "append" {
			s.r.Durable(s.log.End().Offset)
		}
	case "durable":
		s.r.Durable(id.Offset(num(t, d, "to", 0)))
	case "members":
		m := s.r.Membership()
		m.Voters, m.Offset = s.voters(vals(d, "voters"), m.KRaftVersion), s.log.End().Offset
		s.r.SetMembership(m)
		s.r.Tick(s.now)
	case "resign":
		s.r.Resign(s.now)
	case "describe":
		v := s.voters(vals(d, "voter"), 1)[0]
		v.MaxVersion = int16(num(t, d, "levels", 1))
		return fmt.Sprintln(s.r.UpdateVoter(v))
	case "upgrade":
		records, err := s.r.UpgradeRecords(int16(num(t, d, "to", 1)))
		if err != nil {
			return err.Error() + "\n"
		}
		return s.controls(records)
	case "status":
		return s.status()
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	return s.settle()
}

func (s *scene) start(d *datadriven.TestData) string {
	t := s.t
	s.now, s.last = start, map[MessageType]Message{}
	s.log = &sceneLog{}
	if p := position(t, d, "snapshot"); p != nil {
		s.log.start, s.log.snapshot = *p, true
	}
	s.log.append(epochs(t, d, "log")...)
	kraft := int16(num(t, d, "kraft", 0))
	n := id.BrokerID(num(t, d, "id", 1))
	s.self = Replica{n, dirOf(id.BrokerID(num(t, d, "dir", int(n))))}
	h := HardState{Epoch: id.LeaderEpoch(num(t, d, "epoch", 0)), Leader: id.BrokerID(num(t, d, "leader", -1)), Voted: NoReplica}
	if v := num(t, d, "voted", -1); v >= 0 {
		h.Voted = Replica{id.BrokerID(v), dirOf(id.BrokerID(v))}
	}
	cfg := Config{Self: Voter{Replica: s.self, MaxVersion: 1, Endpoints: []Endpoint{{"C", "h", uint16(n)}}}, ElectionTimeout: time.Second, FetchTimeout: 2 * time.Second,
		RequestTimeout: 1500 * time.Millisecond, Distrust: has(d, "distrust"), Log: s.log, Rand: zero{}}
	for _, v := range epochs(t, d, "bootstrap") {
		cfg.Bootstrap = append(cfg.Bootstrap, id.BrokerID(v))
	}
	s.r = New(cfg, h, Membership{KRaftVersion: kraft, Voters: s.voters(vals(d, "voters"), kraft), Offset: -1}, s.now)
	return s.settle()
}

func messageType(t *testing.T, d *datadriven.TestData) MessageType {
	i := slices.Index(messageNames[:], d.CmdArgs[0].Key)
	if i < 0 {
		d.Fatalf(t, "no message %s", d.CmdArgs[0].Key)
	}
	return MessageType(i)
}

// message reads a message. What is not said is as the node would expect it: its own epoch, the sender as leader, and, in an
// answer, what the last request of this kind had.
func (s *scene) message(d *datadriven.TestData) Message {
	t := s.t
	from := id.BrokerID(num(t, d, "from", 2))
	m := Message{Type: messageType(t, d), From: Replica{ID: from}, To: id.BrokerID(num(t, d, "to", int(s.self.ID))), Epoch: id.LeaderEpoch(num(t, d, "epoch", int(s.r.HardState().Epoch))),
		Leader: id.BrokerID(num(t, d, "leader", int(from))), PreVote: has(d, "pre"), Granted: has(d, "granted"), HighWatermark: id.Offset(num(t, d, "hw", -1)),
		At: int64(num(t, d, "at", 0)), Size: int64(num(t, d, "size", 0)), Anonymous: has(d, "anonymous"),
		Diverging: position(t, d, "diverging"), Snapshot: position(t, d, "snapshot")}
	if from >= 0 && !has(d, "nodir") {
		m.From.DirectoryID = dirOf(from)
	}
	if v := num(t, d, "dir", -1); v >= 0 {
		m.ToDirectory = dirOf(id.BrokerID(v))
	}
	if m.Type == MsgVote || m.Type == MsgVoteAnswer && !has(d, "leader") {
		m.Leader = id.NoBroker
	}
	if m.Type.IsAnswer() {
		q := s.last[m.Type-1]
		m.Request, m.Log = q.Request, q.Log
		if m.Type == MsgVoteAnswer {
			m.PreVote = m.PreVote || q.PreVote
		}
	}
	if p := position(t, d, "log"); p != nil {
		m.Log = *p
	}
	m.Request = uint64(num(t, d, "request", int(m.Request)))
	if n := num(t, d, "endpoints", 0); n > 0 {
		m.Endpoints = slices.Repeat([]Endpoint{{"C", "h", 1}}, n)
	}
	for _, v := range vals(d, "successors") {
		n, _ := strconv.Atoi(v)
		m.Successors = append(m.Successors, Replica{ID: id.BrokerID(n)})
	}
	if v := vals(d, "error"); len(v) > 0 {
		for c := range wire.ErrorCode(140) {
			if c.Name() == v[0] {
				m.Error = c
			}
		}
	}
	if v := vals(d, "bytes"); len(v) > 0 {
		m.Records = []byte(v[0])
	} else if m.Type == MsgFetchAnswer && has(d, "records") {
		if !s.r.Accepts(m) {
			m.Records = []byte{0}
			return m
		}
		s.log.append(epochs(t, d, "records")...)
	}
	return m
}

func (s *scene) step(m Message) string {
	refused := len(m.Records) > 0 && m.Type == MsgFetchAnswer
	s.r.Step(s.now, m)
	out := ""
	if refused {
		out = "does not accept the records\n"
	}
	if s.r.Serves(m) {
		out += "serves it\n"
	}
	return out + s.settle()
}

// settle does and prints what the node asks for.
func (s *scene) settle() string {
	var b strings.Builder
	for {
		rd, some := s.r.Ready()
		if !some {
			break
		}
		if h := rd.HardState; h != nil {
			fmt.Fprintf(&b, "persist epoch=%d leader=%s voted=%s\n", h.Epoch, who(h.Leader), who(h.Voted.ID))
		}
		if rd.TruncateTo != nil {
			fmt.Fprintf(&b, "cut to %d\n", *rd.TruncateTo)
			s.log.entries = s.log.entries[:*rd.TruncateTo-s.log.start.Offset]
			s.r.Truncated(s.now)
		}
		if p := rd.Piece; p != nil {
			fmt.Fprintf(&b, "piece of %s at %d: %s, last %t\n", pos(p.Snapshot), p.At, p.Bytes, p.Last)
			if p.Last {
				sound := string(p.Bytes) != "broken"
				if sound {
					s.log.start, s.log.entries, s.log.snapshot = p.Snapshot, nil, true
				}
				s.r.SnapshotDone(s.now, sound)
			}
		}
		if rd.EpochStart != nil {
			b.WriteString(s.controls(rd.EpochStart))
			s.log.append(slices.Repeat([]id.LeaderEpoch{s.r.HardState().Epoch}, len(rd.EpochStart))...)
		}
		if rd.Alarm != nil {
			fmt.Fprintf(&b, "alarm: %v\n", rd.Alarm)
		}
		for _, m := range rd.Messages {
			if !m.Type.IsAnswer() {
				s.last[m.Type] = m
			}
			b.WriteString(s.show(m))
		}
	}
	h := s.r.HardState()
	fmt.Fprintf(&b, "%v epoch=%d leader=%s log=%s hw=%d", s.r.Role(), h.Epoch, who(h.Leader), pos(s.log.End()), s.r.HighWatermark())
	if at, ok := s.r.Deadline(); ok {
		fmt.Fprintf(&b, " wakes=%v", at.Sub(s.now))
	}
	if !s.r.Trusted() {
		b.WriteString(" untrusted")
	}
	return b.String() + "\n"
}

func (s *scene) controls(records []record.ControlRecord) string {
	var b strings.Builder
	for _, c := range records {
		m := Membership{}
		if changed, err := m.Fold(c.Type, c.Value, 0); err != nil {
			s.t.Fatal(err)
		} else if changed && len(m.Voters) > 0 {
			b.WriteString("append the voters")
			for _, v := range m.Voters {
				fmt.Fprintf(&b, " %d/%x", v.ID, v.DirectoryID[15])
			}
			b.WriteString("\n")
		} else if changed {
			fmt.Fprintf(&b, "append kraft.version %d\n", m.KRaftVersion)
		} else {
			b.WriteString("append the change of leader\n")
		}
	}
	return b.String()
}

func (s *scene) status() string {
	var b strings.Builder
	ago := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return s.now.Sub(t).String()
	}
	voters, observers := s.r.Status(s.now)
	for _, v := range voters {
		fmt.Fprintf(&b, "voter %d end=%d fetched=%s caught up=%s\n", v.ID, v.End, ago(v.LastFetch), ago(v.LastCaughtUp))
	}
	for _, v := range observers {
		fmt.Fprintf(&b, "observer %d/%x end=%d fetched=%s caught up=%s\n", v.ID, v.DirectoryID[15], v.End, ago(v.LastFetch), ago(v.LastCaughtUp))
	}
	return b.String()
}

func who(n id.BrokerID) string {
	if n == id.NoBroker {
		return "-"
	}
	return fmt.Sprint(n)
}

func pos(p Position) string { return fmt.Sprintf("%d@%d", p.Offset, p.Epoch) }

// show prints a message without what goes without saying.
func (s *scene) show(m Message) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v to=%d epoch=%d", m.Type, m.To, m.Epoch)
	if m.Type.IsAnswer() {
		fmt.Fprintf(&b, " leader=%s", who(m.Leader))
	}
	if m.PreVote {
		b.WriteString(" pre")
	}
	if m.Type == MsgVoteAnswer {
		fmt.Fprintf(&b, " granted=%t", m.Granted)
	}
	if m.Type == MsgVote || m.Type == MsgFetch {
		fmt.Fprintf(&b, " log=%s", pos(m.Log))
	}
	if !m.ToDirectory.IsZero() {
		fmt.Fprintf(&b, " dir=%x", m.ToDirectory[15])
	}
	if m.Anonymous {
		b.WriteString(" anonymous")
	}
	if m.Diverging != nil {
		fmt.Fprintf(&b, " diverging=%s", pos(*m.Diverging))
	}
	if m.Snapshot != nil {
		fmt.Fprintf(&b, " snapshot=%s", pos(*m.Snapshot))
	}
	if m.Type == MsgFetchSnapshot {
		fmt.Fprintf(&b, " at=%d", m.At)
	}
	for _, x := range m.Successors {
		fmt.Fprintf(&b, " then %d", x.ID)
	}
	if m.Error != wire.ErrNone {
		fmt.Fprintf(&b, " %s", m.Error.Name())
	}
	return b.String() + "\n"
}

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &scene{t: t}
		datadriven.RunTest(t, path, func(_ *testing.T, d *datadriven.TestData) string { return s.run(d) })
	})
}

// TestForgedMessages throws anything at nodes in any role: nothing panics, no epoch goes back, and what is known as committed
// stays in the log.
func TestForgedMessages(t *testing.T) {
	seed := seed.Of(t)
	rnd := rand.New(rand.NewPCG(seed, 3))
	any := func(n int64) int64 { return rnd.Int64N(n+3) - 2 }
	for range 300 {
		l := &sceneLog{}
		for e := range id.LeaderEpoch(rnd.IntN(4)) {
			l.append(slices.Repeat([]id.LeaderEpoch{e + 1}, rnd.IntN(4))...)
		}
		vs := three()[:1+2*rnd.IntN(2)]
		h := HardState{Epoch: id.LeaderEpoch(rnd.IntN(6)), Leader: id.BrokerID(any(3)), Voted: Replica{ID: id.BrokerID(any(3))}}
		h.Leader, h.Voted.ID = max(h.Leader, -1), max(h.Voted.ID, -1)
		r := New(Config{Self: Voter{Replica: Replica{ID: 1, DirectoryID: dirOf(1)}}, ElectionTimeout: time.Second, FetchTimeout: time.Second, Log: l, Rand: rnd,
			Distrust: rnd.IntN(8) == 0}, h, Membership{KRaftVersion: int16(rnd.IntN(2)), Voters: vs, Offset: -1}, start)
		now, epoch, hw := start, r.HardState().Epoch, id.Offset(-1)
		for range 200 {
			now = now.Add(time.Duration(rnd.IntN(400)) * time.Millisecond)
			m := Message{Type: MessageType(rnd.IntN(len(messageNames))), From: Replica{ID: id.BrokerID(any(4))}, To: id.BrokerID(any(3)), Epoch: epoch + id.LeaderEpoch(any(3)),
				Leader: id.BrokerID(any(4)), PreVote: rnd.IntN(2) == 0, Granted: rnd.IntN(2) == 0, Log: Position{id.Offset(any(12)), id.LeaderEpoch(any(8))},
				At: any(9), Size: any(9), HighWatermark: id.Offset(any(12)), Records: make([]byte, rnd.IntN(3)), Request: r.requests - uint64(rnd.IntN(2)),
				Error: []wire.ErrorCode{0, 0, 0, wire.ErrFencedLeaderEpoch, wire.ErrNotLeaderOrFollower, wire.ErrUnknownLeaderEpoch, wire.ErrSnapshotNotFound, wire.ErrUnsupportedVersion, -1}[rnd.IntN(9)]}
			if rnd.IntN(50) == 0 {
				m.Epoch = math.MaxInt32 - id.LeaderEpoch(rnd.IntN(1<<17))
			}
			if rnd.IntN(4) == 0 {
				m.Diverging = &Position{id.Offset(any(12)), id.LeaderEpoch(any(8))}
			}
			if rnd.IntN(4) == 0 {
				m.Snapshot = &Position{id.Offset(any(12)), id.LeaderEpoch(any(8))}
			}
			if rnd.IntN(2) == 0 && r.fetching.busy {
				m.From.ID, m.Log = r.fetching.to, r.fetching.at
			}
			r.Serves(m)
			r.Accepts(m)
			r.Step(now, m)
			if rnd.IntN(8) == 0 {
				r.Unreachable(now, m)
			}
			r.Tick(now)
			rd, _ := r.Ready()
			if rd.TruncateTo != nil {
				if *rd.TruncateTo < hw {
					t.Fatalf("seed %d: cut to %d, committed %d", seed, *rd.TruncateTo, hw)
				}
				l.entries = l.entries[:*rd.TruncateTo-l.start.Offset]
				r.Truncated(now)
			}
			if p := rd.Piece; p != nil && p.Last {
				l.start, l.entries, l.snapshot = p.Snapshot, nil, true
				r.SnapshotDone(now, true)
			}
			if rd.EpochStart != nil {
				l.append(r.HardState().Epoch)
				r.Durable(l.End().Offset)
			}
			if r.HardState().Epoch < epoch {
				t.Fatalf("seed %d: epoch %d after %d", seed, r.HardState().Epoch, epoch)
			}
			epoch, hw = r.HardState().Epoch, max(hw, r.HighWatermark())
			if hw > l.End().Offset {
				t.Fatalf("seed %d: committed %d of %d", seed, hw, l.End().Offset)
			}
			if at, ok := r.Deadline(); ok && at.Before(now) {
				t.Fatalf("seed %d: %v is due since %v", seed, r.Role(), now.Sub(at))
			}
		}
	}
}

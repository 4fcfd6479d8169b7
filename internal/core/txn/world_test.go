package txn

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
)

// world drives one shard over a log in memory. With hold set the high watermark stays, so that nothing commits until release.
type world struct {
	t       testing.TB
	cfg     Config
	level   int16
	ids     id.ProducerID // the next one handed out
	noIDs   bool
	s       *Shard
	now     time.Time
	start   time.Time
	log     []shard.Record
	hw      int
	loaded  int // records that were there when this shard was
	hold    bool
	last    shard.Ticket
	tickets map[shard.Ticket]string
	pending []pendingOp
	sent    []Markers // left the shard, not reported yet
	out     []string
	// Rules that a test breaks: markers, or answers, that do not wait; a new leader that sends no markers.
	early, hasty, forgetful bool

	seen  func(format string, args ...any)
	heard func(t shard.Ticket, body any, code wire.ErrorCode) // instead of out
}

type pendingOp struct {
	ticket   shard.Ticket
	reply    any
	messages []any
	required int
}

func newWorld(t testing.TB, level int16) *world {
	w := &world{t: t, cfg: DefaultConfig(), level: level, ids: 1000, now: time.UnixMilli(1_700_000_000_000), tickets: map[shard.Ticket]string{}}
	w.start = w.now
	w.cfg.Level = func() int16 { return w.level }
	w.cfg.NextProducerID = func() (id.ProducerID, bool) {
		if w.noIDs {
			return id.NoProducer, false
		}
		w.ids++
		return w.ids - 1, true
	}
	w.s = New(w.cfg)
	w.carry(shard.NoTicket, w.s.Loaded(w.now, 0))
	return w
}

func (w *world) say(format string, args ...any) {
	if w.heard == nil {
		w.out = append(w.out, fmt.Sprintf(format, args...))
	}
}

// fail ends the tickets of what waits for more than the first n records.
func (w *world) fail(n int, code wire.ErrorCode) {
	keep := 0
	for keep < len(w.pending) && w.pending[keep].required <= n {
		keep++
	}
	failed := w.pending[keep:]
	w.pending = w.pending[:keep:keep]
	for _, p := range failed {
		name, open := w.tickets[p.ticket]
		if !open {
			continue
		}
		delete(w.tickets, p.ticket)
		if w.heard != nil {
			w.heard(p.ticket, nil, code)
		}
		w.say("%s: failed %s", name, code.Name())
	}
}

func (w *world) do(name string, decide func(Turn) shard.Result) {
	w.last++
	w.tickets[w.last] = name
	w.carry(w.last, decide(Turn{Now: w.now, Ticket: w.last}))
	w.settle()
}

func (w *world) carry(t shard.Ticket, res shard.Result) {
	for _, a := range res.Answers {
		w.answer(a.Ticket, a.Body)
	}
	for _, r := range res.Records {
		w.s.Apply(id.Offset(len(w.log)), r)
		w.log = append(w.log, r)
		if c := r.Change.(change); w.heard == nil {
			w.say("record %s %s", c.name, w.show(c.t))
		} else {
			w.seen("%d: record %s %s", len(w.log)-1, c.name, w.show(c.t))
		}
	}
	if w.early {
		for _, m := range res.Messages {
			w.sent = append(w.sent, m.(Markers))
		}
		res.Messages = nil
	}
	if w.hasty && res.Reply != nil {
		w.answer(t, res.Reply)
		res.Reply = nil
	}
	if res.Reply != nil || len(res.Messages) > 0 {
		w.pending = append(w.pending, pendingOp{t, res.Reply, res.Messages, len(w.log)})
	}
}

func (w *world) answer(t shard.Ticket, body any) {
	name, open := w.tickets[t]
	if !open {
		w.t.Fatalf("ticket %d is answered twice", t)
	}
	delete(w.tickets, t)
	if w.heard != nil {
		w.heard(t, body, wire.ErrNone)
		return
	}
	switch b := body.(type) {
	case Identity:
		w.say("%s: %s producer=%d epoch=%d", name, b.Code.Name(), b.ProducerID, b.Epoch)
	case wire.ErrorCode:
		w.say("%s: %s", name, b.Name())
	case []wire.ErrorCode:
		var codes []string
		for _, c := range b {
			codes = append(codes, c.Name())
		}
		w.say("%s: %s", name, strings.Join(codes, " "))
	default:
		w.t.Fatalf("answer %T", body)
	}
}

func (w *world) settle() {
	for {
		if !w.hold && w.hw < len(w.log) {
			w.hw = len(w.log)
			w.s.Committed(id.Offset(w.hw))
		}
		if len(w.pending) == 0 || w.pending[0].required > w.hw {
			return
		}
		p := w.pending[0]
		w.pending = w.pending[1:]
		if p.reply != nil {
			w.answer(p.ticket, p.reply)
		}
		for _, m := range p.messages {
			m := m.(Markers)
			w.sent = append(w.sent, m)
			if w.heard != nil {
				continue
			}
			w.say("markers %s producer=%d epoch=%d commit=%v version=%d %s", m.TransactionalID, m.ProducerID, m.Epoch, m.Commit, m.Version, list(m.Partitions))
		}
	}
}

// release lets the high watermark go.
func (w *world) release() {
	w.hold = false
	w.settle()
}

// lose takes everything beyond the high watermark back, as a failed append does. What was loaded from the log stays.
func (w *world) lose(code wire.ErrorCode) {
	end := max(w.hw, w.loaded)
	w.s.Revert(id.Offset(end))
	w.log = w.log[:end]
	w.fail(end, code)
}

// move makes a new shard from the first n records of the log, as a new leader does. Markers under way are forgotten.
func (w *world) move(n int) {
	w.log = w.log[:n]
	w.hw = min(w.hw, n)
	w.fail(-1, wire.ErrNotCoordinator)
	w.sent = nil
	w.loaded = n
	w.s = w.replay(n)
	w.s.Committed(id.Offset(w.hw))
	res := w.s.Loaded(w.now, id.Offset(n))
	if w.forgetful {
		res.Messages = nil
	}
	// As the runtime does: what is asked for builds on the log that is there, not on the records.
	w.carry(shard.NoTicket, shard.Result{Messages: res.Messages})
	res.Messages = nil
	w.carry(shard.NoTicket, res)
	w.settle()
}

func (w *world) replay(n int) *Shard {
	s := New(w.cfg)
	for i, r := range w.log[:n] {
		if known, err := s.Replay(id.Offset(i), id.NoProducer, r.Key, r.Value); err != nil || !known {
			w.t.Fatalf("replay: %v %v", known, err)
		}
	}
	return s
}

// written reports the markers of a transactional id, for the given partitions or all.
func (w *world) written(name string, only []id.TopicPartition) {
	for i, m := range slices.Backward(w.sent) {
		if m.TransactionalID != name {
			continue
		}
		done := m.Partitions
		if only != nil {
			done = only
		} else {
			w.sent = slices.Delete(w.sent, i, i+1)
		}
		w.carry(shard.NoTicket, w.s.Written(w.now, m, done))
		w.settle()
		return
	}
	w.say("no markers of %s are under way", name)
}

// advance lets time pass, stopping at each deadline.
func (w *world) advance(d time.Duration) {
	end := w.now.Add(d)
	for {
		at, ok := w.s.Deadline()
		if !ok || at.After(end) {
			break
		}
		if at.After(w.now) {
			w.now = at
		}
		res, ok := w.s.Expire(w.now)
		if !ok {
			w.t.Fatalf("deadline %v has passed, and nothing expired", at)
		}
		w.carry(shard.NoTicket, res)
		w.settle()
	}
	w.now = end
}

func (w *world) show(t *Transaction) string {
	if t == nil {
		return "gone"
	}
	started := "-"
	if t.StartMs >= 0 {
		started = time.UnixMilli(t.StartMs).Sub(w.start).String()
	}
	s := fmt.Sprintf("%v producer=%d epoch=%d last=%d started=%s", t.State, t.ProducerID, t.Epoch, t.LastEpoch, started)
	if t.PreviousProducerID != t.ProducerID {
		s += fmt.Sprintf(" previous=%d", t.PreviousProducerID)
	}
	if t.NextProducerID != id.NoProducer {
		s += fmt.Sprintf(" next=%d", t.NextProducerID)
	}
	if t.ClientVersion != 0 {
		s += fmt.Sprintf(" client=%d", t.ClientVersion)
	}
	if len(t.Partitions) > 0 {
		s += " " + list(t.Partitions)
	}
	return s
}

func list(partitions []id.TopicPartition) string {
	var all []string
	for _, tp := range partitions {
		all = append(all, tp.String())
	}
	return "[" + strings.Join(all, " ") + "]"
}

// check compares the state as reads see it with a replay of what is committed, and the working state with one of everything.
func (w *world) check() {
	w.t.Helper()
	view := func(s *Shard) map[string]Transaction {
		m := map[string]Transaction{}
		s.List(func(name string, t *Transaction) { m[name] = w.logged(t) })
		return m
	}
	committed := w.replay(w.hw)
	committed.Committed(id.Offset(w.hw))
	if got, want := view(w.s), view(committed); !reflect.DeepEqual(got, want) {
		w.t.Fatalf("committed state:\n%v\nits replay:\n%v", got, want)
	}
	all := w.replay(len(w.log))
	if len(all.txns) != len(w.s.txns) {
		w.t.Fatalf("%d transactions, the replay has %d", len(w.s.txns), len(all.txns))
	}
	for name, t := range w.s.txns {
		if got, want := w.logged(t), w.logged(all.txns[name]); !reflect.DeepEqual(got, want) {
			w.t.Fatalf("%s is\n%+v\nits replay:\n%+v", name, got, want)
		}
		m := w.s.marking[name]
		if t.State.preparing() != (m != nil) || m != nil && m.of != t {
			w.t.Fatalf("%s in %v has the markers %+v", name, t.State, m)
		}
		if ongoing := t.State == Ongoing && t.TimeoutMs != NoTimeout; ongoing != w.s.timers.Has(timerKey{timerAbort, name}) {
			w.t.Fatalf("%s in %v: its timeout runs: %v", name, t.State, !ongoing)
		}
	}
}

// logged is a transaction as far as it is in the log.
func (w *world) logged(t *Transaction) Transaction {
	if t == nil {
		return Transaction{}
	}
	l := *t
	l.LastEpoch = 0
	if w.level == 0 {
		l.PreviousProducerID, l.NextProducerID, l.ClientVersion = 0, 0, 0
	}
	if len(l.Partitions) == 0 {
		l.Partitions = nil
	}
	return l
}

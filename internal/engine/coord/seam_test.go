package coord

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// notes is a small machine: keys with values, and values of transactions that have no end yet.
type notes struct {
	values  map[string]string
	pending map[id.ProducerID]map[string]string
	undo    []noteUndo
	hw      id.Offset
	at      time.Time     // a deadline
	retry   time.Duration // when it comes again if its records are lost; 0 is never
	fail    string        // which method panics
	// partition is where it is, if that matters.
	partition int32
}

type noteUndo struct {
	at id.Offset
	do func()
}

type noteChange struct {
	producer   id.ProducerID
	key, value string
}

type noteEnd struct {
	producer id.ProducerID
	commit   bool
}

func newNotes() *notes {
	return &notes{values: map[string]string{}, pending: map[id.ProducerID]map[string]string{}}
}

func (n *notes) boom(method string) {
	if n.fail == method {
		panic("boom in " + method)
	}
}

func (n *notes) set(at id.Offset, producer id.ProducerID, key, value string) {
	table := n.values
	if producer != id.NoProducer {
		if table = n.pending[producer]; table == nil {
			table = map[string]string{}
			n.pending[producer] = table
		}
	}
	before, had := table[key]
	table[key] = value
	n.undo = append(n.undo, noteUndo{at, func() {
		if table[key] = before; !had {
			delete(table, key)
		}
		if len(n.pending[producer]) == 0 {
			delete(n.pending, producer)
		}
	}})
}

func (n *notes) endTxn(at id.Offset, e noteEnd) {
	values, pending := maps.Clone(n.values), n.pending[e.producer]
	if e.commit {
		maps.Copy(n.values, pending)
	}
	delete(n.pending, e.producer)
	n.undo = append(n.undo, noteUndo{at, func() {
		clear(n.values) // and no other map: those before it are taken back in this one
		maps.Copy(n.values, values)
		if pending != nil {
			n.pending[e.producer] = pending
		}
	}})
}

func (n *notes) Replay(at id.Offset, producer id.ProducerID, key, value []byte) (bool, error) {
	n.boom("Replay")
	n.set(at, producer, string(key), string(value))
	return true, nil
}

func (n *notes) EndTransaction(at id.Offset, producer id.ProducerID, commit bool) {
	n.endTxn(at, noteEnd{producer, commit})
}

func (n *notes) Loaded(time.Time, id.Offset) shard.Result {
	n.boom("Loaded")
	return shard.Result{Messages: []any{"loaded"}}
}

func (n *notes) Apply(at id.Offset, r shard.Record) {
	n.boom("Apply")
	switch c := r.Change.(type) {
	case noteChange:
		n.set(at, c.producer, c.key, c.value)
	case noteEnd:
		n.endTxn(at, c)
	}
}

func (n *notes) Revert(at id.Offset) {
	n.boom("Revert")
	for len(n.undo) > 0 && n.undo[len(n.undo)-1].at >= at {
		n.undo[len(n.undo)-1].do()
		n.undo = n.undo[:len(n.undo)-1]
	}
}

func (n *notes) Committed(hw id.Offset) {
	n.boom("Committed")
	n.hw = hw
}

func (n *notes) Deadline() (time.Time, bool) { return n.at, !n.at.IsZero() }

func (n *notes) Expire(now time.Time) (shard.Result, bool) {
	if n.at.IsZero() || n.at.After(now) {
		return shard.Result{}, false
	}
	n.boom("Expire")
	n.at = time.Time{}
	res := n.put("expired", "yes")
	if n.retry > 0 {
		res.Then = func(now time.Time, code wire.ErrorCode) shard.Result {
			if code != wire.ErrNone {
				n.at = now.Add(n.retry)
			}
			return shard.Result{}
		}
	}
	return res, true
}

func (n *notes) put(key, value string) shard.Result {
	return shard.Result{Records: []shard.Record{{Key: []byte(key), Value: []byte(value), Change: noteChange{id.NoProducer, key, value}}}, Reply: "put " + key}
}

func (n *notes) String() string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(n.values)) {
		all = append(all, k+"="+n.values[k])
	}
	for _, p := range slices.Sorted(maps.Keys(n.pending)) {
		for _, k := range slices.Sorted(maps.Keys(n.pending[p])) {
			all = append(all, fmt.Sprintf("%d:%s=%s", p, k, n.pending[p][k]))
		}
	}
	return strings.Join(all, " ")
}

// noteWorld is a runtime of notes, with what came out of it.
type noteWorld struct {
	t   *testing.T
	l   *memLog
	r   *Runtime[*notes]
	mu  sync.Mutex
	out []string
	// from is where the newest message came from.
	from  Origin[*notes]
	fault error
	fail  string // the method of new machines that panics
	told  func() // called for everything that comes out, if not nil
}

func newNoteWorld(t *testing.T, partitions int32, change func(*noteWorld, *Options[*notes])) *noteWorld {
	w := &noteWorld{t: t, l: newMemLog(t, partitions)}
	o := Options[*notes]{Log: w.l, Linger: Adaptive, Send: w.send, Fault: func(err error) { w.fault = err },
		New: func(int32) *notes { n := newNotes(); n.fail = w.fail; return n }}
	if change != nil {
		change(w, &o)
	}
	w.r = New(o)
	t.Cleanup(w.r.Close)
	for p := range partitions {
		w.r.Elected(p, 0)
	}
	w.expect("loaded")
	return w
}

func (w *noteWorld) say(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out = append(w.out, s)
	if w.told != nil {
		w.told()
	}
}

func (w *noteWorld) send(from Origin[*notes], message any) {
	if message == "loaded" && from.Partition() > 0 {
		return
	}
	w.say(fmt.Sprint(message))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.from = from
}

// do decides and says how it ended.
func (w *noteWorld) do(p int32, name string, decide func(n *notes) shard.Result) {
	w.doLater(p, name, decide, nil)
}

func (w *noteWorld) doLater(p int32, name string, decide func(n *notes) shard.Result, a Agenda) {
	w.r.DoLater(p, func(body any, code wire.ErrorCode) {
		if code != wire.ErrNone {
			body = code.Name()
		}
		w.say(fmt.Sprintf("%s: %v", name, body))
	}, func(n *notes, _ time.Time, _ shard.Ticket) shard.Result { return decide(n) }, a)
}

func (w *noteWorld) put(p int32, key, value string, messages ...any) {
	w.do(p, key, func(n *notes) shard.Result {
		res := n.put(key, value)
		res.Messages = messages
		return res
	})
}

func (w *noteWorld) hold(held bool) { w.l.set(0, func(p *memPartition) { p.hold = held }) }

// expect holds what came out since the last time against want.
func (w *noteWorld) expect(want ...string) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.out, want) {
		w.t.Errorf("came out: %q, want %q", w.out, want)
	}
	w.out = nil
}

// state holds the working state against want, and against a replay of the log.
func (w *noteWorld) state(want string) {
	w.t.Helper()
	synctest.Wait()
	var got string
	code := w.r.Read(0, func(n *notes) { got = n.String() })
	if code != wire.ErrNone {
		got = code.Name()
	}
	if got != want {
		w.t.Errorf("state %q, want %q", got, want)
	}
	c := newCell(w.r, 0, w.l.parts[0].epoch)
	n := newNotes()
	if _, _, err := c.replay(n); err != nil {
		w.t.Errorf("replay: %v", err)
	} else if code == wire.ErrNone && n.String() != got {
		w.t.Errorf("state %q, a replay of the log gives %q", got, n)
	}
}

// TestMessagesLeaveAfterCommit: a message is promised by records, so it leaves when these are committed, whoever still waits.
func TestMessagesLeaveAfterCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		w.put(0, "a", "1", "m1", "m2")
		w.expect("m1", "m2", "a: put a")
		w.hold(true)
		w.put(0, "b", "1", "m3")
		w.do(0, "no records", func(*notes) shard.Result { return shard.Result{Reply: "read", Messages: []any{"m4"}} })
		w.expect()
		w.hold(false)
		w.expect("m3", "m4", "no records: read", "b: put b")
		// Time runs out for the ticket, not for the message.
		w.hold(true)
		w.put(0, "c", "1", "m5")
		pass(6 * time.Second)
		w.expect("c: REQUEST_TIMED_OUT")
		w.hold(false)
		w.expect("m5")
		// The records are lost: so is the message.
		w.l.set(0, func(p *memPartition) { p.refuse = wire.ErrMessageTooLarge })
		w.put(0, "d", "1", "m6")
		w.expect("d: MESSAGE_TOO_LARGE")
		w.state("a=1 b=1 c=1")
		w.l.set(0, func(p *memPartition) { p.refuse = nil })
		w.put(0, "e", "1", "m7")
		w.expect("m7", "e: put e")
		// The leadership is lost: so is the message, and nothing comes back to a later one.
		w.hold(true)
		w.put(0, "f", "1", "m8")
		w.expect()
		from := w.from
		epoch := w.l.depose(0)
		w.r.Resigned(0, epoch)
		w.expect("f: NOT_COORDINATOR")
		w.r.Elected(0, epoch)
		w.expect("loaded")
		if from.Live() || from.Report(func(*notes, time.Time) shard.Result { panic("an event of the former leadership") }) {
			t.Error("the former leadership takes events")
		}
		if !w.from.Live() || w.from.Epoch() != epoch {
			t.Errorf("the leadership is of epoch %d, want %d", w.from.Epoch(), epoch)
		}
		w.state("a=1 b=1 c=1 e=1")
	})
}

// TestReportIsAnEvent: the answer to a message is a decision of the same leadership.
func TestReportIsAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, func(w *noteWorld, o *Options[*notes]) {
			o.Send = func(from Origin[*notes], m any) {
				w.send(from, m)
				if m == "loaded" {
					return
				}
				// From inside Send: nothing is locked.
				from.Report(func(n *notes, _ time.Time) shard.Result { return n.put("done", fmt.Sprint(m)) })
			}
		})
		w.put(0, "a", "1", "m1")
		w.expect("m1", "a: put a")
		w.state("a=1 done=m1")
		w.hold(true)
		for i := range 100 {
			if !w.from.Report(func(n *notes, _ time.Time) shard.Result {
				res := n.put("r", fmt.Sprint(i))
				if i == 99 {
					res.Messages = []any{"last"}
				}
				return res
			}) {
				t.Error("not taken")
			}
		}
		w.expect()
		w.state("a=1 done=m1 r=99")
		w.hold(false)
		w.expect("last")
		w.state("a=1 done=last r=99")
	})
}

// agenda takes everything on, as often as it may.
type agenda struct {
	most int
	todo []func()
}

func (a *agenda) Later(f func()) bool {
	if len(a.todo) == a.most {
		return false
	}
	a.todo = append(a.todo, f)
	return true
}

func (a *agenda) work() {
	for _, f := range a.todo {
		f()
	}
	a.todo = nil
}

// TestBatchLeftForLater: whoever brings several decisions has them written together, whatever becomes of the cell meanwhile.
func TestBatchLeftForLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		put := func(key string, a Agenda) {
			w.doLater(0, key, func(n *notes) shard.Result { return n.put(key, "1") }, a)
		}
		appends := func() int { w.l.mu.Lock(); defer w.l.mu.Unlock(); return w.l.parts[0].appends }
		a := &agenda{most: 1}
		for range 3 * lonelyAfter { // also where nobody has joined for long
			put("alone", nil)
			w.expect("alone: put alone")
		}
		before := appends()
		put("a", a)
		put("b", a)
		put("c", nil) // joins too
		w.expect()
		if appends() != before {
			t.Fatal("written at once")
		}
		a.work()
		w.expect("c: put c", "b: put b", "a: put a")
		if n := appends() - before; n != 1 {
			t.Fatalf("%d appends for three decisions", n)
		}
		// Whose it is may be held up elsewhere.
		put("late", a)
		put("joined", nil)
		pass(leftAtMost - 1)
		w.expect()
		pass(1)
		w.expect("joined: put joined", "late: put late")
		a.work()
		put("d", &agenda{}) // refuses
		w.expect("d: put d")
		// What must be written at once takes what was left for later with it.
		put("e", a)
		w.do(0, "in", func(*notes) shard.Result {
			return shard.Result{Reply: "put", Producer: &shard.Producer{ID: 1, Epoch: 3},
				Records: []shard.Record{{Key: []byte("x"), Value: []byte("t"), Change: noteChange{1, "x", "t"}}}}
		})
		w.expect("in: put", "e: put e")
		put("f", a)
		if len(a.todo) != 1 {
			t.Fatalf("%d batches left for later", len(a.todo))
		}
		w.expect("f: put f")
		a.work()
		// A batch that cannot be written, and one whose leadership is lost before.
		put("g", a)
		w.l.set(0, func(p *memPartition) { p.refuse = wire.ErrRecordListTooLarge })
		a.work()
		w.expect("g: RECORD_LIST_TOO_LARGE")
		w.l.set(0, func(p *memPartition) { p.refuse = wire.ErrNone })
		put("h", a)
		w.r.Resigned(0, 1)
		synctest.Wait()
		w.expect("h: NOT_COORDINATOR")
		a.work()
		w.expect()
	})
}

// TestTransactionsInAShard: records of a transaction and its marker are batches of their own, in the order of the decisions.
func TestTransactionsInAShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, func(_ *noteWorld, o *Options[*notes]) { o.Linger = time.Hour })
		in := func(p id.ProducerID, key string) {
			w.do(0, "in "+key, func(*notes) shard.Result {
				return shard.Result{Reply: "put", Producer: &shard.Producer{ID: p, Epoch: 3},
					Records: []shard.Record{{Key: []byte(key), Value: []byte("t"), Change: noteChange{p, key, "t"}}}}
			})
		}
		end := func(p id.ProducerID, commit bool) {
			w.do(0, "end", func(*notes) shard.Result {
				return shard.Result{Reply: commit, Marker: &shard.Marker{Producer: shard.Producer{ID: p, Epoch: 3}, Commit: commit, CoordinatorEpoch: 7, Version: 2,
					Change: noteEnd{p, commit}}}
			})
		}
		w.put(0, "a", "1")
		w.expect() // lingers
		in(1, "x")
		in(2, "y")
		w.expect("in x: put", "a: put a", "in y: put") // what is answered together, the last first
		w.state("a=1 1:x=t 2:y=t")
		w.put(0, "b", "1")
		end(1, true)
		end(2, false)
		w.expect("end: true", "b: put b", "end: false")
		w.state("a=1 b=1 x=t")
		// a marker that the log refuses is taken back
		in(1, "z")
		w.l.set(0, func(p *memPartition) { p.refuse = wire.ErrTransactionCoordinatorFenced })
		end(1, true)
		w.expect("in z: put", "end: TRANSACTION_COORDINATOR_FENCED")
		w.state("a=1 b=1 x=t 1:z=t")
		var kinds []string
		for _, b := range w.l.parts[0].batches {
			kinds = append(kinds, fmt.Sprintf("producer %d transactional %v control %v", b.ProducerID(), b.IsTransactional(), b.IsControl()))
		}
		want := []string{"producer -1 transactional false control false", "producer 1 transactional true control false", "producer 2 transactional true control false",
			"producer -1 transactional false control false", "producer 1 transactional true control true", "producer 2 transactional true control true",
			"producer 1 transactional true control false"}
		if !slices.Equal(kinds, want) {
			t.Errorf("batches:\n%s", strings.Join(kinds, "\n"))
		}
		if v := w.l.parts[0].versions[4]; v != 2 {
			t.Errorf("the marker was appended with transaction version %d", v)
		}
		it := w.l.parts[0].batches[4].Records(1 << 20)
		defer it.Close()
		var r record.Record
		if !it.Next(&r) || !slices.Equal(r.Value, []byte{0, 0, 0, 0, 0, 7}) {
			t.Errorf("marker value %x", r.Value)
		}
	})
}

// TestSlowAppendDelaysOnlyItsShard: deadlines, events and the high watermark of others go on, and so does who tells all.
func TestSlowAppendDelaysOnlyItsShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 2, nil)
		gate := make(chan struct{})
		w.l.set(0, func(p *memPartition) { p.slow = gate })
		go w.put(0, "stuck", "1")
		synctest.Wait()
		w.do(1, "deadline", func(n *notes) shard.Result {
			n.at = time.Now().Add(time.Second)
			return shard.Result{Reply: "set"}
		})
		w.r.DoAll(func(n *notes, _ time.Time) shard.Result { return n.put("all", "1") })
		pass(2 * time.Second)
		w.expect("deadline: set")
		var got string
		w.r.Read(1, func(n *notes) { got = n.String() })
		if got != "all=1 expired=yes" {
			t.Errorf("the other shard has %q", got)
		}
		close(gate)
		w.expect("stuck: put stuck")
		w.state("all=1 stuck=1")
	})
}

// TestDeadlineMoves: a core that changes its mind about its deadline is asked when it is due and not before, and not at all if there is
// none any more, even if it was due while somebody else had the cell.
func TestDeadlineMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		start := time.Now()
		at := func(d time.Duration) {
			w.do(0, "at", func(n *notes) shard.Result { n.at = start.Add(d); return shard.Result{Reply: d} })
			w.expect("at: " + d.String())
		}
		until := func(d time.Duration, want string) {
			t.Helper()
			pass(time.Until(start.Add(d)))
			w.state(want)
		}
		at(10 * time.Second)
		at(2 * time.Second)
		until(2*time.Second-1, "")
		until(2*time.Second, "expired=yes")
		w.put(0, "expired", "no")
		w.expect("expired: put expired")
		at(5 * time.Second)
		at(8 * time.Second)
		until(8*time.Second-1, "expired=no")
		until(8*time.Second, "expired=yes")
		w.put(0, "expired", "no")
		w.expect("expired: put expired")
		at(10 * time.Second)
		w.do(0, "none", func(n *notes) shard.Result { n.at = time.Time{}; return shard.Result{Reply: "none"} })
		w.expect("none: none")
		until(15*time.Second, "expired=no")
		at(16 * time.Second)
		gate := make(chan struct{})
		go w.do(0, "held", func(n *notes) shard.Result { <-gate; n.at = time.Time{}; return shard.Result{Reply: "free"} })
		synctest.Wait()
		pass(10 * time.Second)
		close(gate)
		w.expect("held: free")
		w.state("expired=no")
		// What has passed already is due at once, and what a lost append leaves is asked for again.
		at(time.Second)
		w.state("expired=yes")
		w.put(0, "expired", "no")
		w.expect("expired: put expired")
		w.l.set(0, func(p *memPartition) { p.refuse = wire.ErrNotEnoughReplicas })
		w.do(0, "again", func(n *notes) shard.Result {
			n.at, n.retry = time.Now().Add(time.Second), 500*time.Millisecond
			return shard.Result{Reply: "again"}
		})
		w.expect("again: again")
		pass(1100 * time.Millisecond)
		w.state("expired=no")
		w.l.set(0, func(p *memPartition) { p.refuse = nil })
		pass(300 * time.Millisecond)
		w.state("expired=no")
		pass(100 * time.Millisecond)
		w.state("expired=yes")
	})
}

// TestEventsWaitForTheLoad: who is told while he loads hears of it afterwards.
func TestEventsWaitForTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		w.put(0, "a", "1")
		w.expect("a: put a")
		gate := make(chan struct{})
		w.l.set(0, func(p *memPartition) { p.stall = gate })
		w.r.Elected(0, w.l.depose(0))
		synctest.Wait()
		w.r.DoAll(func(n *notes, _ time.Time) shard.Result { return n.put("b", n.values["a"]) })
		w.do(0, "loading", func(*notes) shard.Result { return shard.Result{} })
		w.expect("loading: COORDINATOR_LOAD_IN_PROGRESS")
		close(gate)
		w.expect("loaded")
		w.l.set(0, func(p *memPartition) { p.stall = nil })
		w.state("a=1 b=1")
	})
}

// TestPanics: no panic of a core gets beyond its shard, and what was decided by halves is not there afterwards.
func TestPanics(t *testing.T) {
	for _, c := range []struct {
		where string
		out   []string
	}{
		{"decide", []string{"x: UNKNOWN_SERVER_ERROR", "waits: NOT_COORDINATOR", "loaded"}},
		{"Apply", []string{"x: UNKNOWN_SERVER_ERROR", "waits: NOT_COORDINATOR", "loaded"}},
		{"Revert", []string{"waits: NOT_COORDINATOR", "x: NOT_COORDINATOR", "loaded"}},
		{"Committed", []string{"waits: NOT_COORDINATOR", "x: NOT_COORDINATOR", "loaded"}},
		{"Expire", []string{"waits: NOT_COORDINATOR", "x: NOT_COORDINATOR", "loaded"}},
		{"event", []string{"waits: NOT_COORDINATOR", "x: NOT_COORDINATOR", "loaded"}},
	} {
		t.Run(c.where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newNoteWorld(t, 1, nil)
				w.put(0, "a", "1")
				w.expect("a: put a")
				w.hold(true)
				w.put(0, "waits", "1", "never")
				w.expect()
				if c.where == "Revert" {
					w.l.set(0, func(p *memPartition) { p.refuse = wire.ErrNotEnoughReplicas })
				}
				w.do(0, "x", func(n *notes) shard.Result {
					n.values["half"] = "done"
					if c.where == "decide" {
						panic("boom")
					}
					n.fail = c.where
					if c.where == "Expire" {
						n.at = time.Now().Add(time.Second)
					}
					return n.put("x", "1")
				})
				if c.where == "event" {
					w.r.DoAll(func(*notes, time.Time) shard.Result { panic("boom") })
				}
				if c.where == "Expire" {
					pass(2 * time.Second)
				}
				synctest.Wait()
				w.l.set(0, func(p *memPartition) { p.refuse, p.hold = nil, false })
				synctest.Wait()
				w.mu.Lock()
				got := slices.Clone(w.out)
				w.mu.Unlock()
				slices.Sort(got)
				slices.Sort(c.out)
				if !slices.Equal(got, c.out) {
					t.Errorf("came out %q, want %q", got, c.out)
				}
				w.out = nil
				var state string
				w.r.Read(0, func(n *notes) { state = n.String() })
				if strings.Contains(state, "half") || !strings.Contains(state, "a=1") {
					t.Errorf("after the panic the core has %q", state)
				}
			})
		})
	}
}

// TestPanicsWithoutEnd: a core that panics in any case is loaded once in a minute, and one that panics while loading is not loaded again.
func TestPanicsWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		w.put(0, "a", "1")
		w.expect("a: put a")
		for range maxCrashes {
			w.do(0, "x", func(*notes) shard.Result { panic("boom") })
			synctest.Wait()
			slices.Sort(w.out) // the answer and the load do not wait for each other
			w.expect("loaded", "x: UNKNOWN_SERVER_ERROR")
		}
		w.do(0, "x", func(*notes) shard.Result { panic("boom") })
		w.expect("x: UNKNOWN_SERVER_ERROR")
		w.put(0, "b", "1")
		w.expect("b: COORDINATOR_LOAD_IN_PROGRESS")
		w.r.DoAll(func(n *notes, _ time.Time) shard.Result { return n.put("c", "0") })
		pass(crashesPause - 1)
		w.expect()
		pass(1)
		w.expect("loaded")
		w.state("a=1 c=0")
		w.do(0, "x", func(*notes) shard.Result { panic("boom") }) // it has not lived long
		w.expect("x: UNKNOWN_SERVER_ERROR")
		w.r.Elected(0, w.l.depose(0))
		w.expect("loaded")
		for where, code := range map[string]string{"Replay": "NOT_COORDINATOR", "Loaded": "COORDINATOR_LOAD_IN_PROGRESS"} {
			w.fail = where
			w.r.Elected(0, w.l.depose(0))
			w.expect()
			w.put(0, "b", "1")
			w.expect("b: " + code)
		}
		w.fail = ""
		w.r.Elected(0, w.l.depose(0))
		w.expect("loaded")
		w.put(0, "c", "0")
		w.expect("c: put c")
		pass(2 * crashesPause) // the pauses of former leaderships end, and load nothing
		w.expect()
		w.state("a=1 c=0")
		// a panic while looking changes nothing
		if code := w.r.Read(0, func(*notes) { panic("boom") }); code != wire.ErrUnknownServerError {
			t.Errorf("read: %v", code)
		}
		w.r.Do(0, func(any, wire.ErrorCode) { panic("boom in a reply") }, func(n *notes, _ time.Time, _ shard.Ticket) shard.Result { return n.put("c", "1") })
		w.state("a=1 c=1")
		// a panic of the log is for the node
		w.l.set(0, func(p *memPartition) { p.refuse = errPanic })
		w.put(0, "d", "1")
		w.expect("d: NOT_COORDINATOR")
		if w.fault == nil || !strings.Contains(w.fault.Error(), "boom in the log") {
			t.Errorf("fault: %v", w.fault)
		}
	})
}

var errPanic = errors.New("boom in the log")

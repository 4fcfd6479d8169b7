package checker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Place is a node under test. Its methods are called one at a time, but Addr at any time.
type Place interface {
	Addr() string
	Kill() error  // as kill -9
	Start() error // after Kill; returns when the node answers, or why it does not
}

// Remote is a place that somebody else runs: nothing can be done to it.
type Remote string

// Addr is where it is.
func (r Remote) Addr() string { return string(r) }

// Kill refuses.
func (r Remote) Kill() error { return errors.New("a remote node is not killed") }

// Start refuses.
func (r Remote) Start() error { return errors.New("a remote node is not started") }

// Pauser is a place whose node can be stopped and continued (SIGSTOP, SIGCONT).
type Pauser interface {
	Pause() error
	Resume() error
}

// Upsetter is a place whose node can be upset without being killed. Upset begins something and returns what it is called and what
// ends it.
type Upsetter interface {
	Upset(rnd *rand.Rand) (what string, calm func())
}

// Options say what a run does. A zero interval means never.
type Options struct {
	Generators []string // names, each as often as it is to run
	For        time.Duration
	Pace       time.Duration // between two operations of one generator
	TxnTimeout time.Duration
	Session    time.Duration // session timeout of members; 0: TxnTimeout
	Grace      time.Duration // for transactions to end, and for partitions to be readable, after healing
	AdminLag   time.Duration // how long an acknowledged change of metadata may stay unseen
	Limit      int           // operations
	Compress   bool          // producers choose codecs
	// Enough, if set, is asked again and again with the history and the number of lies told, and ends the work before its time.
	Enough   func(h *History, lies int64) bool
	KillLast bool // kill the node once more after all work, before everything is read

	KillNode, KillClients, Pause, Upset time.Duration // mean intervals
	Down                                time.Duration // how long about the node stays away or upset
	Drop, Repeat                        int64         // of 1000 produce answers and requests

	Say func(format string, args ...any) // told of what is done to the node; nil: nobody
}

// All runs every generator, those that need company more than once.
var All = []string{"send", "send", "compact", "recompact", "txn", "txn", "txn", "money", "money", "feed", "copy", "copy", "assign", "dirty", "group", "group", "group",
	"coop", "coop", "server", "server", "server", "offsets", "commit", "observe", "list", "admin", "admin", "fence", "oldgen"}

// run is one run in progress.
type run struct {
	w     *world
	o     Options
	place Place
	proxy *Proxy
	liar  *liar
	rnd   *rand.Rand // of the goroutine that does harm
}

// Run lets the generators work on a place while harm is done, then heals, reads everything, and returns the history. An error
// means that there is no history to judge: the topics could not be made.
func Run(ctx context.Context, place Place, o Options, seed uint64) (*History, error) {
	return start(ctx, place, o, seed, nil)
}

func start(ctx context.Context, place Place, o Options, seed uint64, l *liar) (*History, error) {
	proxy, err := NewProxy(place.Addr, rand.New(rand.NewPCG(seed, 1)))
	if err != nil {
		return nil, err
	}
	defer proxy.Close()
	if o.Session == 0 {
		o.Session = o.TxnTimeout
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	w := &world{h: NewHistory(o.Limit), dial: proxy.Dial, pace: o.Pace, txnTime: o.TxnTimeout, session: o.Session, compress: o.Compress, deposed: o.Upset > 0, rnd: rand.New(rand.NewPCG(seed, 2))}
	r := &run{w: w, o: o, place: place, proxy: proxy, liar: l, rnd: rand.New(rand.NewPCG(seed, 3))}
	early, end := context.WithTimeout(ctx, 30*time.Second)
	defer end()
	if err := w.prepare(early); err != nil {
		return nil, err
	}
	proxy.lie(l)
	proxy.Drop.Store(o.Drop)
	proxy.Repeat.Store(o.Repeat)

	work, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { w.generate(work, o.Generators) })
	r.harm(ctx)
	w.stopping.Store(true)
	proxy.honest()
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select { // operations under way may end
	case <-done:
	case <-time.After(o.TxnTimeout):
	}
	stop()
	wg.Wait()
	if o.KillLast {
		r.killNode(ctx)
	}
	r.finish(ctx)
	o.Say("%d produce answers dropped, %d produce requests repeated", proxy.Dropped.Load(), proxy.Repeated.Load())
	return w.h, nil
}

// harm does what the options say until the run's time is over; then the node is up again.
func (r *run) harm(ctx context.Context) {
	timer := func(mean time.Duration) <-chan time.Time {
		if mean == 0 {
			return nil
		}
		return time.After(mean/2 + time.Duration(r.rnd.Int64N(int64(mean))))
	}
	over := time.After(r.o.For)
	look := time.NewTicker(3 * time.Millisecond)
	defer look.Stop()
	node, clients, pause, upset := timer(r.o.KillNode), timer(r.o.KillClients), timer(r.o.Pause), timer(r.o.Upset)
	for {
		select {
		case <-ctx.Done():
			return
		case <-over:
			return
		case <-look.C:
			if r.o.Enough != nil && r.o.Enough(r.w.h, r.proxy.Lied.Load()) {
				return
			}
		case <-node:
			r.killNode(ctx)
			node = timer(r.o.KillNode)
		case <-clients:
			op := r.w.h.Begin(&Op{F: Crash, Key: "clients"})
			r.w.kills.Add(1)
			r.w.h.End(op, OK, nil)
			clients = timer(r.o.KillClients)
		case <-pause:
			r.pause(ctx)
			pause = timer(r.o.Pause)
		case <-upset:
			if p, ok := r.place.(Upsetter); ok {
				op := r.w.h.Begin(&Op{F: Crash})
				what, calm := p.Upset(r.rnd)
				op.Key = what
				r.w.wait(ctx, max(r.o.Down, time.Millisecond))
				calm()
				r.w.h.End(op, OK, nil)
			}
			upset = timer(r.o.Upset)
		}
	}
}

func (r *run) killNode(ctx context.Context) {
	op := r.w.h.Begin(&Op{F: Crash, Key: "node"})
	err := r.place.Kill()
	if err == nil {
		r.w.wait(ctx, max(r.o.Down, time.Millisecond))
		err = r.place.Start()
	}
	outcome := OK
	if err != nil {
		outcome = Fail
	}
	r.w.h.End(op, outcome, err)
	r.o.Say("node killed, back after %d ms (%v)", (op.End-op.Start)/1e6, err)
}

func (r *run) pause(ctx context.Context) {
	p, ok := r.place.(Pauser)
	if !ok {
		return
	}
	op := r.w.h.Begin(&Op{F: Crash, Key: "pause"})
	err := p.Pause()
	if err == nil {
		r.w.wait(ctx, max(r.o.Down, time.Millisecond))
		err = p.Resume()
	}
	outcome := OK
	if err != nil {
		outcome = Fail
	}
	r.w.h.End(op, outcome, err)
}

// finish waits until transactions have ended and reads all there is.
func (r *run) finish(ctx context.Context) {
	w := r.w
	c, proc := &raw{dial: w.dial}, w.proc()
	defer c.close()
	r.openTxns(ctx, c, proc)
	compacted := map[string]bool{key("compact", 0): true}
	var keys []string
	w.touched.Range(func(k, _ any) bool { keys = append(keys, k.(string)); return true })
	slices.Sort(keys)
	for _, k := range keys {
		op := w.h.Begin(&Op{Proc: proc, F: Final, Key: k})
		var err error
		for until := time.Now().Add(r.o.Grace); ; {
			if op.Final, err = c.whole(ctx, k, compacted[k]); err == nil && op.Final.LastStable == op.Final.HighWatermark {
				break
			}
			if time.Now().After(until) || ctx.Err() != nil {
				break
			}
			w.wait(ctx, 20*time.Millisecond)
		}
		if err != nil {
			w.h.End(op, Fail, err)
			continue
		}
		w.h.End(op, OK, nil)
	}
	if w.h.Done()[Set] > 0 {
		wait, end := context.WithTimeout(ctx, r.o.AdminLag)
		defer end()
		<-wait.Done()
	}
	r.registers(ctx, c, proc)
}

// registers reads the committed offsets and the administrative registers a last time.
func (r *run) registers(ctx context.Context, c *raw, proc int) {
	w := r.w
	groups, config := map[string]map[string]bool{}, map[string]bool{}
	for _, op := range w.h.Ops() {
		if op.Group != "" && len(op.Offsets) > 0 {
			if groups[op.Group] == nil {
				groups[op.Group] = map[string]bool{}
			}
			for k := range op.Offsets {
				groups[op.Group][k] = true
			}
		}
		if op.F == Set {
			config[op.Key] = true
		}
	}
	for group, keys := range groups {
		r.again(ctx, func() error {
			return w.rawCommitted(ctx, c, &Op{Proc: proc, F: Committed, Group: group, Member: "final"}, slices.Sorted(maps.Keys(keys)))
		})
	}
	for name := range config {
		op := &Op{Proc: proc, F: Get, Key: name, Member: "final"}
		r.again(ctx, func() error {
			x := *op
			if topic, ok := strings.CutPrefix(name, "topic "); ok {
				return w.getTopic(ctx, c, &x, topic)
			}
			topic, _ := strings.CutPrefix(name, "retention.ms of ")
			return w.getConfig(ctx, c, &x, topic)
		})
	}
}

// again repeats what fails, as long as grace lasts.
func (r *run) again(ctx context.Context, f func() error) {
	for until := time.Now().Add(r.o.Grace); f() != nil && time.Now().Before(until) && ctx.Err() == nil; {
		r.w.wait(ctx, 20*time.Millisecond)
	}
}

var errOpen = errors.New("transactions are open")

// openTxns waits until no transaction is open and records those that stay so.
func (r *run) openTxns(ctx context.Context, c *raw, proc int) {
	op := r.w.h.Begin(&Op{Proc: proc, F: OpenTxns})
	r.again(ctx, func() error {
		req := kmsg.NewPtrListTransactionsRequest()
		req.StateFilters = []string{"Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"}
		resp, err := c.ask(ctx, req, 0)
		if err != nil {
			return err
		}
		l := resp.(*kmsg.ListTransactionsResponse)
		if err := kerr.ErrorForCode(l.ErrorCode); err != nil {
			return fmt.Errorf("list transactions: %w", err)
		}
		op.Open = nil
		for _, t := range l.TransactionStates {
			op.Open = append(op.Open, OpenTxn{TxnID: t.TransactionalID, State: t.TransactionState, AgeMs: (r.w.h.Now() - op.Start) / 1e6})
		}
		if len(op.Open) > 0 {
			return errOpen
		}
		return nil
	})
	r.w.h.End(op, OK, nil)
}

package checker

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/seed"
)

// inProcess is an embedded node as a place.
type inProcess struct {
	t    *testing.T
	node *embedded.Node
	// hurt is called while the node is down.
	hurt func(n *embedded.Node)
}

func (p *inProcess) Addr() string { return p.node.Addr() }

func (p *inProcess) Kill() error { p.node.Kill(); return nil }

func (p *inProcess) Start() error {
	if p.hurt != nil {
		p.hurt(p.node)
	}
	p.node.Restart()
	return nil
}

// Upset keeps commits back, of partitions or of metadata, and takes leaderships away, also while commits are kept back.
func (p *inProcess) Upset(rnd *rand.Rand) (string, func()) {
	switch rnd.IntN(6) {
	case 0:
		p.node.Hold()
		return "hold", p.node.Release
	case 1:
		p.node.HoldBack(1 + rnd.IntN(20))
		return "hold back", p.node.Release
	case 2:
		p.node.HoldMetadata()
		return "hold metadata", p.node.ReleaseMetadata
	case 3:
		p.node.DeposeController()
		return "depose the controller", func() {}
	case 4:
		p.node.Hold()
		return "hold and depose", func() { p.node.Depose(); p.node.Release() }
	}
	p.node.Depose()
	return "depose", func() {}
}

func small(t *testing.T, more ...embedded.Option) *inProcess {
	opts := []embedded.Option{embedded.With("offsets.topic.num.partitions", "2"), embedded.With("transaction.state.log.num.partitions", "2"),
		embedded.With("transaction.abort.timed.out.transaction.cleanup.interval.ms", "300"), embedded.With("transaction.max.timeout.ms", "60000"),
		embedded.With("group.initial.rebalance.delay.ms", "0"), embedded.With("group.min.session.timeout.ms", "500"),
		embedded.With("group.consumer.min.heartbeat.interval.ms", "50"), embedded.With("group.consumer.heartbeat.interval.ms", "100"),
		embedded.With("group.consumer.min.session.timeout.ms", "500"), embedded.With("group.consumer.session.timeout.ms", "2000"),
		embedded.With("auto.create.topics.enable", "false"), embedded.With("log.cleaner.backoff.ms", "100")}
	return &inProcess{t: t, node: embedded.Start(t, append(opts, more...)...)}
}

func quick(names ...string) Options {
	return Options{Generators: names, For: 1200 * time.Millisecond, Pace: 4 * time.Millisecond, TxnTimeout: 2 * time.Second, Grace: 5 * time.Second, AdminLag: 300 * time.Millisecond, Limit: 200000}
}

// keepHistory writes a history that somebody will want to read.
func keepHistory(t *testing.T, h *History) {
	f, err := os.CreateTemp("", "moldau-history-*.jsonl")
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if err := Write(f, h.Ops()); err != nil {
		t.Error(err)
	}
	t.Logf("history: %s", f.Name())
}

// live skips what runs a node for a while and depends on what the machine has time for; `make checker` runs it.
func live(t *testing.T) {
	t.Helper()
	if os.Getenv("MOLDAU_CHECKER") == "" {
		t.Skip("MOLDAU_CHECKER=1 runs the checker against a node")
	}
}

// TestClean runs everything on a node that nobody lies about: no verdict may be bad, and every generator must have done something.
func TestClean(t *testing.T) {
	live(t)
	clean(t, needs{Send: 400, Txn: 400, Poll: 200, Observe: 100, List: 100, Commit: 40, Committed: 100, Assigned: 10, Init: 40, Set: 60, Get: 60, Crash: 2, copiedInputs: 20},
		func(o *Options) { o.KillClients = 3 * time.Second })
}

// TestUpset runs everything on a node that loses its leaderships and commits late, with clients that are killed too. A coordinator
// that was loaded begins the sessions of all members anew and knows nothing of the rebalance that was under way, as Apache Kafka's does
// (GroupMetadataManager.onLoaded). So a group gets rid of dead members only if no load comes within their sessions. With sessions of
// 2 s one mostly does here, and the group of the copiers waits for its dead until the end; hence sessions are shorter than the others',
// and the leadership that was taken away comes back sooner: with the next heartbeat of the node.
func TestUpset(t *testing.T) {
	live(t)
	const session = 500 * time.Millisecond
	clean(t, needs{Send: 150, Txn: 150, Poll: 80, Observe: 50, List: 50, Commit: 30, Committed: 50, Assigned: 10, Init: 30, Set: 40, Get: 40, Crash: 30, copiedInputs: 10,
		survivedKills: 3},
		func(o *Options) {
			o.Upset, o.Down, o.KillClients, o.Session = 300*time.Millisecond, 60*time.Millisecond, 3*time.Second, session
		}, embedded.With("group.consumer.session.timeout.ms", strconv.FormatInt(session.Milliseconds(), 10)), embedded.With("broker.heartbeat.interval.ms", "500"))
}

func clean(t *testing.T, enough needs, more func(o *Options), props ...embedded.Option) {
	t.Helper()
	seed := seed.Of(t)
	o := quick(All...)
	o.For, o.Drop, o.Repeat, o.AdminLag, o.Compress = 2*time.Minute, 20, 20, 2*time.Second, true
	o.Say = t.Logf
	o.Enough = func(h *History, _ int64) bool { return enough.met(h.Done(), nil) }
	more(&o)
	h, err := Run(t.Context(), small(t, props...), o, seed)
	if err != nil {
		t.Fatal(err)
	}
	r := Analyse(h.Ops(), o.AdminLag)
	t.Log(r)
	if !r.Good() {
		keepHistory(t, h)
		t.Errorf("bad: %v", r.Bad())
	}
	if none := Vacuous(r.Judged); len(none) > 0 {
		t.Errorf("nothing was judged by %v", none)
	}
	done := h.Done()
	t.Log(done)
	enough[OpenTxns], enough[Final] = 1, 1
	if !enough.met(done, nil) {
		keepHistory(t, h)
		t.Errorf("not everything was done that was to be: %v", done)
	}
}

package quorum

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/engine/quorum/raftrpc"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// wires connects the voters of a test.
type wires struct {
	t     *testing.T
	rpc   bool // every message goes as the bytes of Kafka's requests and responses
	mu    sync.Mutex
	nodes map[id.BrokerID]*Quorum
}

func (w *wires) node(n id.BrokerID) *Quorum {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[n]
}

func (w *wires) Send(m raft.Message) {
	q := w.node(m.To)
	switch {
	case q == nil:
	case w.rpc:
		w.call(q, m)
	default:
		q.Deliver(m)
	}
}

// call sends a request as a network would carry it, and its answer back.
func (w *wires) call(q *Quorum, m raft.Message) {
	limits := raftrpc.Limits{MaxBytes: 100_000, MaxWaitMs: 500}
	req, err := raftrpc.Request(m, testCluster, limits, 18)
	if err != nil {
		w.t.Error(err)
		return
	}
	info, _ := api.Lookup(req.APIKey())
	got, resp := info.NewRequest(), info.NewResponse()
	if err := wire.Unmarshal(wire.Marshal(req, info.Max), got, info.Max); err != nil {
		w.t.Errorf("%s: %v", m.Type, err)
		return
	}
	in, l, refusal := raftrpc.FromRequest(got, m.To, testCluster)
	if refusal != nil {
		w.t.Errorf("%s is refused: %+v", m.Type, refusal)
		return
	}
	q.Ask(Ask{Message: in, MaxBytes: int(l.MaxBytes), MaxWait: time.Duration(l.MaxWaitMs) * time.Millisecond}, func(r Reply) {
		out := wire.Marshal(raftrpc.Response(r.Message, r.LogStartOffset, "CONTROLLER", info.Max), info.Max)
		if err := wire.Unmarshal(out, resp, info.Max); err != nil {
			w.t.Errorf("the answer to %s: %v", m.Type, err)
			return
		}
		a, err := raftrpc.FromResponse(resp, m, "CONTROLLER")
		if err != nil {
			w.t.Error(err)
			return
		}
		if back := w.node(m.From.ID); back != nil {
			back.Deliver(a)
		}
	})
}

func (w *wires) set(n id.BrokerID, q *Quorum) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[n] = q
}

// leader waits for a node whose controller is active.
func (w *wires) leader(t *testing.T) *Quorum {
	t.Helper()
	for range 600 {
		synctest.Wait()
		w.mu.Lock()
		for _, q := range w.nodes {
			if q != nil && q.Status().ActiveBroker {
				w.mu.Unlock()
				return q
			}
		}
		w.mu.Unlock()
		time.Sleep(100 * time.Millisecond) // of the bubble's time
	}
	t.Fatal("nobody leads")
	return nil
}

// TestThreeVoters runs a static quorum of three in virtual time: the leader is stopped again and again, and everybody ends
// with every value that was answered.
func TestThreeVoters(t *testing.T) {
	for _, rpc := range []bool{false, true} {
		t.Run(fmt.Sprintf("rpc %v", rpc), func(t *testing.T) { threeVoters(t, rpc) })
	}
}

func threeVoters(t *testing.T, rpc bool) {
	synctest.Test(t, func(t *testing.T) {
		w := &wires{t: t, rpc: rpc, nodes: map[id.BrokerID]*Quorum{}}
		var voters []Voter
		nodes := map[id.BrokerID]*testNode{}
		for n := range id.BrokerID(3) {
			n++
			voters = append(voters, Voter{ID: n, Endpoints: []Endpoint{{"CONTROLLER", "localhost", uint16(9000 + n)}}})
			nodes[n] = format(t, vfs.NewMem(), "/data", false)
		}
		start := func(n id.BrokerID) {
			o := nodes[n].options()
			o.NodeID, o.StaticVoters, o.Endpoints, o.Transport = n, voters, voters[n-1].Endpoints, w
			o.Controller = controller.New(controller.Config{NodeID: n, ClusterID: testCluster, SupportedFeatures: controller.SupportedFeatures(),
				DefaultReplicationFactor: 1, DefaultPartitions: 1, SessionTimeout: 9 * time.Second, Schema: openSchema{}})
			q, err := Open(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := q.Start(); err != nil {
				t.Fatal(err)
			}
			w.set(n, q)
		}
		for n := range nodes {
			start(n)
		}
		const rounds = 5
		for round := range rounds {
			q := w.leader(t)
			if err := setConfig(q, "round", fmt.Sprint(round)); err != nil {
				t.Fatal(err)
			}
			if err := setConfig(q, fmt.Sprint("key", round), "v"); err != nil {
				t.Fatal(err)
			}
			n := q.Status().Leader.ID
			w.set(n, nil)
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			next := w.leader(t)
			if got := configOf(next.Image(), "round"); got != strconv.Itoa(round) {
				t.Fatalf("round %d: the next leader has %q", round, got)
			}
			start(n)
		}
		w.leader(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for n, q := range w.nodes {
			_, err := q.AwaitImage(ctx, func(i *image.Image) bool {
				for r := range rounds {
					if configOf(i, fmt.Sprint("key", r)) != "v" {
						return false
					}
				}
				return true
			})
			if err != nil {
				t.Fatalf("node %d: %v, %+v", n, err, q.Status())
			}
		}
		if s := w.leader(t).Status(); len(s.Voters) != 3 || s.Leader.Epoch < rounds {
			t.Fatalf("%+v", s)
		}
		for n, q := range w.nodes {
			w.set(n, nil)
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

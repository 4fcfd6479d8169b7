package quorum

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TestNothingIsDecidedOutOfOffice: what waits in line behind a decision that panicked, or behind a deposition, is not decided by
// a controller that has no office any more, and leaves no record.
func TestNothingIsDecidedOutOfOffice(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	n.edit = func(o *Options) {
		o.ElectionTimeout = 20 * time.Millisecond
		o.Controller = controller.New(controller.Config{NodeID: 1, ClusterID: testCluster, SupportedFeatures: controller.SupportedFeatures(),
			DefaultReplicationFactor: 1, DefaultPartitions: 1, SessionTimeout: 9 * time.Second, Schema: trapSchema{}})
	}
	q := n.start()
	change := func(key string) Request {
		req := api.NewIncrementalAlterConfigsRequest()
		req.Resources = []api.IncrementalAlterConfigsRequestResource{{ResourceType: int8(image.ResourceBroker),
			Configs: []api.IncrementalAlterConfigsRequestResourceConfig{{Name: key, Value: new("1")}}}}
		return Request{Message: req, APIVersion: 1, ReadCommitted: true}
	}
	outcomes := make(chan Outcome, 2)
	q.Submit(change("a"), func(Outcome) { // on the driver's goroutine: it takes both in one round
		q.Submit(change("trap"), func(o Outcome) { outcomes <- o })
		q.Submit(change("behind"), func(o Outcome) { outcomes <- o })
	})
	for _, want := range []wire.ErrorCode{wire.ErrUnknownServerError, wire.ErrNotController} {
		if o := <-outcomes; !errors.Is(o.Err, want) {
			t.Errorf("%+v, want %s", o, want.Name())
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for err := error(wire.ErrNotController); err != nil; {
		if err = setConfig(q, "later", "1"); err != nil && (!errors.Is(err, wire.ErrNotController) || ctx.Err() != nil) {
			t.Fatal(err)
		}
	}
	if img := q.Image(); configOf(img, "a") != "1" || configOf(img, "behind") != "" {
		t.Errorf("a is %q, what was behind the panic %q", configOf(img, "a"), configOf(img, "behind"))
	}
}

// TestWaitingIsBounded: what waits for a commit that does not come is refused at a bound, and everybody is answered in the end.
func TestWaitingIsBounded(t *testing.T) {
	race.Skip(t)
	n := format(t, vfs.NewMem(), "/data", true)
	n.edit = func(o *Options) { o.MaxIdleInterval = 0 }
	q := n.start()
	q.HoldBack(math.MaxInt32)
	req := api.NewIncrementalAlterConfigsRequest()
	req.Resources = []api.IncrementalAlterConfigsRequestResource{{ResourceType: int8(image.ResourceBroker),
		Configs: []api.IncrementalAlterConfigsRequestResourceConfig{{Name: "a", Value: new("1")}}}}
	const more = 10
	refused, answered := make(chan error, maxWaiting+more), make(chan error, maxWaiting+more)
	sent := make(chan struct{}, queueSize/2)
	for range maxWaiting + more {
		sent <- struct{}{}
		q.Submit(Request{Message: req, APIVersion: 1, ReadCommitted: true}, func(o Outcome) {
			if o.Err != nil {
				refused <- o.Err
			} else {
				answered <- nil
			}
		})
		q.Ask(Ask{Message: raft.Message{Type: raft.MsgVote, From: raft.Replica{ID: -1}, To: 1}}, func(Reply) { <-sent }) // the driver keeps up
	}
	for range more {
		if err := <-refused; !errors.Is(err, wire.ErrRequestTimedOut) {
			t.Fatal(err)
		}
	}
	q.HoldBack(0)
	for range maxWaiting {
		<-answered
	}
}

// overheard is a Transport that keeps what is sent, and when.
type overheard struct {
	mu   sync.Mutex
	sent []sentMessage
}

type sentMessage struct {
	raft.Message
	at time.Time
}

func (o *overheard) Send(m raft.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, sentMessage{m, time.Now()})
}

// of are the messages of a type to a node since a time.
func (o *overheard) of(t raft.MessageType, to id.BrokerID, since time.Time) []sentMessage {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []sentMessage
	for _, m := range o.sent {
		if m.Type == t && m.To == to && !m.at.Before(since) {
			out = append(out, m)
		}
	}
	return out
}

// lines counts the lines of a log that hold a text.
type lines struct {
	mu   sync.Mutex
	text string
	n    int
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n += strings.Count(string(b), l.text)
	return len(b), nil
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// TestTimesOfTheQuorum: each of the three times means what its key says, to the moment; and whoever breaks the protocol fills no
// log with it.
func TestTimesOfTheQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := format(t, vfs.NewMem(), "/data", false)
		net, told := &overheard{}, &lines{text: "breaks the protocol"}
		o := n.options()
		o.StaticVoters = nil
		for v := range id.BrokerID(3) {
			o.StaticVoters = append(o.StaticVoters, Voter{ID: v + 1, Endpoints: o.Endpoints})
		}
		o.Transport, o.Logger = net, slog.New(slog.NewTextHandler(told, nil))
		o.ElectionTimeout, o.FetchTimeout = time.Minute, 10*time.Minute
		o.RequestTimeout, o.RetryBackoff, o.ElectionBackoffMax = 300*time.Millisecond, 70*time.Millisecond, 7*time.Second
		q, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := q.Start(); err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		from := func(typ raft.MessageType) raft.Message {
			return raft.Message{Type: typ, From: raft.Replica{ID: 2}, To: 1, Epoch: 1, Leader: 2, HighWatermark: -1}
		}
		q.Deliver(from(raft.MsgBeginEpoch))
		synctest.Wait()
		first := net.of(raft.MsgFetch, 2, time.Time{})
		if len(first) == 0 {
			t.Fatal("the leader is not asked for records")
		}

		last := first[len(first)-1]
		a := from(raft.MsgFetchAnswer)
		a.Request, a.Log, a.Error = last.Request, last.Log, wire.ErrUnknownServerError
		failed := time.Now()
		q.Deliver(a)
		time.Sleep(100 * time.Millisecond) // of the bubble's time, as below
		if again := net.of(raft.MsgFetch, 2, failed.Add(1)); len(again) != 1 || again[0].at.Sub(failed) != o.RetryBackoff {
			t.Errorf("after a failure at %v: %v, want one request after %v", failed, again, o.RetryBackoff)
		}
		end := from(raft.MsgEndEpoch)
		end.Successors = []raft.Replica{{ID: 3}} // not this node
		q.Deliver(end)
		resigned := time.Now()
		time.Sleep(10 * time.Second)
		votes := net.of(raft.MsgVote, 3, resigned)
		if len(votes) < 2 || votes[0].at.Sub(resigned) != o.ElectionBackoffMax {
			t.Fatalf("%d votes asked for after a resignation at %v, want the first after %v", len(votes), resigned, o.ElectionBackoffMax)
		}
		if gap := votes[1].at.Sub(votes[0].at); gap != o.RequestTimeout {
			t.Errorf("an unanswered request is given up after %v, want %v", gap, o.RequestTimeout)
		}
		forged := from(raft.MsgBeginEpoch)
		forged.Epoch = math.MaxInt32
		for range 50 {
			q.Deliver(forged)
		}
		synctest.Wait()
		if got := told.count(); got != 1 {
			t.Errorf("50 forged messages are told of %d times", got)
		}
		time.Sleep(noticeEvery)
		q.Deliver(forged)
		synctest.Wait()
		if got := told.count(); got != 2 {
			t.Errorf("after a minute told of %d times, want 2", got)
		}
	})
}

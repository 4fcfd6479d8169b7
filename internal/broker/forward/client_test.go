package forward

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// peer is the other end of a line: it answers heartbeats as it is told.
type peer struct {
	t      *testing.T
	answer func(n int) (code wire.ErrorCode, silent, hangUp bool) // for the n-th request of all, from 1
	refuse func(n int) bool                                       // whether the n-th dial fails

	mu    sync.Mutex
	dials int
	seen  []int64 // broker epochs in order of arrival
}

func (p *peer) dial(context.Context) (net.Conn, error) {
	p.mu.Lock()
	p.dials++
	n := p.dials
	p.mu.Unlock()
	if p.refuse != nil && p.refuse(n) {
		return nil, errors.New("nobody there")
	}
	a, b := net.Pipe()
	go p.serve(b)
	return a, nil
}

func (p *peer) serve(c net.Conn) {
	defer c.Close()
	for {
		frame, err := readFrame(c)
		if err != nil {
			return
		}
		r := wire.NewReader(frame, nil)
		h, info, err := api.ReadRequestHeader(r)
		if err != nil {
			p.t.Error(err)
			return
		}
		var req api.BrokerHeartbeatRequest
		req.Decode(r, h.RequestApiVersion)
		p.mu.Lock()
		p.seen = append(p.seen, req.BrokerEpoch)
		n := len(p.seen)
		p.mu.Unlock()
		code, silent, hangUp := p.answer(n)
		if hangUp {
			return
		}
		if silent {
			continue
		}
		var w wire.Writer
		w.Int32(0)
		(&wire.ResponseHeader{CorrelationID: h.CorrelationID}).Encode(&w, info.ResponseHeaderVersion(h.RequestApiVersion))
		(&api.BrokerHeartbeatResponse{ErrorCode: code}).Encode(&w, h.RequestApiVersion)
		out, err := w.AppendTo(nil)
		if err != nil {
			p.t.Error(err)
			return
		}
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func beat(epoch int64) *api.BrokerHeartbeatRequest {
	r := api.NewBrokerHeartbeatRequest()
	r.BrokerEpoch = epoch
	return r
}

func TestNotControllerIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{t: t, refuse: func(n int) bool { return n == 1 }, answer: func(n int) (wire.ErrorCode, bool, bool) {
			switch n {
			case 1:
				return wire.ErrNotController, false, false
			case 2:
				return 0, false, true
			}
			return wire.ErrStaleBrokerEpoch, false, false
		}}
		c := New(Options{Dial: p.dial})
		defer c.Close()
		begin := time.Now()
		m, err := c.Send(t.Context(), beat(1), 1)
		if err != nil || m.(*api.BrokerHeartbeatResponse).ErrorCode != wire.ErrStaleBrokerEpoch {
			t.Fatalf("%+v, %v", m, err)
		}
		if took := time.Since(begin); p.dials != 4 || took > 20*time.Millisecond {
			t.Errorf("%d dials in %v", p.dials, took)
		}
	})
}

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{t: t, refuse: func(int) bool { return true }}
		c := New(Options{Dial: p.dial, Timeout: 3 * time.Second})
		begin := time.Now()
		if _, err := c.Send(t.Context(), beat(1), 1); !errors.Is(err, ErrTimedOut) || !errors.Is(err, wire.ErrRequestTimedOut) {
			t.Errorf("%v", err)
		}
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
		if p.dials > 60 {
			t.Errorf("%d dials: no backoff", p.dials)
		}
		c.Close()

		// A peer that takes requests and says nothing: the call ends, and the next goes over another connection.
		silent := &peer{t: t, answer: func(n int) (wire.ErrorCode, bool, bool) { return 0, n == 1, false }}
		c = New(Options{Dial: silent.dial, Timeout: time.Second})
		defer c.Close()
		if _, err := c.Send(t.Context(), beat(1), 1); !errors.Is(err, ErrTimedOut) {
			t.Errorf("%v", err)
		}
		if _, err := c.Send(t.Context(), beat(2), 1); err != nil || silent.dials != 2 {
			t.Errorf("%v after %d dials", err, silent.dials)
		}
	})
}

func TestOrderAndBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ready := make(chan struct{})
		p := &peer{t: t, answer: func(n int) (wire.ErrorCode, bool, bool) {
			return 0, n <= 5, n == 5 // four unanswered requests, and then the line breaks
		}}
		c := New(Options{MaxPending: 10, Dial: func(ctx context.Context) (net.Conn, error) {
			<-ready
			return p.dial(ctx)
		}})
		defer c.Close()
		var wg sync.WaitGroup
		var busy int
		for i := range int64(12) {
			wg.Add(1)
			c.Start(beat(i), 1, time.Time{}, func(_ wire.Message, err error) {
				if errors.Is(err, ErrBusy) {
					busy++
				} else if err != nil {
					t.Error(err)
				}
				wg.Done()
			})
		}
		close(ready)
		wg.Wait()
		if busy != 2 {
			t.Errorf("%d calls were refused", busy)
		}
		// Sent again in order, from the first unanswered on.
		last := p.seen[len(p.seen)-10:]
		for i, e := range last {
			if e != int64(i) {
				t.Fatalf("order of arrival %v", p.seen)
			}
		}
	})
}

func TestCloseEndsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{t: t, answer: func(int) (wire.ErrorCode, bool, bool) { return 0, true, false }}
		c := New(Options{Dial: p.dial})
		got := make(chan error, 1)
		c.Start(beat(1), 1, time.Time{}, func(_ wire.Message, err error) { got <- err })
		synctest.Wait()
		c.Close()
		if err := <-got; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if _, err := c.Send(t.Context(), beat(1), 1); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if _, err := c.Send(t.Context(), beat(1), 99); !errors.Is(err, wire.ErrVersion) {
			t.Error(err)
		}
	})
}

// panicConn breaks whoever reads from it.
type panicConn struct{ net.Conn }

func (panicConn) Read([]byte) (int, error)    { panic("boom in the reader") }
func (panicConn) Write(b []byte) (int, error) { return len(b), nil }

// TestPanicsAreFaults: a panic in a goroutine of the line ends its calls, and its owner hears of it.
func TestPanicsAreFaults(t *testing.T) {
	for want, dial := range map[string]func(context.Context) (net.Conn, error){
		"the sender of the line to the controller: panic: boom in the dial":   func(context.Context) (net.Conn, error) { panic("boom in the dial") },
		"the reader of the line to the controller: panic: boom in the reader": func(context.Context) (net.Conn, error) { a, _ := net.Pipe(); return panicConn{a}, nil },
	} {
		faults, ended := make(chan error, 1), make(chan error, 1)
		c := New(Options{Dial: dial, Fault: func(err error) { faults <- err }})
		c.Start(api.NewBrokerHeartbeatRequest(), 0, time.Time{}, func(_ wire.Message, err error) { ended <- err })
		if err := <-faults; err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("the call ends with %v", err)
		}
		c.Start(api.NewBrokerHeartbeatRequest(), 0, time.Time{}, func(_ wire.Message, err error) { ended <- err })
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("the next call ends with %v", err)
		}
	}
}

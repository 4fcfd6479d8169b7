package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moldau-io/moldau/internal/wire"
)

// maxInFlight bounds the unanswered pipelined requests of one connection; the reader waits at the bound.
const maxInFlight = 64

// lingerAfterEOF is how long a connection whose peer has stopped sending still waits for answers under way.
const lingerAfterEOF = 30 * time.Second

var (
	errClosed  = errors.New("the connection is closed")
	errBadPeer = errors.New("the peer does not speak the protocol")
)

// conn is one connection. Its reader goroutine owns in and runs the handlers. mu guards the queue of unanswered requests and the
// write side; it is never held across a read, a write or a handler.
type conn struct {
	srv  *Server
	info *ConnInfo
	nc   net.Conn
	raw  *rawConn // nil if the connection is not plain TCP
	in   inbuf
	// later is what handlers have left to be done before the reader waits; the reader's own.
	later []func()

	// activeAt is when bytes last moved, in Unix nanoseconds; the sweeper reads it.
	activeAt atomic.Int64
	// handling is set while the reader goroutine is inside a handler and sees nothing of the peer.
	handling atomic.Bool

	mu       sync.Mutex
	head     *Request // oldest unanswered request; a list in request order
	tail     *Request
	inFlight int
	overlaps *apiEntry   // what may start while requests are under way: more of the newest's API, if it is pipelined
	writing  bool        // a goroutine is in flush
	ready    []*Request  // scratch of whoever is in flush
	sending  []*outgoing // the same
	dead     bool
	draining bool // no further requests are started
	waiting  bool // the reader waits for wake
	wake     chan struct{}

	closed chan struct{} // closed with dead
	ctx    context.Context
	cancel context.CancelFunc
}

func newConn(s *Server, nc net.Conn, info *ConnInfo) *conn {
	c := &conn{srv: s, nc: nc, info: info, wake: make(chan struct{}, 1), closed: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.in.mem, c.in.limit, c.in.first = s.opts.Memory, s.opts.MaxRequestBytes, true
	c.raw = newRawConn(nc)
	c.activeAt.Store(time.Now().UnixNano())
	return c
}

// serve reads requests until the connection ends.
func (c *conn) serve() {
	err := c.readLoop()
	c.catchUp()
	switch {
	case err == nil || errors.Is(err, io.EOF) || errors.Is(err, errClosed): // errClosed: no further request is started
		c.drainThenKill(lingerAfterEOF)
	case errors.Is(err, errBadPeer):
		c.drainThenKill(lingerAfterEOF) // answers to what came before still go out, as they would from a muted channel
	default:
		c.kill()
	}
	c.in.close()
}

func (c *conn) readLoop() error {
	var arrived time.Time // when the last bytes came
	fresh := false        // just now
	for {
		f, need, ok, err := c.in.next(arrived)
		if err != nil {
			c.complain(err)
			return errBadPeer
		}
		if ok {
			if err := c.dispatch(f, arrived, fresh); err != nil {
				return err
			}
			fresh = false
			continue
		}
		c.catchUp()
		n, err := c.fill(need)
		if n > 0 {
			arrived, fresh = time.Now(), true
			c.in.filled(n, arrived)
			c.activeAt.Store(arrived.UnixNano())
			continue
		}
		if err != nil {
			if errors.Is(err, errNoMemory) {
				c.srv.log.Warn("connection closed: "+errNoMemory.Error(), "connection", c.info.ID)
				c.srv.stats.shed.Add(1)
			}
			return err
		}
	}
}

func (c *conn) fill(need int) (int, error) {
	if c.raw != nil {
		return c.raw.read(c, need)
	}
	buf, err := c.in.space(need, c.closed)
	if err != nil {
		return 0, err
	}
	n, err := c.nc.Read(buf)
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// dispatch starts the request in f, after those before it where their kinds demand it. fresh says that received is now: the clock
// costs as much as a lock, and is read only where time has passed.
func (c *conn) dispatch(f frameRef, received time.Time, fresh bool) error {
	r, e, err := c.open(f)
	if err != nil {
		f.drop()
		c.complain(err)
		return errBadPeer
	}
	r.ReceivedAt, r.StartedAt = received, received
	entered, waited := c.enter(r, e)
	if !entered {
		f.drop()
		return errClosed
	}
	if waited || !fresh {
		r.StartedAt = time.Now()
	}
	c.run(e, r)
	return nil
}

// open decodes the header and finds the handler.
func (c *conn) open(f frameRef) (*Request, *apiEntry, error) {
	key, version, err := peekKey(f.bytes)
	if err != nil {
		return nil, nil, err
	}
	e := c.srv.opts.Registry.lookup(key)
	if e == nil {
		return nil, nil, fmt.Errorf("request for API key %d (%v), which this listener does not serve", int16(key), key)
	}
	r := &Request{Conn: c.info, sink: c, frame: f, size: len(f.bytes)}
	body, err := r.decodeHeader(f.bytes, version, e.flexibleFrom)
	if err != nil {
		return nil, nil, err
	}
	if version < e.Min || version > e.Max {
		if key != wire.ApiVersions {
			return nil, nil, fmt.Errorf("%s request with unsupported version %d", e.name, version)
		}
		// KIP-511: answered in version 0, and the body is not looked at.
		r.Unsupported = true
		body = nil
	}
	r.Body, r.api = body, e
	r.budget.Start(len(f.bytes), c.srv.opts.Decoding)
	return r, e, nil
}

// enter puts r at the end of the queue once it may start; entered is false if the connection ends first.
func (c *conn) enter(r *Request, e *apiEntry) (entered, waited bool) {
	c.mu.Lock()
	for !c.dead && !c.draining && c.inFlight > 0 && (c.overlaps != e || c.inFlight >= maxInFlight) {
		if len(c.later) > 0 { // what is waited for may depend on it
			c.mu.Unlock()
			c.catchUp()
			c.mu.Lock()
			continue
		}
		c.waiting, waited = true, true
		c.mu.Unlock()
		<-c.wake
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if c.dead || c.draining {
		return false, waited
	}
	if c.tail == nil {
		c.head = r
	} else {
		c.tail.next = r
	}
	c.tail = r
	c.inFlight++
	c.overlaps = nil
	if e.Pipelined {
		c.overlaps = e
	}
	return true, waited
}

func (c *conn) more() bool { return c.in.more() }

func (c *conn) postpone(f func()) { c.later = append(c.later, f) }

// catchUp does what was left for later.
func (c *conn) catchUp() {
	for i, f := range c.later {
		c.later[i] = nil
		f()
	}
	c.later = c.later[:0]
}

// run calls the handler; a panic ends the request, not the node.
func (c *conn) run(e *apiEntry, r *Request) {
	defer func() {
		if p := recover(); p != nil {
			c.handling.Store(false)
			c.panicked(r, p)
		}
	}()
	c.handling.Store(true)
	e.Handle(r)
	c.handling.Store(false)
}

// drainThenKill waits until everything started is answered, at most for the time given, and closes the connection.
func (c *conn) drainThenKill(atMost time.Duration) {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	c.mu.Lock()
	for !c.dead && c.inFlight > 0 {
		c.waiting = true
		c.mu.Unlock()
		select {
		case <-c.wake:
		case <-timer.C:
			c.kill()
		}
		c.mu.Lock()
	}
	c.mu.Unlock()
	c.kill()
}

// drain lets requests under way finish and closes the connection after the last answer.
func (c *conn) drain() {
	c.mu.Lock()
	c.draining = true
	idle := c.inFlight == 0
	c.wakeLocked()
	c.mu.Unlock()
	if idle {
		c.kill()
	}
}

// kill ends the connection now. Unanswered requests stay with their handlers, whose answers are then dropped.
func (c *conn) kill() {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return
	}
	c.dead = true
	close(c.closed)
	var unsent []*outgoing
	if !c.writing { // else the writer's flush finds the connection dead and does this
		unsent = c.abandonLocked()
	}
	c.wakeLocked()
	c.mu.Unlock()
	c.cancel()
	if err := c.nc.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		c.srv.log.Debug("close failed", "connection", c.info.ID, "err", err)
	}
	freeAll(unsent)
	c.srv.forget(c)
}

func (c *conn) wakeLocked() {
	if c.waiting {
		c.waiting = false
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// complain logs that the peer misbehaved. One line per second for all connections; the rest is counted.
func (c *conn) complain(err error) {
	c.srv.stats.malformed.Add(1)
	c.srv.complaints.warn("connection closed: "+err.Error(), "connection", c.info.ID)
}

// context is the request's context.
func (c *conn) context() context.Context { return c.ctx }

// busy reports whether requests wait for their answers. A connection whose peer does not read is not busy but stuck: its
// activeAt stands still, and it falls to the sweeper like an idle one.
func (c *conn) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inFlight > 0 && !c.writing
}

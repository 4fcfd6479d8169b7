package forward

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// Errors that a call ends with.
var (
	// ErrTimedOut: no active controller has answered before the deadline. It is REQUEST_TIMED_OUT for a client.
	ErrTimedOut = fmt.Errorf("no answer from the controller: %w", wire.ErrRequestTimedOut)
	// ErrBusy: too many requests wait for the controller.
	ErrBusy = errors.New("too many requests wait for the controller")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("the line to the controller is closed")
)

const (
	defaultMaxPending = 1000
	defaultTimeout    = 60 * time.Second
	minBackoff        = time.Millisecond
	maxBackoff        = 100 * time.Millisecond
	dialTimeout       = 10 * time.Second
	maxFrame          = 100 << 20
)

// Options makes a Client.
type Options struct {
	// Dial connects to the active controller, as far as the node knows it.
	Dial     func(ctx context.Context) (net.Conn, error)
	ClientID string
	Logger   *slog.Logger
	// Timeout is how long a call without an earlier deadline is retried; 0 means a minute, as in Kafka.
	Timeout time.Duration
	// MaxPending bounds the calls under way; 0 means 1000.
	MaxPending int
	// Fault hears that a goroutine of the client has panicked: nothing reaches the controller any more, and the node should end.
	// May be nil.
	Fault func(error)
}

// Client is the line to the controller.
type Client struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{}

	mu       sync.Mutex
	queue    []*call // to be sent, in order
	inflight map[int32]*call
	conn     net.Conn // nil while there is none
	nextID   int32
	seq      int64
	closed   bool
	backoff  time.Duration
	retryAt  time.Time
}

// call is one request from Send to its answer.
type call struct {
	info     *api.Info
	version  int16
	body     []byte // encoded without header
	deadline time.Time
	seq      int64 // order of arrival
	done     func(wire.Message, error)
}

// New returns a Client; it connects when there is something to send.
func New(o Options) *Client {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.MaxPending <= 0 {
		o.MaxPending = defaultMaxPending
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fault == nil {
		o.Fault = func(error) {}
	}
	c := &Client{o: o, done: make(chan struct{}), wake: make(chan struct{}, 1), inflight: map[int32]*call{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	go c.run()
	return c
}

// Close ends all calls with ErrClosed and waits for the sender to stop.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	conn := c.conn
	c.mu.Unlock()
	c.cancel()
	if conn != nil {
		_ = conn.Close() // the reader sees it
	}
	<-c.done
}

// Start sends req at version and calls done once with the answer, from a goroutine of the client; done must not block. A zero
// deadline means the client's timeout.
func (c *Client) Start(req wire.Request, version int16, deadline time.Time, done func(wire.Message, error)) {
	info, ok := api.Lookup(req.APIKey())
	if !ok || version < info.Min || version > info.Max {
		done(nil, fmt.Errorf("%v request version %d: %w", req.APIKey(), version, wire.ErrVersion))
		return
	}
	var w wire.Writer
	req.Encode(&w, version)
	body, err := w.AppendTo(nil)
	if err != nil {
		done(nil, fmt.Errorf("encode %s request: %w", info.Name, err))
		return
	}
	c.enqueue(&call{info: info, version: version, body: body, deadline: deadline, done: done})
}

// Send is Start for callers that wait. The call is tried until ctx ends or the client's timeout has passed.
func (c *Client) Send(ctx context.Context, req wire.Request, version int16) (wire.Message, error) {
	type result struct {
		m   wire.Message
		err error
	}
	ch := make(chan result, 1)
	deadline, _ := ctx.Deadline()
	c.Start(req, version, deadline, func(m wire.Message, err error) { ch <- result{m, err} })
	select {
	case r := <-ch:
		return r.m, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *Client) enqueue(k *call) {
	now := time.Now()
	if k.deadline.IsZero() {
		k.deadline = now.Add(c.o.Timeout)
	}
	c.mu.Lock()
	var err error
	switch {
	case c.closed:
		err = ErrClosed
	case len(c.queue)+len(c.inflight) >= c.o.MaxPending:
		err = ErrBusy
	default:
		c.seq++
		k.seq = c.seq
		c.queue = append(c.queue, k)
	}
	c.mu.Unlock()
	if err != nil {
		c.tell(k, nil, err)
		return
	}
	c.poke()
}

func (c *Client) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run is the sender: it dials, writes, and ends calls whose deadline has passed.
func (c *Client) run() {
	defer close(c.done)
	defer c.panicked("the sender")
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			c.failAll()
			return
		}
		expired, stuck := c.takeExpiredLocked(now)
		ready := len(c.queue) > 0 && !now.Before(c.retryAt)
		conn, until := c.conn, c.wakeAtLocked(now)
		c.mu.Unlock()
		for _, k := range expired {
			c.tell(k, nil, ErrTimedOut)
		}
		switch {
		case stuck && conn != nil:
			c.drop(conn, ErrTimedOut)
		case !ready:
			timer.Reset(until.Sub(now))
			select {
			case <-c.wake:
			case <-timer.C:
			case <-c.ctx.Done():
			}
		case conn == nil:
			c.connect()
		default:
			c.sendNext(conn)
		}
	}
}

// takeExpiredLocked removes the calls whose deadline has passed; stuck says that one of them had been sent.
func (c *Client) takeExpiredLocked(now time.Time) (expired []*call, stuck bool) {
	c.queue = slices.DeleteFunc(c.queue, func(k *call) bool {
		if now.Before(k.deadline) {
			return false
		}
		expired = append(expired, k)
		return true
	})
	for n, k := range c.inflight {
		if !now.Before(k.deadline) {
			expired, stuck = append(expired, k), true
			delete(c.inflight, n)
		}
	}
	return expired, stuck
}

// wakeAtLocked returns when the sender must look again at the latest.
func (c *Client) wakeAtLocked(now time.Time) time.Time {
	at := now.Add(time.Hour)
	for _, k := range c.queue {
		if k.deadline.Before(at) {
			at = k.deadline
		}
	}
	for _, k := range c.inflight {
		if k.deadline.Before(at) {
			at = k.deadline
		}
	}
	if len(c.queue) > 0 && c.retryAt.After(now) && c.retryAt.Before(at) {
		at = c.retryAt
	}
	return at
}

func (c *Client) connect() {
	ctx, cancel := context.WithTimeout(c.ctx, dialTimeout)
	conn, err := c.o.Dial(ctx)
	cancel()
	c.mu.Lock()
	if err != nil {
		c.backOffLocked()
		c.mu.Unlock()
		if c.ctx.Err() == nil {
			c.o.Logger.Debug("no connection to the controller", "err", err)
		}
		return
	}
	closed := c.closed
	if !closed {
		c.conn = conn
	}
	c.mu.Unlock()
	if closed {
		_ = conn.Close() // nothing was sent over it
		return
	}
	go c.read(conn)
}

func (c *Client) backOffLocked() {
	c.backoff = min(max(c.backoff*2, minBackoff), maxBackoff)
	c.retryAt = time.Now().Add(c.backoff)
}

func (c *Client) sendNext(conn net.Conn) {
	c.mu.Lock()
	if len(c.queue) == 0 || c.conn != conn {
		c.mu.Unlock()
		return
	}
	k := c.queue[0]
	c.queue = slices.Delete(c.queue, 0, 1)
	c.nextID++
	n := c.nextID
	c.inflight[n] = k
	c.mu.Unlock()
	frame := requestFrame(k, n, c.o.ClientID)
	err := conn.SetWriteDeadline(k.deadline)
	if err == nil {
		_, err = conn.Write(frame)
	}
	if err != nil {
		c.drop(conn, err)
	}
}

func requestFrame(k *call, correlation int32, clientID string) []byte {
	var w wire.Writer
	w.Int32(0)
	h := wire.RequestHeader{RequestApiKey: int16(k.info.Key), RequestApiVersion: k.version, CorrelationID: correlation, ClientID: &clientID}
	h.Encode(&w, k.info.RequestHeaderVersion(k.version))
	w.Raw(k.body)
	frame, err := w.AppendTo(nil)
	if err != nil { // a client id of more than 32 KiB
		return nil
	}
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame
}

// drop gives conn up and puts what it had not answered back in front of the queue.
func (c *Client) drop(conn net.Conn, why error) {
	c.mu.Lock()
	if c.conn != conn {
		c.mu.Unlock()
		return
	}
	c.conn = nil
	back := make([]*call, 0, len(c.inflight))
	for n, k := range c.inflight {
		back = append(back, k)
		delete(c.inflight, n)
	}
	slices.SortFunc(back, func(a, b *call) int { return int(a.seq - b.seq) })
	c.queue = append(back, c.queue...)
	c.backOffLocked()
	quiet := c.closed || errors.Is(why, wire.ErrNotController)
	c.mu.Unlock()
	_ = conn.Close() // it failed already, or is of no use
	if !quiet {
		c.o.Logger.Info("connection to the controller lost", "err", why)
	}
	c.poke()
}

func (c *Client) failAll() {
	c.mu.Lock()
	all := c.queue
	c.queue = nil
	for n, k := range c.inflight {
		all = append(all, k)
		delete(c.inflight, n)
	}
	c.mu.Unlock()
	for _, k := range all {
		c.tell(k, nil, ErrClosed)
	}
}

// read takes answers from conn until it breaks.
func (c *Client) read(conn net.Conn) {
	defer c.panicked("the reader")
	for {
		frame, err := readFrame(conn)
		if err == nil {
			err = c.answered(conn, frame)
		}
		if err != nil {
			c.drop(conn, err)
			return
		}
	}
}

func readFrame(conn net.Conn) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	n := int32(binary.BigEndian.Uint32(size[:]))
	if n < 4 || n > maxFrame {
		return nil, fmt.Errorf("answer of %d bytes", n)
	}
	// Memory grows with what arrives, not with what is announced.
	var frame []byte
	for len(frame) < int(n) {
		at := len(frame)
		frame = append(frame, make([]byte, min(int(n)-at, 64<<10))...)
		if _, err := io.ReadFull(conn, frame[at:]); err != nil {
			return nil, err
		}
	}
	return frame, nil
}

// answered hands one answer to its call. An error means that the connection is of no use any more.
func (c *Client) answered(conn net.Conn, frame []byte) error {
	n := int32(binary.BigEndian.Uint32(frame))
	c.mu.Lock()
	k := c.inflight[n]
	if c.conn != conn || k == nil {
		c.mu.Unlock()
		return nil // its deadline has passed
	}
	c.mu.Unlock()
	r := wire.NewReader(frame, wire.NewBudget(len(frame), nil))
	var h wire.ResponseHeader
	h.Decode(r, k.info.ResponseHeaderVersion(k.version))
	m := k.info.NewResponse()
	m.Decode(r, k.version)
	if err := r.Finish(); err != nil {
		return fmt.Errorf("answer to %s: %w", k.info.Name, err)
	}
	if notController(m) {
		return wire.ErrNotController // k is still in flight, and so goes back into the queue
	}
	c.mu.Lock()
	mine := c.inflight[n] == k
	if mine {
		delete(c.inflight, n)
		c.backoff = 0
	}
	c.mu.Unlock()
	if mine {
		c.tell(k, m, nil)
	}
	return nil
}

// notController reports whether an answer says that the other side is not the active controller.
func notController(m wire.Message) bool {
	switch a := m.(type) {
	case *api.EnvelopeResponse:
		return a.ErrorCode == wire.ErrNotController
	case *api.BrokerRegistrationResponse:
		return a.ErrorCode == wire.ErrNotController
	case *api.BrokerHeartbeatResponse:
		return a.ErrorCode == wire.ErrNotController
	case *api.AllocateProducerIDsResponse:
		return a.ErrorCode == wire.ErrNotController
	case *api.ControllerRegistrationResponse:
		return a.ErrorCode == wire.ErrNotController
	case *api.AssignReplicasToDirsResponse:
		return a.ErrorCode == wire.ErrNotController
	case *api.AlterPartitionResponse:
		if a.ErrorCode == wire.ErrNotController {
			return true
		}
		for _, t := range a.Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode == wire.ErrNotController {
					return true
				}
			}
		}
	}
	return false
}

// panicked is deferred by the client's goroutines. After a panic nobody can be served: who waits is told so, and the owner ends
// the node.
func (c *Client) panicked(who string) {
	p := recover()
	if p == nil {
		return
	}
	c.o.Logger.Error(who+" of the line to the controller panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	c.o.Fault(fmt.Errorf("%s of the line to the controller: panic: %v", who, p))
	if !c.mu.TryLock() {
		return // perhaps held by the panic itself; the deadlines of those who wait are all that is left
	}
	c.closed = true
	conn := c.conn
	c.mu.Unlock()
	c.cancel()
	if conn != nil {
		_ = conn.Close() // it is of no use any more
	}
	c.failAll()
}

// tell ends a call. A panic of whoever takes its answer is not the line's.
func (c *Client) tell(k *call, m wire.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.o.Logger.Error("who waits for an answer of the controller panicked", "api", k.info.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	k.done(m, err)
}

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moldau-io/moldau/internal/wire"
)

// Defaults of Options, Kafka's own.
const (
	DefaultMaxRequestBytes = 100 << 20
	DefaultIdle            = 10 * time.Minute
)

// Options configures a Server. Registry is required; zero values of the rest mean the defaults.
type Options struct {
	Registry *Registry
	Logger   *slog.Logger
	// Memory bounds the memory of requests; servers of one node share it.
	Memory *Memory
	// Decoding bounds the memory of decoded requests; servers of one node share it. Nil means bounds per request only.
	Decoding *wire.Pool
	// MaxRequestBytes is socket.request.max.bytes.
	MaxRequestBytes int
	// Idle is connections.max.idle.ms; negative: never.
	Idle time.Duration
	// Limits bounds the connections; nil: no bounds. SetLimits changes it.
	Limits          *Limits
	SendBufferBytes int // socket.send.buffer.bytes; <= 0: the system's
	RecvBufferBytes int // socket.receive.buffer.bytes; <= 0: the system's
	// Observe, if set, is told of every request after its answer was sent. It is called from any goroutine.
	Observe func(Observation)
	// Fault hears that a goroutine of the server itself has panicked, and so nobody looks after its connections: the node should
	// end. May be nil.
	Fault func(error)
}

// Limits bounds the connections of a server.
type Limits struct {
	// Connections is max.connections over all listeners: at the bound no further connection is accepted until one ends.
	Connections int
	// PerIP is max.connections.per.ip, and PerIPByAddr its overrides by address: at the bound a new connection is closed.
	PerIP       int
	PerIPByAddr map[string]int
}

// Observation is the life of one request, for the request metrics. Times are zero where a stage was not reached.
type Observation struct {
	Key           wire.APIKey
	Version       int16
	Listener      string
	ReceivedAt    time.Time // last byte of the frame had arrived
	StartedAt     time.Time // the handler was called
	AnsweredAt    time.Time // the handler, or whoever waited for it, gave the answer
	SentAt        time.Time // the socket had taken the last byte
	RequestBytes  int
	ResponseBytes int // 0 if there was no answer
	FromFollower  bool
}

// Stats counts what happened at the door. All fields only grow, except Connections.
type Stats struct {
	Connections int64 // open now
	Accepted    int64
	Refused     int64 // closed at once for max.connections.per.ip
	Idle        int64 // closed by the sweeper
	Malformed   int64 // connections closed for what they sent
	Shed        int64 // connections cut because they held memory others needed, or could not get any
	Panics      int64 // handlers that panicked
}

type stats struct{ accepted, refused, idle, malformed, shed, panics atomic.Int64 }

// Server accepts connections on any number of listeners and serves their requests. Its mutex guards the set of connections.
type Server struct {
	opts       Options
	log        *slog.Logger
	stats      stats
	complaints *rateLimited

	mu        sync.Mutex
	conns     map[*conn]struct{}
	perIP     map[string]int
	listeners map[net.Listener]string // and their names
	limits    Limits
	stopping  bool
	room      chan struct{} // closed and renewed when a connection ends while an acceptor waits
	waiters   int           // acceptors that wait for room
	allGone   chan struct{} // closed when stopping and the last connection ended
	lastShed  time.Time

	serial atomic.Int64
	wg     sync.WaitGroup // acceptors, readers, sweeper
	stop   chan struct{}
}

// New returns a server; Serve and ServeConn give it work.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxRequestBytes <= 0 {
		o.MaxRequestBytes = DefaultMaxRequestBytes
	}
	if o.Memory == nil {
		o.Memory = NewMemory(max(256<<20, 2*int64(o.MaxRequestBytes)))
	}
	if o.Idle == 0 {
		o.Idle = DefaultIdle
	}
	s := &Server{opts: o, log: o.Logger, conns: map[*conn]struct{}{}, perIP: map[string]int{}, listeners: map[net.Listener]string{},
		stop: make(chan struct{}), room: make(chan struct{}), allGone: make(chan struct{})}
	s.limits = Limits{Connections: math.MaxInt, PerIP: math.MaxInt}
	if o.Limits != nil {
		s.limits = *o.Limits
	}
	s.complaints = &rateLimited{log: o.Logger, every: time.Second}
	o.Memory.onPressure(s.shed)
	s.wg.Add(1)
	go s.sweep()
	return s
}

// Serve accepts connections from l until Shutdown or Close. Peer holds what all its connections have in common: listener name,
// security protocol and principal.
func (s *Server) Serve(l net.Listener, peer ConnTemplate) error {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return errors.Join(errClosed, l.Close())
	}
	s.listeners[l] = peer.Listener
	s.wg.Add(1)
	s.mu.Unlock()
	defer s.wg.Done()
	return s.acceptLoop(l, peer)
}

// ConnTemplate is what all connections of a listener have in common.
type ConnTemplate struct {
	Listener         string
	SecurityProtocol string
	Principal        string
}

func (s *Server) acceptLoop(l net.Listener, peer ConnTemplate) error {
	var backOff time.Duration
	for {
		if !s.waitForRoom() {
			return nil
		}
		nc, err := l.Accept()
		if err == nil {
			backOff = 0
			s.welcome(nc, peer)
			continue
		}
		select {
		case <-s.stop:
			return nil
		default:
		}
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		// Out of descriptors, or a connection that was reset before we took it: neither ends the listener.
		backOff = min(max(2*backOff, 5*time.Millisecond), time.Second)
		if isFull(err) {
			s.complaints.warn("cannot accept connections: "+err.Error(), "listener", peer.Listener, "retry_in", backOff)
		}
		select {
		case <-s.stop:
			return nil
		case <-time.After(backOff):
		}
	}
}

// waitForRoom blocks while max.connections is reached; false: the server stops.
func (s *Server) waitForRoom() bool {
	for {
		s.mu.Lock()
		if s.stopping {
			s.mu.Unlock()
			return false
		}
		limit := s.limits.Connections
		if len(s.conns) < limit {
			s.mu.Unlock()
			return true
		}
		room := s.room
		s.waiters++
		s.mu.Unlock()
		s.complaints.warn("max.connections is reached, new connections wait", "limit", limit)
		select {
		case <-room:
		case <-s.stop:
		}
		s.mu.Lock()
		s.waiters--
		s.mu.Unlock()
	}
}

func (s *Server) welcome(nc net.Conn, peer ConnTemplate) {
	info := &ConnInfo{Listener: peer.Listener, SecurityProtocol: peer.SecurityProtocol, Principal: peer.Principal,
		ClientAddr: nc.RemoteAddr(), ID: fmt.Sprintf("%v-%v-%d", nc.LocalAddr(), nc.RemoteAddr(), s.serial.Add(1))}
	if a, ok := info.ClientAddr.(*net.TCPAddr); ok {
		info.ClientIP = a.IP
		if v4 := a.IP.To4(); v4 != nil {
			info.ClientIP = v4
		}
		info.host = "/" + info.ClientIP.String()
	}
	if t, ok := nc.(*net.TCPConn); ok {
		// No delay is Go's default already; keep-alive as Kafka sets it. A failure here shows up at the first read.
		_ = t.SetKeepAlive(true)
		if n := s.opts.SendBufferBytes; n > 0 {
			_ = t.SetWriteBuffer(n)
		}
		if n := s.opts.RecvBufferBytes; n > 0 {
			_ = t.SetReadBuffer(n)
		}
	}
	if !s.start(nc, info) {
		s.stats.refused.Add(1)
		_ = nc.Close() // never served; nothing to lose
	}
}

// ServeConn serves one connection that did not come through a listener, such as an in-process pipe. It returns at once; false
// means the server is stopping and the connection was closed.
func (s *Server) ServeConn(nc net.Conn, peer ConnTemplate) bool {
	info := &ConnInfo{Listener: peer.Listener, SecurityProtocol: peer.SecurityProtocol, Principal: peer.Principal,
		ClientAddr: nc.RemoteAddr(), ID: fmt.Sprintf("pipe-%d", s.serial.Add(1))}
	if !s.start(nc, info) {
		_ = nc.Close() // never served; nothing to lose
		return false
	}
	return true
}

func (s *Server) start(nc net.Conn, info *ConnInfo) bool {
	ip := info.ClientIP.String()
	c := newConn(s, nc, info)
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return false
	}
	if len(info.ClientIP) > 0 {
		limit, ok := s.limits.PerIPByAddr[ip]
		if !ok {
			limit = s.limits.PerIP
		}
		if s.perIP[ip] >= limit {
			s.mu.Unlock()
			s.complaints.warn("connection refused: too many connections from this address", "address", ip, "limit", limit)
			return false
		}
		s.perIP[ip]++
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	s.stats.accepted.Add(1)
	go func() {
		defer s.wg.Done()
		defer c.over("a connection")
		c.serve()
	}()
	return true
}

// SetLimits changes the bounds on connections. Connections that exist stay, even above the new bounds.
func (s *Server) SetLimits(l Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits = l
	if s.waiters > 0 {
		close(s.room)
		s.room = make(chan struct{})
	}
}

// forget takes an ended connection off the books.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[c]; !ok {
		return
	}
	delete(s.conns, c)
	if len(c.info.ClientIP) > 0 {
		ip := c.info.ClientIP.String()
		if s.perIP[ip]--; s.perIP[ip] <= 0 {
			delete(s.perIP, ip)
		}
	}
	if s.waiters > 0 {
		close(s.room)
		s.room = make(chan struct{})
	}
	if s.stopping && len(s.conns) == 0 {
		close(s.allGone)
	}
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	open := len(s.conns)
	s.mu.Unlock()
	return Stats{Connections: int64(open), Accepted: s.stats.accepted.Load(), Refused: s.stats.refused.Load(),
		Idle: s.stats.idle.Load(), Malformed: s.stats.malformed.Load(), Shed: s.stats.shed.Load(), Panics: s.stats.panics.Load()}
}

// CloseListeners stops accepting; connections live on.
func (s *Server) CloseListeners() {
	s.mu.Lock()
	ls := s.listeners
	s.listeners = map[net.Listener]string{}
	s.mu.Unlock()
	for l := range ls {
		_ = l.Close() // stops Accept, which is all we want
	}
}

// CloseListener stops accepting on the listener of this name and ends its connections, whatever they wait for.
func (s *Server) CloseListener(name string) {
	s.mu.Lock()
	var gone []*conn
	for c := range s.conns {
		if c.info.Listener == name {
			gone = append(gone, c)
		}
	}
	var ls []net.Listener
	for l, n := range s.listeners {
		if n == name {
			ls = append(ls, l)
			delete(s.listeners, l)
		}
	}
	s.mu.Unlock()
	for _, l := range ls {
		_ = l.Close() // stops Accept, which is all we want
	}
	for _, c := range gone {
		c.kill()
	}
}

// Shutdown stops accepting, lets requests under way be answered until ctx is done, and closes everything.
func (s *Server) Shutdown(ctx context.Context) {
	s.CloseListeners()
	s.mu.Lock()
	first := !s.stopping
	if first {
		s.stopping = true
		close(s.stop)
		if len(s.conns) == 0 {
			close(s.allGone)
		}
	}
	conns := s.snapshotLocked()
	s.mu.Unlock()
	for _, c := range conns {
		c.drain()
	}
	select {
	case <-s.allGone:
	case <-ctx.Done():
		for _, c := range conns {
			c.kill()
		}
	}
	s.wg.Wait()
}

// Close ends everything now.
func (s *Server) Close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Shutdown(ctx)
}

func (s *Server) snapshotLocked() []*conn {
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

package server

import (
	"log/slog"
	"sync"
	"time"
)

// goneEvery is how often connections whose reader waits in a handler are asked whether the peer is still there: one system call
// each, a hundredth of a second for ten thousand.
const goneEvery = time.Second

// sweep is the one goroutine that closes idle connections and those whose peer went, and lets rested memory go.
func (s *Server) sweep() {
	defer s.wg.Done()
	defer s.fault("the sweeper of connections")
	every := 30 * time.Second
	if s.opts.Idle > 0 {
		every = min(max(s.opts.Idle/4, 50*time.Millisecond), every)
	}
	t := time.NewTicker(every)
	defer t.Stop()
	gone := time.NewTicker(min(every, goneEvery))
	defer gone.Stop()
	lastTrim := time.Now()
	for {
		select {
		case <-s.stop:
			return
		case now := <-t.C:
			s.sweepIdle(now)
			if now.Sub(lastTrim) >= time.Minute {
				s.opts.Memory.Trim()
				lastTrim = now
			}
		case <-gone.C:
			s.sweepGone()
		}
	}
}

// which returns the connections that are so.
func (s *Server) which(so func(*conn) bool) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*conn
	for c := range s.conns {
		if so(c) {
			out = append(out, c)
		}
	}
	return out
}

func (s *Server) sweepIdle(now time.Time) {
	if s.opts.Idle <= 0 {
		return
	}
	limit := now.Add(-s.opts.Idle).UnixNano()
	for _, c := range s.which(func(c *conn) bool { return c.activeAt.Load() < limit && !c.busy() }) {
		s.stats.idle.Add(1)
		s.log.Debug("connection closed: idle", "connection", c.info.ID, "limit", s.opts.Idle)
		c.kill()
	}
}

// sweepGone ends connections whose peer went while the reader waits inside a handler (a long poll), where it cannot notice. A
// peer that only stopped sending loses its answer after a while, too: nothing tells the two apart.
func (s *Server) sweepGone() {
	for _, c := range s.which(func(c *conn) bool { return c.raw != nil && c.handling.Load() }) {
		if c.handling.Load() && c.raw.hungUp() {
			c.kill()
		}
	}
}

// minPace is the least speed, in bytes per second, at which a large request must arrive while memory is short.
const minPace = 64 << 10

// shed cuts the connections that hold memory for a request which hardly arrives. It is called while someone waits for memory.
func (s *Server) shed() {
	now := time.Now()
	s.mu.Lock()
	if now.Sub(s.lastShed) < s.opts.Memory.big.wait/2 {
		s.mu.Unlock()
		return
	}
	s.lastShed = now
	conns := s.snapshotLocked()
	s.mu.Unlock()
	for _, c := range conns {
		if c.in.waits.Load() { // asked first: begun is set anew before waits is cleared
			continue
		}
		begun, n := c.in.begun.Load(), c.in.have.Load()
		if begun == 0 || n < minSlab {
			continue
		}
		age := now.Sub(time.Unix(0, begun))
		if age > s.opts.Memory.big.wait && float64(n)/age.Seconds() < minPace {
			s.stats.shed.Add(1)
			s.complaints.warn("connection closed: it holds request memory that others wait for", "connection", c.info.ID, "bytes", n)
			c.kill()
		}
	}
}

func (s *Server) observe(r *Request, size int, sent time.Time) {
	if s.opts.Observe == nil || r.api == nil {
		return
	}
	s.opts.Observe(Observation{Key: r.Key(), Version: r.Version(), Listener: r.Conn.Listener, ReceivedAt: r.ReceivedAt,
		StartedAt: r.StartedAt, AnsweredAt: r.finished, SentAt: sent, RequestBytes: r.size, ResponseBytes: size,
		FromFollower: r.FromFollower})
}

// rateLimited logs at most one warning per interval and says how many it kept back.
type rateLimited struct {
	log   *slog.Logger
	every time.Duration

	mu   sync.Mutex
	last time.Time
	kept int
}

func (l *rateLimited) warn(msg string, args ...any) {
	now := time.Now()
	l.mu.Lock()
	if now.Sub(l.last) < l.every {
		l.kept++
		l.mu.Unlock()
		return
	}
	kept := l.kept
	l.last, l.kept = now, 0
	l.mu.Unlock()
	if kept > 0 {
		args = append(args, "similar_not_logged", kept)
	}
	l.log.Warn(msg, args...)
}

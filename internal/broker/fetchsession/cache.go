package fetchsession

import (
	"sync"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// EvictionMs is how long a session rests before any new one may take its place, and how old it must be before a worthier one may.
const EvictionMs = 120_000

// MaxPartitions is how many partitions all sessions may hold together. Kafka bounds the sessions only; a client could fill them
// with names that nobody has. A client without a session goes on with full fetches.
const MaxPartitions = 500_000

// Options make a Cache.
type Options struct {
	Slots      int                  // max.incremental.fetch.session.cache.slots; 0 means that nobody gets a session
	EvictionMs int64                // EvictionMs when 0
	Partitions int64                // MaxPartitions when 0
	Random     func() int32         // session ids are drawn from it; only positive values are used
	Now        func() int64         // milliseconds
	TopicName  func(id.UUID) string // "" for an unknown id
}

// Cache holds the sessions of one broker.
type Cache struct {
	o        Options
	mu       sync.Mutex // guards the rest
	sessions map[int32]*session
	oldest   session // ring by use: oldest.newer was used longest ago
	parts    int64
	evicted  int64
}

// New returns an empty cache.
func New(o Options) *Cache {
	if o.EvictionMs == 0 {
		o.EvictionMs = EvictionMs
	}
	if o.Partitions == 0 {
		o.Partitions = MaxPartitions
	}
	c := &Cache{o: o, sessions: map[int32]*session{}}
	c.oldest.older, c.oldest.newer = &c.oldest, &c.oldest
	return c
}

// Stats are the figures of Kafka's FetchSessionCache metrics.
type Stats struct {
	Sessions, Partitions, Evictions int64
}

// Stats returns the present figures; Evictions counts since the start.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{Sessions: int64(len(c.sessions)), Partitions: c.parts, Evictions: c.evicted}
}

// Request is the part of a fetch request that concerns its session.
type Request struct {
	SessionID, Epoch int32
	UsesTopicIDs     bool // Fetch 13 and later
	FromFollower     bool
	Partitions       []Partition // Topic filled in where the id is known
	Forgotten        []Partition // only their names are looked at
}

// kind is what a Context does when it is finished.
type kind int8

const (
	sessionless kind = iota
	full
	incremental
)

// Context is one fetch between its request and its answer.
type Context struct {
	cache   *Cache
	kind    kind
	req     Request
	session *session
}

// Open begins a fetch. The error code is for the whole answer, which then lists no partitions and names no session.
func (c *Cache) Open(req Request) (Context, wire.ErrorCode) {
	if req.Epoch == InitialEpoch || req.Epoch == FinalEpoch {
		if req.SessionID != NoSession {
			c.mu.Lock()
			c.remove(c.sessions[req.SessionID])
			c.mu.Unlock()
		}
		req.Partitions = distinct(req.Partitions)
		k := full
		if req.Epoch == FinalEpoch {
			k = sessionless
		}
		return Context{cache: c, kind: k, req: req}, wire.ErrNone
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[req.SessionID]
	if s == nil {
		return Context{}, wire.ErrFetchSessionIDNotFound
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != req.Epoch {
		return Context{}, wire.ErrInvalidFetchSessionEpoch
	}
	if s.usesTopicIDs != req.UsesTopicIDs {
		return Context{}, wire.ErrFetchSessionTopicIDError
	}
	for _, p := range req.Partitions {
		s.add(p, -1, -1)
	}
	for i := range req.Forgotten {
		s.forget(req.Forgotten[i].key())
	}
	if c.parts+int64(len(s.parts)-s.size) > c.o.Partitions {
		c.remove(s)
		return Context{}, wire.ErrFetchSessionIDNotFound
	}
	if len(s.parts) == 0 {
		c.remove(s)
		req.Partitions = distinct(req.Partitions)
		return Context{cache: c, kind: sessionless, req: req}, wire.ErrNone
	}
	c.touch(s, c.o.Now(), len(s.parts))
	s.epoch = NextEpoch(s.epoch)
	return Context{cache: c, kind: incremental, req: req, session: s}, wire.ErrNone
}

// Partitions appends what is to be read, in order, to dst.
func (x *Context) Partitions(dst []Partition) []Partition {
	if x.kind != incremental {
		return append(dst, x.req.Partitions...)
	}
	s := x.session
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := s.head.next; c != &s.head; c = c.next {
		if c.Topic == "" && s.usesTopicIDs {
			c.Topic = x.cache.o.TopicName(c.TopicID)
		}
		dst = append(dst, c.Partition)
	}
	return dst
}

// Finish takes what was found and marks what need not be sent. It returns the session id of the answer. With an error code the
// answer lists no partitions: another request has used the session in between.
func (x *Context) Finish(news []News) (sessionID int32, code wire.ErrorCode) {
	switch x.kind {
	case sessionless:
		return NoSession, wire.ErrNone
	case full:
		return x.cache.create(x.req, news), wire.ErrNone
	}
	s := x.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != NextEpoch(x.req.Epoch) {
		return s.id, wire.ErrInvalidFetchSessionEpoch
	}
	for i := range news {
		news[i].Omit = !s.tell(&news[i])
	}
	return s.id, wire.ErrNone
}

// create makes a session if there is room, or if one can be evicted for it, and returns its id or NoSession.
func (c *Cache) create(req Request, news []News) int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.o.Now()
	if c.parts+int64(len(news)) > c.o.Partitions {
		return NoSession
	}
	if len(c.sessions) >= c.o.Slots && !c.evictFor(req.FromFollower, len(news), now) {
		return NoSession
	}
	sessionID := c.o.Random()
	for sessionID <= 0 || c.sessions[sessionID] != nil {
		sessionID = c.o.Random()
	}
	s := newSession(sessionID, req.FromFollower, req.UsesTopicIDs, now, len(news))
	for i := range news {
		s.add(news[i].Partition, news[i].HighWatermark, news[i].LogStartOffset)
	}
	c.sessions[sessionID] = s
	s.older, s.newer = s, s
	c.touch(s, now, len(s.parts))
	return sessionID
}

// touch notes that s was used. c.mu is held.
func (c *Cache) touch(s *session, now int64, size int) {
	s.older.newer, s.newer.older = s.newer, s.older
	s.older, s.newer = c.oldest.older, &c.oldest
	s.older.newer, s.newer.older = s, s
	s.usedMs = now
	c.parts += int64(size - max(s.size, 0))
	s.size = size
	s.established = now-s.createdMs > c.o.EvictionMs
}

// remove forgets s, which may be nil. c.mu is held.
func (c *Cache) remove(s *session) {
	if s == nil || c.sessions[s.id] != s {
		return
	}
	delete(c.sessions, s.id)
	s.older.newer, s.newer.older = s.newer, s.older
	c.parts -= int64(s.size)
}

// evictFor makes room for a session of size partitions. c.mu is held.
func (c *Cache) evictFor(privileged bool, size int, now int64) bool {
	s := c.oldest.newer
	if s == &c.oldest {
		return false
	}
	if now-s.usedMs <= c.o.EvictionMs {
		s = c.leastWorth(privileged)
		if s == nil || worthLess(privileged, size, 0, s.privileged, s.size, s.id) {
			return false
		}
	}
	c.remove(s)
	c.evicted++
	return true
}

// leastWorth finds the least valuable session that may be evicted for a follower (privileged) or a consumer.
func (c *Cache) leastWorth(privileged bool) *session {
	var least *session
	for _, s := range c.sessions {
		if !s.established && (!privileged || s.privileged) {
			continue
		}
		if least == nil || worthLess(s.privileged, s.size, s.id, least.privileged, least.size, least.id) {
			least = s
		}
	}
	return least
}

// worthLess orders sessions: consumers before followers, small before large, then by id.
func worthLess(aPrivileged bool, aSize int, aID int32, bPrivileged bool, bSize int, bID int32) bool {
	if aPrivileged != bPrivileged {
		return bPrivileged
	}
	if aSize != bSize {
		return aSize < bSize
	}
	return aID < bID
}

// distinct drops repeated partitions: the last mention counts, in the place of the first.
func distinct(parts []Partition) []Partition {
	if len(parts) <= fewPartitions {
		return distinctFew(parts)
	}
	seen := make(map[key]int, len(parts))
	out := parts[:0:len(parts)]
	for _, p := range parts {
		if i, ok := seen[p.key()]; ok {
			out[i] = p
			continue
		}
		seen[p.key()] = len(out)
		out = append(out, p)
	}
	return out
}

// fewPartitions is up to how many partitions comparing all pairs is cheaper than a map.
const fewPartitions = 16

func distinctFew(parts []Partition) []Partition {
	out := parts[:0:len(parts)]
next:
	for _, p := range parts {
		for i := range out {
			if out[i].key() == p.key() {
				out[i] = p
				continue next
			}
		}
		out = append(out, p)
	}
	return out
}

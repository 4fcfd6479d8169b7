package fetchsession

import (
	"math"
	"sync"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// Session ids and epochs with a meaning of their own.
const (
	NoSession    int32 = 0  // no session, or none wanted
	InitialEpoch int32 = 0  // full fetch that wants a new session
	FinalEpoch   int32 = -1 // full fetch without a session
)

// NextEpoch is the epoch that follows e in a session.
func NextEpoch(e int32) int32 {
	switch {
	case e < 0:
		return FinalEpoch
	case e == math.MaxInt32:
		return 1
	}
	return e + 1
}

// Partition is one partition as a fetch asks for it.
type Partition struct {
	Topic              string // empty while a topic id names no known topic
	TopicID            id.UUID
	Partition          int32
	MaxBytes           int32
	FetchOffset        id.Offset
	LogStartOffset     id.Offset
	CurrentLeaderEpoch id.LeaderEpoch
	LastFetchedEpoch   id.LeaderEpoch
}

// key names a partition within a session: by id when the session uses ids, else by name.
type key struct {
	topic     string
	topicID   id.UUID
	partition int32
}

func keyOf(topic string, topicID id.UUID, partition int32) key {
	if topicID.IsZero() {
		return key{topic: topic, partition: partition}
	}
	return key{topicID: topicID, partition: partition}
}

func (p *Partition) key() key { return keyOf(p.Topic, p.TopicID, p.Partition) }

// News is what a fetch found for one partition.
type News struct {
	Partition      Partition
	HighWatermark  id.Offset
	LogStartOffset id.Offset
	Bytes          int            // of records
	Error          wire.ErrorCode // as it is sent
	Urgent         bool           // a preferred replica or a diverging epoch: sent in any case
	Omit           bool           // set by Finish: has no news, is not sent
}

// session is one client's set of partitions. mu guards all but what the comments say.
type session struct {
	id           int32 // fixed
	privileged   bool  // fixed: a follower's
	usesTopicIDs bool  // fixed
	createdMs    int64 // fixed

	usedMs      int64    // guarded by Cache.mu, as are the next four
	size        int      // partitions when it was used last
	established bool     // was older than the eviction time when it was used last
	older       *session // by use
	newer       *session

	mu    sync.Mutex
	epoch int32 // that the next request must have
	parts map[key]*cached
	head  cached // of the ring in fetch order
}

// cached is one partition of a session, with what the client was told last.
type cached struct {
	Partition
	highWatermark id.Offset
	logStart      id.Offset
	prev, next    *cached
}

func newSession(sessionID int32, privileged, usesTopicIDs bool, nowMs int64, size int) *session {
	s := &session{id: sessionID, privileged: privileged, usesTopicIDs: usesTopicIDs, createdMs: nowMs, size: -1,
		epoch: NextEpoch(InitialEpoch), parts: make(map[key]*cached, size)}
	s.head.prev, s.head.next = &s.head, &s.head
	return s
}

func (s *session) append(c *cached) {
	c.prev, c.next = s.head.prev, &s.head
	c.prev.next, c.next.prev = c, c
}

func (c *cached) unlink() { c.prev.next, c.next.prev = c.next, c.prev }

// add puts a partition last, or updates it in place if it is there. s.mu is held.
func (s *session) add(p Partition, highWatermark, logStart id.Offset) {
	k := p.key()
	if c := s.parts[k]; c != nil {
		name := c.Topic
		if c.Partition = p; p.Topic == "" {
			c.Topic = name
		}
		return
	}
	c := &cached{Partition: p, highWatermark: highWatermark, logStart: logStart}
	s.parts[k] = c
	s.append(c)
}

func (s *session) forget(k key) {
	if c := s.parts[k]; c != nil {
		delete(s.parts, k)
		c.unlink()
	}
}

// tell decides whether n must be sent, and notes what the client will know then. s.mu is held.
func (s *session) tell(n *News) bool {
	c := s.parts[n.Partition.key()]
	if c == nil {
		return false // forgotten meanwhile
	}
	send := n.Bytes > 0 || n.Urgent || n.Error != wire.ErrNone
	if c.highWatermark != n.HighWatermark {
		send, c.highWatermark = true, n.HighWatermark
	}
	if c.logStart != n.LogStartOffset {
		send, c.logStart = true, n.LogStartOffset
	}
	if n.Error != wire.ErrNone {
		c.highWatermark = -1 // so that the partition is sent when the error is over
	}
	if n.Bytes > 0 {
		c.unlink()
		s.append(c)
	}
	return send
}

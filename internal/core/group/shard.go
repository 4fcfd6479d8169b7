package group

import (
	"math/rand/v2"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/assignor"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/shard"
)

// Config is what a shard needs to know of the broker's configuration.
type Config struct {
	// InitialRebalanceDelay is group.initial.rebalance.delay.ms: how long a new group waits for more members.
	InitialRebalanceDelay time.Duration
	// MinSessionTimeout and MaxSessionTimeout are group.min.session.timeout.ms and group.max.session.timeout.ms, inclusive.
	MinSessionTimeout, MaxSessionTimeout time.Duration
	// MaxSize is group.max.size, in members.
	MaxSize int
	// NewMemberJoinTimeout bounds how long a member that has no id yet may wait in a rebalance; Kafka fixes it at 5 minutes.
	NewMemberJoinTimeout time.Duration
	// OffsetMetadataMaxSize is offset.metadata.max.bytes; like Kafka it counts UTF-16 units.
	OffsetMetadataMaxSize int
	// OffsetsRetention is offsets.retention.minutes.
	OffsetsRetention time.Duration
	// RetentionCheckInterval is offsets.retention.check.interval.ms.
	RetentionCheckInterval time.Duration
	// Consumer is for groups of the consumer protocol.
	Consumer ConsumerConfig
	// Count hears of what Kafka has a count for, n at a time; it may be nil. It is called while a decision is made, whether that will
	// be committed or not, as in Kafka.
	Count func(what Figure, n int)
}

// ConsumerConfig are the settings of consumer groups (KIP-848). A group's own config, and for the assignment interval the dynamic
// config of the broker or the cluster, go before these.
type ConsumerConfig struct {
	// SessionTimeout, HeartbeatInterval and AssignmentInterval are group.consumer.session.timeout.ms, .heartbeat.interval.ms and
	// .assignment.interval.ms.
	SessionTimeout, HeartbeatInterval, AssignmentInterval time.Duration
	// Sessions, Heartbeats and Assignments bound what a group's own config may ask for: group.consumer.min.session.timeout.ms,
	// group.consumer.max.session.timeout.ms and so on.
	Sessions, Heartbeats, Assignments Bounds
	// RegexRefreshInterval is group.consumer.regex.refresh.interval.ms.
	RegexRefreshInterval time.Duration
	// MaxSize is group.consumer.max.size, in members.
	MaxSize int
	// Broker is this broker's id, the name of its dynamic config.
	Broker string
	// Assignors is group.consumer.assignors: names that package assignor knows, at least one. The first is the default.
	Assignors []string
	// Upgrade and Downgrade say which way a group may change its protocol while it has members: group.consumer.migration.policy.
	Upgrade, Downgrade bool
}

// Bounds are the least and the most of a setting.
type Bounds struct{ Min, Max time.Duration }

func (b Bounds) nearest(d time.Duration) time.Duration { return min(max(d, b.Min), b.Max) }

// DefaultConfig returns Kafka's defaults.
func DefaultConfig() Config {
	return Config{
		InitialRebalanceDelay:  3 * time.Second,
		MinSessionTimeout:      6 * time.Second,
		MaxSessionTimeout:      30 * time.Minute,
		MaxSize:                1<<31 - 1,
		NewMemberJoinTimeout:   5 * time.Minute,
		OffsetMetadataMaxSize:  4096,
		OffsetsRetention:       7 * 24 * time.Hour,
		RetentionCheckInterval: 10 * time.Minute,
		Consumer: ConsumerConfig{
			SessionTimeout: 45 * time.Second, HeartbeatInterval: 5 * time.Second, AssignmentInterval: time.Second,
			Sessions: Bounds{45 * time.Second, 60 * time.Second}, Heartbeats: Bounds{5 * time.Second, 15 * time.Second},
			Assignments:          Bounds{0, 15 * time.Second},
			RegexRefreshInterval: 10 * time.Minute, MaxSize: 1<<31 - 1,
			Assignors: []string{assignor.NameUniform, assignor.NameRange}, Upgrade: true, Downgrade: true,
		},
	}
}

// Client is who sent a request.
type Client struct {
	// ID is the client id of the request header.
	ID string
	// Host is the peer's address as Kafka prints it, with a slash in front.
	Host string
}

// Turn is the setting of one decision.
type Turn struct {
	// Now is the time of the decision.
	Now time.Time
	// Ticket gets the answer.
	Ticket shard.Ticket
	// Version is the API version of the request.
	Version int16
	// Client sent the request.
	Client Client
	// Image is the newest metadata of the cluster. It may be nil where the request is about nothing that is in it.
	Image *image.Image
}

// Shard is the state of one partition of __consumer_offsets.
type Shard struct {
	cfg Config
	rnd *rand.Rand

	groups  map[string]*entry
	offsets offsetTable
	txns    openTxns

	// changes that are not committed, oldest first from done on, and the open changes of each group by what they changed.
	changes []change
	done    int
	spares  []*openChanges // empty ones, to be used again
	open    map[string]*openChanges
	next    id.Offset // where the next record goes
	// committed is the high watermark as last heard: records below it are committed.
	committed id.Offset
	// place is that of the last commit that was replayed.
	place   commitPlace
	commits commitReader

	timers shard.Deadlines[timerKey, struct{}]

	// now and res belong to the decision under way, turn counts decisions.
	now  time.Time
	res  shard.Result
	turn uint64

	// image is the newest that any request brought, and what is derived from it.
	image       *image.Image
	hashes      map[string]topicHash
	seenTopics  *image.Topics
	newTopicsAt int64
	regexJobs   map[string]*regexJob // by group
}

// entry is a group of any kind: exactly one field is set.
type entry struct {
	classic  *classicGroup
	consumer *consumerGroup
	modern   *modernGroup
}

func (e *entry) empty() bool {
	switch {
	case e.classic != nil:
		return e.classic.state == Empty
	case e.consumer != nil:
		return e.consumer.members.Len() == 0
	}
	return e.modern.members == 0
}

// New returns an empty shard. rnd makes member ids; it must be well seeded, since a member id is what keeps others from
// speaking for the member.
func New(cfg Config, rnd *rand.Rand) *Shard {
	return &Shard{
		cfg: cfg, rnd: rnd,
		groups:  make(map[string]*entry),
		offsets: make(offsetTable),
		txns:    openTxns{byProducer: make(map[id.ProducerID]offsetTable), counts: make(map[string]map[topicPartition]int)},
		open:    make(map[string]*openChanges),
		hashes:  make(map[string]topicHash), regexJobs: make(map[string]*regexJob),
	}
}

// timerKey names a deadline: member is empty for those of the whole group, group for those of the shard.
type timerKey struct {
	kind          timerKind
	group, member string
}

type timerKind int8

const (
	timerSession timerKind = iota // a member's session, or a pending member's time to come back
	timerJoin                     // end of the join phase
	timerSync                     // end of the sync phase
	timerExpiry                   // next look for expired offsets
	timerMember                   // a session of the consumer protocol
	timerRevoke                   // a member's time to give partitions back
	timerRegex                    // next part of a look at all topics
	timerRejoin                   // a classic member's time to join a consumer group again
	timerResync                   // and to ask for its assignment
)

// Deadline returns when Expire has something to do; ok is false if never.
func (s *Shard) Deadline() (at time.Time, ok bool) { return s.timers.Next() }

// Expire decides what one passed deadline means. ok is false if none has passed; the driver calls it until then.
func (s *Shard) Expire(now time.Time) (res shard.Result, ok bool) {
	key, _, ok := s.timers.Pop(now)
	if !ok {
		return res, false
	}
	s.begin(now)
	switch key.kind {
	case timerSession:
		s.expireSession(key.group, key.member)
	case timerJoin:
		if g := s.classic(key.group); g != nil {
			if g.initial {
				s.endInitialRebalance(g)
			} else {
				s.completeJoin(g)
			}
		}
	case timerSync:
		s.expireSync(key.group)
	case timerMember:
		s.expireMember(key.group, key.member)
	case timerRejoin, timerResync:
		s.expireClassicWait(key.group, key.member)
	case timerRevoke:
		s.expireRevocation(key.group, key.member)
	case timerRegex:
		s.stepRegex(key.group)
	case timerExpiry:
		s.sweep()
		s.timers.Set(timerKey{kind: timerExpiry}, now.Add(s.cfg.RetentionCheckInterval), struct{}{})
	}
	return s.end(), true
}

// Loaded ends the replay of the log: sessions start, and groups above the size limit, or in the middle of becoming classic, are asked to
// rebalance. next is the offset of the next record.
func (s *Shard) Loaded(now time.Time, next id.Offset) shard.Result {
	s.next = next
	s.begin(now)
	for _, name := range s.names() {
		if c := s.groups[name].consumer; c != nil {
			s.loadedConsumer(c)
		}
		g := s.groups[name].classic
		if g == nil {
			continue
		}
		for _, m := range g.list() {
			s.restartSession(g, m)
		}
		if len(g.byID) > s.cfg.MaxSize || len(g.byID) > 0 && g.stateSinceMs == neverStable {
			s.prepareRebalance(g)
		}
	}
	s.timers.Set(timerKey{kind: timerExpiry}, now.Add(s.cfg.RetentionCheckInterval), struct{}{})
	return s.end()
}

func (s *Shard) begin(now time.Time) {
	s.now = now
	s.turn++
	s.res = shard.Result{}
}

func (s *Shard) end() shard.Result {
	res := s.res
	s.res = shard.Result{}
	return res
}

func (s *Shard) answer(t shard.Ticket, body any) {
	if t != shard.NoTicket {
		s.res.Answers = append(s.res.Answers, shard.Answer{Ticket: t, Body: body})
	}
}

func (s *Shard) append(r shard.Record) { s.res.Records = append(s.res.Records, r) }

// classic returns the working classic group of that name, or nil.
func (s *Shard) classic(name string) *classicGroup {
	if e := s.groups[name]; e != nil {
		return e.classic
	}
	return nil
}

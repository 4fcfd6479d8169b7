package txn

import (
	"math"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
)

// Config is what a shard needs to know of the broker.
type Config struct {
	// MaxTimeoutMs is transaction.max.timeout.ms, inclusive.
	MaxTimeoutMs int32
	// TwoPhaseCommit is transaction.two.phase.commit.enable (KIP-939).
	TwoPhaseCommit bool
	// AbortInterval is transaction.abort.timed.out.transaction.cleanup.interval.ms: timeouts are looked at this often.
	AbortInterval time.Duration
	// Expiration is transactional.id.expiration.ms, and ExpirationInterval is
	// transaction.remove.expired.transaction.cleanup.interval.ms.
	Expiration, ExpirationInterval time.Duration
	// Retry is how long after a failed write of a transaction's end it is tried again.
	Retry time.Duration
	// Level returns the finalized transaction.version of the cluster.
	Level func() int16
	// NextProducerID returns a producer id that nobody has; ok is false if none is at hand. It does not wait.
	NextProducerID func() (producer id.ProducerID, ok bool)
}

// DefaultConfig returns Kafka's defaults for what has one.
func DefaultConfig() Config {
	return Config{
		MaxTimeoutMs:       15 * 60 * 1000,
		AbortInterval:      10 * time.Second,
		Expiration:         7 * 24 * time.Hour,
		ExpirationInterval: time.Hour,
		Retry:              time.Second,
	}
}

// Turn is the setting of one decision.
type Turn struct {
	Now    time.Time
	Ticket shard.Ticket
}

// Markers asks for the end marker of a transaction in each of the partitions. It is a message of a decision.
type Markers struct {
	TransactionalID string
	ProducerID      id.ProducerID
	Epoch           id.ProducerEpoch
	Commit          bool
	// Version is the transaction.version of the client: from 2 on the epoch is one above that of the transaction's records.
	Version    int16
	Partitions []id.TopicPartition

	of *Transaction // whose end they are
}

// Shard is the state of one partition of __transaction_state.
type Shard struct {
	cfg Config

	txns map[string]*Transaction
	// marking holds the partitions that still need their marker, of prepared transactions that are in txns as they are here.
	marking map[string]*marking

	// changes that are not committed, oldest first from done on, and what each name was before them, oldest first.
	changes []open
	done    int
	before  map[string][]*Transaction
	next    id.Offset // where the next record goes

	timers shard.Deadlines[timerKey, struct{}]
	epoch  time.Time // from which the ticks of AbortInterval are counted; zero while loading

	// now and res belong to the decision under way.
	now time.Time
	res shard.Result
}

type marking struct {
	of   *Transaction
	left map[id.TopicPartition]struct{}
}

type open struct {
	at    id.Offset
	name  string
	prior *Transaction
}

type timerKey struct {
	kind timerKind
	name string
}

type timerKind int8

const (
	timerAbort    timerKind = iota // an ongoing transaction has had its time
	timerComplete                  // the end of a transaction is to be written again
	timerExpiry                    // next look for unused transactional ids
)

// New returns an empty shard.
func New(cfg Config) *Shard {
	return &Shard{cfg: cfg, txns: make(map[string]*Transaction), marking: make(map[string]*marking), before: make(map[string][]*Transaction)}
}

// Loaded ends the replay of the log: transactions whose end was decided are brought to it, and timeouts run. next is the
// offset of the next record.
func (s *Shard) Loaded(now time.Time, next id.Offset) shard.Result {
	s.next = next
	s.epoch = now
	s.begin(now)
	for _, name := range s.names() {
		t := s.txns[name]
		s.follow(name, t)
		switch {
		case !t.State.preparing():
		case len(t.Partitions) == 0:
			s.complete(name, t)
		default:
			s.mark(name, t)
		}
	}
	s.timers.Set(timerKey{kind: timerExpiry}, now.Add(s.cfg.ExpirationInterval), struct{}{})
	return s.end()
}

// Apply folds a record of an earlier Result into the working state; at is the offset it will have.
func (s *Shard) Apply(at id.Offset, r shard.Record) {
	s.next = at + 1
	c := r.Change.(change)
	s.set(at, c.name, c.t)
}

// Revert takes back the changes of all records from offset at on: their batch was lost.
func (s *Shard) Revert(at id.Offset) {
	for n := len(s.changes); n > s.done && s.changes[n-1].at >= at; n-- {
		c := s.changes[n-1]
		s.changes = s.changes[:n-1]
		s.forget(c.name, false)
		s.put(c.name, c.prior)
		if c.prior != nil && c.prior.State.preparing() {
			// What was lost is the record of its end, so all its markers are written.
			s.marking[c.name] = &marking{of: c.prior}
			s.timers.Set(timerKey{timerComplete, c.name}, s.now.Add(s.cfg.Retry), struct{}{})
		}
	}
	s.next = at
}

// Committed makes the changes of all records below the high watermark visible to reads.
func (s *Shard) Committed(highWatermark id.Offset) {
	for s.done < len(s.changes) && s.changes[s.done].at < highWatermark {
		s.forget(s.changes[s.done].name, true)
		s.changes[s.done] = open{}
		s.done++
	}
	if s.done == len(s.changes) {
		s.changes, s.done = s.changes[:0], 0
	} else if s.done > 1024 && s.done > len(s.changes)/2 {
		s.changes, s.done = slices.Delete(s.changes, 0, s.done), 0
	}
}

// set makes a change that is committed with the record at offset at.
func (s *Shard) set(at id.Offset, name string, t *Transaction) {
	prior := s.txns[name]
	s.changes = append(s.changes, open{at, name, prior})
	s.before[name] = append(s.before[name], prior)
	s.put(name, t)
}

func (s *Shard) put(name string, t *Transaction) {
	if t == nil {
		delete(s.txns, name)
	} else {
		s.txns[name] = t
	}
	delete(s.marking, name)
	s.timers.Cancel(timerKey{timerComplete, name})
	if !s.epoch.IsZero() {
		s.follow(name, t)
	}
}

// follow starts what the state of a transaction needs beside the log: its timeout, or the list of markers to be written.
func (s *Shard) follow(name string, t *Transaction) {
	s.arm(name, t)
	if t == nil || !t.State.preparing() {
		return
	}
	m := &marking{of: t, left: make(map[id.TopicPartition]struct{}, len(t.Partitions))}
	for _, tp := range t.Partitions {
		m.left[tp] = struct{}{}
	}
	s.marking[name] = m
}

// arm sets or takes away the timeout of a transaction. Timeouts end at the ticks of AbortInterval, as in Apache Kafka.
func (s *Shard) arm(name string, t *Transaction) {
	key := timerKey{timerAbort, name}
	if t == nil || t.State != Ongoing || t.TimeoutMs == NoTimeout {
		s.timers.Cancel(key)
		return
	}
	at := time.UnixMilli(t.StartMs + int64(t.TimeoutMs) + 1)
	if !at.After(s.now) {
		at = s.now.Add(time.Nanosecond) // an attempt that failed waits for the next tick
	}
	if tick := s.cfg.AbortInterval; tick > 0 {
		after := min(at.Sub(s.epoch), math.MaxInt64-tick) // a time that no tick can be for, in a log of others
		at = s.epoch.Add((after + tick - 1) / tick * tick)
	}
	s.timers.Set(key, at, struct{}{})
}

// forget drops one of the former values of name.
func (s *Shard) forget(name string, oldest bool) {
	list := s.before[name]
	switch {
	case len(list) == 1:
		delete(s.before, name)
	case oldest:
		s.before[name] = list[1:]
	default:
		s.before[name] = list[:len(list)-1]
	}
}

// committed returns the transaction as of the high watermark, or nil.
func (s *Shard) committed(name string) *Transaction {
	if list := s.before[name]; len(list) > 0 {
		return list[0]
	}
	return s.txns[name]
}

// names returns the transactional ids of the working state in order.
func (s *Shard) names() []string {
	names := make([]string, 0, len(s.txns))
	for name := range s.txns {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

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
	case timerAbort:
		if t := s.txns[key.name]; t != nil && t.State == Ongoing && t.StartMs+int64(t.TimeoutMs) < now.UnixMilli() {
			if code := s.fence(key.name, t); code != wire.ErrNone {
				s.timers.Set(key, now.Add(max(s.cfg.AbortInterval, s.cfg.Retry)), struct{}{})
			}
		} else {
			s.arm(key.name, t)
		}
	case timerComplete:
		if m := s.marking[key.name]; m != nil && len(m.left) == 0 {
			s.complete(key.name, m.of)
		}
	case timerExpiry:
		s.sweep()
		s.timers.Set(key, now.Add(s.cfg.ExpirationInterval), struct{}{})
	}
	return s.end(), true
}

// sweep removes transactional ids that nobody has used for long.
func (s *Shard) sweep() {
	if s.cfg.Expiration <= 0 {
		return
	}
	limit := s.now.Add(-s.cfg.Expiration).UnixMilli()
	for _, name := range s.names() {
		if t := s.txns[name]; t.State.ended() && t.UpdateMs <= limit {
			s.write(name, nil)
		}
	}
}

func (s *Shard) begin(now time.Time) {
	s.now = now
	s.res = shard.Result{}
}

func (s *Shard) end() shard.Result {
	res := s.res
	s.res = shard.Result{}
	return res
}

// write asks for the record of name's next state.
func (s *Shard) write(name string, t *Transaction) {
	s.res.Records = append(s.res.Records, transactionRecord(name, t, s.cfg.Level()))
}

// refuse answers at once, with what holds whatever the state is.
func (s *Shard) refuse(turn Turn, body any) shard.Result {
	s.res.Answers = append(s.res.Answers, shard.Answer{Ticket: turn.Ticket, Body: body})
	return s.end()
}

// reply answers the ticket of the decision when all that it builds upon is committed. An error waits as well: it may come
// from a change that is not committed and will be taken back.
func (s *Shard) reply(body any) shard.Result {
	s.res.Reply = body
	return s.end()
}

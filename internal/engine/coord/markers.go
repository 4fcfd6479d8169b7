package coord

import (
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// RemoteMarkers brings markers to another broker (WriteTxnMarkers). done is called once, from any goroutine, with one code for
// each partition in order; it must not be called from inside WriteMarkers.
type RemoteMarkers interface {
	WriteMarkers(to id.BrokerID, m txn.Markers, coordinatorEpoch id.LeaderEpoch, partitions []id.TopicPartition, done func([]wire.ErrorCode))
}

// MarkerOptions make Markers.
type MarkerOptions struct {
	Replicas *replica.Manager
	Groups   *Groups
	Remote   RemoteMarkers // nil: partitions of other brokers wait until they have a leader here
	Timeout  time.Duration // request.timeout.ms, of one attempt
	Logger   *slog.Logger  // nil discards
}

// markerRetry is the wait before partitions that could not take their marker are tried again, as between Kafka's requests.
const markerRetry = 50 * time.Millisecond

// Markers brings the decisions of the transaction coordinator to the partitions of their transactions, and tells the coordinator
// of each that has its marker. There is one attempt under way for each prepared transaction at most, so what waits here is
// bounded by what the coordinator has prepared.
type Markers struct {
	o MarkerOptions

	mu      sync.Mutex // guards the rest
	waiting []markerJob
	timer   *time.Timer // set while something waits
	closed  bool
}

// markerJob is a set of markers of which some partitions are still to be done.
type markerJob struct {
	from Origin[*txn.Shard]
	m    txn.Markers // with the partitions that are left
	// unled says that these have no leader to be sent to.
	unled bool
}

// NewMarkers returns a sender.
func NewMarkers(o MarkerOptions) *Markers {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	return &Markers{o: o}
}

// Close forgets what waits: the next leader of the coordinator's partitions sends it again.
func (s *Markers) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.waiting = true, nil
	if s.timer != nil {
		s.timer.Stop()
	}
}

// Waiting is how many sets of markers wait to be tried again.
func (s *Markers) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// Unled is how many markers wait because their partitions have no leader that could be told.
func (s *Markers) Unled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, j := range s.waiting {
		if j.unled {
			n += len(j.m.Partitions)
		}
	}
	return n
}

// Send is the coordinator's Sender. The markers of partitions led here are written in a goroutine of its own.
func (s *Markers) Send(from Origin[*txn.Shard], message any) {
	go s.guarded(markerJob{from: from, m: message.(txn.Markers)})
}

// guarded makes an attempt whose panic is logged and costs the transaction a retry, not the process its life.
func (s *Markers) guarded(j markerJob) {
	defer func() {
		if p := recover(); p != nil {
			s.o.Logger.Error("sending transaction markers panicked", "transactional_id", j.m.TransactionalID, "panic", p, "stack", string(debug.Stack()))
			s.later(j, j.m.Partitions)
		}
	}()
	s.attempt(j)
}

// attempt sorts the partitions by who leads them and writes, or has written, their markers.
func (s *Markers) attempt(j markerJob) {
	if !j.from.Live() {
		return
	}
	img := s.o.Replicas.Image()
	self := s.o.Replicas.Self()
	var gone, here, offsets, unled []id.TopicPartition
	var remote map[id.BrokerID][]id.TopicPartition
	for _, tp := range j.m.Partitions {
		switch leader, exists := leaderOf(img, tp); {
		case !exists:
			gone = append(gone, tp)
		case leader == self && tp.Topic == OffsetsTopic:
			offsets = append(offsets, tp)
		case leader == self:
			here = append(here, tp)
		case leader == id.NoBroker || s.o.Remote == nil:
			unled = append(unled, tp)
		default:
			if remote == nil {
				remote = make(map[id.BrokerID][]id.TopicPartition)
			}
			remote[leader] = append(remote[leader], tp)
		}
	}
	s.written(j, gone)
	s.later(markerJob{j.from, j.m, true}, unled)
	for broker, partitions := range remote {
		s.o.Remote.WriteMarkers(broker, j.m, j.from.Epoch(), partitions, func(codes []wire.ErrorCode) { s.outcome(j, partitions, codes) })
	}
	for _, tp := range offsets {
		s.endOffsets(j, tp)
	}
	if len(here) > 0 {
		WriteMarkers(s.o.Replicas, MarkerWrite{ProducerID: j.m.ProducerID, Epoch: j.m.Epoch, Commit: j.m.Commit, Version: j.m.Version,
			CoordinatorEpoch: int32(j.from.Epoch()), Partitions: here, Timeout: s.o.Timeout},
			func(codes []wire.ErrorCode) { s.outcome(j, here, codes) })
	}
}

func leaderOf(img *image.Image, tp id.TopicPartition) (leader id.BrokerID, exists bool) {
	t := img.Topics.ByName(tp.Topic)
	if t == nil {
		return id.NoBroker, false
	}
	p := t.Partition(tp.Partition)
	if p == nil {
		return id.NoBroker, false
	}
	return p.Leader, true
}

// endOffsets ends the transaction in a partition of __consumer_offsets, through its coordinator.
func (s *Markers) endOffsets(j markerJob, tp id.TopicPartition) {
	one := []id.TopicPartition{tp}
	CompleteOffsets(s.o.Groups, tp.Partition, j.m.ProducerID, j.m.Epoch, j.m.Commit, int32(j.from.Epoch()), j.m.Version,
		func(code wire.ErrorCode) { s.outcome(j, one, []wire.ErrorCode{code}) })
}

// CompleteOffsets ends a transaction in a partition of __consumer_offsets. done is told NOT_LEADER_OR_FOLLOWER if the group
// coordinator of that partition is not here, or not yet, and else what the log says: it is no client that asks.
func CompleteOffsets(groups *Groups, partition int32, producer id.ProducerID, epoch id.ProducerEpoch, commit bool, coordinatorEpoch int32, version int16, done func(wire.ErrorCode)) {
	if !writable(producer, epoch, version) {
		done(wire.ErrUnknownServerError)
		return
	}
	groups.Do(partition, func(_ any, code wire.ErrorCode) {
		switch code {
		case wire.ErrCoordinatorNotAvailable, wire.ErrCoordinatorLoadInProgress, wire.ErrNotCoordinator:
			code = wire.ErrNotLeaderOrFollower
		}
		done(code)
	}, func(g *group.Shard, now time.Time, t shard.Ticket) shard.Result {
		return g.CompleteTransaction(group.Turn{Now: now, Ticket: t}, shard.Marker{Producer: shard.Producer{ID: producer, Epoch: epoch},
			Commit: commit, CoordinatorEpoch: coordinatorEpoch, Version: version})
	})
}

// outcome sorts the partitions of an attempt by what became of them.
func (s *Markers) outcome(j markerJob, partitions []id.TopicPartition, codes []wire.ErrorCode) {
	var done, again []id.TopicPartition
	former := false
	for i, tp := range partitions {
		switch code := codes[i]; code {
		case wire.ErrNone:
			done = append(done, tp)
		case wire.ErrUnsupportedForMessageFormat, wire.ErrUnsupportedVersion:
			// Nothing of a transaction can be there.
			s.o.Logger.Warn("a partition takes no transaction markers", "transactional_id", j.m.TransactionalID, "partition", tp, "code", code.Name())
			done = append(done, tp)
		case wire.ErrInvalidProducerEpoch:
			// The partition has seen a later epoch of the producer, and what that wrote has an end of its own: there is
			// nothing left here to end. (Apache Kafka gives up instead, and the transaction stays in PrepareX, KAFKA-19999.)
			s.o.Logger.Warn("a transaction marker is out of date", "transactional_id", j.m.TransactionalID, "partition", tp, "producer_epoch", j.m.Epoch)
			done = append(done, tp)
		case wire.ErrTransactionCoordinatorFenced:
			// A newer coordinator of this transaction is at work, and writes what is missing.
			s.o.Logger.Warn("a transaction marker comes from a former coordinator", "transactional_id", j.m.TransactionalID, "partition", tp)
			former = true
		default:
			s.o.Logger.Debug("a transaction marker is tried again", "transactional_id", j.m.TransactionalID, "partition", tp, "code", code.Name())
			again = append(again, tp)
		}
	}
	s.written(j, done)
	if !former {
		s.later(j, again)
	}
}

// written reports to the coordinator.
func (s *Markers) written(j markerJob, partitions []id.TopicPartition) {
	if len(partitions) == 0 {
		return
	}
	m := j.m
	if !j.from.Report(func(t *txn.Shard, now time.Time) shard.Result { return t.Written(now, m, partitions) }) && j.from.Live() {
		s.later(j, partitions) // a marker more does no harm
	}
}

// later puts partitions aside for the next attempt.
func (s *Markers) later(j markerJob, partitions []id.TopicPartition) {
	if len(partitions) == 0 || !j.from.Live() {
		return
	}
	j.m.Partitions = partitions
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.waiting = append(s.waiting, j)
	if s.timer == nil {
		s.timer = time.AfterFunc(markerRetry, s.again)
	}
}

func (s *Markers) again() {
	s.mu.Lock()
	jobs := s.waiting
	s.waiting, s.timer = nil, nil
	s.mu.Unlock()
	for _, j := range jobs {
		j.unled = false
		go s.guarded(j) // one may wait for its disk
	}
}

// MarkerWrite is the end of one producer's transaction in partitions that this broker leads.
type MarkerWrite struct {
	ProducerID       id.ProducerID
	Epoch            id.ProducerEpoch
	Commit           bool
	Version          int16 // transaction.version
	CoordinatorEpoch int32
	Partitions       []id.TopicPartition
	Timeout          time.Duration
}

// WriteMarkers appends the marker to each partition and calls done once, with one code for each in order, when all are replicated
// or have failed; perhaps before it returns. Partitions of __consumer_offsets go to CompleteOffsets instead.
func WriteMarkers(m *replica.Manager, w MarkerWrite, done func([]wire.ErrorCode)) {
	value := logrec.EncodeVersioned(&logrec.EndTxnMarker{CoordinatorEpoch: w.CoordinatorEpoch}, 0)
	req := &replica.AppendRequest{Acks: -1, Timeout: w.Timeout, InternalAllowed: true, Origin: log.OriginCoordinator, TransactionVersion: w.Version}
	codes := make([]wire.ErrorCode, len(w.Partitions))
	var slots []int
	now := time.Now().UnixMilli()
	for i, tp := range w.Partitions {
		b, err := record.EndTxnMarker(w.ProducerID, w.Epoch, w.Commit, now, value)
		if err != nil || !writable(w.ProducerID, w.Epoch, w.Version) {
			codes[i] = wire.ErrUnknownServerError
			continue
		}
		slots = append(slots, i)
		req.Partitions = append(req.Partitions, replica.AppendPartition{Topic: tp.Topic, Partition: tp.Partition, Batches: b})
	}
	if len(slots) == 0 {
		done(codes)
		return
	}
	m.Append(req, nil, func(results []replica.AppendResult) {
		for i := range results {
			codes[slots[i]] = replica.ErrorCode(results[i].Err)
		}
		done(codes)
	})
}

// writable is false for a producer id or epoch that no batch can hold, and for the version that stands for none. Apache Kafka, too,
// has no better word for these than UNKNOWN_SERVER_ERROR.
func writable(producer id.ProducerID, epoch id.ProducerEpoch, version int16) bool {
	return producer >= 0 && epoch >= 0 && version != -1
}

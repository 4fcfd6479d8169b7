package handler

import (
	"log/slog"
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/fetchsession"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/wire"
)

// ReplicaDesk serves the APIs whose floor is engine/replica: Produce, Fetch, ListOffsets, DeleteRecords,
// OffsetForLeaderEpoch, AlterReplicaLogDirs, DescribeLogDirs and DescribeProducers.
type ReplicaDesk struct {
	self          id.BrokerID
	replicas      *replica.Manager
	logs          *log.Manager
	sessions      *fetchsession.Cache
	gate          TxnGate
	fetchMaxBytes func() int
	logger        *slog.Logger
	produces      sync.Pool // of *produceTask
	fetches       sync.Pool // of *fetchTask
	failures      failureLog
}

// ReplicaDeskDeps is what a ReplicaDesk needs.
type ReplicaDeskDeps struct {
	Self     id.BrokerID
	Replicas *replica.Manager
	Logs     *log.Manager
	// Gate lets records into transactions.
	Gate TxnGate
	// SessionSlots is max.incremental.fetch.session.cache.slots.
	SessionSlots int
	// Random gives numbers for fetch session ids.
	Random func() int32
	// FetchMaxBytes is fetch.max.bytes as it stands.
	FetchMaxBytes func() int
	Now           func() time.Time // time.Now when nil
	Logger        *slog.Logger
}

// NewReplicaDesk returns a desk without requests.
func NewReplicaDesk(d ReplicaDeskDeps) *ReplicaDesk {
	now := d.Now
	if now == nil {
		now = time.Now
	}
	desk := &ReplicaDesk{self: d.Self, replicas: d.Replicas, logs: d.Logs, gate: d.Gate, fetchMaxBytes: d.FetchMaxBytes,
		logger: d.Logger}
	if desk.logger == nil {
		desk.logger = slog.New(slog.DiscardHandler)
	}
	desk.sessions = fetchsession.New(fetchsession.Options{Slots: d.SessionSlots, Random: d.Random,
		Now: func() int64 { return now().UnixMilli() }, TopicName: desk.topicName})
	return desk
}

// FetchSessions returns the session cache's figures.
func (d *ReplicaDesk) FetchSessions() fetchsession.Stats { return d.sessions.Stats() }

// Register adds the desk's APIs to a broker listener's registry.
func (d *ReplicaDesk) Register(reg *server.Registry) {
	reg.Register(server.API{Key: wire.Produce, Min: 3, Max: 13, Pipelined: true, Handle: d.produce})
	reg.Register(server.API{Key: wire.Fetch, Min: 4, Max: 18, Handle: d.fetch})
	reg.Register(server.API{Key: wire.ListOffsets, Min: 1, Max: 11, Handle: d.listOffsets})
	reg.Register(server.API{Key: wire.DeleteRecords, Min: 0, Max: 2, Handle: d.deleteRecords})
	reg.Register(server.API{Key: wire.OffsetForLeaderEpoch, Min: 2, Max: 4, Handle: d.offsetForLeaderEpoch})
	reg.Register(server.API{Key: wire.AlterReplicaLogDirs, Min: 1, Max: 2, Handle: d.alterReplicaLogDirs})
	reg.Register(server.API{Key: wire.DescribeLogDirs, Min: 1, Max: 5, Handle: d.describeLogDirs})
	reg.Register(server.API{Key: wire.DescribeProducers, Min: 0, Max: 0, Handle: d.describeProducers})
}

// topicName returns the name of a topic id, or "".
func (d *ReplicaDesk) topicName(u id.UUID) string {
	if u.IsZero() {
		return ""
	}
	if name, ok := d.replicas.TopicName(u); ok {
		return name
	}
	return ""
}

// leaderHint is the leader that a client should ask instead, with the address at which it can be reached on the client's listener.
type leaderHint struct {
	leader id.BrokerID
	epoch  id.LeaderEpoch
	broker *image.Broker // nil when it is not alive or not on that listener
	at     image.Endpoint
}

// currentLeader finds the leader of a partition as this broker knows it (KIP-951).
func (d *ReplicaDesk) currentLeader(topic string, n int32, listener string) leaderHint {
	img := d.replicas.Image()
	h := leaderHint{leader: id.NoBroker, epoch: id.NoLeaderEpoch}
	if p, err := d.replicas.Partition(topic, n); err == nil {
		h.leader, h.epoch = p.Leadership()
	} else if p := img.Topics.Partition(topic, n); p != nil {
		h.leader, h.epoch = p.Leader, p.LeaderEpoch
	}
	if b := img.Cluster.Broker(h.leader); b != nil && !b.Fenced {
		if at, ok := b.Endpoint(listener); ok {
			h.broker, h.at = b, at
		}
	}
	return h
}

// replicaCode is the code for an answer; a failure that carries none is logged, since nobody else will hear of it.
func (d *ReplicaDesk) replicaCode(err error, what, topic string, n int32) wire.ErrorCode {
	if err == nil {
		return wire.ErrNone
	}
	code := replica.ErrorCode(err)
	if code == wire.ErrUnknownServerError || code == wire.ErrKafkaStorageError {
		if kept, ok := d.failures.admit(time.Now()); ok {
			d.logger.Error(what+" failed", "topic", topic, "partition", n, "error", err, "similar_not_logged", kept)
		}
	}
	return code
}

// failureLog lets one line per second into the log: on a full disk every produce fails, and the log may be on that disk.
type failureLog struct {
	mu   sync.Mutex
	last time.Time
	kept int // lines since last
}

// admit reports whether a line may be logged now, and how many were not since the last one.
func (f *failureLog) admit(now time.Time) (kept int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.last) < time.Second {
		f.kept++
		return 0, false
	}
	kept = f.kept
	f.last, f.kept = now, 0
	return kept, true
}

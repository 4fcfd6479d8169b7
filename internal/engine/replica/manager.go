package replica

import (
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/partition"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/wire"
)

// ConfigSource resolves the configuration of a topic: what the image sets, the broker's own settings and the defaults.
type ConfigSource interface {
	TopicConfig(img *image.Image, topic string) TopicConfig
}

// ISRChanges sends a change of an in-sync set to the controller (AlterPartition). Send must not block; it calls done once, from
// any goroutine, and leaves time between attempts: a change whose outcome is unknown is sent again at once. On success isr and the epochs are the controller's answer.
type ISRChanges interface {
	Send(topicID id.UUID, n int32, p *partition.Proposal, done func(isr []id.BrokerID, leader id.LeaderEpoch, partitionEpoch int32, code wire.ErrorCode))
}

// LeadershipWatcher is told which partitions of a topic this broker leads, after a delta was applied, in the order of the deltas.
// Its methods must not block.
type LeadershipWatcher interface {
	// Elected says that this broker leads in the given epoch; it is told again for each new epoch.
	Elected(tp id.TopicPartition, epoch id.LeaderEpoch)
	// Resigned says that this broker does not lead any more; epoch is that of the change, NoLeaderEpoch when the topic is gone.
	Resigned(tp id.TopicPartition, epoch id.LeaderEpoch)
}

// Options make a Manager.
type Options struct {
	Self    id.BrokerID
	Logs    *log.Manager
	Configs ConfigSource
	Logger  *slog.Logger
	Now     func() time.Time // time.Now when nil
	LagMax  time.Duration    // replica.lag.time.max.ms
	Changes ISRChanges       // nil on a node that never has followers
	// Directories is told of replicas that move between log directories. May be nil: then nobody but this broker needs to know.
	Directories Directories
	// InternalTopics names the topics that ordinary clients may not write to. Nil means Kafka's three.
	InternalTopics []string
	// Fault hears that a goroutine of the manager has panicked: the node should end. May be nil.
	Fault func(error)
	// Recovered is called, with no lock held, whenever logs were recovered and their replicas are there. May be nil.
	Recovered func()
}

// Manager holds the partitions of one broker. See the package comment for its concurrency.
type Manager struct {
	self     id.BrokerID
	logs     *log.Manager
	configs  ConfigSource
	logger   *slog.Logger
	now      func() time.Time
	lagMaxMs int64
	changes  ISRChanges
	internal []string
	fault    func(error)
	adopted  func()

	topics    *topicTable
	image     atomic.Pointer[image.Image]
	unopened  atomic.Pointer[map[id.TopicPartition]struct{}] // replicas whose log could not be made; copied on write
	held      atomic.Int64                                   // by how many records high watermarks are held back; 0 for not at all
	closed    atomic.Bool
	deadlines *deadlines
	flusher   flusher
	metrics   Metrics

	apply     sync.Mutex // serialises ApplyDelta, ReloadConfigs and watcher registration
	watchers  map[string]LeadershipWatcher
	logsKnown bool // the logs on disk were compared with the metadata; guarded by apply

	recovering    map[id.TopicPartition]id.UUID // replicas of a topic whose logs are not there yet; guarded by apply
	recovered     sync.Mutex                    // guards recoveredLogs
	recoveredLogs []id.TopicPartition           // logs that came to be there since adoptRecovered last looked
	adoptable     chan struct{}                 // signals that there are some

	directories Directories
	moving      sync.Mutex // guards moves; taken before a partition's
	moves       []*move
	movable     chan struct{}                // signals that there is a new one, or that the image has changed
	unfinished  map[id.TopicPartition]string // moves that a stop interrupted, with where they led to; guarded by apply

	stop    chan struct{}
	stopped sync.WaitGroup
}

// internalTopics are the topics of Kafka's coordinators.
var internalTopics = []string{"__consumer_offsets", "__transaction_state", "__share_group_state"}

// New returns a Manager without partitions. It starts the goroutines that end waits, watch for followers that lag, adopt recovered
// logs and move replicas between log directories.
func New(o Options) *Manager {
	m := &Manager{
		self: o.Self, logs: o.Logs, configs: o.Configs, logger: o.Logger, now: o.Now, lagMaxMs: o.LagMax.Milliseconds(),
		changes: o.Changes, internal: o.InternalTopics, topics: newTopicTable(), watchers: map[string]LeadershipWatcher{},
		stop: make(chan struct{}), recovering: map[id.TopicPartition]id.UUID{}, adoptable: make(chan struct{}, 1),
		directories: o.Directories, movable: make(chan struct{}, 1),
	}
	if m.now == nil {
		m.now = time.Now
	}
	if m.logger == nil {
		m.logger = slog.New(slog.DiscardHandler)
	}
	if m.internal == nil {
		m.internal = internalTopics
	}
	m.image.Store(image.Empty())
	m.adopted = o.Recovered
	if m.adopted == nil {
		m.adopted = func() {}
	}
	m.fault = o.Fault
	if m.fault == nil {
		m.fault = func(error) {}
	}
	m.flusher.logger, m.flusher.fault = m.logger, m.fault
	m.deadlines = newDeadlines(m.now, m.logger, m.fault)
	m.stopped.Add(3)
	go m.tend(o.LagMax)
	go m.adoptRecovered()
	go m.moveReplicas()
	return m
}

// Close ends every wait and stops the goroutines. Requests that come later are refused. The logs stay open; their owner closes
// them after this.
func (m *Manager) Close() {
	if !m.closed.CompareAndSwap(false, true) {
		return
	}
	close(m.stop)
	m.deadlines.close()
	m.stopped.Wait()
	m.flusher.close()
}

// Self is the broker whose partitions these are.
func (m *Manager) Self() id.BrokerID { return m.self }

// Metrics returns the counters.
func (m *Manager) Metrics() *Metrics { return &m.metrics }

// Image returns the metadata image that was applied last.
func (m *Manager) Image() *image.Image { return m.image.Load() }

// Hold stops every high watermark where it is: appends succeed, and nothing becomes visible or is acknowledged to acks=all.
func (m *Manager) Hold() { m.HoldBack(math.MaxInt32) }

// HoldBack keeps every high watermark at least this many records behind the log end, like a follower that is late; none moves
// back for it. With 0 it is Release.
func (m *Manager) HoldBack(records int) {
	m.held.Store(int64(records))
	m.eachPartition(func(p *Partition) {
		p.mu.Lock() // who advances by what was said before is through
		p.mu.Unlock()
		p.reconsider()
	})
}

// Release lets the high watermarks go to where the rule puts them and wakes who waited.
func (m *Manager) Release() { m.HoldBack(0) }

// Eligible implements partition.Brokers over the current image.
func (m *Manager) Eligible(b id.BrokerID) (id.BrokerEpoch, bool) {
	broker := m.image.Load().Cluster.Broker(b)
	if broker == nil || !broker.Active() {
		return id.NoBrokerEpoch, false
	}
	return broker.Epoch, true
}

// Partition returns a partition hosted here. The error is UNKNOWN_TOPIC_OR_PARTITION for one that does not exist,
// NOT_LEADER_OR_FOLLOWER for one that lives elsewhere, KAFKA_STORAGE_ERROR for one in a failed directory.
func (m *Manager) Partition(topic string, n int32) (*Partition, error) {
	if t := m.topics.named(topic); t != nil {
		if p := t.partition(n); p != nil {
			return p, nil
		}
	}
	return nil, m.missing(topic, n)
}

func (m *Manager) missing(topic string, n int32) error {
	if bad := m.unopened.Load(); bad != nil {
		if _, ok := (*bad)[id.TopicPartition{Topic: topic, Partition: n}]; ok {
			return wire.ErrKafkaStorageError
		}
	}
	if m.image.Load().Topics.Partition(topic, n) != nil {
		tp := id.TopicPartition{Topic: topic, Partition: n}
		if m.logs.Recovering(tp) && m.logs.RecoveryFailed(tp) { // it is next, unless its directory failed
			return wire.ErrKafkaStorageError
		}
		return wire.ErrNotLeaderOrFollower
	}
	return wire.ErrUnknownTopicOrPartition
}

// lookup is Partition with the topic id that a client gave; the zero id is not checked.
func (m *Manager) lookup(topic string, topicID id.UUID, n int32) (*Partition, error) {
	p, err := m.Partition(topic, n)
	if err != nil {
		return nil, err
	}
	if !topicID.IsZero() && topicID != p.topic.id {
		return nil, wire.ErrUnknownTopicID
	}
	return p, nil
}

func (m *Manager) eachPartition(f func(*Partition)) {
	m.topics.each(func(t *topic) {
		for _, p := range t.hosted() {
			if p != nil {
				f(p)
			}
		}
	})
}

func (m *Manager) isInternal(topic string) bool { return slices.Contains(m.internal, topic) }

// CheckDirectories takes the partitions of failed log directories out of service and tells who waits on them. The owner of the log
// manager's failure signal calls it; a partition that meets the failure itself does not wait for that.
func (m *Manager) CheckDirectories() { m.eachPartition((*Partition).checkDirectory) }

// tend looks for lagging followers twice per lag.max, as Kafka does.
func (m *Manager) tend(lagMax time.Duration) {
	defer m.stopped.Done()
	defer fault(m.logger, "the watch over followers", m.fault)
	every := lagMax / 2
	if every <= 0 {
		every = time.Hour
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-tick.C:
			m.eachPartition((*Partition).shrinkISR)
		}
	}
}

// ErrorCode returns the code that an error of this package carries, or UNKNOWN_SERVER_ERROR.
func ErrorCode(err error) wire.ErrorCode { return log.ErrorCode(err) }

// Exists reports whether a partition exists, here or elsewhere.
func (m *Manager) Exists(topic string, n int32) bool {
	if t := m.topics.named(topic); t != nil && t.partition(n) != nil {
		return true
	}
	return m.image.Load().Topics.Partition(topic, n) != nil
}

// TopicName returns the name of the topic with an id.
func (m *Manager) TopicName(u id.UUID) (string, bool) {
	if t := m.topics.withID(u); t != nil {
		return t.name, true
	}
	if t := m.image.Load().Topics.ByID(u); t != nil {
		return t.Name, true
	}
	return "", false
}

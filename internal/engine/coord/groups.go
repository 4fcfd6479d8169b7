package coord

import (
	crand "crypto/rand"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/metric"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/record"
)

// Groups is the runtime of the group coordinator.
type Groups = Runtime[*group.Shard]

// OffsetsTopic is the topic of the group coordinator.
const OffsetsTopic = "__consumer_offsets"

// GroupMeters count what the group coordinator does; they outlive its partitions.
type GroupMeters [group.Figures]metric.Meter

// NewGroups returns the group coordinator of a broker, which follows the leadership of __consumer_offsets by itself. It counts with
// meters, if they are not nil.
func NewGroups(c *conf.Broker, m *replica.Manager, logger *slog.Logger, meters *GroupMeters) *Groups {
	o := GroupOptions(c)
	if meters != nil {
		cfg := GroupConfig(c)
		cfg.Count = func(what group.Figure, n int) { meters[what].Mark(time.Now(), int64(n)) }
		o.New = newGroup(cfg)
	}
	l := ReplicaLog{Manager: m, Topic: OffsetsTopic}
	empty := o.New
	o.New = func(partition int32) *group.Shard {
		s := empty(partition)
		s.Observe(m.Image())
		return s
	}
	o.Log, o.MaxBatchBytes, o.Fault, o.Logger = l, l.MaxBatchBytes, m.Fault, logger
	r := New(o)
	KeepGroupBuffers(r, c)
	m.WatchLeadership(OffsetsTopic, Leadership[*group.Shard]{r})
	return r
}

// GroupOptions takes what the group coordinator needs from a broker's configuration; Log and Logger stay open. Each shard gets
// randomness of its own, since member ids must not be guessed.
func GroupOptions(c *conf.Broker) Options[*group.Shard] {
	cfg := GroupConfig(c)
	return Options[*group.Shard]{
		New:             newGroup(cfg),
		Linger:          time.Duration(c.Int("group.coordinator.append.linger.ms")) * time.Millisecond,
		WriteTimeout:    c.Millis("offsets.commit.timeout.ms"),
		LoadBufferBytes: int(c.Int("offsets.load.buffer.size")),
		Compression:     record.Compression{Codec: record.Codec(c.Int("offsets.topic.compression.codec"))},
	}
}

// KeepGroupBuffers takes the bound on buffers from a broker's configuration, which may have changed.
func KeepGroupBuffers(r *Groups, c *conf.Broker) {
	r.KeepBuffers(int(c.Int("group.coordinator.cached.buffer.max.bytes")))
}

func newGroup(cfg group.Config) func(int32) *group.Shard {
	return func(int32) *group.Shard {
		var seed [32]byte
		_, _ = crand.Read(seed[:]) // never fails
		return group.New(cfg, rand.New(rand.NewChaCha8(seed)))
	}
}

// leastInitialDelay is what a new group waits for more members even if group.initial.rebalance.delay.ms is 0. In Apache Kafka the
// end of a delay of 0 takes its turn behind the requests that are there already; here they may all be on their way in yet.
const leastInitialDelay = time.Millisecond

// GroupConfig takes what the core needs from a broker's configuration.
func GroupConfig(c *conf.Broker) group.Config {
	cfg := group.DefaultConfig()
	cfg.InitialRebalanceDelay = max(c.Millis("group.initial.rebalance.delay.ms"), leastInitialDelay)
	cfg.MinSessionTimeout = c.Millis("group.min.session.timeout.ms")
	cfg.MaxSessionTimeout = c.Millis("group.max.session.timeout.ms")
	cfg.MaxSize = int(c.Int("group.max.size"))
	cfg.OffsetMetadataMaxSize = int(c.Int("offset.metadata.max.bytes"))
	cfg.OffsetsRetention = c.Span("offsets.retention.minutes", time.Minute)
	cfg.RetentionCheckInterval = c.Millis("offsets.retention.check.interval.ms")
	bounds := func(key string) group.Bounds {
		return group.Bounds{Min: c.Millis("group.consumer.min." + key), Max: c.Millis("group.consumer.max." + key)}
	}
	cfg.Consumer = group.ConsumerConfig{
		SessionTimeout:       c.Millis("group.consumer.session.timeout.ms"),
		HeartbeatInterval:    c.Millis("group.consumer.heartbeat.interval.ms"),
		AssignmentInterval:   c.Millis("group.consumer.assignment.interval.ms"),
		Sessions:             bounds("session.timeout.ms"),
		Heartbeats:           bounds("heartbeat.interval.ms"),
		Assignments:          bounds("assignment.interval.ms"),
		RegexRefreshInterval: c.Millis("group.consumer.regex.refresh.interval.ms"),
		MaxSize:              int(c.Int("group.consumer.max.size")),
		Broker:               strconv.Itoa(int(c.Int("node.id"))),
	}
	for _, given := range c.List("group.consumer.assignors") {
		cfg.Consumer.Assignors = append(cfg.Consumer.Assignors, conf.ConsumerAssignor(given))
	}
	switch strings.ToUpper(c.Text("group.consumer.migration.policy")) {
	case "UPGRADE":
		cfg.Consumer.Upgrade = true
	case "DOWNGRADE":
		cfg.Consumer.Downgrade = true
	case "BIDIRECTIONAL":
		cfg.Consumer.Upgrade, cfg.Consumer.Downgrade = true, true
	}
	return cfg
}

// ForgetTopics removes the offsets of topics that are gone, in all partitions led here. Call it for each published delta.
func ForgetTopics(r *Groups, deleted []*image.Topic) {
	if len(deleted) == 0 {
		return
	}
	topics := make([]group.DeletedTopic, len(deleted))
	for i, t := range deleted {
		topics[i] = group.DeletedTopic{Name: t.Name, ID: t.ID}
	}
	r.DoAll(func(s *group.Shard, now time.Time) shard.Result { return s.TopicsDeleted(now, topics) })
}

package handler

import (
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// maxCreating bounds the topics being created on demand; beyond it the client's next attempt creates them.
const maxCreating = 10_000

// TopicCreation creates topics that somebody asked for and that do not exist: those of clients (auto.create.topics.enable), and
// the broker's internal ones. It remembers which creations are under way, so that a storm of requests for one topic becomes one
// request to the controller.
type TopicCreation struct {
	line   ControllerLine
	config func() *conf.Broker
	logger *slog.Logger

	mu       sync.Mutex
	underWay map[string]struct{} // guarded by mu
}

// NewTopicCreation returns a TopicCreation over the line to the controller.
func NewTopicCreation(line ControllerLine, config func() *conf.Broker, logger *slog.Logger) *TopicCreation {
	return &TopicCreation{line: line, config: config, logger: logger, underWay: map[string]struct{}{}}
}

// CreateInternalTopic creates one of the coordinators' topics in the broker's own name. It returns at once.
func (c *TopicCreation) CreateInternalTopic(name string) {
	if !c.begin(name) {
		return
	}
	req := c.request([]string{name})
	c.line.Start(req, 7, time.Time{}, func(m wire.Message, err error) { c.ended([]string{name}, m, err) })
}

// createFor creates topics in the name of the client that asked. The answers' errors are those of Metadata: the topics do not
// exist yet, and the client asks again.
func (c *TopicCreation) createFor(r *server.Request, names []string) map[string]wire.ErrorCode {
	codes := make(map[string]wire.ErrorCode, len(names))
	var create []string
	for _, name := range names {
		switch {
		case controller.ValidateTopicName(name) != "":
			codes[name] = wire.ErrInvalidTopicException
		default:
			codes[name] = wire.ErrUnknownTopicOrPartition
			if c.begin(name) {
				create = append(create, name)
			}
		}
	}
	if len(create) == 0 {
		return codes
	}
	env := &server.Request{Header: r.Header, Conn: r.Conn, Body: wire.Marshal(c.request(create), 7)}
	env.Header.RequestApiKey, env.Header.RequestApiVersion = int16(wire.CreateTopics), 7
	c.line.Forward(env, func(m wire.Message, err error) { c.ended(create, m, err) })
	return codes
}

func (c *TopicCreation) begin(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.underWay[name]; ok || len(c.underWay) >= maxCreating {
		return false
	}
	c.underWay[name] = struct{}{}
	return true
}

func (c *TopicCreation) ended(names []string, m wire.Message, err error) {
	c.mu.Lock()
	for _, name := range names {
		delete(c.underWay, name)
	}
	c.mu.Unlock()
	if err != nil {
		c.logger.Warn("topics could not be created on demand", "topics", names, "err", err)
		return
	}
	answer, ok := m.(*api.CreateTopicsResponse)
	if !ok {
		return
	}
	for _, t := range answer.Topics {
		if t.ErrorCode != wire.ErrNone && t.ErrorCode != wire.ErrTopicAlreadyExists {
			why := ""
			if t.ErrorMessage != nil {
				why = *t.ErrorMessage
			}
			c.logger.Warn("topic could not be created on demand", "topic", t.Name, "code", t.ErrorCode.Name(), "err", why)
		}
	}
}

func (c *TopicCreation) request(names []string) *api.CreateTopicsRequest {
	b := c.config()
	req := api.NewCreateTopicsRequest()
	req.TimeoutMs = b.Int("request.timeout.ms")
	for _, name := range names {
		req.Topics = append(req.Topics, creatable(b, name))
	}
	return req
}

// creatable says how a topic is made that nobody described: internal ones as their coordinators need them, others by the
// broker's defaults, or by the controller's where the broker has none of its own.
func creatable(b *conf.Broker, name string) api.CreateTopicsRequestTopic {
	t := api.CreateTopicsRequestTopic{}
	t.Name, t.NumPartitions, t.ReplicationFactor = name, -1, -1
	set := func(key, value string) {
		t.Configs = append(t.Configs, api.CreateTopicsRequestTopicConfig{Name: key, Value: &value})
	}
	switch name {
	case offsetsTopic:
		t.NumPartitions, t.ReplicationFactor = b.Int("offsets.topic.num.partitions"), int16(b.Int("offsets.topic.replication.factor"))
		set("cleanup.policy", "compact")
		set("compression.type", "producer")
		set("segment.bytes", decimal(b.Int("offsets.topic.segment.bytes")))
	case transactionTopic:
		t.NumPartitions = b.Int("transaction.state.log.num.partitions")
		t.ReplicationFactor = int16(b.Int("transaction.state.log.replication.factor"))
		set("cleanup.policy", "compact")
		set("compression.type", "uncompressed")
		set("unclean.leader.election.enable", "false")
		set("min.insync.replicas", decimal(b.Int("transaction.state.log.min.isr")))
		set("segment.bytes", decimal(b.Int("transaction.state.log.segment.bytes")))
	case shareStateTopic:
		t.NumPartitions = b.Int("share.coordinator.state.topic.num.partitions")
		t.ReplicationFactor = int16(b.Int("share.coordinator.state.topic.replication.factor"))
		set("cleanup.policy", "delete")
		set("compression.type", "producer")
		set("segment.bytes", decimal(b.Int("share.coordinator.state.topic.segment.bytes")))
		set("min.insync.replicas", decimal(b.Int("share.coordinator.state.topic.min.isr")))
		set("retention.ms", "-1")
	default:
		if b.IsSet("num.partitions") {
			t.NumPartitions = b.Int("num.partitions")
		}
		if b.IsSet("default.replication.factor") {
			t.ReplicationFactor = int16(b.Int("default.replication.factor"))
		}
	}
	return t
}

func decimal(n int32) string { return strconv.Itoa(int(n)) }

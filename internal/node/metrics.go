package node

import (
	"strconv"
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/metric"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/wire"
)

// maxAPIKey bounds the API keys that have request metrics of their own.
const maxAPIKey = 127

// requestMetrics are Kafka's RequestMetrics: how many requests there were, and where their time went.
type requestMetrics struct {
	byKey [maxAPIKey + 1]atomic.Pointer[apiMetrics]
}

type apiMetrics struct {
	requests                           atomic.Int64
	total, queue, local, send, request metric.Histogram // microseconds; request: bytes
}

func newRequestMetrics() *requestMetrics { return &requestMetrics{} }

func (m *requestMetrics) observe(o server.Observation) {
	if o.Key < 0 || o.Key > maxAPIKey {
		return
	}
	a := m.byKey[o.Key].Load()
	if a == nil {
		a = new(apiMetrics)
		if !m.byKey[o.Key].CompareAndSwap(nil, a) {
			a = m.byKey[o.Key].Load()
		}
	}
	a.requests.Add(1)
	a.request.Observe(int64(o.RequestBytes))
	a.total.Observe(o.SentAt.Sub(o.ReceivedAt).Microseconds())
	a.queue.Observe(o.StartedAt.Sub(o.ReceivedAt).Microseconds())
	a.local.Observe(o.AnsweredAt.Sub(o.StartedAt).Microseconds())
	a.send.Observe(o.SentAt.Sub(o.AnsweredAt).Microseconds())
}

func (m *requestMetrics) source(emit metric.Emit, summary metric.EmitSummary) {
	const toMs = 1e-3
	for key := range m.byKey {
		a := m.byKey[key].Load()
		if a == nil {
			continue
		}
		name := wire.APIKey(key).String()
		emit(metric.Name("network", "RequestMetrics", "RequestsPerSec"), metric.Counter, float64(a.requests.Load()), "request", name)
		summary(metric.Name("network", "RequestMetrics", "TotalTimeMs"), &a.total, toMs, "request", name)
		summary(metric.Name("network", "RequestMetrics", "RequestQueueTimeMs"), &a.queue, toMs, "request", name)
		summary(metric.Name("network", "RequestMetrics", "LocalTimeMs"), &a.local, toMs, "request", name)
		summary(metric.Name("network", "RequestMetrics", "ResponseSendTimeMs"), &a.send, toMs, "request", name)
		summary(metric.Name("network", "RequestMetrics", "RequestBytes"), &a.request, 1, "request", name)
	}
}

func (n *Node) addMetrics() {
	n.metrics.Add(n.requests.source)
	n.metrics.Add(n.replicaMetrics)
	n.metrics.Add(n.serverMetrics)
	n.metrics.Add(n.controllerMetrics)
}

func (n *Node) replicaMetrics(emit metric.Emit, _ metric.EmitSummary) {
	topic := func(t *replica.TopicMetrics, labels ...string) {
		for _, x := range []struct {
			name  string
			value *atomic.Int64
		}{{"MessagesInPerSec", &t.MessagesIn}, {"BytesInPerSec", &t.BytesIn}, {"BytesOutPerSec", &t.BytesOut},
			{"BytesRejectedPerSec", &t.BytesRejected}, {"TotalProduceRequestsPerSec", &t.TotalProduceRequests},
			{"FailedProduceRequestsPerSec", &t.FailedProduceRequests}, {"TotalFetchRequestsPerSec", &t.TotalFetchRequests},
			{"FailedFetchRequestsPerSec", &t.FailedFetchRequests}} {
			emit(metric.Name("server", "BrokerTopicMetrics", x.name), metric.Counter, float64(x.value.Load()), labels...)
		}
	}
	topic(&n.replicas.Metrics().All)
	n.replicas.EachTopic(func(name string, t *replica.TopicMetrics) { topic(t, "topic", name) })
	g := n.replicas.Gauges()
	// UnderReplicatedPartitions and OfflineReplicaCount come with replication: a series is served once a test has seen it move.
	for name, value := range map[string]int{"PartitionCount": g.Partitions, "LeaderCount": g.Leaders, "UnderMinIsrPartitionCount": g.UnderMinISR,
		"AtMinIsrPartitionCount": g.AtMinISR, "ProducerIdCount": g.ProducerIDs} {
		emit(metric.Name("server", "ReplicaManager", name), metric.Gauge, float64(value))
	}
	purgatory := metric.Name("server", "DelayedOperationPurgatory", "PurgatorySize")
	emit(purgatory, metric.Gauge, float64(g.WaitingProduces), "delayedOperation", "Produce")
	emit(purgatory, metric.Gauge, float64(g.WaitingFetches), "delayedOperation", "Fetch")
	for _, l := range n.logs.Logs() {
		tp := l.TopicPartition()
		labels := []string{"topic", tp.Topic, "partition", decimal(tp.Partition)}
		emit(metric.Name("log", "Log", "Size"), metric.Gauge, float64(l.SizeBytes()), labels...)
		emit(metric.Name("log", "Log", "LogEndOffset"), metric.Gauge, float64(l.EndOffset()), labels...)
		emit(metric.Name("log", "Log", "LogStartOffset"), metric.Gauge, float64(l.StartOffset()), labels...)
		emit(metric.Name("log", "Log", "NumLogSegments"), metric.Gauge, float64(l.Segments()), labels...)
	}
}

func (n *Node) serverMetrics(emit metric.Emit, _ metric.EmitSummary) {
	s := n.srv.Stats()
	emit(metric.Name("server", "socket-server-metrics", "connection-count"), metric.Gauge, float64(s.Connections))
	emit(metric.Name("server", "socket-server-metrics", "connection-creation-total"), metric.Counter, float64(s.Accepted))
	emit("moldau_server_malformed_total", metric.Counter, float64(s.Malformed))
	emit("moldau_server_idle_closed_total", metric.Counter, float64(s.Idle))
	emit("moldau_server_refused_total", metric.Counter, float64(s.Refused))
	emit("moldau_server_shed_total", metric.Counter, float64(s.Shed))
	emit("moldau_server_panics_total", metric.Counter, float64(s.Panics))
	emit("moldau_server_request_memory_bytes", metric.Gauge, float64(n.memory.InUse()))
}

func (n *Node) controllerMetrics(emit metric.Emit, _ metric.EmitSummary) {
	st, img := n.quorum.Status(), n.quorum.Image()
	active, partitions := 0, 0
	for _, b := range img.Cluster.BrokerIDs() {
		if !img.Cluster.Broker(b).Fenced {
			active++
		}
	}
	for t := range img.Topics.All() {
		partitions += len(t.Partitions)
	}
	leads := 0
	if st.ActiveBroker {
		leads = 1
	}
	for name, value := range map[string]int{"ActiveControllerCount": leads, "ActiveBrokerCount": active,
		"GlobalTopicCount": img.Topics.Len(), "GlobalPartitionCount": partitions} {
		emit(metric.Name("controller", "KafkaController", name), metric.Gauge, float64(value))
	}
	raft := func(name string, value float64) {
		emit(metric.Name("server", "raft-metrics", name), metric.Gauge, value)
	}
	raft("current-leader", float64(st.Leader.ID))
	raft("current-epoch", float64(st.Leader.Epoch))
	raft("high-watermark", float64(st.HighWatermark))
	raft("log-end-offset", float64(st.LogEndOffset))
	raft("number-of-voters", float64(len(st.Voters)))
}

func decimal(n int32) string { return strconv.Itoa(int(n)) }

package node

import (
	"strconv"
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/metric"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/wire"
)

// Request metrics are kept by API key, up to maxAPIKey, and for fetches once more by who asked.
const (
	maxAPIKey     = 127
	fetchConsumer = maxAPIKey + 1
	fetchFollower = maxAPIKey + 2
	requestKinds  = maxAPIKey + 3
	// maxVersion bounds the API versions that are counted apart; later ones count as this one.
	maxVersion = 31
)

// requestMetrics are Kafka's RequestMetrics: how many requests there were, and where their time went.
type requestMetrics struct {
	kinds [requestKinds]atomic.Pointer[apiMetrics]
}

type apiMetrics struct {
	requests                           [maxVersion + 1]atomic.Int64 // by version
	total, queue, local, send, request metric.Histogram             // microseconds; request: bytes
}

func newRequestMetrics() *requestMetrics { return &requestMetrics{} }

func (m *requestMetrics) observe(o server.Observation) {
	if o.Key < 0 || o.Key > maxAPIKey {
		return
	}
	m.count(int(o.Key), o)
	if o.Key == wire.Fetch {
		kind := fetchConsumer
		if o.FromFollower {
			kind = fetchFollower
		}
		m.count(kind, o)
	}
}

func (m *requestMetrics) count(kind int, o server.Observation) {
	a := m.kinds[kind].Load()
	if a == nil {
		a = new(apiMetrics)
		if !m.kinds[kind].CompareAndSwap(nil, a) {
			a = m.kinds[kind].Load()
		}
	}
	a.requests[min(max(o.Version, 0), maxVersion)].Add(1)
	a.request.Observe(int64(o.RequestBytes))
	a.total.Observe(o.SentAt.Sub(o.ReceivedAt).Microseconds())
	a.queue.Observe(o.StartedAt.Sub(o.ReceivedAt).Microseconds())
	a.local.Observe(o.AnsweredAt.Sub(o.StartedAt).Microseconds())
	a.send.Observe(o.SentAt.Sub(o.AnsweredAt).Microseconds())
}

func kindName(kind int) string {
	switch kind {
	case fetchConsumer:
		return "FetchConsumer"
	case fetchFollower:
		return "FetchFollower"
	}
	return wire.APIKey(kind).String()
}

func (m *requestMetrics) source(emit metric.Emit, summary metric.EmitSummary) {
	const toMs = 1e-3
	for kind := range m.kinds {
		a := m.kinds[kind].Load()
		if a == nil {
			continue
		}
		name := kindName(kind)
		for version := range a.requests {
			if n := a.requests[version].Load(); n > 0 {
				emit(metric.Name("network", "RequestMetrics", "RequestsPerSec"), metric.Counter, float64(n), "request", name, "version", strconv.Itoa(version))
			}
		}
		for _, x := range []struct {
			name  string
			h     *metric.Histogram
			scale float64
		}{{"TotalTimeMs", &a.total, toMs}, {"RequestQueueTimeMs", &a.queue, toMs}, {"LocalTimeMs", &a.local, toMs},
			{"ResponseSendTimeMs", &a.send, toMs}, {"RequestBytes", &a.request, 1}} {
			summary(metric.Name("network", "RequestMetrics", x.name), x.h, x.scale, "request", name)
		}
	}
}

func (n *Node) addMetrics() {
	n.metrics.Add(n.requests.source)
	n.metrics.Add(n.replicaMetrics)
	n.metrics.Add(n.logMetrics)
	n.metrics.Add(n.directoryMetrics)
	n.metrics.Add(n.cleanerMetrics)
	n.metrics.Add(n.serverMetrics)
	n.metrics.Add(n.groupMetrics)
	n.metrics.Add(n.txnMetrics)
	n.metrics.Add(n.controllerMetrics)
}

func (n *Node) replicaMetrics(emit metric.Emit, _ metric.EmitSummary) {
	topic := func(t *replica.TopicMetrics, labels ...string) {
		for _, x := range []struct {
			name  string
			value *atomic.Int64
		}{{"MessagesInPerSec", &t.MessagesIn}, {"BytesInPerSec", &t.BytesIn}, {"BytesOutPerSec", &t.BytesOut},
			{"BytesRejectedPerSec", &t.BytesRejected}, {"TotalProduceRequestsPerSec", &t.TotalProduceRequests},
			{"FailedProduceRequestsPerSec", &t.FailedProduceRequests}, {"TotalFetchRequestsPerSec", &t.TotalFetchRequests}} {
			emit(metric.Name("server", "BrokerTopicMetrics", x.name), metric.Counter, float64(x.value.Load()), labels...)
		}
	}
	topic(&n.replicas.Metrics().All)
	n.replicas.EachTopic(func(name string, t *replica.TopicMetrics) { topic(t, "topic", name) })
	g := n.replicas.Gauges()
	// UnderReplicatedPartitions, UnderMinIsrPartitionCount and OfflineReplicaCount come with replication: a series is served once a
	// test has seen it move.
	for name, value := range map[string]int{"PartitionCount": g.Partitions, "LeaderCount": g.Leaders,
		"AtMinIsrPartitionCount": g.AtMinISR, "ProducerIdCount": g.ProducerIDs, "PartitionsWithLateTransactionsCount": g.LateTransactions} {
		emit(metric.Name("server", "ReplicaManager", name), metric.Gauge, float64(value))
	}
	purgatory := metric.Name("server", "DelayedOperationPurgatory", "PurgatorySize")
	emit(purgatory, metric.Gauge, float64(g.WaitingProduces), "delayedOperation", "Produce")
	emit(purgatory, metric.Gauge, float64(g.WaitingFetches), "delayedOperation", "Fetch")
}

func (n *Node) serverMetrics(emit metric.Emit, _ metric.EmitSummary) {
	doorMetrics(emit, n.srv.Stats(), n.memory.InUse())
}

func doorMetrics(emit metric.Emit, s server.Stats, requestMemory int64) {
	emit(metric.Name("server", "socket-server-metrics", "connection-count"), metric.Gauge, float64(s.Connections))
	emit(metric.Name("server", "socket-server-metrics", "connection-creation-total"), metric.Counter, float64(s.Accepted))
	emit("moldau_server_malformed_total", metric.Counter, float64(s.Malformed))
	emit("moldau_server_idle_closed_total", metric.Counter, float64(s.Idle))
	emit("moldau_server_refused_total", metric.Counter, float64(s.Refused))
	emit("moldau_server_shed_total", metric.Counter, float64(s.Shed))
	emit("moldau_server_panics_total", metric.Counter, float64(s.Panics))
	emit("moldau_server_request_memory_bytes", metric.Gauge, float64(requestMemory))
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

package node

import (
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/base/metric"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
)

const (
	groupMetricsGroup = "group-coordinator-metrics"
	txnMetricsGroup   = "transaction-coordinator-metrics"
)

// classicStates and consumerStates are those that a group can be seen in: a dead one is gone.
var (
	classicStates  = [...]string{"PreparingRebalance", "CompletingRebalance", "Stable", "Empty"}
	consumerStates = [...]string{"Empty", "Assigning", "Reconciling", "Stable"}
)

// groupMetrics are Kafka's GroupCoordinatorMetrics and, for releases of dashboards before 4.4, GroupMetadataManager, but for groups
// that are not served here. What Kafka computes with a thread of its own in the background is part of a decision here, and has no
// figures.
func (n *Node) groupMetrics(emit metric.Emit, _ metric.EmitSummary) {
	now := time.Now()
	name := func(name string) string { return metric.Name("server", groupMetricsGroup, name) }
	for what, text := range [group.Figures]string{group.CommittedOffsets: "offset-commit", group.ExpiredOffsets: "offset-expiration",
		group.DeletedOffsets: "offset-deletion", group.CompletedRebalances: "group-completed-rebalance", group.ConsumerRebalances: "consumer-group-rebalance"} {
		m := &n.groupMeters[what]
		emit(name(text+"-count"), metric.Counter, float64(m.Total()))
		emit(name(text+"-rate"), metric.Gauge, m.Rate(now))
	}
	runtimeMetrics(emit, groupMetricsGroup, n.groups.Metrics(), n.groups.Gauges(), now)
	c, ok := n.groupCounts.get(func() (group.Counts, bool) {
		c := group.Counts{Groups: map[[2]string]int{}}
		code := n.groups.ReadAll(func(s *group.Shard) { s.Add(&c) })
		return c, code == wire.ErrNone
	})
	if !ok {
		return // groups still load: no figure is better than a wrong one
	}
	old := func(name string, value int) {
		emit(metric.Name("coordinator_group", "GroupMetadataManager", name), metric.Gauge, float64(value))
	}
	emit(name("offset-count"), metric.Gauge, float64(c.Offsets))
	old("NumOffsets", c.Offsets)
	all := map[string]int{}
	for key, count := range c.Groups {
		all[key[0]] += count
	}
	for _, protocol := range []string{"classic", "consumer"} {
		emit(name("group-count"), metric.Gauge, float64(all[protocol]), "protocol", protocol)
	}
	old("NumGroups", all["classic"])
	for _, state := range classicStates {
		count := c.Groups[[2]string{"classic", state}]
		emit(name("classic-group-count"), metric.Gauge, float64(count), "state", state)
		old("NumGroups"+state, count)
	}
	for _, state := range consumerStates {
		emit(name("consumer-group-count"), metric.Gauge, float64(c.Groups[[2]string{"consumer", state}]), "state", state)
	}
}

// runtimeMetrics are Kafka's CoordinatorRuntimeMetrics.
func runtimeMetrics(emit metric.Emit, of string, m *coord.Metrics, g coord.Gauges, now time.Time) {
	gauge := func(name string, value float64, labels ...string) {
		emit(metric.Name("server", of, name), metric.Gauge, value, labels...)
	}
	gauge("num-partitions", float64(g.Loading), "state", "loading")
	gauge("num-partitions", float64(g.Active), "state", "active")
	gauge("num-partitions", float64(g.Failed), "state", "failed")
	loadMetrics(emit, of, &m.LoadTime, now)
	for _, x := range []struct {
		name string
		r    *metric.Recent
	}{{"event-queue-time-ms", &m.QueueTime}, {"event-processing-time-ms", &m.ProcessingTime}, {"event-purgatory-time-ms", &m.PurgatoryTime},
		{"batch-linger-time-ms", &m.LingerTime}, {"batch-flush-time-ms", &m.FlushTime}} {
		f := x.r.Read(now)
		for _, v := range []struct {
			suffix string
			ns     int64
		}{{"max", f.Max}, {"p50", f.P50}, {"p95", f.P95}, {"p99", f.P99}, {"p999", f.P999}} {
			gauge(x.name+"-"+v.suffix, float64(v.ns)/1e6)
		}
	}
	gauge("batch-flush-rate", m.Flushes.Rate(now))
	gauge("event-queue-size", float64(g.Queued))
	gauge("batch-buffer-cache-size-bytes", float64(g.BufferBytes))
	gauge("batch-buffer-cache-discard-count", float64(m.DroppedBuffers.Load()))
	// Kafka's threads of the coordinator are all processors here.
	gauge("thread-idle-ratio-avg", max(0, 1-m.Busy.Rate(now)/1e9/float64(runtime.GOMAXPROCS(0))))
}

// loadMetrics are NaN while nothing has been loaded of late, as in Kafka.
func loadMetrics(emit metric.Emit, of string, r *metric.Recent, now time.Time) {
	f := r.Read(now)
	most, mean := math.NaN(), math.NaN()
	if f.Count > 0 {
		most, mean = float64(f.Max)/1e6, float64(f.Sum)/1e6/float64(f.Count)
	}
	emit(metric.Name("server", of, "partition-load-time-max"), metric.Gauge, most)
	emit(metric.Name("server", of, "partition-load-time-avg"), metric.Gauge, mean)
}

// txnMetrics are Kafka's of TransactionStateManager, TransactionMarkerChannelManager and AddPartitionsToTxnManager.
func (n *Node) txnMetrics(emit metric.Emit, summary metric.EmitSummary) {
	gate := func(name string) string { return metric.Name("server", "AddPartitionsToTxnManager", name) }
	emit(gate("VerificationFailureRate")+"_count", metric.Counter, float64(n.gate.Failures.Total()))
	summary(gate("VerificationTimeMs"), &n.gate.Took, 1e-3)
	loadMetrics(emit, txnMetricsGroup, &n.txns.Metrics().LoadTime, time.Now())
	manager := func(name string, value int) {
		emit(metric.Name("coordinator_transaction", "TransactionMarkerChannelManager", name), metric.Gauge, float64(value))
	}
	manager("UnknownDestinationQueueSize", n.markers.Unled())
	unwritten, ok := n.unwritten.get(func() (int, bool) {
		count := 0
		code := n.txns.ReadAll(func(s *txn.Shard) { count += s.Unwritten() })
		return count, code == wire.ErrNone
	})
	if ok {
		manager("LogAppendRetryQueueSize", unwritten)
	}
}

// lookPatience bounds how long a scrape waits for a coordinator that is busy writing.
const lookPatience = time.Second

// look reads something that may have to wait for a disk. One reading is under way at most, and who has no patience to wait for it
// gets what the last one saw.
type look[T any] struct {
	mu      sync.Mutex // guards the rest
	running chan struct{}
	last    T
	ok      bool
}

func (l *look[T]) get(read func() (T, bool)) (T, bool) {
	l.mu.Lock()
	over := l.running
	if over == nil {
		over = make(chan struct{})
		l.running = over
		go func() {
			v, ok := read()
			l.mu.Lock()
			l.last, l.ok, l.running = v, ok, nil
			l.mu.Unlock()
			close(over)
		}()
	}
	l.mu.Unlock()
	patience := time.NewTimer(lookPatience)
	defer patience.Stop()
	select {
	case <-over:
	case <-patience.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, l.ok
}

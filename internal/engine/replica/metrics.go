package replica

import "sync/atomic"

// TopicMetrics counts what clients did to a topic, or to all topics. The names are those of Kafka's BrokerTopicMetrics.
type TopicMetrics struct {
	MessagesIn, BytesIn, BytesOut, BytesRejected atomic.Int64
	ReplicationBytesOut                          atomic.Int64
	TotalProduceRequests, FailedProduceRequests  atomic.Int64 // per partition of a request, as Kafka counts
	TotalFetchRequests, FailedFetchRequests      atomic.Int64
}

// Metrics are the counters of a Manager. Gauges are computed by Gauges when somebody looks.
type Metrics struct {
	All TopicMetrics

	ISRShrinks, ISRExpands, FailedISRUpdates atomic.Int64
	ProduceExpired                           atomic.Int64 // waits of produce requests that timed out, per partition
	FetchExpired                             atomic.Int64 // fetches answered at their max wait
	FollowerFetchExpired                     atomic.Int64
}

// Gauges is the state of a Manager's partitions at one moment.
type Gauges struct {
	Partitions, Leaders, Offline           int
	UnderReplicated, UnderMinISR, AtMinISR int
	ProducerIDs                            int
	LateTransactions                       int // leaders whose log has one
	WaitingProduces, WaitingFetches        int // entries in the waiting rooms, one per request and partition
}

// Gauges walks the partitions.
func (m *Manager) Gauges() Gauges {
	var g Gauges
	m.topics.each(func(t *topic) {
		for _, p := range t.hosted() {
			if p == nil {
				continue
			}
			g.Partitions++
			p.mu.RLock()
			if p.gone != 0 {
				g.Offline++
			}
			leader := p.state.IsLeader()
			if leader {
				g.Leaders++
				minISR := p.config.MinInSyncReplicas
				g.UnderReplicated += count(p.state.IsUnderReplicated())
				g.UnderMinISR += count(p.state.IsUnderMinISR(minISR))
				g.AtMinISR += count(p.state.IsAtMinISR(minISR))
			}
			p.mu.RUnlock()
			g.ProducerIDs += len(p.log().Producers())
			g.LateTransactions += count(leader && p.log().HasLateTransaction())
			g.WaitingProduces += int(p.room.produces.Load())
			g.WaitingFetches += int(p.room.fetches.Load())
		}
	})
	return g
}

// EachTopic calls f with the counters of every topic that has partitions here.
func (m *Manager) EachTopic(f func(topic string, metrics *TopicMetrics)) {
	m.topics.each(func(t *topic) { f(t.name, &t.metrics) })
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

package replica

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
)

// A replica whose log is being recovered is not in the table yet: whoever asks for it is told NOT_LEADER_OR_FOLLOWER and comes
// again, and its log is recovered next. It comes into being when the log is there, from the image that is in force then.

// logRecovered is told by the log manager, from several goroutines; it must not block.
func (m *Manager) logRecovered(tp id.TopicPartition) {
	m.recovered.Lock()
	m.recoveredLogs = append(m.recoveredLogs, tp)
	m.recovered.Unlock()
	select {
	case m.adoptable <- struct{}{}:
	default:
	}
}

// adoptRecovered is the goroutine that makes replicas of recovered logs, as many at a time as there are.
func (m *Manager) adoptRecovered() {
	defer m.stopped.Done()
	defer fault(m.logger, "the adoption of logs", m.fault)
	for {
		select {
		case <-m.stop:
			return
		case <-m.adoptable:
		}
		m.recovered.Lock()
		tps := m.recoveredLogs
		m.recoveredLogs = nil
		m.recovered.Unlock()
		m.adopt(tps)
		m.adopted()
	}
}

// RecoveringShared is how many replicas that are not the only ones of their partitions wait for the recovery of their logs. One whose
// directory has failed does not wait any more.
func (m *Manager) RecoveringShared() int {
	m.apply.Lock()
	defer m.apply.Unlock()
	img, n := m.image.Load(), 0
	for tp, topicID := range m.recovering {
		t := img.Topics.ByID(topicID)
		if t == nil {
			continue
		}
		if p := t.Partition(tp.Partition); p != nil && len(p.Replicas) > 1 && !m.logs.RecoveryFailed(tp) {
			n++
		}
	}
	return n
}

// isRecovering reports whether the replica's log is not there yet, and remembers it. apply must be held.
func (m *Manager) isRecovering(t id.UUID, tp id.TopicPartition) bool {
	if !m.logs.Recovering(tp) {
		return false
	}
	m.recovering[tp] = t
	return true
}

// recoveringOf takes out the partitions of a topic whose logs are not there yet. apply must be held.
func (m *Manager) recoveringOf(t *image.Topic) []id.TopicPartition {
	if len(m.recovering) == 0 {
		return nil
	}
	var tps []id.TopicPartition
	for _, p := range t.Partitions {
		tp := id.TopicPartition{Topic: t.Name, Partition: p.ID}
		if m.recovering[tp] == t.ID {
			delete(m.recovering, tp)
			tps = append(tps, tp)
		}
	}
	return tps
}

func (m *Manager) adopt(tps []id.TopicPartition) {
	m.apply.Lock()
	defer m.apply.Unlock()
	if m.closed.Load() {
		return
	}
	img := m.image.Load()
	var all []*newReplica
	for _, tp := range tps {
		topicID, waited := m.recovering[tp]
		delete(m.recovering, tp)
		it := img.Topics.ByName(tp.Topic)
		if !waited || it == nil || it.ID != topicID {
			continue
		}
		after := it.Partition(tp.Partition)
		t := m.topics.withID(it.ID)
		if after == nil || !after.HasReplica(m.self) || t.hosts(tp.Partition) {
			continue
		}
		if t == nil {
			// The others of the same topic have to find it; without partitions it shows nothing.
			t = &topic{name: it.Name, id: it.ID}
			m.topics.put(t)
		}
		all = append(all, &newReplica{t: t, after: after, config: m.configs.TopicConfig(img, it.Name)})
	}
	m.openEach(all)
	byTopic := map[*topic][]*newReplica{}
	var news []leadershipNews
	for _, r := range all {
		if r.err != nil {
			m.logger.Error("a recovered replica cannot be used", "partition", id.TopicPartition{Topic: r.t.name, Partition: r.after.ID}.String(), "err", r.err)
		}
		if r.p != nil {
			byTopic[r.t] = append(byTopic[r.t], r)
			news = append(news, r.news...)
		}
	}
	for t, rs := range byTopic {
		parts := slices.Clone(t.hosted())
		for _, r := range rs {
			parts = putPartition(parts, r.p)
		}
		t.parts.Store(&parts)
	}
	for _, r := range all {
		if r.p != nil {
			r.p.reconsider()
			r.p.settleAll()
		}
	}
	m.tell(news)
	m.resumeMoves()
}

func (t *topic) hosts(n int32) bool { return t != nil && t.partition(n) != nil }

func putPartition(parts []*Partition, p *Partition) []*Partition {
	for len(parts) <= int(p.tp.Partition) {
		parts = append(parts, nil)
	}
	parts[p.tp.Partition] = p
	return parts
}

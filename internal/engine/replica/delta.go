package replica

import (
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/partition"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/wire"
)

// ApplyDelta makes the partitions of this broker what the image after the delta says: logs are made for new ones, leadership is
// taken or given up, what is deleted or has moved away goes. It is called for every committed delta in order, by one goroutine.
// The error names everything that could not be done; the rest has been done, and partitions whose log failed answer
// KAFKA_STORAGE_ERROR.
//
// The first delta must hold everything that was committed before this broker started. It loads the logs, if their manager waits
// for that, and those that the image does not give to this broker are moved aside: topics that were deleted, deleted and made
// anew, or reassigned while it was away.
func (m *Manager) ApplyDelta(delta *image.Delta, img *image.Image) error {
	m.apply.Lock()
	defer m.apply.Unlock()
	m.image.Store(img)
	if m.closed.Load() {
		return nil
	}
	var errs []error
	var news []leadershipNews
	if !m.logsKnown {
		m.logsKnown = true
		errs = append(errs, m.loadLogs(img))
	}
	td := delta.Topics()
	errs = append(errs, m.dropTopics(td.Deleted(), &news))
	changed := td.Changed()
	opened := m.openAll(changed, img)
	var after afterwards
	for _, c := range changed {
		errs = append(errs, m.applyTopic(c, opened, &news, &after))
	}
	m.topics.put(after.made...)
	for _, p := range after.settle {
		p.reconsider()
		p.settleAll()
	}
	m.applyConfigs(delta, img)
	if len(delta.ChangedBrokers()) > 0 {
		// A broker that was fenced no longer holds back the low watermark, or is no longer waited for.
		m.eachPartition(func(p *Partition) {
			p.reconsider()
			p.wakeDeletes()
		})
	}
	m.tell(news)
	m.resumeMoves()
	m.wakeMoves() // one may wait for the controller
	return errors.Join(errs...)
}

// tell passes on what a delta meant for leaderships.
func (m *Manager) tell(news []leadershipNews) {
	for _, n := range news {
		if w := m.watchers[n.tp.Topic]; w != nil {
			if n.elected {
				w.Elected(n.tp, n.epoch)
			} else {
				w.Resigned(n.tp, n.epoch)
			}
		}
	}
}

// leadershipNews is what a LeadershipWatcher will be told once the whole delta is in force.
type leadershipNews struct {
	tp      id.TopicPartition
	epoch   id.LeaderEpoch
	elected bool
}

// ReloadConfigs resolves the configuration of every topic again, after the broker's own configuration has changed.
func (m *Manager) ReloadConfigs() {
	m.apply.Lock()
	defer m.apply.Unlock()
	img := m.image.Load()
	m.topics.each(func(t *topic) { m.configure(t, img) })
}

func (m *Manager) applyConfigs(delta *image.Delta, img *image.Image) {
	all := delta.ConfigChanged(image.DefaultBroker) ||
		delta.ConfigChanged(image.ConfigResource{Type: image.ResourceBroker, Name: fmt.Sprint(m.self)})
	if all {
		m.topics.each(func(t *topic) { m.configure(t, img) })
		return
	}
	for _, r := range delta.ChangedConfigs() {
		if r.Type == image.ResourceTopic {
			if t := m.topics.named(r.Name); t != nil {
				m.configure(t, img)
			}
		}
	}
}

// configure gives a topic's partitions the configuration that is in force now. A lower min.insync.replicas may let a high
// watermark go on.
func (m *Manager) configure(t *topic, img *image.Image) {
	c := m.configs.TopicConfig(img, t.name)
	for _, p := range t.hosted() {
		if p == nil {
			continue
		}
		p.mu.Lock()
		p.config = c
		p.log().SetConfig(c.Log)
		p.mu.Unlock()
		p.reconsider()
		p.settleProduces()
	}
}

func (m *Manager) dropTopics(topics []*image.Topic, news *[]leadershipNews) error {
	var gone []*Partition
	var pending []id.TopicPartition
	var hosted []*topic
	for _, it := range topics {
		m.forgetUnopened(it.Name)
		pending = append(pending, m.recoveringOf(it)...)
		if t := m.topics.withID(it.ID); t != nil {
			hosted = append(hosted, t)
		}
	}
	m.topics.remove(hosted...)
	for _, t := range hosted {
		for _, p := range t.hosted() {
			if p != nil {
				p.retire(wire.ErrUnknownTopicOrPartition, id.NoLeaderEpoch, news)
				gone = append(gone, p)
			}
		}
	}
	return errors.Join(m.deletePending(pending), m.deleteLogs(gone))
}

// deletePending deletes logs that wait for their recovery.
func (m *Manager) deletePending(tps []id.TopicPartition) error {
	if len(tps) == 0 {
		return nil
	}
	if err := m.logs.Delete(tps...); err != nil {
		return fmt.Errorf("delete %d replicas that were not recovered, %s first: %w", len(tps), tps[0], err)
	}
	return nil
}

// diskWorkers bounds how many logs are made or deleted side by side. Each of them waits for the disk most of the time.
const diskWorkers = 16

// side calls f for 0 to n-1 on a few goroutines and returns when all calls have. A panic in one of them is the caller's.
func side(n int, f func(i int)) {
	if n <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var panicked atomic.Pointer[string]
	var wg sync.WaitGroup
	for range min(n, diskWorkers) {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					panicked.CompareAndSwap(nil, new(fmt.Sprintf("%v\n%s", p, debug.Stack())))
					next.Store(int64(n)) // nobody begins anything else
				}
			}()
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
	if p := panicked.Load(); p != nil {
		panic(*p)
	}
}

// retire takes a partition out of service. Requests that hold on to it are told code.
func (p *Partition) retire(code wire.ErrorCode, epoch id.LeaderEpoch, news *[]leadershipNews) {
	p.mu.Lock()
	led := p.state.IsLeader()
	p.gone = code
	p.mu.Unlock()
	p.settleAll()
	if led {
		*news = append(*news, leadershipNews{tp: p.tp, epoch: epoch})
	}
}

func (m *Manager) deleteLogs(gone []*Partition) error {
	if len(gone) == 0 {
		return nil
	}
	tps := make([]id.TopicPartition, len(gone))
	for i, p := range gone {
		tps[i] = p.tp
	}
	if err := m.logs.Delete(tps...); err != nil {
		return fmt.Errorf("delete %d replicas, %s first: %w", len(tps), tps[0], err)
	}
	return nil
}

func (m *Manager) forgetUnopened(topic string) {
	old := m.unopened.Load()
	if old == nil {
		return
	}
	next := maps.Clone(*old)
	maps.DeleteFunc(next, func(tp id.TopicPartition, _ struct{}) bool { return tp.Topic == topic })
	m.unopened.Store(&next)
}

// newReplica is a partition that a delta brings to this broker.
type newReplica struct {
	t      *topic
	after  *image.Partition
	config TopicConfig
	p      *Partition // nil with an error of open
	err    error
	news   []leadershipNews
}

// newReplicas finds them by topic and partition.
type newReplicas map[id.UUID]map[int32]*newReplica

// openAll opens the partitions that the delta brings, many at a time.
func (m *Manager) openAll(changed []*image.TopicChange, img *image.Image) newReplicas {
	found := newReplicas{}
	var all []*newReplica
	for _, c := range changed {
		t := m.topics.withID(c.ID)
		var config TopicConfig
		for _, pc := range c.Partitions() {
			if !pc.After.HasReplica(m.self) || t.hosts(pc.After.ID) || m.isRecovering(c.ID, id.TopicPartition{Topic: c.Name, Partition: pc.After.ID}) {
				continue
			}
			if t == nil {
				t = &topic{name: c.Name, id: c.ID}
			}
			if found[c.ID] == nil {
				found[c.ID], config = map[int32]*newReplica{}, m.configs.TopicConfig(img, c.Name)
			}
			r := &newReplica{t: t, after: pc.After, config: config}
			found[c.ID][pc.After.ID] = r
			all = append(all, r)
		}
	}
	m.openEach(all)
	return found
}

// openEach opens replicas and gives them their registrations.
func (m *Manager) openEach(all []*newReplica) {
	side(len(all), func(i int) {
		r := all[i]
		if r.p, r.err = m.open(r.t, r.after, r.config); r.err == nil {
			r.err = r.p.become(registration(r.after), &r.news)
		}
	})
	m.noteUnopened(all)
}

// noteUnopened remembers the replicas without a log. The next change of such a partition tries again.
func (m *Manager) noteUnopened(all []*newReplica) {
	old := m.unopened.Load()
	if old == nil && !slices.ContainsFunc(all, func(r *newReplica) bool { return r.p == nil }) {
		return
	}
	next := map[id.TopicPartition]struct{}{}
	if old != nil {
		next = maps.Clone(*old)
	}
	for _, r := range all {
		tp := id.TopicPartition{Topic: r.t.name, Partition: r.after.ID}
		if delete(next, tp); r.p == nil {
			next[tp] = struct{}{}
		}
	}
	m.unopened.Store(&next)
}

// afterwards is what is done for all topics of a delta at once, when each is up to date.
type afterwards struct {
	made   []*topic     // to be shown
	settle []*Partition // whose waiting rooms look again
}

// applyTopic brings one topic up to date with a single copy of its partition list.
func (m *Manager) applyTopic(c *image.TopicChange, opened newReplicas, news *[]leadershipNews, later *afterwards) error {
	t := m.topics.withID(c.ID)
	isNew := t == nil
	parts := append([]*Partition(nil), t.hosted()...)
	var errs []error
	var moved []*Partition
	for _, pc := range c.Partitions() {
		after := pc.After
		var p *Partition
		if int(after.ID) < len(parts) {
			p = parts[after.ID]
		}
		if !after.HasReplica(m.self) {
			if p != nil {
				parts[after.ID] = nil
				p.retire(wire.ErrNotLeaderOrFollower, after.LeaderEpoch, news)
				moved = append(moved, p)
			} else if tp := (id.TopicPartition{Topic: c.Name, Partition: after.ID}); m.recovering[tp] == c.ID {
				delete(m.recovering, tp)
				errs = append(errs, m.deletePending([]id.TopicPartition{tp}))
			}
			continue
		}
		if p != nil {
			errs = append(errs, p.become(registration(after), news))
			later.settle = append(later.settle, p)
			continue
		}
		r := opened[c.ID][after.ID]
		if r == nil {
			continue // its log is being recovered
		}
		errs, *news = append(errs, r.err), append(*news, r.news...)
		if r.p == nil {
			continue
		}
		t, parts = r.t, putPartition(parts, r.p)
		later.settle = append(later.settle, r.p)
	}
	errs = append(errs, m.deleteLogs(moved))
	if t == nil {
		return errors.Join(errs...) // nothing of it is here
	}
	t.parts.Store(&parts)
	if isNew {
		later.made = append(later.made, t)
	}
	return errors.Join(errs...)
}

// loadLogs lets the log manager read its directories, if it has not, and moves aside what does not belong here.
func (m *Manager) loadLogs(img *image.Image) error {
	stray := func(tp id.TopicPartition, topicID id.UUID, empty bool) bool {
		return isStray(img, m.self, tp, topicID, empty)
	}
	if !m.logs.Loaded() {
		config := func(topic string) log.Config { return m.configs.TopicConfig(img, topic).Log }
		assigned := func(tp id.TopicPartition, topicID id.UUID) (id.UUID, bool) {
			p := img.Topics.Partition(tp.Topic, tp.Partition)
			if t := img.Topics.ByID(topicID); p == nil || t == nil || t.Name != tp.Topic {
				return id.UUID{}, false
			}
			return p.Directory(m.self)
		}
		if err := m.logs.Load(log.LoadOptions{TopicConfig: config, Stray: stray, Assigned: assigned, Recovered: m.logRecovered}); err != nil {
			return fmt.Errorf("load the logs: %w", err)
		}
		return nil
	}
	var strays []id.TopicPartition
	for _, l := range m.logs.Logs() {
		if stray(l.TopicPartition(), l.TopicID(), l.EndOffset() == 0) {
			strays = append(strays, l.TopicPartition())
		}
	}
	if err := m.logs.SetAside(strays...); err != nil {
		return fmt.Errorf("move %d stray logs aside: %w", len(strays), err)
	}
	return nil
}

// isStray reports whether a log found on disk is not this broker's by the metadata. A log without a topic id lost it to a power
// loss right after it was created, and with it whatever was not flushed by then. If it holds nothing, it may as well serve the
// topic that has its name now.
func isStray(img *image.Image, self id.BrokerID, tp id.TopicPartition, topicID id.UUID, empty bool) bool {
	if topicID.IsZero() && !empty {
		return true
	}
	if t := img.Topics.ByID(topicID); !topicID.IsZero() && (t == nil || t.Name != tp.Topic) {
		return true
	}
	p := img.Topics.Partition(tp.Topic, tp.Partition)
	return p == nil || !p.HasReplica(self)
}

// open makes the partition and its log. A log with another topic id is what is left of a topic that is gone: it is moved aside.
func (m *Manager) open(t *topic, after *image.Partition, config TopicConfig) (*Partition, error) {
	tp := id.TopicPartition{Topic: t.name, Partition: after.ID}
	dir, _ := after.Directory(m.self)
	if old, ok := m.logs.Get(tp); ok && !old.TopicID().IsZero() && old.TopicID() != t.id {
		if err := m.logs.SetAside(tp); err != nil {
			return nil, fmt.Errorf("move replica %s of topic id %s aside: %w", tp, old.TopicID(), err)
		}
	}
	l, err := m.logs.Create(tp, log.CreateOptions{TopicID: t.id, Config: config.Log, DirectoryID: dir})
	if err != nil {
		return nil, fmt.Errorf("create log of %s: %w", tp, err)
	}
	l.SetConfig(config.Log) // one that was found on disk may have been opened before the metadata was known
	p := &Partition{m: m, topic: t, tp: tp, state: partition.New(m.self), config: config}
	p.at.Store(l)
	return p, nil
}

func registration(p *image.Partition) partition.Registration {
	return partition.Registration{
		Replicas: brokers(p.Replicas), ISR: brokers(p.ISR), Adding: brokers(p.Adding), Removing: brokers(p.Removing),
		Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch,
	}
}

func brokers(ids []int32) []id.BrokerID {
	if len(ids) == 0 {
		return nil
	}
	out := make([]id.BrokerID, len(ids))
	for i, b := range ids {
		out[i] = id.BrokerID(b)
	}
	return out
}

// become takes in a registration. The caller wakes the waiting room afterwards, when the table shows the partition.
func (p *Partition) become(reg partition.Registration, news *[]leadershipNews) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.state.Apply(reg, p.log().EndOffset(), p.m.now().UnixMilli())
	switch {
	case t.Stale:
		return nil
	case t.Resigned:
		*news = append(*news, leadershipNews{tp: p.tp, epoch: reg.LeaderEpoch})
	case t.Leader && (t.NewEpoch || t.BecameLeader):
		*news = append(*news, leadershipNews{tp: p.tp, epoch: reg.LeaderEpoch, elected: true})
		// The epoch is noted even before anything is appended in it, so that a follower with records of a later epoch than any
		// of ours still learns where to truncate.
		if err := p.log().AssignEpoch(reg.LeaderEpoch, p.log().EndOffset()); err != nil {
			if p.log().Err() != nil {
				p.gone = wire.ErrKafkaStorageError
			}
			return fmt.Errorf("begin leader epoch %d of %s: %w", reg.LeaderEpoch, p.tp, err)
		}
	}
	return nil
}

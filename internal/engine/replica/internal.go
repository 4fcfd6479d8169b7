package replica

import (
	"fmt"
	"io"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/wire"
)

// This file is what coordinators of this node use: they write and read the internal partitions they lead without a request.

// WatchLeadership registers who is told about the partitions of a topic that this broker leads, and tells it at once about those
// it leads already. One watcher per topic.
func (m *Manager) WatchLeadership(topic string, w LeadershipWatcher) {
	m.apply.Lock()
	defer m.apply.Unlock()
	m.watchers[topic] = w
	if t := m.topics.named(topic); t != nil {
		for _, p := range t.hosted() {
			if p != nil && p.IsLeader() {
				_, epoch := p.Leadership()
				w.Elected(p.tp, epoch)
			}
		}
	}
}

// AppendInternal appends coordinator batches to a partition that this broker must lead in exactly the given epoch, as acks=all
// does: NOT_ENOUGH_REPLICAS when it cannot be committed now. It does not wait; AppendResult.NextOffset is committed when the high
// watermark reaches it (WatchHighWatermark). The batches are modified and not kept.
func (m *Manager) AppendInternal(tp id.TopicPartition, epoch id.LeaderEpoch, batches []byte) (log.AppendResult, error) {
	return m.AppendTransactional(tp, epoch, batches, 0, log.NoGuard)
}

// AppendTransactional is AppendInternal for batches that end transactions, whose epochs are checked by the rules of
// transactionVersion, and for those that are part of one, with the guard of BeginVerification.
func (m *Manager) AppendTransactional(tp id.TopicPartition, epoch id.LeaderEpoch, batches []byte, transactionVersion int16, guard log.VerificationGuard) (log.AppendResult, error) {
	p, err := m.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return log.AppendResult{}, err
	}
	if m.closed.Load() {
		return log.AppendResult{}, wire.ErrNotLeaderOrFollower
	}
	p.mu.RLock()
	if err := p.check(epoch, true); err != nil {
		p.mu.RUnlock()
		return log.AppendResult{}, err
	}
	if code := p.state.CheckAppend(-1, p.config.MinInSyncReplicas); code != wire.ErrNone {
		err := p.notEnough(code)
		p.mu.RUnlock()
		return log.AppendResult{}, err
	}
	res, err := p.log().AppendAsLeader(batches, log.AppendInfo{LeaderEpoch: epoch, Origin: log.OriginCoordinator, TransactionVersion: transactionVersion, Guard: guard, DeferFlush: true})
	moved := false
	if err == nil {
		p.appended.Add(int64(res.Bytes))
		moved = p.advance(m.now().UnixMilli())
	}
	p.mu.RUnlock()
	if err != nil {
		return res, fmt.Errorf("append to %s: %w", tp, err)
	}
	t := p.topic
	t.metrics.MessagesIn.Add(int64(res.Records))
	t.metrics.BytesIn.Add(int64(res.Bytes))
	m.metrics.All.MessagesIn.Add(int64(res.Records))
	m.metrics.All.BytesIn.Add(int64(res.Bytes))
	p.told(moved)
	if res.FlushDue {
		m.flusher.add(p, res.LastOffset+1)
	}
	return res, nil
}

// MaxBatchBytes returns max.message.bytes of a partition's topic; ok is false if there is no such partition here.
func (m *Manager) MaxBatchBytes(tp id.TopicPartition) (n int, ok bool) {
	p, err := m.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return 0, false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.config.Log.MaxMessageBytes, true
}

// TruncateTo cuts a log that this broker does not lead, because the leader has other records from offset on. See log.Log.TruncateTo.
func (m *Manager) TruncateTo(tp id.TopicPartition, offset id.Offset) error {
	return m.cut(tp, func(l *log.Log) error { return l.TruncateTo(offset) })
}

// CutUncommitted is TruncateTo for everything that is not below the high watermark.
func (m *Manager) CutUncommitted(tp id.TopicPartition) error {
	return m.cut(tp, func(l *log.Log) error { return l.TruncateTo(l.HighWatermark()) })
}

// TruncateFullyAndStartAt empties a log that this broker does not lead, because the leader's log begins behind its end.
func (m *Manager) TruncateFullyAndStartAt(tp id.TopicPartition, offset id.Offset) error {
	return m.cut(tp, func(l *log.Log) error { return l.TruncateFullyAndStartAt(offset) })
}

func (m *Manager) cut(tp id.TopicPartition, cut func(*log.Log) error) error {
	p, err := m.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return err
	}
	p.mu.Lock()
	switch {
	case p.gone != 0:
		err = p.gone
	case p.state.IsLeader():
		err = fmt.Errorf("%s is led by this broker, whose log is the measure: %w", tp, wire.ErrInvalidRequest)
	default:
		err = cut(p.log())
	}
	p.mu.Unlock()
	p.settleAll() // fetches of offsets that are gone must hear of it
	return err
}

// InternalEnds are the offsets of a partition, all exclusive but Start.
type InternalEnds struct{ Start, HighWatermark, End id.Offset }

// Ends returns the offsets of a partition that this broker must lead in the given epoch (NoLeaderEpoch: in any).
func (m *Manager) Ends(tp id.TopicPartition, epoch id.LeaderEpoch) (InternalEnds, error) {
	p, err := m.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return InternalEnds{}, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if err := p.check(epoch, true); err != nil {
		return InternalEnds{}, err
	}
	return InternalEnds{Start: p.log().StartOffset(), HighWatermark: p.log().HighWatermark(), End: p.log().EndOffset()}, nil
}

// ReadInternal reads whole batches from offset on up to the log end, committed or not, into buf, which grows when one batch needs
// more. maxBytes bounds what is read otherwise. No bytes and no error means the end. A new coordinator loads its state with it:
// every record in the log of an elected leader counts.
func (m *Manager) ReadInternal(tp id.TopicPartition, epoch id.LeaderEpoch, offset id.Offset, maxBytes int, buf []byte) ([]byte, error) {
	p, err := m.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return nil, err
	}
	p.mu.RLock()
	if err := p.check(epoch, true); err != nil {
		p.mu.RUnlock()
		return nil, err
	}
	res, err := p.log().Read(log.ReadRequest{Offset: offset, MaxBytes: maxBytes, MinOneMessage: true, Isolation: log.ReadLogEnd,
		Reader: log.Reader{ReplicaID: id.NoBroker, ReplicaEpoch: id.NoBrokerEpoch}, LastFetchedEpoch: id.NoLeaderEpoch})
	p.mu.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", tp, offset, err)
	}
	if res.Section == nil {
		return buf[:0], nil
	}
	defer res.Section.Release()
	n := res.Section.Size()
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := res.Section.ReadAt(buf, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read %s at %d: %w", tp, offset, err)
	}
	return buf, nil
}

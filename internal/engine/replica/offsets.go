package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/wire"
)

// OffsetQuery asks for one offset (ListOffsets).
type OffsetQuery struct {
	TopicPartition     id.TopicPartition
	Timestamp          int64 // milliseconds, or one of log's special timestamps
	CurrentLeaderEpoch id.LeaderEpoch
	Isolation          log.Isolation // ReadLogEnd for replicas, else what the consumer may see
	AnyReplica         bool          // a debugging client that may ask a follower
}

// ListOffset answers an OffsetQuery. Found is false, without an error, when no record is that late, or none that the asker may
// see. Right after an election the high watermark may lag behind the records of the new epoch; until it has caught up a consumer
// is told OFFSET_NOT_AVAILABLE rather than an offset that would seem to go back (KIP-207).
func (m *Manager) ListOffset(q OffsetQuery) (log.TimestampOffset, error) {
	p, err := m.Partition(q.TopicPartition.Topic, q.TopicPartition.Partition)
	if err != nil {
		return log.TimestampOffset{}, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if err := p.check(q.CurrentLeaderEpoch, !q.AnyReplica); err != nil {
		return log.TimestampOffset{}, err
	}
	last := visibleEnd(p.log(), q.Isolation)
	var lagging error
	if start := p.state.EpochStart(); q.Isolation != log.ReadLogEnd && start > p.log().HighWatermark() {
		lagging = fmt.Errorf("%w: high watermark %d of %s has not reached the start %d of leader epoch %d",
			wire.ErrOffsetNotAvailable, p.log().HighWatermark(), p.tp, start, p.state.LeaderEpoch())
	}
	switch q.Timestamp {
	case log.LatestTimestamp:
		if lagging != nil {
			return log.TimestampOffset{}, lagging
		}
		return log.TimestampOffset{Found: true, Timestamp: -1, Offset: last, LeaderEpoch: p.state.LeaderEpoch()}, nil
	case log.EarliestTimestamp, log.EarliestLocalTimestamp:
		found, err := p.log().LookupTimestamp(q.Timestamp)
		return found, err
	}
	found, err := p.log().LookupTimestamp(q.Timestamp)
	if err != nil {
		return log.TimestampOffset{}, err
	}
	if !found.Found || found.Offset >= last {
		return log.TimestampOffset{}, lagging
	}
	return found, nil
}

// OffsetForLeaderEpoch returns the largest leader epoch not above epoch and its end offset; both are unknown (-1) when the log
// has no such epoch (KIP-320).
func (m *Manager) OffsetForLeaderEpoch(tp id.TopicPartition, current, epoch id.LeaderEpoch) (log.EpochEndOffset, error) {
	p, err := m.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return log.EpochEndOffset{}, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if err := p.check(current, true); err != nil {
		return log.EpochEndOffset{}, err
	}
	return p.log().EndOffsetForEpoch(epoch), nil
}

// Producers lists the active producers of a partition (KIP-664).
func (m *Manager) Producers(tp id.TopicPartition) ([]log.ProducerInfo, error) {
	p, err := m.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return nil, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.gone != 0 {
		return nil, p.gone
	}
	return p.log().Producers(), nil
}

// DeleteRecordsResult is the outcome of DeleteRecords for one partition.
type DeleteRecordsResult struct {
	Err          error
	LowWatermark id.Offset // smallest log start offset of all live replicas; NoOffset with an error
}

// DeleteTarget asks that records below Offset be deleted; HighWatermarkOffset means all committed ones.
type DeleteTarget struct {
	TopicPartition id.TopicPartition
	Offset         id.Offset
}

// HighWatermarkOffset stands for the high watermark in a DeleteTarget.
const HighWatermarkOffset id.Offset = -1

// DeleteRecords deletes records (KIP-107) and waits until every live replica has done so, up to timeout. It returns one result for
// each target.
func (m *Manager) DeleteRecords(ctx context.Context, targets []DeleteTarget, timeout time.Duration) []DeleteRecordsResult {
	results := make([]DeleteRecordsResult, len(targets))
	waiting := make([]id.Offset, len(targets))
	var timer *time.Timer
	for i, t := range targets {
		results[i], waiting[i] = m.deleteRecords(t)
	}
	for i := range targets {
		r := &results[i]
		for r.Err == nil && r.LowWatermark < waiting[i] {
			if timer == nil {
				timer = time.NewTimer(timeout)
				defer timer.Stop()
			}
			p, err := m.Partition(targets[i].TopicPartition.Topic, targets[i].TopicPartition.Partition)
			if err != nil {
				*r = DeleteRecordsResult{Err: err, LowWatermark: id.NoOffset}
				break
			}
			changed := p.deleteSignal()
			if *r = p.lowWatermark(); r.Err != nil || r.LowWatermark >= waiting[i] {
				break
			}
			select {
			case <-changed:
			case <-timer.C:
				timer.Reset(0)
				r.Err = wire.ErrRequestTimedOut
			case <-ctx.Done():
				r.Err = wire.ErrRequestTimedOut
			case <-m.stop:
				r.Err = wire.ErrNotLeaderOrFollower
			}
		}
	}
	return results
}

func (m *Manager) deleteRecords(t DeleteTarget) (DeleteRecordsResult, id.Offset) {
	fail := func(err error) (DeleteRecordsResult, id.Offset) {
		return DeleteRecordsResult{Err: err, LowWatermark: id.NoOffset}, id.NoOffset
	}
	tp := t.TopicPartition
	if m.isInternal(tp.Topic) {
		return fail(fmt.Errorf("%w: cannot delete records of internal topic %s", wire.ErrInvalidTopicException, tp.Topic))
	}
	p, err := m.Partition(tp.Topic, tp.Partition)
	if err != nil {
		return fail(err)
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if err := p.check(id.NoLeaderEpoch, true); err != nil {
		return fail(err)
	}
	if c := p.config.Log; c.CleanupCompact && !c.CleanupDelete {
		return fail(fmt.Errorf("%w: records of compacted partition %s cannot be deleted", wire.ErrPolicyViolation, tp))
	}
	hw, before := p.log().HighWatermark(), t.Offset
	if before == HighWatermarkOffset {
		before = hw
	}
	if before < 0 || before > hw {
		return fail(fmt.Errorf("%w: offset %d of %s is not between 0 and the high watermark %d", wire.ErrOffsetOutOfRange, before, tp, hw))
	}
	start, err := p.log().DeleteRecords(before)
	if err != nil {
		return fail(err)
	}
	return DeleteRecordsResult{LowWatermark: p.state.LowWatermark(start, m)}, before
}

func (p *Partition) lowWatermark() DeleteRecordsResult {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if err := p.check(id.NoLeaderEpoch, true); err != nil {
		return DeleteRecordsResult{Err: err, LowWatermark: id.NoOffset}
	}
	return DeleteRecordsResult{LowWatermark: p.state.LowWatermark(p.log().StartOffset(), p.m)}
}

// deleteSignal returns a channel that is closed when a follower's log start offset or the leadership may have changed.
func (p *Partition) deleteSignal() <-chan struct{} {
	p.room.mu.Lock()
	defer p.room.mu.Unlock()
	if p.room.deletes == nil {
		p.room.deletes = make(chan struct{})
	}
	return p.room.deletes
}

func (p *Partition) wakeDeletes() {
	p.room.mu.Lock()
	if p.room.deletes != nil {
		close(p.room.deletes)
		p.room.deletes = nil
	}
	p.room.mu.Unlock()
}

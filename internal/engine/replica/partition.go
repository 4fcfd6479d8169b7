package replica

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/partition"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/wire"
)

// Partition is one partition hosted by this broker.
type Partition struct {
	m     *Manager
	topic *topic
	tp    id.TopicPartition

	mu     sync.RWMutex // guards state, config and gone, and changes of at; see the package comment
	state  partition.State
	at     atomic.Pointer[log.Log] // the log; another one when the replica has moved to another directory
	config TopicConfig
	gone   wire.ErrorCode // what requests are told once the partition was deleted, moved away or failed

	appended atomic.Int64 // bytes appended by this leader since it was opened; fetch waiters count with it
	room     waitingRoom
	watchers atomic.Pointer[[]HighWatermarkWatcher]
}

// HighWatermarkWatcher is told, with no lock held, that a high watermark rose. It must not block. Calls for one partition may
// overlap and overtake each other; the largest value counts.
type HighWatermarkWatcher interface {
	HighWatermarkAdvanced(tp id.TopicPartition, highWatermark id.Offset)
}

// log is the partition's log. Without mu it may be one that was given up a moment ago.
func (p *Partition) log() *log.Log { return p.at.Load() }

// TopicPartition names the partition.
func (p *Partition) TopicPartition() id.TopicPartition { return p.tp }

// TopicID is the id of its topic.
func (p *Partition) TopicID() id.UUID { return p.topic.id }

// Leadership returns the known leader (NoBroker if none) and leader epoch.
func (p *Partition) Leadership() (id.BrokerID, id.LeaderEpoch) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.state.Leader(), p.state.LeaderEpoch()
}

// IsLeader reports whether this broker leads the partition.
func (p *Partition) IsLeader() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.gone == 0 && p.state.IsLeader()
}

// check decides about a request that believes in leader epoch client. p.mu must be held.
func (p *Partition) check(client id.LeaderEpoch, leaderOnly bool) error {
	if p.gone != 0 {
		return p.gone
	}
	if code := p.state.CheckEpoch(client); code != wire.ErrNone {
		return code
	}
	if leaderOnly && !p.state.IsLeader() {
		return wire.ErrNotLeaderOrFollower
	}
	return nil
}

// append writes client batches. moved tells whether the high watermark rose; the caller then calls told.
func (p *Partition) append(batches []byte, acks int16, info log.AppendInfo, nowMs int64) (res log.AppendResult, epoch id.LeaderEpoch, moved bool, err error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.gone != 0 {
		return res, epoch, false, p.gone
	}
	if code := p.state.CheckAppend(acks, p.config.MinInSyncReplicas); code != wire.ErrNone {
		return res, epoch, false, p.notEnough(code)
	}
	epoch = p.state.LeaderEpoch()
	info.LeaderEpoch, info.DeferFlush = epoch, true
	if res, err = p.log().AppendAsLeader(batches, info); err != nil {
		return res, epoch, false, err
	}
	if !res.Duplicate {
		p.appended.Add(int64(res.Bytes))
	} else if p.config.Log.FlushMessages == 1 {
		res.FlushDue = p.log().DurableEnd() <= res.LastOffset // the original may not be on disk yet
	}
	return res, epoch, p.advance(nowMs), nil
}

func (p *Partition) notEnough(code wire.ErrorCode) error {
	if code != wire.ErrNotEnoughReplicas {
		return code
	}
	return fmt.Errorf("%w: %s has %d in-sync replicas and needs %d", code, p.tp, len(p.state.ISR()),
		p.state.EffectiveMinISR(p.config.MinInSyncReplicas))
}

// advance raises the high watermark as far as the rule allows. p.mu must be held, for reading at least.
func (p *Partition) advance(nowMs int64) bool {
	current := p.log().HighWatermark()
	pr := partition.Progress{End: p.log().EndOffset(), Durable: p.log().AckableEnd(), Strict: true, HighWatermark: current, Hold: id.NoOffset}
	if back := p.m.held.Load(); back > 0 {
		pr.Hold = max(current, pr.End-id.Offset(back))
	}
	hw := p.state.HighWatermark(pr, p.config.MinInSyncReplicas, nowMs, p.m.lagMaxMs, p.m)
	if hw <= current {
		return false
	}
	_, moved := p.log().AdvanceHighWatermark(hw)
	return moved
}

// told wakes everybody whom an append (moved false) or a risen high watermark (moved true) may concern. No lock may be held.
func (p *Partition) told(moved bool) {
	if moved {
		if p.room.produces.Load() > 0 {
			p.settleProduces()
		}
		if w := p.watchers.Load(); w != nil {
			hw := p.log().HighWatermark()
			for _, w := range *w {
				w.HighWatermarkAdvanced(p.tp, hw)
			}
		}
	}
	if p.room.fetches.Load() > 0 {
		p.wakeFetches(false)
	}
}

// reconsider recomputes the high watermark after something outside of the log has changed.
func (p *Partition) reconsider() {
	p.mu.RLock()
	moved := p.gone == 0 && p.advance(p.m.now().UnixMilli())
	p.mu.RUnlock()
	p.told(moved)
}

// checkDirectory takes the partition out of service if its directory failed.
func (p *Partition) checkDirectory() {
	if p.log().Err() == nil {
		return
	}
	p.mu.Lock()
	if p.gone == 0 {
		p.gone = wire.ErrKafkaStorageError
	}
	p.mu.Unlock()
	p.settleAll()
}

// settleAll makes everybody in the waiting room look again.
func (p *Partition) settleAll() {
	p.settleProduces()
	p.wakeFetches(true)
	p.wakeDeletes()
}

// shrinkISR proposes an in-sync set without the followers that lag.
func (p *Partition) shrinkISR() {
	if p.m.changes == nil {
		return
	}
	p.mu.Lock()
	var proposal *partition.Proposal
	if p.gone == 0 {
		proposal = p.state.ProposeShrink(p.log().EndOffset(), p.m.now().UnixMilli(), p.m.lagMaxMs, p.m)
	}
	p.mu.Unlock()
	p.propose(proposal)
}

func (p *Partition) propose(proposal *partition.Proposal) {
	if proposal == nil {
		return
	}
	p.m.changes.Send(p.topic.id, p.tp.Partition, proposal, func(isr []id.BrokerID, leader id.LeaderEpoch, epoch int32, code wire.ErrorCode) {
		p.mu.Lock()
		retry := false
		if code == wire.ErrNone {
			if p.state.Accepted(proposal, isr, leader, epoch) {
				if proposal.Added == id.NoBroker {
					p.m.metrics.ISRShrinks.Add(1)
				} else {
					p.m.metrics.ISRExpands.Add(1)
				}
			}
		} else {
			p.m.metrics.FailedISRUpdates.Add(1)
			retry = p.state.Rejected(proposal, code)
		}
		p.mu.Unlock()
		if retry && !p.m.closed.Load() {
			p.propose(proposal)
			return
		}
		p.reconsider()
	})
}

// WatchHighWatermark adds a watcher. It is not told the present value; read it after this call.
func (p *Partition) WatchHighWatermark(w HighWatermarkWatcher) {
	for {
		old := p.watchers.Load()
		var next []HighWatermarkWatcher
		if old != nil {
			next = slices.Clone(*old)
		}
		next = append(next, w)
		if p.watchers.CompareAndSwap(old, &next) {
			return
		}
	}
}

// UnwatchHighWatermark removes a watcher; a call that has begun goes on.
func (p *Partition) UnwatchHighWatermark(w HighWatermarkWatcher) {
	for {
		old := p.watchers.Load()
		if old == nil {
			return
		}
		next := slices.DeleteFunc(slices.Clone(*old), func(o HighWatermarkWatcher) bool { return o == w })
		if p.watchers.CompareAndSwap(old, &next) {
			return
		}
	}
}

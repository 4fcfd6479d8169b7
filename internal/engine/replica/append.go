package replica

import (
	"errors"
	"fmt"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// AppendPartition is one partition of an AppendRequest.
type AppendPartition struct {
	Topic     string
	TopicID   id.UUID // zero when the client named the topic
	Partition int32
	Batches   []byte                // modified in place, not kept
	Guard     log.VerificationGuard // of a transactional batch, see BeginVerification
}

// AppendRequest is a produce request.
type AppendRequest struct {
	Acks            int16 // 0, 1 or -1
	Timeout         time.Duration
	InternalAllowed bool // may write to coordinators' topics
	// Origin is on whose behalf: a client's by default, or OriginCoordinator for markers, which end transactions by the rules
	// of TransactionVersion.
	Origin             log.Origin
	TransactionVersion int16
	Partitions         []AppendPartition
}

// AppendResult is the outcome for one partition. Without an error the offsets are those of the records, for a duplicate those of
// the original. With REQUEST_TIMED_OUT, NOT_LEADER_OR_FOLLOWER after a wait or NOT_ENOUGH_REPLICAS_AFTER_APPEND they tell where
// the records were appended, which may be for nothing.
type AppendResult struct {
	Err            error
	BaseOffset     id.Offset // NoOffset when nothing was appended
	LogAppendTime  int64     // milliseconds; -1 with create time
	LogStartOffset id.Offset // NoOffset when unknown
	RecordErrors   []record.RecordError
}

// fail makes the result one of a wait that ended badly.
func (r *AppendResult) fail(code wire.ErrorCode) { r.Err = code }

func failed(err error, start id.Offset) AppendResult {
	return AppendResult{Err: err, BaseOffset: id.NoOffset, LogAppendTime: record.NoTimestamp, LogStartOffset: start}
}

// Append appends to every partition of the request and calls done once, with one result for each in the same order: before it
// returns if nothing must be waited for, else from another goroutine. results is reused for the outcome when it is large enough;
// done and later code own what they are given. The request is not kept.
func (m *Manager) Append(req *AppendRequest, results []AppendResult, done func([]AppendResult)) {
	results = results[:0]
	if req.Acks < -1 || req.Acks > 1 {
		for range req.Partitions {
			results = append(results, failed(wire.ErrInvalidRequiredAcks, id.NoOffset))
		}
		done(results)
		return
	}
	nowMs := m.now().UnixMilli()
	var op *produceOp
	for i := range req.Partitions {
		res, entry := m.appendOne(req, &req.Partitions[i], nowMs)
		results = append(results, res)
		if entry.p == nil {
			continue
		}
		if op == nil {
			op = &produceOp{m: m, done: done, entries: make([]produceEntry, 0, len(req.Partitions)-i)}
		}
		entry.slot = i
		op.entries = append(op.entries, entry)
	}
	if op == nil {
		done(results)
		return
	}
	op.results = results
	op.at = m.now().Add(max(req.Timeout, 0))
	op.wait()
}

// appendOne appends to one partition. The entry has a partition if the result must wait.
func (m *Manager) appendOne(req *AppendRequest, part *AppendPartition, nowMs int64) (AppendResult, produceEntry) {
	m.metrics.All.TotalProduceRequests.Add(1)
	if m.closed.Load() {
		return failed(wire.ErrNotLeaderOrFollower, id.NoOffset), produceEntry{}
	}
	if !req.InternalAllowed && m.isInternal(part.Topic) {
		err := fmt.Errorf("%w: cannot append to internal topic %s", wire.ErrInvalidTopicException, part.Topic)
		return failed(err, id.NoOffset), produceEntry{}
	}
	p, err := m.lookup(part.Topic, part.TopicID, part.Partition)
	if err != nil {
		return failed(err, id.NoOffset), produceEntry{}
	}
	p.topic.metrics.TotalProduceRequests.Add(1)
	res, epoch, moved, err := p.append(part.Batches, req.Acks, log.AppendInfo{Origin: req.Origin, TransactionVersion: req.TransactionVersion, Guard: part.Guard}, nowMs)
	if err != nil {
		return m.appendFailed(p, part, err), produceEntry{}
	}
	if !res.Duplicate {
		m.metrics.All.count(res)
		p.topic.metrics.count(res)
	}
	p.told(moved)
	if res.FlushDue {
		m.flusher.add(p, res.LastOffset+1)
	}
	entry := produceEntry{required: res.LastOffset + 1, epoch: epoch}
	entry.commit = req.Acks == -1 && p.log().HighWatermark() < entry.required
	entry.durable = req.Acks != 0 && res.FlushDue && p.log().DurableEnd() < entry.required
	if entry.commit || entry.durable {
		entry.p, entry.commit = p, req.Acks == -1
	} else if req.Acks == -1 {
		if code := p.committed(entry); code != wire.ErrNone {
			out := appended(res)
			out.fail(code)
			return out, produceEntry{}
		}
	}
	return appended(res), entry
}

// committed decides about an acks=all append whose records are below the high watermark already.
func (p *Partition) committed(e produceEntry) wire.ErrorCode {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.gone != 0 {
		return p.gone
	}
	_, code := p.state.CheckWaiting(e.required, e.required, e.epoch, p.config.MinInSyncReplicas)
	return code
}

func appended(res log.AppendResult) AppendResult {
	return AppendResult{BaseOffset: res.BaseOffset, LogAppendTime: res.LogAppendTime, LogStartOffset: res.LogStartOffset}
}

func (t *TopicMetrics) count(res log.AppendResult) {
	t.MessagesIn.Add(int64(res.Records))
	t.BytesIn.Add(int64(res.Bytes))
}

// appendFailed describes an append that the log refused. Refusals of what the client sent carry the log start offset, so that a
// producer can tell records that were deleted from records that were lost (KIP-360); the usual refusals do not, as in Kafka.
func (m *Manager) appendFailed(p *Partition, part *AppendPartition, err error) AppendResult {
	if p.log().Err() != nil {
		p.checkDirectory()
	}
	switch code := ErrorCode(err); code {
	case wire.ErrUnknownTopicOrPartition, wire.ErrNotLeaderOrFollower, wire.ErrMessageTooLarge, wire.ErrRecordListTooLarge,
		wire.ErrCorruptMessage, wire.ErrKafkaStorageError, wire.ErrUnknownTopicID:
		if code == wire.ErrMessageTooLarge || code == wire.ErrRecordListTooLarge {
			m.metrics.All.BytesRejected.Add(int64(len(part.Batches)))
			p.topic.metrics.BytesRejected.Add(int64(len(part.Batches)))
		}
		return failed(err, id.NoOffset)
	}
	m.metrics.All.FailedProduceRequests.Add(1)
	p.topic.metrics.FailedProduceRequests.Add(1)
	out := failed(err, p.leaderStart())
	var invalid *record.Error
	if errors.As(err, &invalid) {
		out.RecordErrors = invalid.Records
	}
	return out
}

// leaderStart is the log start offset of a partition led here, else NoOffset.
func (p *Partition) leaderStart() id.Offset {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.gone != 0 || !p.state.IsLeader() {
		return id.NoOffset
	}
	return p.log().StartOffset()
}

package replica

import (
	"context"
	"fmt"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/partition"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/wire"
)

// FetchPartition is one partition of a FetchRequest, read in the order of the request.
type FetchPartition struct {
	Topic              string
	TopicID            id.UUID // zero when the client named the topic
	Partition          int32
	MaxBytes           int32
	Offset             id.Offset
	LogStartOffset     id.Offset      // of a follower's log
	CurrentLeaderEpoch id.LeaderEpoch // NoLeaderEpoch: not checked
	LastFetchedEpoch   id.LeaderEpoch // NoLeaderEpoch: no check for divergence
}

// FetchRequest is a fetch by a consumer or a follower.
type FetchRequest struct {
	ReplicaID     id.BrokerID // NoBroker for consumers
	ReplicaEpoch  id.BrokerEpoch
	Isolation     log.Isolation
	AllowFollower bool // may be served by a replica that does not lead (KIP-392)
	MinBytes      int
	MaxBytes      int
	MaxWait       time.Duration
	Partitions    []FetchPartition
}

// FetchResult is the outcome for one partition. With an error nothing else is set but the offsets, to NoOffset.
type FetchResult struct {
	Err              error
	Section          *log.FileSection // nil when there is nothing to return; Release it, or hand it to who sends it
	HighWatermark    id.Offset
	LastStableOffset id.Offset
	LogStartOffset   id.Offset
	AbortedTxns      []log.AbortedTxn    // only for read_committed
	Diverging        *log.EpochEndOffset // the reader must truncate to it

	p        *Partition
	appended int64 // p.appended before the read
	end      id.Offset
	logEnd   id.Offset
}

// Size is the number of bytes of records.
func (r *FetchResult) Size() int {
	if r.Section == nil {
		return 0
	}
	return r.Section.Size()
}

// Fetch reads what the request asks for and waits until there are MinBytes, an error to tell, MaxWait is over, or ctx is done
// (then what it returns is of no interest). results is reused; there is one result for each partition, in the same order.
func (m *Manager) Fetch(ctx context.Context, req *FetchRequest, results []FetchResult) []FetchResult {
	for i := range req.Partitions {
		m.metrics.All.TotalFetchRequests.Add(1)
		if t := m.topics.named(req.Partitions[i].Topic); t != nil {
			t.metrics.TotalFetchRequests.Add(1)
		}
	}
	results, bytes, enough := m.read(req, results[:0], true)
	if enough || req.MaxWait <= 0 || len(req.Partitions) == 0 || bytes >= req.MinBytes || m.closed.Load() {
		return results
	}
	w := &fetchWaiter{ready: make(chan struct{}, 1), minBytes: int64(req.MinBytes), entries: make([]fetchEntry, len(req.Partitions))}
	w.at = m.now().Add(req.MaxWait)
	w.expire = func() {
		w.expired.Store(true)
		w.signal()
	}
	m.deadlines.add(&w.deadline)
	defer m.deadlines.remove(&w.deadline)
	for {
		w.arm(req, results, bytes)
		w.join()
		if m.closed.Load() {
			w.expire()
		}
		select {
		case <-w.ready:
		case <-ctx.Done():
			w.leave()
			return results
		}
		w.leave()
		results, bytes, enough = m.read(req, results, false)
		if enough || bytes >= req.MinBytes {
			return results
		}
		if w.expired.Load() {
			m.fetchExpired(req)
			return results
		}
	}
}

func (m *Manager) fetchExpired(req *FetchRequest) {
	if req.ReplicaID != id.NoBroker {
		m.metrics.FollowerFetchExpired.Add(1)
	} else {
		m.metrics.FetchExpired.Add(1)
	}
}

// arm prepares the entries from what the last read saw.
func (w *fetchWaiter) arm(req *FetchRequest, results []FetchResult, bytes int) {
	upper := int64(bytes)
	for i := range results {
		r, part := &results[i], &req.Partitions[i]
		w.entries[i] = fetchEntry{w: w, p: r.p, offset: part.Offset, seen: r.end, appended: r.appended, isolation: req.Isolation,
			epoch: part.CurrentLeaderEpoch, leaderOnly: !req.AllowFollower}
		if r.logEnd > r.end {
			upper += int64(max(part.MaxBytes, 0)) // there is more in the log that may become visible without an append
		}
	}
	w.upper.Store(upper)
}

// read reads all partitions within the request's bounds (KIP-74): the first that has anything gives at least one batch, whatever
// its size; after that every bound holds. enough tells that the answer must not wait.
func (m *Manager) read(req *FetchRequest, results []FetchResult, first bool) (out []FetchResult, bytes int, enough bool) {
	for i := range results {
		if s := results[i].Section; s != nil {
			s.Release()
		}
	}
	results = results[:0]
	limit := req.MaxBytes
	for i := range req.Partitions {
		r := m.readOne(req, &req.Partitions[i], limit, bytes == 0, first)
		n := r.Size()
		bytes += n
		limit = max(0, limit-n)
		enough = enough || r.Err != nil || r.Diverging != nil
		results = append(results, r)
	}
	return results, bytes, enough
}

func (m *Manager) readOne(req *FetchRequest, part *FetchPartition, limit int, minOne, first bool) FetchResult {
	p, err := m.Partition(part.Topic, part.Partition)
	if err != nil {
		return noRead(err)
	}
	if !part.TopicID.IsZero() && part.TopicID != p.topic.id {
		return noRead(wire.ErrInconsistentTopicID)
	}
	maxBytes := min(int(part.MaxBytes), limit)
	if maxBytes < 0 {
		return noRead(wire.ErrUnknownServerError)
	}
	isFollower := req.ReplicaID != id.NoBroker
	r := FetchResult{p: p, appended: p.appended.Load()}
	p.mu.RLock()
	err = p.check(part.CurrentLeaderEpoch, !req.AllowFollower)
	if err == nil && isFollower {
		err = p.state.CheckFollower(req.ReplicaID, part.CurrentLeaderEpoch).Err()
	}
	var res log.ReadResult
	if err == nil {
		if res, err = p.diverging(part); err == nil && res.Diverging == nil {
			res, err = p.log().Read(log.ReadRequest{Offset: part.Offset, MaxBytes: maxBytes, MinOneMessage: minOne, Isolation: req.Isolation,
				Reader: log.Reader{ReplicaID: req.ReplicaID, ReplicaEpoch: req.ReplicaEpoch}, LastFetchedEpoch: id.NoLeaderEpoch})
		}
	}
	p.mu.RUnlock()
	if err != nil {
		return m.readFailed(p, err)
	}
	r.Section, r.Diverging, r.AbortedTxns = res.Section, res.Diverging, res.AbortedTxns
	r.HighWatermark, r.LastStableOffset, r.LogStartOffset, r.logEnd = res.HighWatermark, res.LastStableOffset, res.LogStartOffset, res.LogEndOffset
	switch req.Isolation {
	case log.ReadHighWatermark:
		r.end = r.HighWatermark
	case log.ReadCommitted:
		r.end = r.LastStableOffset
	default:
		r.end = r.logEnd
	}
	if isFollower && first && r.Diverging == nil {
		if err := p.recordFollowerFetch(partition.FollowerFetch{Replica: req.ReplicaID, BrokerEpoch: req.ReplicaEpoch, Offset: part.Offset,
			LogStart: part.LogStartOffset, LeaderEnd: res.LogEndOffset, NowMs: m.now().UnixMilli()}); err != nil {
			if r.Section != nil {
				r.Section.Release()
			}
			return noRead(err)
		}
	}
	return r
}

// diverging compares the reader's last epoch and offset with the local log (KIP-595): a reader that went on in that epoch where this
// log did not must truncate first, and is told so even where its offset is out of range here. p.mu must be held.
func (p *Partition) diverging(part *FetchPartition) (res log.ReadResult, err error) {
	if part.LastFetchedEpoch == id.NoLeaderEpoch {
		return res, nil
	}
	end := p.log().EndOffsetForEpoch(part.LastFetchedEpoch)
	start := p.log().StartOffset()
	if end.EndOffset == id.NoOffset || end.Epoch == id.NoLeaderEpoch || part.Offset < start {
		return res, fmt.Errorf("%w: fetch of %s at %d in epoch %d, log starts at %d", wire.ErrOffsetOutOfRange, p.tp, part.Offset,
			part.LastFetchedEpoch, start)
	}
	if end.Epoch < part.LastFetchedEpoch || end.EndOffset < part.Offset {
		res = log.ReadResult{FetchOffset: part.Offset, LogStartOffset: start, LogEndOffset: p.log().EndOffset(),
			HighWatermark: p.log().HighWatermark(), LastStableOffset: p.log().LastStableOffset(), Diverging: &end}
	}
	return res, nil
}

func noRead(err error) FetchResult {
	return FetchResult{Err: err, HighWatermark: id.NoOffset, LastStableOffset: id.NoOffset, LogStartOffset: id.NoOffset}
}

// readFailed describes a read that was refused. Only refusals that no client causes count as failures.
func (m *Manager) readFailed(p *Partition, err error) FetchResult {
	if p.log().Err() != nil {
		p.checkDirectory()
	}
	switch ErrorCode(err) {
	case wire.ErrNotLeaderOrFollower, wire.ErrUnknownLeaderEpoch, wire.ErrFencedLeaderEpoch, wire.ErrReplicaNotAvailable,
		wire.ErrKafkaStorageError, wire.ErrOffsetOutOfRange, wire.ErrUnknownTopicOrPartition:
	default:
		m.metrics.All.FailedFetchRequests.Add(1)
		p.topic.metrics.FailedFetchRequests.Add(1)
	}
	return noRead(err)
}

// FetchSent counts bytes that were sent to a reader.
func (m *Manager) FetchSent(topic string, follower bool, bytes int) {
	t := m.topics.named(topic)
	if follower {
		m.metrics.All.ReplicationBytesOut.Add(int64(bytes))
		if t != nil {
			t.metrics.ReplicationBytesOut.Add(int64(bytes))
		}
		return
	}
	m.metrics.All.BytesOut.Add(int64(bytes))
	if t != nil {
		t.metrics.BytesOut.Add(int64(bytes))
	}
}

package log

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// decompressLimit bounds what one compressed batch may expand to while it is validated. It is walked as a stream.
const decompressLimit = 1 << 30

// AppendAsLeader validates the batches, assigns offsets in place and writes them. The slice is modified and not retained.
//
// Validation runs before the log's lock is taken. With flush.messages reached it returns after the fsync, unless
// info.DeferFlush. Errors: *record.Error for what the client sent, *RefusedError for sequence numbers and epochs, *StorageError.
func (l *Log) AppendAsLeader(batches []byte, info AppendInfo) (AppendResult, error) {
	if err := l.Err(); err != nil {
		return AppendResult{}, err
	}
	c := l.cfg.Load()
	nowMs := l.nowMs()
	if info.Origin == OriginClient || info.Origin == OriginReplication {
		if err := l.dir.room(len(batches), nowMs); err != nil {
			return AppendResult{}, err
		}
	}
	v, err := record.Validate(batches, l.validateOptions(c, info, nowMs))
	if err != nil {
		return AppendResult{}, err
	}
	if v.Batches == 0 {
		return AppendResult{BaseOffset: id.NoOffset, LastOffset: id.NoOffset, NextOffset: l.EndOffset(), LogStartOffset: l.StartOffset(),
			LogAppendTime: record.NoTimestamp, MaxTimestamp: record.NoTimestamp, OffsetOfMaxTimestamp: id.NoOffset}, nil
	}
	l.mu.Lock()
	r, err := l.append(&v, c, info, nowMs)
	l.mu.Unlock()
	if err == nil && r.FlushDue && !info.DeferFlush {
		r.FlushDue = false
		err = l.Flush(r.NextOffset)
	}
	return r, err
}

// AppendAsFollower writes batches that carry offsets and epochs; batches of an epoch above leaderEpoch are left out.
func (l *Log) AppendAsFollower(batches []byte, leaderEpoch id.LeaderEpoch) (AppendResult, error) {
	return l.AppendAsLeader(batches, AppendInfo{LeaderEpoch: leaderEpoch, Origin: OriginReplication})
}

func (l *Log) validateOptions(c *Config, info AppendInfo, nowMs int64) record.ValidateOptions {
	o := record.ValidateOptions{
		TopicPartition:    l.tp,
		Origin:            info.Origin,
		ProduceVersion:    info.ProduceVersion,
		LeaderEpoch:       info.LeaderEpoch,
		Target:            c.Compression,
		KeepCodec:         c.KeepCodec,
		Compacted:         c.CleanupCompact,
		TimestampBeforeMs: durationMs(c.TimestampBeforeMax),
		TimestampAfterMs:  durationMs(c.TimestampAfterMax),
		NowMs:             nowMs,
		MaxBatchBytes:     c.MaxMessageBytes,
		MaxSegmentBytes:   int(c.SegmentBytes),
		DecompressedLimit: decompressLimit,
		MaxRecordBytes:    c.MaxRecordBytes,
	}
	if c.LogAppendTime {
		o.TimestampType = record.LogAppendTime
	}
	return o
}

// append needs mu. nowMs was read before the lock was taken: it is as late as the wait for the lock was long.
func (l *Log) append(v *record.Validated, c *Config, info AppendInfo, nowMs int64) (AppendResult, error) {
	if err := l.Err(); err != nil {
		return AppendResult{}, err
	}
	end := l.EndOffset()
	setByLeader := info.Origin == OriginRaftLeader || info.Origin == OriginReplication
	if !setByLeader {
		v.AssignOffsets(end, info.LeaderEpoch)
	} else if v.FirstOffset < end {
		return AppendResult{}, &UnexpectedOffsetError{TopicPartition: l.tp, FirstOffset: v.FirstOffset, LastOffset: v.LastOffset, LogEnd: end, LogStart: l.StartOffset()}
	}
	r := AppendResult{
		BaseOffset: v.FirstOffset, LastOffset: v.LastOffset, NextOffset: v.LastOffset + 1, LogStartOffset: l.StartOffset(),
		LogAppendTime: v.LogAppendMs, MaxTimestamp: v.MaxTimestampMs, OffsetOfMaxTimestamp: v.OffsetOfMaxTimestamp,
		Batches: v.Batches, Records: v.Records, Bytes: len(v.Bytes),
	}
	dup, found, err := l.checkProducers(v.Bytes, info)
	if err != nil {
		return AppendResult{}, err
	}
	if found {
		r.Duplicate = true
		r.BaseOffset, r.LastOffset, r.LogAppendTime = dup.firstOffset(), dup.lastOffset, dup.timestamp
		r.NextOffset, r.OffsetOfMaxTimestamp, r.Batches, r.Records, r.Bytes = end, id.NoOffset, 0, 0, 0
		// The original is acknowledged by this answer, so it must be as durable as the answer says.
		r.FlushDue = c.strictFlush() && l.durable.Load() <= int64(dup.lastOffset)
		return r, nil
	}
	seg, err := l.segmentFor(v, c, nowMs)
	if err != nil {
		return AppendResult{}, err
	}
	if err := l.noteEpochs(v); err != nil {
		return AppendResult{}, err
	}
	if err := l.write(seg, v, c, nowMs); err != nil {
		return AppendResult{}, err
	}
	l.afterWrite(seg, v.LastOffset+1)
	r.FlushDue = int64(r.NextOffset)-l.durable.Load() >= c.FlushMessages
	return r, nil
}

// segmentFor rolls if it must and returns the segment for the append.
func (l *Log) segmentFor(v *record.Validated, c *Config, nowMs int64) (*segment, error) {
	if err := l.ensure(); err != nil {
		return nil, err
	}
	seg := l.active()
	roll, err := seg.shouldRoll(rollParams{
		maxBytes: c.SegmentBytes, bytes: int64(len(v.Bytes)), maxAge: c.maxSegmentAge(), maxIndexBytes: c.SegmentIndexBytes,
		nowMs: nowMs, maxTSInMessages: v.MaxTimestampMs, lastOffsetInMessage: v.LastOffset,
	})
	if err != nil {
		return nil, l.fault("append to", err)
	}
	if !roll {
		return seg, nil
	}
	return l.roll(v.FirstOffset)
}

// noteEpochs enters new leader epochs. Usually there is none.
func (l *Log) noteEpochs(v *record.Validated) error {
	for rest := v.Bytes; len(rest) > 0; {
		b := record.Batch(rest)
		b, rest = b[:b.SizeBytes()], rest[b.SizeBytes():]
		if err := l.assignEpoch(b.LeaderEpoch(), b.BaseOffset()); err != nil {
			return err
		}
	}
	return nil
}

// write puts the bytes into the segment and its indexes. On an error the segment is as before.
func (l *Log) write(seg *segment, v *record.Validated, c *Config, nowMs int64) error {
	if err := seg.loadMaxTS(); err != nil {
		return l.fault("append to", err)
	}
	undone, err := seg.write(v.Bytes)
	if err != nil {
		if !undone {
			return l.dir.fail("take back an append to", l.tp.String(), err)
		}
		return l.fault("append to", err)
	}
	position := seg.size.Load()
	for rest := v.Bytes; len(rest) > 0; {
		b := record.Batch(rest)
		b, rest = b[:b.SizeBytes()], rest[b.SizeBytes():]
		seg.note(header{position: position, size: int64(len(b)), base: b.BaseOffset(), last: b.LastOffset(), maxTS: b.MaxTimestamp()}, int64(c.IndexIntervalBytes))
		position += int64(len(b))
	}
	seg.modifiedMs = nowMs
	seg.size.Store(position)
	return nil
}

// afterWrite publishes the new log end and makes the prepared producer state true.
func (l *Log) afterWrite(seg *segment, end id.Offset) {
	if l.durable.Load() == l.end.Load() {
		l.lastFlushMs = seg.modifiedMs // flush.ms counts from the first unflushed append
	}
	l.aborted = l.producers.commit(l.aborted[:0])
	for _, t := range l.aborted {
		seg.txns.add(t)
	}
	l.producers.end = end
	l.publishUnstable()
	l.end.Store(int64(end))
}

// checkProducers runs the batches against the producer state without changing it. found is the earlier batch that the client
// sent again.
func (l *Log) checkProducers(batches []byte, info AppendInfo) (dup batchMeta, found bool, err error) {
	p := &l.producers
	p.begin()
	for rest := batches; len(rest) > 0; {
		b := record.Batch(rest)
		b, rest = b[:b.SizeBytes()], rest[b.SizeBytes():]
		if !b.HasProducerID() {
			continue
		}
		if info.Origin == OriginClient {
			if m, ok := p.duplicate(b); ok {
				return m, true, nil
			}
		}
		if err := l.checkProducer(b, info); err != nil {
			return batchMeta{}, false, err
		}
	}
	return batchMeta{}, false, nil
}

func (l *Log) checkProducer(b record.Batch, info AppendInfo) error {
	a := l.producers.prepare(b.ProducerID())
	if err := l.checkVerified(b, a, info); err != nil {
		return err
	}
	if err := l.prepareBatch(a, b, info); err != nil {
		return err // the question stays open: a later sequence must not pass because an even later one was refused
	}
	l.producers.verified(b)
	return nil
}

func (l *Log) prepareBatch(a *producerAppend, b record.Batch, info AppendInfo) error {
	if !b.IsControl() {
		return a.data(l.tp, b, info.Origin)
	}
	m, ok, err := parseMarker(b)
	if err != nil {
		return refuse(wire.ErrInvalidRecord, "control batch at offset %d in %v: %v", b.BaseOffset(), l.tp, err)
	}
	if !ok {
		return nil // the whole transaction was compacted away
	}
	closed, err := a.marker(l.tp, b, m, info.Origin, info.TransactionVersion)
	if err == nil && closed.first >= 0 {
		l.producers.closed = append(l.producers.closed, closed)
	}
	return err
}

// controlBatchLimit bounds a control batch's decompressed size.
const controlBatchLimit = 1 << 20

// parseMarker reads the end transaction marker in a control batch of a producer. ok is false when the batch is empty.
func parseMarker(b record.Batch) (m endTxnMarker, ok bool, err error) {
	it := b.Records(controlBatchLimit)
	defer it.Close()
	var r record.Record
	if !it.Next(&r) {
		return m, false, it.Err()
	}
	kind, err := record.ParseControlKey(r.Key)
	if err != nil {
		return m, false, err
	}
	if kind != record.ControlCommit && kind != record.ControlAbort {
		return m, false, fmt.Errorf("control record of type %v from a producer", kind)
	}
	// The value: int16 version, int32 coordinator epoch. Later versions add behind.
	if len(r.Value) < 6 {
		return m, false, fmt.Errorf("end transaction marker of %d bytes", len(r.Value))
	}
	return endTxnMarker{
		commit:           kind == record.ControlCommit,
		coordinatorEpoch: int32(binary.BigEndian.Uint32(r.Value[2:])),
		timestamp:        b.MaxTimestamp(),
	}, true, nil
}

// Roll closes the active segment and begins another, unless the active one is empty.
func (l *Log) Roll() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	if l.active().size.Load() == 0 {
		return nil
	}
	_, err := l.roll(l.EndOffset())
	return err
}

// roll needs mu. The new segment begins at base, which is the log end or, for a follower of a compacted log, above it.
func (l *Log) roll(base id.Offset) (*segment, error) {
	old := l.active()
	if old.base == base {
		// The active segment holds nothing and still should roll: its indexes were full or belong to a larger configuration.
		if old.size.Load() > 0 {
			return nil, l.storageError("roll", fmt.Errorf("a segment with base offset %d exists and has %d bytes", base, old.size.Load()))
		}
		return old, nil
	}
	if err := old.finish(); err != nil {
		return nil, l.fault("finish segment of", err)
	}
	if !l.rooted {
		// A power loss must not keep this segment's name and lose that of the one before: the log would seem to begin here.
		if err := l.syncNames(l.bornAt); err != nil {
			return nil, l.dir.fail("flush directory of", l.tp.String(), err)
		}
		l.rooted = true
	}
	seg, err := createSegment(l.at, base, l.nowMs(), l.jitter())
	if err != nil {
		if err := seg.remove(); err != nil {
			return nil, l.dir.fail("take back a roll of", l.tp.String(), err)
		}
		return nil, l.fault("roll", err)
	}
	l.gapped = l.gapped || base > l.EndOffset()
	// The snapshot lets a recovery of the new segment start at its beginning. It is not synced: a torn one is recognised.
	l.producers.end = max(l.producers.end, base)
	if err := l.producers.take(l.at, false); err != nil {
		// The empty segment must not stay: the old one may grow past its base offset, and would be cut there by a restart.
		if err := seg.remove(); err != nil {
			return nil, l.dir.fail("take back a roll of", l.tp.String(), err)
		}
		return nil, l.fault("write producer snapshot of", err)
	}
	l.setSegments(append(slices.Clip(*l.segments.Load()), seg))
	l.wants() // the old segment is flushed in the background
	return seg, nil
}

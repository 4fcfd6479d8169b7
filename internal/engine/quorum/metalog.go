package quorum

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Bounds of batches in the metadata log, as Kafka has them.
const (
	maxBatchBytes   = 8 << 20
	maxBatchRecords = 10_000
	readChunkBytes  = 1 << 20
	// maxRecordOverhead is what a record takes beside its value.
	maxRecordOverhead = 21
	maxKeptScratch    = 1 << 20
)

// metaLog is the log of __cluster_metadata-0 as the driver uses it. It implements raft.Log. One goroutine owns it.
type metaLog struct {
	*log.Log
	o *Options
	// quiet and stop bound the wait for a foreign process to go.
	quiet time.Duration
	stop  <-chan struct{}
	// snapshot is the newest snapshot: epochs that end before the log starts are known from it alone.
	snapshot raft.Position
	oldest   raft.Position // the oldest snapshot
	// members are the sets of voters in force from each offset on, oldest first. The last one counts; the others come back
	// when the log is cut.
	members []raft.Membership
	from    []id.Offset
	builder record.Builder
	scratch []byte
	value   []byte
}

// openMetaLog opens the log; what lies before the newest snapshot may be missing, what lies after must not.
func openMetaLog(o *Options, newest raft.Position) (*metaLog, error) {
	c := log.DefaultConfig()
	c.SegmentBytes = int64(o.SegmentBytes)
	if o.SegmentTime > 0 {
		c.SegmentAge = o.SegmentTime
	}
	c.MaxMessageBytes = maxBatchBytes
	c.RetentionBytes, c.RetentionTime, c.CleanupDelete = -1, -1, false // snapshots decide what may go
	c.TimestampAfterMax = log.Forever
	if err := checkDamage(o.FS, o.logDir(), newest.Offset); err != nil {
		return nil, err
	}
	l, err := log.OpenLog(log.LogOptions{
		FS: o.FS, Dir: o.logDir(), TopicPartition: id.TopicPartition{Topic: metadataTopic}, TopicID: id.MetadataTopicID,
		Config: c, Logger: o.Logger, Now: o.Now,
	})
	if err != nil {
		return nil, err
	}
	m := &metaLog{Log: l, o: o, quiet: foreignQuiet, snapshot: newest, oldest: newest}
	end := m.End()
	if newest != bootstrapID && end.Behind(newest) {
		o.Logger.Info("the log ends before the newest snapshot and begins anew", "log_end", int64(end.Offset), "snapshot", snapshotName(newest))
		if err := l.TruncateFullyAndStartAt(newest.Offset); err != nil {
			return nil, err
		}
	}
	if l.StartOffset() > newest.Offset {
		return nil, fmt.Errorf("the metadata log starts at offset %d, but the newest snapshot ends at %d", l.StartOffset(), newest.Offset)
	}
	return m, nil
}

// End implements raft.Log.
func (m *metaLog) End() raft.Position {
	p := raft.Position{Offset: m.EndOffset(), Epoch: m.LatestEpoch()}
	if p.Epoch == id.NoLeaderEpoch {
		p.Epoch = max(0, m.snapshot.Epoch)
	}
	return p
}

// EndOffsetForEpoch implements raft.Log.
func (m *metaLog) EndOffsetForEpoch(e id.LeaderEpoch) (raft.Position, bool) {
	at := m.Log.EndOffsetForEpoch(e)
	if at.EndOffset >= 0 && at.Epoch >= 0 {
		return raft.Position{Offset: at.EndOffset, Epoch: at.Epoch}, true
	}
	return raft.Position{}, false
}

// membership is the newest set of voters.
func (m *metaLog) membership() raft.Membership { return m.members[len(m.members)-1] }

// membershipAt is the set in force for the records before offset end.
func (m *metaLog) membershipAt(end id.Offset) raft.Membership {
	out := m.members[0]
	for i, from := range m.from {
		if from < end {
			out = m.members[i]
		}
	}
	return out
}

// note enters a set of voters, in force from offset from on.
func (m *metaLog) note(ms raft.Membership, from id.Offset) {
	m.members, m.from = append(m.members, ms), append(m.from, from)
}

// fold takes the control records of a batch into the membership.
func (m *metaLog) fold(b record.Batch) (changed bool, err error) {
	if !b.IsControl() {
		return false, nil
	}
	ms := m.membership()
	err = eachControl(b, func(t record.ControlType, value []byte, at id.Offset) error {
		c, err := ms.Fold(t, value, at)
		changed = changed || c
		return err
	})
	if err == nil && changed {
		m.note(ms, b.BaseOffset())
	}
	return changed, err
}

// scan folds every control batch from offset on, committed or not: the newest voters count from when they are appended.
func (m *metaLog) scan(from id.Offset) error {
	return m.batches(max(from, m.StartOffset()), m.EndOffset(), log.ReadLogEnd, func(b record.Batch) error {
		_, err := m.fold(b)
		return err
	})
}

// batches visits the batches from offset from to end (exclusive). They are valid during the visit.
func (m *metaLog) batches(from, end id.Offset, isolation log.Isolation, visit func(record.Batch) error) error {
	for from < end {
		r, err := m.Read(log.ReadRequest{Offset: from, MaxBytes: readChunkBytes, MinOneMessage: true, Isolation: isolation,
			Reader: log.Reader{ReplicaID: id.NoBroker, ReplicaEpoch: id.NoBrokerEpoch}, LastFetchedEpoch: id.NoLeaderEpoch})
		if err != nil {
			return fmt.Errorf("read the metadata log at offset %d: %w", from, err)
		}
		if r.Section == nil {
			return nil
		}
		b, err := r.Section.Bytes()
		r.Section.Release()
		if err != nil {
			return fmt.Errorf("read the metadata log at offset %d: %w", from, err)
		}
		was := from
		for len(b) > 0 && from < end {
			batch, rest, err := record.Next(b)
			if err == nil {
				err = batch.CheckCRC()
			}
			if err != nil {
				return fmt.Errorf("read the metadata log at offset %d: %w", from, err)
			}
			b = rest
			if batch.NextOffset() <= from {
				continue
			}
			if err := visit(batch); err != nil {
				return err
			}
			from = batch.NextOffset()
		}
		if from == was {
			return fmt.Errorf("read the metadata log at offset %d: no batch there", from)
		}
	}
	return nil
}

// appendControl writes one control batch.
func (m *metaLog) appendControl(epoch id.LeaderEpoch, nowMs int64, records []record.ControlRecord) error {
	o := record.NewOptions()
	o.BaseOffset, o.LeaderEpoch = m.EndOffset(), epoch
	b, err := record.AppendControl(m.scratch[:0], o, nowMs, records...)
	if err != nil {
		return err
	}
	m.scratch = b
	if err := m.write(b, epoch); err != nil {
		return err
	}
	_, err = m.fold(record.Batch(b))
	return err
}

// errTooLarge reports records that do not fit a batch. Nothing was written.
type errTooLarge struct{ size int }

func (e *errTooLarge) Error() string {
	return fmt.Sprintf("The total record(s) size of %d exceeds the maximum allowed batch size of %d", e.size, maxBatchBytes)
}

// appendRecords writes metadata records as one batch, or as several unless atomic. They are encoded as a whole before the
// first is written; where the disk is full (log.IsFull), none is.
func (m *metaLog) appendRecords(epoch id.LeaderEpoch, nowMs int64, records []image.Record, atomic bool) error {
	o := record.NewOptions()
	o.LeaderEpoch, o.BaseOffset = epoch, m.EndOffset()
	m.builder.Reset(o)
	out := m.scratch[:0]
	for _, r := range records {
		var err error
		if m.value, err = logrec.AppendMetadata(m.value[:0], r.Message, r.Version); err != nil {
			return fmt.Errorf("encode a metadata record: %w", err)
		}
		size := m.builder.SizeBytes() + len(m.value) + maxRecordOverhead
		if m.builder.Count() > 0 && !atomic && (size > maxBatchBytes || m.builder.Count() >= maxBatchRecords) {
			if out, err = m.builder.AppendTo(out); err != nil {
				return err
			}
			o.BaseOffset = m.builder.LastOffset() + 1
			m.builder.Reset(o)
			size = m.builder.SizeBytes() + len(m.value) + maxRecordOverhead
		}
		if size > maxBatchBytes {
			return &errTooLarge{size}
		}
		if err := m.builder.Append(nowMs, nil, m.value); err != nil {
			return err
		}
	}
	out, err := m.builder.AppendTo(out)
	if err != nil {
		return err
	}
	m.scratch = out
	if cap(m.scratch) > maxKeptScratch {
		m.scratch = nil
	}
	start := m.EndOffset()
	for len(out) > 0 {
		b, rest, err := record.Next(out)
		if err != nil {
			return err
		}
		if err := m.write(b, epoch); err != nil {
			return m.takeBack(start, err)
		}
		out = rest
	}
	return nil
}

// takeBack removes the batches that went before the one the disk had no room for.
func (m *metaLog) takeBack(start id.Offset, err error) error {
	if !log.IsFull(err) || m.EndOffset() == start {
		return err
	}
	if cut := m.cutTo(start); cut != nil {
		return fmt.Errorf("take back an append: %w", cut) // no %w of err: half a decision stands, and freeing space does not help
	}
	return err
}

func (m *metaLog) write(b []byte, epoch id.LeaderEpoch) error {
	if err := m.owned(epoch); err != nil {
		return err
	}
	_, err := m.AppendAsLeader(b, log.AppendInfo{LeaderEpoch: epoch, Origin: log.OriginRaftLeader})
	return err
}

// cutTo removes everything from offset to on, and the voters it brought.
func (m *metaLog) cutTo(to id.Offset) error {
	if err := m.owned(math.MaxInt32); err != nil {
		return err
	}
	if err := m.TruncateTo(to); err != nil {
		return err
	}
	for n := len(m.from); n > 1 && m.from[n-1] >= to; n-- {
		m.members, m.from = m.members[:n-1], m.from[:n-1]
	}
	return nil
}

// restart says that the log was emptied and begins at a snapshot with the given voters.
func (m *metaLog) restart(ms raft.Membership, at raft.Position) {
	m.members, m.from = []raft.Membership{ms}, []id.Offset{noOffset}
	m.snapshot, m.oldest = at, at
}

// forgetBefore drops the sets of voters that no cut can bring back, those replaced below the high watermark.
func (m *metaLog) forgetBefore(hw id.Offset) {
	for len(m.from) > 1 && m.from[1] < hw && len(m.from) > maxMemberships {
		m.members, m.from = m.members[1:], m.from[1:]
	}
}

// maxMemberships is how many sets of voters are kept for snapshots of the past.
const maxMemberships = 64

// noOffset precedes every offset of a log.
const noOffset = id.Offset(math.MinInt64)

func logAttrs(p raft.Position) []any {
	return []any{slog.Int64("end_offset", int64(p.Offset)), slog.Int("epoch", int(p.Epoch))}
}

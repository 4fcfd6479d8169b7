package coord

import (
	"context"
	"log/slog"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// batch is the open batch.
type batch struct {
	base  id.Offset
	began time.Time
	limit int  // of its bytes
	taken bool // somebody is about to write this adaptive batch
	ready bool // and has given way to those that were ready to join it
	left  bool // that is an Agenda
	// alone is a batch that belongs to a transaction: nothing joins it. marker, if there is one, stands for the builder's records.
	alone    bool
	marker   []byte
	version  int16 // of the marker
	guard    uint64
	ops      []op
	messages []any
}

// defaultMaxBatchBytes is Kafka's default of max.message.bytes.
const defaultMaxBatchBytes = 1<<20 + 12

// After so many batches that nobody joined, those who open one give way only now and then: to give way wakes a thread.
const (
	lonelyAfter = 16
	lonelyTries = 64
)

// lonely says whether nobody is expected to join the batch that is opened now.
func (c *cell[M]) lonely() bool { return c.unshared >= lonelyAfter && c.unshared%lonelyTries != 0 }

// leftAtMost bounds how long a batch is left to an Agenda: whose it is may be held up by another partition, and those who have joined
// the batch with him. A cell with such batches has a tick as often, so it is long.
const leftAtMost = 100 * time.Millisecond

// recordOverhead bounds what a record takes in a batch beyond its key and value.
const recordOverhead = 32

func sizeOf(r *shard.Record) int { return len(r.Key) + len(r.Value) + recordOverhead }

// join adds the records of a decision to the open batch, writing it where they do not fit.
func (c *cell[M]) join(now time.Time, res *shard.Result) wire.ErrorCode {
	all := res.Records
	if res.Marker != nil {
		all = []shard.Record{{Change: res.Marker.Change}}
	}
	if b := c.batch; b != nil && (b.alone || res.Producer != nil || res.Marker != nil) {
		if code := c.makeRoom(all); code != wire.ErrNone {
			return code
		}
	}
	if res.Marker != nil {
		return c.mark(now, res.Marker)
	}
	atomic := res.Atomic || res.Producer != nil
	need := 0
	if atomic {
		for i := range res.Records {
			need += sizeOf(&res.Records[i])
		}
	}
	for i := range res.Records {
		r := &res.Records[i]
		if !atomic {
			need = sizeOf(r)
		}
		if (i == 0 || !atomic) && c.batch != nil && c.builder.SizeBytes()+need > c.batch.limit {
			if code := c.makeRoom(all[i:]); code != wire.ErrNone {
				return code
			}
		}
		if c.batch == nil {
			c.open(now, res.Producer)
		}
		c.core.Apply(c.next, *r)
		if err := c.builder.Append(now.UnixMilli(), r.Key, r.Value); err != nil {
			c.rt.opts.Logger.Error("coordinator record refused", "partition", c.partition, "err", err)
			c.next++
			c.fail(wire.ErrUnknownServerError)
			return wire.ErrUnknownServerError
		}
		c.next++
	}
	return wire.ErrNone
}

// makeRoom writes the open batch for the records of a decision that cannot be in it. If it cannot be written they are lost with it, in the
// same way: a core has all records applied and taken back again, and goes by that.
func (c *cell[M]) makeRoom(records []shard.Record) wire.ErrorCode {
	c.late = records
	defer func() { c.late = nil }()
	return c.flush()
}

func (c *cell[M]) open(now time.Time, producer *shard.Producer) {
	o := record.NewOptions()
	o.Compression = c.rt.opts.Compression
	if producer != nil {
		o.ProducerID, o.ProducerEpoch, o.Transactional, o.BaseSequence = producer.ID, producer.Epoch, true, 0
	}
	if c.builder == nil {
		c.builder = record.NewBuilder(o)
	} else {
		c.builder.Reset(o)
	}
	limit := c.rt.opts.MaxBatchBytes(c.partition)
	if limit <= 0 {
		limit = defaultMaxBatchBytes
	}
	c.batch = &batch{base: c.next, began: now, limit: limit, ready: c.lonely(), alone: producer != nil, ops: c.spare}
	c.spare = nil
	if producer != nil {
		c.batch.guard = producer.Guard
	}
}

// mark makes the batch of a marker.
func (c *cell[M]) mark(now time.Time, m *shard.Marker) wire.ErrorCode {
	value := logrec.EncodeVersioned(&logrec.EndTxnMarker{CoordinatorEpoch: m.CoordinatorEpoch}, 0)
	bytes, err := record.EndTxnMarker(m.ID, m.Epoch, m.Commit, now.UnixMilli(), value)
	if err != nil {
		c.rt.opts.Logger.Error("transaction marker refused", "partition", c.partition, "err", err)
		return wire.ErrUnknownServerError
	}
	c.batch = &batch{base: c.next, began: now, alone: true, marker: bytes, version: m.Version}
	c.core.Apply(c.next, shard.Record{Change: m.Change})
	c.next++
	return wire.ErrNone
}

// take makes the caller the one who writes the open batch, if it is adaptive and nobody is that yet.
func (c *cell[M]) take() *batch {
	b := c.batch
	if b == nil || b.taken || c.rt.opts.Linger >= 0 {
		return nil
	}
	b.taken = true
	return b
}

// ripe says whether the open batch is to be written now.
func (c *cell[M]) ripe(now time.Time) bool {
	b := c.batch
	if b.alone || c.builder.SizeBytes() >= b.limit {
		return true
	}
	if c.rt.opts.Linger < 0 {
		return b.ready || b.left && now.Sub(b.began) >= leftAtMost
	}
	return now.Sub(b.began) >= c.rt.opts.Linger
}

// flush writes the open batch. The code says why it could not; its decisions have failed then.
func (c *cell[M]) flush() wire.ErrorCode {
	if c.dead.Load() {
		c.die()
		return wire.ErrNotCoordinator
	}
	b := c.batch
	var err error
	began := time.Now()
	c.rt.metrics.LingerTime.Observe(began, began.Sub(b.began).Nanoseconds())
	out := Batch{Bytes: b.marker, TransactionVersion: b.version, Guard: b.guard}
	if b.marker == nil {
		if out.Bytes, err = c.builder.AppendTo(c.wire[:0]); err == nil {
			c.keep(out.Bytes)
		}
	}
	var next id.Offset
	if err == nil {
		c.below = true
		next, err = c.rt.opts.Log.Append(c.partition, c.epoch, out)
		c.below = false
	}
	if err != nil {
		code := errorCode(err)
		if code == wire.ErrNotLeaderOrFollower || code == wire.ErrFencedLeaderEpoch {
			c.rt.opts.Logger.Info("coordinator deposed", "partition", c.partition, "leader_epoch", c.epoch)
			c.die()
			return code
		}
		level := slog.LevelError
		if code == wire.ErrInvalidProducerEpoch || code == wire.ErrInvalidTxnState || code == wire.ErrTransactionCoordinatorFenced {
			level = slog.LevelDebug // an end of somebody's transaction, as clients bring it about whenever they like
		}
		c.rt.opts.Logger.Log(context.Background(), level, "coordinator append failed", "partition", c.partition, "decisions", len(b.ops), "err", err)
		c.fail(code)
		return code
	}
	if next != c.next {
		// Somebody else wrote to the partition: offsets in the core would be wrong from here on.
		c.rt.opts.Logger.Error("coordinator out of step with its log, reloading", "partition", c.partition, "offset", next, "expected", c.next)
		c.restart(c.crashes, 0)
		return wire.ErrNotCoordinator
	}
	now := time.Now()
	c.rt.metrics.FlushTime.Observe(now, now.Sub(began).Nanoseconds())
	c.rt.metrics.Flushes.Mark(now, 1)
	c.batch = nil
	c.unshared++
	if len(b.ops) > 1 {
		c.unshared = 0
	}
	for _, o := range b.ops {
		o.required = next
		c.written.push(o)
	}
	if cap(b.ops) <= keptSpare {
		clear(b.ops)
		c.spare = b.ops[:0]
	}
	b.ops = nil // an Agenda may know the batch still
	if len(b.messages) > 0 {
		c.held.push(held{next, b.messages})
	}
	c.trim(b)
	return wire.ErrNone
}

// trim gives back the memory of a batch that took more than is kept, before or after its compression.
func (c *cell[M]) trim(b *batch) {
	if b.marker != nil {
		return // it used none
	}
	most := int(c.rt.keep.Load())
	raw, out := c.builder.SizeBytes() > most, cap(c.wire) > most
	if raw {
		c.builder = nil
	}
	if out {
		c.keep(nil)
	}
	if raw || out {
		c.rt.metrics.DroppedBuffers.Add(1)
	}
}

// fail takes the open batch back and fails its decisions.
func (c *cell[M]) fail(code wire.ErrorCode) {
	b := c.batch
	c.batch = nil
	c.trim(b)
	for _, r := range c.late {
		c.core.Apply(c.next, r)
		c.next++
	}
	c.next = b.base
	c.core.Revert(b.base)
	for _, o := range b.ops {
		c.fates.push(fate{o, code})
	}
}

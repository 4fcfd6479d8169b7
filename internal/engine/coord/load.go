package coord

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/record"
)

// maxLoadBatch bounds what one compressed batch may decompress to while loading. Coordinators write small batches.
const maxLoadBatch = 256 << 20

// errStopped ends a load whose cell is not wanted any more.
var errStopped = errors.New("load stopped")

// load replays the partition and makes the cell active.
func (c *cell[M]) load() {
	defer c.rt.running.Done()
	defer c.rt.loadOver()
	defer c.loadPanicked()
	if c.pause > 0 {
		select {
		case <-time.After(c.pause):
		case <-c.rt.stop:
			return
		}
	}
	began := time.Now()
	select {
	case c.rt.loads <- struct{}{}:
		defer func() { <-c.rt.loads }()
	case <-c.rt.stop:
		return
	}
	core := c.rt.opts.New(c.partition)
	unwatch, err := c.rt.opts.Log.Watch(c.partition, c.advanced)
	var next id.Offset
	var records int
	if err == nil {
		defer func() {
			if unwatch != nil {
				unwatch()
			}
		}()
		next, records, err = c.replay(core)
	}
	c.enter()
	defer c.leave()
	if err == nil && c.dead.Load() {
		err = errStopped
	}
	if err != nil {
		if !errors.Is(err, errStopped) {
			c.rt.opts.Logger.Error("coordinator load failed", "partition", c.partition, "leader_epoch", c.epoch, "err", err)
		}
		c.die()
		return
	}
	c.unwatch, unwatch = unwatch, nil // the cell's from here on
	now := time.Now()
	c.state, c.core, c.next, c.since = active, core, next, now
	c.up.Store(true)
	c.rt.metrics.LoadTime.Observe(now, now.Sub(began).Nanoseconds())
	c.rt.opts.Logger.Info("coordinator loaded", "partition", c.partition, "leader_epoch", c.epoch, "records", records, "took", now.Sub(began))
	c.decide(shard.NoTicket, func(m M, now time.Time, _ shard.Ticket) shard.Result {
		res := m.Loaded(now, next)
		c.carry(now, shard.NoTicket, shard.Result{Messages: res.Messages})
		res.Messages = nil
		return res
	})
}

// loadPanicked ends a load that has panicked in the core or in the log. It happens again with the same log, so nothing is tried
// again before the next leadership.
func (c *cell[M]) loadPanicked() {
	p := recover()
	if p == nil {
		return
	}
	c.rt.opts.Logger.Error("coordinator load panicked", "partition", c.partition, "leader_epoch", c.epoch, "panic", fmt.Sprint(p),
		"stack", string(debug.Stack()))
	c.end()
}

// replay folds the whole log into core and returns the offset after its end.
func (c *cell[M]) replay(core M) (next id.Offset, records int, err error) {
	ends, err := c.rt.opts.Log.Ends(c.partition, c.epoch)
	if err != nil {
		return 0, 0, err
	}
	core.Committed(ends.HighWatermark) // what is read below it need not be kept in a form that can be taken back
	var buf []byte
	for next = ends.Start; ; {
		if c.dead.Load() {
			return 0, 0, errStopped
		}
		buf, err = c.rt.opts.Log.Read(c.partition, c.epoch, next, c.rt.opts.LoadBufferBytes, buf)
		if err != nil {
			return 0, 0, err
		}
		rest := buf
		for len(rest) > 0 {
			var b record.Batch
			var n int
			here := rest
			b, rest, err = record.Next(here)
			if _, old := errors.AsType[*record.LegacyError](err); old {
				n, next, err = c.replayLegacy(core, here, next)
				if err != nil {
					return 0, 0, err
				}
				records += n
				continue
			}
			if err != nil {
				return 0, 0, fmt.Errorf("batch at %d: %w", next, err)
			}
			if n, err = c.replayBatch(core, b, next); err != nil {
				return 0, 0, err
			}
			records += n
			next = b.NextOffset()
		}
		ends, err = c.rt.opts.Log.Ends(c.partition, c.epoch)
		if err != nil {
			return 0, 0, err
		}
		core.Committed(ends.HighWatermark)
		c.advanced(ends.HighWatermark)
		if next >= ends.End || len(buf) == 0 {
			// The log may end in a hole that compaction left.
			return max(next, ends.End), records, nil
		}
	}
}

func (c *cell[M]) replayBatch(core M, b record.Batch, from id.Offset) (n int, err error) {
	producer := id.NoProducer
	if b.IsTransactional() {
		producer = b.ProducerID()
	}
	it := b.Records(maxLoadBatch)
	defer it.Close()
	var r record.Record
	for it.Next(&r) {
		if r.Offset < from {
			continue
		}
		n++
		if b.IsControl() {
			if typ, err := record.ParseControlKey(r.Key); err == nil && (typ == record.ControlCommit || typ == record.ControlAbort) {
				core.EndTransaction(r.Offset, b.ProducerID(), typ == record.ControlCommit)
			}
			continue
		}
		if err := c.replayRecord(core, &r, producer); err != nil {
			return n, err
		}
	}
	return n, it.Err()
}

func (c *cell[M]) replayRecord(core M, r *record.Record, producer id.ProducerID) error {
	known, err := core.Replay(r.Offset, producer, r.Key, r.Value)
	if err == nil && !known {
		c.rt.opts.Logger.Warn("coordinator record of unknown type ignored", "partition", c.partition, "offset", r.Offset)
	}
	return err
}

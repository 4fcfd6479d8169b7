package coord

import (
	"sync/atomic"
	"time"

	"github.com/moldau-io/moldau/internal/base/metric"
)

// Metrics are what a Runtime counts: Kafka's CoordinatorRuntimeMetrics, where an event is one turn at a partition. Times are in
// nanoseconds.
type Metrics struct {
	// QueueTime is how long an event waits for its turn, ProcessingTime how long the turn takes, with the write if there is one.
	QueueTime, ProcessingTime metric.Recent
	// PurgatoryTime is how long a decision waits until it is committed, lost or late.
	PurgatoryTime metric.Recent
	// LingerTime is how long a batch waits to be written, FlushTime how long that takes.
	LingerTime, FlushTime metric.Recent
	// Flushes counts batches that were written.
	Flushes metric.Meter
	// LoadTime is how long a partition takes to load, the wait for others that load included.
	LoadTime metric.Recent
	// Busy counts the nanoseconds in which partitions have had a turn.
	Busy metric.Meter
	// DroppedBuffers counts batches that were too large for their memory to be kept.
	DroppedBuffers atomic.Int64

	bufferBytes atomic.Int64
}

// Gauges are how many partitions a Runtime has by state, and what waits in it.
type Gauges struct {
	Loading, Active, Failed int
	Queued                  int   // events that wait for their turn
	BufferBytes             int64 // of the buffers that partitions keep for their next batches
}

// Metrics returns the Runtime's own counts.
func (r *Runtime[M]) Metrics() *Metrics { return &r.metrics }

// Gauges returns how things stand. It does not wait for any partition.
func (r *Runtime[M]) Gauges() Gauges {
	g := Gauges{BufferBytes: r.metrics.bufferBytes.Load()}
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, c := range r.cells {
		switch {
		case c.dead.Load():
			g.Failed++
		case c.up.Load():
			g.Active++
		default:
			g.Loading++
		}
		g.Queued += int(c.inLine.Load() + c.posted.Load())
	}
	return g
}

// begun starts a turn at the cell, whose lock has just been taken.
func (c *cell[M]) begun() { c.turn = time.Now() }

// over ends a turn at the cell, whose lock is about to be released.
func (c *cell[M]) over() {
	now := time.Now()
	took := now.Sub(c.turn)
	c.rt.metrics.ProcessingTime.Observe(now, took.Nanoseconds())
	c.rt.metrics.Busy.Mark(now, int64(took))
}

// keep accounts for the buffer that the cell keeps for its batches.
func (c *cell[M]) keep(buffer []byte) {
	c.rt.metrics.bufferBytes.Add(int64(cap(buffer) - cap(c.wire)))
	c.wire = buffer
}

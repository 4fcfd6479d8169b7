package coord

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// Adaptive is the linger that writes a batch as soon as those who are ready to share it have joined it.
const Adaptive time.Duration = -1

// Options make a Runtime.
type Options[M Machine] struct {
	// Log is the internal topic.
	Log Log
	// New returns an empty core for a partition.
	New func(partition int32) M
	// Logger gets what operators must know; nil discards it.
	Logger *slog.Logger
	// Linger is group.coordinator.append.linger.ms: how long a batch waits for more records, or Adaptive.
	Linger time.Duration
	// WriteTimeout is offsets.commit.timeout.ms: how long a decision may wait for its commit; 0 means 5 s.
	WriteTimeout time.Duration
	// LoadBufferBytes is offsets.load.buffer.size: how much is read at once while loading; 0 means 5 MiB.
	LoadBufferBytes int
	// MaxBatchBytes returns what a batch of a partition may have, its max.message.bytes. Nil, or 0 from it, means Kafka's default.
	MaxBatchBytes func(partition int32) int
	// Compression is offsets.topic.compression.codec; the zero value is none.
	Compression record.Compression
	// Send takes the messages of committed decisions. It may be nil if the core has none.
	Send Sender[M]
	// Fault hears that the log below has panicked: its state is unknown, and the node should end. May be nil.
	Fault func(error)
	// MaxWaiting bounds the tickets of one partition, and its events; 0 means 131072. Beyond it requests are told
	// COORDINATOR_NOT_AVAILABLE.
	MaxWaiting int
}

// parallelLoads is how many partitions load at the same time.
const parallelLoads = 4

// Runtime runs the cores of all partitions of one internal topic that this broker leads. See the package comment.
type Runtime[M Machine] struct {
	opts    Options[M]
	metrics Metrics
	loads   chan struct{} // slots for loading
	giveWay func()        // lets callers that are ready run: runtime.Gosched
	keep    atomic.Int64  // KeepBuffers

	mu     sync.RWMutex // guards cells, closed and loaded
	cells  map[int32]*cell[M]
	closed bool
	loaded chan struct{} // closed when a load is over, in whatever way, and made anew

	// The deadlines of cells, and the goroutine that keeps them.
	tickMu    sync.Mutex
	deadlines shard.Deadlines[*cell[M], struct{}]
	wake      chan struct{}
	stop      chan struct{}
	running   sync.WaitGroup
}

// New returns a Runtime without partitions and starts its goroutine.
func New[M Machine](o Options[M]) *Runtime[M] {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 5 * time.Second
	}
	if o.LoadBufferBytes <= 0 {
		o.LoadBufferBytes = 5 << 20
	}
	if o.MaxBatchBytes == nil {
		o.MaxBatchBytes = func(int32) int { return 0 }
	}
	if o.Send == nil {
		o.Send = func(from Origin[M], message any) {
			o.Logger.Error("coordinator message that nobody sends", "partition", from.Partition(), "message", fmt.Sprintf("%T", message))
		}
	}
	if o.Fault == nil {
		o.Fault = func(error) {}
	}
	if o.MaxWaiting <= 0 {
		o.MaxWaiting = 1 << 17
	}
	r := &Runtime[M]{opts: o, loads: make(chan struct{}, parallelLoads), giveWay: runtime.Gosched, cells: make(map[int32]*cell[M]),
		loaded: make(chan struct{}), wake: make(chan struct{}, 1), stop: make(chan struct{})}
	r.KeepBuffers(defaultMaxBatchBytes)
	r.running.Add(1)
	go r.run()
	return r
}

// KeepBuffers bounds the buffers of batches that are kept for the next batch (group.coordinator.cached.buffer.max.bytes). Without it the
// bound is Kafka's default.
func (r *Runtime[M]) KeepBuffers(bytes int) { r.keep.Store(int64(bytes)) }

// Close ends all cells; who waits is told NOT_COORDINATOR, and everybody who comes later COORDINATOR_NOT_AVAILABLE.
func (r *Runtime[M]) Close() {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.closed = true
	for _, c := range r.cells {
		r.discard(c) // side by side: one may wait for its disk
	}
	r.cells = nil
	r.mu.Unlock()
	close(r.stop)
	r.running.Wait()
}

// Elected says that this broker leads a partition in the given epoch. It returns at once; the partition loads on its own. An
// epoch that is not newer than the known one is ignored.
func (r *Runtime[M]) Elected(partition int32, epoch id.LeaderEpoch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	old := r.cells[partition]
	if old != nil {
		if old.epoch >= epoch {
			return
		}
		r.discard(old)
	}
	r.begin(newCell(r, partition, epoch), old)
}

// begin loads a cell, which takes the place of old if there is one. r.mu is held.
func (r *Runtime[M]) begin(c, old *cell[M]) {
	if old != nil {
		c.inherit(old)
	}
	r.cells[c.partition] = c
	r.running.Add(1)
	go c.load()
}

// Resigned says that this broker does not lead a partition any more, since the given epoch; NoLeaderEpoch means for good. It
// returns at once.
func (r *Runtime[M]) Resigned(partition int32, epoch id.LeaderEpoch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.cells[partition]; c != nil && (epoch == id.NoLeaderEpoch || epoch >= c.epoch) {
		delete(r.cells, partition)
		r.discard(c)
	}
}

// discard ends a cell in the background: whoever tells of a leadership must not wait for a decision under way. r.mu is held.
func (r *Runtime[M]) discard(c *cell[M]) {
	c.dead.Store(true)
	r.running.Add(1)
	go func() {
		defer r.running.Done()
		c.end()
	}()
}

// reload starts a partition again whose core and log do not agree, after a pause. crashes is how often it has panicked of late.
func (r *Runtime[M]) reload(old *cell[M], crashes int, pause time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.cells[old.partition] != old {
		return
	}
	old.dead.Store(true)
	c := newCell(r, old.partition, old.epoch)
	c.crashes, c.pause = crashes, pause
	r.begin(c, old)
}

// AwaitLoaded returns when each of the partitions, which this broker leads or is about to lead, is loaded or cannot be. The error is
// that of ctx if it is done before.
func (r *Runtime[M]) AwaitLoaded(ctx context.Context, partitions []int32) error {
	for {
		r.mu.RLock()
		some := r.loaded
		waits := !r.closed && slices.ContainsFunc(partitions, func(p int32) bool {
			c := r.cells[p]
			return c == nil || !c.up.Load() && !c.dead.Load()
		})
		r.mu.RUnlock()
		if !waits {
			return nil
		}
		select {
		case <-some:
		case <-r.stop:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// loadOver tells who waits for a load that one is over.
func (r *Runtime[M]) loadOver() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.loaded)
	r.loaded = make(chan struct{})
}

func (r *Runtime[M]) cell(partition int32) (*cell[M], wire.ErrorCode) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if c := r.cells[partition]; c != nil {
		return c, wire.ErrNone
	}
	if r.closed {
		return nil, wire.ErrCoordinatorNotAvailable
	}
	return nil, wire.ErrNotCoordinator
}

func (r *Runtime[M]) down() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.closed
}

func (r *Runtime[M]) all() []*cell[M] {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*cell[M], 0, len(r.cells))
	for _, c := range r.cells {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *cell[M]) int { return int(a.partition - b.partition) })
	return all
}

// Do makes a decision in a partition. decide is called before Do returns, if at all; reply before or after.
func (r *Runtime[M]) Do(partition int32, reply Reply, decide func(m M, now time.Time, t shard.Ticket) shard.Result) {
	r.DoLater(partition, reply, decide, nil)
}

// Agenda is a caller's who may have more decisions to bring at once.
type Agenda interface {
	// Later takes on to call write soon, and before it waits for anything, or refuses by returning false.
	Later(write func()) bool
}

// DoLater is Do for a caller with an Agenda, to which it leaves the writing of the batch that the decision opens. a may be nil.
func (r *Runtime[M]) DoLater(partition int32, reply Reply, decide func(m M, now time.Time, t shard.Ticket) shard.Result, a Agenda) {
	c, code := r.cell(partition)
	if code != wire.ErrNone {
		reply(nil, code)
		return
	}
	c.do(reply, decide, a)
}

// DoAll brings an event to every partition led here; those that load, or have to be loaded again, get it when they are loaded, be it in
// another leader epoch. It does not wait.
func (r *Runtime[M]) DoAll(event Event[M]) {
	r.mu.RLock() // whoever replaces a cell meanwhile takes on its events
	defer r.mu.RUnlock()
	for _, c := range r.cells {
		if !c.post(event, true) {
			r.opts.Logger.Error("coordinator does not follow, an event is lost", "partition", c.partition)
		}
	}
}

// Read looks at a partition's core; look must not change it nor keep it. The code says why it could not.
func (r *Runtime[M]) Read(partition int32, look func(m M)) wire.ErrorCode {
	c, code := r.cell(partition)
	if code != wire.ErrNone {
		return code
	}
	return c.read(look)
}

// ReadAll looks at the core of every partition led here, in order. It stops at the first that is still loading.
func (r *Runtime[M]) ReadAll(look func(m M)) wire.ErrorCode {
	cells := r.all()
	if len(cells) == 0 && r.down() {
		return wire.ErrCoordinatorNotAvailable
	}
	for _, c := range cells {
		if code := c.read(look); code != wire.ErrNone && code != wire.ErrNotCoordinator {
			return code
		}
	}
	return wire.ErrNone
}

// run keeps the deadlines of all cells.
func (r *Runtime[M]) run() {
	defer r.running.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		r.tickMu.Lock()
		now := time.Now()
		c, _, due := r.deadlines.Pop(now)
		at, any := r.deadlines.Next()
		if due {
			c.scheduled.Store(nil)
		}
		r.tickMu.Unlock()
		if due {
			c.due.Store(true)
			c.wake() // and not here: a slow append must not hold up the deadlines of others
			select {
			case <-r.stop:
				return
			default:
				continue
			}
		}
		wait := time.Hour
		if any {
			wait = at.Sub(now)
		}
		timer.Reset(wait)
		select {
		case <-r.stop:
			return
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// schedule asks for a tick of c at the given time or earlier.
func (r *Runtime[M]) schedule(c *cell[M], at time.Time) {
	if have := c.scheduled.Load(); have != nil && !at.Before(*have) {
		return // an early tick does no harm, and finds out when the next one is due
	}
	r.tickMu.Lock()
	if c.dead.Load() {
		r.tickMu.Unlock()
		return
	}
	next := at // at itself stays off the heap: mostly nothing is to be done
	c.scheduled.Store(&next)
	r.deadlines.Set(c, at, struct{}{})
	first, _ := r.deadlines.Next()
	r.tickMu.Unlock()
	if !at.After(first) {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

func (r *Runtime[M]) unschedule(c *cell[M]) {
	r.tickMu.Lock()
	r.deadlines.Cancel(c)
	r.tickMu.Unlock()
}

package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire"
)

// Voter is a member of the quorum.
type Voter struct {
	ID          id.BrokerID
	DirectoryID id.UUID // zero in a static quorum (kraft.version 0)
	Endpoints   []Endpoint
}

// Endpoint is where a voter listens for controllers, by listener name.
type Endpoint struct {
	Name string
	Host string
	Port uint16
}

// Options opens a Quorum.
type Options struct {
	FS     vfs.FS
	Dir    string // the metadata log dir (metadata.log.dir or the first of log.dirs); holds __cluster_metadata-0
	Logger *slog.Logger
	Now    func() time.Time // wall clock; time.Now when nil
	Seed   uint64           // for election jitter and the controller's choices

	NodeID      id.BrokerID
	ClusterID   string
	DirectoryID id.UUID // of Dir, from its meta.properties
	// StaticVoters is controller.quorum.voters; nil with a dynamic quorum, whose voters are in the log.
	StaticVoters []Voter
	// Endpoints are this node's controller listeners.
	Endpoints []Endpoint
	// Transport reaches the other voters; nil in a quorum of one.
	Transport Transport
	// Controller is this node's controller, inactive; nil on a node that is a broker only. The driver owns it from here on,
	// and gives it the bootstrap records that formatting left in Dir, if there are any.
	Controller *controller.Controller

	ElectionTimeout           time.Duration // controller.quorum.election.timeout.ms
	FetchTimeout              time.Duration // controller.quorum.fetch.timeout.ms
	RequestTimeout            time.Duration // controller.quorum.request.timeout.ms; 0: FetchTimeout
	RetryBackoff              time.Duration // controller.quorum.retry.backoff.ms; 0: 20 ms
	ElectionBackoffMax        time.Duration // controller.quorum.election.backoff.max.ms; 0: ElectionTimeout
	MaxIdleInterval           time.Duration // metadata.max.idle.interval.ms; 0: no NoOp records
	SnapshotMaxNewRecordBytes int64         // metadata.log.max.record.bytes.between.snapshots
	SnapshotMaxInterval       time.Duration // metadata.log.max.snapshot.interval.ms; 0: never by time
	RetentionBytes            int64         // metadata.max.retention.bytes; < 0: no bound
	RetentionTime             time.Duration // metadata.max.retention.ms; < 0: no bound
	SegmentBytes              int           // metadata.log.segment.bytes
	SegmentTime               time.Duration // metadata.log.segment.ms
}

// DefaultOptions returns Kafka's defaults for the times and sizes.
func DefaultOptions() Options {
	return Options{
		ElectionTimeout: time.Second, FetchTimeout: 2 * time.Second, MaxIdleInterval: 500 * time.Millisecond,
		SnapshotMaxNewRecordBytes: 20 << 20, SnapshotMaxInterval: time.Hour, RetentionBytes: 100 << 20,
		RetentionTime: 7 * 24 * time.Hour, SegmentBytes: 1 << 30, SegmentTime: 7 * 24 * time.Hour,
	}
}

func (o Options) withDefaults() Options {
	d := DefaultOptions()
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ElectionTimeout == 0 {
		o.ElectionTimeout = d.ElectionTimeout
	}
	if o.FetchTimeout == 0 {
		o.FetchTimeout = d.FetchTimeout
	}
	if o.SnapshotMaxNewRecordBytes == 0 {
		o.SnapshotMaxNewRecordBytes = d.SnapshotMaxNewRecordBytes
	}
	if o.RetentionBytes == 0 {
		o.RetentionBytes = d.RetentionBytes
	}
	if o.RetentionTime == 0 {
		o.RetentionTime = d.RetentionTime
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = d.SegmentBytes
	}
	return o
}

// Request is one operation for the active controller.
type Request struct {
	Message    wire.Message // one of the requests that controller.Controller decides
	APIVersion int16
	Forwarded  bool // it came in an envelope
	// ReadCommitted holds an answer without records back until everything that the decision could see is committed.
	ReadCommitted bool
}

// Outcome is what became of a Request. Exactly one of the two is set, unless nothing is to be answered.
type Outcome struct {
	Answer wire.Message
	Err    *controller.Error // NOT_CONTROLLER when this node does not lead, or stopped leading before the commit
}

// Provenance says where an image ends.
type Provenance struct {
	Offset      id.Offset // of the last record, inclusive
	Epoch       id.LeaderEpoch
	TimestampMs int64
	// FromSnapshot is set when the delta comes from a snapshot and may cover many batches.
	FromSnapshot bool
}

// Publisher is told about committed metadata, in order, on the driver's goroutine. It must not block.
type Publisher interface {
	Publish(delta *image.Delta, img *image.Image, at Provenance)
}

// PublisherFunc is a function as Publisher.
type PublisherFunc func(delta *image.Delta, img *image.Image, at Provenance)

// Publish calls f.
func (f PublisherFunc) Publish(delta *image.Delta, img *image.Image, at Provenance) {
	f(delta, img, at)
}

// Leader is who leads the quorum, as this node knows.
type Leader struct {
	ID    id.BrokerID // id.NoBroker when unknown
	Epoch id.LeaderEpoch
}

// Status is a snapshot of the quorum's state, for DescribeQuorum and metrics.
type Status struct {
	Role           raft.Role
	Leader         Leader
	HighWatermark  id.Offset // exclusive; -1 when unknown
	LogStartOffset id.Offset
	LogEndOffset   id.Offset
	KRaftVersion   int16
	Voters         []ReplicaStatus
	Observers      []ReplicaStatus
	ActiveBroker   bool // this node's controller is the active one: it leads and has replayed everything before
}

// ReplicaStatus is how far a replica of the metadata log is.
type ReplicaStatus struct {
	Voter
	LogEndOffset     id.Offset // exclusive; -1 unknown
	LastFetch        time.Time // zero when unknown
	LastCaughtUpTime time.Time
}

// queueSize bounds the operations that wait for the driver.
const queueSize = 1024

type operation struct {
	req  Request
	done func(Outcome)
}

// Quorum is a node's part of the metadata quorum. Its methods may be called from any goroutine, except that Subscribe and
// Start come first, in this order.
type Quorum struct {
	o     Options
	queue chan operation
	inbox chan inbound
	poke  chan struct{} // wakes the driver; at most one pending
	held  atomic.Int32  // HoldBack
	out   atomic.Bool   // Depose asked for
	stop  chan struct{}
	ended chan struct{} // the driver has ended

	image  atomic.Pointer[image.Image]
	status atomic.Pointer[Status]

	mu      sync.Mutex // guards what follows; never held while waiting
	started bool
	closed  bool
	refuse  bool          // nobody takes operations from the queue any more
	changed chan struct{} // closed and replaced with each new image
	failure error
	failed  chan struct{}
	d       *driver
}

// ErrClosed reports a call after Close.
var ErrClosed = errors.New("the metadata quorum is closed")

// Open reads the directory: the newest snapshot, the log, quorum-state. Nothing runs and nobody is told yet.
func Open(o Options) (*Quorum, error) {
	o = o.withDefaults()
	q := &Quorum{
		o: o, queue: make(chan operation, queueSize), inbox: make(chan inbound, inboxSize), poke: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
		changed: make(chan struct{}), failed: make(chan struct{}),
	}
	q.image.Store(image.Empty())
	q.status.Store(&Status{Leader: Leader{ID: id.NoBroker}, HighWatermark: -1})
	d, err := newDriver(q, rand.New(rand.NewPCG(o.Seed, uint64(o.NodeID))))
	if err != nil {
		return nil, fmt.Errorf("open the metadata quorum in %s: %w", o.Dir, err)
	}
	q.d = d
	return q, nil
}

// Subscribe adds a publisher. Before Start only. Its first delta, marked FromSnapshot, holds everything that was committed
// when the node had caught up; then follow the committed batches one by one.
func (q *Quorum) Subscribe(p Publisher) { q.d.loader.publishers = append(q.d.loader.publishers, p) }

// Start begins elections and replay.
func (q *Quorum) Start() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.started || q.closed {
		return errors.New("the metadata quorum was started or closed before")
	}
	q.started = true
	go q.d.run()
	return nil
}

// Submit hands an operation to the controller. done is called once, from the driver's goroutine (or, when the quorum is
// closed or its queue is full, from the caller's), and must not block.
func (q *Quorum) Submit(r Request, done func(Outcome)) {
	q.mu.Lock()
	out := tooManyWait()
	queued := false
	if q.refuse {
		out = notController()
	} else {
		select {
		case q.queue <- operation{r, done}:
			queued = true
		default:
		}
	}
	q.mu.Unlock()
	if !queued {
		done(out)
	}
}

// refuseAll refuses what is in the queue and all that comes.
func (q *Quorum) refuseAll() {
	q.mu.Lock()
	q.refuse = true
	q.mu.Unlock()
	for {
		select {
		case op := <-q.queue:
			q.tell(op.done, notController())
		case in := <-q.inbox:
			if in.from != nil {
				q.give(in.from.done, q.notAvailable(in.m))
			}
		default:
			return
		}
	}
}

func tooManyWait() Outcome {
	return Outcome{Err: &controller.Error{Code: wire.ErrRequestTimedOut, Text: "The controller has too many operations waiting."}}
}

func notController() Outcome {
	return Outcome{Err: &controller.Error{Code: wire.ErrNotController, Text: "No controller appears to be active."}}
}

// Do is Submit for callers that wait. A refusal is a *controller.Error.
func (q *Quorum) Do(ctx context.Context, r Request) (wire.Message, error) {
	ch := make(chan Outcome, 1)
	q.Submit(r, func(o Outcome) { ch <- o })
	select {
	case o := <-ch:
		if o.Err != nil {
			return nil, o.Err
		}
		return o.Answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-q.ended:
		return nil, ErrClosed
	}
}

// HoldBack keeps the last records of this node's copy of the log from counting, in whole batches: what is decided and written
// there stays uncommitted, and its answers wait; 0 lets it go. What opens an epoch is kept back by math.MaxInt32 only. Tests use
// it to look at the time between.
func (q *Quorum) HoldBack(records int32) {
	q.held.Store(records)
	q.wake()
}

// Depose makes this node give up a leadership, as a partition or a long pause would. It may be elected again after the
// election timeout, in a new epoch. Operations that wait for a commit are answered with NOT_CONTROLLER.
func (q *Quorum) Depose() {
	q.out.Store(true)
	q.wake()
}

func (q *Quorum) wake() {
	select {
	case q.poke <- struct{}{}:
	default:
	}
}

// Image returns the newest committed image; the empty one until the node has caught up.
func (q *Quorum) Image() *image.Image { return q.image.Load() }

// AwaitImage returns the first committed image for which ok is true.
func (q *Quorum) AwaitImage(ctx context.Context, ok func(*image.Image) bool) (*image.Image, error) {
	for {
		q.mu.Lock()
		changed := q.changed
		q.mu.Unlock()
		if img := q.Image(); ok(img) {
			return img, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-q.ended:
			return nil, errors.Join(ErrClosed, q.Err())
		}
	}
}

// Status describes the quorum now.
func (q *Quorum) Status() Status {
	s := *q.status.Load()
	if s.Role != raft.Leader {
		return s
	}
	s.Voters = slices.Clone(s.Voters)
	for i := range s.Voters {
		if v := &s.Voters[i]; v.ID == s.Leader.ID { // it has always just fetched from itself
			v.LastFetch = q.o.Now()
			v.LastCaughtUpTime = v.LastFetch
		}
	}
	return s
}

// Err is why the quorum stopped working: a failed read or write of the log or of quorum-state. Nil while it works.
func (q *Quorum) Err() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failure
}

// Failed is closed when Err becomes non-nil.
func (q *Quorum) Failed() <-chan struct{} { return q.failed }

// Close resigns leadership, fails what waits, stops the driver and closes the log.
func (q *Quorum) Close() error {
	q.mu.Lock()
	first := !q.closed
	q.closed = true
	started := q.started
	q.mu.Unlock()
	if !first {
		<-q.ended
		return nil
	}
	close(q.stop)
	if !started {
		q.refuseAll()
		close(q.ended)
	}
	<-q.ended
	if err := q.d.log.Close(); err != nil {
		return fmt.Errorf("close the metadata log: %w", err)
	}
	return nil
}

func (q *Quorum) setImage(img *image.Image) {
	q.image.Store(img)
	q.mu.Lock()
	close(q.changed)
	q.changed = make(chan struct{})
	q.mu.Unlock()
}

func (q *Quorum) fail(err error) {
	q.o.Logger.Error("the metadata quorum stops", "err", err)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failure == nil {
		q.failure = err
		close(q.failed)
	}
}

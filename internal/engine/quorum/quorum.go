package quorum

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
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
	// Controller is this node's controller, inactive; nil on a node that is a broker only. The driver owns it from here on.
	Controller *controller.Controller

	ElectionTimeout           time.Duration // controller.quorum.election.timeout.ms
	ElectionBackoffMax        time.Duration // controller.quorum.election.backoff.max.ms
	FetchTimeout              time.Duration // controller.quorum.fetch.timeout.ms
	MaxIdleInterval           time.Duration // metadata.max.idle.interval.ms; 0: no NoOp records
	SnapshotMaxNewRecordBytes int64         // metadata.log.max.record.bytes.between.snapshots
	SnapshotMaxInterval       time.Duration // metadata.log.max.snapshot.interval.ms; 0: never by time
	RetentionBytes            int64         // metadata.max.retention.bytes; < 0: no bound
	RetentionTime             time.Duration // metadata.max.retention.ms; < 0: no bound
	SegmentBytes              int           // metadata.log.segment.bytes
	SegmentTime               time.Duration // metadata.log.segment.ms
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
	Leader         Leader
	HighWatermark  id.Offset // exclusive; -1 when unknown
	LogStartOffset id.Offset
	LogEndOffset   id.Offset
	KRaftVersion   int16
	Voters         []ReplicaStatus
	Observers      []ReplicaStatus
	ActiveBroker   bool // this node is the active controller: it leads and has replayed everything before
}

// ReplicaStatus is how far a replica of the metadata log is.
type ReplicaStatus struct {
	Voter
	LogEndOffset     id.Offset
	LastFetch        time.Time // zero when unknown
	LastCaughtUpTime time.Time
}

var errSkeleton = errors.New("quorum: being built")

// Quorum is a node's part of the metadata quorum.
type Quorum struct{}

// Open reads the directory: quorum-state, the newest snapshot, the log. Nothing runs yet.
func Open(o Options) (*Quorum, error) { return nil, errSkeleton }

// Subscribe adds a publisher. Before Start only. Its first delta holds everything that is committed when the quorum starts.
func (q *Quorum) Subscribe(p Publisher) {}

// Start begins elections and replay.
func (q *Quorum) Start() error { return errSkeleton }

// Submit hands an operation to the controller. done is called once, from the driver's goroutine (or, when the quorum is
// closed or its queue is full, from the caller's), and must not block.
func (q *Quorum) Submit(r Request, done func(Outcome)) {}

// Do is Submit for callers that wait.
func (q *Quorum) Do(ctx context.Context, r Request) (wire.Message, error) { return nil, errSkeleton }

// Image returns the newest committed image.
func (q *Quorum) Image() *image.Image { return nil }

// AwaitImage returns the first committed image for which ok is true.
func (q *Quorum) AwaitImage(ctx context.Context, ok func(*image.Image) bool) (*image.Image, error) {
	return nil, errSkeleton
}

// Status describes the quorum now.
func (q *Quorum) Status() Status { return Status{} }

// Err is why the quorum stopped working: a failed write of the log or of quorum-state. Nil while it works.
func (q *Quorum) Err() error { return nil }

// Failed is closed when Err becomes non-nil.
func (q *Quorum) Failed() <-chan struct{} { return nil }

// Close resigns leadership, stops the driver and closes the log.
func (q *Quorum) Close() error { return nil }

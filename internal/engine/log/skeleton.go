package log

import (
	"errors"
	"log/slog"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

var errSkeleton = errors.New("log: being built")

// Options opens a Manager.
type Options struct {
	FS     vfs.FS
	Dirs   []string
	Logger *slog.Logger
	Now    func() time.Time // wall clock; time.Now when nil

	Config          Config                    // of topics that TopicConfig does not know
	TopicConfig     func(topic string) Config // resolved configuration of a topic found on disk; nil: Config
	RandomSeed      uint64                    // for segment jitter and directory ids
	ClusterID       string                    // checked against meta.properties; written when AutoFormat makes it
	NodeID          id.BrokerID               // likewise
	AutoFormat      bool                      // write meta.properties into directories that have none
	RecoveryThreads int                       // num.recovery.threads.per.data.dir

	RetentionCheckInterval     time.Duration // log.retention.check.interval.ms
	FlushCheckInterval         time.Duration // log.flush.scheduler.interval.ms; Forever: never
	RecoveryPointInterval      time.Duration // log.flush.offset.checkpoint.interval.ms
	StartOffsetInterval        time.Duration // log.flush.start.offset.checkpoint.interval.ms
	HighWatermarkInterval      time.Duration // replica.high.watermark.checkpoint.interval.ms
	ProducerExpiration         time.Duration // producer.id.expiration.ms
	ProducerExpirationInterval time.Duration // producer.id.expiration.check.interval.ms
}

// Manager owns the log directories of a node and every partition log in them.
type Manager struct{}

// Open locks and reads the directories, recovers and opens every log, and starts the one background goroutine.
func Open(o Options) (*Manager, error) { return nil, errSkeleton }

// CreateOptions says how Create makes a log.
type CreateOptions struct {
	TopicID     id.UUID
	Config      Config
	DirectoryID id.UUID // the log dir to use; zero or unknown: the dir with the fewest logs
}

// Create returns the partition's log, making it when there is none.
func (m *Manager) Create(tp id.TopicPartition, o CreateOptions) (*Log, error) {
	return nil, errSkeleton
}

// Get returns the partition's log.
func (m *Manager) Get(tp id.TopicPartition) (*Log, bool) { return nil, false }

// Delete takes the log out of service at once, renames its directory and removes the files after file.delete.delay.ms.
func (m *Manager) Delete(tp id.TopicPartition) error { return errSkeleton }

// Logs returns all logs in order of topic and partition.
func (m *Manager) Logs() []*Log { return nil }

// SetTopicConfig gives all logs of a topic a new configuration.
func (m *Manager) SetTopicConfig(topic string, c Config) {}

// DirInfo describes one log directory.
type DirInfo struct {
	Path        string
	DirectoryID id.UUID
	Err         error // why it is offline; nil when it works
	TotalBytes  int64
	UsableBytes int64
	Logs        []*Log // of this directory; Log.SizeBytes for each
}

// Dirs describes the log directories, for DescribeLogDirs and registration.
func (m *Manager) Dirs() []DirInfo { return nil }

// Failures is signalled (without blocking, at most one pending) each time a directory went offline; see Dirs.
func (m *Manager) Failures() <-chan struct{} { return nil }

// PreviousBrokerEpoch is the broker epoch of the last clean shutdown, if every directory had one.
func (m *Manager) PreviousBrokerEpoch() (id.BrokerEpoch, bool) { return 0, false }

// Tick does the background work that is due at now: retention, flush, checkpoints, deletion, expiry. The manager's goroutine
// calls it; tests may.
func (m *Manager) Tick(now time.Time) {}

// Close flushes and closes every log, writes the checkpoints and the clean shutdown marks, and releases the locks.
func (m *Manager) Close(epoch id.BrokerEpoch) error { return errSkeleton }

// Log is one partition's log.
type Log struct{}

// LogOptions opens a single log without a manager, as the quorum does for the metadata log.
type LogOptions struct {
	FS             vfs.FS
	Dir            string // the partition's directory; created when absent
	TopicPartition id.TopicPartition
	TopicID        id.UUID // written to partition.metadata when non-zero and absent
	Config         Config
	CleanShutdown  bool      // the directory was closed cleanly: skip the scan
	RecoveryPoint  id.Offset // from the checkpoint; scan from here otherwise
	LogStartOffset id.Offset // from the checkpoint
	HighWatermark  id.Offset // from the checkpoint
	Logger         *slog.Logger
	Now            func() time.Time
}

// OpenLog opens or creates one log.
func OpenLog(o LogOptions) (*Log, error) { return nil, errSkeleton }

// Close makes everything durable, writes a producer snapshot and closes the files.
func (l *Log) Close() error { return errSkeleton }

// TopicPartition names the partition.
func (l *Log) TopicPartition() id.TopicPartition { return id.TopicPartition{} }

// TopicID is the id in partition.metadata, zero when there is none.
func (l *Log) TopicID() id.UUID { return id.UUID{} }

// SetTopicID writes partition.metadata; an error if another id is there.
func (l *Log) SetTopicID(u id.UUID) error { return errSkeleton }

// DirectoryID is the id of the log directory that holds the log; zero for a log without a manager.
func (l *Log) DirectoryID() id.UUID { return id.UUID{} }

// Config returns the configuration in force.
func (l *Log) Config() Config { return Config{} }

// SetConfig replaces the configuration.
func (l *Log) SetConfig(c Config) {}

// StartOffset is the first offset that may be read.
func (l *Log) StartOffset() id.Offset { return 0 }

// EndOffset is the log end: the offset of the next record (exclusive).
func (l *Log) EndOffset() id.Offset { return 0 }

// DurableEnd is the offset below which everything survives a power loss (exclusive).
func (l *Log) DurableEnd() id.Offset { return 0 }

// AckableEnd is what may be counted for the high watermark: DurableEnd with strict flush, EndOffset otherwise.
func (l *Log) AckableEnd() id.Offset { return 0 }

// HighWatermark is the committed end (exclusive).
func (l *Log) HighWatermark() id.Offset { return 0 }

// AdvanceHighWatermark raises the high watermark, bounded by the log end, and returns the value now in force and whether it moved.
func (l *Log) AdvanceHighWatermark(to id.Offset) (id.Offset, bool) { return 0, false }

// LastStableOffset is the bound of committed readers (exclusive).
func (l *Log) LastStableOffset() id.Offset { return 0 }

// AppendAsLeader validates the batches, assigns offsets in place and writes them. The slice is modified and not retained.
func (l *Log) AppendAsLeader(batches []byte, info AppendInfo) (AppendResult, error) {
	return AppendResult{}, errSkeleton
}

// AppendAsFollower writes batches that carry offsets and epochs; batches of an epoch above leaderEpoch are left out.
func (l *Log) AppendAsFollower(batches []byte, leaderEpoch id.LeaderEpoch) (AppendResult, error) {
	return AppendResult{}, errSkeleton
}

// Flush returns when everything below upTo is durable. Concurrent callers share one fsync.
func (l *Log) Flush(upTo id.Offset) error { return errSkeleton }

// Read returns whole batches from the one that contains the offset.
func (l *Log) Read(r ReadRequest) (ReadResult, error) { return ReadResult{}, errSkeleton }

// LookupTimestamp finds the first offset whose timestamp is at least ts, or one of the special positions.
func (l *Log) LookupTimestamp(ts int64) (TimestampOffset, error) {
	return TimestampOffset{}, errSkeleton
}

// LatestEpoch is the last leader epoch the log has seen, or id.NoLeaderEpoch.
func (l *Log) LatestEpoch() id.LeaderEpoch { return 0 }

// EndOffsetForEpoch answers OffsetForLeaderEpoch: the largest epoch <= e and where it ends.
func (l *Log) EndOffsetForEpoch(e id.LeaderEpoch) EpochEndOffset { return EpochEndOffset{} }

// AssignEpoch notes that epoch e starts at the log end (a new leader does so before its first append).
func (l *Log) AssignEpoch(e id.LeaderEpoch, start id.Offset) error { return errSkeleton }

// DeleteRecords raises the log start offset to before, at most the high watermark, and returns the new log start offset.
func (l *Log) DeleteRecords(before id.Offset) (id.Offset, error) { return 0, errSkeleton }

// TruncateTo removes everything from offset on.
func (l *Log) TruncateTo(offset id.Offset) error { return errSkeleton }

// TruncateFullyAndStartAt empties the log and lets it begin at offset.
func (l *Log) TruncateFullyAndStartAt(offset id.Offset) error { return errSkeleton }

// Roll closes the active segment and begins another.
func (l *Log) Roll() error { return errSkeleton }

// SizeBytes is the size of all segments.
func (l *Log) SizeBytes() int64 { return 0 }

// Segments is the number of segments.
func (l *Log) Segments() int { return 0 }

// Producers lists the active producers.
func (l *Log) Producers() []ProducerInfo { return nil }

// Err tells why the log is out of service: its directory is offline, or it was closed or deleted. Nil when it works.
func (l *Log) Err() error { return nil }

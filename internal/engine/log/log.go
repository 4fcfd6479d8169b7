package log

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/moldau-io/moldau/internal/base/checkpoint"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

const createTruncate = os.O_RDWR | os.O_CREATE | os.O_TRUNC

// Log is one partition's log.
type Log struct {
	tp  id.TopicPartition
	at  *place
	dir *logDir
	o   *Options
	cfg atomic.Pointer[Config]

	// What readers load without a lock. The size of a segment is published before the log end that covers it.
	segments atomic.Pointer[[]*segment]
	start    atomic.Int64
	end      atomic.Int64
	durable  atomic.Int64
	hw       atomic.Int64
	unstable atomic.Int64 // first unstable offset, -1 if none
	gone     atomic.Pointer[error]
	moving   atomic.Bool // a copy of it is made in another directory: it is not cleaned
	future   atomic.Bool // it is such a copy, and in no map
	epochs   epochCache

	swap     sync.Mutex   // held by whoever renames segments that readers know; taken before mu, and held across syncs of the directory
	cleaning sync.Mutex   // held by a cleaner's pass
	clean    atomic.Int64 // up to where the log is compacted; -1 when it never was

	mu          sync.Mutex // serialises every change; never held across an fsync of the log
	producers   producerState
	topicID     id.UUID
	gapped      bool                    // a segment begins above the end of the one before, and the recovery point does not say so yet
	truncations int                     // counts them, so that a flush notices one
	lastFlushMs int64                   // when the durable end last moved or unflushed data began
	epochsDirty bool                    // the epoch file is behind the cache
	staleEpochs []checkpoint.EpochEntry // which the epoch file has beyond the log end, and the cache has not
	doomed      []doomedFiles
	aborted     []AbortedTxn // scratch
	cutShort    bool         // the segment recovered last ended with a bad batch

	// Of a log that is being loaded.
	loading bool
	wanted  bool         // there is work for Tick, once the log is loaded
	known   id.Offset    // what lies below was flushed, or compacted
	stop    *atomic.Bool // set when nobody wants the log any more; may be nil

	producersLoaded bool // producers hold the state at producers.end

	born   bool  // the directory and the first segment's file are there
	bornAt int64 // the directory's number among those made in its parent; 0 when it was found
	fresh  bool  // made by this process and never flushed: leader epochs are not written yet
	rooted bool  // the names of the directory and its files are durable

	flush flushState
}

// doomedFiles are renamed files that wait for file.delete.delay.ms.
type doomedFiles struct {
	at       time.Time
	segment  *segment
	snapshot string // name of a renamed snapshot
}

// LogOptions opens a single log without a manager, as the quorum does for the metadata log.
type LogOptions struct {
	FS             vfs.FS
	Dir            string // the partition's directory; created when absent
	TopicPartition id.TopicPartition
	TopicID        id.UUID // written to partition.metadata when non-zero and absent
	Config         Config
	CleanShutdown  bool      // the directory was closed cleanly: skip the scan
	RecoveryPoint  id.Offset // from the checkpoint; scan from here otherwise; negative when nothing is known
	LogStartOffset id.Offset // from the checkpoint
	HighWatermark  id.Offset // from the checkpoint
	CleanUpTo      id.Offset // from the checkpoint: up to where a compacted log is clean
	Logger         *slog.Logger
	Now            func() time.Time

	found *id.UUID     // the manager's: the directory is there, and its topic id was read
	stop  *atomic.Bool // the manager's: set when the log is not wanted any more; may be nil
}

// OpenLog opens or creates one log. Its background work (deleting files, flushing after a roll) is done by Log.Tick, which the
// owner calls now and then.
func OpenLog(o LogOptions) (*Log, error) {
	opts := (&Options{FS: o.FS, Logger: o.Logger, Now: o.Now}).withDefaults()
	d := &logDir{path: filepath.Dir(o.Dir), o: opts}
	l, err := openLog(o, d, opts)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.fresh {
		return l, nil
	}
	// The owner has files of its own in the directory.
	if err = l.ensure(); err == nil {
		if err = l.active().createFiles(); err == nil {
			err = opts.FS.SyncDir(d.path)
		}
	}
	if err != nil {
		l.dropFiles()
		return nil, fmt.Errorf("open log %v: %w", o.TopicPartition, l.storageError("create log directory", err))
	}
	l.fresh = false
	return l, nil
}

func openLog(o LogOptions, d *logDir, opts *Options) (*Log, error) {
	l := &Log{tp: o.TopicPartition, at: newPlace(opts.FS, opts.files, o.Dir), dir: d, o: opts, loading: true, stop: o.stop}
	l.flush.cond.L = &l.flush.mu
	l.cfg.Store(&o.Config)
	l.unstable.Store(-1)
	l.clean.Store(-1)
	if o.CleanUpTo > 0 {
		l.clean.Store(int64(o.CleanUpTo))
	}
	created := false
	if o.found == nil {
		_, err := opts.FS.Stat(o.Dir)
		created = errors.Is(err, fs.ErrNotExist)
		if err != nil && !created {
			return nil, l.storageError("look for", err)
		}
	}
	l.born, l.fresh, l.rooted = !created, created, !created && o.CleanShutdown
	if o.found != nil {
		l.topicID = *o.found
	} else if !created {
		var malformed *errMalformedMeta
		var err error
		switch l.topicID, err = readTopicID(opts.FS, o.Dir); {
		case errors.As(err, &malformed):
			return nil, fmt.Errorf("open log %v: %w", l.tp, err)
		case err != nil:
			return nil, l.storageError("read partition.metadata of", err)
		}
	}
	if err := l.load(o, created); err != nil {
		if l.segments.Load() != nil {
			l.dropFiles()
		}
		return nil, fmt.Errorf("open log %v: %w", l.tp, err)
	}
	if l.EndOffset() == 0 {
		l.rooted = false // a clean shutdown syncs no logs that hold nothing
	}
	if !o.TopicID.IsZero() {
		if err := l.SetTopicID(o.TopicID); err != nil {
			return nil, fmt.Errorf("open log %v: %s: %w", l.tp, l.at.path(filePartitionMeta), err)
		}
	}
	if o.Config.strictFlush() {
		// Only durable progress counts, and what was found counts as progress.
		if err := l.Flush(l.EndOffset()); err != nil {
			return nil, fmt.Errorf("open log %v: %w", l.tp, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loading = false; l.wanted {
		d.wants(l)
	}
	return l, nil
}

// wants puts the log on the list of those with background work. It needs mu.
func (l *Log) wants() {
	if l.loading {
		l.wanted = true // Tick would wait for the end of a recovery
		return
	}
	l.dir.wants(l)
}

// errAbandoned ends the recovery of a log that nobody wants any more.
var errAbandoned = errors.New("the log was taken away while it was recovered")

// abandoned is asked for now and then by whoever reads through a log that is being loaded.
func (l *Log) abandoned() error {
	if l.stop != nil && l.stop.Load() {
		return errAbandoned
	}
	return nil
}

// Close makes everything durable, writes a producer snapshot and closes the files. Readers finish with the sections they have.
func (l *Log) Close() error {
	l.swap.Lock()
	defer l.swap.Unlock()
	l.mu.Lock()
	if err := l.Err(); err != nil {
		l.mu.Unlock()
		if errors.Is(err, ErrClosed) || errors.Is(err, ErrDeleted) {
			return nil
		}
		l.setGone(ErrClosed)
		l.dropFiles()
		return err
	}
	if l.fresh && l.EndOffset() == 0 {
		// Nothing was ever written, so nothing can be lost: thousands of new partitions must not make a shutdown long.
		err := l.ensure()
		if err == nil {
			err = l.active().createFiles() // Apache Kafka misses absent index files
		}
		l.setGone(ErrClosed)
		l.dropFiles()
		l.mu.Unlock()
		return err
	}
	err := l.ensure()
	// The active segment is finished so that the next start finds its largest timestamp; it may still be appended to then.
	if err == nil {
		err = l.active().finish()
	}
	if err == nil {
		err = l.active().writeIndexes()
	}
	if err == nil && l.epochsDirty {
		err = l.writeEpochs()
	}
	l.mu.Unlock()
	if err == nil {
		err = l.flushFinished()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		err = l.active().sync(true)
	}
	if err == nil {
		err = l.producers.take(l.at, true)
	}
	if err == nil {
		err = l.at.fs.SyncDir(l.Path())
	}
	if err != nil {
		err = l.fault("close", err)
	}
	l.setGone(ErrClosed)
	l.dropFiles()
	return err
}

// dropFiles lets go of all files.
func (l *Log) dropFiles() {
	for _, s := range *l.segments.Load() {
		s.drop()
	}
}

// TopicPartition names the partition.
func (l *Log) TopicPartition() id.TopicPartition { return l.tp }

// Path is the partition's directory.
func (l *Log) Path() string { return *l.at.dir.Load() }

// DirectoryID is the id of the log directory that holds the log; zero for a log without a manager.
func (l *Log) DirectoryID() id.UUID { return l.dir.id }

// Config returns the configuration in force.
func (l *Log) Config() Config { return *l.cfg.Load() }

// SetConfig replaces the configuration.
func (l *Log) SetConfig(c Config) { l.cfg.Store(&c) }

// StartOffset is the first offset that may be read.
func (l *Log) StartOffset() id.Offset { return id.Offset(l.start.Load()) }

// EndOffset is the log end: the offset of the next record (exclusive).
func (l *Log) EndOffset() id.Offset { return id.Offset(l.end.Load()) }

// DurableEnd is the offset below which everything survives a power loss (exclusive).
func (l *Log) DurableEnd() id.Offset { return id.Offset(l.durable.Load()) }

// AckableEnd is what may be counted for the high watermark: DurableEnd with strict flush, EndOffset otherwise.
func (l *Log) AckableEnd() id.Offset {
	if l.cfg.Load().strictFlush() {
		return l.DurableEnd()
	}
	return l.EndOffset()
}

// HighWatermark is the committed end (exclusive).
func (l *Log) HighWatermark() id.Offset { return id.Offset(l.hw.Load()) }

// AdvanceHighWatermark raises the high watermark, bounded by the log end, and returns the value now in force and whether it moved.
func (l *Log) AdvanceHighWatermark(to id.Offset) (id.Offset, bool) {
	if int64(to) <= l.hw.Load() {
		return l.HighWatermark(), false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	to = min(to, l.EndOffset())
	if int64(to) <= l.hw.Load() {
		return l.HighWatermark(), false
	}
	l.setHighWatermark(to)
	return to, true
}

// setHighWatermark needs mu.
func (l *Log) setHighWatermark(to id.Offset) {
	l.producers.highWatermarkAt(to)
	l.publishUnstable()
	l.hw.Store(int64(to))
	l.dir.hwChanged.Store(true)
}

func (l *Log) publishUnstable() {
	u := l.producers.firstUnstable()
	if u >= 0 {
		u = max(u, l.StartOffset())
	}
	l.unstable.Store(int64(u))
}

// LastStableOffset is the bound of committed readers (exclusive).
func (l *Log) LastStableOffset() id.Offset {
	hw := l.hw.Load()
	if u := l.unstable.Load(); u >= 0 && u < hw {
		return id.Offset(u)
	}
	return id.Offset(hw)
}

// LatestEpoch is the last leader epoch the log has seen, or id.NoLeaderEpoch.
func (l *Log) LatestEpoch() id.LeaderEpoch { return l.epochs.latest() }

// EndOffsetForEpoch answers OffsetForLeaderEpoch: the largest epoch <= e and where it ends.
func (l *Log) EndOffsetForEpoch(e id.LeaderEpoch) EpochEndOffset {
	return l.epochs.endFor(e, l.EndOffset())
}

// EpochAt is the leader epoch of an offset, or id.NoLeaderEpoch.
func (l *Log) EpochAt(o id.Offset) id.LeaderEpoch { return l.epochs.at(o) }

// AssignEpoch notes that epoch e starts at offset start (a new leader does so at its log end before its first append).
func (l *Log) AssignEpoch(e id.LeaderEpoch, start id.Offset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	return l.assignEpoch(e, start)
}

// assignEpoch needs mu. The file is written by the next flush, before the durable end moves: an epoch that has records behind the
// recovery point is found in them again, and one that has none says nothing that the next leader does not say anew. A start on
// thousands of partitions would otherwise wait for as many fsyncs. The exception is an epoch that is not later than one which the
// file still has beyond the log end: that one would come back over the batches of this one.
func (l *Log) assignEpoch(e id.LeaderEpoch, start id.Offset) error {
	if l.epochs.assign(e, start) {
		if len(l.staleEpochs) > 0 && l.staleEpochs[0] == (checkpoint.EpochEntry{Epoch: e, StartOffset: start}) {
			l.staleEpochs = l.staleEpochs[1:] // true again
		} else {
			l.epochsDirty = true
		}
	}
	if n := len(l.staleEpochs); n > 0 && e <= l.staleEpochs[n-1].Epoch {
		return l.writeEpochs()
	}
	return nil
}

func (l *Log) writeEpochs() error {
	if err := l.ensure(); err != nil {
		return err
	}
	if err := checkpoint.WriteEpochs(l.at.fs, l.at.path(fileEpochs), l.epochs.snapshot()); err != nil {
		l.epochsDirty = true
		return l.fault("write leader epochs of", err)
	}
	l.epochsDirty, l.staleEpochs = false, nil
	return nil
}

// SizeBytes is the size of all segments.
func (l *Log) SizeBytes() int64 {
	n := int64(0)
	for _, s := range *l.segments.Load() {
		n += s.size.Load()
	}
	return n
}

// Segments is the number of segments.
func (l *Log) Segments() int { return len(*l.segments.Load()) }

// Producers lists the active producers in order of their ids.
func (l *Log) Producers() []ProducerInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.infos()
}

// lateAfter is how much longer than any transaction may take an open one has to be without a record, to be late.
const lateAfter = 5 * time.Minute

// HasLateTransaction reports whether the oldest open transaction should have ended long ago: by the timestamps of its producer's
// records, which are the client's, nothing came from it for Options.MaxTransactionTimeout and five minutes more. It may hang, and
// nobody who reads what is committed comes past it.
func (l *Log) HasLateTransaction() bool {
	l.mu.Lock()
	at := l.producers.oldestTxnTimestamp()
	l.mu.Unlock()
	return at > 0 && l.nowMs()-at > (l.o.MaxTransactionTimeout+lateAfter).Milliseconds()
}

// TopicID is the id in partition.metadata, zero when there is none.
func (l *Log) TopicID() id.UUID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.topicID
}

// SetTopicID writes partition.metadata; an *InconsistentTopicIDError if another id is there.
func (l *Log) SetTopicID(u id.UUID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.topicID == u {
		return nil
	}
	if !l.topicID.IsZero() {
		return &InconsistentTopicIDError{TopicPartition: l.tp, Have: l.topicID, Want: u}
	}
	l.topicID = u
	if !l.born {
		return nil
	}
	if err := vfs.ReplaceFile(l.at.fs, l.at.path(filePartitionMeta), ".tmp", l.metadataText()); err != nil {
		l.topicID = id.UUID{}
		return l.fault("write partition.metadata of", err)
	}
	return nil
}

// metadataText is the content of partition.metadata. It needs mu.
func (l *Log) metadataText() []byte { return []byte("version: 0\ntopic_id: " + l.topicID.String()) }

// errMalformedMeta reports a partition.metadata that says nothing sensible: it may belong to another incarnation.
type errMalformedMeta struct {
	path string
	text []byte
}

func (e *errMalformedMeta) Error() string {
	return fmt.Sprintf("%s is malformed: %q", e.path, e.text)
}

// tornMetadata reports a beginning of what metadataText returns, followed by nothing or by zero bytes: what a power loss left of a
// file that was written, but not synced, when the log was created.
func tornMetadata(b []byte) bool {
	const head, idBytes = "version: 0\ntopic_id: ", 22
	b = bytes.TrimRight(b, "\x00")
	n := min(len(b), len(head))
	return len(b) < len(head)+idBytes && string(b[:n]) == head[:n]
}

// readTopicID reads partition.metadata of a partition's directory; the id is zero when there is none. A torn file counts as none
// and is removed, because Apache Kafka would not start with it.
func readTopicID(fsys vfs.FS, dir string) (id.UUID, error) {
	path := filepath.Join(dir, filePartitionMeta)
	b, err := vfs.ReadFile(fsys, path, 4096)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return id.UUID{}, nil
	case err != nil:
		return id.UUID{}, err
	case tornMetadata(b):
		return id.UUID{}, fsys.Remove(path)
	}
	lines := strings.Split(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n")
	field := func(i int, name string) (string, bool) {
		if i >= len(lines) {
			return "", false
		}
		k, v, ok := strings.Cut(lines[i], ":")
		return strings.TrimSpace(v), ok && k == name
	}
	version, ok := field(0, "version")
	text, ok2 := field(1, "topic_id")
	if !ok || !ok2 || version == "" || version[0] == '-' {
		return id.UUID{}, &errMalformedMeta{path, b}
	}
	u, err := id.ParseUUID(text)
	if err != nil || u.IsZero() {
		return id.UUID{}, &errMalformedMeta{path, b}
	}
	return u, nil
}

// Err tells why the log is out of service: its directory is offline, or it was closed or deleted. Nil when it works.
func (l *Log) Err() error {
	if p := l.gone.Load(); p != nil {
		return *p
	}
	if err := l.dir.err(); err != nil {
		return err
	}
	return nil
}

func (l *Log) setGone(err error) { l.gone.CompareAndSwap(nil, &err) }

// storageError says that something failed which says nothing about the rest of the directory.
func (l *Log) storageError(op string, err error) error {
	return &StorageError{Op: op, Where: l.tp.String(), Err: err}
}

// fault is storageError for errors of the disk itself: anything but a full disk, or a process out of descriptors, takes the
// directory offline.
func (l *Log) fault(op string, err error) error {
	if isFull(err) || errors.Is(err, fs.ErrClosed) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return l.storageError(op, err)
	}
	return l.dir.fail(op, l.tp.String(), err)
}

func (l *Log) active() *segment {
	s := *l.segments.Load()
	return s[len(s)-1]
}

// floor returns the index of the last segment whose base offset is at or below offset, -1 if there is none.
func floor(segs []*segment, offset id.Offset) int {
	lo, hi := 0, len(segs)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); segs[mid].base <= offset {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

// setSegments publishes a new list. It needs mu, and the slice must not be modified afterwards.
func (l *Log) setSegments(segs []*segment) { l.segments.Store(&segs) }

func (l *Log) nowMs() int64 { return l.o.Now().UnixMilli() }

// jitter draws a segment's share of segment.jitter.ms, so that logs created together do not roll together.
func (l *Log) jitter() time.Duration {
	c := l.cfg.Load()
	limit := min(c.SegmentJitter, c.SegmentAge)
	if limit <= 0 {
		return 0
	}
	return rand.N(limit)
}

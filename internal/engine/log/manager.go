package log

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/wire"
)

// Options opens a Manager.
type Options struct {
	FS     vfs.FS
	Dirs   []string
	Logger *slog.Logger
	Now    func() time.Time // wall clock; time.Now when nil
	// Fault hears that the manager's goroutine has panicked: its owner should end, as the logs may be locked or wrong. May be nil.
	Fault func(error)

	Config          Config      // of logs found on disk for which LoadOptions.TopicConfig is nil
	ClusterID       string      // checked against meta.properties; empty accepts any
	NodeID          id.BrokerID // checked against meta.properties
	AutoFormat      bool        // write meta.properties into directories that have none
	RecoveryThreads int         // num.recovery.threads.per.data.dir
	Manual          bool        // no background goroutine: the owner calls Tick
	Deferred        bool        // Open loads no logs: the owner calls Load when it has the metadata

	RetentionCheckInterval     time.Duration // log.retention.check.interval.ms
	FlushCheckInterval         time.Duration // log.flush.scheduler.interval.ms
	RecoveryPointInterval      time.Duration // log.flush.offset.checkpoint.interval.ms
	StartOffsetInterval        time.Duration // log.flush.start.offset.checkpoint.interval.ms
	HighWatermarkInterval      time.Duration // replica.high.watermark.checkpoint.interval.ms
	ProducerExpiration         time.Duration // producer.id.expiration.ms
	ProducerExpirationInterval time.Duration // producer.id.expiration.check.interval.ms
	InitialDelay               time.Duration // log.initial.task.delay.ms: before the first retention check
	MaxTransactionTimeout      time.Duration // transaction.max.timeout.ms

	Cleaner CleanerConfig // DefaultCleanerConfig when zero

	// MaxOpenFiles is how many files of segments stay open; half as many more may be open while they are read. 0: half of what
	// the process may have, the rest is for connections.
	MaxOpenFiles int

	// ReserveBytes is what appends of clients and of leaders elsewhere leave free in a directory; 0: nothing, negative: two percent
	// of the volume, at most 64 MiB.
	ReserveBytes int64

	// The rate of moves is reckoned over so many samples of this length.
	MoveRateSamples int           // alter.log.dirs.replication.quota.window.num
	MoveRateSample  time.Duration // alter.log.dirs.replication.quota.window.size.seconds

	bufs    *buffers
	files   *openFiles
	dynamic *dynamic
}

// withDefaults returns a copy with Kafka's defaults where nothing was set.
func (o *Options) withDefaults() *Options {
	c := *o
	c.bufs = &buffers{}
	if c.MaxOpenFiles == 0 {
		c.MaxOpenFiles = vfs.OpenFileLimit() / 2
	}
	c.files = newOpenFiles(c.MaxOpenFiles)
	if c.FS == nil {
		c.FS = vfs.OS()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Config == (Config{}) {
		c.Config = DefaultConfig()
	}
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	c.RecoveryThreads = max(c.RecoveryThreads, 1)
	set(&c.RetentionCheckInterval, 5*time.Minute)
	set(&c.FlushCheckInterval, Forever)
	set(&c.RecoveryPointInterval, time.Minute)
	set(&c.StartOffsetInterval, time.Minute)
	set(&c.HighWatermarkInterval, 5*time.Second)
	set(&c.ProducerExpiration, 24*time.Hour)
	set(&c.ProducerExpirationInterval, 10*time.Minute)
	set(&c.InitialDelay, 30*time.Second)
	set(&c.MaxTransactionTimeout, 15*time.Minute)
	set(&c.MoveRateSample, time.Second)
	if c.MoveRateSamples == 0 {
		c.MoveRateSamples = 11
	}
	if c.Cleaner == (CleanerConfig{}) {
		c.Cleaner = DefaultCleanerConfig()
	}
	c.dynamic = newDynamic(&c)
	return &c
}

// Manager owns the log directories of a node and every partition log in them.
//
// mu guards the maps and lists below it; it is never held across disk access, nor while a log's mutex is taken.
type Manager struct {
	o        *Options
	dirs     []*logDir
	failures chan struct{}
	wake     chan struct{}
	stop     chan struct{}
	stopped  chan struct{} // closed by the background goroutine; nil without one

	cleaner *cleaner
	rate    *moveRate

	recovering sync.WaitGroup // recoveries of pending logs

	moving  sync.Mutex // one BeginMove at a time; taken before all others
	ticking sync.Mutex // one Tick or Load at a time
	due     schedule   // guarded by ticking

	mu         sync.Mutex
	logs       map[id.TopicPartition]*Log
	creating   map[id.TopicPartition]chan struct{} // closed when the creation is over
	work       map[*Log]time.Time                  // logs with background work, and when it is due
	deleting   []deletion
	unborn     []*Log // new logs whose directories are to be made
	pending    map[id.TopicPartition]*pendingLog
	leaving    map[id.TopicPartition]*pendingLog // taken away while they were recovered
	recoveries map[*logDir][]*pendingLog         // in the order in which they are to be recovered
	moves      map[id.TopicPartition]*Move
	found      []foundCopy                  // by a start, until it decides about them
	unfinished map[id.TopicPartition]string // moves that a start found, with the paths of the directories they led to
	preferred  map[id.TopicPartition]*logDir
	loaded     bool
	closed     bool
}

// deletion is a partition directory that waits to be removed.
type deletion struct {
	at   time.Time
	path string
	dir  *logDir
	log  *Log // nil when found at start
}

// Open locks and reads the directories, recovers and opens every log, and starts the one background goroutine. With
// Options.Deferred the logs are left for Load.
//
// A directory that cannot be read is offline; the others work. If none works, or a directory is somebody else's (its lock, its
// cluster, its node), Open fails.
func Open(o Options) (*Manager, error) {
	opts := o.withDefaults()
	m := &Manager{
		o: opts, failures: make(chan struct{}, 1), wake: make(chan struct{}, 1), stop: make(chan struct{}),
		logs: map[id.TopicPartition]*Log{}, creating: map[id.TopicPartition]chan struct{}{}, work: map[*Log]time.Time{},
		pending: map[id.TopicPartition]*pendingLog{}, leaving: map[id.TopicPartition]*pendingLog{}, recoveries: map[*logDir][]*pendingLog{},
		moves: map[id.TopicPartition]*Move{}, unfinished: map[id.TopicPartition]string{}, preferred: map[id.TopicPartition]*logDir{},
	}
	m.cleaner, m.rate = newCleaner(m, opts.Cleaner), newMoveRate(opts)
	err := m.openDirs()
	if err == nil && !opts.Deferred {
		err = m.Load(LoadOptions{})
	}
	if err != nil {
		m.unlock()
		return nil, err
	}
	return m, nil
}

func (m *Manager) openDirs() error {
	if len(m.o.Dirs) == 0 {
		return errors.New("no log directories are configured")
	}
	for _, path := range m.o.Dirs {
		path = filepath.Clean(path)
		if slices.ContainsFunc(m.dirs, func(d *logDir) bool { return d.path == path }) {
			return fmt.Errorf("log directory %s is configured twice", path)
		}
		d := &logDir{path: path, o: m.o, onFail: m.dirFailed, onWork: m.logWants}
		d.checkpointNow = func() error { return errors.Join(m.checkpointRecoveryPoints(d), m.checkpointClean(d)) }
		d.settleNow = func() error { return m.settleFor(d) }
		d.startsNow = func() error { return m.checkpointStartOffsets(d) }
		m.dirs = append(m.dirs, d)
		if err := d.open(); err != nil && !IsOffline(err) {
			return err
		}
	}
	return m.anyOnline()
}

func (m *Manager) anyOnline() error {
	var all error
	for _, d := range m.dirs {
		err := d.err()
		switch {
		case err == nil:
			return nil
		case all == nil:
			all = err
		default: // the start's one line, so no errors.Join
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return fmt.Errorf("no log directory works: %w", all)
}

// open creates and locks the directory and reads its meta.properties.
func (d *logDir) open() error {
	fsys := d.o.FS
	if _, err := fsys.Stat(d.path); errors.Is(err, fs.ErrNotExist) {
		if err := fsys.MkdirAll(d.path, 0o755); err != nil {
			return d.fail("create", d.path, err)
		}
		if err := fsys.SyncDir(filepath.Dir(d.path)); err != nil {
			return d.fail("create", d.path, err)
		}
	}
	lock, err := LockDir(fsys, d.path)
	switch {
	case errors.Is(err, vfs.ErrLocked):
		return err
	case err != nil:
		return d.fail("lock", d.path, err)
	}
	d.lock = lock
	if err := d.loadMeta(); err != nil {
		return err
	}
	return d.readMark()
}

// LockDir takes the lock of a log directory, the one a running Apache Kafka holds too.
func LockDir(fsys vfs.FS, dir string) (interface{ Close() error }, error) {
	lock, err := fsys.Lock(filepath.Join(dir, fileLock))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("Failed to acquire lock on file %s in %s. A Kafka instance in another process or thread is using this directory. (%w)", fileLock, dir, err)
	}
	return lock, err
}

func (m *Manager) unlock() {
	for _, d := range m.dirs {
		if d.lock != nil {
			d.lock.Close()
		}
	}
}

func (m *Manager) dropAll() {
	for _, l := range m.Logs() {
		l.setGone(ErrClosed)
		l.dropFiles()
	}
}

// dirFailed tells whoever listens that a directory went offline.
func (m *Manager) dirFailed() {
	select {
	case m.failures <- struct{}{}:
	default:
	}
}

// Failures is signalled (without blocking, at most one pending) each time a directory went offline; see Dirs.
func (m *Manager) Failures() <-chan struct{} { return m.failures }

// CreateOptions says how Create makes a log.
type CreateOptions struct {
	TopicID     id.UUID
	Config      Config
	DirectoryID id.UUID // the log dir to use; zero or unknown: one is chosen. See Manager.Prefer, which beats it
}

// Create returns the partition's log, making it when there is none. An existing log of another topic id is an
// *InconsistentTopicIDError.
func (m *Manager) Create(tp id.TopicPartition, o CreateOptions) (*Log, error) {
	for {
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			return nil, ErrClosed
		}
		if !m.loaded {
			m.mu.Unlock()
			return nil, fmt.Errorf("create log %v: the logs are not loaded: %w", tp, errors.Join(wire.ErrKafkaStorageError, m.anyOnline()))
		}
		if l := m.logs[tp]; l != nil {
			m.mu.Unlock()
			if !o.TopicID.IsZero() {
				if err := l.SetTopicID(o.TopicID); err != nil {
					return nil, err
				}
			}
			return l, nil
		}
		wait := m.creating[tp]
		if p := m.pending[tp]; p != nil {
			if err := p.dir.err(); err != nil {
				m.mu.Unlock()
				return nil, fmt.Errorf("create log %v: %w", tp, err)
			}
			wait = p.done
		}
		if p := m.leaving[tp]; p != nil { // the directory has its name for a moment more
			wait = p.done
		}
		if wait != nil {
			m.mu.Unlock()
			m.Recovering(tp)
			select {
			case <-wait:
			case <-m.stop: // a recovery that has not begun does not begin any more
				return nil, ErrClosed
			}
			continue
		}
		done := make(chan struct{})
		m.creating[tp] = done
		dir, err := m.placeLocked(tp, o.DirectoryID)
		if err == nil {
			dir.hosted++
		}
		m.mu.Unlock()

		var l *Log
		if err == nil {
			l, err = openLog(LogOptions{Dir: filepath.Join(dir.path, tp.String()), TopicPartition: tp, TopicID: o.TopicID, Config: o.Config, CleanShutdown: true}, dir, m.o)
		}
		m.mu.Lock()
		delete(m.creating, tp)
		if err == nil {
			m.logs[tp] = l
			m.unborn = append(m.unborn, l)
		} else if dir != nil {
			dir.hosted--
		}
		m.mu.Unlock()
		close(done)
		m.poke()
		if err != nil {
			return nil, fmt.Errorf("create log %v: %w", tp, err)
		}
		return l, nil
	}
}

// placeLocked chooses a directory: the wanted one, or of those that work and are not cordoned the one with the fewest logs. Where all
// that work are cordoned, it is the first: the controller has learned of it too late. While a directory is offline, a log that the
// metadata has in none of the others may be in it, and is not made anew.
func (m *Manager) placeLocked(tp id.TopicPartition, want id.UUID) (*logDir, error) {
	if d := m.preferred[tp]; d != nil {
		delete(m.preferred, tp)
		if d.err() == nil {
			return d, nil
		}
	}
	var best, first *logDir
	var offline error
	for _, d := range m.dirs {
		if err := d.err(); err != nil {
			offline = err
			continue
		}
		if !want.IsZero() && d.id == want {
			return d, nil
		}
		if first == nil {
			first = d
		}
		if !d.cordoned && (best == nil || d.hosted < best.hosted) {
			best = d
		}
	}
	if best == nil {
		best = first
	}
	switch {
	case best == nil:
		return nil, m.anyOnline()
	case offline != nil && !want.IsZero():
		return nil, offline
	}
	return best, nil
}

// SetCordoned says which directories get no new logs, and no moves into them, by their paths as Options.Dirs has them. It returns
// their ids, as far as they are known.
func (m *Manager) SetCordoned(paths []string) []id.UUID {
	var ids []id.UUID
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.dirs {
		d.cordoned = slices.ContainsFunc(paths, func(p string) bool { return filepath.Clean(p) == d.path })
		if d.cordoned && !d.id.IsZero() {
			ids = append(ids, d.id)
		}
	}
	return ids
}

// Loaded reports whether the logs on disk were loaded.
func (m *Manager) Loaded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.loaded
}

// Get returns the partition's log.
func (m *Manager) Get(tp id.TopicPartition) (*Log, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.logs[tp]
	return l, l != nil
}

// Logs returns all logs in order of topic and partition.
func (m *Manager) Logs() []*Log {
	m.mu.Lock()
	out := make([]*Log, 0, len(m.logs))
	for _, l := range m.logs {
		out = append(out, l)
	}
	m.mu.Unlock()
	slices.SortFunc(out, func(a, b *Log) int { return a.tp.Compare(b.tp) })
	return out
}

// Delete takes logs out of service at once, renames their directories and removes the files after file.delete.delay.ms. A
// partition without a log is no error. Many partitions in one call cost little more than one.
func (m *Manager) Delete(partitions ...id.TopicPartition) error {
	return m.takeAway(partitions, suffixDirDelete)
}

// SetAside takes logs out of service that do not belong here by the metadata, and renames their directories as Load does with
// those it finds. Nothing of them is removed.
func (m *Manager) SetAside(partitions ...id.TopicPartition) error {
	return m.takeAway(partitions, suffixDirStray)
}

func (m *Manager) takeAway(partitions []id.TopicPartition, suffix string) error {
	m.abandonMoves(partitions)
	errs := []error{m.takePending(partitions, suffix)}
	byDir := map[*logDir][]*Log{}
	m.mu.Lock()
	for _, tp := range partitions {
		if l := m.logs[tp]; l != nil {
			delete(m.logs, tp)
			l.dir.hosted--
			delete(m.work, l)
			byDir[l.dir] = append(byDir[l.dir], l)
		}
	}
	m.mu.Unlock()
	for d, logs := range byDir {
		errs = append(errs, m.takeAwayFrom(d, logs, suffix))
	}
	m.poke()
	return errors.Join(errs...)
}

// takeAwayFrom does so with logs of one directory that nobody finds any more.
func (m *Manager) takeAwayFrom(d *logDir, logs []*Log, suffix string) error {
	var moved []*Log
	for i, l := range logs {
		ok, err := m.moveAway(l, suffix)
		if err != nil {
			for _, l := range logs[i:] {
				l.setGone(ErrDeleted)
				l.dropFiles()
			}
			return err
		}
		if ok {
			moved = append(moved, l)
		}
	}
	if d.err() != nil || len(moved) == 0 {
		return nil // the files are out of reach, and a restart finds them stray; or there are none
	}
	d.taken.Add(1) // Tick makes it durable
	for _, l := range moved {
		if suffix != suffixDirDelete {
			m.o.Logger.Warn("log does not belong on this node by the metadata and was moved aside", "partition", l.tp.String(), "path", l.Path())
			l.mu.Lock()
			l.dropFiles()
			l.mu.Unlock()
			continue
		}
		m.mu.Lock()
		m.deleting = append(m.deleting, deletion{at: m.o.Now().Add(deleteDelay(l.Config())), path: l.Path(), dir: d, log: l})
		m.mu.Unlock()
	}
	return nil
}

// deleteDelay is file.delete.delay.ms; centuries become a year.
func deleteDelay(c Config) time.Duration { return min(c.FileDeleteDelay, 365*24*time.Hour) }

// settleFor is settle for all directories before a new log gets a name in d: an earlier one of the same name may have been in another
// directory. One that is offline by then is for the next start to judge.
func (m *Manager) settleFor(d *logDir) error {
	for _, other := range m.dirs {
		if !other.unsettled() {
			continue
		}
		if err := m.settle(other); err != nil && (other == d || other.err() == nil) {
			return err
		}
	}
	return nil
}

// settle makes durable that logs were taken away from a directory. It happens before a new log gets a directory there: the
// checkpoints must not speak of an earlier one of the same name.
func (m *Manager) settle(d *logDir) error {
	d.settling.Lock()
	defer d.settling.Unlock()
	taken := d.taken.Load()
	if d.settled.Load() == taken {
		return nil
	}
	if err := d.err(); err != nil {
		return err
	}
	if err := m.o.FS.SyncDir(d.path); err != nil {
		return d.fail("delete", d.path, err)
	}
	if err := errors.Join(d.lowered(), m.forgetStarts(d)); err != nil {
		return err
	}
	d.settled.Store(taken)
	return nil
}

// moveAway renames a log's directory once whoever was changing the log is done; false when there is nothing to rename.
func (m *Manager) moveAway(l *Log, suffix string) (bool, error) {
	l.setGone(ErrDeleted)
	l.swap.Lock()
	defer l.swap.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dir.err() != nil || !l.born && !vfs.Exists(m.o.FS, l.Path()) {
		l.dropFiles()
		return false, nil
	}
	path := filepath.Join(l.dir.path, movedDirName(l.tp, suffix))
	if err := m.o.FS.Rename(l.Path(), path); err != nil {
		return false, l.dir.fail("delete", l.tp.String(), err)
	}
	l.at.dir.Store(&path)
	return true, nil
}

// DirInfo describes one log directory.
type DirInfo struct {
	Path        string
	DirectoryID id.UUID
	Err         error // why it is offline; nil when it works
	Cordoned    bool  // it gets no new logs
	TotalBytes  int64
	UsableBytes int64
	Logs        []*Log     // of this directory; Log.SizeBytes for each
	Moves       []MoveInfo // into this directory
}

// Dirs describes the log directories, for DescribeLogDirs and registration.
func (m *Manager) Dirs() []DirInfo {
	logs := m.Logs()
	out := make([]DirInfo, len(m.dirs))
	m.mu.Lock()
	for i, d := range m.dirs {
		out[i].Cordoned = d.cordoned
	}
	m.mu.Unlock()
	for i, d := range m.dirs {
		out[i].Path, out[i].DirectoryID, out[i].Err, out[i].TotalBytes, out[i].UsableBytes = d.path, d.id, d.err(), -1, -1
		if out[i].Err != nil {
			continue
		}
		if u, err := m.o.FS.Usage(d.path); err == nil {
			out[i].TotalBytes, out[i].UsableBytes = u.TotalBytes, u.FreeBytes
		}
		for _, l := range logs {
			if l.dir == d {
				out[i].Logs = append(out[i].Logs, l)
			}
		}
		out[i].Moves = m.movesTo(d)
	}
	return out
}

// PreviousBrokerEpoch is the broker epoch of the last clean shutdown, if every directory had one and they agree.
func (m *Manager) PreviousBrokerEpoch() (id.BrokerEpoch, bool) {
	for _, d := range m.dirs {
		if !d.hasEpoch || d.brokerEpoch != m.dirs[0].brokerEpoch {
			return 0, false
		}
	}
	return m.dirs[0].brokerEpoch, true
}

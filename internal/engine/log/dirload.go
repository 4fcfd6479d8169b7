package log

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/moldau-io/moldau/internal/base/checkpoint"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// dirState is what a directory's own files say about its logs.
type dirState struct {
	recovery, starts, highWatermarks, cleans map[id.TopicPartition]id.Offset
}

// recoveryPoint is that of a log, -1 when the directory has no checkpoint that could be read.
func (s dirState) recoveryPoint(tp id.TopicPartition) id.Offset {
	if s.recovery == nil {
		return id.NoOffset
	}
	return s.recovery[tp]
}

// of is what a checkpoint file says.
func (s dirState) of(name string) map[id.TopicPartition]id.Offset {
	switch name {
	case fileRecoveryPoint:
		return s.recovery
	case fileStartOffset:
		return s.starts
	case fileHighWatermark:
		return s.highWatermarks
	case fileCleanerOffset:
		return s.cleans
	}
	return nil
}

// LoadOptions say what the metadata knows about the logs that are found on disk.
type LoadOptions struct {
	// TopicConfig returns the resolved configuration of a topic; nil: Options.Config for all. Recovery depends on it: without
	// compaction a gap between segments means lost bytes.
	TopicConfig func(topic string) Config
	// Stray reports whether a log does not belong on this node; nil: none does. It gets the topic id the directory names, zero
	// when it names none, and whether the directory holds no records. Called from several goroutines.
	Stray func(tp id.TopicPartition, topicID id.UUID, empty bool) bool
	// Assigned returns the id of the log directory in which the metadata has a partition of this node. May be nil.
	Assigned func(tp id.TopicPartition, topicID id.UUID) (dir id.UUID, ok bool)
	// Recovered, if set, lets Load return before the logs of a directory that was not closed cleanly are recovered. It is called
	// for each that is, from several goroutines, also before Load has returned; it must not block.
	Recovered func(tp id.TopicPartition)
}

// Load opens the logs of every directory, RecoveryThreads at a time in each, and begins the background work. Open calls it
// unless Options.Deferred is set; then the owner does, once. Until it has succeeded there are no logs and none can be created.
//
// The directory of a stray log is renamed and kept: "topic-partition.<hex>-stray" is neither loaded nor removed by anybody but
// an operator. After an error every directory is offline.
func (m *Manager) Load(o LoadOptions) error {
	m.ticking.Lock()
	defer m.ticking.Unlock()
	m.mu.Lock()
	loaded, closed := m.loaded, m.closed
	m.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case loaded:
		return errors.New("the logs are loaded already")
	}
	if err := m.loadAll(o); err != nil {
		m.dropAll()
		for _, d := range m.dirs {
			if d.err() == nil {
				d.fail("load", d.path, err)
			}
		}
		return err
	}
	m.due = newSchedule(m.o, m.o.Now())
	m.recoverPending(o.Recovered)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loaded = true
	m.cleaner.start()
	if !m.o.Manual {
		m.stopped = make(chan struct{})
		go m.run(m.stopped)
	}
	return nil
}

func (m *Manager) loadAll(o LoadOptions) error {
	var wg sync.WaitGroup
	fatal := make([]error, len(m.dirs))
	states := make([]dirState, len(m.dirs))
	for i, d := range m.dirs {
		if d.err() != nil {
			continue
		}
		wg.Go(func() { states[i], fatal[i] = m.loadDir(d, o) })
	}
	wg.Wait()
	if err := errors.Join(fatal...); err != nil {
		return err
	}
	if err := m.settleCopies(o, states); err != nil {
		return err
	}
	for i, s := range states {
		d := m.dirs[i]
		if err := m.forgetMissing(d, s); err != nil && !IsOffline(err) {
			return err
		}
		if d.err() != nil || s.recovery != nil || d.hosted > 0 || m.pendingIn(d) > 0 {
			continue
		}
		// A new directory: without the file a start after a crash could not tell what compaction took out of a log from what a
		// power loss did.
		if err := m.checkpointRecoveryPoints(d); err != nil && !IsOffline(err) && !isFull(err) {
			return err
		}
	}
	return m.anyOnline()
}

// loadDir opens the logs of one directory. An error of the disk takes the directory offline; the error returned is one that
// must stop the start.
func (m *Manager) loadDir(d *logDir, o LoadOptions) (dirState, error) {
	s, err := d.readState()
	if err != nil {
		d.fail("load", d.path, err)
		return s, nil
	}
	entries, err := m.o.FS.List(d.path)
	if err != nil {
		d.fail("load", d.path, err)
		return s, nil
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, m.o.recoveryThreads())
	var mu sync.Mutex
	var first error
	for _, e := range entries {
		if !e.IsDir() || e.Name() == dirRemoteIndexCache {
			continue
		}
		tp, kind, ok := parseDirName(e.Name())
		path := filepath.Join(d.path, e.Name())
		switch {
		case !ok:
			m.o.Logger.Warn("directory is not a partition's and is left alone", "path", path)
			continue
		case tp.Topic == metadataTopic:
			continue // the quorum's
		case kind == dirDelete:
			m.mu.Lock()
			m.deleting = append(m.deleting, deletion{at: m.o.Now(), path: path, dir: d})
			m.mu.Unlock()
			continue
		case kind == dirFuture:
			m.mu.Lock()
			m.found = append(m.found, foundCopy{slices.Index(m.dirs, d), tp, path})
			m.mu.Unlock()
			continue
		case kind == dirStray:
			m.o.Logger.Warn("stray replica is left alone", "path", path)
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := m.loadOne(d, tp, path, s, o); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if first == nil {
					first = err
				}
			}
		})
	}
	wg.Wait()
	return s, first
}

func (m *Manager) loadOne(d *logDir, tp id.TopicPartition, path string, s dirState, o LoadOptions) error {
	if d.err() != nil {
		return nil
	}
	topicID, stray, err := m.moveStray(d, tp, path, o)
	if stray || err != nil {
		if err != nil && !IsOffline(err) {
			return err
		}
		return nil
	}
	c := m.o.Config
	if o.TopicConfig != nil {
		c = o.TopicConfig(tp.Topic)
	}
	lo := LogOptions{
		Dir: path, TopicPartition: tp, Config: c, CleanShutdown: d.clean,
		RecoveryPoint: s.recoveryPoint(tp), LogStartOffset: s.starts[tp], HighWatermark: s.highWatermarks[tp], CleanUpTo: s.cleans[tp], found: &topicID,
	}
	if o.Recovered != nil && !d.clean {
		return m.addPending(d, tp, lo, s)
	}
	l, err := openLog(lo, d, m.o)
	if err != nil {
		var se *StorageError
		if errors.As(err, &se) {
			d.fail("load", path, err)
			return nil
		}
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.pending[tp]; other != nil {
		l.dropFiles()
		return twoDirectories(tp, other.options.Dir, path)
	}
	if other := m.logs[tp]; other != nil {
		l.dropFiles()
		return twoDirectories(tp, other.Path(), path)
	}
	m.logs[tp] = l
	d.hosted++
	return nil
}

// moveStray reads the topic id of a directory and renames it if its log does not belong here. Nothing else in it is looked at
// before.
func (m *Manager) moveStray(d *logDir, tp id.TopicPartition, path string, o LoadOptions) (topicID id.UUID, moved bool, err error) {
	if topicID, err = readTopicID(m.o.FS, path); err != nil {
		var malformed *errMalformedMeta
		if errors.As(err, &malformed) {
			return topicID, false, fmt.Errorf("open log %v: %w", tp, err)
		}
		return topicID, false, d.fail("load", path, err)
	}
	if o.Stray == nil {
		return topicID, false, nil
	}
	empty := false
	if topicID.IsZero() {
		if empty, err = holdsNothing(m.o.FS, path); err != nil {
			return topicID, false, d.fail("load", path, err)
		}
	}
	if !o.Stray(tp, topicID, empty) {
		return topicID, false, nil
	}
	to := filepath.Join(d.path, movedDirName(tp, suffixDirStray))
	err = m.o.FS.Rename(path, to)
	if err == nil {
		err = m.o.FS.SyncDir(d.path)
	}
	if err != nil {
		return topicID, true, d.fail("move stray", path, err)
	}
	m.o.Logger.Warn("log does not belong on this node by the metadata and was moved aside", "partition", tp.String(), "topic_id", topicID.String(), "path", to)
	return topicID, true, nil
}

// holdsNothing reports whether a partition directory has no records and never had: its only segment, if any, is empty and
// begins at 0.
func holdsNothing(fsys vfs.FS, path string) (bool, error) {
	entries, err := fsys.List(path)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		base, suffix, ok := parseSegmentName(e.Name())
		if !ok || suffix != suffixLog && suffix != suffixLog+suffixSwap {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return false, err
		}
		if base != 0 || info.Size() > 0 {
			return false, nil
		}
	}
	return true, nil
}

// readMark reads what the last shutdown left. The mark stays: only Load takes it away.
func (d *logDir) readMark() error {
	b, err := vfs.ReadFile(d.o.FS, filepath.Join(d.path, fileCleanShutdown), 1<<16)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return d.fail("read", fileCleanShutdown, err)
	}
	d.clean = true
	var content struct {
		Version     int
		BrokerEpoch *int64
	}
	if json.Unmarshal(b, &content) == nil && content.BrokerEpoch != nil {
		d.brokerEpoch, d.hasEpoch = id.BrokerEpoch(*content.BrokerEpoch), true
	}
	return nil
}

// readState reads the checkpoints and takes the clean shutdown mark away, so that a crash from here on counts as one.
func (d *logDir) readState() (dirState, error) {
	fsys := d.o.FS
	var s dirState
	if d.clean {
		if err := fsys.Remove(filepath.Join(d.path, fileCleanShutdown)); err != nil {
			return s, err
		}
		if err := fsys.SyncDir(d.path); err != nil {
			return s, err
		}
	}
	var err error
	// A checkpoint that cannot be understood is one that says nothing: everything is scanned, the log begins where its first
	// segment does, and the high watermark starts there.
	read := func(name string) (map[id.TopicPartition]id.Offset, error) {
		path := filepath.Join(d.path, name)
		offsets, err := checkpoint.ReadOffsets(fsys, path)
		var bad *checkpoint.FormatError
		if errors.As(err, &bad) {
			d.o.Logger.Warn("checkpoint is malformed and not used", "path", path, "err", err)
			return nil, nil
		}
		return offsets, err
	}
	if s.recovery, err = read(fileRecoveryPoint); err != nil {
		return s, err
	}
	if !vfs.Exists(fsys, filepath.Join(d.path, fileRecoveryPoint)) {
		s.recovery = nil
		d.durableChanged.Store(true)
	}
	if s.starts, err = read(fileStartOffset); err != nil {
		return s, err
	}
	if s.highWatermarks, err = read(fileHighWatermark); err != nil {
		return s, err
	}
	s.cleans, err = read(fileCleanerOffset)
	return s, err
}

// writeCleanShutdown leaves the mark of a clean shutdown.
func (d *logDir) writeCleanShutdown(epoch id.BrokerEpoch) error {
	text := fmt.Sprintf(`{"version":0,"brokerEpoch":%d}`, epoch)
	if err := vfs.WriteFile(d.o.FS, filepath.Join(d.path, fileCleanShutdown), []byte(text)); err != nil {
		return err
	}
	return d.o.FS.SyncDir(d.path)
}

// forgetMissing rewrites the checkpoints of a directory if they speak of logs that are not there: deleted or moved, before the
// checkpoints were written. A log of the same name must not inherit their offsets.
func (m *Manager) forgetMissing(d *logDir, s dirState) error {
	if d.err() != nil {
		return nil
	}
	for _, offsets := range []map[id.TopicPartition]id.Offset{s.recovery, s.starts, s.highWatermarks, s.cleans} {
		for tp := range offsets {
			if m.dirOf(tp) != d {
				return errors.Join(d.lowered(), m.forgetStarts(d))
			}
		}
	}
	return nil
}

package log

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/moldau-io/moldau/internal/base/checkpoint"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// dirState is what a directory's own files say about its logs.
type dirState struct {
	clean                            bool
	brokerEpoch                      id.BrokerEpoch
	hasEpoch                         bool
	recovery, starts, highWatermarks map[id.TopicPartition]id.Offset
}

// loadAll opens every log of every directory, RecoveryThreads at a time in each.
func (m *Manager) loadAll() error {
	var wg sync.WaitGroup
	fatal := make([]error, len(m.dirs))
	states := make([]dirState, len(m.dirs))
	for i, d := range m.dirs {
		if d.err() != nil {
			continue
		}
		wg.Go(func() { states[i], fatal[i] = m.loadDir(d) })
	}
	wg.Wait()
	if err := errors.Join(fatal...); err != nil {
		return err
	}
	for i, s := range states {
		if err := m.forgetMissing(m.dirs[i], s); err != nil && !IsOffline(err) {
			return err
		}
	}
	m.hasPreviousEpoch = true
	for i, s := range states {
		if !s.hasEpoch || i > 0 && s.brokerEpoch != states[0].brokerEpoch {
			m.hasPreviousEpoch = false
		}
		m.previousEpoch = s.brokerEpoch
	}
	return m.anyOnline()
}

// loadDir opens the logs of one directory. An error of the disk takes the directory offline; the error returned is one that
// must stop the start.
func (m *Manager) loadDir(d *logDir) (dirState, error) {
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
	slots := make(chan struct{}, m.o.RecoveryThreads)
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
		case kind == dirFuture, kind == dirStray:
			m.o.Logger.Warn("future or stray replica is left alone", "path", path)
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := m.loadOne(d, tp, path, s); err != nil {
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

func (m *Manager) loadOne(d *logDir, tp id.TopicPartition, path string, s dirState) error {
	if d.err() != nil {
		return nil
	}
	c := m.o.Config
	if m.o.TopicConfig != nil {
		c = m.o.TopicConfig(tp.Topic)
	}
	l, err := openLog(LogOptions{
		Dir: path, TopicPartition: tp, Config: c, CleanShutdown: s.clean,
		RecoveryPoint: s.recovery[tp], LogStartOffset: s.starts[tp], HighWatermark: s.highWatermarks[tp],
	}, d, m.o)
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
	if other := m.logs[tp]; other != nil {
		return fmt.Errorf("partition %v has two directories: %s and %s; remove the one that failed last", tp, other.Path(), path)
	}
	m.logs[tp] = l
	return nil
}

// readState reads the checkpoints and takes the clean shutdown mark away, so that a crash from here on counts as one.
func (d *logDir) readState() (dirState, error) {
	fsys := d.o.FS
	mark := filepath.Join(d.path, fileCleanShutdown)
	var s dirState
	b, err := vfs.ReadFile(fsys, mark, 1<<16)
	switch {
	case err == nil:
		s.clean = true
		var content struct {
			Version     int
			BrokerEpoch *int64
		}
		if json.Unmarshal(b, &content) == nil && content.BrokerEpoch != nil {
			s.brokerEpoch, s.hasEpoch = id.BrokerEpoch(*content.BrokerEpoch), true
		}
		if err := fsys.Remove(mark); err != nil {
			return s, err
		}
		if err := fsys.SyncDir(d.path); err != nil {
			return s, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return s, err
	}
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
	if s.starts, err = read(fileStartOffset); err != nil {
		return s, err
	}
	s.highWatermarks, err = read(fileHighWatermark)
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

// forgetMissing rewrites the checkpoints of a directory if they speak of logs that are not there: deleted, before the
// checkpoints were written. A log of the same name must not inherit their offsets.
func (m *Manager) forgetMissing(d *logDir, s dirState) error {
	if d.err() != nil {
		return nil
	}
	for _, offsets := range []map[id.TopicPartition]id.Offset{s.recovery, s.starts, s.highWatermarks} {
		for tp := range offsets {
			if _, ok := m.Get(tp); !ok {
				return errors.Join(d.lowered(), m.forgetStarts(d))
			}
		}
	}
	return nil
}

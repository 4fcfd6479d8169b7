package log

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/vfs"
)

// A new log of a Manager lives in memory at first; nobody waits for its directory. The manager's goroutine makes the directory,
// partition.metadata and the first segment's file within moments, or the first append does. None of that is synced: what was
// acknowledged before a flush is what a power loss may take, a new partition included. The first flush makes it all durable
// before the durable end moves: the directory's name, the topic id, the leader epochs and the bytes.
//
// Until that flush leader epochs are kept in memory: those that have records are found in them again.

// ensure makes the log's directory and files if they are not there yet. It needs mu.
func (l *Log) ensure() error {
	if l.born {
		return nil
	}
	if err := l.Err(); err != nil {
		return err
	}
	if l.dir.settleNow != nil {
		if err := l.dir.settleNow(); err != nil {
			return err
		}
	}
	fsys, dir := l.at.fs, l.Path()
	if err := fsys.MkdirAll(dir, 0o755); err != nil {
		return l.fault("create directory of", err)
	}
	if !l.topicID.IsZero() {
		// Renamed into place, so that a process that ends here leaves no half a file.
		path := l.at.path(filePartitionMeta)
		err := writeUnsynced(fsys, path+".tmp", l.metadataText())
		if err == nil {
			err = fsys.Rename(path+".tmp", path)
		}
		if err != nil {
			return l.fault("write partition.metadata of", err)
		}
	}
	if err := l.active().log.create(); err != nil {
		return l.fault("create segment of", err)
	}
	l.born = true
	l.bornAt = l.dir.names.added.Add(1)
	return nil
}

// create makes the file and closes it again: most new logs wait long for their first record.
func (h *handle) create() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, err := h.at.fs.OpenFile(h.pathLocked(), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// syncNames makes the directory of the log, and what says whose log it is, durable.
func (l *Log) syncNames(bornAt int64) error {
	f, err := l.at.fs.OpenFile(l.at.path(filePartitionMeta), os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist): // a log without a topic id
	case err != nil:
		return err
	default:
		if err = f.Sync(); err != nil {
			f.Close()
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	if err := l.at.fs.SyncDir(l.Path()); err != nil {
		return err
	}
	return l.dir.names.sync(l.at.fs, filepath.Dir(l.Path()), bornAt)
}

// dirNames shares syncs of a log directory among the logs that were made in it.
type dirNames struct {
	added  atomic.Int64 // directories made so far
	mu     sync.Mutex   // held across the sync
	synced int64        // of them durable
}

// sync returns when the name of the directory that was made as number n is durable.
func (d *dirNames) sync(fsys vfs.FS, path string, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.synced >= n && n > 0 {
		return nil
	}
	added := d.added.Load()
	if err := fsys.SyncDir(path); err != nil {
		return err
	}
	d.synced = added
	return nil
}

// tickMoved makes durable that logs were taken away.
func (m *Manager) tickMoved() {
	for _, d := range m.dirs {
		if d.unsettled() && d.err() == nil {
			if err := m.settle(d); err != nil && d.err() == nil {
				m.o.Logger.Warn("deletions are not durable yet", "log_dir", d.path, "err", err)
			}
		}
	}
}

// tickBirths makes the directories of new logs. One that fails on a full disk is made when it is first appended to.
func (m *Manager) tickBirths() {
	m.mu.Lock()
	logs := m.unborn
	m.unborn = nil
	m.mu.Unlock()
	for _, l := range logs {
		l.mu.Lock()
		err := l.ensure()
		l.mu.Unlock()
		if err != nil && l.Err() == nil {
			m.o.Logger.Warn("a new log has no directory yet", "partition", l.tp.String(), "err", err)
		}
	}
}

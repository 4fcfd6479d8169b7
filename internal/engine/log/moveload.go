package log

import (
	"fmt"
	"path/filepath"

	"github.com/moldau-io/moldau/internal/base/id"
)

// foundCopy is the copy of a log that a start finds: the node was stopped while the log was on its way to another directory.
type foundCopy struct {
	dir  int // index in Manager.dirs
	tp   id.TopicPartition
	path string
}

// settleCopies decides about the copies that were found, once all logs are. One beside its log is thrown away, and Unfinished tells
// of the move. One without its log takes its place, if no log can be in a directory that is offline, or if the metadata says that the
// log is in the copy's directory: Apache Kafka and this node tell the metadata so when the copy is whole.
func (m *Manager) settleCopies(o LoadOptions, states []dirState) error {
	m.mu.Lock()
	copies := m.found
	m.found = nil
	m.mu.Unlock()
	offline := false
	for _, d := range m.dirs {
		offline = offline || d.err() != nil
	}
	for _, c := range copies {
		d := m.dirs[c.dir]
		if d.err() != nil {
			continue
		}
		if at := m.dirOf(c.tp); at != nil {
			if err := m.discardCopy(d, c); err != nil {
				continue // offline now
			}
			if at != d {
				m.mu.Lock()
				m.unfinished[c.tp] = d.path
				m.mu.Unlock()
			}
			continue
		}
		topicID, stray, err := m.moveStray(d, c.tp, c.path, o)
		if err != nil && !IsOffline(err) {
			return err
		}
		if stray || err != nil {
			continue
		}
		if offline {
			assigned, ok := id.UUID{}, false
			if o.Assigned != nil {
				assigned, ok = o.Assigned(c.tp, topicID)
			}
			if !ok || assigned != d.id {
				m.o.Logger.Warn("the copy of a log is left alone, as the log may be in a directory that is offline", "partition", c.tp.String(), "path", c.path)
				continue
			}
		}
		if err := m.promoteCopy(d, c, states[c.dir], o); err != nil {
			return err
		}
	}
	return nil
}

// discardCopy lets a copy be removed.
func (m *Manager) discardCopy(d *logDir, c foundCopy) error {
	to := filepath.Join(d.path, movedDirName(c.tp, suffixDirDelete))
	if err := m.o.FS.Rename(c.path, to); err != nil {
		return d.fail("discard", c.path, err)
	}
	m.o.Logger.Info("the copy of a log that was on its way is discarded", "partition", c.tp.String(), "path", c.path)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deleting = append(m.deleting, deletion{at: m.o.Now(), path: to, dir: d})
	return nil
}

// promoteCopy makes a copy the log.
func (m *Manager) promoteCopy(d *logDir, c foundCopy, s dirState, o LoadOptions) error {
	path := filepath.Join(d.path, c.tp.String())
	err := m.o.FS.Rename(c.path, path)
	if err == nil {
		err = m.o.FS.SyncDir(d.path)
	}
	if err != nil {
		d.fail("move", c.path, err)
		return nil
	}
	m.o.Logger.Warn("the copy of a log takes its place", "partition", c.tp.String(), "path", path)
	if _, ok := s.recovery[c.tp]; !ok {
		s.recovery = nil // nothing is known of it
	}
	if err := m.loadOne(d, c.tp, path, s, o); err != nil {
		return fmt.Errorf("load the copy of a log: %w", err)
	}
	return nil
}

// dirOf is the directory in which a partition's log is, recovered or not.
func (m *Manager) dirOf(tp id.TopicPartition) *logDir {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.logs[tp]; l != nil {
		return l.dir
	}
	if p := m.pending[tp]; p != nil {
		return p.dir
	}
	return nil
}

// Unfinished returns the moves that a start found unfinished, with the directories they led to, and forgets them. Who asked for them
// expects that they go on.
func (m *Manager) Unfinished() map[id.TopicPartition]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.unfinished
	m.unfinished = map[id.TopicPartition]string{}
	return out
}

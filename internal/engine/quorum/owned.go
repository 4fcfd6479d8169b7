package quorum

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/engine/log"
)

// Apache Kafka as broker and controller opens the metadata log in a shared directory, votes, and writes to it before it asks for the
// directory's lock; then it ends. Whoever has the lock must notice before it writes over what the other wrote.

// How long a foreign process must have changed nothing before it is taken to be gone, and how long that is waited for.
const (
	foreignQuiet = 5 * time.Second
	foreignMost  = 60 * time.Second
)

// owned refuses to go on when another process writes to the metadata log. epoch is the newest this node has voted in; a quorum-state
// beyond it is not this node's. What cannot be read is no reason. It returns when the other process is gone, as far as can be seen:
// it must find the directory locked, and does not if this process ends first.
func (m *metaLog) owned(epoch id.LeaderEpoch) error {
	err := m.CheckOwned()
	if err == nil {
		if h, bad := readState(m.o.FS, m.o.logDir()); bad == nil && h.Epoch > epoch {
			err = fmt.Errorf("%w: %s has epoch %d, this process voted in %d at most", log.ErrForeign, filepath.Join(m.o.logDir(), fileState), h.Epoch, epoch)
			m.Disown(err)
		}
	}
	if err == nil {
		return nil
	}
	m.o.Logger.Error("another process writes to the metadata log: it is left to it, and this node ends when the other has gone. "+
		"Was Apache Kafka started on this directory?", "dir", m.o.logDir(), "err", err)
	m.awaitQuiet()
	return fmt.Errorf("%w; was Apache Kafka started on this directory? Nothing of it was written over: start this node again", err)
}

// awaitQuiet returns when nothing has changed in the directory for a while.
func (m *metaLog) awaitQuiet() {
	tick := time.NewTicker(m.quiet / 10)
	defer tick.Stop()
	most := time.NewTimer(foreignMost)
	defer most.Stop()
	was, since := "", time.Now()
	for {
		select {
		case <-m.stop:
			return
		case <-most.C:
			return
		case now := <-tick.C:
			if is := m.look(); is != was {
				was, since = is, now
			} else if now.Sub(since) >= m.quiet {
				return
			}
		}
	}
}

// look describes the files of the metadata log as far as a running quorum changes them.
func (m *metaLog) look() string {
	state, _ := vfs.ReadFile(m.o.FS, filepath.Join(m.o.logDir(), fileState), maxStateBytes) // what cannot be read does not change
	out := string(state)
	entries, _ := m.o.FS.List(m.o.logDir())
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			out += fmt.Sprint(" ", e.Name(), info.Size())
		}
	}
	return out
}

package quorum

import (
	"fmt"
	"path/filepath"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/engine/log"
)

// owned refuses to go on when another process writes to the metadata log. Apache Kafka as broker and controller opens the log in a
// shared directory, votes, and writes to it before it asks for the directory's lock, and then ends: whoever has the lock must
// notice before it writes over what the other wrote. epoch is the newest this node has voted in; a quorum-state beyond it is not
// this node's. What cannot be read is no reason.
func (m *metaLog) owned(epoch id.LeaderEpoch) error {
	err := m.CheckOwned()
	if err == nil {
		if h, bad := readState(m.o.FS, m.o.logDir()); bad == nil && h.Epoch > epoch {
			err = fmt.Errorf("%w: %s has epoch %d, this process voted in %d at most", log.ErrForeign, filepath.Join(m.o.logDir(), fileState), h.Epoch, epoch)
			m.Disown(err)
		}
	}
	if err != nil {
		return fmt.Errorf("%w; is Apache Kafka being started on this directory? Nothing more is written here: end the other process and start this node again", err)
	}
	return nil
}

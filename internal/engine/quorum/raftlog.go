package quorum

import "github.com/moldau-io/moldau/internal/core/raft"

// Snapshots implements raft.Log.
func (m *metaLog) Snapshots() (earliest, latest raft.Position, ok bool) {
	return m.oldest, m.snapshot, m.snapshot != bootstrapID
}

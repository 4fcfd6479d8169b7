package ctlhandler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// fetchSnapshot serves FetchSnapshot 0 and 1 (KIP-630, KIP-853).
func (d *RaftDesk) fetchSnapshot(r *server.Request) { d.ask(r, api.NewFetchSnapshotRequest()) }

// pointToLeader adds where the leader is to an answer about a partition that there is not.
func (d *RaftDesk) pointToLeader(refusal wire.Message, listener string, version int16) {
	a, ok := refusal.(*api.FetchSnapshotResponse)
	if !ok || len(a.Topics) == 0 || version < 1 {
		return
	}
	if n, e, ok := d.leaderAt(listener); ok {
		a.NodeEndpoints = []api.FetchSnapshotResponseNodeEndpoint{{NodeID: int32(n), Host: e.Host, Port: e.Port}}
	}
}

package ctlhandler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// beginQuorumEpoch serves BeginQuorumEpoch 0 and 1 (KIP-595, KIP-853).
func (d *RaftDesk) beginQuorumEpoch(r *server.Request) { d.ask(r, api.NewBeginQuorumEpochRequest()) }

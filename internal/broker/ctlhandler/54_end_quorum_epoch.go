package ctlhandler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// endQuorumEpoch serves EndQuorumEpoch 0 and 1 (KIP-595, KIP-853).
func (d *RaftDesk) endQuorumEpoch(r *server.Request) { d.ask(r, api.NewEndQuorumEpochRequest()) }

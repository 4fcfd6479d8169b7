package ctlhandler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// vote serves Vote 0 to 2 (KIP-595, KIP-853, KIP-996).
func (d *RaftDesk) vote(r *server.Request) { d.ask(r, api.NewVoteRequest()) }

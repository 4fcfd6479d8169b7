package ctlhandler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// fetch serves Fetch 4 to 18 of the metadata log, as voters and observers send it (KIP-595, KIP-630). There are no sessions.
func (d *RaftDesk) fetch(r *server.Request) {
	r.FromFollower = true
	d.ask(r, api.NewFetchRequest())
}

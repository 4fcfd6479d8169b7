package handler

import "github.com/moldau-io/moldau/internal/broker/server"

// createTopics passes CreateTopics on: it is decided by the active controller, and its answer comes back when the records are committed.
func (d *AdminDesk) createTopics(r *server.Request) { d.pass(r) }

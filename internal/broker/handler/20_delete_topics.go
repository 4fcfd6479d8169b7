package handler

import "github.com/moldau-io/moldau/internal/broker/server"

// deleteTopics passes DeleteTopics on: it is decided by the active controller, and its answer comes back when the records are committed.
func (d *AdminDesk) deleteTopics(r *server.Request) { d.pass(r) }

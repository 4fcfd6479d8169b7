package handler

import "github.com/moldau-io/moldau/internal/broker/server"

// updateFeatures passes UpdateFeatures on: it is decided by the active controller, and its answer comes back when the records are committed.
func (d *AdminDesk) updateFeatures(r *server.Request) { d.pass(r) }

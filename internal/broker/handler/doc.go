// Package handler is the desk: one file per API key, named by its number, turning a wire request into calls of one floor below
// and the floor's result into the answer.
//
// It decides nothing that a floor could decide, and keeps no state of its own beyond caches of the wire (fetch sessions, topics
// being created). A Go error becomes an error code here and nowhere else.
//
// A desk is a group of APIs over one floor: ReplicaDesk over engine/replica, GroupDesk over engine/coord, AdminDesk over the
// metadata image, the configuration and the line to the controller. Each has a Register method that fills the broker listener's
// registry; ApiVersions tells what is in that registry, so an API is advertised exactly when a desk serves it.
//
// Handlers run in the goroutine of their connection. They may be called concurrently; what they read is an immutable snapshot
// (image, configuration) or has a lock of its own.
package handler

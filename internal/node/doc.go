// Package node is the composition root: from a configuration it makes the parts of one node, joins them, starts them in order
// and stops them in the opposite order.
//
// It is the only place that knows all rooms. It decides nothing about topics, groups or requests; what looks like a decision
// here (which directory is formatted, which listener speaks what) is the configuration's.
//
// # Start
//
//	directories ── logs ── quorum ── controller listener ── line to the controller ── replicas, groups ── desks
//	                                                                                         │
//	   Kafka Server started <── coordinators loaded <── unfenced <── lifecycle <── listeners ─┘
//
// Whatever can fail for reasons outside (an unformatted or foreign directory, a lock, a taken port) fails before the broker
// registers, with one error. Committed metadata reaches the rooms through one goroutine, the publisher, in the order of the
// metadata log: configuration first, then replicas (and through them the coordinators), then the lifecycle. So a broker is
// unfenced only when it serves what the image says.
//
// Broker and controller of one node share the committed log and encoded requests, nothing else: the line to the controller is an
// in-process pipe that carries the frames of TCP.
package node

// Package controller decides what the metadata of the cluster becomes.
//
// The motif is decide -> append -> apply -> answer. [Controller.Decide] takes a request and returns the records that carry it
// out and the answer to send once they are committed; the records are applied to the working state before Decide returns, so
// that the next decision sees them. The working state is a persistent [image.Image] with a few indexes beside it, and so
// undoing costs a pointer: the controller keeps the state before each batch that is not committed yet ([Controller.Committed]
// forgets them, [Controller.Revert] and [Controller.Resign] go back). What clients and brokers see is another fold, over
// committed records only, and not this package's business.
//
// Decisions follow the rules of Apache Kafka's KRaft controller, error texts included, because tools print and tests compare
// them: KIP-500 and KIP-631 (registration, fencing, placement), KIP-455 (reassignment), KIP-584 and KIP-778 (features),
// KIP-858 (directories), KIP-919 (controller registration), KIP-966 (eligible leader replicas).
//
// The package is pure: time, randomness and offsets are arguments. It refuses to authorize, to know sockets, queues and
// deadlines, to validate config values (the owner passes a [ConfigSchema]), and to decide anything while it is not active.
//
// Soft state: when a broker was last heard of and how far it has read the log is known only to the active controller, dies
// with it and is not undone. Everything else can be rebuilt from the log.
//
// A Controller belongs to one goroutine.
package controller

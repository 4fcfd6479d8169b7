// Package ctlhandler is the desk of the controller listener: it serves the requests that brokers and tools send to a
// controller, and calls one floor below, the quorum.
//
// Most requests are handed to the controller as they are (engine/quorum runs core/controller) and their answers go back when
// the records are committed. An Envelope (KIP-590) carries a client's request that a broker forwards; it is unwrapped, served
// as if it had come by itself, and its answer wrapped. A request that this node cannot serve because it is not the active
// controller is answered NOT_CONTROLLER, for an enveloped one in the envelope, so that the broker looks for the controller
// while the client sees nothing.
//
// A [RaftDesk] serves what voters and observers ask the quorum: Vote, BeginQuorumEpoch, EndQuorumEpoch, Fetch of the metadata
// log and FetchSnapshot. It maps them (engine/quorum/raftrpc) and hands them on; the rules are core/raft's.
//
// The package refuses to hold metadata rules (core/controller) and to forward: a controller never passes a request on.
//
// A [Desk] and a [RaftDesk] are immutable; handlers may run on any goroutine.
package ctlhandler

// Package raftrpc maps raft.Message to the requests and responses of Kafka that carry it, and back: Vote (52), BeginQuorumEpoch
// (53), EndQuorumEpoch (54), Fetch (1) of the metadata partition and FetchSnapshot (59), as of KIP-595, KIP-630, KIP-853 and
// KIP-996.
//
//	who asks:     raft.Message --Request--> request   ...   response --FromResponse--> raft.Message
//	who answers:  request --FromRequest--> raft.Message  ...  raft.Message --Response--> response
//
// Everything here is a pure function. What a response does not carry is taken from the request it answers. Endpoints travel as
// host and port alone in responses: there the listener they belong to is the one that the request came through.
//
// The package checks what concerns one message alone: that it is about this cluster and the one partition there is. It
// refuses to check epochs and roles (core/raft) and to move bytes (the controller listener, a transport).
package raftrpc

// Package forward is the broker's line to the active controller.
//
// A [Client] keeps one connection, over whatever its Dial returns: TCP to the leader of the quorum, or an in-process pipe to
// the controller of the same node; the frames are the same. Requests of the broker itself (registration, heartbeats, producer
// id blocks, ISR changes) are sent as they are; requests of clients are wrapped in an Envelope with the client's principal and
// address (KIP-590). Requests are pipelined and matched to answers by correlation id.
//
// When the connection breaks, or the other side says that it is not the controller, every unanswered request is sent again, in
// order, over the next connection, until its deadline. The receiver must therefore take a request twice, as with Kafka. The
// number of requests under way is bounded; one more is refused at once.
//
// Who owns what: a goroutine per Client dials and writes, one per connection reads; mu guards the queue and what is in flight,
// and is never held across I/O or a callback.
package forward

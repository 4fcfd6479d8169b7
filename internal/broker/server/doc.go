// Package server is the door: it accepts connections, reads frames, checks header and version, hands each request to the one
// handler that a Registry names for its API key, and sends the answers back in the order of the requests.
//
// It refuses to know what any API means. It holds no topic, no group and no config table; a handler (internal/broker/handler)
// gets a Request and owes it exactly one Answer (or AnswerNothing, or Close).
//
// # A connection
//
//	socket -> reader goroutine: frame -> header -> version -> Handle(req) ......> Answer(msg)
//	                |                                                              |
//	                |  ring of requests not yet answered, in request order         v
//	                +--[ 7 produce, waiting ][ 8 produce, done ][ 9 fetch ]--> socket, head first
//
// Handle runs in the reader goroutine, from the bytes to the log and back; there is no queue between network and work. A handler
// that cannot answer at once returns, and any goroutine calls Answer later. Answer writes what the socket takes without waiting;
// what is left over goes to a goroutine that lives as long as the leftover, so that a slow reader holds up nobody but itself.
//
// Invariants:
//   - Answers leave in request order. A pipelined request (Produce, OffsetCommit) may start while earlier ones of its own API still
//     wait; every other request is a barrier: it starts when all before it are answered, and nothing starts before it is answered.
//     This is what Kafka's muting of a busy connection means to a client.
//   - Memory grows with the bytes that arrived, not with the size a frame announces, and big frames of all connections share one
//     bound (Memory). A peer that holds memory without sending is cut when others need it.
//   - Nothing a peer sends ends the process: a panic in a handler is counted and logged, and the request is answered with
//     UNKNOWN_SERVER_ERROR, or its connection closed where an answer cannot be made.
//   - One sweeper goroutine closes idle connections, and those whose peer went while a handler waits in their reader; there is no
//     timer per connection.
//
// Who owns what: the reader goroutine owns the inbound buffer; conn.mu guards the ring and the write side; a frame's memory
// belongs to its request until it is answered.
package server

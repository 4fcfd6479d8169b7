package server

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/moldau-io/moldau/internal/wire"
)

// ConnInfo describes the peer of a request. It does not change during a connection, except for the client's name, which
// ApiVersions brings (KIP-511).
type ConnInfo struct {
	// Listener is the name of the listener the connection came through, as in "PLAINTEXT".
	Listener string
	// SecurityProtocol is PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
	SecurityProtocol string
	// ClientAddr is the peer's address; for an in-process pipe a placeholder without port.
	ClientAddr net.Addr
	// ClientIP is the peer's IP address (4 or 16 bytes), empty for an in-process pipe.
	ClientIP net.IP
	// Principal is the authenticated principal in Kafka's form, as in "User:ANONYMOUS".
	Principal string
	// ID names the connection in logs: local address, remote address and a counter.
	ID string

	host     string // of Host
	software atomic.Pointer[ClientSoftware]
}

// ClientSoftware is the name and version a client gave of itself.
type ClientSoftware struct{ Name, Version string }

// Software returns what the client said of itself, or "unknown" twice.
func (c *ConnInfo) Software() ClientSoftware {
	if s := c.software.Load(); s != nil {
		return *s
	}
	return ClientSoftware{Name: "unknown", Version: "unknown"}
}

// SetSoftware records what the client said of itself.
func (c *ConnInfo) SetSoftware(s ClientSoftware) { c.software.Store(&s) }

// Host returns the peer's IP address as Kafka prints a client host in groups: "/127.0.0.1".
func (c *ConnInfo) Host() string {
	if c.host == "" {
		return "/127.0.0.1"
	}
	return c.host
}

// Request is one request of a connection, between its arrival and its answer.
//
// Exactly one of Answer, AnswerNothing and Close must be called, once, from any goroutine. Body, and everything decoded from it
// that aliases it, is valid until that call returns; whoever keeps bytes longer copies them.
type Request struct {
	// Header is the decoded request header.
	Header wire.RequestHeader
	// Body is the request after its header.
	Body []byte
	// Conn describes the peer.
	Conn *ConnInfo
	// ReceivedAt is when the last byte of the frame had arrived.
	ReceivedAt time.Time
	// StartedAt is when the handler was called; between the two lies the wait for earlier requests of the connection.
	StartedAt time.Time
	// Unsupported is set for an ApiVersions request of a version that is not served: Body is empty and the answer is encoded in
	// version 0 (KIP-511). Requests of other APIs do not reach their handler with such a version.
	Unsupported bool
	// FromFollower is set by the handler of Fetch before it answers: a replica asked, not a consumer. The metrics keep them apart.
	FromFollower bool

	sink     sink
	frame    frameRef
	reader   wire.Reader // of the header, then of the body
	budget   wire.Budget // of what decoding allocates
	size     int         // of the frame
	api      *apiEntry
	answered atomic.Bool
	finished time.Time // when the answer was given

	// Owned by the connection's queue, guarded by its mutex.
	next       *Request
	out        *outgoing
	done       bool
	closeAfter bool
}

// sink is where the answer of a request goes: a connection, or a recorder in tests and for enveloped requests.
type sink interface {
	answer(r *Request, m wire.Message)
	nothing(r *Request)
	abort(r *Request, why string)
	panicked(r *Request, p any)
	more() bool        // another request has arrived
	postpone(f func()) // until the reader of requests has to wait
	context() context.Context
}

// Key returns the API key of the request.
func (r *Request) Key() wire.APIKey { return wire.APIKey(r.Header.RequestApiKey) }

// Version returns the API version of the request.
func (r *Request) Version() int16 { return r.Header.RequestApiVersion }

// ClientID returns the client id, empty if the client gave none.
func (r *Request) ClientID() string {
	if r.Header.ClientID == nil {
		return ""
	}
	return *r.Header.ClientID
}

// Decode reads the body into m. If the body is malformed the connection is closed, as Kafka does, and Decode returns false: the
// handler then just returns.
func (r *Request) Decode(m wire.Message) bool {
	r.reader.Reset(r.Body, &r.budget)
	m.Decode(&r.reader, r.Version())
	err := r.reader.Err()
	r.reader = wire.Reader{}
	if err != nil { // bytes behind the fields are passed over, as Kafka does
		r.Close(err.Error())
		return false
	}
	return true
}

// Answer sends m as the answer. It does not wait for the peer: what the socket does not take at once is sent by a goroutine of
// the connection. Answer keeps m until it returns only; Sections in m are kept until they are sent.
func (r *Request) Answer(m wire.Message) {
	if r.once() {
		r.sink.answer(r, m)
	}
}

// AnswerNothing ends a request that has no answer (Produce with acks=0).
func (r *Request) AnswerNothing() {
	if r.once() {
		r.sink.nothing(r)
	}
}

// Close ends the request by closing its connection; why goes to the log.
func (r *Request) Close(why string) {
	if r.once() {
		r.sink.abort(r, why)
	}
}

// Context is done when the connection is closed.
func (r *Request) Context() context.Context { return r.sink.context() }

// More says whether another request has arrived that may overlap with this one. Only for handlers, before they return.
func (r *Request) More() bool { return r.api.Pipelined && r.sink.more() }

// Later has f called by the goroutine that runs the handler, before it waits for anything, and reports whether it will. It does if
// there is More, so that the work left for later can be shared with it. Only for handlers, before they return.
func (r *Request) Later(f func()) bool {
	more := r.More()
	if more {
		r.sink.postpone(f)
	}
	return more
}

func (r *Request) once() bool { return r.answered.CompareAndSwap(false, true) }

// letGo gives back the memory of the request.
func (r *Request) letGo() {
	r.Body = nil
	r.frame.drop()
	r.budget.Release()
}

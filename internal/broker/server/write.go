package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/wire"
)

// fileSection is a Section whose bytes lie in a file: sent by the kernel where there is an operating system file and a plain
// socket.
type fileSection interface {
	wire.Section
	OSFile() *os.File // nil if there is none
	Position() int64  // of the section's first byte in that file
}

// readerSection is any other Section: read piece by piece.
type readerSection interface {
	wire.Section
	io.ReaderAt // counted from the section's beginning
}

// releaser is a Section that holds something open until it is sent.
type releaser interface{ Release() }

var errShort = errors.New("a section of the answer ended early")

// copyStep is the piece in which sections are read that the kernel cannot send.
const copyStep = 64 << 10

// outgoing is an encoded answer under way.
type outgoing struct {
	w      *wire.Writer
	chunks []wire.Chunk
	at     int // chunks before this index are sent
	off    int // bytes of chunks[at] that are sent
	size   int // of the frame, without its length field
}

var outgoingPool = sync.Pool{New: func() any { return &outgoing{w: new(wire.Writer)} }}

// encode makes the frame of an answer.
func encode(r *Request, m wire.Message) (o *outgoing, err error) {
	o = outgoingPool.Get().(*outgoing)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("encode answer: %v\n%s", p, debug.Stack())
		}
	}()
	version := r.Version()
	if r.Unsupported {
		version = 0
	}
	o.w.Reset()
	o.w.Int32(0) // the frame's length, when it is known
	encodeResponseHeader(o.w, r.Key(), version, r.api.flexibleFrom, r.Header.CorrelationID)
	m.Encode(o.w, version)
	if err := o.w.Err(); err != nil {
		return o, fmt.Errorf("encode answer: %w", err)
	}
	o.size = o.w.Size() - 4
	if o.size > math.MaxInt32 {
		return o, fmt.Errorf("answer of %d bytes does not fit a frame", o.size)
	}
	o.chunks = o.w.Chunks()
	binary.BigEndian.PutUint32(o.chunks[0].Bytes, uint32(o.size))
	o.at, o.off = 0, 0
	return o, nil
}

// free gives back what the answer holds.
func (o *outgoing) free() {
	for _, ch := range o.chunks {
		if rel, ok := ch.Section.(releaser); ok {
			rel.Release()
		}
	}
	o.chunks = nil
	o.w.Reset()
	if o.w.Cap() <= 1<<20 {
		outgoingPool.Put(o)
	}
}

func (o *outgoing) done() bool { return o.at == len(o.chunks) }

// advance notes that n bytes of the current chunks were sent.
func (o *outgoing) advance(n int) {
	for n > 0 {
		left := o.chunks[o.at].Size() - o.off
		if n < left {
			o.off += n
			return
		}
		n -= left
		o.at++
		o.off = 0
	}
	o.skipEmpty()
}

func (o *outgoing) skipEmpty() {
	for o.at < len(o.chunks) && o.chunks[o.at].Size() == o.off {
		o.at++
		o.off = 0
	}
}

// answer is called once per request, from any goroutine.
func (c *conn) answer(r *Request, m wire.Message) {
	o, err := encode(r, m)
	if err != nil {
		c.srv.log.Error("answer could not be encoded, connection closed", "api", r.api.name, "version", r.Version(), "err", err)
		o.free()
		r.letGo()
		c.kill()
		return
	}
	c.complete(r, o)
}

func (c *conn) nothing(r *Request) { c.complete(r, nil) }

func (c *conn) abort(r *Request, why string) {
	c.complain(fmt.Errorf("%s request, version %d: %s", r.api.name, r.Version(), why))
	r.closeAfter = true
	c.complete(r, nil)
}

// complete marks r as answered and sends what is due.
func (c *conn) complete(r *Request, o *outgoing) {
	r.letGo()
	r.finished = time.Now()
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		if o != nil {
			o.free()
		}
		return
	}
	r.out, r.done = o, true
	if c.writing || c.head != r {
		c.mu.Unlock()
		return
	}
	c.writing = true
	c.mu.Unlock()
	c.flush(false)
}

// flush sends the answers at the head of the queue, all that are ready at once. The caller has set writing; flush clears it, or
// leaves it to the goroutine that goes on when the socket takes no more (wait).
func (c *conn) flush(wait bool) {
	for {
		c.mu.Lock()
		if c.dead {
			c.writing = false
			unsent := c.abandonLocked()
			c.mu.Unlock()
			freeAll(unsent)
			return
		}
		r := c.head
		if r == nil || !r.done {
			c.writing = false
			stop := c.draining && r == nil
			c.mu.Unlock()
			if stop {
				c.kill()
			}
			return
		}
		if r.closeAfter {
			c.writing = false
			c.mu.Unlock()
			c.kill()
			return
		}
		c.readyLocked()
		c.mu.Unlock()
		if len(c.sending) > 0 {
			more, err := c.send(wait)
			if err != nil {
				c.failed(r, err)
				return
			}
			if more {
				go func() {
					defer c.over("the sending of an answer")
					c.flush(true)
				}()
				return
			}
		}
		c.pop()
	}
}

// readyLocked gathers the answered requests at the head of the queue in ready, and in sending what of their answers is not sent.
func (c *conn) readyLocked() {
	c.ready, c.sending = c.ready[:0], c.sending[:0]
	for r := c.head; r != nil && r.done && !r.closeAfter && len(c.ready) < maxInFlight; r = r.next {
		c.ready = append(c.ready, r)
		if r.out != nil && !r.out.done() {
			c.sending = append(c.sending, r.out)
		}
	}
}

// failed ends the connection after a write error; the writer still owns the queue and drops it. r is the oldest of those that are ready.
func (c *conn) failed(r *Request, err error) {
	if errors.Is(err, errShort) || !isPeerGone(err) {
		c.srv.log.Warn("answer could not be sent, connection closed", "api", r.api.name, "connection", c.info.ID, "err", err)
	}
	c.kill()
	c.flush(false) // sees dead, drops the queue
}

// isPeerGone reports the ordinary ends of a connection.
func isPeerGone(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, io.EOF) || isReset(err)
}

// pop takes ready, which is sent, off the queue.
func (c *conn) pop() {
	now := time.Now()
	c.mu.Lock()
	c.head = c.ready[len(c.ready)-1].next
	if c.head == nil {
		c.tail = nil
	}
	c.inFlight -= len(c.ready)
	for _, r := range c.ready {
		r.next = nil
	}
	c.wakeLocked()
	c.mu.Unlock()
	for i, r := range c.ready {
		size := 0
		if o := r.out; o != nil {
			r.out = nil
			size = o.size + 4
			o.free()
			c.activeAt.Store(now.UnixNano())
		}
		c.srv.observe(r, size, now)
		c.ready[i] = nil
	}
	clear(c.sending)
}

// abandonLocked empties the queue and returns the answers in it that will not be sent. Requests still with their handlers are
// left to complete, which finds the connection dead.
func (c *conn) abandonLocked() (unsent []*outgoing) {
	for r := c.head; r != nil; r = r.next {
		if r.out != nil {
			unsent = append(unsent, r.out)
			r.out = nil
		}
	}
	c.head, c.tail, c.inFlight = nil, nil, 0
	return unsent
}

func freeAll(answers []*outgoing) {
	for _, o := range answers {
		o.free()
	}
}

// send sends the answers in sending; more says that the socket takes no more and wait was false.
func (c *conn) send(wait bool) (more bool, err error) {
	if c.raw != nil {
		return c.raw.write(c, c.sending, wait)
	}
	if !wait {
		return true, nil
	}
	for _, o := range c.sending {
		if err := writeAll(c.nc, o, &c.activeAt); err != nil {
			return false, err
		}
	}
	return false, nil
}

// writeAll sends o over a connection that is not a plain socket, waiting for the peer.
func writeAll(w io.Writer, o *outgoing, active interface{ Store(int64) }) error {
	var buf []byte
	for o.skipEmpty(); !o.done(); {
		ch := o.chunks[o.at]
		if ch.Section == nil {
			// Small neighbours leave in one write: each write is a record in TLS and a hand-over in a pipe.
			buf = buf[:0]
			for i := o.at; i < len(o.chunks) && o.chunks[i].Section == nil && len(buf) < copyStep; i++ {
				b := o.chunks[i].Bytes
				if i == o.at {
					b = b[o.off:]
				}
				if len(buf) == 0 && len(b) >= copyStep {
					buf = b
					break
				}
				buf = append(buf, b...)
			}
		} else {
			if cap(buf) < copyStep || len(buf) > copyStep {
				buf = make([]byte, copyStep)
			}
			var err error
			if buf, err = readSection(ch.Section, o.off, buf[:copyStep]); err != nil {
				return err
			}
		}
		n, err := w.Write(buf)
		if n > 0 {
			active.Store(time.Now().UnixNano())
			o.advance(n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readSection reads the piece of s at off, at most len(buf) bytes.
func readSection(s wire.Section, off int, buf []byte) ([]byte, error) {
	ra, ok := s.(readerSection)
	if !ok {
		return nil, fmt.Errorf("section of type %T cannot be read", s)
	}
	n := min(len(buf), s.Size()-off)
	got, err := ra.ReadAt(buf[:n], int64(off))
	if got < n {
		if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
			err = errShort
		}
		return nil, err
	}
	return buf[:n], nil
}

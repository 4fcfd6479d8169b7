package netx

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// PipeAddr is the address of both ends of a Pipe.
type PipeAddr struct{}

// Network returns "pipe".
func (PipeAddr) Network() string { return "pipe" }

// String returns "pipe".
func (PipeAddr) String() string { return "pipe" }

// DefaultPipeBuffer is the room for bytes under way in each direction of a Pipe made with size 0.
const DefaultPipeBuffer = 64 << 10

// Pipe returns two connected ends. Unlike net.Pipe, a write returns when its bytes are in the buffer of size bytes (0:
// DefaultPipeBuffer), so that two parties that write before they read do not wait for each other. Bytes written before Close
// can still be read at the other end.
func Pipe(size int) (net.Conn, net.Conn) {
	if size <= 0 {
		size = DefaultPipeBuffer
	}
	ab, ba := newFlow(size), newFlow(size)
	return &pipeEnd{in: ba, out: ab}, &pipeEnd{in: ab, out: ba}
}

// flow is one direction: a byte queue of bounded size.
type flow struct {
	mu      sync.Mutex
	buf     []byte // bytes under way are buf[r:]
	r       int
	size    int
	noWrite bool          // the writing end was closed: readers get the rest and io.EOF
	noRead  bool          // the reading end was closed: writers fail
	change  chan struct{} // closed and renewed at every change that a waiter may care for
}

func newFlow(size int) *flow { return &flow{size: size, change: make(chan struct{})} }

func (f *flow) changedLocked() {
	close(f.change)
	f.change = make(chan struct{})
}

func (f *flow) read(p []byte, d *deadline) (int, error) {
	for {
		expired := d.wait()
		if isDone(expired) {
			return 0, os.ErrDeadlineExceeded
		}
		f.mu.Lock()
		if f.noRead {
			f.mu.Unlock()
			return 0, net.ErrClosed
		}
		if len(p) == 0 {
			f.mu.Unlock()
			return 0, nil
		}
		if f.r < len(f.buf) {
			n := copy(p, f.buf[f.r:])
			if f.r += n; f.r == len(f.buf) {
				f.buf, f.r = f.buf[:0], 0
			}
			f.changedLocked()
			f.mu.Unlock()
			return n, nil
		}
		if f.noWrite {
			f.mu.Unlock()
			return 0, io.EOF
		}
		change := f.change
		f.mu.Unlock()
		select {
		case <-change:
		case <-expired:
		}
	}
}

func (f *flow) write(p []byte, d *deadline) (written int, err error) {
	for {
		expired := d.wait()
		if isDone(expired) {
			return written, os.ErrDeadlineExceeded
		}
		f.mu.Lock()
		if f.noWrite {
			f.mu.Unlock()
			return written, net.ErrClosed
		}
		if f.noRead {
			f.mu.Unlock()
			return written, io.ErrClosedPipe
		}
		if room := f.size - (len(f.buf) - f.r); room > 0 && len(p) > 0 {
			n := min(room, len(p))
			if f.r > 0 && len(f.buf)+n > cap(f.buf) {
				f.buf = f.buf[:copy(f.buf, f.buf[f.r:])]
				f.r = 0
			}
			f.buf = append(f.buf, p[:n]...)
			p, written = p[n:], written+n
			f.changedLocked()
		}
		change := f.change
		f.mu.Unlock()
		if len(p) == 0 {
			return written, nil
		}
		select {
		case <-change:
		case <-expired:
		}
	}
}

func (f *flow) closeWrite() {
	f.mu.Lock()
	f.noWrite = true
	f.changedLocked()
	f.mu.Unlock()
}

func (f *flow) closeRead() {
	f.mu.Lock()
	f.noRead, f.buf, f.r = true, nil, 0
	f.changedLocked()
	f.mu.Unlock()
}

// deadline is a point in time that can be moved while others wait for it.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	done  chan struct{} // closed when the deadline has passed
}

func (d *deadline) wait() chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == nil {
		d.done = make(chan struct{})
	}
	return d.done
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.done // the timer's function is about to close it, or has
	}
	d.timer = nil
	if d.done == nil || isDone(d.done) {
		d.done = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	done := d.done
	if left := time.Until(t); left > 0 {
		d.timer = time.AfterFunc(left, func() { close(done) })
		return
	}
	close(done)
}

func isDone(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

type pipeEnd struct {
	in, out *flow
	rd, wd  deadline
	once    sync.Once
}

func (e *pipeEnd) Read(p []byte) (int, error)  { return e.in.read(p, &e.rd) }
func (e *pipeEnd) Write(p []byte) (int, error) { return e.out.write(p, &e.wd) }

func (e *pipeEnd) Close() error {
	e.once.Do(func() {
		e.out.closeWrite()
		e.in.closeRead()
	})
	return nil
}

func (e *pipeEnd) LocalAddr() net.Addr  { return PipeAddr{} }
func (e *pipeEnd) RemoteAddr() net.Addr { return PipeAddr{} }

func (e *pipeEnd) SetDeadline(t time.Time) error {
	e.rd.set(t)
	e.wd.set(t)
	return nil
}

func (e *pipeEnd) SetReadDeadline(t time.Time) error  { e.rd.set(t); return nil }
func (e *pipeEnd) SetWriteDeadline(t time.Time) error { e.wd.set(t); return nil }

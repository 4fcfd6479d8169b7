//go:build linux

package server

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds of one system call's work.
const (
	maxVectors  = 64
	sendfileMax = 4 << 20
)

// rawConn reads and writes a plain TCP or Unix socket through its descriptor: an idle connection holds no buffer, a write takes
// what the socket has room for and returns, and file sections go out by sendfile with an offset of their own, so that one open
// file serves many readers (the standard library's sendfile uses and moves the file's position).
type rawConn struct {
	sc syscall.RawConn

	// Arguments and results of the closures below, which are made once. in* belong to the reader, out* to the one writer.
	onRead  func(fd uintptr) bool
	inConn  *conn
	inNeed  int
	inN     int
	inErr   error
	onWrite func(fd uintptr) bool
	outs    []*outgoing // not sent whole yet
	outWait bool
	outMore bool
	outErr  error
	outConn *conn
	vectors [][]byte
}

func newRawConn(nc net.Conn) *rawConn {
	var sc syscall.RawConn
	var err error
	switch nc := nc.(type) {
	case *net.TCPConn:
		sc, err = nc.SyscallConn()
	case *net.UnixConn:
		sc, err = nc.SyscallConn()
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	rc := &rawConn{sc: sc}
	rc.onRead = rc.readStep
	rc.onWrite = rc.writeStep
	return rc
}

// read waits for bytes and puts them into the connection's buffer; it returns how many.
func (rc *rawConn) read(c *conn, need int) (int, error) {
	rc.inConn, rc.inNeed, rc.inN, rc.inErr = c, need, 0, nil
	if err := rc.sc.Read(rc.onRead); err != nil {
		return 0, err
	}
	return rc.inN, rc.inErr
}

func (rc *rawConn) readStep(fd uintptr) bool {
	c := rc.inConn
	buf, err := c.in.space(rc.inNeed, c.closed)
	if err != nil {
		rc.inErr = err
		return true
	}
	for {
		n, err := readNow(fd, buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			c.in.rest()
			return false
		case err != nil:
			rc.inErr = os.NewSyscallError("read", err)
		case n == 0:
			rc.inErr = io.EOF
		default:
			rc.inN = n
		}
		return true
	}
}

// readNow and writeNow are read(2) and write(2) on a socket that never blocks, without telling the scheduler that a system call
// begins: it would take the processor away from a call it sees twice, and pay with a thread change what costs a few microseconds.
// They must not be used on files.
func readNow(fd uintptr, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

func writeNow(fd uintptr, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// hungUp reports whether the peer has closed its side, without taking anything from the socket.
func (rc *rawConn) hungUp() (gone bool) {
	err := rc.sc.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		gone = err == nil && n == 0 || isReset(err)
	})
	return gone || err != nil
}

// write sends answers. With wait it returns when all are sent; without, more says that the socket is full.
func (rc *rawConn) write(c *conn, outs []*outgoing, wait bool) (more bool, err error) {
	rc.outs, rc.outWait, rc.outMore, rc.outErr, rc.outConn = outs, wait, false, nil, c
	for _, o := range outs {
		o.skipEmpty()
	}
	err = rc.sc.Write(rc.onWrite)
	rc.outs = nil
	if err != nil {
		return false, err
	}
	return rc.outMore, rc.outErr
}

func (rc *rawConn) writeStep(fd uintptr) bool {
	for len(rc.outs) > 0 {
		o := rc.outs[0]
		if o.done() {
			rc.outs = rc.outs[1:]
			continue
		}
		var n int
		var err error
		if o.chunks[o.at].Section == nil {
			n, err = rc.writeBytes(int(fd))
		} else {
			n, err = rc.writeSection(int(fd), o)
		}
		if n > 0 {
			rc.advance(n)
			if rc.outWait {
				rc.outConn.activeAt.Store(time.Now().UnixNano())
			}
		}
		switch {
		case err == nil, err == unix.EINTR:
		case err == unix.EAGAIN:
			rc.outMore = !rc.outWait
			return !rc.outWait
		default:
			rc.outErr = err
			return true
		}
	}
	return true
}

// advance notes that n bytes were sent.
func (rc *rawConn) advance(n int) {
	for n > 0 {
		o := rc.outs[0]
		if left := o.chunks[o.at].Size() - o.off; n < left {
			o.advance(n)
			return
		} else {
			o.advance(left)
			n -= left
		}
		if o.done() {
			rc.outs = rc.outs[1:]
		}
	}
}

// writeBytes sends the run of byte chunks at the front. If something follows, the kernel is told to wait for it.
func (rc *rawConn) writeBytes(fd int) (int, error) {
	flags := unix.MSG_NOSIGNAL
	v := rc.vectors[:0]
gather:
	for _, o := range rc.outs {
		off := o.off
		for _, ch := range o.chunks[o.at:] {
			if ch.Section != nil || len(v) == maxVectors {
				flags |= unix.MSG_MORE
				break gather
			}
			if b := ch.Bytes[off:]; len(b) > 0 {
				v = append(v, b)
			}
			off = 0
		}
	}
	rc.vectors = v
	var n int
	var err error
	if len(v) == 1 && flags&unix.MSG_MORE == 0 {
		n, err = writeNow(uintptr(fd), v[0]) // most answers: the cheapest call
	} else {
		n, err = unix.SendmsgBuffers(fd, v, nil, nil, flags)
	}
	clear(v)
	return max(n, 0), wrapErrno("write", err)
}

func (rc *rawConn) writeSection(fd int, o *outgoing) (int, error) {
	s := o.chunks[o.at].Section
	left := s.Size() - o.off
	if fs, ok := s.(fileSection); ok {
		if f := fs.OSFile(); f != nil {
			off := fs.Position() + int64(o.off)
			n, err := sendfile(fd, f, off, min(left, sendfileMax))
			if err == nil && n == 0 {
				err = errShort
			}
			return n, err
		}
	}
	buf := make([]byte, min(left, copyStep))
	buf, err := readSection(s, o.off, buf)
	if err != nil {
		return 0, err
	}
	n, err := unix.SendmsgN(fd, buf, nil, nil, unix.MSG_NOSIGNAL)
	return max(n, 0), wrapErrno("sendmsg", err)
}

// sendfile sends from the open file; the descriptor stays valid because the section holds the file open.
func sendfile(fd int, f *os.File, off int64, n int) (sent int, err error) {
	sc, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := sc.Control(func(in uintptr) {
		sent, err = unix.Sendfile(fd, int(in), &off, n)
	})
	if cerr != nil {
		return 0, cerr
	}
	return max(sent, 0), wrapErrno("sendfile", err)
}

// wrapErrno keeps EAGAIN and EINTR bare: they steer the loop.
func wrapErrno(call string, err error) error {
	if err == nil || err == unix.EAGAIN || err == unix.EINTR {
		return err
	}
	return os.NewSyscallError(call, err)
}

func isReset(err error) bool {
	return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ETIMEDOUT)
}

// isFull reports that the process or the system is out of descriptors.
func isFull(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

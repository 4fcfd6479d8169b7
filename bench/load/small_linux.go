//go:build linux

package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// small keeps o.InFlight requests under way on each of o.Conns connections until the time is over. One thread serves them all: what is
// there is read at once, and as many requests as were answered are written at once. A goroutine for each connection costs several times
// as much, on the processors that the server needs, and with that hides what servers differ in.
//
// next returns the nth frame of a connection, whose bytes it may use again at the next call; check looks at an answer without its size.
func small(ctx context.Context, o Options, next func(conn int, n int64) []byte, check func(conn int, answer []byte) error) (answered int64, took time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l := &lines{all: make([]line, 0, o.Conns), next: next, check: check}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return 0, 0, err
	}
	defer l.close()
	for range o.Conns {
		if err := l.dial(o.Addr); err != nil {
			return 0, 0, err
		}
	}
	began := time.Now()
	err = l.run(ctx, max(o.InFlight, 1), began.Add(o.Duration))
	return l.answered, time.Since(began), err
}

// lines are the connections of one run.
type lines struct {
	epoll    int
	all      []line
	next     func(conn int, n int64) []byte
	check    func(conn int, answer []byte) error
	answered int64
}

// line is one connection.
type line struct {
	fd              int
	in              []byte // what was read and is not a whole answer yet is in its first have bytes
	have            int
	out             []byte // what the socket had no room for
	asked, underWay int64
}

// maxAnswer is more than any answer to a small request is long.
const maxAnswer = 64 << 20

// lookUp is how often a run in which nothing happens looks whether it was cancelled.
const lookUp = 50 * time.Millisecond

// dial adds a connection. The descriptor that epoll watches is a duplicate, because the runtime watches that of a net.Conn itself and
// would be woken for every answer too.
func (l *lines) dial(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	fd := -1
	var dup error
	if err := raw.Control(func(of uintptr) { fd, dup = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) }); err != nil || dup != nil {
		return errors.Join(err, dup)
	}
	l.all = append(l.all, line{fd: fd, in: make([]byte, 4<<10)})
	// Edge-triggered, a socket needs no second call when it is full and is not looked at again after it was served.
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd,
		&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(len(l.all) - 1)})
}

func (l *lines) close() {
	for i := range l.all {
		_ = unix.Close(l.all[i].fd)
	}
	_ = unix.Close(l.epoll)
}

func (l *lines) run(ctx context.Context, depth int, deadline time.Time) error {
	for i := range l.all {
		if err := l.send(i, depth); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	events := make([]unix.EpollEvent, max(len(l.all), 1))
	for ctx.Err() == nil {
		left := time.Until(deadline)
		if left <= 0 {
			break
		}
		n, err := unix.EpollWait(l.epoll, events, int(min(left, lookUp)/time.Millisecond)+1)
		if err != nil && err != unix.EINTR {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if err := l.serve(int(e.Fd), e.Events); err != nil {
				return fmt.Errorf("connection %d: %w", e.Fd, err)
			}
		}
	}
	return nil
}

// serve reads all answers that are there and asks again for each.
func (l *lines) serve(i int, events uint32) error {
	got := 0
	for more := events&^unix.EPOLLOUT != 0; more; {
		c := &l.all[i]
		room := len(c.in) - c.have
		n, err := unix.Read(c.fd, c.in[c.have:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			n, room = 0, 1
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		c.have += n
		whole, err := l.answers(i)
		if err != nil {
			return err
		}
		got += whole
		// A short read has emptied the socket. The end that may lie behind it comes with no event of its own.
		more = n == room || n > 0 && events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	}
	return l.send(i, got)
}

// answers checks the whole answers that were read, and keeps the rest.
func (l *lines) answers(i int) (whole int, err error) {
	c := &l.all[i]
	at, need := 0, 0
	for c.have-at >= 4 {
		size := int(binary.BigEndian.Uint32(c.in[at:]))
		if size > maxAnswer {
			return whole, fmt.Errorf("an answer of %d bytes", size)
		}
		if need = 4 + size; c.have-at < need {
			break
		}
		if c.underWay--; c.underWay < 0 {
			return whole, errors.New("an answer to nothing")
		}
		if err := l.check(i, c.in[at+4:at+need]); err != nil {
			return whole, err
		}
		at += need
		whole++
		l.answered++
	}
	rest := c.in[at:c.have]
	if need > len(c.in) {
		c.in = make([]byte, need)
	}
	c.have = copy(c.in, rest)
	return whole, nil
}

// send writes so many new frames, behind what the socket had no room for before.
func (l *lines) send(i, n int) error {
	c := &l.all[i]
	for range n {
		c.out = append(c.out, l.next(i, c.asked)...)
		c.asked++
	}
	c.underWay += int64(n)
	wrote := 0
	for wrote < len(c.out) {
		n, err := unix.Write(c.fd, c.out[wrote:])
		if err == unix.EAGAIN {
			break
		}
		if err != nil && err != unix.EINTR {
			return err
		}
		wrote += max(n, 0)
	}
	c.out = c.out[:copy(c.out, c.out[wrote:])]
	return nil
}

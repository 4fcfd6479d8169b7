//go:build !linux

package server

import (
	"errors"
	"net"
	"syscall"
)

// rawConn exists on Linux only; elsewhere connections are read and written through net.Conn.
type rawConn struct{}

func newRawConn(net.Conn) *rawConn { return nil }

func (*rawConn) read(*conn, int) (int, error) { panic("server: no raw connections on this system") }

func (*rawConn) hungUp() bool { return false }

func (*rawConn) write(*conn, []*outgoing, bool) (bool, error) {
	panic("server: no raw connections on this system")
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func isFull(err error) bool { return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) }

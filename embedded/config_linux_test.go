package embedded_test

import (
	"net"
	"os"
	"strconv"
	"syscall"
)

// socketProofs look at the node's end of a connection: it lives in this process.
func socketProofs() []proof {
	buffer := func(key string, option int) proof {
		return staticProof(key, "50000", nil, func(w *world) {
			w.metadata()                             // the connection is accepted
			w.want(socketOption(w, option), 2*50000) // the kernel doubles it for its own needs
		})
	}
	return []proof{buffer("socket.receive.buffer.bytes", syscall.SO_RCVBUF), buffer("socket.send.buffer.bytes", syscall.SO_SNDBUF)}
}

// socketOption finds the socket whose peer is the test's connection.
func socketOption(w *world, option int) int {
	w.t.Helper()
	port := w.conn.LocalAddr().(*net.TCPAddr).Port
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range fds {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		peer, err := syscall.Getpeername(fd)
		if err != nil {
			continue
		}
		at := 0
		switch a := peer.(type) {
		case *syscall.SockaddrInet4:
			at = a.Port
		case *syscall.SockaddrInet6:
			at = a.Port
		}
		if at != port {
			continue
		}
		v, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, option)
		if err != nil {
			w.t.Fatal(err)
		}
		return v
	}
	w.t.Fatal("the node's end of the connection was not found")
	return 0
}

package netx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// Listen opens a TCP listener on host and port; an empty host is every interface, port 0 any free one. The error of a taken port
// says so in one line.
func Listen(ctx context.Context, host string, port int) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("socket server failed to bind to %s: address already in use", net.JoinHostPort(host, strconv.Itoa(port)))
	}
	if err != nil {
		return nil, fmt.Errorf("socket server failed to bind to %s: %w", net.JoinHostPort(host, strconv.Itoa(port)), err)
	}
	return l, nil
}

// Port returns the TCP port of a listener's address, 0 if it has none.
func Port(a net.Addr) int {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.Port
	}
	return 0
}

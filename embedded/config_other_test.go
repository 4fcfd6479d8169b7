//go:build !linux

package embedded_test

import "testing"

// socketProofs: other systems do not show the node's end of a connection.
func socketProofs() []proof {
	skip := func(t *testing.T) { t.Skip("the node's end of a connection is found in /proc") }
	return []proof{{key: "socket.receive.buffer.bytes", how: static, see: skip}, {key: "socket.send.buffer.bytes", how: static, see: skip}}
}

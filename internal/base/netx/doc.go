// Package netx holds the small pieces of networking that a node needs beside the standard library: a buffered in-process pipe,
// over which parts of one process speak the same frames they would send through TCP, and the rules by which a listener's
// address is opened and named.
//
// It knows no protocol and no configuration. A Pipe end is safe for concurrent use as any net.Conn is; its buffer has one owner,
// the pipe's mutex.
package netx

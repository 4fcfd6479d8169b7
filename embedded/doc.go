// Package embedded runs a real node inside a Go test: the broker and controller of the moldau binary, in this process, on a free
// port, with its files in memory or in a directory.
//
//	n := embedded.Start(t)
//	client, err := kgo.NewClient(kgo.SeedBrokers(n.Addr()))
//
// The node stops when the test ends. Stop and Restart take it down in good order and up again; Kill ends it as a crash of the
// machine would: connections break, what was not made durable is lost or torn, and no directory is closed cleanly. Restart then
// recovers. Any number of nodes may run in one process; they share nothing.
//
// It is not a simulation: time is real, sockets are real, and what a client sees is what it would see of the binary.
//
// A Node's methods may be called from any goroutine, one at a time.
package embedded

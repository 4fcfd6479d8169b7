package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"os"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/node"
)

// startTime bounds a start, stopTime a graceful stop.
const (
	startTime = 30 * time.Second
	stopTime  = 10 * time.Second
)

// LineVariable names an environment variable: with the value "tcp" every node starts as with ControllerOverTCP.
const LineVariable = "MOLDAU_EMBEDDED_LINE"

// Option changes how a node is started.
type Option func(*options)

type options struct {
	dir        string
	properties map[string]string
	logger     *slog.Logger
	metrics    bool
	tcpLine    bool
}

// InDir keeps the node's files in a directory instead of memory. Kill then breaks off writing, but what was written stays, as
// when a process is killed.
func InDir(dir string) Option { return func(o *options) { o.dir = dir } }

// With sets a property of server.properties.
func With(key, value string) Option { return func(o *options) { o.properties[key] = value } }

// LogTo shows the node's log; without it only the test's failure shows it.
func LogTo(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// ControllerOverTCP lets the broker reach its controller through the controller's port instead of a pipe inside the process.
func ControllerOverTCP() Option { return func(o *options) { o.tcpLine = true } }

// WithMetrics serves /metrics on a free port, see Node.MetricsAddr.
func WithMetrics() Option { return func(o *options) { o.metrics = true } }

// Node is a node under test.
type Node struct {
	t      testing.TB
	o      options
	mem    *vfs.Mem // nil in a directory
	faults *vfs.Faults
	node   *node.Node // nil while it is down
	ports  map[string]int
	addr   string
	kills  uint64
}

// Start starts a node and fails the test if that does not work.
func Start(t testing.TB, opts ...Option) *Node {
	t.Helper()
	n := &Node{t: t, o: options{properties: defaults()}, ports: map[string]int{}}
	if os.Getenv(LineVariable) == "tcp" {
		opts = append(opts, ControllerOverTCP())
	}
	for _, o := range opts {
		o(&n.o)
	}
	if n.o.logger == nil {
		n.o.logger = slog.New(slog.DiscardHandler)
	}
	if n.o.dir == "" {
		n.mem = vfs.NewMem()
		n.o.properties["log.dirs"] = "/data"
	} else {
		n.o.properties["log.dirs"] = n.o.dir
	}
	n.start()
	t.Cleanup(n.Stop)
	return n
}

// defaults are the properties of a node without a file, on free ports, and quick where Kafka waits for company.
func defaults() map[string]string {
	p := maps.Clone(conf.DevDefaults())
	p["listeners"] = "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"
	p["advertised.listeners"] = "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"
	p["group.initial.rebalance.delay.ms"] = "0"
	return p
}

func (n *Node) start() {
	n.t.Helper()
	if n.addr != "" { // again on the port its clients know
		_, port, _ := net.SplitHostPort(n.addr)
		for _, key := range []string{"listeners", "advertised.listeners"} {
			n.o.properties[key] = "PLAINTEXT://127.0.0.1:" + port + ",CONTROLLER://127.0.0.1:0"
		}
	}
	b, _, err := conf.Load(n.o.properties, nil)
	if err != nil {
		n.t.Fatalf("embedded: %v", err)
	}
	var fsys vfs.FS = vfs.OS()
	if n.mem != nil {
		fsys = n.mem
	}
	n.faults = vfs.NewFaults(fsys)
	o := node.Options{Config: b, FS: n.faults, AutoFormat: true, Logger: n.o.logger, ControllerOverTCP: n.o.tcpLine}
	if n.o.metrics {
		o.Metrics = "127.0.0.1:0"
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	if n.node, err = node.Start(ctx, o); err != nil {
		n.t.Fatalf("embedded: start: %v", err)
	}
	n.addr = n.node.Addr()
}

// Addr returns the bootstrap address. It stays the same over Restart.
func (n *Node) Addr() string { return n.addr }

// ClusterID returns the cluster's id.
func (n *Node) ClusterID() string { return n.running().ClusterID() }

// MetricsAddr returns host:port of /metrics; see WithMetrics.
func (n *Node) MetricsAddr() string { return n.running().MetricsAddr() }

// Metrics returns what /metrics would.
func (n *Node) Metrics() string { return string(n.running().Metrics()) }

// Hold keeps high watermarks where they are: what is produced from now on is in the log and neither visible nor acknowledged to
// acks=all, until Release. Scenarios between append and commit are made with it.
func (n *Node) Hold() { n.HoldBack(math.MaxInt32) }

// HoldBack keeps high watermarks this many records behind their logs, like a follower that is late.
func (n *Node) HoldBack(records int) { n.running().HoldBack(records) }

// Release ends Hold and HoldBack.
func (n *Node) Release() { n.HoldBack(0) }

// HoldMetadata keeps what the controller decides from being committed: its answers wait, and no image shows it.
func (n *Node) HoldMetadata() { n.HoldMetadataBack(math.MaxInt32) }

// HoldMetadataBack keeps the last records of the metadata log from being committed, in whole batches.
func (n *Node) HoldMetadataBack(records int32) { n.running().HoldMetadata(records) }

// ReleaseMetadata ends HoldMetadata and HoldMetadataBack.
func (n *Node) ReleaseMetadata() { n.HoldMetadataBack(0) }

// DeposeController takes the leadership of the metadata quorum from the node. Requests that wait for a commit fail with
// NOT_CONTROLLER, and the node is elected again.
func (n *Node) DeposeController() { n.running().DeposeController() }

// Depose takes the leadership of every partition from the node, and cuts off what is not committed. The leadership comes back
// with the next heartbeat. What waited for its commit fails with NOT_LEADER_OR_FOLLOWER or NOT_COORDINATOR, and is gone.
func (n *Node) Depose() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	if err := n.running().Depose(ctx); err != nil {
		n.t.Fatalf("embedded: %v", err)
	}
}

func (n *Node) running() *node.Node {
	n.t.Helper()
	if n.node == nil {
		n.t.Fatal("embedded: the node is down")
	}
	return n.node
}

// Stop takes the node down in good order. Stopping a node that is down does nothing.
func (n *Node) Stop() {
	n.t.Helper()
	if n.node == nil {
		return
	}
	down := n.node
	n.node = nil
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if err := down.Shutdown(ctx); err != nil {
		n.t.Errorf("embedded: stop: %v", err)
	}
}

// Kill ends the node as a crash. In memory, what was not synced is lost or torn at random, differently for each Kill.
func (n *Node) Kill() {
	n.t.Helper()
	down := n.running()
	n.node = nil
	n.kills++
	n.faults.Add(vfs.Rule{Op: vfs.OpChange, Crash: true})
	if n.mem != nil {
		n.mem = n.mem.CrashClone(n.kills)
	}
	down.Kill()
}

// Restart starts the node again, on the same address and on what its last life has left. A running node is stopped first.
func (n *Node) Restart() {
	n.t.Helper()
	n.Stop()
	n.start()
}

// String names the node.
func (n *Node) String() string { return fmt.Sprintf("embedded node at %s", n.addr) }

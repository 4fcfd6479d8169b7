package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/metric"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/broker/forward"
	"github.com/moldau-io/moldau/internal/broker/handler"
	"github.com/moldau-io/moldau/internal/broker/lifecycle"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/wire"
)

// StartedMessage is logged when the node serves; scripts around Kafka wait for it.
const StartedMessage = "Kafka Server started"

// Options starts a node.
type Options struct {
	Config *conf.Broker
	// FS is the file system; nil is the operating system's.
	FS vfs.FS
	// AutoFormat formats directories that are not formatted, with a new cluster id. Otherwise they are refused.
	AutoFormat bool
	Logger     *slog.Logger
	// Level is the log level that administrators see and change; may be nil.
	Level *slog.LevelVar
	// ControllerOverTCP lets the broker speak to its controller through the controller listener's port instead of a pipe inside the
	// process, as a broker on another machine would.
	ControllerOverTCP bool
	// Metrics is the address of /metrics ("" for none). MetricsOptional lets the node start without it if the port is taken.
	Metrics         string
	MetricsOptional bool
}

// Node is one running node.
type Node struct {
	o      Options
	fs     vfs.FS
	log    *slog.Logger
	nodeID id.BrokerID
	format formatted

	config atomic.Pointer[conf.Broker] // with the dynamic layers of the newest image

	metaLock    io.Closer // of a metadata directory that is no log directory
	logs        *log.Manager
	quorum      *quorum.Quorum
	memory      *server.Memory
	decoding    *wire.Pool
	ctl         *server.Server
	line        *forward.Client
	replicas    *replica.Manager
	groupMeters coord.GroupMeters
	groups      *coord.Groups
	pids        *handler.ProducerIDBlocks
	txns        *coord.Txns
	markers     *coord.Markers
	gate        handler.LocalTxnGate
	places      handler.Places
	life        *lifecycle.Manager
	incarnation id.UUID     // of this start of the broker
	ready       atomic.Bool // to be unfenced
	ctlLife     *lifecycle.ControllerRegistration
	assigns     *lifecycle.Assignments
	srv         *server.Server
	desk        *handler.ReplicaDesk
	publish     *publisher

	listeners   listeners
	metrics     *metric.Registry
	groupCounts look[group.Counts]
	unwritten   look[int] // ends of transactions
	requests    *requestMetrics
	http        *http.Server
	httpAddr    net.Addr

	running sync.WaitGroup // Serve loops, watchers
	stop    chan struct{}
	once    sync.Once
	failed  chan struct{}
	err     atomic.Pointer[error]
}

// Start makes and starts a node. It returns when the broker is unfenced and serves, or with the reason why not, everything
// closed again.
func Start(ctx context.Context, o Options) (*Node, error) {
	n := &Node{o: o, fs: o.FS, log: o.Logger, nodeID: o.Config.NodeID(), stop: make(chan struct{}), failed: make(chan struct{})}
	if n.fs == nil {
		n.fs = vfs.OS()
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	n.config.Store(o.Config)
	if err := n.start(ctx); err != nil {
		n.abandon()
		return nil, err
	}
	n.log.Info(fmt.Sprintf("[KafkaRaftServer nodeId=%d] %s", n.nodeID, StartedMessage), "cluster_id", n.format.clusterID, "addr", n.Addr())
	return n, nil
}

func (n *Node) start(ctx context.Context) error {
	if err := supported(n.o.Config); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{n.openDirs, n.listen, n.openQuorum, n.openBroker, n.expectFaults, n.serve} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// expectFaults lets the node end when one of its own goroutines panics: what it keeps may be wrong from then on.
func (n *Node) expectFaults(context.Context) error {
	n.publish.fault = n.fail
	return nil
}

// supported refuses configurations that this release cannot run, before anything is touched.
func supported(b *conf.Broker) error {
	if !b.IsBroker() || !b.IsController() {
		return errors.New("process.roles must be \"broker,controller\": separate roles are not supported yet")
	}
	if v := b.QuorumVoters(); len(v) > 1 {
		return fmt.Errorf("controller.quorum.voters names %d voters: only a quorum of one is supported yet", len(v))
	} else if len(v) == 1 && v[0].ID != b.NodeID() {
		return fmt.Errorf("controller.quorum.voters names node %d, and this is node %d: only a quorum of one is supported yet", v[0].ID, b.NodeID())
	}
	for _, e := range b.Listeners() {
		if e.Protocol != "PLAINTEXT" {
			return fmt.Errorf("listener %s uses %s: only PLAINTEXT is supported yet", e.Name, e.Protocol)
		}
	}
	return nil
}

// ClusterID returns the cluster's id.
func (n *Node) ClusterID() string { return n.format.clusterID }

// Config returns the configuration as it stands.
func (n *Node) Config() *conf.Broker { return n.config.Load() }

// Metrics returns the node's figures in Prometheus' text format.
func (n *Node) Metrics() []byte { return n.metrics.Text() }

// MetricsAddr returns the address that serves /metrics, "" if none does.
func (n *Node) MetricsAddr() string {
	if n.httpAddr == nil {
		return ""
	}
	return n.httpAddr.String()
}

// HoldBack keeps high watermarks this many records behind their logs, 0 lets them go on: tests use it to look at a node between
// append and commit.
func (n *Node) HoldBack(records int) { n.replicas.HoldBack(records) }

// HoldMetadata keeps the last records that the controller writes from being committed, in whole batches; 0 lets them go.
func (n *Node) HoldMetadata(records int32) { n.quorum.HoldBack(records) }

// DeposeController makes the controller give up its office as a lost leadership does; it stands again, in a new epoch.
func (n *Node) DeposeController() { n.quorum.Depose() }

// Failed is closed when the node cannot go on; Err says why. Its owner then shuts it down.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// Err returns why the node failed.
func (n *Node) Err() error {
	if e := n.err.Load(); e != nil {
		return *e
	}
	return nil
}

func (n *Node) fail(err error) {
	if n.err.CompareAndSwap(nil, &err) {
		n.log.Error("the node cannot go on", "err", err)
		close(n.failed)
	}
}

// panicked is deferred by the node's own goroutines.
func (n *Node) panicked(who string) {
	if p := recover(); p != nil {
		n.log.Error(who+" panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		n.fail(fmt.Errorf("%s: panic: %v", who, p))
	}
}

// drainTime bounds the wait for clients in a shutdown.
const drainTime = 5 * time.Second

// Shutdown stops the node in good order: leadership is given up, requests under way are answered, logs are closed with the mark
// of a clean shutdown. Ctx bounds the wait for the controller and for clients.
func (n *Node) Shutdown(ctx context.Context) error {
	var err error
	n.once.Do(func() { err = n.shutdown(ctx) })
	return err
}

func (n *Node) shutdown(ctx context.Context) error {
	n.log.Info("shutting down")
	epoch := n.life.BrokerEpoch()
	if n.config.Load().Bool("controlled.shutdown.enable") && n.Err() == nil {
		if err := n.life.Shutdown(ctx); err != nil {
			n.log.Warn("the controller did not take leave of this broker", "err", err)
		}
	}
	err := n.halt(ctx, epoch)
	if err == nil {
		n.log.Info("shut down")
	}
	return err
}

// Kill stops the node without taking leave, as a crash of the process would look to clients and to the cluster. What it writes
// while it stops is up to its file system: a caller who wants a crash on disk, too, makes the file system refuse everything first.
func (n *Node) Kill() {
	n.once.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.halt(ctx, id.NoBrokerEpoch) // the process is gone; nobody hears of it
	})
}

// abandon closes what a failed start has opened.
func (n *Node) abandon() {
	n.once.Do(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.halt(ctx, id.NoBrokerEpoch) // the start's own error is the one to tell
	})
}

// halt stops the parts from the door down to the cellar. Waits of requests end first, so that the door drains at once.
func (n *Node) halt(ctx context.Context, epoch id.BrokerEpoch) error {
	close(n.stop)
	if n.http != nil {
		_ = n.http.Close() // scrapes may be cut off
	}
	if n.srv != nil {
		n.srv.CloseListeners()
	}
	if n.life != nil {
		n.life.Close()
	}
	if n.ctlLife != nil {
		n.ctlLife.Close()
	}
	if n.assigns != nil {
		n.assigns.Close()
	}
	if n.txns != nil {
		n.txns.Close()
		n.markers.Close()
	}
	if n.groups != nil {
		n.groups.Close()
	}
	if n.replicas != nil {
		n.replicas.Close()
	}
	drain, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if n.srv != nil {
		n.srv.Shutdown(drain)
	}
	if n.line != nil {
		n.line.Close()
	}
	if n.ctl != nil {
		n.ctl.Shutdown(drain)
	}
	n.listeners.close() // those that never served; for the others a second close
	if n.publish != nil {
		n.publish.close()
	}
	var errs []error
	if n.quorum != nil {
		errs = append(errs, n.quorum.Close())
	}
	if n.logs != nil {
		errs = append(errs, n.logs.Close(epoch))
	}
	if n.metaLock != nil {
		errs = append(errs, n.metaLock.Close())
	}
	n.running.Wait()
	return errors.Join(errs...)
}

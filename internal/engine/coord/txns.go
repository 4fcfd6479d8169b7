package coord

import (
	"log/slog"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/replica"
)

// Txns is the runtime of the transaction coordinator.
type Txns = Runtime[*txn.Shard]

// TransactionsTopic is the topic of the transaction coordinator.
const TransactionsTopic = "__transaction_state"

// TxnDeps are what the transaction coordinator of a broker works with.
type TxnDeps struct {
	Config   *conf.Broker
	Replicas *replica.Manager
	// Groups writes the markers of __consumer_offsets.
	Groups *Groups
	// NextProducerID returns an unused producer id, or false if none is at hand. It does not wait.
	NextProducerID func() (id.ProducerID, bool)
	// Remote takes markers for partitions that other brokers lead; nil while there are none.
	Remote RemoteMarkers
	// Fault is Options.Fault.
	Fault  func(error)
	Logger *slog.Logger
}

// NewTxns returns the transaction coordinator of a broker, which follows the leadership of __transaction_state by itself. Close
// the Markers after the Txns.
func NewTxns(d TxnDeps) (*Txns, *Markers) {
	markers := NewMarkers(MarkerOptions{Replicas: d.Replicas, Groups: d.Groups, Remote: d.Remote, Logger: d.Logger,
		Timeout: d.Config.Millis("request.timeout.ms")})
	cfg := TxnConfig(d.Config)
	cfg.NextProducerID = d.NextProducerID
	cfg.Level = func() int16 { return TransactionVersion(d.Replicas.Image()) }
	l := ReplicaLog{Manager: d.Replicas, Topic: TransactionsTopic}
	r := New(Options[*txn.Shard]{
		Log: l, MaxBatchBytes: l.MaxBatchBytes, Logger: d.Logger, Send: markers.Send, Fault: d.Fault,
		New:             func(int32) *txn.Shard { return txn.New(cfg) },
		Linger:          Adaptive,
		WriteTimeout:    d.Config.Millis("request.timeout.ms"),
		LoadBufferBytes: int(d.Config.Int("transaction.state.log.load.buffer.size")),
	})
	d.Replicas.WatchLeadership(TransactionsTopic, Leadership[*txn.Shard]{r})
	return r, markers
}

// TxnConfig takes what the core needs from a broker's configuration.
func TxnConfig(c *conf.Broker) txn.Config {
	cfg := txn.DefaultConfig()
	cfg.MaxTimeoutMs = c.Int("transaction.max.timeout.ms")
	cfg.TwoPhaseCommit = c.Bool("transaction.two.phase.commit.enable")
	cfg.AbortInterval = c.Millis("transaction.abort.timed.out.transaction.cleanup.interval.ms")
	cfg.Expiration = c.Millis("transactional.id.expiration.ms")
	cfg.ExpirationInterval = c.Millis("transaction.remove.expired.transaction.cleanup.interval.ms")
	return cfg
}

// TransactionVersion is the cluster's finalized transaction.version.
func TransactionVersion(img *image.Image) int16 { return img.Features.Level("transaction.version") }

package handler

import (
	"log/slog"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/wire"
)

// TxnDeps are what the transaction desk works with.
type TxnDeps struct {
	// Txns is the floor below. WriteTxnMarkers, which comes from coordinators, works on Replicas and Groups.
	Txns     *coord.Txns
	Groups   *coord.Groups
	Replicas *replica.Manager
	// ProducerIDs serves producers without a transactional id.
	ProducerIDs ProducerIDs
	// Partitions is transaction.state.log.num.partitions, and GroupPartitions offsets.topic.num.partitions; each counts until
	// its topic exists.
	Partitions, GroupPartitions int32
	// Places knows the partitions of transactional ids and groups.
	Places *Places
	// Limits says which InitProducerId requests are refused by anybody.
	Limits txn.Config
	// UnstableVersions serves InitProducerId 6, the flags of two-phase commit (KIP-939; unstable.api.versions.enable).
	UnstableVersions bool
	// MarkerTimeout is request.timeout.ms.
	MarkerTimeout time.Duration
	Logger        *slog.Logger
}

// TxnDesk serves the APIs of producer ids and transactions.
type TxnDesk struct {
	d TxnDeps
}

// NewTxnDesk returns a desk over these floors.
func NewTxnDesk(d TxnDeps) *TxnDesk {
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return &TxnDesk{d: d}
}

// Register adds the desk's APIs.
func (d *TxnDesk) Register(reg *server.Registry) {
	init := server.API{Key: wire.InitProducerID, Min: 0, Max: 5, Handle: d.initProducerID}
	if d.d.UnstableVersions {
		init.Max = 6
	}
	for _, a := range []server.API{
		init,
		{Key: wire.AddPartitionsToTxn, Min: 0, Max: 5, Handle: d.addPartitionsToTxn},
		{Key: wire.AddOffsetsToTxn, Min: 0, Max: 4, Handle: d.addOffsetsToTxn},
		{Key: wire.EndTxn, Min: 0, Max: 5, Handle: d.endTxn},
		{Key: wire.WriteTxnMarkers, Min: 1, Max: 2, Handle: d.writeTxnMarkers},
		{Key: wire.DescribeTransactions, Min: 0, Max: 0, Handle: d.describeTransactions},
		{Key: wire.ListTransactions, Min: 0, Max: 2, Handle: d.listTransactions},
	} {
		reg.Register(a)
	}
}

// partitionOf returns the partition of __transaction_state that holds a transactional id.
func (d *TxnDesk) partitionOf(name string) int32 {
	return d.d.Places.of(d.d.Replicas.Image(), coord.TransactionsTopic, name, d.d.Partitions)
}

// decide makes a decision of the shard that holds a transactional id. done gets its answer, or why there is none.
func (d *TxnDesk) decide(name string, done func(body any, code wire.ErrorCode), op func(*txn.Shard, txn.Turn) shard.Result) {
	if code := refusesName(name); code != wire.ErrNone {
		done(nil, code)
		return
	}
	decideTxn(d.d.Txns, d.partitionOf(name), done, op)
}

// refusesName says what is wrong with a transactional id at every coordinator.
func refusesName(name string) wire.ErrorCode {
	if name == "" {
		return wire.ErrInvalidRequest
	}
	return wire.ErrNone
}

func decideTxn(txns *coord.Txns, partition int32, done func(body any, code wire.ErrorCode), op func(*txn.Shard, txn.Turn) shard.Result) {
	txns.Do(partition, func(body any, code wire.ErrorCode) { done(body, coord.ClientError(code)) },
		func(s *txn.Shard, now time.Time, t shard.Ticket) shard.Result {
			return op(s, txn.Turn{Now: now, Ticket: t})
		})
}

// Versions of transactions (transaction.version) that a client works by, as its request's version tells.
const (
	plainTxns   int16 = 0
	bumpingTxns int16 = 2
)

// fenced is PRODUCER_FENCED for clients that know it, and else INVALID_PRODUCER_EPOCH.
func fenced(code wire.ErrorCode, version, known int16) wire.ErrorCode {
	if code == wire.ErrProducerFenced && version < known {
		return wire.ErrInvalidProducerEpoch
	}
	return code
}

func producer(name string, pid int64, epoch int16) txn.Producer {
	return txn.Producer{TransactionalID: name, ID: id.ProducerID(pid), Epoch: id.ProducerEpoch(epoch)}
}

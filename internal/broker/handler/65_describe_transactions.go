package handler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// describeTransactions serves DescribeTransactions 0 (KIP-664).
func (d *TxnDesk) describeTransactions(req *server.Request) {
	in := api.NewDescribeTransactionsRequest()
	if !req.Decode(in) {
		return
	}
	out := api.NewDescribeTransactionsResponse()
	for _, name := range in.TransactionalIDs {
		out.TransactionStates = append(out.TransactionStates, d.describeTransaction(name))
	}
	req.Answer(out)
}

func (d *TxnDesk) describeTransaction(name string) api.DescribeTransactionsResponseTransactionState {
	one := api.DescribeTransactionsResponseTransactionState{TransactionalID: name}
	if name == "" {
		one.ErrorCode = wire.ErrInvalidRequest
		return one
	}
	var t *txn.Transaction
	code := d.d.Txns.Read(d.partitionOf(name), func(s *txn.Shard) { t = s.Describe(name) })
	switch {
	case code != wire.ErrNone:
		one.ErrorCode = coord.ClientError(code)
		return one
	case t == nil:
		one.ErrorCode = wire.ErrTransactionalIDNotFound
		return one
	}
	one.ProducerID, one.ProducerEpoch, one.TransactionState = int64(t.ProducerID), int16(t.Epoch), t.State.String()
	one.TransactionTimeoutMs, one.TransactionStartTimeMs = t.TimeoutMs, t.StartMs
	for _, tp := range t.Partitions {
		if n := len(one.Topics); n == 0 || one.Topics[n-1].Topic != tp.Topic {
			one.Topics = append(one.Topics, api.DescribeTransactionsResponseTransactionStateTopic{Topic: tp.Topic})
		}
		last := &one.Topics[len(one.Topics)-1]
		last.Partitions = append(last.Partitions, tp.Partition)
	}
	return one
}

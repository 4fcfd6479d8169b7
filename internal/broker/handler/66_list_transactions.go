package handler

import (
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// listTransactions serves ListTransactions for the transactional ids whose coordinator is this broker: by state and producer id
// (KIP-664), by age since 1 (KIP-994), by pattern since 2 (KIP-1152).
func (d *TxnDesk) listTransactions(req *server.Request) {
	in := api.NewListTransactionsRequest()
	if !req.Decode(in) {
		return
	}
	out := api.NewListTransactionsResponse()
	filter := txn.Filter{States: in.StateFilters, ProducerIDs: in.ProducerIDFilters, MinAgeMs: in.DurationFilter}
	if in.TransactionalIDPattern != nil && *in.TransactionalIDPattern != "" {
		var err error
		if filter.Pattern, err = txn.Pattern(*in.TransactionalIDPattern); err != nil {
			out.ErrorCode = wire.ErrInvalidRegularExpression
			req.Answer(out)
			return
		}
	}
	for _, state := range in.StateFilters {
		if !txn.KnownState(state) && !slices.Contains(out.UnknownStateFilters, state) {
			out.UnknownStateFilters = append(out.UnknownStateFilters, state)
		}
	}
	now := time.Now().UnixMilli()
	code := d.d.Txns.ReadAll(func(s *txn.Shard) {
		s.List(func(name string, t *txn.Transaction) {
			if filter.Passes(name, t, now) {
				out.TransactionStates = append(out.TransactionStates, api.ListTransactionsResponseTransactionState{TransactionalID: name,
					ProducerID: int64(t.ProducerID), TransactionState: t.State.String()})
			}
		})
	})
	if code != wire.ErrNone {
		out = api.NewListTransactionsResponse()
		out.ErrorCode = coord.ClientError(code)
	}
	req.Answer(out)
}

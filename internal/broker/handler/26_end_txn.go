package handler

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// endTxn serves EndTxn; from 5 on the producer gets a new epoch with it (KIP-890).
func (d *TxnDesk) endTxn(req *server.Request) {
	in := api.NewEndTxnRequest()
	if !req.Decode(in) {
		return
	}
	client := plainTxns
	if req.Version() > 4 {
		client = bumpingTxns
	}
	d.decide(in.TransactionalID, func(body any, code wire.ErrorCode) {
		r, ok := body.(txn.Identity)
		if !ok {
			r = txn.Identity{Code: code, ProducerID: id.NoProducer, Epoch: id.NoProducerEpoch}
		}
		out := api.NewEndTxnResponse()
		out.ErrorCode, out.ProducerID, out.ProducerEpoch = fenced(r.Code, req.Version(), 2), int64(r.ProducerID), int16(r.Epoch)
		req.Answer(out)
	}, func(s *txn.Shard, t txn.Turn) shard.Result {
		return s.End(t, producer(in.TransactionalID, in.ProducerID, in.ProducerEpoch), in.Committed, client)
	})
}

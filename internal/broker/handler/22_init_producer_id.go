package handler

import (
	"context"
	"errors"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// ProducerIDs hands out producer ids that nobody else in the cluster gets.
type ProducerIDs interface {
	// Next returns a new id. It waits a moment for one; the error carries COORDINATOR_LOAD_IN_PROGRESS when none has come.
	Next(ctx context.Context) (id.ProducerID, error)
}

// initProducerID serves InitProducerId. A producer without a transactional id gets a new producer id whatever it had: the id and
// epoch it gives are checked for sense only (KIP-360).
func (d *TxnDesk) initProducerID(req *server.Request) {
	in := api.NewInitProducerIDRequest()
	if !req.Decode(in) {
		return
	}
	answer := func(code wire.ErrorCode, producer id.ProducerID, epoch id.ProducerEpoch) {
		out := api.NewInitProducerIDResponse()
		out.ErrorCode, out.ProducerID, out.ProducerEpoch = fenced(code, req.Version(), 4), int64(producer), int16(epoch)
		req.Answer(out)
	}
	if hasID, hasEpoch := in.ProducerID != int64(id.NoProducer), in.ProducerEpoch != int16(id.NoProducerEpoch); hasID != hasEpoch {
		answer(wire.ErrInvalidRequest, id.NoProducer, id.NoProducerEpoch)
		return
	}
	if in.TransactionalID == nil {
		pid, err := d.d.ProducerIDs.Next(req.Context())
		if err != nil {
			code := wire.ErrUnknownServerError
			errors.As(err, &code)
			answer(code, id.NoProducer, id.NoProducerEpoch)
			return
		}
		answer(wire.ErrNone, pid, 0)
		return
	}
	init := txn.Init{TransactionalID: *in.TransactionalID, TimeoutMs: in.TransactionTimeoutMs, ProducerID: id.ProducerID(in.ProducerID),
		Epoch: id.ProducerEpoch(in.ProducerEpoch), TwoPhase: in.Enable2Pc, KeepPrepared: in.KeepPreparedTxn}
	if code := d.d.Limits.CheckInit(init); code != wire.ErrNone {
		answer(code, id.NoProducer, id.NoProducerEpoch)
		return
	}
	d.decide(init.TransactionalID, func(body any, code wire.ErrorCode) {
		r, ok := body.(txn.Identity)
		if !ok {
			answer(code, id.NoProducer, id.NoProducerEpoch)
			return
		}
		answer(r.Code, r.ProducerID, r.Epoch)
	}, func(s *txn.Shard, t txn.Turn) shard.Result { return s.InitProducerID(t, init) })
}

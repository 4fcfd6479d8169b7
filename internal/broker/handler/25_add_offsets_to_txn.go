package handler

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// addOffsetsToTxn serves AddOffsetsToTxn: the group's partition of __consumer_offsets becomes part of the transaction. Clients that
// bump epochs do not send it.
func (d *TxnDesk) addOffsetsToTxn(req *server.Request) {
	in := api.NewAddOffsetsToTxnRequest()
	if !req.Decode(in) {
		return
	}
	offsets := []id.TopicPartition{{Topic: coord.OffsetsTopic,
		Partition: d.d.Places.of(d.d.Replicas.Image(), coord.OffsetsTopic, in.GroupID, d.d.GroupPartitions)}}
	d.decide(in.TransactionalID, func(body any, code wire.ErrorCode) {
		if r, ok := body.(wire.ErrorCode); ok {
			code = r
		}
		out := api.NewAddOffsetsToTxnResponse()
		out.ErrorCode = fenced(code, req.Version(), 2)
		req.Answer(out)
	}, func(s *txn.Shard, t txn.Turn) shard.Result {
		return s.AddPartitions(t, producer(in.TransactionalID, in.ProducerID, in.ProducerEpoch), offsets, plainTxns)
	})
}

package handler

import (
	"context"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// ProducerIDs hands out producer ids that nobody else in the cluster gets.
type ProducerIDs interface {
	// Next returns a new id. It waits a moment for one; the error carries COORDINATOR_LOAD_IN_PROGRESS when none has come.
	Next(ctx context.Context) (id.ProducerID, error)
}

// initProducerID serves InitProducerId 0 to 5 for idempotent producers. Such a producer that lost its place simply gets a new id:
// the id and epoch it gives are checked for sense only (KIP-360). Transactional ids are refused until there are transactions.
func (d *ReplicaDesk) initProducerID(req *server.Request) {
	in := api.NewInitProducerIDRequest()
	if !req.Decode(in) {
		return
	}
	out := api.NewInitProducerIDResponse()
	out.ProducerID, out.ProducerEpoch = int64(id.NoProducer), int16(id.NoProducerEpoch)
	switch hasID, hasEpoch := in.ProducerID != int64(id.NoProducer), in.ProducerEpoch != int16(id.NoProducerEpoch); {
	case in.TransactionalID != nil && *in.TransactionalID == "":
		out.ErrorCode = wire.ErrInvalidRequest
	case in.TransactionalID != nil:
		out.ErrorCode = wire.ErrTransactionalIDAuthorizationFailed
	case hasID != hasEpoch:
		out.ErrorCode = wire.ErrInvalidRequest
	default:
		pid, err := d.producerIDs.Next(req.Context())
		if out.ErrorCode = d.replicaCode(err, "init producer id", "", -1); out.ErrorCode == wire.ErrNone {
			out.ProducerID, out.ProducerEpoch = int64(pid), 0
		}
	}
	req.Answer(out)
}

package handler

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// Kinds of coordinators in FindCoordinator.
const (
	coordinatorGroup       = 0
	coordinatorTransaction = 1
	coordinatorShare       = 2
)

// node is where a coordinator is reached.
type node struct {
	id   id.BrokerID
	host string
	port int32
}

var noNode = node{id: id.NoBroker, port: -1}

// findCoordinator serves FindCoordinator; several keys since 4. Looking for a coordinator creates its topic.
func (d *GroupDesk) findCoordinator(r *server.Request) {
	req := api.NewFindCoordinatorRequest()
	if !r.Decode(req) {
		return
	}
	resp := api.NewFindCoordinatorResponse()
	if r.Version() < 4 {
		code, n := d.coordinator(r, req.KeyType, req.Key)
		message := code.Message()
		if code == wire.ErrNone {
			message = code.Name()
		}
		resp.ErrorCode, resp.ErrorMessage = code, &message
		resp.NodeID, resp.Host, resp.Port = int32(n.id), n.host, n.port
		r.Answer(resp)
		return
	}
	for _, key := range req.CoordinatorKeys {
		code, n := d.coordinator(r, req.KeyType, key)
		one := api.NewFindCoordinatorResponseCoordinator()
		one.Key, one.ErrorCode, one.NodeID, one.Host, one.Port = key, code, int32(n.id), n.host, n.port
		if req.KeyType < coordinatorGroup || req.KeyType > coordinatorShare {
			message := code.Message()
			one.ErrorMessage = &message
		}
		resp.Coordinators = append(resp.Coordinators, one)
	}
	r.Answer(resp)
}

func (d *GroupDesk) coordinator(r *server.Request, keyType int8, key string) (wire.ErrorCode, node) {
	name, partitions := offsetsTopic, d.partitions
	switch keyType {
	case coordinatorGroup:
	case coordinatorTransaction:
		name, partitions = coord.TransactionsTopic, d.txns
	default:
		return wire.ErrInvalidRequest, noNode
	}
	img := d.image()
	topic := img.Topics.ByName(name)
	if topic == nil {
		d.creator.CreateInternalTopic(name)
		return wire.ErrCoordinatorNotAvailable, noNode
	}
	p := topic.Partition(d.places.of(img, name, key, partitions))
	if p == nil || p.Leader == id.NoBroker {
		return wire.ErrCoordinatorNotAvailable, noNode
	}
	broker := img.Cluster.Broker(p.Leader)
	if broker == nil || broker.Fenced {
		return wire.ErrCoordinatorNotAvailable, noNode
	}
	endpoint, ok := broker.Endpoint(r.Conn.Listener)
	if !ok {
		return wire.ErrCoordinatorNotAvailable, noNode
	}
	return wire.ErrNone, node{broker.ID, endpoint.Host, int32(endpoint.Port)}
}

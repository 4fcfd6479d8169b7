package handler

import (
	"strconv"

	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// describeCluster lists the brokers of the cluster, fenced ones on demand (KIP-700, KIP-1073). Controllers are listed by the
// controllers' own listeners (KIP-919).
func (d *AdminDesk) describeCluster(r *server.Request) {
	req := api.NewDescribeClusterRequest()
	if !r.Decode(req) {
		return
	}
	a := api.NewDescribeClusterResponse()
	if req.EndpointType != 1 {
		text := "Unsupported endpoint type " + strconv.Itoa(int(req.EndpointType))
		a.ErrorCode = wire.ErrUnsupportedEndpointType
		if req.EndpointType == 2 {
			a.ErrorCode = wire.ErrMismatchedEndpointType
			text = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
		}
		if r.Version() == 0 {
			a.ErrorCode = wire.ErrInvalidRequest
		}
		a.ErrorMessage = &text
		r.Answer(a)
		return
	}
	img := d.Image()
	a.ClusterID, a.EndpointType, a.ControllerID = d.ClusterID, 1, -1
	controller := aliveBroker(img, r.Header.CorrelationID)
	for _, n := range img.Cluster.BrokerIDs() {
		b := img.Cluster.Broker(n)
		e, ok := b.Endpoint(r.Conn.Listener)
		if !ok || b.Fenced && !req.IncludeFencedBrokers {
			continue
		}
		a.Brokers = append(a.Brokers, api.DescribeClusterResponseBroker{BrokerID: int32(n), Host: e.Host, Port: int32(e.Port), Rack: b.Rack, IsFenced: b.Fenced})
		if int32(n) == controller {
			a.ControllerID = controller
		}
	}
	if req.IncludeClusterAuthorizedOperations {
		a.ClusterAuthorizedOperations = clusterOperations
	}
	r.Answer(a)
}

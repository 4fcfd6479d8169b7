package handler

import (
	"fmt"
	"strconv"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/broker/ctlhandler"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
)

// Both ways to alter configurations are done in two steps. The broker checks each resource for what only it can know (its own
// static configuration) or what spoils the request anyway, and passes the rest on to the controller in one request. The answer
// names every resource in the order of the request, with the result of whichever step decided it.

type resourceKey struct {
	kind int8
	name string
}

type resourceResult struct {
	code wire.ErrorCode
	text *string
}

func resultOf(err error) resourceResult {
	if err == nil {
		return resourceResult{}
	}
	code, text := ctlhandler.ConfigError(err)
	return resourceResult{code, text}
}

// twice marks the resources that a request names more than once.
func twice(keys []resourceKey) map[int]resourceResult {
	decided := map[int]resourceResult{}
	first := map[resourceKey]int{}
	for i, k := range keys {
		if j, seen := first[k]; seen {
			text := "Each resource must appear at most once."
			decided[i] = resourceResult{wire.ErrInvalidRequest, &text}
			decided[j] = decided[i]
		}
		first[k] = i
	}
	return decided
}

// isThisBroker checks the name of a BROKER resource that is not the default of all brokers.
func (d *AdminDesk) isThisBroker(name string) error {
	n, err := strconv.ParseInt(name, 10, 32)
	switch {
	case err != nil:
		return &conf.Error{Message: "Node id must be an integer, but it is: " + name, Request: true}
	case int32(n) != int32(d.NodeID):
		return &conf.Error{Message: fmt.Sprintf("Unexpected broker id, expected %d, but received %s", d.NodeID, name), Request: true}
	}
	return nil
}

// checkBrokerConfig checks the dynamic values of this broker (or of all, name "") as an alteration would leave them.
func (d *AdminDesk) checkBrokerConfig(name string, next func(current map[string]string) (map[string]string, error)) error {
	if name != "" {
		if err := d.isThisBroker(name); err != nil {
			return err
		}
	}
	values, err := next(d.Image().Configs.Of(image.ConfigResource{Type: image.ResourceBroker, Name: name}))
	if err != nil {
		return err
	}
	return d.Config().ValidateDynamicBroker(values, name != "")
}

func unknownResourceType(kind int8) error {
	return &conf.Error{Message: fmt.Sprintf("Unknown resource type %d", kind), Request: true}
}

// passPart sends part of a request to the controller, in the client's name.
func (d *AdminDesk) passPart(r *server.Request, part wire.Message, done func(wire.Message, error)) {
	d.Line.Forward(&server.Request{Header: r.Header, Conn: r.Conn, Body: wire.Marshal(part, r.Version())}, done)
}

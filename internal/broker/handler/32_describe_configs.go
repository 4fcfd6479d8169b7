package handler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// describeConfigs tells configuration as this node has it; see ctlhandler.Describer.
func (d *AdminDesk) describeConfigs(r *server.Request) {
	req := api.NewDescribeConfigsRequest()
	if r.Decode(req) {
		r.Answer(d.describer.Answer(d.Image(), req))
	}
}

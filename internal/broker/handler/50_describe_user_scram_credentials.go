package handler

import (
	"github.com/moldau-io/moldau/internal/broker/ctlhandler"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// describeUserScramCredentials tells which SCRAM credentials there are, without their secrets (KIP-554).
func (d *AdminDesk) describeUserScramCredentials(r *server.Request) {
	req := new(api.DescribeUserScramCredentialsRequest)
	if r.Decode(req) {
		r.Answer(ctlhandler.DescribeScram(d.Image(), req))
	}
}

package handler

import (
	"github.com/moldau-io/moldau/internal/broker/ctlhandler"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// describeAcls says that nothing authorizes, as it does while there is no authorizer.
func (d *AdminDesk) describeAcls(r *server.Request) {
	if r.Decode(new(api.DescribeAclsRequest)) {
		r.Answer(ctlhandler.NoAuthorizer())
	}
}

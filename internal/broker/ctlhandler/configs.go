package ctlhandler

import (
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

func (d *Desk) describeConfigs(c *call) {
	req := api.NewDescribeConfigsRequest()
	if c.decode(req) {
		c.answer(d.describer.Answer(d.o.Quorum.Image(), req))
	}
}

// incrementalAlterConfigs changes log levels here (KIP-412, KIP-919); everything else is the controller's to decide.
func (d *Desk) incrementalAlterConfigs(c *call) {
	req := new(api.IncrementalAlterConfigsRequest)
	if !c.decode(req) {
		return
	}
	rest := &api.IncrementalAlterConfigsRequest{ValidateOnly: req.ValidateOnly}
	var own []api.IncrementalAlterConfigsResponseResponse
	for i := range req.Resources {
		res := &req.Resources[i]
		if image.ResourceType(res.ResourceType) != image.ResourceBrokerLogger {
			rest.Resources = append(rest.Resources, *res)
			continue
		}
		a := api.IncrementalAlterConfigsResponseResponse{ResourceType: res.ResourceType, ResourceName: res.ResourceName}
		if err := d.describer.Loggers.Alter(res, req.ValidateOnly); err != nil {
			if a.ErrorCode, a.ErrorMessage = ConfigError(err); a.ErrorMessage == nil {
				a.ErrorMessage = new(a.ErrorCode.Message())
			}
		}
		own = append(own, a)
	}
	done := func(a *api.IncrementalAlterConfigsResponse) {
		a.Responses = append(a.Responses, own...)
		c.answer(a)
	}
	if len(rest.Resources) == 0 {
		done(api.NewIncrementalAlterConfigsResponse())
		return
	}
	d.o.Quorum.Submit(quorum.Request{Message: rest, APIVersion: c.version, Forwarded: c.forwarded, ReadCommitted: true}, func(o quorum.Outcome) {
		defer c.r.Rescue()
		if o.Err != nil {
			c.refuse(req, o.Err)
			return
		}
		done(o.Answer.(*api.IncrementalAlterConfigsResponse))
	})
}

// saslDone answers SASL requests where there is no SASL: it is as if it were over.
func (d *Desk) saslDone(c *call) {
	switch c.info.Key {
	case wire.SaslHandshake:
		if c.decode(new(api.SaslHandshakeRequest)) {
			a := api.NewSaslHandshakeResponse()
			a.ErrorCode = wire.ErrIllegalSaslState
			c.answer(a)
		}
	case wire.SaslAuthenticate:
		if c.decode(new(api.SaslAuthenticateRequest)) {
			a := api.NewSaslAuthenticateResponse()
			a.ErrorCode, a.ErrorMessage = wire.ErrIllegalSaslState, new("SaslAuthenticate request received after successful authentication")
			a.AuthBytes = []byte{}
			c.answer(a)
		}
	}
}

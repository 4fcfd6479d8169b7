package handler

import (
	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// incrementalAlterConfigs changes single keys of resources (KIP-339).
func (d *AdminDesk) incrementalAlterConfigs(r *server.Request) {
	req := new(api.IncrementalAlterConfigsRequest)
	if !r.Decode(req) {
		return
	}
	keys := make([]resourceKey, len(req.Resources))
	for i, res := range req.Resources {
		keys[i] = resourceKey{res.ResourceType, res.ResourceName}
	}
	decided := twice(keys)
	rest := &api.IncrementalAlterConfigsRequest{ValidateOnly: req.ValidateOnly}
	for i := range req.Resources {
		if _, done := decided[i]; done {
			continue
		}
		here, err := d.checkIncrement(&req.Resources[i], req.ValidateOnly)
		if here || err != nil {
			decided[i] = resultOf(err)
			continue
		}
		rest.Resources = append(rest.Resources, req.Resources[i])
	}
	answer := func(late map[resourceKey]resourceResult) {
		a := api.NewIncrementalAlterConfigsResponse()
		for i, k := range keys {
			x := pick(decided, late, i, k)
			a.Responses = append(a.Responses, api.IncrementalAlterConfigsResponseResponse{ErrorCode: x.code, ErrorMessage: x.text,
				ResourceType: k.kind, ResourceName: k.name})
		}
		r.Answer(a)
	}
	if len(rest.Resources) == 0 {
		answer(nil)
		return
	}
	d.passPart(r, rest, func(m wire.Message, err error) {
		if err != nil {
			d.refuse(r, req, err)
			return
		}
		late := map[resourceKey]resourceResult{}
		for _, x := range m.(*api.IncrementalAlterConfigsResponse).Responses {
			late[resourceKey{x.ResourceType, x.ResourceName}] = resourceResult{x.ErrorCode, x.ErrorMessage}
		}
		answer(late)
	})
}

// checkIncrement checks one resource; here says that this broker has done all there is to do for it.
func (d *AdminDesk) checkIncrement(res *api.IncrementalAlterConfigsRequestResource, validateOnly bool) (here bool, err error) {
	ops := make([]conf.Op, len(res.Configs))
	for i, c := range res.Configs {
		ops[i] = conf.Op{Name: c.Name, Type: conf.OpType(c.ConfigOperation), Value: c.Value}
	}
	if err := conf.CheckOps(ops); err != nil {
		return false, err
	}
	switch image.ResourceType(res.ResourceType) {
	case image.ResourceBrokerLogger:
		return true, d.loggers.Alter(res, validateOnly)
	case image.ResourceBroker:
		return false, d.checkBrokerConfig(res.ResourceName, func(current map[string]string) (map[string]string, error) {
			return conf.ApplyBrokerOps(current, ops)
		})
	case image.ResourceTopic, image.ResourceClientMetrics, image.ResourceGroup:
		return false, nil
	default:
		return false, unknownResourceType(res.ResourceType)
	}
}

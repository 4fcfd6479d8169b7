package handler

import (
	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// alterConfigs replaces the dynamic configuration of resources as a whole. It is deprecated in favour of
// IncrementalAlterConfigs, and old clients still send it.
func (d *AdminDesk) alterConfigs(r *server.Request) {
	req := new(api.AlterConfigsRequest)
	if !r.Decode(req) {
		return
	}
	keys := make([]resourceKey, len(req.Resources))
	for i, res := range req.Resources {
		keys[i] = resourceKey{res.ResourceType, res.ResourceName}
	}
	decided := twice(keys)
	rest := &api.AlterConfigsRequest{ValidateOnly: req.ValidateOnly}
	for i := range req.Resources {
		if _, done := decided[i]; done {
			continue
		}
		if err := d.checkReplacement(&req.Resources[i]); err != nil {
			decided[i] = resultOf(err)
			continue
		}
		rest.Resources = append(rest.Resources, req.Resources[i])
	}
	answer := func(late map[resourceKey]resourceResult) {
		a := api.NewAlterConfigsResponse()
		for i, k := range keys {
			x := pick(decided, late, i, k)
			a.Responses = append(a.Responses, api.AlterConfigsResponseResponse{ErrorCode: x.code, ErrorMessage: x.text, ResourceType: k.kind, ResourceName: k.name})
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
		for _, x := range m.(*api.AlterConfigsResponse).Responses {
			late[resourceKey{x.ResourceType, x.ResourceName}] = resourceResult{x.ErrorCode, x.ErrorMessage}
		}
		answer(late)
	})
}

// pick finds the result of a resource; one that nobody decided is an error of ours.
func pick(decided map[int]resourceResult, late map[resourceKey]resourceResult, i int, k resourceKey) resourceResult {
	if x, ok := decided[i]; ok {
		return x
	}
	if x, ok := late[k]; ok {
		return x
	}
	return resourceResult{code: wire.ErrUnknownServerError}
}

func (d *AdminDesk) checkReplacement(res *api.AlterConfigsRequestResource) error {
	ops := make([]conf.Op, len(res.Configs))
	next := make(map[string]string, len(res.Configs))
	for i, c := range res.Configs {
		ops[i] = conf.Op{Name: c.Name, Type: conf.Set, Value: c.Value}
		if c.Value != nil {
			next[c.Name] = *c.Value
		}
	}
	if err := conf.CheckOps(ops); err != nil {
		return err
	}
	switch image.ResourceType(res.ResourceType) {
	case image.ResourceBroker:
		return d.checkBrokerConfig(res.ResourceName, func(map[string]string) (map[string]string, error) { return next, nil })
	case image.ResourceTopic, image.ResourceClientMetrics, image.ResourceGroup:
		return nil
	default:
		return unknownResourceType(res.ResourceType)
	}
}

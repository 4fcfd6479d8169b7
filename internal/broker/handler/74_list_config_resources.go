package handler

import (
	"slices"
	"strconv"

	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// listConfigResources lists what DescribeConfigs can be asked about (KIP-1142). Version 0 is the former
// ListClientMetricsResources and knows no other type.
func (d *AdminDesk) listConfigResources(r *server.Request) {
	var req api.ListConfigResourcesRequest
	if !r.Decode(&req) {
		return
	}
	a := api.NewListConfigResourcesResponse()
	supported := []int8{int8(image.ResourceClientMetrics)}
	if r.Version() >= 1 {
		supported = []int8{int8(image.ResourceTopic), int8(image.ResourceBroker), int8(image.ResourceBrokerLogger),
			int8(image.ResourceClientMetrics), int8(image.ResourceGroup)}
	}
	types := req.ResourceTypes
	if len(types) == 0 {
		types = supported
	}
	for _, t := range types {
		if !slices.Contains(supported, t) {
			a.ErrorCode = wire.ErrUnsupportedVersion
			r.Answer(a)
			return
		}
	}
	img := d.Image()
	add := func(t image.ResourceType, name string) {
		a.ConfigResources = append(a.ConfigResources, api.ListConfigResourcesResponseConfigResource{ResourceName: name, ResourceType: int8(t)})
	}
	for _, t := range []image.ResourceType{image.ResourceGroup, image.ResourceClientMetrics} {
		if !slices.Contains(types, int8(t)) {
			continue
		}
		var names []string
		for res := range img.Configs.All() {
			if res.Type == t {
				names = append(names, res.Name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			add(t, name)
		}
	}
	for _, t := range []image.ResourceType{image.ResourceBrokerLogger, image.ResourceBroker} {
		if slices.Contains(types, int8(t)) {
			for _, n := range img.Cluster.BrokerIDs() {
				if _, ok := img.Cluster.Broker(n).Endpoint(r.Conn.Listener); ok {
					add(t, strconv.Itoa(int(n)))
				}
			}
		}
	}
	if slices.Contains(types, int8(image.ResourceTopic)) {
		for _, name := range img.Topics.Names() {
			add(image.ResourceTopic, name)
		}
	}
	r.Answer(a)
}

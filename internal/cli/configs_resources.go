package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// resourceType is the wire's kind of a resource, and the source that says that a config was set on it.
func resourceType(kind, name string) (t image.ResourceType, source int8) {
	switch kind {
	case topicsEntity:
		return image.ResourceTopic, 1
	case brokersEntity:
		if name == "" {
			return image.ResourceBroker, 3
		}
		return image.ResourceBroker, 2
	case brokerLoggersEntity:
		return image.ResourceBrokerLogger, 6
	case clientMetricsEntity:
		return image.ResourceClientMetrics, 7
	}
	return image.ResourceGroup, 8
}

// sourceNames are Kafka's names of the sources of a config.
func sourceName(source int8) string {
	return enumName([]string{"UNKNOWN", "DYNAMIC_TOPIC_CONFIG", "DYNAMIC_BROKER_CONFIG", "DYNAMIC_DEFAULT_BROKER_CONFIG", "STATIC_BROKER_CONFIG", "DEFAULT_CONFIG",
		"DYNAMIC_BROKER_LOGGER_CONFIG", "DYNAMIC_CLIENT_METRICS_CONFIG", "DYNAMIC_GROUP_CONFIG"}, int(source))
}

func singular(kind string) string { return kind[:len(kind)-1] }

// askAbout sends a request about a resource to the node that it concerns: a broker's own, or any.
func (c *configsCommand) askAbout(ctx context.Context, call, kind, name string, req wire.Request) (wire.Message, error) {
	if name != "" && (kind == brokersEntity || kind == brokerLoggersEntity) {
		nodeID, err := strconv.ParseInt(name, 10, 32)
		if err != nil {
			return nil, fail("The entity name for %s must be a valid integer broker id, found: %s", kind, name)
		}
		return c.line.node(ctx, call, int32(nodeID), req)
	}
	return c.line.controller(ctx, call, req)
}

func (c *configsCommand) alter(ctx context.Context) error {
	add, err := c.toAdd()
	if err != nil {
		return err
	}
	remove := c.toDelete()
	kind, name := c.kinds[0], c.names[0]
	switch kind {
	case usersEntity, clientsEntity:
		err = c.alterUsers(ctx, add, remove)
	case ipsEntity:
		for _, key := range slices.Sorted(maps.Keys(add)) {
			if key != ipQuota {
				return fail("Only connection quota configs can be added for 'ips' using --bootstrap-server. Unexpected config names: %s", key)
			}
		}
		for _, key := range remove {
			if key != ipQuota {
				return fail("Only connection quota configs can be added for 'ips' using --bootstrap-server. Unexpected config names: %s", key)
			}
		}
		err = c.alterQuotas(ctx, add, remove)
	case brokerLoggersEntity:
		if err = c.checkLoggers(ctx, name, add, remove); err == nil {
			err = c.alterResource(ctx, kind, name, add, remove)
		}
	default:
		err = c.alterResource(ctx, kind, name, add, remove)
	}
	switch {
	case err != nil:
		return err
	case name != "":
		fmt.Fprintf(c.s.Out, "Completed updating config for %s %s.\n", singular(kind), name)
	default:
		fmt.Fprintf(c.s.Out, "Completed updating default config for %s in the cluster.\n", kind)
	}
	return nil
}

func (c *configsCommand) alterResource(ctx context.Context, kind, name string, add map[string]string, remove []string) error {
	t, _ := resourceType(kind, name)
	r := api.IncrementalAlterConfigsRequestResource{ResourceType: int8(t), ResourceName: name}
	empty := ""
	for _, key := range remove {
		r.Configs = append(r.Configs, api.IncrementalAlterConfigsRequestResourceConfig{Name: key, ConfigOperation: 1, Value: &empty})
	}
	for _, key := range slices.Sorted(maps.Keys(add)) {
		value := add[key]
		r.Configs = append(r.Configs, api.IncrementalAlterConfigsRequestResourceConfig{Name: key, Value: &value})
	}
	m, err := c.askAbout(ctx, "incrementalAlterConfigs", kind, name, &api.IncrementalAlterConfigsRequest{Resources: []api.IncrementalAlterConfigsRequestResource{r}})
	if err != nil {
		return err
	}
	for _, x := range m.(*api.IncrementalAlterConfigsResponse).Responses {
		if err := answered(int16(x.ErrorCode), x.ErrorMessage); err != nil {
			return err
		}
	}
	return nil
}

// checkLoggers refuses loggers that the broker has not.
func (c *configsCommand) checkLoggers(ctx context.Context, name string, add map[string]string, remove []string) error {
	configs, err := c.configsOf(ctx, brokerLoggersEntity, name)
	if err != nil {
		return err
	}
	var unknown []string
	for _, key := range append(slices.Clone(remove), slices.Sorted(maps.Keys(add))...) {
		if !slices.ContainsFunc(configs, func(x api.DescribeConfigsResponseResultConfig) bool { return x.Name == key }) {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		return fail("Invalid broker logger(s): %s", strings.Join(unknown, ","))
	}
	return nil
}

// configsOf asks for all configs of one resource, in order of name.
func (c *configsCommand) configsOf(ctx context.Context, kind, name string) ([]api.DescribeConfigsResponseResultConfig, error) {
	t, _ := resourceType(kind, name)
	m, err := c.askAbout(ctx, "describeConfigs", kind, name, &api.DescribeConfigsRequest{IncludeSynonyms: true,
		Resources: []api.DescribeConfigsRequestResource{{ResourceType: int8(t), ResourceName: name}}})
	if err != nil {
		return nil, err
	}
	r := m.(*api.DescribeConfigsResponse)
	if len(r.Results) != 1 {
		return nil, fmt.Errorf("the server answered with %d resources, not one", len(r.Results))
	}
	if err := answered(int16(r.Results[0].ErrorCode), r.Results[0].ErrorMessage); err != nil {
		return nil, err
	}
	out := r.Results[0].Configs
	slices.SortStableFunc(out, func(a, b api.DescribeConfigsResponseResultConfig) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (c *configsCommand) describe(ctx context.Context) error {
	switch kind := c.kinds[0]; kind {
	case usersEntity, clientsEntity:
		return c.describeUsers(ctx)
	case ipsEntity:
		return c.describeQuotas(ctx)
	default:
		return c.describeResources(ctx, kind)
	}
}

func (c *configsCommand) describeResources(ctx context.Context, kind string) error {
	all := c.o.has("all")
	var entities []string
	if len(c.names) > 0 {
		name := c.names[0]
		if !all && name != "" {
			known, err := c.known(ctx, kind)
			if err != nil {
				return err
			}
			if !slices.Contains(known, name) {
				fmt.Fprintf(c.s.Out, "The %s '%s' doesn't exist and doesn't have dynamic config.\n", singular(kind), name)
				return nil
			}
		}
		entities = []string{name}
	} else {
		known, err := c.known(ctx, kind)
		if err != nil {
			return err
		}
		entities = known
		if kind == brokersEntity {
			entities = append(entities, "")
		}
	}
	for _, name := range entities {
		configs, err := c.configsOf(ctx, kind, name)
		if err != nil {
			return err
		}
		_, dynamic := resourceType(kind, name)
		switch {
		case name == "":
			fmt.Fprintf(c.s.Out, "Default configs for %s in the cluster are:\n", kind)
		case all:
			fmt.Fprintf(c.s.Out, "All configs for %s %s are:\n", singular(kind), name)
		default:
			fmt.Fprintf(c.s.Out, "Dynamic configs for %s %s are:\n", singular(kind), name)
		}
		for _, x := range configs {
			if !all && x.ConfigSource != dynamic {
				continue
			}
			synonyms := make([]string, len(x.Synonyms))
			for i, s := range x.Synonyms {
				synonyms[i] = sourceName(s.Source) + ":" + s.Name + "=" + textOrNull(s.Value)
			}
			fmt.Fprintf(c.s.Out, "  %s=%s sensitive=%t synonyms={%s}\n", x.Name, textOrNull(x.Value), x.IsSensitive, strings.Join(synonyms, ", "))
		}
	}
	return nil
}

func textOrNull(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

// known lists the entities of a kind.
func (c *configsCommand) known(ctx context.Context, kind string) ([]string, error) {
	switch kind {
	case topicsEntity:
		req := api.NewMetadataRequest()
		req.Topics, req.AllowAutoTopicCreation = nil, false
		m, err := c.line.brokers(ctx, "listTopics", req)
		if err != nil {
			return nil, err
		}
		var out []string
		for _, t := range m.(*api.MetadataResponse).Topics {
			if t.Name != nil {
				out = append(out, *t.Name)
			}
		}
		return javaHashOrder(out, javaStringHash, 16), nil
	case brokersEntity, brokerLoggersEntity:
		r, err := c.line.describeCluster(ctx, false)
		if err != nil {
			return nil, err
		}
		var ids []int32
		for _, b := range r.Brokers {
			ids = append(ids, b.BrokerID)
		}
		slices.Sort(ids)
		var out []string
		for _, n := range ids {
			out = append(out, strconv.Itoa(int(n)))
		}
		return out, nil
	case clientMetricsEntity:
		return c.configResources(ctx, image.ResourceClientMetrics)
	}
	return c.knownGroups(ctx)
}

// knownGroups are the groups of all coordinators, and those that have configs only.
func (c *configsCommand) knownGroups(ctx context.Context) ([]string, error) {
	cluster, err := c.line.describeCluster(ctx, false)
	if err != nil {
		return nil, err
	}
	var out []string
	add := func(name string) {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, b := range cluster.Brokers {
		m, err := c.line.node(ctx, "listGroups", b.BrokerID, api.NewListGroupsRequest())
		if err != nil {
			return nil, err
		}
		r := m.(*api.ListGroupsResponse)
		if err := answered(int16(r.ErrorCode), nil); err != nil {
			return nil, err
		}
		for _, g := range r.Groups {
			add(g.GroupID)
		}
	}
	with, err := c.configResources(ctx, image.ResourceGroup)
	if err != nil && !isUnsupported(err) {
		return nil, err
	}
	for _, name := range with {
		add(name)
	}
	return out, nil
}

func (c *configsCommand) configResources(ctx context.Context, t image.ResourceType) ([]string, error) {
	m, err := c.line.brokers(ctx, "listConfigResources", &api.ListConfigResourcesRequest{ResourceTypes: []int8{int8(t)}})
	if err != nil {
		return nil, err
	}
	r := m.(*api.ListConfigResourcesResponse)
	var out []string
	for _, x := range r.ConfigResources {
		out = append(out, x.ResourceName)
	}
	return out, answered(int16(r.ErrorCode), nil)
}

package ctlhandler

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// Describer tells what a node's dynamic and static configuration is, for either of its listeners.
type Describer struct {
	NodeID id.BrokerID
	// Config returns the node's configuration as it stands.
	Config  func() *conf.Broker
	Loggers *Loggers
}

// Answer tells the configuration of topics, of this node or of all nodes, of groups and of client metrics subscriptions
// (KIP-133, KIP-226, KIP-569), as far as img has them. Each resource has a result and an error of its own.
func (d *Describer) Answer(img *image.Image, req *api.DescribeConfigsRequest) wire.Message {
	a := api.NewDescribeConfigsResponse()
	for _, res := range req.Resources {
		switch image.ResourceType(res.ResourceType) {
		case image.ResourceTopic, image.ResourceBroker, image.ResourceBrokerLogger, image.ResourceClientMetrics, image.ResourceGroup:
		default: // one resource of another type spoils the request
			return describeConfigsRefusal(req)
		}
	}
	b := d.Config()
	for _, res := range req.Resources {
		out := api.DescribeConfigsResponseResult{ResourceType: res.ResourceType, ResourceName: res.ResourceName}
		entries, code, text := d.describeResource(img, b, res)
		if text == nil {
			text = new("") // Kafka's answer has an empty text, not none
		}
		out.ErrorCode, out.ErrorMessage = code, text
		if code == wire.ErrNone {
			out.Configs = make([]api.DescribeConfigsResponseResultConfig, 0, len(entries))
			for _, e := range entries {
				out.Configs = append(out.Configs, configEntry(e, req.IncludeSynonyms, req.IncludeDocumentation))
			}
		}
		a.Results = append(a.Results, out)
	}
	return a
}

func describeConfigsRefusal(req *api.DescribeConfigsRequest) wire.Message {
	a := api.NewDescribeConfigsResponse()
	text := wire.ErrInvalidRequest.Message()
	for _, res := range req.Resources {
		a.Results = append(a.Results, api.DescribeConfigsResponseResult{ErrorCode: wire.ErrInvalidRequest, ErrorMessage: &text,
			ResourceType: res.ResourceType, ResourceName: res.ResourceName})
	}
	return a
}

func (d *Describer) describeResource(img *image.Image, b *conf.Broker, res api.DescribeConfigsRequestResource) ([]conf.Entry, wire.ErrorCode, *string) {
	refuse := func(code wire.ErrorCode, format string, args ...any) ([]conf.Entry, wire.ErrorCode, *string) {
		text := fmt.Sprintf(format, args...)
		return nil, code, &text
	}
	kind, name := image.ResourceType(res.ResourceType), res.ResourceName
	var entries []conf.Entry
	var err error
	switch kind {
	case image.ResourceTopic:
		if why := controller.ValidateTopicName(name); why != "" {
			return refuse(wire.ErrInvalidTopicException, "%s", why)
		}
		if img.Topics.ByName(name) == nil {
			return nil, wire.ErrUnknownTopicOrPartition, nil
		}
		var t *conf.Topic
		if t, err = conf.ResolveTopic(b, img.Configs.Topic(name)); err == nil {
			entries = t.Describe(res.ConfigurationKeys)
		}
	case image.ResourceBroker:
		if name == "" {
			return b.DescribeDefaults(res.ConfigurationKeys), wire.ErrNone, nil
		}
		n, perr := strconv.ParseInt(name, 10, 32)
		switch {
		case perr != nil:
			return refuse(wire.ErrInvalidRequest, "Broker id must be an integer, but it is: %s", name)
		case int32(n) != int32(d.NodeID):
			return refuse(wire.ErrInvalidRequest, "Unexpected broker id, expected %d or empty string, but received %s", d.NodeID, name)
		}
		entries = b.Describe(res.ConfigurationKeys)
	case image.ResourceBrokerLogger:
		n, perr := strconv.ParseInt(name, 10, 32)
		switch {
		case name == "":
			return refuse(wire.ErrInvalidRequest, "Broker id must not be empty")
		case perr != nil:
			return refuse(wire.ErrInvalidRequest, "Broker id must be an integer, but it is: %s", name)
		case int32(n) != int32(d.NodeID):
			return refuse(wire.ErrInvalidRequest, "Unexpected broker id, expected %d but received %s", d.NodeID, name)
		}
		entries = d.Loggers.describe(res.ConfigurationKeys)
	case image.ResourceClientMetrics:
		if name == "" {
			return refuse(wire.ErrInvalidRequest, "Client metrics subscription name must not be empty")
		}
		entries, err = conf.DescribeClientMetrics(img.Configs.Of(image.ConfigResource{Type: kind, Name: name}), res.ConfigurationKeys)
	case image.ResourceGroup:
		if name == "" {
			return refuse(wire.ErrInvalidRequest, "Group name must not be empty")
		}
		entries, err = conf.DescribeGroup(b, img.Configs.Of(image.ConfigResource{Type: kind, Name: name}), res.ConfigurationKeys)
	}
	if err != nil {
		code, text := ConfigError(err)
		return nil, code, text
	}
	return entries, wire.ErrNone, nil
}

func configEntry(e conf.Entry, synonyms, documentation bool) api.DescribeConfigsResponseResultConfig {
	out := api.DescribeConfigsResponseResultConfig{Name: e.Name, Value: e.Value, ReadOnly: e.ReadOnly, ConfigSource: int8(e.Source),
		IsSensitive: e.Sensitive, ConfigType: int8(e.Type)}
	if synonyms {
		for _, s := range e.Synonyms {
			out.Synonyms = append(out.Synonyms, api.DescribeConfigsResponseResultConfigSynonym{Name: s.Name, Value: s.Value, Source: int8(s.Source)})
		}
	}
	if documentation && e.Doc != "" {
		out.Documentation = &e.Doc
	}
	return out
}

// ConfigError maps an error of base/conf to the code and message that a client gets.
func ConfigError(err error) (wire.ErrorCode, *string) {
	var e *conf.Error
	if errors.As(err, &e) {
		if e.Request {
			return wire.ErrInvalidRequest, &e.Message
		}
		return wire.ErrInvalidConfig, &e.Message
	}
	var code wire.ErrorCode
	if errors.As(err, &code) {
		return code, nil
	}
	return wire.ErrUnknownServerError, nil
}

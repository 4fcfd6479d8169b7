package ctlhandler

import (
	"errors"
	"maps"
	"sync"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
)

// schema lets the controller judge configs by base/conf, under the static configuration of this node.
type schema struct {
	broker *conf.Broker
	static map[string]string // topic configs when nothing dynamic sets them

	// mu guards the broker's configuration under the dynamic configs that were asked for last.
	mu            sync.Mutex
	node, cluster map[string]string
	dynamic       *conf.Broker
	plain         []controller.EffectiveConfig // of a topic without configs of its own; nil until asked for
}

// NewSchema returns the rules for dynamic configs on a node with a configuration. Only its static part counts.
func NewSchema(b *conf.Broker) (controller.ConfigSchema, error) {
	t, err := conf.ResolveTopic(b, nil)
	if err != nil {
		return nil, err
	}
	s := &schema{broker: b, dynamic: b, static: map[string]string{}}
	for _, e := range t.Effective() {
		if e.Value != nil {
			s.static[e.Name] = *e.Value
		}
	}
	return s, nil
}

// under returns the broker's configuration under dynamic configs. The caller holds mu.
func (s *schema) under(node, cluster map[string]string) *conf.Broker {
	if !maps.Equal(node, s.node) || !maps.Equal(cluster, s.cluster) {
		b, _, err := s.broker.WithDynamic(cluster, node)
		if err != nil {
			b = s.broker // dynamic configs that contradict the static ones have no effect
		}
		s.node, s.cluster, s.dynamic, s.plain = node, cluster, b, nil
	}
	return s.dynamic
}

func scope(t image.ResourceType) conf.Scope {
	switch t {
	case image.ResourceTopic:
		return conf.TopicScope
	case image.ResourceGroup:
		return conf.GroupScope
	case image.ResourceClientMetrics:
		return conf.ClientMetricsScope
	default:
		return conf.BrokerScope
	}
}

// KnownConfig is image.KnownConfig: topics, groups and client metrics have the configs of the table, brokers any, for names with
// the prefix of a listener or of a plugin cannot be listed.
func KnownConfig(t image.ResourceType, name string) bool {
	switch t {
	case image.ResourceTopic, image.ResourceGroup, image.ResourceClientMetrics:
		_, ok := conf.Lookup(scope(t), name)
		return ok
	}
	return t == image.ResourceBroker
}

// Validate implements controller.ConfigSchema. Brokers judge their own configs before they forward a change; the controller
// does not, as it knows nothing of theirs.
func (s *schema) Validate(r image.ConfigResource, after, before map[string]string) error {
	var err error
	switch r.Type {
	case image.ResourceTopic:
		err = conf.ValidateTopic(s.broker, before, after)
	case image.ResourceGroup:
		err = conf.ValidateGroup(s.broker, after)
	case image.ResourceClientMetrics:
		err = conf.ValidateClientMetrics(r.Name, after)
	}
	var e *conf.Error
	if errors.As(err, &e) {
		code := wire.ErrInvalidConfig
		if e.Request {
			code = wire.ErrInvalidRequest
		}
		return &controller.Error{Code: code, Text: e.Message}
	}
	return err
}

// IsList implements controller.ConfigSchema.
func (s *schema) IsList(t image.ResourceType, key string) bool {
	k, ok := conf.Lookup(scope(t), key)
	return ok && k.Type == conf.List
}

// Default implements controller.ConfigSchema.
func (s *schema) Default(t image.ResourceType, key string) (string, bool) {
	k, ok := conf.Lookup(scope(t), key)
	if !ok || k.Null || k.NoDefault {
		return "", false
	}
	return k.Default, true
}

// StaticTopic implements controller.ConfigSchema.
func (s *schema) StaticTopic(key string) string { return s.static[key] }

// EffectiveTopic implements controller.ConfigSchema. The answer for a topic without configs, as most are, is shared.
func (s *schema) EffectiveTopic(topic, node, cluster map[string]string) []controller.EffectiveConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.under(node, cluster)
	if len(topic) == 0 && s.plain != nil {
		return s.plain
	}
	t, err := conf.ResolveTopic(b, topic)
	if err != nil {
		return nil
	}
	all := t.Effective()
	out := make([]controller.EffectiveConfig, 0, len(all))
	for _, e := range all {
		out = append(out, controller.EffectiveConfig{Name: e.Name, Value: e.Value, Source: int8(e.Source), ReadOnly: e.ReadOnly, Sensitive: e.Sensitive})
	}
	if len(topic) == 0 {
		s.plain = out
	}
	return out
}

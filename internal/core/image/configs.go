package image

import (
	"iter"
	"maps"
	"slices"

	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// ResourceType is the kind of a config resource, as on the wire.
type ResourceType int8

// The resource types whose configs are kept in the metadata log.
const (
	ResourceUnknown       ResourceType = 0
	ResourceTopic         ResourceType = 2
	ResourceBroker        ResourceType = 4
	ResourceBrokerLogger  ResourceType = 8
	ResourceClientMetrics ResourceType = 16
	ResourceGroup         ResourceType = 32
)

// String returns Kafka's name of the type.
func (t ResourceType) String() string {
	switch t {
	case ResourceTopic:
		return "TOPIC"
	case ResourceBroker:
		return "BROKER"
	case ResourceBrokerLogger:
		return "BROKER_LOGGER"
	case ResourceClientMetrics:
		return "CLIENT_METRICS"
	case ResourceGroup:
		return "GROUP"
	default:
		return "UNKNOWN"
	}
}

// ConfigResource names what a config belongs to. Broker "" is the default of all brokers.
type ConfigResource struct {
	Type ResourceType
	Name string
}

// DefaultBroker is the resource of cluster-wide broker configs.
var DefaultBroker = ConfigResource{Type: ResourceBroker}

// KnownConfig says which names a kind of resource has configs by. Old logs hold configs that are gone since; records of these
// are passed over, as Kafka does.
type KnownConfig func(t ResourceType, name string) bool

// Configs are the dynamic configs of all resources: only what was set, never defaults.
type Configs struct {
	byResource Map[ConfigResource, map[string]string]
	known      KnownConfig // nil: every name
}

func newConfigs(known KnownConfig) *Configs {
	return &Configs{known: known, byResource: NewMap[ConfigResource, map[string]string](func(r ConfigResource) uint64 {
		return HashString(r.Name) ^ uint64(r.Type)*0x9e3779b97f4a7c15
	})}
}

// Of returns the configs of a resource; nil when none are set. Shared, not to be changed.
func (c *Configs) Of(r ConfigResource) map[string]string {
	m, _ := c.byResource.Get(r)
	return m
}

// Topic returns the configs of the topic called name, as Of does.
func (c *Configs) Topic(name string) map[string]string {
	return c.Of(ConfigResource{Type: ResourceTopic, Name: name})
}

// All iterates over the resources that have configs.
func (c *Configs) All() iter.Seq2[ConfigResource, map[string]string] { return c.byResource.All() }

func (c *Configs) with(r *logrec.ConfigRecord) *Configs {
	res := ConfigResource{Type: ResourceType(r.ResourceType), Name: r.ResourceName}
	m := maps.Clone(c.Of(res))
	if m == nil {
		m = map[string]string{}
	}
	if r.Value == nil {
		delete(m, r.Name)
	} else {
		m[r.Name] = *r.Value
	}
	if len(m) == 0 {
		return c.without(res)
	}
	return &Configs{byResource: c.byResource.With(res, m), known: c.known}
}

func (c *Configs) without(r ConfigResource) *Configs {
	return &Configs{byResource: c.byResource.Without(r), known: c.known}
}

// knows reports whether the config of a record is one that there still is.
func (c *Configs) knows(r *logrec.ConfigRecord) bool {
	return c.known == nil || c.known(ResourceType(r.ResourceType), r.Name)
}

func (c *Configs) records(emit func(Record) bool) bool {
	for res, m := range c.All() {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			value := m[name]
			r := &logrec.ConfigRecord{ResourceType: int8(res.Type), ResourceName: res.Name, Name: name, Value: &value}
			if !emit(Record{Message: r}) {
				return false
			}
		}
	}
	return true
}

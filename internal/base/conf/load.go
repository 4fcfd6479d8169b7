package conf

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Load resolves static properties (as ReadFile or ParseProperties return them) with overrides of the form "key=value", of
// which the last one wins. It expands config providers, checks every value and all rules across keys. Warnings name unknown
// keys, keys without effect and doubtful combinations; the error is Kafka's text for the first bad value.
func Load(properties map[string]string, overrides []string) (*Broker, []Warning, error) {
	static := maps.Clone(properties)
	if static == nil {
		static = map[string]string{}
	}
	for _, o := range overrides {
		key, value, err := ParseOverride(o)
		if err != nil {
			return nil, nil, err
		}
		static[key] = value
	}
	static, err := expandProviders(static)
	if err != nil {
		return nil, nil, err
	}
	populateNodeID(static)
	b, warnings, err := newBroker(static, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := refuse(b); err != nil {
		return nil, nil, err
	}
	return b, append(warnings, keyWarnings(b)...), nil
}

// ParseOverride splits "key=value" at the first "=". As in Kafka, a missing value is an error and white space is kept.
func ParseOverride(text string) (key, value string, err error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return "", "", failf("Invalid command line properties: %s", text)
	}
	return key, value, nil
}

// DevDefaults returns the properties of a single node that needs no file: broker and controller on localhost, ports 9092 and
// 9093, data in ./moldau-data, and internal topics with one replica.
func DevDefaults() map[string]string {
	return map[string]string{
		"process.roles":                                    "broker,controller",
		"node.id":                                          "1",
		"controller.quorum.voters":                         "1@localhost:9093",
		"listeners":                                        "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
		"controller.listener.names":                        "CONTROLLER",
		"listener.security.protocol.map":                   "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
		"inter.broker.listener.name":                       "PLAINTEXT",
		"log.dirs":                                         "./moldau-data",
		"offsets.topic.replication.factor":                 "1",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
	}
}

// keyWarnings names keys that are unknown or without effect.
func keyWarnings(b *Broker) []Warning {
	var out []Warning
	for _, name := range slices.Sorted(maps.Keys(b.static)) {
		k, known := lookupBrokerName(name)
		switch {
		case !known && !strings.HasPrefix(name, "config.providers.") && !hasPluginPrefix(name):
			out = append(out, Warning{name, "The configuration '" + name + "' is not a known key."})
		case known && hasNoEffect(k, name) && !isDefault(k, b.static[name]):
			out = append(out, withoutEffect(k, name))
		case known && k.DynamicOnly && !isDefault(k, b.static[name]):
			out = append(out, Warning{name, "The configuration '" + name + "' has no effect in server.properties: it counts when it is set on a running node."})
		}
	}
	return out
}

// hasNoEffect reports whether a name, of a key or with a listener before it, is only read. No key counts for single listeners
// yet.
func hasNoEffect(k *Key, name string) bool { return k.State == Inert || k.Name != name }

func withoutEffect(k *Key, name string) Warning {
	text := "The configuration '" + name + "' is accepted but has no effect yet"
	if r := k.Reason(); r != "" {
		text += ": " + k.Name + " " + r
	} else if k.Name != name {
		text += ": " + k.Name + " counts for all listeners alike"
	}
	return Warning{name, text + "."}
}

// Unheeded names the dynamic values that this snapshot has, another than before, and that have no effect.
func (b *Broker) Unheeded(before *Broker) []Warning {
	var out []Warning
	for _, name := range slices.Sorted(maps.Keys(b.originals)) {
		text := b.originals[name]
		if old, had := before.originals[name]; had && old == text || b.static[name] == text {
			continue
		}
		if k, known := lookupBrokerName(name); known && hasNoEffect(k, name) && !isDefault(k, text) {
			out = append(out, withoutEffect(k, name))
		}
	}
	return out
}

// Unheeded names a topic's own values that have no effect.
func (t *Topic) Unheeded() []Warning {
	var out []Warning
	for _, name := range slices.Sorted(maps.Keys(t.overrides)) {
		if k, known := Lookup(TopicScope, name); known && k.State == Inert && !isDefault(k, t.overrides[name]) {
			out = append(out, withoutEffect(k, name))
		}
	}
	return out
}

func isDefault(k *Key, text string) bool {
	v, err := parseAs(k.Name, text, k.Type)
	return err == nil && !k.NoDefault && v.Text() == k.DefaultValue().Text()
}

// lookupBrokerName finds the key behind a plain name, a listener.name.<listener>.<key> or a
// listener.name.<listener>.<mechanism>.<key>.
func lookupBrokerName(name string) (*Key, bool) {
	if k, ok := Lookup(BrokerScope, name); ok {
		return k, true
	}
	synonyms := brokerSynonyms(name, true)
	if len(synonyms) == 2 {
		return Lookup(BrokerScope, synonyms[1])
	}
	return nil, false
}

// hasPluginPrefix reports whether the name is meant for a pluggable class, whose keys Kafka does not know either.
func hasPluginPrefix(name string) bool {
	for _, p := range []string{"rsm.config.", "rlmm.config.", "client.quota.callback.", "producer.", "consumer.", "connect."} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// WithDynamic returns a snapshot with new dynamic layers (texts as in ConfigRecords) over the same static one. Values that are
// malformed, not dynamic, or per broker in the layer for all are left out with a warning, as Kafka does when it reads stored
// values; if what remains contradicts itself the error says so and the caller keeps the old snapshot.
func (b *Broker) WithDynamic(defaults, own map[string]string) (*Broker, []Warning, error) {
	defaults, w1 := usableDynamic(defaults, false)
	own, w2 := usableDynamic(own, true)
	n := layers(b.static, defaults, own)
	w3 := n.moveIntoBounds()
	n, w4, err := n.checked()
	if err != nil {
		return nil, nil, err
	}
	return n, slices.Concat(w1, w2, w3, w4), nil
}

// moveIntoBounds takes for a stored assignment interval of groups that is outside of its bounds the nearest one inside: the bounds are
// static, and may have been others when it was stored.
func (b *Broker) moveIntoBounds() (warnings []Warning) {
	number := func(name string) (int64, bool) {
		k, _ := Lookup(BrokerScope, name)
		text, set := b.originals[name]
		if !set {
			return k.DefaultValue().num, false
		}
		v, err := k.Parse(text)
		return v.num, err == nil
	}
	for _, kind := range []string{"consumer", "share", "streams"} {
		name := "group." + kind + ".assignment.interval.ms"
		n, set := number(name)
		low, _ := number("group." + kind + ".min.assignment.interval.ms")
		high, _ := number("group." + kind + ".max.assignment.interval.ms")
		if inside := min(max(n, low), high); set && inside != n {
			b.originals[name] = strconv.FormatInt(inside, 10)
			warnings = append(warnings, Warning{name, fmt.Sprintf("%d is outside of the broker's bounds, %d counts", n, inside)})
		}
	}
	return warnings
}

func usableDynamic(values map[string]string, perBroker bool) (map[string]string, []Warning) {
	out := make(map[string]string, len(values))
	var warnings []Warning
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := checkDynamicValue(name, values[name], perBroker); err != nil {
			warnings = append(warnings, Warning{name, "dynamic value ignored: " + err.Error()})
			continue
		}
		out[name] = values[name]
	}
	return out, warnings
}

// checkDynamicValue checks one dynamic broker value by itself.
func checkDynamicValue(name, text string, perBroker bool) error {
	if k, ok := Lookup(BrokerScope, name); ok && k.Mode == ReadOnly {
		return failf("Cannot update these configs dynamically: [%s]", name)
	}
	k, ok := lookupBrokerName(name)
	if !ok {
		return nil // custom names are stored for plugins
	}
	if err := k.checkDynamic(text); err != nil {
		return err
	}
	if !perBroker && k.Mode == PerBroker {
		return failf("Cannot update these configs at default cluster level, broker id must be specified: [%s]", name)
	}
	return nil
}

// brokerSynonyms returns the names that may give a broker key its value, strongest first.
func brokerSynonyms(name string, listenerPrefix bool) []string {
	switch name {
	case "log.roll.ms", "log.roll.hours":
		return []string{"log.roll.ms", "log.roll.hours"}
	case "log.roll.jitter.ms", "log.roll.jitter.hours":
		return []string{"log.roll.jitter.ms", "log.roll.jitter.hours"}
	case "log.flush.interval.ms":
		return []string{"log.flush.interval.ms", "log.flush.scheduler.interval.ms"}
	case "log.retention.ms", "log.retention.minutes", "log.retention.hours":
		return []string{"log.retention.ms", "log.retention.minutes", "log.retention.hours"}
	}
	if rest, ok := strings.CutPrefix(name, "listener.name."); ok && listenerPrefix {
		if _, base, ok := strings.Cut(rest, "."); ok {
			for _, m := range []string{"sasl.jaas.config", "sasl.login.callback.handler.class", "sasl.login.class",
				"sasl.server.callback.handler.class", "connections.max.reauth.ms"} {
				if strings.HasSuffix(base, m) {
					base = m
					break
				}
			}
			return []string{name, base}
		}
	}
	return []string{name}
}

package conf

import (
	"maps"
	"math"
	"strings"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Broker is one immutable snapshot of a node's configuration: the static properties, and over them the dynamic values of the
// cluster and of this node. Getters take a key's name; a name that is not a broker key, or a getter that does not fit the key's
// type, is a mistake in the program and panics, so that a test of the caller finds it.
type Broker struct {
	static     map[string]string // properties and overrides as given, after config providers
	dynDefault map[string]string // dynamic values for all brokers
	dynBroker  map[string]string // dynamic values of this broker
	originals  map[string]string // all of these, strongest last
	values     map[string]Value  // every broker key
	net        network
}

// newBroker parses and checks originals, keeping the layers for DescribeConfigs.
func newBroker(static, dynDefault, dynBroker map[string]string) (*Broker, []Warning, error) {
	return layers(static, dynDefault, dynBroker).checked()
}

// layers puts the layers over each other.
func layers(static, dynDefault, dynBroker map[string]string) *Broker {
	b := &Broker{static: static, dynDefault: dynDefault, dynBroker: dynBroker, originals: maps.Clone(static)}
	if b.originals == nil {
		b.originals = map[string]string{}
	}
	overlay(b.originals, dynDefault)
	overlay(b.originals, dynBroker)
	return b
}

func (b *Broker) checked() (*Broker, []Warning, error) {
	if err := b.parse(); err != nil {
		return nil, nil, err
	}
	warnings, err := b.validate()
	if err != nil {
		return nil, nil, err
	}
	return b, warnings, nil
}

// overlay adds dynamic values. A dynamic value replaces every weaker layer's synonym of its key, so that a dynamic
// log.retention.hours is not shadowed by a static log.retention.ms. Within one layer the strongest synonym wins.
func overlay(into, dynamic map[string]string) {
	for name := range dynamic {
		for _, s := range brokerSynonyms(name, false) {
			delete(into, s)
		}
	}
	maps.Copy(into, dynamic)
}

// populateNodeID lets broker.id stand for node.id and the other way round.
func populateNodeID(originals map[string]string) {
	broker, hasBroker := originals["broker.id"]
	node, hasNode := originals["node.id"]
	switch {
	case hasNode && !hasBroker:
		originals["broker.id"] = node
	case hasBroker && !hasNode:
		originals["node.id"] = broker
	}
}

func (b *Broker) parse() error {
	b.values = make(map[string]Value, len(keyTable().scoped[BrokerScope]))
	for _, name := range []string{"process.roles", "node.id", "controller.listener.names"} { // all that have no default, in Kafka's order
		if _, set := b.originals[name]; !set {
			return failf("Missing required configuration \"%s\" which has no default value.", name)
		}
		if err := b.parseKey(keyTable().byName[BrokerScope][name]); err != nil {
			return err
		}
	}
	for _, k := range keyTable().scoped[BrokerScope] {
		if err := b.parseKey(k); err != nil {
			return err
		}
	}
	return nil
}

func (b *Broker) parseKey(k *Key) (err error) {
	text, set := b.originals[k.Name]
	v := k.DefaultValue()
	switch {
	case set && k.Type == Class && !isClassName(text):
		return invalid(k.Name, text, "Class "+text+" could not be found.")
	case set:
		v, err = k.Parse(text)
	}
	b.values[k.Name] = v
	return err
}

// isClassName reports whether text can be the name of a Java class.
func isClassName(text string) bool {
	text = javaTrim(text)
	return text != "" && !strings.ContainsAny(text, " \t/\\,;:")
}

func (b *Broker) value(key string, types ...Type) Value {
	v, ok := b.values[key]
	if !ok {
		panic("conf: " + key + " is not a broker key")
	}
	for _, t := range types {
		if v.Type == t {
			return v
		}
	}
	panic("conf: " + key + " is a " + v.Type.String())
}

// IsNull reports whether the key has no value.
func (b *Broker) IsNull(key string) bool {
	v, ok := b.values[key]
	if !ok {
		panic("conf: " + key + " is not a broker key")
	}
	return v.Null
}

// IsSet reports whether any layer gives the key a value of its own.
func (b *Broker) IsSet(key string) bool { _, ok := b.originals[key]; return ok }

// Bool returns a BOOLEAN key.
func (b *Broker) Bool(key string) bool { return b.value(key, Boolean).num != 0 }

// Int returns an INT or SHORT key; null is 0.
func (b *Broker) Int(key string) int32 { return int32(b.value(key, Int, Short).num) }

// Long returns a LONG, INT or SHORT key; null is 0.
func (b *Broker) Long(key string) int64 { return b.value(key, Long, Int, Short).num }

// Double returns a DOUBLE key.
func (b *Broker) Double(key string) float64 { return b.value(key, Double).dbl }

// Text returns a STRING, CLASS or PASSWORD key; null is "".
func (b *Broker) Text(key string) string { return b.value(key, String, Class, Password).str }

// List returns a LIST key; do not modify.
func (b *Broker) List(key string) []string { return b.value(key, List).list }

// Millis returns a key in milliseconds as a duration; Long.MAX_VALUE becomes Forever, negative values stay negative.
func (b *Broker) Millis(key string) time.Duration { return millis(b.Long(key)) }

// Span returns a key that counts in a unit other than milliseconds as a duration; what is longer than a duration can be is Forever.
func (b *Broker) Span(key string, unit time.Duration) time.Duration {
	n := b.Long(key)
	if n > int64(Forever/unit) {
		return Forever
	}
	return time.Duration(n) * unit
}

// Original returns the text given for any name, known to the table or not, and whether it was given.
func (b *Broker) Original(name string) (string, bool) { v, ok := b.originals[name]; return v, ok }

// NodeID returns node.id.
func (b *Broker) NodeID() id.BrokerID { return id.BrokerID(b.Int("node.id")) }

// IsBroker reports whether process.roles has the broker role.
func (b *Broker) IsBroker() bool { return b.hasRole("broker") }

// IsController reports whether process.roles has the controller role.
func (b *Broker) IsController() bool { return b.hasRole("controller") }

func (b *Broker) hasRole(role string) bool {
	for _, r := range b.List("process.roles") {
		if r == role {
			return true
		}
	}
	return false
}

// LogDirs returns log.dirs, or else log.dir.
func (b *Broker) LogDirs() []string {
	if !b.IsNull("log.dirs") {
		return b.List("log.dirs")
	}
	return b.List("log.dir")
}

// CordonedLogDirs returns the directories that get no new partitions; "*" in the key means all.
func (b *Broker) CordonedLogDirs() []string {
	dirs := b.List("cordoned.log.dirs")
	if len(dirs) == 1 && dirs[0] == "*" {
		return b.LogDirs()
	}
	return dirs
}

// MoveBytesPerSecond returns replica.alter.log.dirs.io.max.bytes.per.second, which counts only where it was set on a running node.
func (b *Broker) MoveBytesPerSecond() int64 {
	const key = "replica.alter.log.dirs.io.max.bytes.per.second"
	_, own := b.dynBroker[key]
	_, all := b.dynDefault[key]
	if !own && !all {
		return math.MaxInt64
	}
	return b.Long(key)
}

// MetadataLogDir returns metadata.log.dir, or else the first log directory.
func (b *Broker) MetadataLogDir() string {
	if !b.IsNull("metadata.log.dir") {
		return b.Text("metadata.log.dir")
	}
	return b.LogDirs()[0]
}

// ms of the first synonym that is set, or of the last one.
func (b *Broker) firstMillis(keys []Synonym) int64 {
	for _, s := range keys {
		if !b.IsNull(s.Name) {
			return b.Long(s.Name) * s.Factor
		}
	}
	return 0
}

// RollMs returns log.roll.ms or log.roll.hours in milliseconds.
func (b *Broker) RollMs() int64 { return b.firstMillis(synonymsOfTopicKey("segment.ms")) }

// RollJitterMs returns log.roll.jitter.ms or .hours in milliseconds.
func (b *Broker) RollJitterMs() int64 { return b.firstMillis(synonymsOfTopicKey("segment.jitter.ms")) }

// RetentionMs returns log.retention.ms, .minutes or .hours in milliseconds; any negative value is -1, without limit.
func (b *Broker) RetentionMs() int64 {
	return max(b.firstMillis(synonymsOfTopicKey("retention.ms")), -1)
}

// FlushMs returns log.flush.interval.ms or log.flush.scheduler.interval.ms.
func (b *Broker) FlushMs() int64 { return b.firstMillis(synonymsOfTopicKey("flush.ms")) }

func synonymsOfTopicKey(name string) []Synonym {
	k, _ := Lookup(TopicScope, name)
	return k.Synonyms
}

package conf

import (
	"maps"
	"slices"
	"strconv"
)

// Source says which layer gives a value, numbered as DescribeConfigs answers it (KIP-226).
type Source int8

// The sources.
const (
	UnknownSource        Source = 0
	TopicConfig          Source = 1
	DynamicBrokerConfig  Source = 2
	DynamicDefaultConfig Source = 3
	StaticBrokerConfig   Source = 4
	DefaultConfig        Source = 5
	BrokerLoggerConfig   Source = 6
	ClientMetricsConfig  Source = 7
	GroupConfig          Source = 8
)

// Entry is what DescribeConfigs tells of one key.
type Entry struct {
	Name      string
	Value     *string // nil: null, or sensitive
	ReadOnly  bool
	Source    Source
	Sensitive bool
	Type      Type
	Synonyms  []EntrySynonym
	Doc       string
}

// EntrySynonym is one layer of a value, strongest first.
type EntrySynonym struct {
	Name   string
	Value  *string
	Source Source
}

// wanted reports whether a key was asked for; no list means all.
func wanted(keys []string, name string) bool { return len(keys) == 0 || slices.Contains(keys, name) }

// hide returns the text to show of a value.
func hide(text string, isNull, sensitive bool) *string {
	if isNull || sensitive {
		return nil
	}
	return &text
}

// synonymsOf collects all layers of a broker key under all its names, then drops what stands before the first entry of the
// name itself: a key describes no override made under a stronger name.
func (b *Broker) synonymsOf(name string, sensitive bool) []EntrySynonym {
	names := brokerSynonyms(name, true)
	var out []EntrySynonym
	for _, layer := range []struct {
		values map[string]string
		source Source
	}{{b.dynBroker, DynamicBrokerConfig}, {b.dynDefault, DynamicDefaultConfig}, {b.static, StaticBrokerConfig}} {
		for _, n := range names {
			if text, ok := layer.values[n]; ok {
				out = append(out, EntrySynonym{n, hide(text, false, sensitive), layer.source})
			}
		}
	}
	for _, n := range names {
		if k, ok := Lookup(BrokerScope, n); ok && !k.Null && !k.NoDefault && !k.DynamicOnly {
			out = append(out, EntrySynonym{n, hide(k.DefaultValue().Text(), false, sensitive), DefaultConfig})
		}
	}
	i := slices.IndexFunc(out, func(s EntrySynonym) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return out[i:]
}

func firstSource(synonyms []EntrySynonym) Source {
	if len(synonyms) == 0 {
		return DefaultConfig
	}
	return synonyms[0].Source
}

// brokerEntry describes one name of a broker, known or not.
func (b *Broker) brokerEntry(name string, value *string) Entry {
	e := Entry{Name: name, Sensitive: true, ReadOnly: true}
	if k, ok := lookupBrokerName(name); ok {
		e.Type, e.Sensitive = k.Type, k.Sensitive()
	}
	if k, ok := Lookup(BrokerScope, name); ok {
		e.ReadOnly, e.Doc = k.Mode == ReadOnly, k.Doc
	}
	if !e.Sensitive {
		e.Value = value
	}
	e.Synonyms = b.synonymsOf(name, e.Sensitive)
	e.Source = firstSource(e.Synonyms)
	return e
}

// Describe tells of this broker's keys: all that are not internal, and whatever else was set. keys limits the answer.
func (b *Broker) Describe(keys []string) []Entry {
	var out []Entry
	for _, k := range keyTable().scoped[BrokerScope] {
		_, set := b.originals[k.Name]
		if !wanted(keys, k.Name) || (k.Internal || k.DynamicOnly) && !set {
			continue
		}
		v := b.values[k.Name]
		out = append(out, b.brokerEntry(k.Name, hide(v.Text(), v.Null, false)))
	}
	for _, name := range slices.Sorted(maps.Keys(b.originals)) {
		if _, known := Lookup(BrokerScope, name); !known && wanted(keys, name) {
			text := b.originals[name]
			out = append(out, b.brokerEntry(name, &text))
		}
	}
	return out
}

// DescribeDefaults tells of the dynamic values for all brokers.
func (b *Broker) DescribeDefaults(keys []string) []Entry {
	var out []Entry
	for _, name := range slices.Sorted(maps.Keys(b.dynDefault)) {
		if !wanted(keys, name) {
			continue
		}
		text := b.dynDefault[name]
		e := b.brokerEntry(name, &text)
		e.Synonyms = slices.DeleteFunc(e.Synonyms, func(s EntrySynonym) bool { return s.Source != DynamicDefaultConfig })
		e.Source = firstSource(e.Synonyms)
		out = append(out, e)
	}
	return out
}

// Describe tells of the topic's keys as DescribeConfigs does: a key that no layer sets has the source DEFAULT_CONFIG, and only
// the first of a topic key's broker synonyms counts.
func (t *Topic) Describe(keys []string) []Entry {
	var out []Entry
	for _, k := range keyTable().scoped[TopicScope] {
		_, set := t.overrides[k.Name]
		if !wanted(keys, k.Name) || k.Internal && !set {
			continue
		}
		v := t.values[k.Name]
		e := Entry{Name: k.Name, Value: hide(v.Text(), v.Null, false), Type: k.Type, Doc: k.Doc}
		if len(k.Synonyms) > 0 {
			e.Synonyms = t.broker.synonymsOf(k.Synonyms[0].Name, false)
		}
		if set {
			e.Synonyms = slices.Insert(e.Synonyms, 0, EntrySynonym{k.Name, e.Value, TopicConfig})
		}
		e.Source = firstSource(e.Synonyms)
		out = append(out, e)
	}
	return append(out, unknownEntries(TopicScope, t.overrides, keys)...)
}

// Effective tells of the topic's keys as CreateTopics does: the value of the strongest layer under any synonym, converted to
// the topic key's unit.
func (t *Topic) Effective() []Entry {
	var out []Entry
	for _, k := range keyTable().scoped[TopicScope] {
		_, set := t.overrides[k.Name]
		if k.Internal && !set {
			continue
		}
		out = append(out, t.effective(k))
	}
	return out
}

func (t *Topic) effective(k *Key) Entry {
	e := Entry{Name: k.Name, Type: k.Type, Doc: k.Doc, Source: DefaultConfig}
	if text, ok := t.overrides[k.Name]; ok {
		e.Value, e.Source = &text, TopicConfig
		return e
	}
	for _, layer := range []struct {
		values map[string]string
		source Source
	}{{t.broker.dynBroker, DynamicBrokerConfig}, {t.broker.dynDefault, DynamicDefaultConfig}, {t.broker.static, StaticBrokerConfig}} {
		for _, s := range k.Synonyms {
			text, ok := layer.values[s.Name]
			if !ok {
				continue
			}
			if n, err := strconv.ParseInt(javaTrim(text), 10, 64); err == nil && s.Factor != 1 {
				text = strconv.FormatInt(n*s.Factor, 10)
			}
			e.Value, e.Source = &text, layer.source
			return e
		}
	}
	v := k.DefaultValue()
	e.Value = hide(v.Text(), v.Null, false)
	return e
}

func unknownEntries(scope Scope, overrides map[string]string, keys []string) []Entry {
	source := map[Scope]Source{TopicScope: TopicConfig, GroupScope: GroupConfig, ClientMetricsScope: ClientMetricsConfig}[scope]
	var out []Entry
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		if _, known := Lookup(scope, name); known || !wanted(keys, name) {
			continue
		}
		out = append(out, Entry{Name: name, Sensitive: true, Source: source, Synonyms: []EntrySynonym{{name, nil, source}}})
	}
	return out
}

// DescribeGroup tells of a group's keys over the broker's defaults.
func DescribeGroup(b *Broker, overrides map[string]string, keys []string) ([]Entry, error) {
	var out []Entry
	for _, k := range keyTable().scoped[GroupScope] {
		text, set := overrides[k.Name]
		synonym := ""
		if len(k.Synonyms) > 0 {
			synonym = k.Synonyms[0].Name
		}
		brokerSet := synonym != "" && b.IsSet(synonym)
		if !wanted(keys, k.Name) || k.Internal && !set && !brokerSet {
			continue
		}
		v := k.DefaultValue()
		switch {
		case set:
			var err error
			if v, err = k.Parse(text); err != nil {
				return nil, err
			}
		case synonym != "":
			v = b.values[synonym]
			if k.Type != List && v.Type == List {
				v = Value{Type: String, str: slices.Concat(v.list, []string{""})[0]}
			}
		}
		e := Entry{Name: k.Name, Value: hide(v.Text(), v.Null, false), Type: k.Type, Doc: k.Doc}
		switch {
		case synonym != "":
			e.Synonyms = b.synonymsOf(synonym, false)
		case !k.Null:
			e.Synonyms = []EntrySynonym{{k.Name, hide(k.DefaultValue().Text(), false, false), DefaultConfig}}
		}
		if set {
			e.Synonyms = slices.Insert(e.Synonyms, 0, EntrySynonym{k.Name, e.Value, GroupConfig})
		}
		e.Source = firstSource(e.Synonyms)
		out = append(out, e)
	}
	return append(out, unknownEntries(GroupScope, overrides, keys)...), nil
}

// DescribeClientMetrics tells of a client metrics subscription's keys.
func DescribeClientMetrics(overrides map[string]string, keys []string) ([]Entry, error) {
	var out []Entry
	for _, k := range keyTable().scoped[ClientMetricsScope] {
		if !wanted(keys, k.Name) {
			continue
		}
		v := k.DefaultValue()
		text, set := overrides[k.Name]
		if set {
			var err error
			if v, err = k.Parse(text); err != nil {
				return nil, err
			}
		}
		e := Entry{Name: k.Name, Value: hide(v.Text(), v.Null, false), Type: k.Type, Doc: k.Doc, Source: DefaultConfig}
		if set {
			e.Source = ClientMetricsConfig
			e.Synonyms = []EntrySynonym{{k.Name, e.Value, ClientMetricsConfig}}
		}
		out = append(out, e)
	}
	return append(out, unknownEntries(ClientMetricsScope, overrides, keys)...), nil
}

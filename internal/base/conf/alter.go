package conf

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// OpType is the operation of an IncrementalAlterConfigs entry (KIP-339).
type OpType int8

// The operations.
const (
	Set      OpType = 0
	Delete   OpType = 1
	Append   OpType = 2
	Subtract OpType = 3
)

// String returns the name Kafka's errors use.
func (t OpType) String() string {
	if t < 0 || t > Subtract {
		return fmt.Sprintf("UNKNOWN(%d)", int8(t))
	}
	return [...]string{"SET", "DELETE", "APPEND", "SUBTRACT"}[t]
}

// Op is one change of one key. Value is nil for null.
type Op struct {
	Name  string
	Type  OpType
	Value *string
}

// Change is one ConfigRecord to write; a nil value deletes the key.
type Change struct {
	Name  string
	Value *string
}

// MaxValueBytes bounds a dynamic value, as records hold it in a short string.
const MaxValueBytes = 32767

// CheckOps makes the checks a broker makes on a request before it forwards it: no key twice, no null value where one is needed.
func CheckOps(ops []Op) error {
	seen := make(map[string]bool, len(ops))
	var nulls []string
	for _, op := range ops {
		if seen[op.Name] {
			return requestf("Error due to duplicate config keys")
		}
		seen[op.Name] = true
		if op.Type != Delete && op.Value == nil {
			nulls = append(nulls, op.Name)
		}
	}
	if len(nulls) > 0 {
		return requestf("Null value not supported for : %s", strings.Join(nulls, ", "))
	}
	return nil
}

// ApplyOps is the controller's side of IncrementalAlterConfigs: it turns operations on the stored values of a resource into
// changes and the values that result. Broker resources get a change even where the value stays, so that brokers reload.
// The result still has to pass the scope's Validate function.
func ApplyOps(scope Scope, current map[string]string, ops []Op) (changes []Change, next map[string]string, err error) {
	next = maps.Clone(current)
	if next == nil {
		next = map[string]string{}
	}
	for _, op := range ops {
		old, had := current[op.Name]
		var value *string
		switch op.Type {
		case Set:
			value = op.Value
		case Delete:
		case Append, Subtract:
			k, known := Lookup(scope, op.Name)
			if !known || k.Type != List {
				return nil, nil, failf("Can't %s to key %s because its type is not LIST.", op.Type, op.Name)
			}
			if op.Value == nil {
				return nil, nil, requestf("Null value not supported for : %s", op.Name)
			}
			if !had && !k.Null && !k.NoDefault {
				old = k.Default
			}
			joined := strings.Join(editList(javaSplit(old), javaSplit(*op.Value), op.Type), ",")
			value = &joined
		default:
			return nil, nil, requestf("Unknown operations type %d", int8(op.Type))
		}
		unchanged := had == (value != nil) && (value == nil || *value == current[op.Name])
		if unchanged && scope != BrokerScope {
			continue
		}
		changes = append(changes, Change{op.Name, value})
		if value == nil {
			delete(next, op.Name)
			continue
		}
		if len(*value) > MaxValueBytes {
			return nil, nil, failf("The configuration value cannot be added because it exceeds the maximum value size of %d bytes.", MaxValueBytes)
		}
		next[op.Name] = *value
	}
	return changes, next, nil
}

// ReplaceAll is the legacy AlterConfigs: the given values become all values of the resource, others are deleted.
func ReplaceAll(scope Scope, current, next map[string]string) ([]Change, error) {
	var changes []Change
	for _, name := range slices.Sorted(maps.Keys(next)) {
		value := next[name]
		if len(value) > MaxValueBytes {
			return nil, failf("The configuration value cannot be added because it exceeds the maximum value size of %d bytes.", MaxValueBytes)
		}
		if old, had := current[name]; !had || old != value || scope == BrokerScope {
			changes = append(changes, Change{name, &value})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(current)) {
		if _, kept := next[name]; !kept {
			changes = append(changes, Change{Name: name})
		}
	}
	return changes, nil
}

// javaSplit splits at commas and drops empty elements.
func javaSplit(text string) []string {
	return slices.DeleteFunc(strings.Split(text, ","), func(s string) bool { return s == "" })
}

func editList(list, operand []string, op OpType) []string {
	for _, s := range operand {
		i := slices.Index(list, s)
		switch {
		case op == Append && i < 0:
			list = append(list, s)
		case op == Subtract && i >= 0:
			list = slices.Delete(list, i, i+1)
		}
	}
	return list
}

// ValidateTopic checks the complete stored values of a topic, as they will be, over a broker's defaults: known names, good
// values, and the rules between keys. existing are the values before the change.
func ValidateTopic(b *Broker, existing, next map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(next)) {
		if _, ok := Lookup(TopicScope, name); !ok {
			return failf("Unknown topic config name: %s", name)
		}
	}
	t, err := ResolveTopic(b, next)
	if err != nil {
		return err
	}
	if t.MinCompactionLag > t.MaxCompactionLag {
		return failf("conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)",
			t.num("min.compaction.lag.ms"), t.num("max.compaction.lag.ms"))
	}
	if t.RemoteStorage {
		return t.checkRemote(b)
	}
	if strings.EqualFold(existing["remote.storage.enable"], "true") && !t.RemoteLogDeleteOnDisable {
		return failf("It is invalid to disable remote storage without deleting remote data. " +
			"If you want to keep the remote data and turn to read only, please set `remote.storage.enable=true,remote.log.copy.disable=true`. " +
			"If you want to disable remote storage and delete all remote data, please set `remote.storage.enable=false,remote.log.delete.on.disable=true`.")
	}
	return nil
}

func (t *Topic) num(key string) int64 { return t.values[key].num }

// checkRemote holds the rules of a tiered topic.
func (t *Topic) checkRemote(b *Broker) error {
	if !b.Bool("remote.log.storage.system.enable") {
		return failf("Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.")
	}
	if t.Compact {
		return failf("Remote log storage only supports topics with cleanup.policy=delete or cleanup.policy being an empty list.")
	}
	for _, unit := range []string{"bytes", "ms"} {
		retention, local := t.num("retention."+unit), t.num("local.retention."+unit)
		name := "local.retention." + unit
		if limited := unit == "bytes" && retention > -1 || unit == "ms" && retention != -1; limited && local != -2 {
			if local == -1 {
				return invalid(name, "-1", fmt.Sprintf("Value must not be -1 as retention.%s value is set as %d.", unit, retention))
			}
			if local > retention {
				return invalid(name, fmt.Sprint(local), fmt.Sprintf("Value must not be more than retention.%s property value: %d", unit, retention))
			}
		}
	}
	for _, unit := range []string{"bytes", "ms"} {
		local, lag := t.num("local.retention."+unit), t.num("remote.copy.lag."+unit)
		if local == -2 {
			local = t.num("retention." + unit)
		}
		if lag > 0 && local >= 0 && lag > local {
			return invalid("remote.copy.lag."+unit, fmt.Sprint(lag), fmt.Sprintf("Value must not exceed local.retention.%s (effective value: %d)", unit, local))
		}
	}
	for _, unit := range []string{"bytes", "ms"} {
		if local := t.num("local.retention." + unit); t.RemoteLogCopyDisable && local != -2 && local != t.num("retention."+unit) {
			return failf("When `remote.log.copy.disable` is set to true, the `local.retention.%s` and `retention.%s` must be set to "+
				"the identical value because there will be no more logs copied to the remote storage.", unit, unit)
		}
	}
	return nil
}

// ValidateDynamicBroker checks the complete dynamic values of one layer (of this broker, or of all), as they will be, against
// the layers around it. A failure is INVALID_REQUEST, as in Kafka (KAFKA-13609).
func (b *Broker) ValidateDynamicBroker(next map[string]string, perBroker bool) error {
	asRequest := func(err error) error {
		if e, ok := err.(*Error); ok {
			return &Error{Message: e.Message, Request: true}
		}
		return err
	}
	resolved, err := expandProviders(next)
	if err != nil {
		return asRequest(err)
	}
	var fixed, secure, single []string
	for _, name := range slices.Sorted(maps.Keys(resolved)) {
		k, ok := Lookup(BrokerScope, name)
		base, baseOK := lookupBrokerName(name)
		switch {
		case ok && k.Mode == ReadOnly:
			fixed = append(fixed, name)
		case ok && isSecurityKey(name):
			secure = append(secure, name)
		case baseOK && base.Mode == PerBroker, strings.HasPrefix(name, "listener.name.") && !isClusterListenerKey(name):
			single = append(single, name)
		}
	}
	if len(fixed) > 0 {
		return requestf("Cannot update these configs dynamically: [%s]", strings.Join(fixed, ", "))
	}
	if len(secure) > 0 {
		return requestf("These security configs can be dynamically updated only per-listener using the listener prefix: [%s]", strings.Join(secure, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(resolved)) {
		if k, ok := lookupBrokerName(name); ok {
			if err := k.checkDynamic(resolved[name]); err != nil {
				return asRequest(err)
			}
		}
	}
	if len(single) > 0 && !perBroker {
		return requestf("Cannot update these configs at default cluster level, broker id must be specified: [%s]", strings.Join(single, ", "))
	}
	if err := refuseValues(resolved); err != nil {
		return asRequest(err)
	}
	defaults, own := resolved, b.dynBroker
	if perBroker {
		defaults, own = b.dynDefault, resolved
	}
	n, _, err := newBroker(b.static, defaults, own)
	if err != nil {
		return asRequest(err)
	}
	return asRequest(b.checkReconfiguration(n))
}

func isSecurityKey(name string) bool {
	k, ok := Lookup(BrokerScope, name)
	return ok && k.Mode == PerBroker && strings.HasPrefix(name, "ssl.") && !slices.Contains([]string{"ssl.client.auth"}, name)
}

func isClusterListenerKey(name string) bool {
	for _, k := range []string{"max.connections", "max.connection.creation.rate", "num.network.threads"} {
		if s := brokerSynonyms(name, true); len(s) == 2 && s[1] == k {
			return true
		}
	}
	return false
}

// checkReconfiguration holds the limits on how far one dynamic change may go.
func (b *Broker) checkReconfiguration(n *Broker) error {
	fail := func(format string, args ...any) error {
		return failf("Invalid value org.apache.kafka.common.config.ConfigException: %s for configuration Invalid dynamic configuration",
			fmt.Sprintf(format, args...))
	}
	for _, key := range []string{"num.io.threads", "num.replica.fetchers", "num.recovery.threads.per.data.dir", "background.threads", "num.network.threads"} {
		old, now := b.Int(key), n.Int(key)
		switch {
		case now == old:
		case now < old/2:
			return fail("Dynamic thread count update validation failed for %s=%d, value should be at least half the current value %d", key, now, old)
		case int64(now) > int64(old)*2:
			return fail("Dynamic thread count update validation failed for %s=%d, value should not be greater than double the current value %d", key, now, old)
		}
	}
	switch old, now := b.Int("log.cleaner.threads"), n.Int("log.cleaner.threads"); {
	case now == old:
	case now < 1:
		return fail("Log cleaner threads should be at least 1")
	case now < old/2:
		return fail("Log cleaner threads cannot be reduced to less than half the current value %d", old)
	case int64(now) > int64(old)*2:
		return fail("Log cleaner threads cannot be increased to more than double the current value %d", old)
	}
	now := endpointNames(n.net.listeners)
	for _, name := range endpointNames(b.net.advertisedBroker) {
		if !slices.Contains(now, name) {
			return fail("Advertised listeners '%s' must be a subset of listeners '%s'", listenerSet(endpointNames(b.net.advertisedBroker)), listenerSet(now))
		}
	}
	for _, name := range now {
		if old, ok := b.net.protocols[name]; ok && slices.Contains(endpointNames(b.net.listeners), name) && old != n.net.protocols[name] {
			return fail("Security protocol cannot be updated for existing listener ListenerName(%s)", name)
		}
	}
	return nil
}

func listenerSet(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = "ListenerName(" + n + ")"
	}
	return "Set(" + strings.Join(out, ", ") + ")"
}

// ApplyBrokerOps is the broker's side of IncrementalAlterConfigs on a broker resource: it gives the values that would result,
// for ValidateDynamicBroker. It differs from ApplyOps in Kafka, too.
func ApplyBrokerOps(current map[string]string, ops []Op) (map[string]string, error) {
	next := maps.Clone(current)
	if next == nil {
		next = map[string]string{}
	}
	for _, op := range ops {
		switch op.Type {
		case Set:
			next[op.Name] = *op.Value
		case Delete:
			delete(next, op.Name)
		case Append, Subtract:
			k, ok := Lookup(BrokerScope, op.Name)
			if !ok {
				return nil, failf("Unknown config name: %s", op.Name)
			}
			if k.Type != List {
				return nil, failf("Config value %s is not allowed for config key: %s", strings.ToLower(op.Type.String()), op.Name)
			}
			old, had := next[op.Name]
			if !had && !k.Null && !k.NoDefault {
				old = k.Default
			}
			next[op.Name] = strings.Join(editList(javaSplit(old), javaSplit(*op.Value), op.Type), ",")
		default:
			return nil, requestf("Unknown operations type %d", int8(op.Type))
		}
	}
	return next, nil
}

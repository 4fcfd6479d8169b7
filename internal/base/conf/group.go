package conf

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// ValidateGroup checks the complete stored values of a group against a broker's limits.
func ValidateGroup(b *Broker, next map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(next)) {
		if _, ok := Lookup(GroupScope, name); !ok {
			return failf("Unknown group config name: %s", name)
		}
	}
	if repeatsItself(next["streams.rack.aware.assignment.tags"]) {
		return failf("streams.rack.aware.assignment.tags must not contain duplicate tag keys.")
	}
	parsed := make(map[string]Value, len(next))
	for _, k := range keyTable().scoped[GroupScope] {
		text, ok := next[k.Name]
		if !ok {
			continue
		}
		v, err := k.Parse(text)
		if err != nil {
			return err
		}
		parsed[k.Name] = v
	}
	if err := checkGroupBounds(b, parsed); err != nil {
		return err
	}
	if v, ok := parsed["streams.assignor.name"]; ok && !slices.Contains(b.List("group.streams.assignors"), v.str) {
		return failf("streams.assignor.name '%s' is not a registered task assignor. Registered assignors are: [%s].",
			v.str, strings.Join(b.List("group.streams.assignors"), ", "))
	}
	for _, kind := range []string{"consumer.", "share.", "streams."} {
		session, s := parsed[kind+"session.timeout.ms"]
		heartbeat, h := parsed[kind+"heartbeat.interval.ms"]
		if !s {
			session.num = b.Long("group." + kind + "session.timeout.ms")
		}
		if !h {
			heartbeat.num = b.Long("group." + kind + "heartbeat.interval.ms")
		}
		if (s || h) && session.num <= heartbeat.num {
			return failf("%ssession.timeout.ms must be greater than %sheartbeat.interval.ms", kind, kind)
		}
	}
	if strings.HasPrefix(parsed["errors.deadletterqueue.topic.name"].str, "__") {
		return failf("errors.deadletterqueue.topic.name: DLQ topic name must not start with '__'")
	}
	return nil
}

// checkGroupBounds compares group values with the broker's minima and maxima.
func checkGroupBounds(b *Broker, parsed map[string]Value) error {
	for _, key := range []string{"consumer.heartbeat.interval.ms", "consumer.session.timeout.ms", "consumer.assignment.interval.ms",
		"share.heartbeat.interval.ms", "share.session.timeout.ms", "share.record.lock.duration.ms", "share.delivery.count.limit",
		"share.partition.max.record.locks", "share.assignment.interval.ms", "streams.heartbeat.interval.ms", "streams.session.timeout.ms",
		"streams.num.standby.replicas", "streams.assignment.interval.ms", "streams.task.offset.interval.ms", "streams.num.warmup.replicas"} {
		v, ok := parsed[key]
		if !ok {
			continue
		}
		kind, rest, _ := strings.Cut(key, ".")
		lowKey, highKey := "group."+kind+".min."+rest, "group."+kind+".max."+strings.TrimPrefix(rest, "num.")
		_, hasLow := Lookup(BrokerScope, lowKey)
		_, hasHigh := Lookup(BrokerScope, highKey)
		switch {
		case hasLow && hasHigh:
			if low, high := b.Long(lowKey), b.Long(highKey); v.num < low || v.num > high {
				return failf("%s must be in the range %d to %d inclusive.", key, low, high)
			}
		case hasHigh && v.num > b.Long(highKey):
			return failf("%s must be less than or equal to %d", key, b.Long(highKey))
		case hasLow && v.num < b.Long(lowKey):
			return failf("%s must be greater than or equal to %d", key, b.Long(lowKey))
		}
	}
	return nil
}

// matchParams are the client attributes a metrics subscription can match (KIP-714).
var matchParams = []string{"client_instance_id", "client_id", "client_software_name", "client_software_version", "client_source_address", "client_source_port"}

// ValidateClientMetrics checks the complete stored values of a client metrics subscription.
func ValidateClientMetrics(subscription string, next map[string]string) error {
	if subscription == "" {
		return requestf("Subscription name can't be empty")
	}
	for _, name := range slices.Sorted(maps.Keys(next)) {
		k, ok := Lookup(ClientMetricsScope, name)
		if !ok {
			return requestf("Unknown client metrics configuration: %s", name)
		}
		v, err := k.Parse(next[name])
		if err != nil {
			return err
		}
		switch {
		case name == "interval.ms" && (v.num < 100 || v.num > 3600000):
			return requestf("Invalid value %d for interval.ms, interval must be between 100 and 3600000 (1 hour)", v.num)
		case name == "match":
			for _, p := range v.list {
				param, pattern, _ := strings.Cut(p, "=")
				_, err := regexp.Compile(javaTrim(pattern))
				if strings.Count(p, "=") != 1 || javaTrim(pattern) == "" || err != nil || !slices.Contains(matchParams, javaTrim(param)) {
					return failf("Illegal client matching pattern: %s", p)
				}
			}
		}
	}
	return nil
}

// ConsumerAssignor returns the name of an assignor of consumer groups, which may be given by its Java class as well; empty if there is
// no such assignor.
func ConsumerAssignor(given string) string {
	switch given {
	case "uniform", "org.apache.kafka.coordinator.group.assignor.UniformAssignor":
		return "uniform"
	case "range", "org.apache.kafka.coordinator.group.assignor.RangeAssignor":
		return "range"
	}
	return ""
}

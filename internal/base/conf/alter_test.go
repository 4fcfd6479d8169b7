package conf

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// alterProperties is the server.properties of the node that answered testdata/alter.txt.
const alterProperties = `listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092
log.roll.hours=10
log.retention.minutes=77
log.retention.hours=5
log.cleanup.policy=compact,delete,compact
foo.bar=baz
listener.name.plaintext.ssl.keystore.password=secret
ssl.keystore.password=hush
compression.type = gzip ` + `
group.consumer.heartbeat.interval.ms=6000
log.flush.scheduler.interval.ms=1000
log.initial.task.delay.ms=100
unstable.api.versions.enable=true
broker.rack=r1
`

// dynamicWorld keeps stored values per resource as a controller and a broker would.
type dynamicWorld struct {
	b      *Broker
	stored map[string]map[string]string // kind and name to values
}

func newDynamicWorld(t *testing.T) *dynamicWorld {
	// The topic was created with one config of its own.
	w := &dynamicWorld{b: load(t, alterProperties), stored: map[string]map[string]string{"topic ctest": {"flush.messages": "12345"}}}
	return w
}

func (w *dynamicWorld) alter(kind, name string, ops []Op) error {
	scope := map[string]Scope{"topic": TopicScope, "broker": BrokerScope, "group": GroupScope, "client-metrics": ClientMetricsScope}[kind]
	current := w.stored[kind+" "+name]
	if err := CheckOps(ops); err != nil {
		return err
	}
	if kind == "broker" {
		next, err := ApplyBrokerOps(current, ops)
		if err == nil {
			err = w.b.ValidateDynamicBroker(next, name != "")
		}
		if err != nil {
			return err
		}
	}
	_, next, err := ApplyOps(scope, current, ops)
	if err != nil {
		return err
	}
	switch kind {
	case "topic":
		err = ValidateTopic(w.b, current, next)
	case "group":
		err = ValidateGroup(w.b, next)
	case "client-metrics":
		err = ValidateClientMetrics(name, next)
	}
	if err != nil {
		return err
	}
	w.stored[kind+" "+name] = next
	w.b, _, err = w.b.WithDynamic(w.stored["broker "], w.stored["broker 1"])
	return err
}

func (w *dynamicWorld) describe(kind, name string, keys []string) ([]Entry, error) {
	stored := w.stored[kind+" "+name]
	switch kind {
	case "broker":
		if name == "" {
			return w.b.DescribeDefaults(keys), nil
		}
		return w.b.Describe(keys), nil
	case "group":
		return DescribeGroup(w.b, stored, keys)
	case "client-metrics":
		return DescribeClientMetrics(stored, keys)
	}
	topic, err := ResolveTopic(w.b, stored)
	if err != nil {
		return nil, err
	}
	return topic.Describe(keys), nil
}

const null = "∅"

func text(s *string) string {
	if s == nil {
		return null
	}
	return *s
}

func parseOps(t *testing.T, input string) []Op {
	var ops []Op
	for line := range strings.Lines(input) {
		verb, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		name, value, _ := strings.Cut(rest, "=")
		op := Op{Name: name, Value: &value}
		if value == null {
			op.Value = nil
		}
		for op.Type = Set; op.Type.String() != verb; op.Type++ {
			if op.Type > Subtract {
				t.Fatalf("unknown operation %s", verb)
			}
		}
		ops = append(ops, op)
	}
	return ops
}

// TestAlterAndDescribe replays what Kafka answered.
func TestAlterAndDescribe(t *testing.T) {
	w := newDynamicWorld(t)
	datadriven.RunTest(t, "testdata/alter.txt", func(t *testing.T, d *datadriven.TestData) string {
		kind := d.CmdArgs[0].Key
		var name string
		d.ScanArgs(t, "name", &name)
		if name == "-" {
			name = ""
		}
		switch d.Cmd {
		case "alter":
			err := w.alter(kind, name, parseOps(t, d.Input))
			if err == nil {
				return "0 " + null
			}
			e, ok := err.(*Error)
			if !ok {
				t.Fatal(err)
			}
			if e.Request {
				return "42 " + e.Message
			}
			return "40 " + e.Message
		case "describe":
			entries, err := w.describe(kind, name, strings.Fields(d.Input))
			if err != nil {
				return err.Error()
			}
			var out strings.Builder
			for _, e := range entries {
				fmt.Fprintf(&out, "%s=%s source=%d type=%s readonly=%v sensitive=%v", e.Name, text(e.Value), e.Source, e.Type, e.ReadOnly, e.Sensitive)
				for _, s := range e.Synonyms {
					fmt.Fprintf(&out, " <%d %s=%s>", s.Source, s.Name, text(s.Value))
				}
				out.WriteByte('\n')
			}
			return sortLines(out.String())
		}
		t.Fatalf("unknown command %s", d.Cmd)
		return ""
	})
}

func TestSnapshotsAreImmutable(t *testing.T) {
	before := load(t, "log.retention.hours=5")
	after, warnings, err := before.WithDynamic(map[string]string{"log.retention.ms": "1000", "node.id": "9", "num.io.threads": "zero"},
		map[string]string{"log.retention.ms": "2000"})
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 2 {
		t.Errorf("warnings %v, want one for node.id and one for num.io.threads", warnings)
	}
	if before.RetentionMs() != 5*3600000 || after.RetentionMs() != 2000 || after.NodeID() != 1 {
		t.Errorf("before %d, after %d, node %d", before.RetentionMs(), after.RetentionMs(), after.NodeID())
	}
	back, _, err := after.WithDynamic(nil, nil)
	if err != nil || back.RetentionMs() != 5*3600000 {
		t.Errorf("back %d, %v", back.RetentionMs(), err)
	}
	if _, _, err := before.WithDynamic(map[string]string{"log.cleaner.min.compaction.lag.ms": "9", "log.cleaner.max.compaction.lag.ms": "5"}, nil); err == nil {
		t.Error("contradicting dynamic values were taken")
	}
}

// TestStoredIntervalsMoveIntoBounds: the bounds of assignment intervals are static, and a stored value may be from before they changed.
// It does not stop the node; a new one outside of them is refused.
func TestStoredIntervalsMoveIntoBounds(t *testing.T) {
	for _, kind := range []string{"consumer", "share", "streams"} {
		group := "group." + kind + "."
		b := load(t, group+"min.assignment.interval.ms=30000\n"+group+"max.assignment.interval.ms=60000\n"+group+"assignment.interval.ms=40000")
		name := group + "assignment.interval.ms"
		for stored, want := range map[string]int32{"15000": 30000, " 45000 ": 45000, "90000": 60000} {
			n, warnings, err := b.WithDynamic(map[string]string{name: stored}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := n.Int(name); got != want || len(warnings) != 0 && want == 45000 || len(warnings) != 1 && want != 45000 {
				t.Errorf("%s=%s: %d, want %d, warnings %v", name, stored, got, want, warnings)
			}
			if err := b.ValidateDynamicBroker(map[string]string{name: stored}, false); (err == nil) != (want == 45000) {
				t.Errorf("%s=%s is set anew: %v", name, stored, err)
			}
		}
	}
}

// TestGroupValues holds what a group's own config may say against Kafka's words for it.
func TestGroupValues(t *testing.T) {
	b := load(t, "group.consumer.min.assignment.interval.ms=1000\ngroup.share.min.assignment.interval.ms=1000\ngroup.streams.min.assignment.interval.ms=1000\n"+
		"group.consumer.max.heartbeat.interval.ms=44000\ngroup.consumer.heartbeat.interval.ms=15000")
	valid := map[string]string{"consumer.session.timeout.ms": "45000", "consumer.heartbeat.interval.ms": "5000", "share.session.timeout.ms": "45000",
		"share.heartbeat.interval.ms": "5000", "share.delivery.count.limit": "5", "share.record.lock.duration.ms": "30000", "share.partition.max.record.locks": "2000",
		"share.auto.offset.reset": "latest", "share.isolation.level": "read_uncommitted", "share.renew.acknowledge.enable": "true", "streams.session.timeout.ms": "50000",
		"streams.heartbeat.interval.ms": "6000", "streams.num.standby.replicas": "1", "streams.initial.rebalance.delay.ms": "3000",
		"streams.task.offset.interval.ms": "45000", "streams.num.warmup.replicas": "3"}
	if err := ValidateGroup(b, nil); err != nil {
		t.Error(err) // nothing that is not set is looked at
	}
	reset := func(value string) string {
		return "Invalid value " + value + " for configuration share.auto.offset.reset: Invalid value `" + value + "` for configuration share.auto.offset.reset. " +
			"The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
	}
	between := func(key, low, high string) string {
		return key + " must be in the range " + low + " to " + high + " inclusive."
	}
	for _, c := range []struct{ key, value, want string }{
		{"consumer.session.timeout.ms", "45000", ""},
		{"consumer.session.timeout.ms", "60000", ""},
		{"consumer.session.timeout.ms", "44999", between("consumer.session.timeout.ms", "45000", "60000")},
		{"consumer.session.timeout.ms", "60001", between("consumer.session.timeout.ms", "45000", "60000")},
		{"consumer.session.timeout.ms", "0", "Invalid value 0 for configuration consumer.session.timeout.ms: Value must be at least 1"},
		{"consumer.session.timeout.ms", "1.2", "Invalid value 1.2 for configuration consumer.session.timeout.ms: Not a number of type INT"},
		{"consumer.heartbeat.interval.ms", "5000", ""},
		{"consumer.heartbeat.interval.ms", "4999", between("consumer.heartbeat.interval.ms", "5000", "44000")},
		{"consumer.heartbeat.interval.ms", "44001", between("consumer.heartbeat.interval.ms", "5000", "44000")},
		{"consumer.heartbeat.interval.ms", "x", "Invalid value x for configuration consumer.heartbeat.interval.ms: Not a number of type INT"},
		{"consumer.assignment.interval.ms", "1000", ""},
		{"consumer.assignment.interval.ms", "999", between("consumer.assignment.interval.ms", "1000", "15000")},
		{"consumer.assignment.interval.ms", "15001", between("consumer.assignment.interval.ms", "1000", "15000")},
		{"consumer.assignment.interval.ms", "-1", "Invalid value -1 for configuration consumer.assignment.interval.ms: Value must be at least 0"},
		{"consumer.assignor.offload.enable", "1", "Invalid value 1 for configuration consumer.assignor.offload.enable: Expected value to be either true or false"},
		{"share.session.timeout.ms", "1", between("share.session.timeout.ms", "45000", "60000")},
		{"share.session.timeout.ms", "70000", between("share.session.timeout.ms", "45000", "60000")},
		{"share.heartbeat.interval.ms", "1", between("share.heartbeat.interval.ms", "5000", "15000")},
		{"share.heartbeat.interval.ms", "70000", between("share.heartbeat.interval.ms", "5000", "15000")},
		{"share.record.lock.duration.ms", "10000", between("share.record.lock.duration.ms", "15000", "60000")},
		{"share.record.lock.duration.ms", "70000", between("share.record.lock.duration.ms", "15000", "60000")},
		{"share.delivery.count.limit", "1", "Invalid value 1 for configuration share.delivery.count.limit: Value must be at least 2"},
		{"share.delivery.count.limit", "11", between("share.delivery.count.limit", "2", "10")},
		{"share.partition.max.record.locks", "50", "Invalid value 50 for configuration share.partition.max.record.locks: Value must be at least 100"},
		{"share.partition.max.record.locks", "11000", between("share.partition.max.record.locks", "100", "4000")},
		{"share.assignment.interval.ms", "500", between("share.assignment.interval.ms", "1000", "15000")},
		{"share.assignment.interval.ms", "20000", between("share.assignment.interval.ms", "1000", "15000")},
		{"share.auto.offset.reset", "earliest", ""},
		{"share.auto.offset.reset", "by_duration:PT10S", ""},
		{"share.auto.offset.reset", "by_duration", reset("by_duration")},
		{"share.auto.offset.reset", "by_duration:invalid", reset("by_duration:invalid")},
		{"share.isolation.level", "read_committed", ""},
		{"share.isolation.level", "read_commit", "Invalid value read_commit for configuration share.isolation.level: String must be one of: read_committed, read_uncommitted"},
		{"share.renew.acknowledge.enable", "1", "Invalid value 1 for configuration share.renew.acknowledge.enable: Expected value to be either true or false"},
		{"streams.session.timeout.ms", "1", between("streams.session.timeout.ms", "45000", "60000")},
		{"streams.session.timeout.ms", "70000", between("streams.session.timeout.ms", "45000", "60000")},
		{"streams.heartbeat.interval.ms", "1000", between("streams.heartbeat.interval.ms", "5000", "15000")},
		{"streams.heartbeat.interval.ms", "70000", between("streams.heartbeat.interval.ms", "5000", "15000")},
		{"streams.num.standby.replicas", "3", "streams.num.standby.replicas must be less than or equal to 2"},
		{"streams.assignment.interval.ms", "500", between("streams.assignment.interval.ms", "1000", "15000")},
		{"streams.task.offset.interval.ms", "14999", "streams.task.offset.interval.ms must be greater than or equal to 15000"},
		{"streams.num.warmup.replicas", "21", "streams.num.warmup.replicas must be less than or equal to 20"},
		{"streams.initial.rebalance.delay.ms", "-1", "Invalid value -1 for configuration streams.initial.rebalance.delay.ms: Value must be at least 0"},
		{"streams.assignor.name", "sticky", ""},
		{"streams.rack.aware.assignment.tags", " zone , cluster ", ""},
		{"streams.rack.aware.assignment.tags", " zone , zone ", "streams.rack.aware.assignment.tags must not contain duplicate tag keys."},
		{"streams.rack.aware.assignment.tags", "a,,b", "Configuration 'streams.rack.aware.assignment.tags' values must not be empty."},
		{"errors.deadletterqueue.topic.name", "", ""},
		{"errors.deadletterqueue.topic.name", "my-dlq", ""},
		{"errors.deadletterqueue.copy.record.enable", "x", "Invalid value x for configuration errors.deadletterqueue.copy.record.enable: Expected value to be either true or false"},
		{"invalid.config.name", "10", "Unknown group config name: invalid.config.name"},
	} {
		next := maps.Clone(valid)
		next[c.key] = c.value
		got := ""
		if err := ValidateGroup(b, next); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s=%s: %q, want %q", c.key, c.value, got, c.want)
		}
	}
	// A session has to be longer than the time between heartbeats, each of the group's own or of the broker.
	long := load(t, "group.consumer.min.heartbeat.interval.ms=5000\ngroup.consumer.max.heartbeat.interval.ms=50000\ngroup.consumer.heartbeat.interval.ms=44000\n"+
		"group.consumer.min.session.timeout.ms=1000")
	for _, c := range []struct {
		session, heartbeat string
		ok                 bool
	}{{"", "44999", true}, {"", "45000", false}, {"44001", "", true}, {"44000", "", false}, {"6000", "5999", true}, {"6000", "6000", false}} {
		next := map[string]string{}
		if c.session != "" {
			next["consumer.session.timeout.ms"] = c.session
		}
		if c.heartbeat != "" {
			next["consumer.heartbeat.interval.ms"] = c.heartbeat
		}
		if err := ValidateGroup(long, next); (err == nil) != c.ok || err != nil && err.Error() != "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms" {
			t.Errorf("session %q, heartbeat %q: %v", c.session, c.heartbeat, err)
		}
	}
}

func TestReplaceAll(t *testing.T) {
	changes, err := ReplaceAll(TopicScope, map[string]string{"a": "1", "b": "2", "c": "3"}, map[string]string{"b": "2", "c": "4", "d": "5"})
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, c := range changes {
		got += c.Name + "=" + text(c.Value) + " "
	}
	if want := "c=4 d=5 a=" + null + " "; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := ReplaceAll(TopicScope, nil, map[string]string{"x": strings.Repeat("x", MaxValueBytes+1)}); err == nil {
		t.Error("a value of 32768 bytes was taken")
	}
}

func TestResolveTopic(t *testing.T) {
	b := load(t, "log.roll.hours=2\nlog.roll.jitter.hours=1\nlog.retention.minutes=3\nmessage.max.bytes=7\nmin.insync.replicas=2\n"+
		"log.flush.scheduler.interval.ms=55\nlog.message.timestamp.type=LogAppendTime\nlog.segment.delete.delay.ms=1")
	topic, err := ResolveTopic(b, map[string]string{"cleanup.policy": "compact,delete", "retention.bytes": "99", "segment.bytes": "2000000", "internal.segment.bytes": "500"})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(topic.SegmentAge, topic.SegmentJitter, topic.Retention, topic.MaxMessageBytes, topic.MinInsyncReplicas, topic.FlushInterval,
		topic.LogAppendTime, topic.FileDeleteDelay, topic.Compact, topic.Delete, topic.RetentionBytes, topic.SegmentBytes, topic.FlushMessages,
		topic.MaxCompactionLag == Forever, topic.CompressionType, topic.CleanupPolicy())
	if want := "2h0m0s 1h0m0s 3m0s 7 2 55ms true 1ms true true 99 500 9223372036854775807 trueproducercompact,delete"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, e := range topic.Effective() {
		switch {
		case e.Name == "segment.ms" && (text(e.Value) != "7200000" || e.Source != StaticBrokerConfig),
			e.Name == "retention.ms" && (text(e.Value) != "180000" || e.Source != StaticBrokerConfig),
			e.Name == "retention.bytes" && (text(e.Value) != "99" || e.Source != TopicConfig),
			e.Name == "flush.messages" && e.Source != DefaultConfig:
			t.Errorf("%s=%s from %d", e.Name, text(e.Value), e.Source)
		}
	}
}

func sortLines(s string) string {
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// TestRefusedKeysStayRefused: what stops a start is not let in through a dynamic change.
func TestRefusedKeysStayRefused(t *testing.T) {
	b := load(t, "")
	err := b.ValidateDynamicBroker(map[string]string{"listener.name.plaintext.principal.builder.class": "a.B"}, true)
	if e, ok := err.(*Error); !ok || !e.Request || !strings.Contains(e.Message, "not supported yet") {
		t.Errorf("a principal builder: %v", err)
	}
}

// The bound on moves between log directories counts where it was set on a running node, and only there, as with Kafka.
func TestMoveRateIsDynamic(t *testing.T) {
	const key = "replica.alter.log.dirs.io.max.bytes.per.second"
	b, warnings, err := Load(map[string]string{"process.roles": "broker,controller", "node.id": "1", "controller.listener.names": "CONTROLLER",
		"controller.quorum.voters": "1@localhost:9093", "listeners": "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT", key: "5"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(warnings, func(w Warning) bool {
		return w.Key == key && strings.Contains(w.Message, "no effect in server.properties")
	}) {
		t.Errorf("warnings %v", warnings)
	}
	for _, x := range []struct {
		all, own string
		want     int64
	}{{"", "", math.MaxInt64}, {"7", "", 7}, {"7", "9", 9}, {"", "0", 0}} {
		layer := func(value string) map[string]string {
			if value == "" {
				return nil
			}
			return map[string]string{key: value}
		}
		n, _, err := b.WithDynamic(layer(x.all), layer(x.own))
		if err != nil {
			t.Fatal(err)
		}
		if got := n.MoveBytesPerSecond(); got != x.want {
			t.Errorf("of all brokers %q, of this one %q: %d, want %d", x.all, x.own, got, x.want)
		}
	}
}

package conf

import (
	"fmt"
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

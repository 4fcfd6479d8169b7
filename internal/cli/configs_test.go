package cli

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestSplitOutsideBrackets(t *testing.T) {
	for text, want := range map[string][]string{
		"": {""}, "a=1,b=2": {"a=1", "b=2"}, "a=[1,2],b=3": {"a=[1,2]", "b=3"}, "a=[1,2],b=[3,4],": {"a=[1,2]", "b=[3,4]", ""}, "a]b,c": {"a]b", "c"}, "a,b]c": {"a,b]c"},
	} {
		if diff := cmp.Diff(want, splitOutsideBrackets(text, ',')); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// configLines are command lines; ME stands for a name that each side has of its own.
var configLines = []string{
	"--describe", "--alter --describe", "BOOT --describe", "BOOT --describe --entity-type topics --entity-type users",
	"BOOT --describe --entity-type users --entity-type users", "BOOT --describe --topic t --entity-type topics", "BOOT --describe --entity-type brokers --entity-name x",
	"BOOT --describe --entity-type topics --entity-default", "BOOT --describe --entity-type broker-loggers", "BOOT --alter --entity-type users --add-config a=b",
	"BOOT --alter --entity-type topics --add-config a=b", "BOOT --alter --topic t", "BOOT --alter --topic t --add-config a", "BOOT --alter --topic t --add-config a=b=c",
	"BOOT --alter --topic t --add-config a=b --add-config-file x", "BOOT --describe --topic t --add-config a=b", "BOOT --alter --topic t --add-config a!=b",
	"BOOT --alter --entity-type users --entity-name a --entity-type clients --add-config producer_byte_rate=1", "--describe --topic t", "BOOT --nope",
	"BOOT --alter --broker 1 --add-config log.cleaner.threads=2,log.retention.ms=[3600000]", "BOOT --describe --broker 1", "BOOT --alter --broker-defaults --add-config log.retention.ms=7200000",
	"BOOT --describe --broker-defaults", "BOOT --describe --entity-type brokers", "BOOT --alter --broker 1 --delete-config log.cleaner.threads,log.retention.ms",
	"BOOT --alter --entity-type brokers --entity-default --delete-config log.retention.ms", "BOOT --describe --entity-type brokers --entity-name 77",
	"BOOT --alter --broker 1 --add-config log.cleaner.threads=x", "BOOT --alter --broker 1 --add-config nope.nope=1",
	"BOOT --alter --user ME --add-config producer_byte_rate=1000,consumer_byte_rate=2.5", "BOOT --describe --user ME", "BOOT --alter --user ME --delete-config producer_byte_rate",
	"BOOT --alter --user ME --delete-config producer_byte_rate", "BOOT --alter --user ME --add-config producer_byte_rate=x", "BOOT --alter --user ME --add-config nope=1",
	"BOOT --alter --user ME --add-config SCRAM-SHA-256=[password=secret]", "BOOT --alter --user ME --add-config SCRAM-SHA-512=[iterations=8192,password=secret]",
	"BOOT --describe --user ME", "BOOT --alter --user ME --add-config SCRAM-SHA-256=[iterations=1,password=x]", "BOOT --alter --user ME --add-config SCRAM-SHA-256=[x]",
	"BOOT --alter --user ME --add-config SCRAM-SHA-256=[iterations=20000,password=x]", "BOOT --alter --user ME --delete-config SCRAM-SHA-256", "BOOT --describe --user ME",
	"BOOT --alter --user ME --add-config SCRAM-SHA-256=[password=x],producer_byte_rate=1", "BOOT --alter --user-defaults --add-config SCRAM-SHA-256=[password=x]",
	"BOOT --alter --user ME --delete-config SCRAM-SHA-256", "BOOT --alter --client ME --add-config SCRAM-SHA-256=[password=x]", "BOOT --alter --client ME --delete-config nope",
	"BOOT --alter --entity-type users --entity-name ME --entity-type clients --entity-default --add-config request_percentage=50",
	"BOOT --describe --entity-type users --entity-name ME --entity-type clients --entity-default", "BOOT --describe --entity-type clients --entity-name ME",
	"BOOT --alter --ip 10.0.0.1 --add-config connection_creation_rate=5", "BOOT --describe --ip 10.0.0.1", "BOOT --alter --ip 10.0.0.1 --add-config nope=5",
}

// brokerConfigLines need a broker: topics and groups are its.
var brokerConfigLines = []string{
	"BOOT --alter --topic t --add-config retention.ms=1000,cleanup.policy=[compact,delete]", "BOOT --describe --topic t", "BOOT --describe --topic t --all", "BOOT --describe --topic none",
	"BOOT --describe --entity-type topics", "BOOT --alter --topic t --delete-config retention.ms,cleanup.policy", "BOOT --alter --topic none --add-config retention.ms=1",
	"BOOT --alter --topic t --add-config nope=1", "BOOT --alter --topic t --add-config retention.ms=x", "BOOT --describe --topic t",
	"BOOT --alter --group g --add-config consumer.session.timeout.ms=50000", "BOOT --describe --group g", "BOOT --describe --group none", "BOOT --describe --entity-type groups",
	"BOOT --alter --client-metrics m --add-config interval.ms=5000,metrics=[a,b]", "BOOT --describe --client-metrics m", "BOOT --describe --entity-type client-metrics",
	"BOOT --describe --client-metrics none",
}

// configsBesideKafka runs them with Kafka's tool and ours.
func configsBesideKafka(t *testing.T, broker, controller string) {
	t.Helper()
	k := startKafkaTools(t, "tools-4.3.1")
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	collection := regexp.MustCompile(`requirement failed: |(?:Set|ArrayBuffer)\((.*)\)`) // 4.3 shows some lists as Scala does
	edit := func(text string) string {
		return strings.NewReplacer("theirs", "NAME", "ours", "NAME").Replace(collection.ReplaceAllString(text, "$1"))
	}
	for round, boot := range []string{"--bootstrap-server " + broker, "--bootstrap-controller " + controller} {
		lines := configLines
		if round == 0 {
			lines = append(lines, brokerConfigLines...)
		}
		for _, line := range lines {
			expand := func(me string) []string {
				return append([]string{"configs"}, strings.Fields(strings.NewReplacer("BOOT", boot, "ME", fmt.Sprint(me, round)).Replace(line))...)
			}
			if code := k.sameAs(edit, expand("theirs"), expand("ours")); code == 0 && strings.Contains(line, "--alter") {
				published(t, cl)
			}
		}
	}
}

// published waits until a broker knows what its controller has acknowledged by now. The epoch of its features is the offset of the
// newest record that it shows; what a record is to change it has changed when it shows a later one.
func published(t *testing.T, cl *kgo.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	quorum := kmsg.NewPtrDescribeQuorumRequest()
	topic := kmsg.NewDescribeQuorumRequestTopic()
	topic.Topic = "__cluster_metadata"
	topic.Partitions = append(topic.Partitions, kmsg.NewDescribeQuorumRequestTopicPartition())
	quorum.Topics = append(quorum.Topics, topic)
	q, err := quorum.RequestWith(ctx, cl)
	if err != nil || q.ErrorCode != 0 || q.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("describe the quorum: %v, %+v", err, q)
	}
	shows := func() int64 {
		v, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, cl)
		if err != nil {
			t.Fatalf("ask the broker: %v", err)
		}
		return v.FinalizedFeaturesEpoch
	}
	last := q.Topics[0].Partitions[0].HighWatermark - 1
	at := shows()
	for ; at < last; at = shows() {
		<-time.After(10 * time.Millisecond)
	}
	for ; shows() == at; <-time.After(10 * time.Millisecond) { // a record comes twice a second
	}
}

func TestConfigsOnANode(t *testing.T) {
	broker, controller, _ := startQuorum(t)
	for _, s := range []step{
		{args: "topics --bootstrap-server BROKER --create --topic t", out: "Created topic t.\n"},
		{args: "configs --bootstrap-server BROKER --alter --topic t --add-config retention.ms=1000,cleanup.policy=[compact,delete]", out: "Completed updating config for topic t.\n", soon: true},
		{args: "configs --bootstrap-server BROKER --describe --topic t", out: "Dynamic configs for topic t are:\n  cleanup.policy=compact,delete sensitive=false " +
			"synonyms={DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact,delete, DEFAULT_CONFIG:log.cleanup.policy=delete}\n  retention.ms=1000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=1000}\n", soon: true},
		{args: "configs --bootstrap-server BROKER --describe --topic none", out: "The topic 'none' doesn't exist and doesn't have dynamic config.\n"},
		{args: "configs --bootstrap-controller CONTROLLER --alter --broker-defaults --add-config log.retention.ms=7200000", out: "Completed updating default config for brokers in the cluster.\n"},
		{args: "configs --bootstrap-server BROKER --describe --broker-defaults", out: "Default configs for brokers in the cluster are:\n  log.retention.ms=7200000 sensitive=false " +
			"synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=7200000}\n  min.insync.replicas=1 sensitive=false synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:min.insync.replicas=1}\n", soon: true},
	} {
		args := strings.Fields(strings.NewReplacer("BROKER", broker, "CONTROLLER", controller).Replace(s.args))
		var out, errs string
		for range 200 {
			if out, errs, _ = run(t, "", args...); !s.soon || out == s.out {
				break
			}
		}
		if out != s.out || errs != "" {
			t.Errorf("%s\n  stdout %q\n  stderr %q\nwant %q", s.args, out, errs, s.out)
		}
	}
}

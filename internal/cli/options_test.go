package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
)

// run executes a command line as a shell would, and returns its streams and exit code.
func run(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Main(context.Background(), append([]string{"moldau"}, args...), Streams{In: strings.NewReader(stdin), Out: &out, Err: &errs})
	return out.String(), errs.String(), code
}

func TestOptionErrors(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"topics --foo", "foo is not a recognized option\n"},
		{"topics --boot localhost:1 --list", "boot is not a recognized option\n"}, // no abbreviations
		{"topics --topic", "Option topic requires an argument\n"},
		{"topics --list", "--bootstrap-server must be specified\n"},
		{"topics --list --describe", "Command must include exactly one action: --list, --describe, --create, --alter or --delete\n"},
		{"topics --bootstrap-server h:1 --create", "Missing required argument \"[topic]\"\n"},
		{"topics --bootstrap-server h:1 --list --partitions 3", "Option \"[partitions]\" can't be used with option \"[list]\"\n"},
		{"topics --bootstrap-server=h:1 --create --topic t --replica-assignment 1 --partitions 3", "Option \"[replica-assignment]\" can't be used with option \"[partitions]\"\n"},
		{"topics --bootstrap-server h:1 --alter --topic t --config a=b", "Option combination \"[[bootstrap-server], [config]]\" can't be used with option \"[alter]\"" +
			" (To alter topic configurations, the kafka-configs tool can be used.)\n"},
		{"topics --bootstrap-server h:1 --describe --topic-id x --under-min-isr-partitions --topics-with-overrides",
			"Option \"[under-min-isr-partitions]\" can't be used with option \"[topics-with-overrides]\"\n"},
		{"consumer-groups --bootstrap-server h:1 --list --verbose", "Option(s) [verbose] are unavailable given other options on the command line\n"},
		{"consumer-groups --bootstrap-server h:1 --describe", "Option [describe] takes one of these options: [group], [all-groups]\n"},
		{"consumer-groups --bootstrap-server h:1 --delete --group g --topic t", "The consumer does not support topic-specific offset deletion from a consumer group.\n"},
		{"consumer-groups --bootstrap-server h:1 --reset-offsets --group g --to-latest --to-earliest --dry-run", "Option \"[to-earliest]\" can't be used with option \"[to-latest]\"\n"},
		{"consumer-groups --bootstrap-server h:1 --list --describe --all-groups", "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets, --validate-regex\n"},
		{"console-producer --bootstrap-server h:1", "Missing required argument \"[topic]\"\n"},
		{"console-producer --bootstrap-server h --topic t", "Please provide valid host:port like host1:9091,host2:9092\n\n"},
		{"console-consumer --bootstrap-server h:1", "Exactly one of the following arguments is required: [topic], [include]\n"},
		{"console-consumer --bootstrap-server h:1 --topic t --offset 3", "The partition is required when offset is specified.\n"},
		{"console-consumer --bootstrap-server h:1 --topic t --partition 0 --offset -3", "The provided offset value '-3' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long.\n"},
		{"console-consumer --bootstrap-server h:1 --topic t --partition 0 --group g", "Options group and partition cannot be specified together.\n"},
		{"console-consumer --bootstrap-server h:1 --topic t --group g --command-property group.id=h", "The group ids provided in different places (directly using '--group', " +
			"via '--consumer-property', or via '--consumer.config') do not match. Detected group ids: 'g', 'h'\n"},
		{"get-offsets --foo", "Error occurred: foo is not a recognized option\n"},
		{"get-offsets --bootstrap-server h:1 --time x", "Error occurred: Malformed time argument x."},
		{"get-offsets --bootstrap-server h:1 --topic a --topic-partitions b", "Error occurred: --topic-partitions cannot be used with --topic or --partitions\n"},
		{"dump-log", "This tool prints the content of log, index and snapshot files.\n"},
		{"dump-log --print-data-log", "Missing required argument \"[files]\"\n"},
		{"storage", "usage: kafka-storage [-h]\n                     {info,format,version-mapping,feature-dependencies,random-uuid}\n" +
			"                     ...\nkafka-storage: error: too few arguments\n"},
		{"storage info", "usage: kafka-storage info [-h] --config CONFIG\nkafka-storage: error: argument --config/-c is required\n"},
		{"nonsense", "moldau: unknown command \"nonsense\"\n"},
	} {
		out, errs, code := run(t, "", strings.Fields(c.args)...)
		if code != 1 || out != "" || !strings.HasPrefix(errs, c.want) {
			t.Errorf("%s: code %d, stdout %q, stderr %.200q; want %q", c.args, code, out, errs, c.want)
		}
	}
}

func TestHelp(t *testing.T) {
	for name := range tools() {
		switch name {
		case "start":
			continue
		case "storage", "features", "cluster", "metadata-quorum", "metadata-shell":
			out, errs, code := run(t, "", name, "--help")
			if code != 0 || errs != "" || !strings.HasPrefix(out, "usage: kafka-"+name+" [-h]") || !strings.Contains(out, "\noptional arguments:\n  -h, --help  ") {
				t.Errorf("%s --help: code %d, %q, %.300q", name, code, errs, out)
			}
			continue
		}
		_, errs, code := run(t, "", name, "--help")
		if code != 1 || !strings.Contains(errs, "\nOption  ") || !strings.Contains(errs, "--bootstrap-server ") && name != "dump-log" {
			t.Errorf("%s --help: code %d, %.300q", name, code, errs)
		}
		for line := range strings.Lines(errs) {
			if len(line) > helpWidth+1 && strings.HasPrefix(line, "-") {
				t.Errorf("%s --help: line of %d characters: %s", name, len(line), line)
			}
		}
		if out, _, code := run(t, "", name, "--version"); code != 0 || out != Version+"\n" {
			t.Errorf("%s --version: code %d, %q", name, code, out)
		}
	}
}

func TestScriptNames(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"moldau topics --list", "topics [--list]"},
		{"/opt/kafka/bin/kafka-topics.sh --list", "topics [--list]"},
		{"kafka-console-consumer", "console-consumer []"},
		{"kafka-server-start.sh a.properties", "start [a.properties]"},
		{"moldau kafka-dump-log.sh --files x", "dump-log [--files x]"},
		{"moldau", " []"},
	} {
		name, rest := commandName(strings.Fields(c.args))
		if got := name + " [" + strings.Join(rest, " ") + "]"; got != c.want {
			t.Errorf("%s: %s, want %s", c.args, got, c.want)
		}
	}
}

// TestJavaOrder holds orders that a JVM printed.
func TestJavaOrder(t *testing.T) {
	if h := javaStringHash("min.insync.replicas"); h != 2374092463 && int32(h) == 0 {
		t.Errorf("hash %d", h)
	}
	keys := []string{"cleanup.policy", "compression.type", "flush.messages", "leader.replication.throttled.replicas", "min.insync.replicas", "preallocate", "retention.ms"}
	// The topic tool's order among 37 keys, as Kafka printed it.
	all := append([]string(nil), keys...)
	for len(all) < 37 {
		all = append(all, "filler"+strings.Repeat("x", len(all)))
	}
	var got []string
	for _, k := range javaHashOrder(all, javaStringHash, 16) {
		if !strings.HasPrefix(k, "filler") {
			got = append(got, k)
		}
	}
	want := "compression.type,leader.replication.throttled.replicas,min.insync.replicas,cleanup.policy,retention.ms,flush.messages,preallocate"
	if s := strings.Join(got, ","); s != want {
		t.Errorf("%s, want %s", s, want)
	}
	if h := javaPartitionHash(id.TopicPartition{Topic: "t", Partition: 3}); h != 31*(31+3)+116 {
		t.Errorf("partition hash %d", h)
	}
}

package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/node"
)

// startNode runs a node in a directory, which storage format prepared, and returns the address clients use.
func startNode(t *testing.T) (bootstrap, dir string) {
	t.Helper()
	dir = t.TempDir()
	file := filepath.Join(dir, "server.properties")
	text := "process.roles=broker,controller\nnode.id=1\nlisteners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0\ncontroller.listener.names=CONTROLLER\n" +
		"controller.quorum.voters=1@127.0.0.1:19093\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=2\ngroup.initial.rebalance.delay.ms=0\nlog.dirs=" + dir + "/data\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code := run(t, "", "storage", "info", "-c", file)
	if code != 1 || !strings.Contains(out, "Found problem:\n  "+dir+"/data does not exist\n") {
		t.Fatalf("storage info: %d %q %q", code, out, errs)
	}
	out, errs, code = run(t, "", "storage", "format", "--config", file, "-t", "MkU3OEVBNTcwNTJENDM2Qk")
	if code != 0 || !strings.HasSuffix(out, "Formatting metadata directory "+dir+"/data with metadata.version 4.4-IV2.\n") {
		t.Fatalf("storage format: %d %q %q", code, out, errs)
	}
	if _, errs, code = run(t, "", "storage", "format", "-c", file, "-t", "MkU3OEVBNTcwNTJENDM2Qk"); code != 1 ||
		errs != "Log directory "+dir+"/data is already formatted. Use --ignore-formatted to ignore this directory and format the others.\n" {
		t.Fatalf("storage format again: %d %q", code, errs)
	}
	out, _, code = run(t, "", "storage", "info", "-c", file)
	if code != 0 || !strings.HasPrefix(out, "Found log directory:\n  "+dir+"/data\n\nFound metadata: {cluster.id=MkU3OEVBNTcwNTJENDM2Qk, directory.id=") ||
		!strings.HasSuffix(out, ", node.id=1, version=1}\n\n") {
		t.Fatalf("storage info: %d %q", code, out)
	}
	return runNode(t, file).Addr(), dir
}

// runNode starts a node of a file of properties; it ends with the test.
func runNode(t *testing.T, file string) *node.Node {
	t.Helper()
	properties, err := conf.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := conf.Load(properties, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(context.Background(), node.Options{Config: b, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := n.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return n
}

// step is a command line and what it must print; "#" stands for anything.
type step struct {
	args, stdin, out, err string
	code                  int
	soon                  bool // what the command asks for is published to the broker a moment after the command before
}

func TestToolsOnANode(t *testing.T) {
	bootstrap, dir := startNode(t)
	check := func(s step) {
		t.Helper()
		args := strings.Fields(strings.ReplaceAll(s.args, "BOOT", "--bootstrap-server "+bootstrap))
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "␠", " ")
		}
		var out, errs string
		var code int
		for deadline := time.Now().Add(10 * time.Second); ; { // each try is a round trip to the node
			out, errs, code = run(t, s.stdin, args...)
			if !s.soon || matches(out, s.out) && code == s.code || time.Now().After(deadline) {
				break
			}
		}
		if code != s.code || !matches(out, s.out) || !matches(errs, s.err) {
			t.Errorf("%s\n  code %d\n  stdout %q\n  stderr %q\nwant\n  code %d\n  stdout %q\n  stderr %q", s.args, code, out, errs, s.code, s.out, s.err)
		}
	}
	var lines, values strings.Builder
	for i := range 100 {
		fmt.Fprintf(&lines, "h:%d\tk%d\tv%d\n", i, i%7, i)
		fmt.Fprintf(&values, "v%d\n", i)
	}
	all := func(n int) string { return strings.Repeat("#\n", n) }
	for _, s := range []step{
		{args: "topics BOOT --list", out: "#"},
		{args: "topics BOOT --create --topic one.a --partitions 1 --config retention.ms=90000000",
			out: "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could collide. To avoid issues it is best to use either, but not both.\nCreated topic one.a.\n"},
		{args: "topics BOOT --create --topic one.a", out: "WARNING#Error while executing topic command : Topic 'one.a' already exists.\n", code: 1, soon: true},
		{args: "topics BOOT --create --topic one.a --if-not-exists", out: "WARNING#.\n"},
		{args: "topics BOOT --create --topic x --config nope=1", out: "Error while executing topic command : Unknown topic config name: nope\n", code: 1},
		{args: "topics BOOT --create --topic x --config nope", out: "Error while executing topic command : requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\".\n", code: 1},
		{args: "topics BOOT --create --topic x --partitions 0", out: "Error while executing topic command : The partitions must be greater than 0\n", code: 1},
		{args: "topics BOOT --create --topic two --partitions 3", out: "Created topic two.\n"},
		{args: "topics BOOT --describe --topic two", out: "Topic: two\tTopicId: #\tPartitionCount: 3\tReplicationFactor: 1\tConfigs: min.insync.replicas=1\n" +
			"\tTopic: two\tPartition: 0\tLeader: 1\tReplicas: 1\tIsr: 1\tElr: \tLastKnownElr: \n\tTopic: two\tPartition: 1\t#\n\tTopic: two\tPartition: 2\t#\n", soon: true},
		{args: "topics BOOT --describe --topic one.*", out: "Topic: one.a\t#\tConfigs: min.insync.replicas=1,retention.ms=90000000\n#", soon: true},
		{args: "topics BOOT --describe --topic none", out: "Error while executing topic command : Topic 'none' does not exist as expected\n", code: 1},
		{args: "topics BOOT --describe --topic none --if-exists"},
		{args: "topics BOOT --alter --topic two --partitions 4"},
		{args: "topics BOOT --alter --topic two --partitions 2", out: "Error while executing topic command : The topic two currently has 4 partition(s); 2 would not be an increase.\n", code: 1, soon: true},
		{args: "console-producer BOOT --topic one.a --compression-codec zstd --reader-property parse.key=true --reader-property parse.headers=true", stdin: lines.String()},
		{args: "console-producer BOOT --topic one.a --sync --request-required-acks 1", stdin: "last\n"},
		{args: "console-consumer BOOT --timeout-ms 20000 --topic one.a --partition 0 --offset earliest --max-messages 100", out: values.String(), err: "Processed a total of 100 messages\n"},
		{args: "console-consumer BOOT --timeout-ms 20000 --topic one.a --partition 0 --offset 100 --max-messages 1 --formatter-property print.offset=true", out: "Offset:100\tlast\n", err: "Processed a total of 1 messages\n"},
		{args: "console-consumer BOOT --timeout-ms 20000 --topic one.a --group g --from-beginning --max-messages 60", out: all(60), err: "Processed a total of 60 messages\n"},
		{args: "consumer-groups BOOT --describe --group g", err: "\nConsumer group 'g' has no active members.\n",
			out: "\nGROUP           TOPIC           PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG             CONSUMER-ID     HOST            CLIENT-ID\n" +
				"g               one.a           0          60              101             41              -               -               -\n"},
		{args: "console-consumer BOOT --timeout-ms 20000 --topic one.a --group g --max-messages 41", out: "v60\n#last\n", err: "Processed a total of 41 messages\n"},
		{args: "consumer-groups BOOT --list --state", out: "GROUP                     STATE               \ng                         Empty               \n"},
		{args: "consumer-groups BOOT --describe --group absent", out: "\nError: Executing consumer group command failed due to org.apache.kafka.common.errors.GroupIdNotFoundException: #\n"},
		{args: "consumer-groups BOOT --reset-offsets --group g --topic one.a --shift-by -11 --execute",
			out: "\nGROUP           TOPIC           PARTITION  NEW-OFFSET\ng               one.a           0          90\n"},
		{args: "consumer-groups BOOT --reset-offsets --group g --topic one.a --to-offset 5000 --dry-run --export", out: "one.a,0,101\n\n", err: "WARN New offset (5000) is higher than latest offset#"},
		{args: "consumer-groups BOOT --reset-offsets --group g --topic absent --to-latest --dry-run", out: "\nError: Executing consumer group command failed due to #\n"},
		{args: "console-consumer BOOT --timeout-ms 20000 --topic one.a --group g --max-messages 1", out: "v90\n", err: "Processed a total of 1 messages\n"},
		{args: "get-offsets BOOT --topic one.a", out: "one.a:0:101\n"},
		{args: "get-offsets BOOT --topic-partitions two:1-3,one.*:0 --time earliest", out: "one.a:0:0\ntwo:1:0\ntwo:2:0\n", soon: true},
		{args: "get-offsets BOOT --topic absent", err: "Error occurred: Could not match any topic-partitions with the specified filters\n", code: 1},
		{args: "consumer-groups BOOT --delete --group g --group absent", out: "\nError: Deletion of some consumer groups failed:\n* Group 'absent' could not be deleted due to: " +
			"org.apache.kafka.common.errors.GroupIdNotFoundException: The group id does not exist.\n\nThese consumer groups were deleted successfully: 'g'\n"},
		{args: "topics BOOT --delete --topic two"},
		{args: "topics BOOT --delete --topic two", out: "Error while executing topic command : Topic 'two' does not exist as expected\n", code: 1, soon: true},
		{args: "dump-log --print-data-log --files " + dir + "/data/one.a-0/00000000000000000000.log",
			out: "Dumping #\nLog starting offset: 0\nbaseOffset: 0 lastOffset: #compresscodec: zstd crc: # isvalid: true\n" +
				"| offset: 0 CreateTime: # keySize: 2 valueSize: 2 sequence: 0 headerKeys: [h] key: k0 payload: v0\n#payload: last\n"},
		{args: "dump-log --cluster-metadata-decoder --files " + dir + "/data/__cluster_metadata-0/00000000000000000000.log",
			out: "Dumping #{\"type\":\"TOPIC_RECORD\",\"version\":0,\"data\":{\"name\":\"one.a\",\"topicId\":\"#"},
	} {
		check(s)
	}
}

// matches compares with a text in which "#" stands for anything.
func matches(got, want string) bool {
	parts := strings.Split(want, "#")
	if len(parts) == 1 {
		return got == want
	}
	if !strings.HasPrefix(got, parts[0]) {
		return false
	}
	got = got[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(got, p)
		if i < 0 {
			return false
		}
		got = got[i+len(p):]
	}
	return strings.HasSuffix(got, parts[len(parts)-1])
}

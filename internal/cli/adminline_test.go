package cli

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/netx"
)

// freePort finds a port on which nothing listens, nor on the one 101 above.
func freePort(t *testing.T) int {
	t.Helper()
	port, err := netx.FreePair(rand.New(rand.NewPCG(rand.Uint64(), 1)), 101)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// startQuorum runs a node whose quorum is dynamic and whose metadata.version is 4.3, and returns where its broker and its
// controller listen.
func startQuorum(t *testing.T) (broker, controller, dir string) {
	t.Helper()
	dir = t.TempDir()
	controller = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	file := writeProperties(t, filepath.Join(dir, "server.properties"), "process.roles=broker,controller", "node.id=1", "controller.listener.names=CONTROLLER",
		"listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://"+controller, "controller.quorum.bootstrap.servers="+controller, "log.dirs="+dir+"/data",
		"offsets.topic.replication.factor=1", "broker.rack=r")
	if out, errs, code := run(t, "", "storage", "format", "-c", file, "-t", "MkU3OEVBNTcwNTJENDM2Qg", "--standalone", "-r", "4.3"); code != 0 {
		t.Fatal(out, errs)
	}
	return runNode(t, file).Addr(), controller, dir
}

// onBoth runs command lines with both kinds of bootstrap: BOOT before a command, B after it.
func onBoth(broker, controller string, f func(expand func(string) []string, controllers bool)) {
	for _, controllers := range []bool{false, true} {
		long, short := "--bootstrap-server "+broker, "-b "+broker
		if controllers {
			long, short = "--bootstrap-controller "+controller, "-C "+controller
		}
		r := strings.NewReplacer("BOOT", long, "NODES", short)
		f(func(line string) []string { return strings.Fields(r.Replace(line)) }, controllers)
	}
}

func TestAdminToolsOnANode(t *testing.T) {
	for _, controllers := range []bool{false, true} {
		adminToolsOnANode(t, controllers)
	}
}

func adminToolsOnANode(t *testing.T, controllers bool) {
	broker, controller, _ := startQuorum(t)
	_, controllerPort, _ := net.SplitHostPort(controller)
	host, brokerPort, _ := net.SplitHostPort(broker)
	onBoth(broker, controller, func(expand func(string) []string, isController bool) {
		if isController != controllers {
			return
		}
		endpoints := fmt.Sprintf("ID         HOST      PORT       RACK STATE      ENDPOINT_TYPE  \n1          %s %-10s r unfenced   broker         \n", host, brokerPort)
		if controllers {
			endpoints = fmt.Sprintf("ID         HOST      PORT       RACK       ENDPOINT_TYPE  \n1          127.0.0.1 %-10s null       controller     \n", controllerPort)
		}
		for _, s := range []step{
			{args: "cluster cluster-id NODES", out: "Cluster ID: MkU3OEVBNTcwNTJENDM2Qg\n"},
			{args: "cluster list-endpoints NODES", out: endpoints},
			{args: "cluster api-versions NODES", out: host + ":#(id: 1 rack: #) -> (\n\t#,\n\tApiVersions(18): 0 to 5 [usable: 5],\n\t#,\n\tDescribeQuorum(55): 0 to 2 [usable: 2],\n#\n)\n"},
			{args: "cluster unregister NODES -i 77", err: "org.apache.kafka.common.errors.BrokerIdNotRegisteredException: #\n", code: 1},
			{args: "metadata-quorum BOOT describe --status", out: "ClusterId:              MkU3OEVBNTcwNTJENDM2Qg\nLeaderId:               1\nLeaderEpoch:            1\n" +
				"HighWatermark:          #\nMaxFollowerLag:         0\nMaxFollowerLagTimeMs:   0\nCurrentVoters:          [{\"id\": 1, \"directoryId\": \"#\", \"endpoints\": " +
				"[\"CONTROLLER://" + controller + "\"]}]\nCurrentObservers:       []\n"},
			{args: "metadata-quorum BOOT describe --replication --human-readable", out: "NodeId\tDirectoryId           \tLogEndOffset\tLag\tLastFetchTimestamp\tLastCaughtUpTimestamp\tStatus\t\n" +
				"1     \t#\t0  \t# ms ago#\t# ms ago#\tLeader\t\n"},
			{args: "metadata-quorum BOOT describe --status --replication", err: "Only one of --status or --replication should be specified with describe sub-command\n", code: 1},
			{args: "metadata-quorum BOOT remove-controller -i 1 -d SWVX05qgTd2KwJ8ThLrvQA --dry-run",
				out: "DRY RUN of removing KRaft controller 1 with directory id SWVX05qgTd2KwJ8ThLrvQA\n"},
			{args: "features BOOT describe", out: "Feature: eligible.leader.replicas.version          SupportedMinVersion: 0                SupportedMaxVersion: 1                " +
				"FinalizedVersionLevel: 1                Epoch: #\n#Feature: metadata.version                          SupportedMinVersion: 3.3-IV3          " +
				"SupportedMaxVersion: 4.4-IV2          FinalizedVersionLevel: 4.3-IV0          Epoch: #\n#", soon: true},
			{args: "features BOOT describe", out: "#\nFeature: kraft.version                             SupportedMinVersion: 0                SupportedMaxVersion: 1                " +
				"FinalizedVersionLevel: 1                Epoch: #"},
			{args: "features BOOT upgrade --feature metadata.version=33 --dry-run", out: "metadata.version can be upgraded to 33.\n"},
			{args: "features BOOT upgrade --metadata 4.4", out: " `metadata` flag is deprecated and may be removed in a future release.\nmetadata.version was upgraded to 33.\n"},
			{args: "features BOOT describe --node-id 1", out: "#FinalizedVersionLevel: 4.4-IV2#", soon: true},
			{args: "features BOOT upgrade --feature metadata.version=30", out: "Could not upgrade metadata.version to 30. #\n", err: "1 out of 1 operation(s) failed.\n", code: 1},
			{args: "features BOOT disable --feature group.version --feature share.version --dry-run", out: "group.version can be disabled.\nshare.version can be disabled.\n"},
			{args: "features BOOT downgrade --feature metadata.version=30 --unsafe --dry-run", out: "Can not downgrade metadata.version to 30. #\n",
				err: "1 out of 1 operation(s) failed.\n", code: 1},
		} {
			var out, errs string
			var code int
			for deadline := time.Now().Add(10 * time.Second); ; {
				out, errs, code = run(t, "", expand(s.args)...)
				if !s.soon || matches(out, s.out) || time.Now().After(deadline) {
					break
				}
			}
			if !matches(out, s.out) || code != s.code || !matches(errs, s.err) {
				t.Errorf("%v\n  code %d\n  stdout %q\n  stderr %q\nwant\n  code %d\n  stdout %q\n  stderr %q", expand(s.args), code, out, errs, s.code, s.out, s.err)
			}
		}
	})
}

// TestAdminLineWithoutServers: nobody there is a timeout, a mistake in the properties ends at once, and servers that are down are
// passed over.
func TestAdminLineWithoutServers(t *testing.T) {
	dir := t.TempDir()
	nobody := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	quick := writeProperties(t, filepath.Join(dir, "quick"), "default.api.timeout.ms=300")
	wrong := writeProperties(t, filepath.Join(dir, "wrong"), "security.protocol=NOPE")
	for _, s := range []step{
		{args: "cluster cluster-id -b " + nobody + " -c " + quick, code: 1,
			err: "org.apache.kafka.common.errors.RequestTimedOutException: Timed out waiting for a node assignment. Call: listNodes\n"},
		{args: "metadata-quorum --bootstrap-controller " + nobody + " --command-config " + quick + " describe --status", code: 1, err: "#Timed out waiting for a node assignment.#"},
		{args: "features --bootstrap-server " + nobody + " --command-config " + quick + " upgrade --feature a=1", code: 1,
			out: "Could not upgrade a to 1. Timed out waiting for a node assignment. Call: updateFeatures\n", err: "1 out of 1 operation(s) failed.\n"},
		{args: "cluster cluster-id -b " + nobody + " -c " + wrong, code: 1, err: "Invalid value NOPE for configuration security.protocol#"},
		{args: "cluster cluster-id -b nowhere", code: 1, err: "Failed to create new KafkaAdminClient: Invalid url in bootstrap.servers: nowhere\n"},
		{args: "configs --bootstrap-server nowhere --describe --topic t", code: 1, err: "Error while executing config command with args '--bootstrap-server nowhere --describe --topic t'\n#"},
	} {
		out, errs, code := run(t, "", strings.Fields(s.args)...)
		if code != s.code || !matches(out, s.out) || !matches(errs, s.err) {
			t.Errorf("%s\n  code %d\n  stdout %q\n  stderr %q", s.args, code, out, errs)
		}
	}
	broker, controller, _ := startQuorum(t)
	for _, args := range []string{"-b " + nobody + "," + broker, "-C " + nobody + "," + controller} {
		if out, errs, code := run(t, "", strings.Fields("cluster cluster-id "+args)...); code != 0 {
			t.Errorf("%s: %s%s", args, out, errs)
		}
	}
}

// moving stands for what changes from one look to the next.
var moving = regexp.MustCompile(`(HighWatermark: +|Epoch: )\d+|\d+ +\t0 +\t\d+ +\t\d+ +\t|Current timestamp is \d+| +`)

func steady(text string) string {
	text = moving.ReplaceAllStringFunc(text, func(s string) string {
		if strings.Trim(s, " ") == "" {
			return " "
		}
		return "MOVING"
	})
	return strings.NewReplacer("UNKNOWN 33", "4.4-IV2", " [--unregister]", "").Replace(text) // the tools of 4.3 do not know them
}

// adminLines are command lines that change nothing.
var adminLines = []string{
	"metadata-quorum BOOT describe --status", "metadata-quorum BOOT describe --replication", "metadata-quorum BOOT describe",
	"metadata-quorum BOOT describe --status --replication", "metadata-quorum BOOT describe --status --human-readable", "metadata-quorum BOOT add-controller",
	"metadata-quorum BOOT", "metadata-quorum BOOT nope", "metadata-quorum describe", "metadata-quorum BOOT --bootstrap-server h:1 --bootstrap-controller h:1 describe",
	"metadata-quorum BOOT remove-controller -i 1", "metadata-quorum BOOT remove-controller -i x -d y", "metadata-quorum BOOT remove-controller -i -1 -d y",
	"metadata-quorum BOOT remove-controller -i 1 -d SWVX05qgTd2KwJ8ThLrvQA --dry-run", "metadata-quorum BOOT remove-controller -i 1 -d SWVX05qgTd2KwJ8ThLrvQAAAAAAA",
	"features BOOT describe", "features BOOT describe --node-id 1", "features BOOT describe --node-id -1", "features BOOT describe --node-id x", "features BOOT upgrade",
	"features BOOT upgrade --release-version 4.3 --dry-run", "features BOOT upgrade --feature metadata.version=33 --dry-run", "features BOOT upgrade --feature nope=1 --dry-run",
	"features BOOT upgrade --feature group.version=9 --feature share.version=1 --dry-run", "features BOOT upgrade --feature metadata.version=20 --dry-run",
	"features BOOT downgrade --feature metadata.version=29 --dry-run", "features BOOT downgrade --feature metadata.version=29 --unsafe --dry-run",
	"features BOOT disable --feature group.version --feature streams.version --dry-run", "features BOOT disable --feature metadata.version --dry-run",
	"features BOOT disable", "features BOOT disable --feature a --feature a", "features BOOT upgrade --feature a=1 --feature a=2", "features BOOT upgrade --feature a",
	"features BOOT upgrade --feature a=b", "features BOOT upgrade --feature a=1 --release-version 4.0", "features BOOT upgrade --metadata 4.3 --dry-run",
	"features", "features nope", "features describe", "features --nope", "features version-mapping --release-version 4.0", "features feature-dependencies --feature group.version=9",
	"features feature-dependencies --feature group.version=1 --feature eligible.leader.replicas.version=1", "features feature-dependencies --feature x=1",
	"cluster cluster-id NODES", "cluster list-endpoints NODES", "cluster unregister NODES -i 77", "cluster list-endpoints NODES --include-fenced-brokers",
}

// adminBesideKafka runs adminLines with Kafka's tools and ours.
func adminBesideKafka(t *testing.T, broker, controller string) {
	t.Helper()
	k := startKafkaTools(t, "tools-4.3.1")
	onBoth(broker, controller, func(expand func(string) []string, _ bool) {
		for _, line := range adminLines {
			k.same(steady, expand(line)...)
		}
	})
}

func TestAdminToolsBesideKafkaOnOurNode(t *testing.T) {
	oracleHome(t)
	if os.Getenv("MOLDAU_SLOW") == "" {
		t.Skip("takes ten seconds; set MOLDAU_SLOW=1")
	}
	broker, controller, dir := startQuorum(t)
	if _, errs, code := run(t, "", "topics", "--bootstrap-server", broker, "--create", "--topic", "t", "--partitions", "3"); code != 0 {
		t.Fatal(errs)
	}
	adminBesideKafka(t, broker, controller)
	configsBesideKafka(t, broker, controller)
	apiVersionsBesideKafka(t, broker)
	shellBesideKafka(t, copyOf(t, filepath.Join(dir, "data", "__cluster_metadata-0", "00000000000000000000.log")))
}

// copyOf copies a file that a node is writing, so that two look at the same.
func copyOf(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(out, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestAdminToolsBesideKafkaOnKafka starts Apache Kafka on a directory that our format prepared, runs both tools on it, and both
// shells on its log.
func TestAdminToolsBesideKafkaOnKafka(t *testing.T) {
	oracleHome(t)
	script, err := filepath.Abs("../../../shared/oracle/kafka")
	if err == nil {
		_, err = os.Stat(script)
	}
	if err != nil {
		t.Skip("the script that runs Apache Kafka is not here")
	}
	if os.Getenv("MOLDAU_SLOW") == "" {
		t.Skip("starts a node of Apache Kafka; set MOLDAU_SLOW=1")
	}
	home := t.TempDir()
	port := freePort(t)
	properties := writeProperties(t, filepath.Join(home, "format.properties"), "process.roles=broker,controller", "node.id=1", "controller.listener.names=CONTROLLER",
		fmt.Sprintf("controller.quorum.voters=1@localhost:%d", port+101), fmt.Sprintf("listeners=PLAINTEXT://localhost:%d,CONTROLLER://localhost:%d", port, port+101),
		"log.dirs="+home+"/node1/data")
	if out, errs, code := run(t, "", "storage", "format", "-c", properties, "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-r", "4.3"); code != 0 {
		t.Fatal(out, errs)
	}
	cmd := exec.Command(script, "start", "--port", fmt.Sprint(port), "--dir", home)
	cmd.Env = append(os.Environ(), "KAFKA_HEAP_OPTS=-Xmx400m -Xms256m -XX:TieredStopAtLevel=1")
	out, err := cmd.CombinedOutput()
	t.Cleanup(func() {
		if out, err := exec.Command(script, "stop", "--dir", home).CombinedOutput(); err != nil {
			t.Errorf("stop: %v: %s", err, out)
		}
	})
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	broker, controller := fmt.Sprintf("localhost:%d", port), fmt.Sprintf("localhost:%d", port+101)
	if _, errs, code := run(t, "", "topics", "--bootstrap-server", broker, "--create", "--topic", "t", "--partitions", "3"); code != 0 {
		t.Fatal(errs)
	}
	adminBesideKafka(t, broker, controller)
	configsBesideKafka(t, broker, controller)
	apiVersionsBesideKafka(t, broker)
	shellBesideKafka(t, copyOf(t, filepath.Join(home, "node1", "data", "__cluster_metadata-0", "00000000000000000000.log")))
}

// apiVersionsBesideKafka compares what the two say of a broker; what the tools of 4.3 do not know yet is left out.
func apiVersionsBesideKafka(t *testing.T, broker string) {
	t.Helper()
	newer := regexp.MustCompile(`(?m)^\t(UNKNOWN|UnregisterController|StreamsGroupTopologyDescriptionUpdate)\(.*\n|\[usable: \d+\]`)
	startKafkaTools(t, "tools-4.3.1").same(func(text string) string { return newer.ReplaceAllString(text, "") }, "broker-api-versions", "--bootstrap-server", broker)
}

package quorum

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/base/netx"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// oracle is the script that runs Apache Kafka and its tools, beside the project.
func oracle(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../../../shared/oracle/kafka")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil || testing.Short() {
		t.Skip("Apache Kafka is not here, or -short")
	}
	if _, err := exec.LookPath("java"); err != nil {
		t.Skip("no Java here")
	}
	return path
}

// TestKafkaReadsOurLog lets DumpLogSegments decode a log and a snapshot of ours.
func TestKafkaReadsOurLog(t *testing.T) {
	tool := oracle(t)
	n := format(t, vfs.OS(), t.TempDir(), true)
	n.edit = func(o *Options) { o.SnapshotMaxNewRecordBytes = 5000 }
	q := n.start()
	for i := range 60 {
		if err := setConfig(q, fmt.Sprint("key", i%20), strings.Repeat("v", 200)); err != nil {
			t.Fatal(err)
		}
	}
	awaitSnapshot(t, n, 10)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	list, err := listSnapshots(n.fs, n.dir+"/"+logDirName)
	if err != nil || len(list) < 2 {
		t.Fatalf("%v, %v", list, err)
	}
	files := []string{filepath.Join(n.dir, logDirName, "00000000000000000000.log")}
	for _, p := range list {
		files = append(files, filepath.Join(n.dir, logDirName, snapshotName(p)))
	}
	out, err := exec.Command(tool, "dump-log", "--cluster-metadata-decoder", "--files", strings.Join(files, ",")).CombinedOutput()
	text := string(out)
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, want := range []string{"LeaderChange", "KRaftVersion", "KRaftVoters", "SnapshotHeader", "SnapshotFooter", "Bootstrap records", "FEATURE_LEVEL_RECORD", "CONFIG_RECORD", "END_TRANSACTION_RECORD"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in the dump", want)
		}
	}
	for _, bad := range []string{"isvalid: false", "rror", "xception", "Found timestamp mismatch", "not match", "skipping"} {
		if i := strings.Index(text, bad); i >= 0 {
			t.Errorf("the dump complains: ...%.300s", text[max(0, i-200):])
		}
	}
}

// TestKafkaStartsOnOurDirectory lets a node of Apache Kafka start on a directory that we formatted, and then we on what it
// left, and it again on what we left.
func TestKafkaStartsOnOurDirectory(t *testing.T) {
	tool := oracle(t)
	if os.Getenv("MOLDAU_SLOW") == "" {
		t.Skip("takes half a minute; set MOLDAU_SLOW=1")
	}
	home := t.TempDir()
	port, err := netx.FreePair(rand.New(rand.NewPCG(rand.Uint64(), 1)), 101)
	if err != nil {
		t.Fatal(err)
	}
	n := format(t, vfs.OS(), filepath.Join(home, "node1", "data"), false)
	run := func() {
		t.Helper()
		cmd := exec.Command(tool, "start", "--port", fmt.Sprint(port), "--dir", home)
		cmd.Env = append(os.Environ(), "KAFKA_HEAP_OPTS=-Xmx400m -Xms256m -XX:TieredStopAtLevel=1")
		out, err := cmd.CombinedOutput()
		if err == nil {
			out, err = exec.Command(tool, "topics", "--bootstrap-server", fmt.Sprintf("localhost:%d", port), "--create", "--if-not-exists", "--topic", "t").CombinedOutput()
		}
		if stopped, e := exec.Command(tool, "stop", "--dir", home).CombinedOutput(); e != nil {
			t.Errorf("stop: %v: %s", e, stopped)
		}
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	run()
	q := n.start()
	if q.Image().Topics.ByName("t") == nil {
		t.Fatal("the topic that Kafka created is not there")
	}
	if err := setConfig(q, "message.max.bytes", "1234567"); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	run()
	q = n.start()
	if configOf(q.Image(), "message.max.bytes") != "1234567" || q.Status().Leader.Epoch != 4 {
		t.Fatalf("%+v", q.Status())
	}
}

package ctlhandler

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/netx"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// kafkaJars finds the server of Apache Kafka 4.4.0 that stands beside the project, and the scripts with its tools.
func kafkaJars(t *testing.T) (jars, tools string) {
	t.Helper()
	tools, err := filepath.Abs("../../../../shared/oracle/kafka")
	if err == nil {
		_, err = os.Stat(tools)
	}
	if err != nil || testing.Short() {
		t.Skip("Apache Kafka is not here, or -short")
	}
	if _, err := exec.LookPath("java"); err != nil {
		t.Skip("no Java here")
	}
	home := os.Getenv("ORACLE_HOME")
	if home == "" {
		dir, err := os.UserHomeDir()
		if err != nil {
			t.Skip(err)
		}
		home = filepath.Join(dir, ".cache/moldau-oracle")
	}
	jars = filepath.Join(home, "server-4.4.0")
	if _, err := os.Stat(jars); err != nil {
		t.Skip("Apache Kafka 4.4.0 is not installed")
	}
	return jars + "/*", tools
}

// kafkaBroker is a node of Apache Kafka that is a broker alone and gets its metadata from us.
type kafkaBroker struct {
	t    *testing.T
	jars string
	dir  string
	cmd  *exec.Cmd
	log  string
}

func (k *kafkaBroker) start() {
	k.t.Helper()
	f, err := os.Create(k.log)
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	k.cmd = exec.Command("java", "-Xmx300m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", k.jars, "kafka.Kafka", filepath.Join(k.dir, "server.properties"))
	k.cmd.Stdout, k.cmd.Stderr = f, f
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kafkaBroker) stop() {
	k.t.Helper()
	if k.cmd == nil {
		return
	}
	if err := k.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		k.t.Error(err)
	}
	if err := k.cmd.Wait(); err != nil && !strings.Contains(err.Error(), "143") {
		k.t.Error(err)
	}
	k.cmd = nil
}

func (k *kafkaBroker) tail() string {
	b, err := os.ReadFile(k.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// TestKafkaBrokerObservesUs lets a broker of Apache Kafka follow a quorum that is one controller of ours: it fetches the log,
// registers, is unfenced, and, after it was away while the log was cut behind a snapshot, loads the snapshot.
func TestKafkaBrokerObservesUs(t *testing.T) {
	jars, tools := kafkaJars(t)
	if os.Getenv("MOLDAU_SLOW") == "" {
		t.Skip("takes half a minute; set MOLDAU_SLOW=1")
	}
	observedPort, err := netx.FreePair(rand.New(rand.NewPCG(rand.Uint64(), 1)), 1)
	if err != nil {
		t.Fatal(err)
	}
	observerPort := observedPort + 1
	home := t.TempDir()
	c := startController(t, vfs.OS(), filepath.Join(home, "controller"), fmt.Sprintf("localhost:%d", observedPort), func(o *quorum.Options) {
		o.SnapshotMaxNewRecordBytes, o.RetentionBytes, o.SegmentBytes = 4000, 1000, 4096
	})
	k := &kafkaBroker{t: t, jars: jars, dir: filepath.Join(home, "broker"), log: filepath.Join(home, "server.log")}
	if err := os.MkdirAll(k.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	properties := fmt.Sprintf(`process.roles=broker
node.id=2
controller.quorum.voters=1@localhost:%d
listeners=PLAINTEXT://localhost:%d
advertised.listeners=PLAINTEXT://localhost:%[2]d
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=%s/data
log.cleaner.dedupe.buffer.size=2097152
`, observedPort, observerPort, k.dir)
	if err := os.WriteFile(filepath.Join(k.dir, "server.properties"), []byte(properties), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("java", "-cp", jars, "kafka.tools.StorageTool", "format", "-t", raftCluster, "-c", filepath.Join(k.dir, "server.properties")).CombinedOutput(); err != nil {
		t.Fatalf("format: %v: %s", err, out)
	}
	t.Cleanup(k.stop)
	awaitBroker := func(epoch id.BrokerEpoch) id.BrokerEpoch {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		img, err := c.q.AwaitImage(ctx, func(i *image.Image) bool {
			b := i.Cluster.Broker(2)
			return b != nil && !b.Fenced && b.Epoch > epoch
		})
		if err != nil {
			t.Fatalf("%v; the broker says: %s", err, k.tail())
		}
		return img.Cluster.Broker(2).Epoch
	}
	k.start()
	epoch := awaitBroker(-1)
	c.awaitCaughtUp()
	if o := c.q.Status().Observers; len(o) != 1 || o[0].ID != 2 || o[0].DirectoryID.IsZero() {
		t.Errorf("observers: %+v", o)
	}
	c.createTopic("before")
	c.raiseKRaft() // the broker learns that the voters are in the log from now on
	c.createTopic("between")
	c.awaitCaughtUp()
	k.stop()
	fetched := filepath.Join(k.dir, "data/__cluster_metadata-0")
	logs, err := filepath.Glob(filepath.Join(fetched, "*.log")) // the first may be gone on both sides, if this took long
	if err != nil || len(logs) == 0 {
		t.Fatalf("the broker has no log: %v", err)
	}
	end := c.q.Status().LogEndOffset
	for i := 0; c.q.Status().LogStartOffset <= end; i++ {
		c.setConfig(fmt.Sprint(1_000_000 + i))
	}
	// Now it is told no voters, only where to ask.
	properties = strings.Replace(properties, "controller.quorum.voters=1@", "controller.quorum.bootstrap.servers=", 1)
	if err := os.WriteFile(filepath.Join(k.dir, "server.properties"), []byte(properties), 0o644); err != nil {
		t.Fatal(err)
	}
	k.start()
	awaitBroker(epoch)
	c.createTopic("after")
	c.awaitCaughtUp()
	describe := func() string {
		out, err := exec.Command(tools, "topics", "--bootstrap-server", fmt.Sprintf("localhost:%d", observerPort), "--describe").CombinedOutput()
		if err != nil {
			t.Fatalf("topics: %v: %s; the broker says: %s", err, out, k.tail())
		}
		return string(out)
	}
	whole := func(text string) bool {
		return strings.Contains(text, "Topic: before") && strings.Contains(text, "Topic: between") && strings.Contains(text, "Topic: after") && strings.Contains(text, "Leader: 2")
	}
	text := describe()
	for deadline := time.Now().Add(3 * time.Minute); !whole(text) && time.Now().Before(deadline); text = describe() { // what it has fetched it shows a moment later
	}
	if !whole(text) {
		t.Errorf("topics through the broker: %s", text)
	}
	k.stop()
	for _, bad := range []string{"ERROR", "FATAL", "Unexpected error"} {
		if text := k.tail(); strings.Contains(text, bad) {
			t.Errorf("the broker complains: %s", text)
		}
	}
	// What the broker loaded is our snapshot, and Kafka's own tool reads it and the log after it.
	list, err := filepath.Glob(filepath.Join(fetched, "*.checkpoint"))
	if err != nil || len(list) == 0 {
		t.Fatalf("the broker has no snapshot: %v", err)
	}
	if logs, err = filepath.Glob(filepath.Join(fetched, "*.log")); err != nil || len(logs) == 0 {
		t.Fatal("the broker has no log")
	}
	for _, path := range list {
		ours, err := os.ReadFile(filepath.Join(c.dir, "__cluster_metadata-0", filepath.Base(path)))
		if os.IsNotExist(err) {
			continue // cleaned up meanwhile
		}
		theirs, err2 := os.ReadFile(path)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		if !bytes.Equal(ours, theirs) {
			t.Errorf("%s has %d bytes there and %d here", filepath.Base(path), len(theirs), len(ours))
		}
	}
	out, err := exec.Command(tools, "dump-log", "--cluster-metadata-decoder", "--files", strings.Join(append(list, logs...), ",")).CombinedOutput()
	text = string(out)
	if err != nil || !strings.Contains(text, "SnapshotHeader") || !strings.Contains(text, "KRaftVoters") || !strings.Contains(text, "TOPIC_RECORD") {
		t.Fatalf("dump: %v: %.3000s", err, text)
	}
	for _, bad := range []string{"isvalid: false", "xception", "not match", "skipping"} {
		if i := strings.Index(text, bad); i >= 0 {
			t.Errorf("the dump complains: ...%.300s", text[max(0, i-200):])
		}
	}
}

func (c *soloController) createTopic(name string) {
	c.t.Helper()
	req := api.NewCreateTopicsRequest()
	req.TimeoutMs = 10_000
	tr := api.NewCreateTopicsRequestTopic()
	tr.Name, tr.NumPartitions, tr.ReplicationFactor = name, 2, 1
	tr.Assignments = []api.CreateTopicsRequestTopicAssignment{}
	req.Topics = []api.CreateTopicsRequestTopic{tr}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	m, err := c.q.Do(ctx, quorum.Request{Message: req, APIVersion: 7, ReadCommitted: true})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, r := range m.(*api.CreateTopicsResponse).Topics {
		if r.ErrorCode != 0 {
			c.t.Fatalf("%v: %v", r.ErrorCode, r.ErrorMessage)
		}
	}
}

// raiseKRaft makes the static quorum a dynamic one.
func (c *soloController) raiseKRaft() {
	c.t.Helper()
	req := api.NewUpdateFeaturesRequest()
	u := api.NewUpdateFeaturesRequestFeatureUpdate()
	u.Feature, u.MaxVersionLevel, u.UpgradeType = image.KRaftVersionFeature, 1, 1
	req.FeatureUpdates = []api.UpdateFeaturesRequestFeatureUpdate{u}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	m, err := c.q.Do(ctx, quorum.Request{Message: req, APIVersion: 2, ReadCommitted: true})
	if err != nil {
		c.t.Fatal(err)
	}
	if a := m.(*api.UpdateFeaturesResponse); a.ErrorCode != 0 || c.q.Status().KRaftVersion != 1 {
		c.t.Fatalf("%v, %+v", a, c.q.Status())
	}
}

// awaitCaughtUp waits until the observer has all that there is now.
func (c *soloController) awaitCaughtUp() {
	c.t.Helper()
	end := c.q.Status().LogEndOffset
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	for {
		if o := c.q.Status().Observers; len(o) == 1 && o[0].LogEndOffset >= end {
			return
		}
		last := c.q.Image().Provenance.Offset
		if _, err := c.q.AwaitImage(ctx, func(i *image.Image) bool { return i.Provenance.Offset > last }); err != nil { // the next sign of life
			c.t.Fatalf("%v, %+v", err, c.q.Status())
		}
	}
}

package power

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// inject lets system calls of the running node fail, by strace, until the function it returns is called.
func inject(t *testing.T, n *nodeProcess, args ...string) (stop func()) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	s := exec.Command("strace", append([]string{"-f", "-qq", "-o", filepath.Join(n.root, "trace"), "-p", fmt.Sprint(n.cmd.Process.Pid)}, args...)...)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			s.Process.Signal(os.Interrupt) // it lets go of the node
			s.Wait()
		}
	}
	t.Cleanup(stop)
	attached := func() bool { // to every thread
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", n.cmd.Process.Pid))
		for _, task := range tasks {
			if b, err := os.ReadFile(task); err == nil && strings.Contains(string(b), "TracerPid:\t0\n") {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(time.Minute); !attached(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Skip("strace cannot attach")
		}
	}
	return stop
}

// twoDirs is a node with two log directories and 300 records in each partition, each in its own batch.
func twoDirs(t *testing.T) (*nodeProcess, *kgo.Client) {
	wanted(t)
	root := t.TempDir()
	n := newNode(t, build(t), filepath.Join(root, "a")+","+filepath.Join(root, "b"))
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	createTopic(t, n.addr, nil)
	c := client(t, n.addr, kgo.ProducerLinger(0), kgo.ProducerBatchMaxBytes(1000))
	t.Cleanup(c.Close)
	var all []*kgo.Record
	for i := range 300 * partitions {
		all = append(all, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: fmt.Appendf(nil, "%d %s", i/partitions, strings.Repeat("x", 700))})
	}
	if err := c.ProduceSync(t.Context(), all...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return n, c
}

// in lists the partitions whose directories lie in one of the log directories.
func in(t *testing.T, dir string) (out []int32) {
	t.Helper()
	for p := range int32(partitions) {
		if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%s-%d", topic, p))); err == nil {
			out = append(out, p)
		}
	}
	if len(out) == 0 || len(out) == partitions {
		t.Fatalf("%s has the partitions %v", dir, out)
	}
	return out
}

// fetch asks for one partition from an offset on and returns the values of the records that come first.
func fetch(t *testing.T, c *kgo.Client, partition int32, offset int64) ([]string, error) {
	t.Helper()
	topics, err := kadm.NewClient(c).ListTopics(t.Context(), topic)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxWaitMillis, req.MaxBytes, req.SessionEpoch = -1, 0, 1<<20, -1
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.TopicID = topic, topics[topic].ID
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.CurrentLeaderEpoch, p.LastFetchedEpoch, p.PartitionMaxBytes = partition, offset, -1, -1, 10_000
	ft.Partitions = append(ft.Partitions, p)
	req.Topics = append(req.Topics, ft)
	r, err := c.Broker(1).Request(t.Context(), req)
	if err != nil {
		return nil, err
	}
	part := &r.(*kmsg.FetchResponse).Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(part.ErrorCode); err != nil {
		return nil, err
	}
	f, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Offset: offset, Topic: topic, Partition: partition}, part, kgo.DefaultDecompressor(), nil)
	var out []string
	for _, r := range f.Records {
		out = append(out, string(r.Value))
	}
	return out, f.Err
}

// right reports whether fetch returned what was written from an offset on.
func right(values []string, offset int64) bool {
	for i, v := range values {
		if !strings.HasPrefix(v, fmt.Sprint(offset+int64(i), " ")) {
			return false
		}
	}
	return len(values) > 0
}

// A read that fails takes its directory out of service. The other one serves on, and is written to.
func TestFailedRead(t *testing.T) {
	n, c := twoDirs(t)
	dirs := strings.Split(n.data, ",")
	bad, good := in(t, dirs[1]), in(t, dirs[0]) // the metadata log is in the first
	var files []string
	for _, p := range bad {
		files = append(files, "-P", filepath.Join(dirs[1], fmt.Sprintf("%s-%d", topic, p), "00000000000000000000.log"))
	}
	stop := inject(t, n, append(files, "-e", "trace=pread64", "-e", "inject=pread64:error=EIO")...)
	var err error
	for deadline := time.Now().Add(60 * time.Second); !errors.Is(err, kerr.KafkaStorageError); _, err = fetch(t, c, bad[0], 150) {
		if time.Now().After(deadline) {
			t.Fatalf("no read fails: %v\n%s", err, n.log())
		}
	}
	stop()
	for _, p := range bad {
		if v, err := fetch(t, c, p, 150); err == nil {
			t.Errorf("partition %d of the failed directory is served: %d records", p, len(v))
		}
	}
	for _, p := range good {
		if v, err := fetch(t, c, p, 150); err != nil || !right(v, 150) {
			t.Errorf("partition %d of the other directory: %q, %v", p, v, err)
		}
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Partition: p, Value: []byte("more")}).FirstErr(); err != nil {
			t.Errorf("produce to partition %d: %v", p, err)
		}
	}
	all, err := kadm.NewClient(c).DescribeAllLogDirs(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all[1].Sorted() {
		if failed := d.Dir == dirs[1]; failed != errors.Is(d.Err, kerr.KafkaStorageError) {
			t.Errorf("directory %s is described with %v", d.Dir, d.Err)
		}
	}
	if !n.alive() || !strings.Contains(n.log(), "goes offline") {
		t.Error("the log does not say that the directory is offline:\n" + n.log())
	}
}

// A read that fails while an answer is being sent ends the connection: there is no way to take back the length that was sent. Nothing
// wrong is served, the node lives, and what can be read again is read again.
func TestFailedSend(t *testing.T) {
	n, c := twoDirs(t)
	stop := inject(t, n, "-e", "trace=sendfile", "-e", "inject=sendfile:error=EIO")
	failed := 0
	for deadline := time.Now().Add(60 * time.Second); failed < 5; {
		v, err := fetch(t, c, 0, 150)
		if err != nil {
			failed++
		} else if !right(v, 150) {
			t.Fatalf("served as good: %q", v)
		}
		if time.Now().After(deadline) {
			t.Fatal("no send fails")
		}
	}
	stop()
	for p := range int32(partitions) {
		v, err := fetch(t, c, p, 150)
		for deadline := time.Now().Add(60 * time.Second); err != nil && time.Now().Before(deadline); v, err = fetch(t, c, p, 150) {
		}
		if err != nil || !right(v, 150) {
			t.Errorf("partition %d: %q, %v", p, v, err)
		}
	}
	if !n.alive() {
		t.Error("the node died\n" + n.log())
	}
}

// A read of the metadata log that fails ends the node, as it ends Apache Kafka: without the metadata it can promise nothing. What was
// acknowledged is there when the disk works again.
func TestFailedMetadata(t *testing.T) {
	wanted(t)
	n := newNode(t, build(t), filepath.Join(t.TempDir(), "data"))
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	createTopic(t, n.addr, nil)
	stop := inject(t, n, "-P", filepath.Join(n.data, "__cluster_metadata-0", "00000000000000000000.log"), "-e", "trace=pread64", "-e", "inject=pread64:error=EIO")
	for deadline := time.Now().Add(60 * time.Second); n.alive(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the node lives without its metadata log\n" + n.log())
		}
	}
	stop()
	if text := n.log(); !strings.Contains(text, "metadata quorum") || !strings.Contains(text, "input/output error") {
		t.Error("the log does not say why the node ended:\n" + text)
	}
	n.kill()
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	c := client(t, n.addr)
	defer c.Close()
	if topics, err := kadm.NewClient(c).ListTopics(t.Context(), topic); err != nil || len(topics[topic].Partitions) != partitions {
		t.Errorf("the topic after the disk works again: %v, %v", topics, err)
	}
}

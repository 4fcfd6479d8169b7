package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// waitFor returns when the topic holds at least n records.
func waitFor(ctx context.Context, nd *node, topic string, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	c, err := kgo.NewClient(kgo.SeedBrokers(nd.addr()))
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		ends, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
		sum := int64(0)
		ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
		if sum >= n {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s holds %d of %d records: %w", topic, sum, n, err)
		}
	}
}

// tool runs one of Apache Kafka's own tools and returns what it printed.
func tool(ctx context.Context, here string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 120*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(here, "clients/tool.sh"), args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", args[0], err, out[max(0, len(out)-400):])
	}
	return string(out), err
}

// stageTools: Apache Kafka's tools against the node, and its dump-log over the node's files.
func stageTools(ctx context.Context, t *table, here, home string) {
	n, err := newNode(here)
	if err != nil {
		t.add("tools", "node", time.Now(), err)
		return
	}
	defer os.RemoveAll(n.dir)
	defer n.stop(false)
	steps := []struct {
		name string
		do   func() error
	}{
		{"topics", func() error { return topicsTool(ctx, here, n) }},
		{"broker-api-versions", func() error {
			out, err := tool(ctx, here, "broker-api-versions", "--bootstrap-server", n.addr())
			if err == nil && !strings.Contains(out, "Produce(0): 0 to 13") {
				err = fmt.Errorf("no Produce range in %.300q", out)
			}
			return err
		}},
		{"client-compatibility", func() error {
			_, err := tool(ctx, here, "client-compatibility", "--bootstrap-server", n.addr(), "--num-cluster-nodes", "1", "--topic", "compat",
				"--offsets-for-times-supported", "true", "--cluster-id-supported", "true", "--expect-record-too-large-exception", "false",
				"--create-topics-supported", "true", "--describe-acls-supported", "True", "--describe-configs-supported", "true",
				"--idempotent-producer-supported", "true")
			return err
		}},
		{"verifiable", func() error { return verifiable(ctx, here, n) }},
		{"consumer-groups", func() error {
			out, err := tool(ctx, here, "consumer-groups", "--bootstrap-server", n.addr(), "--describe", "--group", "verify")
			if err == nil && !strings.Contains(out, "verify") {
				err = fmt.Errorf("the group is missing in %.300q", out)
			}
			return err
		}},
		{"dump-log", func() error { return dumpLog(ctx, here, n) }},
	}
	for _, s := range steps {
		began := time.Now()
		t.add("tools", s.name, began, s.do())
	}
}

func topicsTool(ctx context.Context, here string, n *node) error {
	if _, err := tool(ctx, here, "topics", "--bootstrap-server", n.addr(), "--create", "--topic", "compat", "--partitions", "1"); err != nil {
		return err
	}
	out, err := tool(ctx, here, "topics", "--bootstrap-server", n.addr(), "--describe", "--topic", "compat")
	if err == nil && !strings.Contains(out, "Leader: 1") {
		err = fmt.Errorf("no leader in %q", out)
	}
	return err
}

// verifiable runs verifiable-producer and verifiable-consumer and compares their counts.
func verifiable(ctx context.Context, here string, n *node) error {
	out, err := tool(ctx, here, "verifiable-producer", "--bootstrap-server", n.addr(), "--topic", "verify", "--max-messages", "10000", "--acks", "-1")
	if err != nil {
		return err
	}
	if sent := events(out, "producer_send_success"); sent != 10000 {
		return fmt.Errorf("%d of 10000 sends acknowledged", sent)
	}
	out, err = tool(ctx, here, "verifiable-consumer", "--bootstrap-server", n.addr(), "--topic", "verify", "--group-id", "verify",
		"--max-messages", "10000", "--session-timeout", "10000")
	if err != nil {
		return err
	}
	got := 0
	scan := bufio.NewScanner(strings.NewReader(out))
	scan.Buffer(nil, 16<<20)
	for scan.Scan() {
		var e struct {
			Name  string
			Count int
		}
		if json.Unmarshal(scan.Bytes(), &e) == nil && e.Name == "records_consumed" {
			got += e.Count
		}
	}
	if got != 10000 {
		return fmt.Errorf("%d of 10000 records consumed", got)
	}
	return nil
}

func events(out, name string) int { return strings.Count(out, `"name":"`+name+`"`) }

// dumpLog lets Apache Kafka read every segment and index of the node, and its metadata log.
func dumpLog(ctx context.Context, here string, n *node) error {
	files, _ := filepath.Glob(filepath.Join(n.dir, "data", "*", "*.log"))
	if len(files) < 2 {
		return fmt.Errorf("only %d segments under %s", len(files), n.dir)
	}
	for _, args := range [][]string{
		{"dump-log", "--deep-iteration", "--files", strings.Join(files, ",")},
		{"dump-log", "--cluster-metadata-decoder", "--files", filepath.Join(n.dir, "data/__cluster_metadata-0/00000000000000000000.log")},
	} {
		out, err := tool(ctx, here, args...)
		if err != nil {
			return err
		}
		for _, bad := range []string{"isvalid: false", "Exception", "Could not", "unknown record", "Found timestamp mismatch"} {
			if i := strings.Index(out, bad); i >= 0 {
				return fmt.Errorf("%s: %.300q", args[1], out[max(0, i-100):])
			}
		}
		if !strings.Contains(out, "baseOffset: 0") {
			return fmt.Errorf("nothing dumped: %.300q", out)
		}
	}
	return nil
}

// stageCompaction: LogCompactionTester of Apache Kafka over every codec against a node that cleans all the time, and its dump-log
// over what the cleaner left.
func stageCompaction(ctx context.Context, t *table, here string) {
	n, err := newNode(here, "log.segment.bytes=1048576", "log.cleaner.backoff.ms=200", "log.cleaner.min.cleanable.ratio=0.05",
		"log.cleaner.threads=2", "log.cleaner.dedupe.buffer.size=4194304", "log.cleaner.delete.retention.ms=2000")
	if err != nil {
		t.add("compaction", "node", time.Now(), err)
		return
	}
	defer os.RemoveAll(n.dir)
	defer n.stop(false)
	// Two codecs: each takes its half minute. COMPACTION_CODECS=none,gzip,snappy,lz4,zstd is all of them.
	codecs := "none,lz4"
	if all := os.Getenv("COMPACTION_CODECS"); all != "" {
		codecs = all
	}
	for codec := range strings.SplitSeq(codecs, ",") {
		began := time.Now()
		t.add("compaction", "log-compaction-tester "+codec, began, compactionTester(ctx, here, n, codec))
	}
	began := time.Now()
	t.add("compaction", "dump-log", began, dumpLog(ctx, here, n))
}

// compactionTester wants Kafka's verdict, and that the cleaner did something: with 10 values for a key, half of what was written
// must be gone.
func compactionTester(ctx context.Context, here string, n *node, codec string) error {
	messages := "100000"
	if codec == "gzip" || codec == "zstd" {
		messages = "400000" // fewer stay within one segment, which is never cleaned
	}
	out, err := tool(ctx, here, "log-compaction-tester", "--bootstrap-server", n.addr(), "--messages", messages, "--duplicates", "10",
		"--percent-deletes", "20", "--topics", "2", "--sleep", "4", "--compression-type", codec)
	if err != nil {
		return err
	}
	if !strings.Contains(out, "Data verification is completed") {
		return fmt.Errorf("no verdict in %.300q", out)
	}
	var produced, consumed int
	for line := range strings.Lines(out) {
		if _, err := fmt.Sscanf(line, "%d rows of data produced, %d rows of data consumed", &produced, &consumed); err == nil {
			break
		}
	}
	if produced == 0 || consumed*2 > produced {
		return fmt.Errorf("%d of %d records are left: nothing was compacted", consumed, produced)
	}
	return nil
}

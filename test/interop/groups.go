package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// stageGroups: what consumers of kafka-clients do together in a group, of two releases and with both protocols: each server-side
// and two client-side assignors, static members, patterns, moving from one protocol to the other, and transactions that carry the
// members' offsets. Then Apache Kafka's formatters and its dump-log read what the coordinator wrote about all of them.
func stageGroups(ctx context.Context, t *table, here, home string) {
	n, err := newNode(here, "offsets.topic.num.partitions=1", "transaction.state.log.num.partitions=1",
		"group.consumer.min.heartbeat.interval.ms=300", "group.consumer.heartbeat.interval.ms=300", "auto.create.topics.enable=false")
	if err != nil {
		t.add("groups", "node", time.Now(), err)
		return
	}
	defer os.RemoveAll(n.dir)
	defer n.stop(false)
	for _, release := range []string{"3.9.1", "4.4.0"} {
		for _, protocol := range []string{"classic", "consumer"} {
			name := "java " + release + " " + protocol
			began := time.Now()
			c := client{name: name, command: javaClient(home, release, "JavaGroups")}
			out, err := c.run(ctx, n.addr(), protocol, strings.NewReplacer(" ", "-", ".", "-").Replace(name)+"-")
			if err != nil {
				t.add("groups", name, began, err)
			}
			cases := 0
			for line := range strings.Lines(out) {
				verdict, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
				what, rest, _ := strings.Cut(rest, " ")
				cases++
				if verdict == "ok" {
					took, _ := time.ParseDuration(rest + "ms")
					t.add("groups", name+" "+what, time.Now().Add(-took), nil)
				} else {
					t.add("groups", name+" "+what, began, fmt.Errorf("%s", rest))
				}
			}
			if cases < 5 {
				t.add("groups", name, began, fmt.Errorf("%d cases came to an end", cases))
			}
		}
	}
	for _, f := range []struct {
		formatter, topic string
		want             []string
	}{
		{"OffsetsMessageFormatter", "__consumer_offsets", []string{`"group":"java-4-4-0-classic-range"`, `"group":"java-4-4-0-consumer-exactlyonce"`}},
		{"GroupMetadataMessageFormatter", "__consumer_offsets", []string{`"group":"java-4-4-0-classic-cooperative-sticky"`, `"protocol":"cooperative-sticky"`,
			`"groupInstanceId":"b"`, `"group":"java-3-9-1-consumer-migration"`}},
		{"TransactionLogMessageFormatter", "__transaction_state", []string{`"transactionalId":"java-4-4-0-consumer-exactlyoncelost"`, `"transactionStatus":5`}},
	} {
		began := time.Now()
		t.add("groups", f.formatter, began, formatted(ctx, here, n, f.topic, f.formatter, f.want))
	}
	began := time.Now()
	t.add("groups", "dump-log", began, dumpGroups(ctx, here, n))
}

// formatted wants Apache Kafka's formatter to read the whole topic, and to say all of this.
func formatted(ctx context.Context, here string, n *node, topic, formatter string, want []string) error {
	records, err := committedRecords(ctx, n, topic)
	if err != nil {
		return err
	}
	out, err := tool(ctx, here, "console-consumer", "--bootstrap-server", n.addr(), "--topic", topic, "--from-beginning", "--timeout-ms", "60000",
		"--isolation-level", "read_committed", "--max-messages", strconv.Itoa(len(records)), "--formatter", "org.apache.kafka.tools.consumer."+formatter)
	if err != nil {
		return err
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			return fmt.Errorf("it does not say %s: %.700q", w, out)
		}
	}
	return nil
}

// dumpGroups wants dump-log to understand every record that the coordinator wrote.
func dumpGroups(ctx context.Context, here string, n *node) error {
	out, err := tool(ctx, here, "dump-log", "--offsets-decoder", "--files", filepath.Join(n.dir, "data", "__consumer_offsets-0", "00000000000000000000.log"))
	if err != nil {
		return err
	}
	// Offsets, classic groups; of consumer groups their epoch, members, targets, what each member has, and patterns.
	for _, kind := range []int{1, 2, 3, 5, 6, 7, 8, 16} {
		if !strings.Contains(out, fmt.Sprintf(`"type":"%d"`, kind)) {
			return fmt.Errorf("no record of type %d: %.700q", kind, out)
		}
	}
	for _, bad := range []string{"isvalid: false", "Exception", "Unknown record", "skipping"} {
		if i := strings.Index(out, bad); i >= 0 {
			return fmt.Errorf("%.300q", out[max(0, i-200):])
		}
	}
	return nil
}

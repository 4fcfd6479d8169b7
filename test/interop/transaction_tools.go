package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// hungProducer has a transaction that no coordinator has heard of.
const hungProducer = 4711

// stageTransactionTools: Apache Kafka's kafka-transactions on a committed, an open and a hanging transaction, its formatters over
// the internal topics, and its dump-log over their files.
func stageTransactionTools(ctx context.Context, t *table, here string) {
	n, err := newNode(here, "offsets.topic.num.partitions=1", "transaction.state.log.num.partitions=1", "transaction.partition.verification.enable=false")
	if err != nil {
		t.add("txn", "node", time.Now(), err)
		return
	}
	defer os.RemoveAll(n.dir)
	defer n.stop(false)
	began := time.Now()
	if err := prepareTransactions(ctx, n); err != nil {
		t.add("txn", "transactions to look at", began, err)
		return
	}
	says := func(args []string, want ...string) error {
		out, err := tool(ctx, here, args...)
		if err != nil {
			return err
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				return fmt.Errorf("%s does not say %q: %.700q", args[0], w, out)
			}
		}
		return nil
	}
	transactions := func(args ...string) []string {
		return append([]string{"transactions", "--bootstrap-server", n.addr()}, args...)
	}
	formatted := func(topic, formatter, records string) []string {
		return []string{"console-consumer", "--bootstrap-server", n.addr(), "--topic", topic, "--from-beginning", "--timeout-ms", "20000",
			"--max-messages", records, "--formatter", "org.apache.kafka.tools.consumer." + formatter}
	}
	segment := func(topic string) string { return filepath.Join(n.dir, "data", topic+"-0", "00000000000000000000.log") }
	steps := []struct {
		name string
		do   func() error
	}{
		{"list", func() error { return says(transactions("list"), "done", "CompleteCommit", "open", "Ongoing") }},
		{"describe", func() error {
			return says(transactions("describe", "--transactional-id", "open"), "Ongoing", "seen-0")
		}},
		{"describe-producers", func() error {
			return says(transactions("describe-producers", "--topic", "hung", "--partition", "0"), fmt.Sprint(hungProducer))
		}},
		{"find-hanging", func() error {
			return says(transactions("find-hanging", "--topic", "hung", "--max-transaction-timeout", "0"), fmt.Sprint(hungProducer))
		}},
		{"abort", func() error {
			if stable, err := stableEnd(ctx, n, "hung"); err != nil || stable != 0 {
				return fmt.Errorf("stable up to %d before: %w", stable, err)
			}
			if err := says(transactions("abort", "--topic", "hung", "--partition", "0", "--start-offset", "0")); err != nil {
				return err
			}
			if stable, err := stableEnd(ctx, n, "hung"); err != nil || stable != 2 {
				return fmt.Errorf("stable up to %d, want the record and its marker: %w", stable, err)
			}
			return nil
		}},
		{"formatters", func() error {
			// done: Empty, Ongoing with one partition and with two, PrepareCommit, CompleteCommit; open: Empty, Ongoing.
			if err := says(formatted("__transaction_state", "TransactionLogMessageFormatter", "7"), `"transactionalId":"done"`, `"transactionStatus":4`,
				`"transactionalId":"open"`); err != nil {
				return err
			}
			return says(formatted("__consumer_offsets", "OffsetsMessageFormatter", "1"), `"group":"tools-group"`, `"offset":7`)
		}},
		{"dump-log", func() error {
			if err := says([]string{"dump-log", "--transaction-log-decoder", "--files", segment("__transaction_state")}, `"transactionalId":"done"`,
				`"transactionStatus":4`, `"transactionalId":"open"`); err != nil {
				return err
			}
			return says([]string{"dump-log", "--offsets-decoder", "--files", segment("__consumer_offsets")}, "tools-group", "endTxnMarker: COMMIT")
		}},
	}
	for _, s := range steps {
		began := time.Now()
		t.add("txn", "tools: "+s.name, began, s.do())
	}
}

// prepareTransactions leaves a committed transaction with offsets, an open one, and one that hangs.
func prepareTransactions(ctx context.Context, n *node) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for _, topic := range []string{"seen", "hung"} {
		if err := createTopic(ctx, n, topic, 1); err != nil {
			return err
		}
	}
	for _, name := range []string{"done", "open"} {
		c, err := kgo.NewClient(kgo.SeedBrokers(n.addr()), kgo.TransactionalID(name))
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.BeginTransaction(); err != nil {
			return err
		}
		if err := c.ProduceSync(ctx, &kgo.Record{Topic: "seen", Value: []byte(name)}).FirstErr(); err != nil {
			return err
		}
		if name == "open" {
			break
		}
		if err := commitOffset(ctx, c, name, "tools-group", "seen", 7); err != nil {
			return err
		}
		if err := c.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return err
		}
	}
	return hang(ctx, n)
}

// commitOffset adds an offset to the client's transaction, which makes the group's partition part of it.
func commitOffset(ctx context.Context, c *kgo.Client, txid, group, topic string, offset int64) error {
	producer, epoch, err := c.ProducerID(ctx)
	if err != nil {
		return err
	}
	topics, err := kadm.NewClient(c).ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = txid, group, producer, epoch, -1
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Offset = offset
	req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: topic, TopicID: [16]byte(topics[topic].ID), Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}}}
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// hang sends a transactional record as a client of old does, whose transaction was ended before it came: without verification
// the log lets it in, and nobody will end what it begins (KIP-664).
func hang(ctx context.Context, n *node) error {
	r := kmsg.NewRecord()
	r.Value = []byte("hung")
	r.Length = int32(len(r.AppendTo(nil)) - 1)
	records := r.AppendTo(nil)
	b := kmsg.RecordBatch{PartitionLeaderEpoch: -1, Magic: 2, Attributes: 1 << 4, FirstTimestamp: time.Now().UnixMilli(), MaxTimestamp: time.Now().UnixMilli(),
		ProducerID: hungProducer, NumRecords: 1, Records: records, Length: int32(49 + len(records))}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(0, 11)
	c, err := kgo.NewClient(kgo.SeedBrokers(n.addr()), kgo.MaxVersions(versions))
	if err != nil {
		return err
	}
	defer c.Close()
	req := kmsg.NewPtrProduceRequest()
	txid := "forgotten"
	req.TransactionID, req.Acks, req.TimeoutMillis = &txid, -1, 10000
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: "hung", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: raw}}}}
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

func stableEnd(ctx context.Context, n *node, topic string) (int64, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(n.addr()))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	offsets, err := kadm.NewClient(c).ListCommittedOffsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	o, _ := offsets.Lookup(topic, 0)
	return o.Offset, o.Err
}

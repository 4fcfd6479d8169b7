package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	transactions    = 480               // of each client at first
	maxTransactions = transactions * 16 // of one that is through before the node is killed
	inEach          = 5
	offsetsFrom     = "txn-source"
)

// stageTransactions: every client that has them runs transactions, each third aborted, while the node is killed and started again;
// what is read as committed, by franz-go and by the client itself, is what it was told to be committed, each record once, and so is
// the offset that went with it. Then Apache Kafka's tools look at a node with transactions of every kind.
func stageTransactions(ctx context.Context, t *table, here string, cs []client) {
	n, err := newNode(here, "offsets.topic.num.partitions=5", "transaction.state.log.num.partitions=5")
	if err != nil {
		t.add("txn", "node", time.Now(), err)
		return
	}
	defer os.RemoveAll(n.dir)
	defer n.stop(false)
	if err := createTopic(ctx, n, offsetsFrom, 1); err != nil {
		t.add("txn", "topic", time.Now(), err)
		return
	}
	for _, c := range cs {
		if !c.transactional {
			continue
		}
		t.row("txn", c.name, n, func() error { return transactUnderKill(ctx, n, c) })
	}
}

// transactUnderKill gives a client more to do until the node's end meets it at work.
func transactUnderKill(ctx context.Context, n *node, c client) error {
	for count := transactions; count <= maxTransactions; count *= 4 {
		killed, err := transact(ctx, n, c, count)
		if err != nil || killed {
			return err
		}
	}
	return fmt.Errorf("%s was through with %d transactions before the node was killed", c.name, maxTransactions)
}

func createTopic(ctx context.Context, n *node, name string, partitions int32) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(n.addr()))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = kadm.NewClient(c).CreateTopic(ctx, partitions, 1, nil, name)
	return err
}

// transact runs count transactions. killed tells whether the node was killed before the client was through, if it was to be.
func transact(ctx context.Context, n *node, c client, count int) (killed bool, err error) {
	run := strconv.Itoa(count)
	topic, group := topicOf("txn"+run, c.name), topicOf("txngroup"+run, c.name)
	if err := createTopic(ctx, n, topic, 3); err != nil {
		return false, err
	}
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := c.run(ctx, "transact", n.addr(), topic, topicOf("id"+run, c.name), run, strconv.Itoa(inEach), offsetsFrom, group)
		done <- result{out, err}
	}()
	killed = true
	if c.name != "confluent-kafka" {
		// librdkafka's send_offsets_to_transaction now and then waits for ever when the node comes back under it, be it Kafka or this.
		if err := waitFor(ctx, n, topic, int64(count*inEach/8)); err != nil {
			return killed, err
		}
		n.stop(true)
		killed = len(done) == 0
		if err := n.start(); err != nil {
			return killed, err
		}
	}
	r := <-done
	if r.err != nil {
		return killed, r.err
	}
	var want []int
	last := 0
	for line := range strings.Lines(r.out) {
		var t int
		if _, err := fmt.Sscanf(line, "committed %d", &t); err != nil {
			return killed, fmt.Errorf("%s printed %q", c.name, line)
		}
		for i := range inEach {
			want = append(want, t*inEach+i)
		}
		last = t
	}
	if len(want) != count/3*2*inEach {
		return killed, fmt.Errorf("%d records are said to be committed, want %d", len(want), count/3*2*inEach)
	}
	got, err := committedRecords(ctx, n, topic)
	if err != nil {
		return killed, err
	}
	if err := sameRecords(got, want); err != nil {
		return killed, fmt.Errorf("read by franz-go: %w", err)
	}
	if got, err = c.committed().consume(ctx, n.addr(), topic, topicOf("txnread"+run, c.name), len(want)); err != nil {
		return killed, err
	}
	if err := sameRecords(got, want); err != nil {
		return killed, fmt.Errorf("read by %s: %w", c.name, err)
	}
	if c.name == "franz-go" {
		return killed, nil // see clients/franz
	}
	return killed, committedAt(ctx, n, group, offsetsFrom, 0, int64(last+1))
}

// committed is the client with consumers that read what is committed only.
func (c client) committed() client {
	c.env = append(slices.Clone(c.env), "ISOLATION=read_committed")
	return c
}

func sameRecords(got, want []int) error {
	slices.Sort(got)
	if slices.Equal(got, want) {
		return nil
	}
	times := map[int]int{}
	for _, r := range want {
		times[r]--
	}
	for _, r := range got {
		times[r]++
	}
	var lost, more []int
	for _, r := range slices.Sorted(maps.Keys(times)) {
		switch {
		case times[r] < 0:
			lost = append(lost, r)
		case times[r] > 0:
			more = append(more, r)
		}
	}
	return wrongf("%d records, want %d; lost: %s; too often: %s", len(got), len(want), ranges(lost), ranges(more))
}

// ranges says which numbers a sorted list holds, at most ten ranges of them.
func ranges(list []int) string {
	if len(list) == 0 {
		return "none"
	}
	var text []string
	for i := 0; i < len(list); {
		if len(text) == 10 {
			text = append(text, "...")
			break
		}
		first := i
		for i++; i < len(list) && list[i] == list[i-1]+1; i++ {
		}
		text = append(text, fmt.Sprintf("%d-%d", list[first], list[i-1]))
	}
	return strings.Join(text, " ")
}

func committedRecords(ctx context.Context, n *node, topic string) ([]int, error) {
	byPartition, err := committedByPartition(ctx, n, topic)
	return slices.Concat(slices.Collect(maps.Values(byPartition))...), err
}

// committedByPartition reads everything that is committed in the topic, in sequence until its last stable offsets.
func committedByPartition(ctx context.Context, n *node, topic string) (map[int32][]int, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := kgo.NewClient(kgo.SeedBrokers(n.addr()), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(200*time.Millisecond), kgo.KeepControlRecords(), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	left, err := stableEnds(ctx, c, topic)
	if err != nil {
		return nil, err
	}
	got := map[int32][]int{}
	for len(left) > 0 {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			// Each transaction ends with its marker, so the last offset is that of a control record.
			if end := left[r.Partition]; r.Offset+1 == end {
				delete(left, r.Partition)
			}
			if r.Attrs.IsControl() {
				return
			}
			text, _, _ := strings.Cut(string(r.Value), ":")
			i, _ := strconv.Atoi(text)
			got[r.Partition] = append(got[r.Partition], i)
		})
	}
	return got, nil
}

// stableEnds returns the log ends of the topic's partitions that hold something, when all of that is stable. Who is told that a
// transaction has ended may come before its markers.
func stableEnds(ctx context.Context, c *kgo.Client, topic string) (map[int32]int64, error) {
	for {
		stable, err := kadm.NewClient(c).ListCommittedOffsets(ctx, topic)
		if err != nil {
			return nil, err
		}
		all, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
		if err != nil {
			return nil, err
		}
		ends := map[int32]int64{}
		var open error
		all.Each(func(o kadm.ListedOffset) {
			if s, _ := stable.Lookup(topic, o.Partition); s.Offset != o.Offset {
				open = wrongf("partition %d is stable up to %d of %d though no transaction is open", o.Partition, s.Offset, o.Offset)
			}
			if o.Offset > 0 {
				ends[o.Partition] = o.Offset
			}
		})
		if open == nil || !pause(ctx) {
			return ends, open
		}
	}
}

package embedded_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-io/moldau/embedded"
)

func client(t testing.TB, n *embedded.Node, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	// A topic that is made is there when the node has published it, which may be more than the few looks away after which a client gives up.
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.Addr()), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(10 * time.Millisecond), kgo.UnknownTopicRetries(-1),
		kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond })}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func produce(t testing.TB, c *kgo.Client, topic string, from, to int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var records []*kgo.Record
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{Topic: topic, Key: fmt.Append(nil, "k", i%7), Value: fmt.Append(nil, i),
			Headers: []kgo.RecordHeader{{Key: "h", Value: fmt.Append(nil, i)}}})
	}
	if err := c.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
}

// consume reads n records and returns how often each value came.
func consume(t testing.TB, c *kgo.Client, n int) map[string]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seen := map[string]int{}
	for got := 0; got < n; {
		f := c.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("consumed %d of %d records: %v", got, n, f.Err())
		}
		f.EachRecord(func(r *kgo.Record) {
			seen[string(r.Value)]++
			got++
			if len(r.Headers) != 1 || string(r.Headers[0].Value) != string(r.Value) {
				t.Errorf("record %s has headers %v", r.Value, r.Headers)
			}
		})
	}
	return seen
}

func wantAll(t testing.TB, seen map[string]int, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if seen[fmt.Sprint(i)] != 1 {
			t.Fatalf("record %d came %d times", i, seen[fmt.Sprint(i)])
		}
	}
	if len(seen) != to-from {
		t.Fatalf("%d different records, want %d", len(seen), to-from)
	}
}

func TestProduceConsume(t *testing.T) {
	n := embedded.Start(t)
	for name, codec := range map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()} {
		t.Run(name, func(t *testing.T) {
			produce(t, client(t, n, kgo.ProducerBatchCompression(codec)), name, 0, 1000)
			wantAll(t, consume(t, client(t, n, kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), 1000), 0, 1000)
		})
	}
}

func group(t testing.TB, n *embedded.Node) *kgo.Client {
	return client(t, n, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond))
}

func commit(t testing.TB, c *kgo.Client) {
	t.Helper()
	if err := c.CommitUncommittedOffsets(t.Context()); err != nil {
		t.Fatalf("commit: %v", err)
	}
	c.CloseAllowingRebalance()
}

func TestGroupResumesAfterStopAndKill(t *testing.T) {
	n := embedded.Start(t)
	produce(t, client(t, n), "t", 0, 100)
	c := group(t, n)
	wantAll(t, consume(t, c, 100), 0, 100)
	commit(t, c)

	n.Restart()
	produce(t, client(t, n), "t", 100, 150)
	c = group(t, n)
	wantAll(t, consume(t, c, 50), 100, 150)
	commit(t, c)
}

// TestKilledProcessLosesNothingAcknowledged: in a directory a kill leaves all that was written.
func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	n := embedded.Start(t, embedded.InDir(t.TempDir()))
	produce(t, client(t, n), "t", 0, 500)
	c := group(t, n)
	wantAll(t, consume(t, c, 500), 0, 500)
	commit(t, c)
	produce(t, client(t, n), "t", 500, 600)
	n.Kill()
	n.Restart()
	c = group(t, n)
	wantAll(t, consume(t, c, 100), 500, 600)
	commit(t, c)
}

// TestPowerLossWithStrictFlush: what flush.messages=1 has acknowledged survives the loss of everything that was not synced.
func TestPowerLossWithStrictFlush(t *testing.T) {
	n := embedded.Start(t, embedded.With("log.flush.interval.messages", "1"))
	for round := range 3 {
		produce(t, client(t, n), "t", 50*round, 50*(round+1))
		n.Kill()
		n.Restart()
	}
	wantAll(t, consume(t, client(t, n, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), 150), 0, 150)
}

func TestHoldKeepsRecordsInvisible(t *testing.T) {
	n := embedded.Start(t)
	c := client(t, n)
	produce(t, c, "t", 0, 1)
	n.Hold()
	done := make(chan error, 1)
	c.Produce(t.Context(), &kgo.Record{Topic: "t", Value: []byte("1"), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}}}, func(_ *kgo.Record, err error) { done <- err })
	reader := client(t, n, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	wantAll(t, consume(t, reader, 1), 0, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for ctx.Err() == nil {
		if got := reader.PollFetches(ctx).NumRecords(); got > 0 {
			t.Errorf("%d records are visible beside the one from before", got)
		}
	}
	select {
	case err := <-done:
		t.Errorf("the held record was answered: %v", err)
	default:
	}
	n.Release()
	if err := <-done; err != nil {
		t.Errorf("after the release: %v", err)
	}
	wantAll(t, consume(t, reader, 1), 1, 2)
}

func TestTenNodesShareNothing(t *testing.T) {
	nodes := make([]*embedded.Node, 10)
	var wg sync.WaitGroup
	for i := range nodes {
		wg.Go(func() { nodes[i] = embedded.Start(t) })
	}
	wg.Wait()
	ids := map[string]bool{}
	for i, n := range nodes {
		ids[n.ClusterID()] = true
		produce(t, client(t, n), "t", 10*i, 10*i+i+1)
	}
	if len(ids) != len(nodes) {
		t.Errorf("%d cluster ids for %d nodes", len(ids), len(nodes))
	}
	for i, n := range nodes {
		wantAll(t, consume(t, client(t, n, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), i+1), 10*i, 10*i+i+1)
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		embedded.Start(b).Stop()
	}
}

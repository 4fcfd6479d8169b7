package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/seed"
)

func txnClient(t *testing.T, n *embedded.Node, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.Addr()), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func txnTopic(t *testing.T, n *embedded.Node, name string, partitions int32) {
	t.Helper()
	c := txnClient(t, n)
	if _, err := kadm.NewClient(c).CreateTopic(context.Background(), partitions, 1, nil, name); err != nil {
		t.Fatal(err)
	}
}

// transact runs one transaction that writes value to each partition of a topic.
func transact(ctx context.Context, c *kgo.Client, topic string, partitions int32, value string, commit bool) error {
	if err := c.BeginTransaction(); err != nil {
		return err
	}
	for p := range partitions {
		c.Produce(ctx, &kgo.Record{Topic: topic, Partition: p, Value: []byte(value)}, nil)
	}
	if err := c.Flush(ctx); err != nil {
		return err
	}
	return c.EndTransaction(ctx, kgo.TransactionEndTry(commit))
}

// readCommitted returns the values of all partitions, sorted. No transaction is open.
func readCommitted(t *testing.T, n *embedded.Node, topic string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := txnClient(t, n, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords())
	// A commit is confirmed when it is decided, before its markers are written.
	for {
		preparing, err := kadm.NewClient(c).ListTransactions(ctx, nil, []string{"PrepareCommit", "PrepareAbort"})
		if err != nil {
			t.Fatal(err)
		}
		if len(preparing) == 0 {
			break
		}
	}
	ends, err := kadm.NewClient(c).ListCommittedOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	var values []string
	for len(left) > 0 {
		fs := c.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			t.Fatalf("%v; ends not reached: %v", err, left)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	slices.Sort(values)
	return values
}

func TestTransactions(t *testing.T) {
	n := embedded.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	txnTopic(t, n, "t", 3)
	c := txnClient(t, n, kgo.TransactionalID("a"))
	var want []string
	for i := range 30 {
		value := fmt.Sprintf("%02d", i)
		commit := i%3 > 0
		if err := transact(ctx, c, "t", 3, value, commit); err != nil {
			t.Fatal(err)
		}
		if commit {
			want = append(want, value, value, value)
		}
	}
	if got := readCommitted(t, n, "t"); !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}

	t.Run("a second producer fences the first", func(t *testing.T) {
		if err := c.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := c.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("lost")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		second := txnClient(t, n, kgo.TransactionalID("a"))
		if err := transact(ctx, second, "t", 1, "second", true); err != nil {
			t.Fatal(err)
		}
		err := c.EndTransaction(ctx, kgo.TryCommit)
		if !errors.Is(err, kerr.ProducerFenced) && !errors.Is(err, kerr.InvalidProducerEpoch) && !errors.Is(err, kerr.InvalidTxnState) {
			t.Errorf("the first producer commits: %v", err)
		}
		want = append(want, "second")
		if got := readCommitted(t, n, "t"); !slices.Equal(got, want) {
			t.Errorf("read %v, want %v", got, want)
		}
	})

	t.Run("after a kill", func(t *testing.T) {
		open := txnClient(t, n, kgo.TransactionalID("open"))
		if err := open.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := open.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: []byte("open")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		n.Kill()
		n.Restart()
		states, err := kadm.NewClient(txnClient(t, n)).ListTransactions(ctx, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := states["open"].State; got != "Ongoing" {
			t.Errorf("the open transaction is %q", got)
		}
		if err := open.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		want = append(want, "open")
		slices.Sort(want)
		if got := readCommitted(t, n, "t"); !slices.Equal(got, want) {
			t.Errorf("read %v, want %v", got, want)
		}
	})
}

// TestExactlyOnce moves records from one topic to another in transactions of three members of a group, of which one after the
// other leaves in the middle of its work; each record arrives once.
func TestExactlyOnce(t *testing.T) {
	n := embedded.Start(t, embedded.With("group.initial.rebalance.delay.ms", "0"))
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	txnTopic(t, n, "in", 4)
	txnTopic(t, n, "out", 4)
	src := txnClient(t, n)
	const total = 400
	var want []string
	for i := range total {
		value := fmt.Sprintf("%04d", i)
		want = append(want, value)
		src.Produce(ctx, &kgo.Record{Topic: "in", Partition: int32(i % 4), Value: []byte(value)}, nil)
	}
	if err := src.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed.Of(t), 0))
	moved := 0
	for round := 0; moved < total; round++ {
		moved += mover(ctx, t, n, fmt.Sprintf("mover-%d", round%2), 2+rng.IntN(4))
		if round > 200 {
			t.Fatalf("moved %d of %d", moved, total)
		}
	}
	for i := range 2 { // what is left open is ended by the next of its name
		if _, _, err := txnClient(t, n, kgo.TransactionalID(fmt.Sprintf("mover-%d", i))).ProducerID(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if got := readCommitted(t, n, "out"); !slices.Equal(got, want) {
		t.Errorf("%d records arrived, want %d; they differ", len(got), total)
	}
}

// mover runs a member of the group for a number of transactions and leaves the next one open.
func mover(ctx context.Context, t *testing.T, n *embedded.Node, txnID string, transactions int) (moved int) {
	t.Helper()
	s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(n.Addr()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(txnID),
		kgo.ConsumeTopics("in"), kgo.ConsumerGroup("movers"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, _, err := s.Client().ProducerID(ctx); err != nil { // ends what the last one of this name left open
		t.Fatal(err)
	}
	for i := range transactions + 1 {
		poll, done := context.WithTimeout(ctx, time.Second)
		fs := s.PollRecords(poll, 20)
		done()
		if fs.NumRecords() == 0 {
			return moved
		}
		if err := s.Begin(); err != nil {
			t.Fatal(err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			s.Produce(ctx, &kgo.Record{Topic: "out", Partition: r.Partition, Value: r.Value}, nil)
		})
		if i == transactions {
			if err := s.Client().Flush(ctx); err != nil {
				t.Fatal(err)
			}
			return moved
		}
		ok, err := s.End(ctx, kgo.TryCommit)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			moved += fs.NumRecords()
		}
	}
	return moved
}

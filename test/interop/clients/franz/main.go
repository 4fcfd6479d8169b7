// Command franz is the franz-go client of the interop tests: produce and consume as the doc of test/interop says.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var pad = strings.Repeat("x", 64)

func main() {
	a := os.Args[1:]
	ctx, cancel := context.WithTimeout(context.Background(), 120*time.Second)
	defer cancel()
	var err error
	switch a[0] {
	case "produce":
		err = produce(ctx, a[1], a[2], number(a[3]), number(a[4]), a[5], len(a) > 6)
	case "transact":
		err = transact(ctx, a[1], a[2], a[3], number(a[4]), number(a[5]))
	default:
		err = consume(ctx, a[1], a[2], a[3], number(a[4]))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(s string) int { n, _ := strconv.Atoi(s); return n }

func produce(ctx context.Context, bootstrap, topic string, from, count int, codec string, idempotent bool) error {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	opts := []kgo.Opt{kgo.SeedBrokers(bootstrap), kgo.ProducerBatchCompression(codecs[codec]), kgo.AllowAutoTopicCreation()}
	if !idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	c, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer c.Close()
	failed := make(chan error, count)
	for i := from; i < from+count; i++ {
		c.Produce(ctx, &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%d", i%97), Value: fmt.Appendf(nil, "%d:%s", i, pad),
			Headers: []kgo.RecordHeader{{Key: "n", Value: fmt.Appendf(nil, "%d", i)}}}, func(_ *kgo.Record, err error) { failed <- err })
	}
	for range count {
		if err := <-failed; err != nil {
			return err
		}
	}
	fmt.Println("acked", count)
	return nil
}

func isolation() kgo.Opt {
	if os.Getenv("ISOLATION") == "read_committed" {
		return kgo.FetchIsolationLevel(kgo.ReadCommitted())
	}
	return kgo.FetchIsolationLevel(kgo.ReadUncommitted())
}

func consume(ctx context.Context, bootstrap, topic, group string, count int) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(10*time.Second), kgo.FetchMaxWait(200*time.Millisecond), isolation())
	if err != nil {
		return err
	}
	defer c.Close()
	var out strings.Builder
	var got []*kgo.Record
	for len(got) < count {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return fmt.Errorf("only %d of %d records: %w", len(got), count, err)
		}
		for it := fetches.RecordIter(); !it.Done() && len(got) < count; {
			r := it.Next()
			text, _, _ := strings.Cut(string(r.Value), ":")
			i := number(text)
			if string(r.Key) != fmt.Sprintf("k%d", i%97) || len(r.Headers) > 0 && string(r.Headers[0].Value) != text && string(r.Headers[0].Value) != "kcat" {
				return fmt.Errorf("record %d came as key %s headers %v", i, r.Key, r.Headers)
			}
			fmt.Fprintln(&out, i)
			got = append(got, r)
		}
	}
	if err := c.CommitRecords(ctx, got...); err != nil {
		return err
	}
	fmt.Print(out.String())
	return nil
}

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/moldau-io/moldau/bench/load"
)

// row is one comparison.
type row struct {
	name, unit, cpuUnit string
	limit               bool // measure the skeleton too
	measure             func(ctx context.Context, who string) (figure, error)
}

func allRows() []row {
	produce := func(size, batch int) load.Options {
		return load.Options{Topic: "bench", Partitions: 6, RecordSize: size, BatchSize: batch, Conns: 2, InFlight: 5, Acks: -1}
	}
	tiny := load.Options{Topic: "bench", Partitions: 6, RecordSize: 100, BatchSize: 1, Conns: 64, InFlight: 1, Acks: 1}
	all := []row{
		{"start: exec to first Metadata answer, empty directory", "ms", "", false, startRow},
		{"idle RSS", "MB", "", false, rssRow},
		{"thin loader, 1 KB records in 64 KB batches", "MB/s", "s/GB", true, loadRow(produce(1000, 64<<10), false)},
		{"thin loader, 1 KB records in 1 MB batches", "MB/s", "s/GB", true, loadRow(produce(1000, 1000<<10), false)},
		{"consume from cache, 64 KB batches", "MB/s", "s/GB", true, fetchRow},
		{"64 connections, one 100-byte produce each", "requests/s", "us/request", false, loadRow(tiny, true)},
		{"flush.messages=1, 64 producers, 8 partitions", "commits/s", "us/commit", false, flushRow(64, 1, 8)},
		{"flush.messages=1, 64 producers, 64 partitions", "commits/s", "us/commit", false, flushRow(64, 1, 64)},
		{"flush.messages=1, 64 producers with 5 requests under way, 8 partitions", "commits/s", "us/commit", false, flushRow(64, 5, 8)},
		{"flush.messages=1, 64 producers with 5 requests under way, 64 partitions", "commits/s", "us/commit", false, flushRow(64, 5, 64)},
		{"flush.messages=1, one producer", "commits/s", "us/commit", false, flushRow(1, 1, 8)},
		{"transactions of one record, one producer", "transactions/s", "us/transaction", false, transactionRow(1)},
		{"transactions of one record, 16 producers", "transactions/s", "us/transaction", false, transactionRow(16)},
		{"64 connections, one OffsetCommit each", "commits/s", "us/commit", true, commitRow(64, 1)},
		{"64 connections, five OffsetCommits under way on each", "commits/s", "us/commit", true, commitRow(64, 5)},
		{"__consumer_offsets partition of 1,000,000 records: exec until its coordinator answers", "ms", "s since its exec", false, offsetsLoadRow},
	}
	if tool, why := rdkafka(); why == "" {
		all = append(all, row{"librdkafka produce 1 KB, acks=all, 6 partitions", "MB/s", "s/GB", false, rdkafkaRow(tool)})
	} else {
		fmt.Println("librdkafka row left out:", why)
	}
	return all
}

func startRow(_ context.Context, who string) (figure, error) {
	s, err := newServer(who)
	if err != nil {
		return figure{}, err
	}
	defer s.stop()
	return figure{value: float64(s.ready.Microseconds()) / 1000}, nil
}

func rssRow(_ context.Context, who string) (figure, error) {
	s, err := newServer(who)
	if err != nil {
		return figure{}, err
	}
	defer s.stop()
	time.Sleep(10 * time.Second)
	return figure{value: s.rss()}, nil
}

// loadRow warms the server up with the load and measures the next window on a fresh topic.
func loadRow(o load.Options, perRequest bool) func(context.Context, string) (figure, error) {
	return func(ctx context.Context, who string) (figure, error) {
		s, err := newServer(who)
		if err != nil {
			return figure{}, err
		}
		defer s.stop()
		o := o
		o.Addr = s.addr
		if who != "skeleton" {
			if err := createTopics(ctx, s.addr, o.Partitions, "warm", "bench"); err != nil {
				return figure{}, err
			}
			w := o
			w.Topic, w.Duration = "warm", s.warmUp()
			if _, err := load.Produce(ctx, w); err != nil {
				return figure{}, err
			}
		}
		o.Duration = *window
		m := s.meter()
		got, err := load.Produce(ctx, o)
		if err != nil {
			return figure{}, err
		}
		cpu, foreign := m.stop()
		if perRequest {
			return figure{got.RequestsPerSecond(), cpu * 1e6 / float64(got.Requests), foreign}, nil
		}
		return figure{got.MBps(), cpu / (float64(got.Bytes) / 1e9), foreign}, nil
	}
}

// fetchRow fills a topic with 2 GB and reads it from the page cache.
func fetchRow(ctx context.Context, who string) (figure, error) {
	s, err := newServer(who)
	if err != nil {
		return figure{}, err
	}
	defer s.stop()
	o := load.Options{Addr: s.addr, Topic: "bench", Partitions: 2, RecordSize: 1000, BatchSize: 64 << 10, Conns: 2, InFlight: 5, Acks: 1,
		Duration: 3 * time.Second, FetchMax: 1 << 20}
	if who != "skeleton" {
		if err := createTopics(ctx, s.addr, o.Partitions, "bench"); err != nil {
			return figure{}, err
		}
	}
	if _, err := load.Produce(ctx, o); err != nil {
		return figure{}, err
	}
	o.Duration = s.warmUp()
	if _, err := load.Fetch(ctx, o); err != nil {
		return figure{}, err
	}
	o.Duration = *window
	m := s.meter()
	got, err := load.Fetch(ctx, o)
	if err != nil {
		return figure{}, err
	}
	cpu, foreign := m.stop()
	return figure{got.MBps(), cpu / (float64(got.Bytes) / 1e9), foreign}, nil
}

// touch fills free memory with the page cache of a sparse file, so that the host has handed the pages out before a server
// needs them: else first touch is measured, not the server.
func touch() {
	f, err := os.CreateTemp("", "touch")
	if err != nil {
		return
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const size = 6 << 30
	if f.Truncate(size) != nil {
		return
	}
	buf := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(buf)) {
		if _, err := f.ReadAt(buf, at); err != nil {
			return
		}
	}
}

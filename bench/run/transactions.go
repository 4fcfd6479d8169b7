package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-io/moldau/bench/load"
)

// transactionRow counts transactions of one record each, begun and committed one after the other by so many franz-go producers.
func transactionRow(producers int) func(context.Context, string) (figure, error) {
	return func(ctx context.Context, who string) (figure, error) {
		s, err := newServer(who)
		if err != nil {
			return figure{}, err
		}
		defer s.stop()
		if err := createTopics(ctx, s.addr, 6, "bench"); err != nil {
			return figure{}, err
		}
		clients := make([]*kgo.Client, producers)
		for i := range clients {
			if clients[i], err = kgo.NewClient(kgo.SeedBrokers(s.addr), kgo.TransactionalID(fmt.Sprint("bench-", i)), kgo.ProducerLinger(0),
				kgo.DefaultProduceTopic("bench")); err != nil {
				return figure{}, err
			}
			defer clients[i].Close()
		}
		if _, err := transactFor(ctx, clients, s.warmUp()); err != nil {
			return figure{}, err
		}
		m := s.meter()
		began := time.Now()
		count, err := transactFor(ctx, clients, *window)
		if err != nil {
			return figure{}, err
		}
		took := time.Since(began)
		cpu, foreign := m.stop()
		return figure{float64(count) / took.Seconds(), cpu * 1e6 / float64(count), foreign}, nil
	}
}

// transactFor lets all clients run transactions for so long and returns how many they committed.
func transactFor(ctx context.Context, clients []*kgo.Client, long time.Duration) (int64, error) {
	deadline := time.Now().Add(long)
	return together(len(clients), func(i int, count *atomic.Int64) error {
		for time.Now().Before(deadline) {
			if err := clients[i].BeginTransaction(); err != nil {
				return err
			}
			if err := clients[i].ProduceSync(ctx, &kgo.Record{Value: []byte("one record of a transaction")}).FirstErr(); err != nil {
				return err
			}
			if err := clients[i].EndTransaction(ctx, kgo.TryCommit); err != nil {
				return err
			}
			count.Add(1)
		}
		return nil
	})
}

// together runs n loops at once and returns their count.
func together(n int, loop func(i int, count *atomic.Int64) error) (int64, error) {
	var wg sync.WaitGroup
	var count atomic.Int64
	errs := make(chan error, n)
	for i := range n {
		wg.Go(func() { errs <- loop(i, &count) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return count.Load(), nil
}

// commitRow counts OffsetCommit requests, so many under way on each of so many connections, each for a group of its own without members.
func commitRow(conns, inFlight int) func(context.Context, string) (figure, error) {
	return func(ctx context.Context, who string) (figure, error) {
		s, err := newServer(who)
		if err != nil {
			return figure{}, err
		}
		defer s.stop()
		if who != "skeleton" {
			if err := createTopics(ctx, s.addr, 1, "bench"); err != nil {
				return figure{}, err
			}
			if err := awaitCoordinators(ctx, s.addr, conns); err != nil {
				return figure{}, err
			}
		}
		if _, err := commitFor(ctx, s.addr, conns, inFlight, s.warmUp()); err != nil {
			return figure{}, err
		}
		m := s.meter()
		got, err := commitFor(ctx, s.addr, conns, inFlight, *window)
		if err != nil {
			return figure{}, err
		}
		cpu, foreign := m.stop()
		return figure{got.RequestsPerSecond(), cpu * 1e6 / float64(got.Requests), foreign}, nil
	}
}

func benchGroup(i int) string { return fmt.Sprint("bench-group-", i) }

// awaitCoordinators returns when the groups' coordinators have loaded.
func awaitCoordinators(ctx context.Context, addr string, groups int) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for i := range groups {
		var o kadm.Offsets
		o.Add(kadm.Offset{Topic: "bench", Partition: 0, At: 1, LeaderEpoch: -1})
		if _, err := kadm.NewClient(c).CommitOffsets(ctx, benchGroup(i), o); err != nil {
			return err
		}
	}
	return nil
}

// commitFor sends requests that were encoded once and differ in the offset only: what the loader takes of the CPU is taken from the
// server.
func commitFor(ctx context.Context, addr string, conns, inFlight int, long time.Duration) (load.Result, error) {
	frames, places := make([][]byte, conns), make([]int, conns)
	for i := range frames {
		encode := func(offset int64) []byte {
			req := kmsg.NewPtrOffsetCommitRequest()
			req.SetVersion(8)
			req.Group, req.Generation = benchGroup(i), -1
			req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "bench", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: offset, LeaderEpoch: -1}}}}
			return load.Frame(req)
		}
		frames[i] = encode(0)
		other := encode(-1) // all bits of the offset
		for places[i] < len(other) && frames[i][places[i]] == other[places[i]] {
			places[i]++
		}
	}
	next := func(i int, n int64) []byte {
		binary.BigEndian.PutUint64(frames[i][places[i]:], uint64(n))
		return frames[i]
	}
	// Correlation id, tags, throttle time, number of topics, name behind its length, number of partitions, partition, error.
	const at = 4 + 1 + 4 + 1 + 1 + len("bench") + 1 + 4
	check := func(i int, answer []byte) error {
		if len(answer) < at+2 || answer[9] != 2 || answer[at-5] != 2 {
			return fmt.Errorf("commit of %s answered with %x", benchGroup(i), answer)
		}
		if code := int16(binary.BigEndian.Uint16(answer[at:])); code != 0 {
			return fmt.Errorf("commit of %s: error %d", benchGroup(i), code)
		}
		return nil
	}
	return load.Ask(ctx, load.Options{Addr: addr, Conns: conns, InFlight: inFlight, Duration: long}, next, check)
}

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// reportSize is partition (4), offset (8), hash of the key (8) and of the value (8), big-endian, on the consumer's stdout.
const reportSize = 28

// consume is one member of the group, in a process of its own so that it can be killed. It reports a poll's records before it
// commits them, so that a record it dies with is read again by another.
func consume(addr, topic, group string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(time.Second),
		kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := context.Background()
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	buf := make([]byte, reportSize)
	last, failures := time.Now(), 0
	for {
		fetches := client.PollRecords(ctx, 50_000)
		if errs := fetches.Errors(); len(errs) > 0 {
			// Joining may have to wait for a coordinator that is loading; an error that stays ends the consumer.
			if failures++; failures > 50 {
				return errs[0].Err
			}
			time.Sleep(100 * time.Millisecond)
			continue
		}
		failures = 0
		fetches.EachRecord(func(r *kgo.Record) {
			binary.BigEndian.PutUint32(buf, uint32(r.Partition))
			binary.BigEndian.PutUint64(buf[4:], uint64(r.Offset))
			binary.BigEndian.PutUint64(buf[12:], hash(r.Key))
			binary.BigEndian.PutUint64(buf[20:], hash(r.Value))
			_, _ = out.Write(buf)
		})
		if err := out.Flush(); err != nil {
			return nil // the demo has all it wants
		}
		if time.Since(last) > 100*time.Millisecond {
			last = time.Now()
			if err := client.CommitUncommittedOffsets(ctx); err != nil {
				fmt.Fprintln(os.Stderr, "commit:", err) // a rebalance: the next owner reads again
			}
		}
	}
}

// readBack runs three consumers until every record was reported, and kills the first of them half way.
func readBack(ctx context.Context, addr, topic string, got *received) (time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	var mu sync.Mutex
	var procs []*exec.Cmd
	reports := make(chan []report, 64)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	began := time.Now()
	for range 3 {
		cmd := exec.CommandContext(ctx, self, "-bootstrap", addr, "-member", topic+",readers-of-"+topic)
		cmd.Stderr = os.Stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			return 0, err
		}
		if err := cmd.Start(); err != nil {
			return 0, err
		}
		mu.Lock()
		procs = append(procs, cmd)
		mu.Unlock()
		wg.Add(1)
		go func() {
			defer wg.Done()
			follow(ctx, stdout, reports)
			_ = cmd.Wait()
		}()
	}
	bar := newBar(topic[:min(len(topic), 11)]+" read", got.want)
	killed := false
	for got.count < got.want && got.conflict == nil {
		select {
		case batch := <-reports:
			for _, r := range batch {
				got.take(r)
			}
			bar.set(got.count)
			if !killed && got.count > got.want/2 {
				killed = true
				_ = procs[0].Process.Kill()
			}
		case <-ctx.Done():
			bar.end()
			return 0, fmt.Errorf("%d of %d records came back in time", got.count, got.want)
		}
	}
	bar.end()
	took := time.Since(began)
	cancel()
	go func() {
		for range reports { // let the followers end
		}
	}()
	wg.Wait()
	close(reports)
	return took, nil
}

func follow(ctx context.Context, r io.Reader, reports chan<- []report) {
	in := bufio.NewReaderSize(r, 1<<20)
	buf := make([]byte, reportSize)
	batch := make([]report, 0, 4096)
	for {
		if _, err := io.ReadFull(in, buf); err != nil {
			return
		}
		batch = append(batch, report{partition: int32(binary.BigEndian.Uint32(buf)), offset: int64(binary.BigEndian.Uint64(buf[4:])),
			key: binary.BigEndian.Uint64(buf[12:]), hash: binary.BigEndian.Uint64(buf[20:])})
		if len(batch) == cap(batch) || in.Buffered() < reportSize {
			select {
			case reports <- batch:
			case <-ctx.Done():
				return
			}
			batch = make([]report, 0, 4096)
		}
	}
}

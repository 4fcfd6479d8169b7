package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-io/moldau/bench/load"
)

// series is several figures that one server gives in one turn.
type series struct {
	name    string
	lines   []line
	measure func(ctx context.Context, who string) (map[string]float64, error)
}

// line is one figure of a series. For some more is better, for times less is; ratio is always how many times better Moldau is.
type line struct {
	name, unit string
	less       bool
}

const (
	byOne    = "1,000 topics by one request until all are led"
	byMany   = "1,000 topics by 1,000 requests until all are led"
	deleted  = "1,000 topics deleted until gone"
	offDisk  = "1,000 topics deleted until no directory has their name"
	wide     = "one topic of 9,000 partitions until all are led"
	cleanAns = "1,000 partitions, clean stop: exec to first Metadata answer"
	cleanLed = "1,000 partitions, clean stop: exec until all are led"
	killAns  = "1,000 partitions, kill with 2 GB unflushed: exec to first Metadata answer"
	killLed  = "1,000 partitions, kill with 2 GB unflushed: exec until all are recovered and led"
)

func allSeries() []series {
	return []series{
		{"metadata", []line{{byOne, "topics/s", false}, {byMany, "topics/s", false}, {deleted, "topics/s", false}, {offDisk, "topics/s", false},
			{wide, "ms", true}}, metadataSeries},
		{"restart clean", []line{{cleanAns, "ms", true}, {cleanLed, "ms", true}}, restartSeries(false)},
		{"restart kill", []line{{killAns, "ms", true}, {killLed, "ms", true}}, restartSeries(true)},
	}
}

func (s series) run(ctx context.Context, turns []string) error {
	got := map[string]map[string][]figure{}
	for range *rounds {
		for _, who := range turns {
			values, err := s.measure(ctx, who)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", s.name, who, err)
			}
			for name, v := range values {
				if got[name] == nil {
					got[name] = map[string][]figure{}
				}
				got[name][who] = append(got[name][who], figure{value: v})
			}
		}
	}
	of := func(f figure) float64 { return f.value }
	for _, l := range s.lines {
		fmt.Printf("\n%s (%s)\n", l.name, l.unit)
		for _, who := range []string{"kafka", "moldau"} {
			if fs := got[l.name][who]; len(fs) > 0 {
				fmt.Printf("  %-9s %s\n", who, spread(fs, of))
			}
		}
		if k, m := got[l.name]["kafka"], got[l.name]["moldau"]; len(k) > 0 && len(m) > 0 {
			ratio := median(m, of) / median(k, of)
			if l.less {
				ratio = 1 / ratio
			}
			fmt.Printf("  moldau is %.1fx faster\n", ratio)
		}
	}
	return nil
}

// metadataSeries creates and deletes topics on one server: a few hundred first, for the JVM, then what is measured.
func metadataSeries(ctx context.Context, who string) (map[string]float64, error) {
	s, err := newServer(who)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	c, err := dialCaller(s.addr)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.warm(who); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	got := map[string]float64{}
	names := topicNames("one", 1000)
	took, err := timed(func() error { return c.createAndLead(names, 1, len(names)) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", byOne, err)
	}
	got[byOne] = 1000 / took.Seconds()
	s.quiet()
	began := time.Now()
	if took, err = timed(func() error { return c.deleteUntilGone(names) }); err != nil {
		return nil, fmt.Errorf("%s: %w", deleted, err)
	}
	got[deleted] = 1000 / took.Seconds()
	if err := s.untilNoDir("one-", time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	got[offDisk] = 1000 / time.Since(began).Seconds()
	s.quiet()
	names = topicNames("many", 1000)
	if took, err = timed(func() error { return c.createAndLead(names, 1, 1) }); err != nil {
		return nil, fmt.Errorf("%s: %w", byMany, err)
	}
	got[byMany] = 1000 / took.Seconds()
	s.quiet()
	if took, err = timed(func() error { return c.createAndLead([]string{"wide"}, 9000, 1) }); err != nil {
		return nil, fmt.Errorf("%s: %w", wide, err)
	}
	got[wide] = ms(took)
	return got, ctx.Err()
}

// restartSeries makes 1,000 partitions, ends the server and starts it on the same directory. After a clean stop each partition
// has one batch; before a kill 2 GB lie over all of them, in segments that were never flushed.
func restartSeries(kill bool) func(context.Context, string) (map[string]float64, error) {
	return func(ctx context.Context, who string) (map[string]float64, error) {
		s, err := newServer(who)
		if err != nil {
			return nil, err
		}
		defer s.stop()
		names := topicNames("restart", 10)
		const partitions, total = 100, 2000 << 20
		if err := fill(s.addr, names, partitions, kill, total); err != nil {
			return nil, err
		}
		before, err := ends(s.addr, names, partitions)
		if err != nil {
			return nil, err
		}
		s.end(kill)
		answered, led, err := s.again(names, partitions)
		if err != nil {
			return nil, err
		}
		after, err := ends(s.addr, names, partitions)
		if err != nil {
			return nil, err
		}
		if before != after {
			return nil, fmt.Errorf("the partitions ended at %d in all and end at %d after the restart", before, after)
		}
		if kill {
			return map[string]float64{killAns: ms(answered), killLed: ms(led)}, ctx.Err()
		}
		return map[string]float64{cleanAns: ms(answered), cleanLed: ms(led)}, ctx.Err()
	}
}

func fill(addr string, names []string, partitions int, kill bool, total int) error {
	c, err := dialCaller(addr)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.createAndLead(names, partitions, len(names)); err != nil {
		return err
	}
	size := 1000
	if kill {
		size = 256 << 10
	}
	batch, _ := load.Batch(1000, size)
	each := 1
	if kill {
		each = total / len(names) / partitions / len(batch)
	}
	for range each {
		for _, name := range names {
			for p := range partitions {
				if err := c.produce(name, int32(p), batch); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ends sums the end offsets of all partitions.
func ends(addr string, names []string, partitions int) (int64, error) {
	c, err := dialCaller(addr)
	if err != nil {
		return 0, err
	}
	defer c.close()
	sum, ok, err := c.offsets(names, partitions)
	if err == nil && !ok {
		err = fmt.Errorf("a partition does not say where it ends")
	}
	return sum, err
}

func topicNames(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return names
}

func timed(f func() error) (time.Duration, error) {
	began := time.Now()
	err := f()
	return time.Since(began), err
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// quiet lets background work of what was just measured end.
func (s *server) quiet() { time.Sleep(time.Second) }

// dataDir is the server's log directory.
func (s *server) dataDir() string {
	if s.who == "kafka" {
		return filepath.Join(s.dir, "node1/data")
	}
	return filepath.Join(s.dir, "data")
}

// untilNoDir waits until no partition's directory begins with prefix, but for those that wait to be removed.
func (s *server) untilNoDir(prefix string, deadline time.Time) error {
	for {
		entries, err := os.ReadDir(s.dataDir())
		if err != nil {
			return err
		}
		left := 0
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), prefix) && !strings.HasSuffix(e.Name(), "-delete") {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d directories of deleted topics still have their name", left)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// warm creates and deletes topics in both ways; the JVM compiles meanwhile.
func (c *caller) warm(who string) error {
	times := 1
	if who == "kafka" {
		times = 3
	}
	for i := range times {
		names := topicNames(fmt.Sprintf("warm%d", i), 200)
		if err := c.createAndLead(names[:150], 1, 150); err != nil {
			return err
		}
		if err := c.createAndLead(names[150:], 1, 1); err != nil {
			return err
		}
		if err := c.deleteUntilGone(names); err != nil {
			return err
		}
	}
	time.Sleep(time.Second)
	return nil
}

// createAndLead creates topics, so many with each request, one request after the other, and returns when every partition has a
// leader in the metadata and that leader answers for it.
func (c *caller) createAndLead(names []string, partitions, perRequest int) error {
	for at := 0; at < len(names); at += perRequest {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.SetVersion(7)
		req.TimeoutMillis = 60_000
		for _, name := range names[at : at+perRequest] {
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = name, int32(partitions), 1
			req.Topics = append(req.Topics, t)
		}
		resp := kmsg.NewPtrCreateTopicsResponse()
		if err := c.call(req, resp); err != nil {
			return err
		}
		for _, t := range resp.Topics {
			if t.ErrorCode != 0 {
				return fmt.Errorf("topic %s: error %d", t.Topic, t.ErrorCode)
			}
		}
	}
	return c.untilLed(names, partitions, time.Now().Add(2*time.Minute))
}

// untilLed asks for the metadata until all have leaders, then for the ends of the partitions until all answer.
func (c *caller) untilLed(names []string, partitions int, deadline time.Time) error {
	for _, ask := range []func([]string, int) (bool, error){c.led, func(names []string, n int) (bool, error) {
		_, ok, err := c.offsets(names, n)
		return ok, err
	}} {
		for {
			ok, err := ask(names, partitions)
			if err != nil {
				return err
			}
			if ok {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("not all of %s... are led", names[0])
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	return nil
}

func (c *caller) led(names []string, partitions int) (bool, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.SetVersion(9)
	for i := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &names[i]
		req.Topics = append(req.Topics, t)
	}
	resp := kmsg.NewPtrMetadataResponse()
	if err := c.call(req, resp); err != nil {
		return false, err
	}
	for _, t := range resp.Topics {
		if t.ErrorCode != 0 || len(t.Partitions) != partitions {
			return false, nil
		}
		for _, p := range t.Partitions {
			if p.Leader < 0 {
				return false, nil
			}
		}
	}
	return len(resp.Topics) == len(names), nil
}

// offsets asks the leader for the end of every partition and sums them; ok says that all have answered.
func (c *caller) offsets(names []string, partitions int) (sum int64, ok bool, err error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.SetVersion(7)
	req.ReplicaID = -1
	for _, name := range names {
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = name
		for n := range partitions {
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.Timestamp = int32(n), -1
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	resp := kmsg.NewPtrListOffsetsResponse()
	if err := c.call(req, resp); err != nil {
		return 0, false, err
	}
	n := 0
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return 0, false, nil
			}
			n++
			sum += p.Offset
		}
	}
	return sum, n == len(names)*partitions, nil
}

func (c *caller) deleteUntilGone(names []string) error {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.SetVersion(5)
	req.TopicNames, req.TimeoutMillis = names, 60_000
	resp := kmsg.NewPtrDeleteTopicsResponse()
	if err := c.call(req, resp); err != nil {
		return err
	}
	for _, t := range resp.Topics {
		if t.ErrorCode != 0 {
			return fmt.Errorf("delete: error %d", t.ErrorCode)
		}
	}
	for deadline := time.Now().Add(2 * time.Minute); ; {
		all := kmsg.NewPtrMetadataRequest()
		all.SetVersion(9)
		all.Topics = nil
		listed := kmsg.NewPtrMetadataResponse()
		if err := c.call(all, listed); err != nil {
			return err
		}
		left := map[string]bool{}
		for _, t := range listed.Topics {
			left[*t.Topic] = true
		}
		gone := true
		for _, name := range names {
			gone = gone && !left[name]
		}
		if gone {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("deleted topics are still listed")
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (c *caller) produce(topic string, partition int32, batch []byte) error {
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(9)
	req.Acks, req.TimeoutMillis = 1, 30_000
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, batch
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.Partitions = topic, []kmsg.ProduceRequestTopicPartition{p}
	req.Topics = []kmsg.ProduceRequestTopic{t}
	resp := kmsg.NewPtrProduceResponse()
	if err := c.call(req, resp); err != nil {
		return err
	}
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
		return fmt.Errorf("produce to %s-%d: error %d", topic, partition, code)
	}
	return nil
}

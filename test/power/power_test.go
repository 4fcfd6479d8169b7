package power

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	enabled = flag.Bool("power", false, "mount file systems and take their power away (make power)")
	rounds  = flag.Int("rounds", 20, "how often the power goes")
)

const (
	topic      = "t"
	partitions = 8
)

func client(t *testing.T, addr string, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	// A topic that was just made is there when the node has made its directories, which may take longer than the few looks after which
	// a client gives up.
	opts := append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RetryTimeout(20 * time.Second),
		kgo.DialTimeout(5 * time.Second), kgo.MetadataMinAge(100 * time.Millisecond), kgo.UnknownTopicRetries(-1)}, more...)
	c, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ack is one record that was acknowledged.
type ack struct {
	partition int32
	offset    int64
	value     uint64
}

// ledger is what was acknowledged until it was closed, which happens just before the power goes. What comes after that is not
// counted: a machine without power answers nobody, while this one lives for another moment, and an fsync that is under way when
// the file system is shut down may return as if it had succeeded.
type ledger struct {
	mu     sync.Mutex
	acked  []ack
	closed bool
	first  chan struct{} // closed with the first; may be nil
}

func (l *ledger) add(a ack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.acked = append(l.acked, a)
		if len(l.acked) == 1 && l.first != nil {
			close(l.first)
		}
	}
}

func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// load writes from many producers until stop is closed. Each waits for its record before it sends the next; values never repeat.
func load(t *testing.T, addr string, producers int, next *atomic.Uint64, l *ledger, stop <-chan struct{}) {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	clients := make([]*kgo.Client, producers) // a broker takes the requests of one connection one after the other
	for i := range clients {
		clients[i] = client(t, addr, kgo.ProducerLinger(0), kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.MaxProduceRequestsInflightPerBroker(16))
		defer clients[i].Close()
	}
	for p := range producers {
		wg.Go(func() {
			for ctx.Err() == nil {
				value := next.Add(1)
				r := &kgo.Record{Topic: topic, Partition: int32(p % partitions), Value: append(binary.BigEndian.AppendUint64(nil, value), make([]byte, 100)...)}
				if err := clients[p%len(clients)].ProduceSync(ctx, r).FirstErr(); err != nil {
					continue
				}
				l.add(ack{r.Partition, r.Offset, value})
			}
		})
	}
	<-stop
	cancel()
	wg.Wait()
}

// readAll returns every record by partition and offset.
func readAll(t *testing.T, addr string) (map[int32]map[int64]uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := client(t, addr, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	defer c.Close()
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		return nil, err
	}
	out, left := map[int32]map[int64]uint64{}, 0
	ends.Each(func(o kadm.ListedOffset) {
		out[o.Partition] = map[int64]uint64{}
		if o.Offset > 0 {
			left++
		}
	})
	for left > 0 {
		f := c.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%d partitions are not read to their end", left)
		}
		for _, e := range f.Errors() {
			return nil, fmt.Errorf("read of partition %d: %w", e.Partition, e.Err)
		}
		f.EachRecord(func(r *kgo.Record) {
			out[r.Partition][r.Offset] = binary.BigEndian.Uint64(r.Value)
			if end, _ := ends.Lookup(topic, r.Partition); r.Offset == end.Offset-1 {
				left--
			}
		})
	}
	return out, nil
}

func createTopic(t *testing.T, addr string, configs map[string]*string) {
	t.Helper()
	c := client(t, addr)
	defer c.Close()
	a := kadm.NewClient(c)
	if _, err := a.CreateTopic(t.Context(), partitions, 1, configs, topic); err != nil {
		t.Fatal(err)
	}
	// The metadata shows a leader before it has made the log. Clients that do not try again are to meet one that has.
	for deadline := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
		ends, err := a.ListEndOffsets(t.Context(), topic)
		if err = errors.Join(err, ends.Error()); err == nil && len(ends[topic]) == partitions {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d leaders answer, %v", len(ends[topic]), partitions, err)
		}
	}
}

// With flush.messages=1 nothing that was acknowledged is gone after the power was.
func TestPowerLoss(t *testing.T) {
	v := newVolume(t, 512)
	n := newNode(t, build(t), filepath.Join(v.dir, "data"), "log.flush.offset.checkpoint.interval.ms=200")
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	one, small := "1", "1048576"
	createTopic(t, n.addr, map[string]*string{"flush.messages": &one, "segment.bytes": &small})
	var next atomic.Uint64
	acked := map[int32]map[int64]uint64{}
	total, beyond := 0, 0
	for round := 1; round <= *rounds; round++ {
		stop, l := make(chan struct{}), &ledger{first: make(chan struct{})}
		failed := make(chan error, 1)
		go func() {
			select {
			case <-l.first:
			case <-time.After(time.Minute):
			}
			// The moment is never the same: between 200 and 600 ms after the first acknowledgement.
			<-time.After(200*time.Millisecond + time.Duration(round*7919%400)*time.Millisecond)
			l.close()
			failed <- v.powerOff()
			n.kill()
			close(stop)
		}()
		load(t, n.addr, 64, &next, l, stop)
		got := l.acked
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
		for _, a := range got {
			if acked[a.partition] == nil {
				acked[a.partition] = map[int64]uint64{}
			}
			acked[a.partition][a.offset] = a.value
		}
		total += len(got)
		if err := errors.Join(v.unmount(), v.mount()); err != nil {
			t.Fatal(err)
		}
		if err := n.start(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		have, err := readAll(t, n.addr)
		if err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, n.log())
		}
		lost := 0
		for p, offsets := range acked {
			for o, value := range offsets {
				if have[p][o] != value {
					if lost++; lost < 4 {
						t.Errorf("round %d: partition %d, offset %d: %d was acknowledged, %d is there", round, p, o, value, have[p][o])
					}
				}
			}
		}
		if lost > 0 {
			t.Fatalf("round %d: %d acknowledged records are lost\n%s", round, lost, n.log())
		}
		beyond = -total
		for _, p := range have {
			beyond += len(p)
		}
		if len(got) == 0 {
			t.Errorf("round %d: nothing was acknowledged", round)
		}
	}
	t.Logf("%d power losses, %d acknowledged records, all there, and %d that nobody was told of", *rounds, total, beyond)
}

// The same load without flush.messages loses records: the fault is one.
func TestPowerLossIsOne(t *testing.T) {
	v := newVolume(t, 256)
	n := newNode(t, build(t), filepath.Join(v.dir, "data"))
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	createTopic(t, n.addr, nil)
	stop, l := make(chan struct{}), &ledger{first: make(chan struct{})}
	var next atomic.Uint64
	go func() {
		select {
		case <-l.first: // on a busy machine the load begins late
		case <-time.After(time.Minute):
		}
		<-time.After(500 * time.Millisecond)
		l.close()
		if err := v.powerOff(); err != nil {
			t.Error(err)
		}
		n.kill()
		close(stop)
	}()
	load(t, n.addr, 64, &next, l, stop)
	acked := l.acked
	if err := errors.Join(v.unmount(), v.mount(), n.start()); err != nil {
		t.Fatal(err)
	}
	c := client(t, n.addr)
	defer c.Close()
	ends, err := kadm.NewClient(c).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += max(0, o.Offset) })
	if left >= int64(len(acked)) {
		t.Errorf("%d of %d records that were never synced outlived the power loss", left, len(acked))
	}
	t.Logf("%d acknowledged, %d left", len(acked), left)
}

// A disk of 64 MiB is filled under load. Produce is refused while the node serves, deletes and is administered; the first write after
// space came back is taken within a second, and everything that was acknowledged is there, also after a kill on the full disk.
func TestFullDisk(t *testing.T) {
	v := newVolume(t, 64)
	for _, reserve := range []string{"-1", "0"} {
		t.Run("reserve "+reserve, func(t *testing.T) { fullDisk(t, v, reserve) })
	}
}

func fullDisk(t *testing.T, v *volume, reserve string) {
	data := filepath.Join(v.dir, "data")
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, build(t), data, "moldau.log.dir.reserve.bytes="+reserve, "log.retention.check.interval.ms=100", "log.initial.task.delay.ms=0")
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	small, soon := "1048576", "1"
	createTopic(t, n.addr, map[string]*string{"segment.bytes": &small, "file.delete.delay.ms": &soon})
	c := client(t, n.addr, kgo.RecordRetries(0), kgo.DisableIdempotentWrite())
	defer c.Close()
	a := kadm.NewClient(c)
	acked := map[int32]map[int64]uint64{}
	value := uint64(0)
	write := func(p int32) error {
		value++
		r := &kgo.Record{Topic: topic, Partition: p, Value: append(binary.BigEndian.AppendUint64(nil, value), randomBytes(100_000)...)}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := c.ProduceSync(ctx, r).FirstErr(); err != nil {
			return err
		}
		if acked[p] == nil {
			acked[p] = map[int64]uint64{}
		}
		acked[p][r.Offset] = value
		return nil
	}
	admin := administer(t, a)
	for what, err := range admin("before") {
		t.Errorf("%s: %v", what, err)
	}
	refused := 0
	for i := 0; refused < 50; i++ {
		if err := write(int32(i % partitions)); errors.Is(err, kerr.KafkaStorageError) {
			refused++
		} else if err != nil {
			t.Fatalf("produce on a full disk: %v\n%s", err, n.log())
		}
		if i > 5000 {
			t.Fatal("a disk of 64 MiB is not full after 500 MB")
		}
	}
	check := func() {
		t.Helper()
		have, err := readAll(t, n.addr)
		if err != nil {
			t.Fatalf("read on a full disk: %v\n%s", err, n.log())
		}
		for p, offsets := range acked {
			for o, value := range offsets {
				if have[p][o] != value {
					t.Fatalf("partition %d, offset %d: %d was acknowledged, %d is there", p, o, value, have[p][o])
				}
			}
		}
	}
	check()
	// The metadata log and the coordinators' are on the same disk. With a reserve they do not notice; without one they may refuse, and
	// the node lives.
	for what, err := range admin("full") {
		if reserve != "0" {
			t.Errorf("on a full disk: %s: %v", what, err)
		} else {
			t.Logf("without a reserve, on a full disk: %s: %v", what, err)
		}
	}
	// A start on a full disk. Without a reserve there is no room for the vote that makes this node its own controller again: it
	// says so and does not start.
	if reserve != "0" {
		n.kill()
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
		check()
		// It refuses again, and the client has a new connection.
		deadline := time.Now().Add(time.Minute)
		for err := write(0); !errors.Is(err, kerr.KafkaStorageError); err = write(0) {
			if time.Now().After(deadline) {
				t.Fatalf("produce on a full disk after a start: %v\n%s", err, n.log())
			}
		}
	}
	if !n.alive() {
		t.Fatal("the node died of a full disk\n" + n.log())
	}
	// Space comes back by deletion, which the node does itself.
	var o kadm.Offsets
	for p, offsets := range acked {
		o.AddOffset(topic, p, int64(len(offsets))-1, -1)
		delete(acked, p)
	}
	if r, err := a.DeleteRecords(t.Context(), o); err != nil || r.Error() != nil {
		t.Fatalf("delete records on a full disk: %v, %v", err, r.Error())
	}
	before, err := free(v.dir)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	now := before
	for now < before+20<<20 {
		if now, err = free(v.dir); err != nil || time.Now().After(deadline) {
			t.Fatalf("%d bytes free, %v: nothing was deleted\n%s", now, err, n.log())
		}
	}
	back := time.Now()
	if err := write(0); err != nil {
		t.Fatalf("the first write after space came back: %v", err)
	}
	took := time.Since(back)
	t.Logf("written again %v after space came back", took.Round(time.Millisecond))
	if took > time.Second {
		t.Error("more than a second")
	}
	var failing map[string]error
	for i := 0; i == 0 || len(failing) > 0; i++ {
		failing = admin(fmt.Sprint("again", i))
		if len(failing) > 0 && time.Since(back) > 10*time.Second {
			t.Fatalf("after space came back: %v\n%s", failing, n.log())
		}
	}
	t.Logf("administered again %v after space came back", time.Since(back).Round(time.Millisecond))
	n.kill()
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	if have, err := readAll(t, n.addr); err != nil {
		t.Error(err)
	} else {
		for p, offsets := range acked {
			for o, value := range offsets {
				if have[p][o] != value {
					t.Errorf("partition %d, offset %d: %d was acknowledged, %d is there", p, o, value, have[p][o])
				}
			}
		}
	}
	n.kill()
}

// administer returns a function that does what an administrator and a consumer do on a disk: a topic comes and goes, a configuration
// is changed, offsets are committed. It returns what failed.
func administer(t *testing.T, a *kadm.Client) func(name string) map[string]error {
	return func(name string) map[string]error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		failed := map[string]error{}
		note := func(what string, errs ...error) {
			if err := errors.Join(errs...); err != nil {
				failed[what] = err
			}
		}
		r, err := a.CreateTopic(ctx, 1, 1, nil, "made-"+name)
		note("create a topic", err, r.Err)
		value := fmt.Sprint(100_000_000 + len(name))
		c, err := a.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}, topic)
		for _, x := range c {
			err = errors.Join(err, x.Err)
		}
		note("change a configuration", err)
		var o kadm.Offsets
		o.Add(kadm.Offset{Topic: topic, At: int64(len(name)), LeaderEpoch: -1})
		committed, err := a.CommitOffsets(ctx, "group", o)
		note("commit offsets", err, committed.Error())
		d, err := a.DeleteTopic(ctx, "made-"+name)
		if !errors.Is(d.Err, kerr.UnknownTopicOrPartition) || r.Err == nil {
			note("delete a topic", err, d.Err)
		}
		return failed
	}
}

// A failed fsync takes the directory out of service at once, and nothing is acknowledged any more.
func TestFailedSync(t *testing.T) {
	wanted(t)
	n := newNode(t, build(t), filepath.Join(t.TempDir(), "data"))
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	one := "1"
	createTopic(t, n.addr, map[string]*string{"flush.messages": &one})
	c := client(t, n.addr, kgo.RecordRetries(0), kgo.DisableIdempotentWrite())
	defer c.Close()
	write := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return c.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: make([]byte, 8)}).FirstErr()
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	// Every fsync of the process fails once: the first one that comes. Those behind it would succeed.
	inject(t, n, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO:when=1")
	var failed error
	for deadline := time.Now().Add(time.Minute); !strings.Contains(n.log(), "goes offline"); {
		switch err := write(); {
		case errors.Is(err, context.DeadlineExceeded): // a system call takes long under strace
		case err != nil:
			failed = err
		case failed != nil:
			t.Fatalf("acknowledged after a failed fsync, %v\n%s", failed, n.log())
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log does not say that the directory is offline; a write failed: %v\n%s", failed, n.log())
		}
	}
	for range 5 {
		if err := write(); err == nil {
			t.Fatal("acknowledged after a failed fsync\n" + n.log())
		}
	}
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	copySeeds    = 40000          // in the input at first
	maxCopySeeds = copySeeds * 16 // in that of copiers which are through before they, or the node, are bounced
	copyEach     = 250
	copyBounces  = 2
	// A copier that was killed within a transaction cannot ask for its offsets before the coordinator has aborted it.
	copyTimeout  = 15 * time.Second
	copyDeadline = 5 * time.Minute
)

// copyRun is a row of the matrix of Apache Kafka's system test transactions_test.py, or of group_mode_transactions_test.py.
type copyRun struct {
	clients  bool   // the copiers are bounced, else the node
	hard     bool   // by SIGKILL
	protocol string // of the consumer that reads the output meanwhile
	metadata bool   // offsets are sent with the member's metadata
	copiers  int
	group    bool // copiers share the input's partitions in a group, else each copies its own
}

func (r copyRun) name() string {
	target, mode := "node", "clean"
	if r.clients {
		target = "copiers"
	}
	if r.hard {
		mode = "hard"
	}
	name := fmt.Sprintf("%s %s %s", target, mode, r.protocol)
	if r.group {
		name += " group"
	}
	if r.metadata {
		name += " metadata"
	}
	return name
}

// copyRuns is what is run without being asked for more: with COPIER=all the whole matrix.
func copyRuns() (onCopiers, onNode []copyRun) {
	if os.Getenv("COPIER") == "all" {
		for i := range 32 {
			r := copyRun{clients: i&1 != 0, hard: i&2 != 0, protocol: "classic", metadata: i&8 != 0, copiers: 2 - i>>4}
			if i&4 != 0 {
				r.protocol = "consumer"
			}
			if r.clients {
				onCopiers = append(onCopiers, r)
			} else {
				onNode = append(onNode, r)
			}
		}
		for i := range 4 {
			r := copyRun{clients: i&1 != 0, hard: i&2 != 0, protocol: "classic", metadata: true, copiers: 3, group: true}
			if r.clients {
				onCopiers = append(onCopiers, r)
			} else {
				onNode = append(onNode, r)
			}
		}
		return onCopiers, onNode
	}
	return []copyRun{
			{clients: true, hard: true, protocol: "classic", copiers: 2},
			{clients: true, protocol: "consumer", metadata: true, copiers: 1},
			{clients: true, hard: true, protocol: "classic", metadata: true, copiers: 2, group: true},
		}, []copyRun{
			{hard: true, protocol: "consumer", metadata: true, copiers: 2},
			{protocol: "classic", copiers: 2},
		}
}

// stageCopier: Apache Kafka's transactional-message-copier copies a topic in transactions, some of which it aborts at random, while
// it, or the node, is killed or stopped and started again. What a consumer reads as committed meanwhile, and what is there in the
// end, is what was in the input: each record once, in each partition's order; and the group's offsets are the input's end.
func stageCopier(ctx context.Context, t *table, here string) {
	props := []string{"offsets.topic.num.partitions=5", "transaction.state.log.num.partitions=5",
		"transaction.abort.timed.out.transaction.cleanup.interval.ms=500"}
	n, err := newNode(here, props...)
	if err != nil {
		t.add("copier", "node", time.Now(), err)
		return
	}
	defer os.RemoveAll(n.dir)
	defer n.stop(false)
	onCopiers, onNode := copyRuns()
	// Copiers wait most of the time for transactions to time out: three runs wait together.
	for three := range slices.Chunk(onCopiers, 3) {
		var all sync.WaitGroup
		for _, r := range three {
			all.Go(func() {
				t.row("copier", r.name(), n, func() error { return copyAtWork(ctx, here, n, r) })
			})
		}
		all.Wait()
	}
	for _, r := range onNode {
		t.row("copier", r.name(), n, func() error { return copyAtWork(ctx, here, n, r) })
	}
}

// copyAtWork gives the copiers more to do until every bounce meets them at work.
func copyAtWork(ctx context.Context, here string, n *node, r copyRun) error {
	for seeds := copySeeds; seeds <= maxCopySeeds; seeds *= 4 {
		met, err := copyOnce(ctx, here, n, r, seeds)
		if err != nil || met {
			return err
		}
	}
	return fmt.Errorf("copiers were through with %d records before they were bounced", maxCopySeeds)
}

func copyOnce(ctx context.Context, here string, n *node, r copyRun, seeds int) (met bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, copyDeadline)
	defer cancel()
	run := topicOf("copy"+strconv.Itoa(seeds), r.name()+strconv.Itoa(r.copiers))
	input, output, partitions := run+"-in", run+"-out", r.copiers
	if r.group {
		partitions = 3 * r.copiers
	}
	if err := createTopic(ctx, n, input, int32(partitions)); err != nil {
		return false, err
	}
	if err := createTopic(ctx, n, output, int32(partitions+1)); err != nil {
		return false, err
	}
	if err := seed(ctx, n, input, partitions, seeds); err != nil {
		return false, fmt.Errorf("seeding: %w", err)
	}
	var copiers []*copier
	for i := range r.copiers {
		c := newCopier(here, n, r, run, input, output, i)
		if err := c.start(); err != nil {
			return false, err
		}
		defer c.kill()
		copiers = append(copiers, c)
	}
	reader, err := readMeanwhile(ctx, here, n, r, run, output)
	if err != nil {
		return false, err
	}
	defer reader.stop()
	if r.clients {
		met, err = bounceCopiers(ctx, copiers, r.hard)
	} else {
		met, err = bounceNode(ctx, n, copiers, r.hard)
	}
	if err != nil {
		return met, err
	}
	for _, c := range copiers {
		if err := c.until(ctx, func() bool { return false }); err != nil {
			return met, err
		}
	}
	return met, copied(ctx, n, reader, run, input, output, partitions, seeds)
}

// copied compares the output with the input.
func copied(ctx context.Context, n *node, reader *reader, group, input, output string, partitions, seeds int) error {
	meanwhile, err := reader.lines(ctx, seeds)
	if err != nil {
		return err
	}
	want := make([]int, seeds)
	for i := range want {
		want[i] = i
	}
	ends, err := committedByPartition(ctx, n, output)
	if err != nil {
		return err
	}
	var all []int
	for p, records := range ends {
		if !slices.IsSorted(records) {
			return wrongf("partition %d of the output is not in the input's order", p)
		}
		all = append(all, records...)
	}
	if err := sameRecords(all, want); err != nil {
		return fmt.Errorf("read in the end: %w", err)
	}
	if err := sameRecords(meanwhile, want); err != nil {
		return fmt.Errorf("read meanwhile, though the output is right: %w", err)
	}
	for p := range partitions {
		if err := committedAt(ctx, n, group, input, int32(p), int64(len(ends[int32(p)]))); err != nil {
			return err
		}
	}
	return nil
}

// seed writes record i to partition i mod partitions.
func seed(ctx context.Context, n *node, topic string, partitions, count int) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(n.addr()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer c.Close()
	records := make([]*kgo.Record, count)
	for i := range records {
		records[i] = &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: strconv.AppendInt(nil, int64(i), 10)}
	}
	return c.ProduceSync(ctx, records...).FirstErr()
}

// bounceCopiers bounces each copier copyBounces times, always after a fifth of what was left to it.
func bounceCopiers(ctx context.Context, copiers []*copier, hard bool) (met bool, err error) {
	met = true
	for range copyBounces {
		for _, c := range copiers {
			if err := c.until(ctx, func() bool { return c.progress() >= 0.2 }); err != nil {
				return met, err
			}
			bounced, err := c.bounce(hard)
			if err != nil {
				return met, err
			}
			met = met && bounced
		}
	}
	return met, nil
}

func bounceNode(ctx context.Context, n *node, copiers []*copier, hard bool) (met bool, err error) {
	met = true
	for i := range copyBounces {
		for _, c := range copiers {
			if err := c.until(ctx, func() bool { return c.progress() >= 0.2*float64(i+1) }); err != nil {
				return met, err
			}
		}
		met = met && slices.ContainsFunc(copiers, (*copier).alive)
		n.stop(hard)
		if err := n.start(); err != nil {
			return met, err
		}
	}
	return met, nil
}

// copier is a transactional-message-copier, started again under its transactional id.
type copier struct {
	command string
	args    []string

	mu                  sync.Mutex
	cmd                 *exec.Cmd
	consumed, remaining int64 // since it was started; remaining is -1 before it says anything
	done                bool
	complaint           strings.Builder
	changed             chan struct{} // something was said since it was last looked at
	exited              chan struct{} // closed when the process is gone
}

func newCopier(here string, n *node, r copyRun, group, input, output string, i int) *copier {
	args := []string{"transactional-message-copier", "--broker-list", n.addr(), "--transactional-id", group + "-" + strconv.Itoa(i),
		"--consumer-group", group, "--input-topic", input, "--output-topic", output, "--transaction-size", strconv.Itoa(copyEach),
		"--transaction-timeout", strconv.FormatInt(copyTimeout.Milliseconds(), 10), "--enable-random-aborts"}
	if r.metadata {
		args = append(args, "--use-group-metadata")
	}
	if r.group {
		args = append(args, "--group-mode")
		i = -1
	}
	args = append(args, "--input-partition", strconv.Itoa(i))
	return &copier{command: filepath.Join(here, "clients/tool.sh"), args: args}
}

func (c *copier) start() error {
	cmd := exec.Command(c.command, c.args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.cmd, c.consumed, c.remaining = cmd, 0, -1
	c.changed, c.exited = make(chan struct{}, 1), make(chan struct{})
	cmd.Stderr = &c.complaint
	c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(c.exited)
		c.listen(out)
		_ = cmd.Wait()
	}()
	return nil
}

// listen follows what the copier says of itself until it is gone.
func (c *copier) listen(out io.Reader) {
	scan := bufio.NewScanner(out)
	for scan.Scan() {
		var s struct {
			Stage               string
			Consumed, Remaining int64
		}
		if json.Unmarshal(scan.Bytes(), &s) != nil || s.Stage == "" {
			continue
		}
		c.mu.Lock()
		c.consumed, c.remaining = s.Consumed, s.Remaining
		// One that is told to go says so too, with a rest.
		c.done = s.Stage == "ShutdownComplete" && s.Remaining == 0
		c.mu.Unlock()
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}
}

// until returns when enough holds after something the copier said, or when it is done.
func (c *copier) until(ctx context.Context, enough func() bool) error {
	for {
		if enough() {
			return nil
		}
		select {
		case <-c.changed:
		case <-c.exited:
			if c.done {
				return nil
			}
			return fmt.Errorf("copier %s ended, %d records before its end: %s", c.args[4], c.remaining, tail(c.complaint.String()))
		case <-ctx.Done():
			c.mu.Lock()
			defer c.mu.Unlock()
			return fmt.Errorf("copier %s has %d of %d records left: %w", c.args[4], c.remaining, c.consumed+c.remaining, ctx.Err())
		}
	}
}

func (c *copier) progress() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.remaining < 0:
		return 0
	case c.consumed+c.remaining == 0:
		return 1
	}
	return float64(c.consumed) / float64(c.consumed+c.remaining)
}

func (c *copier) alive() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// bounce ends the copier and starts it again, and reports whether it had something left to do.
func (c *copier) bounce(hard bool) (bool, error) {
	signal := syscall.SIGTERM
	if hard {
		signal = syscall.SIGKILL
	}
	_ = c.cmd.Process.Signal(signal)
	<-c.exited
	if c.done {
		return false, nil
	}
	return true, c.start()
}

func (c *copier) kill() {
	_ = c.cmd.Process.Kill()
	<-c.exited
}

// reader is a console-consumer that reads the output while it is written. Where its only node goes it keeps what it knew of the
// cluster: the default (KIP-899) is to forget it, a member of a classic group that has forgotten its topics' partitions may join again,
// and it leaves out of what it commits before that a position which is not validated yet: it would read records twice, as beside
// Apache Kafka.
type reader struct {
	cmd       *exec.Cmd
	values    chan int // closed when the process is gone
	complaint strings.Builder
}

func readMeanwhile(ctx context.Context, here string, n *node, r copyRun, run, output string) (*reader, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(here, "clients/tool.sh"), "console-consumer", "--bootstrap-server", n.addr(), "--topic", output,
		"--group", run+"-reader", "--from-beginning", "--isolation-level", "read_committed", "--command-property", "group.protocol="+r.protocol,
		"--command-property", "metadata.recovery.strategy=none")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	rd := &reader{cmd: cmd, values: make(chan int, maxCopySeeds)}
	cmd.Stderr = &rd.complaint
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(rd.values)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			i, err := strconv.Atoi(scan.Text())
			if err != nil {
				i = -1 // what no input holds
			}
			rd.values <- i
		}
		_ = cmd.Wait()
	}()
	return rd, nil
}

// lines ends the reader when it has read count records, and returns all that it has read by then.
func (r *reader) lines(ctx context.Context, count int) ([]int, error) {
	var got []int
	for len(got) < count {
		select {
		case i, open := <-r.values:
			if !open {
				return nil, errors.New("the reader ended: " + tail(r.complaint.String()))
			}
			got = append(got, i)
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d records were read meanwhile: %w", len(got), count, ctx.Err())
		}
	}
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	for i := range r.values {
		got = append(got, i)
	}
	return got, nil
}

func (r *reader) stop() {
	_ = r.cmd.Process.Kill()
	for range r.values {
	}
}

func tail(text string) string {
	text = strings.TrimSpace(text)
	return text[max(0, len(text)-400):]
}

// committedAt wants the group's offset of the partition to be this.
func committedAt(ctx context.Context, n *node, group, topic string, partition int32, want int64) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := kgo.NewClient(kgo.SeedBrokers(n.addr()))
	if err != nil {
		return err
	}
	defer c.Close()
	// Who is told that the transaction is committed may come before the marker that commits the offset.
	for {
		offsets, err := kadm.NewClient(c).FetchOffsets(ctx, group)
		if err != nil {
			return err
		}
		o, ok := offsets.Lookup(topic, partition)
		if ok && o.At == want {
			return nil
		}
		if !pause(ctx) {
			return wrongf("group %s is at %d of %s-%d, want %d", group, o.At, topic, partition, want)
		}
	}
}

// pause waits a moment, and reports whether there is another before the context's end.
func pause(ctx context.Context) bool {
	deadline, _ := ctx.Deadline()
	time.Sleep(50 * time.Millisecond)
	return time.Until(deadline) > 10*time.Second
}

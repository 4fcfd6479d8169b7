package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func consumerParser() *parser {
	return newParser("This tool reads records from topics and prints them.",
		option{name: "topic", kind: "String", argument: "topic", doc: "The topic to read."},
		option{name: "include", kind: "String", argument: "regex", doc: "Regular expression of the topics to read."},
		option{name: "partition", kind: "Integer", argument: "partition", doc: "The only partition to read, from its end unless --offset is given."},
		option{name: "offset", kind: "String", argument: "consume offset", def: "latest", doc: "Where to start in the partition: a number, earliest or latest."},
		option{name: "consumer-property", kind: "String", argument: "consumer_prop", doc: "(Deprecated) As command-property."},
		option{name: "command-property", kind: "String", argument: "consumer_prop", doc: "A property of the consumer, as key=value."},
		option{name: "consumer.config", kind: "String", argument: "config file", doc: "(Deprecated) As command-config."},
		option{name: "command-config", kind: "String", argument: "config file", doc: "File with properties of the consumer."},
		option{name: "formatter", kind: "String", argument: "class", def: defaultFormatterClass, doc: "How records are printed: one of Kafka's formatter classes."},
		option{name: "property", kind: "String", argument: "prop", doc: "(Deprecated) As formatter-property."},
		option{name: "formatter-property", kind: "String", argument: "prop", doc: "A setting of the formatter, as key=value: print.timestamp, print.key, print.offset, print.epoch, " +
			"print.partition, print.headers, print.value (true or false), key.separator, line.separator, headers.separator, null.literal, " +
			"key.deserializer, value.deserializer, headers.deserializer."},
		option{name: "formatter-config", kind: "String", argument: "config file", doc: "File with settings of the formatter."},
		option{name: "from-beginning", doc: "Start with the first record where the group has no offset."},
		option{name: "max-messages", kind: "Integer", argument: "num_messages", doc: "Stop after so many records."},
		option{name: "timeout-ms", kind: "Long", argument: "timeout_ms", doc: "Stop when no record came for so long."},
		option{name: "skip-message-on-error", doc: "Go on after a record that cannot be printed."},
		option{name: "bootstrap-server", kind: "String", argument: "server to connect to", doc: "REQUIRED: Servers to ask first, as host:port,host:port."},
		option{name: "key-deserializer", kind: "String", argument: "deserializer for keys", doc: "One of Kafka's deserializer classes for keys."},
		option{name: "value-deserializer", kind: "String", argument: "deserializer for values", doc: "One of Kafka's deserializer classes for values."},
		option{name: "enable-systest-events", doc: "Print a line when the consumer has stopped."},
		option{name: "isolation-level", kind: "String", def: "read_uncommitted", doc: "read_committed leaves records of aborted transactions out."},
		option{name: "group", kind: "String", argument: "consumer group id", doc: "The consumer group."})
}

// consumerRun is one run of the console consumer.
type consumerRun struct {
	o          *parsed
	s          Streams
	properties map[string]string
	group      string
	autoCommit bool
	offset     kgo.Offset // for --partition
	timeout    time.Duration
	limit      int64
	format     *formatter
}

func runConsoleConsumer(ctx context.Context, s Streams, args []string) error {
	p := consumerParser()
	o, err := p.parse(args)
	if err != nil {
		return p.usage("%s", err)
	}
	if done, err := o.helpOrVersion(args, s); done {
		return err
	}
	c := &consumerRun{o: o, s: s}
	if err := c.configure(); err != nil {
		return err
	}
	return c.consume(ctx)
}

func (c *consumerRun) configure() error {
	o := c.o
	if o.has("topic") == o.has("include") {
		return o.parser.usage("Exactly one of the following arguments is required: [topic], [include]")
	}
	switch {
	case o.has("partition") && !o.has("topic"):
		return o.parser.usage("The topic is required when partition is specified.")
	case o.has("partition") && o.has("from-beginning") && o.has("offset"):
		return o.parser.usage("Options from-beginning and offset cannot be specified together.")
	case !o.has("partition") && o.has("offset"):
		return o.parser.usage("The partition is required when offset is specified.")
	}
	if err := o.required("bootstrap-server"); err != nil {
		return err
	}
	propertyName, err := o.pick(c.s, "Option", renamed{"command-property", "consumer-property"})
	if err != nil {
		return err
	}
	configName, err := o.pick(c.s, "Option", renamed{"command-config", "consumer.config"})
	if err != nil {
		return err
	}
	file, err := o.str(configName)
	if err != nil {
		return err
	}
	if c.properties, err = clientProperties(file, o.all(propertyName)); err != nil {
		return err
	}
	if err := c.pickGroup(file, o.all(propertyName)); err != nil {
		return err
	}
	if err := c.parseStart(); err != nil {
		return err
	}
	ms, err := o.number("timeout-ms")
	if err != nil {
		return err
	}
	if o.has("timeout-ms") && ms >= 0 {
		c.timeout = time.Duration(min(ms, 1<<40)) * time.Millisecond
	} else {
		c.timeout = -1
	}
	c.limit = -1
	if o.has("max-messages") {
		if c.limit, err = o.number("max-messages"); err != nil {
			return err
		}
	}
	propertyName, err = o.pick(c.s, "Option", renamed{"formatter-property", "property"})
	if err != nil {
		return err
	}
	c.format, err = newFormatter(o, propertyName)
	if err != nil {
		return o.parser.usage("%s", err)
	}
	return nil
}

// pickGroup takes the group id from wherever it is given; all places must agree. Without one, a throwaway group is used that
// commits nothing.
func (c *consumerRun) pickGroup(file string, pairs []string) error {
	var ids []string
	add := func(group string, ok bool) {
		if ok && !slices.Contains(ids, group) {
			ids = append(ids, group)
		}
	}
	given, ok, err := c.o.text("group")
	if err != nil {
		return err
	}
	add(given, ok)
	if file != "" {
		p, err := clientProperties(file, nil)
		if err != nil {
			return err
		}
		v, ok := p["group.id"]
		add(v, ok)
	}
	p, _ := clientProperties("", pairs)
	v, ok := p["group.id"]
	add(v, ok)
	switch {
	case len(ids) > 1:
		return c.o.parser.usage("The group ids provided in different places (directly using '--group', via '--consumer-property', or via "+
			"'--consumer.config') do not match. Detected group ids: '%s'", strings.Join(ids, "', '"))
	case len(ids) == 1 && c.o.has("partition"):
		return c.o.parser.usage("Options group and partition cannot be specified together.")
	case len(ids) == 1:
		c.group, c.autoCommit = ids[0], c.properties["enable.auto.commit"] != "false"
	default:
		c.group, c.autoCommit = fmt.Sprintf("console-consumer-%d", rand.IntN(100000)), c.properties["enable.auto.commit"] == "true"
	}
	return nil
}

// parseStart reads --offset and --from-beginning.
func (c *consumerRun) parseStart() error {
	reset, isSet := c.properties["auto.offset.reset"]
	if isSet && c.o.has("from-beginning") && reset != "earliest" {
		return fail("Can't simultaneously specify --from-beginning and 'auto.offset.reset=%s', please remove one option", reset)
	}
	c.offset = kgo.NewOffset().AtEnd()
	if c.o.has("from-beginning") {
		c.offset = kgo.NewOffset().AtStart()
	}
	if !c.o.has("offset") {
		return nil
	}
	text, err := c.o.str("offset")
	if err != nil {
		return err
	}
	switch strings.ToLower(text) {
	case "earliest":
		c.offset = kgo.NewOffset().AtStart()
	case "latest":
		c.offset = kgo.NewOffset().AtEnd()
	default:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return c.o.parser.usage("The provided offset value '%s' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long.", text)
		}
		c.offset = kgo.NewOffset().At(n)
	}
	return nil
}

// clientOptions translates options and Java consumer properties to those of the client.
func (c *consumerRun) clientOptions() ([]kgo.Opt, error) {
	isolation, err := c.o.merged(c.properties, "isolation-level", "isolation.level")
	if err != nil {
		return nil, err
	}
	opts := []kgo.Opt{kgo.FetchMaxWait(500 * time.Millisecond), kgo.MaxConcurrentFetches(4)}
	switch isolation {
	case "read_committed":
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	case "read_uncommitted":
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadUncommitted()))
	default:
		return nil, fmt.Errorf("Invalid value %s for configuration isolation.level: String must be one of: read_committed, read_uncommitted", isolation)
	}
	topic, err := c.o.str("topic")
	if err != nil {
		return nil, err
	}
	if c.o.has("partition") {
		n, err := c.o.number("partition")
		if err != nil {
			return nil, err
		}
		return append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {int32(n): c.offset}})), nil
	}
	reset := c.properties["auto.offset.reset"]
	start := kgo.NewOffset().AtEnd()
	switch {
	case reset == "none":
		start = kgo.NoResetOffset()
	case reset == "earliest" || reset == "" && c.o.has("from-beginning"):
		start = kgo.NewOffset().AtStart()
	}
	opts = append(opts, kgo.ConsumerGroup(c.group), kgo.ConsumeResetOffset(start), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll())
	if v := c.properties["group.instance.id"]; v != "" {
		opts = append(opts, kgo.InstanceID(v))
	}
	if ms, err := strconv.ParseInt(c.properties["session.timeout.ms"], 10, 32); err == nil && ms > 0 {
		opts = append(opts, kgo.SessionTimeout(time.Duration(ms)*time.Millisecond))
	}
	if c.o.has("include") {
		pattern, err := c.o.str("include")
		if err != nil {
			return nil, err
		}
		if _, err := regexp.Compile(pattern); err != nil {
			return nil, err
		}
		return append(opts, kgo.ConsumeRegex(), kgo.ConsumeTopics("^(?:"+pattern+")$")), nil
	}
	return append(opts, kgo.ConsumeTopics(topic)), nil
}

func (c *consumerRun) consume(ctx context.Context) error {
	opts, err := c.clientOptions()
	if err != nil {
		return err
	}
	bootstrap, err := c.o.str("bootstrap-server")
	if err != nil {
		return err
	}
	if err := checkBootstrap(bootstrap); err != nil {
		return err
	}
	cl, err := connect(bootstrap, c.properties, "console-consumer", opts...)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(c.s.Out, 64<<10)
	count, err := c.loop(ctx, cl, out)
	flushErr := out.Flush()
	cl.CloseAllowingRebalance()
	fmt.Fprintf(c.s.Err, "Processed a total of %d messages\n", count)
	if c.o.has("enable-systest-events") {
		fmt.Fprintln(c.s.Out, "shutdown_complete")
	}
	if err == nil && flushErr != nil {
		fmt.Fprintln(c.s.Err, "Unable to write to standard out, closing consumer.")
	}
	return err
}

// loop prints records until the limit, the timeout, or the end of the context, and commits what was printed.
func (c *consumerRun) loop(ctx context.Context, cl *kgo.Client, out *bufio.Writer) (count int64, err error) {
	done := map[string]map[int32]kgo.EpochOffset{}
	commit := func() {
		if c.autoCommit && len(done) > 0 && !c.o.has("partition") {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			cl.CommitOffsetsSync(ctx, maps.Clone(done), nil)
			clear(done)
		}
	}
	defer commit()
	lastCommit := time.Now()
	for c.limit < 0 || count < c.limit {
		fetches := c.poll(ctx, cl)
		records := fetches.Records()
		if len(records) == 0 {
			if err := firstFatal(fetches); err != nil {
				return count, fail("ERROR Error processing message, terminating consumer process: %v", err)
			}
			if ctx.Err() == nil {
				fmt.Fprintln(c.s.Err, "ERROR Error processing message, terminating consumer process: org.apache.kafka.common.errors.TimeoutException")
			}
			return count, nil
		}
		for _, r := range records {
			if c.limit >= 0 && count >= c.limit {
				break
			}
			count++
			if err := c.format.write(out, r); err != nil {
				if !c.o.has("skip-message-on-error") {
					return count, fail("ERROR Unknown error when running consumer: %v", err)
				}
				fmt.Fprintf(c.s.Err, "ERROR Error processing message, skipping this message: %v\n", err)
			}
			if done[r.Topic] == nil {
				done[r.Topic] = map[int32]kgo.EpochOffset{}
			}
			done[r.Topic][r.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
		}
		if err := out.Flush(); err != nil {
			return count, nil // nobody reads any more
		}
		if time.Since(lastCommit) > 5*time.Second {
			commit()
			lastCommit = time.Now()
		}
		cl.AllowRebalance()
	}
	return count, nil
}

// poll waits for records until the timeout; errors that the client retries by itself are waited over.
func (c *consumerRun) poll(ctx context.Context, cl *kgo.Client) kgo.Fetches {
	if c.timeout >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	for {
		fetches := cl.PollRecords(ctx, 10000)
		if ctx.Err() != nil || fetches.NumRecords() > 0 || firstFatal(fetches) != nil {
			return fetches
		}
		cl.AllowRebalance()
	}
}

// firstFatal returns an error that ends consumption, such as a missing authorization; the end of the context is none.
func firstFatal(fetches kgo.Fetches) error {
	var out error
	fetches.EachError(func(topic string, partition int32, err error) {
		if out == nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) && !errors.Is(err, kgo.ErrClientClosed) {
			out = produceError(err)
		}
	})
	return out
}

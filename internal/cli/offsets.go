package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-io/moldau/internal/base/id"
)

func offsetsParser() *parser {
	return newParser("This tool prints offsets of partitions.",
		option{name: "bootstrap-server", kind: "String", argument: "HOST1:PORT1,...,HOST3:PORT3", doc: "REQUIRED: Servers to ask first."},
		option{name: "topic-partitions", kind: "String", argument: "topic1:1,topic2:0-3,topic3,topic4:5-,topic5:-3", doc: "Patterns of topics and partitions, separated by commas. " +
			"Before the colon stands a regular expression or nothing, after it a number or a range whose upper end does not count."},
		option{name: "topic", kind: "String", argument: "topic", doc: "Regular expression of the topics."},
		option{name: "partitions", kind: "String", argument: "partition ids", doc: "Numbers of the partitions."},
		option{name: "time", kind: "String", argument: "<timestamp> / -1 or latest / -2 or earliest / -3 or max-timestamp / -4 or earliest-local / -5 or latest-tiered / -6 or earliest-pending-upload",
			def: "latest", doc: "Which offset: of a special place in the log, or of the first record not older than a timestamp in milliseconds."},
		option{name: "command-config", kind: "String", argument: "config file", doc: "Properties of the admin client."},
		option{name: "exclude-internal-topics", doc: "Leave internal topics out."})
}

func runGetOffsets(ctx context.Context, s Streams, args []string) error {
	p := offsetsParser()
	if len(args) == 0 {
		return p.usage("%s", p.intro)
	}
	o, err := p.parse(args)
	if err != nil {
		return fail("Error occurred: %s", err)
	}
	if done, err := o.helpOrVersion(args, s); done {
		return err
	}
	if err := o.required("bootstrap-server"); err != nil {
		return err
	}
	bootstrap, err := o.str("bootstrap-server")
	if err == nil {
		err = checkBootstrap(bootstrap)
	}
	if err != nil {
		return p.usage("%s", err)
	}
	err = getOffsets(ctx, s, o, bootstrap)
	var said *failure
	if err != nil && !errors.As(err, &said) {
		return fail("Error occurred: %s", timedOut(err, "listTopics"))
	}
	return err
}

// partitionFilter says which partitions are asked for.
type partitionFilter struct {
	topic *regexp.Regexp
	want  func(partition int32) bool
}

func getOffsets(ctx context.Context, s Streams, o *parsed, bootstrap string) error {
	if o.has("topic-partitions") && (o.has("topic") || o.has("partitions")) {
		return errors.New("--topic-partitions cannot be used with --topic or --partitions")
	}
	text, err := o.str("time")
	if err != nil {
		return err
	}
	timestamp, err := parseTime(text)
	if err != nil {
		return err
	}
	filters, err := partitionFilters(o)
	if err != nil {
		return err
	}
	file, err := o.str("command-config")
	if err != nil {
		return err
	}
	properties, err := clientProperties(file, nil)
	if err != nil {
		return err
	}
	delete(properties, "client.id")
	cl, err := connect(bootstrap, properties, "GetOffsetShell")
	if err != nil {
		return err
	}
	defer cl.Close()
	a := &admin{cl}
	partitions, err := matchPartitions(ctx, a, filters, o.has("exclude-internal-topics"))
	if err != nil {
		return err
	}
	if len(partitions) == 0 {
		return errors.New("Could not match any topic-partitions with the specified filters")
	}
	offsets, failed, err := a.listOffsets(ctx, partitions, timestamp)
	if err != nil {
		return err
	}
	for _, tp := range partitions {
		if err, bad := failed[tp]; bad {
			fmt.Fprintf(s.Err, "Skip getting offsets for topic-partition %s due to error: %s\n", tp, err)
			continue
		}
		if offset := offsets[tp]; offset >= 0 {
			fmt.Fprintf(s.Out, "%s:%d:%d\n", tp.Topic, tp.Partition, offset)
		}
	}
	return nil
}

// parseTime reads --time; special places have negative numbers in the protocol.
func parseTime(text string) (int64, error) {
	special := []string{"latest", "earliest", "max-timestamp", "earliest-local", "latest-tiered", "earliest-pending-upload"}
	if i := slices.Index(special, text); i >= 0 {
		return int64(-1 - i), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("Malformed time argument %s. Please use -1 or latest / -2 or earliest / -3 or max-timestamp / -4 or earliest-local / "+
			"-5 or latest-tiered / -6 or earliest-pending-upload, or a specified long format timestamp", text)
	}
	return n, nil
}

var partitionRule = regexp.MustCompile(`^([^:,]*)(?::(?:([0-9]*)|(?:([0-9]*)-([0-9]*))))?$`)

func partitionFilters(o *parsed) ([]partitionFilter, error) {
	if o.has("topic-partitions") {
		text, err := o.str("topic-partitions")
		if err != nil {
			return nil, err
		}
		var out []partitionFilter
		for _, rule := range strings.Split(text, ",") {
			f, err := parsePartitionRule(rule)
			if err != nil {
				return nil, err
			}
			out = append(out, f)
		}
		return out, nil
	}
	topic, given, err := o.text("topic")
	if err != nil {
		return nil, err
	}
	if !given {
		topic = ".*"
	}
	re, err := includeList(topic)
	if err != nil {
		return nil, err
	}
	text, err := o.str("partitions")
	if err != nil {
		return nil, err
	}
	var wanted []int32
	if text != "" {
		for _, x := range strings.Split(text, ",") {
			n, err := strconv.ParseInt(x, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("--partitions expects a comma separated list of numeric partition ids, but received: %s", text)
			}
			wanted = append(wanted, int32(n))
		}
	}
	return []partitionFilter{{re, func(p int32) bool { return len(wanted) == 0 || slices.Contains(wanted, p) }}}, nil
}

func parsePartitionRule(rule string) (partitionFilter, error) {
	m := partitionRule.FindStringSubmatch(rule)
	if m == nil {
		return partitionFilter{}, fmt.Errorf("Invalid rule specification: %s", rule)
	}
	topic := m[1]
	if topic == "" {
		topic = ".*"
	}
	re, err := includeList(topic)
	if err != nil {
		return partitionFilter{}, err
	}
	bound := func(text string, def int32) (int32, error) {
		if text == "" {
			return def, nil
		}
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("For input string: \"%s\"", text)
		}
		return int32(n), nil
	}
	if m[2] != "" {
		only, err := bound(m[2], 0)
		return partitionFilter{re, func(p int32) bool { return p == only }}, err
	}
	low, err := bound(m[3], 0)
	if err != nil {
		return partitionFilter{}, err
	}
	high, err := bound(m[4], math.MaxInt32)
	return partitionFilter{re, func(p int32) bool { return p >= low && p < high }}, err
}

// matchPartitions returns the partitions any filter wants, in order.
func matchPartitions(ctx context.Context, a *admin, filters []partitionFilter, excludeInternal bool) ([]id.TopicPartition, error) {
	topics, err := a.listTopics(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, t := range topics {
		matches := func(f partitionFilter) bool { return f.topic.MatchString(t.name) }
		if !(t.internal && excludeInternal) && slices.ContainsFunc(filters, matches) {
			names = append(names, t.name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	described, err := a.describeTopics(ctx, names, nil, 0)
	if err != nil {
		return nil, err
	}
	var out []id.TopicPartition
	for _, t := range described {
		for _, p := range t.partitions {
			if slices.ContainsFunc(filters, func(f partitionFilter) bool { return f.topic.MatchString(t.name) && f.want(p.number) }) {
				out = append(out, id.TopicPartition{Topic: t.name, Partition: p.number})
			}
		}
	}
	slices.SortFunc(out, func(a, b id.TopicPartition) int { return strings.Compare(a.String(), b.String()) }) // 10 before 2, as Kafka's tool
	return out, nil
}

// listOffsets asks the partitions' leaders for the offset of a timestamp or special place; -1 is no offset.
func (a *admin) listOffsets(ctx context.Context, partitions []id.TopicPartition, timestamp int64) (map[id.TopicPartition]int64, map[id.TopicPartition]error, error) {
	r := kmsg.NewPtrListOffsetsRequest()
	r.ReplicaID = -1
	r.TimeoutMillis = requestTimeoutMs
	byTopic := map[string]int{}
	for _, tp := range partitions {
		i, ok := byTopic[tp.Topic]
		if !ok {
			i = len(r.Topics)
			byTopic[tp.Topic] = i
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = tp.Topic
			r.Topics = append(r.Topics, t)
		}
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp, p.CurrentLeaderEpoch = tp.Partition, timestamp, -1
		r.Topics[i].Partitions = append(r.Topics[i].Partitions, p)
	}
	offsets, failed := map[id.TopicPartition]int64{}, map[id.TopicPartition]error{}
	for _, shard := range a.cl.RequestSharded(ctx, r) {
		if shard.Err != nil {
			if isUnsupported(shard.Err) {
				return nil, nil, errors.New("The broker does not support this kind of offset")
			}
			return nil, nil, shard.Err
		}
		for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				tp := id.TopicPartition{Topic: t.Topic, Partition: p.Partition}
				if err := answered(p.ErrorCode, nil); err != nil {
					failed[tp] = err
					continue
				}
				offsets[tp] = p.Offset
			}
		}
	}
	return offsets, failed, nil
}

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

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
)

func topicsParser() *parser {
	return newParser("This tool creates, deletes, describes and changes topics.",
		option{name: "bootstrap-server", kind: "String", argument: "server to connect to", doc: "REQUIRED: Server to ask first, as host:port; several are separated by commas."},
		option{name: "command-config", kind: "String", argument: "file", doc: "Properties of the admin client."},
		option{name: "list", doc: "List the topics."},
		option{name: "create", doc: "Create a topic."},
		option{name: "delete", doc: "Delete a topic."},
		option{name: "alter", doc: "Give a topic more partitions."},
		option{name: "describe", doc: "Show topics with their partitions."},
		option{name: "topic", kind: "String", argument: "topic", doc: "The topic; a regular expression except for --create."},
		option{name: "topic-id", kind: "String", argument: "topic-id", doc: "The id of the topic to describe."},
		option{name: "config", kind: "String", argument: "name=value", doc: "With --create, a config of the new topic; may be repeated."},
		option{name: "delete-config", kind: "String", argument: "name", doc: "Without effect since Kafka 4.0."},
		option{name: "partitions", kind: "Integer", argument: "# of partitions", doc: "How many partitions the topic has, or is to have. More partitions change where keys go."},
		option{name: "replication-factor", kind: "Integer", argument: "replication factor", doc: "With --create, the number of replicas of each partition."},
		option{name: "replica-assignment", kind: "String", argument: "broker:broker,broker:broker,...", doc: "The replicas of each partition, instead of numbers."},
		option{name: "under-replicated-partitions", doc: "Describe only partitions that miss replicas."},
		option{name: "unavailable-partitions", doc: "Describe only partitions without a live leader."},
		option{name: "under-min-isr-partitions", doc: "Describe only partitions with fewer in-sync replicas than configured."},
		option{name: "at-min-isr-partitions", doc: "Describe only partitions with exactly as many in-sync replicas as configured."},
		option{name: "topics-with-overrides", doc: "Describe only topics with configs of their own."},
		option{name: "if-exists", doc: "Do nothing if there is no such topic, instead of failing."},
		option{name: "if-not-exists", doc: "With --create, do not fail if the topic is there."},
		option{name: "exclude-internal", doc: "Leave internal topics out."},
		option{name: "partition-size-limit-per-response", kind: "Integer", argument: "number", doc: "How many partitions the broker may put into one answer."})
}

var topicActions = []string{"create", "list", "alter", "describe", "delete"}

func runTopics(ctx context.Context, s Streams, args []string) error {
	p := topicsParser()
	o, err := p.parse(args)
	if err != nil {
		return err
	}
	if done, err := o.helpOrVersion(args, s); done {
		return err
	}
	if err := checkTopicOptions(o, s); err != nil {
		return err
	}
	bootstrap, err := o.str("bootstrap-server")
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
	cl, err := connect(bootstrap, properties, "adminclient-1")
	if err != nil {
		return err
	}
	defer cl.Close()
	c := &topicsCommand{o: o, s: s, admin: &admin{cl}}
	actions := map[string]func(context.Context) error{"create": c.create, "list": c.list, "alter": c.alter, "describe": c.describe, "delete": c.delete}
	for _, a := range topicActions {
		if o.has(a) {
			err = actions[a](ctx)
		}
	}
	var said *failure
	if err != nil && !errors.As(err, &said) {
		fmt.Fprintf(s.Out, "Error while executing topic command : %s\n", timedOut(err, "listTopics"))
		return silent()
	}
	return err
}

// checkTopicOptions holds the rules between options, in Kafka's order.
func checkTopicOptions(o *parsed, s Streams) error {
	actions := 0
	for _, a := range topicActions {
		if o.has(a) {
			actions++
		}
	}
	if actions != 1 {
		return o.parser.usage("Command must include exactly one action: --list, --describe, --create, --alter or --delete")
	}
	if o.has("delete-config") {
		fmt.Fprintln(s.Err, "delete-config option is no longer supported and deprecated since version 4.0. The config will be fully removed in future releases.")
	}
	if !o.has("bootstrap-server") {
		return errors.New("--bootstrap-server must be specified")
	}
	if o.has("describe") && o.has("if-exists") {
		if !o.has("topic") && !o.has("topic-id") {
			return o.parser.usage("--topic or --topic-id is required to describe a topic")
		}
		if o.has("topic") && o.has("topic-id") {
			fmt.Fprintln(s.Out, "Only topic id will be used when both --topic and --topic-id are specified and topicId is not Uuid.ZERO_UUID")
		}
	}
	if !o.has("list") && !o.has("describe") {
		if err := o.required("topic"); err != nil {
			return err
		}
	}
	if o.has("alter") {
		if o.has("config") {
			return o.parser.usage("Option combination \"[[bootstrap-server], [config]]\" can't be used with option \"[alter]\"" +
				" (To alter topic configurations, the kafka-configs tool can be used.)")
		}
		if err := o.required("partitions"); err != nil {
			return err
		}
	}
	reports := []string{"under-replicated-partitions", "under-min-isr-partitions", "at-min-isr-partitions", "unavailable-partitions"}
	rules := []struct {
		used    string
		allowed []string
		others  []string
	}{
		{"config", []string{"alter", "create"}, nil},
		{"partitions", []string{"alter", "create"}, nil},
		{"replication-factor", []string{"create"}, nil},
		{"replica-assignment", []string{"alter", "create"}, nil},
		{"under-replicated-partitions", []string{"describe"}, []string{"topics-with-overrides"}},
		{"under-min-isr-partitions", []string{"describe"}, []string{"topics-with-overrides"}},
		{"at-min-isr-partitions", []string{"describe"}, []string{"topics-with-overrides"}},
		{"unavailable-partitions", []string{"describe"}, []string{"topics-with-overrides"}},
		{"topics-with-overrides", []string{"describe"}, reports},
		{"if-exists", []string{"alter", "delete", "describe"}, nil},
		{"if-not-exists", []string{"create"}, nil},
		{"exclude-internal", []string{"list", "describe"}, nil},
	}
	for _, r := range rules {
		others := slices.DeleteFunc(slices.Clone(topicActions), func(a string) bool { return slices.Contains(r.allowed, a) })
		if err := o.exclusive(r.used, append(others, r.others...)...); err != nil {
			return err
		}
		if r.used == "replica-assignment" && o.has("create") {
			if err := o.exclusive("replica-assignment", "partitions", "replication-factor"); err != nil {
				return err
			}
		}
	}
	return nil
}

// topicsCommand is one run of the tool.
type topicsCommand struct {
	o     *parsed
	s     Streams
	admin *admin
}

var equalSign = regexp.MustCompile(`\s*=\s*`)

// newConfigs reads the --config options and checks them as far as that is possible without the broker.
func (c *topicsCommand) newConfigs() (map[string]string, error) {
	out := map[string]string{}
	for _, text := range c.o.all("config") {
		parts := equalSign.Split(text, -1)
		for len(parts) > 0 && parts[len(parts)-1] == "" {
			parts = parts[:len(parts)-1]
		}
		if len(parts) != 2 {
			return nil, errors.New(`requirement failed: Invalid topic config: all configs to be added must be in the format "key=val".`)
		}
		out[strings.TrimSpace(parts[0])] = strings.TrimSpace(parts[1])
	}
	b, _, err := conf.Load(conf.DevDefaults(), []string{"remote.log.storage.system.enable=false"})
	if err != nil {
		return nil, err
	}
	local := map[string]string{}
	for k, v := range out {
		if k != "remote.storage.enable" { // only the broker knows
			local[k] = v
		}
	}
	return out, conf.ValidateTopic(b, nil, local)
}

// assignment reads --replica-assignment: partitions in order, the replicas of each.
func (c *topicsCommand) assignment() ([][]int32, error) {
	text, err := c.o.str("replica-assignment")
	if err != nil || text == "" {
		return nil, err
	}
	var out [][]int32
	for i, part := range strings.Split(text, ",") {
		var replicas []int32
		var twice []string
		for _, b := range strings.Split(part, ":") {
			b = strings.TrimSpace(b)
			n, err := strconv.ParseInt(b, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("For input string: \"%s\"", b)
			}
			if slices.Contains(replicas, int32(n)) && !slices.Contains(twice, b) {
				twice = append(twice, b)
			}
			replicas = append(replicas, int32(n))
		}
		if len(twice) > 0 {
			return nil, fmt.Errorf("Partition replica lists may not contain duplicate entries: %s", strings.Join(twice, ","))
		}
		if len(out) > 0 && len(replicas) != len(out[0]) {
			return nil, fmt.Errorf("Partition %d has different replication factor: %s", i, javaList(replicas))
		}
		out = append(out, replicas)
	}
	return out, nil
}

func javaList[T any](list []T) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = fmt.Sprint(v)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func (c *topicsCommand) create(ctx context.Context) error {
	name, err := c.o.str("topic")
	if err != nil {
		return err
	}
	partitions, err := c.o.number("partitions")
	if err != nil {
		return err
	}
	factor, err := c.o.number("replication-factor")
	if err != nil {
		return err
	}
	assignment, err := c.assignment()
	if err != nil {
		return err
	}
	configs, err := c.newConfigs()
	if err != nil {
		return err
	}
	if strings.ContainsAny(name, "._") {
		fmt.Fprintln(c.s.Out, "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could "+
			"collide. To avoid issues it is best to use either, but not both.")
	}
	if c.o.has("replication-factor") && (factor > math.MaxInt16 || factor < 1) {
		return fmt.Errorf("The replication factor must be between 1 and %d inclusive", math.MaxInt16)
	}
	if c.o.has("partitions") && partitions < 1 {
		return errors.New("The partitions must be greater than 0")
	}
	if !c.o.has("partitions") || assignment != nil {
		partitions = -1
	}
	if !c.o.has("replication-factor") || assignment != nil {
		factor = -1
	}
	err = c.admin.createTopic(ctx, name, int32(partitions), int16(factor), assignment, configs)
	if isCode(err, kerr.TopicAlreadyExists) && c.o.has("if-not-exists") {
		return nil
	}
	if err == nil {
		fmt.Fprintf(c.s.Out, "Created topic %s.\n", name)
	}
	return err
}

// matching returns the names of the topics the options select, sorted.
func (c *topicsCommand) matching(ctx context.Context) ([]string, error) {
	pattern, given, err := c.o.text("topic")
	if err != nil {
		return nil, err
	}
	all, err := c.admin.listTopics(ctx)
	if err != nil {
		return nil, err
	}
	var include *regexp.Regexp
	if given {
		if include, err = includeList(pattern); err != nil {
			return nil, err
		}
	}
	var out []string
	for _, t := range all {
		if (include == nil || include.MatchString(t.name)) && !(t.internal && c.o.has("exclude-internal")) {
			out = append(out, t.name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// mustExist complains about a --topic that matched nothing.
func (c *topicsCommand) mustExist(found []string) error {
	name, err := c.o.str("topic")
	if err == nil && name != "" && len(found) == 0 && !c.o.has("if-exists") {
		return fmt.Errorf("Topic '%s' does not exist as expected", name)
	}
	return err
}

// includeList compiles a topic filter: a regular expression in which a comma stands for "or".
func includeList(text string) (*regexp.Regexp, error) {
	pattern := strings.Trim(strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(text), ",", "|"), " ", ""), `"'`)
	re, err := regexp.Compile("^(?:" + pattern + ")$")
	if err != nil {
		return nil, fmt.Errorf("%s is an invalid regex.", pattern)
	}
	return re, nil
}

func (c *topicsCommand) list(ctx context.Context) error {
	names, err := c.matching(ctx)
	if err == nil {
		fmt.Fprintln(c.s.Out, strings.Join(names, "\n"))
	}
	return err
}

func (c *topicsCommand) alter(ctx context.Context) error {
	partitions, err := c.o.number("partitions")
	if err != nil {
		return err
	}
	assignment, err := c.assignment()
	if err != nil {
		return err
	}
	names, err := c.matching(ctx)
	if err != nil {
		return err
	}
	if err := c.mustExist(names); err != nil || len(names) == 0 {
		return err
	}
	current := map[string]int{}
	if assignment != nil {
		topics, err := c.admin.describeTopics(ctx, names, nil, 0)
		if err != nil {
			return err
		}
		for _, t := range topics {
			current[t.name] = len(t.partitions)
		}
	}
	return c.admin.createPartitions(ctx, names, int32(partitions), assignment, current)
}

func (c *topicsCommand) delete(ctx context.Context) error {
	names, err := c.matching(ctx)
	if err != nil {
		return err
	}
	if err := c.mustExist(names); err != nil || len(names) == 0 {
		return err
	}
	return c.admin.deleteTopics(ctx, names)
}

func (c *topicsCommand) describe(ctx context.Context) error {
	topics, err := c.selected(ctx)
	if err != nil || len(topics) == 0 {
		return err
	}
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.name
	}
	configs, err := c.admin.topicConfigs(ctx, names)
	if err != nil {
		return err
	}
	live, err := c.admin.liveBrokers(ctx)
	if err != nil {
		return err
	}
	moving, err := c.admin.reassignments(ctx, topics)
	if err != nil {
		return err
	}
	for _, t := range javaHashOrder(topics, func(t describedTopic) uint32 { return javaStringHash(t.name) }, len(topics)) {
		c.printTopic(t, configs[t.name], live, moving)
	}
	return nil
}

// selected describes the topics that --topic-id or --topic select.
func (c *topicsCommand) selected(ctx context.Context) ([]describedTopic, error) {
	limit, err := c.o.number("partition-size-limit-per-response")
	if err != nil {
		return nil, err
	}
	text, given, err := c.o.text("topic-id")
	if err != nil {
		return nil, err
	}
	if given {
		topicID, err := id.ParseUUID(text)
		if err != nil {
			return nil, err
		}
		if !topicID.IsZero() {
			all, err := c.admin.listTopics(ctx)
			if err != nil {
				return nil, err
			}
			found := slices.ContainsFunc(all, func(t listedTopic) bool { return t.id == topicID && !(t.internal && c.o.has("exclude-internal")) })
			switch {
			case !found && c.o.has("if-exists"):
				return nil, nil
			case !found:
				return nil, fmt.Errorf("TopicId '%s' does not exist as expected", topicID)
			}
			return c.admin.describeTopics(ctx, nil, []id.UUID{topicID}, 0)
		}
	}
	names, err := c.matching(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.mustExist(names); err != nil || len(names) == 0 {
		return nil, err
	}
	return c.admin.describeTopics(ctx, names, nil, int32(limit))
}

func (c *topicsCommand) printTopic(t describedTopic, configs []configEntry, live []int32, moving map[id.TopicPartition]reassignment) {
	onlySome := c.o.has("unavailable-partitions") || c.o.has("under-replicated-partitions") ||
		c.o.has("under-min-isr-partitions") || c.o.has("at-min-isr-partitions")
	if !onlySome {
		var own []string
		for _, e := range javaHashOrder(configs, func(e configEntry) uint32 { return javaStringHash(e.name) }, 16) {
			if e.source != conf.DefaultConfig {
				own = append(own, e.name+"="+e.value)
			}
		}
		if !c.o.has("topics-with-overrides") || len(own) > 0 {
			factor := 0
			if len(t.partitions) > 0 {
				factor = t.partitions[0].factor(moving[id.TopicPartition{Topic: t.name, Partition: t.partitions[0].number}])
			}
			topicID := ""
			if !t.id.IsZero() {
				topicID = "\tTopicId: " + t.id.String()
			}
			fmt.Fprintf(c.s.Out, "Topic: %s%s\tPartitionCount: %d\tReplicationFactor: %d\tConfigs: %s\n", t.name, topicID, len(t.partitions), factor, strings.Join(own, ","))
		}
	}
	if c.o.has("topics-with-overrides") {
		return
	}
	minISR := 1
	for _, e := range configs {
		if n, err := strconv.Atoi(e.value); err == nil && e.name == "min.insync.replicas" {
			minISR = n
		}
	}
	for _, p := range t.partitions {
		move, isMoving := moving[id.TopicPartition{Topic: t.name, Partition: p.number}]
		hasLeader := p.leader >= 0
		if onlySome &&
			!(c.o.has("under-replicated-partitions") && p.factor(move) > len(p.isr)) &&
			!(c.o.has("unavailable-partitions") && (!hasLeader || !slices.Contains(live, p.leader))) &&
			!(c.o.has("under-min-isr-partitions") && (!hasLeader || len(p.isr) < minISR)) &&
			!(c.o.has("at-min-isr-partitions") && len(p.isr) == minISR) {
			continue
		}
		leader := "none"
		if hasLeader {
			leader = strconv.Itoa(int(p.leader))
		}
		fmt.Fprintf(c.s.Out, "\tTopic: %s\tPartition: %d\tLeader: %s\tReplicas: %s\tIsr: %s", t.name, p.number, leader, commas(p.replicas), commas(p.isr))
		if isMoving {
			fmt.Fprintf(c.s.Out, "\tAdding Replicas: %s\tRemoving Replicas: %s", commas(move.adding), commas(move.removing))
		}
		elr, last := "N/A", "N/A"
		if p.hasELR {
			elr, last = commas(p.elr), commas(p.lastELR)
		}
		fmt.Fprintf(c.s.Out, "\tElr: %s\tLastKnownElr: %s\n", elr, last)
	}
}

func commas(list []int32) string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = strconv.Itoa(int(n))
	}
	return strings.Join(out, ",")
}

// admin is the part of Kafka's Admin client that the tools need, over raw requests, so that broker messages stay whole.
type admin struct{ cl *kgo.Client }

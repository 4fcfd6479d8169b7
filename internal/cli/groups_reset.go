package cli

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/moldau-io/moldau/internal/base/id"
)

// reset computes new offsets for every selected group, sets them with --execute, and prints them.
func (c *groupsCommand) reset(ctx context.Context) error {
	names, err := c.groupNames(ctx)
	if err != nil {
		return err
	}
	plan := map[string]map[id.TopicPartition]int64{}
	for _, name := range names {
		groups, err := c.admin.describeGroups(ctx, []string{name})
		if err != nil && !strings.Contains(err.Error(), "GroupIdNotFoundException") {
			return err
		}
		if len(groups) == 1 && groups[0].state != "Empty" && groups[0].state != "Dead" {
			c.printError("Assignments can only be reset if the group '%s' is inactive, but the current state is %s.", name, groups[0].state)
			plan[name] = nil
			continue
		}
		offsets, err := c.newOffsets(ctx, name)
		if err != nil {
			return err
		}
		if c.o.has("execute") && len(offsets) > 0 {
			if err := c.admin.commitOffsets(ctx, name, offsets); err != nil {
				return err
			}
		}
		plan[name] = offsets
	}
	order := javaHashOrder(names, javaStringHash, 16)
	if c.o.has("export") {
		c.export(order, plan)
		return nil
	}
	groupWidth, topicWidth := 15, 15
	for name, offsets := range plan {
		groupWidth = max(groupWidth, len(name))
		for tp := range offsets {
			topicWidth = max(topicWidth, len(tp.Topic))
		}
	}
	line := func(group, topic, partition, offset string) {
		fmt.Fprintf(c.s.Out, "\n%-*s %-*s %-10s %s", groupWidth, group, topicWidth, topic, partition, offset)
	}
	if len(plan) > 0 {
		line("GROUP", "TOPIC", "PARTITION", "NEW-OFFSET")
	}
	for _, name := range order {
		for _, tp := range javaHashOrder(sortedPartitions(plan[name]), javaPartitionHash, 16) {
			line(name, tp.Topic, strconv.Itoa(int(tp.Partition)), strconv.FormatInt(plan[name][tp], 10))
		}
	}
	fmt.Fprintln(c.s.Out)
	return nil
}

// export prints the plan as CSV; the group is a column if several were asked for.
func (c *groupsCommand) export(order []string, plan map[string]map[id.TopicPartition]int64) {
	var out strings.Builder
	w := csv.NewWriter(&out)
	for _, name := range order {
		for _, tp := range javaHashOrder(sortedPartitions(plan[name]), javaPartitionHash, 16) {
			row := []string{tp.Topic, strconv.Itoa(int(tp.Partition)), strconv.FormatInt(plan[name][tp], 10)}
			if len(c.o.all("group")) != 1 {
				row = append([]string{name}, row...)
			}
			_ = w.Write(row) // a strings.Builder takes everything
		}
	}
	w.Flush()
	fmt.Fprintln(c.s.Out, out.String())
}

// newOffsets resolves the scope and the scenario of the options for one group.
func (c *groupsCommand) newOffsets(ctx context.Context, group string) (map[id.TopicPartition]int64, error) {
	current, err := c.admin.committed(ctx, group)
	if err != nil {
		return nil, err
	}
	scope, err := c.resetScope(ctx, current)
	if err != nil {
		return nil, err
	}
	if err := c.checkPartitions(ctx, scope); err != nil {
		return nil, err
	}
	all := func(value func(id.TopicPartition) (int64, error)) (map[id.TopicPartition]int64, error) {
		out := map[id.TopicPartition]int64{}
		for _, tp := range scope {
			v, err := value(tp)
			if err != nil {
				return nil, err
			}
			out[tp] = v
		}
		return out, nil
	}
	switch o := c.o; {
	case o.has("to-offset"):
		n, err := o.number("to-offset")
		if err != nil {
			return nil, err
		}
		wanted, _ := all(func(id.TopicPartition) (int64, error) { return n, nil })
		return c.clamp(ctx, wanted)
	case o.has("to-earliest"):
		return c.offsetsAt(ctx, scope, -2)
	case o.has("to-latest"):
		return c.offsetsAt(ctx, scope, -1)
	case o.has("shift-by"):
		n, err := o.number("shift-by")
		if err != nil {
			return nil, err
		}
		wanted, err := all(func(tp id.TopicPartition) (int64, error) {
			at, ok := current[tp]
			if !ok {
				return 0, &illegalArgument{fmt.Sprintf("Cannot shift offset for partition %s since there is no current committed offset", tp)}
			}
			return at.offset + n, nil
		})
		if err != nil {
			return nil, err
		}
		return c.clamp(ctx, wanted)
	case o.has("to-datetime"), o.has("by-duration"):
		at, err := c.resetTime()
		if err != nil {
			return nil, err
		}
		return c.offsetsAtTime(ctx, scope, at)
	case o.has("from-file"):
		return c.fromFile(ctx, group)
	case o.has("to-current"):
		ends, err := c.offsetsAt(ctx, scope, -1)
		if err != nil {
			return nil, err
		}
		return all(func(tp id.TopicPartition) (int64, error) {
			if at, ok := current[tp]; ok {
				return at.offset, nil
			}
			return ends[tp], nil
		})
	}
	return nil, c.o.parser.usage("Option '[reset-offsets]' requires one of the following scenarios: [[%s]]", strings.Join(resetScenarios, "], ["))
}

// resetScope returns the partitions that the options select.
func (c *groupsCommand) resetScope(ctx context.Context, current map[id.TopicPartition]committedOffset) ([]id.TopicPartition, error) {
	switch {
	case c.o.has("all-topics"):
		return sortedPartitions(current), nil
	case c.o.has("topic"):
		explicit, whole, err := splitTopicArgs(c.o.all("topic"))
		if err != nil || len(whole) == 0 {
			return explicit, err
		}
		topics, err := c.admin.describeTopics(ctx, whole, nil, 0)
		if err != nil {
			return nil, errors.New(javaException(err))
		}
		for _, t := range topics {
			for _, p := range t.partitions {
				explicit = append(explicit, id.TopicPartition{Topic: t.name, Partition: p.number})
			}
		}
		return explicit, nil
	case c.o.has("from-file"):
		return nil, nil
	}
	return nil, c.o.parser.usage("One of the reset scopes should be defined: --all-topics, --topic.")
}

// splitTopicArgs separates topic:0,1 from whole topics.
func splitTopicArgs(args []string) (explicit []id.TopicPartition, whole []string, err error) {
	for _, arg := range args {
		if !strings.Contains(arg, ":") {
			whole = append(whole, arg)
			continue
		}
		parts := strings.Split(arg, ":")
		if len(parts) != 2 || parts[1] == "" {
			return nil, nil, &illegalArgument{fmt.Sprintf("Invalid topic arg '%s', expected topic name and partitions", arg)}
		}
		for _, p := range strings.Split(parts[1], ",") {
			n, err := strconv.ParseInt(p, 10, 32)
			if err != nil {
				return nil, nil, &illegalArgument{fmt.Sprintf("Invalid partition '%s' specified in topic arg '%s''", p, arg)}
			}
			explicit = append(explicit, id.TopicPartition{Topic: parts[0], Partition: int32(n)})
		}
	}
	return explicit, whole, nil
}

// checkPartitions makes sure that the partitions exist and have leaders.
func (c *groupsCommand) checkPartitions(ctx context.Context, scope []id.TopicPartition) error {
	if len(scope) == 0 {
		return nil
	}
	var names []string
	for _, tp := range scope {
		if !slices.Contains(names, tp.Topic) {
			names = append(names, tp.Topic)
		}
	}
	all, err := c.admin.listTopics(ctx)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool {
		return !slices.ContainsFunc(all, func(t listedTopic) bool { return t.name == n })
	})
	leaders := map[id.TopicPartition]int32{}
	if len(names) > 0 {
		topics, err := c.admin.describeTopics(ctx, names, nil, 0)
		if err != nil {
			return err
		}
		for _, t := range topics {
			for _, p := range t.partitions {
				leaders[id.TopicPartition{Topic: t.name, Partition: p.number}] = p.leader
			}
		}
	}
	var absent, headless []string
	for _, tp := range scope {
		leader, ok := leaders[tp]
		switch {
		case !ok:
			absent = append(absent, tp.String())
		case leader < 0:
			headless = append(headless, tp.String())
		}
	}
	switch {
	case len(absent) > 0:
		return fmt.Errorf("The partitions \"%s\" do not exist", strings.Join(absent, ","))
	case len(headless) > 0:
		return fmt.Errorf("The partitions \"%s\" have no leader", strings.Join(headless, ","))
	}
	return nil
}

// offsetsAt returns the offsets of a special place for every partition.
func (c *groupsCommand) offsetsAt(ctx context.Context, scope []id.TopicPartition, place int64) (map[id.TopicPartition]int64, error) {
	if len(scope) == 0 {
		return map[id.TopicPartition]int64{}, nil
	}
	offsets, failed, err := c.admin.listOffsets(ctx, scope, place)
	if err != nil {
		return nil, err
	}
	for _, tp := range sortedPartitions(failed) {
		return nil, fmt.Errorf("java.util.concurrent.ExecutionException: %s", javaException(failed[tp]))
	}
	return offsets, nil
}

// offsetsAtTime is offsetsAt for a timestamp; a partition without a record that late gets its end.
func (c *groupsCommand) offsetsAtTime(ctx context.Context, scope []id.TopicPartition, at time.Time) (map[id.TopicPartition]int64, error) {
	offsets, err := c.offsetsAt(ctx, scope, at.UnixMilli())
	if err != nil {
		return nil, err
	}
	ends, err := c.offsetsAt(ctx, scope, -1)
	if err != nil {
		return nil, err
	}
	for _, tp := range sortedPartitions(offsets) {
		if offsets[tp] < 0 {
			fmt.Fprintf(c.s.Out, "\nWarn: Partition %d from topic %s is empty. Falling back to latest known offset.\n", tp.Partition, tp.Topic)
			offsets[tp] = ends[tp]
		}
	}
	return offsets, nil
}

// clamp keeps offsets within the logs, with a warning.
func (c *groupsCommand) clamp(ctx context.Context, wanted map[id.TopicPartition]int64) (map[id.TopicPartition]int64, error) {
	scope := sortedPartitions(wanted)
	starts, err := c.offsetsAt(ctx, scope, -2)
	if err != nil {
		return nil, err
	}
	ends, err := c.offsetsAt(ctx, scope, -1)
	if err != nil {
		return nil, err
	}
	for _, tp := range scope {
		switch v := wanted[tp]; {
		case v > ends[tp]:
			fmt.Fprintf(c.s.Err, "WARN New offset (%d) is higher than latest offset for topic partition %s. Value will be set to %d\n", v, tp, ends[tp])
			wanted[tp] = ends[tp]
		case v < starts[tp]:
			fmt.Fprintf(c.s.Err, "WARN New offset (%d) is lower than earliest offset for topic partition %s. Value will be set to %d\n", v, tp, starts[tp])
			wanted[tp] = starts[tp]
		}
	}
	return wanted, nil
}

// resetTime reads --to-datetime or --by-duration.
func (c *groupsCommand) resetTime() (time.Time, error) {
	if c.o.has("to-datetime") {
		text, err := c.o.str("to-datetime")
		if err != nil {
			return time.Time{}, err
		}
		return parseDateTime(text)
	}
	text, err := c.o.str("by-duration")
	if err != nil {
		return time.Time{}, err
	}
	d, err := parseISODuration(text)
	return c.now.Add(-d), err
}

// parseDateTime reads YYYY-MM-DDThh:mm:ss.sss, in UTC unless a zone follows.
func parseDateTime(text string) (time.Time, error) {
	if !strings.Contains(text, "T") {
		return time.Time{}, errors.New("java.text.ParseException: Error parsing timestamp. It does not contain a 'T' according to ISO8601 format")
	}
	_, clock, _ := strings.Cut(text, "T")
	zoned := text
	if !strings.ContainsAny(clock, "+-Z") {
		zoned += "Z"
	}
	for _, layout := range []string{"2006-01-02T15:04:05.000Z07:00", "2006-01-02T15:04:05.000Z0700", "2006-01-02T15:04:05.000Z07"} {
		if t, err := time.Parse(layout, zoned); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("java.text.ParseException: Unparseable date: \"%s\"", zoned)
}

var isoDuration = regexp.MustCompile(`(?i)^([-+]?)P(?:([-+]?\d+)D)?(?:T(?:([-+]?\d+)H)?(?:([-+]?\d+)M)?(?:([-+]?\d+(?:[.,]\d{0,9})?)S)?)?$`)

// parseISODuration reads PnDTnHnMnS.
func parseISODuration(text string) (time.Duration, error) {
	m := isoDuration.FindStringSubmatch(text)
	if m == nil || m[2]+m[3]+m[4]+m[5] == "" || strings.HasSuffix(strings.ToUpper(text), "T") {
		return 0, errors.New("Text cannot be parsed to a Duration")
	}
	var total float64
	for i, unit := range []float64{86400, 3600, 60, 1} {
		if m[i+2] == "" {
			continue
		}
		n, err := strconv.ParseFloat(strings.ReplaceAll(m[i+2], ",", "."), 64)
		if err != nil {
			return 0, errors.New("Text cannot be parsed to a Duration")
		}
		total += n * unit
	}
	if m[1] == "-" {
		total = -total
	}
	if math.Abs(total) > float64(math.MaxInt64)/float64(time.Second) {
		return 0, errors.New("Text cannot be parsed to a Duration: it is longer than 292 years")
	}
	return time.Duration(math.Round(total*1000)) * time.Millisecond, nil
}

// fromFile reads a plan: topic,partition,offset for one group, or group,topic,partition,offset.
func (c *groupsCommand) fromFile(ctx context.Context, group string) (map[id.TopicPartition]int64, error) {
	path, err := c.o.str("from-file")
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	wanted := map[id.TopicPartition]int64{}
	found := false
	for i, row := range rows {
		switch {
		case len(row) == 3 && len(c.o.all("group")) == 1:
			row = append([]string{group}, row...)
		case len(row) != 4:
			return nil, fmt.Errorf("line %d of %s is not of the form [group,]topic,partition,offset", i+1, path)
		}
		partition, perr := strconv.ParseInt(strings.TrimSpace(row[2]), 10, 32)
		offset, oerr := strconv.ParseInt(strings.TrimSpace(row[3]), 10, 64)
		if perr != nil || oerr != nil {
			return nil, fmt.Errorf("line %d of %s: partition and offset must be numbers", i+1, path)
		}
		if row[0] == group {
			found = true
			wanted[id.TopicPartition{Topic: row[1], Partition: int32(partition)}] = offset
		}
	}
	if !found {
		c.printError("No reset plan for group %s found", group)
		return nil, nil
	}
	return c.clamp(ctx, wanted)
}

// deleteOffsets deletes the offsets of topics and tells what became of each partition.
func (c *groupsCommand) deleteOffsets(ctx context.Context) error {
	group, err := c.o.str("group")
	if err != nil {
		return err
	}
	partitions, whole, err := splitTopicArgs(c.o.all("topic"))
	if err != nil {
		return err
	}
	results := map[id.TopicPartition]error{}
	for _, name := range whole {
		topics, err := c.admin.describeTopics(ctx, []string{name}, nil, 0)
		if err != nil {
			results[id.TopicPartition{Topic: name, Partition: -1}] = err
			continue
		}
		for _, t := range topics {
			for _, p := range t.partitions {
				partitions = append(partitions, id.TopicPartition{Topic: t.name, Partition: p.number})
			}
		}
	}
	byPartition, top := c.admin.deleteOffsets(ctx, group, partitions)
	for _, tp := range partitions {
		err := top
		if top == nil {
			err = byPartition[tp]
		}
		results[tp] = err
		if err != nil && top == nil {
			top = err
		}
	}
	switch {
	case top == nil:
		fmt.Fprintf(c.s.Out, "Request succeeded for deleting offsets from group %s.\n", group)
	case isCode(top, kerr.InvalidGroupID), isCode(top, kerr.GroupIDNotFound), isCode(top, kerr.GroupAuthorizationFailed), isCode(top, kerr.NonEmptyGroup):
		c.printError("%s", top)
	case isCode(top, kerr.GroupSubscribedToTopic), isCode(top, kerr.TopicAuthorizationFailed), isCode(top, kerr.UnknownTopicOrPartition):
		c.printError("Encountered some partition-level error, see the follow-up details.")
	default:
		return top
	}
	width := 15
	for tp := range results {
		width = max(width, len(tp.Topic))
	}
	line := func(topic, partition, status string) {
		fmt.Fprintf(c.s.Out, "\n%-*s %-10s %-15s", width, topic, partition, status)
	}
	line("TOPIC", "PARTITION", "STATUS")
	order := sortedPartitions(results)
	slices.SortStableFunc(order, func(a, b id.TopicPartition) int {
		return strings.Compare(a.Topic+strconv.Itoa(int(a.Partition)), b.Topic+strconv.Itoa(int(b.Partition)))
	})
	for _, tp := range order {
		number, status := strconv.Itoa(int(tp.Partition)), "Successful"
		if tp.Partition < 0 {
			number = missing
		}
		if err := results[tp]; err != nil {
			status = "Error: " + javaException(err)
		}
		line(tp.Topic, number, status)
	}
	fmt.Fprintln(c.s.Out)
	return nil
}

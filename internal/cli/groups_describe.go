package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
)

const missing = "-"

// memberHeader reports the group's state and whether there are rows to print.
func (c *groupsCommand) hasRows(group, state string, rows int) (bool, error) {
	switch state {
	case "Dead":
		c.printError("Consumer group '%s' does not exist.", group)
	case "Empty":
		fmt.Fprintf(c.s.Err, "\nConsumer group '%s' has no active members.\n", group)
	case "PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling":
		fmt.Fprintf(c.s.Err, "\nWarning: Consumer group '%s' is rebalancing.\n", group)
	case "Stable":
	default:
		return false, fmt.Errorf("Expected a valid consumer group state, but found '%s'.", state)
	}
	return state != "Dead" && rows > 0, nil
}

func (c *groupsCommand) describe(ctx context.Context) error {
	names, err := c.groupNames(ctx)
	if err != nil {
		return err
	}
	groups, err := c.admin.describeGroups(ctx, names)
	if err != nil {
		return err
	}
	slices.SortFunc(groups, func(a, b describedGroup) int { return strings.Compare(a.name, b.name) })
	for _, g := range groups {
		switch {
		case c.o.has("members"):
			err = c.printMembers(g)
		case c.o.has("state"):
			err = c.printState(g)
		default:
			err = c.printOffsets(ctx, g)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// offsetRow is one partition of a group.
type offsetRow struct {
	tp                                                id.TopicPartition
	epoch, offset, end, lag, consumer, host, clientID string
}

func (c *groupsCommand) printOffsets(ctx context.Context, g describedGroup) error {
	rows, err := c.offsetRows(ctx, g)
	if err != nil {
		return err
	}
	ok, err := c.hasRows(g.name, g.state, len(rows))
	if err != nil || !ok {
		return err
	}
	topicWidth, consumerWidth, hostWidth, groupWidth := 15, 15, 15, max(15, len(g.name))
	for _, r := range rows {
		topicWidth, consumerWidth, hostWidth = max(topicWidth, len(r.tp.Topic)), max(consumerWidth, len(r.consumer)), max(hostWidth, len(r.host))
	}
	line := func(group, topic, partition, epoch, offset, end, lag, consumer, host, client string) {
		fmt.Fprintf(c.s.Out, "\n%-*s %-*s %-10s ", groupWidth, group, topicWidth, topic, partition)
		if c.o.has("verbose") {
			fmt.Fprintf(c.s.Out, "%-15s ", epoch)
		}
		fmt.Fprintf(c.s.Out, "%-15s %-15s %-15s %-*s %-*s %s", offset, end, lag, consumerWidth, consumer, hostWidth, host, client)
	}
	line("GROUP", "TOPIC", "PARTITION", "LEADER-EPOCH", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "CONSUMER-ID", "HOST", "CLIENT-ID")
	for _, r := range rows {
		line(g.name, r.tp.Topic, strconv.Itoa(int(r.tp.Partition)), r.epoch, r.offset, r.end, r.lag, r.consumer, r.host, r.clientID)
	}
	fmt.Fprintln(c.s.Out)
	return nil
}

// offsetRows returns the partitions of the members, largest assignments first, then those with an offset but no member.
func (c *groupsCommand) offsetRows(ctx context.Context, g describedGroup) ([]offsetRow, error) {
	committed, err := c.admin.committed(ctx, g.name)
	if err != nil {
		return nil, err
	}
	members := slices.DeleteFunc(slices.Clone(g.members), func(m groupMember) bool { return len(m.assigned) == 0 })
	slices.SortStableFunc(members, func(a, b groupMember) int { return len(b.assigned) - len(a.assigned) })
	var all []id.TopicPartition
	for _, m := range members {
		all = append(all, m.assigned...)
	}
	var rest []id.TopicPartition
	for tp := range committed {
		if !slices.Contains(all, tp) {
			rest = append(rest, tp)
		}
	}
	all = append(all, rest...)
	ends := map[id.TopicPartition]int64{}
	if len(all) > 0 {
		ends, _, err = c.admin.listOffsets(ctx, all, -1)
		if err != nil {
			return nil, err
		}
	}
	var rows []offsetRow
	add := func(tps []id.TopicPartition, consumer, host, client string) {
		for _, tp := range slices.SortedFunc(slices.Values(tps), id.TopicPartition.Compare) {
			r := offsetRow{tp: tp, epoch: missing, offset: missing, end: missing, lag: missing, consumer: consumer, host: host, clientID: client}
			at, hasOffset := committed[tp]
			if hasOffset {
				r.offset = strconv.FormatInt(at.offset, 10)
				if at.epoch >= 0 {
					r.epoch = strconv.Itoa(int(at.epoch))
				}
			}
			if end, ok := ends[tp]; ok {
				r.end = strconv.FormatInt(end, 10)
				if hasOffset && at.offset != -1 {
					r.lag = strconv.FormatInt(end-at.offset, 10)
				}
			}
			rows = append(rows, r)
		}
	}
	for _, m := range members {
		add(m.assigned, m.id, m.host, m.clientID)
	}
	add(rest, missing, missing, missing)
	return rows, nil
}

func (c *groupsCommand) printMembers(g describedGroup) error {
	ok, err := c.hasRows(g.name, g.state, len(g.members))
	if err != nil {
		return err
	}
	groupWidth, idWidth, instanceWidth, hostWidth, clientWidth, currentWidth, targetWidth := 15, 15, 17, 15, 15, 20, 20
	static, classic, modern := false, false, false
	if ok {
		for _, m := range g.members {
			groupWidth, idWidth, instanceWidth = max(groupWidth, len(g.name)), max(idWidth, len(m.id)), max(instanceWidth, len(m.instance))
			hostWidth, clientWidth = max(hostWidth, len(m.host)), max(clientWidth, len(m.clientID))
			currentWidth, targetWidth = max(currentWidth, len(assignmentText(m.assigned))), max(targetWidth, len(assignmentText(m.target)))
			static = static || m.instance != ""
			classic, modern = classic || m.upgraded == "false", modern || m.upgraded == "true"
		}
	}
	first := func(group, member, instance, host, client, partitions string) string {
		out := fmt.Sprintf("%-*s %-*s ", groupWidth, group, idWidth, member)
		if static {
			out += fmt.Sprintf("%-*s ", instanceWidth, instance)
		}
		return out + fmt.Sprintf("%-*s %-*s %-15s ", hostWidth, host, clientWidth, client, partitions)
	}
	second := func(epoch, current, targetEpoch, target, upgraded string) string {
		if !c.o.has("verbose") {
			return ""
		}
		out := fmt.Sprintf("%-15s %-*s %-15s %-*s", epoch, currentWidth, current, targetEpoch, targetWidth, target)
		if classic && modern {
			out += " " + upgraded
		}
		return out
	}
	fmt.Fprintf(c.s.Out, "\n%s%s\n", first("GROUP", "CONSUMER-ID", "GROUP-INSTANCE-ID", "HOST", "CLIENT-ID", "#PARTITIONS"),
		second("CURRENT-EPOCH", "CURRENT-ASSIGNMENT", "TARGET-EPOCH", "TARGET-ASSIGNMENT", "UPGRADED"))
	for _, m := range g.members {
		fmt.Fprintf(c.s.Out, "%s%s\n", first(g.name, m.id, m.instance, m.host, m.clientID, strconv.Itoa(len(m.assigned))),
			second(m.epoch, assignmentText(m.assigned), g.targetEpoch, assignmentText(m.target), m.upgraded))
	}
	return nil
}

// assignmentText shows partitions as topic:0,1;other:2.
func assignmentText(tps []id.TopicPartition) string {
	if len(tps) == 0 {
		return missing
	}
	var parts []string
	for i, tp := range slices.SortedFunc(slices.Values(tps), id.TopicPartition.Compare) {
		n := strconv.Itoa(int(tp.Partition))
		if i > 0 && strings.HasPrefix(parts[len(parts)-1], tp.Topic+":") {
			parts[len(parts)-1] += "," + n
			continue
		}
		parts = append(parts, tp.Topic+":"+n)
	}
	return strings.Join(parts, ";")
}

func (c *groupsCommand) printState(g describedGroup) error {
	ok, err := c.hasRows(g.name, g.state, 1)
	if err != nil || !ok {
		return err
	}
	strategy := g.assignor
	if strategy == "" {
		strategy = missing
	}
	groupWidth, coordinatorWidth := max(15, len(g.name)), max(25, len(g.coordinator))
	line := func(group, coordinator, strategy, state, epoch, target, members string) {
		fmt.Fprintf(c.s.Out, "\n%-*s %-*s %-20s %-20s ", groupWidth, group, coordinatorWidth, coordinator, strategy, state)
		if c.o.has("verbose") {
			fmt.Fprintf(c.s.Out, "%-15s %-25s ", epoch, target)
		}
		fmt.Fprint(c.s.Out, members)
	}
	line("GROUP", "COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "STATE", "GROUP-EPOCH", "TARGET-ASSIGNMENT-EPOCH", "#MEMBERS")
	line(g.name, g.coordinator, strategy, g.state, g.epoch, g.targetEpoch, strconv.Itoa(len(g.members)))
	fmt.Fprintln(c.s.Out)
	return nil
}

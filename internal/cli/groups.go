package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

func groupsParser() *parser {
	return newParser("This tool lists, describes, deletes and resets consumer groups.",
		option{name: "bootstrap-server", kind: "String", argument: "server to connect to", doc: "REQUIRED: Servers to ask first, as host:port,host:port."},
		option{name: "group", kind: "String", argument: "consumer group", doc: "The group; may be repeated."},
		option{name: "topic", kind: "String", argument: "topic", doc: "A topic whose offsets are deleted or reset; topic:0,1 names partitions. May be repeated."},
		option{name: "all-topics", doc: "Reset all topics of the group."},
		option{name: "list", doc: "List the groups."},
		option{name: "describe", doc: "Show groups with their offsets and lag."},
		option{name: "all-groups", doc: "Act on all groups."},
		option{name: "delete", doc: "Delete groups."},
		option{name: "timeout", kind: "Long", argument: "timeout (ms)", def: "30000", doc: "How long an operation may take."},
		option{name: "command-config", kind: "String", argument: "command config property file", doc: "Properties of the admin client."},
		option{name: "reset-offsets", doc: "Reset the offsets of inactive groups. Needs what to reset (--all-topics, --topic or --from-file) and how (--to-datetime, --by-duration, " +
			"--to-earliest, --to-latest, --shift-by, --from-file, --to-current or --to-offset)."},
		option{name: "delete-offsets", doc: "Delete the offsets of topics in a group."},
		option{name: "dry-run", doc: "Show what would be reset."},
		option{name: "execute", doc: "Do reset."},
		option{name: "export", doc: "Print the new offsets as CSV."},
		option{name: "to-offset", kind: "Long", argument: "offset", doc: "Reset to an offset."},
		option{name: "from-file", kind: "String", argument: "path to CSV file", doc: "Reset to the offsets in a CSV file."},
		option{name: "to-datetime", kind: "String", argument: "datetime", doc: "Reset to the first record at or after YYYY-MM-DDThh:mm:ss.sss."},
		option{name: "by-duration", kind: "String", argument: "duration", doc: "Reset to the first record at or after so long ago, as PnDTnHnMnS."},
		option{name: "to-earliest", doc: "Reset to the start."},
		option{name: "to-latest", doc: "Reset to the end."},
		option{name: "to-current", doc: "Reset to where the group is."},
		option{name: "shift-by", kind: "Long", argument: "number-of-offsets", doc: "Reset by so many records, forward or, if negative, back."},
		option{name: "members", only: []string{"describe"}, doc: "Describe the members."},
		option{name: "verbose", only: []string{"describe"}, doc: "Describe in more detail."},
		option{name: "offsets", only: []string{"describe"}, doc: "Describe the offsets; that is the default."},
		option{name: "state", kind: "String", optional: true, only: []string{"describe", "list"}, doc: "Describe the state; or list groups with their states, or in the given states."},
		option{name: "type", kind: "String", optional: true, only: []string{"list"}, doc: "List groups with their types, or of the given types."},
		option{name: "validate-regex", kind: "String", argument: "regex", doc: "Check a regular expression of topics."})
}

var resetScenarios = []string{"to-offset", "shift-by", "to-datetime", "by-duration", "to-earliest", "to-latest", "to-current", "from-file"}

func runConsumerGroups(ctx context.Context, s Streams, args []string) error {
	p := groupsParser()
	o, err := p.parse(args)
	if err != nil {
		return err
	}
	if done, err := o.helpOrVersion(args, s); done {
		return err
	}
	if err := checkGroupOptions(o, s); err != nil {
		return err
	}
	if o.has("validate-regex") {
		return validateRegex(o, s)
	}
	ms, err := o.number("timeout")
	if err != nil {
		return p.usage("%s", err)
	}
	bootstrap, err := o.str("bootstrap-server")
	if err != nil {
		return p.usage("%s", err)
	}
	file, err := o.str("command-config")
	if err != nil {
		return p.usage("%s", err)
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
	c := &groupsCommand{o: o, s: s, admin: &admin{cl}, now: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(ms, 1))*time.Millisecond)
	defer cancel()
	switch {
	case o.has("list"):
		err = c.list(ctx)
	case o.has("describe"):
		err = c.describe(ctx)
	case o.has("delete"):
		err = c.delete(ctx)
	case o.has("reset-offsets"):
		err = c.reset(ctx)
	default:
		err = c.deleteOffsets(ctx)
	}
	var said *failure
	var argument *illegalArgument
	switch {
	case err == nil || errors.As(err, &said):
		return err
	case errors.As(err, &argument):
		return p.usage("%s", argument.text)
	}
	// Kafka's tool prints the error on standard output and ends with 0.
	fmt.Fprintf(s.Out, "\nError: Executing consumer group command failed due to %s\n", timedOut(err, "listGroups"))
	return nil
}

// illegalArgument is a mistake that shows only while the command runs; it prints the usage.
type illegalArgument struct{ text string }

func (e *illegalArgument) Error() string { return e.text }

func checkGroupOptions(o *parsed, s Streams) error {
	bracket := func(names ...string) string {
		for i := range names {
			names[i] = "[" + names[i] + "]"
		}
		return strings.Join(names, ", ")
	}
	if !o.has("validate-regex") {
		if err := o.required("bootstrap-server"); err != nil {
			return err
		}
	}
	scope := o.has("group") || o.has("all-groups")
	if o.has("describe") {
		if !scope {
			return o.parser.usage("Option [describe] takes one of these options: %s", bracket("group", "all-groups"))
		}
		n := 0
		for _, x := range []string{"members", "offsets", "state"} {
			if o.has(x) {
				n++
			}
		}
		if n > 1 {
			return o.parser.usage("Option [describe] takes at most one of these options: %s", bracket("members", "offsets", "state"))
		}
		if len(o.all("state")) > 0 {
			return o.parser.usage("Option [describe] does not take a value for [state]")
		}
	}
	if o.has("delete") {
		if !scope {
			return o.parser.usage("Option [delete] takes one of these options: %s", bracket("group", "all-groups"))
		}
		if o.has("topic") {
			return o.parser.usage("The consumer does not support topic-specific offset deletion from a consumer group.")
		}
	}
	if o.has("delete-offsets") && (!o.has("group") || !o.has("topic")) {
		return o.parser.usage("Option [delete-offsets] takes the following options: %s", bracket("group", "topic"))
	}
	if o.has("reset-offsets") {
		if o.has("dry-run") && o.has("execute") {
			return o.parser.usage("Option [reset-offsets] only accepts one of [execute] and [dry-run]")
		}
		if !o.has("dry-run") && !o.has("execute") {
			fmt.Fprintln(s.Err, "WARN: No action will be performed as the --execute option is missing. In version 5.0, this command will require either "+
				"--dry-run or --execute to be specified. You should add the --dry-run option explicitly if you are scripting this command and want to keep "+
				"the current default behavior without prompting.")
		}
		if !scope {
			return o.parser.usage("Option [reset-offsets] takes one of these options: %s", bracket("group", "all-groups"))
		}
		for _, x := range resetScenarios {
			if err := o.exclusive(x, resetScenarios...); err != nil {
				return err
			}
		}
	}
	for _, r := range []struct{ used, others []string }{
		{[]string{"group"}, []string{"all-groups"}}, {[]string{"group"}, []string{"list"}}, {[]string{"topic"}, []string{"list", "describe"}}} {
		if err := o.exclusive(r.used[0], r.others...); err != nil {
			return err
		}
	}
	actions := 0
	names := []string{"list", "describe", "delete", "reset-offsets", "delete-offsets", "validate-regex"}
	for _, a := range names {
		if o.has(a) {
			actions++
		}
	}
	if actions != 1 {
		return o.parser.usage("Command must include exactly one action: --%s", strings.Join(names, ", --"))
	}
	return nil
}

func validateRegex(o *parsed, s Streams) error {
	text, err := o.str("validate-regex")
	if err != nil {
		return err
	}
	if _, err := regexp.Compile(text); err != nil {
		fmt.Fprintf(s.Out, "The regular expression `%s` is invalid: %s.\n", text, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return nil
	}
	fmt.Fprintf(s.Out, "The regular expression `%s` is valid.\n", text)
	return nil
}

// groupsCommand is one run of the tool.
type groupsCommand struct {
	o     *parsed
	s     Streams
	admin *admin
	now   time.Time
}

// printError prints in the form of Kafka's tool, on standard output.
func (c *groupsCommand) printError(format string, args ...any) {
	fmt.Fprintf(c.s.Out, "\nError: "+format+"\n", args...)
}

// consumerStates and groupTypes are what --state and --type accept.
var (
	consumerStates = []string{"PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Empty", "Assigning", "Reconciling"}
	groupTypes     = []string{"Classic", "Consumer"}
)

// wantedWords reads the list of an option, without regard to case.
func (c *groupsCommand) wantedWords(name string, valid []string, what string) ([]string, error) {
	text, err := c.o.str(name)
	if err != nil || text == "" {
		return nil, err
	}
	var out []string
	for _, w := range strings.Split(text, ",") {
		w = strings.ReplaceAll(strings.TrimSpace(w), "_", "")
		i := slices.IndexFunc(valid, func(v string) bool { return strings.EqualFold(v, w) })
		if i < 0 {
			return nil, &illegalArgument{fmt.Sprintf("Invalid %s list '%s'. Valid %ss are: %s", what, text, strings.TrimSuffix(what, "s"), strings.Join(valid, ", "))}
		}
		out = append(out, valid[i])
	}
	return out, nil
}

func (c *groupsCommand) list(ctx context.Context) error {
	states, err := c.wantedWords("state", consumerStates, "state")
	if err != nil {
		return err
	}
	types, err := c.wantedWords("type", groupTypes, "types")
	if err != nil {
		return err
	}
	groups, err := c.admin.listGroups(ctx, states, types)
	if err != nil {
		return err
	}
	if !c.o.has("state") && !c.o.has("type") {
		for _, g := range groups {
			fmt.Fprintln(c.s.Out, g.name)
		}
		return nil
	}
	width := 15
	for _, g := range groups {
		width = max(width, len(g.name))
	}
	row := func(name, kind, state string) {
		line := fmt.Sprintf("%-*s", width+10, name)
		if c.o.has("type") {
			line += fmt.Sprintf(" %-20s", kind)
		}
		if c.o.has("state") {
			line += fmt.Sprintf(" %-20s", state)
		}
		fmt.Fprintln(c.s.Out, line)
	}
	row("GROUP", "TYPE", "STATE")
	for _, g := range groups {
		row(g.name, g.kind, g.state)
	}
	return nil
}

// groupNames returns the groups the options select.
func (c *groupsCommand) groupNames(ctx context.Context) ([]string, error) {
	if !c.o.has("all-groups") {
		return c.o.all("group"), nil
	}
	groups, err := c.admin.listGroups(ctx, nil, nil)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, g := range groups {
		out = append(out, g.name)
	}
	return out, nil
}

func (c *groupsCommand) delete(ctx context.Context) error {
	names, err := c.groupNames(ctx)
	if err != nil {
		return err
	}
	failed, err := c.admin.deleteGroups(ctx, names)
	if err != nil {
		return err
	}
	var good []string
	for _, n := range names {
		if failed[n] == nil {
			good = append(good, "'"+n+"'")
		}
	}
	if len(failed) == 0 {
		fmt.Fprintf(c.s.Out, "Deletion of requested consumer groups (%s) was successful.\n", strings.Join(good, ", "))
		return nil
	}
	c.printError("Deletion of some consumer groups failed:")
	for _, n := range names {
		if err := failed[n]; err != nil {
			fmt.Fprintf(c.s.Out, "* Group '%s' could not be deleted due to: %s\n", n, javaException(err))
		}
	}
	if len(good) > 0 {
		fmt.Fprintf(c.s.Out, "\nThese consumer groups were deleted successfully: %s\n", strings.Join(good, ", "))
	}
	return nil
}

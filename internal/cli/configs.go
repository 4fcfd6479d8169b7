package cli

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/base/conf"
)

// Kinds of entity, as --entity-type names them.
const (
	topicsEntity        = "topics"
	clientsEntity       = "clients"
	usersEntity         = "users"
	brokersEntity       = "brokers"
	brokerLoggersEntity = "broker-loggers"
	ipsEntity           = "ips"
	clientMetricsEntity = "client-metrics"
	groupsEntity        = "groups"
)

// entityFlags are the flags that name an entity of a kind, and its defaults; in Kafka's order.
func entityFlags() []struct{ flag, kind string } {
	return []struct{ flag, kind string }{{"topic", topicsEntity}, {"client", clientsEntity}, {"user", usersEntity}, {"broker", brokersEntity},
		{"broker-logger", brokerLoggersEntity}, {"ip", ipsEntity}, {"client-metrics", clientMetricsEntity}, {"group", groupsEntity}}
}

func entityDefaultFlags() []struct{ flag, kind string } {
	return []struct{ flag, kind string }{{"client-defaults", clientsEntity}, {"user-defaults", usersEntity}, {"broker-defaults", brokersEntity}, {"ip-defaults", ipsEntity}}
}

func configsParser() *parser {
	options := []option{
		{name: "bootstrap-server", kind: "String", argument: "server to connect to", doc: "Brokers to ask first."},
		{name: "bootstrap-controller", kind: "String", argument: "controller to connect to", doc: "Controllers to ask first."},
		{name: "command-config", kind: "String", argument: "command config property file", doc: "Properties of the client."},
		{name: "alter", doc: "Change configs of the entity."},
		{name: "describe", doc: "Show configs of the entity."},
		{name: "all", doc: "Show all configs, those that were not set as well."},
		{name: "entity-type", kind: "String", doc: "topics, clients, users, brokers, broker-loggers, ips, client-metrics or groups."},
		{name: "entity-name", kind: "String", doc: "Name of the entity."},
		{name: "entity-default", doc: "The defaults of clients, users, brokers or ips."},
		{name: "add-config", kind: "String", doc: "Configs to set: k1=v1,k2=[v1,v2],k3=v3. Brackets hold values with commas together."},
		{name: "add-config-file", kind: "String", doc: "A file of properties to set."},
		{name: "delete-config", kind: "String", doc: "Configs to unset: k1,k2."},
	}
	for _, f := range entityFlags() {
		options = append(options, option{name: f.flag, kind: "String", doc: "Stands for --entity-type " + f.kind + " --entity-name."})
	}
	for _, f := range entityDefaultFlags() {
		options = append(options, option{name: f.flag, doc: "Stands for --entity-type " + f.kind + " --entity-default."})
	}
	return newParser("This tool helps to manipulate and describe entity config for a topic, client, user, broker, ip, client-metrics or group", options...)
}

// configsCommand is one run of the tool.
type configsCommand struct {
	s     Streams
	o     *parsed
	line  *adminLine
	kinds []string
	names []string // "" is the default
}

func runConfigs(ctx context.Context, s Streams, args []string) error {
	o, err := configsParser().parse(args)
	if err != nil {
		return err
	}
	if done, err := o.helpOrVersion(args, s); done {
		return err
	}
	c := &configsCommand{s: s, o: o}
	if err := c.check(); err != nil {
		return err
	}
	properties, err := clientProperties(first(o.all("command-config")), nil)
	if err != nil {
		return err
	}
	n := &namespace{values: map[string][]string{}}
	for _, x := range []string{"bootstrap-server", "bootstrap-controller"} {
		if o.has(x) {
			n.values[x] = o.all(x)
		}
	}
	if o.has("alter") && len(c.kinds) != len(c.names) {
		return fail("An entity name must be specified for every entity type")
	}
	if c.line, err = newAdminLine(n, properties, "adminclient-1"); err != nil {
		return c.failed(args, err)
	}
	defer c.line.close()
	if o.has("alter") {
		return c.failed(args, c.alter(ctx))
	}
	return c.failed(args, c.describe(ctx))
}

// failed gives what a server answered, and what is no mistake of the caller, Kafka's frame.
func (c *configsCommand) failed(args []string, err error) error {
	var f *failure
	if err == nil || errors.As(err, &f) {
		return err
	}
	text := javaException(err)
	if text != err.Error() {
		text = "java.util.concurrent.ExecutionException: " + text
	}
	return fail("Error while executing config command with args '%s'\n%s", strings.Join(args, " "), text)
}

// entities reads which entities are meant.
func (c *configsCommand) entities() {
	c.kinds = slices.Clone(c.o.all("entity-type"))
	named := c.o.all("entity-name")
	for _, given := range c.o.order {
		switch given {
		case "entity-name":
			c.names = append(c.names, named[0])
			named = named[1:]
		case "entity-default":
			c.names = append(c.names, "")
		}
	}
	for _, f := range entityFlags() {
		if c.o.has(f.flag) {
			c.kinds, c.names = append(c.kinds, f.kind), append(c.names, first(c.o.all(f.flag)))
		}
	}
	for _, f := range entityDefaultFlags() {
		if c.o.has(f.flag) {
			c.kinds, c.names = append(c.kinds, f.kind), append(c.names, "")
		}
	}
}

func (c *configsCommand) hasKind(kinds ...string) bool {
	return slices.ContainsFunc(c.kinds, func(k string) bool { return slices.Contains(kinds, k) })
}

// check makes Kafka's checks of the command line, in its order.
func (c *configsCommand) check() error {
	o := c.o
	c.entities()
	if o.has("alter") == o.has("describe") {
		return o.parser.usage("Command must include exactly one action: --describe, --alter")
	}
	for _, x := range []string{"alter", "add-config", "delete-config"} {
		if err := o.exclusive("describe", x); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	var twice []string
	for _, k := range c.kinds {
		if seen[k] && !slices.Contains(twice, k) {
			twice = append(twice, k)
		}
		seen[k] = true
	}
	if len(twice) > 0 {
		return fail("Duplicate entity type(s) specified: %s", strings.Join(twice, ","))
	}
	if !o.has("bootstrap-server") && !o.has("bootstrap-controller") {
		return fail("Either --bootstrap-server or --bootstrap-controller must be specified.")
	}
	allowed := []string{brokerLoggersEntity, topicsEntity, clientsEntity, usersEntity, brokersEntity, ipsEntity, clientMetricsEntity, groupsEntity}
	for _, k := range c.kinds {
		if !slices.Contains(allowed, k) {
			return fail("Invalid entity type %s, the entity type must be one of %s with a --bootstrap-server or --bootstrap-controller argument", k, strings.Join(allowed, ", "))
		}
	}
	switch {
	case len(c.kinds) == 0:
		return fail("At least one entity type must be specified")
	case len(c.kinds) > 1 && !(c.hasKind(usersEntity) && c.hasKind(clientsEntity) && len(c.kinds) == 2):
		return fail("Only 'users' and 'clients' entity types may be specified together")
	}
	if o.has("entity-name") || o.has("entity-type") || o.has("entity-default") {
		for _, f := range append(entityFlags(), entityDefaultFlags()...) {
			if o.has(f.flag) {
				return fail("--entity-{type,name,default} should not be used in conjunction with specific entity flags")
			}
		}
	}
	if o.has("bootstrap-server") && o.has("bootstrap-controller") {
		return fail("Only one of --bootstrap-server or --bootstrap-controller can be specified")
	}
	return c.checkNames()
}

func (c *configsCommand) checkNames() error {
	o := c.o
	hasName := slices.ContainsFunc(c.names, func(n string) bool { return n != "" })
	hasDefault := slices.Contains(c.names, "")
	if hasName && c.hasKind(brokersEntity, brokerLoggersEntity) {
		for _, flag := range []string{"entity-name", "broker", "broker-logger"} {
			for _, name := range o.all(flag) {
				if _, err := strconv.ParseInt(name, 10, 32); err != nil {
					return fail("The entity name for %s must be a valid integer broker id, but it is: %s", c.kinds[0], name)
				}
			}
		}
	}
	withDefaults := c.hasKind(usersEntity, clientsEntity, brokersEntity, ipsEntity)
	kinds := strings.Join(c.kinds, ",")
	if o.has("describe") {
		switch {
		case !withDefaults && o.has("entity-default"):
			return fail("--entity-default must not be specified with --describe of %s", kinds)
		case c.hasKind(brokerLoggersEntity) && !hasName:
			return fail("An entity name must be specified with --describe of %s", kinds)
		}
		return nil
	}
	switch {
	case withDefaults && !hasName && !hasDefault:
		return fail("An entity-name or default entity must be specified with --alter of users, clients, brokers or ips")
	case !withDefaults && !hasName:
		return fail("An entity name must be specified with --alter of %s", kinds)
	case o.has("add-config") && o.has("add-config-file"):
		return fail("Only one of --add-config or --add-config-file must be specified")
	case !o.has("add-config") && !o.has("add-config-file") && !o.has("delete-config"):
		return fail("At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter")
	}
	return nil
}

var configKey = regexp.MustCompile(`^[$a-zA-Z0-9._-]*$`)

// toAdd reads the configs to set.
func (c *configsCommand) toAdd() (map[string]string, error) {
	out := map[string]string{}
	if c.o.has("add-config-file") {
		var err error
		if out, err = conf.ReadFile(first(c.o.all("add-config-file"))); err != nil {
			return nil, err
		}
	}
	if c.o.has("add-config") {
		text, err := c.o.str("add-config")
		if err != nil {
			return nil, err
		}
		parts := splitOutsideBrackets(text, ',')
		for len(parts) > 1 && parts[len(parts)-1] == "" {
			parts = parts[:len(parts)-1]
		}
		for _, part := range parts {
			pair := splitOutsideBrackets(part, '=')
			if len(pair) != 2 {
				return nil, fail("Invalid entity config: all configs to be added must be in the format \"key=val\" or  \"key=[val1,val2]\" to group values which contain commas.")
			}
			out[strings.TrimSpace(pair[0])] = strings.TrimSpace(strings.NewReplacer("[", "", "]", "").Replace(pair[1]))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(out)) {
		if !configKey.MatchString(key) {
			return nil, fail("Invalid character found for config key: %s", key)
		}
	}
	return out, nil
}

// splitOutsideBrackets splits at a character; one that a closing bracket follows before an opening one does not count.
func splitOutsideBrackets(text string, at byte) []string {
	var out []string
	start := 0
	for i := range len(text) {
		if text[i] != at {
			continue
		}
		if j := strings.IndexAny(text[i+1:], "[]"); j >= 0 && text[i+1+j] == ']' {
			continue
		}
		out = append(out, text[start:i])
		start = i + 1
	}
	return append(out, text[start:])
}

// toDelete reads the configs to unset.
func (c *configsCommand) toDelete() []string {
	var out []string
	for _, list := range c.o.all("delete-config") {
		for key := range strings.SplitSeq(list, ",") {
			out = append(out, strings.TrimSpace(key))
		}
	}
	return out
}

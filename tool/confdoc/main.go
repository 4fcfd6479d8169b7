// Command confdoc writes docs/config.md, the reference of all configuration keys, from the tables of internal/base/conf.
//
//	go run ./tool/confdoc > docs/config.md
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/moldau-io/moldau/internal/base/conf"
)

func main() {
	if _, err := os.Stdout.WriteString(render()); err != nil {
		fmt.Fprintln(os.Stderr, "confdoc:", err)
		os.Exit(1)
	}
}

const head = `# Configuration

Written by ` + "`go run ./tool/confdoc > docs/config.md`" + `; do not edit.

Moldau reads Apache Kafka's ` + "`server.properties`" + ` and knows every key of Kafka 4.4. What it does with a key is its state:

- **done**: the key has the effect Kafka gives it;
- **inert**: the key is read, checked and shown, but has no effect yet; giving it another value than its default draws a warning at start;
- **refused**: ignoring the key would be dangerous, so another value than its default stops the start with the reason.

Keys that are not listed are warned about and kept. A listener's security protocol other than PLAINTEXT is refused.
Values for one listener (` + "`listener.name.<name>.<key>`" + `) are read and checked and have no effect yet; a warning says so.
Broker keys change while the broker runs if their scope says so: *per-broker* for one broker, *cluster-wide* for all or for one.
`

var titles = map[conf.Scope]string{
	conf.BrokerScope:        "Brokers and controllers",
	conf.TopicScope:         "Topics",
	conf.GroupScope:         "Groups",
	conf.ClientMetricsScope: "Client metrics subscriptions",
}

func render() string {
	var out strings.Builder
	out.WriteString(head)
	for _, scope := range []conf.Scope{conf.BrokerScope, conf.TopicScope, conf.GroupScope, conf.ClientMetricsScope} {
		keys := conf.Keys(scope)
		counts := map[conf.State]int{}
		for _, k := range keys {
			counts[k.State]++
		}
		fmt.Fprintf(&out, "\n## %s\n\n%d keys: %d done, %d inert, %d refused.\n\n", titles[scope], len(keys), counts[conf.Done], counts[conf.Inert], counts[conf.Refused])
		column := "scope"
		if scope != conf.BrokerScope {
			column = "broker default"
		}
		fmt.Fprintf(&out, "| key | type | default | values | %s | state | |\n|---|---|---|---|---|---|---|\n", column)
		for _, k := range keys {
			writeRow(&out, k)
		}
	}
	return out.String()
}

func writeRow(out *strings.Builder, k *conf.Key) {
	def := "`" + k.Default + "`"
	switch {
	case k.NoDefault:
		def = "(required)"
	case k.Null:
		def = "null"
	case k.Default == "":
		def = "(empty)"
	}
	values := ""
	if k.Rule != nil {
		values = k.Rule.String()
	}
	place := k.Mode.String()
	if k.Scope != conf.BrokerScope {
		var names []string
		for _, s := range k.Synonyms {
			names = append(names, "`"+s.Name+"`")
		}
		place = strings.Join(names, ", ")
	}
	doc := k.Doc
	if r := k.Reason(); r != "" {
		doc += " The key " + r + "."
	}
	if k.Internal {
		doc = "(internal) " + doc
	}
	fmt.Fprintf(out, "| `%s` | %s | %s | %s | %s | %s | %s |\n", k.Name, strings.ToLower(k.Type.String()), def,
		strings.ReplaceAll(values, "|", "\\|"), place, k.State, doc)
}

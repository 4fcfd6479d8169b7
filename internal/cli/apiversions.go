package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

func runBrokerAPIVersions(ctx context.Context, s Streams, args []string) error {
	p := newParser("This tool helps to retrieve broker version information.",
		option{name: "bootstrap-server", kind: "String", argument: "server(s) to use for bootstrapping", doc: "REQUIRED: Brokers to ask first."},
		option{name: "command-config", kind: "String", argument: "command config property file", doc: "Properties of the client."})
	o, err := p.parse(args)
	if err != nil {
		return err
	}
	if done, err := o.helpOrVersion(args, s); done {
		return err
	}
	if err := o.required("bootstrap-server"); err != nil {
		return err
	}
	properties, err := clientProperties(first(o.all("command-config")), nil)
	if err != nil {
		return err
	}
	line, err := newAdminLine(&namespace{values: map[string][]string{"bootstrap-server": o.all("bootstrap-server")}}, properties, "admin-1")
	if err != nil {
		return err
	}
	defer line.close()
	return showAPIVersions(ctx, s, line)
}

// showAPIVersions prints the APIs of every node.
func showAPIVersions(ctx context.Context, s Streams, line *adminLine) error {
	cluster, err := line.describeCluster(ctx, false)
	if err != nil {
		return executionError(err)
	}
	slices.SortFunc(cluster.Brokers, func(a, b api.DescribeClusterResponseBroker) int { return int(a.BrokerID) - int(b.BrokerID) })
	for _, b := range cluster.Brokers {
		fmt.Fprintf(s.Out, "%s:%d (id: %d rack: %s isFenced: %t) -> ", b.Host, b.Port, b.BrokerID, textOrNull(b.Rack), b.IsFenced)
		m, err := line.node(ctx, "describeFeatures", b.BrokerID, versionsRequest())
		if err == nil {
			err = answered(int16(m.(*api.ApiVersionsResponse).ErrorCode), nil)
		}
		if err != nil {
			fmt.Fprintf(s.Out, "ERROR: %s\n", javaException(err))
			continue
		}
		fmt.Fprintln(s.Out, apiVersionsText(m.(*api.ApiVersionsResponse).ApiKeys))
	}
	return nil
}

// apiVersionsText lists APIs in order of key, with those of brokers that the node has not.
func apiVersionsText(keys []api.ApiVersionsResponseApiKey) string {
	lines := map[int16]string{}
	for _, k := range keys {
		versions := fmt.Sprint(k.MinVersion)
		if k.MinVersion != k.MaxVersion {
			versions = fmt.Sprintf("%d to %d", k.MinVersion, k.MaxVersion)
		}
		info, ok := api.Lookup(wire.APIKey(k.ApiKey))
		switch {
		case !ok:
			lines[k.ApiKey] = fmt.Sprintf("UNKNOWN(%d): %s", k.ApiKey, versions)
		case info.Max < k.MinVersion:
			lines[k.ApiKey] = fmt.Sprintf("%s(%d): %s [unusable: node too new]", info.Name, k.ApiKey, versions)
		case k.MaxVersion < info.Min:
			lines[k.ApiKey] = fmt.Sprintf("%s(%d): %s [unusable: node too old]", info.Name, k.ApiKey, versions)
		default:
			lines[k.ApiKey] = fmt.Sprintf("%s(%d): %s [usable: %d]", info.Name, k.ApiKey, versions, min(info.Max, k.MaxVersion))
		}
	}
	for _, info := range api.Table() {
		if _, ok := lines[int16(info.Key)]; !ok && info.Broker {
			lines[int16(info.Key)] = fmt.Sprintf("%s(%d): UNSUPPORTED", info.Name, info.Key)
		}
	}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(lines)) {
		out = append(out, lines[key])
	}
	return "(\n\t" + strings.Join(out, ",\n\t") + "\n)"
}

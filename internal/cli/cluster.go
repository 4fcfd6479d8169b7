package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/moldau-io/moldau/internal/wire/api"
)

func clusterParser() *argParser {
	p := &argParser{prog: "kafka-cluster", about: "Shows the cluster's id and endpoints, and forgets nodes."}
	for _, c := range []struct{ name, about string }{
		{"cluster-id", "Show the cluster's id."}, {"unregister", "Forget a broker."},
		{"unregister-controller", "Forget a controller."}, {"list-endpoints", "List the endpoints of brokers or controllers."},
		{"api-versions", "Show the APIs of brokers or controllers."},
	} {
		s := p.sub(c.name, c.about)
		bootstrapFlags(s, true, []string{"--bootstrap-server", "-b"}, []string{"--bootstrap-controller", "-C"})
		s.flag(argStore, "DEPRECATED: --command-config.", "--config")
		s.flag(argStore, "Properties of the client.", "--command-config", "-c")
		switch c.name {
		case "unregister", "unregister-controller":
			i := s.flag(argStore, "The id of the node.", "--id", "-i")
			i.integer, i.required = true, true
		case "list-endpoints":
			s.flag(argTrue, "List fenced brokers as well.", "--include-fenced-brokers")
		}
	}
	return p
}

func runCluster(ctx context.Context, s Streams, args []string) error {
	return clusterParser().run(s, args, func(n *namespace) error {
		file := n.str("command-config")
		if n.has("config") {
			if n.has("command-config") {
				return fail("--config and --command-config cannot be specified together.")
			}
			fmt.Fprintln(s.Out, "Option --config has been deprecated and will be removed in a future version. Use --command-config instead.")
			file = n.str("config")
		}
		properties, err := clientProperties(file, nil)
		if err != nil {
			return err
		}
		line, err := newAdminLine(n, properties, "adminclient-1")
		if err != nil {
			return err
		}
		defer line.close()
		switch n.command {
		case "cluster-id":
			c, err := line.describeCluster(ctx, false)
			if err != nil {
				return executionError(err)
			}
			fmt.Fprintln(s.Out, "Cluster ID: "+c.ClusterID)
			return nil
		case "list-endpoints":
			return listEndpoints(ctx, s, n, line)
		case "api-versions":
			return showAPIVersions(ctx, s, line)
		case "unregister":
			return sayUnregistered(s, "broker", n.integer("id"), unregisterBroker(ctx, line, n.integer("id")))
		}
		return sayUnregistered(s, "controller", n.integer("id"), unregisterController(ctx, line, n.integer("id")))
	})
}

func unregisterBroker(ctx context.Context, line *adminLine, nodeID int32) error {
	m, err := line.controller(ctx, "unregisterBroker", &api.UnregisterBrokerRequest{BrokerID: nodeID})
	if err != nil {
		return err
	}
	r := m.(*api.UnregisterBrokerResponse)
	return answered(int16(r.ErrorCode), r.ErrorMessage)
}

func sayUnregistered(s Streams, kind string, nodeID int32, err error) error {
	switch {
	case isUnsupported(err):
		fmt.Fprintf(s.Out, "The target cluster does not support the %s unregistration API.\n", kind)
		return nil
	case err != nil:
		return executionError(err)
	}
	fmt.Fprintf(s.Out, "%s%s %d is no longer registered.\n", strings.ToUpper(kind[:1]), kind[1:], nodeID)
	return nil
}

func listEndpoints(ctx context.Context, s Streams, n *namespace, line *adminLine) error {
	fenced := n.has("include-fenced-brokers")
	if fenced && line.controllers {
		return fail("The option --include-fenced-brokers is only supported with --bootstrap-server option")
	}
	c, err := line.describeCluster(ctx, fenced)
	switch {
	case isUnsupported(err):
		fmt.Fprintln(s.Out, err)
		return nil
	case err != nil:
		return executionError(err)
	}
	hostWidth, rackWidth := 0, 0
	for _, b := range c.Brokers {
		hostWidth = max(hostWidth, utf8.RuneCountInString(b.Host))
		if b.Rack != nil && *b.Rack != "" {
			rackWidth = max(rackWidth, utf8.RuneCountInString(*b.Rack))
		}
	}
	if len(c.Brokers) == 0 {
		hostWidth = 100
	}
	if rackWidth == 0 {
		rackWidth = 10
	}
	row := func(nodeID, host, port, rack, state, kind string) {
		fmt.Fprintf(s.Out, "%-10s %-*s %-10s %-*s ", nodeID, hostWidth, host, port, rackWidth, rack)
		if !line.controllers {
			fmt.Fprintf(s.Out, "%-10s ", state)
		}
		fmt.Fprintf(s.Out, "%-15s\n", kind)
	}
	row("ID", "HOST", "PORT", "RACK", "STATE", "ENDPOINT_TYPE")
	kind := "broker"
	if line.controllers {
		kind = "controller"
	}
	for _, b := range slices.Clone(c.Brokers) {
		rack, state := "null", "unfenced"
		if b.Rack != nil {
			rack = *b.Rack
		}
		if b.IsFenced {
			state = "fenced"
		}
		row(fmt.Sprint(b.BrokerID), b.Host, fmt.Sprint(b.Port), rack, state, kind)
	}
	return nil
}

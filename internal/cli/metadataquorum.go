package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

const metadataTopic = "__cluster_metadata"

func metadataQuorumParser() *argParser {
	p := &argParser{prog: "kafka-metadata-quorum", about: "Shows the quorum of controllers, and changes it."}
	bootstrapFlags(p, true, []string{"--bootstrap-server"}, []string{"--bootstrap-controller"})
	p.flag(argStore, "Properties of the client; with add-controller, those of the new controller as well.", "--command-config")
	d := p.sub("describe", "Show the quorum.")
	d.flag(argTrue, "The leader, its epoch, the high watermark and the voters.", "--status")
	d.flag(argTrue, "How far every voter and observer has come.", "--replication")
	d.flag(argTrue, "Show times as how long ago they were.", "--human-readable")
	p.sub("add-controller", "Make a controller a voter.").flag(argTrue, "Say what would be done and do nothing.", "--dry-run")
	r := p.sub("remove-controller", "Take a controller from the voters.")
	i := r.flag(argStore, "The id of the controller.", "--controller-id", "-i")
	i.integer, i.required = true, true
	r.flag(argStore, "The id of its metadata directory.", "--controller-directory-id", "-d").required = true
	r.flag(argTrue, "Say what would be done and do nothing.", "--dry-run")
	r.flag(argTrue, "Unregister the controller as well.", "--unregister")
	return p
}

func runMetadataQuorum(ctx context.Context, s Streams, args []string) error {
	return metadataQuorumParser().run(s, args, func(n *namespace) error {
		file := n.str("command-config")
		if n.has("command-config") {
			if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
				return fail("Properties file %s does not exist.", file)
			}
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
		case "describe":
			return describeQuorum(ctx, s, n, line)
		case "add-controller":
			return addController(ctx, s, n, line)
		}
		return removeController(ctx, s, n, line)
	})
}

func describeQuorum(ctx context.Context, s Streams, n *namespace, line *adminLine) error {
	switch {
	case n.has("status") && n.has("replication"):
		return fail("Only one of --status or --replication should be specified with describe sub-command")
	case n.has("replication"):
		return describeReplication(ctx, s, line, n.has("human-readable"))
	case n.has("status") && n.has("human-readable"):
		return fail("The option --human-readable is only supported along with --replication")
	case n.has("status"):
		return describeStatus(ctx, s, line)
	}
	return fail("One of --status or --replication must be specified with describe sub-command")
}

// quorumInfo is the answer to DescribeQuorum, checked.
type quorumInfo struct {
	api.DescribeQuorumResponseTopicPartition
	leader api.DescribeQuorumResponseReplicaState
	nodes  []api.DescribeQuorumResponseNode
}

func quorumOf(ctx context.Context, line *adminLine) (*quorumInfo, error) {
	req := &api.DescribeQuorumRequest{Topics: []api.DescribeQuorumRequestTopic{{TopicName: metadataTopic,
		Partitions: []api.DescribeQuorumRequestTopicPartition{{}}}}}
	m, err := line.controller(ctx, "describeMetadataQuorum", req)
	if err != nil {
		return nil, executionError(err)
	}
	r := m.(*api.DescribeQuorumResponse)
	if err := answered(int16(r.ErrorCode), r.ErrorMessage); err != nil {
		return nil, executionError(err)
	}
	if len(r.Topics) != 1 || r.Topics[0].TopicName != metadataTopic || len(r.Topics[0].Partitions) != 1 {
		return nil, executionError(&serverError{code: int16(wire.ErrUnknownServerError), text: "DescribeMetadataQuorum does not describe the metadata partition"})
	}
	q := &quorumInfo{DescribeQuorumResponseTopicPartition: r.Topics[0].Partitions[0], nodes: r.Nodes}
	if err := answered(int16(q.ErrorCode), q.ErrorMessage); err != nil {
		return nil, executionError(err)
	}
	i := slices.IndexFunc(q.CurrentVoters, func(v api.DescribeQuorumResponseReplicaState) bool { return v.ReplicaID == q.LeaderID })
	if i < 0 {
		return nil, errors.New("No value present") // the leader is no voter, or there is none
	}
	q.leader = q.CurrentVoters[i]
	return q, nil
}

func describeStatus(ctx context.Context, s Streams, line *adminLine) error {
	cluster, err := line.describeCluster(ctx, false)
	if err != nil {
		return executionError(err)
	}
	q, err := quorumOf(ctx, line)
	if err != nil {
		return err
	}
	last := q.CurrentVoters[0]
	for _, v := range q.CurrentVoters {
		if v.LogEndOffset < last.LogEndOffset {
			last = v
		}
	}
	lagMs := int64(-1)
	switch {
	case last.ReplicaID == q.leader.ReplicaID:
		lagMs = 0
	case q.leader.LastCaughtUpTimestamp >= 0 && last.LastCaughtUpTimestamp >= 0:
		lagMs = q.leader.LastCaughtUpTimestamp - last.LastCaughtUpTimestamp
	}
	fmt.Fprintf(s.Out, "ClusterId:              %s\nLeaderId:               %d\nLeaderEpoch:            %d\nHighWatermark:          %d\n"+
		"MaxFollowerLag:         %d\nMaxFollowerLagTimeMs:   %d\nCurrentVoters:          %s\nCurrentObservers:       %s\n",
		cluster.ClusterID, q.LeaderID, q.LeaderEpoch, q.HighWatermark, q.leader.LogEndOffset-last.LogEndOffset, lagMs,
		q.members(q.CurrentVoters), q.members(q.Observers))
	return nil
}

// members shows replicas as a list that resembles JSON.
func (q *quorumInfo) members(replicas []api.DescribeQuorumResponseReplicaState) string {
	out := make([]string, len(replicas))
	for i, r := range replicas {
		text := fmt.Sprintf(`{"id": %d`, r.ReplicaID)
		if !r.ReplicaDirectoryID.IsZero() {
			text += fmt.Sprintf(`, "directoryId": "%s"`, r.ReplicaDirectoryID)
		}
		var endpoints []string
		for _, node := range q.nodes {
			if node.NodeID != r.ReplicaID {
				continue
			}
			for _, l := range node.Listeners {
				endpoints = append(endpoints, fmt.Sprintf("%q", endpointText(l.Name, l.Host, l.Port)))
			}
		}
		if len(endpoints) > 0 {
			text += `, "endpoints": [` + strings.Join(endpoints, ", ") + "]"
		}
		out[i] = text + "}"
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func endpointText(name, host string, port uint16) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s://%s:%d", name, host, port)
}

func describeReplication(ctx context.Context, s Streams, line *adminLine, humanReadable bool) error {
	q, err := quorumOf(ctx, line)
	if err != nil {
		return err
	}
	rows := [][]string{{"NodeId", "DirectoryId", "LogEndOffset", "Lag", "LastFetchTimestamp", "LastCaughtUpTimestamp", "Status"}}
	now := time.Now().UnixMilli()
	add := func(r api.DescribeQuorumResponseReplicaState, status string) error {
		fetched, err := quorumTime(r.LastFetchTimestamp, now, humanReadable, "last fetch")
		if err != nil {
			return err
		}
		caughtUp, err := quorumTime(r.LastCaughtUpTimestamp, now, humanReadable, "last caught up")
		rows = append(rows, []string{strconv.Itoa(int(r.ReplicaID)), r.ReplicaDirectoryID.String(), strconv.FormatInt(r.LogEndOffset, 10),
			strconv.FormatInt(q.leader.LogEndOffset-r.LogEndOffset, 10), fetched, caughtUp, status})
		return err
	}
	if err := add(q.leader, "Leader"); err != nil {
		return err
	}
	for _, v := range q.CurrentVoters {
		if v.ReplicaID != q.LeaderID {
			if err := add(v, "Follower"); err != nil {
				return err
			}
		}
	}
	for _, o := range q.Observers {
		if err := add(o, "Observer"); err != nil {
			return err
		}
	}
	printTable(s.Out, rows)
	return nil
}

func quorumTime(ms, now int64, humanReadable bool, what string) (string, error) {
	switch {
	case ms < 0:
		return "-1", nil
	case !humanReadable:
		return strconv.FormatInt(ms, 10), nil
	case ms == 0 || ms > now:
		return "", fmt.Errorf("Error while computing relative time, possible drift in system clock.\nCurrent timestamp is %d, %s timestamp is %d", now, what, ms)
	}
	return fmt.Sprintf("%d ms ago", now-ms), nil
}

// printTable pads columns and ends each with a tab.
func printTable(out io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(out, "%-*s\t", widths[i], cell)
		}
		fmt.Fprintln(out)
	}
}

// addController makes the controller that the properties describe a voter.
func addController(ctx context.Context, s Streams, n *namespace, line *adminLine) error {
	if !n.has("command-config") {
		return fail("You must supply the configuration file of the controller you are adding when using add-controller.")
	}
	nodeID, err := controllerID(line.properties)
	if err != nil {
		return err
	}
	directory, err := metadataDirectoryID(line.properties)
	if err != nil {
		return err
	}
	listeners, err := controllerListeners(line.properties)
	if err != nil {
		return err
	}
	what := "DRY RUN of adding"
	if !n.has("dry-run") {
		what = "Added"
		req := api.NewAddRaftVoterRequest()
		req.TimeoutMs, req.VoterID, req.VoterDirectoryID, req.Listeners = int32(line.timeout.Milliseconds()), nodeID, directory, listeners
		m, err := line.controller(ctx, "addRaftVoter", req)
		if err == nil {
			r := m.(*api.AddRaftVoterResponse)
			err = answered(int16(r.ErrorCode), r.ErrorMessage)
		}
		if err != nil {
			return executionError(err)
		}
	}
	var endpoints []string
	for _, l := range listeners {
		endpoints = append(endpoints, endpointText(l.Name, l.Host, l.Port))
	}
	fmt.Fprintf(s.Out, "%s controller %d with directory id %s and endpoints: %s\n", what, nodeID, directory, strings.Join(endpoints, ", "))
	return nil
}

const notController = " file. Is this a valid controller configuration file?"

func controllerID(p map[string]string) (int32, error) {
	text, ok := p["node.id"]
	if !ok {
		return 0, fail("node.id not found in configuration" + notController)
	}
	nodeID, err := strconv.ParseInt(text, 10, 32)
	switch {
	case err != nil:
		return 0, fail("For input string: \"%s\"", text)
	case nodeID < 0:
		return 0, fail("node.id was negative in configuration" + notController)
	case !strings.Contains(p["process.roles"], "controller"):
		return 0, fail("process.roles did not contain 'controller' in configuration" + notController)
	}
	return int32(nodeID), nil
}

func metadataDirectoryID(p map[string]string) (id.UUID, error) {
	dir, ok := p["metadata.log.dir"]
	if !ok {
		dirs, ok := p["log.dirs"]
		if !ok {
			return id.UUID{}, fail("Neither metadata.log.dir nor log.dirs were found. Is this a valid controller configuration file?")
		}
		dir, _, _ = strings.Cut(strings.TrimSpace(dirs), ",")
	}
	m, err := quorum.ReadMetaProperties(vfs.OS(), dir)
	switch {
	case err != nil:
		return id.UUID{}, fail("Unable to read meta.properties from %s", dir)
	case m.DirectoryID.IsZero():
		return id.UUID{}, fail("No directory id found in %s", dir)
	}
	return m.DirectoryID, nil
}

// controllerListeners are the endpoints of the controller's listeners, advertised.listeners before listeners.
func controllerListeners(p map[string]string) ([]api.AddRaftVoterRequestListener, error) {
	known := map[string]api.AddRaftVoterRequestListener{}
	for _, key := range []string{"listeners", "advertised.listeners"} {
		for _, text := range splitServers(p[key]) {
			name, address, ok := strings.Cut(text, "://")
			host, portText, err := net.SplitHostPort(address)
			port, portErr := strconv.ParseUint(portText, 10, 16)
			if !ok || err != nil || portErr != nil {
				return nil, fail("Unable to parse %s to a broker endpoint", text)
			}
			if host == "" {
				host = "localhost"
			}
			name = strings.ToUpper(name)
			known[name] = api.AddRaftVoterRequestListener{Name: name, Host: host, Port: uint16(port)}
		}
	}
	names, ok := p["controller.listener.names"]
	if !ok {
		return nil, fail("controller.listener.names was not found. Is this a valid controller configuration file?")
	}
	var out []api.AddRaftVoterRequestListener
	for name := range strings.SplitSeq(names, ",") {
		name = strings.ToUpper(name)
		l, ok := known[name]
		if !ok {
			return nil, fail("Cannot find information about controller listener name: %s", name)
		}
		if !slices.ContainsFunc(out, func(o api.AddRaftVoterRequestListener) bool { return o.Name == name }) {
			out = append(out, l)
		}
	}
	return out, nil
}

func removeController(ctx context.Context, s Streams, n *namespace, line *adminLine) error {
	nodeID, text := n.integer("controller-id"), n.str("controller-directory-id")
	if nodeID < 0 {
		return fail("Invalid negative --controller-id: %d", nodeID)
	}
	directory, err := id.ParseUUID(text)
	if err != nil {
		return fail("Failed to parse --controller-directory-id: %s", badUUID(text))
	}
	dry, unregister := n.has("dry-run"), n.has("unregister")
	hint := fmt.Sprintf(". To unregister the controller from the cluster, run `kafka-cluster.sh unregister-controller --id %d`.", nodeID)
	if !dry {
		m, err := line.controller(ctx, "removeRaftVoter", &api.RemoveRaftVoterRequest{VoterID: nodeID, VoterDirectoryID: directory})
		if err == nil {
			r := m.(*api.RemoveRaftVoterResponse)
			err = answered(int16(r.ErrorCode), r.ErrorMessage)
		}
		var e *serverError
		switch {
		case err == nil:
		case unregister && errors.As(err, &e) && (e.code == int16(wire.ErrUnsupportedVersion) || e.code == int16(wire.ErrVoterNotFound)):
			return fail("Failed to remove KRaft voter %d: %s%s", nodeID, e.text, hint)
		default:
			return executionError(err)
		}
	}
	fmt.Fprintf(s.Out, "%sKRaft controller %d with directory id %s\n", doneOrDry(dry, "Removed ", "DRY RUN of removing "), nodeID, directory)
	if !unregister {
		return nil
	}
	if !dry {
		if err := unregisterController(ctx, line, nodeID); err != nil {
			return fail("Failed to unregister controller %d: %s%s", nodeID, err, hint)
		}
	}
	fmt.Fprintf(s.Out, "%sKRaft controller %d\n", doneOrDry(dry, "Unregistered ", "DRY RUN of unregistering "), nodeID)
	return nil
}

func doneOrDry(dry bool, done, would string) string {
	if dry {
		return would
	}
	return done
}

// badUUID is what Java says of a text that is no id.
func badUUID(text string) string {
	if len(text) > 24 {
		return fmt.Sprintf("Input string with prefix `%s` is too long to be decoded as a base64 UUID", text[:24])
	}
	return fmt.Sprintf("Input string `%s` decoded as %d bytes, which is not equal to the expected 16 bytes of a base64-encoded UUID", text, len(text)*3/4)
}

func unregisterController(ctx context.Context, line *adminLine, nodeID int32) error {
	m, err := line.controller(ctx, "unregisterController", &api.UnregisterControllerRequest{ControllerID: nodeID})
	if err != nil {
		return err
	}
	r := m.(*api.UnregisterControllerResponse)
	return answered(int16(r.ErrorCode), r.ErrorMessage)
}

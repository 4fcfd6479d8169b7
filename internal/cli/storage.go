package cli

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

func storageParser() *argParser {
	p := &argParser{prog: "kafka-storage", about: "Prepares log directories and looks at them.", fromFiles: true}
	config := func(c *argParser) {
		c.flag(argStore, "The server.properties of the node.", "--config", "-c").required = true
	}
	config(p.sub("info", "Show the log directories of this node."))
	f := p.sub("format", "Prepare the log directories of this node.")
	config(f)
	f.flag(argStore, "The id of the cluster.", "--cluster-id", "-t").required = true
	f.flag(argAppend, "A credential to begin with: SCRAM-SHA-256=[name=NAME,password=PASSWORD] or "+
		"SCRAM-SHA-512=[name=NAME,iterations=8192,salt=BASE64,saltedpassword=BASE64].", "--add-scram", "-S")
	f.flag(argTrue, "Leave directories alone that are formatted already.", "--ignore-formatted", "-g")
	f.flag(argStore, "The release whose feature levels the cluster begins with; "+latestStable().name+" unless given.", "--release-version", "-r")
	f.flag(argAppend, "The level of one feature, as in kraft.version=1.", "--feature", "-f")
	f.exclusive(false,
		f.flag(argTrue, "A dynamic quorum whose one voter is this controller.", "--standalone", "-s"),
		f.flag(argTrue, "A dynamic quorum that this node joins later.", "--no-initial-controllers", "-N"),
		f.flag(argStore, "A dynamic quorum of these voters: id@host:port:directory,... The same list on every node.", "--initial-controllers", "-I"))
	p.sub("version-mapping", "Show the feature levels of a release.").
		flag(argStore, "The release; "+latestStable().name+" unless given.", "--release-version", "-r")
	p.sub("feature-dependencies", "Show what feature levels require.").
		flag(argAppend, "The feature, as in metadata.version=5.", "--feature", "-f").required = true
	p.sub("random-uuid", "Draw a random id.")
	return p
}

func runStorage(_ context.Context, s Streams, args []string) error {
	return storageParser().run(s, args, func(n *namespace) error {
		switch n.command {
		case "info":
			return storageInfo(s, n)
		case "format":
			return storageFormat(s, n)
		case "version-mapping":
			return versionMapping(s, n.str("release-version"))
		case "feature-dependencies":
			return featureDependencies(s, n.all("feature"), "Feature level %d is not supported for feature %s")
		}
		fmt.Fprintln(s.Out, quorum.NewDirectoryID(newRand()))
		return nil
	})
}

// newRand returns a generator seeded by the system.
func newRand() *rand.Rand {
	var seed [16]byte
	crand.Read(seed[:]) // never fails
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:])))
}

// loadConfig reads the file of --config.
func loadConfig(n *namespace) (*conf.Broker, error) {
	properties, err := conf.ReadFile(n.str("config"))
	if err != nil {
		return nil, err
	}
	b, _, err := conf.Load(properties, nil)
	return b, err
}

// logDirectories returns all directories of a node, sorted: log.dirs and the metadata log's.
func logDirectories(b *conf.Broker) []string {
	dirs := append(slices.Clone(b.LogDirs()), b.MetadataLogDir())
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

func storageInfo(s Streams, n *namespace) error {
	b, err := loadConfig(n)
	if err != nil {
		return err
	}
	var found, problems []string
	var metadata map[string]string
	for _, dir := range logDirectories(b) {
		meta := filepath.Join(dir, "meta.properties")
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, os.ErrNotExist):
			problems = append(problems, dir+" does not exist")
			continue
		case err != nil || !info.IsDir():
			problems = append(problems, dir+" is not a directory")
			continue
		}
		found = append(found, dir)
		if _, err := os.Stat(meta); errors.Is(err, os.ErrNotExist) {
			problems = append(problems, dir+" is not formatted.")
			continue
		}
		m, err := conf.ReadFile(meta)
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("Error loading %s: %v", meta, err))
		case metadata == nil:
			metadata = m
		case metadata["cluster.id"] != m["cluster.id"]:
			problems = append(problems, "Mismatched cluster IDs between storage directories.")
		case metadata["node.id"] != m["node.id"]:
			problems = append(problems, "Mismatched node IDs between storage directories.")
		}
	}
	if metadata != nil && metadata["version"] == "0" {
		problems = append(problems, "The kafka configuration file appears to be for a cluster in KRaft mode, but the directories are formatted for legacy mode.")
	}
	printBlock(s, "Found log directory:", "Found log directories:", found)
	if metadata != nil {
		var pairs []string
		for k, v := range metadata {
			pairs = append(pairs, k+"="+v)
		}
		slices.Sort(pairs)
		fmt.Fprintf(s.Out, "Found metadata: {%s}\n\n", strings.Join(pairs, ", "))
	}
	printBlock(s, "Found problem:", "Found problems:", problems)
	if len(problems) > 0 {
		return silent()
	}
	return nil
}

func printBlock(s Streams, one, many string, lines []string) {
	switch len(lines) {
	case 0:
		return
	case 1:
		fmt.Fprintln(s.Out, one)
	default:
		fmt.Fprintln(s.Out, many)
	}
	for _, l := range lines {
		fmt.Fprintf(s.Out, "  %s\n", l)
	}
	fmt.Fprintln(s.Out)
}

func storageFormat(s Streams, n *namespace) error {
	b, err := loadConfig(n)
	if err != nil {
		return err
	}
	if len(b.List("process.roles")) == 0 {
		return fail("The kafka configuration file appears to be for a legacy cluster. Formatting is only supported for clusters in KRaft mode.")
	}
	unstable := b.Bool("unstable.feature.versions.enable")
	var release *metadataVersion
	if n.has("release-version") {
		v, err := parseMetadataVersion(n.str("release-version"), unstable)
		if err != nil {
			return err
		}
		release = &v
	}
	given, err := givenLevels(n.all("feature"))
	if err != nil {
		return err
	}
	options := quorum.FormatOptions{
		FS: vfs.OS(), ClusterID: n.str("cluster-id"), NodeID: b.NodeID(), MetadataDir: b.MetadataLogDir(), Dirs: logDirectories(b),
		IgnoreFormatted: n.has("ignore-formatted"), Now: time.Now(), Rand: newRand(),
	}
	if err := initialVoters(n, b, &options); err != nil {
		return err
	}
	version, err := effectiveRelease(release, given, unstable)
	if err != nil {
		return err
	}
	if options.Features, err = effectiveLevels(version, given, options.Dynamic); err != nil {
		return err
	}
	if scram := n.all("add-scram"); len(scram) > 0 {
		if !image.MetadataVersion(version.level).ScramSupported() {
			return fail("SCRAM is only supported in metadata.version 3.5-IV2 or later.")
		}
		if options.Extra, err = scramRecords(scram, options.Rand); err != nil {
			return err
		}
	}
	done, err := quorum.Format(options)
	if err != nil {
		return fail("%s", strings.TrimPrefix(err.Error(), "format: "))
	}
	reportFormat(s, b, &options, version, done)
	return nil
}

// reportFormat says what was done, in Kafka's words and in its order, which is that of a hash map.
func reportFormat(s Streams, b *conf.Broker, o *quorum.FormatOptions, version metadataVersion, done []quorum.Formatted) {
	var fresh []quorum.Formatted
	for _, f := range done {
		switch {
		case f.Unreadable:
			fmt.Fprintf(s.Out, "I/O error trying to read log directory %s. Ignoring...\n", f.Dir)
		case !f.Already:
			fresh = append(fresh, f)
		}
	}
	if len(fresh) == 0 {
		fmt.Fprintln(s.Out, "All of the log directories are already formatted.")
		return
	}
	fmt.Fprintln(s.Out, bootstrapText(o.Features, o.Extra))
	isVoter := slices.ContainsFunc(o.Voters, func(v quorum.Voter) bool { return v.ID == o.NodeID })
	for _, f := range javaHashOrder(fresh, func(f quorum.Formatted) uint32 { return javaStringHash(f.Dir) }, 16) {
		kind := "data directory"
		switch {
		case f.Dir != b.MetadataLogDir():
		case isVoter:
			kind = "dynamic metadata voter directory"
		case len(o.Voters) > 0:
			kind = "dynamic metadata directory"
		default:
			kind = "metadata directory"
		}
		fmt.Fprintf(s.Out, "Formatting %s %s with metadata.version %s.\n", kind, f.Dir, version.name)
	}
}

// bootstrapText prints the first records as Kafka does.
func bootstrapText(levels []quorum.FeatureLevel, extra []image.Record) string {
	var records []string
	add := func(format string, args ...any) {
		records = append(records, "ApiMessageAndVersion("+fmt.Sprintf(format, args...)+" at version 0)")
	}
	for _, l := range levels {
		if l.Level != 0 || l.Name == image.MetadataVersionFeature {
			add("FeatureLevelRecord(name='%s', featureLevel=%d)", l.Name, l.Level)
		}
	}
	for _, r := range extra {
		if c, ok := r.Message.(*logrec.UserScramCredentialRecord); ok {
			add("UserScramCredentialRecord(name='%s', mechanism=%d, salt=%s, storedKey=%s, serverKey=%s, iterations=%d)",
				c.Name, c.Mechanism, javaBytes(c.Salt), javaBytes(c.StoredKey), javaBytes(c.ServerKey), c.Iterations)
		}
	}
	return fmt.Sprintf("Bootstrap metadata: BootstrapMetadata(records=[%s], metadataVersionLevel=%d, source=format command)",
		strings.Join(records, ", "), levels[0].Level)
}

// javaBytes is Arrays.toString of a byte array.
func javaBytes(b []byte) string {
	out := make([]string, len(b))
	for i, x := range b {
		out[i] = strconv.Itoa(int(int8(x)))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// initialVoters sets what the options say of the quorum: static by configuration, or dynamic with its first voters.
func initialVoters(n *namespace, b *conf.Broker, f *quorum.FormatOptions) error {
	static := len(b.QuorumVoters()) > 0
	f.Dynamic = !static
	if static && (n.has("initial-controllers") || n.has("standalone")) {
		return fail("You cannot specify controller.quorum.voters and format the node with --initial-controllers or --standalone. If you want to " +
			"use dynamic quorum, please remove controller.quorum.voters and specify controller.quorum.bootstrap.servers instead.")
	}
	names := b.List("controller.listener.names")
	if len(names) == 0 {
		return fail("You must specify the name of the initial controller listener.")
	}
	listener := names[0]
	switch {
	case n.has("standalone"):
		if !b.IsController() {
			return fail("You can only use --standalone on a controller.")
		}
		eps := b.AdvertisedControllerListeners()
		if len(eps) == 0 {
			return fail("No controller listeners found.")
		}
		host := eps[0].Host
		if host == "" {
			host = "localhost"
		}
		f.Voters = []quorum.Voter{newVoter(b.NodeID(), quorum.NewDirectoryID(f.Rand), listener, host, uint16(eps[0].Port))}
	case n.has("initial-controllers"):
		voters, err := parseInitialControllers(n.str("initial-controllers"), listener)
		if err != nil {
			return err
		}
		f.Voters = voters
	case b.IsController() && !static && !n.has("no-initial-controllers"):
		return fail("Because controller.quorum.voters is not set on this controller, you must specify one of the following: " +
			"--standalone, --initial-controllers, or --no-initial-controllers.")
	}
	if !b.IsController() {
		f.MetadataDir = "" // a broker gets its first snapshot from the controllers
	}
	return nil
}

// parseInitialControllers reads id@host:port:directory,... and returns the voters in order of id.
func parseInitialControllers(text, listener string) ([]quorum.Voter, error) {
	var out []quorum.Voter
	for _, entry := range strings.Split(strings.TrimSpace(text), ",") {
		if entry == "" {
			continue
		}
		v, err := parseVoter(strings.TrimSpace(entry), listener)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o quorum.Voter) bool { return o.ID == v.ID }) {
			return nil, fail("Node id %d was specified more than once.", v.ID)
		}
		out = append(out, v)
	}
	if len(out) == 0 {
		return nil, fail("No voters given.")
	}
	slices.SortFunc(out, func(a, b quorum.Voter) int { return int(a.ID) - int(b.ID) })
	return out, nil
}

func parseVoter(text, listener string) (v quorum.Voter, err error) {
	idText, rest, ok := strings.Cut(text, "@")
	switch {
	case !ok:
		return v, fail("No @ found in dynamic voter string.")
	case idText == "":
		return v, fail("Invalid @ at beginning of dynamic voter string.")
	}
	node, err := strconv.ParseInt(idText, 10, 32)
	switch {
	case err != nil:
		return v, fail("Failed to parse node id in dynamic voter string.")
	case node < 0:
		return v, fail("Invalid negative node id %d in dynamic voter string.", node)
	case rest == "":
		return v, fail("No hostname found after node id.")
	}
	var host string
	if bracketed, isIPv6 := strings.CutPrefix(rest, "["); isIPv6 {
		if host, rest, ok = strings.Cut(bracketed, "]"); !ok {
			return v, fail("Hostname began with left bracket, but no right bracket was found.")
		}
	} else {
		i := strings.IndexByte(rest, ':')
		if i < 0 {
			return v, fail("No colon following hostname could be found.")
		}
		host, rest = rest[:i], rest[i:]
	}
	if rest, ok = strings.CutPrefix(rest, ":"); !ok {
		return v, fail("Port section must start with a colon.")
	}
	portText, directoryText, ok := strings.Cut(rest, ":")
	if !ok {
		return v, fail("No colon following port could be found.")
	}
	port, err := strconv.ParseInt(portText, 10, 32)
	switch {
	case err != nil:
		return v, fail("Failed to parse port in dynamic voter string.")
	case port < 0 || port > 65535:
		return v, fail("Invalid port %d in dynamic voter string.", port)
	}
	directory, err := id.ParseUUID(directoryText)
	if err != nil {
		return v, fail("Failed to parse directory ID in dynamic voter string.")
	}
	return newVoter(id.BrokerID(node), directory, listener, host, uint16(port)), nil
}

func newVoter(node id.BrokerID, directory id.UUID, listener, host string, port uint16) quorum.Voter {
	return quorum.Voter{ID: node, DirectoryID: directory, Endpoints: []quorum.Endpoint{{Name: strings.ToUpper(listener), Host: javaHost(host), Port: port}}}
}

// javaHost writes a numeric IPv6 address as Java does, with all of its eight groups; names and IPv4 addresses stay as they are.
func javaHost(host string) string {
	a, err := netip.ParseAddr(host)
	if err != nil || !a.Is6() || a.Zone() != "" {
		return host
	}
	b := a.As16()
	groups := make([]string, 8)
	for i := range groups {
		groups[i] = strconv.FormatUint(uint64(binary.BigEndian.Uint16(b[2*i:])), 16)
	}
	return strings.Join(groups, ":")
}

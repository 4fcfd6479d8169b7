package cli

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/engine/quorum"
)

const storageUsage = `usage: kafka-storage [-h] {info,format,version-mapping,feature-dependencies,random-uuid} ...

  info                  show the log directories of this node
      --config, -c FILE
  format                prepare the log directories of this node
      --config, -c FILE, --cluster-id, -t ID, --ignore-formatted, -g, --release-version, -r VERSION,
      --feature, -f NAME=LEVEL, --standalone, -s | --no-initial-controllers, -N | --initial-controllers, -I LIST
  version-mapping       show the feature levels of a release
      --release-version, -r VERSION
  feature-dependencies  show what feature levels require
      --feature, -f NAME=LEVEL
  random-uuid           draw a random id
`

// longOption expands the one-letter names of the storage tool's options.
func longOption(arg string) string {
	switch arg {
	case "-h":
		return "--help"
	case "-c":
		return "--config"
	case "-t":
		return "--cluster-id"
	case "-S":
		return "--add-scram"
	case "-g":
		return "--ignore-formatted"
	case "-r":
		return "--release-version"
	case "-f":
		return "--feature"
	case "-s":
		return "--standalone"
	case "-N":
		return "--no-initial-controllers"
	case "-I":
		return "--initial-controllers"
	}
	return arg
}

func runStorage(_ context.Context, s Streams, args []string) error {
	if len(args) == 0 {
		return &failure{code: 1, text: "kafka-storage: error: too few arguments", help: storageUsage}
	}
	if args[0] == "-h" || args[0] == "--help" {
		fmt.Fprint(s.Out, storageUsage)
		return nil
	}
	long := make([]string, 0, len(args))
	for _, a := range args[1:] {
		long = append(long, longOption(a))
	}
	str := func(names ...string) []option {
		var out []option
		for _, n := range names {
			out = append(out, option{name: n, kind: "String"})
		}
		return out
	}
	commands := map[string]struct {
		options  []option
		required []string
		run      func(Streams, *parsed) error
	}{
		"info": {str("config"), []string{"config"}, storageInfo},
		"format": {append(str("config", "cluster-id", "add-scram", "release-version", "feature", "initial-controllers"),
			option{name: "ignore-formatted"}, option{name: "standalone"}, option{name: "no-initial-controllers"}),
			[]string{"config", "cluster-id"}, storageFormat},
		"version-mapping":      {str("release-version"), nil, func(s Streams, o *parsed) error { return versionMapping(s, first(o.all("release-version"))) }},
		"feature-dependencies": {str("feature"), []string{"feature"}, func(s Streams, o *parsed) error { return featureDependencies(s, o.all("feature")) }},
		"random-uuid": {nil, nil, func(s Streams, _ *parsed) error {
			fmt.Fprintln(s.Out, quorum.NewDirectoryID(newRand()))
			return nil
		}},
	}
	c, ok := commands[args[0]]
	if !ok {
		return &failure{code: 1, help: storageUsage, text: fmt.Sprintf("kafka-storage: error: argument command: invalid choice: '%s' "+
			"(choose from 'info', 'format', 'version-mapping', 'feature-dependencies', 'random-uuid')", args[0])}
	}
	o, err := newParser("", c.options...).parse(long)
	if err != nil {
		return &failure{code: 1, text: "kafka-storage: error: " + err.Error(), help: storageUsage}
	}
	if o.has("help") {
		fmt.Fprint(s.Out, storageUsage)
		return nil
	}
	for _, r := range c.required {
		if !o.has(r) {
			return &failure{code: 1, text: fmt.Sprintf("kafka-storage: error: argument --%s is required", r), help: storageUsage}
		}
	}
	return c.run(s, o)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}

// newRand returns a generator seeded by the system.
func newRand() *rand.Rand {
	var seed [16]byte
	crand.Read(seed[:]) // never fails
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:])))
}

func parseShort(text string) (int16, error) {
	n, err := strconv.ParseInt(text, 10, 16)
	return int16(n), err
}

// loadConfig reads the file of --config.
func loadConfig(o *parsed) (*conf.Broker, error) {
	properties, err := conf.ReadFile(first(o.all("config")))
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

func storageInfo(s Streams, o *parsed) error {
	b, err := loadConfig(o)
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

func storageFormat(s Streams, o *parsed) error {
	b, err := loadConfig(o)
	if err != nil {
		return err
	}
	exclusive := 0
	for _, x := range []string{"standalone", "no-initial-controllers", "initial-controllers"} {
		if o.has(x) {
			exclusive++
		}
	}
	if exclusive > 1 {
		return &failure{code: 1, text: "kafka-storage: error: --standalone, --no-initial-controllers and --initial-controllers exclude each other", help: storageUsage}
	}
	if o.has("add-scram") {
		return fail("--add-scram is not supported yet: this node cannot check SCRAM credentials")
	}
	version, levels, err := featureLevels(o, b)
	if err != nil {
		return err
	}
	options := quorum.FormatOptions{
		FS: vfs.OS(), ClusterID: first(o.all("cluster-id")), NodeID: b.NodeID(), MetadataDir: b.MetadataLogDir(), Dirs: logDirectories(b),
		Features: levels, IgnoreFormatted: o.has("ignore-formatted"), Now: time.Now(), Rand: newRand(),
	}
	if err := initialVoters(o, b, &options); err != nil {
		return err
	}
	formatted, err := quorum.Format(options)
	if err != nil {
		return fail("%s", strings.TrimPrefix(err.Error(), "format: "))
	}
	announced := false
	for _, f := range formatted {
		if f.Already {
			continue
		}
		if !announced {
			announced = true
			fmt.Fprintln(s.Out, bootstrapText(levels))
		}
		kind := "data directory"
		switch isVoter := slices.ContainsFunc(options.Voters, func(v quorum.Voter) bool { return v.ID == options.NodeID }); {
		case f.Dir == b.MetadataLogDir() && isVoter:
			kind = "dynamic metadata voter directory"
		case f.Dir == b.MetadataLogDir() && len(options.Voters) > 0:
			kind = "dynamic metadata directory"
		case f.Dir == b.MetadataLogDir():
			kind = "metadata directory"
		}
		fmt.Fprintf(s.Out, "Formatting %s %s with metadata.version %s.\n", kind, f.Dir, version.name)
	}
	if !announced {
		fmt.Fprintln(s.Out, "All of the log directories are already formatted.")
	}
	return nil
}

// bootstrapText prints the first records as Kafka does.
func bootstrapText(levels []quorum.FeatureLevel) string {
	var records []string
	for _, l := range levels {
		if l.Level != 0 || l.Name == "metadata.version" {
			records = append(records, fmt.Sprintf("ApiMessageAndVersion(FeatureLevelRecord(name='%s', featureLevel=%d) at version 0)", l.Name, l.Level))
		}
	}
	return fmt.Sprintf("Bootstrap metadata: BootstrapMetadata(records=[%s], metadataVersionLevel=%d, source=format command)",
		strings.Join(records, ", "), levels[0].Level)
}

// featureLevels resolves --release-version and --feature to the levels to write, metadata.version first. kraft.version is not
// among them: it lives in control records.
func featureLevels(o *parsed, b *conf.Broker) (metadataVersion, []quorum.FeatureLevel, error) {
	version := latestStable()
	given := map[string]int16{}
	for _, text := range o.all("feature") {
		name, level, ok := strings.Cut(text, "=")
		if !ok {
			return version, nil, fail("Can't parse feature=level string %s: equals sign not found.", text)
		}
		n, err := parseShort(strings.TrimSpace(level))
		if err != nil {
			return version, nil, fail("Can't parse feature=level string %s: unable to parse %s as a short.", text, strings.TrimSpace(level))
		}
		given[strings.TrimSpace(name)] = n
	}
	level, byFeature := given["metadata.version"]
	switch {
	case byFeature && o.has("release-version"):
		return version, nil, fail("Use --release-version instead of --feature metadata.version=X to avoid ambiguity.")
	case byFeature:
		v, ok := metadataVersionOf(level)
		if !ok {
			return version, nil, fail("No MetadataVersion with feature level %d.", level)
		}
		version = v
	case o.has("release-version"):
		v, err := parseMetadataVersion(first(o.all("release-version")))
		if err != nil {
			return version, nil, err
		}
		version = v
	}
	if !version.stable && !b.Bool("unstable.feature.versions.enable") {
		return version, nil, fail("metadata.version %s is not yet stable.", version.name)
	}
	out := []quorum.FeatureLevel{{Name: "metadata.version", Level: version.level}}
	all := features()
	slices.SortFunc(all, func(a, b feature) int { return strings.Compare(a.name, b.name) })
	var names []string
	for _, f := range all {
		names = append(names, f.name)
		level, ok := given[f.name]
		if !ok {
			level = f.defaultLevel(version)
		}
		if level < 0 || int(level) > len(f.steps) {
			return version, nil, fail("No feature:%s with feature level %d", f.name, level)
		}
		if need := f.needs[level]; need > version.level {
			return version, nil, fail("%s could not be set to %d because it depends on metadata.version level %d", f.name, level, need)
		}
		if f.name != "kraft.version" {
			out = append(out, quorum.FeatureLevel{Name: f.name, Level: level})
		}
	}
	for name := range given {
		if name != "metadata.version" && !slices.Contains(names, name) {
			return version, nil, fail("Unsupported feature: %s. Supported features are: %s", name, strings.Join(names, ", "))
		}
	}
	dynamic := len(b.QuorumVoters()) == 0
	if k, ok := given["kraft.version"]; ok {
		switch {
		case k == 0 && dynamic:
			return version, nil, fail("Cannot set kraft.version to 0 if controller.quorum.voters is empty and one of the flags --standalone, " +
				"--initial-controllers, or --no-initial-controllers is used. For dynamic controllers support, try removing the --feature flag for kraft.version.")
		case k > 0 && !dynamic:
			return version, nil, fail("Cannot set kraft.version to %d unless controller.quorum.voters is empty and one of the flags --standalone, "+
				"--initial-controllers, or --no-initial-controllers is used. For dynamic controllers support, try using one of --standalone, "+
				"--initial-controllers, or --no-initial-controllers and removing controller.quorum.voters.", k)
		}
	}
	return version, out, nil
}

// initialVoters sets what the options say of the quorum: static by configuration, or dynamic with its first voters.
func initialVoters(o *parsed, b *conf.Broker, f *quorum.FormatOptions) error {
	static := len(b.QuorumVoters()) > 0
	f.Dynamic = !static
	if static && (o.has("initial-controllers") || o.has("standalone")) {
		return fail("You cannot specify controller.quorum.voters and format the node with --initial-controllers or --standalone. If you want to " +
			"use dynamic quorum, please remove controller.quorum.voters and specify controller.quorum.bootstrap.servers instead.")
	}
	listener := b.List("controller.listener.names")[0]
	switch {
	case o.has("standalone"):
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
	case o.has("initial-controllers"):
		voters, err := parseInitialControllers(first(o.all("initial-controllers")), listener)
		if err != nil {
			return err
		}
		f.Voters = voters
	case b.IsController() && !static && !o.has("no-initial-controllers"):
		return fail("Because controller.quorum.voters is not set on this controller, you must specify one of the following: " +
			"--standalone, --initial-controllers, or --no-initial-controllers.")
	}
	if !b.IsController() {
		f.MetadataDir = "" // a broker gets its first snapshot from the controllers
	}
	return nil
}

// parseInitialControllers reads id@host:port:directory,...
func parseInitialControllers(text, listener string) ([]quorum.Voter, error) {
	var out []quorum.Voter
	for _, entry := range strings.Split(text, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		voterText, rest, ok := strings.Cut(entry, "@")
		if !ok {
			return nil, fail("No @ found in dynamic voter string.")
		}
		voterID, err := strconv.ParseInt(voterText, 10, 32)
		if err != nil {
			return nil, fail("Failed to parse node id in dynamic voter string.")
		}
		i := strings.LastIndexByte(rest, ':')
		j := -1
		if i > 0 {
			j = strings.LastIndexByte(rest[:i], ':')
		}
		if j < 0 {
			return nil, fail("No colon following hostname could be found.")
		}
		port, err := strconv.ParseUint(rest[j+1:i], 10, 16)
		if err != nil {
			return nil, fail("Failed to parse port in dynamic voter string.")
		}
		directory, err := id.ParseUUID(rest[i+1:])
		if err != nil {
			return nil, fail("Failed to parse directory ID in dynamic voter string.")
		}
		out = append(out, newVoter(id.BrokerID(voterID), directory, listener, strings.Trim(rest[:j], "[]"), uint16(port)))
	}
	if len(out) == 0 {
		return nil, fail("No voters given.")
	}
	return out, nil
}

func newVoter(node id.BrokerID, directory id.UUID, listener, host string, port uint16) quorum.Voter {
	return quorum.Voter{ID: node, DirectoryID: directory, Endpoints: []quorum.Endpoint{{Name: listener, Host: host, Port: port}}}
}

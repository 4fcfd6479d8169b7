package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Version is the release of Apache Kafka whose behaviour the tools show, as --version prints it.
const Version = "4.4.0"

// Streams are the standard streams of a tool.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// Terminal says that In and Out are a terminal, where console-producer shows a prompt.
	Terminal bool
}

// tool is one command. It returns nil, a *failure, or an error to print as it is.
type tool struct {
	about string
	run   func(ctx context.Context, s Streams, args []string) error
}

// tools by the names of Kafka's scripts without "kafka-" and ".sh".
func tools() map[string]tool {
	return map[string]tool{
		"start":               {"start a node", runStart},
		"storage":             {"format log directories, and look at them", runStorage},
		"topics":              {"create, delete, describe and change topics", runTopics},
		"console-producer":    {"send lines of standard input as records", runConsoleProducer},
		"console-consumer":    {"print the records of topics", runConsoleConsumer},
		"consumer-groups":     {"list, describe, delete and reset consumer groups", runConsumerGroups},
		"get-offsets":         {"print offsets of partitions", runGetOffsets},
		"dump-log":            {"print the content of log files", runDumpLog},
		"broker-api-versions": {"show the APIs of every broker", runBrokerAPIVersions},
		"configs":             {"show and change configs of topics, brokers, users and others", runConfigs},
		"metadata-quorum":     {"show the quorum of controllers, and change it", runMetadataQuorum},
		"features":            {"show the levels of features, and change them", runFeatures},
		"metadata-shell":      {"show the cluster metadata in a file as a tree", runMetadataShell},
		"cluster":             {"show the cluster's id and endpoints, and forget nodes", runCluster},
	}
}

// failure ends a tool with an exit code other than zero.
type failure struct {
	code int
	text string // printed on standard error unless empty
	help string // printed after the text
}

func (f *failure) Error() string { return f.text }

func fail(format string, args ...any) error {
	return &failure{code: 1, text: fmt.Sprintf(format, args...)}
}

// silent is a failure about which everything has been said.
func silent() error { return &failure{code: 1} }

// Main runs the command that args name (args[0] is the name of the program, as in os.Args) and returns the exit code. The
// context ends a running command in good order; a node shuts down cleanly.
func Main(ctx context.Context, args []string, s Streams) int {
	if len(args) == 0 {
		args = []string{"moldau"}
	}
	name, rest := commandName(args)
	t, ok := tools()[name]
	switch {
	case ok:
		return exitCode(t.run(ctx, s, rest), s.Err)
	case name == "version" || name == "--version":
		fmt.Fprintln(s.Out, Version)
		return 0
	case name == "" || name == "help" || name == "--help" || name == "-h":
		fmt.Fprint(s.Out, usage())
		return 0
	}
	fmt.Fprintf(s.Err, "moldau: unknown command %q\n\n%s", name, usage())
	return 1
}

// commandName finds the command: by the program's own name if it is called as a Kafka script, otherwise the first argument.
func commandName(args []string) (string, []string) {
	base := strings.TrimSuffix(filepath.Base(args[0]), ".sh")
	switch script, ok := strings.CutPrefix(base, "kafka-"); {
	case ok && script == "server-start":
		return "start", args[1:]
	case ok && script == "run-class":
	case ok:
		return script, args[1:]
	}
	if len(args) == 1 {
		return "", nil
	}
	return strings.TrimSuffix(strings.TrimPrefix(args[1], "kafka-"), ".sh"), args[2:]
}

func usage() string {
	var out strings.Builder
	out.WriteString("moldau COMMAND [OPTIONS]\n\nCommands (each takes --help):\n")
	all := tools()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&out, "  %-18s %s\n", name, all[name].about)
	}
	return out.String()
}

func exitCode(err error, w io.Writer) int {
	if err == nil {
		return 0
	}
	var f *failure
	if !errors.As(err, &f) {
		fmt.Fprintln(w, err)
		return 1
	}
	if f.text != "" {
		fmt.Fprintln(w, f.text)
	}
	if f.help != "" {
		fmt.Fprint(w, f.help)
	}
	return f.code
}

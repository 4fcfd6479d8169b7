package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testParser has one of everything.
func testParser() *argParser {
	p := &argParser{prog: "tool", about: "A tool.", fromFiles: true}
	bootstrapFlags(p, true, []string{"--bootstrap-server"}, []string{"--bootstrap-controller"})
	p.flag(argStore, "A file.", "--file")
	s := p.sub("start", "Start it.")
	s.flag(argStore, "An id.", "--id", "-i").integer = true
	s.flag(argAppend, "A name.", "--name", "-n")
	s.flag(argTrue, "Say it.", "--verbose", "-v")
	s.flag(argTrue, "Do it.", "--fast", "-f")
	s.positional("words", "*", "Words.")
	p.sub("stop", "Stop it.")
	p.sub("status", "Show it.")
	return p
}

func TestArgparse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "args")
	if err := os.WriteFile(file, []byte("--name\nfrom file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]map[string][]string{
		"--bootstrap-server h start":                             {"bootstrap-server": {"h"}},
		"--bootstrap-s=h --file=a=b start":                       {"bootstrap-server": {"h"}, "file": {"a=b"}},
		"--bootstrap-server h star --id -3 -n a -nb x --name=c":  {"bootstrap-server": {"h"}, "id": {"-3"}, "name": {"a", "b", "c"}, "words": {"x"}},
		"--bootstrap-server h start -vf --id 1 --id 2 -- --fast": {"bootstrap-server": {"h"}, "verbose": {""}, "fast": {""}, "id": {"2"}, "words": {"--fast"}},
		"--bootstrap-server h start -vfi7 @" + file:              {"bootstrap-server": {"h"}, "verbose": {""}, "fast": {""}, "id": {"7"}, "name": {"from file"}},
	} {
		n, err := testParser().parse(strings.Fields(line))
		if err != nil || n.command != "start" {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if diff := cmp.Diff(want, n.values); diff != "" {
			t.Errorf("%s: %s", line, diff)
		}
	}
	for line, want := range map[string]string{
		"": "too few arguments", "--bootstrap-server h": "too few arguments", "start": "one of the arguments --bootstrap-server --bootstrap-controller is required",
		"--bootstrap-server h st":                             "ambiguous command: st could match start, stop, status",
		"--bootstrap h start":                                 "ambiguous option: --bootstrap could match --bootstrap-server, --bootstrap-controller",
		"--bootstrap-server h go":                             "invalid choice: 'go' (choose from 'start', 'stop', 'status')",
		"--bootstrap-server h start --id x":                   "argument --id/-i: could not convert 'x' to Integer (For input string: \"x\")",
		"--bootstrap-server h start --id 99999999999":         "argument --id/-i: could not convert '99999999999' to Integer (For input string: \"99999999999\")",
		"--bootstrap-server h start --id":                     "argument --id/-i: expected one argument",
		"--bootstrap-server h start --id --fast":              "argument --id/-i: expected one argument",
		"--bootstrap-server h start --fast=1":                 "argument --fast/-f: ignore implicit argument '1'",
		"--bootstrap-server h stop x":                         "unrecognized arguments: 'x'",
		"--bootstrap-server h stop --id 1":                    "unrecognized arguments: '--id'",
		"--bootstrap-server h start @/no/such/file":           "Could not read arguments from file '/no/such/file'",
		"--bootstrap-server h --bootstrap-controller h start": "argument --bootstrap-controller: not allowed with argument --bootstrap-server",
	} {
		if _, err := testParser().parse(strings.Fields(line)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

func TestArgparseHelp(t *testing.T) {
	want := `usage: tool (--bootstrap-server BOOTSTRAP_SERVER |
            --bootstrap-controller BOOTSTRAP_CONTROLLER) start [-h]
            [--id ID] [--name NAME] [--verbose] [--fast]
            [words [words ...]]

positional arguments:
  words                  Words.

optional arguments:
  -h, --help             show this help message and exit
  --id ID, -i ID         An id.
  --name NAME, -n NAME   A name.
  --verbose, -v          Say it.
  --fast, -f             Do it.
`
	if diff := cmp.Diff(want, testParser().commands[0].helpText()); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		"one two three four": "one   two\nthree\nfour", "a b c d": "a b c d", "aa bb cc dd ee": "aa bb  cc\ndd ee", "take --flag-name now": "take   --\nflag-\nname now", "": "",
	} {
		if got := stretch(text, 9, 0, ""); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// The tools with subcommands parse as argparse4j does: `--flag VALUE` and `--flag=VALUE`, one-letter names that take their
// value attached, unambiguous abbreviations of flags and commands, `-h` everywhere, options of the tool before the command.

// argument is one flag, or one positional argument if no name begins with '-'.
type argument struct {
	names    []string // the long name first: it names the value too
	kind     argKind
	integer  bool
	required bool
	many     string // of a positional: "*", "+", "?" or "1"
	group    *exclusiveGroup
	help     string
}

type argKind int

const (
	argStore argKind = iota
	argTrue
	argAppend
)

// exclusiveGroup holds flags of which one at most, or exactly one, may be given.
type exclusiveGroup struct {
	required bool
	args     []*argument
}

// argParser is a tool or one of its commands.
type argParser struct {
	prog, command string
	about         string // a sentence for the help
	noHelp        bool   // the shell's own commands have no -h
	fromFiles     bool   // @FILE stands for the lines of FILE
	args          []*argument
	groups        []*exclusiveGroup
	commands      []*argParser
	parent        *argParser
}

// argError is a mistake on the command line of a parser.
type argError struct {
	parser *argParser
	text   string
}

func (e *argError) Error() string { return e.text }

// helpRequest is the error of -h.
type helpRequest struct{ parser *argParser }

func (*helpRequest) Error() string { return "help" }

// namespace is what was given.
type namespace struct {
	command string
	values  map[string][]string
}

func (n *namespace) has(name string) bool     { _, ok := n.values[name]; return ok }
func (n *namespace) all(name string) []string { return n.values[name] }
func (n *namespace) str(name string) string   { return first(n.values[name]) }
func (n *namespace) integer(name string) int32 {
	i, _ := strconv.ParseInt(n.str(name), 10, 32)
	return int32(i)
}

// first returns the last of the values: who repeats a flag means the last one.
func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}

func (p *argParser) flag(kind argKind, help string, names ...string) *argument {
	a := &argument{names: names, kind: kind, help: help}
	p.args = append(p.args, a)
	return a
}

func (p *argParser) positional(name, many, help string) {
	p.args = append(p.args, &argument{names: []string{name}, many: many, help: help})
}

// exclusive makes a group of flags.
func (p *argParser) exclusive(required bool, args ...*argument) {
	g := &exclusiveGroup{required: required, args: args}
	p.groups = append(p.groups, g)
	for _, a := range args {
		a.group = g
	}
}

func (p *argParser) sub(command, about string) *argParser {
	s := &argParser{prog: p.prog, command: command, about: about, noHelp: p.noHelp, parent: p}
	p.commands = append(p.commands, s)
	return s
}

func (a *argument) isFlag() bool { return strings.HasPrefix(a.names[0], "-") }
func (a *argument) key() string  { return strings.TrimLeft(a.names[0], "-") }

// label is how errors name an argument.
func (a *argument) label() string { return strings.Join(a.names, "/") }

func (p *argParser) errorf(format string, args ...any) error {
	return &argError{p, fmt.Sprintf(format, args...)}
}

// parse reads a command line.
func (p *argParser) parse(args []string) (*namespace, error) {
	n := &namespace{values: map[string][]string{}}
	return n, p.parseInto(n, args)
}

// maxArgFile bounds a file of arguments.
const maxArgFile = 1 << 20

func (p *argParser) expand(args []string) ([]string, error) {
	var out []string
	for _, a := range args {
		name, ok := strings.CutPrefix(a, "@")
		if !ok {
			out = append(out, a)
			continue
		}
		text, err := readBounded(name, maxArgFile)
		if err != nil {
			return nil, p.errorf("Could not read arguments from file '%s'", name)
		}
		for line := range strings.Lines(string(text)) {
			out = append(out, strings.TrimRight(line, "\r\n"))
		}
	}
	return out, nil
}

func (p *argParser) parseInto(n *namespace, args []string) error {
	if len(p.commands) == 0 && (p.fromFiles || p.parent != nil && p.parent.fromFiles) {
		var err error
		if args, err = p.expand(args); err != nil {
			return err
		}
	}
	seen := map[*exclusiveGroup]*argument{}
	var rest []string
	literal := false
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--" && !literal:
			literal = true
			continue
		case !literal && looksLikeOption(arg) && !isNegativeNumber(arg):
			used, err := p.parseFlag(n, seen, args[i:])
			if err != nil {
				return err
			}
			i += used - 1
			continue
		}
		if len(p.commands) > 0 {
			c, err := p.findCommand(arg)
			if err != nil {
				return err
			}
			n.command = c.command
			if err := c.parseInto(n, args[i+1:]); err != nil {
				return err
			}
			return p.checkRequired(n, seen)
		}
		rest = append(rest, arg)
	}
	if len(p.commands) > 0 {
		return p.errorf("too few arguments")
	}
	if err := p.takePositionals(n, rest); err != nil {
		return err
	}
	return p.checkRequired(n, seen)
}

// parseFlag reads the flag that args begin with, and says how many of them it used.
func (p *argParser) parseFlag(n *namespace, seen map[*exclusiveGroup]*argument, args []string) (int, error) {
	name, value, attached := strings.Cut(args[0], "=")
	a, err := p.findFlag(name)
	if err != nil {
		return 0, err
	}
	if a == nil && !strings.HasPrefix(name, "--") && len(args[0]) > 2 { // -gVALUE, or -gs
		if a, err = p.findFlag(args[0][:2]); err != nil {
			return 0, err
		}
		if a != nil && a.kind == argTrue {
			if err := p.record(n, seen, a, ""); err != nil {
				return 0, err
			}
			used, err := p.parseFlag(n, seen, append([]string{"-" + args[0][2:]}, args[1:]...))
			return used, err
		}
		value, attached = args[0][2:], true
	}
	switch {
	case a == nil && !p.noHelp && (name == "-h" || len(name) > 2 && strings.HasPrefix("--help", name)):
		return 0, &helpRequest{p}
	case a == nil:
		return 0, p.errorf("unrecognized arguments: '%s'", args[0])
	case a.kind == argTrue && attached:
		return 0, p.errorf("argument %s: ignore implicit argument '%s'", a.label(), value)
	case a.kind == argTrue || attached:
		return 1, p.record(n, seen, a, value)
	case len(args) == 1 || looksLikeOption(args[1]) && !isNegativeNumber(args[1]):
		return 0, p.errorf("argument %s: expected one argument", a.label())
	}
	return 2, p.record(n, seen, a, args[1])
}

func (p *argParser) findFlag(name string) (*argument, error) {
	var found []*argument
	var names []string
	for _, a := range p.args {
		for _, x := range a.names {
			switch {
			case !a.isFlag():
			case x == name:
				return a, nil
			case len(name) > 2 && strings.HasPrefix(name, "--") && strings.HasPrefix(x, name):
				found, names = append(found, a), append(names, x)
			}
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	return nil, p.errorf("ambiguous option: %s could match %s", name, strings.Join(names, ", "))
}

func (p *argParser) findCommand(name string) (*argParser, error) {
	var found []*argParser
	var all, matched []string
	for _, c := range p.commands {
		all = append(all, "'"+c.command+"'")
		if c.command == name {
			return c, nil
		}
		if strings.HasPrefix(c.command, name) {
			found, matched = append(found, c), append(matched, c.command)
		}
	}
	switch len(found) {
	case 0:
		return nil, p.errorf("invalid choice: '%s' (choose from %s)", name, strings.Join(all, ", "))
	case 1:
		return found[0], nil
	}
	return nil, p.errorf("ambiguous command: %s could match %s", name, strings.Join(matched, ", "))
}

func (p *argParser) record(n *namespace, seen map[*exclusiveGroup]*argument, a *argument, value string) error {
	if g := a.group; g != nil {
		if other := seen[g]; other != nil && other != a {
			return p.errorf("argument %s: not allowed with argument %s", a.label(), other.label())
		}
		seen[g] = a
	}
	if a.integer {
		if err := p.checkInteger(a, value); err != nil {
			return err
		}
	}
	if a.kind == argAppend {
		n.values[a.key()] = append(n.values[a.key()], value)
	} else {
		n.values[a.key()] = []string{value}
	}
	return nil
}

func (p *argParser) checkInteger(a *argument, value string) error {
	if _, err := strconv.ParseInt(value, 10, 32); err == nil {
		return nil
	}
	why := "For input string: \"" + value + "\""
	if value == "" {
		why = "For input string: \"\""
	}
	return p.errorf("argument %s: could not convert '%s' to Integer (%s)", a.label(), value, why)
}

// takePositionals gives the words that are no flags to the positional argument; no tool has two.
func (p *argParser) takePositionals(n *namespace, words []string) error {
	for _, a := range p.args {
		if a.isFlag() {
			continue
		}
		take := len(words)
		switch {
		case a.many == "?" || a.many == "1":
			take = min(1, take)
		}
		if take == 0 && (a.many == "+" || a.many == "1") {
			return p.errorf("too few arguments")
		}
		if take > 0 && a.integer {
			if err := p.checkInteger(a, words[0]); err != nil {
				return err
			}
		}
		if take > 0 {
			n.values[a.key()] = words[:take]
		}
		words = words[take:]
	}
	if len(words) > 0 {
		return p.errorf("unrecognized arguments: '%s'", words[0])
	}
	return nil
}

func (p *argParser) checkRequired(n *namespace, seen map[*exclusiveGroup]*argument) error {
	for _, a := range p.args {
		if a.required && !n.has(a.key()) {
			return p.errorf("argument %s is required", a.label())
		}
	}
	for _, g := range p.groups {
		if g.required && seen[g] == nil {
			var labels []string
			for _, a := range g.args {
				labels = append(labels, a.label())
			}
			return p.errorf("one of the arguments %s is required", strings.Join(labels, " "))
		}
	}
	return nil
}

func isNegativeNumber(arg string) bool {
	_, err := strconv.ParseFloat(arg, 64)
	return err == nil && arg[0] == '-'
}

// run parses the command line and hands what was given to f, after the help and the errors that all tools share.
func (p *argParser) run(s Streams, args []string, f func(*namespace) error) error {
	n, err := p.parse(args)
	var help *helpRequest
	var mistake *argError
	switch {
	case errors.As(err, &help):
		fmt.Fprint(s.Out, help.parser.helpText())
		return nil
	case errors.As(err, &mistake):
		return mistake.failure()
	case err != nil:
		return err
	}
	return f(n)
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, err
}

package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// option describes one flag of a tool.
type option struct {
	name     string
	kind     string   // "" for a bare flag, otherwise String, Integer or Long
	optional bool     // the argument may be left out
	argument string   // what the help calls the argument
	def      string   // default of the argument
	only     []string // the option is available with one of these only
	doc      string
}

// parser is the set of a tool's options.
type parser struct {
	intro   string
	options []option
}

func newParser(intro string, options ...option) *parser {
	p := &parser{intro: intro, options: append(options,
		option{name: "help", doc: "Print this text."},
		option{name: "version", doc: "Print the Kafka version."})}
	slices.SortFunc(p.options, func(a, b option) int { return strings.Compare(a.name, b.name) })
	return p
}

// parsed holds the options given on a command line.
type parsed struct {
	parser *parser
	values map[string][]string // present for options that were given; bare flags have no values
	order  []string            // the options as they were given
}

// optionError is a mistake on the command line, in joptsimple's words.
type optionError struct{ text string }

func (e *optionError) Error() string { return e.text }

func optionErrorf(format string, args ...any) error {
	return &optionError{fmt.Sprintf(format, args...)}
}

func (p *parser) find(name string) *option {
	for i := range p.options {
		if p.options[i].name == name {
			return &p.options[i]
		}
	}
	return nil
}

// parse reads the command line. Arguments that are no options are ignored, as Kafka's tools do.
func (p *parser) parse(args []string) (*parsed, error) {
	out := &parsed{parser: p, values: map[string][]string{}}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			break
		}
		if !looksLikeOption(arg) {
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		o := p.find(name)
		if o == nil {
			return nil, optionErrorf("%s is not a recognized option", name)
		}
		if out.values[name] == nil {
			out.values[name] = []string{}
		}
		out.order = append(out.order, name)
		switch {
		case o.kind == "" && hasValue:
			return nil, optionErrorf("Option %s does not take an argument", name)
		case o.kind == "":
			continue
		case hasValue:
		case o.optional:
			if i+1 == len(args) || looksLikeOption(args[i+1]) {
				continue
			}
			i++
			value = args[i]
		default:
			if i+1 == len(args) {
				return nil, optionErrorf("Option %s requires an argument", name)
			}
			i++
			value = args[i]
		}
		out.values[name] = append(out.values[name], value)
	}
	return out, out.checkAvailable()
}

// checkAvailable enforces options that exist beside others only.
func (o *parsed) checkAvailable() error {
	var bad []string
	for _, x := range o.parser.options {
		if len(x.only) > 0 && o.has(x.name) && !slices.ContainsFunc(x.only, o.has) {
			bad = append(bad, x.name)
		}
	}
	if len(bad) > 0 && !o.has("help") {
		return optionErrorf("Option(s) [%s] are unavailable given other options on the command line", strings.Join(bad, ", "))
	}
	return nil
}

func looksLikeOption(arg string) bool { return len(arg) > 1 && arg[0] == '-' }

func (o *parsed) has(name string) bool { _, ok := o.values[name]; return ok }

// all returns every argument of a repeatable option.
func (o *parsed) all(name string) []string { return o.values[name] }

// text returns the option's argument, or its default; ok is false if there is neither.
func (o *parsed) text(name string) (value string, ok bool, err error) {
	x := o.parser.find(name)
	v := o.values[name]
	switch {
	case len(v) > 1:
		return "", false, optionErrorf("Found multiple arguments for option %s, but you asked for only one", name)
	case len(v) == 1:
		return v[0], true, nil
	}
	return x.def, x.def != "", nil
}

// str is text without the possibility that nothing was given.
func (o *parsed) str(name string) (string, error) {
	v, _, err := o.text(name)
	return v, err
}

// number returns a numeric argument, its default, or zero.
func (o *parsed) number(name string) (int64, error) {
	v, ok, err := o.text(name)
	if err != nil || !ok {
		return 0, err
	}
	bits := 64
	if o.parser.find(name).kind == "Integer" {
		bits = 32
	}
	n, err := strconv.ParseInt(v, 10, bits)
	if err != nil {
		return 0, optionErrorf("Cannot parse argument '%s' of option %s", v, name)
	}
	return n, nil
}

// usage is the failure that prints a message and the help.
func (p *parser) usage(format string, args ...any) error {
	return &failure{code: 1, text: fmt.Sprintf(format, args...), help: p.help()}
}

// required reports the first of the options that is missing.
func (o *parsed) required(names ...string) error {
	for _, n := range names {
		if !o.has(n) {
			return o.parser.usage("Missing required argument \"[%s]\"", n)
		}
	}
	return nil
}

// exclusive refuses the use of an option together with others.
func (o *parsed) exclusive(used string, others ...string) error {
	for _, n := range others {
		if o.has(used) && n != used && o.has(n) {
			return o.parser.usage("Option \"[%s]\" can't be used with option \"[%s]\"", used, n)
		}
	}
	return nil
}

// helpOrVersion handles the options every tool has, and an empty command line.
func (o *parsed) helpOrVersion(args []string, s Streams) (done bool, err error) {
	if len(args) == 0 || o.has("help") {
		return true, o.parser.usage("%s", o.parser.intro)
	}
	if o.has("version") {
		fmt.Fprintln(s.Out, Version)
		return true, nil
	}
	return false, nil
}

// The two columns of the help.
const (
	helpWidth = 80
	helpGap   = 2
)

// help formats the options in joptsimple's two columns.
func (p *parser) help() string {
	width := 0
	left := make([]string, len(p.options))
	right := make([]string, len(p.options))
	for i, o := range p.options {
		left[i] = "--" + o.name
		if o.kind != "" {
			inner := o.kind
			if o.argument != "" {
				inner += ": " + o.argument
			}
			if o.optional {
				left[i] += " [" + inner + "]"
			} else {
				left[i] += " <" + inner + ">"
			}
		}
		right[i] = o.doc
		if o.def != "" {
			right[i] += " (default: " + o.def + ")"
		}
		width = max(width, len(left[i]))
	}
	width = min(width, (helpWidth-helpGap)/2)
	var out strings.Builder
	row := func(l, r string) { fmt.Fprintf(&out, "%-*s  %-*s\n", width, l, helpWidth-helpGap-width, r) }
	row("Option", "Description")
	row("------", "-----------")
	for i := range p.options {
		ls, rs := wrap(left[i], width), wrap(right[i], helpWidth-helpGap-width)
		for j := range max(len(ls), len(rs)) {
			row(at(ls, j), at(rs, j))
		}
	}
	return out.String()
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

// wrap breaks text at blanks; lines after the first are indented by two.
func wrap(text string, width int) []string {
	var lines []string
	for paragraph := range strings.SplitSeq(text, "\n") {
		line := ""
		for word := range strings.FieldsSeq(paragraph) {
			switch {
			case line == "":
				line = word
			case len(line)+1+len(word) < width:
				line += " " + word
			default:
				lines = append(lines, line)
				line = "  " + word
			}
		}
		lines = append(lines, line)
	}
	return lines
}

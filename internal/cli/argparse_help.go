package cli

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// The help and the error messages of argparse4j: 75 columns, lines stretched to the margin.
const (
	argWidth  = 75
	argIndent = 25 // where the help of an argument begins
)

// failure is what a tool ends with after a mistake on its command line.
func (e *argError) failure() error {
	return &failure{code: 1, text: e.parser.usage() + strings.TrimSuffix(stretch(e.parser.prog+": error: "+e.text, argWidth, 0, ""), "\n")}
}

// metavar names the value of a flag.
func (a *argument) metavar() string {
	return strings.ToUpper(strings.ReplaceAll(a.key(), "-", "_"))
}

func (a *argument) short() string {
	switch {
	case a.isFlag() && a.kind == argTrue:
		return a.names[0]
	case a.isFlag():
		return a.names[0] + " " + a.metavar()
	}
	name := a.names[0]
	switch a.many {
	case "*":
		return "[" + name + " [" + name + " ...]]"
	case "+":
		return name + " [" + name + " ...]"
	case "?":
		return "[" + name + "]"
	}
	return name
}

// usageTokens are the parts of a usage line that are not broken.
func (p *argParser) usageTokens(onlyRequired bool) []string {
	var out []string
	if !onlyRequired && !p.noHelp {
		out = append(out, "[-h]")
	}
	for _, a := range p.args {
		switch {
		case a.group != nil || !a.isFlag():
		case a.required:
			out = append(out, a.short())
		case !onlyRequired:
			out = append(out, "["+a.short()+"]")
		}
	}
	for _, g := range p.groups {
		if onlyRequired && !g.required {
			continue
		}
		open, end := "[", "]"
		if g.required {
			open, end = "(", ")"
		}
		for i, a := range g.args {
			text := a.short()
			if i == 0 {
				text = open + text
			}
			if i == len(g.args)-1 {
				text += end
			} else {
				text += " |"
			}
			out = append(out, text)
		}
	}
	if onlyRequired {
		return out
	}
	for _, a := range p.args {
		if !a.isFlag() {
			out = append(out, a.short())
		}
	}
	if len(p.commands) > 0 {
		out = append(out, p.choices(), "...")
	}
	return out
}

func (p *argParser) choices() string {
	var names []string
	for _, c := range p.commands {
		names = append(names, c.command)
	}
	return "{" + strings.Join(names, ",") + "}"
}

func (p *argParser) usage() string {
	var out strings.Builder
	tokens := p.usageTokens(false)
	if p.parent != nil {
		tokens = append(append(p.parent.usageTokens(true), p.command), tokens...)
	}
	out.WriteString("usage: " + p.prog)
	indent := out.Len() + 1
	if p.prog == "" {
		indent--
	}
	width := indent - 1
	for i, t := range tokens {
		switch {
		case i == 0 && p.prog == "":
			out.WriteString(t)
			width += len(t)
		case width+1+len(t) > argWidth && i > 0:
			out.WriteString("\n" + strings.Repeat(" ", indent) + t)
			width = indent + len(t)
		default:
			out.WriteString(" " + t)
			width += 1 + len(t)
		}
	}
	return out.String() + "\n"
}

// helpText is what -h prints.
func (p *argParser) helpText() string {
	var out strings.Builder
	out.WriteString(p.usage())
	if p.parent == nil && p.about != "" {
		out.WriteString("\n" + stretch(p.about, argWidth, 0, "") + "\n")
	}
	positional := len(p.commands) > 0
	for _, a := range p.args {
		positional = positional || !a.isFlag()
	}
	if positional {
		out.WriteString("\npositional arguments:\n")
		for _, a := range p.args {
			if !a.isFlag() {
				helpEntry(&out, a.names[0], a.help)
			}
		}
		if len(p.commands) > 0 {
			fmt.Fprintf(&out, "  %s\n", p.choices())
		}
		for _, c := range p.commands {
			helpEntry(&out, "  "+c.command, c.about)
		}
	}
	flags := !p.noHelp
	for _, a := range p.args {
		flags = flags || a.isFlag()
	}
	if !flags {
		return out.String()
	}
	out.WriteString("\noptional arguments:\n")
	if !p.noHelp {
		helpEntry(&out, "-h, --help", "show this help message and exit")
	}
	for _, a := range p.args {
		if !a.isFlag() {
			continue
		}
		var names []string
		for _, n := range a.names {
			if a.kind != argTrue {
				n += " " + a.metavar()
			}
			names = append(names, n)
		}
		helpEntry(&out, strings.Join(names, ", "), a.help)
	}
	return out.String()
}

func helpEntry(out *strings.Builder, title, help string) {
	out.WriteString("  " + title)
	pad := argIndent - 2 - utf8.RuneCountInString(title)
	if help == "" {
		out.WriteByte('\n')
		return
	}
	if pad < 2 {
		out.WriteByte('\n')
		pad = argIndent
	}
	out.WriteString(strings.Repeat(" ", pad) + stretch(help, argWidth, argIndent, strings.Repeat(" ", argIndent)) + "\n")
}

// stretch breaks text after blanks and hyphens, and widens the blanks of every line but the last so that it ends at the margin.
// The first line begins at column offset, the others with indent.
func stretch(text string, width, offset int, indent string) string {
	var out strings.Builder
	line := ""
	at := offset
	for _, piece := range pieces(text) {
		n := utf8.RuneCountInString(piece)
		if at+n > width && line != "" {
			out.WriteString(justify(line, width-at+utf8.RuneCountInString(line)) + "\n" + indent)
			line, at = "", len(indent)
		}
		line += piece
		at += n
	}
	return out.String() + line
}

// pieces cuts text where a line may end.
func pieces(text string) []string {
	var out []string
	start := 0
	for i := 1; i < len(text); i++ {
		before, after := text[i-1], text[i]
		if before == ' ' && after != ' ' || before == '-' && after != '-' && after != ' ' && (after < '0' || after > '9') {
			out = append(out, text[start:i])
			start = i
		}
	}
	return append(out, text[start:])
}

// justify widens the runs of blanks of a line to a width; what is left over goes to the runs in the middle.
func justify(line string, width int) string {
	line = strings.Trim(line, " ")
	words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' })
	gaps := len(words) - 1
	need := width - utf8.RuneCountInString(line)
	if gaps < 1 || need <= 0 {
		return line
	}
	each, left := need/gaps, need%gaps
	from := (gaps - left + 1) / 2
	var out strings.Builder
	gap := 0
	for i, r := range line {
		if r == ' ' && line[i-1] != ' ' {
			extra := each
			if from <= gap && gap < from+left {
				extra++
			}
			out.WriteString(strings.Repeat(" ", extra))
			gap++
		}
		out.WriteRune(r)
	}
	return out.String()
}

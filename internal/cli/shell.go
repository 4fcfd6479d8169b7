package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func shellParser() *argParser {
	p := &argParser{prog: "kafka-metadata-shell", about: "Shows the cluster's metadata as a tree of files."}
	p.exclusive(true,
		p.flag(argStore, "The snapshot, or segment of the metadata log, to read.", "--snapshot", "-s"),
		p.flag(argStore, "A metadata directory to read whole: its newest snapshot and the log after it.", "--directory", "-d"))
	p.positional("command", "*", "The command to run; without one, commands are read from standard input.")
	return p
}

func runMetadataShell(ctx context.Context, s Streams, args []string) error {
	return shellParser().run(s, args, func(n *namespace) error {
		words := n.all("command")
		if len(words) == 0 {
			fmt.Fprintln(s.Out, "Loading...")
		}
		fold := newMetadataFold(s.Err)
		load, path := fold.file, n.str("snapshot")
		if n.has("directory") {
			load, path = fold.directory, n.str("directory")
		}
		if err := load(path); err != nil {
			return fail("Unexpected error: %v", err)
		}
		out := bufio.NewWriter(s.Out)
		sh := &shell{root: rootNode(fold.image), cwd: "/", out: out}
		if len(words) > 0 {
			sh.run(words)
			return out.Flush()
		}
		return sh.interact(ctx, s)
	})
}

// shell is the state of a session.
type shell struct {
	root        *shellNode
	cwd         string
	out         *bufio.Writer
	interactive bool
	width       int // columns of the terminal; 0 is one name per line
	history     []string
	done        bool
}

// shellCommand is one command of the shell.
type shellCommand struct {
	name, about string
	shellOnly   bool
	arg, many   string // its positional argument
	argHelp     string
	integer     bool
	run         func(sh *shell, args []string)
}

func shellCommands() []shellCommand {
	return []shellCommand{
		{name: "cat", about: "Show the contents of files.", arg: "targets", many: "+", argHelp: "The files.", run: (*shell).cat},
		{name: "cd", about: "Change the working directory.", shellOnly: true, arg: "target", many: "?", argHelp: "The directory; the root unless given.", run: (*shell).cd},
		{name: "exit", about: "Leave the shell.", shellOnly: true, run: func(sh *shell, _ []string) { sh.done = true }},
		{name: "find", about: "List everything below directories.", arg: "paths", many: "*", argHelp: "Where to begin.", run: (*shell).find},
		{name: "help", about: "Show this text.", shellOnly: true, run: (*shell).help},
		{name: "history", about: "Show the commands given so far.", shellOnly: true, arg: "numEntriesToShow", many: "?", argHelp: "How many of them.", integer: true, run: (*shell).showHistory},
		{name: "ls", about: "List directories.", arg: "targets", many: "*", argHelp: "The directories.", run: (*shell).ls},
		{name: "man", about: "Show the help of a command.", shellOnly: true, arg: "cmd", many: "1", argHelp: "The command.", run: (*shell).man},
		{name: "pwd", about: "Show the working directory.", shellOnly: true, run: func(sh *shell, _ []string) { fmt.Fprintln(sh.out, sh.cwd) }},
		{name: "tree", about: "Show what is in directories as a tree.", arg: "targets", many: "+", argHelp: "The directories.", run: (*shell).tree},
	}
}

func (c *shellCommand) addTo(p *argParser) {
	if c.arg != "" {
		p.positional(c.arg, c.many, c.argHelp)
		p.args[len(p.args)-1].integer = c.integer
	}
}

func (sh *shell) parser() *argParser {
	p := &argParser{noHelp: true}
	for _, c := range shellCommands() {
		if sh.interactive || !c.shellOnly {
			c.addTo(p.sub(c.name, c.about))
		}
	}
	return p
}

// run runs one command line. Mistakes are said on standard output and end nothing.
func (sh *shell) run(words []string) {
	for len(words) > 0 && words[len(words)-1] == "" {
		words = words[:len(words)-1]
	}
	if len(words) == 0 {
		return
	}
	n, err := sh.parser().parse(words)
	switch {
	case err != nil:
		fmt.Fprintln(sh.out, err)
		return
	case n.command != words[0]:
		fmt.Fprintf(sh.out, "invalid choice: '%s': did you mean '%s'?\n", words[0], n.command)
		return
	}
	all := shellCommands()
	c := all[slices.IndexFunc(all, func(c shellCommand) bool { return c.name == n.command })]
	c.run(sh, n.all(c.arg))
}

// interact reads commands until the input ends.
func (sh *shell) interact(ctx context.Context, s Streams) error {
	sh.interactive = true
	if f, ok := s.Out.(*os.File); ok && s.Terminal {
		if w, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			sh.width = int(w.Col)
		}
	}
	fmt.Fprintln(sh.out, "Starting...\n[ Kafka Metadata Shell ]")
	in := bufio.NewScanner(s.In)
	for !sh.done && ctx.Err() == nil {
		if s.Terminal {
			fmt.Fprint(sh.out, ">> ")
		}
		if err := sh.out.Flush(); err != nil {
			return err
		}
		if !in.Scan() {
			break
		}
		line := in.Text()
		if strings.TrimSpace(line) != "" && (len(sh.history) == 0 || sh.history[len(sh.history)-1] != line) {
			sh.history = append(sh.history, line)
			if len(sh.history) > maxShellHistory {
				sh.history = slices.Delete(sh.history, 0, 1)
			}
		}
		sh.run(shellWords(line))
	}
	if err := sh.out.Flush(); err != nil {
		return err
	}
	return in.Err()
}

// maxShellHistory bounds what history keeps.
const maxShellHistory = 500

// shellWords splits a line at blanks; quotes and backslashes protect them.
func shellWords(line string) []string {
	var words []string
	var word strings.Builder
	started, escaped := false, false
	quote := rune(0)
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			started, escaped = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			started, quote = true, r
		case r == ' ' || r == '\t':
			if started {
				words = append(words, word.String())
			}
			word.Reset()
			started = false
		default:
			started = true
			word.WriteRune(r)
		}
	}
	if started {
		words = append(words, word.String())
	}
	return words
}

// shellMatch is a node that a path with wildcards names.
type shellMatch struct {
	path []string
	node *shellNode
}

func (m shellMatch) last() string {
	if len(m.path) == 0 {
		return "/"
	}
	return m.path[len(m.path)-1]
}

// glob returns the nodes that a path names, in order of name.
func (sh *shell) glob(path string) []shellMatch {
	if !strings.HasPrefix(path, "/") {
		path = sh.cwd + "/" + path
	}
	var parts []string
	for p := range strings.SplitSeq(path, "/") {
		switch {
		case p == "" || p == ".":
		case p == "..":
			parts = parts[:max(0, len(parts)-1)]
		default:
			parts = append(parts, p)
		}
	}
	matches := []shellMatch{{node: sh.root}}
	for _, p := range parts {
		pattern := globPattern(p)
		var next []shellMatch
		for _, m := range matches {
			if !m.node.isDir() {
				continue
			}
			names := []string{p}
			if pattern != nil {
				names = slices.DeleteFunc(m.node.sorted(), func(n string) bool { return !pattern.MatchString(n) })
			}
			for _, n := range names {
				if c := m.node.child(n); c != nil {
					next = append(next, shellMatch{append(slices.Clone(m.path), n), c})
				}
			}
		}
		matches = next
	}
	return matches
}

// globPattern turns *, ? and {a,b} into a regular expression; nil if the text stands for itself.
func globPattern(text string) *regexp.Regexp {
	var out strings.Builder
	wild, group := false, false
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		i += size
		switch {
		case r == '?':
			wild = true
			out.WriteString(".")
		case r == '*':
			wild = true
			out.WriteString(".*")
		case r == '\\' && i < len(text):
			r, size = utf8.DecodeRuneInString(text[i:])
			i += size
			out.WriteString(regexp.QuoteMeta(string(r)))
		case r == '{':
			if group {
				return nil // groups do not nest
			}
			wild, group = true, true
			out.WriteString("(?:(?:")
		case r == ',' && group:
			out.WriteString(")|(?:")
		case r == '}' && group:
			group = false
			out.WriteString("))")
		default:
			out.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	if !wild || group {
		return nil
	}
	re, err := regexp.Compile("^" + out.String() + "$")
	if err != nil {
		return nil
	}
	return re
}

func (sh *shell) cat(targets []string) {
	for _, t := range targets {
		matches := sh.glob(t)
		for _, m := range matches {
			if m.node.isDir() {
				fmt.Fprintf(sh.out, "cat: %s: Is a directory\n", t)
			} else {
				m.node.print(sh.out, 0)
			}
		}
		if len(matches) == 0 {
			fmt.Fprintf(sh.out, "cat: %s: No such file or directory.\n", t)
		}
	}
}

func (sh *shell) tree(targets []string) {
	for _, t := range targets {
		matches := sh.glob(t)
		for _, m := range matches {
			m.node.print(sh.out, 0)
		}
		if len(matches) == 0 {
			fmt.Fprintf(sh.out, "tree: %s: No such file or directory.\n", t)
		}
	}
}

func (sh *shell) cd(targets []string) {
	target := "/"
	if len(targets) > 0 {
		target = targets[0]
	}
	matches := sh.glob(target)
	for _, m := range matches {
		if m.node.isDir() {
			sh.cwd = "/" + strings.Join(m.path, "/")
		} else {
			fmt.Fprintf(sh.out, "cd: %s: not a directory.\n", target)
		}
	}
	if len(matches) == 0 {
		fmt.Fprintf(sh.out, "cd: %s: no such directory.\n", target)
	}
}

// effective is the paths to look at: those that are not empty, or the working directory.
func effective(paths []string) []string {
	paths = slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return p == "" })
	if len(paths) == 0 {
		return []string{"."}
	}
	return paths
}

func (sh *shell) find(paths []string) {
	for _, p := range effective(paths) {
		matches := sh.glob(p)
		for _, m := range matches {
			findBelow(sh.out, p, m.node)
		}
		if len(matches) == 0 {
			fmt.Fprintf(sh.out, "find: %s: no such file or directory.\n", p)
		}
	}
}

func findBelow(w io.Writer, path string, n *shellNode) {
	fmt.Fprintln(w, path)
	if !n.isDir() {
		return
	}
	for _, name := range n.sorted() {
		if c := n.child(name); c != nil {
			next := path + "/" + name
			if path == "/" {
				next = path + name
			}
			findBelow(w, next, c)
		}
	}
}

func (sh *shell) ls(targets []string) {
	type directory struct {
		name     string
		children []string
	}
	var files []string
	var directories []directory
	for _, t := range effective(targets) {
		matches := sh.glob(t)
		for _, m := range matches {
			if m.node.isDir() {
				directories = append(directories, directory{m.last(), m.node.sorted()})
			} else {
				files = append(files, m.last())
			}
		}
		if len(matches) == 0 {
			fmt.Fprintf(sh.out, "ls: %s: no such file or directory.\n", t)
		}
	}
	sh.list("", files)
	title, first := len(files) > 0 || len(directories) > 1, len(files) == 0
	for _, d := range directories {
		intro := ""
		if title {
			if !first {
				intro = "\n"
			}
			intro += d.name + ":"
			first = false
		}
		sh.list(intro, d.children)
	}
}

// list prints names in as many columns as the terminal has room for.
func (sh *shell) list(intro string, names []string) {
	if len(names) == 0 {
		return
	}
	if intro != "" {
		fmt.Fprintln(sh.out, intro)
	}
	widths, lines := listColumns(sh.width, names)
	for line := range lines {
		for c, width := range widths {
			if i := line + c*lines; i < len(names) {
				if c == len(widths)-1 {
					width = 0
				}
				fmt.Fprintf(sh.out, "%-*s", width, names[i])
			}
		}
		fmt.Fprintln(sh.out)
	}
}

// listColumns finds the greatest number of columns, of at least four characters, whose widths fit.
func listColumns(screen int, names []string) (widths []int, lines int) {
	for columns := min(screen/4, len(names)); columns > 1; columns-- {
		lines := (len(names) + columns - 1) / columns
		widths := make([]int, columns)
		total := 0
		for i, n := range names {
			widths[i/lines] = max(widths[i/lines], utf8.RuneCountInString(n)+2)
		}
		for _, w := range widths {
			total += w
		}
		if widths[columns-1] != 0 && total <= screen {
			return widths, lines
		}
	}
	return []int{0}, len(names)
}

func (sh *shell) help([]string) {
	fmt.Fprint(sh.out, "Welcome to the metadata shell.\n\n"+sh.parser().helpText())
}

func (sh *shell) man(args []string) {
	all := shellCommands()
	i := slices.IndexFunc(all, func(c shellCommand) bool { return c.name == args[0] })
	if i < 0 {
		fmt.Fprintf(sh.out, "man: unknown command %s. Type help to get a list of commands.\n", args[0])
		return
	}
	p := &argParser{prog: all[i].name, noHelp: true}
	all[i].addTo(p)
	fmt.Fprintf(sh.out, "%s: %s\n\n%s", all[i].name, all[i].about, p.helpText())
}

func (sh *shell) showHistory(args []string) {
	count := len(sh.history)
	if len(args) > 0 {
		n, _ := strconv.Atoi(args[0]) // the parser has looked at it
		count = min(count, max(0, n))
	}
	for i := len(sh.history) - count; i < len(sh.history); i++ {
		fmt.Fprintf(sh.out, "% 5d  %s\n", i, sh.history[i])
	}
}

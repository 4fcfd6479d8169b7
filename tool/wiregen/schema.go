package main

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// span is an inclusive range of versions; the zero value with hi < lo means none.
type span struct{ lo, hi int }

var none = span{0, -1}

const open = math.MaxInt16

func (s span) empty() bool     { return s.hi < s.lo }
func (s span) has(v int) bool  { return v >= s.lo && v <= s.hi }
func (s span) in(o span) bool  { return s.empty() || s.lo >= o.lo && s.hi <= o.hi }
func (s span) and(o span) span { return span{max(s.lo, o.lo), min(s.hi, o.hi)} }

// parseSpan reads "none", "3", "0-7" or "2+".
func parseSpan(s string) (span, error) {
	if s == "none" {
		return none, nil
	}
	lo, hi, ranged := strings.Cut(s, "-")
	plus := strings.HasSuffix(lo, "+")
	a, err := strconv.Atoi(strings.TrimSuffix(lo, "+"))
	if err != nil {
		return none, fmt.Errorf("version range %q: %w", s, err)
	}
	switch {
	case plus:
		return span{a, open}, nil
	case !ranged:
		return span{a, a}, nil
	}
	b, err := strconv.Atoi(hi)
	if err != nil || b < a {
		return none, fmt.Errorf("version range %q", s)
	}
	return span{a, b}, nil
}

// file is one schema file: what kind of thing it describes, and its one or two messages.
type file struct {
	kind     string   // api, metadata, group, txn, share, tier, data, header
	key      int      // API key or record type; -1 if the kind has none
	name     string   // of the API
	flags    []string // of the API, see apiFlags
	messages []*message
}

// message is a root struct with its versions.
type message struct {
	*strct
	name     string
	versions span
	flexible span
	unstable bool
	shared   map[string]*strct // structs declared by name, in the message's scope
}

// strct is a struct, root or nested.
type strct struct {
	goName   string
	versions span
	fields   []*field
	emitted  bool
}

// field is one field of a struct. Versions are already cut to those of the struct around it.
type field struct {
	name, goName string
	typ          string // element type if array
	array        bool
	ref          *strct // when typ is "struct"
	versions     span
	null         span
	tag          int
	tagged       span
	def          string
	hasDef       bool
	rigid        bool // never in flexible form
}

var idWord = regexp.MustCompile(`Id(s?)([A-Z0-9]|$)`)

func goName(s string) string { return idWord.ReplaceAllString(s, "ID$1$2") }

// singular turns the name of an array field into the name of one element.
func singular(s string) string {
	switch {
	case strings.HasSuffix(s, "ies"):
		return s[:len(s)-3] + "y"
	case strings.HasSuffix(s, "ches"), strings.HasSuffix(s, "sses"), strings.HasSuffix(s, "xes"):
		return s[:len(s)-2]
	case strings.HasSuffix(s, "ss"), strings.HasSuffix(s, "us"), !strings.HasSuffix(s, "s"):
		return s
	}
	return s[:len(s)-1]
}

// readSchemas reads every file below dir, in the order of their paths.
func readSchemas(dir string) ([]*file, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*.txt"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no schema files in %s", dir)
	}
	slices.Sort(paths)
	var files []*file
	for _, p := range paths {
		f, err := readFile(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		files = append(files, f)
	}
	return files, nil
}

type line struct {
	number, depth int
	words         []string
}

func readFile(path string) (*file, error) {
	lines, err := readLines(path)
	if err != nil {
		return nil, err
	}
	f, err := parseHead(lines[0].words)
	if err != nil {
		return nil, err
	}
	for rest := lines[1:]; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].depth > 0 {
			n++
		}
		m, err := parseMessage(rest[0], rest[1:n])
		if err != nil {
			return nil, err
		}
		f.messages = append(f.messages, m)
		rest = rest[n:]
	}
	if len(f.messages) == 0 {
		return nil, errors.New("no message")
	}
	return f, nil
}

func readLines(path string) ([]line, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var lines []line
	s := bufio.NewScanner(in)
	for n := 1; s.Scan(); n++ {
		text, _, _ := strings.Cut(s.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		indent := len(text) - len(strings.TrimLeft(text, " "))
		lines = append(lines, line{n, indent / 2, words})
	}
	if len(lines) == 0 {
		return nil, errors.New("empty file")
	}
	return lines, s.Err()
}

func parseHead(words []string) (*file, error) {
	f := &file{kind: words[0], key: -1}
	switch f.kind {
	case "api", "metadata", "group", "txn", "share", "tier":
		if len(words) < 2 {
			return nil, errors.New("no key in the first line")
		}
		key, err := strconv.Atoi(words[1])
		if err != nil {
			return nil, err
		}
		f.key = key
	case "data", "header":
	default:
		return nil, fmt.Errorf("unknown kind %q", f.kind)
	}
	if f.kind == "api" {
		if len(words) < 3 {
			return nil, errors.New("an API needs a name")
		}
		f.name, f.flags = words[2], words[3:]
		for _, w := range f.flags {
			if apiFlags[w] == "" {
				return nil, fmt.Errorf("unknown word %q", w)
			}
		}
	}
	return f, nil
}

// parseMessage reads "message NAME VERSIONS flexible=VERSIONS [unstable]" and the indented lines below it.
func parseMessage(head line, body []line) (*message, error) {
	w := head.words
	if w[0] != "message" || len(w) < 4 || !strings.HasPrefix(w[3], "flexible=") {
		return nil, fmt.Errorf("line %d: not a message line", head.number)
	}
	m := &message{name: w[1], shared: map[string]*strct{}, unstable: slices.Contains(w, "unstable")}
	var err error
	if m.versions, err = parseSpan(w[2]); err != nil {
		return nil, err
	}
	if m.flexible, err = parseSpan(w[3][len("flexible="):]); err != nil {
		return nil, err
	}
	m.flexible = m.flexible.and(m.versions)
	m.strct = &strct{goName: goName(m.name), versions: m.versions}
	// Names first: a field may refer to a struct declared further down.
	for _, l := range body {
		if l.depth == 1 && l.words[0] == "struct" {
			if len(l.words) < 2 {
				return nil, fmt.Errorf("line %d: a struct needs a name", l.number)
			}
			m.shared[l.words[1]] = &strct{goName: m.goName + singular(strings.TrimPrefix(goName(l.words[1]), base(m.name)))}
		}
	}
	p := parser{m: m, lines: body}
	for len(p.lines) > 0 {
		l := p.lines[0]
		if l.words[0] != "struct" {
			if err := p.fields(m.strct, 1); err != nil {
				return nil, err
			}
			continue
		}
		p.lines = p.lines[1:]
		s := m.shared[l.words[1]]
		s.versions = m.versions
		if len(l.words) > 2 {
			v, err := parseSpan(l.words[2])
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", l.number, err)
			}
			s.versions = v.and(m.versions)
		}
		if err := p.fields(s, 2); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func base(name string) string {
	for _, end := range []string{"Request", "Response", "Key", "Value"} {
		name = strings.TrimSuffix(name, end)
	}
	return name
}

type parser struct {
	m     *message
	lines []line
}

// fields reads the lines of exactly depth, and deeper ones below them, into s.
func (p *parser) fields(s *strct, depth int) error {
	for len(p.lines) > 0 && p.lines[0].depth == depth && p.lines[0].words[0] != "struct" {
		l := p.lines[0]
		p.lines = p.lines[1:]
		f, err := p.field(s, l)
		if err != nil {
			return fmt.Errorf("line %d: %w", l.number, err)
		}
		s.fields = append(s.fields, f)
		if f.typ == "struct" && f.ref.fields == nil {
			if err := p.fields(f.ref, depth+1); err != nil {
				return err
			}
		}
	}
	if len(p.lines) > 0 && p.lines[0].depth > depth {
		return fmt.Errorf("line %d: indented too far", p.lines[0].number)
	}
	return nil
}

var scalars = []string{"bool", "int8", "int16", "uint16", "int32", "uint32", "int64", "float64", "uuid", "string", "bytes", "records"}

// field reads "Name type [versions] [null[=VERSIONS]] [tag=N[@VERSIONS]] [default=X] [flexible=none]".
func (p *parser) field(s *strct, l line) (*field, error) {
	if len(l.words) < 2 {
		return nil, errors.New("a field needs a type")
	}
	f := &field{name: l.words[0], goName: goName(l.words[0]), versions: s.versions, null: none, tagged: none}
	f.typ, f.array = strings.CutPrefix(l.words[1], "[]")
	nullAll, tagAll := false, false
	for _, w := range l.words[2:] {
		k, v, _ := strings.Cut(w, "=")
		var err error
		switch k {
		case "null":
			if nullAll = v == ""; !nullAll {
				f.null, err = parseSpan(v)
			}
		case "tag":
			num, at, some := strings.Cut(v, "@")
			if f.tag, err = strconv.Atoi(num); err == nil && some {
				f.tagged, err = parseSpan(at)
			}
			tagAll = !some
		case "default":
			f.def, f.hasDef = v, true
		case "flexible":
			f.rigid = true
		default:
			f.versions, err = parseSpan(w)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", w, err)
		}
	}
	if f.versions = f.versions.and(s.versions); f.versions.empty() {
		return nil, fmt.Errorf("%s is in no version", f.name)
	}
	if nullAll {
		f.null = f.versions
	}
	if tagAll {
		f.tagged = f.versions
	}
	f.null, f.tagged = f.null.and(f.versions), f.tagged.and(f.versions)
	if !f.tagged.in(p.m.flexible) {
		return nil, fmt.Errorf("%s is tagged at versions that are not flexible", f.name)
	}
	switch {
	case f.typ == "struct":
		name := f.goName
		if f.array {
			name = singular(name)
		}
		f.ref = &strct{goName: s.goName + name, versions: f.versions}
	case slices.Contains(scalars, f.typ):
	case p.m.shared[f.typ] != nil:
		f.ref, f.typ = p.m.shared[f.typ], "struct"
		return f, nil
	default:
		return nil, fmt.Errorf("unknown type %q", f.typ)
	}
	return f, nil
}

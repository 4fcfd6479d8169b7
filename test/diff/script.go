package diff

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// script is one file of rows.
type script struct {
	name  string
	props []string
	rows  []row
}

// row is one request and what may differ in its answer.
type row struct {
	text    string
	line    int
	api     string
	version int16
	// lastVersion ends a range of versions ("api Fetch 4-11"): the row is sent once in each.
	lastVersion int16
	body        string // JSON
	raw         []byte
	conn        string
	async       bool
	collect     bool
	saves       []assign
	until       *assign
	masks       []masking
	sorts       []assign // path by field
}

// masking hides the field at path, or only what part matches of its text.
type masking struct {
	path string
	part *regexp.Regexp
}

// assign is "left = right" in save, until and sort.
type assign struct{ left, right string }

func parseFile(path string) (*script, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &script{name: path}
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<20)
	var cur *row
	for n := 1; scan.Scan(); n++ {
		line := strings.TrimSpace(scan.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		fail := func(format string, args ...any) error {
			return fmt.Errorf("%s:%d: %s", path, n, fmt.Sprintf(format, args...))
		}
		if word == "props" {
			s.props = append(s.props, rest)
			continue
		}
		if word == "row" {
			s.rows = append(s.rows, row{text: rest, line: n, conn: "main"})
			cur = &s.rows[len(s.rows)-1]
			continue
		}
		if cur == nil {
			return nil, fail("%q before the first row", word)
		}
		switch word {
		case "api":
			name, v, _ := strings.Cut(rest, " ")
			first, last, isRange := strings.Cut(v, "-")
			low, err := strconv.ParseInt(first, 10, 16)
			high := low
			if isRange && err == nil {
				high, err = strconv.ParseInt(last, 10, 16)
			}
			if err != nil || high < low {
				return nil, fail("api NAME VERSION or NAME FROM-TO: %v", err)
			}
			cur.api, cur.version, cur.lastVersion = name, int16(low), int16(high)
		case "raw":
			b, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
			if err != nil {
				return nil, fail("raw: %v", err)
			}
			cur.raw = b
		case "save", "until":
			l, r, ok := strings.Cut(rest, "=")
			if !ok {
				return nil, fail("%s wants X = Y", word)
			}
			a := assign{strings.TrimSpace(l), strings.TrimSpace(r)}
			if word == "save" {
				cur.saves = append(cur.saves, a)
			} else {
				cur.until = &a
			}
		case "mask":
			path, pattern, _ := strings.Cut(rest, " ~ ")
			m := masking{path: path}
			if pattern != "" {
				re, err := regexp.Compile(pattern)
				if err != nil {
					return nil, fail("mask: %v", err)
				}
				m.part = re
			}
			cur.masks = append(cur.masks, m)
		case "sort":
			l, r, ok := strings.Cut(rest, " by ")
			if !ok {
				l, r = rest, ""
			}
			cur.sorts = append(cur.sorts, assign{l, r})
		case "on":
			cur.conn = rest
		case "async":
			cur.async = true
		case "collect":
			cur.collect = true
		case "repeat":
			if len(s.rows) < 2 {
				return nil, fail("nothing to repeat")
			}
			prev := s.rows[len(s.rows)-2]
			cur.api, cur.version, cur.lastVersion, cur.body, cur.raw = prev.api, prev.version, prev.lastVersion, prev.body, prev.raw
			cur.masks, cur.sorts = prev.masks, prev.sorts
		default:
			if !strings.HasPrefix(line, "{") && cur.body == "" {
				return nil, fail("no directive %q", word)
			}
			cur.body += line + "\n"
		}
	}
	s.rows = expand(s.rows)
	return s, scan.Err()
}

// expand gives each version of a ranged row a row of its own.
func expand(rows []row) []row {
	var all []row
	for _, r := range rows {
		for v := r.version; v <= max(r.version, r.lastVersion); v++ {
			one := r
			one.version, one.lastVersion = v, v
			all = append(all, one)
		}
	}
	return all
}

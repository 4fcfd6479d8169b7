package diff

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
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
	body    string // JSON
	raw     []byte
	conn    string
	async   bool
	collect bool
	saves   []assign
	until   *assign
	masks   []string
	sorts   []assign // path by field
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
			version, err := strconv.ParseInt(strings.TrimPrefix(v, "v"), 10, 16)
			if err != nil {
				return nil, fail("api NAME VERSION: %v", err)
			}
			cur.api, cur.version = name, int16(version)
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
			cur.masks = append(cur.masks, rest)
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
			cur.api, cur.version, cur.body, cur.raw = prev.api, prev.version, prev.body, prev.raw
			cur.masks, cur.sorts = prev.masks, prev.sorts
		default:
			if !strings.HasPrefix(line, "{") && cur.body == "" {
				return nil, fail("no directive %q", word)
			}
			cur.body += line + "\n"
		}
	}
	return s, scan.Err()
}

package diff

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-io/moldau/internal/base/netx"
)

var (
	sideBySide = flag.Bool("kafka", false, "start Apache Kafka and Moldau and compare their answers")
	only       = flag.String("script", "", "run only scripts whose name contains this")
	self       = flag.Bool("self", false, "compare Kafka with itself: shows which rows are not reproducible")
)

const oracle = "../../../shared/oracle/kafka"

// TestSideBySide runs every script against both nodes. A difference prints the row, the path and both values.
func TestSideBySide(t *testing.T) {
	if !*sideBySide {
		t.Skip("starts Apache Kafka: run with -kafka (make diff)")
	}
	if _, err := exec.LookPath("java"); err != nil {
		t.Skip("no java on this machine")
	}
	kafkaCmd, err := filepath.Abs(oracle)
	if err != nil || !exists(kafkaCmd) {
		t.Skip("no Apache Kafka beside the project: " + oracle)
	}
	moldauCmd, _ := filepath.Abs("../interop/node")
	if *self {
		moldauCmd = kafkaCmd
	}
	files, _ := filepath.Glob("testdata/*.txt")
	rows, failed := 0, 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if !strings.Contains(name, *only) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s, err := parseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			kafka, moldau := &side{name: "kafka", command: kafkaCmd}, &side{name: "moldau", command: moldauCmd}
			for _, x := range []*side{kafka, moldau} {
				if err := x.start(t.TempDir(), freePort(t), s.props); err != nil {
					t.Fatal(err)
				}
				defer x.stop()
			}
			for i := range s.rows {
				r := &s.rows[i]
				rows++
				if bad := compareRow(r, kafka, moldau); len(bad) > 0 {
					failed++
					t.Errorf("%s:%d %s v%d, %s\n\t%s", filepath.Base(file), r.line, r.api, r.version, r.text, strings.Join(bad, "\n\t"))
				}
			}
		})
	}
	fmt.Printf("side by side: %d rows, %d differ\n", rows, failed)
}

// compareRow runs one row on both sides and returns what differs.
func compareRow(r *row, kafka, moldau *side) []string {
	answers := make([]any, 2)
	for i, s := range []*side{kafka, moldau} {
		got, err := answer(r, s)
		if err != nil {
			return []string{s.name + ": " + err.Error()}
		}
		answers[i] = got
	}
	for i, s := range []*side{kafka, moldau} {
		for _, a := range r.saves {
			v, ok := find(answers[i], a.right)
			if !ok {
				return []string{fmt.Sprintf("%s: nothing at %s to save", s.name, a.right)}
			}
			s.vars[a.left] = v
		}
		for _, m := range r.masks {
			if wholly(m.path) {
				return []string{"a mask over the whole answer hides everything"}
			}
			answers[i], _ = walk(answers[i], m.path, m.hide)
		}
	}
	return compare("", answers[0], answers[1], nil)
}

// answer gets one side's answer, again and again while an `until` is not met.
func answer(r *row, s *side) (any, error) {
	deadline := time.Now().Add(patience)
	for {
		got, err := s.do(r)
		if err != nil {
			return nil, err
		}
		for _, a := range r.sorts {
			got, _ = walk(got, a.left, sortBy(a.right))
		}
		if r.until == nil {
			return got, nil
		}
		v, ok := find(got, r.until.left)
		if ok && plain(v) == r.until.right {
			return got, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s is %v for %v, and not %s", r.until.left, v, patience, r.until.right)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// plain is a value as scripts write it: kmsg has names for some numbers.
func plain(v any) string {
	if n := reflect.ValueOf(v); n.CanInt() {
		return strconv.FormatInt(n.Int(), 10)
	}
	return fmt.Sprint(v)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// freePort finds a port for a node: its controller listens 101 above.
func freePort(t *testing.T) int {
	t.Helper()
	port, err := netx.FreePair(rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(time.Now().UnixNano()))), 101)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestScriptsParse holds the scripts to the language and their number to at least 200 distinct rows.
func TestScriptsParse(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	distinct := map[string]string{}
	for _, file := range files {
		s, err := parseFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		for i := range s.rows {
			r := &s.rows[i]
			if r.api == "" && r.raw == nil && !r.collect {
				t.Errorf("%s:%d: a row without a request", file, r.line)
			}
			for _, m := range r.masks {
				if wholly(m.path) {
					t.Errorf("%s:%d: a mask over the whole answer", file, r.line)
				}
			}
			key := fmt.Sprintf("%s v%d %s", r.api, r.version, r.text)
			if before, ok := distinct[key]; ok {
				t.Errorf("%s:%d: the same row stands at %s", file, r.line, before)
			}
			distinct[key] = fmt.Sprintf("%s:%d", filepath.Base(file), r.line)
		}
	}
	t.Logf("%d scripts, %d distinct rows", len(files), len(distinct))
}

// TestCompareNotices plants differences: a comparison that cannot fail would make every row green.
func TestCompareNotices(t *testing.T) {
	base := func() any {
		return map[string]any{"A": int32(1), "B": []any{map[string]any{"C": "x", "D": nil}}, "R": blob{1, 2}}
	}
	for name, change := range map[string]func(map[string]any){
		"scalar":      func(m map[string]any) { m["A"] = int32(2) },
		"null":        func(m map[string]any) { m["B"] = nil },
		"length":      func(m map[string]any) { m["B"] = []any{} },
		"deep":        func(m map[string]any) { m["B"].([]any)[0].(map[string]any)["C"] = "y" },
		"null or not": func(m map[string]any) { m["B"].([]any)[0].(map[string]any)["D"] = "" },
		"bytes":       func(m map[string]any) { m["R"] = blob{1, 3} },
	} {
		other := base().(map[string]any)
		change(other)
		if len(compare("", base(), other, nil)) == 0 {
			t.Errorf("%s: the difference is not noticed", name)
		}
	}
	if got := plain(kmsg.ConfigSource(8)); got != "8" {
		t.Errorf("a number with a name is compared as %q", got)
	}
	masked, hits := walk(base(), "B[].C", masking{}.hide)
	if v, _ := find(masked, "B[0].C"); v != "<masked>" || hits != 1 {
		t.Errorf("mask gave %v, %d hits", v, hits)
	}
	if len(compare("", base(), base(), nil)) != 0 {
		t.Error("equal trees differ")
	}
}

package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/moldau-io/moldau/"

// source is one parsed file of the module.
type source struct {
	dir, path string
	file      *ast.File
	fset      *token.FileSet
	test      bool
	generated bool
}

func load(t *testing.T) []source {
	t.Helper()
	root := "../.."
	var all []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != root {
				return filepath.SkipDir // a module of its own, with its own rules
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		generated := strings.HasPrefix(name, "zz_")
		mode := parser.ParseComments | parser.SkipObjectResolution
		if generated {
			mode = parser.ImportsOnly
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, mode)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		all = append(all, source{dir: filepath.ToSlash(filepath.Dir(rel)), path: filepath.ToSlash(rel), file: f, fset: fset,
			test: strings.HasSuffix(name, "_test.go"), generated: generated})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 3 {
		t.Fatalf("found %d files: the walk is broken", len(all))
	}
	return all
}

func under(path, room string) bool {
	return path == room || strings.HasPrefix(path, room+"/")
}

func ruleFor(dir string) *rule {
	var best *rule
	for i := range rules {
		if under(dir, rules[i].room) && (best == nil || len(rules[i].room) > len(best.room)) {
			best = &rules[i]
		}
	}
	return best
}

func standard(path string) bool { return !strings.Contains(strings.SplitN(path, "/", 2)[0], ".") }

func TestImports(t *testing.T) {
	for _, s := range load(t) {
		r := ruleFor(s.dir)
		if r == nil {
			t.Errorf("%s: the room %s has no row in tool/arch/rules.go", s.path, s.dir)
			continue
		}
		if s.test {
			continue // tests may use other rooms to set a scene
		}
		for _, imp := range s.file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			if !allowed(s.dir, path, r) {
				t.Errorf("%s imports %s: %s", s.path, path, r.reason)
			}
		}
	}
}

func allowed(dir, path string, r *rule) bool {
	if standard(path) {
		return true
	}
	if own, ok := strings.CutPrefix(path, module); ok {
		if own == dir {
			return true
		}
		for _, p := range r.may {
			if under(own, p) {
				return true
			}
		}
		return false
	}
	for _, p := range r.libs {
		if p == "*" || strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

// names are the packages that a file imports by the names they have in it.
func names(f *ast.File) map[string]string {
	out := map[string]string{}
	for _, imp := range f.Imports {
		path, _ := strconv.Unquote(imp.Path.Value)
		name := path[strings.LastIndexByte(path, '/')+1:]
		if path == "math/rand/v2" {
			name = "rand"
		}
		if imp.Name != nil {
			name = imp.Name.Name
		}
		out[name] = path
	}
	return out
}

func TestCoreIsPure(t *testing.T) {
	for _, s := range load(t) {
		if !under(s.dir, "internal/core") || s.test {
			continue
		}
		for _, imp := range s.file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			if why, bad := bannedInCore[path]; bad || strings.HasPrefix(path, "net/") {
				t.Errorf("%s imports %s: %s", s.path, path, why)
			}
		}
		names := names(s.file)
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: a go statement in core", s.fset.Position(n.Pos()))
			case *ast.ChanType:
				t.Errorf("%s: a channel in core", s.fset.Position(n.Pos()))
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if !ok {
					break
				}
				for _, f := range bannedCalls[names[x.Name]] {
					if n.Sel.Name == f {
						t.Errorf("%s: %s.%s in core: time and randomness are arguments", s.fset.Position(n.Pos()), x.Name, f)
					}
				}
			}
			return true
		})
	}
}

// TestNothingRunsOnWhatIsForTests: programs are without the packages that only tests have a use for.
func TestNothingRunsOnWhatIsForTests(t *testing.T) {
	for _, s := range load(t) {
		for _, imp := range names(s.file) {
			if room, ok := strings.CutPrefix(imp, module); ok && !s.test && slices.Contains(forTests, room) {
				t.Errorf("%s imports %s, which is for tests", s.path, room)
			}
		}
	}
}

// TestSeedsComeFromOnePlace: what the tests run is the same every time, unless they are told otherwise.
func TestSeedsComeFromOnePlace(t *testing.T) {
	const place = "internal/base/seed"
	used := map[string]bool{}
	for _, s := range load(t) {
		if s.dir == place {
			continue
		}
		if s.generated || !s.test && !under(s.dir, "test") {
			continue
		}
		for _, at := range chances(s.file) {
			if _, may := freshInTests[s.path]; !may {
				t.Errorf("%s: left to chance; a random test takes its seed from %s", s.fset.Position(at), place)
			}
			used[s.path] = true
		}
	}
	for path := range freshInTests {
		if !used[path] {
			t.Errorf("%s leaves nothing to chance: its row in freshInTests is not needed", path)
		}
	}
}

// chances are the places of a file where something is left to chance: to the clock, or to the source that everybody shares.
func chances(f *ast.File) (at []token.Pos) {
	names := names(f)
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if ok && names[x.Name] == "math/rand" || ok && names[x.Name] == "math/rand/v2" && slices.Contains(bannedCalls["math/rand/v2"], sel.Sel.Name) ||
			sel.Sel.Name == "UnixNano" {
			at = append(at, sel.Pos())
		}
		return true
	})
	return at
}

func TestPackagesIntroduceThemselves(t *testing.T) {
	documented, seen := map[string]bool{}, map[string]string{}
	for _, s := range load(t) {
		if s.test {
			continue
		}
		seen[s.dir] = s.path
		if !s.generated && s.file.Doc != nil && len(strings.TrimSpace(s.file.Doc.Text())) > 60 {
			documented[s.dir] = true
		}
	}
	for dir, path := range seen {
		if !documented[dir] {
			t.Errorf("%s: package %s has no package comment that says what it is and refuses to be", path, dir)
		}
	}
}

// TestSizes keeps a file one idea: 900 lines at most, generated code and tests aside (tests 1200).
func TestSizes(t *testing.T) {
	for _, s := range load(t) {
		limit := 900
		if s.test {
			limit = 1200
		}
		if lines := s.fset.File(s.file.FileStart).LineCount(); !s.generated && lines > limit {
			t.Errorf("%s has %d lines, more than %d: is it one idea?", s.path, lines, limit)
		}
	}
}

// TestTheRulesBite plants one violation of each kind, so that a rule that checks nothing is noticed.
func TestTheRulesBite(t *testing.T) {
	for _, c := range []struct {
		dir, imp string
		want     bool
	}{
		{"internal/core/raft", module + "internal/engine/log", false},
		{"internal/core/raft", module + "internal/wire", true},
		{"internal/core/raft", "github.com/twmb/franz-go/pkg/kgo", false},
		{"internal/engine/log", module + "internal/engine/replica", false},
		{"internal/broker/server", module + "internal/engine/log", false},
		{"internal/node", module + "internal/cli", false},
		{"internal/wire/api", module + "internal/wire", true},
		{"cmd/moldau", module + "internal/node", false},
		{"internal/cli", "github.com/spf13/cobra", true},
	} {
		if got := allowed(c.dir, c.imp, ruleFor(c.dir)); got != c.want {
			t.Errorf("%s importing %s: allowed = %v, want %v", c.dir, c.imp, got, c.want)
		}
	}
	for text, want := range map[string]int{
		`rand.New(rand.NewPCG(seed.Of(t), 1)).IntN(7)`:            0,
		`rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))`: 1,
		`rand.New(rand.NewPCG(rand.Uint64()>>1, 1))`:              1,
		`rng.Perm(rand.IntN(7))`:                                  1,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "", "package p\nimport \"math/rand/v2\"\nvar x = "+text, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(chances(f)); got != want {
			t.Errorf("%s: %d left to chance, want %d", text, got, want)
		}
	}
	if ruleFor("internal/nowhere") != nil {
		t.Error("a room without a row must have no rule")
	}
}

package disk

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// kind is one kind of file in Apache Kafka's directories, with the tests in which one product writes it and the other reads it.
type kind struct {
	name string
	path string // what its path below a log directory looks like: a regular expression for the whole of it
	// proofs has, by who writes it, the test and its step, as in "TestFiles/quorum-state"; or "never: " and why there is none.
	proofs map[product]string
}

const (
	inLog = `[^/]+-\d+/` // in the directory of a partition
	base  = `\d{20}`     // an offset
)

// kinds are all files and directories that Apache Kafka 4.4 keeps in its log directories.
func kinds() []kind {
	files := func(step string) map[product]string {
		return map[product]string{kafka: "TestFiles/" + step, moldau: "TestFiles/" + step}
	}
	both := func(test string) map[product]string { return map[product]string{kafka: test, moldau: test} }
	return []kind{
		{"meta.properties", `meta\.properties`, files("meta.properties")},
		{"bootstrap.checkpoint", `bootstrap\.checkpoint`, map[product]string{kafka: "TestBootstrapCheckpoint",
			moldau: "never: Apache Kafka does not write it since 4.4 either"}},
		{"metadata log", `__cluster_metadata-0/` + base + `\.(log|index|timeindex|snapshot)|__cluster_metadata-0/(leader-epoch-checkpoint|partition\.metadata)`,
			files("metadata snapshot")},
		{"metadata snapshot", `__cluster_metadata-0/` + base + `-\d{10}(\.checkpoint(\.deleted)?|(-\d+)?\.checkpoint\.part)`, files("metadata snapshot")},
		{"quorum-state", `__cluster_metadata-0/quorum-state`, files("quorum-state")},
		{"partition.metadata", inLog + `partition\.metadata`, files("partition.metadata")},
		{".log", inLog + base + `\.log`, files("records")},
		{".index", inLog + base + `\.index`, files("indexes")},
		{".timeindex", inLog + base + `\.timeindex`, files("indexes")},
		{".txnindex", inLog + base + `\.txnindex`, files("aborted transactions")},
		{".snapshot", inLog + base + `\.snapshot`, files("producers")},
		{"leader-epoch-checkpoint", inLog + `leader-epoch-checkpoint`, files("leader-epoch-checkpoint")},
		{"recovery-point-offset-checkpoint", `recovery-point-offset-checkpoint`, files("recovery-point-offset-checkpoint")},
		{"replication-offset-checkpoint", `replication-offset-checkpoint`, files("replication-offset-checkpoint")},
		{"log-start-offset-checkpoint", `log-start-offset-checkpoint`, files("log-start-offset-checkpoint")},
		{"cleaner-offset-checkpoint", `cleaner-offset-checkpoint`, files("cleaner-offset-checkpoint")},
		{".kafka_cleanshutdown", `\.kafka_cleanshutdown`, files("mark of a clean shutdown")},
		{".lock", `\.lock`, both("TestLocks")},
		{"-delete", `[^/]+\.[0-9a-f]{32}-delete(/.*)?`, files("deleted topic")},
		{"-future", `[^/]+\.[0-9a-f]{32}-future(/.*)?`, files("future replica")},
		{"-stray", `[^/]+\.[0-9a-f]{32}-stray(/.*)?`, files("stray replica")},
		{".deleted", inLog + base + `\.[a-z]+\.deleted`, files("deleted segments")},
		{".cleaned", inLog + base + `\.[a-z]+\.cleaned`, files("interrupted cleaning")},
		{".swap", inLog + base + `\.[a-z]+\.swap`, files("interrupted swap")},
		{"remote-log-index-cache", `remote-log-index-cache(/.*)?`, map[product]string{kafka: "TestFiles/remote index cache",
			moldau: "never: tiered storage is refused"}},
	}
}

// TestEveryKindIsProven: each kind of file has a proof for both ways, and what is named as a proof is there.
func TestEveryKindIsProven(t *testing.T) {
	tests := testFunctions(t)
	named := map[string]bool{}
	for _, s := range steps() {
		if named[s.name] {
			t.Errorf("two steps are called %q", s.name)
		}
		named[s.name] = true
	}
	used := map[string]bool{}
	for _, k := range kinds() {
		for _, who := range []product{kafka, moldau} {
			proof, ok := k.proofs[who]
			test, step, stepped := strings.Cut(proof, "/")
			switch why, never := strings.CutPrefix(proof, "never: "); {
			case !ok || proof == "":
				t.Errorf("%s written by %s has no proof", k.name, who)
			case never && len(why) > 10:
			case !tests[test]:
				t.Errorf("%s written by %s: there is no %s", k.name, who, test)
			case stepped && !named[step]:
				t.Errorf("%s written by %s: TestFiles has no step %q", k.name, who, step)
			case stepped:
				used[step] = true
			}
		}
	}
	for name := range named {
		if !used[name] {
			t.Errorf("step %q of TestFiles proves no kind of file", name)
		}
	}
}

// testFunctions are the names of the tests of this package.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				out[fn.Name.Name] = true
			}
		}
	}
	return out
}

// kindPaths are the patterns of kinds, in its order.
var kindPaths = sync.OnceValue(func() (all []*regexp.Regexp) {
	for _, k := range kinds() {
		all = append(all, regexp.MustCompile(`^(?:`+k.path+`)$`))
	}
	return all
})

// kindOf names the kind of a file below a log directory, "" without one.
func kindOf(path string) string {
	for i, k := range kinds() {
		if kindPaths()[i].MatchString(filepath.ToSlash(path)) {
			return k.name
		}
	}
	return ""
}

// TestFilesUnderWay: what is there for moments only, when its writer is killed, has a kind as well.
func TestFilesUnderWay(t *testing.T) {
	for path, want := range map[string]string{
		"__cluster_metadata-0/00000000000000000399-0000000001.checkpoint":                 "metadata snapshot",
		"__cluster_metadata-0/00000000000000000399-0000000001.checkpoint.deleted":         "metadata snapshot",
		"__cluster_metadata-0/00000000000000000399-0000000001.checkpoint.part":            "metadata snapshot", // Moldau's
		"__cluster_metadata-0/00000000000000000399-0000000001-8471520341.checkpoint.part": "metadata snapshot", // Apache Kafka's
		"__cluster_metadata-0/00000000000000000399-0000000001-8471520341.checkpoint":      "",
		"t-0/00000000000000000000.log.cleaned":                                            ".cleaned",
		"t-0/00000000000000000000.timeindex.swap":                                         ".swap",
		"t-0/00000000000000000007.snapshot.deleted":                                       ".deleted",
		"t-0/00000000000000000007.txnindex.deleted":                                       ".deleted",
	} {
		if got := kindOf(path); got != want {
			t.Errorf("%s is of the kind %q, want %q", path, got, want)
		}
	}
}

// kindsIn goes through the directories of a stopped node and counts the kinds of files. What is of no kind is an error: a file that
// one product writes and nobody has asked what the other makes of it. since leaves out older files.
func (b *bench) kindsIn(p *place, since time.Time) map[string]int {
	b.Helper()
	out := map[string]int{}
	for _, dir := range p.dirs() {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			switch found := kindOf(rel); {
			case found != "":
				if !info.ModTime().Before(since) || found == "-stray" { // which is renamed, no more
					out[found]++
				}
			case d.IsDir() && (rel == "." || regexp.MustCompile(`^[^/]+-\d+$`).MatchString(rel)):
			case p.killed && strings.HasSuffix(rel, ".tmp"): // about to replace a file
			default:
				b.Errorf("%s is of no kind that is known", path)
			}
			return nil
		})
		b.must(err, "list the files")
	}
	return out
}

// TestBootstrapCheckpoint: Apache Kafka up to 4.3 leaves the first records of a cluster in bootstrap.checkpoint.
func TestBootstrapCheckpoint(t *testing.T) {
	b := setup(t)
	for _, dynamic := range []bool{false, true} {
		p := b.place(dynamic)
		file, err := p.configure()
		b.must(err, "configure")
		args := []string{"storage", "format", "-t", clusterID, "-c", file, "--release-version", "4.1",
			"--add-scram", "SCRAM-SHA-256=[name=early,password=bird,iterations=5000]"}
		if dynamic {
			args = append(args, "--standalone")
		}
		_, err = b.o.tool(args...) // of 4.3
		b.must(err, "format by an older release")
		if _, err := os.Stat(filepath.Join(p.data(), "bootstrap.checkpoint")); err != nil {
			b.Fatalf("the older release leaves no bootstrap.checkpoint: %v", err)
		}
		b.kindsIn(p, time.Time{})
		n := b.open(p, moldau)
		got, err := n.read(b.ctx, nil)
		b.must(err, "read")
		n.kgo.Close()
		for path, want := range map[string]string{"feature/metadata.version": "27", "scram/early/SCRAM-SHA-256": "5000"} {
			if got[path] != want {
				b.Errorf("dynamic=%t: %s is %q, want %q", dynamic, path, got[path], want)
			}
		}
		b.must(p.stop(), "stop")
	}
}

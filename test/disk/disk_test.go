package disk

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/seed"
)

var (
	withKafka = flag.Bool("kafka", false, "start Apache Kafka and hand directories back and forth")
	rounds    = flag.Int("rounds", 3, "how often a directory changes hands and comes back")
	theSeed   = flag.Uint64("seed", 0, "of the run; 0: what MOLDAU_SEED says")
	keep      = flag.String("keep", "", "keep the directories here")
	program   = flag.String("moldau", "", "the binary to test (default: built for the test)")
)

// bench is what one test needs: the oracle, the binary, a directory and randomness.
type bench struct {
	*testing.T
	o   *oracle
	bin string
	rnd *rand.Rand
	ctx context.Context

	places int
}

var built string // the binary of this run

func setup(t *testing.T) *bench {
	t.Helper()
	if !*withKafka {
		t.Skip("starts Apache Kafka: run with -kafka (make disk)")
	}
	o, why := findOracle()
	if o == nil {
		t.Skip(why)
	}
	s := *theSeed
	if s == 0 {
		s = seed.Of(t)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(*rounds+2)*4*time.Minute)
	t.Cleanup(cancel)
	return &bench{T: t, o: o, bin: theBinary(t), rnd: rand.New(rand.NewPCG(s, 1)), ctx: ctx}
}

func theBinary(t *testing.T) string {
	switch {
	case *program != "":
		return *program
	case built != "":
		return built
	}
	dir, err := os.MkdirTemp("", "moldau-disk-")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "moldau")
	if text, err := exec.Command("go", "build", "-o", out, "../../cmd/moldau").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	built = out
	return out
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if built != "" {
		os.RemoveAll(filepath.Dir(built))
	}
	os.Exit(code)
}

// directory is where a test's node lives.
func (b *bench) directory(name string) string {
	if *keep == "" {
		return b.TempDir()
	}
	dir := filepath.Join(*keep, strings.ReplaceAll(b.Name(), "/", "_")+name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	return dir
}

// place makes a directory of its own for a node.
func (b *bench) place(dynamic bool, props ...string) *place {
	b.Helper()
	b.places++
	p, err := newPlace(b.directory(fmt.Sprintf("-%d", b.places)), b.o, b.bin, b.rnd, dynamic, props...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.kill() })
	return p
}

// open starts a product on the directory and connects.
func (b *bench) open(p *place, who product, extra ...string) *node {
	b.Helper()
	began := time.Now()
	if err := p.start(who, extra...); err != nil {
		b.Fatal(err)
	}
	n, err := dial(b.ctx, p.addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%s opened it in %v", who, time.Since(began).Round(time.Millisecond))
	return n
}

// reopen is open for a writer, who goes on with what he knows.
func (b *bench) reopen(p *place, w *writer, who product, extra ...string) {
	b.Helper()
	n := b.open(p, who, extra...)
	if w.node != nil {
		n.others = w.node.others
	}
	w.node = n
}

// compare reads everything and fails where it is not as the model says.
func (b *bench) compare(n *node, m *model, what string, skip func(string) bool) facts {
	b.Helper()
	got, err := n.read(b.ctx, times())
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
	m.loose = append(m.loose, ownWrites()...)
	if diff := m.difference(got, 12, func(p string) bool { return volatile(p) || !n.asked(p) || skip != nil && skip(p) }); len(diff) > 0 {
		b.Errorf("%s: %d facts, differing:\n\t%s", what, len(got), strings.Join(diff, "\n\t"))
	}
	return got
}

// learn reads everything after changes: what was acknowledged must be there, and the rest is taken over.
func (b *bench) learn(n *node, m *model, what string) {
	b.Helper()
	got, err := n.read(b.ctx, times())
	// What is set for a broker, and its ACLs, count a moment after its other metadata.
	for deadline := time.Now().Add(startTimeout); err == nil && len(m.missing(n, got, 1)) > 0 && time.Now().Before(deadline); {
		got, err = n.read(b.ctx, times())
	}
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
	if diff := m.missing(n, got, 12); len(diff) > 0 {
		b.Errorf("%s: acknowledged, and not to be read:\n\t%s", what, strings.Join(diff, "\n\t"))
	}
	for path, records := range m.committed {
		if want := fmt.Sprintf("%d records,", records); !strings.HasPrefix(got[path], want) {
			b.Errorf("%s: read_committed of %s shows %s, want %s", what, path, got[path], want)
		}
	}
	// What this product could not be asked about stays as it was known.
	for path, value := range m.facts {
		if _, ok := got[path]; !ok && !n.asked(path) {
			got[path] = value
		}
	}
	m.facts, m.loose = got, nil
	b.Logf("%s: %s", what, got)
}

func (b *bench) must(err error, what string) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

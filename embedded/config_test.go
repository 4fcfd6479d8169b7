package embedded_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/conf"
)

// The ways in which a key gets its value.
const (
	static  = "static"  // server.properties
	topic   = "topic"   // a topic's own config, while the node runs
	broker  = "broker"  // the dynamic config of one broker
	cluster = "cluster" // the dynamic default of all brokers
)

// proof is one key, changed in one way, whose effect is seen on a running node.
type proof struct {
	scope conf.Scope
	key   string
	how   string
	see   func(t *testing.T)
	// elsewhere names the test that sees it where another room can look closer: "internal/engine/log.TestX".
	elsewhere string
}

func proofs() []proof {
	var all []proof
	for _, e := range slices.Concat(topicEffects(), cleanEffects()) {
		all = append(all, e.proofs()...)
	}
	return slices.Concat(all, logProofs(), dirProofs(), cleanProofs(), netProofs(), groupProofs(), txnProofs(), consumerProofs(), quorumProofs())
}

// TestConfigEffects changes every key that is said to be done, in every way in which it can be changed.
func TestConfigEffects(t *testing.T) {
	for _, p := range proofs() {
		if p.see != nil {
			t.Run(p.key+"/"+p.how, p.see)
		}
	}
}

// readOnce are dynamic keys whose dynamic value nothing can show: config.providers are asked when the properties are read.
var readOnce = map[string]bool{"config.providers": true}

// TestEveryDoneKeyIsProven compares the tables of keys with the proofs.
func TestEveryDoneKeyIsProven(t *testing.T) {
	have := map[string]bool{}
	name := func(s conf.Scope, key, how string) string { return fmt.Sprintf("%s key %s, %s", s, key, how) }
	for _, p := range proofs() {
		if k, ok := conf.Lookup(p.scope, p.key); !ok || k.State != conf.Done {
			t.Errorf("%s key %s is proven, and the table does not call it done", p.scope, p.key)
		}
		if (p.see == nil) == (p.elsewhere == "") {
			t.Errorf("%s: a proof is either here or elsewhere", name(p.scope, p.key, p.how))
		}
		if p.elsewhere != "" && !testExists(t, p.elsewhere) {
			t.Errorf("%s: there is no test %s", name(p.scope, p.key, p.how), p.elsewhere)
		}
		have[name(p.scope, p.key, p.how)] = true
	}
	for _, scope := range []conf.Scope{conf.BrokerScope, conf.TopicScope, conf.GroupScope, conf.ClientMetricsScope} {
		for _, k := range conf.Keys(scope) {
			if k.State != conf.Done {
				continue
			}
			ways := []string{static}
			switch {
			case scope == conf.TopicScope:
				ways = []string{topic}
			case readOnce[k.Name] || k.Mode == conf.ReadOnly:
			case k.Mode == conf.PerBroker:
				ways = append(ways, broker)
			default:
				ways = append(ways, broker, cluster)
			}
			for _, how := range ways {
				if !have[name(scope, k.Name, how)] {
					t.Errorf("%s: nothing shows its effect", name(scope, k.Name, how))
				}
			}
		}
	}
}

// testExists looks for a test function in a package of this module.
func testExists(t *testing.T, name string) bool {
	t.Helper()
	dir, function, _ := strings.Cut(name, ".")
	files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == function {
				return true
			}
		}
	}
	return false
}

// topicEffect is a topic key and the broker keys that give its default, with one observation for all of them.
type topicEffect struct {
	key, value string
	brokers    []setting         // the same value as broker keys say it
	with       map[string]string // properties that the observation needs
	configs    []string          // other configs of the topic, in pairs
	observe    func(w *world, topic string) string
	before     string // what is seen without the value; empty: something
	after      string // what is seen with it; empty: something else
}

type setting struct{ key, value string }

func (e *topicEffect) node(t *testing.T, more ...setting) *world {
	t.Helper()
	var opts []embedded.Option
	for k, v := range e.with {
		opts = append(opts, embedded.With(k, v))
	}
	for _, s := range more {
		opts = append(opts, embedded.With(s.key, s.value))
	}
	return newWorld(t, opts...)
}

// unchanged makes a topic and says what is seen at it as long as nothing was set.
func (e *topicEffect) unchanged(w *world, name string) string {
	w.t.Helper()
	w.create(name, 1, e.configs...)
	got := e.observe(w, name)
	if e.before != "" && got != e.before {
		w.t.Fatalf("without %s: %s, want %s", e.key, got, e.before)
	}
	return got
}

// changed waits until what is seen is what the value makes.
func (e *topicEffect) changed(w *world, name, before string) {
	w.t.Helper()
	w.eventually(func() string {
		got := e.observe(w, name)
		if e.after != "" && got == e.after || e.after == "" && got != before {
			return ""
		}
		return fmt.Sprintf("%s=%s: %s, want %s", e.key, e.value, got, e.after)
	})
}

func (e *topicEffect) back(w *world, name, before string) {
	w.t.Helper()
	w.eventually(func() string {
		if got := e.observe(w, name); got != before {
			return fmt.Sprintf("%s unset: %s, want %s", e.key, got, before)
		}
		return ""
	})
}

// proofs sets the value at a topic, in server.properties, for a broker and for the cluster, as far as each key can be.
func (e topicEffect) proofs() []proof {
	out := []proof{{scope: conf.TopicScope, key: e.key, how: topic, see: func(t *testing.T) {
		w := e.node(t)
		before := e.unchanged(w, "t")
		w.alter(2, "t", e.key, e.value)
		e.changed(w, "t", before)
		w.alter(2, "t", e.key, "")
		e.back(w, "t", before)
	}}}
	for _, s := range e.brokers {
		out = append(out, proof{key: s.key, how: static, see: func(t *testing.T) {
			before := ""
			if e.after == "" {
				before = e.unchanged(e.node(t), "t")
			}
			w := e.node(t, s)
			w.create("t", 1, e.configs...)
			e.changed(w, "t", before)
		}})
		k, ok := conf.Lookup(conf.BrokerScope, s.key)
		if !ok || k.Mode == conf.ReadOnly {
			continue
		}
		for how, name := range map[string]string{broker: "1", cluster: ""} {
			out = append(out, proof{key: s.key, how: how, see: func(t *testing.T) {
				w := e.node(t)
				before := e.unchanged(w, "t")
				w.alter(4, name, s.key, s.value)
				e.changed(w, "t", before)
				w.alter(4, name, s.key, "")
				e.back(w, "t", before)
			}})
		}
	}
	slices.SortStableFunc(out, func(a, b proof) int { return strings.Compare(a.key+a.how, b.key+b.how) })
	return out
}

// staticProof starts a node with a property and looks at it.
func staticProof(key, value string, with map[string]string, see func(w *world)) proof {
	return proof{key: key, how: static, see: func(t *testing.T) {
		opts := []embedded.Option{embedded.With(key, value)}
		for _, k := range slices.Sorted(maps.Keys(with)) {
			opts = append(opts, embedded.With(k, with[k]))
		}
		see(newWorld(t, opts...))
	}}
}

// dynamicProofs changes a property in every way a running node takes: see must fail before and hold after. The first entry is
// the static one.
func dynamicProofs(key, value string, with map[string]string, observe func(w *world) string, before, after string) []proof {
	out := []proof{staticProof(key, value, with, func(w *world) {
		w.eventually(func() string { return differs(observe(w), after) })
	})}
	for _, way := range []setting{{broker, "1"}, {cluster, ""}} {
		out = append(out, proof{key: key, how: way.key, see: func(t *testing.T) {
			var opts []embedded.Option
			for k, v := range with {
				opts = append(opts, embedded.With(k, v))
			}
			w := newWorld(t, opts...)
			w.eventually(func() string { return differs(observe(w), before) })
			w.alter(4, way.value, key, value)
			w.eventually(func() string { return differs(observe(w), after) })
			w.alter(4, way.value, key, "")
			w.eventually(func() string { return differs(observe(w), before) })
		}})
	}
	return out
}

func differs(got, want string) string {
	if got == want {
		return ""
	}
	return fmt.Sprintf("%s, want %s", got, want)
}

package metric

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Kind is the kind of a sample.
type Kind int8

// The kinds. A Counter only grows and comes from a meter ("...PerSec").
const (
	Gauge Kind = iota
	Counter
	summary
)

// Name returns the series name of an MBean "kafka.<domain>:type=<kind>,name=<name>": lower case, joined by underscores, a meter's
// PerSec replaced by total.
func Name(domain, kind, name string) string {
	if base, ok := strings.CutSuffix(name, "PerSec"); ok {
		name = base + "_total"
	}
	full := "kafka_" + domain + "_" + kind + "_" + name
	return strings.ToLower(strings.NewReplacer("-", "_", ".", "_").Replace(full))
}

// Emit takes one sample. Labels are pairs of name and value.
type Emit func(name string, kind Kind, value float64, labels ...string)

// EmitSummary takes the distribution of a Histogram; its values are multiplied by scale to get the unit of the series.
type EmitSummary func(name string, h *Histogram, scale float64, labels ...string)

// Source reads a room's figures. It is called once per scrape and must not block.
type Source func(emit Emit, summary EmitSummary)

// Registry collects sources and serves them.
type Registry struct {
	mu      sync.Mutex
	sources []Source // guarded by mu
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return &Registry{} }

// Add registers a source.
func (r *Registry) Add(s Source) {
	r.mu.Lock()
	r.sources = append(r.sources, s)
	r.mu.Unlock()
}

// ServeHTTP answers a scrape in Prometheus' text format, version 0.0.4. The client library is not used: it would add more to the
// binary, to the start and to the idle memory than the rest of this package is worth.
func (r *Registry) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(r.Text()) // a scraper that went away
}

// Text returns all figures, families in order of name.
func (r *Registry) Text() []byte {
	r.mu.Lock()
	sources := slices.Clone(r.sources)
	r.mu.Unlock()
	families := map[string]*family{}
	of := func(name string, kind Kind) *bytes.Buffer {
		f := families[name]
		if f == nil {
			f = &family{kind: kind}
			families[name] = f
		}
		return &f.lines
	}
	emit := func(name string, kind Kind, value float64, labels ...string) {
		line(of(name, kind), name, value, labels)
	}
	distribution := func(name string, h *Histogram, scale float64, labels ...string) {
		b := of(name, summary)
		count, sum, at := h.read(scale)
		for i, q := range quantiles {
			line(b, name, at[i], append(slices.Clone(labels), "quantile", strconv.FormatFloat(q, 'g', -1, 64)))
		}
		line(b, name+"_sum", sum, labels)
		line(b, name+"_count", float64(count), labels)
	}
	for _, s := range sources {
		s(emit, distribution)
	}
	names := make([]string, 0, len(families))
	for name := range families {
		names = append(names, name)
	}
	slices.Sort(names)
	var out bytes.Buffer
	for _, name := range names {
		f := families[name]
		out.WriteString("# TYPE " + name + " " + [...]string{"gauge", "counter", "summary"}[f.kind] + "\n")
		out.Write(f.lines.Bytes())
	}
	return out.Bytes()
}

type family struct {
	kind  Kind
	lines bytes.Buffer
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func line(b *bytes.Buffer, name string, value float64, labels []string) {
	b.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(labels[i] + `="` + escape.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 1 {
		b.WriteByte('}')
	}
	b.WriteByte(' ')
	b.Write(strconv.AppendFloat(b.AvailableBuffer(), value, 'g', -1, 64))
	b.WriteByte('\n')
}

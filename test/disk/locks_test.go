package disk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLocks: a directory has one owner. Whoever comes second ends at once, says why, and has changed nothing.
//
// The metadata log has a directory of its own here: where it shares log.dirs, Apache Kafka as broker and controller writes to it
// before it asks for the lock.
func TestLocks(t *testing.T) {
	b := setup(t)
	p := b.place(false)
	p.props = append(p.props, "metadata.log.dir="+filepath.Join(p.dir, "metadata"))
	b.must(p.format(""), "format")
	m := &model{facts: facts{}}
	w := &writer{m: m, rnd: b.rnd, tag: "locked"}
	for i, first := range []product{kafka, moldau} {
		second := map[product]product{kafka: moldau, moldau: kafka}[first]
		w.node = b.open(p, first)
		if i == 0 {
			b.must(w.topic(b.ctx, "t", 1, nil), "create")
			m.set("topic/t", m.facts["topic/t"])
		}
		b.must(w.produce(b.ctx, "t", codecs()["lz4"], 50, nil), "produce")
		b.learn(w.node, m, "read from "+string(first))
		before := b.files(p)
		text := b.refused(p, second)
		if !strings.Contains(strings.ToLower(text), "lock") {
			b.Errorf("%s does not speak of a lock:\n%s", second, tail(text))
		}
		b.same(before, b.files(p))
		b.compare(w.node, m, string(first)+" after "+string(second)+" came", nil)
		b.leave(p, w.node, m)
	}
	// Nothing is left of the locks.
	w.node = b.open(p, kafka)
	b.compare(w.node, m, "opened by Kafka at the end", nil)
	b.leave(p, w.node, m)
}

// refused starts a product on a directory in use, at other ports, and returns what it said when it ended.
func (b *bench) refused(p *place, who product) string {
	b.Helper()
	q := b.place(false, p.props...)
	q.dir = p.dir
	q.starts = 50 + p.starts // log files of its own
	file := filepath.Join(p.dir, "server.properties")
	mine, err := os.ReadFile(file)
	b.must(err, "read configuration")
	began := time.Now()
	err = q.start(who)
	b.must(os.WriteFile(file, mine, 0o644), "put the configuration back")
	if err == nil {
		_ = q.kill()
		b.Fatalf("%s started on a directory that %s has", who, p.running)
	}
	b.Logf("%s ended after %v", who, time.Since(began).Round(time.Millisecond))
	text, readErr := os.ReadFile(q.logFile(who))
	b.must(readErr, "read its output")
	return string(text)
}

// files are the sizes of a node's logs; what the owner writes by itself meanwhile is in the metadata only.
func (b *bench) files(p *place) map[string]int64 {
	b.Helper()
	out := map[string]int64{}
	found, err := filepath.Glob(filepath.Join(p.data(), "t-0", "*"))
	b.must(err, "list files")
	for _, f := range found {
		if info, err := os.Stat(f); err == nil {
			out[f] = info.Size()
		}
	}
	return out
}

func (b *bench) same(before, after map[string]int64) {
	b.Helper()
	for f, size := range before {
		if after[f] != size {
			b.Errorf("%s had %d bytes, has %d", f, size, after[f])
		}
	}
	if len(after) != len(before) {
		b.Errorf("%d files, were %d", len(after), len(before))
	}
}

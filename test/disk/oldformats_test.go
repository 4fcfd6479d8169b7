package disk

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// oldClient is the release of kafka-clients whose builders make segments of the formats 0 and 1.
const oldClient = "2.1.1"

// TestOldFormats: segments of the message formats 0 and 1, which only old releases wrote, in topics and in __consumer_offsets. Both
// products recover the same directory and must show the same of it; then Moldau adds today's batches and Apache Kafka reads on.
func TestOldFormats(t *testing.T) {
	b := setup(t)
	old := t.TempDir()
	out, err := exec.Command(filepath.Join(filepath.Dir(b.o.script), "javac-client"), oldClient, "testdata/OldRecords.java", old, fmt.Sprint(firstMs)).Output()
	b.must(err, "build segments")
	names, err := filepath.Glob(filepath.Join(old, "*-0"))
	b.must(err, "list segments")

	// Some of them in compacted topics, too.
	olds := map[string]string{topicCompact + "-0-snappy": "old-0-snappy-create-0", topicCompact + "-1-gzip": "old-1-gzip-create-0", topicCompact + "-1-none": "old-1-none-append-0"}
	for topic, dir := range olds {
		b.must(os.CopyFS(filepath.Join(old, topic+"-0"), os.DirFS(filepath.Join(old, dir))), "copy a segment")
	}

	p := b.place(false)
	b.must(p.format(""), "format")
	m := &model{facts: facts{}}
	w := &writer{m: m, rnd: b.rnd, tag: "old", ms: firstMs + 100_000}
	b.reopen(p, w, kafka)
	for _, name := range names {
		if topic := strings.TrimSuffix(filepath.Base(name), "-0"); topic != "__consumer_offsets" {
			b.must(w.topic(b.ctx, topic, 1, nil), "create")
		}
	}
	for topic := range olds {
		b.must(w.topic(b.ctx, topic, 1, compactConfigs()), "create")
	}
	b.must(w.consumeNothing(b.ctx), "make __consumer_offsets")
	w.kgo.Close()
	b.must(p.stop(), "stop")
	b.plant(p, old)

	// Apache Kafka recovers a copy.
	twin := b.place(false)
	twin.port, twin.addr = p.port, p.addr
	b.must(os.RemoveAll(twin.data()), "clear")
	b.must(exec.Command("cp", "-a", p.data(), twin.data()).Run(), "copy")
	b.reopen(twin, w, kafka)
	b.learn(w.node, m, "read from Kafka")
	w.kgo.Close()
	b.must(twin.stop(), "stop")
	b.asBuilt(string(out), m.facts)
	if got := m.facts[commitPath("old-group", "old-1-none-create", 0)]; got != `17 epoch -1 metadata "from long ago"` {
		b.Errorf("Kafka finds the old commit %q", got)
	}

	for _, what := range []string{"recovered by Moldau", "opened by Moldau again"} {
		b.reopen(p, w, moldau)
		b.compare(w.node, m, what, nil)
		w.kgo.Close()
		b.must(p.stop(), "stop")
	}
	b.reopen(p, w, moldau)
	for _, name := range names {
		if topic := strings.TrimSuffix(filepath.Base(name), "-0"); strings.HasPrefix(topic, "old-") {
			b.must(w.produce(b.ctx, topic, kgo.GzipCompression(), 30, nil), "produce")
		}
	}
	for topic := range olds {
		b.must(w.produceKeyed(b.ctx, topic), "produce") // closes the old segment
		b.cleaned(p, topic)
	}
	b.learn(w.node, m, "read from Moldau")
	for topic := range olds {
		if got := m.facts["log/"+topic+"/0/@0"]; got != "" {
			b.Errorf("%s is cleaned, and holds %q at 0", topic, got)
		}
	}
	b.leave(p, w.node, m)
	b.inspectOld(p)
	b.reopen(p, w, kafka)
	b.compare(w.node, m, "opened by Kafka at the end", nil)
	b.leave(p, w.node, m)
}

// plant puts the segments into a stopped node's directory, as if it had died without having checked them.
func (b *bench) plant(p *place, from string) {
	b.Helper()
	dirs, err := filepath.Glob(filepath.Join(from, "*"))
	b.must(err, "list segments")
	for _, dir := range dirs {
		to := filepath.Join(p.data(), filepath.Base(dir))
		files, err := filepath.Glob(filepath.Join(to, "*"))
		b.must(err, "list a partition")
		if len(files) == 0 {
			b.Fatalf("no partition at %s", to)
		}
		for _, f := range files {
			if filepath.Base(f) != "partition.metadata" {
				b.must(os.Remove(f), "clear a partition")
			}
		}
		segment, err := os.ReadFile(filepath.Join(dir, "00000000000000000000.log"))
		b.must(err, "read a segment")
		b.must(os.WriteFile(filepath.Join(to, "00000000000000000000.log"), segment, 0o644), "plant a segment")
	}
	for _, f := range []string{".kafka_cleanshutdown", "recovery-point-offset-checkpoint", "log-start-offset-checkpoint", "replication-offset-checkpoint"} {
		if err := os.Remove(filepath.Join(p.data(), f)); err != nil && !os.IsNotExist(err) {
			b.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(p.data(), "cleaner-offset-checkpoint")); err != nil && !os.IsNotExist(err) {
		b.Fatal(err)
	}
}

// asBuilt compares what is read with what the old client's builders say they wrote.
func (b *bench) asBuilt(listing string, got facts) {
	b.Helper()
	n := 0
	for line := range strings.Lines(listing) {
		f := strings.Fields(line)
		if len(f) != 5 || !strings.HasPrefix(f[0], "old-") {
			continue
		}
		n++
		if unreadable(f[0]) {
			continue
		}
		ms, err := strconv.ParseInt(f[2], 10, 64)
		b.must(err, "a timestamp")
		want := recordFact(&kgo.Record{Timestamp: time.UnixMilli(ms), Key: unhex(f[3]), Value: unhex(f[4])})
		if ms < 0 { // format 0: clients make of "no time" what they like
			_, want, _ = strings.Cut(want, " key ")
		}
		if have := got["log/"+f[0]+"/0/@"+f[1]]; !strings.HasSuffix(have, want) {
			b.Errorf("%s at %s: read %q, built %q", f[0], f[1], have, want)
		}
	}
	if n < 1000 {
		b.Errorf("the old client listed %d records", n)
	}
}

func unhex(s string) []byte {
	if s == "null" {
		return nil
	}
	out, err := hex.DecodeString(s[1:])
	if err != nil {
		panic(err)
	}
	return out
}

// inspectOld lets dump-log check the indexes of the planted segments, and compares what it says of the old entries with what Moldau's
// own says.
func (b *bench) inspectOld(p *place) {
	b.Helper()
	var indexes, logs []string
	for _, pattern := range []string{"old-*/*.index", "old-*/*.timeindex", "old-*/*.log"} {
		found, err := filepath.Glob(filepath.Join(p.data(), pattern))
		b.must(err, "list files")
		for _, f := range found {
			if info, err := os.Stat(f); err != nil || info.Size() == 0 {
				continue
			}
			if strings.HasSuffix(pattern, ".log") {
				logs = append(logs, f)
			} else {
				indexes = append(indexes, f)
			}
		}
	}
	b.dump(p, "--index-sanity-check", indexes)
	args := []string{"dump-log", "--deep-iteration", "--print-data-log", "--files", strings.Join(logs, ",")}
	want, err := b.o.tool(args...)
	b.must(err, "dump-log of Kafka")
	got, err := exec.Command(p.moldau, args...).CombinedOutput()
	b.must(err, "dump-log of Moldau")
	if strings.Count(want, "magic: 0") == 0 || strings.Count(want, "magic: 1") == 0 || strings.Count(want, "magic: 2") == 0 {
		b.Errorf("dump-log shows no entries of all formats: %s", tail(want))
	}
	wants, gots := strings.Split(want, "\n"), strings.Split(string(got), "\n")
	for i := range max(len(wants), len(gots)) {
		if i >= len(wants) || i >= len(gots) || wants[i] != gots[i] {
			b.Errorf("dump-log differs in line %d of %d and %d:\n\tKafka:  %s\n\tMoldau: %s", i, len(wants), len(gots), at(wants, i), at(gots, i))
			return
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

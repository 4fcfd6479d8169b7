package embedded_test

import (
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// quickCleaner lets the cleaner look for work all the time.
func quickCleaner(more ...string) map[string]string {
	m := map[string]string{"log.cleaner.backoff.ms": "10"}
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

// cleanEffects are the keys of compacted topics with the broker keys of the same meaning.
func cleanEffects() []topicEffect {
	small := func(more ...string) []string { return append([]string{"internal.segment.bytes", "100"}, more...) }
	const compact = "compact"
	return []topicEffect{
		{key: "cleanup.policy", value: compact, brokers: []setting{{"log.cleanup.policy", compact}}, with: quickCleaner(),
			configs: small(), observe: compacts, before: "kept", after: "compacted"},
		{key: "min.cleanable.dirty.ratio", value: "1", brokers: []setting{{"log.cleaner.min.cleanable.ratio", "1"}}, with: quickCleaner(),
			configs: small("cleanup.policy", compact), observe: compacts, before: "compacted", after: "kept"},
		{key: "min.compaction.lag.ms", value: "3600000", brokers: []setting{{"log.cleaner.min.compaction.lag.ms", "3600000"}}, with: quickCleaner(),
			configs: small("cleanup.policy", compact), observe: compacts, before: "compacted", after: "kept"},
		{key: "max.compaction.lag.ms", value: "1", brokers: []setting{{"log.cleaner.max.compaction.lag.ms", "1"}}, with: quickCleaner(),
			configs: small("cleanup.policy", compact, "min.cleanable.dirty.ratio", "1"), observe: compacts, before: "kept", after: "compacted"},
		{key: "delete.retention.ms", value: "0", brokers: []setting{{"log.cleaner.delete.retention.ms", "0"}}, with: quickCleaner(),
			configs: small("cleanup.policy", compact, "min.cleanable.dirty.ratio", "0"), observe: buries, before: "kept", after: "gone"},
	}
}

// same produces a key ten times, each time into a segment of its own, and returns the first offset.
func (w *world) same(topic string) int64 {
	w.t.Helper()
	w.step++
	key := fmt.Appendf(nil, "key %d", w.step)
	first := w.must(topic, batch{key: key})
	for range 9 {
		w.must(topic, batch{key: key})
	}
	return first
}

// has reports whether a record is still there.
func (w *world) has(topic string, offset int64) bool {
	w.t.Helper()
	return w.stored(topic, offset).BaseOffset() == id.Offset(offset)
}

// compacts looks whether the cleaner takes earlier records of a key away. Of three runs the first may have begun before the
// records were there, and the third begins when the second has done what it found.
func compacts(w *world, topic string) string {
	first := w.same(topic)
	if !w.cleanerRuns(3, patience) {
		w.t.Fatal("the cleaner does not run")
	}
	if w.has(topic, first) {
		return "kept"
	}
	return "compacted"
}

// cleanerRuns waits until the cleaner has looked for work so often, and reports whether it did.
func (w *world) cleanerRuns(times int, within time.Duration) bool {
	w.t.Helper()
	limit := time.NewTimer(within)
	defer limit.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for last := 0.0; times > 0; {
		now := series(w.n.Metrics(), "kafka_log_logcleanermanager_time_since_last_run_ms")
		if now < last {
			times--
		}
		last = now
		select {
		case <-limit.C:
			return false
		case <-tick.C:
		}
	}
	return true
}

// buries deletes a key and looks whether the tombstone outlives the pass after the one that found it.
func buries(w *world, topic string) string {
	w.step++
	key, filler := fmt.Appendf(nil, "key %d", w.step), batch{key: []byte("filler")}
	pass := func(gone int64) {
		w.eventually(func() string {
			if w.has(topic, gone) {
				return fmt.Sprintf("the record at %d is not compacted", gone)
			}
			return ""
		})
	}
	value := w.must(topic, batch{key: key})
	grave := w.must(topic, batch{key: key, values: [][]byte{nil}})
	first := w.must(topic, filler)
	pass(value)
	w.must(topic, filler)
	w.must(topic, filler)
	pass(first)
	if w.has(topic, grave) {
		return "kept"
	}
	return "gone"
}

// cleanProofs are the broker keys of the cleaner that are no topic's default.
func cleanProofs() []proof {
	out := []proof{{key: "log.cleaner.enable", how: static, see: func(t *testing.T) {
		for value, want := range map[string]string{"true": "busy", "false": "idle"} {
			w := newWorld(t, embedded.With("log.cleaner.enable", value), embedded.With("log.cleaner.backoff.ms", "10"))
			w.create("t", 1, "cleanup.policy", "compact", "internal.segment.bytes", "100")
			first := w.same("t")
			w.eventually(func() string { return differs(turns(w), want) })
			w.want(w.has("t", first), value == "false")
		}
	}}}
	for _, more := range [][]proof{
		dynamicProofs("log.cleaner.backoff.ms", "10", nil, turns, "idle", "busy"),
		dynamicProofs("log.cleaner.io.max.bytes.per.second", "1", quickCleaner(), soon, "soon", "late"),
		// 60,000 keys in 5,592,405 slots, or in 87,381.
		dynamicProofs("log.cleaner.dedupe.buffer.size", "2097154", quickCleaner(), fills, "1%", "68%"),
		// All at once, or 43,690 and 16,310.
		dynamicProofs("log.cleaner.io.buffer.load.factor", "0.5", quickCleaner("log.cleaner.dedupe.buffer.size", "2097154"), fills, "68%", "18%"),
		diskProofs("log.cleaner.io.buffer.size", "16384", func() vfs.FS { return &logReads{FS: vfs.NewMem()} }, reads, "whole segments", "8192 bytes"),
		diskProofs("log.cleaner.threads", "2", func() vfs.FS { return &passes{FS: vfs.NewMem()} }, together, "1 at once", "2 at once"),
	} {
		out = append(out, more...)
	}
	return out
}

// turns looks whether the cleaner runs again and again. A change of its configuration makes it run once.
func turns(w *world) string {
	if w.cleanerRuns(3, 150*time.Millisecond) {
		return "busy"
	}
	return "idle"
}

// soon looks whether a few hundred bytes are cleaned in no time.
func soon(w *world) string {
	w.step++
	topic := fmt.Sprint("t", w.step)
	w.create(topic, 1, "cleanup.policy", "compact", "internal.segment.bytes", "100")
	first := w.same(topic)
	for deadline := time.Now().Add(200 * time.Millisecond); time.Now().Before(deadline); {
		if !w.has(topic, first) {
			return "soon"
		}
	}
	return "late"
}

// keys produces as many records with different keys in one batch, of the same size each time.
func (w *world) keys(topic string, from, n int, at time.Time) {
	w.t.Helper()
	b := record.NewBuilder(record.NewOptions())
	for i := range n {
		if err := b.Append(at.UnixMilli(), fmt.Appendf(nil, "%08d", from+i), []byte("v")); err != nil {
			w.t.Fatal(err)
		}
	}
	raw, err := b.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	var a api.ProduceResponse
	w.call(9, &api.ProduceRequest{Acks: -1, TimeoutMs: 5000, TopicData: []api.ProduceRequestTopicData{{Name: topic,
		PartitionData: []api.ProduceRequestTopicDataPartitionData{{Records: wire.Records{Bytes: raw}}}}}}, &a)
	if code := a.Responses[0].PartitionResponses[0].ErrorCode; code != wire.ErrNone {
		w.t.Fatalf("produce to %s: %v", topic, code)
	}
}

// fills has a log of 60,000 keys cleaned, and says how full the map of keys was at the end.
func fills(w *world) string {
	w.step++
	topic := fmt.Sprint("t", w.step)
	w.create(topic, 1, "internal.segment.bytes", "200000", "min.cleanable.dirty.ratio", "0")
	for i := range 7 { // the last one stays active
		w.keys(topic, i*10_000, 10_000, time.Now())
	}
	w.alter(2, topic, "cleanup.policy", "compact")
	w.eventually(func() string { return differs(w.checkpointed("cleaner-offset-checkpoint", topic), "60000") })
	return fmt.Sprint(series(w.n.Metrics(), "kafka_log_logcleaner_max_buffer_utilization_percent"), "%")
}

// diskProofs are dynamicProofs on a node whose disk looks what the cleaner does to it.
func diskProofs(key, value string, disk func() vfs.FS, observe func(w *world) string, before, after string) []proof {
	out := []proof{{key: key, how: static, see: func(t *testing.T) {
		change := quickCleaner(key, value)
		w := rawNode(t, disk(), change)
		w.eventually(func() string { return differs(observe(w), after) })
	}}}
	for how, name := range map[string]string{broker: "1", cluster: ""} {
		out = append(out, proof{key: key, how: how, see: func(t *testing.T) {
			w := rawNode(t, disk(), quickCleaner())
			w.eventually(func() string { return differs(observe(w), before) })
			w.alter(4, name, key, value)
			w.eventually(func() string { return differs(observe(w), after) })
			w.alter(4, name, key, "")
			w.eventually(func() string { return differs(observe(w), before) })
		}})
	}
	return out
}

// logReads notes the largest read from the log of a topic.
type logReads struct {
	vfs.FS
	most atomic.Int64
}

func (r *logReads) OpenFile(path string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := r.FS.OpenFile(path, flag, perm)
	if err == nil && strings.HasPrefix(path, "/data/t") && strings.HasSuffix(path, ".log") {
		f = &sizedFile{f, &r.most}
	}
	return f, err
}

// reads has a segment of some 50,000 bytes cleaned that nobody else reads.
func reads(w *world) string {
	r := w.fsys.(*logReads)
	w.step++
	topic := fmt.Sprint("t", w.step)
	w.create(topic, 1, "internal.segment.bytes", "50000")
	for range 60 {
		w.must(topic, batch{key: []byte("key"), values: [][]byte{make([]byte, 1000)}})
	}
	r.most.Store(0)
	w.alter(2, topic, "cleanup.policy", "compact")
	w.eventually(func() string {
		if w.checkpointed("cleaner-offset-checkpoint", topic) == "" {
			return topic + " is not cleaned"
		}
		return ""
	})
	if most := r.most.Load(); most < 40_000 {
		return fmt.Sprint(most, " bytes")
	}
	return "whole segments"
}

// passes holds a pass over a topic's partition up until there is a second one, or for a moment.
type passes struct {
	vfs.FS
	mu           sync.Mutex
	topic        string
	seen         map[string]bool
	inside, most int
	two          chan struct{}
}

func (p *passes) watch(topic string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.topic, p.seen, p.most, p.two = topic, map[string]bool{}, 0, make(chan struct{})
}

// done reports whether both partitions had a pass.
func (p *passes) done() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen) == 2 && p.inside == 0
}

func (p *passes) OpenFile(path string, flag int, perm fs.FileMode) (vfs.File, error) {
	if strings.HasSuffix(path, ".cleaned") {
		p.hold(path)
	}
	return p.FS.OpenFile(path, flag, perm)
}

func (p *passes) hold(path string) {
	dir, _, _ := strings.Cut(strings.TrimPrefix(path, "/data/"), "/")
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen[dir] || !strings.HasPrefix(dir, p.topic+"-") {
		return
	}
	p.seen[dir] = true
	p.inside++
	if p.most = max(p.most, p.inside); p.inside == 2 {
		close(p.two)
	}
	two := p.two
	p.mu.Unlock()
	limit := time.NewTimer(100 * time.Millisecond)
	select {
	case <-two:
	case <-limit.C:
	}
	limit.Stop()
	p.mu.Lock()
	p.inside--
}

// together makes two logs dirty and says how many are cleaned at once.
func together(w *world) string {
	p := w.fsys.(*passes)
	w.step++
	topic := fmt.Sprint("t", w.step)
	w.create(topic, 2, "internal.segment.bytes", "100")
	for partition := range int32(2) {
		for range 5 {
			w.must(topic, batch{partition: partition, key: []byte("key")})
		}
	}
	p.watch(topic)
	w.alter(2, topic, "cleanup.policy", "compact")
	w.eventually(func() string {
		if !p.done() {
			return topic + " is not cleaned"
		}
		return ""
	})
	return fmt.Sprint(p.most, " at once")
}

package embedded_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

const hour = time.Hour

// quickLogs lets the background work of logs run all the time.
func quickLogs(more ...string) map[string]string {
	m := map[string]string{
		"log.initial.task.delay.ms":               "0",
		"log.retention.check.interval.ms":         "10",
		"log.flush.scheduler.interval.ms":         "10",
		"log.flush.offset.checkpoint.interval.ms": "10",
	}
	for i := 0; i+1 < len(more); i += 2 {
		m[more[i]] = more[i+1]
	}
	return m
}

// topicEffects are the keys of topics with the broker keys of the same meaning.
func topicEffects() []topicEffect {
	same := func(key, value string) []setting { return []setting{{key, value}} }
	return []topicEffect{
		{key: "compression.type", value: "gzip", brokers: same("compression.type", "gzip"), observe: codec, before: "none", after: "gzip"},
		{key: "compression.gzip.level", value: "1", brokers: same("compression.gzip.level", "1"), configs: []string{"compression.type", "gzip"}, observe: packed},
		{key: "compression.lz4.level", value: "1", brokers: same("compression.lz4.level", "1"), configs: []string{"compression.type", "lz4"}, observe: packed},
		{key: "compression.zstd.level", value: "19", brokers: same("compression.zstd.level", "19"), configs: []string{"compression.type", "zstd"}, observe: packed},
		{key: "max.message.bytes", value: "1000", brokers: same("message.max.bytes", "1000"), observe: large, before: "NONE", after: "MESSAGE_TOO_LARGE"},
		{key: "max.decompressed.message.bytes", value: "1000", brokers: same("max.decompressed.message.bytes", "1000"), observe: expanded, before: "NONE", after: "INVALID_RECORD"},
		{key: "message.timestamp.after.max.ms", value: "60000", brokers: same("log.message.timestamp.after.max.ms", "60000"),
			observe: dated(hour / 2), before: "NONE", after: "INVALID_TIMESTAMP"},
		{key: "message.timestamp.before.max.ms", value: "60000", brokers: same("log.message.timestamp.before.max.ms", "60000"),
			observe: dated(-hour / 2), before: "NONE", after: "INVALID_TIMESTAMP"},
		{key: "message.timestamp.type", value: "LogAppendTime", brokers: same("log.message.timestamp.type", "LogAppendTime"),
			observe: timestampType, before: "CreateTime", after: "LogAppendTime"},

		{key: "retention.ms", value: "3600000", brokers: []setting{{"log.retention.ms", "3600000"}, {"log.retention.minutes", "60"}, {"log.retention.hours", "1"}},
			with: quickLogs(), observe: retained, before: "kept", after: "deleted"},
		{key: "retention.bytes", value: "300", brokers: same("log.retention.bytes", "300"), with: quickLogs(),
			configs: []string{"internal.segment.bytes", "200", "retention.ms", "-1"}, observe: retained, before: "kept", after: "deleted"},
		{key: "file.delete.delay.ms", value: "1", brokers: same("log.segment.delete.delay.ms", "1"), with: quickLogs(),
			configs: []string{"internal.segment.bytes", "100"}, observe: removed, before: "renamed", after: "removed"},

		{key: "segment.bytes", value: "1048576", brokers: same("log.segment.bytes", "1048576"), observe: rolls(4, 400_000), before: "one segment", after: "rolled"},
		{key: "internal.segment.bytes", value: "1000", observe: rolls(4, 400), before: "one segment", after: "rolled"},
		{key: "segment.index.bytes", value: "36", brokers: same("log.index.size.max.bytes", "36"), configs: []string{"index.interval.bytes", "0"},
			observe: rolls(8, 10), before: "one segment", after: "rolled"},
		{key: "segment.ms", value: "3600000", brokers: []setting{{"log.roll.ms", "3600000"}, {"log.roll.hours", "1"}},
			configs: []string{"retention.ms", "-1"}, observe: ages, before: "one segment", after: "rolled"},
		{key: "segment.jitter.ms", value: "3600000", brokers: []setting{{"log.roll.jitter.ms", "3600000"}, {"log.roll.jitter.hours", "1"}},
			configs: []string{"segment.ms", "3600000", "retention.ms", "-1"}, observe: jitters, before: "one segment", after: "rolled"},
		{key: "index.interval.bytes", value: "0", brokers: same("log.index.interval.bytes", "0"),
			configs: []string{"segment.ms", "3600000", "retention.ms", "-1"}, observe: indexed, before: "0 entries", after: "5 entries"},

		{key: "flush.messages", value: "1", brokers: same("log.flush.interval.messages", "1"), with: quickLogs("log.flush.interval.ms", "3600000"),
			observe: durable, before: "in memory", after: "durable"},
		{key: "flush.ms", value: "3600000", brokers: same("log.flush.interval.ms", "3600000"), with: quickLogs(),
			observe: durableSoon, before: "durable", after: "in memory"},
	}
}

func codec(w *world, topic string) string {
	return w.stored(topic, w.must(topic, batch{})).Codec().String()
}

// packed is the size of a compressible batch in the log.
func packed(w *world, topic string) string {
	rng := rand.New(rand.NewPCG(1, 2)) // always the same text: only the level may change its size
	var text []byte
	for len(text) < 40_000 {
		text = fmt.Appendf(text, "%s %d, ", []string{"Vltava", "Moldau", "river", "stone", "bridge", "mill"}[rng.IntN(6)], rng.IntN(5000))
	}
	return fmt.Sprint(w.stored(topic, w.must(topic, batch{values: [][]byte{text}, ts: time.UnixMilli(time.Now().Add(-hour).UnixMilli() / 1e7 * 1e7)})).SizeBytes(), " bytes")
}

func large(w *world, topic string) string {
	_, code := w.produce(topic, batch{values: [][]byte{make([]byte, 2000)}})
	return code.Name()
}

// expanded produces a small batch of one large record.
func expanded(w *world, topic string) string {
	_, code := w.produce(topic, batch{values: [][]byte{make([]byte, 2000)}, codec: record.Gzip})
	return code.Name()
}

func dated(ahead time.Duration) func(*world, string) string {
	return func(w *world, topic string) string {
		_, code := w.produce(topic, batch{ts: time.Now().Add(ahead)})
		return code.Name()
	}
}

func timestampType(w *world, topic string) string {
	return w.stored(topic, w.must(topic, batch{})).TimestampType().String()
}

// canary makes a topic on whose fate the observer waits, once.
func (w *world) canary(configs ...string) string {
	w.t.Helper()
	if len(w.metadata("canary").Topics) == 0 || w.metadata("canary").Topics[0].ErrorCode != wire.ErrNone {
		w.create("canary", 1, configs...)
	}
	return "canary"
}

// retained produces old records and waits until every log was looked at: until two rounds of retention have hit another topic.
func retained(w *world, topic string) string {
	canary := w.canary("retention.ms", "1", "retention.bytes", "-1")
	first := w.must(topic, batch{ts: time.Now().Add(-2 * hour)})
	for range 9 {
		w.must(topic, batch{ts: time.Now().Add(-2 * hour)})
	}
	for range 2 {
		at := w.must(canary, batch{ts: time.Now().Add(-3 * hour)})
		w.eventually(func() string {
			if w.offset(canary, -2) > at {
				return ""
			}
			return "retention does not run"
		})
	}
	if w.offset(topic, -2) > first {
		return "deleted"
	}
	return "kept"
}

// removed deletes segments and looks whether their files go, or wait under another name.
func removed(w *world, topic string) string {
	canary := w.canary("file.delete.delay.ms", "1", "internal.segment.bytes", "100")
	var names []string
	for _, name := range []string{topic, canary} {
		at := w.must(name, batch{})
		w.must(name, batch{})
		end := w.must(name, batch{})
		w.deleteRecords(name, end)
		dir, file := "/data/"+name+"-0/", fmt.Sprintf("%020d.log", at)
		w.eventually(func() string {
			if vfs.Exists(w.fsys, dir+file) {
				return "the segment is still there"
			}
			return ""
		})
		names = append(names, dir+file+".deleted")
	}
	w.eventually(func() string {
		if vfs.Exists(w.fsys, names[1]) {
			return "nothing is removed"
		}
		return ""
	})
	if vfs.Exists(w.fsys, names[0]) {
		return "renamed"
	}
	return "removed"
}

// rolls produces batches and looks whether they fit into the segment.
func rolls(batches, size int) func(*world, string) string {
	return func(w *world, topic string) string {
		w.must(topic, batch{})
		before := w.segments(topic)
		for range batches {
			w.must(topic, batch{values: [][]byte{make([]byte, size)}})
		}
		return rolled(before, w.segments(topic))
	}
}

func rolled(before, after int) string {
	if after > before {
		return "rolled"
	}
	return "one segment"
}

// ages produces two records with two hours between them.
func ages(w *world, topic string) string {
	w.must(topic, batch{ts: time.Now().Add(-3 * hour)})
	before := w.segments(topic)
	w.must(topic, batch{ts: time.Now().Add(-hour)})
	return rolled(before, w.segments(topic))
}

// fresh begins a segment in a topic whose segments hold one hour, and returns the time of its first record.
func (w *world) fresh(topic string) time.Time {
	w.step++
	start := time.Now().Add(-90 * 24 * hour).Add(time.Duration(w.step) * 4 * hour)
	w.must(topic, batch{ts: start})
	w.must(topic, batch{ts: start.Add(2 * hour)})
	return start.Add(2 * hour)
}

// jitters fills a segment's hour but for a second. That a random jitter is shorter than that is possible, and tried again.
func jitters(w *world, topic string) string {
	start := w.fresh(topic)
	before := w.segments(topic)
	w.must(topic, batch{ts: start.Add(hour - time.Second)})
	return rolled(before, w.segments(topic))
}

// indexed counts the index entries of a segment with seven small batches, the first of which needs none.
func indexed(w *world, topic string) string {
	start := w.fresh(topic)
	at := w.offset(topic, -1) - 1
	for range 5 {
		w.must(topic, batch{ts: start})
	}
	w.must(topic, batch{ts: start.Add(2 * hour)})
	base := fmt.Sprintf("/data/%s-0/%020d", topic, at)
	w.eventually(func() string { // the time index is written after the offset index
		if info, err := w.fsys.Stat(base + ".timeindex"); err != nil || info.Size() == 0 {
			return "the finished segment's indexes are not written"
		}
		return ""
	})
	info, err := w.fsys.Stat(base + ".index")
	if err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprint(info.Size()/8, " entries")
}

// durable waits until another topic's recovery point was written down, and looks at this one's beside it.
func durable(w *world, topic string) string { return durableAfter(w, topic, 1) }

// durableSoon gives the flusher two rounds.
func durableSoon(w *world, topic string) string { return durableAfter(w, topic, 3) }

func durableAfter(w *world, topic string, rounds int) string {
	canary := w.canary("flush.messages", "1")
	if rounds > 1 {
		canary = w.canary("flush.ms", "1")
	}
	end := w.must(topic, batch{}) + 1
	for range rounds {
		mark := strconv.FormatInt(w.must(canary, batch{})+1, 10)
		w.eventually(func() string { return differs(w.checkpointed("recovery-point-offset-checkpoint", canary), mark) })
	}
	if w.checkpointed("recovery-point-offset-checkpoint", topic) == strconv.FormatInt(end, 10) {
		return "durable"
	}
	return "in memory"
}

// logProofs are the broker keys of logs that are no topic's default.
func logProofs() []proof {
	out := []proof{
		{scope: conf.BrokerScope, key: "moldau.log.dir.reserve.bytes", how: static, elsewhere: "embedded.TestReserve"},
		staticProof("auto.create.topics.enable", "false", nil, func(w *world) {
			var a api.MetadataResponse
			w.call(9, &api.MetadataRequest{Topics: []api.MetadataRequestTopic{{Name: new("t")}}, AllowAutoTopicCreation: true}, &a)
			w.want(a.Topics[0].ErrorCode, wire.ErrUnknownTopicOrPartition)
			w.create("later", 1) // what was asked of the controller before is done by now
			w.call(9, &api.MetadataRequest{}, &a)
			w.want(len(a.Topics), 1)
		}),
		staticProof("delete.topic.enable", "false", nil, func(w *world) {
			w.create("t", 1)
			var a api.DeleteTopicsResponse
			w.call(5, &api.DeleteTopicsRequest{TopicNames: []string{"t"}, TimeoutMs: 5000}, &a)
			w.want(a.Responses[0].ErrorCode, wire.ErrTopicDeletionDisabled)
		}),
		staticProof("num.partitions", "5", nil, func(w *world) {
			w.create("t", -1)
			w.want(len(w.metadata("t").Topics[0].Partitions), 5)
		}),
		staticProof("default.replication.factor", "2", nil, func(w *world) {
			w.want(w.tryCreate("t", 1), wire.ErrInvalidReplicationFactor)
		}),
		staticProof("log.retention.check.interval.ms", "10", map[string]string{"log.initial.task.delay.ms": "0"}, retentionRuns),
		staticProof("log.initial.task.delay.ms", "50", map[string]string{"log.retention.check.interval.ms": "50"}, retentionRuns),
		staticProof("log.flush.scheduler.interval.ms", "10", map[string]string{"log.flush.offset.checkpoint.interval.ms": "10"}, func(w *world) {
			w.create("t", 1, "flush.ms", "1")
			w.must("t", batch{})
			w.eventually(func() string { return differs(w.checkpointed("recovery-point-offset-checkpoint", "t"), "1") })
		}),
		staticProof("log.flush.offset.checkpoint.interval.ms", "10", nil, func(w *world) {
			w.create("t", 1, "flush.messages", "1")
			w.must("t", batch{})
			w.eventually(func() string { return differs(w.checkpointed("recovery-point-offset-checkpoint", "t"), "1") })
			w.want(w.checkpointed("log-start-offset-checkpoint", "t"), "")
		}),
		staticProof("log.flush.start.offset.checkpoint.interval.ms", "10", nil, func(w *world) {
			w.create("t", 1, "flush.messages", "1")
			w.must("t", batch{})
			w.must("t", batch{})
			w.deleteRecords("t", 1)
			w.eventually(func() string { return differs(w.checkpointed("log-start-offset-checkpoint", "t"), "1") })
			w.want(w.checkpointed("recovery-point-offset-checkpoint", "t"), "")
		}),
		staticProof("replica.high.watermark.checkpoint.interval.ms", "10", nil, func(w *world) {
			w.create("t", 1)
			w.must("t", batch{})
			w.eventually(func() string { return differs(w.checkpointed("replication-offset-checkpoint", "t"), "1") })
		}),
		staticProof("producer.id.expiration.check.interval.ms", "10", map[string]string{"producer.id.expiration.ms": "1"}, func(w *world) {
			w.eventually(func() string { return differs(remembered(w), "forgotten") })
		}),
		{key: "log.dirs", how: static, see: func(t *testing.T) {
			w := rawNode(t, vfs.NewMem(), map[string]string{"log.dirs": "/one,/two"})
			w.want(placed(w), "/one 2, /two 2")
		}},
		{key: "log.dir", how: static, see: func(t *testing.T) {
			w := rawNode(t, vfs.NewMem(), map[string]string{"log.dir": "/three"}, "log.dirs")
			w.want(placed(w), "/three 4")
		}},
		{key: "metadata.log.dir", how: static, see: func(t *testing.T) {
			mem := vfs.NewMem()
			w := rawNode(t, mem, map[string]string{"log.dirs": "/data", "metadata.log.dir": "/metadata"})
			w.want(vfs.Exists(mem, "/metadata/__cluster_metadata-0"), true)
			w.want(vfs.Exists(mem, "/data/__cluster_metadata-0"), false)
		}},
		{key: "num.recovery.threads.per.data.dir", how: static, see: recoveryThreads},
		{key: "num.recovery.threads.per.data.dir", how: broker, see: func(t *testing.T) { recoveryThreadsStored(t, "1") }},
		{key: "num.recovery.threads.per.data.dir", how: cluster, see: func(t *testing.T) { recoveryThreadsStored(t, "") }},
	}
	// A topic of one replica has effectively one as its minimum: the effect shows with followers only.
	for _, how := range []string{static, broker, cluster} {
		out = append(out, proof{key: "min.insync.replicas", how: how, elsewhere: "internal/engine/replica.TestMinISRFromProperties"})
	}
	out = append(out, proof{scope: conf.TopicScope, key: "min.insync.replicas", how: topic, elsewhere: "internal/engine/replica.TestMinISRFromProperties"})
	return append(out, dynamicProofs("producer.id.expiration.ms", "1", map[string]string{"producer.id.expiration.check.interval.ms": "10"}, remembered, "remembered", "forgotten")...)
}

// want compares, and says where.
func (w *world) want(got, want any) {
	w.t.Helper()
	if g, e := fmt.Sprint(got), fmt.Sprint(want); g != e {
		w.t.Errorf("got %s, want %s", g, e)
	}
}

// retentionRuns sees two rounds of retention, long before they would come by default.
func retentionRuns(w *world) {
	w.create("t", 1, "retention.ms", "1")
	for range 2 {
		at := w.must("t", batch{ts: time.Now().Add(-hour)})
		w.eventually(func() string {
			if w.offset("t", -2) > at {
				return ""
			}
			return "retention does not run"
		})
	}
}

// remembered produces with a producer id of its own and looks whether the partition knows it after the producers of another
// topic, which nobody remembers for long, were looked through.
func remembered(w *world) string {
	if m := w.metadata("t"); m.Topics[0].ErrorCode != wire.ErrNone {
		w.create("t", 1)
	}
	w.step++
	var pid api.InitProducerIDResponse
	w.call(4, &api.InitProducerIDRequest{TransactionTimeoutMs: 1000, ProducerID: -1, ProducerEpoch: -1}, &pid)
	w.must("t", batch{producer: true, pid: id.ProducerID(pid.ProducerID)})
	deadline := time.NewTimer(60 * time.Millisecond) // six rounds
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var a api.DescribeProducersResponse
		w.call(0, &api.DescribeProducersRequest{Topics: []api.DescribeProducersRequestTopic{{Name: "t", PartitionIndexes: []int32{0}}}}, &a)
		known := slices.ContainsFunc(a.Topics[0].Partitions[0].ActiveProducers, func(p api.DescribeProducersResponseTopicPartitionActiveProducer) bool {
			return int64(p.ProducerID) == int64(pid.ProducerID)
		})
		if !known {
			return "forgotten"
		}
		select {
		case <-deadline.C:
			return "remembered"
		case <-tick.C:
		}
	}
}

// recoveryThreads restarts a node behind a gate that holds the opening of a partition back until enough of them are under way.
func recoveryThreads(t *testing.T) {
	const partitions = 3
	mem := vfs.NewMem()
	w := rawNode(t, mem, nil)
	w.create("t", partitions)
	for p := range int32(partitions) {
		w.must("t", batch{partition: p})
	}
	w.stop()
	for _, threads := range []int{partitions, 1} {
		g := &gate{FS: mem, want: partitions, open: make(chan struct{}), patience: patience}
		if threads < partitions {
			g.patience = 50 * time.Millisecond // they cannot all come
		}
		w = rawNode(t, g, map[string]string{"num.recovery.threads.per.data.dir": strconv.Itoa(threads)})
		w.want(g.most, threads)
		w.stop()
	}
}

// recoveryThreadsStored: a dynamic number counts at the next start. By default there would be two.
func recoveryThreadsStored(t *testing.T, name string) {
	mem := vfs.NewMem()
	w := rawNode(t, mem, nil)
	w.create("t", 3)
	for p := range int32(3) {
		w.must("t", batch{partition: p})
	}
	w.alter(4, name, "num.recovery.threads.per.data.dir", "1")
	w.stop()
	g := &gate{FS: mem, want: 3, open: make(chan struct{}), patience: 50 * time.Millisecond}
	w = rawNode(t, g, nil)
	w.want(g.most, 1)
}

// gate lets nobody touch a partition of topic t for the first time until as many as it wants are there, or its patience ends.
type gate struct {
	vfs.FS
	want     int
	patience time.Duration
	open     chan struct{}

	mu     sync.Mutex
	seen   map[string]bool
	inside int
	most   int
}

func (g *gate) pass(path string) {
	dir, ok := strings.CutPrefix(path, "/data/t-")
	if !ok {
		return
	}
	dir, _, _ = strings.Cut(dir, "/")
	g.mu.Lock()
	if g.seen[dir] {
		g.mu.Unlock()
		return
	}
	if g.seen == nil {
		g.seen = map[string]bool{}
	}
	g.seen[dir] = true
	g.inside++
	g.most = max(g.most, g.inside)
	if g.inside == g.want {
		close(g.open)
	}
	g.mu.Unlock()
	limit := time.NewTimer(g.patience)
	defer limit.Stop()
	select {
	case <-g.open:
	case <-limit.C:
	}
	g.mu.Lock()
	g.inside--
	g.mu.Unlock()
}

func (g *gate) List(dir string) ([]fs.DirEntry, error) {
	g.pass(dir)
	return g.FS.List(dir)
}

func (g *gate) OpenFile(path string, flag int, perm fs.FileMode) (vfs.File, error) {
	g.pass(path)
	return g.FS.OpenFile(path, flag, perm)
}

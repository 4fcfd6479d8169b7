package embedded_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// within is a figure's own value if it lies there, and another one otherwise.
func within(name string, low, high float64) func(map[string]float64) float64 {
	return func(all map[string]float64) float64 {
		if v := all[name]; v >= low && v <= high {
			return v
		}
		return low
	}
}

// cleaner has a log cleaned slowly, makes it half dirty again, and another one that cannot be cleaned.
func (w *watched) cleaner(t *testing.T) {
	const manager, cleaner = "kafka_log_logcleanermanager_", "kafka_log_logcleaner_"
	const since, delay, took = manager + "time_since_last_run_ms", cleaner + "max_compaction_delay_secs", cleaner + "max_clean_time_secs"
	const keys, slots = 4370, 43_691
	x := newWorld(t, embedded.WithMetrics(), embedded.With("log.cleaner.backoff.ms", "3600000"), embedded.With("log.cleaner.dedupe.buffer.size", fmt.Sprint(slots*24)))
	past := time.Now().Add(-hour)
	x.create("t", 1, "internal.segment.bytes", "100000", "max.compaction.lag.ms", "60000", "min.cleanable.dirty.ratio", "0.9")
	for range 3 {
		x.keys("t", 0, keys, past)
	}
	before := w.show(scrape(t, x.n))
	w.await(t, x.n, before, nil, since)

	// Two batches are read for the map and once more for the copy, one of them is written: that is to take a second and a half.
	size := sumOf(`kafka_log_log_size{topic="t"`)(before)
	x.alter(2, "t", "retention.bytes", fmt.Sprint(2*size))
	w.await(t, x.n, before, want{`kafka_log_log_retentionsizeinpercent{topic="t",partition="0"}`: is(50)})
	x.alter(4, "", "log.cleaner.io.max.bytes.per.second", fmt.Sprint(size/3*5/1.5))
	x.alter(2, "t", "cleanup.policy", "compact")
	x.alter(4, "", "log.cleaner.backoff.ms", "10")
	w.await(t, x.n, before, want{
		since: within(since, 0, 60), delay: within(delay, 3540, 3600), took: within(took, 1, 9),
		cleaner + "cleaner_recopy_percent":         is(50),
		cleaner + "max_buffer_utilization_percent": is(keys * 100 / slots),
		manager + "max_dirty_percent":              is(0),
	})
	x.alter(2, "t", "max.compaction.lag.ms", "")
	x.keys("t", 0, keys, past)
	w.await(t, x.n, before, want{manager + "max_dirty_percent": is(50)})

	const partitions, bytes = manager + `uncleanable_partitions_count{logDirectory="/data"}`, manager + `uncleanable_bytes{logDirectory="/data"}`
	w.await(t, x.n, before, want{partitions: is(0), bytes: is(0)})
	x.create("bad", 1, "internal.segment.bytes", "100")
	second := x.same("bad") + 1
	f, err := x.fsys.OpenFile(fmt.Sprintf("/data/bad-0/%020d.log", second), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("?"), 70); err != nil {
		t.Fatal(err)
	}
	x.alter(2, "bad", "cleanup.policy", "compact")
	w.await(t, x.n, before, want{partitions: is(1), bytes: func(all map[string]float64) float64 { return sumOf(`kafka_log_log_size{topic="bad"`)(all) * 9 / 10 }})
	x.want(x.offset("bad", -1), second+9)
	var a api.DeleteTopicsResponse
	x.call(5, &api.DeleteTopicsRequest{TopicNames: []string{"bad"}, TimeoutMs: 5000}, &a)
	x.want(a.Responses[0].ErrorCode, wire.ErrNone)
	w.await(t, x.n, before, want{partitions: is(0), bytes: is(0)})
}

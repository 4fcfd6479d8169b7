package node

import (
	"errors"
	"math"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/metric"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/engine/log"
)

// TestDoorFigures: each count of the door has its series. That the counts move is seen by the server's own tests.
func TestDoorFigures(t *testing.T) {
	got := map[string]float64{}
	doorMetrics(func(name string, _ metric.Kind, value float64, labels ...string) { got[name] = value },
		server.Stats{Connections: 1, Accepted: 2, Refused: 3, Idle: 4, Malformed: 5, Shed: 6, Panics: 7}, 8)
	want := map[string]float64{
		"kafka_server_socket_server_metrics_connection_count":          1,
		"kafka_server_socket_server_metrics_connection_creation_total": 2,
		"moldau_server_refused_total":                                  3,
		"moldau_server_idle_closed_total":                              4,
		"moldau_server_malformed_total":                                5,
		"moldau_server_shed_total":                                     6,
		"moldau_server_panics_total":                                   7,
		"moldau_server_request_memory_bytes":                           8,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestCleanerFigures: each figure of the cleaner has its series.
func TestCleanerFigures(t *testing.T) {
	got := map[string]float64{}
	cleanerFigures(func(name string, _ metric.Kind, value float64, labels ...string) {
		got[strings.Join(append([]string{name}, labels...), " ")] = value
	},
		log.CleanerStats{Dirs: []log.CleanerDirStats{{Path: "/d", UncleanablePartitions: 1, UncleanableBytes: 2}}, MaxDirtyPercent: 3, SinceLastRun: 4 * time.Millisecond,
			MaxBufferUtilizationPercent: 5, RecopyPercent: 6, MaxCleanTime: 7500 * time.Millisecond, MaxCompactionDelay: 8 * time.Second, DeadThreads: 9})
	want := map[string]float64{
		"kafka_log_logcleanermanager_uncleanable_partitions_count logDirectory /d": 1,
		"kafka_log_logcleanermanager_uncleanable_bytes logDirectory /d":            2,
		"kafka_log_logcleanermanager_max_dirty_percent":                            3,
		"kafka_log_logcleanermanager_time_since_last_run_ms":                       4,
		"kafka_log_logcleaner_max_buffer_utilization_percent":                      5,
		"kafka_log_logcleaner_cleaner_recopy_percent":                              6,
		"kafka_log_logcleaner_max_clean_time_secs":                                 7,
		"kafka_log_logcleaner_max_compaction_delay_secs":                           8,
		"kafka_log_logcleaner_deadthreadcount":                                     9,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestCoordinatorFigures: each count of a coordinator's runtime has its series. That the counts move is seen by its own tests.
func TestCoordinatorFigures(t *testing.T) {
	now := time.Unix(30_000_000, 0)
	m := new(coord.Metrics)
	for i, r := range []*metric.Recent{&m.QueueTime, &m.ProcessingTime, &m.PurgatoryTime, &m.LingerTime, &m.FlushTime, &m.LoadTime} {
		r.Observe(now, int64(i+1)<<21)
	}
	m.Flushes.Mark(now, 60)
	m.Busy.Mark(now, int64(runtime.GOMAXPROCS(0))*int64(3*time.Second))
	m.DroppedBuffers.Store(7)
	got := map[string]float64{}
	emit := func(name string, _ metric.Kind, value float64, labels ...string) {
		got[strings.Join(append([]string{strings.TrimPrefix(name, "kafka_server_x_")}, labels...), " ")] = value
	}
	runtimeMetrics(emit, "x", m, coord.Gauges{Loading: 1, Active: 2, Failed: 3, Queued: 4, BufferBytes: 5}, now)
	want := map[string]float64{
		"num_partitions state loading": 1, "num_partitions state active": 2, "num_partitions state failed": 3, "event_queue_size": 4,
		"batch_buffer_cache_size_bytes": 5, "batch_buffer_cache_discard_count": 7, "batch_flush_rate": 2, "thread_idle_ratio_avg": 0.9,
		"partition_load_time_max": 6 * 2.097152, "partition_load_time_avg": 6 * 2.097152,
	}
	for i, name := range []string{"event_queue", "event_processing", "event_purgatory", "batch_linger", "batch_flush"} {
		want[name+"_time_ms_max"] = float64(i+1) * 2.097152
		for _, suffix := range []string{"p50", "p95", "p99", "p999"} {
			want[name+"_time_ms_"+suffix] = float64(i+1) * 2.097152 // where a bucket begins
		}
	}
	close := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })
	if diff := cmp.Diff(want, got, close); diff != "" {
		t.Error(diff)
	}
	got = map[string]float64{}
	loadMetrics(emit, "x", new(metric.Recent), now)
	if v, ok := got["partition_load_time_max"]; !ok || !math.IsNaN(v) {
		t.Errorf("the load time of nothing is %v", v)
	}
}

// TestDirectoryFigures: a log directory that is offline or cordoned is counted, and named.
func TestDirectoryFigures(t *testing.T) {
	got := map[string]float64{}
	directoryFigures(func(name string, _ metric.Kind, value float64, labels ...string) {
		got[strings.Join(append([]string{name}, labels...), " ")] = value
	},
		[]log.DirInfo{{Path: "/a"}, {Path: "/b", Err: errors.New("gone")}, {Path: "/c", Err: errors.New("gone, too"), Cordoned: true}})
	want := map[string]float64{
		"kafka_log_logmanager_logdirectoryoffline logDirectory /a":  0,
		"kafka_log_logmanager_logdirectoryoffline logDirectory /b":  1,
		"kafka_log_logmanager_logdirectoryoffline logDirectory /c":  1,
		"kafka_log_logmanager_offlinelogdirectorycount":             2,
		"kafka_log_logmanager_logdirectorycordoned logDirectory /a": 0,
		"kafka_log_logmanager_logdirectorycordoned logDirectory /b": 0,
		"kafka_log_logmanager_logdirectorycordoned logDirectory /c": 1,
		"kafka_log_logmanager_cordonedlogdirectorycount":            1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestLookHasPatience: a scrape does not hang on a coordinator that does, nor start another look at it.
func TestLookHasPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l look[int]
		var starts atomic.Int32
		gate := make(chan struct{})
		slow := func() (int, bool) { starts.Add(1); <-gate; return 2, true }
		if v, ok := l.get(func() (int, bool) { return 1, true }); v != 1 || !ok {
			t.Errorf("%d %v", v, ok)
		}
		begin := time.Now()
		for range 2 {
			if v, ok := l.get(slow); v != 1 || !ok {
				t.Errorf("while it hangs: %d %v", v, ok)
			}
		}
		if took := time.Since(begin); took != 2*lookPatience || starts.Load() != 1 {
			t.Errorf("%d looks, %v", starts.Load(), took)
		}
		close(gate)
		synctest.Wait()
		if v, ok := l.get(func() (int, bool) { return 3, false }); v != 3 || ok {
			t.Errorf("after it hung: %d %v", v, ok)
		}
	})
}

package node

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/metric"
	"github.com/moldau-io/moldau/internal/broker/server"
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

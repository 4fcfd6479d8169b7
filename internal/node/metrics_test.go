package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/metric"
	"github.com/moldau-io/moldau/internal/broker/server"
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

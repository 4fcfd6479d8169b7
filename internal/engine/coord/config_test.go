package coord

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/core/group"
)

// TestGroupConfig holds the core's defaults against those of the configuration's table, and looks where bounds go.
func TestGroupConfig(t *testing.T) {
	c, _, err := conf.Load(map[string]string{"node.id": "7", "process.roles": "broker,controller", "controller.quorum.voters": "7@localhost:9093",
		"controller.listener.names": "CONTROLLER", "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := group.DefaultConfig()
	want.Consumer.Broker = "7"
	if d := cmp.Diff(want, GroupConfig(c)); d != "" {
		t.Errorf("defaults (-core +table):\n%s", d)
	}
	c, _, err = conf.Load(conf.DevDefaults(), []string{
		"group.consumer.min.session.timeout.ms=44000", "group.consumer.max.session.timeout.ms=61000", "group.consumer.min.heartbeat.interval.ms=4000",
		"group.consumer.max.heartbeat.interval.ms=16000", "group.consumer.min.assignment.interval.ms=100", "group.consumer.max.assignment.interval.ms=20000",
	})
	if err != nil {
		t.Fatal(err)
	}
	got := GroupConfig(c).Consumer
	if d := cmp.Diff([]group.Bounds{{Min: 44 * time.Second, Max: 61 * time.Second}, {Min: 4 * time.Second, Max: 16 * time.Second},
		{Min: 100 * time.Millisecond, Max: 20 * time.Second}}, []group.Bounds{got.Sessions, got.Heartbeats, got.Assignments}); d != "" {
		t.Errorf("bounds (-want +got):\n%s", d)
	}
}

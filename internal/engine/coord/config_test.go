package coord

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/record"
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

// TestGroupSettings looks where each property of the broker goes.
func TestGroupSettings(t *testing.T) {
	c, _, err := conf.Load(conf.DevDefaults(), []string{
		"group.coordinator.append.linger.ms=10", "group.consumer.session.timeout.ms=555", "group.consumer.heartbeat.interval.ms=200", "group.consumer.max.size=55",
		"group.consumer.assignors=org.apache.kafka.coordinator.group.assignor.RangeAssignor", "offset.metadata.max.bytes=3333", "group.max.size=60",
		"group.initial.rebalance.delay.ms=4000", "group.min.session.timeout.ms=120", "group.max.session.timeout.ms=600000", "offsets.retention.check.interval.ms=700000",
		"offsets.retention.minutes=86400000", "offsets.commit.timeout.ms=5001", "group.consumer.migration.policy=disabled", "offsets.topic.compression.codec=1",
		"offsets.load.buffer.size=555", "group.consumer.min.session.timeout.ms=333", "group.consumer.max.session.timeout.ms=666",
		"group.consumer.min.heartbeat.interval.ms=111", "group.consumer.max.heartbeat.interval.ms=222", "group.consumer.assignment.interval.ms=500",
		"group.consumer.min.assignment.interval.ms=400", "group.consumer.max.assignment.interval.ms=600", "group.consumer.regex.refresh.interval.ms=900000",
		"group.coordinator.cached.buffer.max.bytes=600000"})
	if err != nil {
		t.Fatal(err)
	}
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	want := group.Config{InitialRebalanceDelay: ms(4000), MinSessionTimeout: ms(120), MaxSessionTimeout: ms(600_000), MaxSize: 60, NewMemberJoinTimeout: 5 * time.Minute,
		OffsetMetadataMaxSize: 3333, OffsetsRetention: 86_400_000 * time.Minute, RetentionCheckInterval: ms(700_000),
		Consumer: group.ConsumerConfig{SessionTimeout: ms(555), HeartbeatInterval: ms(200), AssignmentInterval: ms(500), Sessions: group.Bounds{Min: ms(333), Max: ms(666)},
			Heartbeats: group.Bounds{Min: ms(111), Max: ms(222)}, Assignments: group.Bounds{Min: ms(400), Max: ms(600)}, RegexRefreshInterval: ms(900_000), MaxSize: 55,
			Broker: "1", Assignors: []string{"range"}}}
	if d := cmp.Diff(want, GroupConfig(c)); d != "" {
		t.Errorf("settings (-want +got):\n%s", d)
	}
	o := GroupOptions(c)
	if o.Linger != ms(10) || o.WriteTimeout != ms(5001) || o.LoadBufferBytes != 555 || o.Compression.Codec != record.Gzip {
		t.Errorf("options %v %v %v %v", o.Linger, o.WriteTimeout, o.LoadBufferBytes, o.Compression)
	}
	r := New(o)
	defer r.Close()
	if KeepGroupBuffers(r, c); r.keep.Load() != 600_000 {
		t.Errorf("%d bytes of buffers are kept", r.keep.Load())
	}
	for policy, want := range map[string][2]bool{"UPGRADE": {true, false}, "downgrade": {false, true}, "Bidirectional": {true, true}, "DISABLED": {}} {
		c, _, err := conf.Load(conf.DevDefaults(), []string{"group.consumer.migration.policy=" + policy})
		if err != nil {
			t.Fatal(err)
		}
		if got := GroupConfig(c).Consumer; got.Upgrade != want[0] || got.Downgrade != want[1] {
			t.Errorf("%s: upgrade %v, downgrade %v", policy, got.Upgrade, got.Downgrade)
		}
	}
	// More minutes than a duration can hold must not become a negative one, with which every offset expires at once.
	if c, _, err = conf.Load(conf.DevDefaults(), []string{"offsets.retention.minutes=2147483647", "group.coordinator.append.linger.ms=-1"}); err != nil {
		t.Fatal(err)
	}
	if got := GroupConfig(c).OffsetsRetention; got != conf.Forever {
		t.Errorf("the longest retention is %v", got)
	}
	if got := GroupOptions(c).Linger; got >= 0 {
		t.Errorf("a linger of -1 is %v, want it to be adaptive", got)
	}
}

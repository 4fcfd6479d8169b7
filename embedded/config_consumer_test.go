package embedded_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// groupResource is the type of a group's own configuration.
const groupResource = 32

// consumerProofs are the keys of consumer groups (KIP-848): those of the broker, and those that a group has of its own.
func consumerProofs() []proof {
	// A bound lets a group's own value go up to it and no farther.
	bound := func(key, value, of, beyond string) proof {
		return staticProof(key, value, onePartition, func(w *world) {
			w.coordinator()
			w.want(w.tryAlter(groupResource, "g", of, value).ErrorCode, wire.ErrNone)
			w.want(w.tryAlter(groupResource, "g", of, beyond).ErrorCode, wire.ErrInvalidConfig)
		})
	}
	out := []proof{
		staticProof("group.consumer.heartbeat.interval.ms", "6000", onePartition, func(w *world) {
			w.coordinator()
			w.want(w.joinConsumer("g", "a", nil).HeartbeatIntervalMs, 6000)
		}),
		bound("group.consumer.min.heartbeat.interval.ms", "4000", "consumer.heartbeat.interval.ms", "3999"),
		bound("group.consumer.max.heartbeat.interval.ms", "16000", "consumer.heartbeat.interval.ms", "16001"),
		bound("group.consumer.min.session.timeout.ms", "40000", "consumer.session.timeout.ms", "39999"),
		bound("group.consumer.max.session.timeout.ms", "61000", "consumer.session.timeout.ms", "61001"),
		bound("group.consumer.min.assignment.interval.ms", "500", "consumer.assignment.interval.ms", "499"),
		bound("group.consumer.max.assignment.interval.ms", "16000", "consumer.assignment.interval.ms", "16001"),
		{key: "group.consumer.session.timeout.ms", how: static, see: func(t *testing.T) {
			w := rawNode(t, vfs.NewMem(), map[string]string{"offsets.topic.num.partitions": "1", "group.consumer.min.session.timeout.ms": "300",
				"group.consumer.session.timeout.ms": "300", "group.consumer.min.heartbeat.interval.ms": "100", "group.consumer.heartbeat.interval.ms": "100"})
			w.coordinator()
			expires(w)
		}},
		staticProof("group.consumer.max.size", "1", onePartition, func(w *world) {
			w.coordinator()
			w.want(w.joinConsumer("g", "a", nil).ErrorCode, wire.ErrNone)
			w.want(w.joinConsumer("g", "b", nil).ErrorCode, wire.ErrGroupMaxSizeReached)
		}),
		staticProof("group.consumer.assignors", "range", onePartition, func(w *world) {
			w.coordinator()
			uniform, ranged := "uniform", "range"
			w.want(w.joinConsumer("g", "a", &uniform).ErrorCode, wire.ErrUnsupportedAssignor)
			w.want(w.joinConsumer("g", "a", &ranged).ErrorCode, wire.ErrNone)
		}),
		staticProof("group.consumer.migration.policy", "disabled", onePartition, func(w *world) {
			w.coordinator()
			w.want(migrates(w, "g"), wire.ErrGroupIDNotFound)
		}),
		staticProof("group.coordinator.rebalance.protocols", "classic", onePartition, func(w *world) {
			w.coordinator()
			w.want(w.joinConsumer("g", "a", nil).ErrorCode, wire.ErrUnsupportedVersion)
		}),
		{key: "group.consumer.regex.refresh.interval.ms", how: static, elsewhere: "internal/core/group.TestScenarios"},
		{scope: conf.GroupScope, key: "consumer.heartbeat.interval.ms", how: static, see: func(t *testing.T) {
			w := newConsumerWorld(t)
			w.alter(groupResource, "g", "consumer.heartbeat.interval.ms", "7000")
			w.eventually(func() string { return differs(fmt.Sprint(w.joinConsumer("g", "a", nil).HeartbeatIntervalMs), "7000") })
			w.want(w.joinConsumer("other", "a", nil).HeartbeatIntervalMs, 5000)
		}},
		{scope: conf.GroupScope, key: "consumer.session.timeout.ms", how: static, see: func(t *testing.T) {
			w := rawNode(t, vfs.NewMem(), map[string]string{"offsets.topic.num.partitions": "1", "group.consumer.min.session.timeout.ms": "300",
				"group.consumer.min.heartbeat.interval.ms": "100", "group.consumer.heartbeat.interval.ms": "100"})
			w.coordinator()
			w.alterAndSee(groupResource, "g", "consumer.session.timeout.ms", "300")
			expires(w)
		}},
		{scope: conf.GroupScope, key: "consumer.assignment.interval.ms", how: static, see: func(t *testing.T) {
			w := newConsumerWorld(t)
			n := 0
			w.eventually(func() string {
				n++
				name := fmt.Sprint("g", n)
				w.alter(groupResource, name, "consumer.assignment.interval.ms", "15000")
				return differs(assigns(w, name), "later")
			})
			w.eventually(func() string {
				n++
				name := fmt.Sprint("g", n)
				w.alter(groupResource, name, "consumer.assignment.interval.ms", "0")
				return differs(assigns(w, name), "at once")
			})
		}},
	}
	n := 0
	return append(out, dynamicProofs("group.consumer.assignment.interval.ms", "0", onePartition, func(w *world) string {
		w.coordinator()
		n++
		return assigns(w, fmt.Sprint("group-", n))
	}, "later", "at once")...)
}

func newConsumerWorld(t *testing.T) *world {
	t.Helper()
	w := rawNode(t, vfs.NewMem(), onePartition)
	w.coordinator()
	return w
}

// joinConsumer enters a consumer group, subscribed to t.
func (w *world) joinConsumer(group, member string, assignor *string) api.ConsumerGroupHeartbeatResponse {
	w.t.Helper()
	var a api.ConsumerGroupHeartbeatResponse
	w.call(1, &api.ConsumerGroupHeartbeatRequest{GroupID: group, MemberID: member, RebalanceTimeoutMs: 10_000, SubscribedTopicNames: []string{"t"},
		ServerAssignor: assignor, TopicPartitions: []api.ConsumerGroupHeartbeatRequestTopicPartition{}}, &a)
	return a
}

func (w *world) describeConsumer(group string) api.ConsumerGroupDescribeResponseGroup {
	w.t.Helper()
	var a api.ConsumerGroupDescribeResponse
	w.call(1, &api.ConsumerGroupDescribeRequest{GroupIDs: []string{group}}, &a)
	return a.Groups[0]
}

// expires sees a member go that sends no heartbeats.
func expires(w *world) {
	w.t.Helper()
	w.eventually(func() string { return differs(w.joinConsumer("g", "a", nil).ErrorCode.Name(), "NONE") })
	start := time.Now()
	w.eventually(func() string { return differs(fmt.Sprint(len(w.describeConsumer("g").Members)), "0") })
	if took := time.Since(start); took > 20*time.Second {
		w.t.Errorf("the member is gone after %v", took)
	}
}

// assigns says when a group with a fresh assignment makes the next one.
func assigns(w *world, group string) string {
	w.t.Helper()
	w.joinConsumer(group, "a", nil)
	w.joinConsumer(group, "b", nil)
	if g := w.describeConsumer(group); g.AssignmentEpoch == g.GroupEpoch {
		return "at once"
	}
	return "later"
}

// migrates lets a member of the other protocol enter a classic group that has one.
func migrates(w *world, group string) wire.ErrorCode {
	w.t.Helper()
	var a api.JoinGroupResponse
	w.call(3, &api.JoinGroupRequest{GroupID: group, SessionTimeoutMs: 10_000, RebalanceTimeoutMs: 1000, ProtocolType: "consumer",
		Protocols: []api.JoinGroupRequestProtocol{{Name: "range", Metadata: logrec.EncodeVersioned(&logrec.ConsumerProtocolSubscription{Topics: []string{"t"}}, 0)}}}, &a)
	w.want(a.ErrorCode, wire.ErrNone)
	return w.joinConsumer(group, "b", nil).ErrorCode
}

package group

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// inVersion encodes what consumers tell each other. A version of the future has more behind what is known.
func inVersion(v wire.Message, version int16) []byte {
	b := logrec.EncodeVersioned(v, min(version, highestConsumerProtocol))
	if version > highestConsumerProtocol {
		binary.BigEndian.PutUint16(b, uint16(version))
		b = append(b, "later"...)
	}
	return b
}

// TestClassicVersions: whichever version of the consumers' own protocol a classic member speaks, its group can become a consumer group
// and take it over, it can join a consumer group, and it gets its assignment in that version, or the newest known one.
func TestClassicVersions(t *testing.T) {
	rack := "r"
	for version := int16(0); version <= highestConsumerProtocol+2; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			known := min(version, highestConsumerProtocol)
			sub := &logrec.ConsumerProtocolSubscription{Topics: []string{"t"}, GenerationID: -1, RackID: &rack,
				OwnedPartitions: []logrec.ConsumerProtocolSubscriptionOwnedPartition{}}
			given := &logrec.ConsumerProtocolAssignment{AssignedPartitions: []logrec.ConsumerProtocolAssignmentAssignedPartition{{Topic: "t", Partitions: []int32{0, 1}}}}
			w := newClassicWorld(t)
			a := w.joins("a", "", inVersion(sub, version))
			w.advance(w.cfg.InitialRebalanceDelay)
			sync := api.NewSyncGroupRequest()
			sync.GroupID, sync.MemberID, sync.GenerationID = "g", w.s.classic("g").first().id, 1
			sync.Assignments = []api.SyncGroupRequestAssignment{{MemberID: sync.MemberID, Assignment: inVersion(given, version)}}
			w.do("a", 5, func(t Turn) shard.Result { return w.s.SyncGroup(t, sync) })
			if a != nil {
				t.Fatalf("joined before the rebalance was over: %v", a)
			}

			beat := api.NewConsumerGroupHeartbeatRequest()
			beat.GroupID, beat.MemberID, beat.RebalanceTimeoutMs, beat.SubscribedTopicNames, beat.TopicPartitions = "g", "x", 1000, []string{}, []heartbeatPartitions{}
			w.do("x", 1, func(t Turn) shard.Result { return w.s.ConsumerGroupHeartbeat(t, beat) })
			m := w.s.groups["g"].consumer.member(sync.MemberID)
			if want := (partitionList{{topicID("t"), []int32{0, 1}}}); !m.assigned.list().equal(want) || !slices.Equal(m.topics, sub.Topics) {
				t.Errorf("after the upgrade a has %v of %v", m.assigned, m.topics)
			}
			if got := m.rack != nil && *m.rack == rack; got != (known >= 3) {
				t.Errorf("after the upgrade a is in rack %s", text(m.rack))
			}

			joined := w.joins("a", sync.MemberID, inVersion(sub, version))
			if joined == nil || joined.ErrorCode != wire.ErrNone {
				t.Fatalf("a joins again: %+v", joined)
			}
			sync.GenerationID, sync.Assignments = joined.GenerationID, nil
			w.do("a", 5, func(t Turn) shard.Result { return w.s.SyncGroup(t, sync) })
			if got, want := w.told.(*api.SyncGroupResponse).Assignment, logrec.EncodeVersioned(given, known); string(got) != string(want) {
				t.Errorf("a is told %q, not %q", got, want)
			}
			if b := w.joins("b", "", inVersion(sub, version)); b == nil || b.ErrorCode != wire.ErrNone {
				t.Errorf("b joins: %+v", b)
			}
		})
	}
}

// TestClassicCannotBeRead: neither a subscription that says it is known and is not, nor one that is cut off anywhere, gets into a
// consumer group or lets its group become one.
func TestClassicCannotBeRead(t *testing.T) {
	whole := ownedMetadata([]string{"t"}, []string{"t-0"})
	bad := map[string][]byte{
		"no array of topics": {0, 1, 0xff, 0xff, 0xff, 0xff},
		"no version":         {},
		"a negative version": {0xff, 0xff, 0, 0, 0, 0},
		"many topics":        {0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, 't'},
	}
	for n := range whole {
		bad[fmt.Sprintf("%d bytes", n)] = whole[:n]
	}
	for name, metadata := range bad {
		t.Run(name, func(t *testing.T) {
			w := newClassicWorld(t)
			w.joins("a", "", metadata)
			w.advance(w.cfg.InitialRebalanceDelay)
			beat := api.NewConsumerGroupHeartbeatRequest()
			beat.MemberID, beat.RebalanceTimeoutMs, beat.SubscribedTopicNames, beat.TopicPartitions = "x", 1000, []string{"t"}, []heartbeatPartitions{}
			for group, want := range map[string]wire.ErrorCode{"g": wire.ErrGroupIDNotFound, "h": wire.ErrNone} {
				beat.GroupID = group
				w.do("x", 1, func(t Turn) shard.Result { return w.s.ConsumerGroupHeartbeat(t, beat) })
				if got := w.told.(*api.ConsumerGroupHeartbeatResponse).ErrorCode; got != want {
					t.Errorf("x joins %s: %v", group, got.Name())
				}
			}
			req := classicJoin("h", "", metadata)
			w.do("b", 3, func(t Turn) shard.Result { return w.s.JoinGroup(t, req) })
			if got := w.told.(*api.JoinGroupResponse).ErrorCode; got != wire.ErrInconsistentGroupProtocol {
				t.Errorf("b joins h: %v", got.Name())
			}
		})
	}
}

// classicWorld keeps the last answer.
type classicWorld struct {
	*world
	told any
}

func newClassicWorld(t *testing.T) *classicWorld {
	cfg := DefaultConfig()
	cfg.Consumer.AssignmentInterval = 0
	w := &classicWorld{world: newWorld(t, cfg, 1)}
	w.heard = func(_ shard.Ticket, body any) { w.told = body }
	w.change(&logrec.TopicRecord{Name: "t", TopicID: topicID("t")},
		&logrec.PartitionRecord{TopicID: topicID("t"), PartitionID: 0, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1},
		&logrec.PartitionRecord{TopicID: topicID("t"), PartitionID: 1, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1})
	return w
}

func classicJoin(group, memberID string, metadata []byte) *api.JoinGroupRequest {
	req := api.NewJoinGroupRequest()
	req.GroupID, req.MemberID, req.ProtocolType, req.SessionTimeoutMs, req.RebalanceTimeoutMs = group, memberID, consumerProtocol, 10_000, 10_000
	req.Protocols = []api.JoinGroupRequestProtocol{{Name: "range", Metadata: metadata}}
	return req
}

// joins sends a JoinGroup to group g, and returns the answer if it is there.
func (w *classicWorld) joins(name, memberID string, metadata []byte) *api.JoinGroupResponse {
	w.told = nil
	req := classicJoin("g", memberID, metadata)
	w.do(name, 3, func(t Turn) shard.Result { return w.s.JoinGroup(t, req) })
	resp, _ := w.told.(*api.JoinGroupResponse)
	return resp
}

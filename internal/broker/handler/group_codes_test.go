package handler

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// poorLog is the one partition of __consumer_offsets with whatever is wrong with it.
type poorLog struct {
	mu       sync.Mutex
	refuse   wire.ErrorCode // of appends
	hold     bool           // nothing is committed any more
	loaded   chan struct{}  // reads wait for it
	end, hw  id.Offset
	advanced func(id.Offset)
}

func (l *poorLog) Append(_ int32, _ id.LeaderEpoch, batch coord.Batch) (id.Offset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != wire.ErrNone {
		return 0, l.refuse
	}
	b, _, err := record.Next(batch.Bytes)
	if err != nil {
		return 0, err
	}
	b.SetBaseOffset(l.end)
	l.end = b.NextOffset()
	if !l.hold {
		l.hw = l.end
		l.advanced(l.hw)
	}
	return l.end, nil
}

func (l *poorLog) Read(int32, id.LeaderEpoch, id.Offset, int, []byte) ([]byte, error) {
	<-l.loaded
	return nil, nil
}

func (l *poorLog) Ends(int32, id.LeaderEpoch) (coord.Ends, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return coord.Ends{HighWatermark: l.hw, End: l.end}, nil
}

func (l *poorLog) Watch(_ int32, advanced func(id.Offset)) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advanced = advanced
	return func() {}, nil
}

func (l *poorLog) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// newPoorRig is a group desk over a poorLog. Nobody has elected the partition yet.
func newPoorRig(t *testing.T, writeTimeout time.Duration) (*poorLog, *coord.Groups, *client) {
	t.Helper()
	c, _, err := conf.Load(map[string]string{"process.roles": "broker,controller", "node.id": "1", "controller.quorum.voters": "1@localhost:9093",
		"controller.listener.names": "CONTROLLER", "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := image.NewDelta(image.Empty())
	level := logrec.FeatureLevelRecord{Name: "group.version", FeatureLevel: 1}
	for _, r := range []logrec.MetadataRecord{&level,
		&logrec.TopicRecord{Name: offsetsTopic, TopicID: testTopicID(offsetsTopic)}, &logrec.PartitionRecord{TopicID: testTopicID(offsetsTopic)},
		&logrec.TopicRecord{Name: "orders", TopicID: testTopicID("orders")}, &logrec.PartitionRecord{TopicID: testTopicID("orders")}} {
		if err := d.Replay(r); err != nil {
			t.Fatal(err)
		}
	}
	img := d.Apply(image.Provenance{Offset: 1, Epoch: 1})
	l := &poorLog{loaded: make(chan struct{})}
	o := coord.GroupOptions(c)
	o.Log, o.WriteTimeout = l, writeTimeout
	groups := coord.New(o)
	t.Cleanup(groups.Close)
	reg := server.NewRegistry()
	NewGroupDesk(GroupDeps{Groups: groups, Config: coord.GroupConfig(c), Places: new(Places), Image: func() *image.Image { return img }}).Register(reg)
	door := server.New(server.Options{Registry: reg})
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go door.Serve(at, server.ConnTemplate{Listener: "PLAINTEXT", SecurityProtocol: "PLAINTEXT", Principal: "User:ANONYMOUS"})
	t.Cleanup(door.Close)
	return l, groups, (&groupRig{t: t, addr: at.Addr().String()}).dial()
}

// told sends a request and tells of the answer where it says how it went.
func (c *client) told(version int16, req wire.Request) string {
	c.t.Helper()
	c.send(version, req)
	return c.hears(version, req.APIKey())
}

func (c *client) hears(version int16, key wire.APIKey) string {
	c.t.Helper()
	get := func(resp wire.Message) { c.receive(version, key, resp) }
	switch key {
	case wire.JoinGroup:
		var r api.JoinGroupResponse
		get(&r)
		return fmt.Sprintf("%s member=%s generation=%d", r.ErrorCode.Name(), r.MemberID, r.GenerationID)
	case wire.SyncGroup:
		var r api.SyncGroupResponse
		get(&r)
		return fmt.Sprintf("%s assignment=%q", r.ErrorCode.Name(), r.Assignment)
	case wire.Heartbeat:
		var r api.HeartbeatResponse
		get(&r)
		return r.ErrorCode.Name()
	case wire.LeaveGroup:
		var r api.LeaveGroupResponse
		get(&r)
		return fmt.Sprintf("%s members=%d", r.ErrorCode.Name(), len(r.Members))
	case wire.OffsetCommit:
		var r api.OffsetCommitResponse
		get(&r)
		return r.Topics[0].Partitions[0].ErrorCode.Name()
	case wire.TxnOffsetCommit:
		var r api.TxnOffsetCommitResponse
		get(&r)
		return r.Topics[0].Partitions[0].ErrorCode.Name()
	case wire.OffsetFetch:
		var r api.OffsetFetchResponse
		get(&r)
		s := r.ErrorCode.Name()
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				s += fmt.Sprintf(" %s-%d=%s/%d/%d/%q", t.Name, p.PartitionIndex, p.ErrorCode.Name(), p.CommittedOffset, p.CommittedLeaderEpoch, *p.Metadata)
			}
		}
		for _, g := range r.Groups {
			s += fmt.Sprintf(" %s=%s/%d", g.GroupID, g.ErrorCode.Name(), len(g.Topics))
		}
		return s
	case wire.OffsetDelete:
		var r api.OffsetDeleteResponse
		get(&r)
		return fmt.Sprintf("%s topics=%d", r.ErrorCode.Name(), len(r.Topics))
	case wire.DescribeGroups:
		var r api.DescribeGroupsResponse
		get(&r)
		return fmt.Sprintf("%s state=%q", r.Groups[0].ErrorCode.Name(), r.Groups[0].GroupState)
	case wire.ListGroups:
		var r api.ListGroupsResponse
		get(&r)
		return r.ErrorCode.Name()
	case wire.DeleteGroups:
		var r api.DeleteGroupsResponse
		get(&r)
		return r.Results[0].ErrorCode.Name()
	case wire.ConsumerGroupHeartbeat:
		var r api.ConsumerGroupHeartbeatResponse
		get(&r)
		s := r.ErrorCode.Name()
		if r.ErrorMessage != nil {
			s += " " + *r.ErrorMessage
		}
		return s
	case wire.ConsumerGroupDescribe:
		var r api.ConsumerGroupDescribeResponse
		get(&r)
		return r.Groups[0].ErrorCode.Name()
	}
	c.t.Fatalf("no words for %v", key)
	return ""
}

func txnCommitOf(group string) *api.TxnOffsetCommitRequest {
	req := api.NewTxnOffsetCommitRequest()
	p := api.TxnOffsetCommitRequestTopicPartition{CommittedLeaderEpoch: -1, CommittedMetadata: new("")}
	req.TransactionalID, req.GroupID, req.ProducerID = "t", group, 1
	req.Topics = []api.TxnOffsetCommitRequestTopic{{Name: "orders", Partitions: []api.TxnOffsetCommitRequestTopicPartition{p}}}
	return req
}

func fetchOf(stable bool) *api.OffsetFetchRequest {
	req := api.NewOffsetFetchRequest()
	g := api.NewOffsetFetchRequestGroup()
	g.GroupID, g.Topics = "g", []api.OffsetFetchRequestGroupTopic{{Name: "orders", PartitionIndexes: []int32{0}}}
	req.GroupID, req.RequireStable, req.Groups = "g", stable, []api.OffsetFetchRequestGroup{g}
	req.Topics = []api.OffsetFetchRequestTopic{{Name: "orders", PartitionIndexes: []int32{0}}}
	return req
}

func deleteOf(group string) *api.OffsetDeleteRequest {
	return &api.OffsetDeleteRequest{GroupID: group, Topics: []api.OffsetDeleteRequestTopic{{Name: "orders", Partitions: []api.OffsetDeleteRequestTopicPartition{{}}}}}
}

func joinOf(group string, sessionMs int32) *api.JoinGroupRequest {
	req := api.NewJoinGroupRequest()
	req.GroupID, req.MemberID, req.SessionTimeoutMs, req.RebalanceTimeoutMs, req.ProtocolType = group, "m", sessionMs, 1000, "consumer"
	return req
}

// beatOf is the first heartbeat of member m, as change makes it.
func beatOf(change func(*api.ConsumerGroupHeartbeatRequest)) *api.ConsumerGroupHeartbeatRequest {
	req := api.NewConsumerGroupHeartbeatRequest()
	req.GroupID, req.MemberID, req.RebalanceTimeoutMs = "g", "m", 5000
	req.SubscribedTopicNames, req.TopicPartitions = []string{"orders"}, []api.ConsumerGroupHeartbeatRequestTopicPartition{}
	if change != nil {
		change(req)
	}
	return req
}

// TestGroupsUndecided asks every API of groups while its partition has nobody to decide.
func TestGroupsUndecided(t *testing.T) {
	const second = 10_000
	asked := []struct {
		name    string
		version int16
		req     wire.Request
		want    string // with CODE for that of the partition
		loading string // if it is another while the partition loads
	}{
		{"join", 9, joinOf("g", second), "CODE member= generation=-1", ""},
		{"sync", 3, &api.SyncGroupRequest{GroupID: "g", MemberID: "m"}, `CODE assignment=""`, ""},
		{"heartbeat", 4, &api.HeartbeatRequest{GroupID: "g", MemberID: "m"}, "CODE", "NONE"}, // sessions start when the group has loaded
		{"leave", 2, &api.LeaveGroupRequest{GroupID: "g", MemberID: "m"}, "CODE members=0", ""},
		{"leave", 5, &api.LeaveGroupRequest{GroupID: "g", Members: []api.LeaveGroupRequestMember{{MemberID: "m"}}}, "CODE members=0", ""},
		{"commit", 9, commitOf("orders", 1), "CODE", ""},
		{"commit in a transaction", 1, txnCommitOf("g"), "CODE", "COORDINATOR_NOT_AVAILABLE"}, // see asTxnOffsetCommit
		{"commit in a transaction", 2, txnCommitOf("g"), "CODE", ""},
		{"fetch", 1, fetchOf(false), `NONE orders-0=CODE/-1/-1/""`, ""},
		{"fetch", 2, fetchOf(false), "CODE", ""},
		{"fetch", 8, fetchOf(false), "NONE g=CODE/0", ""},
		{"fetch stable", 7, fetchOf(true), "CODE", ""},
		{"delete offsets", 0, deleteOf("g"), "CODE topics=0", ""},
		{"describe", 6, &api.DescribeGroupsRequest{Groups: []string{"g"}}, `CODE state=""`, ""},
		{"delete", 3, &api.DeleteGroupsRequest{GroupsNames: []string{"g"}}, "CODE", ""},
		{"consumer heartbeat", 1, beatOf(nil), "CODE", ""},
		{"consumer describe", 1, &api.ConsumerGroupDescribeRequest{GroupIDs: []string{"g"}}, "CODE", ""},
	}
	wrong := []struct {
		name    string
		version int16
		req     wire.Request
		want    string
	}{
		{"join without a group", 9, joinOf("", second), "INVALID_GROUP_ID member=m generation=-1"},
		{"join with a short session", 9, joinOf("g", 5999), "INVALID_SESSION_TIMEOUT member=m generation=-1"},
		{"join with a long session", 9, joinOf("g", 1800001), "INVALID_SESSION_TIMEOUT member=m generation=-1"},
		{"sync without a group", 3, &api.SyncGroupRequest{MemberID: "m"}, `INVALID_GROUP_ID assignment=""`},
		{"sync without a protocol", 5, &api.SyncGroupRequest{GroupID: "g", MemberID: "m"}, `INCONSISTENT_GROUP_PROTOCOL assignment=""`},
		{"heartbeat without a group", 4, &api.HeartbeatRequest{MemberID: "m"}, "INVALID_GROUP_ID"},
		{"leave without a group", 2, &api.LeaveGroupRequest{MemberID: "m"}, "INVALID_GROUP_ID members=0"},
		{"leave without a group", 5, &api.LeaveGroupRequest{Members: []api.LeaveGroupRequestMember{{MemberID: "m"}}}, "INVALID_GROUP_ID members=0"},
		{"commit in a transaction without a group", 2, txnCommitOf(""), "INVALID_GROUP_ID"},
		{"delete offsets without a group", 0, deleteOf(""), "INVALID_GROUP_ID topics=0"},
		{"consumer describe without a group", 1, &api.ConsumerGroupDescribeRequest{GroupIDs: []string{""}}, "INVALID_GROUP_ID"},
	}
	for _, w := range []struct {
		why    string
		change func(*api.ConsumerGroupHeartbeatRequest)
	}{
		{"INVALID_REQUEST MemberId can't be empty.", func(r *api.ConsumerGroupHeartbeatRequest) { r.MemberID = "" }},
		{"INVALID_REQUEST MemberId can't be empty.", func(r *api.ConsumerGroupHeartbeatRequest) { r.MemberID, r.MemberEpoch = " ", -1 }},
		{"INVALID_REQUEST GroupId can't be empty.", func(r *api.ConsumerGroupHeartbeatRequest) { r.GroupID = "" }},
		{"INVALID_REQUEST GroupId can't be empty.", func(r *api.ConsumerGroupHeartbeatRequest) { r.GroupID = " \t\x00" }},
		{"INVALID_REQUEST RebalanceTimeoutMs must be provided in first request.", func(r *api.ConsumerGroupHeartbeatRequest) { r.RebalanceTimeoutMs = -1 }},
		{"INVALID_REQUEST TopicPartitions must be empty when (re-)joining.", func(r *api.ConsumerGroupHeartbeatRequest) { r.TopicPartitions = nil }},
		{"INVALID_REQUEST Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
			func(r *api.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicNames = nil }},
		{"INVALID_REQUEST InstanceId can't be empty.", func(r *api.ConsumerGroupHeartbeatRequest) { r.MemberEpoch, r.InstanceID = 1, new(" ") }},
		{"INVALID_REQUEST RackId can't be empty.", func(r *api.ConsumerGroupHeartbeatRequest) { r.MemberEpoch, r.RackID = 1, new("") }},
		{"UNSUPPORTED_ASSIGNOR ServerAssignor bar is not supported. Supported assignors: uniform, range.",
			func(r *api.ConsumerGroupHeartbeatRequest) { r.MemberEpoch, r.ServerAssignor = 1, new("bar") }},
		{"INVALID_REQUEST InstanceId can't be null.", func(r *api.ConsumerGroupHeartbeatRequest) { r.MemberEpoch = -2 }},
		{"INVALID_REQUEST MemberEpoch is invalid.", func(r *api.ConsumerGroupHeartbeatRequest) { r.MemberEpoch = -3 }},
	} {
		wrong = append(wrong, struct {
			name    string
			version int16
			req     wire.Request
			want    string
		}{"consumer heartbeat", 1, beatOf(w.change), w.why})
	}
	l, groups, c := newPoorRig(t, 0)
	check := func(when string, code wire.ErrorCode, list, whatIsWrong bool) {
		t.Helper()
		for _, a := range asked {
			want := strings.ReplaceAll(a.want, "CODE", code.Name())
			if code == wire.ErrCoordinatorNotAvailable {
				want = strings.ReplaceAll(want, "member=", "member=m")
			}
			if a.loading != "" && code == wire.ErrCoordinatorLoadInProgress {
				want = a.loading
			}
			if got := c.told(a.version, a.req); got != want {
				t.Errorf("%s: %s %d: %s, want %s", when, a.name, a.version, got, want)
			}
		}
		// Partitions that are elsewhere are somebody else's to list.
		want := wire.ErrNone
		if list {
			want = code
		}
		if got := c.told(5, &api.ListGroupsRequest{}); got != want.Name() {
			t.Errorf("%s: list: %s, want %s", when, got, want.Name())
		}
		if !whatIsWrong {
			return
		}
		for _, w := range wrong {
			if got := c.told(w.version, w.req); got != w.want {
				t.Errorf("%s: %s: %s, want %s", when, w.name, got, w.want)
			}
		}
	}
	check("led elsewhere", wire.ErrNotCoordinator, false, true)
	groups.Elected(0, 1)
	check("loading", wire.ErrCoordinatorLoadInProgress, true, true)
	close(l.loaded)
	c.ready("g")
	for _, w := range wrong {
		if got := c.told(w.version, w.req); got != w.want {
			t.Errorf("loaded: %s: %s, want %s", w.name, got, w.want)
		}
	}
	groups.Close()
	check("down", wire.ErrCoordinatorNotAvailable, true, false)
	if got, want := c.told(9, joinOf("", second)), "COORDINATOR_NOT_AVAILABLE member=m generation=-1"; got != want {
		t.Errorf("down: join without a group: %s, want %s", got, want)
	}
}

// TestGroupsUnwritten: what the log of the group's partition says to a write means nothing to a client of the group.
func TestGroupsUnwritten(t *testing.T) {
	l, groups, c := newPoorRig(t, 0)
	close(l.loaded)
	for refused, want := range map[wire.ErrorCode]wire.ErrorCode{
		wire.ErrUnknownTopicOrPartition: wire.ErrCoordinatorNotAvailable,
		wire.ErrNotEnoughReplicas:       wire.ErrCoordinatorNotAvailable,
		wire.ErrRequestTimedOut:         wire.ErrCoordinatorNotAvailable,
		wire.ErrNotLeaderOrFollower:     wire.ErrNotCoordinator,
		wire.ErrKafkaStorageError:       wire.ErrNotCoordinator,
		wire.ErrMessageTooLarge:         wire.ErrUnknownServerError,
		wire.ErrRecordListTooLarge:      wire.ErrUnknownServerError,
		wire.ErrInvalidFetchSize:        wire.ErrUnknownServerError,
		wire.ErrInvalidRecord:           wire.ErrInvalidRecord,
	} {
		// Some of these end the leadership. Each begins with a new one, of an empty log.
		l.set(func() { l.refuse, l.end, l.hw = wire.ErrNone, 0, 0 })
		groups.Elected(0, 1)
		c.ready("g")
		if got := c.told(9, commitOf("orders", 1)); got != "NONE" {
			t.Fatal(got)
		}
		l.set(func() { l.refuse = refused })
		for name, got := range map[string]string{
			"commit":             c.told(9, commitOf("orders", 2)),
			"delete offsets":     strings.TrimSuffix(c.told(0, deleteOf("g")), " topics=0"),
			"delete":             c.told(3, &api.DeleteGroupsRequest{GroupsNames: []string{"g"}}),
			"consumer heartbeat": c.told(1, beatOf(func(r *api.ConsumerGroupHeartbeatRequest) { r.GroupID = "new" })),
		} {
			if got != want.Name() {
				t.Errorf("%s: %s: %s, want %s", refused.Name(), name, got, want.Name())
			}
		}
		groups.Resigned(0, id.NoLeaderEpoch)
	}
}

// TestGroupsUncommitted: who waits in vain for a commit is told to try again, in words that he understands.
func TestGroupsUncommitted(t *testing.T) {
	l, groups, c := newPoorRig(t, 10*time.Millisecond)
	close(l.loaded)
	groups.Elected(0, 1)
	c.ready("g")
	l.set(func() { l.hold = true })
	if got := c.told(9, commitOf("orders", 1)); got != "COORDINATOR_NOT_AVAILABLE" {
		t.Errorf("commit: %s", got)
	}
	for version, want := range map[int16]string{1: `NONE orders-0=NONE/-1/-1/""`, 7: "NOT_COORDINATOR", 9: "NONE g=NOT_COORDINATOR/0"} {
		if got := c.told(version, fetchOf(version >= 7)); got != want {
			t.Errorf("fetch %d: %s, want %s", version, got, want)
		}
	}
}

// TestFetchRefused: who is no member of the group hears nothing of topics, not even that they are unknown.
func TestFetchRefused(t *testing.T) {
	l, groups, c := newPoorRig(t, 0)
	close(l.loaded)
	groups.Elected(0, 1)
	c.ready("g")
	if got := c.told(1, beatOf(nil)); got != "NONE" {
		t.Fatal(got)
	}
	req := fetchOf(false)
	g := &req.Groups[0]
	g.Topics = []api.OffsetFetchRequestGroupTopic{{TopicID: testTopicID("orders"), PartitionIndexes: []int32{0}}, {TopicID: testTopicID("gone"), PartitionIndexes: []int32{0}}}
	if got, want := c.told(10, req), "NONE g=NONE/2"; got != want {
		t.Errorf("without a member: %s, want %s", got, want)
	}
	g.MemberID, g.MemberEpoch = new("nobody"), 1
	if got, want := c.told(10, req), "NONE g=UNKNOWN_MEMBER_ID/0"; got != want {
		t.Errorf("nobody: %s, want %s", got, want)
	}
	g.MemberID, g.MemberEpoch = new("m"), 0
	if got, want := c.told(10, req), "NONE g=STALE_MEMBER_EPOCH/0"; got != want {
		t.Errorf("in an old epoch: %s, want %s", got, want)
	}
}

// TestOffsetDeleteOfNoPartitions: a topic that does not exist is in the answer though nothing of it was asked for; one that exists is not.
func TestOffsetDeleteOfNoPartitions(t *testing.T) {
	l, groups, c := newPoorRig(t, 0)
	close(l.loaded)
	groups.Elected(0, 1)
	c.ready("g")
	if got := c.told(9, commitOf("orders", 1)); got != "NONE" {
		t.Fatal(got)
	}
	var resp api.OffsetDeleteResponse
	c.call(0, &api.OffsetDeleteRequest{GroupID: "g", Topics: []api.OffsetDeleteRequestTopic{{Name: "orders"}, {Name: "gone"}}}, &resp)
	if resp.ErrorCode != wire.ErrNone || len(resp.Topics) != 1 || resp.Topics[0].Name != "gone" || len(resp.Topics[0].Partitions) != 0 {
		t.Errorf("%+v", resp)
	}
}

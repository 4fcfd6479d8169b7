package handler

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// groupRig is the group desk over real floors in memory, behind a real door, with the metadata in the test's hands.
type groupRig struct {
	t       *testing.T
	manager *replica.Manager
	groups  *coord.Groups
	addr    string

	mu      sync.Mutex
	img     *image.Image
	offset  id.Offset
	created []string
	epoch   int32
}

func (r *groupRig) TopicConfig(*image.Image, string) replica.TopicConfig {
	return replica.TopicConfig{Log: log.DefaultConfig(), MinInSyncReplicas: 1}
}

func (r *groupRig) CreateInternalTopic(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.created = append(r.created, name)
}

func (r *groupRig) image() *image.Image {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.img
}

func (r *groupRig) replay(records ...logrec.MetadataRecord) {
	r.t.Helper()
	r.mu.Lock()
	d := image.NewDelta(r.img)
	for _, rec := range records {
		if err := d.Replay(rec); err != nil {
			r.t.Fatal(err)
		}
	}
	r.offset++
	r.img = d.Apply(image.Provenance{Offset: r.offset, Epoch: 1})
	img := r.img
	r.mu.Unlock()
	if err := r.manager.ApplyDelta(d, img); err != nil {
		r.t.Fatal(err)
	}
	if d.Topics() != nil {
		coord.ForgetTopics(r.groups, d.Topics().Deleted())
	}
}

func testTopicID(name string) id.UUID {
	var u id.UUID
	copy(u[:], name)
	u[15] = 1
	return u
}

func (r *groupRig) topic(name string, partitions int32) {
	u := testTopicID(name)
	recs := []logrec.MetadataRecord{&logrec.TopicRecord{Name: name, TopicID: u}}
	for n := range partitions {
		recs = append(recs, &logrec.PartitionRecord{PartitionID: n, TopicID: u, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1})
	}
	r.replay(recs...)
}

// lead changes the leader of all partitions of __consumer_offsets, or of those named.
func (r *groupRig) lead(leader int32, only ...int32) {
	var recs []logrec.MetadataRecord
	for _, p := range r.image().Topics.ByName(offsetsTopic).Partitions {
		if len(only) > 0 && !slices.Contains(only, p.ID) {
			continue
		}
		c := logrec.NewPartitionChangeRecord()
		c.PartitionID, c.TopicID, c.Leader = p.ID, testTopicID(offsetsTopic), leader
		recs = append(recs, c)
	}
	r.replay(recs...)
}

// newGroupRooms are groups over partitions, without a door.
func newGroupRooms(t *testing.T, overrides ...string) (*groupRig, *conf.Broker) {
	t.Helper()
	r := &groupRig{t: t, img: image.Empty()}
	logs, err := log.Open(log.Options{FS: vfs.NewMem(), Dirs: []string{"/data"}, Config: log.DefaultConfig(), ClusterID: "c", NodeID: 1, AutoFormat: true,
		RetentionCheckInterval: time.Hour, FlushCheckInterval: log.Forever, RecoveryPointInterval: time.Hour, StartOffsetInterval: time.Hour,
		HighWatermarkInterval: time.Hour, ProducerExpiration: 24 * time.Hour, ProducerExpirationInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	r.manager = replica.New(replica.Options{Self: 1, Logs: logs, Configs: r, LagMax: 30 * time.Second})
	c, _, err := conf.Load(map[string]string{"process.roles": "broker,controller", "node.id": "1", "controller.quorum.voters": "1@localhost:9093",
		"controller.listener.names": "CONTROLLER", "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093"}, append([]string{"group.initial.rebalance.delay.ms=0"}, overrides...))
	if err != nil {
		t.Fatal(err)
	}
	r.groups = coord.NewGroups(c, r.manager, nil, nil)
	r.replay(&logrec.RegisterBrokerRecord{BrokerID: 1, BrokerEpoch: 100, IncarnationID: id.UUID{9},
		EndPoints: []logrec.RegisterBrokerRecordEndPoint{{Name: "PLAINTEXT", Host: "here", Port: 9092}}})
	t.Cleanup(func() {
		r.groups.Close()
		r.manager.Close()
		if err := logs.Close(id.NoBrokerEpoch); err != nil {
			t.Error(err)
		}
	})
	return r, c
}

func newGroupRig(t *testing.T, overrides ...string) *groupRig {
	t.Helper()
	r, c := newGroupRooms(t, overrides...)
	reg := server.NewRegistry()
	NewGroupDesk(GroupDeps{Groups: r.groups, Places: new(Places), Image: r.image, Creator: r, Partitions: c.Int("offsets.topic.num.partitions")}).Register(reg)
	door := server.New(server.Options{Registry: reg})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	go door.Serve(l, server.ConnTemplate{Listener: "PLAINTEXT", SecurityProtocol: "PLAINTEXT", Principal: "User:ANONYMOUS"})
	t.Cleanup(door.Close)
	return r
}

// client is one raw connection.
type client struct {
	net.Conn
	t *testing.T
	n int32
}

func (r *groupRig) dial() *client {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return &client{Conn: c, t: r.t}
}

func (c *client) send(version int16, req wire.Request) {
	c.t.Helper()
	c.n++
	info, ok := api.Lookup(req.APIKey())
	if !ok {
		c.t.Fatalf("no API %v", req.APIKey())
	}
	header := int16(1)
	if info.FlexibleFrom >= 0 && version >= info.FlexibleFrom {
		header = 2
	}
	name := "client"
	w := new(wire.Writer)
	(&wire.RequestHeader{RequestApiKey: int16(req.APIKey()), RequestApiVersion: version, CorrelationID: c.n, ClientID: &name}).Encode(w, header)
	req.Encode(w, version)
	body, err := w.AppendTo(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) receive(version int16, key wire.APIKey, resp wire.Message) {
	c.t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		c.t.Fatalf("answer to %v version %d: %v", key, version, err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, body); err != nil {
		c.t.Fatal(err)
	}
	info, _ := api.Lookup(key)
	skip := 4
	if info.FlexibleFrom >= 0 && version >= info.FlexibleFrom {
		skip = 5
	}
	if got := int32(binary.BigEndian.Uint32(body)); got != c.n {
		c.t.Fatalf("correlation %d, want %d", got, c.n)
	}
	if err := wire.Unmarshal(body[skip:], resp, version); err != nil {
		c.t.Fatalf("answer to %v version %d: %v", key, version, err)
	}
}

func (c *client) call(version int16, req wire.Request, resp wire.Message) {
	c.t.Helper()
	c.send(version, req)
	c.receive(version, req.APIKey(), resp)
}

// ready asks until the coordinator of a group is there.
func (c *client) ready(name string) {
	c.t.Helper()
	for {
		var resp api.HeartbeatResponse
		c.call(4, &api.HeartbeatRequest{GroupID: name, MemberID: "nobody"}, &resp)
		if resp.ErrorCode == wire.ErrUnknownMemberID {
			return
		}
	}
}

func TestFindCoordinator(t *testing.T) {
	r := newGroupRig(t)
	c := r.dial()
	find := func(version int16, kind int8) (code wire.ErrorCode, where, message string) {
		var resp api.FindCoordinatorResponse
		c.call(version, &api.FindCoordinatorRequest{Key: "g", KeyType: kind, CoordinatorKeys: []string{"g"}}, &resp)
		text := func(s *string) string {
			if s == nil {
				return ""
			}
			return *s
		}
		if version < 4 {
			return resp.ErrorCode, fmt.Sprintf("%d@%s:%d", resp.NodeID, resp.Host, resp.Port), text(resp.ErrorMessage)
		}
		one := resp.Coordinators[0]
		return one.ErrorCode, fmt.Sprintf("%s %d@%s:%d", one.Key, one.NodeID, one.Host, one.Port), text(one.ErrorMessage)
	}
	check := func(version int16, kind int8, code wire.ErrorCode, where, message string) {
		t.Helper()
		gotCode, gotWhere, gotMessage := find(version, kind)
		if gotCode != code || gotWhere != where || gotMessage != message {
			t.Errorf("version %d key type %d: %v %q %q, want %v %q %q", version, kind, gotCode, gotWhere, gotMessage, code, where, message)
		}
	}
	check(0, 0, wire.ErrCoordinatorNotAvailable, "-1@:-1", "")
	check(4, 0, wire.ErrCoordinatorNotAvailable, "g -1@:-1", "")
	r.mu.Lock()
	if len(r.created) != 2 || r.created[0] != offsetsTopic {
		t.Errorf("created %v", r.created)
	}
	r.mu.Unlock()
	check(4, 1, wire.ErrCoordinatorNotAvailable, "g -1@:-1", "")
	check(2, 1, wire.ErrCoordinatorNotAvailable, "-1@:-1", wire.ErrCoordinatorNotAvailable.Message())
	r.topic(offsetsTopic, 3)
	r.topic(coord.TransactionsTopic, 2)
	check(0, 0, wire.ErrNone, "1@here:9092", "")
	check(3, 0, wire.ErrNone, "1@here:9092", "NONE")
	for version := int16(4); version <= 6; version++ {
		check(version, 0, wire.ErrNone, "g 1@here:9092", "")
		check(version, 1, wire.ErrNone, "g 1@here:9092", "")
		check(version, 2, wire.ErrInvalidRequest, "g -1@:-1", "")
		check(version, 9, wire.ErrInvalidRequest, "g -1@:-1", wire.ErrInvalidRequest.Message())
	}
	check(2, 1, wire.ErrNone, "1@here:9092", "NONE")
	r.lead(-1)
	check(4, 0, wire.ErrCoordinatorNotAvailable, "g -1@:-1", "")
	r.lead(1)
	r.replay(&logrec.FenceBrokerRecord{ID: 1, Epoch: 100})
	check(4, 0, wire.ErrCoordinatorNotAvailable, "g -1@:-1", "")
}

// TestMembershipAtEveryVersion takes a member through its life once per version of JoinGroup, with the others at theirs.
func TestMembershipAtEveryVersion(t *testing.T) {
	r := newGroupRig(t)
	r.topic(offsetsTopic, 3)
	c := r.dial()
	for version := range int16(10) {
		name := fmt.Sprintf("g%d", version)
		c.ready(name)
		req := api.NewJoinGroupRequest()
		req.GroupID, req.SessionTimeoutMs, req.RebalanceTimeoutMs, req.ProtocolType = name, 10_000, 10_000, "consumer"
		req.Protocols = []api.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{0, 0, 0, 0, 0, 0, 255, 255, 255, 255}}}
		var joined api.JoinGroupResponse
		c.call(version, req, &joined)
		if version >= 4 {
			if joined.ErrorCode != wire.ErrMemberIDRequired || joined.MemberID == "" {
				t.Fatalf("version %d: %v %q", version, joined.ErrorCode, joined.MemberID)
			}
			if (joined.ProtocolName == nil) != (version >= 7) {
				t.Errorf("version %d: protocol name %v in an error", version, joined.ProtocolName)
			}
			req.MemberID = joined.MemberID
			c.call(version, req, &joined)
		}
		if joined.ErrorCode != wire.ErrNone || joined.GenerationID != 1 || joined.Leader != joined.MemberID || len(joined.Members) != 1 || *joined.ProtocolName != "range" {
			t.Fatalf("version %d: joined %+v", version, joined)
		}
		sync := api.NewSyncGroupRequest()
		sync.GroupID, sync.GenerationID, sync.MemberID = name, 1, joined.MemberID
		sync.Assignments = []api.SyncGroupRequestAssignment{{MemberID: joined.MemberID, Assignment: []byte("mine")}}
		syncVersion := min(version, 5)
		var synced api.SyncGroupResponse
		if syncVersion == 5 {
			c.call(syncVersion, sync, &synced)
			if synced.ErrorCode != wire.ErrInconsistentGroupProtocol {
				t.Errorf("SyncGroup 5 without protocol: %v", synced.ErrorCode)
			}
			sync.ProtocolType, sync.ProtocolName = new("consumer"), new("range")
		}
		c.call(syncVersion, sync, &synced)
		if synced.ErrorCode != wire.ErrNone || string(synced.Assignment) != "mine" {
			t.Fatalf("version %d: synced %+v", version, synced)
		}
		var beat api.HeartbeatResponse
		c.call(min(version, 4), &api.HeartbeatRequest{GroupID: name, GenerationID: 1, MemberID: joined.MemberID}, &beat)
		if beat.ErrorCode != wire.ErrNone {
			t.Errorf("version %d: heartbeat %v", version, beat.ErrorCode)
		}
		var described api.DescribeGroupsResponse
		c.call(min(version, 6), &api.DescribeGroupsRequest{Groups: []string{name, "none"}, IncludeAuthorizedOperations: version >= 3}, &described)
		for _, g := range described.Groups {
			want := api.DescribeGroupsResponseGroup{GroupID: "none", GroupState: "Dead"}
			if g.GroupID == name {
				if len(g.Members) != 1 || string(g.Members[0].MemberAssignment) != "mine" || g.Members[0].ClientHost != "/127.0.0.1" || g.Members[0].ClientID != "client" {
					t.Errorf("version %d: described %+v", version, g)
				}
				g.Members = nil
				want = api.DescribeGroupsResponseGroup{GroupID: name, GroupState: "Stable", ProtocolType: "consumer", ProtocolData: "range"}
			} else if version >= 6 {
				want.ErrorCode = wire.ErrGroupIDNotFound
				want.ErrorMessage = new("Group none not found.")
			}
			want.AuthorizedOperations = -1 << 31
			if version >= 3 && want.ErrorCode == wire.ErrNone {
				want.AuthorizedOperations = allGroupOperations
			}
			g.Members = nil
			if d := cmp.Diff(want, g); d != "" {
				t.Errorf("version %d: described (-want +got)\n%s", version, d)
			}
		}
		var left api.LeaveGroupResponse
		leaveVersion := min(version, 5)
		leave := &api.LeaveGroupRequest{GroupID: name, MemberID: joined.MemberID, Members: []api.LeaveGroupRequestMember{{MemberID: joined.MemberID}, {MemberID: "x"}}}
		c.call(leaveVersion, leave, &left)
		if left.ErrorCode != wire.ErrNone || leaveVersion >= 3 && (left.Members[0].ErrorCode != wire.ErrNone || left.Members[1].ErrorCode != wire.ErrUnknownMemberID) {
			t.Errorf("version %d: left %+v", version, left)
		}
		c.call(leaveVersion, leave, &left)
		if leaveVersion < 3 && left.ErrorCode != wire.ErrUnknownMemberID {
			t.Errorf("version %d: left twice %+v", version, left)
		}
		var listed api.ListGroupsResponse
		c.call(min(version, 5), &api.ListGroupsRequest{}, &listed)
		if len(listed.Groups) != 1 || listed.Groups[0].GroupID != name || version >= 4 && listed.Groups[0].GroupState != "Empty" {
			t.Errorf("version %d: listed %+v", version, listed.Groups)
		}
		var deleted api.DeleteGroupsResponse
		c.call(min(version, 3), &api.DeleteGroupsRequest{GroupsNames: []string{name, "none", name}}, &deleted)
		got := map[string]wire.ErrorCode{}
		for _, d := range deleted.Results {
			got[d.GroupID] = d.ErrorCode
		}
		if d := cmp.Diff(map[string]wire.ErrorCode{name: 0, "none": wire.ErrGroupIDNotFound}, got); d != "" || len(deleted.Results) != 2 {
			t.Errorf("version %d: deleted %+v", version, deleted.Results)
		}
	}
}

// TestGroupsOfSeveralPartitions: of the groups of one request each is answered by its own partition.
func TestGroupsOfSeveralPartitions(t *testing.T) {
	r := newGroupRig(t)
	r.topic(offsetsTopic, 3)
	r.topic("orders", 1)
	level := logrec.FeatureLevelRecord{Name: "group.version", FeatureLevel: 1}
	r.replay(&level)
	c := r.dial()
	names := map[int32]string{} // by partition
	for n := 0; len(names) < 3; n++ {
		name := fmt.Sprintf("g%d", n)
		names[group.PartitionOf(name, 3)] = name
	}
	var all []string
	for p := range int32(3) {
		all = append(all, names[p])
		c.ready(names[p])
		req := commitOf("orders", 1)
		req.GroupID = names[p]
		if got := c.told(9, req); got != "NONE" {
			t.Fatal(got)
		}
	}
	r.lead(-1, 1)
	for c.told(4, &api.HeartbeatRequest{GroupID: names[1], MemberID: "nobody"}) != "NOT_COORDINATOR" {
	}
	for _, ask := range []struct {
		what  string
		codes func() map[string]wire.ErrorCode
		want  map[string]wire.ErrorCode
	}{
		{"list", func() map[string]wire.ErrorCode {
			var resp api.ListGroupsResponse
			c.call(5, &api.ListGroupsRequest{}, &resp)
			got := map[string]wire.ErrorCode{}
			for _, g := range resp.Groups {
				got[g.GroupID] = resp.ErrorCode
			}
			return got
		}, map[string]wire.ErrorCode{names[0]: 0, names[2]: 0}},
		{"describe", func() map[string]wire.ErrorCode {
			var resp api.DescribeGroupsResponse
			c.call(6, &api.DescribeGroupsRequest{Groups: all}, &resp)
			got := map[string]wire.ErrorCode{}
			for _, g := range resp.Groups {
				got[g.GroupID] = g.ErrorCode
			}
			return got
		}, map[string]wire.ErrorCode{names[0]: 0, names[1]: wire.ErrNotCoordinator, names[2]: 0}},
		{"describe consumers", func() map[string]wire.ErrorCode {
			var resp api.ConsumerGroupDescribeResponse
			c.call(1, &api.ConsumerGroupDescribeRequest{GroupIDs: append([]string{""}, all...)}, &resp)
			got := map[string]wire.ErrorCode{}
			for _, g := range resp.Groups {
				got[g.GroupID] = g.ErrorCode
			}
			return got
		}, map[string]wire.ErrorCode{"": wire.ErrInvalidGroupID, names[0]: wire.ErrGroupIDNotFound, names[1]: wire.ErrNotCoordinator, names[2]: wire.ErrGroupIDNotFound}},
		{"fetch", func() map[string]wire.ErrorCode {
			req := fetchOf(true)
			one := req.Groups[0]
			req.Groups = nil
			for _, name := range all {
				one.GroupID = name
				req.Groups = append(req.Groups, one)
			}
			var resp api.OffsetFetchResponse
			c.call(9, req, &resp)
			got := map[string]wire.ErrorCode{}
			for _, g := range resp.Groups {
				got[g.GroupID] = g.ErrorCode
			}
			return got
		}, map[string]wire.ErrorCode{names[0]: 0, names[1]: wire.ErrNotCoordinator, names[2]: 0}},
		{"delete", func() map[string]wire.ErrorCode {
			var resp api.DeleteGroupsResponse
			c.call(3, &api.DeleteGroupsRequest{GroupsNames: append(all, "")}, &resp)
			got := map[string]wire.ErrorCode{}
			for _, g := range resp.Results {
				got[g.GroupID] = g.ErrorCode
			}
			return got
		}, map[string]wire.ErrorCode{names[0]: 0, names[1]: wire.ErrNotCoordinator, names[2]: 0, "": wire.ErrGroupIDNotFound}},
	} {
		if d := cmp.Diff(ask.want, ask.codes()); d != "" {
			t.Errorf("%s (-want +got)\n%s", ask.what, d)
		}
	}
}

func TestOffsetsAtEveryVersion(t *testing.T) {
	r := newGroupRig(t)
	r.topic(offsetsTopic, 3)
	r.topic("orders", 2)
	c := r.dial()
	for version := int16(2); version <= 10; version++ {
		name := fmt.Sprintf("g%d", version)
		c.ready(name)
		req := api.NewOffsetCommitRequest()
		req.GroupID, req.RetentionTimeMs = name, -1
		part := func(n int32, offset int64) api.OffsetCommitRequestTopicPartition {
			p := api.NewOffsetCommitRequestTopicPartition()
			p.PartitionIndex, p.CommittedOffset, p.CommittedMetadata = n, offset, new("note")
			return p
		}
		named := version < 10
		topic := func(topicName string, parts ...api.OffsetCommitRequestTopicPartition) api.OffsetCommitRequestTopic {
			t := api.OffsetCommitRequestTopic{Partitions: parts}
			if t.TopicID = testTopicID(topicName); named {
				t.Name, t.TopicID = topicName, id.UUID{}
			}
			return t
		}
		req.Topics = []api.OffsetCommitRequestTopic{topic("gone", part(0, 1)), topic("orders", part(0, 5), part(9, 6)), topic("orders", part(1, 7))}
		var resp api.OffsetCommitResponse
		c.call(version, req, &resp)
		got := map[string]wire.ErrorCode{}
		for _, one := range resp.Topics {
			for _, p := range one.Partitions {
				got[fmt.Sprintf("%s%s-%d", one.Name, one.TopicID, p.PartitionIndex)] = p.ErrorCode
			}
		}
		key := func(topicName string, n int) string {
			if named {
				return fmt.Sprintf("%s%s-%d", topicName, id.UUID{}, n)
			}
			return fmt.Sprintf("%s-%d", testTopicID(topicName), n)
		}
		unknown := wire.ErrUnknownTopicOrPartition
		if !named {
			unknown = wire.ErrUnknownTopicID
		}
		want := map[string]wire.ErrorCode{key("gone", 0): unknown, key("orders", 0): 0, key("orders", 1): 0, key("orders", 9): wire.ErrUnknownTopicOrPartition}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("OffsetCommit %d (-want +got)\n%s", version, d)
		}
	}
	for version := int16(1); version <= 10; version++ {
		named := version < 10
		for _, stable := range []bool{false, version >= 7} {
			for _, all := range []bool{false, version >= 2} {
				req := api.NewOffsetFetchRequest()
				req.GroupID, req.RequireStable = "g7", stable
				g := api.NewOffsetFetchRequestGroup()
				g.GroupID = "g7"
				req.Topics = []api.OffsetFetchRequestTopic{{Name: "orders", PartitionIndexes: []int32{1, 0}}, {Name: "gone", PartitionIndexes: []int32{0}}}
				for _, one := range req.Topics {
					t := api.OffsetFetchRequestGroupTopic{Name: one.Name, PartitionIndexes: one.PartitionIndexes}
					if !named {
						t.Name, t.TopicID = "", testTopicID(one.Name)
					}
					g.Topics = append(g.Topics, t)
				}
				if all {
					req.Topics, g.Topics = nil, nil
				}
				none := api.NewOffsetFetchRequestGroup()
				none.GroupID, none.Topics = "none", nil
				req.Groups = []api.OffsetFetchRequestGroup{g, none}
				var resp api.OffsetFetchResponse
				c.call(version, req, &resp)
				got := ""
				if version < 8 {
					for _, one := range resp.Topics {
						for _, p := range one.Partitions {
							got += fmt.Sprintf("%s-%d=%d/%s/%s ", one.Name, p.PartitionIndex, p.CommittedOffset, *p.Metadata, p.ErrorCode.Name())
						}
					}
				} else {
					if len(resp.Groups) != 2 || len(resp.Groups[1].Topics) != 0 || resp.Groups[1].ErrorCode != wire.ErrNone {
						t.Errorf("OffsetFetch %d: groups %+v", version, resp.Groups)
					}
					for _, one := range resp.Groups[0].Topics {
						topicName := one.Name
						if !named {
							topicName = map[id.UUID]string{testTopicID("orders"): "orders", testTopicID("gone"): "gone"}[one.TopicID]
						}
						for _, p := range one.Partitions {
							got += fmt.Sprintf("%s-%d=%d/%s/%s ", topicName, p.PartitionIndex, p.CommittedOffset, *p.Metadata, p.ErrorCode.Name())
						}
					}
				}
				want := "orders-1=7/note/NONE orders-0=5/note/NONE gone-0=-1//NONE "
				if all {
					want = "orders-0=5/note/NONE orders-1=7/note/NONE "
				} else if !named {
					want = "orders-1=7/note/NONE orders-0=5/note/NONE gone-0=-1//UNKNOWN_TOPIC_ID "
				}
				if got != want {
					t.Errorf("OffsetFetch %d all %v stable %v: %s, want %s", version, all, stable, got, want)
				}
			}
		}
	}
	var deleted api.OffsetDeleteResponse
	c.call(0, &api.OffsetDeleteRequest{GroupID: "g7", Topics: []api.OffsetDeleteRequestTopic{
		{Name: "orders", Partitions: []api.OffsetDeleteRequestTopicPartition{{PartitionIndex: 0}, {PartitionIndex: 8}}},
		{Name: "gone", Partitions: []api.OffsetDeleteRequestTopicPartition{{PartitionIndex: 0}}}}}, &deleted)
	got := ""
	for _, one := range deleted.Topics {
		for _, p := range one.Partitions {
			got += fmt.Sprintf("%s-%d=%s ", one.Name, p.PartitionIndex, p.ErrorCode.Name())
		}
	}
	if want := "orders-8=UNKNOWN_TOPIC_OR_PARTITION orders-0=NONE gone-0=UNKNOWN_TOPIC_OR_PARTITION "; got != want {
		t.Errorf("OffsetDelete: %s, want %s", got, want)
	}
	c.call(0, &api.OffsetDeleteRequest{GroupID: "none"}, &deleted)
	if deleted.ErrorCode != wire.ErrGroupIDNotFound {
		t.Errorf("OffsetDelete of an unknown group: %v", deleted.ErrorCode)
	}
	// a topic that goes takes its offsets with it
	r.replay(&logrec.RemoveTopicRecord{TopicID: testTopicID("orders")})
	req := api.NewOffsetFetchRequest()
	req.GroupID, req.Topics = "g7", nil
	var resp api.OffsetFetchResponse
	for {
		if c.call(7, req, &resp); len(resp.Topics) == 0 {
			break
		}
	}
}

// commitOf commits an offset of partition 0 of a topic for group g.
func commitOf(topic string, offset int64) *api.OffsetCommitRequest {
	req := api.NewOffsetCommitRequest()
	p := api.NewOffsetCommitRequestTopicPartition()
	p.CommittedOffset, p.CommittedMetadata = offset, new("")
	req.GroupID, req.RetentionTimeMs = "g", -1
	req.Topics = []api.OffsetCommitRequestTopic{{Name: topic, Partitions: []api.OffsetCommitRequestTopicPartition{p}}}
	return req
}

// TestCommitsOverlap: a client that does not wait for its commits has them taken and answered in its order, whatever becomes of each,
// and what is no commit comes after them.
func TestCommitsOverlap(t *testing.T) {
	for _, deposed := range []bool{false, true} {
		r := newGroupRig(t)
		r.topic(offsetsTopic, 1)
		r.topic("orders", 1)
		c, other := r.dial(), r.dial()
		c.ready("g")
		r.manager.Hold()
		first := c.n + 1
		topics := []string{"orders", "unknown", "orders", "orders"}
		for i, topic := range topics {
			c.send(9, commitOf(topic, int64(i)))
		}
		c.send(4, &api.HeartbeatRequest{GroupID: "g", MemberID: "nobody"})
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatal("answered before the commit")
		}
		_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
		if deposed {
			r.lead(-1)
		}
		r.manager.Release()
		for i, topic := range topics {
			want := wire.ErrNone
			if topic == "unknown" {
				want = wire.ErrUnknownTopicOrPartition
			} else if deposed {
				want = wire.ErrNotCoordinator
			}
			c.n = first + int32(i)
			var resp api.OffsetCommitResponse
			c.receive(9, wire.OffsetCommit, &resp)
			if got := resp.Topics[0].Partitions[0].ErrorCode; got != want {
				t.Fatalf("deposed %v: commit %d: %v, want %v", deposed, i, got, want)
			}
		}
		c.n++
		var beat api.HeartbeatResponse
		c.receive(4, wire.Heartbeat, &beat)
		if deposed {
			continue
		}
		req := api.NewOffsetFetchRequest()
		req.GroupID = "g"
		req.Topics = []api.OffsetFetchRequestTopic{{Name: "orders", PartitionIndexes: []int32{0}}}
		var resp api.OffsetFetchResponse
		other.call(7, req, &resp)
		if got := resp.Topics[0].Partitions[0].CommittedOffset; got != 3 {
			t.Fatalf("committed %d, want that of the last request, 3", got)
		}
	}
}

// TestHeldAndDeposed: an answer leaves when its records are committed, and not at all when the leadership is lost before.
func TestHeldAndDeposed(t *testing.T) {
	r := newGroupRig(t)
	r.topic(offsetsTopic, 1)
	r.topic("orders", 1)
	c, other := r.dial(), r.dial()
	c.ready("g")
	commit := func(offset int64) *api.OffsetCommitRequest { return commitOf("orders", offset) }
	fetched := func() int64 {
		req := api.NewOffsetFetchRequest()
		req.GroupID = "g"
		req.Topics = []api.OffsetFetchRequestTopic{{Name: "orders", PartitionIndexes: []int32{0}}}
		for {
			var resp api.OffsetFetchResponse
			if other.call(7, req, &resp); resp.ErrorCode == wire.ErrNone {
				return resp.Topics[0].Partitions[0].CommittedOffset
			}
		}
	}
	var resp api.OffsetCommitResponse
	c.call(9, commit(1), &resp)
	if got := fetched(); got != 1 {
		t.Fatalf("fetched %d, want 1", got)
	}
	r.manager.Hold()
	c.send(9, commit(2))
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("answered before the commit")
	}
	deadline := time.Now().Add(30 * time.Second)
	_ = c.SetReadDeadline(deadline)
	if got := fetched(); got != 1 {
		t.Fatalf("held: fetched %d, want 1", got)
	}
	r.manager.Release()
	c.receive(9, wire.OffsetCommit, &resp)
	if got := fetched(); got != 2 || resp.Topics[0].Partitions[0].ErrorCode != wire.ErrNone {
		t.Fatalf("released: fetched %d and %+v, want 2", got, resp)
	}
	r.manager.Hold()
	c.send(9, commit(3))
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("answered before the commit")
	}
	_ = c.SetReadDeadline(deadline)
	r.lead(-1)
	c.receive(9, wire.OffsetCommit, &resp)
	if got := resp.Topics[0].Partitions[0].ErrorCode; got != wire.ErrNotCoordinator {
		t.Fatalf("deposed: %v", got)
	}
	r.manager.Release()
	var beat api.HeartbeatResponse
	c.call(4, &api.HeartbeatRequest{GroupID: "g", MemberID: "nobody"}, &beat)
	if beat.ErrorCode != wire.ErrNotCoordinator {
		t.Fatalf("heartbeat to a broker that does not lead: %v", beat.ErrorCode)
	}
	// The log kept the record, for there was no other leader to cut it off: the new leadership may find it.
	r.lead(1)
	if got := fetched(); got != 3 && got != 2 {
		t.Fatalf("elected again: fetched %d", got)
	}
}

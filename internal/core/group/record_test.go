package group

import (
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRecordBytes pins what is written, field by field, to Kafka's formats of __consumer_offsets.
func TestRecordBytes(t *testing.T) {
	topic := id.UUID{15: 9}
	commit := &Commit{Offset: 0x0102, LeaderEpoch: 3, Metadata: "m", TimestampMs: 0x0a0b, ExpireMs: -1, TopicID: topic}
	expiring := *commit
	expiring.ExpireMs = 0x0c0d
	instance, protocolName := "i", "range"
	g := newClassicGroup("g", time.UnixMilli(5))
	g.generation, g.protocol, g.stateSinceMs = 2, &protocolName, 7
	g.add(&member{id: "a", instance: &instance, clientID: "c", clientHost: "/h", rebalanceTimeoutMs: 16, sessionTimeoutMs: 17,
		protocols: []protocol{{"range", []byte{1}}}, assignment: []byte{2, 3}}, "consumer")

	const commitKey = "0001 0001 67 0001 74 00000004"
	const groupKey = "0002 0001 67"
	for _, c := range []struct {
		name, key, value string
		rec              shard.Record
	}{
		{"commit", commitKey, "0004 0000000000000102 00000003 02 6d 0000000000000a0b 01 00 10 00000000000000000000000000000009",
			commitRecord("g", topicPartition{"t", 4}, commit)},
		{"commit with retention", commitKey, "0001 0000000000000102 0001 6d 0000000000000a0b 0000000000000c0d",
			commitRecord("g", topicPartition{"t", 4}, &expiring)},
		{"commit tombstone", commitKey, "", commitRecord("g", topicPartition{"t", 4}, nil)},
		{"group", groupKey, "0003 0008 636f6e73756d6572 00000002 0005 72616e6765 0001 61 0000000000000007 00000001" +
			"0001 61 0001 69 0001 63 0002 2f68 00000010 00000011 00000001 01 00000002 0203", groupRecord(g, nil)},
		{"group with assignment", groupKey, "0003 0008 636f6e73756d6572 00000002 0005 72616e6765 0001 61 0000000000000007 00000001" +
			"0001 61 0001 69 0001 63 0002 2f68 00000010 00000011 00000001 01 00000001 ff", groupRecord(g, map[string][]byte{"a": {0xff}})},
		{"first record", groupKey, "0003 0000 00000000 ffff ffff 0000000000000005 00000000", emptyGroupRecord(newClassicGroup("g", time.UnixMilli(5)))},
		{"group tombstone", groupKey, "", groupTombstone("g")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(unhex(t, c.key), c.rec.Key); d != "" {
				t.Errorf("key (-want +got)\n%s", d)
			}
			var want []byte
			if c.value != "" {
				want = unhex(t, c.value)
			}
			if d := cmp.Diff(want, c.rec.Value); d != "" {
				t.Errorf("value (-want +got)\n%s", d)
			}
		})
	}
}

// TestTableOrder: orders that Kafka's own request tests of ListGroups and ConsumerGroupDescribe expect.
func TestTableOrder(t *testing.T) {
	for _, want := range [][]string{{"grp-4", "grp-1"}, {"member-2", "member-1"}} {
		got := slices.Sorted(slices.Values(want))
		if inTableOrder(got); !slices.Equal(got, want) {
			t.Errorf("in order: %q, want %q", got, want)
		}
	}
}

func TestPartitionOf(t *testing.T) {
	// Figures of String.hashCode in Java.
	for s, hash := range map[string]int32{"": 0, "a": 97, "ab": 97*31 + 98, "polygenelubricants": -1 << 31, "\U0001d11e": 0xd834*31 + 0xdd1e} {
		if got := javaHash(s); got != hash {
			t.Errorf("javaHash(%q) = %d, want %d", s, got, hash)
		}
	}
	if got := PartitionOf("polygenelubricants", 50); got != 0 {
		t.Errorf("the one hash without an absolute value maps to %d", got)
	}
	if got := PartitionOf("a", 50); got != 47 {
		t.Errorf("PartitionOf(a) = %d, want 47", got)
	}
}

// TestReplayOldRecords reads what other versions and other group protocols wrote.
func TestReplayOldRecords(t *testing.T) {
	s := New(DefaultConfig(), rand.New(rand.NewPCG(1, 1)))
	at := id.Offset(0)
	replay := func(p id.ProducerID, key, value string) {
		t.Helper()
		var v []byte
		if value != "" {
			v = unhex(t, value)
		}
		if known, err := s.Replay(at, p, unhex(t, key), v); err != nil || !known {
			t.Fatalf("replay at %d: known %v, %v", at, known, err)
		}
		at++
		s.Committed(at)
	}
	replay(-1, "0000 0001 67 0001 74 00000000", "0000 0000000000000005 0000 0000000000000064")                     // legacy commit
	replay(-1, "0001 0001 67 0001 74 00000001", "0001 0000000000000006 0001 6d 0000000000000064 00000000000000c8") // with expiry
	replay(-1, "0001 0001 67 0001 74 00000002", "0003 0000000000000007 00000002 0000 0000000000000064")
	replay(-1, "0002 0001 6f", "0000 0008 636f6e73756d6572 00000002 0005 72616e6765 0001 61 00000001 0001 61 0001 63 0002 2f68 00000011 00000001 01 00000000")
	fetch := func(group string) string {
		w := &world{}
		return w.render("", s.FetchOffsets(&api.OffsetFetchRequestGroup{GroupID: group, MemberEpoch: -1}))
	}
	if got, want := fetch("g"), `fetch t-0=5/-1/"" t-1=6/-1/"m" t-2=7/2/""`; got != want {
		t.Errorf("fetch: %s, want %s", got, want)
	}
	if c := s.offsets.get("g", topicPartition{"t", 1}); c.ExpireMs != 200 {
		t.Errorf("expiry %d, want 200", c.ExpireMs)
	}
	old := s.classic("o")
	if old == nil || old.state != Stable || old.stateSinceMs != -1 || old.first().rebalanceTimeoutMs != 17 {
		t.Errorf("group of version 0: %+v", old)
	}

	// a consumer group with one member: listed, not joined by classic members, not deleted
	replay(-1, "0003 0001 6d", "0000 00000001 00")
	replay(-1, "0005 0001 6d 0001 78", "0000 00 00 01 01 01 00 00000000 00 00")
	replay(-1, "000b 0001 73", "0000 00000001 0000000000000000 00")
	listed := ""
	for _, g := range s.ListGroups(nil, nil) {
		listed += g.GroupID + "=" + g.GroupType + "/" + g.GroupState + " "
	}
	if want := "s=share/Empty m=consumer/Reconciling o=classic/Stable g=classic/Empty "; listed != want {
		t.Errorf("listed %q, want %q", listed, want)
	}
	now := time.UnixMilli(1000)
	s.Loaded(now, at)
	join := func(group string) *api.JoinGroupResponse {
		req := &api.JoinGroupRequest{GroupID: group, SessionTimeoutMs: 10_000, ProtocolType: "consumer", Protocols: []api.JoinGroupRequestProtocol{{Name: "range"}}}
		res := s.JoinGroup(Turn{Now: now, Ticket: 1, Version: 9}, req)
		for _, r := range res.Records {
			s.Apply(at, r)
			at++
		}
		return res.Answers[0].Body.(*api.JoinGroupResponse)
	}
	if got := join("m").ErrorCode; got != wire.ErrInconsistentGroupProtocol {
		t.Errorf("classic member joins a consumer group: %v", got)
	}
	if got := s.DeleteGroups(Turn{Now: now, Ticket: 1}, []string{"m"}).Reply.([]api.DeleteGroupsResponseResult); got[0].ErrorCode != wire.ErrNonEmptyGroup {
		t.Errorf("delete of a consumer group with members: %v", got)
	}
	// its member leaves, and it becomes a classic group; a lost batch brings it back
	replay(-1, "0005 0001 6d 0001 78", "")
	before, was := at, durable(s)
	if got := join("m").ErrorCode; got != wire.ErrMemberIDRequired {
		t.Errorf("join of an empty consumer group: %v", got)
	}
	if g := s.classic("m"); g == nil || at != before+4 {
		t.Errorf("not converted: %v, %d records", g, at-before)
	}
	s.Revert(before)
	if d := cmp.Diff(was, durable(s)); d != "" {
		t.Errorf("after revert (-want +got)\n%s", d)
	}
	// unknown types are skipped, torn keys are errors
	if known, err := s.Replay(at, -1, unhex(t, "0063 0001 6d"), nil); known || err != nil {
		t.Errorf("type 99: %v, %v", known, err)
	}
	for _, key := range []string{"", "00", "0001 0001", "0002", "0003", "0003 7fff 6d", "0003 ffff 6d"} {
		if _, err := s.Replay(at, -1, unhex(t, key), nil); err == nil {
			t.Errorf("key %q was read", key)
		}
	}
	if _, err := s.Replay(at, -1, unhex(t, "0001 0001 67 0001 74 00000000"), unhex(t, "0009 00")); err == nil {
		t.Error("a value of version 9 was read")
	}
}

// TestTransactionalOffsets folds transactions that another broker wrote.
func TestTransactionalOffsets(t *testing.T) {
	s := New(DefaultConfig(), rand.New(rand.NewPCG(1, 1)))
	at := id.Offset(0)
	put := func(p id.ProducerID, partition int32, offset id.Offset) {
		r := commitRecord("g", topicPartition{"t", partition}, &Commit{Offset: offset, LeaderEpoch: -1, ExpireMs: -1})
		if _, err := s.Replay(at, p, r.Key, r.Value); err != nil {
			t.Fatal(err)
		}
		at++
	}
	end := func(p id.ProducerID, commit bool) { s.EndTransaction(at, p, commit); at++ }
	fetch := func() string {
		s.Committed(at)
		w := &world{}
		return w.render("", s.FetchStableOffsets(Turn{}, &api.OffsetFetchRequestGroup{GroupID: "g", MemberEpoch: -1,
			Topics: []api.OffsetFetchRequestGroupTopic{{Name: "t", PartitionIndexes: []int32{0, 1}}}}).Reply)
	}
	put(-1, 0, 1)
	put(7, 0, 2)
	put(7, 1, 3)
	if got, want := fetch(), `fetch t-0=-1/-1/""/UNSTABLE_OFFSET_COMMIT t-1=-1/-1/""/UNSTABLE_OFFSET_COMMIT`; got != want {
		t.Errorf("open: %s", got)
	}
	put(-1, 0, 9) // later than the transaction's, so it stays
	end(7, true)
	if got, want := fetch(), `fetch t-0=9/-1/"" t-1=3/-1/""`; got != want {
		t.Errorf("committed: %s, want %s", got, want)
	}
	put(8, 1, 4)
	end(8, false)
	put(9, 1, 5)
	tomb := commitRecord("g", topicPartition{"t", 1}, nil)
	s.Apply(at, tomb)
	if s.txns.has("g", topicPartition{"t", 1}) {
		t.Error("the tombstone left the open offset")
	}
	s.Revert(at)
	if !s.txns.has("g", topicPartition{"t", 1}) {
		t.Error("revert did not bring the open offset back")
	}
	s.Apply(at, tomb)
	at++
	end(9, true)
	if got, want := fetch(), `fetch t-0=9/-1/"" t-1=-1/-1/""`; got != want {
		t.Errorf("aborted and deleted: %s, want %s", got, want)
	}
	if len(s.txns.byProducer) != 0 || len(s.txns.counts) != 0 {
		t.Errorf("left behind: %v %v", s.txns.byProducer, s.txns.counts)
	}
}

// TestLongNames: what no record can hold is refused, not written.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("x", 40_000)
	s := New(DefaultConfig(), rand.New(rand.NewPCG(1, 1)))
	for _, req := range []api.JoinGroupRequest{
		{GroupID: long, ProtocolType: "t", Protocols: []api.JoinGroupRequestProtocol{{Name: "n"}}},
		{GroupID: "g", ProtocolType: long, Protocols: []api.JoinGroupRequestProtocol{{Name: "n"}}},
		{GroupID: "g", ProtocolType: "t", Protocols: []api.JoinGroupRequestProtocol{{Name: long}}},
		{GroupID: "g", ProtocolType: "t", GroupInstanceID: &long, Protocols: []api.JoinGroupRequestProtocol{{Name: "n"}}},
	} {
		req.SessionTimeoutMs = 10_000
		res := s.JoinGroup(Turn{Ticket: 1, Version: 9}, &req)
		if got := res.Answers[0].Body.(*api.JoinGroupResponse).ErrorCode; got != wire.ErrUnknownServerError || len(res.Records) != 0 {
			t.Errorf("%v with %d records", got, len(res.Records))
		}
	}
	commit := &api.OffsetCommitRequest{GroupID: long, GenerationIDOrMemberEpoch: -1, RetentionTimeMs: -1, Topics: []api.OffsetCommitRequestTopic{{Name: "t", Partitions: make([]api.OffsetCommitRequestTopicPartition, 1)}}}
	res := s.OffsetCommit(Turn{Ticket: 1, Version: 9}, commit)
	if got := res.Answers[0].Body.(*api.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode; got != wire.ErrUnknownServerError {
		t.Errorf("commit: %v", got)
	}
	if len(s.groups) != 0 {
		t.Errorf("%d groups were made", len(s.groups))
	}
}

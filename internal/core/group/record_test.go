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
	"github.com/moldau-io/moldau/internal/wire/logrec"
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

// replayHex replays a record that s must know at *at, and moves that on; an empty value is a tombstone.
func replayHex(t *testing.T, s *Shard, at *id.Offset, p id.ProducerID, key, value string) {
	t.Helper()
	var v []byte
	if value != "" {
		v = unhex(t, value)
	}
	if known, err := s.Replay(*at, p, unhex(t, key), v); err != nil || !known {
		t.Fatalf("replay at %d: known %v, %v", *at, known, err)
	}
	*at++
}

// TestReplayOldRecords reads what other versions and other group protocols wrote.
func TestReplayOldRecords(t *testing.T) {
	s, at := New(DefaultConfig(), rand.New(rand.NewPCG(1, 1))), id.Offset(0)
	replay := func(p id.ProducerID, key, value string) {
		t.Helper()
		replayHex(t, s, &at, p, key, value)
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
	// Metadata may be as long as any string in a record, if the configuration lets it.
	s.cfg.OffsetMetadataMaxSize = 1 << 20
	for n, want := range map[int]wire.ErrorCode{1<<15 - 1: wire.ErrNone, 1 << 15: wire.ErrOffsetMetadataTooLarge} {
		metadata := strings.Repeat("x", n)
		for _, retention := range []int64{-1, 1000} {
			commit.GroupID, commit.RetentionTimeMs, commit.Topics[0].Partitions[0].CommittedMetadata = "g", retention, &metadata
			res := s.OffsetCommit(Turn{Ticket: 1, Version: 9}, commit)
			if got := res.Reply.(*api.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode; got != want {
				t.Errorf("metadata of %d bytes: %v, want %v", n, got, want)
			}
		}
	}
}

// TestReplayEveryKind replays, of each kind of record there is, a tombstone for nothing, a value that is cut off, one of a version
// that does not exist, and one of none at all. The tombstone leaves nothing, the others are errors.
func TestReplayEveryKind(t *testing.T) {
	for typ := int16(-1); typ < 300; typ++ {
		key := []byte{byte(uint16(typ) >> 8), byte(typ), 0, 1, 'g', 0, 1, 'x', 0, 0, 0, 0}
		k, _, err := logrec.DecodeGroup(key, nil)
		s := New(DefaultConfig(), rand.New(rand.NewPCG(1, 1)))
		if err != nil {
			for _, value := range [][]byte{nil, {}, {0, 0}} {
				if known, err := s.Replay(0, id.NoProducer, key, value); known || err != nil {
					t.Errorf("type %d, which there is not: %v, %v", typ, known, err)
				}
			}
			continue
		}
		if known, err := s.Replay(0, id.NoProducer, key, nil); !known || err != nil {
			t.Errorf("%T: tombstone for nothing: %v, %v", k, known, err)
		}
		if len(s.groups) != 0 || len(s.offsets) != 0 {
			t.Errorf("%T: the tombstone left %v %v", k, s.groups, s.offsets)
		}
		if kind := modernKind(typ); kind == kindShare || kind == kindStreams || typ == typeConsumerMetadata {
			continue // are kept as they are, and that there is one is all that counts
		}
		for _, value := range [][]byte{{}, {0}, {0, 0}, {0, 99}, {255, 255}} {
			if _, err := s.Replay(1, id.NoProducer, key, value); err == nil {
				t.Errorf("%T: the value %x was read", k, value)
			}
		}
		if len(s.groups) != 0 || len(s.offsets) != 0 {
			t.Errorf("%T: what could not be read left %v %v", k, s.groups, s.offsets)
		}
	}
}

// TestReplayLegacyCommits: records of the oldest kind count like those of today, in transactions as well, and one kind's tombstone
// removes what the other has written.
func TestReplayLegacyCommits(t *testing.T) {
	s, at := New(DefaultConfig(), rand.New(rand.NewPCG(1, 1))), id.Offset(0)
	replay := func(p id.ProducerID, key, value string) { t.Helper(); replayHex(t, s, &at, p, key, value) }
	expect := func(step, want string) {
		t.Helper()
		s.Committed(at)
		w := &world{}
		if got := w.render("", s.FetchStableOffsets(Turn{}, &api.OffsetFetchRequestGroup{GroupID: "g", MemberEpoch: -1,
			Topics: []api.OffsetFetchRequestGroupTopic{{Name: "t", PartitionIndexes: []int32{0, 1}}}}).Reply); got != want {
			t.Errorf("%s: %s, want %s", step, got, want)
		}
	}
	const old0, old1 = "0000 0001 67 0001 74 00000000", "0000 0001 67 0001 74 00000001"
	const new0, new1 = "0001 0001 67 0001 74 00000000", "0001 0001 67 0001 74 00000001"
	const five, six = "0000 0000000000000005 0001 6d 0000000000000064", "0000 0000000000000006 0000 0000000000000064"
	replay(100, old0, five)
	replay(101, new1, "0003 0000000000000007 00000002 0000 0000000000000064")
	expect("pending", `fetch t-0=-1/-1/""/UNSTABLE_OFFSET_COMMIT t-1=-1/-1/""/UNSTABLE_OFFSET_COMMIT`)
	s.EndTransaction(at, 100, true)
	at++
	s.EndTransaction(at, 101, true)
	at++
	expect("committed", `fetch t-0=5/-1/"m" t-1=7/2/""`)
	if c := s.offsets.get("g", topicPartition{"t", 0}); c.ExpireMs != -1 || c.TimestampMs != 100 || !c.TopicID.IsZero() {
		t.Errorf("a legacy commit: %+v", c)
	}
	replay(id.NoProducer, new0, "")
	replay(id.NoProducer, old1, "")
	expect("removed", `fetch t-0=-1/-1/"" t-1=-1/-1/""`)
	replay(id.NoProducer, old1, six)
	replay(id.NoProducer, new1, "")
	expect("removed again", `fetch t-0=-1/-1/"" t-1=-1/-1/""`)
}

// TestReplayMarkerWithoutGroup: a log may have lost the group while its offsets were pending, since who removed it did not see them.
// What is committed then has a group, or nobody would see it or let it expire. Apache Kafka leaves it unseen until the next commit.
func TestReplayMarkerWithoutGroup(t *testing.T) {
	for _, committed := range []id.Offset{0, 3} { // the marker's record is committed or not
		s := New(DefaultConfig(), rand.New(rand.NewPCG(1, 1)))
		s.Committed(committed)
		pending, gone := commitRecord("g", topicPartition{"t", 0}, &Commit{Offset: 5, LeaderEpoch: -1, ExpireMs: -1}), groupTombstone("g")
		if _, err := s.Replay(0, 7, pending.Key, pending.Value); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Replay(1, id.NoProducer, gone.Key, nil); err != nil || len(s.groups) != 0 {
			t.Fatal(err, s.groups)
		}
		s.EndTransaction(2, 7, true)
		if g := s.classic("g"); g == nil || !g.isSimple() || g.logged {
			t.Errorf("the group is %+v", g)
		}
		if committed == 0 {
			s.Revert(2)
			if s.groups["g"] != nil || s.offsets["g"] != nil || !s.txns.has("g", topicPartition{"t", 0}) {
				t.Errorf("reverted: %v %v", s.groups, s.offsets)
			}
			continue
		}
		s.Loaded(time.UnixMilli(0), 3)
		w := &world{}
		if got, want := w.render("", s.FetchOffsets(&api.OffsetFetchRequestGroup{GroupID: "g", MemberEpoch: -1})), `fetch t-0=5/-1/""`; got != want {
			t.Errorf("fetch: %s, want %s", got, want)
		}
		s.now = time.UnixMilli(0).Add(s.cfg.OffsetsRetention)
		if s.sweep(); len(s.end().Records) != 2 {
			t.Error("the offset and its group did not expire")
		}
	}
}

// TestReplayOffsetsWithoutGroup: offsets whose group has a tombstone and they have none are not seen, until a commit makes the group.
func TestReplayOffsetsWithoutGroup(t *testing.T) {
	s := New(DefaultConfig(), rand.New(rand.NewPCG(1, 1)))
	s.Committed(100)
	at := id.Offset(0)
	replay := func(r shard.Record) {
		t.Helper()
		if _, err := s.Replay(at, id.NoProducer, r.Key, r.Value); err != nil {
			t.Fatal(err)
		}
		at++
	}
	commit := func(partition int32, offset id.Offset) shard.Record {
		return commitRecord("g", topicPartition{"t", partition}, &Commit{Offset: offset, LeaderEpoch: -1, ExpireMs: -1})
	}
	expect := func(step, all, one string) {
		t.Helper()
		w, req := &world{}, &api.OffsetFetchRequestGroup{GroupID: "g", MemberEpoch: -1}
		if got := w.render("", s.FetchOffsets(req)); got != all {
			t.Errorf("%s: %s, want %s", step, got, all)
		}
		req.Topics = []api.OffsetFetchRequestGroupTopic{{Name: "t", PartitionIndexes: []int32{0}}}
		if got := w.render("", s.FetchOffsets(req)); got != one {
			t.Errorf("%s, of one: %s, want %s", step, got, one)
		}
	}
	replay(commit(0, 5))
	replay(commit(1, 6))
	expect("with the group", `fetch t-0=5/-1/"" t-1=6/-1/""`, `fetch t-0=5/-1/""`)
	replay(groupTombstone("g"))
	expect("without it", "fetch", `fetch t-0=-1/-1/""`)
	if res := s.TopicsDeleted(time.UnixMilli(0), []DeletedTopic{{Name: "t"}}); len(res.Records) != 2 {
		t.Errorf("the topic is deleted: %d records", len(res.Records))
	}
	replay(commit(1, 7))
	expect("again", `fetch t-0=5/-1/"" t-1=7/-1/""`, `fetch t-0=5/-1/""`)
	// What a later release may put behind a key is not read.
	for _, more := range [][]byte{{0, 0, 0, 3}, {0, 0, 0, 4}} {
		r := commit(0, 8)
		r.Key = append(r.Key, more...)
		replay(r)
	}
	expect("longer keys", `fetch t-0=8/-1/"" t-1=7/-1/""`, `fetch t-0=8/-1/""`)
}

// TestReplayGroups: what a new leader makes of a classic group's record.
func TestReplayGroups(t *testing.T) {
	retention := DefaultConfig().OffsetsRetention
	now := time.UnixMilli(0).Add(2 * retention)
	replay := func(g *logrec.GroupMetadataValue, version int16) *Shard {
		s := New(DefaultConfig(), rand.New(rand.NewPCG(1, 1)))
		r := groupValueRecord("g", g)
		c := commitRecord("g", topicPartition{"t", 0}, &Commit{LeaderEpoch: -1, ExpireMs: -1, TimestampMs: now.Add(-retention).UnixMilli() + 1})
		for at, r := range []shard.Record{c, {Key: r.Key, Value: logrec.EncodeVersioned(g, version)}} {
			if _, err := s.Replay(id.Offset(at), id.NoProducer, r.Key, r.Value); err != nil {
				t.Fatal(err)
			}
		}
		s.Committed(2)
		s.Loaded(now, 2)
		return s
	}
	protocol, leader, instance := "range", "b", "i"
	v := &logrec.GroupMetadataValue{ProtocolType: "consumer", Generation: 5, Protocol: &protocol, Leader: &leader, CurrentStateTimestamp: 7,
		Members: []logrec.GroupMetadataValueMemberMetadata{
			{MemberID: "a", ClientID: "c", ClientHost: "/h", SessionTimeout: 9000, RebalanceTimeout: 8000, Subscription: consumerMetadata("t"), Assignment: []byte{1}},
			{MemberID: "b", GroupInstanceID: &instance, ClientID: "c", ClientHost: "/h", SessionTimeout: 10_000, RebalanceTimeout: 8000, Subscription: consumerMetadata("u"), Assignment: []byte{2}},
		}}
	g := replay(v, 3).classic("g")
	if g.state != Stable || g.generation != 5 || g.leader != "b" || g.static["i"] != "b" || g.stateSinceMs != 7 || !g.subscribed("t") || !g.subscribed("u") || g.subscribed("v") {
		t.Errorf("with members: %+v", g)
	}
	if m := g.byID["a"]; m == nil || m.rebalanceTimeoutMs != 8000 || m.sessionTimeoutMs != 9000 || m.instance != nil || string(m.assignment) != "\x01" || m.isNew {
		t.Errorf("member: %+v", m)
	}
	// Before version 1 there was no rebalance timeout, before 2 no time of the state, before 3 no instance.
	if g = replay(v, 2).classic("g"); len(g.static) != 0 || g.stateSinceMs != 7 || g.byID["a"].rebalanceTimeoutMs != 8000 {
		t.Errorf("version 2: %+v", g)
	}
	if g = replay(v, 1).classic("g"); g.stateSinceMs != -1 || g.byID["a"].rebalanceTimeoutMs != 8000 {
		t.Errorf("version 1: %+v", g)
	}
	if g = replay(v, 0).classic("g"); g.byID["a"].rebalanceTimeoutMs != 9000 || g.byID["b"].rebalanceTimeoutMs != 10_000 {
		t.Errorf("version 0: %+v", g)
	}

	// An empty group: its offset expires a retention after it became so, or after the commit if nobody knows when that was.
	for version, gone := range map[int16]bool{2: true, 1: false} {
		v := &logrec.GroupMetadataValue{ProtocolType: "consumer", Generation: 6, CurrentStateTimestamp: now.Add(-retention).UnixMilli()}
		s := replay(v, version)
		if g := s.classic("g"); g.state != Empty || g.generation != 6 || g.protocol != nil || g.leader != "" || g.subscribed("t") {
			t.Errorf("version %d, empty: %+v", version, g)
		}
		for _, after := range []time.Duration{0, time.Millisecond} {
			s.now = now.Add(after)
			s.sweep()
			if got, want := len(s.end().Records) == 2, gone || after > 0; got != want {
				t.Errorf("version %d, empty, %v later: expired %v, want %v", version, after, got, want)
			}
		}
	}
}

// TestOffsetsOfOtherGroups: a share group has no offsets and takes none. In a streams group a commit counts while it has no members;
// members of theirs cannot be here, but a producer may be that knows nothing of members.
func TestOffsetsOfOtherGroups(t *testing.T) {
	s := New(DefaultConfig(), rand.New(rand.NewPCG(1, 1)))
	at := id.Offset(0)
	for _, r := range []shard.Record{
		{Key: logrec.EncodeGroupKey(&logrec.ShareGroupMetadataKey{GroupID: "share"}), Value: logrec.EncodeVersioned(&logrec.ShareGroupMetadataValue{}, 0)},
		{Key: logrec.EncodeGroupKey(&logrec.StreamsGroupMetadataKey{GroupID: "empty"}), Value: logrec.EncodeVersioned(&logrec.StreamsGroupMetadataValue{}, 0)},
		{Key: logrec.EncodeGroupKey(&logrec.StreamsGroupMetadataKey{GroupID: "streams"}), Value: logrec.EncodeVersioned(&logrec.StreamsGroupMetadataValue{}, 0)},
		{Key: logrec.EncodeGroupKey(&logrec.StreamsGroupMemberMetadataKey{GroupID: "streams", MemberID: "m"}), Value: []byte{0, 0}},
	} {
		if known, err := s.Replay(at, id.NoProducer, r.Key, r.Value); !known || err != nil {
			t.Fatal(known, err)
		}
		at++
	}
	s.Committed(at)
	s.Loaded(time.UnixMilli(0), at)
	apply := func(res shard.Result) *api.OffsetCommitResponse {
		for _, r := range res.Records {
			s.Apply(at, r)
			at++
		}
		for _, a := range res.Answers {
			return a.Body.(*api.OffsetCommitResponse)
		}
		return res.Reply.(*api.OffsetCommitResponse)
	}
	for _, c := range []struct {
		group, member string
		epoch         int32
		plain, txn    wire.ErrorCode
	}{
		{"share", "", -1, wire.ErrGroupIDNotFound, wire.ErrGroupIDNotFound},
		{"share", "m", 1, wire.ErrGroupIDNotFound, wire.ErrGroupIDNotFound},
		{"empty", "", -1, wire.ErrNone, wire.ErrNone},
		{"empty", "m", 1, wire.ErrUnknownMemberID, wire.ErrUnknownMemberID},
		{"streams", "", -1, wire.ErrUnknownMemberID, wire.ErrNone},
		{"streams", "x", -1, wire.ErrUnknownMemberID, wire.ErrUnknownMemberID},
	} {
		for _, version := range []int16{5, 9} {
			req := commitOf(0, 5)
			req.GroupID, req.MemberID, req.GenerationIDOrMemberEpoch = c.group, c.member, c.epoch
			turn := Turn{Now: time.UnixMilli(1000), Ticket: 1, Version: version}
			if code := apply(s.OffsetCommit(turn, req)).Topics[0].Partitions[0].ErrorCode; code != c.plain {
				t.Errorf("%s, member %q, version %d: %v, want %v", c.group, c.member, version, code, c.plain)
			}
			if code := apply(s.TxnOffsetCommit(turn, shard.Producer{ID: 7}, req)).Topics[0].Partitions[0].ErrorCode; code != c.txn {
				t.Errorf("%s, member %q, in a transaction, version %d: %v, want %v", c.group, c.member, version, code, c.txn)
			}
		}
	}
	member := "m"
	for _, req := range []*api.OffsetFetchRequestGroup{
		{GroupID: "share", MemberEpoch: -1, Topics: []api.OffsetFetchRequestGroupTopic{{Name: "t", PartitionIndexes: []int32{0}}}},
		{GroupID: "share", MemberID: &member, MemberEpoch: 1, Topics: []api.OffsetFetchRequestGroupTopic{{Name: "t", PartitionIndexes: []int32{0}}}},
	} {
		w := &world{}
		if got, want := w.render("", s.FetchOffsets(req)), `fetch t-0=-1/-1/""`; got != want {
			t.Errorf("fetch: %s, want %s", got, want)
		}
		req.Topics = nil
		if got, want := w.render("", s.FetchOffsets(req)), "fetch"; got != want {
			t.Errorf("fetch all: %s, want %s", got, want)
		}
	}
}

package group

import (
	"encoding/hex"
	"slices"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// TestConsumerRecords: the records are those that Apache Kafka 4.4.0 writes for the same members, byte by byte, and replaying one makes
// what it was made of.
func TestConsumerRecords(t *testing.T) {
	topic := id.UUID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	m := newConsumerMember("m1")
	m.epoch, m.previousEpoch, m.state, m.instance, m.rack, m.rebalanceTimeoutMs = 5, 4, memberUnrevoked, new("i"), new("r"), 45_000
	m.clientID, m.clientHost, m.topics, m.regex, m.assignor = "c", "/h", []string{"a", "b"}, "x.*", new("range")
	m.assigned, m.revoking = partitionEpochs{{topic, []partitionEpoch{{0, 3}, {2, 5}}}}, partitionEpochs{{topic, []partitionEpoch{{1, 4}}}}
	m.classic = &logrec.ConsumerGroupMemberMetadataValueClassicMemberMetadata{SessionTimeoutMs: 10_000,
		SupportedProtocols: []logrec.ConsumerGroupMemberMetadataValueClassicMemberMetadataSupportedProtocol{{Name: "range", Metadata: []byte{1, 2}}}}
	e := newConsumerMember("m2")
	e.clientID, e.clientHost, e.topics, e.rebalanceTimeoutMs = "c", "/h", []string{"a"}, 5000
	records := map[string]shard.Record{
		"member": consumerMemberRecord("g", m), "plain member": consumerMemberRecord("g", e), "member gone": consumerMemberTombstone("g", "m1"),
		"epoch": consumerEpochRecord("g", 7, -5), "epoch gone": consumerEpochTombstone("g"),
		"target": consumerTargetOfRecord("g", "m1", partitionList{{topic, []int32{0, 2}}}), "no target": consumerTargetOfRecord("g", "m1", nil),
		"target gone": consumerTargetOfTombstone("g", "m1"), "target epoch": consumerTargetRecord("g", 7, 1234567),
		"target epoch at no time": consumerTargetRecord("g", 7, 0), "target epoch gone": consumerTargetTombstone("g"),
		"current": consumerCurrentRecord("g", m), "nothing current": consumerCurrentRecord("g", e), "current gone": consumerCurrentTombstone("g", "m1"),
		"regex":      consumerRegexRecord("g", "x.*", &resolvedRegex{topics: []string{"xa", "xb"}, version: 12, timestampMs: 34}),
		"regex gone": consumerRegexTombstone("g", "x.*"), "metadata gone": consumerLegacyTombstone("g"),
	}
	for _, want := range []struct{ name, key, value string }{
		{"member", "000500016700026d31", "0000026902720263032f68030261026204782e2a0000afc80672616e67650100110100002710020672616e67650301020000"},
		{"plain member", "000500016700026d32", "000000000263032f6802026101000013880001000100"},
		{"member gone", "000500016700026d31", ""},
		{"epoch", "0003000167", "000000000007010008fffffffffffffffb"},
		{"epoch gone", "0003000167", ""},
		{"target", "000700016700026d31", "0000020102030405060708090a0b0c0d0e0f100300000000000000020000"},
		{"no target", "000700016700026d31", "00000100"},
		{"target gone", "000700016700026d31", ""},
		{"target epoch", "0006000167", "000000000007010008000000000012d687"},
		{"target epoch at no time", "0006000167", "00000000000700"},
		{"target epoch gone", "0006000167", ""},
		{"current", "000800016700026d31", "0000000000050000000401020102030405060708090a0b0c0d0e0f10030000000000000002010009030000000300000005020102030405060708090a0b0c0d0e0f100200000001010005020000000400"},
		{"nothing current", "000800016700026d32", "000000000000ffffffff00010100"},
		{"current gone", "000800016700026d31", ""},
		{"regex", "00100001670003782e2a", "000003037861037862000000000000000c000000000000002200"},
		{"regex gone", "00100001670003782e2a", ""},
		{"metadata gone", "0004000167", ""},
	} {
		r, ok := records[want.name]
		if !ok {
			t.Fatalf("no record %s", want.name)
		}
		if key, value := hex.EncodeToString(r.Key), hex.EncodeToString(r.Value); key != want.key || value != want.value || (r.Value == nil) != (want.value == "") {
			t.Errorf("%s:\n%s %s, want\n%s %s", want.name, key, value, want.key, want.value)
		}
		before, after := newConsumerGroup("g"), newConsumerGroup("g")
		for _, g := range []*consumerGroup{before, after} {
			g.setMember(newConsumerMember("m1"))
			g.target = g.target.With("m1", nil)
			g.setPattern("x.*", &resolvedRegex{})
		}
		gone := r.Change.(consumerChange).on(before)
		c, err := decodeConsumer(keyType(string(r.Key)), r.Key, r.Value)
		if err != nil || c.on(after) != gone || consumerText(before) != consumerText(after) || c.makes != (r.Value != nil) {
			t.Errorf("%s, replayed: %v\n%s, want\n%s", want.name, err, consumerText(after), consumerText(before))
		}
	}
	if _, err := decodeConsumer(typeConsumerMember, records["member"].Key, []byte{0, 0, 9}); err == nil {
		t.Error("half a record is read")
	}
}

// TestEpochsOfPartitions: partitions in a record have epochs of their own, or all that of their member, which counts from 0 on even if a
// static member is away.
func TestEpochsOfPartitions(t *testing.T) {
	topic := id.UUID{1}
	for _, c := range []struct {
		epochs []int32
		member int32
		want   []int32
	}{
		{nil, 9, []int32{9, 9, 9}},
		{nil, epochStaticLeave, []int32{0, 0, 0}},
		{[]int32{5, 6, 7}, epochStaticLeave, []int32{5, 6, 7}},
		{[]int32{0}, 7, []int32{7, 7, 7}}, // does not fit
		{[]int32{}, 7, []int32{7, 7, 7}},
	} {
		got := partitionsFromRecord([]logrec.ConsumerGroupCurrentMemberAssignmentValueTopicPartition{
			{TopicID: topic, Partitions: []int32{0, 1, 2}, AssignmentEpochs: c.epochs}}, c.member)
		var list []partitionEpoch
		for p, epoch := range c.want {
			list = append(list, partitionEpoch{int32(p), epoch})
		}
		if len(got) != 1 || got[0].topic != topic || !slices.Equal(got[0].list, list) {
			t.Errorf("epochs %v of a member in %d: %v", c.epochs, c.member, got)
		}
	}
}

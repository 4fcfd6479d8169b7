package group

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/assignor"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// topicName reads back what topicID made.
func topicName(u id.UUID) string {
	s := string(u[:])
	for n := 1; n <= 16; n++ {
		if strings.Repeat(s[:n], 16)[:16] == s {
			return s[:n]
		}
	}
	return s
}

// rename puts the names of members for their ids.
func (w *world) rename(s string) string {
	for memberID, name := range w.alias {
		s = strings.ReplaceAll(s, memberID, name)
	}
	return s
}

// change makes the next image of the cluster.
func (w *world) change(records ...logrec.MetadataRecord) {
	base := w.image
	if base == nil {
		base = image.Empty()
	}
	d := image.NewDelta(base)
	for _, r := range records {
		if err := d.Replay(r); err != nil {
			w.t.Fatal(err)
		}
	}
	p := base.Provenance
	p.Offset++
	w.image = d.Apply(p)
}

// consumerStep runs the commands of consumer groups.
func (w *world) consumerStep(a args, group string) {
	switch a.td.Cmd {
	case "topic":
		// topic NAME partitions=N: makes it, or gives it more; partitions=0 removes it.
		name, n := a.first(), int32(a.num("partitions", 1))
		topic := topicID(name)
		if n == 0 {
			w.change(&logrec.RemoveTopicRecord{TopicID: topic})
			return
		}
		var records []logrec.MetadataRecord
		from := int32(0)
		if w.image != nil && w.image.Topics.ByName(name) != nil {
			from = int32(len(w.image.Topics.ByName(name).Partitions))
		} else {
			records = append(records, &logrec.TopicRecord{Name: name, TopicID: topic})
		}
		for p := from; p < n; p++ {
			records = append(records, &logrec.PartitionRecord{TopicID: topic, PartitionID: p, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1})
		}
		w.change(records...)
	case "rack":
		// rack NAME: where the broker with all replicas is from now on.
		name := a.first()
		w.change(&logrec.RegisterBrokerRecord{BrokerID: 1, Rack: &name})
	case "group-config":
		// group-config NAME value=V; without a value the group has none any more.
		w.change(&logrec.ConfigRecord{ResourceType: int8(image.ResourceGroup), ResourceName: group, Name: a.first(), Value: a.opt("value")})
	case "broker-config":
		// The same for the dynamic config of all brokers.
		w.change(&logrec.ConfigRecord{ResourceType: int8(image.ResourceBroker), Name: a.first(), Value: a.opt("value")})
	case "given":
		// given: records that are in the log already, one a line. They are not told.
		told := len(w.out)
		for line := range strings.Lines(a.td.Input) {
			w.given(args{a.t, parseLine(a, line)}, group)
		}
		w.out = w.out[:told]
	case "consumer-describe":
		for _, g := range w.s.DescribeConsumerGroups([]string{group}, w.image) {
			s := fmt.Sprintf("%s %s %s epoch=%d/%d assignor=%s", g.GroupID, g.ErrorCode.Name(), g.GroupState, g.GroupEpoch, g.AssignmentEpoch, g.AssignorName)
			if g.ErrorCode != wire.ErrNone {
				s = fmt.Sprintf("%s %s %s", g.GroupID, g.ErrorCode.Name(), text(g.ErrorMessage))
			}
			var members []string
			for _, m := range g.Members {
				one := fmt.Sprintf("\n  %s type=%d epoch=%d instance=%s topics=%v regex=%q has%s target%s", w.name(m.MemberID), m.MemberType, m.MemberEpoch,
					text(m.InstanceID), m.SubscribedTopicNames, text(m.SubscribedTopicRegex), describedText(m.Assignment), describedText(m.TargetAssignment))
				if m.RackID != nil {
					one += " rack=" + *m.RackID
				}
				if m.ClientID != "client" || m.ClientHost != "/10.0.0.1" {
					one += " client=" + m.ClientID + m.ClientHost
				}
				members = append(members, one)
			}
			slices.Sort(members)
			w.say("%s%s", s, strings.Join(members, ""))
		}
	case "consumer":
		// consumer NAME epoch=E topics=a,b has=a-0,a-1: a heartbeat. Epoch 0 joins.
		req := api.NewConsumerGroupHeartbeatRequest()
		req.GroupID, req.MemberID, req.MemberEpoch = group, w.id(a.str("member", a.first())), int32(a.num("epoch", 0))
		req.InstanceID, req.RackID, req.SubscribedTopicRegex, req.ServerAssignor = a.opt("instance"), a.opt("rack"), a.opt("regex"), a.opt("assignor")
		if a.has("topics") {
			req.SubscribedTopicNames = append([]string{}, a.list("topics")...)
		}
		if req.MemberEpoch == 0 {
			req.RebalanceTimeoutMs, req.TopicPartitions = 60_000, []api.ConsumerGroupHeartbeatRequestTopicPartition{}
			if a.has("has") {
				req.TopicPartitions = nil
			}
			if req.SubscribedTopicNames == nil && req.SubscribedTopicRegex == nil && !a.has("nothing") {
				req.SubscribedTopicNames = []string{"t"}
			}
		}
		if a.has("rebalance") {
			req.RebalanceTimeoutMs = int32(a.duration("rebalance", 0).Milliseconds())
		}
		if a.has("has") {
			req.TopicPartitions = []api.ConsumerGroupHeartbeatRequestTopicPartition{}
			topicsOf(a.list("has"), func(topic string, p int32, _ string) {
				if topic == "none" {
					return
				}
				req.TopicPartitions = append(req.TopicPartitions, api.ConsumerGroupHeartbeatRequestTopicPartition{TopicID: topicID(topic), Partitions: []int32{p}})
			})
		}
		w.do(a.first(), int16(a.num("version", 1)), func(t Turn) shard.Result { return w.s.ConsumerGroupHeartbeat(t, req) })
	}
}

func parseLine(a args, line string) *datadriven.TestData {
	cmd, list, err := datadriven.ParseLine(line)
	if err != nil {
		a.td.Fatalf(a.t, "%s: %v", line, err)
	}
	return &datadriven.TestData{Pos: a.td.Pos, Cmd: cmd, CmdArgs: list}
}

// given brings one record of a consumer group into the log. "no-X" is the tombstone of X.
func (w *world) given(a args, group string) {
	w.s.begin(w.now)
	w.s.Observe(w.image)
	var r shard.Record
	switch a.td.Cmd {
	case "member":
		m := newConsumerMember(a.first())
		m.clientID, m.clientHost, m.instance, m.rack, m.assignor = a.str("client", "client"), a.str("host", "/10.0.0.1"), a.opt("instance"), a.opt("rack"), a.opt("assignor")
		m.topics, m.regex, m.rebalanceTimeoutMs = a.list("topics"), a.str("regex", ""), int32(a.duration("rebalance", time.Minute).Milliseconds())
		r = consumerMemberRecord(group, m)
	case "no-member":
		r = consumerMemberTombstone(group, a.first())
	case "epoch":
		// With the hash of what the members so far read, or of something that has changed since.
		n, _ := strconv.Atoi(a.first())
		hash := int64(0)
		if e := w.s.groups[group]; e != nil && e.consumer != nil && !a.has("stale") {
			hash = w.s.groupHash(e.consumer.view.topics)
		}
		r = consumerEpochRecord(group, int32(n), hash)
	case "no-epoch":
		r = consumerEpochTombstone(group)
	case "target":
		list := make(assignor.Assignment)
		topicsOf(a.list("has"), func(topic string, p int32, _ string) { list[topicID(topic)] = append(list[topicID(topic)], p) })
		r = consumerTargetOfRecord(group, a.first(), newPartitionList(list))
	case "no-target":
		r = consumerTargetOfTombstone(group, a.first())
	case "target-epoch":
		n, _ := strconv.Atoi(a.first())
		r = consumerTargetRecord(group, int32(n), w.now.Add(-a.duration("age", time.Hour)).UnixMilli())
	case "no-target-epoch":
		r = consumerTargetTombstone(group)
	case "current":
		r = consumerCurrentRecord(group, &consumerMember{
			id: a.first(), epoch: int32(a.num("epoch", 0)), previousEpoch: int32(a.num("before", 0)), state: memberState(a.num("state", 0)),
			assigned: a.epochs("has"), revoking: a.epochs("revokes"),
		})
		if a.has("old") { // of a release that did not write epochs of partitions
			r = w.withoutEpochs(r)
		}
	case "no-current":
		r = consumerCurrentTombstone(group, a.first())
	case "regex":
		r = consumerRegexRecord(group, a.first(), &resolvedRegex{topics: a.list("means"), version: a.num("version", 1<<40), timestampMs: w.now.Add(-a.duration("age", 0)).UnixMilli()})
	case "no-regex":
		r = consumerRegexTombstone(group, a.first())
	case "metadata":
		r = consumerRecord(group, &logrec.ConsumerGroupPartitionMetadataKey{GroupID: group}, &logrec.ConsumerGroupPartitionMetadataValue{}, onLegacy(true))
	case "no-metadata":
		r = consumerLegacyTombstone(group)
	default:
		a.td.Fatalf(a.t, "unknown record %s", a.td.Cmd)
	}
	w.carry(shard.NoTicket, shard.Result{Records: []shard.Record{r}})
	w.settle()
}

// epochs reads partitions with the epochs at which they were assigned: "t-0:5,t-1:6".
func (a args) epochs(key string) partitionEpochs {
	var list epochs
	topicsOf(a.list(key), func(topic string, p int32, epoch string) {
		n, _ := strconv.Atoi(epoch)
		list.put(topicID(topic), p, int32(n))
	})
	return list.done()
}

func (w *world) withoutEpochs(r shard.Record) shard.Record {
	k, v, err := logrec.DecodeGroup(r.Key, r.Value)
	if err != nil {
		w.t.Fatal(err)
	}
	value := v.(*logrec.ConsumerGroupCurrentMemberAssignmentValue)
	for _, list := range [][]logrec.ConsumerGroupCurrentMemberAssignmentValueTopicPartition{value.AssignedPartitions, value.PartitionsPendingRevocation} {
		for i := range list {
			list[i].AssignmentEpochs = nil
		}
	}
	key := k.(*logrec.ConsumerGroupCurrentMemberAssignmentKey)
	return consumerRecord(key.GroupID, key, value, onCurrent(key.MemberID, value))
}

func describedText(a api.ConsumerGroupDescribeResponseAssignment) string {
	s := ""
	for _, t := range a.TopicPartitions {
		s += fmt.Sprintf(" %s%v", t.TopicName, t.Partitions)
	}
	return s
}

// describeConsumer prints a record of a consumer group.
func (w *world) describeConsumer(k logrec.Key, v logrec.Value) (string, bool) {
	partitions := func(list []logrec.ConsumerGroupCurrentMemberAssignmentValueTopicPartition) string {
		s := ""
		for _, t := range list {
			for i, p := range t.Partitions {
				s += " " + topicName(t.TopicID) + "-" + strconv.Itoa(int(p))
				if i < len(t.AssignmentEpochs) {
					s += "@" + strconv.Itoa(int(t.AssignmentEpochs[i]))
				}
			}
		}
		return s
	}
	kind, member, group := "", "", ""
	switch k := k.(type) {
	case *logrec.ConsumerGroupMetadataKey:
		kind, group = "epoch", k.GroupID
	case *logrec.ConsumerGroupPartitionMetadataKey:
		kind, group = "metadata", k.GroupID
	case *logrec.ConsumerGroupMemberMetadataKey:
		kind, group, member = "member", k.GroupID, k.MemberID
	case *logrec.ConsumerGroupTargetAssignmentMetadataKey:
		kind, group = "target-epoch", k.GroupID
	case *logrec.ConsumerGroupTargetAssignmentMemberKey:
		kind, group, member = "target", k.GroupID, k.MemberID
	case *logrec.ConsumerGroupCurrentMemberAssignmentKey:
		kind, group, member = "current", k.GroupID, k.MemberID
	case *logrec.ConsumerGroupRegularExpressionKey:
		kind, group, member = "regex", k.GroupID, k.RegularExpression
	default:
		return "", false
	}
	s := "consumer " + group + " " + kind
	if member != "" {
		s += " " + w.name(member)
	}
	switch v := v.(type) {
	case nil:
		s += " tombstone"
	case *logrec.ConsumerGroupMetadataValue:
		s += fmt.Sprintf(" %d", v.Epoch)
	case *logrec.ConsumerGroupMemberMetadataValue:
		s += fmt.Sprintf(" instance=%s topics=%v regex=%q assignor=%s rebalance=%v", text(v.InstanceID), v.SubscribedTopicNames, text(v.SubscribedTopicRegex), text(v.ServerAssignor),
			time.Duration(v.RebalanceTimeoutMs)*time.Millisecond)
		if c := v.ClassicMemberMetadata; c != nil {
			s += fmt.Sprintf(" classic session=%dms protocols=%d", c.SessionTimeoutMs, len(c.SupportedProtocols))
		}
	case *logrec.ConsumerGroupTargetAssignmentMetadataValue:
		s += fmt.Sprintf(" %d", v.AssignmentEpoch)
	case *logrec.ConsumerGroupTargetAssignmentMemberValue:
		for _, t := range v.TopicPartitions {
			s += fmt.Sprintf(" %s%v", topicName(t.TopicID), t.Partitions)
		}
	case *logrec.ConsumerGroupCurrentMemberAssignmentValue:
		s += fmt.Sprintf(" epoch=%d before=%d state=%d has%s revokes%s", v.MemberEpoch, v.PreviousMemberEpoch, v.State, partitions(v.AssignedPartitions), partitions(v.PartitionsPendingRevocation))
	case *logrec.ConsumerGroupRegularExpressionValue:
		s += fmt.Sprintf(" means %v", v.Topics)
	}
	return s, true
}

// ownedMetadata is what a cooperative consumer sends, with the partitions that it has.
func ownedMetadata(topics, owned []string) []byte {
	sub := &logrec.ConsumerProtocolSubscription{Topics: topics, OwnedPartitions: []logrec.ConsumerProtocolSubscriptionOwnedPartition{}, GenerationID: -1}
	topicsOf(owned, func(topic string, p int32, _ string) {
		sub.OwnedPartitions = append(sub.OwnedPartitions, logrec.ConsumerProtocolSubscriptionOwnedPartition{Topic: topic, Partitions: []int32{p}})
	})
	return logrec.EncodeVersioned(sub, 3)
}

// assignmentBytes is a consumer's assignment as the leader of a classic group sends it.
func assignmentBytes(list []string) []byte {
	value := &logrec.ConsumerProtocolAssignment{}
	topicsOf(list, func(topic string, p int32, _ string) {
		value.AssignedPartitions = append(value.AssignedPartitions, logrec.ConsumerProtocolAssignmentAssignedPartition{Topic: topic, Partitions: []int32{p}})
	})
	return logrec.EncodeVersioned(value, 3)
}

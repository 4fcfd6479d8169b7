package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-io/moldau/internal/base/id"
)

type listedGroup struct{ name, kind, state string }

// describedGroup is a classic or consumer group; what a kind does not have is "-".
type describedGroup struct {
	name, state, assignor, coordinator string
	epoch, targetEpoch                 string
	members                            []groupMember
}

type groupMember struct {
	id, instance, host, clientID string
	epoch, upgraded              string
	assigned, target             []id.TopicPartition
}

type committedOffset struct {
	offset int64
	epoch  int32
}

// listGroups returns the classic and consumer groups of all brokers in the order of Kafka's tool.
func (a *admin) listGroups(ctx context.Context, states, types []string) ([]listedGroup, error) {
	r := kmsg.NewPtrListGroupsRequest()
	r.StatesFilter = states
	r.TypesFilter = types
	if len(types) == 0 {
		r.TypesFilter = []string{"Classic", "Consumer"}
	}
	var out []listedGroup
	for _, shard := range a.cl.RequestSharded(ctx, r) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		resp := shard.Resp.(*kmsg.ListGroupsResponse)
		if err := answered(resp.ErrorCode, nil); err != nil {
			return nil, err
		}
		for _, g := range resp.Groups {
			if g.ProtocolType != "" && g.ProtocolType != "consumer" || slices.ContainsFunc(out, func(o listedGroup) bool { return o.name == g.Group }) {
				continue
			}
			kind, state := "Unknown", "Unknown"
			for _, t := range groupTypes {
				if strings.EqualFold(t, g.GroupType) {
					kind = t
				}
			}
			if g.GroupState != "" {
				state = g.GroupState
			}
			out = append(out, listedGroup{g.Group, kind, state})
		}
	}
	return javaHashOrder(out, func(g listedGroup) uint32 { return javaStringHash(g.name) }, 16), nil
}

// coordinators finds the coordinator of each group, as host:port  (id).
func (a *admin) coordinators(ctx context.Context, names []string) (map[string]string, error) {
	out := map[string]string{}
	r := kmsg.NewPtrFindCoordinatorRequest()
	r.CoordinatorType = 0
	r.CoordinatorKeys = names
	for _, shard := range a.cl.RequestSharded(ctx, r) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		for _, c := range shard.Resp.(*kmsg.FindCoordinatorResponse).Coordinators {
			if err := answered(c.ErrorCode, c.ErrorMessage); err != nil {
				return nil, err
			}
			out[c.Key] = fmt.Sprintf("%s:%d  (%d)", c.Host, c.Port, c.NodeID)
		}
	}
	return out, nil
}

// describeGroups asks for consumer groups first, and for those that are none as classic groups.
func (a *admin) describeGroups(ctx context.Context, names []string) ([]describedGroup, error) {
	if len(names) == 0 {
		return nil, nil
	}
	where, err := a.coordinators(ctx, names)
	if err != nil {
		return nil, err
	}
	out, classic, err := a.describeModern(ctx, names)
	if err != nil {
		return nil, err
	}
	if len(classic) > 0 {
		more, err := a.describeClassic(ctx, classic)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	for i := range out {
		out[i].coordinator = where[out[i].name]
	}
	return out, nil
}

func (a *admin) describeModern(ctx context.Context, names []string) (out []describedGroup, classic []string, err error) {
	r := kmsg.NewPtrConsumerGroupDescribeRequest()
	r.Groups = names
	for _, shard := range a.cl.RequestSharded(ctx, r) {
		if shard.Err != nil {
			if isUnsupported(shard.Err) {
				return nil, names, nil
			}
			return nil, nil, shard.Err
		}
		for _, g := range shard.Resp.(*kmsg.ConsumerGroupDescribeResponse).Groups {
			switch err := answered(g.ErrorCode, g.ErrorMessage); {
			case isCode(err, kerr.GroupIDNotFound), isCode(err, kerr.UnsupportedVersion):
				classic = append(classic, g.Group)
				continue
			case err != nil:
				return nil, nil, err
			}
			d := describedGroup{name: g.Group, state: g.State, assignor: g.AssignorName, epoch: strconv.Itoa(int(g.Epoch)), targetEpoch: strconv.Itoa(int(g.AssignmentEpoch))}
			for _, m := range g.Members {
				x := groupMember{id: m.MemberID, host: m.ClientHost, clientID: m.ClientID, epoch: strconv.Itoa(int(m.MemberEpoch)), upgraded: missing}
				if m.InstanceID != nil {
					x.instance = *m.InstanceID
				}
				if m.MemberType != -1 {
					x.upgraded = strconv.FormatBool(m.MemberType == 1)
				}
				for _, t := range m.Assignment.TopicPartitions {
					x.assigned = appendPartitions(x.assigned, t.Topic, t.Partitions)
				}
				for _, t := range m.TargetAssignment.TopicPartitions {
					x.target = appendPartitions(x.target, t.Topic, t.Partitions)
				}
				d.members = append(d.members, x)
			}
			out = append(out, d)
		}
	}
	return out, classic, nil
}

func appendPartitions(to []id.TopicPartition, topic string, partitions []int32) []id.TopicPartition {
	for _, p := range partitions {
		to = append(to, id.TopicPartition{Topic: topic, Partition: p})
	}
	return to
}

func (a *admin) describeClassic(ctx context.Context, names []string) ([]describedGroup, error) {
	r := kmsg.NewPtrDescribeGroupsRequest()
	r.Groups = names
	var out []describedGroup
	for _, shard := range a.cl.RequestSharded(ctx, r) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		for _, g := range shard.Resp.(*kmsg.DescribeGroupsResponse).Groups {
			if err := answered(g.ErrorCode, g.ErrorMessage); err != nil {
				return nil, errors.New(javaException(err))
			}
			if g.ProtocolType != "" && g.ProtocolType != "consumer" {
				return nil, fmt.Errorf("java.lang.IllegalArgumentException: GroupId %s is not a consumer group (%s).", g.Group, g.ProtocolType)
			}
			d := describedGroup{name: g.Group, state: g.State, assignor: g.Protocol, epoch: missing, targetEpoch: missing}
			for _, m := range g.Members {
				x := groupMember{id: m.MemberID, host: m.ClientHost, clientID: m.ClientID, epoch: missing, upgraded: missing}
				if m.InstanceID != nil {
					x.instance = *m.InstanceID
				}
				var assignment kmsg.ConsumerMemberAssignment
				if len(m.MemberAssignment) > 0 && assignment.ReadFrom(m.MemberAssignment) == nil {
					for _, t := range assignment.Topics {
						x.assigned = appendPartitions(x.assigned, t.Topic, t.Partitions)
					}
				}
				d.members = append(d.members, x)
			}
			out = append(out, d)
		}
	}
	return out, nil
}

// committed returns all offsets a group has committed.
func (a *admin) committed(ctx context.Context, group string) (map[id.TopicPartition]committedOffset, error) {
	r := kmsg.NewPtrOffsetFetchRequest()
	r.Group = group
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	r.Groups = append(r.Groups, g)
	resp, err := r.RequestWith(ctx, a.cl)
	if err != nil {
		return nil, err
	}
	out := map[id.TopicPartition]committedOffset{}
	if err := answered(resp.ErrorCode, nil); err != nil {
		return nil, err
	}
	for _, t := range resp.Topics { // versions before 8
		for _, p := range t.Partitions {
			if p.Offset >= 0 {
				out[id.TopicPartition{Topic: t.Topic, Partition: p.Partition}] = committedOffset{p.Offset, p.LeaderEpoch}
			}
		}
	}
	for _, g := range resp.Groups {
		if err := answered(g.ErrorCode, nil); err != nil {
			return nil, err
		}
		for _, t := range g.Topics {
			if t.Topic == "" { // version 10 names topics by id
				if t.Topic, err = a.topicName(ctx, t.TopicID); err != nil {
					return nil, err
				}
			}
			for _, p := range t.Partitions {
				if err := answered(p.ErrorCode, nil); err != nil {
					return nil, err
				}
				if p.Offset >= 0 {
					out[id.TopicPartition{Topic: t.Topic, Partition: p.Partition}] = committedOffset{p.Offset, p.LeaderEpoch}
				}
			}
		}
	}
	return out, nil
}

// topicName finds the name of a topic id; an id without a topic stands for itself.
func (a *admin) topicName(ctx context.Context, topicID id.UUID) (string, error) {
	topics, err := a.listTopics(ctx)
	if err != nil {
		return "", err
	}
	if i := slices.IndexFunc(topics, func(l listedTopic) bool { return l.id == topicID }); i >= 0 {
		return topics[i].name, nil
	}
	return topicID.String(), nil
}

// deleteGroups returns the errors by group.
func (a *admin) deleteGroups(ctx context.Context, names []string) (map[string]error, error) {
	failed := map[string]error{}
	if len(names) == 0 {
		return failed, nil
	}
	r := kmsg.NewPtrDeleteGroupsRequest()
	r.Groups = names
	for _, shard := range a.cl.RequestSharded(ctx, r) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		for _, g := range shard.Resp.(*kmsg.DeleteGroupsResponse).Groups {
			if err := answered(g.ErrorCode, nil); err != nil {
				failed[g.Group] = err
			}
		}
	}
	return failed, nil
}

// deleteOffsets returns the errors by partition, and the group's own.
func (a *admin) deleteOffsets(ctx context.Context, group string, partitions []id.TopicPartition) (map[id.TopicPartition]error, error) {
	r := kmsg.NewPtrOffsetDeleteRequest()
	r.Group = group
	for _, tp := range partitions {
		p := kmsg.NewOffsetDeleteRequestTopicPartition()
		p.Partition = tp.Partition
		i := slices.IndexFunc(r.Topics, func(t kmsg.OffsetDeleteRequestTopic) bool { return t.Topic == tp.Topic })
		if i < 0 {
			t := kmsg.NewOffsetDeleteRequestTopic()
			t.Topic = tp.Topic
			r.Topics = append(r.Topics, t)
			i = len(r.Topics) - 1
		}
		r.Topics[i].Partitions = append(r.Topics[i].Partitions, p)
	}
	resp, err := r.RequestWith(ctx, a.cl)
	if err != nil {
		return nil, err
	}
	if err := answered(resp.ErrorCode, nil); err != nil {
		return nil, err
	}
	out := map[id.TopicPartition]error{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			out[id.TopicPartition{Topic: t.Topic, Partition: p.Partition}] = answered(p.ErrorCode, nil)
		}
	}
	return out, nil
}

// commitOffsets sets offsets of a group without members.
func (a *admin) commitOffsets(ctx context.Context, group string, offsets map[id.TopicPartition]int64) error {
	topics, err := a.listTopics(ctx) // version 10 names topics by id
	if err != nil {
		return err
	}
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Group, r.Generation, r.MemberID = group, -1, ""
	for _, tp := range sortedPartitions(offsets) {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch = tp.Partition, offsets[tp], -1
		p.Metadata = kmsg.StringPtr("")
		i := slices.IndexFunc(r.Topics, func(t kmsg.OffsetCommitRequestTopic) bool { return t.Topic == tp.Topic })
		if i < 0 {
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic = tp.Topic
			if j := slices.IndexFunc(topics, func(l listedTopic) bool { return l.name == tp.Topic }); j >= 0 {
				t.TopicID = topics[j].id
			}
			r.Topics = append(r.Topics, t)
			i = len(r.Topics) - 1
		}
		r.Topics[i].Partitions = append(r.Topics[i].Partitions, p)
	}
	resp, err := r.RequestWith(ctx, a.cl)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := answered(p.ErrorCode, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func sortedPartitions[V any](m map[id.TopicPartition]V) []id.TopicPartition {
	out := make([]id.TopicPartition, 0, len(m))
	for tp := range m {
		out = append(out, tp)
	}
	slices.SortFunc(out, id.TopicPartition.Compare)
	return out
}

// javaException shows an error as Java prints an exception: with the class of Kafka's client that stands for the code.
func javaException(err error) string {
	var e *serverError
	if !errors.As(err, &e) {
		return err.Error()
	}
	var known *kerr.Error
	if !errors.As(kerr.ErrorForCode(e.code), &known) {
		return e.text
	}
	var class strings.Builder
	for word := range strings.SplitSeq(known.Message, "_") {
		class.WriteString(word[:1] + strings.ToLower(word[1:]))
	}
	name := class.String()
	switch e.code {
	case kerr.NonEmptyGroup.Code:
		name = "GroupNotEmpty"
	case kerr.GroupAuthorizationFailed.Code, kerr.TopicAuthorizationFailed.Code, kerr.ClusterAuthorizationFailed.Code:
		name = strings.TrimSuffix(name, "Failed")
	case kerr.UnknownServerError.Code:
		name = "UnknownServer"
	}
	return "org.apache.kafka.common.errors." + name + "Exception: " + e.text
}

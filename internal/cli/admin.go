package cli

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
)

// requestTimeoutMs is how long a broker may take for an admin request.
const requestTimeoutMs = 30000

type listedTopic struct {
	name     string
	id       id.UUID
	internal bool
}

type describedTopic struct {
	listedTopic
	partitions []describedPartition // sorted by number
}

type describedPartition struct {
	number, leader int32 // leader -1: none
	replicas, isr  []int32
	hasELR         bool
	elr, lastELR   []int32
}

type reassignment struct{ replicas, adding, removing []int32 }

type configEntry struct {
	name, value string
	source      conf.Source
}

// factor is the number of replicas the partition is meant to have, without those a running reassignment adds.
func (p describedPartition) factor(r reassignment) int {
	for _, b := range p.replicas {
		if slices.Contains(r.adding, b) || slices.Contains(r.removing, b) {
			return len(r.replicas) - len(r.adding)
		}
	}
	return len(p.replicas)
}

func (a *admin) listTopics(ctx context.Context) ([]listedTopic, error) {
	r := kmsg.NewPtrMetadataRequest()
	resp, err := r.RequestWith(ctx, a.cl)
	if err != nil {
		return nil, err
	}
	var out []listedTopic
	for _, t := range resp.Topics {
		if t.Topic != nil {
			out = append(out, listedTopic{*t.Topic, t.TopicID, t.IsInternal})
		}
	}
	return out, nil
}

// describeTopics asks by name with DescribeTopicPartitions, page by page, or, where the broker does not know that or ids are
// given, with Metadata. limit is the number of partitions in one answer; 0 is Kafka's default.
func (a *admin) describeTopics(ctx context.Context, names []string, ids []id.UUID, limit int32) ([]describedTopic, error) {
	if len(ids) == 0 {
		out, err := a.describeByPages(ctx, names, limit)
		if err == nil || !isUnsupported(err) {
			return out, err
		}
	}
	r := kmsg.NewPtrMetadataRequest()
	for _, n := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(n)
		r.Topics = append(r.Topics, t)
	}
	for _, u := range ids {
		t := kmsg.NewMetadataRequestTopic()
		t.TopicID = u
		r.Topics = append(r.Topics, t)
	}
	resp, err := r.RequestWith(ctx, a.cl)
	if err != nil {
		return nil, err
	}
	var out []describedTopic
	for _, t := range resp.Topics {
		if err := answered(t.ErrorCode, nil); err != nil {
			return nil, err
		}
		d := describedTopic{listedTopic: listedTopic{id: t.TopicID, internal: t.IsInternal}}
		if t.Topic != nil {
			d.name = *t.Topic
		}
		for _, p := range t.Partitions {
			d.partitions = append(d.partitions, describedPartition{number: p.Partition, leader: p.Leader, replicas: p.Replicas, isr: p.ISR})
		}
		out = append(out, d)
	}
	return sortPartitions(out), nil
}

func sortPartitions(topics []describedTopic) []describedTopic {
	for _, t := range topics {
		slices.SortFunc(t.partitions, func(a, b describedPartition) int { return int(a.number - b.number) })
	}
	return topics
}

// isUnsupported recognizes a broker that does not know a request, be it by its answer or because the client refused to send it.
func isUnsupported(err error) bool {
	return isCode(err, kerr.UnsupportedVersion) || errors.Is(err, kerr.UnsupportedVersion) ||
		err != nil && strings.Contains(err.Error(), "broker is too old")
}

func (a *admin) describeByPages(ctx context.Context, names []string, limit int32) ([]describedTopic, error) {
	if limit <= 0 {
		limit = 2000
	}
	byName := map[string]*describedTopic{}
	var order []string
	var cursor *kmsg.DescribeTopicPartitionsRequestCursor
	for {
		r := kmsg.NewPtrDescribeTopicPartitionsRequest()
		r.ResponsePartitionLimit = limit
		r.Cursor = cursor
		for _, n := range slices.Sorted(slices.Values(names)) {
			if cursor != nil && n < cursor.Topic {
				continue
			}
			t := kmsg.NewDescribeTopicPartitionsRequestTopic()
			t.Topic = n
			r.Topics = append(r.Topics, t)
		}
		resp, err := r.RequestWith(ctx, a.cl)
		if err != nil {
			return nil, err
		}
		for _, t := range resp.Topics {
			if err := answered(t.ErrorCode, nil); err != nil {
				return nil, err
			}
			if t.Topic == nil {
				continue
			}
			d := byName[*t.Topic]
			if d == nil {
				d = &describedTopic{listedTopic: listedTopic{*t.Topic, t.TopicID, t.IsInternal}}
				byName[*t.Topic] = d
				order = append(order, *t.Topic)
			}
			for _, p := range t.Partitions {
				d.partitions = append(d.partitions, describedPartition{number: p.Partition, leader: p.LeaderID, replicas: p.Replicas, isr: p.ISR,
					hasELR: p.EligibleLeaderReplicas != nil, elr: p.EligibleLeaderReplicas, lastELR: p.LastKnownELR})
			}
		}
		next := resp.NextCursor
		if next == nil || cursor != nil && next.Topic == cursor.Topic && next.Partition <= cursor.Partition {
			break
		}
		cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: next.Topic, Partition: next.Partition}
	}
	out := make([]describedTopic, 0, len(order))
	for _, n := range order {
		out = append(out, *byName[n])
	}
	return sortPartitions(out), nil
}

func (a *admin) createTopic(ctx context.Context, name string, partitions int32, factor int16, assignment [][]int32, configs map[string]string) error {
	r := kmsg.NewPtrCreateTopicsRequest()
	r.TimeoutMillis = requestTimeoutMs
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, factor
	for i, replicas := range assignment {
		x := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		x.Partition, x.Replicas = int32(i), replicas
		t.ReplicaAssignment = append(t.ReplicaAssignment, x)
	}
	for _, k := range slices.Sorted(maps.Keys(configs)) {
		x := kmsg.NewCreateTopicsRequestTopicConfig()
		x.Name, x.Value = k, kmsg.StringPtr(configs[k])
		t.Configs = append(t.Configs, x)
	}
	r.Topics = append(r.Topics, t)
	resp, err := r.RequestWith(ctx, a.cl)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		if err := answered(t.ErrorCode, t.ErrorMessage); err != nil {
			return err
		}
	}
	return nil
}

// createPartitions raises the number of partitions; an assignment tells the replicas of all, of which those after the current
// ones are sent.
func (a *admin) createPartitions(ctx context.Context, names []string, count int32, assignment [][]int32, current map[string]int) error {
	r := kmsg.NewPtrCreatePartitionsRequest()
	r.TimeoutMillis = requestTimeoutMs
	for _, n := range names {
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = n, count
		for i, replicas := range assignment {
			if i < current[n] {
				continue
			}
			x := kmsg.NewCreatePartitionsRequestTopicAssignment()
			x.Replicas = replicas
			t.Assignment = append(t.Assignment, x)
		}
		r.Topics = append(r.Topics, t)
	}
	resp, err := r.RequestWith(ctx, a.cl)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		if err := answered(t.ErrorCode, t.ErrorMessage); err != nil {
			return err
		}
	}
	return nil
}

func (a *admin) deleteTopics(ctx context.Context, names []string) error {
	r := kmsg.NewPtrDeleteTopicsRequest()
	r.TimeoutMillis = requestTimeoutMs
	for _, n := range names {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = kmsg.StringPtr(n)
		r.Topics = append(r.Topics, t)
		r.TopicNames = append(r.TopicNames, n)
	}
	resp, err := r.RequestWith(ctx, a.cl)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		if err := answered(t.ErrorCode, t.ErrorMessage); err != nil {
			return err
		}
	}
	return nil
}

func (a *admin) topicConfigs(ctx context.Context, names []string) (map[string][]configEntry, error) {
	r := kmsg.NewPtrDescribeConfigsRequest()
	for _, n := range names {
		x := kmsg.NewDescribeConfigsRequestResource()
		x.ResourceType, x.ResourceName = kmsg.ConfigResourceTypeTopic, n
		r.Resources = append(r.Resources, x)
	}
	out := map[string][]configEntry{}
	for _, shard := range a.cl.RequestSharded(ctx, r) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		for _, res := range shard.Resp.(*kmsg.DescribeConfigsResponse).Resources {
			if err := answered(res.ErrorCode, res.ErrorMessage); err != nil {
				return nil, err
			}
			for _, c := range res.Configs {
				e := configEntry{name: c.Name, value: "null", source: conf.Source(c.Source)}
				if c.Value != nil {
					e.value = *c.Value
				}
				out[res.ResourceName] = append(out[res.ResourceName], e)
			}
		}
	}
	return out, nil
}

func (a *admin) liveBrokers(ctx context.Context) ([]int32, error) {
	r := kmsg.NewPtrMetadataRequest()
	r.Topics = []kmsg.MetadataRequestTopic{}
	resp, err := r.RequestWith(ctx, a.cl)
	if err != nil {
		return nil, err
	}
	var out []int32
	for _, b := range resp.Brokers {
		out = append(out, b.NodeID)
	}
	return out, nil
}

// reassignments returns the running reassignments of the topics; a broker that does not know the request has none.
func (a *admin) reassignments(ctx context.Context, topics []describedTopic) (map[id.TopicPartition]reassignment, error) {
	r := kmsg.NewPtrListPartitionReassignmentsRequest()
	r.TimeoutMillis = requestTimeoutMs
	for _, t := range topics {
		x := kmsg.NewListPartitionReassignmentsRequestTopic()
		x.Topic = t.name
		for _, p := range t.partitions {
			x.Partitions = append(x.Partitions, p.number)
		}
		r.Topics = append(r.Topics, x)
	}
	out := map[id.TopicPartition]reassignment{}
	resp, err := r.RequestWith(ctx, a.cl)
	if err == nil {
		err = answered(resp.ErrorCode, resp.ErrorMessage)
	}
	switch {
	case err != nil && (isUnsupported(err) || isCode(err, kerr.ClusterAuthorizationFailed)):
		return out, nil
	case err != nil:
		return nil, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			out[id.TopicPartition{Topic: t.Topic, Partition: p.Partition}] = reassignment{p.Replicas, p.AddingReplicas, p.RemovingReplicas}
		}
	}
	return out, nil
}

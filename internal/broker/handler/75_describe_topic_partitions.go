package handler

import (
	"slices"

	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// describeTopicPartitions describes topics page by page (KIP-966): at most a limit of partitions per answer, which ends with a
// cursor where to go on. Topics come in order of name.
func (d *AdminDesk) describeTopicPartitions(r *server.Request) {
	req := api.NewDescribeTopicPartitionsRequest()
	if !r.Decode(req) {
		return
	}
	img := d.Image()
	all := len(req.Topics) == 0
	var names []string
	if all {
		names = img.Topics.Names()
	} else {
		for _, t := range req.Topics {
			names = append(names, t.Name)
		}
		slices.Sort(names)
		names = slices.Compact(names)
	}
	from, fromPartition := "", int32(0)
	if c := req.Cursor; c != nil {
		from, fromPartition = c.TopicName, c.PartitionIndex
		if fromPartition < 0 || !all && !slices.Contains(names, from) {
			a := api.NewDescribeTopicPartitionsResponse()
			for _, t := range req.Topics {
				rt := api.NewDescribeTopicPartitionsResponseTopic()
				rt.Name, rt.ErrorCode = &t.Name, wire.ErrInvalidRequest
				a.Topics = append(a.Topics, rt)
			}
			r.Answer(a)
			return
		}
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n < from })
	limit := max(min(d.Config().Int("max.request.partition.size.limit"), req.ResponsePartitionLimit), 1)
	a := api.NewDescribeTopicPartitionsResponse()
	v := topicView{img: img, listener: r.Conn.Listener, allReplicas: true}
	for _, name := range names {
		if limit == 0 {
			a.NextCursor = &api.DescribeTopicPartitionsResponseNextCursor{TopicName: name}
			break
		}
		start := int32(0)
		if name == from {
			start = fromPartition
		}
		t := img.Topics.ByName(name)
		if t == nil {
			if !all {
				a.Topics = append(a.Topics, api.DescribeTopicPartitionsResponseTopic{ErrorCode: unknownTopic(name), Name: &name,
					IsInternal: isInternalTopic(name), TopicAuthorizedOperations: topicOperations})
			}
			continue
		}
		end := min(int64(len(t.Partitions)), int64(start)+int64(limit))
		a.Topics = append(a.Topics, v.described(t, start, int32(end)))
		if end < int64(len(t.Partitions)) {
			a.NextCursor = &api.DescribeTopicPartitionsResponseNextCursor{TopicName: name, PartitionIndex: int32(end)}
			break
		}
		limit -= int32(max(end-int64(start), 0))
	}
	r.Answer(a)
}

// described describes the partitions of t from start up to, not including, end.
func (v topicView) described(t *image.Topic, start, end int32) api.DescribeTopicPartitionsResponseTopic {
	out := api.DescribeTopicPartitionsResponseTopic{Name: &t.Name, TopicID: t.ID, IsInternal: isInternalTopic(t.Name),
		TopicAuthorizedOperations: topicOperations}
	for n := start; n < end; n++ {
		p := t.Partition(n)
		if p == nil {
			continue
		}
		leader := int32(-1)
		if b := v.img.Cluster.Broker(p.Leader); b != nil && v.reaches(b) {
			leader = int32(p.Leader)
		}
		out.Partitions = append(out.Partitions, api.DescribeTopicPartitionsResponseTopicPartition{PartitionIndex: n, LeaderID: leader,
			LeaderEpoch: int32(p.LeaderEpoch), ReplicaNodes: p.Replicas, IsrNodes: p.ISR, OfflineReplicas: v.offline(p),
			EligibleLeaderReplicas: orEmpty(p.ELR), LastKnownElr: orEmpty(p.LastKnownELR)})
	}
	return out
}

// orEmpty turns null into an empty list, which is what Kafka answers.
func orEmpty(ids []int32) []int32 {
	if ids == nil {
		return []int32{}
	}
	return ids
}

package handler

import (
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// offsetDelete serves OffsetDelete (KIP-496). Topics and partitions that do not exist are answered here, the rest below.
func (d *GroupDesk) offsetDelete(r *server.Request) {
	req := api.NewOffsetDeleteRequest()
	if !r.Decode(req) {
		return
	}
	topics := d.image().Topics
	answer := deleteAnswer{resp: api.NewOffsetDeleteResponse(), index: make(map[string]int)}
	var known []api.OffsetDeleteRequestTopic
	for _, t := range req.Topics {
		topic := topics.ByName(t.Name)
		exist := api.OffsetDeleteRequestTopic{Name: t.Name}
		if topic == nil {
			answer.topic(t.Name) // is answered even if no partition is asked for
		}
		for _, p := range t.Partitions {
			if topic != nil && topic.Partition(p.PartitionIndex) != nil {
				exist.Partitions = append(exist.Partitions, p)
				continue
			}
			one := answer.topic(t.Name)
			one.Partitions = append(one.Partitions, api.OffsetDeleteResponseTopicPartition{PartitionIndex: p.PartitionIndex, ErrorCode: wire.ErrUnknownTopicOrPartition})
		}
		if len(exist.Partitions) > 0 {
			known = append(known, exist)
		}
	}
	req.Topics = known
	d.do(r, d.partitionOf(req.GroupID), func(body any, code wire.ErrorCode) {
		below, ok := body.(*api.OffsetDeleteResponse)
		if !ok {
			below = api.NewOffsetDeleteResponse()
			below.ErrorCode = coord.ClientError(code)
			if req.GroupID == "" && !down(code) {
				below.ErrorCode = wire.ErrInvalidGroupID
			}
		}
		if below.ErrorCode != wire.ErrNone || len(answer.resp.Topics) == 0 {
			r.Answer(below)
			return
		}
		for _, t := range below.Topics {
			one := answer.topic(t.Name)
			one.Partitions = append(one.Partitions, t.Partitions...)
		}
		r.Answer(answer.resp)
	}, func(s *group.Shard, t group.Turn) shard.Result { return s.OffsetDelete(t, req) })
}

// deleteAnswer gathers an answer: a topic that a request names twice is answered once.
type deleteAnswer struct {
	resp  *api.OffsetDeleteResponse
	index map[string]int
}

func (a *deleteAnswer) topic(name string) *api.OffsetDeleteResponseTopic {
	i, ok := a.index[name]
	if !ok {
		i = len(a.resp.Topics)
		a.index[name] = i
		a.resp.Topics = append(a.resp.Topics, api.OffsetDeleteResponseTopic{Name: name})
	}
	return &a.resp.Topics[i]
}

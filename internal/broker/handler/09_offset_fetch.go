package handler

import (
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// offsetFetch serves OffsetFetch: one group before version 8, several since; all topics since 2; stable offsets since 7; topic
// ids since 10. The answer leaves when every group has its own.
func (d *GroupDesk) offsetFetch(r *server.Request) {
	req := api.NewOffsetFetchRequest()
	if !r.Decode(req) {
		return
	}
	version := r.Version()
	groups := req.Groups
	if version < 8 {
		one := api.NewOffsetFetchRequestGroup()
		one.GroupID, one.Topics = req.GroupID, nil
		if req.Topics != nil {
			one.Topics = make([]api.OffsetFetchRequestGroupTopic, len(req.Topics))
			for i, t := range req.Topics {
				one.Topics[i] = api.OffsetFetchRequestGroupTopic{Name: t.Name, PartitionIndexes: t.PartitionIndexes}
			}
		}
		groups = []api.OffsetFetchRequestGroup{one}
	}
	resp := api.NewOffsetFetchResponse()
	resp.Groups = make([]api.OffsetFetchResponseGroup, len(groups))
	var left atomic.Int64
	left.Store(int64(len(groups)))
	if len(groups) == 0 {
		r.Answer(resp)
		return
	}
	for i := range groups {
		d.fetchGroup(r, &groups[i], req.RequireStable, func(one api.OffsetFetchResponseGroup) {
			resp.Groups[i] = one
			if left.Add(-1) == 0 {
				r.Answer(fetchAnswer(resp, version))
			}
		})
	}
}

// fetchAnswer brings the answer into the form of versions before 8, which know one group.
func fetchAnswer(resp *api.OffsetFetchResponse, version int16) *api.OffsetFetchResponse {
	if version >= 8 {
		return resp
	}
	g := &resp.Groups[0]
	resp.ErrorCode = g.ErrorCode
	for _, t := range g.Topics {
		one := api.OffsetFetchResponseTopic{Name: t.Name}
		for _, p := range t.Partitions {
			one.Partitions = append(one.Partitions, api.OffsetFetchResponseTopicPartition(p))
		}
		resp.Topics = append(resp.Topics, one)
	}
	resp.Groups = nil
	return resp
}

func (d *GroupDesk) fetchGroup(r *server.Request, g *api.OffsetFetchRequestGroup, stable bool, done func(api.OffsetFetchResponseGroup)) {
	topics := d.image().Topics
	version := r.Version()
	whole := *g // as asked, for errors
	var unknown []api.OffsetFetchResponseGroupTopic
	if version >= 10 && g.Topics != nil {
		known := make([]api.OffsetFetchRequestGroupTopic, 0, len(g.Topics))
		for _, t := range g.Topics {
			if topic := topics.ByID(t.TopicID); topic != nil {
				t.Name = topic.Name
				known = append(known, t)
				continue
			}
			unknown = append(unknown, fetchError(&t, wire.ErrUnknownTopicID))
		}
		g.Topics = known
	}
	reply := func(body any, code wire.ErrorCode) {
		if code != wire.ErrNone {
			done(fetchGroupError(&whole, fetchFailure(code), version))
			return
		}
		one := body.(api.OffsetFetchResponseGroup)
		switch {
		case one.ErrorCode != wire.ErrNone: // about the whole group
		case version >= 10 && whole.Topics == nil:
			one.Topics = withTopicIDs(one.Topics, topics)
		default:
			one.Topics = append(one.Topics, unknown...)
		}
		done(one)
	}
	partition := d.partitionOf(g.GroupID)
	if stable {
		d.do(r, partition, reply, func(s *group.Shard, t group.Turn) shard.Result { return s.FetchStableOffsets(t, g) })
		return
	}
	var one api.OffsetFetchResponseGroup
	code := d.groups.Read(partition, func(s *group.Shard) { one = s.FetchOffsets(g) })
	reply(one, code)
}

// withTopicIDs fills in the ids of a group's topics; those that are gone cannot be named in an answer by id and are left out.
func withTopicIDs(list []api.OffsetFetchResponseGroupTopic, topics *image.Topics) []api.OffsetFetchResponseGroupTopic {
	kept := list[:0]
	for _, t := range list {
		if topic := topics.ByName(t.Name); topic != nil {
			t.TopicID = topic.ID
			kept = append(kept, t)
		}
	}
	return kept
}

func fetchError(t *api.OffsetFetchRequestGroupTopic, code wire.ErrorCode) api.OffsetFetchResponseGroupTopic {
	one := api.OffsetFetchResponseGroupTopic{Name: t.Name, TopicID: t.TopicID}
	for _, index := range t.PartitionIndexes {
		p := api.NewOffsetFetchResponseGroupTopicPartition()
		p.PartitionIndex, p.CommittedOffset, p.ErrorCode = index, -1, code
		one.Partitions = append(one.Partitions, p)
	}
	return one
}

// fetchGroupError refuses a whole group. Version 1 has no place for that but the partitions.
func fetchGroupError(g *api.OffsetFetchRequestGroup, code wire.ErrorCode, version int16) api.OffsetFetchResponseGroup {
	one := api.OffsetFetchResponseGroup{GroupID: g.GroupID, ErrorCode: code}
	if version < 2 {
		one.ErrorCode = wire.ErrNone
		for i := range g.Topics {
			one.Topics = append(one.Topics, fetchError(&g.Topics[i], code))
		}
	}
	return one
}

// fetchFailure is coord.ClientError, but for what consumers before 3.9 do not retry: they are sent to look for the coordinator.
func fetchFailure(code wire.ErrorCode) wire.ErrorCode {
	switch code {
	case wire.ErrUnknownTopicOrPartition, wire.ErrNotEnoughReplicas, wire.ErrRequestTimedOut:
		return wire.ErrNotCoordinator
	}
	return coord.ClientError(code)
}

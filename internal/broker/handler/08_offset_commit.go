package handler

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// offsetCommit serves OffsetCommit. What the image does not know is answered here; the rest goes down. Topic ids since 10.
func (d *GroupDesk) offsetCommit(r *server.Request) {
	req := api.NewOffsetCommitRequest()
	if !r.Decode(req) {
		return
	}
	answer := newCommitAnswer(r.Version() >= 10)
	req.Topics = d.knownTopics(req.Topics, answer)
	if len(req.Topics) == 0 {
		r.Answer(answer.merge(api.NewOffsetCommitResponse()))
		return
	}
	d.do(r, d.partitionOf(req.GroupID), func(body any, code wire.ErrorCode) {
		below, ok := body.(*api.OffsetCommitResponse)
		if !ok {
			below = group.CommitError(req, coord.ClientError(code))
		}
		r.Answer(answer.merge(below))
	}, func(s *group.Shard, t group.Turn) shard.Result { return s.OffsetCommit(t, req) })
}

// knownTopics leaves in asked the topics and partitions that exist, with name and id, and answers for the others.
func (d *GroupDesk) knownTopics(asked []api.OffsetCommitRequestTopic, answer *commitAnswer) (known []api.OffsetCommitRequestTopic) {
	topics := d.image().Topics
	known = asked[:0]
	for _, t := range asked {
		topic := topics.ByName(t.Name)
		code := wire.ErrUnknownTopicOrPartition
		if answer.useIDs {
			topic, code = topics.ByID(t.TopicID), wire.ErrUnknownTopicID
		}
		if topic == nil {
			answer.fail(t, t.Partitions, code)
			continue
		}
		t.Name, t.TopicID = topic.Name, topic.ID
		t.Partitions = slices.DeleteFunc(t.Partitions, func(p api.OffsetCommitRequestTopicPartition) bool {
			if topic.Partition(p.PartitionIndex) != nil {
				return false
			}
			answer.fail(t, []api.OffsetCommitRequestTopicPartition{p}, wire.ErrUnknownTopicOrPartition)
			return true
		})
		if len(t.Partitions) > 0 {
			known = append(known, t)
		}
	}
	return known
}

// commitAnswer gathers an answer: a topic that a request names twice is answered once.
type commitAnswer struct {
	resp   *api.OffsetCommitResponse // nil before there is something in it
	useIDs bool
	index  map[commitTopic]int
}

func newCommitAnswer(useIDs bool) *commitAnswer {
	return &commitAnswer{useIDs: useIDs}
}

// commitTopic is what tells topics apart in an answer: the id or the name, as the version has it.
type commitTopic struct {
	name string
	id   id.UUID
}

func (a *commitAnswer) topic(name string, topicID id.UUID) *api.OffsetCommitResponseTopic {
	key := commitTopic{name: name}
	if a.useIDs {
		key = commitTopic{id: topicID}
	}
	i, ok := a.index[key]
	if !ok {
		if a.resp == nil {
			a.resp, a.index = api.NewOffsetCommitResponse(), make(map[commitTopic]int)
		}
		i = len(a.resp.Topics)
		a.index[key] = i
		a.resp.Topics = append(a.resp.Topics, api.OffsetCommitResponseTopic{Name: name, TopicID: topicID})
	}
	return &a.resp.Topics[i]
}

// fail gives every partition the same code.
func (a *commitAnswer) fail(t api.OffsetCommitRequestTopic, partitions []api.OffsetCommitRequestTopicPartition, code wire.ErrorCode) {
	one := a.topic(t.Name, t.TopicID)
	for _, p := range partitions {
		one.Partitions = append(one.Partitions, api.OffsetCommitResponseTopicPartition{PartitionIndex: p.PartitionIndex, ErrorCode: code})
	}
}

func (a *commitAnswer) merge(below *api.OffsetCommitResponse) *api.OffsetCommitResponse {
	if a.resp == nil {
		return below
	}
	for _, t := range below.Topics {
		one := a.topic(t.Name, t.TopicID)
		one.Partitions = append(one.Partitions, t.Partitions...)
	}
	return a.resp
}

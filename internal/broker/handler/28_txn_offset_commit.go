package handler

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// txnOffsetCommit serves TxnOffsetCommit; topic ids since 6 (KIP-1319). Like a transactional produce it goes through two floors: the
// log of the group's partition gives a guard, the transaction's coordinator is asked, then the group coordinator decides.
func (d *GroupDesk) txnOffsetCommit(r *server.Request) {
	req := api.NewTxnOffsetCommitRequest()
	if !r.Decode(req) {
		return
	}
	a := txnCommitAnswer{resp: api.NewTxnOffsetCommitResponse(), index: map[commitTopic]int{}, useIDs: r.Version() >= 6}
	req.Topics = d.knownTxnTopics(req, &a)
	finish := func(below *api.TxnOffsetCommitResponse) {
		out := a.merge(below)
		if r.Version() < 2 {
			// Clients of old crash on this one (KAFKA-7296).
			for i := range out.Topics {
				for j := range out.Topics[i].Partitions {
					if p := &out.Topics[i].Partitions[j]; p.ErrorCode == wire.ErrCoordinatorLoadInProgress {
						p.ErrorCode = wire.ErrCoordinatorNotAvailable
					}
				}
			}
		}
		r.Answer(out)
	}
	if len(req.Topics) == 0 {
		finish(&api.TxnOffsetCommitResponse{})
		return
	}
	partition := d.partitionOf(req.GroupID)
	fail := func(code wire.ErrorCode) {
		if code = coord.ClientError(code); code == wire.ErrNetworkException {
			code = wire.ErrCoordinatorLoadInProgress
		}
		finish(group.TxnCommitError(req, code))
	}
	if req.GroupID == "" {
		fail(wire.ErrInvalidGroupID)
		return
	}
	commit := func(guard log.VerificationGuard) {
		d.do(r, partition, func(body any, code wire.ErrorCode) {
			below, ok := body.(*api.TxnOffsetCommitResponse)
			if !ok {
				fail(code)
				return
			}
			finish(below)
		}, func(s *group.Shard, t group.Turn) shard.Result {
			res := s.TxnOffsetCommit(t, req)
			if res.Producer != nil {
				res.Producer.Guard = uint64(guard)
			}
			return res
		})
	}
	op := commitOperation(r.Version())
	if d.gate == nil || !d.gate.Needed(op) {
		commit(log.NoGuard)
		return
	}
	producer, epoch := id.ProducerID(req.ProducerID), id.ProducerEpoch(req.ProducerEpoch)
	guard, err := d.replicas.BeginVerification(offsetsTopic, id.UUID{}, partition, producer, epoch, record.NoSequence, op == Add)
	if err != nil {
		fail(replica.ErrorCode(err))
		return
	}
	if guard == log.NoGuard {
		commit(guard)
		return
	}
	d.gate.Enter(txn.Producer{TransactionalID: req.TransactionalID, ID: producer, Epoch: epoch}, []id.TopicPartition{{Topic: offsetsTopic, Partition: partition}}, op,
		func(codes []wire.ErrorCode) {
			if codes[0] != wire.ErrNone {
				fail(codes[0])
				return
			}
			commit(guard)
		})
}

// knownTxnTopics returns the topics and partitions that exist, with name and id, and answers for the others.
func (d *GroupDesk) knownTxnTopics(req *api.TxnOffsetCommitRequest, a *txnCommitAnswer) []api.TxnOffsetCommitRequestTopic {
	topics := d.image().Topics
	var known []api.TxnOffsetCommitRequestTopic
	for _, t := range req.Topics {
		topic, code := topics.ByName(t.Name), wire.ErrUnknownTopicOrPartition
		if a.useIDs {
			topic, code = topics.ByID(t.TopicID), wire.ErrUnknownTopicID
		}
		exist := t
		exist.Partitions = nil
		if topic != nil {
			exist.Name, exist.TopicID, code = topic.Name, topic.ID, wire.ErrUnknownTopicOrPartition
		}
		for _, p := range t.Partitions {
			if topic != nil && topic.Partition(p.PartitionIndex) != nil {
				exist.Partitions = append(exist.Partitions, p)
				continue
			}
			one := a.topic(exist.Name, exist.TopicID)
			one.Partitions = append(one.Partitions, api.TxnOffsetCommitResponseTopicPartition{PartitionIndex: p.PartitionIndex, ErrorCode: code})
		}
		if len(exist.Partitions) > 0 {
			known = append(known, exist)
		}
	}
	return known
}

// txnCommitAnswer gathers an answer: a topic that a request names twice is answered once.
type txnCommitAnswer struct {
	resp   *api.TxnOffsetCommitResponse
	useIDs bool
	index  map[commitTopic]int
}

func (a *txnCommitAnswer) topic(name string, topicID id.UUID) *api.TxnOffsetCommitResponseTopic {
	key := commitTopic{name: name}
	if a.useIDs {
		key = commitTopic{id: topicID}
	}
	i, ok := a.index[key]
	if !ok {
		i = len(a.resp.Topics)
		a.index[key] = i
		a.resp.Topics = append(a.resp.Topics, api.TxnOffsetCommitResponseTopic{Name: name, TopicID: topicID})
	}
	return &a.resp.Topics[i]
}

func (a *txnCommitAnswer) merge(below *api.TxnOffsetCommitResponse) *api.TxnOffsetCommitResponse {
	for _, t := range below.Topics {
		one := a.topic(t.Name, t.TopicID)
		one.Partitions = append(one.Partitions, t.Partitions...)
	}
	return a.resp
}

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
	in := api.NewTxnOffsetCommitRequest()
	if !r.Decode(in) {
		return
	}
	req, answer := asOffsetCommit(in), newCommitAnswer(r.Version() >= 6)
	req.Topics = d.knownTopics(req.Topics, answer)
	if len(req.Topics) == 0 {
		r.Answer(asTxnOffsetCommit(answer.merge(api.NewOffsetCommitResponse()), r.Version()))
		return
	}
	finish := func(below *api.OffsetCommitResponse) { r.Answer(asTxnOffsetCommit(answer.merge(below), r.Version())) }
	fail := func(code wire.ErrorCode) {
		if code = coord.ClientError(code); code == wire.ErrNetworkException {
			code = wire.ErrCoordinatorLoadInProgress
		}
		finish(group.CommitError(req, code))
	}
	if req.GroupID == "" {
		fail(wire.ErrInvalidGroupID)
		return
	}
	partition := d.partitionOf(req.GroupID)
	by := shard.Producer{ID: id.ProducerID(in.ProducerID), Epoch: id.ProducerEpoch(in.ProducerEpoch)}
	commit := func(guard log.VerificationGuard) {
		by.Guard = uint64(guard)
		d.do(r, partition, func(body any, code wire.ErrorCode) {
			below, ok := body.(*api.OffsetCommitResponse)
			if !ok {
				fail(code)
				return
			}
			finish(below)
		}, func(s *group.Shard, t group.Turn) shard.Result { return s.TxnOffsetCommit(t, by, req) })
	}
	op := txnOperation(r.Version(), commitVerifies)
	if d.gate == nil || !d.gate.Needed(op) {
		commit(log.NoGuard)
		return
	}
	guard, err := d.replicas.BeginVerification(offsetsTopic, id.UUID{}, partition, by.ID, by.Epoch, record.NoSequence, op == Add)
	if err != nil {
		fail(replica.ErrorCode(err))
		return
	}
	if guard == log.NoGuard {
		commit(guard)
		return
	}
	d.gate.Enter(txn.Producer{TransactionalID: in.TransactionalID, ID: by.ID, Epoch: by.Epoch}, []id.TopicPartition{{Topic: offsetsTopic, Partition: partition}}, op,
		func(codes []wire.ErrorCode) {
			if codes[0] != wire.ErrNone {
				fail(codes[0])
				return
			}
			commit(guard)
		})
}

// asOffsetCommit returns what the request asks for apart from whose transaction it is.
func asOffsetCommit(in *api.TxnOffsetCommitRequest) *api.OffsetCommitRequest {
	req := api.NewOffsetCommitRequest()
	req.GroupID, req.GenerationIDOrMemberEpoch, req.MemberID, req.GroupInstanceID = in.GroupID, in.GenerationIDOrMemberEpoch, in.MemberID, in.GroupInstanceID
	for _, t := range in.Topics {
		topic := api.OffsetCommitRequestTopic{Name: t.Name, TopicID: t.TopicID}
		for _, p := range t.Partitions {
			topic.Partitions = append(topic.Partitions, api.OffsetCommitRequestTopicPartition{PartitionIndex: p.PartitionIndex, CommittedOffset: p.CommittedOffset,
				CommittedLeaderEpoch: p.CommittedLeaderEpoch, CommittedMetadata: p.CommittedMetadata})
		}
		req.Topics = append(req.Topics, topic)
	}
	return req
}

// asTxnOffsetCommit returns the answer in the form of this API. Clients before version 2 crash on COORDINATOR_LOAD_IN_PROGRESS
// (KAFKA-7296) and get COORDINATOR_NOT_AVAILABLE instead.
func asTxnOffsetCommit(resp *api.OffsetCommitResponse, version int16) *api.TxnOffsetCommitResponse {
	out := api.NewTxnOffsetCommitResponse()
	for _, t := range resp.Topics {
		topic := api.TxnOffsetCommitResponseTopic{Name: t.Name, TopicID: t.TopicID}
		for _, p := range t.Partitions {
			if version < 2 && p.ErrorCode == wire.ErrCoordinatorLoadInProgress {
				p.ErrorCode = wire.ErrCoordinatorNotAvailable
			}
			topic.Partitions = append(topic.Partitions, api.TxnOffsetCommitResponseTopicPartition{PartitionIndex: p.PartitionIndex, ErrorCode: p.ErrorCode})
		}
		out.Topics = append(out.Topics, topic)
	}
	return out
}

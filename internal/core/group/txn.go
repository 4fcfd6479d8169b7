package group

import (
	"maps"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TxnOffsetCommit decides a TxnOffsetCommit request (KIP-98, KIP-447). The topics in it must exist and carry both name and id.
// The offsets are pending until the marker of the producer's transaction comes; the log checks the producer's epoch.
func (s *Shard) TxnOffsetCommit(t Turn, req *api.TxnOffsetCommitRequest) shard.Result {
	s.begin(t.Now)
	code, each := s.checkTxnCommit(t, req)
	for i := 0; code == wire.ErrNone && each != nil && i < len(req.Topics); i++ {
		for _, p := range req.Topics[i].Partitions {
			if p.CommittedMetadata != nil && s.metadataTooLarge(*p.CommittedMetadata) {
				continue
			}
			if code = each(req.Topics[i].TopicID, p.PartitionIndex); code != wire.ErrNone {
				break
			}
		}
	}
	if code == wire.ErrStaleMemberEpoch && t.Version < 6 {
		code = wire.ErrIllegalGeneration // what older clients know
	}
	if code != wire.ErrNone {
		s.answer(t.Ticket, TxnCommitError(req, code))
		return s.end()
	}
	producer, nowMs := id.ProducerID(req.ProducerID), t.Now.UnixMilli()
	resp := api.NewTxnOffsetCommitResponse()
	for i := range req.Topics {
		topic := &req.Topics[i]
		one := api.TxnOffsetCommitResponseTopic{Name: topic.Name, TopicID: topic.TopicID}
		for j := range topic.Partitions {
			p := &topic.Partitions[j]
			code, metadata := wire.ErrNone, ""
			if p.CommittedMetadata != nil {
				metadata = *p.CommittedMetadata
			}
			if s.metadataTooLarge(metadata) {
				code = wire.ErrOffsetMetadataTooLarge
			} else {
				r := commitRecord(req.GroupID, topicPartition{topic.Name, p.PartitionIndex}, &Commit{
					Offset: id.Offset(p.CommittedOffset), LeaderEpoch: id.LeaderEpoch(p.CommittedLeaderEpoch), Metadata: metadata,
					TimestampMs: nowMs, ExpireMs: -1, TopicID: topic.TopicID, recordOffset: -1,
				})
				r.Change = pendingChange{r.Change.(commitChange), producer}
				s.append(r)
			}
			one.Partitions = append(one.Partitions, api.TxnOffsetCommitResponseTopicPartition{PartitionIndex: p.PartitionIndex, ErrorCode: code})
		}
		resp.Topics = append(resp.Topics, one)
	}
	if len(s.res.Records) > 0 {
		s.res.Producer = &shard.Producer{ID: producer, Epoch: id.ProducerEpoch(req.ProducerEpoch)}
		s.res.Atomic = true
	}
	s.res.Reply = resp
	return s.end()
}

// TxnCommitError returns an answer that gives one error for every partition of req.
func TxnCommitError(req *api.TxnOffsetCommitRequest, code wire.ErrorCode) *api.TxnOffsetCommitResponse {
	resp := api.NewTxnOffsetCommitResponse()
	for _, topic := range req.Topics {
		one := api.TxnOffsetCommitResponseTopic{Name: topic.Name, TopicID: topic.TopicID}
		for _, p := range topic.Partitions {
			one.Partitions = append(one.Partitions, api.TxnOffsetCommitResponseTopicPartition{PartitionIndex: p.PartitionIndex, ErrorCode: code})
		}
		resp.Topics = append(resp.Topics, one)
	}
	return resp
}

// checkTxnCommit says whether the sender may commit. The state of the group does not matter, and a sender that names no member
// is let in: clients before KIP-447 know nothing else. each, if not nil, has to be asked about every partition.
func (s *Shard) checkTxnCommit(t Turn, req *api.TxnOffsetCommitRequest) (code wire.ErrorCode, each func(id.UUID, int32) wire.ErrorCode) {
	if e := s.groups[req.GroupID]; e != nil && e.consumer != nil && len(req.GroupID) <= maxName {
		return checkConsumerCommit(e.consumer, req.MemberID, req.GroupInstanceID, req.GenerationIDOrMemberEpoch, t.Version, true)
	}
	return s.checkClassicTxnCommit(t, req), nil
}

func (s *Shard) checkClassicTxnCommit(t Turn, req *api.TxnOffsetCommitRequest) wire.ErrorCode {
	e, generation := s.groups[req.GroupID], req.GenerationIDOrMemberEpoch
	if len(req.GroupID) > maxName {
		return wire.ErrUnknownServerError // no record can hold it
	}
	if e == nil {
		switch {
		case generation < 0:
			return wire.ErrNone
		case t.Version >= 6:
			return wire.ErrGroupIDNotFound
		default:
			return wire.ErrIllegalGeneration
		}
	}
	if e.modern != nil {
		if generation < 0 && e.empty() {
			return wire.ErrNone
		}
		return wire.ErrUnknownMemberID // see checkCommit
	}
	g := e.classic
	if generation < 0 && (g.state == Empty || req.MemberID == "" && req.GroupInstanceID == nil) {
		return wire.ErrNone
	}
	if code := g.check(req.MemberID, req.GroupInstanceID); code != wire.ErrNone {
		return code
	}
	if generation != g.generation {
		return wire.ErrIllegalGeneration
	}
	return wire.ErrNone
}

// CompleteTransaction writes the marker of a transaction: the producer's pending offsets become committed, or vanish. The reply
// is wire.ErrNone.
func (s *Shard) CompleteTransaction(t Turn, m shard.Marker) shard.Result {
	s.begin(t.Now)
	m.Change = endChange{m.ID, m.Commit}
	s.res.Marker = &m
	s.res.Reply = wire.ErrNone
	return s.end()
}

// pendingChange sets a pending offset of a transaction.
type pendingChange struct {
	commitChange
	producer id.ProducerID
}

func (c pendingChange) apply(s *Shard, at id.Offset) {
	c.commit.recordOffset = at
	s.ensureGroup(at, c.group)
	before := s.txns.get(c.producer, c.group, c.tp)
	s.txns.put(c.producer, c.group, c.tp, c.commit)
	s.noteBare(at, func() { s.txns.set(c.producer, c.group, c.tp, before) })
}

// endChange ends a transaction.
type endChange struct {
	producer id.ProducerID
	commit   bool
}

func (c endChange) apply(s *Shard, at id.Offset) {
	table := s.txns.end(c.producer)
	if table == nil {
		return
	}
	s.noteBare(at, func() {
		for group := range table {
			for _, tp := range table.partitions(group) {
				s.txns.put(c.producer, group, tp, table.get(group, tp))
			}
		}
	})
	if !c.commit {
		return
	}
	for _, group := range slices.Sorted(maps.Keys(table)) {
		for _, tp := range table.partitions(group) {
			pending := table.get(group, tp)
			// The later record wins, whichever kind it is: compaction may have removed the earlier one.
			if have := s.offsets.get(group, tp); have == nil || pending.recordOffset > have.recordOffset {
				s.ensureGroup(at, group)
				s.setCommit(at, group, tp, pending)
			}
		}
	}
}

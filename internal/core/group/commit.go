package group

import (
	"math"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// OffsetCommit decides an OffsetCommit request. The topics in it must exist and carry both name and id.
func (s *Shard) OffsetCommit(t Turn, req *api.OffsetCommitRequest) shard.Result {
	return s.commit(t, req, nil)
}

// TxnOffsetCommit decides a TxnOffsetCommit request (KIP-98, KIP-447), given as an OffsetCommit without a retention and by whose
// transaction it is; t.Version is that of TxnOffsetCommit. The offsets are pending until the marker of the transaction comes; the
// log checks the producer.
func (s *Shard) TxnOffsetCommit(t Turn, by shard.Producer, req *api.OffsetCommitRequest) shard.Result {
	return s.commit(t, req, &by)
}

// commit makes the offsets those of the group, or of a producer's transaction if by is not nil.
func (s *Shard) commit(t Turn, req *api.OffsetCommitRequest, by *shard.Producer) shard.Result {
	s.begin(t.Now)
	code, each := s.checkCommit(t, req, by != nil)
	if code == wire.ErrNone && each != nil {
		code = s.checkEach(each, req)
	}
	if code == wire.ErrStaleMemberEpoch && by != nil && t.Version < 6 {
		code = wire.ErrIllegalGeneration // what older clients know
	}
	if code != wire.ErrNone {
		s.answer(t.Ticket, CommitError(req, code))
		return s.end()
	}
	nowMs, expireMs := t.Now.UnixMilli(), int64(-1)
	named := true
	if req.RetentionTimeMs != -1 {
		expireMs = nowMs + req.RetentionTimeMs
		named = false // records of the version that has an expiry have no topic id
	}
	resp := api.NewOffsetCommitResponse()
	for i := range req.Topics {
		topic := &req.Topics[i]
		one := api.OffsetCommitResponseTopic{Name: topic.Name, TopicID: topic.TopicID}
		topicID := topic.TopicID
		if !named {
			topicID = id.UUID{}
		}
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
					TimestampMs: nowMs, ExpireMs: expireMs, TopicID: topicID, recordOffset: -1,
				})
				if by != nil {
					r.Change = pendingChange{r.Change.(commitChange), by.ID}
				}
				s.append(r)
			}
			one.Partitions = append(one.Partitions, api.OffsetCommitResponseTopicPartition{PartitionIndex: p.PartitionIndex, ErrorCode: code})
		}
		resp.Topics = append(resp.Topics, one)
	}
	if len(s.res.Records) > 0 {
		s.res.Producer = by
	}
	s.count(CommittedOffsets, len(s.res.Records))
	s.res.Atomic = true
	s.res.Reply = resp
	return s.end()
}

// CommitError returns an answer that gives one error for every partition of req.
func CommitError(req *api.OffsetCommitRequest, code wire.ErrorCode) *api.OffsetCommitResponse {
	resp := api.NewOffsetCommitResponse()
	for _, topic := range req.Topics {
		one := api.OffsetCommitResponseTopic{Name: topic.Name, TopicID: topic.TopicID}
		for _, p := range topic.Partitions {
			one.Partitions = append(one.Partitions, api.OffsetCommitResponseTopicPartition{PartitionIndex: p.PartitionIndex, ErrorCode: code})
		}
		resp.Topics = append(resp.Topics, one)
	}
	return resp
}

// checkEach asks about each partition. One that is refused refuses the request.
func (s *Shard) checkEach(each func(id.UUID, int32) wire.ErrorCode, req *api.OffsetCommitRequest) wire.ErrorCode {
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			p := &req.Topics[i].Partitions[j]
			if p.CommittedMetadata != nil && s.metadataTooLarge(*p.CommittedMetadata) {
				continue // is refused by itself
			}
			if code := each(req.Topics[i].TopicID, p.PartitionIndex); code != wire.ErrNone {
				return code
			}
		}
	}
	return wire.ErrNone
}

func (s *Shard) metadataTooLarge(metadata string) bool {
	return utf16Length(metadata) > s.cfg.OffsetMetadataMaxSize || len(metadata) > math.MaxInt16 // of bytes in any string
}

// checkCommit says whether the sender may commit; a classic member's commit also keeps its session, but not one in a transaction.
// each, if not nil, has to be asked about every partition.
func (s *Shard) checkCommit(t Turn, req *api.OffsetCommitRequest, inTxn bool) (code wire.ErrorCode, each func(id.UUID, int32) wire.ErrorCode) {
	if len(req.GroupID) > maxName {
		return wire.ErrUnknownServerError, nil // no record can hold it
	}
	e, generation := s.groups[req.GroupID], req.GenerationIDOrMemberEpoch
	switch {
	case e == nil && generation < 0:
		return wire.ErrNone, nil // a simple consumer or a tool; the commit makes the group
	case e == nil && (t.Version >= 9 || inTxn && t.Version >= 6):
		return wire.ErrGroupIDNotFound, nil
	case e == nil:
		return wire.ErrIllegalGeneration, nil
	case e.consumer != nil:
		return checkConsumerCommit(e.consumer, req.MemberID, req.GroupInstanceID, generation, t.Version, inTxn)
	case e.modern == nil:
		return s.checkClassicCommit(e.classic, req, inTxn), nil
	case e.modern.kind == kindShare:
		return wire.ErrGroupIDNotFound, nil // such a group has no offsets here
	case generation < 0 && e.empty(),
		inTxn && generation == -1 && req.MemberID == "" && req.GroupInstanceID == nil: // a producer before KIP-447
		return wire.ErrNone, nil
	}
	return wire.ErrUnknownMemberID, nil // its members cannot be here, their protocol is not served
}

func (s *Shard) checkClassicCommit(g *classicGroup, req *api.OffsetCommitRequest, inTxn bool) wire.ErrorCode {
	generation := req.GenerationIDOrMemberEpoch
	switch {
	case generation < 0 && g.state == Empty:
		return wire.ErrNone
	case generation < 0 && req.MemberID == "" && req.GroupInstanceID == nil && inTxn:
		return wire.ErrNone // a producer before KIP-447, which knows nothing of members
	case generation < 0 && req.MemberID == "" && req.GroupInstanceID == nil:
		// A sender that is no member may commit to an empty group only.
		return wire.ErrUnknownMemberID
	}
	if code := g.check(req.MemberID, req.GroupInstanceID); code != wire.ErrNone {
		return code
	}
	switch {
	case generation != g.generation:
		return wire.ErrIllegalGeneration
	case inTxn:
		return wire.ErrNone // whatever the group's state is
	case g.state == CompletingRebalance:
		// The member knows the new generation but not yet its partitions; this makes the client fetch them first.
		return wire.ErrRebalanceInProgress
	}
	s.restartSession(g, g.byID[req.MemberID])
	return wire.ErrNone
}

// OffsetDelete decides an OffsetDelete request (KIP-496).
func (s *Shard) OffsetDelete(t Turn, req *api.OffsetDeleteRequest) shard.Result {
	s.begin(t.Now)
	resp := api.NewOffsetDeleteResponse()
	if resp.ErrorCode = s.checkOffsetDelete(req.GroupID); resp.ErrorCode != wire.ErrNone {
		s.answer(t.Ticket, resp)
		return s.end()
	}
	e := s.groups[req.GroupID]
	seen := make(map[topicPartition]bool)
	for _, topic := range req.Topics {
		subscribed := s.readsTopic(e, topic.Name)
		one := api.OffsetDeleteResponseTopic{Name: topic.Name}
		for _, p := range topic.Partitions {
			code := wire.ErrNone
			if subscribed {
				code = wire.ErrGroupSubscribedToTopic
			} else if tp := (topicPartition{topic.Name, p.PartitionIndex}); !seen[tp] && (s.offsets.get(req.GroupID, tp) != nil || s.txns.has(req.GroupID, tp)) {
				seen[tp] = true
				s.append(commitRecord(req.GroupID, tp, nil))
			}
			one.Partitions = append(one.Partitions, api.OffsetDeleteResponseTopicPartition{PartitionIndex: p.PartitionIndex, ErrorCode: code})
		}
		resp.Topics = append(resp.Topics, one)
	}
	s.count(DeletedOffsets, len(s.res.Records))
	s.res.Atomic = true
	s.res.Reply = resp
	return s.end()
}

func (s *Shard) checkOffsetDelete(name string) wire.ErrorCode {
	if name == "" {
		return wire.ErrInvalidGroupID
	}
	e := s.groups[name]
	switch {
	case e == nil:
		return wire.ErrGroupIDNotFound
	case e.modern != nil && e.modern.kind == kindShare:
		return wire.ErrGroupIDNotFound
	case e.classic != nil && e.classic.state != Empty && !e.classic.usesConsumerProtocol():
		return wire.ErrNonEmptyGroup
	}
	return wire.ErrNone
}

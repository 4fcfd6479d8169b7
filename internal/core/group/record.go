package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// ErrBadRecord reports a record of __consumer_offsets that cannot be read.
var ErrBadRecord = errors.New("bad group record")

// Versions that records are written in.
const (
	groupValueVersion        = 3
	commitValueVersion       = 4
	commitValueVersionExpire = 1 // the only version with an expire timestamp
)

// maxName bounds, in bytes, the names that go into records: strings there have 16-bit lengths, and a member id adds a UUID to
// a name of the client.
const maxName = 1<<15 - 1 - 37

// Types of record keys. All others from 3 on belong to groups of other protocols, see modern.go.
const (
	typeLegacyCommit int16 = 0
	typeCommit       int16 = 1
	typeGroup        int16 = 2
)

// applier is what a record does to the working state.
type applier interface {
	apply(s *Shard, at id.Offset)
}

// commitChange sets a committed offset, or removes it if commit is nil.
type commitChange struct {
	group  string
	tp     topicPartition
	commit *Commit
}

func (c commitChange) apply(s *Shard, at id.Offset) {
	if c.commit == nil {
		s.setCommit(at, c.group, c.tp, nil)
		if undo := s.txns.drop(c.group, c.tp); undo != nil {
			s.noteUndo(at, undo)
		}
		return
	}
	c.commit.recordOffset = at
	s.ensureGroup(at, c.group)
	s.setCommit(at, c.group, c.tp, c.commit)
}

// ensureGroup makes a simple group for offsets whose consumer does not use membership.
func (s *Shard) ensureGroup(at id.Offset, name string) {
	if s.groups[name] == nil {
		s.setGroup(at, name, &entry{classic: newClassicGroup(name, s.now)})
	}
}

// groupChange is a classic group's record. The working group, soft state and all, is ahead of it, so a value only becomes the
// last one logged; a tombstone (nil) removes the group.
type groupChange struct {
	group string
	value *logrec.GroupMetadataValue
}

func (c groupChange) apply(s *Shard, at id.Offset) {
	e := s.groups[c.group]
	if c.value == nil {
		s.setGroup(at, c.group, nil)
		return
	}
	if e == nil || e.classic == nil {
		return
	}
	g, before := e.classic, e.classic.logged
	s.setGroup(at, c.group, e)
	s.noteUndo(at, func() { g.logged = before })
	g.logged = true
}

// commitRecord is the record of a committed offset; c nil is its tombstone.
func commitRecord(group string, tp topicPartition, c *Commit) shard.Record {
	key, change := &logrec.OffsetCommitKey{Group: group, Topic: tp.topic, Partition: tp.partition}, commitChange{group, tp, c}
	if c == nil {
		return shard.Record{Key: logrec.EncodeGroupKey(key), Change: change}
	}
	version := int16(commitValueVersion)
	if c.ExpireMs != -1 {
		version = commitValueVersionExpire
	}
	k, v := logrec.EncodeGroupPair(key, &logrec.OffsetCommitValue{
		Offset: int64(c.Offset), LeaderEpoch: int32(c.LeaderEpoch), Metadata: c.Metadata,
		CommitTimestamp: c.TimestampMs, ExpireTimestamp: c.ExpireMs, TopicID: c.TopicID,
	}, version)
	return shard.Record{Key: k, Value: v, Change: change}
}

// groupRecord is the record of a classic group as it is, with the assignment given by member id, or with the members' own if
// assignment is nil.
func groupRecord(g *classicGroup, assignment map[string][]byte) shard.Record {
	value := &logrec.GroupMetadataValue{
		ProtocolType: g.protocolType, Protocol: g.protocol, Generation: g.generation, Leader: optional(g.leader),
		CurrentStateTimestamp: g.stateSinceMs, Members: make([]logrec.GroupMetadataValueMemberMetadata, 0, len(g.byID)),
	}
	for _, m := range g.list() {
		assigned := m.assignment
		if assignment != nil {
			assigned = assignment[m.id]
		}
		value.Members = append(value.Members, logrec.GroupMetadataValueMemberMetadata{
			MemberID: m.id, GroupInstanceID: m.instance, ClientID: m.clientID, ClientHost: m.clientHost,
			RebalanceTimeout: m.rebalanceTimeoutMs, SessionTimeout: m.sessionTimeoutMs,
			Subscription: m.metadata(*g.protocol), Assignment: assigned,
		})
	}
	return groupValueRecord(g.name, value)
}

// emptyGroupRecord is the first record of a group.
func emptyGroupRecord(g *classicGroup) shard.Record {
	return groupValueRecord(g.name, &logrec.GroupMetadataValue{CurrentStateTimestamp: g.stateSinceMs, Members: []logrec.GroupMetadataValueMemberMetadata{}})
}

func groupValueRecord(name string, value *logrec.GroupMetadataValue) shard.Record {
	return shard.Record{
		Key:    logrec.EncodeGroupKey(&logrec.GroupMetadataKey{Group: name}),
		Value:  logrec.EncodeVersioned(value, groupValueVersion),
		Change: groupChange{name, value},
	}
}

func groupTombstone(name string) shard.Record {
	return shard.Record{Key: logrec.EncodeGroupKey(&logrec.GroupMetadataKey{Group: name}), Change: groupChange{name, nil}}
}

// Replay folds one record of the log, value nil being a tombstone, into the state. Records of types that did not exist in 4.4
// are skipped; known is false then. The bytes are not kept.
func (s *Shard) Replay(at id.Offset, producer id.ProducerID, key, value []byte) (known bool, err error) {
	s.next = at + 1
	if len(key) < 2 {
		return false, fmt.Errorf("replay at %d: key of %d bytes: %w", at, len(key), ErrBadRecord)
	}
	typ := int16(binary.BigEndian.Uint16(key))
	switch {
	case typ == typeLegacyCommit || typ == typeCommit:
		err = s.replayCommit(at, producer, typ, key, value)
	case typ == typeGroup:
		err = s.replayGroup(at, key, value)
	case modernKind(typ) == kindConsumer:
		err = s.replayConsumer(at, typ, key, value)
	case modernKind(typ) != kindNone:
		err = s.replayModern(at, typ, key, value)
	default:
		return false, nil
	}
	if err != nil {
		return true, fmt.Errorf("replay at %d, key type %d: %w", at, typ, err)
	}
	return true, nil
}

// EndTransaction folds a transaction marker at offset at: the open offsets of the producer become committed or vanish.
func (s *Shard) EndTransaction(at id.Offset, producer id.ProducerID, commit bool) {
	s.next = at + 1
	endChange{producer, commit}.apply(s, at)
}

func (s *Shard) replayGroup(at id.Offset, key, value []byte) error {
	var k logrec.GroupMetadataKey
	if err := decodeKey(key, &k); err != nil {
		return err
	}
	if value == nil {
		s.setGroup(at, k.Group, nil)
		return nil
	}
	v := &logrec.GroupMetadataValue{}
	if _, err := logrec.DecodeVersioned(slices.Clone(value), v); err != nil {
		return err
	}
	g := newClassicGroup(k.Group, s.now)
	g.generation, g.protocol, g.stateSinceMs, g.logged = v.Generation, v.Protocol, v.CurrentStateTimestamp, true
	if v.Leader != nil {
		g.leader = *v.Leader
	}
	for i := range v.Members {
		m := &v.Members[i]
		if m.RebalanceTimeout == -1 {
			m.RebalanceTimeout = m.SessionTimeout
		}
		var protocols []protocol
		if v.Protocol != nil {
			protocols = []protocol{{*v.Protocol, m.Subscription}}
		}
		g.add(&member{
			id: m.MemberID, instance: m.GroupInstanceID, clientID: m.ClientID, clientHost: m.ClientHost,
			rebalanceTimeoutMs: m.RebalanceTimeout, sessionTimeoutMs: m.SessionTimeout,
			protocols: protocols, assignment: m.Assignment,
		}, v.ProtocolType)
	}
	g.protocolType = v.ProtocolType
	if len(v.Members) > 0 {
		g.state = Stable
	}
	g.topics = g.subscription()
	s.setGroup(at, k.Group, &entry{classic: g})
	return nil
}

// decodeKey reads the fields of a key after its type.
func decodeKey(key []byte, k logrec.Key) error {
	r := wire.NewReader(key[2:], nil)
	k.Decode(r, 0)
	return r.Err()
}

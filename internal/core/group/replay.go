package group

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// This file replays committed offsets, of which a log has many more records than of anything else.

// commitPlace is where a commit belongs. The bytes of a key in front of the partition name group and topic; the next key mostly has
// the same.
type commitPlace struct {
	prefix       []byte
	group, topic string
}

// commitReader reads the values of commits, one after the other.
type commitReader struct {
	wire.Reader
	budget wire.Budget
	value  logrec.OffsetCommitValue
}

// replayCommit folds the record of a committed offset. Most of them replace an earlier one and are committed themselves: these are
// written over it, and nothing is allocated.
func (s *Shard) replayCommit(at id.Offset, producer id.ProducerID, typ int16, key, value []byte) error {
	group, tp, err := s.decodeCommitKey(typ, key)
	if err != nil {
		return err
	}
	if value == nil {
		commitChange{group, tp, nil}.apply(s, at)
		return nil
	}
	c := Commit{recordOffset: at}
	if err := s.commits.read(&c, typ, value); err != nil {
		return err
	}
	if producer == id.NoProducer && s.final(at) && s.groups[group] != nil {
		if have := s.offsets.get(group, tp); have != nil {
			*have = c // nobody else has it: it is in no answer before the log is loaded, and in no undo
			return nil
		}
	}
	kept := new(Commit)
	*kept = c
	if producer == id.NoProducer {
		commitChange{group, tp, kept}.apply(s, at)
		return nil
	}
	pendingChange{commitChange{group, tp, kept}, producer}.apply(s, at)
	return nil
}

// decodeCommitKey reads where a commit belongs. Names that the table of offsets has already are taken from there.
func (s *Shard) decodeCommitKey(typ int16, key []byte) (group string, tp topicPartition, err error) {
	p := &s.place
	if n := len(key) - 4; n > 0 && n == len(p.prefix) && bytes.Equal(key[:n], p.prefix) {
		return p.group, topicPartition{p.topic, int32(binary.BigEndian.Uint32(key[n:]))}, nil
	}
	// Types 0 and 1 have the same keys.
	groupBytes, rest, ok := cutName(key[2:])
	topicBytes, rest, ok2 := cutName(rest)
	if !ok || !ok2 || len(rest) < 4 {
		return "", tp, fmt.Errorf("key of %d bytes is cut off: %w", len(key), ErrBadRecord)
	}
	if g := s.offsets[string(groupBytes)]; g != nil {
		group = g.name
		if t := g.topics[string(topicBytes)]; t != nil {
			tp.topic = t.name
		}
	}
	if group == "" || tp.topic == "" {
		var k logrec.OffsetCommitKey
		if err = decodeKey(key, &k); err != nil {
			return "", tp, err
		}
		group, tp.topic = k.Group, k.Topic
		if s.image != nil {
			if t := s.image.Topics.ByName(tp.topic); t != nil {
				tp.topic = t.Name // one copy for all groups
			}
		}
	}
	tp.partition = int32(binary.BigEndian.Uint32(rest))
	if len(rest) == 4 {
		p.prefix, p.group, p.topic = append(p.prefix[:0], key[:len(key)-4]...), group, tp.topic
	}
	return group, tp, nil
}

// cutName cuts a string with its 16-bit length off.
func cutName(b []byte) (name, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(int16(binary.BigEndian.Uint16(b)))
	if n < 0 || n > len(b)-2 {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// read reads the value of a commit's record into c.
func (r *commitReader) read(c *Commit, typ int16, value []byte) error {
	r.budget.Start(len(value), nil)
	r.Reset(value, &r.budget)
	version := r.Int16()
	if typ == typeLegacyCommit {
		var v logrec.LegacyOffsetCommitValue
		v.Decode(&r.Reader, version)
		c.Offset, c.LeaderEpoch, c.Metadata, c.TimestampMs, c.ExpireMs = id.Offset(v.Offset), id.NoLeaderEpoch, v.Metadata, v.CommitTimestamp, -1
	} else {
		v := &r.value
		v.Decode(&r.Reader, version)
		c.Offset, c.LeaderEpoch, c.Metadata, c.TopicID = id.Offset(v.Offset), id.LeaderEpoch(v.LeaderEpoch), v.Metadata, v.TopicID
		c.TimestampMs, c.ExpireMs = v.CommitTimestamp, v.ExpireTimestamp
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("value of a commit: %w", err)
	}
	return nil
}

package group

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
)

// kind is the protocol of a group that is not classic.
type kind int8

const (
	kindNone kind = iota
	kindConsumer
	kindShare
	kindStreams
)

// String returns the group type as ListGroups spells it.
func (k kind) String() string { return [...]string{"", "consumer", "share", "streams"}[k] }

// modernKind returns whose record a key of that type is.
func modernKind(typ int16) kind {
	switch typ {
	case typeConsumerGroup, typeConsumerMetadata, typeConsumerMember, typeConsumerTarget, typeConsumerTargetOf, typeConsumerCurrent, typeConsumerRegex:
		return kindConsumer
	case 10, 11, 12, 13, 14, 15:
		return kindShare
	case 17, 19, 20, 21, 22, 23:
		return kindStreams
	}
	return kindNone
}

// isMemberKey and isGroupKey tell the records that make a member and a group.
func isMemberKey(typ int16) bool { return typ == 10 || typ == 19 }
func isGroupKey(typ int16) bool  { return typ == 11 || typ == 17 }

// modernGroup is a share or streams group (KIP-932, KIP-1071). Its records are kept as they are.
type modernGroup struct {
	name    string
	kind    kind
	members int
	records map[string][]byte
}

func (g *modernGroup) set(key string, value []byte) {
	_, had := g.records[key]
	if member := isMemberKey(keyType(key)); member && !had && value != nil {
		g.members++
	} else if member && had && value == nil {
		g.members--
	}
	if value == nil {
		delete(g.records, key)
		return
	}
	g.records[key] = value
}

func keyType(key string) int16 { return int16(uint16(key[0])<<8 | uint16(key[1])) }

// replayModern keeps a record of another protocol by its key.
func (s *Shard) replayModern(at id.Offset, typ int16, key, value []byte) error {
	// Every key of these types begins with the group id.
	if len(key) < 4 {
		return fmt.Errorf("key of %d bytes: %w", len(key), ErrBadRecord)
	}
	n := int(int16(binary.BigEndian.Uint16(key[2:])))
	if n < 0 || n > len(key)-4 {
		return fmt.Errorf("group id of %d bytes in a key of %d: %w", n, len(key), ErrBadRecord)
	}
	name := string(key[4 : 4+n])
	e := s.groups[name]
	if e != nil && e.consumer != nil {
		return nil
	}
	if e == nil || e.classic != nil {
		if value == nil || e != nil && !e.classic.isSimple() {
			return nil // a tombstone for nothing, or a rest of what the classic group replaced
		}
		e = &entry{modern: &modernGroup{name: name, kind: modernKind(typ), records: make(map[string][]byte)}}
		s.setGroup(at, name, e)
	}
	modernChange{name, string(key), slices.Clone(value)}.apply(s, at)
	return nil
}

// modernChange sets or removes one record of a group of another protocol; the last one takes the group with it.
type modernChange struct {
	group, key string
	value      []byte
}

func (c modernChange) apply(s *Shard, at id.Offset) {
	e := s.groups[c.group]
	if e == nil || e.modern == nil {
		return
	}
	g, before := e.modern, e.modern.records[c.key]
	g.set(c.key, c.value)
	s.setGroup(at, c.group, e)
	s.noteUndo(at, func() { g.set(c.key, before) })
	if len(g.records) == 0 {
		s.putGroup(c.group, nil)
	}
}

// buryModern writes tombstones for all records of the group, those that make the group last.
func (s *Shard) buryModern(g *modernGroup) {
	keys := slices.SortedFunc(maps.Keys(g.records), func(a, b string) int {
		if ga, gb := isGroupKey(keyType(a)), isGroupKey(keyType(b)); ga != gb {
			if ga {
				return 1
			}
			return -1
		}
		return strings.Compare(a, b)
	})
	for _, key := range keys {
		s.append(shard.Record{Key: []byte(key), Change: modernChange{g.name, key, nil}})
	}
}

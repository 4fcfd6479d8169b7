package group

import (
	"encoding/binary"
	"slices"
	"unicode/utf16"

	"github.com/moldau-io/moldau/internal/core/image"
)

// maxHashes bounds the hashes of topics that are kept.
const maxHashes = 1 << 16

// topicHash is the hash of a topic as it was in an image.
type topicHash struct {
	topic   *image.Topic
	cluster *image.Cluster
	hash    uint64
}

// groupHash is the hash of the metadata of all those topics that exist, as Kafka computes it: of the hashes of the topics in order of
// their names. Nothing hashes to 0.
func (s *Shard) groupHash(topics image.Map[string, subscribers]) int64 {
	if s.image == nil {
		return 0
	}
	names := sortedIn(topics)
	slices.SortStableFunc(names, compareJava)
	var b []byte
	for _, name := range names {
		if t := s.image.Topics.ByName(name); t != nil {
			b = binary.LittleEndian.AppendUint64(b, s.hashOf(t))
		}
	}
	if len(b) == 0 {
		return 0
	}
	return int64(xxh3(b))
}

func (s *Shard) hashOf(t *image.Topic) uint64 {
	if h, ok := s.hashes[t.Name]; ok && h.topic == t && h.cluster == s.image.Cluster {
		return h.hash
	}
	if len(s.hashes) >= maxHashes {
		clear(s.hashes)
	}
	h := hashTopic(t, s.image.Cluster)
	s.hashes[t.Name] = topicHash{t, s.image.Cluster, h}
	return h
}

// hashTopic hashes what a group's assignment depends on: id, name, partitions, and the racks of their replicas. The layout of the
// hashed bytes is Kafka's: a magic byte, the id as two little-endian longs, strings as UTF-16 and their length.
func hashTopic(t *image.Topic, cluster *image.Cluster) uint64 {
	b := []byte{0}
	b = binary.LittleEndian.AppendUint64(b, binary.BigEndian.Uint64(t.ID[:8]))
	b = binary.LittleEndian.AppendUint64(b, binary.BigEndian.Uint64(t.ID[8:]))
	b = appendJava(b, t.Name)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(t.Partitions)))
	for i := range t.Partitions {
		b = binary.LittleEndian.AppendUint32(b, uint32(i))
		p := t.Partition(int32(i))
		if p == nil {
			continue
		}
		var racks []string
		for _, r := range p.Replicas {
			if broker := cluster.Broker(brokerID(r)); broker != nil && broker.Rack != nil {
				racks = append(racks, *broker.Rack)
			}
		}
		slices.SortFunc(racks, compareJava)
		for _, rack := range racks {
			b = binary.LittleEndian.AppendUint32(b, uint32(utf16Length(rack)))
			b = appendJava(b, rack)
		}
	}
	return xxh3(b)
}

// appendJava writes a string as Java's hashing library does: UTF-16 units, then how many.
func appendJava(b []byte, text string) []byte {
	units := utf16.Encode([]rune(text))
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return binary.LittleEndian.AppendUint32(b, uint32(len(units)))
}

// compareJava is String.compareTo: by UTF-16 units.
func compareJava(a, b string) int {
	return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
}

package id

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Offset is a position in a partition's log. End offsets are exclusive, last offsets inclusive; names say which.
type Offset int64

// LeaderEpoch counts the leaders of one partition; -1 means unknown.
type LeaderEpoch int32

// BrokerID is a node's id, as in node.id; -1 means none.
type BrokerID int32

// BrokerEpoch is the offset of a broker's registration record in the metadata log; -1 means unknown.
type BrokerEpoch int64

// ProducerID names an idempotent or transactional producer; -1 means none.
type ProducerID int64

// ProducerEpoch fences older instances of one producer id; -1 means none.
type ProducerEpoch int16

// Values that mean "none" or "unknown" in the protocol.
const (
	NoOffset        Offset        = -1
	NoLeaderEpoch   LeaderEpoch   = -1
	NoBroker        BrokerID      = -1
	NoBrokerEpoch   BrokerEpoch   = -1
	NoProducer      ProducerID    = -1
	NoProducerEpoch ProducerEpoch = -1
)

// UUID is a 128-bit id as Kafka writes it: 22 characters of unpadded URL-safe base64 in text, 16 bytes on the wire.
type UUID [16]byte

// ZeroUUID stands for "no id" on the wire.
var ZeroUUID UUID

// MetadataTopicID is the fixed id of the __cluster_metadata topic.
var MetadataTopicID = UUID{15: 1}

// ErrBadUUID reports text that is not a UUID in Kafka's form.
var ErrBadUUID = errors.New("not a base64 UUID of 22 characters")

// IsZero reports whether u is the all-zero id.
func (u UUID) IsZero() bool { return u == ZeroUUID }

// String returns the 22-character form that Kafka prints.
func (u UUID) String() string { return base64.RawURLEncoding.EncodeToString(u[:]) }

// Compare orders UUIDs as Java's Uuid does: by their two halves as signed 64-bit numbers.
func (u UUID) Compare(v UUID) int {
	for i := 0; i < 16; i += 8 {
		a, b := half(u[i:]), half(v[i:])
		if c := cmp.Compare(a, b); c != 0 {
			return c
		}
	}
	return 0
}

func half(b []byte) int64 {
	var n uint64
	for _, x := range b[:8] {
		n = n<<8 | uint64(x)
	}
	return int64(n)
}

// ParseUUID reads the 22-character form. It is as lenient as Kafka about padding.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) > 24 {
		return u, fmt.Errorf("%q: %w", s[:24], ErrBadUUID)
	}
	for len(s) > 0 && s[len(s)-1] == '=' {
		s = s[:len(s)-1]
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != 16 {
		return u, fmt.Errorf("%q: %w", s, ErrBadUUID)
	}
	copy(u[:], b)
	return u, nil
}

// NewUUID makes a random (version 4) UUID from 16 bytes of randomness. Kafka's reserved ids (the first 100 values of the low
// half) must not be used, and it uses none whose text has a '-', which would look like an option on a command line; the second result is
// false for these and the caller draws again.
func NewUUID(random [16]byte) (UUID, bool) {
	u := UUID(random)
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u, !strings.Contains(u.String(), "-")
}

// TopicPartition names one partition of a topic.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// String returns "topic-partition", the name of the partition's directory.
func (tp TopicPartition) String() string { return tp.Topic + "-" + strconv.Itoa(int(tp.Partition)) }

// Compare orders by topic, then partition.
func (tp TopicPartition) Compare(o TopicPartition) int {
	return cmp.Or(cmp.Compare(tp.Topic, o.Topic), cmp.Compare(tp.Partition, o.Partition))
}

package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Sizes and limits of the batch format.
const (
	// HeaderSize is the size of a v2 batch header, the smallest possible batch.
	HeaderSize = 61
	// LogOverhead is the base offset and the length field: what precedes the bytes that the length counts.
	LogOverhead = 12
	// Magic is the only format version written.
	Magic = 2
	// NoTimestamp stands for "no timestamp", in milliseconds.
	NoTimestamp int64 = -1
	// NoSequence stands for "no sequence number".
	NoSequence int32 = -1
)

// Positions of the header's fields.
const (
	posBaseOffset      = 0
	posLength          = 8
	posLeaderEpoch     = 12
	posMagic           = 16
	posCRC             = 17
	posAttributes      = 21
	posLastOffsetDelta = 23
	posBaseTimestamp   = 27
	posMaxTimestamp    = 35
	posProducerID      = 43
	posProducerEpoch   = 51
	posBaseSequence    = 53
	posCount           = 57
)

// headerUpToMagic is how much of a batch must be there before its format can be told.
const headerUpToMagic = posMagic + 1

// minLegacyLength is the overhead of a v0 record, the smallest length field of any format.
const minLegacyLength = 14

// Attributes are a batch's flags. Only the low byte is defined.
type Attributes int16

// Bits of Attributes.
const (
	AttrCodecMask     Attributes = 0x07
	AttrLogAppendTime Attributes = 0x08
	AttrTransactional Attributes = 0x10
	AttrControl       Attributes = 0x20
	AttrDeleteHorizon Attributes = 0x40
)

// TimestampType says who set a batch's timestamps.
type TimestampType int8

// The two timestamp types, spelled as the topic config message.timestamp.type spells them.
const (
	CreateTime    TimestampType = 0
	LogAppendTime TimestampType = 1
)

// String returns the config's spelling.
func (t TimestampType) String() string {
	if t == LogAppendTime {
		return "LogAppendTime"
	}
	return "CreateTime"
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is exactly one v2 batch, header and records, as a view over bytes. Its methods require len(b) >= HeaderSize, which
// holds for whatever Next and Builder hand out.
type Batch []byte

// Next cuts the first batch off b. The batch and the rest alias b. It checks lengths and the magic, not the CRC.
//
// Errors: ErrIncomplete when b ends inside the batch (also when b is empty), *LegacyError for a whole entry of format v0 or
// v1 (rest is then what follows it), *CorruptError for a length or magic that no batch can have.
func Next(b []byte) (batch Batch, rest []byte, err error) {
	size, err := Peek(b)
	if err != nil {
		return nil, b, err
	}
	if size > len(b) {
		return nil, b, ErrIncomplete
	}
	if m := int8(b[posMagic]); m < Magic {
		return nil, b[size:], &LegacyError{Magic: m, BaseOffset: id.Offset(binary.BigEndian.Uint64(b)), SizeBytes: size}
	}
	if size < HeaderSize {
		return nil, b, &CorruptError{Reason: fmt.Sprintf("Record batch is corrupt (the size %d is smaller than the minimum allowed overhead %d)", size, HeaderSize)}
	}
	return Batch(b[:size:size]), b[size:], nil
}

// Peek returns the size in bytes of the entry that starts at b, from as little as its first 17 bytes. The entry need not be
// whole and may be of an old format. Errors: ErrIncomplete when b is too short to tell, *CorruptError.
func Peek(b []byte) (sizeBytes int, err error) {
	if len(b) < LogOverhead {
		return 0, ErrIncomplete
	}
	length := int32(binary.BigEndian.Uint32(b[posLength:]))
	if length < minLegacyLength {
		return 0, &CorruptError{Reason: fmt.Sprintf("Record size %d is less than the minimum record overhead (%d)", length, minLegacyLength)}
	}
	if int64(length)+LogOverhead > math.MaxInt32 {
		return 0, &CorruptError{Reason: fmt.Sprintf("Record size %d exceeds the largest allowable message size (%d).", length, math.MaxInt32-LogOverhead)}
	}
	if len(b) < headerUpToMagic {
		return 0, ErrIncomplete
	}
	if m := int8(b[posMagic]); m < 0 || m > Magic {
		return 0, &CorruptError{Reason: fmt.Sprintf("Invalid magic found in record: %d", m)}
	}
	return int(length) + LogOverhead, nil
}

// BaseOffset is the offset of the first record ever in the batch; compaction may have removed that record.
func (b Batch) BaseOffset() id.Offset { return id.Offset(binary.BigEndian.Uint64(b[posBaseOffset:])) }

// LastOffset is the inclusive offset of the last record ever in the batch.
func (b Batch) LastOffset() id.Offset { return b.BaseOffset() + id.Offset(b.LastOffsetDelta()) }

// NextOffset is the offset after the batch.
func (b Batch) NextOffset() id.Offset { return b.LastOffset() + 1 }

// LastOffsetDelta is LastOffset relative to BaseOffset; a hostile batch may have a negative one.
func (b Batch) LastOffsetDelta() int32 { return int32(binary.BigEndian.Uint32(b[posLastOffsetDelta:])) }

// SizeBytes is the batch's size with header, as its length field has it.
func (b Batch) SizeBytes() int {
	return int(int32(binary.BigEndian.Uint32(b[posLength:]))) + LogOverhead
}

// LeaderEpoch is the epoch of the leader that appended the batch; -1 in batches from clients.
func (b Batch) LeaderEpoch() id.LeaderEpoch {
	return id.LeaderEpoch(binary.BigEndian.Uint32(b[posLeaderEpoch:]))
}

// Magic is the format version, always 2.
func (b Batch) Magic() int8 { return int8(b[posMagic]) }

// CRC is the stored CRC-32C.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[posCRC:]) }

// Attributes are the batch's flags.
func (b Batch) Attributes() Attributes {
	return Attributes(binary.BigEndian.Uint16(b[posAttributes:]))
}

// Codec is the batch's compression; it may be a value that no codec has (5 to 7).
func (b Batch) Codec() Codec { return Codec(b.Attributes() & AttrCodecMask) }

// TimestampType says whether the records' timestamps are the producer's or the broker's.
func (b Batch) TimestampType() TimestampType {
	if b.Attributes()&AttrLogAppendTime != 0 {
		return LogAppendTime
	}
	return CreateTime
}

// IsTransactional reports whether the batch belongs to a transaction.
func (b Batch) IsTransactional() bool { return b.Attributes()&AttrTransactional != 0 }

// IsControl reports whether the batch holds control records, which consumers do not see.
func (b Batch) IsControl() bool { return b.Attributes()&AttrControl != 0 }

// DeleteHorizonMs is the time after which compaction may drop the batch's tombstones and markers (KIP-534), if set.
func (b Batch) DeleteHorizonMs() (ms int64, ok bool) {
	if b.Attributes()&AttrDeleteHorizon == 0 {
		return NoTimestamp, false
	}
	return b.BaseTimestamp(), true
}

// BaseTimestamp is what the records' timestamp deltas are relative to, in milliseconds since the epoch.
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[posBaseTimestamp:])) }

// MaxTimestamp is the largest timestamp of the records (LogAppendTime: of all of them), in milliseconds; -1 if none.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[posMaxTimestamp:])) }

// ProducerID is the idempotent producer's id, -1 if none.
func (b Batch) ProducerID() id.ProducerID {
	return id.ProducerID(binary.BigEndian.Uint64(b[posProducerID:]))
}

// HasProducerID reports whether an idempotent or transactional producer wrote the batch.
func (b Batch) HasProducerID() bool { return b.ProducerID() > id.NoProducer }

// ProducerEpoch is the producer's epoch, -1 if none.
func (b Batch) ProducerEpoch() id.ProducerEpoch {
	return id.ProducerEpoch(binary.BigEndian.Uint16(b[posProducerEpoch:]))
}

// BaseSequence is the first record's sequence number, -1 if none.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[posBaseSequence:])) }

// LastSequence is the last record's sequence number, -1 if none. Sequences wrap from 2^31-1 to 0.
func (b Batch) LastSequence() int32 {
	s := b.BaseSequence()
	if s == NoSequence {
		return NoSequence
	}
	return AddSequence(s, b.LastOffsetDelta())
}

// AddSequence adds to a sequence number, which wraps from 2^31-1 to 0.
func AddSequence(sequence, n int32) int32 {
	if sequence > math.MaxInt32-n {
		return n - (math.MaxInt32 - sequence) - 1
	}
	return sequence + n
}

// Count is the number of records the header declares; fewer than the offsets after compaction.
func (b Batch) Count() int32 { return int32(binary.BigEndian.Uint32(b[posCount:])) }

// Payload is the records' bytes, compressed if the codec says so.
func (b Batch) Payload() []byte { return b[HeaderSize:] }

// ComputeCRC is the CRC-32C the batch should have.
func (b Batch) ComputeCRC() uint32 { return crc32.Checksum(b[posAttributes:], castagnoli) }

// CheckCRC returns a *CorruptError unless the stored CRC matches the bytes.
func (b Batch) CheckCRC() error {
	if stored, computed := b.CRC(), b.ComputeCRC(); stored != computed {
		return &CorruptError{Reason: fmt.Sprintf("Record is corrupt (stored crc = %d, computed crc = %d)", stored, computed)}
	}
	return nil
}

// SetBaseOffset assigns the batch's offsets. It is outside the CRC.
func (b Batch) SetBaseOffset(o id.Offset) { binary.BigEndian.PutUint64(b[posBaseOffset:], uint64(o)) }

// SetLastOffset assigns the batch's offsets so that the last one is o. It is outside the CRC.
func (b Batch) SetLastOffset(o id.Offset) { b.SetBaseOffset(o - id.Offset(b.LastOffsetDelta())) }

// SetLastOffsetDelta sets where the batch's offsets end, relative to BaseOffset, and the CRC: compaction keeps the end of a batch
// whose last records it removed, and with it the producer's last sequence number.
func (b Batch) SetLastOffsetDelta(delta int32) {
	binary.BigEndian.PutUint32(b[posLastOffsetDelta:], uint32(delta))
	b.SetCRC()
}

// SetLeaderEpoch stamps the leader's epoch. It is outside the CRC.
func (b Batch) SetLeaderEpoch(e id.LeaderEpoch) {
	binary.BigEndian.PutUint32(b[posLeaderEpoch:], uint32(e))
}

// SetMaxTimestamp sets the timestamp type and the max timestamp and, only if that changed anything, the CRC. With
// LogAppendTime every record's timestamp becomes ms.
func (b Batch) SetMaxTimestamp(t TimestampType, ms int64) {
	if b.TimestampType() == t && b.MaxTimestamp() == ms {
		return
	}
	a := b.Attributes() &^ AttrLogAppendTime
	if t == LogAppendTime {
		a |= AttrLogAppendTime
	}
	binary.BigEndian.PutUint16(b[posAttributes:], uint16(a))
	binary.BigEndian.PutUint64(b[posMaxTimestamp:], uint64(ms))
	b.SetCRC()
}

// SetProducer rewrites the producer fields and the CRC.
func (b Batch) SetProducer(pid id.ProducerID, epoch id.ProducerEpoch, baseSequence int32) {
	binary.BigEndian.PutUint64(b[posProducerID:], uint64(pid))
	binary.BigEndian.PutUint16(b[posProducerEpoch:], uint16(epoch))
	binary.BigEndian.PutUint32(b[posBaseSequence:], uint32(baseSequence))
	b.SetCRC()
}

// SetCRC stores the CRC of the bytes as they are.
func (b Batch) SetCRC() { binary.BigEndian.PutUint32(b[posCRC:], b.ComputeCRC()) }

// String describes the header in one line.
func (b Batch) String() string {
	if len(b) < HeaderSize {
		return fmt.Sprintf("Batch(short: %d bytes)", len(b))
	}
	return fmt.Sprintf("Batch(magic=%d, offsets=[%d, %d], sequence=[%d, %d], partitionLeaderEpoch=%d, isTransactional=%t, isControlBatch=%t, compression=%s, timestampType=%s, crc=%d)",
		b.Magic(), b.BaseOffset(), b.LastOffset(), b.BaseSequence(), b.LastSequence(), b.LeaderEpoch(), b.IsTransactional(),
		b.IsControl(), b.Codec(), b.TimestampType(), b.CRC())
}

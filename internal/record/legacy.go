package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Positions in an entry of format 0 or 1.
const (
	posLegacyCRC        = 12
	posLegacyAttributes = 17
	posLegacyTimestamp  = 18 // format 1
	posLegacyKeyV0      = 18
	posLegacyKeyV1      = 26
	legacyMinV0         = posLegacyKeyV0 + 8 // with the lengths of key and value
	legacyMinV1         = posLegacyKeyV1 + 8
)

// Legacy is exactly one entry of message format 0 or 1, as a view over bytes: one record, or several that were compressed into
// the value of one (a wrapper). No broker since 3.0 writes them, and logs that are old enough hold them still.
//
//	offset len  field
//	     0   8  offset       of a wrapper: that of its last record
//	     8   4  size         bytes after this field
//	    12   4  CRC-32       of everything behind it
//	    16   1  magic        0 or 1
//	    17   1  attributes   0-2 codec, 3 timestamp type (format 1)
//	    18   8  timestamp    format 1 only
//	     -   4  key length, key, value length, value; -1 is null
//
// The records in a wrapper are entries themselves. Their offsets are absolute in format 0 and count from 0 in format 1.
// Its methods require what NextLegacy checks.
type Legacy []byte

// NextLegacy cuts the first entry off b, which must be of format 0 or 1. The entry and the rest alias b. It checks lengths and the
// magic, not the CRC. Errors: ErrIncomplete, *CorruptError.
func NextLegacy(b []byte) (entry Legacy, rest []byte, err error) {
	size, err := Peek(b)
	if err != nil {
		return nil, b, err
	}
	if size > len(b) {
		return nil, b, ErrIncomplete
	}
	entry = Legacy(b[:size:size])
	least := legacyMinV0
	switch entry.Magic() {
	case 0:
	case 1:
		least = legacyMinV1
	default:
		return nil, b, &CorruptError{Reason: fmt.Sprintf("Invalid magic found in record: %d", entry.Magic())}
	}
	if size < least {
		return nil, b, &CorruptError{Reason: fmt.Sprintf("Record of %d bytes is shorter than its header", size)}
	}
	return entry, b[size:], nil
}

// Offset is the record's offset; of a wrapper the last record's.
func (e Legacy) Offset() id.Offset { return id.Offset(binary.BigEndian.Uint64(e)) }

// Magic is the format, 0 or 1.
func (e Legacy) Magic() int8 { return int8(e[posMagic]) }

// Codec is the compression of the value; not None makes the entry a wrapper.
func (e Legacy) Codec() Codec { return Codec(e[posLegacyAttributes] & 7) }

// LogAppendTime reports whether the timestamp is the broker's and holds for all records of a wrapper.
func (e Legacy) LogAppendTime() bool {
	return e.Magic() == 1 && Attributes(e[posLegacyAttributes])&AttrLogAppendTime != 0
}

// TimestampTypeName names the kind of the timestamp as Kafka's tools do.
func (e Legacy) TimestampTypeName() string {
	switch {
	case e.Magic() == 0:
		return "NoTimestampType"
	case e.LogAppendTime():
		return LogAppendTime.String()
	}
	return CreateTime.String()
}

// TimestampMs is the entry's timestamp; -1 in format 0. A wrapper has its records' largest.
func (e Legacy) TimestampMs() int64 {
	if e.Magic() == 0 {
		return NoTimestamp
	}
	return int64(binary.BigEndian.Uint64(e[posLegacyTimestamp:]))
}

// CRC is the stored CRC-32 (IEEE).
func (e Legacy) CRC() uint32 { return binary.BigEndian.Uint32(e[posLegacyCRC:]) }

// ComputeCRC is the CRC-32 that the entry should have.
func (e Legacy) ComputeCRC() uint32 { return crc32.ChecksumIEEE(e[posMagic:]) }

// CheckCRC returns a *CorruptError unless the stored CRC matches the bytes.
func (e Legacy) CheckCRC() error {
	if stored, computed := e.CRC(), e.ComputeCRC(); stored != computed {
		return &CorruptError{Reason: fmt.Sprintf("Record is corrupt (stored crc = %d, computed crc = %d)", stored, computed)}
	}
	return nil
}

// content returns key and value; ok is false when their lengths do not fit.
func (e Legacy) content() (key, value []byte, ok bool) {
	b := e[posLegacyKeyV0:]
	if e.Magic() == 1 {
		b = e[posLegacyKeyV1:]
	}
	if key, b, ok = readSized(b); !ok {
		return nil, nil, false
	}
	value, _, ok = readSized(b)
	return key, value, ok
}

// readSized reads an int32 length and that many bytes; a negative length is null.
func readSized(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := int32(binary.BigEndian.Uint32(b))
	b = b[4:]
	if n < 0 {
		return nil, b, true
	}
	if int64(n) > int64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

// fill makes r the entry's own record.
func (e Legacy) fill(r *Record) (reason string) {
	key, value, ok := e.content()
	if !ok {
		return reasonStructure
	}
	*r = Record{Offset: e.Offset(), TimestampMs: e.TimestampMs(), Sequence: NoSequence, Attributes: int8(e[posLegacyAttributes]),
		Key: key, Value: value, SizeBytes: len(e)}
	return ""
}

// LegacyIterator visits the records of one entry in order. It is used like Iterator.
type LegacyIterator struct {
	entry   Legacy
	current Legacy
	payload []byte // of a wrapper
	base    id.Offset
	stream  *stream
	src     []byte
	done    bool
	seen    bool
	err     error
}

// Records starts an iteration over e. limitBytes bounds what a wrapper may decompress to. The CRC is not checked.
//
// A wrapper of format 1 is decompressed twice: its first record's offset follows from its last one's.
func (e Legacy) Records(limitBytes int) LegacyIterator {
	it := LegacyIterator{entry: e}
	codec := e.Codec()
	if codec == None {
		return it
	}
	if codec == Zstd || !codec.Valid() {
		it.fail(fmt.Sprintf("Found compression %v in a record of format %d", codec, e.Magic()))
		return it
	}
	_, payload, ok := e.content()
	switch {
	case !ok:
		it.fail(reasonStructure)
		return it
	case payload == nil:
		it.fail(fmt.Sprintf("Found invalid compressed record set with null value (magic = %d)", e.Magic()))
		return it
	}
	it.payload = payload
	if e.Magic() == 1 {
		it.findBase(limitBytes)
	}
	if it.err == nil {
		it.open(limitBytes)
	}
	return it
}

func (it *LegacyIterator) open(limitBytes int) {
	it.src, it.seen = nil, false
	it.stream, it.err = openLegacyStream(it.entry.Codec(), it.entry.Magic(), it.payload, limitBytes)
}

// findBase reads to the last record. A wrapper at offset 0 has its records' own offsets: some clients did not count.
func (it *LegacyIterator) findBase(limitBytes int) {
	it.open(limitBytes)
	last := id.NoOffset
	for inner, ok := it.inner(); ok; inner, ok = it.inner() {
		last = inner.Offset()
	}
	it.Close()
	wrapper := it.entry.Offset()
	switch {
	case it.err != nil || wrapper == 0:
	case wrapper < last:
		it.fail(fmt.Sprintf("Found invalid wrapper offset in compressed v1 message set, wrapper offset '%d' is less than the last inner "+
			"message offset '%d' and it is not zero.", wrapper, last))
	default:
		it.base = wrapper - last
	}
}

// Next fills r with the next record; false at the end and on an error, which Err then returns.
func (it *LegacyIterator) Next(r *Record) bool {
	if it.err != nil || it.done {
		return false
	}
	if it.stream == nil {
		it.done, it.current = true, it.entry
		if reason := it.entry.fill(r); reason != "" {
			it.fail(reason)
		}
		return it.err == nil
	}
	inner, ok := it.inner()
	if !ok {
		it.done = true
		return false
	}
	if inner.Codec() != None {
		it.fail("Inner messages must not be compressed")
		return false
	}
	it.current = inner
	if reason := inner.fill(r); reason != "" {
		it.fail(reason)
		return false
	}
	r.Offset += it.base
	if inner.Magic() == 1 && it.entry.LogAppendTime() {
		r.TimestampMs = it.entry.TimestampMs()
	}
	return true
}

// Entry is the entry of the record that Next filled in: the entry itself, or one in the wrapper, with its own offset. It is valid
// until the next call.
func (it *LegacyIterator) Entry() Legacy { return it.current }

// inner cuts the next entry off the decompressed stream. An entry that the stream ends in is left out, as Kafka does.
func (it *LegacyIterator) inner() (Legacy, bool) {
	for it.err == nil {
		entry, rest, err := NextLegacy(it.src)
		if err == nil {
			it.src, it.seen = rest, true
			return entry, true
		}
		if err != ErrIncomplete {
			it.err = err
			break
		}
		src, err := it.stream.more(it.src)
		it.src = src
		switch {
		case err == io.EOF && !it.seen:
			it.fail("Found invalid compressed record set with no inner records")
		case err == io.EOF:
			return nil, false
		case err != nil:
			it.err = err
		}
	}
	return nil, false
}

func (it *LegacyIterator) fail(reason string) { it.err = &InvalidError{Reason: reason} }

// Err is the error that ended the iteration: *InvalidError, *CorruptError, *DecompressError or *TooLargeError; nil at the end.
func (it *LegacyIterator) Err() error { return it.err }

// Close gives the decompressor back. Slices of compressed records are invalid from here on.
func (it *LegacyIterator) Close() {
	if it.stream != nil {
		it.stream.close()
		it.stream, it.src = nil, nil
	}
}

// openLegacyStream is openStream for the value of a wrapper. In format 0, LZ4 frames have a wrong checksum of their header
// (KAFKA-3160), which nobody may check.
func openLegacyStream(c Codec, magic int8, payload []byte, limit int) (*stream, error) {
	if c != LZ4 || magic != 0 {
		return openStream(c, payload, limit)
	}
	s := &stream{codec: LZ4, src: &lz4Decoder{lax: true}, limit: limit, left: limit, own: true}
	if err := s.resetGuarded(payload, limit); err != nil {
		return nil, err
	}
	return s, nil
}

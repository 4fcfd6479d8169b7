package record

import (
	"github.com/moldau-io/moldau/internal/base/id"
)

// Record is one record of a batch, filled by an Iterator. Its slices alias the batch or the iterator's window and are valid
// until the iterator's next call.
type Record struct {
	Offset      id.Offset
	TimestampMs int64 // -1 if none; the batch's max timestamp when the batch is LogAppendTime
	Sequence    int32 // -1 without a producer id
	OffsetDelta int32
	Attributes  int8   // unused by Kafka
	Key         []byte // nil = null; empty and not nil = empty
	Value       []byte // nil = null (a tombstone on compacted topics)
	HeaderCount int
	SizeBytes   int // with its length prefix, uncompressed

	headers []byte // the headers' bytes, checked when the record was parsed
}

// Header is a record header. Value nil = null.
type Header struct {
	Key   []byte
	Value []byte
}

// AppendHeaders appends the record's headers, aliasing its bytes, to dst.
func (r *Record) AppendHeaders(dst []Header) []Header {
	b := r.headers
	for range r.HeaderCount {
		var h Header
		h.Key, b, _ = readBytes(b)
		h.Value, b, _ = readBytes(b)
		dst = append(dst, h)
	}
	return dst
}

// RawHeaders is the headers' bytes without their count, as Builder.AppendRecord copies them.
func (r *Record) RawHeaders() []byte { return r.headers }

// readBytes reads a varint length and that many bytes; a negative length is null.
func readBytes(b []byte) (v, rest []byte, ok bool) {
	n, b, ok := readVarint(b)
	if !ok || int64(n) > int64(len(b)) {
		return nil, nil, false
	}
	if n < 0 {
		return nil, b, true
	}
	return b[:n:n], b[n:], true
}

// parse fills r from the body of one record (without its length prefix), which must be used up exactly. The reason is empty
// when all is well. Offsets and timestamps become absolute by base, unless logAppendMs is set.
func (r *Record) parse(body []byte, h *batchFacts) (reason string) {
	b := body
	if len(b) < 4 {
		return reasonStructure
	}
	r.Attributes = int8(b[0])
	tsDelta, b, ok := readVarlong(b[1:])
	if !ok {
		return reasonStructure
	}
	r.OffsetDelta, b, ok = readVarint(b)
	if !ok {
		return reasonStructure
	}
	h.place(r, tsDelta)
	if r.Key, b, ok = readBytes(b); !ok {
		return reasonStructure
	}
	if r.Value, b, ok = readBytes(b); !ok {
		return reasonStructure
	}
	n, b, ok := readVarint(b)
	if !ok {
		return reasonStructure
	}
	r.HeaderCount, r.headers = int(n), b
	if n == 0 {
		if len(b) != 0 {
			return reasonSize(len(body), len(body)-len(b))
		}
		return ""
	}
	return checkHeaders(n, len(body), b)
}

// checkHeaders walks n headers that must use up b exactly.
func checkHeaders(n int32, bodySize int, b []byte) (reason string) {
	if n < 0 {
		return reasonHeaderCount(n)
	}
	if int64(n) > int64(len(b)) {
		return reasonHeadersTooMany(n)
	}
	for range n {
		keySize, rest, ok := readVarint(b)
		if !ok {
			return reasonStructure
		}
		if keySize < 0 {
			return reasonHeaderKey(keySize)
		}
		if int64(keySize) > int64(len(rest)) {
			return reasonStructure
		}
		if _, b, ok = readBytes(rest[keySize:]); !ok {
			return reasonStructure
		}
	}
	if len(b) != 0 {
		return reasonSize(bodySize, bodySize-len(b))
	}
	return ""
}

// batchFacts is what a record's absolute values are computed from.
type batchFacts struct {
	baseOffset    id.Offset
	baseTimestamp int64
	logAppendMs   int64
	baseSequence  int32
	logAppend     bool
}

func factsOf(b Batch) batchFacts {
	f := batchFacts{baseOffset: b.BaseOffset(), baseTimestamp: b.BaseTimestamp(), baseSequence: b.BaseSequence()}
	if b.TimestampType() == LogAppendTime {
		f.logAppend, f.logAppendMs = true, b.MaxTimestamp()
	}
	return f
}

// place computes r's offset, timestamp and sequence.
func (h *batchFacts) place(r *Record, tsDelta int64) {
	r.Offset = h.baseOffset + id.Offset(r.OffsetDelta)
	r.TimestampMs = h.baseTimestamp + tsDelta
	if h.logAppend {
		r.TimestampMs = h.logAppendMs
	}
	r.Sequence = NoSequence
	if h.baseSequence >= 0 {
		r.Sequence = AddSequence(h.baseSequence, r.OffsetDelta)
	}
}

package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
)

// inlineRecords is the length up to which record bytes are copied into the message rather than sent from where they are: a
// copy this small is cheaper than one more element of a vectored write.
const inlineRecords = 512

// Writer builds one encoded message: a buffer of its own with the places marked where content by reference goes. It is reused
// with Reset and then allocates nothing once its buffers have grown to the messages' usual size. Nothing handed to it is
// copied except strings and bytes fields; records are referenced until the chunks have been sent. One goroutine uses it.
type Writer struct {
	buf    []byte
	cuts   []cut
	outer  int // total size of the referenced content
	err    error
	chunks []Chunk
}

// cut is content by reference that belongs before byte at of the buffer.
type cut struct {
	at  int
	rec Records
}

// Reset forgets the message but keeps the buffers. Chunks taken before are invalid from now on.
func (w *Writer) Reset() {
	clear(w.cuts)
	clear(w.chunks)
	w.buf, w.cuts, w.chunks, w.outer, w.err = w.buf[:0], w.cuts[:0], w.chunks[:0], 0, nil
}

// Err returns the first error met, or nil. After an error the content is unusable.
func (w *Writer) Err() error { return w.err }

// Fail records err unless an earlier error stands.
func (w *Writer) Fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// CheckVersion fails the writer unless lo <= version <= hi.
func (w *Writer) CheckVersion(name string, version, lo, hi int16) bool {
	if version < lo || version > hi {
		w.Fail(fmt.Errorf("%w: %s has %d to %d, not %d", ErrVersion, name, lo, hi, version))
		return false
	}
	return true
}

// Size returns the length of the message so far, referenced content included.
func (w *Writer) Size() int { return len(w.buf) + w.outer }

// Cap returns the capacity of the writer's own buffer, so that an owner can drop one that grew too large.
func (w *Writer) Cap() int { return cap(w.buf) }

// Grow makes room for n more bytes, so that a small message takes one buffer.
func (w *Writer) Grow(n int) { w.buf = slices.Grow(w.buf, n) }

// Take returns the whole message and leaves the writer empty. The bytes belong to the caller; without referenced content they are
// the writer's buffer itself.
func (w *Writer) Take() ([]byte, error) {
	if w.err != nil || len(w.cuts) > 0 {
		return w.AppendTo(nil)
	}
	b := w.buf
	w.buf = nil
	return b[:len(b):len(b)], nil
}

// Chunks returns the message in pieces, in order. They belong to the writer and hold until its next Reset or write.
func (w *Writer) Chunks() []Chunk {
	w.chunks = w.chunks[:0]
	from := 0
	for _, c := range w.cuts {
		if c.at > from {
			w.chunks = append(w.chunks, Chunk{Bytes: w.buf[from:c.at]})
			from = c.at
		}
		if c.rec.Section != nil {
			w.chunks = append(w.chunks, Chunk{Section: c.rec.Section})
		} else {
			w.chunks = append(w.chunks, Chunk{Bytes: c.rec.Bytes})
		}
	}
	if from < len(w.buf) {
		w.chunks = append(w.chunks, Chunk{Bytes: w.buf[from:]})
	}
	return w.chunks
}

// AppendTo appends the whole message to dst, copying referenced content; sections must implement io.WriterTo.
func (w *Writer) AppendTo(dst []byte) ([]byte, error) {
	if w.err != nil {
		return dst, w.err
	}
	if dst == nil && len(w.cuts) == 0 {
		return append(make([]byte, 0, len(w.buf)), w.buf...), nil
	}
	for _, c := range w.Chunks() {
		if c.Section == nil {
			dst = append(dst, c.Bytes...)
			continue
		}
		var err error
		if dst, err = appendSection(dst, c.Section); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// Bool writes one byte, 0 or 1.
func (w *Writer) Bool(v bool) {
	var b byte
	if v {
		b = 1
	}
	w.buf = append(w.buf, b)
}

// Int8 writes one byte.
func (w *Writer) Int8(v int8) { w.buf = append(w.buf, byte(v)) }

// Int16 writes a big-endian number, as all fixed-size numbers here are.
func (w *Writer) Int16(v int16) { w.buf = binary.BigEndian.AppendUint16(w.buf, uint16(v)) }

// Uint16 writes an unsigned 16-bit number.
func (w *Writer) Uint16(v uint16) { w.buf = binary.BigEndian.AppendUint16(w.buf, v) }

// Int32 writes a signed 32-bit number.
func (w *Writer) Int32(v int32) { w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(v)) }

// Uint32 writes an unsigned 32-bit number.
func (w *Writer) Uint32(v uint32) { w.buf = binary.BigEndian.AppendUint32(w.buf, v) }

// Int64 writes a signed 64-bit number.
func (w *Writer) Int64(v int64) { w.buf = binary.BigEndian.AppendUint64(w.buf, uint64(v)) }

// Float64 writes an IEEE 754 double.
func (w *Writer) Float64(v float64) { w.Int64(int64(math.Float64bits(v))) }

// UUID writes 16 bytes.
func (w *Writer) UUID(u id.UUID) { w.buf = append(w.buf, u[:]...) }

// Uvarint writes an unsigned varint.
func (w *Writer) Uvarint(v uint32) { w.buf = binary.AppendUvarint(w.buf, uint64(v)) }

// Varint writes a signed (zigzag) varint.
func (w *Writer) Varint(v int32) { w.Uvarint(uint32(v)<<1 ^ uint32(v>>31)) }

// Varlong writes a signed (zigzag) 64-bit varint.
func (w *Writer) Varlong(v int64) {
	w.buf = binary.AppendUvarint(w.buf, uint64(v)<<1^uint64(v>>63))
}

// Raw writes bytes as they are, copying them.
func (w *Writer) Raw(b []byte) { w.buf = append(w.buf, b...) }

// length writes the length prefix of anything but a string; -1 is null.
func (w *Writer) length(flex bool, n int) {
	switch {
	case n > math.MaxInt32-1:
		w.Fail(fmt.Errorf("%w: %d", ErrTooLong, n))
	case flex:
		w.Uvarint(uint32(n + 1))
	default:
		w.Int32(int32(n))
	}
}

// String writes a string that is not null.
func (w *Writer) String(flex bool, s string) {
	switch n := len(s); {
	case n > math.MaxInt16:
		w.Fail(fmt.Errorf("%w: string of %d bytes", ErrTooLong, n))
		return
	case flex:
		w.Uvarint(uint32(n + 1))
	default:
		w.Int16(int16(n))
	}
	w.buf = append(w.buf, s...)
}

// NullString writes a string that may be null; nil at a version that cannot say null is written as the empty string.
func (w *Writer) NullString(flex, nullable bool, s *string) {
	switch {
	case s != nil:
		w.String(flex, *s)
	case !nullable:
		w.String(flex, "")
	case flex:
		w.Uvarint(0)
	default:
		w.Int16(-1)
	}
}

// Bytes writes bytes, copying them; nil is null if nullable, else empty.
func (w *Writer) Bytes(flex, nullable bool, b []byte) {
	if w.ArrayLen(flex, nullable, b == nil, len(b)); len(b) > 0 {
		w.buf = append(w.buf, b...)
	}
}

// Records writes a records field. Anything but a few bytes is referenced, not copied.
func (w *Writer) Records(flex, nullable bool, x Records) {
	n := x.Size()
	w.ArrayLen(flex, nullable, x.IsNull(), n)
	switch {
	case n == 0:
	case x.Section == nil && n <= inlineRecords:
		w.buf = append(w.buf, x.Bytes...)
	default:
		w.cuts = append(w.cuts, cut{len(w.buf), x})
		w.outer += n
	}
}

// ArrayLen writes the length of an array of n elements; isNil makes it null if nullable, else empty.
func (w *Writer) ArrayLen(flex, nullable, isNil bool, n int) {
	if isNil && nullable {
		n = -1
	}
	w.length(flex, n)
}

// NullStruct writes the presence byte of a nullable struct.
func (w *Writer) NullStruct(present bool) {
	if present {
		w.Int8(1)
	} else {
		w.Int8(-1)
	}
}

// Strings writes an array of strings.
func (w *Writer) Strings(flex, nullable bool, a []string) {
	w.ArrayLen(flex, nullable, a == nil, len(a))
	for _, s := range a {
		w.String(flex, s)
	}
}

// ByteSlices writes an array of byte sequences.
func (w *Writer) ByteSlices(flex, nullable bool, a [][]byte) {
	w.ArrayLen(flex, nullable, a == nil, len(a))
	for _, b := range a {
		w.Bytes(flex, false, b)
	}
}

// Int8s writes an array of bytes as numbers.
func (w *Writer) Int8s(flex, nullable bool, a []int8) {
	w.ArrayLen(flex, nullable, a == nil, len(a))
	for _, v := range a {
		w.Int8(v)
	}
}

// Int16s writes an array of 16-bit numbers.
func (w *Writer) Int16s(flex, nullable bool, a []int16) {
	w.ArrayLen(flex, nullable, a == nil, len(a))
	for _, v := range a {
		w.Int16(v)
	}
}

// Int32s writes an array of 32-bit numbers.
func (w *Writer) Int32s(flex, nullable bool, a []int32) {
	w.ArrayLen(flex, nullable, a == nil, len(a))
	for _, v := range a {
		w.Int32(v)
	}
}

// Int64s writes an array of 64-bit numbers.
func (w *Writer) Int64s(flex, nullable bool, a []int64) {
	w.ArrayLen(flex, nullable, a == nil, len(a))
	for _, v := range a {
		w.Int64(v)
	}
}

// UUIDs writes an array of UUIDs.
func (w *Writer) UUIDs(flex, nullable bool, a []id.UUID) {
	w.ArrayLen(flex, nullable, a == nil, len(a))
	for _, v := range a {
		w.UUID(v)
	}
}

// TagWriter is the state of writing one struct's tagged fields.
type TagWriter struct {
	count     int // fields so far
	start     int // where the section begins in the buffer
	startCuts int // len(Writer.cuts) there
	field     int // where the content of the field being written begins
	fieldCuts int // len(Writer.cuts) there
	outer     int // Writer.outer there
}

// BeginTags starts the tagged fields of a struct; fields follow in ascending order of their tags.
func (w *Writer) BeginTags() TagWriter { return TagWriter{start: len(w.buf), startCuts: len(w.cuts)} }

// BeginTag starts one field.
func (w *Writer) BeginTag(t *TagWriter, tag uint32) {
	t.count++
	w.Uvarint(tag)
	t.field, t.fieldCuts, t.outer = len(w.buf), len(w.cuts), w.outer
}

// EndTag ends the field, putting its size in front of its content.
func (w *Writer) EndTag(t *TagWriter) {
	w.insertUvarint(t.field, t.fieldCuts, len(w.buf)-t.field+w.outer-t.outer)
}

// EndTags ends the tagged fields with those unknown to this release, whose tags are above the known ones.
func (w *Writer) EndTags(t *TagWriter, unknown *Tags) {
	if unknown != nil {
		w.buf = append(w.buf, unknown.Raw...)
		t.count += unknown.Count
	}
	w.insertUvarint(t.start, t.startCuts, t.count)
}

// Tags writes the tagged fields of a struct that knows none.
func (w *Writer) Tags(unknown *Tags) {
	if unknown == nil {
		w.buf = append(w.buf, 0)
		return
	}
	w.Uvarint(uint32(unknown.Count))
	w.buf = append(w.buf, unknown.Raw...)
}

// insertUvarint puts v at position at of the buffer, moving what is behind it, which includes the cuts from number cuts on.
func (w *Writer) insertUvarint(at, cuts, v int) {
	if v > math.MaxInt32 {
		w.Fail(fmt.Errorf("%w: tagged field of %d bytes", ErrTooLong, v))
		return
	}
	n := uvarintLen(uint32(v))
	end := len(w.buf)
	for range n {
		w.buf = append(w.buf, 0)
	}
	copy(w.buf[at+n:], w.buf[at:end])
	binary.PutUvarint(w.buf[at:], uint64(v))
	for i := cuts; i < len(w.cuts); i++ {
		w.cuts[i].at += n
	}
}

func uvarintLen(v uint32) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Reader reads primitive values from one frame. The first error sticks: from then on every read returns a zero value and no
// byte is left. A Reader is used by one goroutine.
type Reader struct {
	buf    []byte // what is left
	size   int    // how long the frame was
	err    error
	budget *Budget
}

// NewReader returns a reader of frame. Allocations are charged to b; a nil b leaves only the structural bounds.
func NewReader(frame []byte, b *Budget) *Reader {
	return &Reader{buf: frame, size: len(frame), budget: b}
}

// Reset makes r read frame from its start, without an error, charging b.
func (r *Reader) Reset(frame []byte, b *Budget) { *r = Reader{buf: frame, size: len(frame), budget: b} }

// Err returns the first error met, or nil.
func (r *Reader) Err() error { return r.err }

// Failed reports whether an error was met.
func (r *Reader) Failed() bool { return r.err != nil }

// Remaining returns the number of bytes not yet read; 0 after an error.
func (r *Reader) Remaining() int { return len(r.buf) }

// Finish returns the first error met, counting bytes left over as one.
func (r *Reader) Finish() error {
	if r.err == nil && len(r.buf) > 0 {
		n := len(r.buf)
		r.Fail(fmt.Errorf("%w: %d of them", ErrTrailing, n))
	}
	return r.err
}

// Fail records err unless an earlier error stands, and ends the reading.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
		r.buf = nil
	}
}

func (r *Reader) malformed(format string, args ...any) {
	if r.err == nil {
		r.Fail(fmt.Errorf("%w: %s with %d bytes left", ErrMalformed, fmt.Sprintf(format, args...), len(r.buf)))
	}
}

// CheckVersion fails the reader unless lo <= version <= hi.
func (r *Reader) CheckVersion(name string, version, lo, hi int16) bool {
	if version < lo || version > hi {
		r.Fail(fmt.Errorf("%w: %s has %d to %d, not %d", ErrVersion, name, lo, hi, version))
	}
	return r.err == nil
}

// Charge claims memory for an allocation of n bytes about to be made and reports whether it may be.
func (r *Reader) Charge(n int) bool {
	if r.err != nil {
		return false
	}
	if r.budget == nil || n == 0 {
		return true
	}
	if err := r.budget.Charge(heapSize(n)); err != nil {
		r.Fail(err)
		return false
	}
	return true
}

// heapSize returns no less than what the allocator uses for n bytes: it rounds up to a size class, at worst by a fifth, and
// large sizes to whole pages.
func heapSize(n int) int64 {
	switch {
	case n <= 512:
		return int64(n + n/8 + 12)
	case n <= 32<<10:
		return int64(n + n/5 + 8)
	}
	return (int64(n) + 8191) &^ 8191
}

// take cuts the next n bytes off; nil and a failure when there are fewer.
func (r *Reader) take(n int) []byte {
	if n < 0 || n > len(r.buf) {
		r.malformed("%d bytes wanted", n)
		return nil
	}
	b := r.buf[:n:n]
	r.buf = r.buf[n:]
	return b
}

// Int8 reads one byte.
func (r *Reader) Int8() int8 {
	if len(r.buf) < 1 {
		r.malformed("an int8 wanted")
		return 0
	}
	v := int8(r.buf[0])
	r.buf = r.buf[1:]
	return v
}

// Bool reads one byte; like Kafka it takes every value but 0 for true.
func (r *Reader) Bool() bool { return r.Int8() != 0 }

// Int16 reads a big-endian number, as all fixed-size numbers here are.
func (r *Reader) Int16() int16 {
	if len(r.buf) < 2 {
		r.malformed("an int16 wanted")
		return 0
	}
	v := int16(binary.BigEndian.Uint16(r.buf))
	r.buf = r.buf[2:]
	return v
}

// Uint16 reads an unsigned 16-bit number.
func (r *Reader) Uint16() uint16 { return uint16(r.Int16()) }

// Int32 reads a signed 32-bit number.
func (r *Reader) Int32() int32 {
	if len(r.buf) < 4 {
		r.malformed("an int32 wanted")
		return 0
	}
	v := int32(binary.BigEndian.Uint32(r.buf))
	r.buf = r.buf[4:]
	return v
}

// Uint32 reads an unsigned 32-bit number.
func (r *Reader) Uint32() uint32 { return uint32(r.Int32()) }

// Int64 reads a signed 64-bit number.
func (r *Reader) Int64() int64 {
	if len(r.buf) < 8 {
		r.malformed("an int64 wanted")
		return 0
	}
	v := int64(binary.BigEndian.Uint64(r.buf))
	r.buf = r.buf[8:]
	return v
}

// Float64 reads an IEEE 754 double.
func (r *Reader) Float64() float64 { return math.Float64frombits(uint64(r.Int64())) }

// UUID reads 16 bytes.
func (r *Reader) UUID() (u id.UUID) {
	if len(r.buf) < 16 {
		r.malformed("a uuid wanted")
		return u
	}
	copy(u[:], r.buf)
	r.buf = r.buf[16:]
	return u
}

// Uvarint reads an unsigned varint of at most five bytes. Like Kafka it drops bits above 32 and refuses a sixth byte.
func (r *Reader) Uvarint() uint32 {
	var v uint32
	for i := range min(5, len(r.buf)) {
		b := r.buf[i]
		v |= uint32(b&0x7f) << (7 * i)
		if b < 0x80 {
			r.buf = r.buf[i+1:]
			return v
		}
	}
	r.malformed("a varint wanted")
	return 0
}

// Varint reads a signed (zigzag) varint of at most five bytes.
func (r *Reader) Varint() int32 {
	v := r.Uvarint()
	return int32(v>>1) ^ -int32(v&1)
}

// Varlong reads a signed (zigzag) varint of at most ten bytes.
func (r *Reader) Varlong() int64 {
	var v uint64
	for i := range min(10, len(r.buf)) {
		b := r.buf[i]
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			r.buf = r.buf[i+1:]
			return int64(v>>1) ^ -int64(v&1)
		}
	}
	r.malformed("a varlong wanted")
	return 0
}

// length reads the length prefix of a value that is not a string; any negative one means null. Kafka computes the compact form
// in 32 bits, where a varint beyond 31 bits wraps; so does this.
func (r *Reader) length(flex bool) int {
	if flex {
		return int(int32(r.Uvarint()) - 1)
	}
	return int(r.Int32())
}

func (r *Reader) stringLength(flex bool) int {
	if !flex {
		return int(r.Int16())
	}
	n := r.length(true)
	if n > math.MaxInt16 {
		r.malformed("string length %d", n)
		return -1
	}
	return n
}

// null accounts for a null value and reports an error where none is allowed.
func (r *Reader) null(nullable bool, what string) {
	if !nullable {
		r.malformed("a null %s where none may be", what)
	}
}

// String reads a string that may not be null. The result is a copy; invalid UTF-8 is replaced as Java replaces it.
func (r *Reader) String(flex bool) string {
	n := r.stringLength(flex)
	if n < 0 {
		r.null(false, "string")
		return ""
	}
	return r.text(n)
}

func (r *Reader) text(n int) string {
	b := r.take(n)
	if len(b) == 0 || !r.Charge(n) {
		return ""
	}
	if !utf8.Valid(b) {
		if !r.Charge(3 * n) {
			return ""
		}
		return javaString(b)
	}
	return string(b)
}

// NullString reads a string that may be null if nullable says so.
func (r *Reader) NullString(flex, nullable bool) *string {
	n := r.stringLength(flex)
	if n < 0 {
		r.null(nullable, "string")
		return nil
	}
	if !r.Charge(16) {
		return nil
	}
	s := r.text(n)
	if r.err != nil {
		return nil
	}
	return &s
}

// Bytes reads bytes that may be null if nullable says so. The result aliases the frame; it is nil only for null.
func (r *Reader) Bytes(flex, nullable bool) []byte {
	n := r.length(flex)
	if n < 0 {
		r.null(nullable, "byte sequence")
		return nil
	}
	return r.take(n)
}

// Records reads record batches as bytes that alias the frame.
func (r *Reader) Records(flex, nullable bool) Records {
	return Records{Bytes: r.Bytes(flex, nullable)}
}

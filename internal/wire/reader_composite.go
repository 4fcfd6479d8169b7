package wire

import (
	"encoding/binary"

	"github.com/moldau-io/moldau/internal/base/id"
)

// maxElements is the largest number of elements that Kafka takes in one array.
const maxElements = 1_000_000

// ArrayLen reads an array's length and claims the memory for its elements: elem bytes each in memory, at least least bytes
// each on the wire. It returns -1 for null and after an error. A count that the bytes left cannot hold is refused before
// anything is claimed.
func (r *Reader) ArrayLen(flex, nullable bool, least int, elem uintptr) int {
	n := r.length(flex)
	if n < 0 {
		r.null(nullable, "array")
		return -1
	}
	if n > maxElements || n > len(r.buf)/max(least, 1) {
		r.malformed("%d elements of at least %d bytes", n, least)
		return -1
	}
	if !r.Charge(n * int(elem)) {
		return -1
	}
	return n
}

// NullStruct reads the presence byte of a nullable struct and reports whether the struct follows, claiming size bytes for it.
func (r *Reader) NullStruct(size uintptr) bool { return r.Int8() >= 0 && r.Charge(int(size)) }

// NullTagStruct is NullStruct for a tagged field, where presence is a varint.
func (r *Reader) NullTagStruct(size uintptr) bool {
	return int32(r.Uvarint()) > 0 && r.Charge(int(size))
}

// Strings reads an array of strings.
func (r *Reader) Strings(flex, nullable bool) []string {
	least := 2
	if flex {
		least = 1
	}
	n := r.ArrayLen(flex, nullable, least, 16)
	if n < 0 {
		return nil
	}
	a := make([]string, n)
	for i := range a {
		if a[i] = r.String(flex); r.err != nil {
			return nil
		}
	}
	return a
}

// ByteSlices reads an array of byte sequences, which alias the frame.
func (r *Reader) ByteSlices(flex, nullable bool) [][]byte {
	least := 4
	if flex {
		least = 1
	}
	n := r.ArrayLen(flex, nullable, least, 24)
	if n < 0 {
		return nil
	}
	a := make([][]byte, n)
	for i := range a {
		if a[i] = r.Bytes(flex, false); r.err != nil {
			return nil
		}
	}
	return a
}

// Int8s reads an array of bytes as numbers.
func (r *Reader) Int8s(flex, nullable bool) []int8 {
	n := r.ArrayLen(flex, nullable, 1, 1)
	if n < 0 {
		return nil
	}
	a := make([]int8, n)
	for i := range a {
		a[i] = r.Int8()
	}
	return a
}

// Int16s reads an array of 16-bit numbers.
func (r *Reader) Int16s(flex, nullable bool) []int16 {
	n := r.ArrayLen(flex, nullable, 2, 2)
	if n < 0 {
		return nil
	}
	a := make([]int16, n)
	for i := range a {
		a[i] = r.Int16()
	}
	return a
}

// Int32s reads an array of 32-bit numbers.
func (r *Reader) Int32s(flex, nullable bool) []int32 {
	n := r.ArrayLen(flex, nullable, 4, 4)
	if n < 0 {
		return nil
	}
	a := make([]int32, n)
	for i := range a {
		a[i] = r.Int32()
	}
	return a
}

// Int64s reads an array of 64-bit numbers.
func (r *Reader) Int64s(flex, nullable bool) []int64 {
	n := r.ArrayLen(flex, nullable, 8, 8)
	if n < 0 {
		return nil
	}
	a := make([]int64, n)
	for i := range a {
		a[i] = r.Int64()
	}
	return a
}

// UUIDs reads an array of UUIDs.
func (r *Reader) UUIDs(flex, nullable bool) []id.UUID {
	n := r.ArrayLen(flex, nullable, 16, 16)
	if n < 0 {
		return nil
	}
	a := make([]id.UUID, n)
	for i := range a {
		a[i] = r.UUID()
	}
	return a
}

// maxTags is the largest number of tagged fields that Kafka takes in one struct.
const maxTags = 10000

// TagCount reads the number of tagged fields that follow. A number that the bytes left cannot hold is refused: every field
// takes two bytes at least.
func (r *Reader) TagCount() int32 {
	n := int32(r.Uvarint())
	if n < 0 || n > maxTags || int(n) > len(r.buf)/2 {
		r.malformed("%d tagged fields", n)
		return 0
	}
	return n
}

// Tag reads the tag and size of a tagged field. Kafka reads a field it knows without regard to its size and neither checks the
// order of tags nor that they are distinct: the last one counts. Generated code does the same.
func (r *Reader) Tag() (tag uint32, size int) {
	tag = r.Uvarint()
	return tag, int(int32(r.Uvarint()))
}

// BadTag fails the reader over a known tag at a version where it is not valid.
func (r *Reader) BadTag(tag uint32, version int16) {
	r.malformed("tag %d is not valid for version %d", tag, version)
}

// UnknownTag keeps the tagged field whose tag and size have just been read, appending it to *tags.
func (r *Reader) UnknownTag(tags **Tags, tag uint32, size int) {
	data := r.take(size)
	if r.err != nil {
		return
	}
	t := *tags
	if t == nil {
		if !r.Charge(40) {
			return
		}
		t = new(Tags)
		*tags = t
	}
	// Entries are written anew rather than cut from the frame, where a varint need not be in its shortest form.
	if need := len(t.Raw) + uvarintLen(tag) + uvarintLen(uint32(size)) + size; need > cap(t.Raw) {
		grown := max(2*cap(t.Raw), need)
		if !r.Charge(grown) {
			return
		}
		t.Raw = append(make([]byte, 0, grown), t.Raw...)
	}
	t.Raw = binary.AppendUvarint(t.Raw, uint64(tag))
	t.Raw = binary.AppendUvarint(t.Raw, uint64(size))
	t.Raw = append(t.Raw, data...)
	t.Count++
}

// Tags reads the tagged fields of a struct that knows none.
func (r *Reader) Tags(tags **Tags) {
	for n := r.TagCount(); n > 0 && r.err == nil; n-- {
		tag, size := r.Tag()
		r.UnknownTag(tags, tag, size)
	}
}

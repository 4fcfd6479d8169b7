package wire

import "io"

// Section is content that a response carries by reference, such as a range of a log file. Whoever sends the chunks knows what
// kinds there are and how to send them. A section that also implements io.WriterTo can be copied into a buffer.
type Section interface {
	// Size is the exact number of bytes the section will put on the wire.
	Size() int
}

// Records is the value of a `records` field: either bytes in memory or a section sent by reference. Both nil is null. If both
// are set the section counts. Decoded Bytes alias the frame.
type Records struct {
	Bytes   []byte
	Section Section
}

// IsNull reports whether the field is null, which is not the same as empty.
func (x Records) IsNull() bool { return x.Bytes == nil && x.Section == nil }

// Size returns the length in bytes, 0 when null.
func (x Records) Size() int {
	if x.Section != nil {
		return x.Section.Size()
	}
	return len(x.Bytes)
}

// Chunk is one piece of an encoded message, to be sent in order. Exactly one of the two fields is set.
type Chunk struct {
	Bytes   []byte
	Section Section
}

// Size returns the chunk's length on the wire.
func (c Chunk) Size() int {
	if c.Section != nil {
		return c.Section.Size()
	}
	return len(c.Bytes)
}

// appendSection copies a section into dst, growing it.
func appendSection(dst []byte, s Section) ([]byte, error) {
	src, ok := s.(io.WriterTo)
	if !ok {
		return dst, ErrSection
	}
	sink := appendWriter{dst}
	want := len(dst) + s.Size()
	if _, err := src.WriteTo(&sink); err != nil {
		return dst, err
	}
	if len(sink.buf) != want {
		return dst, io.ErrUnexpectedEOF
	}
	return sink.buf, nil
}

type appendWriter struct{ buf []byte }

func (w *appendWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	return len(p), nil
}

// Tags holds the tagged fields of one struct that this release does not know, as they came: Raw is Count entries of tag, size
// and data. They are kept because Kafka keeps them: a record or request that is decoded and encoded again loses nothing. Raw
// may alias the frame.
type Tags struct {
	Count int
	Raw   []byte
}

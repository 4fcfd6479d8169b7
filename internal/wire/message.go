package wire

import (
	"errors"
	"fmt"
)

// Message is one protocol message or record payload that knows its own form at every version it supports.
//
// Decode overwrites the receiver, giving fields absent at the version their defaults. Both methods report trouble through the
// sticky error of their Reader or Writer only.
type Message interface {
	Decode(r *Reader, version int16)
	Encode(w *Writer, version int16)
}

// Request is a message that asks, and Response one that answers, under an API key.
type (
	Request interface {
		Message
		APIKey() APIKey
	}
	Response interface {
		Message
		APIKey() APIKey
	}
)

// Errors of decoding and encoding; they arrive wrapped with place and figures.
var (
	// ErrMalformed reports bytes that are not the message they claim to be.
	ErrMalformed = errors.New("malformed message")
	// ErrVersion reports a version the message does not have.
	ErrVersion = errors.New("unsupported message version")
	// ErrTrailing reports bytes left over after a complete message. It is also an ErrMalformed.
	ErrTrailing = fmt.Errorf("%w: trailing bytes", ErrMalformed)
	// ErrTooLong reports a string or section that cannot be expressed in its length prefix.
	ErrTooLong = errors.New("value too long for its length prefix")
	// ErrSection reports a message whose content by reference cannot be copied into one buffer.
	ErrSection = errors.New("record section cannot be copied")
)

// Unmarshal decodes exactly one message from b and refuses trailing bytes. Bytes and records in m alias b.
func Unmarshal(b []byte, m Message, version int16) error {
	r := Reader{buf: b}
	m.Decode(&r, version)
	return r.Finish()
}

// Marshal returns m at version in one fresh buffer. It is for messages of known shape: handing it a version m does not have, a
// string longer than the protocol can say, or a Section that cannot be read is a mistake in the program and panics. Code that
// holds foreign values uses a Writer and looks at its Err.
func Marshal(m Message, version int16) []byte {
	var w Writer
	m.Encode(&w, version)
	b, err := w.AppendTo(nil)
	if err != nil {
		panic(fmt.Sprintf("wire: marshal %T version %d: %v", m, version, err))
	}
	return b
}

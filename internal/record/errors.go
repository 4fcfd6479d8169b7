package record

import (
	"errors"
	"fmt"

	"github.com/moldau-io/moldau/internal/base/id"
)

// ErrIncomplete reports bytes that end inside a batch: more must be read, or the tail cut off.
var ErrIncomplete = errors.New("the bytes end inside a record batch")

// CorruptError reports bytes that cannot be a batch, or a batch whose CRC is wrong. Kafka's code is CORRUPT_MESSAGE.
type CorruptError struct{ Reason string }

// Error returns the reason.
func (e *CorruptError) Error() string { return e.Reason }

// InvalidError reports a batch whose CRC is right and whose content contradicts itself. Kafka's code is INVALID_RECORD.
type InvalidError struct{ Reason string }

// Error returns the reason.
func (e *InvalidError) Error() string { return e.Reason }

// LegacyError reports a whole entry of message format v0 or v1, which 4.x brokers no longer write.
type LegacyError struct {
	Magic      int8
	BaseOffset id.Offset // of a compressed entry: the offset of its last record
	SizeBytes  int
}

// Error names the format.
func (e *LegacyError) Error() string {
	return fmt.Sprintf("entry at offset %d has message format v%d, which is not supported", e.BaseOffset, e.Magic)
}

// DecompressError reports a payload that the codec cannot read.
type DecompressError struct {
	Codec Codec
	Err   error
}

// Error names the codec and its complaint.
func (e *DecompressError) Error() string {
	return fmt.Sprintf("decompress records with %s: %v", e.Codec, e.Err)
}

// Unwrap returns the codec's complaint.
func (e *DecompressError) Unwrap() error { return e.Err }

// TooLargeError reports a payload that decompresses to more bytes than the caller allows.
type TooLargeError struct {
	Codec      Codec
	LimitBytes int
}

// Error names the limit.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("records compressed with %s take more than %d bytes", e.Codec, e.LimitBytes)
}

// UnknownCodecError reports a codec number that Kafka does not have.
type UnknownCodecError struct{ Codec Codec }

// Error names the number.
func (e *UnknownCodecError) Error() string {
	return fmt.Sprintf("Unknown compression type id: %d", int8(e.Codec))
}

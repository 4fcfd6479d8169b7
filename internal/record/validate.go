package record

import (
	"errors"
	"fmt"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// Origin says on whose behalf batches are appended; the checks depend on it.
type Origin int8

// The origins of an append.
const (
	OriginClient      Origin = iota // a produce request: everything is checked
	OriginCoordinator               // a coordinator of this node: may write control batches
	OriginRaftLeader                // the quorum's leader: offsets and epochs are set; records are not looked at
	OriginReplication               // a follower's fetch: offsets and epochs are set; records are not looked at
)

// ValidateOptions say what a partition accepts and who asks.
type ValidateOptions struct {
	TopicPartition id.TopicPartition // for messages only
	Origin         Origin
	// ProduceVersion is the version of the produce request the batches came in, which bounds what they may be; 0 when they
	// came otherwise.
	ProduceVersion int16
	// LeaderEpoch is stamped by AssignOffsets; from a raft leader, the batches must have it; in replication, batches of
	// later epochs are cut off.
	LeaderEpoch id.LeaderEpoch

	// Target is the compression of compression.type and its level; KeepCodec means "producer": what came.
	Target    Compression
	KeepCodec bool
	// Compacted topics need a key in every record (cleanup.policy contains compact).
	Compacted         bool
	TimestampType     TimestampType
	TimestampBeforeMs int64 // message.timestamp.before.max.ms
	TimestampAfterMs  int64 // message.timestamp.after.max.ms
	NowMs             int64 // the broker's clock, milliseconds

	MaxBatchBytes   int // max.message.bytes; 0: no bound
	MaxSegmentBytes int // segment.bytes; 0: no bound
	// DecompressedLimit bounds what one batch may decompress to.
	DecompressedLimit int
	// MaxRecordBytes is max.decompressed.message.bytes: a record of a compressed batch may have as many; 0: no bound.
	MaxRecordBytes int
	// Scratch, if not nil, lends its memory when a batch must be rewritten: Validated.Bytes is then valid until its next use.
	Scratch *Builder
}

// Validated is what may be appended.
type Validated struct {
	// Bytes are whole batches. They alias the input, with timestamps set in place, unless Rewritten.
	Bytes     []byte
	Rewritten bool
	// FirstOffset and LastOffset (inclusive) are those in Bytes: relative to 0 for a leader until AssignOffsets.
	FirstOffset, LastOffset id.Offset
	LastEpoch               id.LeaderEpoch // of the last batch
	Batches                 int
	Records                 int // as many as the offsets say
	SourceCodec             Codec
	// MaxTimestampMs is the largest timestamp, -1 if none. For the time index it belongs to OffsetOfMaxTimestamp: the last
	// offset of the first batch that has it, never the record's own offset (Kafka's "shallow" offset), -1 if none.
	MaxTimestampMs       int64
	OffsetOfMaxTimestamp id.Offset
	// LogAppendMs is the time all records got, -1 with CreateTime.
	LogAppendMs int64
	// TrimmedBytes is how much of the input was left out: an incomplete batch at its end, or batches of later epochs.
	TrimmedBytes int
}

// AssignOffsets gives the batch of a leader its offsets, the first being base, and its leader epoch, in place.
func (v *Validated) AssignOffsets(base id.Offset, epoch id.LeaderEpoch) {
	b := Batch(v.Bytes)
	shift := base - v.FirstOffset
	b.SetBaseOffset(base)
	b.SetLeaderEpoch(epoch)
	v.FirstOffset, v.LastOffset, v.LastEpoch = base, v.LastOffset+shift, epoch
	if v.OffsetOfMaxTimestamp >= 0 {
		v.OffsetOfMaxTimestamp += shift
	}
}

// RecordError is a complaint about one record. Index counts from 0 in its batch.
type RecordError struct {
	Index   int32
	Message string
}

// String prints as Kafka's RecordError does.
func (e RecordError) String() string {
	return fmt.Sprintf("RecordError(batchIndex=%d, message='%s')", e.Index, e.Message)
}

// Error is a refusal with the code that the client gets.
type Error struct {
	Code    wire.ErrorCode
	Message string
	// Records are the complaints about single records, in order, maxRecordErrors at most. Only if there are any does a
	// produce answer carry Message (and these).
	Records []RecordError
	// Err is the cause, if another error was.
	Err error
}

// Error returns the code's name and the message.
func (e *Error) Error() string { return e.Code.Name() + ": " + e.Message }

// Unwrap yields the code, so that errors.As finds a wire.ErrorCode, and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Code}
	}
	return []error{e.Code, e.Err}
}

// maxRecordErrors bounds how many complaints one answer carries.
const maxRecordErrors = 10_000

func refuse(code wire.ErrorCode, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// asError gives the package's errors their codes.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	code := wire.ErrUnknownServerError
	switch x := err.(type) {
	case *CorruptError:
		code = wire.ErrCorruptMessage
	case *InvalidError:
		code = wire.ErrInvalidRecord
	case *TooLargeError:
		code = wire.ErrMessageTooLarge
	case *LegacyError:
		return &Error{Code: wire.ErrInvalidRecord, Message: x.Error(), Err: err}
	}
	return &Error{Code: code, Message: err.Error(), Err: err}
}

// Validate checks batches that are to be appended to a partition, as a broker of 4.4 does, and makes them ready: time
// stamps and, if the topic wants another codec, compression. In place whenever the codec stays. Any error is an *Error.
//
// For a leader (clients and coordinators) there must be exactly one batch, which is walked record by record; compressed
// ones are decompressed as a stream. Its offsets are assigned afterwards with Validated.AssignOffsets, so that Validate can
// run outside the critical section of the append. For a raft leader or a follower only headers and CRCs are checked.
//
// Two deliberate differences from Kafka, neither seen by an honest client: a batch whose records are not numbered
// 0, 1, 2... is rewritten whatever its codec (Kafka: only if compressed), and a compressed record whose size differs from
// its fields is refused (Kafka: ignored if the codec stays).
func Validate(batches []byte, o ValidateOptions) (Validated, error) {
	if o.ProduceVersion > 0 {
		if err := checkProduce(batches, o.ProduceVersion); err != nil {
			return Validated{}, err
		}
	}
	v, err := analyze(batches, &o)
	if err != nil {
		return Validated{}, err
	}
	if o.Origin == OriginClient || o.Origin == OriginCoordinator {
		if err := validateLeader(&v, &o); err != nil {
			return Validated{}, err
		}
	}
	if o.MaxSegmentBytes > 0 && len(v.Bytes) > o.MaxSegmentBytes {
		return Validated{}, refuse(wire.ErrRecordListTooLarge, "Message batch size is %d bytes in append to partition %s, which exceeds the maximum configured segment size of %d.",
			len(v.Bytes), o.TopicPartition, o.MaxSegmentBytes)
	}
	return v, nil
}

// checkProduce holds what a produce request of a version may contain.
func checkProduce(b []byte, version int16) error {
	size, err := Peek(b)
	switch {
	case errors.Is(err, ErrIncomplete) || err == nil && size > len(b):
		return refuse(wire.ErrInvalidRecord, "Produce requests with version %d must have at least one record batch per partition", version)
	case err != nil:
		return asError(err)
	}
	if b[posMagic] != Magic {
		return refuse(wire.ErrInvalidRecord, "Produce requests with version %d are only allowed to contain record batches with magic version 2", version)
	}
	batch, rest, err := Next(b)
	if err != nil {
		return asError(err)
	}
	if version < 7 && batch.Codec() == Zstd {
		return refuse(wire.ErrUnsupportedCompressionType, "Produce requests with version %d are not allowed to use ZStandard compression", version)
	}
	switch size, err := Peek(rest); {
	case errors.Is(err, ErrIncomplete) || err == nil && size > len(rest):
		return nil
	case err != nil:
		return asError(err)
	}
	return refuse(wire.ErrInvalidRecord, "Produce requests with version %d are only allowed to contain exactly one record batch per partition", version)
}

// analyze checks headers and CRCs of all batches and cuts off what does not belong.
func analyze(in []byte, o *ValidateOptions) (Validated, error) {
	v := Validated{LastOffset: -1, FirstOffset: -1, LastEpoch: id.NoLeaderEpoch, MaxTimestampMs: NoTimestamp, OffsetOfMaxTimestamp: -1, LogAppendMs: NoTimestamp}
	rest := in
	for {
		b, next, err := Next(rest)
		if errors.Is(err, ErrIncomplete) {
			break // also the end
		}
		if err != nil {
			return v, asError(err)
		}
		if o.Origin == OriginReplication && b.LeaderEpoch() > o.LeaderEpoch {
			break // sent by a leader that this replica does not follow yet (KAFKA-18723)
		}
		if err := v.admit(b, len(in), o); err != nil {
			return v, err
		}
		rest = next
	}
	v.TrimmedBytes = len(rest)
	v.Bytes = in[: len(in)-len(rest) : len(in)-len(rest)]
	return v, nil
}

// admit checks one batch's header and CRC and counts it.
func (v *Validated) admit(b Batch, inBytes int, o *ValidateOptions) error {
	switch {
	case o.Origin == OriginRaftLeader && b.LeaderEpoch() != o.LeaderEpoch:
		return refuse(wire.ErrInvalidRecord, "Append from Raft leader did not set the batch epoch correctly, expected %d but the batch has %d", o.LeaderEpoch, b.LeaderEpoch())
	case o.Origin == OriginClient && b.BaseOffset() != 0:
		return refuse(wire.ErrInvalidRecord, "The baseOffset of the record batch in the append to %s should be 0, but it is %d", o.TopicPartition, b.BaseOffset())
	case o.Origin != OriginReplication && o.MaxBatchBytes > 0 && len(b) > o.MaxBatchBytes:
		return refuse(wire.ErrMessageTooLarge, "The record batch size in the append to %s is %d bytes which exceeds the maximum configured value of %d).", o.TopicPartition, len(b), o.MaxBatchBytes)
	case b.CheckCRC() != nil:
		return refuse(wire.ErrCorruptMessage, "Record is corrupt (stored crc = %d) in topic partition %s.", b.CRC(), o.TopicPartition)
	case !b.Codec().Valid():
		return asError(&UnknownCodecError{Codec: b.Codec()})
	}
	setByLeader := o.Origin == OriginRaftLeader || o.Origin == OriginReplication
	if setByLeader && (v.Batches > 0 && b.BaseOffset() <= v.LastOffset || b.LastOffset() < b.BaseOffset()) {
		return refuse(wire.ErrUnknownServerError, "Out of order offsets found in append to %s: %d after %d", o.TopicPartition, b.BaseOffset(), v.LastOffset)
	}
	if v.Batches == 0 {
		v.FirstOffset = b.BaseOffset()
	}
	v.LastOffset, v.LastEpoch = b.LastOffset(), b.LeaderEpoch()
	if b.MaxTimestamp() > v.MaxTimestampMs {
		v.MaxTimestampMs, v.OffsetOfMaxTimestamp = b.MaxTimestamp(), b.LastOffset()
	}
	if b.Codec() != None {
		v.SourceCodec = b.Codec()
	}
	v.Batches++
	v.Records += int(b.LastOffsetDelta()) + 1
	return nil
}

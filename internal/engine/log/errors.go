package log

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// ErrClosed reports a log or manager that was closed.
var ErrClosed = errors.New("log is closed")

// ErrDeleted reports a log whose partition was deleted.
var ErrDeleted = errors.New("log is deleted")

// StorageError reports a disk that did not do what was asked. Kafka's code is KAFKA_STORAGE_ERROR.
type StorageError struct {
	Op      string // what was being done
	Where   string // the file, partition or directory
	Offline bool   // the whole log directory is out of service
	Err     error
}

// Error says what failed, where and why.
func (e *StorageError) Error() string {
	if e.Offline {
		return fmt.Sprintf("%s %s: log directory is offline: %v", e.Op, e.Where, e.Err)
	}
	return fmt.Sprintf("%s %s: %v", e.Op, e.Where, e.Err)
}

// Unwrap yields the code and the cause.
func (e *StorageError) Unwrap() []error { return []error{wire.ErrKafkaStorageError, e.Err} }

// IsOffline reports whether err came from a log directory that is out of service.
func IsOffline(err error) bool {
	var s *StorageError
	return errors.As(err, &s) && s.Offline
}

// IsFull reports an error that freeing space repairs: the log is as it was before, and its directory works.
func IsFull(err error) bool { return isFull(err) && !IsOffline(err) }

// isFull reports errors that freeing space repairs.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// OffsetOutOfRangeError reports a read or a DeleteRecords outside of the log.
type OffsetOutOfRangeError struct {
	TopicPartition id.TopicPartition
	Offset         id.Offset
	Start, End     id.Offset // what may be asked for; End inclusive
}

// Error names the bounds.
func (e *OffsetOutOfRangeError) Error() string {
	return fmt.Sprintf("offset %d of %v is outside of %d to %d", e.Offset, e.TopicPartition, e.Start, e.End)
}

// Unwrap yields the code.
func (e *OffsetOutOfRangeError) Unwrap() error { return wire.ErrOffsetOutOfRange }

// UnexpectedOffsetError reports a follower's append that begins below the log end.
type UnexpectedOffsetError struct {
	TopicPartition       id.TopicPartition
	FirstOffset, LogEnd  id.Offset
	LastOffset, LogStart id.Offset
}

// Error names the offsets.
func (e *UnexpectedOffsetError) Error() string {
	return fmt.Sprintf("append to %v: first offset %d is below the log end %d (last offset %d, log start %d)",
		e.TopicPartition, e.FirstOffset, e.LogEnd, e.LastOffset, e.LogStart)
}

// RefusedError reports an append that the log does not take, with the code a client is told and a message for it.
type RefusedError struct {
	Code    wire.ErrorCode
	Message string
}

// Error returns the message.
func (e *RefusedError) Error() string { return e.Message }

// Unwrap yields the code.
func (e *RefusedError) Unwrap() error { return e.Code }

func refuse(code wire.ErrorCode, format string, args ...any) error {
	return &RefusedError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// InconsistentTopicIDError reports a partition directory that belongs to another incarnation of the topic.
type InconsistentTopicIDError struct {
	TopicPartition id.TopicPartition
	Have, Want     id.UUID
}

// Error names both ids.
func (e *InconsistentTopicIDError) Error() string {
	return fmt.Sprintf("%v: the log on disk belongs to topic id %v, not %v", e.TopicPartition, e.Have, e.Want)
}

// Unwrap yields the code.
func (e *InconsistentTopicIDError) Unwrap() error { return wire.ErrInconsistentTopicID }

// ErrorCode returns the code that err carries, or UNKNOWN_SERVER_ERROR. A log that is closed or deleted is not led from here.
func ErrorCode(err error) wire.ErrorCode {
	var code wire.ErrorCode
	switch {
	case err == nil:
		return wire.ErrNone
	case errors.As(err, &code):
		return code
	case errors.Is(err, ErrClosed), errors.Is(err, ErrDeleted):
		return wire.ErrNotLeaderOrFollower
	}
	return wire.ErrUnknownServerError
}

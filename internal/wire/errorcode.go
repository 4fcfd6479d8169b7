package wire

import "strconv"

// ErrorCode is an error as the protocol knows it. It is an error value: wrap it, and find it with errors.As. ErrNone is the
// code of success and should not travel as an error.
type ErrorCode int16

type errorInfo struct {
	name, message string
	retriable     bool
}

// known returns what there is to know about c, and false for a code outside the protocol.
func (c ErrorCode) known() (*errorInfo, bool) {
	if c < ErrUnknownServerError || c > lastErrorCode {
		return nil, false
	}
	return &errorTable[c+1], true
}

// Name returns the protocol's name, such as NOT_LEADER_OR_FOLLOWER, or the number for a code outside the protocol.
func (c ErrorCode) Name() string {
	if e, ok := c.known(); ok {
		return e.name
	}
	return strconv.Itoa(int(c))
}

// Message returns the text that Kafka sends with the code when there is nothing more particular to say. For ErrNone it is the
// name, as in Kafka.
func (c ErrorCode) Message() string {
	e, ok := c.known()
	switch {
	case !ok:
		return errorTable[0].message
	case e.message == "":
		return e.name
	}
	return e.message
}

// Retriable reports whether a client may try the same request again.
func (c ErrorCode) Retriable() bool {
	e, ok := c.known()
	return ok && e.retriable
}

// Error returns the name and message.
func (c ErrorCode) Error() string { return c.Name() + ": " + c.Message() }

// Err returns c as an error, nil for ErrNone.
func (c ErrorCode) Err() error {
	if c == ErrNone {
		return nil
	}
	return c
}

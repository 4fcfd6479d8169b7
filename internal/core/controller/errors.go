package controller

import (
	"errors"

	"github.com/moldau-io/moldau/internal/wire"
)

// Error is a refusal with the code and the text that travel to the client.
type Error struct {
	Code wire.ErrorCode
	Text string // "" where Kafka sends no message beside the code
}

// Error returns the text.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Code.Error()
	}
	return e.Code.Name() + ": " + e.Text
}

// Unwrap returns the code.
func (e *Error) Unwrap() error { return e.Code }

// Message is what error_message fields carry: the text, or null when there is none.
func (e *Error) Message() *string {
	if e == nil || e.Text == "" {
		return nil
	}
	return &e.Text
}

func (e *Error) code() wire.ErrorCode {
	if e == nil {
		return wire.ErrNone
	}
	return e.Code
}

func errorf(code wire.ErrorCode, text string) *Error { return &Error{Code: code, Text: text} }

// plain is an error that carries the code's own message as its text.
func plain(code wire.ErrorCode) *Error { return &Error{Code: code, Text: code.Message()} }

// errTooManyRecords is what Kafka's bounded record list throws.
func errTooManyRecords() *Error {
	return errorf(wire.ErrPolicyViolation, "Unable to perform excessively large batch operation.")
}

func refuse(code wire.ErrorCode, text string) Decision { return Decision{Err: errorf(code, text)} }

// configError maps what a ConfigSchema says.
func configError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var code wire.ErrorCode
	if errors.As(err, &code) {
		return errorf(code, err.Error())
	}
	return errorf(wire.ErrInvalidConfig, err.Error())
}

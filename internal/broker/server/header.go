package server

import (
	"encoding/binary"
	"fmt"

	"github.com/moldau-io/moldau/internal/wire"
)

// headBytes is the least request: key, version, correlation id, client id length.
const headBytes = 4 + 4 + 2

// headerBudget bounds what decoding a header may allocate: a client id and a handful of tags.
const headerBudget = 4 << 10

// peekKey reads which API and version a frame claims to be.
func peekKey(frame []byte) (key wire.APIKey, version int16, err error) {
	if len(frame) < headBytes {
		return 0, 0, fmt.Errorf("frame of %d bytes is shorter than a request header", len(frame))
	}
	return wire.APIKey(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:])), nil
}

// decodeHeader reads the request header and returns what follows it. flexibleFrom is the API's first version with tagged fields
// (header version 2), negative if it has none.
func (r *Request) decodeHeader(frame []byte, version, flexibleFrom int16) (body []byte, err error) {
	headerVersion := int16(1)
	if flexibleFrom >= 0 && version >= flexibleFrom {
		headerVersion = 2
	}
	r.budget.Start(headerBudget, nil)
	r.reader.Reset(frame, &r.budget)
	r.Header.Decode(&r.reader, headerVersion)
	if err := r.reader.Err(); err != nil {
		return nil, fmt.Errorf("request header: %w", err)
	}
	return frame[len(frame)-r.reader.Remaining():], nil
}

// encodeResponseHeader writes the header of an answer. That of ApiVersions is always version 0, because the client cannot know
// yet what the broker speaks (KIP-511).
func encodeResponseHeader(w *wire.Writer, key wire.APIKey, version, flexibleFrom int16, correlationID int32) {
	h := wire.ResponseHeader{CorrelationID: correlationID}
	headerVersion := int16(0)
	if key != wire.ApiVersions && flexibleFrom >= 0 && version >= flexibleFrom {
		headerVersion = 1
	}
	h.Encode(w, headerVersion)
}

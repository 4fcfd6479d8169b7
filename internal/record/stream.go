package record

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// Sizes of the window of a stream.
const (
	windowBytes     = 64 << 10
	maxPooledWindow = 1 << 20
)

// stream is a decompressor and the window its output passes through.
type stream struct {
	codec  Codec
	src    decoder
	window []byte
	limit  int
	left   int // bytes that may still come; -1 once one too many came
	one    [1]byte
	own    bool // not of a pool
}

// decoder is a pooled decompressor of one codec.
type decoder interface {
	// reset starts on a payload that may yield limit bytes; it may read its beginning.
	reset(payload []byte, limit int) error
	// Read returns io.EOF only at a proper end.
	io.Reader
	// release drops what reset took.
	release()
}

// streamPools hold idle streams by codec, a cache without meaning.
var streamPools = [...]sync.Pool{
	Gzip:   {New: func() any { return &stream{codec: Gzip, src: new(gzipDecoder)} }},
	Snappy: {New: func() any { return &stream{codec: Snappy, src: new(snappyDecoder)} }},
	LZ4:    {New: func() any { return &stream{codec: LZ4, src: new(lz4Decoder)} }},
	Zstd:   {New: func() any { return &stream{codec: Zstd, src: new(zstdDecoder)} }},
}

// openStream starts decompressing payload, which may yield limit bytes at most.
func openStream(c Codec, payload []byte, limit int) (*stream, error) {
	if c == None || !c.Valid() {
		return nil, &UnknownCodecError{Codec: c}
	}
	s := streamPools[c].Get().(*stream)
	s.limit, s.left = limit, limit
	if err := s.resetGuarded(payload, limit); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// resetGuarded starts the decoder.
func (s *stream) resetGuarded(payload []byte, limit int) (err error) {
	defer func() { err = s.guard(recover(), err) }()
	return s.src.reset(payload, limit)
}

// readGuarded reads at least one byte from the decoder, or gets an error.
func (s *stream) readGuarded(p []byte) (n int, err error) {
	defer func() { err = s.guard(recover(), err) }()
	for range maxIdleReads {
		if n, err = s.src.Read(p); n > 0 {
			return n, nil // an error comes again with the next read
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// maxIdleReads is how often a decoder may return nothing and no error in a row.
const maxIdleReads = 100

// guard turns the panics of third-party code and all errors but io.EOF into DecompressErrors.
func (s *stream) guard(panicked any, err error) error {
	if panicked != nil {
		err = fmt.Errorf("decompressor panicked: %v", panicked)
		s.src = newDecoder(s.codec) // whatever state it is in, it is not used again
	}
	if err == nil || err == io.EOF {
		return err
	}
	if _, ok := errors.AsType[*TooLargeError](err); ok {
		return err
	}
	return &DecompressError{Codec: s.codec, Err: err}
}

func newDecoder(c Codec) decoder {
	switch c {
	case Gzip:
		return new(gzipDecoder)
	case Snappy:
		return new(snappyDecoder)
	case LZ4:
		return new(lz4Decoder)
	default:
		return new(zstdDecoder)
	}
}

// more moves unread, a part of the window, to the window's start and reads at least one byte behind it. io.EOF: the
// payload is at its end.
func (s *stream) more(unread []byte) ([]byte, error) {
	n := len(unread)
	switch {
	case s.window == nil:
		s.window = make([]byte, windowBytes)
	case n == len(s.window): // full of bytes that did come: one record is larger than the window
		grown := make([]byte, 2*n)
		copy(grown, unread)
		s.window = grown
	default:
		copy(s.window, unread)
	}
	k, err := s.read(s.window[n:])
	return s.window[:n+k], err
}

// anyMore reports whether the payload has another byte. It leaves the window alone.
func (s *stream) anyMore() (bool, error) {
	switch _, err := s.read(s.one[:]); err {
	case nil:
		return true, nil
	case io.EOF:
		return false, nil
	default:
		return false, err
	}
}

// read fills a part of p: at least one byte, or an error.
func (s *stream) read(p []byte) (n int, err error) {
	if len(p) > s.left+1 {
		p = p[:s.left+1] // one beyond the limit, to tell the limit from the end
	}
	if len(p) == 0 {
		return 0, &TooLargeError{Codec: s.codec, LimitBytes: s.limit}
	}
	n, err = s.readGuarded(p)
	if s.left -= n; s.left < 0 {
		s.left = -1
		return 0, &TooLargeError{Codec: s.codec, LimitBytes: s.limit}
	}
	return n, err
}

// close gives the stream back to its pool.
func (s *stream) close() {
	s.src.release()
	if s.own {
		return
	}
	if len(s.window) > maxPooledWindow {
		s.window = nil
	}
	streamPools[s.codec].Put(s)
}

package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

var (
	errCut     = errors.New("stream ended prematurely")
	errFraming = errors.New("stream unsupported (invalid magic bytes)")
)

// gzipDecoder reads gzip, also of several members.
type gzipDecoder struct {
	in bytes.Reader
	z  gzip.Reader
}

func (d *gzipDecoder) reset(payload []byte, _ int) error {
	d.in.Reset(payload)
	if err := d.z.Reset(&d.in); err != nil {
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

func (d *gzipDecoder) Read(p []byte) (int, error) { return d.z.Read(p) }
func (d *gzipDecoder) release()                   { d.in.Reset(nil) }

// Xerial's framing of snappy blocks, which every Java client writes: a header, then blocks with their lengths. Without the
// header the payload is one raw block.
const (
	xerialHeaderSize = 16
	xerialBlockBytes = 32 << 10
	xerialMagic      = "\x82SNAPPY\x00"
	xerialVersions   = "\x00\x00\x00\x01\x00\x00\x00\x01"
	// snappyMaxRatio is above what any block can expand to: a copy of 64 bytes takes three.
	snappyMaxRatio = 22
)

// snappyDecoder reads snappy, xerial-framed or raw.
type snappyDecoder struct {
	in     []byte
	framed bool
	block  []byte // decoded and unread
	buf    []byte
}

func (d *snappyDecoder) reset(payload []byte, _ int) error {
	d.in, d.block = payload, nil
	d.framed = bytes.HasPrefix(payload, []byte(xerialMagic))
	if !d.framed {
		return nil
	}
	if len(payload) < xerialHeaderSize {
		return errCut
	}
	if v := binary.BigEndian.Uint32(payload[8:]); v < 1 {
		return fmt.Errorf("compressed with an incompatible codec version %d", v)
	}
	d.in = payload[xerialHeaderSize:]
	return nil
}

func (d *snappyDecoder) Read(p []byte) (int, error) {
	for len(d.block) == 0 {
		if len(d.in) == 0 {
			return 0, io.EOF
		}
		if err := d.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, d.block)
	d.block = d.block[n:]
	return n, nil
}

// next decodes the next block.
func (d *snappyDecoder) next() error {
	src := d.in
	d.in = nil
	if d.framed {
		if len(src) < 4 {
			return errCut
		}
		size := binary.BigEndian.Uint32(src)
		if string(src[:4]) == xerialMagic[:4] { // streams one after the other
			if len(src) < xerialHeaderSize {
				return errCut
			}
			d.in = src[xerialHeaderSize:]
			return nil
		}
		src = src[4:]
		if uint64(size) > uint64(len(src)) {
			return errCut
		}
		src, d.in = src[:size], src[size:]
	}
	n, err := s2.DecodedLen(src)
	if err != nil {
		return err
	}
	if n > snappyMaxRatio*len(src) {
		return fmt.Errorf("a block of %d bytes cannot hold %d", len(src), n)
	}
	if n > cap(d.buf) {
		d.buf = make([]byte, n)
	}
	d.block, err = s2.Decode(d.buf[:n], src)
	return err
}

func (d *snappyDecoder) release() {
	d.in, d.block = nil, nil
	if cap(d.buf) > maxPooledWindow {
		d.buf = nil
	}
}

// The LZ4 frame format, as far as Kafka writes and reads it: independent blocks, no dictionary.
const (
	lz4Magic             = 0x184D2204
	lz4FlagVersion       = 1 << 6
	lz4FlagIndependent   = 1 << 5
	lz4FlagBlockChecksum = 1 << 4
	lz4FlagContentSize   = 1 << 3
	lz4FlagChecksum      = 1 << 2
	lz4Stored            = 1 << 31
	lz4BlockBytes        = 64 << 10
	lz4BlockCode         = 4
	// lz4MaxRatio is above what any block can expand to: one byte adds 255 to a match's length.
	lz4MaxRatio = 256
)

// lz4Decoder reads one LZ4 frame.
type lz4Decoder struct {
	in       []byte
	flags    byte
	maxBlock int
	block    []byte
	buf      []byte
	done     bool
	lax      bool // the header's checksum may be wrong
}

func (d *lz4Decoder) reset(payload []byte, _ int) error {
	d.in, d.block, d.done = payload, nil, false
	if len(payload) < 7 {
		return errCut
	}
	if binary.LittleEndian.Uint32(payload) != lz4Magic {
		return errFraming
	}
	d.flags = payload[4]
	bd := payload[5]
	switch {
	case d.flags>>6 != 1:
		return fmt.Errorf("version %d is unsupported", d.flags>>6)
	case d.flags&lz4FlagIndependent == 0:
		return errors.New("dependent block stream is unsupported")
	case d.flags&3 != 0 || bd&0x8f != 0:
		return errors.New("reserved bits must be 0")
	case bd>>4 < 4:
		return fmt.Errorf("block size value %d must be between 4 and 7", bd>>4)
	}
	d.maxBlock = 1 << (2*int(bd>>4) + 8)
	end := 6
	if d.flags&lz4FlagContentSize != 0 {
		end += 8
	}
	if len(payload) < end+1 {
		return errCut
	}
	if !d.lax && byte(xxh32(payload[4:end])>>8) != payload[end] {
		return errors.New("stream frame descriptor corrupted")
	}
	d.in = payload[end+1:]
	return nil
}

func (d *lz4Decoder) Read(p []byte) (int, error) {
	for len(d.block) == 0 {
		if d.done {
			return 0, io.EOF
		}
		if err := d.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, d.block)
	d.block = d.block[n:]
	return n, nil
}

// next decodes the next block, or finds the end mark. As in Kafka, the content checksum is not looked at and what follows
// the end is ignored.
func (d *lz4Decoder) next() error {
	if len(d.in) < 4 {
		return errCut
	}
	word := binary.LittleEndian.Uint32(d.in)
	d.in = d.in[4:]
	size := int(word &^ lz4Stored)
	if size == 0 {
		d.done = true
		if d.flags&lz4FlagChecksum != 0 && len(d.in) < 4 {
			return errCut
		}
		return nil
	}
	if size > d.maxBlock {
		return fmt.Errorf("block size %d exceeded max: %d", size, d.maxBlock)
	}
	if size > len(d.in) {
		return errCut
	}
	src := d.in[:size]
	d.in = d.in[size:]
	if d.flags&lz4FlagBlockChecksum != 0 {
		if len(d.in) < 4 {
			return errCut
		}
		if xxh32(src) != binary.LittleEndian.Uint32(d.in) {
			return errors.New("block checksum mismatch")
		}
		d.in = d.in[4:]
	}
	if word&lz4Stored != 0 {
		d.block = src
		return nil
	}
	if want := min(d.maxBlock, lz4MaxRatio*size); want > len(d.buf) {
		d.buf = make([]byte, want)
	}
	n, err := lz4.UncompressBlock(src, d.buf[:min(d.maxBlock, len(d.buf))])
	d.block = d.buf[:max(n, 0)]
	return err
}

func (d *lz4Decoder) release() {
	d.in, d.block = nil, nil
	if len(d.buf) > maxPooledWindow {
		d.buf = nil
	}
}

// zstdStreamWindow is the largest window that is decoded as a stream: the decoder allocates the window up front. Frames
// with larger ones (levels 20 to 22 write up to 128 MB) are decoded as a whole, within the caller's limit.
const (
	zstdStreamWindow = 8 << 20
	zstdMaxBlock     = 128 << 10
	zstdMaxWindow    = 128 << 20 // what zstd's own streaming decoder accepts without being told otherwise
)

// zstdDecoder reads zstd frames.
type zstdDecoder struct {
	in bytes.Reader
	z  *zstd.Decoder
	// whole is the output of a payload with a huge window; hugeLimit is its bound. See zstdStreamWindow.
	whole     []byte
	hugeLimit int
}

func (d *zstdDecoder) reset(payload []byte, limit int) (err error) {
	d.whole, d.hugeLimit = nil, limit
	if len(payload) == 0 {
		return errCut
	}
	var h zstd.Header
	if h.Decode(payload) == nil && !h.Skippable && max(h.WindowSize, singleSegment(&h)) > zstdStreamWindow {
		return d.decodeWhole(payload)
	}
	if d.z == nil {
		d.z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdStreamWindow), zstd.WithDecodeBuffersBelow(0))
		if err != nil {
			return err
		}
	}
	d.in.Reset(payload)
	return d.z.Reset(&d.in)
}

// singleSegment is the window of a frame that is its own window.
func singleSegment(h *zstd.Header) uint64 {
	if h.SingleSegment {
		return h.FrameContentSize
	}
	return 0
}

// decodeWhole decodes all at once, with a decoder of its own, into memory that is doubled until the output fits: a small
// payload cannot make it allocate what its header says.
func (d *zstdDecoder) decodeWhole(payload []byte) error {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxWindow(zstdMaxWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	for size := min(d.hugeLimit, max(8*len(payload), windowBytes)); ; size = min(d.hugeLimit, 2*size) {
		// With less than a block of room at the end, the decoder reports a broken block instead of a full buffer.
		out, err := z.DecodeAll(payload, make([]byte, 0, size+zstdMaxBlock))
		switch {
		case err == nil && len(out) <= d.hugeLimit:
			d.whole = out
			return nil
		case err == nil:
			return &TooLargeError{Codec: Zstd, LimitBytes: d.hugeLimit}
		case size < d.hugeLimit:
			continue // full, or broken: the last round tells
		case errors.Is(err, zstd.ErrDecoderSizeExceeded):
			return &TooLargeError{Codec: Zstd, LimitBytes: d.hugeLimit}
		}
		return err
	}
}

func (d *zstdDecoder) Read(p []byte) (int, error) {
	if d.whole == nil {
		return d.z.Read(p)
	}
	if len(d.whole) == 0 {
		return 0, io.EOF
	}
	n := copy(p, d.whole)
	d.whole = d.whole[n:]
	return n, nil
}

func (d *zstdDecoder) release() {
	d.whole = nil
	d.in.Reset(nil)
	if d.z != nil {
		_ = d.z.Reset(nil) // only to let go of the payload
	}
}

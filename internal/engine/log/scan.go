package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// header is what a walk over a segment needs to know of a batch. Old formats (magic 0 and 1) are walked as batches of one
// offset: the one they carry, which for compressed messages is the last.
type header struct {
	position   int64
	size       int64
	base, last id.Offset
	maxTS      int64
	epoch      id.LeaderEpoch
	magic      int8
}

// Fields of a batch by their position.
const (
	headerPeekBytes = record.HeaderSize
	legacyOverhead  = record.LogOverhead + 4 + 1 + 1 // offset, size, crc, magic, attributes
)

// errBadBatch reports bytes in a segment that are not a batch. Kafka's code is CORRUPT_MESSAGE.
type errBadBatch struct {
	position int64
	reason   string
}

func (e *errBadBatch) Error() string { return fmt.Sprintf("at position %d: %s", e.position, e.reason) }

func parseHeader(b []byte, position, limit int64) (header, error) {
	h := header{position: position, epoch: id.NoLeaderEpoch, maxTS: record.NoTimestamp}
	bad := func(format string, args ...any) (header, error) {
		return header{}, &errBadBatch{position, fmt.Sprintf(format, args...)}
	}
	if len(b) < legacyOverhead {
		return bad("%d bytes left, too few for a batch", len(b))
	}
	h.base = id.Offset(binary.BigEndian.Uint64(b))
	length := int64(int32(binary.BigEndian.Uint32(b[8:])))
	h.size = record.LogOverhead + length
	h.magic = int8(b[16])
	if length < legacyOverhead-record.LogOverhead {
		return bad("batch length %d", length)
	}
	if position+h.size > limit {
		return bad("batch of %d bytes runs past the end at %d", h.size, limit)
	}
	switch h.magic {
	case 0, 1:
		h.last = h.base
		if h.magic == 1 && len(b) >= legacyOverhead+8 {
			h.maxTS = int64(binary.BigEndian.Uint64(b[legacyOverhead:]))
		}
	case record.Magic:
		if h.size < record.HeaderSize || len(b) < record.HeaderSize {
			return bad("batch of %d bytes is shorter than its header", h.size)
		}
		v := record.Batch(b[:record.HeaderSize])
		h.last, h.maxTS, h.epoch = v.LastOffset(), v.MaxTimestamp(), v.LeaderEpoch()
	default:
		return bad("magic %d", h.magic)
	}
	if h.base < 0 || h.last < h.base {
		return bad("offsets %d to %d", h.base, h.last)
	}
	return h, nil
}

// walkBytes is read at once when headers are walked: one index interval of small batches.
const walkBytes = 4096

// buffers hands out the memory for walks and scans, shared by the logs of one manager.
type buffers struct{ pool, scans sync.Pool }

func (p *buffers) get() *[walkBytes]byte {
	if b, ok := p.pool.Get().(*[walkBytes]byte); ok {
		return b
	}
	return new([walkBytes]byte)
}

func (p *buffers) put(b *[walkBytes]byte) { p.pool.Put(b) }

func (p *buffers) getScan() *[scanChunk]byte {
	if b, ok := p.scans.Get().(*[scanChunk]byte); ok {
		return b
	}
	return new([scanChunk]byte)
}

// walker visits the headers of the batches in [position, limit) of a file.
type walker struct {
	f     vfs.File
	buf   *[walkBytes]byte
	at    int64 // file position of buf
	have  int   // bytes in buf
	limit int64
}

// header reads the header of the batch at position; io.EOF when position is the limit.
func (w *walker) header(position int64) (header, error) {
	if position >= w.limit {
		return header{}, io.EOF
	}
	need := int(min(headerPeekBytes, w.limit-position))
	if off := position - w.at; off < 0 || off+int64(need) > int64(w.have) {
		n, err := w.f.ReadAt(w.buf[:min(walkBytes, w.limit-position)], position)
		if err != nil && !errors.Is(err, io.EOF) {
			return header{}, err
		}
		w.at, w.have = position, n
	}
	b := w.buf[position-w.at : w.have]
	return parseHeader(b[:min(len(b), headerPeekBytes)], position, w.limit)
}

// checkBatch checks the CRC of a whole entry, whatever its format.
func checkBatch(b []byte, h header) error {
	if h.magic == record.Magic {
		if err := record.Batch(b).CheckCRC(); err != nil {
			return &errBadBatch{h.position, err.Error()}
		}
		return nil
	}
	if got, want := crc32.ChecksumIEEE(b[16:]), binary.BigEndian.Uint32(b[12:]); got != want {
		return &errBadBatch{h.position, fmt.Sprintf("message of format %d has CRC %08x, not %08x", h.magic, got, want)}
	}
	return nil
}

// scanChunk is read at once when whole batches are scanned: what is checked is still in the processor's cache. maxScanBatch bounds the memory that a length found in a file can
// ask for: no setting of message.max.bytes that anybody uses comes near it.
const (
	scanChunk    = 256 << 10
	maxScanBatch = 256 << 20
)

// scanBatches visits every whole batch in [from, limit) of a file, with its bytes, which are valid during the call. It stops at
// the first thing that is no batch and returns where, with an *errBadBatch; f's errors are returned as they are.
func scanBatches(bufs *buffers, f vfs.File, from, limit int64, visit func(h header, b []byte) error) (end int64, err error) {
	chunk := bufs.getScan()
	defer bufs.scans.Put(chunk)
	buf := chunk[:]
	at, have := from, 0 // buf[:have] are the bytes at position at
	for pos := from; pos < limit; {
		fill := func(need int64) error {
			if pos+need <= at+int64(have) {
				return nil
			}
			rest := copy(buf, buf[min(pos-at, int64(have)):have])
			at, have = pos, rest
			if int64(len(buf)) < need {
				buf = append(make([]byte, 0, need), buf[:have]...)[:need]
			}
			want := min(int64(len(buf)), limit-pos)
			n, err := f.ReadAt(buf[have:want], pos+int64(have))
			have += n
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		}
		if err := fill(min(headerPeekBytes, limit-pos)); err != nil {
			return pos, err
		}
		b := buf[pos-at : have]
		h, err := parseHeader(b[:min(len(b), headerPeekBytes)], pos, limit)
		if err != nil {
			return pos, err
		}
		// The length was found to lie inside the file; garbage may still announce most of it.
		if h.size > maxScanBatch {
			return pos, &errBadBatch{pos, fmt.Sprintf("batch of %d bytes", h.size)}
		}
		if err := fill(h.size); err != nil {
			return pos, err
		}
		b = buf[pos-at : have]
		if int64(len(b)) < h.size {
			return pos, &errBadBatch{pos, "file ends inside the batch"}
		}
		if err := visit(h, b[:h.size]); err != nil {
			return pos, err
		}
		pos += h.size
	}
	return max(from, limit), nil
}

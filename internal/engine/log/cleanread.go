package log

import (
	"errors"
	"fmt"
	"io"

	"github.com/moldau-io/moldau/internal/base/vfs"
)

// errCleaningStopped ends a cleaner's pass that must not go on: the cleaner stops, or the log changed under it. It is no error of
// the log.
var errCleaningStopped = errors.New("cleaning stopped")

// batchReader hands out a segment's batches from a buffer of its own, which grows to the largest batch and shrinks again at the
// next segment.
type batchReader struct {
	buf   []byte
	start int                   // size at the beginning of a segment; at least minReadBuffer
	pause func(bytes int) error // called after every read: throttles, and says when to stop
}

// minReadBuffer is the least that is read at once.
const minReadBuffer = 4096

// each visits the whole batches of [from, limit) of a file, checked. The bytes are valid during the call.
func (r *batchReader) each(f vfs.File, path string, from, limit int64, visit func(h header, b []byte) error) error {
	if len(r.buf) != r.start {
		r.buf = make([]byte, r.start)
	}
	for pos := from; pos < limit; {
		n, err := f.ReadAt(r.buf[:min(int64(len(r.buf)), limit-pos)], pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err := r.pause(n); err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%s: %w", path, &errBadBatch{pos, "file ends inside the segment"})
		}
		used, err := r.chunk(r.buf[:n], pos, limit, visit)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		pos += int64(used)
	}
	return nil
}

// chunk visits the whole batches in b, which is what the file holds from position on. Without any it makes the buffer larger.
func (r *batchReader) chunk(b []byte, position, limit int64, visit func(h header, b []byte) error) (used int, err error) {
	for used < len(b) {
		at := position + int64(used)
		rest := b[used:]
		if len(rest) < headerPeekBytes && at+int64(len(rest)) < limit {
			if used == 0 {
				return 0, &errBadBatch{at, "file ends inside the segment"}
			}
			break
		}
		h, err := parseHeader(rest[:min(len(rest), headerPeekBytes)], at, limit)
		if err != nil {
			return used, err
		}
		if h.size > maxScanBatch {
			return used, &errBadBatch{at, fmt.Sprintf("batch of %d bytes", h.size)}
		}
		if h.size > int64(len(rest)) {
			if used == 0 {
				if int64(len(r.buf)) >= h.size {
					return 0, &errBadBatch{at, "file ends inside the batch"}
				}
				r.buf = make([]byte, max(h.size, headerPeekBytes))
			}
			break
		}
		if err := checkBatch(rest[:h.size], h); err != nil {
			return used, err
		}
		if err := visit(h, rest[:h.size:h.size]); err != nil {
			return used, err
		}
		used += int(h.size)
	}
	return used, nil
}

package log

import (
	"io"
	"os"
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/vfs"
)

// FileSection is a range of a segment's file holding whole batches. It implements wire.Section: the door sends it with sendfile
// (OSFile, Position, Size), or reads it with ReadAt where there is no operating system file.
//
// It keeps the file open, also when the segment is deleted meanwhile. Call Release once when done; a section that is never
// released costs an open descriptor until it is garbage collected, nothing worse.
type FileSection struct {
	h        *handle
	file     vfs.File
	pos      int64
	size     int
	released atomic.Bool
}

// Size is the number of bytes in the section.
func (s *FileSection) Size() int { return s.size }

// Position is where the section begins in its file.
func (s *FileSection) Position() int64 { return s.pos }

// OSFile is the open file for sendfile, or nil when there is none. It must not be closed nor its position relied upon.
func (s *FileSection) OSFile() *os.File { return s.file.OSFile() }

// ReadAt reads from the section; off counts from its beginning. It returns io.EOF at the section's end and
// io.ErrUnexpectedEOF when the file was truncated below the section.
func (s *FileSection) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(s.size) {
		return 0, io.EOF
	}
	short := false
	if rest := int64(s.size) - off; int64(len(p)) > rest {
		p, short = p[:rest], true
	}
	n, err := s.file.ReadAt(p, s.pos+off)
	if n < len(p) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return n, err
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// WriteTo copies the section into w.
func (s *FileSection) WriteTo(w io.Writer) (int64, error) {
	buf := make([]byte, min(s.size, 64<<10))
	for off := int64(0); off < int64(s.size); {
		n, err := s.ReadAt(buf, off)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return off, err
			}
			off += int64(n)
		}
		if err != nil && err != io.EOF {
			return off, err
		}
	}
	return int64(s.size), nil
}

// Bytes reads the whole section into memory.
func (s *FileSection) Bytes() ([]byte, error) {
	b := make([]byte, s.size)
	if _, err := s.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// Release lets go of the file. Further calls do nothing.
func (s *FileSection) Release() {
	if s.released.CompareAndSwap(false, true) {
		s.h.release()
	}
}

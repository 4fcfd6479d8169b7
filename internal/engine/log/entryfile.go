package log

import (
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Entries kept in memory before they are written: one write per 256 KiB of data at the default index interval. Above the limit
// (the disk refuses writes) new entries are left out, which makes the index sparser, not wrong.
const (
	tailEntries    = 64
	maxTailEntries = 4096
	maxEntryBytes  = 12
)

// entryFile is an index on disk: fixed-size entries, appended in order, of which the newest may still be in memory. The file can
// always be rebuilt from the log, so a write that fails is kept and tried again later.
//
// Its mutex is its own; readers of the log use it without the log's mutex.
type entryFile struct {
	h         handle
	entrySize int
	complete  bool // no entry may be left out
	held      bool // entries stay in memory until write, however many; not to be changed once readers have it

	mu      sync.Mutex
	written int                 // entries in the file
	tail    []byte              // entries behind those
	loaded  bool                // written is known
	absent  bool                // there was no file when written was found out, and none was made since
	entry   [maxEntryBytes]byte // where searches read to
}

func (e *entryFile) init(at *place, base id.Offset, suffix string, entrySize int) {
	e.h.init(at, base, suffix)
	e.entrySize = entrySize
}

// found says how large the file is, -1 that there is none, so that nobody has to open it to know.
func (e *entryFile) found(bytes int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.written, e.loaded, e.absent = int(max(bytes, 0))/e.entrySize, true, bytes < 0
}

// load finds out how many entries the file holds. An absent file holds none. A file that is not a whole number of entries is
// cut in the counting: the rest is unreadable anyway.
func (e *entryFile) load() error {
	if e.loaded {
		return nil
	}
	f, err := e.h.acquire(false)
	if errors.Is(err, fs.ErrNotExist) {
		e.written, e.loaded, e.absent = 0, true, true
		return nil
	}
	if err != nil {
		return err
	}
	defer e.h.release()
	size, err := f.Size()
	if err != nil {
		return err
	}
	e.written, e.loaded = int(size)/e.entrySize, true
	return nil
}

// count is the number of entries.
func (e *entryFile) count() (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.load(); err != nil {
		return 0, err
	}
	return e.written + len(e.tail)/e.entrySize, nil
}

// search returns the last entry for which less or equal holds (after is false), or n = -1 when there is none. Entries are in
// order, so that after is false for a prefix of them.
func (e *entryFile) search(after func(entry []byte) bool) (n int, entry [maxEntryBytes]byte, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.load(); err != nil {
		return -1, entry, err
	}
	// The tail is what readers near the end of the log ask for, and costs no read.
	lo, hi := 0, e.written+len(e.tail)/e.entrySize // the answer is in [lo-1, hi-1]
	if len(e.tail) > 0 && !after(e.tail[:e.entrySize]) {
		lo = e.written + 1
	} else {
		hi = e.written
	}
	if err := e.searchIn(&lo, &hi, after); err != nil {
		return -1, entry, err
	}
	if lo == 0 {
		return -1, entry, nil
	}
	err = e.readLocked(lo-1, e.entry[:e.entrySize])
	return lo - 1, e.entry, err
}

func (e *entryFile) searchIn(lo, hi *int, after func(entry []byte) bool) error {
	b := &e.entry
	for *lo < *hi {
		mid := int(uint(*lo+*hi) >> 1)
		if err := e.readLocked(mid, b[:e.entrySize]); err != nil {
			return err
		}
		if after(b[:e.entrySize]) {
			*hi = mid
		} else {
			*lo = mid + 1
		}
	}
	return nil
}

// final returns the number of entries and the last one.
func (e *entryFile) final() (n int, entry [maxEntryBytes]byte, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.load(); err != nil {
		return 0, entry, err
	}
	if n = e.written + len(e.tail)/e.entrySize; n == 0 {
		return 0, entry, nil
	}
	err = e.readLocked(n-1, e.entry[:e.entrySize])
	return n, e.entry, err
}

// at reads entry n into b.
func (e *entryFile) at(n int, b []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.load(); err != nil {
		return err
	}
	return e.readLocked(n, b)
}

func (e *entryFile) readLocked(n int, b []byte) error {
	if n >= e.written {
		copy(b, e.tail[(n-e.written)*e.entrySize:])
		return nil
	}
	f, err := e.h.acquire(false)
	if err != nil {
		return err
	}
	defer e.h.release()
	if got, err := f.ReadAt(b[:e.entrySize], int64(n)*int64(e.entrySize)); got < e.entrySize {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

// append adds an entry behind the others.
func (e *entryFile) append(entry []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.load() != nil || len(e.tail) >= maxTailEntries*e.entrySize && !e.complete && !e.held {
		return
	}
	e.tail = append(e.tail, entry...)
	if len(e.tail)%(tailEntries*e.entrySize) == 0 && !e.held {
		e.writeLocked() // an error shows again when the segment is flushed
	}
}

// write brings the entries in memory to the file, creating it.
func (e *entryFile) write() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.load(); err != nil {
		return err
	}
	return e.writeLocked()
}

func (e *entryFile) writeLocked() error {
	f, err := e.h.acquire(true)
	if err != nil {
		return err
	}
	defer e.h.release()
	e.absent = false
	if len(e.tail) == 0 {
		return nil
	}
	if _, err := f.WriteAt(e.tail, int64(e.written)*int64(e.entrySize)); err != nil {
		return err
	}
	e.written += len(e.tail) / e.entrySize
	e.tail = nil
	return nil
}

// sync makes the entries in the file durable, if there is a file.
func (e *entryFile) sync() error {
	f, err := e.h.acquire(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer e.h.release()
	return f.Sync()
}

// truncate keeps the first n entries and cuts the file to them, so that nothing stale and no preallocated tail stays behind.
func (e *entryFile) truncate(n int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.load(); err != nil {
		return err
	}
	if n > e.written {
		e.tail = e.tail[:min(len(e.tail), (n-e.written)*e.entrySize)]
		return nil
	}
	if e.absent {
		e.tail = nil
		return nil
	}
	f, err := e.h.acquire(true)
	if err != nil {
		return err
	}
	defer e.h.release()
	if err := f.Truncate(int64(n) * int64(e.entrySize)); err != nil {
		return err
	}
	e.written, e.tail = n, nil
	return nil
}

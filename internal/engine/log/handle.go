package log

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// place is where a log's files are: a directory that may be renamed while they are open.
type place struct {
	fs    vfs.FS
	files *openFiles
	dir   atomic.Pointer[string]
}

func newPlace(fsys vfs.FS, files *openFiles, dir string) *place {
	p := &place{fs: fsys, files: files}
	p.dir.Store(&dir)
	return p
}

func (p *place) path(name string) string { return filepath.Join(*p.dir.Load(), name) }

// handle opens a segment's file when it is first needed and closes it when it was not needed for a while, or when others are
// needed and too many are open. It counts who is
// using the open file, so that nobody's file is closed under him; a dropped handle closes with its last user.
//
// Its mutex is held across open, close and rename, never across reads and writes.
type handle struct {
	at     *place
	base   id.Offset
	suffix string // ".log" and so on

	mu      sync.Mutex
	f       vfs.File
	users   int32
	slot    int    // in openFiles.ring, while f is open
	hot     bool   // used since openFiles last looked
	touched bool   // used since the last sweep
	dropped bool   // no further use
	renamed string // second suffix, such as ".deleted"
}

func (h *handle) init(at *place, base id.Offset, suffix string) {
	h.at, h.base, h.suffix = at, base, suffix
}

func (h *handle) pathLocked() string { return h.at.path(segmentName(h.base, h.suffix+h.renamed)) }

func (h *handle) path() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pathLocked()
}

// acquire returns the open file, opening it first if need be; create makes an absent one. The caller must release.
func (h *handle) acquire(create bool) (vfs.File, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dropped {
		return nil, &fs.PathError{Op: "open", Path: h.pathLocked(), Err: fs.ErrClosed}
	}
	if h.f == nil {
		flag := os.O_RDWR
		if create {
			flag |= os.O_CREATE
		}
		if err := h.at.files.add(h); err != nil {
			return nil, &fs.PathError{Op: "open", Path: h.pathLocked(), Err: err}
		}
		f, err := h.at.fs.OpenFile(h.pathLocked(), flag, 0o644)
		if err != nil {
			h.at.files.remove(h)
			return nil, err
		}
		h.f = f
	}
	h.users++
	h.hot, h.touched = true, true
	return h.f, nil
}

func (h *handle) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users--
	if h.users == 0 && h.dropped && h.f != nil {
		h.close() // nothing was written since the last sync that anybody waits for
	}
}

// sweep closes a file that was not used since the sweep before.
func (h *handle) sweep() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.f != nil && h.users == 0 && !h.touched {
		h.close()
	}
	h.touched = false
}

// drop forbids further use and closes the file as soon as nobody uses it.
func (h *handle) drop() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropped = true
	if h.f == nil || h.users > 0 {
		return nil
	}
	return h.close()
}

// close needs mu and an open file.
func (h *handle) close() error {
	h.at.files.remove(h)
	err := h.f.Close()
	h.f = nil
	return err
}

// addSuffix renames the file, which may be open and in use. A file that is not there is called by the new name from now on all
// the same: under the old one there may soon be another's.
func (h *handle) addSuffix(suffix string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	err := h.at.fs.Rename(h.pathLocked(), h.pathLocked()+suffix)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		h.renamed += suffix
	}
	return err
}

// remove deletes the file; an absent one is no error.
func (h *handle) remove() error {
	h.drop()
	err := h.at.fs.Remove(h.path())
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

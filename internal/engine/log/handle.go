package log

import (
	"os"
	"sync"

	"github.com/moldau-io/moldau/internal/base/vfs"
)

// handle opens a file when it is first needed and closes it when it was not needed for a while. It counts who uses the open
// file: the file is closed when the handle was told to and the last user is gone. Its mutex is held across open and close only.
type handle struct {
	fs   vfs.FS
	mu   sync.Mutex
	path string
	cur  *openFile
}

// openFile is one open descriptor with its users. refs counts the sections and calls in flight, plus one for the handle itself.
type openFile struct {
	f    vfs.File
	refs int
	used bool // since the last idle sweep
}

var _ = os.O_RDWR

func (h *handle) release() {}

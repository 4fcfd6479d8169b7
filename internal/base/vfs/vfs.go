package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is a tree of files. Paths are those of the operating system. Errors are *fs.PathError or *os.LinkError and match
// fs.ErrNotExist, fs.ErrExist and syscall errors by errors.Is.
type FS interface {
	// OpenFile opens path with the flags of package os (O_RDONLY, O_RDWR, O_CREATE, O_EXCL, O_TRUNC). O_APPEND is not
	// supported: writers know their position.
	OpenFile(path string, flag int, perm fs.FileMode) (File, error)
	// Rename moves a file or a directory and replaces an existing file. Durable after SyncDir.
	Rename(oldPath, newPath string) error
	// Remove deletes one file or empty directory.
	Remove(path string) error
	// RemoveAll deletes a tree; an absent path is no error.
	RemoveAll(path string) error
	// MkdirAll creates a directory and its parents.
	MkdirAll(path string, perm fs.FileMode) error
	// List returns the entries of a directory in order of their names.
	List(dir string) ([]fs.DirEntry, error)
	// Stat describes a file or directory.
	Stat(path string) (fs.FileInfo, error)
	// Lock takes the exclusive lock that Java's FileChannel.tryLock takes on a file, creating it. It does not wait: ErrLocked
	// is returned when another process, or another holder within this process, has it. Close releases it; the file stays.
	Lock(path string) (io.Closer, error)
	// SyncDir makes creations, renames and removals of names in dir durable.
	SyncDir(dir string) error
	// Usage tells the size of the volume that holds path and the bytes free to unprivileged writers.
	Usage(path string) (Usage, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Write appends at the handle's own position, which starts at 0.
	io.Writer
	io.Closer
	// Sync makes content and length durable (fdatasync where there is one). After an error the unsynced content is lost for
	// certain purposes: do not retry, take the directory out of service.
	Sync() error
	// Truncate cuts or extends (with zeros) the file to size bytes.
	Truncate(size int64) error
	// Size returns the present length in bytes.
	Size() (int64, error)
	// OSFile returns the operating system's file for sendfile, or nil when there is none.
	OSFile() *os.File
}

// Usage is the room on a volume, in bytes.
type Usage struct {
	TotalBytes int64
	FreeBytes  int64
}

// ErrLocked reports that somebody else holds a lock.
var ErrLocked = errors.New("locked by another process or another instance in this process")

// ReadFile returns the whole content of a file of at most limit bytes.
func ReadFile(fsys FS, path string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("file has %d bytes, more than the limit of %d", size, limit)}
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err != nil && !(errors.Is(err, io.EOF)) {
		return nil, err
	}
	return b[:n], nil
}

// ReplaceFile makes path hold data, atomically and durably: it writes path+tmpSuffix, syncs it, renames it over path and syncs
// the directory. After a crash at any point path holds the old content or the new.
func ReplaceFile(fsys FS, path, tmpSuffix string, data []byte) error {
	tmp := path + tmpSuffix
	if err := WriteFile(fsys, tmp, data); err != nil {
		fsys.Remove(tmp) // best effort: a stray temporary file is overwritten by the next call
		return err
	}
	if err := fsys.Rename(tmp, path); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(path))
}

// WriteFile creates or overwrites path with data and syncs the file, not its directory.
func WriteFile(fsys FS, path string, data []byte) error {
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		if _, err = f.WriteAt(data, 0); err != nil {
			f.Close()
			return err
		}
	}
	if err = f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Exists reports whether path names anything.
func Exists(fsys FS, path string) bool {
	_, err := fsys.Stat(path)
	return err == nil
}

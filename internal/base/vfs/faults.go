package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Op names an operation of FS or File.
type Op string

// The operations that rules match.
const (
	OpOpen     Op = "open"
	OpCreate   Op = "create" // an open with O_CREATE
	OpRename   Op = "rename"
	OpRemove   Op = "remove" // also RemoveAll
	OpMkdir    Op = "mkdir"
	OpList     Op = "list"
	OpStat     Op = "stat"
	OpLock     Op = "lock"
	OpSyncDir  Op = "syncdir"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpSync     Op = "sync"
	OpTruncate Op = "truncate"
	OpClose    Op = "close"
	OpAny      Op = ""       // every operation
	OpChange   Op = "change" // every operation that changes something or makes it durable
)

// changes reports whether the operation may leave the disk different.
func (o Op) changes() bool {
	switch o {
	case OpCreate, OpRename, OpRemove, OpMkdir, OpSyncDir, OpWrite, OpSync, OpTruncate:
		return true
	}
	return false
}

// ErrCrashed is what every operation returns after a rule with Crash has fired.
var ErrCrashed = errors.New("the machine has crashed")

// Rule makes operations fail.
type Rule struct {
	Op   Op
	Path string // pattern of filepath.Match on as many elements at the end of the path as it has; empty matches all
	Nth  int    // fires at the nth match, from 1; 0: at every one
	Err  error  // what the operation returns
	// Short lets a write, or a read, do this share of its bytes first: 0.5 is half of them.
	Short float64
	// Crash lets everything fail with ErrCrashed from then on.
	Crash bool
	// After lets the operation happen as a whole before Err is returned.
	After bool
	// Skip does nothing and says that it worked: a disk, or a program, that lies. Not for operations that return a file.
	Skip bool
	// Alter, if set, replaces what is written, which has to keep its length or is written at another length with the same
	// answer; nothing fails then.
	Alter func(b []byte) []byte
	// Call, if set, says what happens, and may wait before it does: with nil the operation passes, an error takes the place of Err.
	Call func(path string) error
}

func (r *Rule) matches(op Op, path string) bool {
	if r.Op != OpAny && r.Op != op && !(r.Op == OpChange && op.changes()) {
		return false
	}
	if r.Path == "" {
		return true
	}
	end := len(path)
	for range 1 + strings.Count(r.Path, "/") {
		if end = strings.LastIndexByte(path[:end], '/'); end < 0 {
			break
		}
	}
	ok, err := filepath.Match(r.Path, path[end+1:])
	return ok && err == nil
}

// Faults wraps a file system and lets chosen operations fail. Rules apply to files that are open already, too.
type Faults struct {
	inner FS

	mu      sync.Mutex
	rules   []*armed
	crashed bool
	changes int
	watch   func(op Op, path string)
}

type armed struct {
	Rule
	seen int
}

// NewFaults returns a wrapper without rules.
func NewFaults(inner FS) *Faults { return &Faults{inner: inner} }

// Add arms a rule.
func (f *Faults) Add(r Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, &armed{Rule: r})
}

// Watch lets f be called before every operation that matches OpChange, and once more in the middle of a write, with half of it
// done: at each of these moments a machine may stop. f may use the inner file system. Nil: nobody watches.
func (f *Faults) Watch(watch func(op Op, path string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watch = watch
}

// watcher is whom an operation has to tell.
func (f *Faults) watcher(op Op) func(op Op, path string) {
	if !op.changes() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil
	}
	return f.watch
}

// Clear disarms all rules. A crash stays.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// Changes is how many operations that match OpChange were begun.
func (f *Faults) Changes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changes
}

// Crashed reports whether a rule with Crash has fired.
func (f *Faults) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

// verdict is what happens to an operation: nil lets it pass.
func (f *Faults) verdict(op Op, path string) *Rule {
	r := f.hit(op, path)
	if r == nil || r.Call == nil {
		return r
	}
	if r.Err = r.Call(path); r.Err == nil {
		return nil
	}
	return r
}

// hit is the first rule that fires.
func (f *Faults) hit(op Op, path string) *Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return &Rule{Err: ErrCrashed}
	}
	if op.changes() {
		f.changes++
	}
	for _, r := range f.rules {
		if !r.matches(op, path) {
			continue
		}
		r.seen++
		if r.Nth != 0 && r.seen != r.Nth {
			continue
		}
		hit := r.Rule
		if hit.Crash {
			f.crashed = true
		}
		if hit.Err == nil {
			hit.Err = ErrCrashed
		}
		return &hit
	}
	return nil
}

// do runs an operation that is all or nothing.
func (f *Faults) do(op Op, path string, run func() error) error {
	if watch := f.watcher(op); watch != nil {
		watch(op, path)
	}
	r := f.verdict(op, path)
	switch {
	case r == nil || r.Alter != nil:
		return run()
	case r.Skip:
		return nil
	}
	if r.After {
		if err := run(); err != nil {
			return err
		}
	}
	return &fs.PathError{Op: string(op), Path: path, Err: r.Err}
}

// OpenFile implements FS.
func (f *Faults) OpenFile(path string, flag int, perm fs.FileMode) (File, error) {
	op := OpOpen
	if flag&os.O_CREATE != 0 {
		op = OpCreate
	}
	var file File
	err := f.do(op, path, func() (err error) { file, err = f.inner.OpenFile(path, flag, perm); return err })
	if err != nil {
		if file != nil {
			file.Close()
		}
		return nil, err
	}
	return &faultFile{f: f, file: file, path: path}, nil
}

// Rename implements FS.
func (f *Faults) Rename(oldPath, newPath string) error {
	return f.do(OpRename, oldPath, func() error { return f.inner.Rename(oldPath, newPath) })
}

// Remove implements FS.
func (f *Faults) Remove(path string) error {
	return f.do(OpRemove, path, func() error { return f.inner.Remove(path) })
}

// RemoveAll implements FS.
func (f *Faults) RemoveAll(path string) error {
	return f.do(OpRemove, path, func() error { return f.inner.RemoveAll(path) })
}

// MkdirAll implements FS.
func (f *Faults) MkdirAll(path string, perm fs.FileMode) error {
	return f.do(OpMkdir, path, func() error { return f.inner.MkdirAll(path, perm) })
}

// List implements FS.
func (f *Faults) List(dir string) (out []fs.DirEntry, err error) {
	err = f.do(OpList, dir, func() (err error) { out, err = f.inner.List(dir); return err })
	return out, err
}

// Stat implements FS.
func (f *Faults) Stat(path string) (out fs.FileInfo, err error) {
	err = f.do(OpStat, path, func() (err error) { out, err = f.inner.Stat(path); return err })
	return out, err
}

// Lock implements FS.
func (f *Faults) Lock(path string) (out io.Closer, err error) {
	err = f.do(OpLock, path, func() (err error) { out, err = f.inner.Lock(path); return err })
	return out, err
}

// SyncDir implements FS.
func (f *Faults) SyncDir(dir string) error {
	return f.do(OpSyncDir, dir, func() error { return f.inner.SyncDir(dir) })
}

// Usage implements FS.
func (f *Faults) Usage(path string) (Usage, error) { return f.inner.Usage(path) }

type faultFile struct {
	f    *Faults
	file File
	path string
}

// partly runs a read or a write, perhaps of a part only.
func (x *faultFile) partly(op Op, p []byte, off int64, run func(p []byte, off int64) (int, error)) (int, error) {
	watch := x.f.watcher(op)
	if watch != nil {
		watch(op, x.path)
	}
	r := x.f.verdict(op, x.path)
	switch {
	case r == nil && watch != nil && len(p) > 1:
		half := len(p) / 2
		n, err := run(p[:half], off)
		if err != nil {
			return n, err
		}
		watch(op, x.path)
		n, err = run(p[half:], off+int64(half))
		return half + n, err
	case r == nil:
		return run(p, off)
	case r.Skip:
		return len(p), nil
	case r.Alter != nil:
		if _, err := run(r.Alter(p), off); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	share := r.Short
	if r.After {
		share = 1
	}
	n := 0
	if share > 0 {
		var err error
		if n, err = run(p[:int(float64(len(p))*share)], off); err != nil {
			return n, err
		}
	}
	return n, &fs.PathError{Op: string(op), Path: x.path, Err: r.Err}
}

func (x *faultFile) ReadAt(p []byte, off int64) (int, error) {
	return x.partly(OpRead, p, off, x.file.ReadAt)
}

func (x *faultFile) WriteAt(p []byte, off int64) (int, error) {
	return x.partly(OpWrite, p, off, x.file.WriteAt)
}

func (x *faultFile) Write(p []byte) (int, error) {
	return x.partly(OpWrite, p, 0, func(p []byte, _ int64) (int, error) { return x.file.Write(p) })
}

func (x *faultFile) Sync() error { return x.f.do(OpSync, x.path, x.file.Sync) }

func (x *faultFile) Truncate(size int64) error {
	return x.f.do(OpTruncate, x.path, func() error { return x.file.Truncate(size) })
}

// Close always closes the inner file, so that nothing leaks whatever the rules say.
func (x *faultFile) Close() error {
	err := x.file.Close()
	if r := x.f.verdict(OpClose, x.path); r != nil {
		return &fs.PathError{Op: string(OpClose), Path: x.path, Err: r.Err}
	}
	return err
}

func (x *faultFile) Size() (int64, error) { return x.file.Size() }

// OSFile is nil: what goes around the wrapper could not fail.
func (x *faultFile) OSFile() *os.File { return nil }

package vfs

import (
	"cmp"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// memPage is the unit in which unsynced bytes are lost or kept.
const memPage = 4096

// Mem is a file system in memory that knows what has been made durable. One mutex guards all of it.
type Mem struct {
	mu      sync.Mutex
	root    *memNode
	pending []memOp         // changes of names that no SyncDir has covered, in order
	locks   map[string]bool // held
	free    int64           // bytes that may still be written; negative: no limit
	now     func() time.Time
}

// memNode is a file or a directory.
type memNode struct {
	dir     bool
	modTime time.Time

	entries map[string]*memNode // of a directory, as it is
	durable map[string]*memNode // as a power loss would leave it

	data       []byte
	undo       map[int64][]byte // pages changed since the last Sync, as they were then; nil content: there was none
	syncedSize int64
}

// memOp is a change of a directory that may be lost: name gets node (create), loses it (remove), or node moves to name2 in dir2.
type memOp struct {
	dir, dir2   *memNode
	name, name2 string
	node        *memNode
}

// NewMem returns an empty file system without a size limit.
func NewMem() *Mem {
	return &Mem{root: newMemDir(), locks: map[string]bool{}, free: -1, now: time.Now}
}

func newMemDir() *memNode {
	return &memNode{dir: true, entries: map[string]*memNode{}, durable: map[string]*memNode{}}
}

// SetFree limits how many bytes files may still grow by; when it is used up, writes fail with ENOSPC. Negative: no limit.
func (m *Mem) SetFree(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = bytes
}

// SetNow replaces the clock that stamps modification times.
func (m *Mem) SetNow(now func() time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = now
}

func memParts(path string) []string {
	path = strings.Trim(filepath.ToSlash(filepath.Clean(path)), "/")
	if path == "" || path == "." {
		return nil
	}
	return strings.Split(path, "/")
}

// walk finds a path. node is nil when the last element is absent; parent is nil when something before it is.
func (m *Mem) walk(path string) (parent *memNode, name string, node *memNode) {
	parts := memParts(path)
	if len(parts) == 0 {
		return nil, "", m.root
	}
	parent = m.root
	for _, p := range parts[:len(parts)-1] {
		next := parent.entries[p]
		if next == nil || !next.dir {
			return nil, "", nil
		}
		parent = next
	}
	name = parts[len(parts)-1]
	return parent, name, parent.entries[name]
}

func memError(op, path string, err error) error { return &fs.PathError{Op: op, Path: path, Err: err} }

// OpenFile implements FS.
func (m *Mem) OpenFile(path string, flag int, _ fs.FileMode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, name, n := m.walk(path)
	switch {
	case n != nil && n.dir:
		return nil, memError("open", path, syscall.EISDIR)
	case n != nil && flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, memError("open", path, fs.ErrExist)
	case n == nil && (flag&os.O_CREATE == 0 || parent == nil):
		return nil, memError("open", path, fs.ErrNotExist)
	case n == nil:
		n = &memNode{modTime: m.now()}
		parent.entries[name] = n
		m.pending = append(m.pending, memOp{dir: parent, name: name, node: n})
	case flag&os.O_TRUNC != 0:
		m.truncate(n, 0)
	}
	return &memFile{m: m, n: n, path: path, writable: flag&(os.O_RDWR|os.O_WRONLY) != 0}, nil
}

// Rename implements FS.
func (m *Mem) Rename(oldPath, newPath string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, name, n := m.walk(oldPath)
	parent2, name2, n2 := m.walk(newPath)
	switch {
	case n == nil || parent == nil || parent2 == nil:
		return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: fs.ErrNotExist}
	case n2 == n:
		return nil
	case n2 != nil && n2.dir && len(n2.entries) > 0:
		return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: syscall.ENOTEMPTY}
	case n2 != nil && n2.dir != n.dir:
		return &os.LinkError{Op: "rename", Old: oldPath, New: newPath, Err: syscall.ENOTDIR}
	}
	delete(parent.entries, name)
	parent2.entries[name2] = n
	m.pending = append(m.pending, memOp{dir: parent, name: name, node: n, dir2: parent2, name2: name2})
	return nil
}

// Remove implements FS.
func (m *Mem) Remove(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, name, n := m.walk(path)
	switch {
	case n == nil || parent == nil:
		return memError("remove", path, fs.ErrNotExist)
	case n.dir && len(n.entries) > 0:
		return memError("remove", path, syscall.ENOTEMPTY)
	}
	m.unlink(parent, name, n)
	return nil
}

func (m *Mem) unlink(parent *memNode, name string, n *memNode) {
	delete(parent.entries, name)
	m.pending = append(m.pending, memOp{dir: parent, name: name})
	if !n.dir && m.free >= 0 {
		m.free += int64(len(n.data))
	}
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	parent, name, n := m.walk(path)
	if n == nil || parent == nil {
		return nil
	}
	m.removeTree(parent, name, n)
	return nil
}

func (m *Mem) removeTree(parent *memNode, name string, n *memNode) {
	for child, c := range n.entries {
		m.removeTree(n, child, c)
	}
	m.unlink(parent, name, n)
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(path string, _ fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir := m.root
	for _, p := range memParts(path) {
		next := dir.entries[p]
		if next == nil {
			next = newMemDir()
			next.modTime = m.now()
			dir.entries[p] = next
			m.pending = append(m.pending, memOp{dir: dir, name: p, node: next})
		}
		if !next.dir {
			return memError("mkdir", path, syscall.ENOTDIR)
		}
		dir = next
	}
	return nil
}

// List implements FS.
func (m *Mem) List(path string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n := m.walk(path)
	switch {
	case n == nil:
		return nil, memError("open", path, fs.ErrNotExist)
	case !n.dir:
		return nil, memError("readdir", path, syscall.ENOTDIR)
	}
	out := make([]fs.DirEntry, 0, len(n.entries))
	for name, c := range n.entries {
		out = append(out, fs.FileInfoToDirEntry(c.info(name)))
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return out, nil
}

// Stat implements FS.
func (m *Mem) Stat(path string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, name, n := m.walk(path)
	if n == nil {
		return nil, memError("stat", path, fs.ErrNotExist)
	}
	return n.info(name), nil
}

// Lock implements FS.
func (m *Mem) Lock(path string) (io.Closer, error) {
	f, err := m.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	f.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	key := filepath.Clean(path)
	if m.locks[key] {
		return nil, memError("lock", path, ErrLocked)
	}
	m.locks[key] = true
	return &memLock{m: m, key: key}, nil
}

type memLock struct {
	m    *Mem
	key  string
	once sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		delete(l.m.locks, l.key)
	})
	return nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(path string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, _, n := m.walk(path)
	if n == nil || !n.dir {
		return memError("sync", path, fs.ErrNotExist)
	}
	m.pending = slices.DeleteFunc(m.pending, func(o memOp) bool {
		if o.dir != n && o.dir2 != n {
			return false
		}
		o.persist()
		return true
	})
	return nil
}

// persist makes the change part of what a power loss leaves.
func (o memOp) persist() {
	switch {
	case o.dir2 != nil:
		if o.dir.durable[o.name] == o.node {
			delete(o.dir.durable, o.name)
		}
		o.dir2.durable[o.name2] = o.node
	case o.node != nil:
		o.dir.durable[o.name] = o.node
	default:
		delete(o.dir.durable, o.name)
	}
}

// Usage implements FS.
func (m *Mem) Usage(string) (Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	const total = 1 << 40
	if m.free < 0 {
		return Usage{TotalBytes: total, FreeBytes: total}, nil
	}
	return Usage{TotalBytes: total, FreeBytes: m.free}, nil
}

func (n *memNode) info(name string) fs.FileInfo {
	i := memInfo{name: name, size: int64(len(n.data)), dir: n.dir, modTime: n.modTime}
	return i
}

type memInfo struct {
	name    string
	size    int64
	dir     bool
	modTime time.Time
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return i.modTime }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

package vfs

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
)

// memFile is an open file of a Mem.
type memFile struct {
	m        *Mem
	n        *memNode
	path     string
	writable bool
	pos      int64
	closed   bool
}

var errNegative = errors.New("negative offset")

func (f *memFile) check(op string) error {
	if f.closed {
		return memError(op, f.path, fs.ErrClosed)
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("read"); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, memError("read", f.path, errNegative)
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.writeAt(p, off)
}

func (f *memFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	n, err := f.writeAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

func (f *memFile) writeAt(p []byte, off int64) (int, error) {
	if err := f.check("write"); err != nil {
		return 0, err
	}
	if !f.writable {
		return 0, memError("write", f.path, syscall.EBADF)
	}
	if off < 0 {
		return 0, memError("write", f.path, errNegative)
	}
	var full error
	if grow := off + int64(len(p)) - int64(len(f.n.data)); f.m.free >= 0 && grow > 0 {
		if grow > f.m.free {
			// As a real disk does: what fits is written.
			p = p[:max(0, int64(len(p))-(grow-f.m.free))]
			grow, full = f.m.free, memError("write", f.path, syscall.ENOSPC)
		}
		if len(p) > 0 {
			f.m.free -= grow
		}
	}
	if len(p) > 0 {
		f.n.keep(off, off+int64(len(p)))
		if end := off + int64(len(p)); end > int64(len(f.n.data)) {
			f.n.grow(end)
		}
		copy(f.n.data[off:], p)
		f.n.modTime = f.m.now()
	}
	return len(p), full
}

func (n *memNode) grow(size int64) {
	old := len(n.data)
	n.data = slices.Grow(n.data, int(size)-old)[:size]
	clear(n.data[old:])
}

// keep saves the pages in [from, to) as they were at the last sync, before they change.
func (n *memNode) keep(from, to int64) {
	for page := from / memPage; page*memPage < to; page++ {
		if _, ok := n.undo[page]; ok {
			continue
		}
		if n.undo == nil {
			n.undo = map[int64][]byte{}
		}
		var old []byte
		if start := page * memPage; start < n.syncedSize {
			old = slices.Clone(n.data[start:min(start+memPage, n.syncedSize, int64(len(n.data)))])
		}
		n.undo[page] = old
	}
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("truncate"); err != nil {
		return err
	}
	if size < 0 {
		return memError("truncate", f.path, syscall.EINVAL)
	}
	f.m.truncate(f.n, size)
	return nil
}

func (m *Mem) truncate(n *memNode, size int64) {
	old := int64(len(n.data))
	if m.free >= 0 {
		m.free = max(0, m.free+old-size)
	}
	n.keep(min(old, size), max(old, size))
	if size > old {
		n.grow(size)
	}
	n.data = n.data[:size]
	n.modTime = m.now()
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("sync"); err != nil {
		return err
	}
	f.n.undo, f.n.syncedSize = nil, int64(len(f.n.data))
	return nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("close"); err != nil {
		return err
	}
	f.closed = true
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.check("stat"); err != nil {
		return 0, err
	}
	return int64(len(f.n.data)), nil
}

func (f *memFile) OSFile() *os.File { return nil }

// What CrashClone does with changes that were not made durable.
const (
	LoseUnsynced = 0 // all are lost: the harshest power loss
	KeepUnsynced = 1 // all are kept: the process was killed, the machine was not
	// Any other seed decides at random: each page of a file new, old or torn, the length anything between, and of the changes
	// of names some prefix or some subset.
)

// CrashClone returns the file system as it may be found after a crash at this moment. Locks are free in it. The original is not
// changed.
func (m *Mem) CrashClone(seed uint64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMem()
	c.now = m.now
	rng := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	crash := memCrash{seed: seed, rng: rng, copies: map[*memNode]*memNode{}, names: map[*memNode]map[string]*memNode{}}
	for _, o := range crash.survivors(m.pending) {
		crash.apply(o)
	}
	c.root = crash.clone(m.root)
	return c
}

type memCrash struct {
	seed   uint64
	rng    *rand.Rand
	copies map[*memNode]*memNode
	names  map[*memNode]map[string]*memNode // durable entries with the surviving changes
}

func (c *memCrash) survivors(ops []memOp) []memOp {
	switch c.seed {
	case LoseUnsynced:
		return nil
	case KeepUnsynced:
		return ops
	}
	if c.rng.IntN(2) == 0 {
		return ops[:c.rng.IntN(len(ops)+1)]
	}
	var out []memOp
	for _, o := range ops {
		if c.rng.IntN(2) == 0 {
			out = append(out, o)
		}
	}
	return out
}

func (c *memCrash) entries(dir *memNode) map[string]*memNode {
	e := c.names[dir]
	if e == nil {
		e = map[string]*memNode{}
		for name, n := range dir.durable {
			e[name] = n
		}
		c.names[dir] = e
	}
	return e
}

// apply is memOp.persist on the clone's entries.
func (c *memCrash) apply(o memOp) {
	switch {
	case o.dir2 != nil:
		if e := c.entries(o.dir); e[o.name] == o.node {
			delete(e, o.name)
		}
		c.entries(o.dir2)[o.name2] = o.node
	case o.node != nil:
		c.entries(o.dir)[o.name] = o.node
	default:
		delete(c.entries(o.dir), o.name)
	}
}

// clone copies a tree. A directory that survives under two names (half of a move) is the same directory.
func (c *memCrash) clone(n *memNode) *memNode {
	if d := c.copies[n]; d != nil {
		return d
	}
	d := &memNode{dir: n.dir, modTime: n.modTime}
	c.copies[n] = d
	if !n.dir {
		d.data = c.content(n)
		d.syncedSize = int64(len(d.data))
		return d
	}
	d.entries, d.durable = map[string]*memNode{}, map[string]*memNode{}
	entries := c.entries(n)
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	slices.Sort(names) // the random numbers must not depend on map order
	for _, name := range names {
		child := c.clone(entries[name])
		d.entries[name], d.durable[name] = child, child
	}
	return d
}

func (c *memCrash) content(n *memNode) []byte {
	size := int64(len(n.data))
	switch c.seed {
	case KeepUnsynced:
		return slices.Clone(n.data)
	case LoseUnsynced:
		size = n.syncedSize
	default:
		if lo, hi := min(size, n.syncedSize), max(size, n.syncedSize); hi > lo {
			switch c.rng.IntN(3) {
			case 0:
				size = n.syncedSize
			case 1:
				size = lo + c.rng.Int64N(hi-lo+1)
			}
		}
	}
	b := make([]byte, size)
	copy(b, n.data)
	pages := make([]int64, 0, len(n.undo))
	for page := range n.undo {
		pages = append(pages, page)
	}
	slices.Sort(pages)
	for _, page := range pages {
		start := page * memPage
		if start >= size {
			continue
		}
		target := b[start:min(start+memPage, size)]
		old := make([]byte, len(target)) // what was never written reads as zeros
		copy(old, n.undo[page])
		keep := 0 // bytes of the new content at the beginning of the page
		if c.seed != LoseUnsynced {
			switch c.rng.IntN(3) {
			case 0:
				keep = len(target)
			case 1:
				keep = c.rng.IntN(len(target) + 1)
			}
		}
		copy(target[keep:], old[keep:])
	}
	return b
}

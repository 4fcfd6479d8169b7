package log

import (
	"sync"
	"syscall"
)

// openFiles bounds how many files of segments are open at once. Above limit the ones that rest longest are closed, roughly in
// that order; they are opened again when they are needed. Files in use are not closed, so that many readers at once may go
// beyond limit, up to hard: from there on nothing more is opened.
//
// A handle's mutex may be held when this one is taken, never the other way round: victims are only tried.
type openFiles struct {
	limit, hard int

	mu   sync.Mutex
	ring []*handle // those with an open file
	hand int       // where the search for a victim goes on
}

// quickScan bounds the search for a victim below the hard limit.
const quickScan = 256

func newOpenFiles(limit int) *openFiles {
	limit = max(limit, 8)
	return &openFiles{limit: limit, hard: limit + limit/2}
}

// add counts a file that h is about to open. h's mutex is held.
func (o *openFiles) add(h *handle) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.ring); n >= o.hard {
		o.evict(2 * n)
	} else if n >= o.limit {
		o.evict(min(2*n, quickScan))
	}
	if len(o.ring) >= o.hard {
		return syscall.EMFILE
	}
	h.slot = len(o.ring)
	o.ring = append(o.ring, h)
	return nil
}

// evict closes up to two files that nobody uses: one for the file that comes, one to get back below the limit. A file that was
// used since the hand last passed is passed over once.
func (o *openFiles) evict(tries int) {
	goal := max(o.limit-1, len(o.ring)-2)
	for ; tries > 0 && len(o.ring) > goal; tries-- {
		if o.hand >= len(o.ring) {
			o.hand = 0
		}
		v := o.ring[o.hand]
		o.hand++
		if !v.mu.TryLock() {
			continue
		}
		switch {
		case v.users > 0 || v.f == nil:
		case v.hot:
			v.hot = false
		default:
			v.f.Close() // what was written is not lost: a later sync opens it again
			v.f = nil
			o.removeLocked(v)
		}
		v.mu.Unlock()
	}
}

// remove uncounts h, whose mutex is held.
func (o *openFiles) remove(h *handle) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.removeLocked(h)
}

func (o *openFiles) removeLocked(h *handle) {
	last := len(o.ring) - 1
	o.ring[h.slot] = o.ring[last]
	o.ring[h.slot].slot = h.slot
	o.ring[last] = nil
	o.ring = o.ring[:last]
}

// count is how many are open.
func (o *openFiles) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.ring)
}

package log

import (
	"slices"
	"sync"

	"github.com/moldau-io/moldau/internal/base/id"
)

// flushState lets concurrent callers share an fsync. The first becomes the one who syncs; those who come while it does wait,
// and the first of them syncs for all who came meanwhile.
type flushState struct {
	mu      sync.Mutex
	cond    sync.Cond
	running bool
}

// Flush returns when everything below upTo is durable, or was truncated away. Concurrent callers share one fsync. A failed
// fsync takes the log directory offline.
func (l *Log) Flush(upTo id.Offset) error {
	for l.DurableEnd() < min(upTo, l.EndOffset()) {
		// A truncation may come between; what is there then has to be synced again.
		if err := l.sync(func() bool { return l.DurableEnd() >= min(upTo, l.EndOffset()) }); err != nil {
			return err
		}
	}
	return nil
}

// flushFinished makes the finished segments durable with their indexes, also when their bytes were synced before.
func (l *Log) flushFinished() error { return l.sync(func() bool { return false }) }

// sync runs one sync, or waits for those that run until done says that they were enough.
func (l *Log) sync(done func() bool) error {
	f := &l.flush
	f.mu.Lock()
	for {
		if done() {
			f.mu.Unlock()
			return nil
		}
		if err := l.Err(); err != nil {
			f.mu.Unlock()
			return err
		}
		if !f.running {
			break
		}
		f.cond.Wait()
	}
	f.running = true
	f.mu.Unlock()

	err := l.syncOnce()

	f.mu.Lock()
	f.running = false
	f.cond.Broadcast()
	f.mu.Unlock()
	return err
}

// syncOnce makes everything up to the present log end durable and moves the durable end there. The caller has flush.running.
//
// Interleaving with a truncation: the target was read before the sync. If the log was cut below it meanwhile and grew again,
// other bytes stand there than were synced; truncations has changed then, and the durable end does not move.
func (l *Log) syncOnce() error {
	l.mu.Lock()
	if err := l.ensure(); err != nil {
		l.mu.Unlock()
		return err
	}
	if l.epochsDirty {
		if err := l.writeEpochs(); err != nil {
			l.mu.Unlock()
			return err
		}
	}
	segs := *l.segments.Load()
	from := len(segs) - 1
	for from > 0 && !segs[from-1].synced {
		from--
	}
	// A finished segment has index files that were made after the directory was synced for its log file.
	dirSync := from < len(segs)-1 || slices.ContainsFunc(segs[from:], func(s *segment) bool { return s.needsDirSync })
	names, bornAt := !l.rooted, l.bornAt
	target, before := l.EndOffset(), l.truncations
	l.mu.Unlock()

	for i := from; i < len(segs); i++ {
		finished := i < len(segs)-1
		if finished {
			if err := segs[i].writeIndexes(); err != nil && l.holds(segs[i]) {
				return l.fault("write indexes of", err)
			}
		}
		if err := segs[i].sync(finished); err != nil && l.holds(segs[i]) {
			return l.dir.fail("flush", l.tp.String(), err)
		}
	}
	if names {
		if err := l.syncNames(bornAt); err != nil && l.gone.Load() == nil {
			return l.dir.fail("flush directory of", l.tp.String(), err)
		}
	} else if dirSync {
		if err := l.at.fs.SyncDir(l.Path()); err != nil && l.gone.Load() == nil {
			return l.dir.fail("flush directory of", l.tp.String(), err)
		}
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.dir.err(); err != nil {
		return err // another log's fsync failed meanwhile: nothing is acknowledged in this directory any more
	}
	for i := from; i < len(segs); i++ {
		segs[i].needsDirSync = segs[i].needsDirSync && !dirSync && !names
	}
	l.rooted, l.fresh = true, false
	if l.truncations != before {
		return nil
	}
	for i := from; i < len(segs)-1; i++ {
		segs[i].synced = true
	}
	l.lastFlushMs = l.nowMs()
	if int64(target) > l.durable.Load() {
		l.durable.Store(int64(target))
		l.dir.durableChanged.Store(true)
	}
	return nil
}

// holds reports whether a segment still belongs to a log that is in service. One that does not may fail to sync.
func (l *Log) holds(s *segment) bool {
	return l.gone.Load() == nil && slices.Contains(*l.segments.Load(), s)
}

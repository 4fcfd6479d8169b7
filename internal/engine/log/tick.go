package log

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/base/checkpoint"
	"github.com/moldau-io/moldau/internal/base/id"
)

// sweepInterval is how often files that nobody used are closed: one interval of idleness is forgiven.
const sweepInterval = time.Minute

// schedule says when each kind of background work is next due.
type schedule struct {
	retention, flush, recovery, starts, highWatermarks, producers, sweep time.Time
}

func newSchedule(o *Options, now time.Time) schedule {
	return schedule{
		retention:      later(now, o.InitialDelay),
		flush:          later(now, o.FlushCheckInterval),
		recovery:       later(now, o.RecoveryPointInterval),
		starts:         later(now, o.StartOffsetInterval),
		highWatermarks: later(now, o.HighWatermarkInterval),
		producers:      later(now, o.ProducerExpirationInterval),
		sweep:          later(now, sweepInterval),
	}
}

// later adds a duration; what would be centuries away becomes one.
func later(now time.Time, d time.Duration) time.Time { return now.Add(min(d, 100*365*24*time.Hour)) }

// logWants puts a log on the list of those with work to do now.
func (m *Manager) logWants(l *Log) {
	if l.future.Load() {
		return // whoever makes the copy sees to it
	}
	m.mu.Lock()
	if !m.closed {
		m.work[l] = time.Time{}
	}
	m.mu.Unlock()
	m.poke()
}

func (m *Manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run is the manager's one goroutine.
func (m *Manager) run(stopped chan<- struct{}) {
	defer close(stopped)
	defer m.panicked()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-m.wake:
		case <-timer.C:
		}
		m.Tick(m.o.Now())
		timer.Reset(max(m.nextDue().Sub(m.o.Now()), 10*time.Millisecond))
	}
}

// panicked is deferred by the goroutines of the manager; it tells of a panic in one.
func (m *Manager) panicked() {
	p := recover()
	if p == nil {
		return
	}
	m.o.Logger.Error("background work on logs panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	if m.o.Fault != nil {
		m.o.Fault(fmt.Errorf("background work on logs: panic: %v", p))
	}
}

// Tick does the background work that is due at now: retention, flush, checkpoints, deletion, expiry. The manager's goroutine
// calls it; with Options.Manual the owner does. A failure concerns its directory or log alone and is logged.
func (m *Manager) Tick(now time.Time) {
	m.ticking.Lock()
	defer m.ticking.Unlock()
	m.mu.Lock()
	loaded := m.loaded
	m.mu.Unlock()
	if !loaded {
		return // the checkpoints would forget what was not read yet
	}
	isDue := func(at *time.Time, interval time.Duration) bool {
		if now.Before(*at) {
			return false
		}
		*at = later(now, interval)
		return true
	}
	m.tickMoved()
	m.tickBirths()
	m.tickLogs(now)
	m.removeDeleted(now)
	if isDue(&m.due.retention, m.o.RetentionCheckInterval) {
		m.each(func(l *Log) error { return l.retain(now) })
	}
	if isDue(&m.due.flush, m.o.FlushCheckInterval) {
		m.each(func(l *Log) error {
			if l.flushDue(now) {
				return l.Flush(l.EndOffset())
			}
			return nil
		})
	}
	if isDue(&m.due.producers, m.o.ProducerExpirationInterval) {
		m.each(func(l *Log) error { l.expireProducers(now, m.o.producerExpiration()); return nil })
	}
	if isDue(&m.due.sweep, sweepInterval) {
		m.each(func(l *Log) error { l.sweep(); return nil })
	}
	for _, c := range []struct {
		at       *time.Time
		interval time.Duration
		write    func(*logDir) error
	}{
		{&m.due.highWatermarks, m.o.HighWatermarkInterval, m.checkpointHighWatermarks},
		{&m.due.recovery, m.o.RecoveryPointInterval, func(d *logDir) error { return errors.Join(m.checkpointRecoveryPoints(d), m.checkpointClean(d)) }},
		{&m.due.starts, m.o.StartOffsetInterval, m.checkpointStartOffsets},
	} {
		if !isDue(c.at, c.interval) {
			continue
		}
		for _, d := range m.dirs {
			if err := c.write(d); err != nil {
				m.o.Logger.Warn("checkpoint failed", "log_dir", d.path, "err", err)
			}
		}
	}
}

// each calls f for every log that works.
func (m *Manager) each(f func(l *Log) error) {
	for _, l := range m.Logs() {
		if l.Err() != nil {
			continue
		}
		if err := f(l); err != nil && l.gone.Load() == nil {
			m.o.Logger.Warn("background work on a log failed", "partition", l.tp.String(), "err", err)
		}
	}
}

// tickLogs serves the logs that asked for it.
func (m *Manager) tickLogs(now time.Time) {
	m.mu.Lock()
	var logs []*Log
	for l, at := range m.work {
		if !at.After(now) {
			logs = append(logs, l)
			delete(m.work, l)
		}
	}
	m.mu.Unlock()
	for _, l := range logs {
		next, err := l.Tick(now)
		if err != nil && l.gone.Load() == nil {
			m.o.Logger.Warn("background work on a log failed", "partition", l.tp.String(), "err", err)
			next = now.Add(time.Second) // a full disk: try again
		}
		if next.IsZero() || l.Err() != nil {
			continue
		}
		m.mu.Lock()
		if _, again := m.work[l]; !again {
			m.work[l] = next
		}
		m.mu.Unlock()
	}
}

// nextDue is when Tick has something to do.
func (m *Manager) nextDue() time.Time {
	m.ticking.Lock()
	s := m.due
	m.ticking.Unlock()
	next := s.retention
	for _, t := range []time.Time{s.flush, s.recovery, s.starts, s.highWatermarks, s.producers, s.sweep} {
		if t.Before(next) {
			next = t
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.work {
		if t.Before(next) {
			next = t
		}
	}
	for _, d := range m.deleting {
		if d.at.Before(next) {
			next = d.at
		}
	}
	return next
}

// removeDeleted removes the directories whose time has come.
func (m *Manager) removeDeleted(now time.Time) {
	m.mu.Lock()
	var due []deletion
	kept := m.deleting[:0]
	for _, d := range m.deleting {
		if d.at.After(now) {
			kept = append(kept, d)
		} else {
			due = append(due, d)
		}
	}
	clear(m.deleting[len(kept):])
	m.deleting = kept
	m.mu.Unlock()
	removed := map[*logDir][]string{}
	for _, d := range due {
		if d.log != nil {
			if !d.log.cleaning.TryLock() {
				// A cleaner notices in a moment that the log is gone.
				d.at = now.Add(time.Second)
				m.mu.Lock()
				m.deleting = append(m.deleting, d)
				m.mu.Unlock()
				continue
			}
			d.log.cleaning.Unlock()
			d.log.mu.Lock()
			d.log.dropFiles()
			for _, f := range d.log.doomed {
				f.segment.drop()
			}
			d.log.mu.Unlock()
		}
		if d.dir.err() != nil {
			continue
		}
		if err := m.o.FS.RemoveAll(d.path); err != nil {
			d.dir.fail("remove", d.path, err)
			continue
		}
		removed[d.dir] = append(removed[d.dir], d.path)
	}
	for dir, paths := range removed { // one sync for all: what comes back after a power loss is removed again
		if err := m.o.FS.SyncDir(dir.path); err != nil {
			dir.fail("remove", paths[0], err)
			continue
		}
		for _, path := range paths {
			m.o.Logger.Info("removed a deleted partition's directory", "path", path)
		}
	}
}

// writeCheckpoint writes one offset of every log in a directory.
func (m *Manager) writeCheckpoint(d *logDir, name string, offset func(*Log) (id.Offset, bool)) error {
	d.checkpointing.Lock()
	defer d.checkpointing.Unlock()
	if err := d.err(); err != nil {
		return nil // said when it went offline
	}
	m.mu.Lock()
	offsets := make(map[id.TopicPartition]id.Offset, len(m.logs))
	for tp, l := range m.logs {
		if l.dir == d {
			if o, ok := offset(l); ok {
				offsets[tp] = o
			}
		}
	}
	m.checkpointedLocked(d, name, offsets, offset)
	m.mu.Unlock()
	if err := checkpoint.WriteOffsets(m.o.FS, filepath.Join(d.path, name), offsets); err != nil {
		if isFull(err) {
			return err
		}
		return d.fail("write checkpoint", name, err)
	}
	return nil
}

func (m *Manager) checkpointHighWatermarks(d *logDir) error {
	if !d.hwChanged.Swap(false) {
		return nil
	}
	err := m.writeCheckpoint(d, fileHighWatermark, func(l *Log) (id.Offset, bool) { return l.HighWatermark(), true })
	if err != nil {
		d.hwChanged.Store(true)
	}
	return err
}

func (m *Manager) checkpointRecoveryPoints(d *logDir) error {
	if !d.durableChanged.Swap(false) {
		return nil
	}
	err := m.writeCheckpoint(d, fileRecoveryPoint, func(l *Log) (id.Offset, bool) { return l.DurableEnd(), true })
	if err != nil {
		d.durableChanged.Store(true)
	}
	return err
}

// forgetStarts rewrites the start offsets and high watermarks of a directory now.
func (m *Manager) forgetStarts(d *logDir) error {
	d.startsChanged.Store(true)
	d.hwChanged.Store(true)
	d.cleanChanged.Store(true)
	return errors.Join(m.checkpointStartOffsets(d), m.checkpointHighWatermarks(d), m.checkpointClean(d))
}

// checkpointStartOffsets writes the start offsets that the segments do not tell.
func (m *Manager) checkpointStartOffsets(d *logDir) error {
	if !d.startsChanged.Swap(false) {
		return nil
	}
	err := m.writeCheckpoint(d, fileStartOffset, func(l *Log) (id.Offset, bool) {
		start := l.StartOffset()
		return start, start > (*l.segments.Load())[0].base
	})
	if err != nil {
		d.startsChanged.Store(true)
	}
	return err
}

// Close flushes and closes every log, writes the checkpoints and the clean shutdown marks, and releases the locks. A directory
// in which anything failed gets no mark, so that it is recovered at the next start.
func (m *Manager) Close(epoch id.BrokerEpoch) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.mu.Unlock()
	close(m.stop)
	m.cleaner.changing.Lock()
	m.cleaner.halt()
	m.cleaner.changing.Unlock()
	m.ticking.Lock()
	stopped, loaded := m.stopped, m.loaded
	m.ticking.Unlock()
	if stopped != nil {
		<-stopped
	}
	m.recovering.Wait() // those under way; the others stay as they are
	if !loaded {
		m.unlock()
		return nil
	}
	m.ticking.Lock()
	defer m.ticking.Unlock()

	logs := append(m.Logs(), m.copies()...)
	failed := make(map[*logDir]error)
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, max(4, m.o.recoveryThreads()*len(m.dirs)))
	for _, l := range logs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := l.Close(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[l.dir] = errors.Join(failed[l.dir], err)
			}
		})
	}
	wg.Wait()
	var errs []error
	for _, d := range m.dirs {
		err := failed[d]
		for _, f := range []func(*logDir) error{m.checkpointRecoveryPoints, m.checkpointStartOffsets, m.checkpointHighWatermarks, m.checkpointClean} {
			d.hwChanged.Store(true)
			d.durableChanged.Store(true)
			d.startsChanged.Store(true)
			if err == nil && d.err() == nil {
				err = f(d)
			}
		}
		if n := m.pendingIn(d); n > 0 {
			m.o.Logger.Info("logs are left for the next start to recover", "log_dir", d.path, "logs", n)
		} else if err == nil && d.err() == nil {
			err = d.writeCleanShutdown(epoch)
		}
		errs = append(errs, err)
		if d.lock != nil {
			errs = append(errs, d.lock.Close())
		}
	}
	return errors.Join(errs...)
}

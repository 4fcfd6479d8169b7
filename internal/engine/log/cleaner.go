package log

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// CleanerConfig is what the cleaner of a node is told; all of it may change while it runs (Manager.SetCleaner).
type CleanerConfig struct {
	Enable              bool          // log.cleaner.enable
	Threads             int           // log.cleaner.threads
	DedupeBufferBytes   int64         // log.cleaner.dedupe.buffer.size, of all threads together
	LoadFactor          float64       // log.cleaner.io.buffer.load.factor
	IOBufferBytes       int           // log.cleaner.io.buffer.size, of all threads together
	MaxIOBytesPerSecond float64       // log.cleaner.io.max.bytes.per.second, of all threads together
	Backoff             time.Duration // log.cleaner.backoff.ms
}

// DefaultCleanerConfig returns Kafka's defaults.
func DefaultCleanerConfig() CleanerConfig {
	return CleanerConfig{Enable: true, Threads: 1, DedupeBufferBytes: 128 << 20, LoadFactor: 0.9, IOBufferBytes: 512 << 10,
		MaxIOBytesPerSecond: math.MaxFloat64, Backoff: 15 * time.Second}
}

// cleaner compacts the logs of a manager: a fixed number of workers, each of which takes up the dirtiest log there is. A log that
// cannot be cleaned is set aside until the next start, and the others go on.
//
// mu guards all of it and is never held across disk access or while a log's mutex is taken.
type cleaner struct {
	m        *Manager
	changing sync.Mutex // one start or stop at a time
	picking  sync.Mutex // one worker at a time looks for a log: two would find the same, and one of them wait although there are others
	throttle throttle
	dead     atomic.Int64 // workers that ended in a panic since they were last started

	mu        sync.Mutex
	config    CleanerConfig
	stop      chan struct{} // nil while no worker runs
	running   sync.WaitGroup
	busy      map[*Log]bool
	aside     map[*Log]string // why
	lastRunMs int64
	dirtiest  float64
	last      []workerStats // of each worker's last pass
}

type workerStats struct {
	cleanStats
	overdueMs int64 // the most of all logs when the pass began
}

func newCleaner(m *Manager, c CleanerConfig) *cleaner {
	return &cleaner{m: m, config: c, busy: map[*Log]bool{}, aside: map[*Log]string{}, lastRunMs: m.o.Now().UnixMilli(), last: make([]workerStats, 1)}
}

// start lets the workers run, if there are to be any.
func (c *cleaner) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil || !c.config.Enable || c.m.o.Manual {
		return
	}
	c.stop = make(chan struct{})
	c.dead.Store(0)
	c.last = make([]workerStats, c.config.Threads)
	for i := range c.config.Threads {
		stop := c.stop
		c.running.Go(func() {
			alive := true
			defer c.m.panicked()
			defer func() {
				if alive {
					c.dead.Add(1)
				}
			}()
			c.work(i, stop)
			alive = false
		})
	}
}

// halt ends the workers and waits for them. A pass in the middle of a log ends without effect.
func (c *cleaner) halt() {
	c.mu.Lock()
	if c.stop != nil {
		close(c.stop)
		c.stop = nil
	}
	c.mu.Unlock()
	c.running.Wait()
}

// SetCleaner changes what the cleaner is told. Workers are started anew; what they were at is taken up again.
func (m *Manager) SetCleaner(config CleanerConfig) {
	c := m.cleaner
	c.changing.Lock()
	defer c.changing.Unlock()
	c.mu.Lock()
	same := c.config == config
	c.mu.Unlock()
	if same {
		return
	}
	c.halt()
	c.throttle.forgive()
	c.mu.Lock()
	c.config = config
	c.mu.Unlock()
	m.mu.Lock()
	ready := m.loaded && !m.closed
	m.mu.Unlock()
	if ready {
		c.start()
	}
}

// work is one worker.
func (c *cleaner) work(n int, stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-timer.C:
		}
		wait := time.Duration(0)
		if !c.cleanOne(n, stop) {
			if n == 0 {
				c.retain()
			}
			c.mu.Lock()
			wait = c.config.Backoff
			c.mu.Unlock()
		}
		timer.Reset(wait)
	}
}

// cleanOne cleans the dirtiest log; false when there was nothing to do or it failed.
func (c *cleaner) cleanOne(n int, stop <-chan struct{}) bool {
	d, ok := c.grab(c.m.o.Now())
	if !ok {
		return false
	}
	defer func() {
		c.mu.Lock()
		delete(c.busy, d.l)
		c.mu.Unlock()
	}()
	err := c.clean(n, d, stop)
	switch {
	case err == nil:
		return true
	case errors.Is(err, errCleaningStopped) || d.l.Err() != nil:
		return false
	}
	if isFull(err) {
		c.m.o.Logger.Warn("a log cannot be cleaned while the disk is full", "partition", d.l.tp.String(), "err", err)
		return false
	}
	c.setAside(d.l, err)
	return false
}

// retain applies retention to the logs that are compacted, as often as the cleaner finds nothing to do.
func (c *cleaner) retain() {
	for _, l := range c.m.Logs() {
		if l.Err() != nil || !l.cfg.Load().CleanupCompact {
			continue
		}
		if err := l.retain(c.m.o.Now()); err != nil && l.Err() == nil {
			c.m.o.Logger.Warn("retention of a compacted log failed", "partition", l.tp.String(), "err", err)
		}
	}
}

func (c *cleaner) setAside(l *Log, err error) {
	c.m.o.Logger.Error("a log cannot be cleaned and is set aside until the next start", "partition", l.tp.String(), "log_dir", l.dir.path, "err", err)
	c.mu.Lock()
	c.aside[l] = err.Error()
	c.mu.Unlock()
}

// grab takes the log with the largest share of dirty bytes among those that are dirty enough or overdue.
func (c *cleaner) grab(now time.Time) (dirtyLog, bool) {
	c.picking.Lock()
	defer c.picking.Unlock()
	logs := c.m.Logs()
	c.mu.Lock()
	c.lastRunMs = now.UnixMilli()
	logs = slices.DeleteFunc(logs, func(l *Log) bool {
		_, aside := c.aside[l]
		return aside || c.busy[l] || l.Err() != nil || l.moving.Load() || !l.cfg.Load().CleanupCompact
	})
	c.forgetGone()
	c.mu.Unlock()

	var best dirtyLog
	dirtiest, overdueMs := 0.0, int64(0)
	for _, l := range logs {
		d, err := l.dirty(now)
		if err != nil {
			if l.Err() == nil {
				c.setAside(l, err)
			}
			continue
		}
		dirtiest, overdueMs = max(dirtiest, d.ratio()), max(overdueMs, d.overdueMs)
		if d.wants() && (best.l == nil || d.ratio() > best.ratio()) {
			best = d
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirtiest = dirtiest
	if best.l == nil {
		return dirtyLog{}, false
	}
	c.busy[best.l] = true
	best.overdueMs = overdueMs
	return best, true
}

// forgetGone drops logs that are deleted. It needs mu.
func (c *cleaner) forgetGone() {
	for l := range c.aside {
		if l.gone.Load() != nil {
			delete(c.aside, l)
		}
	}
}

// clean does one pass over a log and notes how far it is clean.
func (c *cleaner) clean(n int, d dirtyLog, stop <-chan struct{}) (err error) {
	l := d.l
	l.cleaning.Lock()
	defer l.cleaning.Unlock()
	if l.moving.Load() {
		return errCleaningStopped
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic while cleaning: %v\n%s", r, debug.Stack())
		}
	}()
	// What is replaced was durable: a recovery does not look for records in the place of those that the cleaner took out. And so
	// are the markers that decided what may go: a transaction must not end another way after a power loss.
	if err := l.Flush(l.HighWatermark()); err != nil {
		return err
	}
	if err := c.m.checkpointRecoveryPoints(l.dir); err != nil {
		return err
	}
	c.mu.Lock()
	config := c.config
	c.mu.Unlock()
	stats := workerStats{overdueMs: d.overdueMs}
	p := cleanPass{
		l: l, c: d.c, nowMs: c.m.o.Now().UnixMilli(), firstDirty: d.firstDirty, upper: d.upper, segs: d.segs, all: d.all, truncations: d.truncations,
		mapBytes: config.DedupeBufferBytes / int64(max(config.Threads, 1)), load: config.LoadFactor, stats: &stats.cleanStats,
	}
	p.in = batchReader{start: max(config.IOBufferBytes/max(config.Threads, 1)/2, minReadBuffer), pause: func(bytes int) error {
		if err := c.throttle.wait(bytes, config.MaxIOBytesPerSecond, stop); err != nil {
			return err
		}
		return l.stillCleaning(d.truncations)
	}}
	end, err := p.run(c.m.o.Now)
	if err != nil {
		return l.cleanError(err)
	}
	l.mu.Lock()
	if l.truncations == d.truncations {
		l.clean.Store(int64(end))
		l.dir.cleanChanged.Store(true)
	}
	l.mu.Unlock()
	c.mu.Lock()
	if n < len(c.last) {
		c.last[n] = stats
	}
	c.mu.Unlock()
	c.m.o.Logger.Info("cleaned a log", "partition", l.tp.String(), "from", int64(d.firstDirty), "to", int64(end), "bytes", stats.bytesRead, "bytes_left", stats.bytesWritten,
		"records", stats.recordsRead, "records_left", stats.recordsWritten, "segments", stats.segmentsBefore, "segments_left", stats.segmentsAfter, "took", stats.elapsed)
	if stats.withoutKey > 0 {
		c.m.o.Logger.Warn("records without a key were in a compacted log", "partition", l.tp.String(), "records", stats.withoutKey)
	}
	return c.m.checkpointClean(l.dir)
}

// stillCleaning ends a pass over a log that went, that moves to another directory, that is not to be compacted any more, or of which
// something was cut.
func (l *Log) stillCleaning(truncations int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.truncations != truncations || l.moving.Load() || l.Err() != nil || !l.cfg.Load().CleanupCompact {
		return errCleaningStopped
	}
	return nil
}

// cleanError tells what a pass failed of apart: the disk, whose directory goes offline; a full disk; or the log itself.
func (l *Log) cleanError(err error) error {
	var storage *StorageError
	var path *fs.PathError
	var errno syscall.Errno
	switch {
	case errors.Is(err, errCleaningStopped), errors.As(err, &storage), isBadBatch(err), l.Err() != nil:
		return err
	case errors.Is(err, fs.ErrClosed):
		return errCleaningStopped // a segment that was deleted by retention
	case errors.As(err, &path), errors.As(err, &errno):
		return l.fault("clean", err)
	}
	return err
}

// Clean compacts the dirtiest log now, without a worker, and reports whether there was one that is clean afterwards. It is for
// owners with Options.Manual.
func (m *Manager) Clean() bool { return m.cleaner.cleanOne(0, nil) }

// checkpointClean writes up to where the logs of a directory are clean.
func (m *Manager) checkpointClean(d *logDir) error {
	if !d.cleanChanged.Swap(false) {
		return nil
	}
	err := m.writeCheckpoint(d, fileCleanerOffset, func(l *Log) (id.Offset, bool) { at := l.clean.Load(); return id.Offset(at), at >= 0 })
	if err != nil {
		d.cleanChanged.Store(true)
	}
	return err
}

// CleanerStats are what the cleaner's metrics show.
type CleanerStats struct {
	Dirs                        []CleanerDirStats
	MaxDirtyPercent             int
	SinceLastRun                time.Duration
	MaxBufferUtilizationPercent int
	RecopyPercent               int
	MaxCleanTime                time.Duration
	MaxCompactionDelay          time.Duration
	DeadThreads                 int // that ended in a panic
}

// CleanerDirStats count the logs of a directory that are set aside.
type CleanerDirStats struct {
	Path                  string
	UncleanablePartitions int
	UncleanableBytes      int64
}

// CleanerStats tells how the cleaner does.
func (m *Manager) CleanerStats() CleanerStats {
	c, now := m.cleaner, m.o.Now()
	c.mu.Lock()
	c.forgetGone()
	aside := make([]*Log, 0, len(c.aside))
	for l := range c.aside {
		aside = append(aside, l)
	}
	s := CleanerStats{DeadThreads: int(c.dead.Load()), MaxDirtyPercent: int(100 * c.dirtiest), SinceLastRun: time.Duration(now.UnixMilli()-c.lastRunMs) * time.Millisecond}
	var read, written int64
	for _, w := range c.last {
		s.MaxBufferUtilizationPercent = max(s.MaxBufferUtilizationPercent, int(100*w.utilization))
		s.MaxCleanTime = max(s.MaxCleanTime, w.elapsed)
		s.MaxCompactionDelay = max(s.MaxCompactionDelay, time.Duration(min(w.overdueMs, math.MaxInt64/int64(time.Millisecond)))*time.Millisecond)
		read, written = read+w.bytesRead, written+w.bytesWritten
	}
	c.mu.Unlock()
	s.RecopyPercent = int(100 * float64(written) / float64(max(read, 1)))
	for _, d := range m.dirs {
		x := CleanerDirStats{Path: d.path}
		for _, l := range aside {
			if l.dir != d {
				continue
			}
			x.UncleanablePartitions++
			if dirty, err := l.dirty(now); err == nil {
				x.UncleanableBytes += dirty.cleanableBytes
			}
		}
		s.Dirs = append(s.Dirs, x)
	}
	return s
}

// Uncleanable lists the logs that are set aside, with the reasons.
func (m *Manager) Uncleanable() map[id.TopicPartition]string {
	c := m.cleaner
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetGone()
	out := map[id.TopicPartition]string{}
	for l, why := range c.aside {
		out[l.tp] = why
	}
	return out
}

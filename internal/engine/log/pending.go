package log

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// recoveryGrace is how long Load waits for recoveries that it leaves to the background: what was small is there when it returns,
// and nobody is told to come again.
const recoveryGrace = 20 * time.Millisecond

// A log of a directory that was not closed cleanly may have to be scanned. With LoadOptions.Recovered it is not yet there when
// Load returns: it is pending, recovered in the background, RecoveryThreads at a time in each directory, those that somebody
// asks for first. The checkpoints keep what they say of a pending log. A directory with pending logs is never closed cleanly.

// pendingLog is a log that waits for its recovery.
type pendingLog struct {
	tp      id.TopicPartition
	dir     *logDir
	options LogOptions
	state   dirState
	stop    atomic.Bool   // ends a recovery that is under way
	done    chan struct{} // closed when it is pending no more

	// Guarded by the manager's mutex.
	running bool
	over    bool   // its recovery is
	leave   string // it was taken away in its recovery: what its directory will be called
}

// addPending registers a log for recovery.
func (m *Manager) addPending(d *logDir, tp id.TopicPartition, o LogOptions, s dirState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.pending[tp]; other != nil {
		return twoDirectories(tp, other.options.Dir, o.Dir)
	}
	if other := m.logs[tp]; other != nil {
		return twoDirectories(tp, other.Path(), o.Dir)
	}
	p := &pendingLog{tp: tp, dir: d, options: o, state: s, done: make(chan struct{})}
	m.pending[tp] = p
	m.recoveries[d] = append(m.recoveries[d], p)
	d.hosted++
	return nil
}

func twoDirectories(tp id.TopicPartition, one, other string) error {
	return fmt.Errorf("partition %v has two directories: %s and %s; remove the one that failed last", tp, one, other)
}

// recoverPending starts the recoveries and returns when they are over, or after the grace.
func (m *Manager) recoverPending(recovered func(id.TopicPartition)) {
	m.mu.Lock()
	some := len(m.pending) > 0
	for d, queue := range m.recoveries {
		// Coordinators lead whole groups of clients from one partition each. Apart from them the order is that of the names.
		slices.SortStableFunc(queue, func(a, b *pendingLog) int {
			if ai, bi := isInternalTopic(a.tp.Topic), isInternalTopic(b.tp.Topic); ai != bi {
				if ai {
					return -1
				}
				return 1
			}
			return a.tp.Compare(b.tp)
		})
		for range min(m.o.recoveryThreads(), len(queue)) {
			m.recovering.Go(func() {
				defer m.panicked()
				for p := m.nextPending(d); p != nil; p = m.nextPending(d) {
					if m.recoverOne(p) {
						recovered(p.tp)
					}
				}
			})
		}
	}
	m.mu.Unlock()
	if !some {
		return
	}
	over := make(chan struct{})
	go func() { m.recovering.Wait(); close(over) }()
	grace := time.NewTimer(recoveryGrace)
	defer grace.Stop()
	select {
	case <-over:
	case <-grace.C:
	}
}

func isInternalTopic(topic string) bool { return len(topic) > 2 && topic[:2] == "__" }

// nextPending takes the next log of a directory to be recovered; nil when there is none, or the manager was closed.
func (m *Manager) nextPending(d *logDir) *pendingLog {
	m.mu.Lock()
	defer m.mu.Unlock()
	for !m.closed && d.err() == nil && len(m.recoveries[d]) > 0 {
		p := m.recoveries[d][0]
		m.recoveries[d] = m.recoveries[d][1:]
		if m.pending[p.tp] == p && !p.running {
			p.running = true
			return p
		}
	}
	return nil
}

func (m *Manager) recoverOne(p *pendingLog) bool {
	o := p.options
	o.stop = &p.stop
	l, err := openLog(o, p.dir, m.o)
	if err != nil && !errors.Is(err, errAbandoned) {
		p.dir.fail("recover", p.options.Dir, err)
	}
	m.mu.Lock()
	leave := p.leave
	if leave == "" {
		p.over = true
		if err == nil { // otherwise it stays pending: it is nowhere else
			delete(m.pending, p.tp)
			m.logs[p.tp] = l
		}
	}
	m.mu.Unlock()
	if leave != "" {
		m.moveRecovering(p, l, leave)
		err = errAbandoned
	}
	close(p.done)
	return err == nil
}

// moveRecovering renames the directory of a log that was taken away in its recovery, which is over now.
func (m *Manager) moveRecovering(p *pendingLog, l *Log, suffix string) {
	if l != nil {
		l.setGone(ErrDeleted)
		l.dropFiles()
	}
	m.movePending(p, suffix) // an error has taken the directory offline
	m.mu.Lock()
	p.over = true
	delete(m.leaving, p.tp)
	m.mu.Unlock()
	m.poke()
}

// Recovering reports whether a partition's log was found and waits for its recovery, or is in it. Its turn comes next.
func (m *Manager) Recovering(tp id.TopicPartition) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pending[tp]
	if p == nil {
		return false
	}
	if queue := m.recoveries[p.dir]; !p.running && (len(queue) == 0 || queue[0] != p) {
		m.recoveries[p.dir] = append([]*pendingLog{p}, queue...) // where it was it is passed over
	}
	return true
}

// RecoveryFailed reports whether a partition's log was found and cannot be recovered, because its directory failed.
func (m *Manager) RecoveryFailed(tp id.TopicPartition) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pending[tp]
	return p != nil && p.dir.err() != nil
}

// DirectoryOf is the id of the log directory in which a partition's log is, recovered or not; of the one to which it moves, once the
// copy there has arrived.
func (m *Manager) DirectoryOf(tp id.TopicPartition) (id.UUID, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if mv := m.moves[tp]; mv != nil && mv.arrived.Load() {
		return mv.to.dir.id, true
	}
	if l := m.logs[tp]; l != nil {
		return l.dir.id, true
	}
	if p := m.pending[tp]; p != nil {
		return p.dir.id, true
	}
	return id.UUID{}, false
}

// pendingIn counts the logs of a directory that wait for their recovery.
func (m *Manager) pendingIn(d *logDir) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, p := range m.pending {
		if p.dir == d {
			n++
		}
	}
	return n
}

// takePending takes partitions out of service whose logs are pending: their directories are renamed as they are. A recovery that is
// under way ends in a moment, and its directory is renamed then; nobody waits for that but who makes a log of the same name.
func (m *Manager) takePending(partitions []id.TopicPartition, suffix string) error {
	var errs []error
	for _, tp := range partitions {
		m.mu.Lock()
		p := m.pending[tp]
		if p == nil {
			m.mu.Unlock()
			continue
		}
		delete(m.pending, tp)
		p.dir.hosted--
		running := p.running
		if running && !p.over {
			p.leave = suffix
			m.leaving[tp] = p
			p.stop.Store(true)
		}
		m.mu.Unlock()
		if !running {
			close(p.done)
			errs = append(errs, m.movePending(p, suffix))
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) movePending(p *pendingLog, suffix string) error {
	if p.dir.err() != nil {
		return nil // out of reach; a restart finds it stray
	}
	to := filepath.Join(p.dir.path, movedDirName(p.tp, suffix))
	if err := m.o.FS.Rename(p.options.Dir, to); err != nil {
		return p.dir.fail("delete", p.tp.String(), err)
	}
	p.dir.taken.Add(1)
	if suffix == suffixDirDelete {
		m.mu.Lock()
		m.deleting = append(m.deleting, deletion{at: m.o.Now().Add(deleteDelay(p.options.Config)), path: to, dir: p.dir})
		m.mu.Unlock()
	}
	return nil
}

// checkpointedLocked adds what a checkpoint file said of the logs of a directory that are still pending, and what is to be said of
// copies that are about to become logs. It needs mu.
func (m *Manager) checkpointedLocked(d *logDir, name string, offsets map[id.TopicPartition]id.Offset, offset func(*Log) (id.Offset, bool)) {
	for tp, mv := range m.moves {
		if mv.to.dir != d || !mv.settling.Load() {
			continue
		}
		if o, ok := offset(mv.to); ok {
			offsets[tp] = o
		}
	}
	for tp, p := range m.pending {
		if p.dir != d {
			continue
		}
		if o, ok := p.state.of(name)[tp]; ok {
			offsets[tp] = o
		}
	}
}

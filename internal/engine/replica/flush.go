package replica

import (
	"log/slog"
	"sync"

	"github.com/moldau-io/moldau/internal/base/id"
)

// flushWorkers bounds the fsyncs in flight. The log shares one fsync among all who wait for it, so a worker that comes back from
// one finds everything appended meanwhile as a single next one.
const flushWorkers = 4

// flusher makes appends durable whose topic asks for it (flush.messages). Workers exist only while there is something to do.
type flusher struct {
	mu      sync.Mutex // guards the rest
	due     map[*Partition]id.Offset
	order   []*Partition
	workers int
	running sync.WaitGroup
	logger  *slog.Logger
	fault   func(error) // hears of panics
}

// add asks for everything below upTo to be made durable.
func (f *flusher) add(p *Partition, upTo id.Offset) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.due == nil {
		f.due = map[*Partition]id.Offset{}
	}
	old, queued := f.due[p]
	f.due[p] = max(old, upTo)
	if queued {
		return
	}
	f.order = append(f.order, p)
	if f.workers < flushWorkers {
		f.workers++
		f.running.Add(1)
		go f.work()
	}
}

func (f *flusher) work() {
	defer f.running.Done()
	defer fault(f.logger, "the flusher", f.fault)
	for {
		f.mu.Lock()
		if len(f.order) == 0 {
			f.workers--
			f.mu.Unlock()
			return
		}
		p := f.order[0]
		f.order = append(f.order[:0], f.order[1:]...)
		upTo := f.due[p]
		delete(f.due, p)
		f.mu.Unlock()
		p.flush(upTo)
	}
}

func (f *flusher) wait() { f.running.Wait() }

// flush makes everything below upTo durable and tells who waited for it. A failed fsync has taken the directory offline.
func (p *Partition) flush(upTo id.Offset) {
	l := p.log()
	err := l.Flush(upTo)
	for now := p.log(); err != nil && now != l; now = p.log() { // it has moved meanwhile
		l, err = now, now.Flush(upTo)
	}
	if err != nil {
		p.m.logger.Error("flush failed", "partition", p.tp.String(), "error", err)
		p.checkDirectory()
		p.settleAll()
		return
	}
	p.mu.RLock()
	moved := p.gone == 0 && p.advance(p.m.now().UnixMilli())
	p.mu.RUnlock()
	if p.room.produces.Load() > 0 {
		p.settleProduces()
	}
	p.told(moved)
}

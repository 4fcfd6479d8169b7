package replica

import (
	"log/slog"
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

const (
	// syncsAtOnce bounds the fsyncs in flight of one log directory; each blocks a thread.
	syncsAtOnce = 64
	// patience is how long a round is waited for. What is longer is a single log with much to write, or a disk on which it makes no
	// difference whether the next round begins.
	patience = 20 * time.Millisecond
)

// flusher makes appends durable whose topic asks for it (flush.messages): group commit, for each log directory on its own.
type flusher struct {
	mu      sync.Mutex // guards the rest
	dirs    map[id.UUID]*committer
	closed  bool
	running sync.WaitGroup // the goroutines of all committers
	logger  *slog.Logger
	fault   func(error) // hears of panics
}

// add asks for everything below upTo to be made durable. Once closed it does nothing: nobody waits any more.
func (f *flusher) add(p *Partition, upTo id.Offset) {
	dir := p.log().DirectoryID()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	c := f.dirs[dir]
	if c == nil {
		if f.dirs == nil {
			f.dirs = map[id.UUID]*committer{}
		}
		c = &committer{f: f, logs: map[*Partition]commit{}}
		f.dirs[dir] = c
	}
	c.add(p, upTo)
}

// close returns when everything that was asked for is durable, or has failed.
func (f *flusher) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.running.Wait()
}

// committer is the group commit of one log directory. It works in rounds: a round takes every log on which somebody waits and syncs
// them side by side, so that they share what a file system does once for all (a commit of its journal, a flush of the disk's cache);
// who comes meanwhile waits for the next round, which begins when this one is over. Nothing waits for company: who comes when no
// round runs begins one. With many producers the rounds fill by themselves, since those that were answered together come back
// together.
//
// A log that takes longer than the others (it rolled, or much was written to it) does not hold up the next round for more than
// patience. It is never in two rounds at a time. Goroutines exist only while there is something to sync. The flusher's mutex
// guards all of it.
type committer struct {
	f     *flusher
	logs  map[*Partition]commit
	next  []*Partition // logs of the next round, none of which is being synced
	round int          // number of the round that began last
	open  int          // logs of it that are not synced yet
	busy  int          // logs being synced, of all rounds
	late  bool         // the round takes too long: the next one may begin
	timer *time.Timer
}

// commit is one log in a committer.
type commit struct {
	upTo    id.Offset // what was asked for since it was last taken into a round; 0 for nothing
	syncing bool
}

// oneSync is one log in a round.
type oneSync struct {
	p     *Partition
	upTo  id.Offset
	round int
}

// add is flusher.add for one directory. The flusher's mutex must be held.
func (c *committer) add(p *Partition, upTo id.Offset) {
	e := c.logs[p]
	if e.upTo == 0 && !e.syncing {
		c.next = append(c.next, p)
	}
	e.upTo = max(e.upTo, upTo)
	c.logs[p] = e
	if c.open == 0 || c.late {
		c.begin(c.take())
	}
}

// take takes logs into a new round. The flusher's mutex must be held.
func (c *committer) take() []oneSync {
	n := min(len(c.next), syncsAtOnce-c.busy)
	if n == 0 {
		return nil
	}
	c.round++
	c.open, c.late = n, false
	c.busy += n
	syncs := make([]oneSync, n)
	for i, p := range c.next[:n] {
		syncs[i] = oneSync{p, c.logs[p].upTo, c.round}
		c.logs[p] = commit{syncing: true}
	}
	left := copy(c.next, c.next[n:])
	clear(c.next[left:])
	c.next = c.next[:left]
	if c.timer == nil {
		c.timer = time.AfterFunc(patience, c.impatient)
	} else {
		c.timer.Reset(patience)
	}
	return syncs
}

// begin starts a goroutine for each. The flusher's mutex must be held.
func (c *committer) begin(syncs []oneSync) {
	for _, s := range syncs {
		c.f.running.Add(1)
		go c.work(s)
	}
}

// work syncs one log, and goes on with one of the next round if this was the last of its round.
func (c *committer) work(s oneSync) {
	defer c.f.running.Done()
	defer fault(c.f.logger, "the flusher", c.f.fault)
	for more := true; more; {
		s.p.flush(s.upTo)
		s, more = c.done(s)
	}
}

// done notes that a log was synced; when it was the last of its round the next one begins, with a log for the caller to sync.
func (c *committer) done(s oneSync) (next oneSync, more bool) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.busy--
	if s.round == c.round {
		c.open--
	}
	if e := c.logs[s.p]; e.upTo > 0 {
		c.logs[s.p] = commit{upTo: e.upTo}
		c.next = append(c.next, s.p)
	} else {
		delete(c.logs, s.p)
	}
	if c.open > 0 && !c.late {
		return oneSync{}, false
	}
	syncs := c.take()
	if len(syncs) == 0 {
		if c.open == 0 {
			c.timer.Stop()
		}
		return oneSync{}, false
	}
	c.begin(syncs[1:])
	return syncs[0], true
}

// impatient lets the next round begin before the one that runs is over.
func (c *committer) impatient() {
	defer fault(c.f.logger, "the flusher", c.f.fault)
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	if c.open > 0 {
		c.late = true
		c.begin(c.take())
	}
}

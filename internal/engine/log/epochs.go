package log

import (
	"slices"
	"sync"

	"github.com/moldau-io/moldau/internal/base/checkpoint"
	"github.com/moldau-io/moldau/internal/base/id"
)

// epochCache knows at which offset each leader epoch began (KIP-101, KIP-279). Epochs and offsets both rise strictly.
//
// It has its own mutex because readers ask it; changes come under the log's mutex. The file is written by the log: with the next
// flush, or at once when the log was cut.
type epochCache struct {
	mu      sync.Mutex
	entries []checkpoint.EpochEntry
}

// load takes the entries of a file, dropping what is not monotonic.
func (c *epochCache) load(entries []checkpoint.EpochEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries = c.entries[:0]
	slices.SortStableFunc(entries, func(a, b checkpoint.EpochEntry) int { return int(int64(a.Epoch) - int64(b.Epoch)) })
	for _, e := range entries {
		if e.Epoch >= 0 && e.StartOffset >= 0 {
			c.assignLocked(e)
		}
	}
}

// assign notes that an epoch starts at an offset, and reports whether that changed anything. Entries that contradict it go.
func (c *epochCache) assign(epoch id.LeaderEpoch, start id.Offset) bool {
	if epoch < 0 || start < 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.assignLocked(checkpoint.EpochEntry{Epoch: epoch, StartOffset: start})
}

func (c *epochCache) assignLocked(e checkpoint.EpochEntry) bool {
	if n := len(c.entries); n > 0 && c.entries[n-1].Epoch == e.Epoch && e.StartOffset >= c.entries[n-1].StartOffset {
		return false
	}
	for n := len(c.entries); n > 0 && (c.entries[n-1].Epoch >= e.Epoch || c.entries[n-1].StartOffset >= e.StartOffset); n-- {
		c.entries = c.entries[:n-1]
	}
	c.entries = append(c.entries, e)
	return true
}

// latest is the last epoch, or id.NoLeaderEpoch.
func (c *epochCache) latest() id.LeaderEpoch {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) == 0 {
		return id.NoLeaderEpoch
	}
	return c.entries[len(c.entries)-1].Epoch
}

// endFor answers where an epoch ends: the largest known epoch at or below it, with the start of the next one.
func (c *epochCache) endFor(epoch id.LeaderEpoch, logEnd id.Offset) EpochEndOffset {
	c.mu.Lock()
	defer c.mu.Unlock()
	unknown := EpochEndOffset{Epoch: id.NoLeaderEpoch, EndOffset: id.NoOffset}
	n := len(c.entries)
	if epoch < 0 || n == 0 {
		return unknown
	}
	if c.entries[n-1].Epoch == epoch {
		return EpochEndOffset{Epoch: epoch, EndOffset: logEnd}
	}
	higher := slices.IndexFunc(c.entries, func(e checkpoint.EpochEntry) bool { return e.Epoch > epoch })
	switch {
	case higher < 0:
		return unknown // an epoch nobody here has seen
	case higher == 0:
		// Its data is gone from the log. The reader continues at our first known offset under its own epoch.
		return EpochEndOffset{Epoch: epoch, EndOffset: c.entries[0].StartOffset}
	}
	return EpochEndOffset{Epoch: c.entries[higher-1].Epoch, EndOffset: c.entries[higher].StartOffset}
}

// at returns the epoch of an offset, or id.NoLeaderEpoch.
func (c *epochCache) at(offset id.Offset) id.LeaderEpoch {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := len(c.entries) - 1; i >= 0; i-- {
		if c.entries[i].StartOffset <= offset {
			return c.entries[i].Epoch
		}
	}
	return id.NoLeaderEpoch
}

// truncateEnd removes the epochs that start at or above the new end; none if that is id.NoOffset.
func (c *epochCache) truncateEnd(end id.Offset) bool {
	if end < 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.entries)
	for n := len(c.entries); n > 0 && c.entries[n-1].StartOffset >= end; n-- {
		c.entries = c.entries[:n-1]
	}
	return len(c.entries) != before
}

// truncateStart removes the epochs that ended before the new start; the one that holds it starts there.
func (c *epochCache) truncateStart(start id.Offset) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	keep := 0
	for keep < len(c.entries) && c.entries[keep].StartOffset <= start {
		keep++
	}
	if keep == 0 || keep == 1 && c.entries[0].StartOffset == start {
		return false
	}
	first := checkpoint.EpochEntry{Epoch: c.entries[keep-1].Epoch, StartOffset: start}
	c.entries = append([]checkpoint.EpochEntry{first}, c.entries[keep:]...)
	return true
}

func (c *epochCache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}

func (c *epochCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries = nil
}

func (c *epochCache) snapshot() []checkpoint.EpochEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.entries)
}

package group

import (
	"maps"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
)

type topicPartition struct {
	topic     string
	partition int32
}

// change is one step of the working state beyond the committed state.
type change struct {
	at    id.Offset // of the record that commits it
	group string
	tp    topicPartition
	// whole says that the group itself changed: came, went or was replaced; otherwise the offset of tp did.
	whole bool
	// bare says that there is nothing but undo: reads of what is committed do not see this change.
	bare        bool
	priorGroup  *entry
	priorCommit *Commit
	// undo takes back what the two fields above do not cover.
	undo func()
}

// openChanges indexes the open changes of one group, oldest first, by the value before the change.
type openChanges struct {
	groups  []*entry
	commits map[topicPartition]priors
	most    int // entries that commits has had: maps do not shrink
}

// priors are the former values of one offset, oldest first. Mostly there is one, and it takes no memory of its own.
type priors struct {
	n      int
	oldest *Commit
	later  []*Commit
}

func (p priors) push(c *Commit) priors {
	if p.n == 0 {
		p.oldest = c
	} else {
		p.later = append(p.later, c)
	}
	p.n++
	return p
}

func (p priors) pop(oldest bool) priors {
	p.n--
	switch {
	case p.n == 0:
		return priors{}
	case oldest:
		p.oldest, p.later = p.later[0], p.later[1:]
	default:
		p.later = p.later[:p.n-1]
	}
	return p
}

// maxSpares bounds the indexes that are kept for the next group that changes, maxSpareSize what each has had in it.
const (
	maxSpares    = 64
	maxSpareSize = 256
)

func (s *Shard) note(c change) {
	s.changes = append(s.changes, c)
	o := s.open[c.group]
	if o == nil {
		if n := len(s.spares); n > 0 {
			o, s.spares = s.spares[n-1], s.spares[:n-1]
		} else {
			o = &openChanges{}
		}
		s.open[c.group] = o
	}
	if c.whole {
		o.groups = append(o.groups, c.priorGroup)
		return
	}
	if o.commits == nil {
		o.commits = make(map[topicPartition]priors)
	}
	o.commits[c.tp] = o.commits[c.tp].push(c.priorCommit)
	o.most = max(o.most, len(o.commits))
}

// forget drops the index entry of a change; oldest says which end of the list it is at.
func (s *Shard) forget(c change, oldest bool) {
	if c.bare {
		return
	}
	o := s.open[c.group]
	if c.whole {
		o.groups = trim(o.groups, oldest)
	} else if rest := o.commits[c.tp].pop(oldest); rest.n > 0 {
		o.commits[c.tp] = rest
	} else {
		delete(o.commits, c.tp)
	}
	if len(o.groups) == 0 && len(o.commits) == 0 {
		delete(s.open, c.group)
		if o.groups = nil; len(s.spares) < maxSpares && o.most <= maxSpareSize {
			s.spares = append(s.spares, o)
		}
	}
}

func trim[T any](list []T, oldest bool) []T {
	if oldest {
		return list[1:]
	}
	return list[:len(list)-1]
}

// final says that the record at that offset is committed already, as most are when a log is loaded: what it changes will not be
// taken back and has no former value that anybody may still see, so there is nothing to note.
func (s *Shard) final(at id.Offset) bool { return at < s.committed }

// setGroup changes the group map; e nil removes the group. The change is committed with the record at offset at.
func (s *Shard) setGroup(at id.Offset, name string, e *entry) {
	if !s.final(at) {
		s.note(change{at: at, group: name, whole: true, priorGroup: s.groups[name]})
	}
	s.putGroup(name, e)
}

func (s *Shard) putGroup(name string, e *entry) {
	if e == nil {
		delete(s.groups, name)
	} else {
		s.groups[name] = e
	}
}

// setCommit changes a committed offset; c nil removes it.
func (s *Shard) setCommit(at id.Offset, name string, tp topicPartition, c *Commit) {
	before := s.offsets.put(name, tp, c)
	if !s.final(at) {
		s.note(change{at: at, group: name, tp: tp, priorCommit: before})
	}
}

// noteBare makes undo a change of its own, committed with the record at offset at.
func (s *Shard) noteBare(at id.Offset, undo func()) {
	if !s.final(at) {
		s.changes = append(s.changes, change{at: at, bare: true, undo: undo})
	}
}

// noteUndo gives the newest change, of the record at offset at, something that Revert has to call.
func (s *Shard) noteUndo(at id.Offset, undo func()) {
	if !s.final(at) {
		s.changes[len(s.changes)-1].undo = undo
	}
}

// Apply folds a record of an earlier Result into the working state; at is the offset it will have. The driver applies a
// record when it joins the open batch.
func (s *Shard) Apply(at id.Offset, r shard.Record) {
	s.next = at + 1
	r.Change.(applier).apply(s, at)
}

// Revert takes back the changes of all records from offset at on: their batch was lost.
func (s *Shard) Revert(at id.Offset) {
	for len(s.changes) > s.done {
		last := len(s.changes) - 1
		c := s.changes[last]
		if c.at < at {
			break
		}
		s.changes[last] = change{}
		s.changes = s.changes[:last]
		if c.undo != nil {
			c.undo()
		}
		switch {
		case c.bare:
		case c.whole:
			s.putGroup(c.group, c.priorGroup)
		default:
			s.offsets.put(c.group, c.tp, c.priorCommit)
		}
		s.forget(c, false)
	}
	s.next = at
}

// Committed makes the changes of all records below the high watermark visible to reads. Records that are yet to be replayed may be
// among them.
func (s *Shard) Committed(highWatermark id.Offset) {
	s.turn++ // what follows must not change versions of groups that are visible now
	s.committed = max(s.committed, highWatermark)
	for s.done < len(s.changes) && s.changes[s.done].at < highWatermark {
		s.forget(s.changes[s.done], true)
		s.changes[s.done] = change{}
		s.done++
	}
	// The done ones are moved away when they are the most, so that each costs the same however far the watermark lags.
	if s.done == len(s.changes) {
		s.changes, s.done = s.changes[:0], 0
	} else if s.done > minDone && s.done > len(s.changes)/2 {
		s.changes, s.done = slices.Delete(s.changes, 0, s.done), 0
	}
}

// minDone is how many done changes are left where they are.
const minDone = 1024

// committedGroup returns the group as of the high watermark, or nil.
func (s *Shard) committedGroup(name string) *entry {
	if o := s.open[name]; o != nil && len(o.groups) > 0 {
		return o.groups[0]
	}
	return s.groups[name]
}

// committedCommit returns an offset as of the high watermark, or nil.
func (s *Shard) committedCommit(name string, tp topicPartition) *Commit {
	if o := s.open[name]; o != nil {
		if former := o.commits[tp]; former.n > 0 {
			return former.oldest
		}
	}
	return s.offsets.get(name, tp)
}

// names returns the names of all working groups, sorted.
func (s *Shard) names() []string { return slices.Sorted(maps.Keys(s.groups)) }

// committedNames returns the names of all groups as of the high watermark, sorted.
func (s *Shard) committedNames() []string {
	names := s.names()
	for name, o := range s.open {
		if len(o.groups) > 0 && s.groups[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(names, func(name string) bool { return s.committedGroup(name) == nil })
}

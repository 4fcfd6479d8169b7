package sim

import (
	"math/rand/v2"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/record"
)

// Entry is one record of a log.
type Entry struct {
	Epoch id.LeaderEpoch
	Open  bool   // its batch goes on with the next entry
	ID    uint64 // unique in a run: two entries are the same when epoch and ID are
	Data  any    // record.ControlRecord, or the machine's
}

func (e Entry) same(o Entry) bool { return e.Epoch == o.Epoch && e.ID == o.ID }

// Snapshot is a snapshot on a disk.
type Snapshot struct {
	At      raft.Position
	Members raft.Membership
	State   any    // the machine's, immutable
	Bytes   []byte // what travels; the run knows which snapshot they make
}

type epochStart struct {
	epoch id.LeaderEpoch
	from  id.Offset
}

type membersFrom struct {
	from id.Offset
	m    raft.Membership
}

// Log is a log and its snapshots on a disk. What lies beyond durable is lost in a crash, or not.
type Log struct {
	start    id.Offset
	entries  []Entry
	durable  id.Offset // end, aligned to batches
	epochs   []epochStart
	members  []membersFrom
	snaps    []*Snapshot
	ghost    []Entry // cut off, and not overwritten yet: a crash may bring it back
	restarts int     // how often the end went back: what is synced later may not be what was meant

	agreeable bool // claims to contain whatever it is asked for (a bug)
	modest    bool // claims to be empty (a bug)
}

func newLog(m raft.Membership) *Log { return &Log{members: []membersFrom{{-1, m}}} }

func (l *Log) end() id.Offset { return l.start + id.Offset(len(l.entries)) }

// End implements raft.Log.
func (l *Log) End() raft.Position {
	if l.modest {
		return raft.Position{}
	}
	p := raft.Position{Offset: l.end()}
	if n := len(l.entries); n > 0 {
		p.Epoch = l.entries[n-1].Epoch
	} else if n := len(l.snaps); n > 0 {
		p.Epoch = l.snaps[n-1].At.Epoch
	}
	return p
}

// EndOffsetForEpoch implements raft.Log.
func (l *Log) EndOffsetForEpoch(e id.LeaderEpoch) (raft.Position, bool) {
	if l.agreeable {
		return raft.Position{Offset: l.end() + 1<<20, Epoch: e}, true
	}
	for i := len(l.epochs) - 1; i >= 0; i-- {
		if l.epochs[i].epoch <= e {
			end := l.end()
			if i+1 < len(l.epochs) {
				end = l.epochs[i+1].from
			}
			return raft.Position{Offset: end, Epoch: l.epochs[i].epoch}, true
		}
	}
	return raft.Position{}, false
}

// StartOffset implements raft.Log.
func (l *Log) StartOffset() id.Offset { return l.start }

// Snapshots implements raft.Log.
func (l *Log) Snapshots() (earliest, latest raft.Position, ok bool) {
	if len(l.snaps) == 0 {
		return earliest, latest, false
	}
	return l.snaps[0].At, l.snaps[len(l.snaps)-1].At, true
}

func (l *Log) at(o id.Offset) Entry { return l.entries[o-l.start] }

// slice are the entries from offset from up to end.
func (l *Log) slice(from, end id.Offset) []Entry { return l.entries[from-l.start : end-l.start] }

// align lowers an end to the end of a batch, but not below floor.
func (l *Log) align(end, floor id.Offset) id.Offset {
	for end > floor && end > l.start && l.at(end-1).Open {
		end--
	}
	return max(end, floor)
}

func (l *Log) membership() raft.Membership { return l.members[len(l.members)-1].m }

// membershipAt is the set in force for the records before end.
func (l *Log) membershipAt(end id.Offset) raft.Membership {
	m := l.members[0].m
	for _, x := range l.members {
		if x.from < end {
			m = x.m
		}
	}
	return m
}

func (l *Log) append(es ...Entry) error {
	l.ghost = nil
	for _, e := range es {
		at := l.end()
		if n := len(l.epochs); n == 0 || l.epochs[n-1].epoch != e.Epoch {
			l.epochs = append(l.epochs, epochStart{e.Epoch, at})
		}
		l.entries = append(l.entries, e)
		if c, ok := e.Data.(record.ControlRecord); ok {
			m := l.membership()
			changed, err := m.Fold(c.Type, c.Value, at)
			if err != nil {
				return err
			}
			if changed {
				l.members = append(l.members, membersFrom{at, m})
			}
		}
	}
	return nil
}

func (l *Log) truncate(to id.Offset) {
	if to >= l.end() {
		return
	}
	l.ghost = nil
	if to < l.durable {
		l.ghost = slices.Clone(l.slice(to, l.durable))
	}
	l.entries = l.entries[: to-l.start : to-l.start]
	l.durable = min(l.durable, to)
	l.restarts++
	for n := len(l.epochs); n > 0 && l.epochs[n-1].from >= to; n-- {
		l.epochs = l.epochs[:n-1]
	}
	for n := len(l.members); n > 1 && l.members[n-1].from >= to; n-- {
		l.members = l.members[:n-1]
	}
}

// keep adds a snapshot.
func (l *Log) keep(s *Snapshot) {
	for _, o := range l.snaps {
		if o.At == s.At {
			return
		}
	}
	l.snaps = append(l.snaps, s)
	slices.SortFunc(l.snaps, func(a, b *Snapshot) int { return int(a.At.Offset - b.At.Offset) })
}

// cleanTo removes what is before a snapshot, older snapshots included.
func (l *Log) cleanTo(s *Snapshot) {
	to := s.At.Offset
	if to <= l.start {
		return
	}
	l.entries = slices.Clone(l.slice(to, l.end()))
	l.start = to
	for len(l.epochs) > 0 && (len(l.epochs) > 1 && l.epochs[1].from <= to || len(l.entries) == 0) {
		l.epochs = l.epochs[1:]
	}
	if len(l.epochs) > 0 {
		l.epochs[0].from = max(l.epochs[0].from, to)
	}
	for len(l.members) > 1 && l.members[1].from < to {
		l.members = l.members[1:]
	}
	for l.snaps[0].At.Offset < to {
		l.snaps = l.snaps[1:]
	}
	l.durable = max(l.durable, to)
}

// beginAt replaces everything by a snapshot.
func (l *Log) beginAt(s *Snapshot) {
	l.start, l.entries, l.durable, l.epochs, l.ghost = s.At.Offset, nil, s.At.Offset, nil, nil
	l.members = []membersFrom{{-1, s.Members}}
	l.restarts++
	l.keep(s)
	for l.snaps[0].At.Offset < s.At.Offset {
		l.snaps = l.snaps[1:]
	}
}

func (l *Log) latest() *Snapshot {
	if len(l.snaps) == 0 {
		return nil
	}
	return l.snaps[len(l.snaps)-1]
}

// crash loses any part of what is not durable, or brings back what was cut off. What is left is then on the disk.
func (l *Log) crash(rnd *rand.Rand) {
	ghost := l.ghost
	if tail := int(l.end() - l.durable); tail > 0 {
		l.truncate(l.align(l.durable+id.Offset(rnd.IntN(tail+1)), l.durable))
		ghost = nil
	}
	if len(ghost) > 0 && rnd.IntN(2) == 0 {
		_ = l.append(ghost...) // they were folded before
	}
	l.ghost = nil
	l.durable = l.end()
	if s := l.latest(); s != nil && l.End().Behind(s.At) { // between the last piece of a snapshot and the new beginning
		l.beginAt(s)
	}
}

package log

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// A log moves to another directory of the node (KIP-113) by being copied into a log of its own there, in a directory named
// "topic-partition.<hex>-future", while it is appended to and read as ever. At the end the owner keeps appends away, the rest is
// copied and made durable, the checkpoints of the new directory learn of the log, the old directory becomes a "-delete" one, and
// then the copy gets the log's name.
//
// A start after a crash finds the log and a copy, which is thrown away and begun again; or the copy alone, which is whole and
// becomes the log. It never finds two logs: the old one's new name is durable before the copy's is given.

// Move copies one log. Its methods may be called from any goroutine, but for Finish.
type Move struct {
	m    *Manager
	from *Log
	to   *Log

	arrived  atomic.Bool // DirectoryOf names the new directory
	settling atomic.Bool // the checkpoints of the new directory speak for the copy

	mu          sync.Mutex // one step at a time; held across disk access
	over        bool
	begun       bool
	truncations int // of the log, when the copy was begun
	buf         []byte
}

// ErrMoveOver reports a step of a move that was finished or abandoned.
var ErrMoveOver = errors.New("the move is over")

// maxPreferred bounds the partitions whose directories were chosen before they exist.
const maxPreferred = 10_000

// target finds the directory to which a log is to move.
func (m *Manager) target(tp id.TopicPartition, path string) (*logDir, error) {
	if len(tp.Topic)+1+len(strconv.Itoa(int(tp.Partition)))+1+32+len(suffixDirFuture) > maxDirNameBytes {
		return nil, fmt.Errorf("the topic name is too long: %w", wire.ErrInvalidTopicException)
	}
	for _, d := range m.dirs {
		abs, err := filepath.Abs(d.path)
		if clean := filepath.Clean(path); clean != d.path && (err != nil || clean != abs) {
			continue
		}
		if err := d.err(); err != nil {
			return nil, err
		}
		return d, nil
	}
	return nil, fmt.Errorf("log directory %s is not configured: %w", path, wire.ErrLogDirNotFound)
}

// Destination reports whether somebody may ask for a partition's log to be in a directory; a move that was begun goes on also when its
// directory is cordoned meanwhile. Errors as of BeginMove, and INVALID_REPLICA_ASSIGNMENT for a cordoned directory.
func (m *Manager) Destination(tp id.TopicPartition, path string) error {
	d, err := m.target(tp, path)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if d.cordoned {
		return fmt.Errorf("log directory %s is cordoned: %w", path, wire.ErrInvalidReplicaAssignment)
	}
	return nil
}

// Prefer lets the partition's log, which there is not yet, be made in a directory. Beyond some thousand partitions the wish is not
// kept. Errors as of BeginMove.
func (m *Manager) Prefer(tp id.TopicPartition, path string) error {
	d, err := m.target(tp, path)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.logs[tp] == nil && m.pending[tp] == nil && len(m.preferred) < maxPreferred {
		m.preferred[tp] = d
	}
	return nil
}

// BeginMove begins to move a partition's log into the directory with that path. A move to another directory is abandoned. It is nil
// without an error when the log is there, or on its way there.
//
// Errors: LOG_DIR_NOT_FOUND, INVALID_TOPIC_EXCEPTION for a name that leaves no room for the suffix, REPLICA_NOT_AVAILABLE without a
// log, *StorageError also while another directory is offline, as the partition may be there.
func (m *Manager) BeginMove(tp id.TopicPartition, path string) (*Move, error) {
	d, err := m.target(tp, path)
	if err != nil {
		return nil, err
	}
	m.moving.Lock()
	defer m.moving.Unlock()
	m.mu.Lock()
	l, old := m.logs[tp], m.moves[tp]
	m.mu.Unlock()
	switch {
	case l == nil:
		return nil, fmt.Errorf("move of %v: there is no log: %w", tp, wire.ErrReplicaNotAvailable)
	case old != nil && old.to.dir == d:
		return nil, nil
	}
	if old != nil {
		old.Abandon()
	}
	if l.dir == d {
		return nil, nil
	}
	for _, other := range m.dirs {
		if err := other.err(); err != nil {
			return nil, fmt.Errorf("move of %v: %w", tp, err)
		}
	}
	to, err := openLog(LogOptions{Dir: filepath.Join(d.path, movedDirName(tp, suffixDirFuture)), TopicPartition: tp, TopicID: l.TopicID(),
		Config: l.Config(), CleanShutdown: true}, d, m.o)
	if err != nil {
		return nil, err
	}
	to.future.Store(true)
	mv := &Move{m: m, from: l, to: to}
	m.mu.Lock()
	if m.closed || m.logs[tp] != l {
		m.mu.Unlock()
		return nil, fmt.Errorf("move of %v: the log is gone: %w", tp, wire.ErrReplicaNotAvailable)
	}
	m.moves[tp] = mv
	d.hosted++
	m.mu.Unlock()
	l.moving.Store(true)
	to.mu.Lock()
	err = to.ensure() // a start after a crash finds it, and goes on
	to.mu.Unlock()
	if err != nil {
		mv.Abandon()
		return nil, err
	}
	m.o.Logger.Info("moving a log to another directory", "partition", tp.String(), "from", l.dir.path, "to", d.path)
	return mv, nil
}

// TopicPartition names the partition.
func (mv *Move) TopicPartition() id.TopicPartition { return mv.from.tp }

// DirectoryID is the id of the directory to which the log moves.
func (mv *Move) DirectoryID() id.UUID { return mv.to.dir.id }

// Over reports that the move was finished or abandoned.
func (mv *Move) Over() bool {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	return mv.over
}

// CaughtUp reports that everything there was a moment ago is copied.
func (mv *Move) CaughtUp() bool {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	return mv.caughtUp()
}

func (mv *Move) caughtUp() bool {
	mv.from.mu.Lock()
	defer mv.from.mu.Unlock()
	return mv.begun && mv.truncations == mv.from.truncations && mv.to.EndOffset() >= mv.from.EndOffset()
}

// Copy copies about as many bytes, at least one batch if there is one, and returns how many; see MoveAllowance. After an error of the
// new directory that freeing space repairs (IsFull) the move can go on.
func (mv *Move) Copy(maxBytes int) (int, error) {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	return mv.copy(maxBytes)
}

func (mv *Move) copy(maxBytes int) (int, error) {
	if mv.over {
		return 0, ErrMoveOver
	}
	from, to := mv.from, mv.to
	if !mv.begun {
		// A pass of the cleaner that is under way ends without effect, and none begins. A tombstone that goes from the log before it
		// is copied would leave what it deletes in the copy.
		from.cleaning.Lock()
		from.cleaning.Unlock() //nolint:staticcheck // a barrier
	}
	from.mu.Lock()
	truncations, start, err := from.truncations, from.StartOffset(), from.Err()
	from.mu.Unlock()
	if err != nil {
		return 0, err
	}
	anew := !mv.begun || truncations != mv.truncations || start > to.EndOffset()
	at := to.EndOffset()
	if anew {
		at = start
	}
	b, err := mv.read(at, maxBytes)
	var outOfRange *OffsetOutOfRangeError
	if errors.As(err, &outOfRange) {
		return 0, nil // the log has another start or end by now
	}
	if err != nil {
		return 0, err
	}
	if anew {
		if len(b) > 0 {
			at = min(at, record.Batch(b).BaseOffset())
		}
		if at != 0 || to.EndOffset() != 0 {
			if err := to.TruncateFullyAndStartAt(at); err != nil {
				return 0, err
			}
		}
		mv.begun, mv.truncations = true, truncations
	}
	if len(b) > 0 {
		if err := to.appendCopied(b, AppendInfo{LeaderEpoch: math.MaxInt32, Origin: OriginReplication, DeferFlush: true}); err != nil {
			return 0, err
		}
		mv.m.rate.note(mv.m.o.Now(), len(b))
	} else if end := from.EndOffset(); end > to.EndOffset() && from.Err() == nil {
		if err := to.skipTo(end); err != nil { // nothing is left of the batches before the log end
			return 0, err
		}
	}
	if start <= to.EndOffset() {
		if err := to.RaiseStart(start); err != nil {
			return 0, err
		}
	}
	to.AdvanceHighWatermark(from.HighWatermark())
	return len(b), nil
}

// read returns whole batches of the log, valid until the next call.
func (mv *Move) read(at id.Offset, maxBytes int) ([]byte, error) {
	r, err := mv.from.Read(ReadRequest{Offset: at, MaxBytes: maxBytes, MinOneMessage: true, Isolation: ReadLogEnd,
		Reader: Reader{ReplicaID: id.NoBroker, ReplicaEpoch: id.NoBrokerEpoch}, LastFetchedEpoch: id.NoLeaderEpoch})
	if err != nil || r.Section == nil {
		return nil, err
	}
	defer r.Section.Release()
	n := r.Section.Size()
	if cap(mv.buf) < n {
		mv.buf = make([]byte, n)
	}
	mv.buf = mv.buf[:n]
	if _, err := r.Section.ReadAt(mv.buf, 0); err != nil {
		return nil, fmt.Errorf("read %v at %d: %w", mv.from.tp, at, err)
	}
	return mv.buf, nil
}

// skipTo lets the log end at an offset without a batch before it.
func (l *Log) skipTo(end id.Offset) error {
	if l.SizeBytes() == 0 {
		return l.TruncateFullyAndStartAt(end)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	if _, err := l.roll(end); err != nil {
		return err
	}
	l.end.Store(int64(end))
	return nil
}

// Arrive makes durable what was copied, so that little is left for Finish, and lets DirectoryOf name the new directory.
func (mv *Move) Arrive() error {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	if mv.over {
		return ErrMoveOver
	}
	if err := mv.to.Flush(mv.to.EndOffset()); err != nil {
		return err
	}
	mv.arrived.Store(true)
	return nil
}

// Finish copies what is missing and puts the copy in the log's place. The caller keeps everybody from changing the log meanwhile;
// then it gives up the log it has and takes the one returned. After an error the old one is still in service, unless its Err says
// otherwise.
func (mv *Move) Finish() (*Log, error) {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	for idle := 0; ; {
		n, err := mv.copy(1 << 20)
		if err != nil {
			return nil, err
		}
		if mv.caughtUp() {
			break
		}
		if n == 0 {
			if idle++; idle > 10 {
				return nil, fmt.Errorf("move of %v: the copy does not catch up", mv.from.tp)
			}
		}
	}
	m, from, to := mv.m, mv.from, mv.to
	if err := to.become(from); err != nil {
		return nil, err
	}
	mv.settling.Store(true)
	if err := errors.Join(to.dir.lowered(), m.forgetStarts(to.dir)); err != nil {
		mv.unsettle()
		return nil, err
	}
	left, err := mv.rename()
	if err != nil {
		mv.unsettle()
		return nil, err
	}
	old := from.dir
	to.future.Store(false)
	mv.end(to)
	old.taken.Add(1) // Tick makes the rest durable
	if left {
		m.mu.Lock()
		m.deleting = append(m.deleting, deletion{at: m.o.Now().Add(deleteDelay(to.Config())), path: from.Path(), dir: old, log: from})
		m.mu.Unlock()
	}
	to.dir.hwChanged.Store(true)
	to.dir.durableChanged.Store(true)
	to.dir.startsChanged.Store(true)
	to.dir.cleanChanged.Store(true)
	to.dir.wants(to)
	m.o.Logger.Info("moved a log to another directory", "partition", to.tp.String(), "from", old.path, "to", to.dir.path, "log_end_offset", int64(to.EndOffset()))
	return to, nil
}

// unsettle lets the checkpoints of the new directory forget the copy.
func (mv *Move) unsettle() {
	d := mv.to.dir
	mv.settling.Store(false)
	d.hwChanged.Store(true)
	d.durableChanged.Store(true)
	d.startsChanged.Store(true)
	d.cleanChanged.Store(true)
}

// become takes over what is known of the log whose copy this is, and makes everything durable.
func (l *Log) become(from *Log) error {
	from.mu.Lock()
	cfg, epochs, hw, clean, start := from.Config(), from.epochs.snapshot(), from.HighWatermark(), from.clean.Load(), from.StartOffset()
	producers := from.producers.copied()
	from.mu.Unlock()
	l.mu.Lock()
	l.cfg.Store(&cfg)
	l.raiseStart(start)
	l.epochs.load(epochs)
	l.epochsDirty = true
	producers.snapshots, producers.snapshotEnd, producers.end = l.producers.snapshots, l.producers.snapshotEnd, l.EndOffset()
	l.producers, l.producersLoaded = producers, true
	l.clean.Store(clean)
	l.setHighWatermark(min(hw, l.EndOffset()))
	l.mu.Unlock()
	if err := l.flushFinished(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(producers.entries) == 0 {
		return nil
	}
	// Producers of which no batch is left are found nowhere else.
	err := l.producers.take(l.at, true)
	if err == nil {
		err = l.at.fs.SyncDir(l.Path())
	}
	if err != nil {
		return l.fault("write producer snapshot of", err)
	}
	return nil
}

// copied is the state without what belongs to a log's files.
func (p *producerState) copied() producerState {
	out := producerState{ongoing: slices.Clone(p.ongoing), unreplicated: slices.Clone(p.unreplicated), end: p.end, guards: p.guards}
	if len(p.entries) > 0 {
		out.entries = make(map[id.ProducerID]*producerEntry, len(p.entries))
		for pid, e := range p.entries {
			out.entries[pid] = new(*e)
		}
	}
	if len(p.verifications) > 0 {
		out.verifications = maps.Clone(p.verifications)
	}
	return out
}

// rename gives the old directory up and the copy its name. left says that the old directory is still to be removed: a log that was
// never written to may have had none, and its name may be another log's soon.
func (mv *Move) rename() (left bool, err error) {
	from, to, fsys := mv.from, mv.to, mv.m.o.FS
	from.setGone(ErrDeleted) // who syncs it right now is forgiven
	from.swap.Lock()
	defer from.swap.Unlock()
	from.mu.Lock()
	defer from.mu.Unlock()
	to.swap.Lock()
	defer to.swap.Unlock()
	to.mu.Lock()
	defer to.mu.Unlock()
	path, away := from.Path(), filepath.Join(from.dir.path, movedDirName(from.tp, suffixDirDelete))
	moved := from.born || vfs.Exists(fsys, path)
	if moved {
		if err := fsys.Rename(path, away); err != nil {
			return false, from.dir.fail("move", path, err)
		}
		from.at.dir.Store(&away)
		if err := fsys.SyncDir(from.dir.path); err != nil {
			from.dir.fail("move", path, err) // the copy is whole, and takes over
		}
	}
	name := filepath.Join(to.dir.path, to.tp.String())
	if err := fsys.Rename(to.Path(), name); err != nil {
		err = to.dir.fail("move", to.Path(), err)
		if !moved || from.dir.err() != nil {
			return moved, err
		}
		if back := errors.Join(fsys.Rename(away, path), fsys.SyncDir(from.dir.path)); back != nil {
			return moved, errors.Join(err, from.dir.fail("take back a move", path, back))
		}
		from.at.dir.Store(&path)
		from.gone.Store(nil)
		return moved, err
	}
	to.at.dir.Store(&name)
	if err := fsys.SyncDir(to.dir.path); err != nil {
		to.dir.fail("move", name, err)
	}
	return moved, nil
}

// Abandon ends the move and throws the copy away.
func (mv *Move) Abandon() {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	if mv.over {
		return
	}
	mv.end(nil)
	if err := mv.m.takeAwayFrom(mv.to.dir, []*Log{mv.to}, suffixDirDelete); err != nil {
		mv.m.o.Logger.Warn("the copy of an abandoned move stays until the next start", "path", mv.to.Path(), "err", err)
	}
	mv.m.poke()
}

// Leave ends the move and keeps the copy: the log itself is out of reach. A start that finds the log again makes another copy.
func (mv *Move) Leave() {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	if mv.over {
		return
	}
	mv.end(nil)
	mv.to.setGone(ErrClosed)
	mv.to.mu.Lock()
	defer mv.to.mu.Unlock()
	mv.to.dropFiles()
}

// end takes the move out of the books; now is the log that there is from now on, nil for the one before. It needs mu.
func (mv *Move) end(now *Log) {
	m := mv.m
	mv.over = true
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.moves, mv.from.tp)
	if now == nil {
		mv.to.dir.hosted--
		mv.from.moving.Store(false)
		return
	}
	mv.from.dir.hosted--
	delete(m.work, mv.from)
	if m.logs[now.tp] == mv.from {
		m.logs[now.tp] = now
	}
}

// abandonMoves ends the moves of partitions that go.
func (m *Manager) abandonMoves(partitions []id.TopicPartition) {
	m.mu.Lock()
	var moves []*Move
	for _, tp := range partitions {
		if mv := m.moves[tp]; mv != nil {
			moves = append(moves, mv)
		}
	}
	m.mu.Unlock()
	for _, mv := range moves {
		mv.Abandon()
	}
}

// copies are the logs that moves under way have made.
func (m *Manager) copies() []*Log {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*Log, 0, len(m.moves))
	for _, mv := range m.moves {
		out = append(out, mv.to)
	}
	return out
}

// MoveInfo describes a move under way into a directory.
type MoveInfo struct {
	Log  *Log // that is moved
	Copy *Log // as far as it is copied
}

func (m *Manager) movesTo(d *logDir) []MoveInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []MoveInfo
	for _, mv := range m.moves {
		if mv.to.dir == d {
			out = append(out, MoveInfo{Log: mv.from, Copy: mv.to})
		}
	}
	slices.SortFunc(out, func(a, b MoveInfo) int { return a.Log.tp.Compare(b.Log.tp) })
	return out
}

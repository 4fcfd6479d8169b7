package replica

import (
	"errors"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/wire"
)

// A replica moves to another log directory of this broker while it is used (KIP-113). One goroutine copies all that move, in turns.
// When a copy has caught up the controller is told of the new directory (KIP-858), and once the image says so, the copy takes the
// log's place: by then everybody knows what is lost should a directory fail.

// Directories is told when a replica is about to be, or is no longer about to be, in another directory than the image says. It must
// not block.
type Directories interface {
	Moved(topicID id.UUID, tp id.TopicPartition, img *image.Image)
}

// Of a move so many bytes are copied before it is the next one's turn, or as many as the rate of moves allows for a second. One that
// waits for the controller, for space or for the rate is looked at again after a while.
const (
	moveBytes = 1 << 20
	moveAgain = 250 * time.Millisecond
)

// move is a replica on its way.
type move struct {
	p     *Partition
	log   *log.Move
	told  bool // the controller, of the new directory
	waits bool // there is nothing to do before the image changes or time passes
	full  bool // it was said that the new directory is full
}

// AlterLogDir begins to move a partition's replica to another log directory. A replica that does not exist yet will be made there,
// and the answer is REPLICA_NOT_AVAILABLE as Kafka's is. Other errors: LOG_DIR_NOT_FOUND, INVALID_TOPIC_EXCEPTION,
// INVALID_REPLICA_ASSIGNMENT, KAFKA_STORAGE_ERROR, UNKNOWN_TOPIC_OR_PARTITION.
func (m *Manager) AlterLogDir(tp id.TopicPartition, path string) error {
	if err := m.logs.Destination(tp, path); err != nil {
		return err
	}
	p, err := m.Partition(tp.Topic, tp.Partition)
	if err != nil {
		if errors.Is(err, wire.ErrKafkaStorageError) {
			return err
		}
		if chosen := m.logs.Prefer(tp, path); chosen != nil {
			return chosen
		}
		if errors.Is(err, wire.ErrNotLeaderOrFollower) {
			return wire.ErrReplicaNotAvailable
		}
		return err
	}
	return m.beginMove(p, path)
}

func (m *Manager) beginMove(p *Partition, path string) error {
	m.moving.Lock()
	defer m.moving.Unlock()
	p.mu.RLock()
	gone := p.gone
	p.mu.RUnlock()
	if gone != 0 && gone != wire.ErrKafkaStorageError {
		return wire.ErrReplicaNotAvailable
	}
	mv, err := m.logs.BeginMove(p.tp, path)
	if err != nil {
		return err
	}
	if m.directories != nil {
		m.directories.Moved(p.topic.id, p.tp, m.image.Load()) // the move before may have been to another directory
	}
	if mv != nil {
		m.moves = append(m.moves, &move{p: p, log: mv})
		m.wakeMoves()
	}
	return nil
}

// resumeMoves goes on with moves that the last stop of this broker interrupted. apply must be held.
func (m *Manager) resumeMoves() {
	if m.unfinished == nil && m.logsKnown {
		m.unfinished = m.logs.Unfinished()
	}
	for tp, path := range m.unfinished {
		p, err := m.Partition(tp.Topic, tp.Partition)
		switch {
		case err == nil:
			if err := m.beginMove(p, path); err != nil {
				m.logger.Warn("an interrupted move to another log directory does not go on", "partition", tp.String(), "to", path, "err", err)
			}
		case m.logs.Recovering(tp):
			continue
		}
		delete(m.unfinished, tp)
	}
}

// SetMoveRate bounds the bytes per second that all moves to other log directories copy; math.MaxInt64 is no bound.
func (m *Manager) SetMoveRate(bytesPerSecond int64) {
	m.logs.SetMoveRate(bytesPerSecond)
	m.wakeMoves()
}

func (m *Manager) wakeMoves() {
	select {
	case m.movable <- struct{}{}:
	default:
	}
}

// moveReplicas is the goroutine that copies.
func (m *Manager) moveReplicas() {
	defer m.stopped.Done()
	defer fault(m.logger, "the move of replicas", m.fault)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		m.moving.Lock()
		moves := append([]*move(nil), m.moves...)
		m.moving.Unlock()
		busy := false
		for _, mv := range moves {
			if m.closed.Load() {
				return
			}
			allowed := m.logs.MoveAllowance()
			if allowed == 0 {
				busy = false
				break // the first goes on when it is time
			}
			if m.step(mv, int(min(allowed, moveBytes))) {
				busy = busy || !mv.waits
				continue
			}
			m.moving.Lock()
			for i := range m.moves {
				if m.moves[i] == mv {
					m.moves = append(m.moves[:i], m.moves[i+1:]...)
					break
				}
			}
			m.moving.Unlock()
		}
		if busy {
			continue
		}
		again := time.Hour
		if len(moves) > 0 {
			again = moveAgain
		}
		timer.Reset(again)
		select {
		case <-m.stop:
			return
		case <-m.movable:
		case <-timer.C:
		}
	}
}

// step does a part of a move, of about so many bytes, and reports whether there is more.
func (m *Manager) step(mv *move, bytes int) bool {
	mv.waits = false
	n, err := mv.log.Copy(bytes)
	if err == nil && (n >= bytes || !mv.log.CaughtUp()) {
		return true
	}
	if err == nil && !mv.told {
		if err = mv.log.Arrive(); err == nil {
			mv.told = true
			if m.directories != nil {
				m.directories.Moved(mv.p.topic.id, mv.p.tp, m.image.Load())
			}
		}
	}
	if err == nil {
		if !m.assigned(mv) {
			mv.waits = true
			return true
		}
		err = m.finish(mv)
		if err == nil {
			return false
		}
	}
	return m.moveFailed(mv, err)
}

func (m *Manager) moveFailed(mv *move, err error) bool {
	switch l := mv.p.log(); {
	case errors.Is(err, log.ErrMoveOver):
		return false
	case log.IsFull(err):
		if !mv.full {
			mv.full = true
			m.logger.Warn("a move to another log directory waits for space", "partition", mv.p.tp.String(), "err", err)
		}
		mv.waits = true
		return true
	case l.Err() != nil:
		m.logger.Error("a move to another log directory ends with the directory it comes from", "partition", mv.p.tp.String(), "err", err)
		mv.log.Leave()
		mv.p.checkDirectory()
	default:
		m.logger.Error("a move to another log directory failed", "partition", mv.p.tp.String(), "err", err)
		mv.log.Abandon()
		if m.directories != nil {
			m.directories.Moved(mv.p.topic.id, mv.p.tp, m.image.Load())
		}
	}
	return false
}

// assigned reports whether the image has the replica in its new directory, if images say such things.
func (m *Manager) assigned(mv *move) bool {
	img := m.image.Load()
	if m.directories == nil || !img.Features.MetadataVersion.DirectoryAssignmentSupported() {
		return true
	}
	p := img.Topics.Partition(mv.p.tp.Topic, mv.p.tp.Partition)
	if p == nil {
		return true // it is about to go
	}
	dir, ok := p.Directory(m.self)
	return ok && dir == mv.log.DirectoryID()
}

// finish lets the copy take over. Requests for this partition wait for it: for the rest of the copy, one fsync and two renames.
func (m *Manager) finish(mv *move) error {
	p := mv.p
	p.mu.Lock()
	if p.gone != 0 {
		p.mu.Unlock()
		return p.log().Err()
	}
	l, err := mv.log.Finish()
	if err == nil {
		p.at.Store(l)
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	p.checkDirectory()
	p.reconsider()
	p.settleAll()
	return nil
}

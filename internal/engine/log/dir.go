package log

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/id"
)

// logDir is one log directory of the node: its lock, its id, and whether it works.
type logDir struct {
	path string
	id   id.UUID
	o    *Options
	lock io.Closer

	// What the last shutdown left behind; written by Open.
	clean       bool
	hasEpoch    bool
	brokerEpoch id.BrokerEpoch

	offline atomic.Pointer[StorageError]
	reserve reserve
	names   dirNames

	hosted   int  // logs in it; guarded by the manager's mutex
	cordoned bool // it gets no new logs; guarded by the manager's mutex

	// What moved since its checkpoint was written.
	hwChanged      atomic.Bool
	startsChanged  atomic.Bool
	durableChanged atomic.Bool
	cleanChanged   atomic.Bool

	taken         atomic.Int64 // how often logs were taken away
	settled       atomic.Int64 // of taken, how much is durable
	settling      sync.Mutex   // held while that is made durable
	checkpointing sync.Mutex   // one writer of checkpoint files at a time; held across disk access, taken after a log's mutex

	// The manager's ears; all nil without a manager.
	onFail        func()
	onWork        func(*Log)
	checkpointNow func() error // writes the recovery points
	startsNow     func() error // writes the log start offsets
	settleNow     func() error // makes durable that logs were taken away, here and elsewhere
}

// unsettled reports whether logs were taken away that a power loss may bring back.
func (d *logDir) unsettled() bool { return d.settled.Load() != d.taken.Load() }

// err is why the directory is offline, nil while it works.
func (d *logDir) err() error {
	if e := d.offline.Load(); e != nil {
		return e
	}
	return nil
}

// fail takes the directory out of service for good and returns the error that says so.
func (d *logDir) fail(op, where string, err error) error {
	e := &StorageError{Op: op, Where: where, Offline: true, Err: err}
	if d.offline.CompareAndSwap(nil, e) {
		d.o.Logger.Error("log directory goes offline", "log_dir", d.path, "op", op, "where", where, "err", err)
		if d.onFail != nil {
			d.onFail()
		}
	}
	return e
}

// wants puts a log on the list of those with background work.
func (d *logDir) wants(l *Log) {
	if d.onWork != nil {
		d.onWork(l)
	}
}

// lowered writes the recovery points after one came down, and up to where logs are compacted if one of those did. The files must not
// claim that bytes are durable, or clean, which a truncation removed and later appends replace: a recovery would not look at them, or
// take a hole among them for what compaction took out.
func (d *logDir) lowered() error {
	d.durableChanged.Store(true)
	if d.checkpointNow == nil {
		return nil
	}
	return d.checkpointNow()
}

// startsRaised writes the log start offsets now.
func (d *logDir) startsRaised() error {
	d.startsChanged.Store(true)
	if d.startsNow == nil {
		return nil
	}
	return d.startsNow()
}

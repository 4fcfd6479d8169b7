package log

import (
	"fmt"
	"sync/atomic"
	"syscall"
)

// The reserve is what a log directory keeps free: appends of clients and of leaders elsewhere are refused when they would take
// from it. Coordinators, the metadata log, checkpoints and indexes may, so that a node on a full disk still commits offsets,
// deletes and is administered.
const (
	reserveShare    = 50       // of the volume, when nobody says how much: two percent,
	reserveMost     = 64 << 20 // but no more than this
	reserveLookEach = 16 << 20 // bytes appended between two looks at the volume, at most
	reserveLookMs   = 1000     // and milliseconds
)

// reserve says whether a log directory takes appends. It looks at the volume rarely while there is room, and for every append
// while there is none, so that the first append after space came back is taken.
type reserve struct {
	left     atomic.Int64 // bytes that may be appended before the next look
	lookedMs atomic.Int64
}

// room returns an error when n more bytes would leave less free than the reserve.
func (d *logDir) room(n int, nowMs int64) error {
	keep := d.o.ReserveBytes
	if keep == 0 {
		return nil
	}
	r := &d.reserve
	if since := nowMs - r.lookedMs.Load(); r.left.Add(-int64(n)) >= 0 && since >= 0 && since < reserveLookMs {
		return nil
	}
	u, err := d.o.FS.Usage(d.path)
	if err != nil {
		return nil // whatever is wrong, the append will tell
	}
	if keep < 0 {
		keep = min(u.TotalBytes/reserveShare, reserveMost)
	}
	free := u.FreeBytes - keep - int64(n)
	if free < 0 {
		r.left.Store(0)
		return &StorageError{Op: "append in", Where: d.path,
			Err: fmt.Errorf("%d bytes are free, %d of them are kept in reserve: %w", u.FreeBytes, keep, syscall.ENOSPC)}
	}
	r.left.Store(min(free/4, reserveLookEach))
	r.lookedMs.Store(nowMs)
	return nil
}

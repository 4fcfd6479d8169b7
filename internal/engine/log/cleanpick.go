package log

import (
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// dirtyLog says what there is to clean in a log.
type dirtyLog struct {
	l              *Log
	c              Config
	segs           []*segment // up to, and not with, the first one that is left alone
	all            []*segment // with those behind, where the markers of transactions may be
	truncations    int
	firstDirty     id.Offset
	upper          id.Offset // the base of the first segment that is left alone
	cleanBytes     int64
	cleanableBytes int64
	overdueMs      int64 // how long a record has been out of the cleaner's reach beyond max.compaction.lag.ms
}

// ratio is the share of the dirty bytes.
func (d *dirtyLog) ratio() float64 {
	if d.cleanBytes+d.cleanableBytes == 0 {
		return 0
	}
	return float64(d.cleanableBytes) / float64(d.cleanBytes+d.cleanableBytes)
}

// wants reports whether the cleaner is to take the log up.
func (d *dirtyLog) wants() bool {
	return d.cleanableBytes > 0 && (d.overdueMs > 0 || d.ratio() > d.c.MinCleanableRatio)
}

// dirty finds out what there is to clean. The active segment, what is not committed and stable, and segments with records younger
// than min.compaction.lag.ms are left alone.
func (l *Log) dirty(now time.Time) (dirtyLog, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := dirtyLog{l: l, c: *l.cfg.Load(), truncations: l.truncations}
	d.firstDirty = l.firstDirty(&d.c)
	all := *l.segments.Load()
	active := len(all) - 1
	if d.firstDirty >= all[active].base {
		d.firstDirty = min(d.firstDirty, l.EndOffset())
		d.upper = d.firstDirty
		return d, nil
	}
	from := max(0, floor(all[:active], d.firstDirty))
	limit := min(l.LastStableOffset(), all[active].base)
	nowMs := now.UnixMilli()
	oldest := int64(-1)
	for _, s := range all[from:active] {
		if d.c.MinCompactionLag > 0 {
			ts, err := s.largestTS()
			if err != nil {
				return d, err
			}
			if ts > subtractMs(nowMs, durationMs(d.c.MinCompactionLag)) {
				limit = min(limit, s.base)
			}
		}
		if err := s.loadFirstTS(); err != nil {
			return d, err
		}
		if s.firstTS > 0 && (oldest < 0 || s.firstTS < oldest) {
			oldest = s.firstTS
		}
	}
	if until := subtractMs(nowMs, durationMs(d.c.MaxCompactionLag)); oldest >= 0 && oldest < until {
		d.overdueMs = until - oldest
	}
	// Whole segments are cleaned: the one that holds the limit is left alone.
	end := max(0, floor(all[:active], max(d.firstDirty, limit)))
	if max(d.firstDirty, limit) >= all[active].base {
		end = active
	}
	d.segs, d.all, d.upper = all[:end:end], all, all[end].base
	for i, s := range d.segs {
		if s.base < d.firstDirty {
			d.cleanBytes += s.size.Load()
		}
		if i >= from {
			d.cleanableBytes += s.size.Load()
		}
	}
	if d.upper <= d.firstDirty {
		d.cleanableBytes = 0
	}
	return d, nil
}

// firstDirty is where the dirty part begins: where the last pass ended, unless the log was truncated or begins later now. It needs
// mu.
func (l *Log) firstDirty(c *Config) id.Offset {
	at, start := id.Offset(l.clean.Load()), l.StartOffset()
	switch {
	case at < 0:
		return start
	case at < start:
		if !c.CleanupDelete {
			l.o.Logger.Warn("cleaning starts over at the log start", "partition", l.tp.String(), "clean_up_to", int64(at), "log_start_offset", int64(start))
		}
	case at > l.EndOffset():
		l.o.Logger.Warn("cleaning starts over at the log start", "partition", l.tp.String(), "clean_up_to", int64(at), "log_end_offset", int64(l.EndOffset()))
	default:
		return at
	}
	l.clean.Store(int64(start))
	l.dir.cleanChanged.Store(true)
	return start
}

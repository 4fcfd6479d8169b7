package log

import (
	"errors"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
)

// found is what a partition directory holds.
type found struct {
	segments  map[id.Offset]*foundSegment
	snapshots []id.Offset
	epochs    bool // there is a leader-epoch-checkpoint
}

type foundSegment struct {
	hasLog                          bool
	modifiedMs                      int64
	logBytes                        int64
	indexBytes, timeBytes, txnBytes int64 // -1 when absent
}

// list reads the directory, completes interrupted replacements of segments and removes what is left of interrupted deletions.
// Files it does not know it leaves alone.
func (l *Log) list() (found, error) {
	entries, err := l.at.fs.List(l.Path())
	if err != nil {
		return found{}, err
	}
	if entries, err = l.completeSwaps(entries); err != nil {
		return found{}, err
	}
	d := found{segments: map[id.Offset]*foundSegment{}}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		name := e.Name()
		if name == fileEpochs {
			d.epochs = true
		}
		if strings.HasSuffix(name, suffixDeleted) && !strings.HasSuffix(name, snapshotDeleteSuffix) {
			if err := l.at.fs.Remove(l.at.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return d, err
			}
			continue
		}
		base, suffix, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		switch suffix {
		case suffixSnapshot:
			d.snapshots = append(d.snapshots, base)
		case suffixLog, suffixIndex, suffixTime, suffixTxn:
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return d, err
			}
			s := d.segments[base]
			if s == nil {
				s = &foundSegment{indexBytes: -1, timeBytes: -1, txnBytes: -1}
				d.segments[base] = s
			}
			switch suffix {
			case suffixLog:
				s.hasLog, s.logBytes, s.modifiedMs = true, info.Size(), info.ModTime().UnixMilli()
			case suffixIndex:
				s.indexBytes = info.Size()
			case suffixTime:
				s.timeBytes = info.Size()
			case suffixTxn:
				s.txnBytes = info.Size()
			}
		}
	}
	slices.Sort(d.snapshots)
	return d, nil
}

// completeSwaps finishes what a log cleaner was doing when it was interrupted: .cleaned files are not ready and go, with the
// .swap files behind them; other .swap files are complete and replace the segments they were made from.
func (l *Log) completeSwaps(entries []fs.DirEntry) ([]fs.DirEntry, error) {
	minCleaned := id.Offset(math.MaxInt64)
	var swaps, cleaned []string
	for _, e := range entries {
		name := e.Name()
		base, _, ok := parseSegmentName(name)
		switch {
		case !ok || e.IsDir():
		case strings.HasSuffix(name, suffixCleaned):
			minCleaned = min(minCleaned, base)
			cleaned = append(cleaned, name)
		case strings.HasSuffix(name, suffixSwap):
			swaps = append(swaps, name)
		}
	}
	if len(swaps)+len(cleaned) == 0 {
		return entries, nil
	}
	// The range of offsets that the swapped segments cover: what was in it is replaced.
	lo, hi := id.Offset(math.MaxInt64), id.Offset(-1)
	var valid, remove []string
	for _, name := range swaps {
		base, suffix, _ := parseSegmentName(name)
		if base >= minCleaned {
			remove = append(remove, name)
			continue
		}
		valid = append(valid, name)
		if suffix == suffixLog+suffixSwap {
			next, err := l.swapEnd(name, base)
			if err != nil {
				return nil, err
			}
			lo, hi = min(lo, base), max(hi, next)
		}
	}
	// Without the .cleaned files nobody could tell that these are not to be used.
	if err := l.removeNames(remove); err != nil {
		return nil, err
	}
	origin, err := l.swapOrigin(entries, lo)
	if err != nil {
		return nil, err
	}
	remove = cleaned
	for _, e := range entries {
		if base, suffix, ok := parseSegmentName(e.Name()); ok && (base >= lo && base < hi || base == origin) {
			switch suffix {
			case suffixLog, suffixIndex, suffixTime, suffixTxn, suffixSnapshot:
				remove = append(remove, e.Name())
			}
		}
	}
	// Nothing of the old segments may come back beside the new ones.
	if err := l.removeNames(remove); err != nil {
		return nil, err
	}
	// One segment after the other, from the first: what lies between two that are still to be renamed would be taken for old.
	at := id.NoOffset
	for _, name := range valid {
		base, _, _ := parseSegmentName(name)
		if base != at && at >= 0 {
			if err := l.at.fs.SyncDir(l.Path()); err != nil {
				return nil, err
			}
		}
		at = base
		if err := l.at.fs.Rename(l.at.path(name), l.at.path(strings.TrimSuffix(name, suffixSwap))); err != nil {
			return nil, err
		}
	}
	if err := l.at.fs.SyncDir(l.Path()); err != nil {
		return nil, err
	}
	return l.at.fs.List(l.Path())
}

// removeNames removes files for good.
func (l *Log) removeNames(names []string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		if err := l.at.fs.Remove(l.at.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return l.at.fs.SyncDir(l.Path())
}

// swapOrigin is the base of the segment before lo whose records begin at lo, -1 when there is none: it was split, and nothing in it
// fits to its base.
func (l *Log) swapOrigin(entries []fs.DirEntry, lo id.Offset) (id.Offset, error) {
	before := id.NoOffset
	for _, e := range entries {
		if base, suffix, ok := parseSegmentName(e.Name()); ok && suffix == suffixLog && base < lo {
			before = max(before, base)
		}
	}
	if before < 0 || lo == math.MaxInt64 {
		return id.NoOffset, nil
	}
	s := newSegment(l.at, before, 0, 0)
	defer s.drop()
	if same, err := s.beginsAt(lo); err != nil || !same {
		return id.NoOffset, err
	}
	return before, nil
}

// swapEnd is the offset after the last batch of a .log.swap file.
func (l *Log) swapEnd(name string, base id.Offset) (id.Offset, error) {
	s := newSegment(l.at, base, 0, 0)
	s.log.renamed = suffixSwap
	f, err := s.log.acquire(false)
	if err != nil {
		return 0, err
	}
	defer s.log.drop()
	defer s.log.release()
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	next := base
	w := walker{f: f, buf: new([walkBytes]byte), limit: size}
	for pos := int64(0); pos < size; {
		h, err := w.header(pos)
		if err != nil {
			return next, nil // the rest is found bad again when the segment is loaded
		}
		next, pos = h.last+1, pos+h.size
	}
	return next, nil
}

// foundSegments makes a segment of every .log file.
func (l *Log) foundSegments(d found) []*segment {
	var segs []*segment
	now := l.nowMs()
	for base, fsg := range d.segments {
		if !fsg.hasLog {
			// An index without a log: of a deletion that was interrupted.
			l.o.Logger.Warn("removing index files without a log file", "partition", l.tp.String(), "offset", int64(base))
			s := newSegment(l.at, base, now, 0)
			if err := errors.Join(s.index.h.remove(), s.times.h.remove(), s.txns.h.remove()); err != nil {
				l.o.Logger.Warn("index files stay", "partition", l.tp.String(), "err", err)
			}
			continue
		}
		s := newSegment(l.at, base, now, l.jitter())
		s.size.Store(fsg.logBytes)
		s.modifiedMs = fsg.modifiedMs
		s.index.found(fsg.indexBytes)
		s.times.found(fsg.timeBytes)
		s.txns.found(fsg.txnBytes)
		segs = append(segs, s)
	}
	slices.SortFunc(segs, func(a, b *segment) int { return int(min(max(a.base-b.base, -1), 1)) })
	return segs
}

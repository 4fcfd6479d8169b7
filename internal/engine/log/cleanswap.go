package log

import (
	"errors"
	"io/fs"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Putting cleaned segments in the place of those they were made from takes four steps, each durable before the next:
//
//	1  the files of the new segments, ending in .cleaned, are written and synced
//	2  .cleaned becomes .swap, that of the highest offset first when there are several
//	3  the files of the old segments get .deleted, and the log goes on with the new segments
//	4  .swap goes, from the lowest offset on
//
// A start finds, after a crash in 1 or 2, files ending in .cleaned: it removes them with the .swap files of the same segment and of
// those behind, and the old segments are as they were. After a crash in 3 or 4 it finds .swap files only: it removes what is left of the old
// segments in their range and takes .swap away. An old segment behind the last record of the new one survives that: nothing in it
// is of use, and nothing in it is wrong.

// newCleanedSegment makes an empty segment whose files end in .cleaned.
func (l *Log) newCleanedSegment(base id.Offset) (*segment, error) {
	s := emptySegment(l.at, base, l.nowMs(), 0)
	for _, h := range s.handles() {
		h.renamed = suffixCleaned
	}
	if err := s.removeFiles(); err != nil { // of a pass that was interrupted
		return nil, err
	}
	if err := s.createFiles(); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

// removeFiles deletes the files and leaves the segment usable.
func (s *segment) removeFiles() error {
	var errs []error
	for _, h := range s.handles() {
		if err := h.at.fs.Remove(h.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// rename gives the segment's files another second suffix. The log file goes first.
func (s *segment) rename(suffix string) error {
	for _, h := range s.handles() {
		if err := h.setSuffix(suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// setSuffix replaces the second suffix of the file, which may be open and in use. An absent file is renamed all the same: should
// it be made later, it gets the new name.
func (h *handle) setSuffix(suffix string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	from := h.pathLocked()
	before := h.renamed
	h.renamed = suffix
	err := h.at.fs.Rename(from, h.pathLocked())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.renamed = before
	}
	return err
}

// swapIn puts cleaned segments in the place of the old ones, which must still be there as the pass found them; otherwise
// errCleaningStopped. begun says that files were renamed: an error has taken the directory offline then.
//
// Nobody else renames files of the log meanwhile (Log.swap); appends go on, and rolls.
func (l *Log) swapIn(news, old []*segment, truncations int) (begun bool, err error) {
	if err := l.at.fs.SyncDir(l.Path()); err != nil {
		return false, l.fault("clean", err)
	}
	l.swap.Lock()
	defer l.swap.Unlock()
	if err := l.replaceable(old, truncations); err != nil {
		return false, err
	}
	err = l.swapFiles(news, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.replaceLocked(news, old)
	})
	if err != nil {
		return true, l.dir.fail("replace cleaned segments of", l.tp.String(), err)
	}
	return true, nil
}

// swapFiles takes the steps from 2 on; replace is the third. The .cleaned files are durable.
func (l *Log) swapFiles(news []*segment, replace func() error) error {
	sync := func() error { return l.at.fs.SyncDir(l.Path()) }
	for _, s := range slices.Backward(news) {
		if err := s.rename(suffixSwap); err != nil {
			return err
		}
		if err := sync(); err != nil {
			return err
		}
	}
	if err := replace(); err != nil {
		return err
	}
	if err := sync(); err != nil {
		return err
	}
	for _, s := range news {
		if err := s.rename(""); err != nil {
			return err
		}
		if err := sync(); err != nil {
			return err
		}
	}
	return nil
}

// replaceable reports whether the segments are a run of the log's inactive ones, and nothing was cut since the pass began.
func (l *Log) replaceable(old []*segment, truncations int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	segs := *l.segments.Load()
	at := slices.Index(segs, old[0])
	if l.truncations != truncations || at < 0 || at+len(old) >= len(segs) || !slices.Equal(segs[at:at+len(old)], old) {
		return errCleaningStopped
	}
	return nil
}

// replaceLocked publishes the list with the new segments and takes the old ones out of use. It needs mu.
func (l *Log) replaceLocked(news, old []*segment) error {
	segs := *l.segments.Load()
	at := slices.Index(segs, old[0])
	for _, s := range news {
		s.synced, s.needsDirSync = true, false
	}
	// Readers who have the old list read the renamed files.
	if err := l.discardReplaced(old, news[0].base); err != nil {
		return err
	}
	list := slices.Clone(segs[:at])
	list = append(list, news...)
	l.setSegments(append(list, segs[at+len(old):]...))
	return nil
}

// forgetSnapshots removes the producer snapshots up to a marker that goes: in one of them its transaction may be open, and a
// recovery that began there would not find the end of it any more. Without them it reads the log, where the transaction is not.
// The names are gone for good before the marker is: swapIn begins with a sync of the directory.
func (l *Log) forgetSnapshots(marker id.Offset) error {
	if marker < 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.producers.keepSnapshots(l.at, func(end id.Offset) bool { return end > marker })
}

package quorum

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// snapshots decides when the image is written to a snapshot, writes it beside the driver, one at a time, and cleans up behind:
// snapshots that are too many or too old go, and the log before the oldest one that stays (KIP-630).
type snapshots struct {
	d       *driver
	kept    []keptSnapshot // oldest first; without the bootstrap snapshot
	done    chan written
	running bool
	since   time.Time // of the last snapshot, or of the start
	cleaned time.Time // when it was last looked for what is too old
	failed  time.Time // of the last attempt that failed
}

type keptSnapshot struct {
	at     raft.Position
	size   int64
	lastMs int64 // append time of the last record in it, -1 when it could not be read
}

type written struct {
	snap keptSnapshot
	err  error
}

// retryAfter is how long after a failed snapshot another is tried.
const retryAfter = time.Minute

// cleanEvery is how often snapshots are looked through for those that have become too old.
const cleanEvery = time.Minute

// init takes the snapshots found into the books. Those that end before the log begins, which a crash in the middle of a
// cleaning leaves, go. What is left of the log before the oldest goes as well: it begins where a snapshot ends, or at 0.
func (s *snapshots) init(d *driver, list []raft.Position) error {
	s.d, s.done, s.since, s.cleaned = d, make(chan written, 1), d.o.Now(), d.o.Now()
	start := d.log.StartOffset()
	for _, p := range list {
		switch path := filepath.Join(d.o.logDir(), snapshotName(p)); {
		case p == bootstrapID:
		case p.Offset < start:
			s.remove(p)
		default:
			k := keptSnapshot{at: p, lastMs: -1}
			info, err := d.o.FS.Stat(path)
			if err != nil {
				return err
			}
			k.size = info.Size()
			if ms, err := snapshotTime(d.o.FS, path); err == nil {
				k.lastMs = ms
			} else {
				d.o.Logger.Warn("a snapshot's header cannot be read", append(logAttrs(p), "err", err)...)
			}
			s.kept = append(s.kept, k)
		}
	}
	s.tell()
	if len(s.kept) > 0 && start > 0 && s.kept[0].at.Offset > start {
		d.log.AdvanceHighWatermark(s.kept[len(s.kept)-1].at.Offset) // only what is committed gets into a snapshot
		if _, err := d.log.DeleteRecords(s.kept[0].at.Offset); err != nil {
			return err
		}
	}
	return nil
}

// tell lets the log know what there is.
func (s *snapshots) tell() {
	if n := len(s.kept); n > 0 {
		s.d.log.oldest, s.d.log.snapshot = s.kept[0].at, s.kept[n-1].at
	}
}

// onlyKeep says that k has taken the place of the log and of all snapshots before.
func (s *snapshots) onlyKeep(k keptSnapshot) {
	for _, old := range s.kept {
		if old.at != k.at {
			s.remove(old.at)
		}
	}
	s.kept = append(s.kept[:0], k)
	s.tell()
}

// due reports whether there is something new and enough of it, or long enough since the last time.
func (s *snapshots) due(now time.Time) bool {
	l := s.d.loader
	if s.running || l.inTxn || l.dirty || l.newBytes == 0 || l.img.IsEmpty() || now.Sub(s.failed) < retryAfter {
		return false
	}
	return l.newBytes >= s.d.o.SnapshotMaxNewRecordBytes ||
		s.d.o.SnapshotMaxInterval > 0 && now.Sub(s.since) >= s.d.o.SnapshotMaxInterval
}

// deadline is when a snapshot becomes due by time.
func (s *snapshots) deadline() (time.Time, bool) {
	if s.running {
		return time.Time{}, false
	}
	at, ok := s.cleaned.Add(cleanEvery), len(s.kept) > 1
	if s.d.o.SnapshotMaxInterval <= 0 || s.d.loader.newBytes == 0 {
		return at, ok
	}
	due := s.since.Add(s.d.o.SnapshotMaxInterval)
	if next := s.failed.Add(retryAfter); !s.failed.IsZero() && due.Before(next) {
		due = next
	}
	if ok && at.Before(due) {
		return at, true
	}
	return due, true
}

// tick cleans up when it is time, and starts a snapshot when one is due.
func (s *snapshots) tick(now time.Time) error {
	if !s.running && len(s.kept) > 1 && now.Sub(s.cleaned) >= cleanEvery {
		if err := s.clean(now); err != nil {
			return err
		}
	}
	s.maybe(now)
	return nil
}

// maybe starts a snapshot of the image as it is now. The image does not change; writing it needs nobody's leave.
func (s *snapshots) maybe(now time.Time) {
	if !s.due(now) {
		return
	}
	at := s.d.loader.position()
	if n := len(s.kept); n > 0 && !s.kept[n-1].at.Behind(at) {
		return
	}
	img, lastMs, members := s.d.loader.img, s.d.loader.at.TimestampMs, s.d.log.membershipAt(at.Offset)
	s.d.loader.newBytes = 0
	s.running, s.since = true, now
	go func() {
		size, err := guard(func() (int64, error) { return s.write(at, img, now.UnixMilli(), lastMs, members) })
		s.done <- written{keptSnapshot{at, size, lastMs}, err}
	}()
}

func (s *snapshots) write(at raft.Position, img *image.Image, nowMs, lastMs int64, m raft.Membership) (int64, error) {
	w, err := newSnapshotWriter(at, nowMs, lastMs, m)
	if err != nil {
		return 0, err
	}
	for r := range img.Records(img.Features.MetadataVersion) {
		if err := w.add(r); err != nil {
			return 0, err
		}
	}
	b, err := w.finish()
	if err != nil {
		return 0, err
	}
	if err := writeSnapshot(s.d.o.FS, s.d.o.logDir(), at, b); err != nil {
		return 0, err
	}
	return int64(len(b)), nil
}

// finished takes a snapshot into the books and cleans up. That a snapshot failed is no reason to stop.
func (s *snapshots) finished(w written) error {
	s.running = false
	if w.err != nil {
		s.failed = s.d.o.Now()
		s.d.o.Logger.Error("snapshot failed", append(logAttrs(w.snap.at), "err", w.err)...)
		return nil
	}
	s.d.o.Logger.Info("snapshot written", append(logAttrs(w.snap.at), "bytes", w.snap.size)...)
	if n := len(s.kept); n > 0 && !s.kept[n-1].at.Behind(w.snap.at) { // a leader's snapshot has come meanwhile
		if s.kept[n-1].at != w.snap.at {
			s.remove(w.snap.at)
		}
		return nil
	}
	s.kept = append(s.kept, w.snap)
	s.tell()
	return s.clean(s.d.o.Now())
}

// clean drops the oldest snapshots while log and snapshots are larger than allowed, or they are older than allowed: a
// snapshot's age is that of its last record. The newest always stays. The log then starts where the oldest remaining ends.
func (s *snapshots) clean(now time.Time) error {
	s.cleaned = now
	total := int64(0)
	for _, k := range s.kept {
		total += k.size
	}
	n := 0
	for n < len(s.kept)-1 {
		k := s.kept[n]
		tooMuch := s.d.o.RetentionBytes >= 0 && s.d.log.SizeBytes()+total > s.d.o.RetentionBytes
		tooOld := s.d.o.RetentionTime >= 0 && k.lastMs >= 0 && now.UnixMilli()-k.lastMs > s.d.o.RetentionTime.Milliseconds()
		if !tooMuch && !tooOld {
			break
		}
		total -= k.size
		n++
		start := s.kept[n].at
		s.d.log.oldest = start // nobody is sent to a snapshot that is about to go
		if start.Offset > s.d.log.StartOffset() {
			if _, err := s.d.log.DeleteRecords(start.Offset); err != nil {
				return err
			}
			if _, err := s.d.log.DeleteOldSegments(now); err != nil {
				return err
			}
		}
	}
	if n == 0 {
		return nil
	}
	for _, k := range s.kept[:n] {
		s.remove(k.at)
	}
	s.kept = slices.Delete(s.kept, 0, n)
	return nil
}

// remove deletes a snapshot. What is left of it after a crash goes at the next start.
func (s *snapshots) remove(p raft.Position) {
	path := filepath.Join(s.d.o.logDir(), snapshotName(p))
	err := s.d.o.FS.Rename(path, path+suffixDeleted)
	if err == nil {
		err = s.d.o.FS.Remove(path + suffixDeleted)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.d.o.Logger.Warn("old snapshot cannot be removed", append(logAttrs(p), "err", err)...)
	}
}

// wait lets a running snapshot end.
func (s *snapshots) wait() {
	if s.running {
		<-s.done
		s.running = false
	}
}

// noOp is the record that an idle leader writes, so that followers and observers see that it lives (KIP-835).
func noOp() []image.Record { return []image.Record{{Message: &logrec.NoOpRecord{}}} }

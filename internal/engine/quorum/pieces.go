package quorum

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire"
)

// piece reads a piece of a snapshot for another replica (KIP-630). That it cannot be read is the reader's misfortune, not the
// end of this node.
func (p *peers) piece(in inbound) raft.Message {
	d, m := p.d, in.m
	a := d.raft.Answer(m)
	if !slices.ContainsFunc(d.snaps.kept, func(k keptSnapshot) bool { return k.at == *m.Snapshot }) {
		a.Error = wire.ErrSnapshotNotFound
		return a
	}
	limit := maxFetchBytes
	if in.from != nil {
		limit = min(max(in.from.maxBytes, 0), maxReadBytes)
	}
	b, size, err := readPiece(d.o.FS, filepath.Join(d.o.logDir(), snapshotName(*m.Snapshot)), m.At, limit)
	switch {
	case err != nil:
		d.o.Logger.Error("a snapshot cannot be read", append(logAttrs(*m.Snapshot), "err", err)...)
		a.Error = wire.ErrUnknownServerError
	case m.At >= size:
		a.Error = wire.ErrPositionOutOfRange
	default:
		at := *m.Snapshot
		a.Snapshot, a.Size, a.Records = &at, size, b
	}
	return a
}

// readPiece returns up to limit bytes of a file from at on, and the file's size.
func readPiece(fsys vfs.FS, path string, at int64, limit int) ([]byte, int64, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || at >= size {
		return nil, size, err
	}
	b := make([]byte, min(int64(limit), size-at))
	if _, err := f.ReadAt(b, at); err != nil && err != io.EOF {
		return nil, size, err
	}
	return b, size, nil
}

// loading is the snapshot that comes piece by piece from a leader, in a file that carries its name only when it is whole.
type loading struct {
	f    vfs.File
	path string
}

// drop gives a snapshot up that is not whole. What is left of the file goes at the next start.
func (l *loading) drop() {
	if l.f != nil {
		_ = l.f.Close() // nothing of it is kept
	}
	*l = loading{}
}

// take writes a piece. After the last one the snapshot is read, and, if it is sound, put in place of the log.
func (p *peers) take(piece raft.Piece) error {
	d := p.d
	l := &p.load
	name := snapshotName(piece.Snapshot)
	if piece.At == 0 {
		l.drop()
		path := filepath.Join(d.o.logDir(), name+suffixPart)
		f, err := d.o.FS.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return fmt.Errorf("begin snapshot %s of the leader: %w", name, err)
		}
		*l = loading{f, path}
	}
	if l.f == nil {
		return fmt.Errorf("a piece of snapshot %s at %d follows nothing", name, piece.At)
	}
	if _, err := l.f.WriteAt(piece.Bytes, piece.At); err != nil {
		return fmt.Errorf("write snapshot %s of the leader: %w", name, err)
	}
	if !piece.Last {
		return nil
	}
	if err := l.f.Sync(); err != nil {
		return fmt.Errorf("write snapshot %s of the leader: %w", name, err)
	}
	part := l.path
	l.drop()
	s, err := readSnapshotFile(d.o.FS, part, piece.Snapshot)
	if err != nil {
		d.o.Logger.Error("the leader's snapshot is refused", append(logAttrs(piece.Snapshot), "err", err)...)
		d.raft.SnapshotDone(d.o.Now(), false)
		return nil
	}
	whole := filepath.Join(d.o.logDir(), name)
	if err := d.o.FS.Rename(part, whole); err != nil {
		return fmt.Errorf("keep snapshot %s of the leader: %w", name, err)
	}
	if err := d.o.FS.SyncDir(d.o.logDir()); err != nil {
		return fmt.Errorf("keep snapshot %s of the leader: %w", name, err)
	}
	return p.adopt(s)
}

// adopt lets the log begin anew where a snapshot ends, and the image be the snapshot's.
func (p *peers) adopt(s *snapshot) error {
	d := p.d
	if err := d.log.TruncateFullyAndStartAt(s.at.Offset); err != nil {
		return fmt.Errorf("begin the log at snapshot %s: %w", snapshotName(s.at), err)
	}
	members := d.log.members[0]
	adopt(&members, s.members)
	d.log.restart(members, s.at)
	size := int64(0)
	if info, err := d.o.FS.Stat(filepath.Join(d.o.logDir(), snapshotName(s.at))); err == nil {
		size = info.Size()
	}
	d.snaps.onlyKeep(keptSnapshot{at: s.at, size: size, lastMs: s.lastMs})
	if err := d.loader.load(s); err != nil {
		return err
	}
	if d.ctl != nil {
		d.ctl.LoadSnapshot(d.loader.img)
	}
	if d.loader.caughtUp {
		d.q.setImage(d.loader.img)
	}
	d.raft.SetMembership(d.log.membership())
	d.raft.SnapshotDone(d.o.Now(), true)
	return nil
}

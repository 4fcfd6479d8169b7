package quorum

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Bounds of a snapshot.
const (
	maxSnapshotBytes   = 1 << 30
	maxHeaderBytes     = 1 << 20
	snapshotBatchCount = 1024 // records in a batch, as Kafka's image writer has it
)

// snapshotWriter builds a snapshot: header, batches, footer (KIP-630).
type snapshotWriter struct {
	out     []byte
	at      raft.Position
	next    id.Offset // of the next record inside the snapshot, which counts from 0
	nowMs   int64
	builder *record.Builder
}

// newSnapshotWriter starts one. lastMs is the append time of the last record in it; m goes in with kraft.version 1 on.
func newSnapshotWriter(at raft.Position, nowMs, lastMs int64, m raft.Membership) (*snapshotWriter, error) {
	h := logrec.NewSnapshotHeaderRecord()
	h.LastContainedLogTimestamp = lastMs
	w := &snapshotWriter{at: at, nowMs: nowMs}
	var more []record.ControlRecord
	if m.KRaftVersion >= 1 {
		more = raft.MembershipRecords(m.KRaftVersion, m.Voters)
		if m.Voters == nil { // formatted without initial voters
			more = more[:1]
		}
	}
	b, err := record.SnapshotHeader(at.Epoch, nowMs, wire.Marshal(h, 0), more...)
	if err != nil {
		return nil, fmt.Errorf("begin a snapshot: %w", err)
	}
	w.out, w.next = append(w.out, b...), id.Offset(b.Count())
	return w, nil
}

func (w *snapshotWriter) add(r image.Record) error {
	v, err := logrec.AppendMetadata(nil, r.Message, r.Version)
	if err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	if w.builder != nil && w.builder.SizeBytes()+len(v)+maxRecordOverhead > maxBatchBytes {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if w.builder == nil {
		o := record.NewOptions()
		o.BaseOffset, o.LeaderEpoch = w.next, w.at.Epoch
		w.builder = record.NewBuilder(o)
	}
	if err := w.builder.Append(w.nowMs, nil, v); err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	if w.builder.Count() >= snapshotBatchCount {
		return w.flush()
	}
	return nil
}

func (w *snapshotWriter) flush() (err error) {
	if w.builder == nil {
		return nil
	}
	w.next = w.builder.LastOffset() + 1
	w.out, err = w.builder.AppendTo(w.out)
	w.builder = nil
	return err
}

// finish returns the snapshot's bytes.
func (w *snapshotWriter) finish() ([]byte, error) {
	if err := w.flush(); err != nil {
		return nil, err
	}
	b, err := record.SnapshotFooter(w.next, w.at.Epoch, w.nowMs, wire.Marshal(logrec.NewSnapshotFooterRecord(), 0))
	if err != nil {
		return nil, fmt.Errorf("end a snapshot: %w", err)
	}
	return append(w.out, b...), nil
}

// writeSnapshot makes a snapshot appear in dir, whole and durable or not at all.
func writeSnapshot(fsys vfs.FS, dir string, at raft.Position, content []byte) error {
	path := filepath.Join(dir, snapshotName(at))
	if err := vfs.ReplaceFile(fsys, path, suffixPart, content); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// snapshot is one that was read.
type snapshot struct {
	at      raft.Position
	lastMs  int64 // of the last record in it
	members raft.Membership
	records []image.Record
}

// readSnapshot reads and checks a snapshot: every CRC, the header first, the footer last.
func readSnapshot(fsys vfs.FS, dir string, at raft.Position) (*snapshot, error) {
	return readSnapshotFile(fsys, filepath.Join(dir, snapshotName(at)), at)
}

func readSnapshotFile(fsys vfs.FS, path string, at raft.Position) (*snapshot, error) {
	b, err := vfs.ReadFile(fsys, path, maxSnapshotBytes)
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	s, err := parseSnapshot(b, at)
	if err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", path, err)
	}
	return s, nil
}

func parseSnapshot(b []byte, at raft.Position) (*snapshot, error) {
	s := &snapshot{at: at, members: raft.Membership{Offset: -1}}
	header, footer := false, false
	for len(b) > 0 {
		if footer {
			return nil, errors.New("something follows the footer")
		}
		batch, rest, err := record.Next(b)
		if err == nil {
			err = batch.CheckCRC()
		}
		if err != nil {
			return nil, err
		}
		b = rest
		if !batch.IsControl() {
			if !header {
				return nil, errors.New("the header is missing")
			}
			if s.records, err = decodeRecords(batch, s.records); err != nil {
				return nil, err
			}
			continue
		}
		err = eachControl(batch, func(t record.ControlType, value []byte, _ id.Offset) error {
			switch t {
			case record.ControlSnapshotHeader:
				h := logrec.NewSnapshotHeaderRecord()
				header = true
				err := wire.Unmarshal(value, h, 0)
				s.lastMs = h.LastContainedLogTimestamp
				return err
			case record.ControlSnapshotFooter:
				footer = true
				return wire.Unmarshal(value, logrec.NewSnapshotFooterRecord(), 0)
			}
			_, err := s.members.Fold(t, value, -1)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if !header || !footer {
		return nil, errors.New("the header or the footer is missing")
	}
	return s, nil
}

// snapshotTime reads the append time of the last record in a snapshot from its header, in milliseconds.
func snapshotTime(fsys vfs.FS, path string) (int64, error) {
	b, _, err := readPiece(fsys, path, 0, maxHeaderBytes)
	if err != nil {
		return 0, err
	}
	batch, _, err := record.Next(b)
	if err == nil {
		err = batch.CheckCRC()
	}
	if err == nil && !batch.IsControl() {
		err = errors.New("the header is missing")
	}
	if err != nil {
		return 0, err
	}
	h := logrec.NewSnapshotHeaderRecord()
	found := false
	err = eachControl(batch, func(t record.ControlType, value []byte, _ id.Offset) error {
		if t != record.ControlSnapshotHeader {
			return nil
		}
		found = true
		return wire.Unmarshal(value, h, 0)
	})
	if err == nil && !found {
		err = errors.New("the header is missing")
	}
	return h.LastContainedLogTimestamp, err
}

// eachControl visits a control batch.
func eachControl(b record.Batch, f func(t record.ControlType, value []byte, at id.Offset) error) error {
	it := b.Records(maxBatchBytes)
	defer it.Close()
	for r := (record.Record{}); it.Next(&r); {
		t, err := record.ParseControlKey(r.Key)
		if err != nil {
			return err
		}
		if err := f(t, r.Value, r.Offset); err != nil {
			return fmt.Errorf("control record %s at offset %d: %w", t, r.Offset, err)
		}
	}
	return it.Err()
}

// decodeRecords appends a batch's metadata records to dst. They do not alias the batch.
func decodeRecords(b record.Batch, dst []image.Record) ([]image.Record, error) {
	it := b.Records(maxBatchBytes)
	defer it.Close()
	for r := (record.Record{}); it.Next(&r); {
		m, version, err := logrec.DecodeMetadata(slices.Clone(r.Value))
		if err != nil {
			return dst, fmt.Errorf("metadata record at offset %d: %w", r.Offset, err)
		}
		dst = append(dst, image.Record{Message: m, Version: version})
	}
	return dst, it.Err()
}

// listSnapshots returns the snapshots of dir, oldest first, and removes what was never finished or already given up.
func listSnapshots(fsys vfs.FS, dir string) ([]raft.Position, error) {
	entries, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var out []raft.Position
	for _, e := range entries {
		p, rest, ok := parseSnapshotName(e.Name())
		switch {
		case !ok:
		case rest == "":
			out = append(out, p)
		case strings.HasSuffix(rest, suffixPart) || rest == suffixDeleted:
			if err := fsys.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("remove an old snapshot: %w", err)
			}
		}
	}
	slices.SortFunc(out, func(a, b raft.Position) int {
		if a.Behind(b) {
			return -1
		}
		return 1
	})
	return out, nil
}

package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// A producer snapshot file, version 1:
//
//	int16 version, uint32 CRC-32C of all that follows, int32 number of entries, then per entry
//	int64 producer id, int16 epoch, int32 last sequence, int64 last offset, int32 offset delta, int64 timestamp,
//	int32 coordinator epoch, int64 first offset of the open transaction
const (
	snapshotVersion     = 1
	snapshotHeaderBytes = 2 + 4 + 4
	snapshotEntryBytes  = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8
	snapshotCRCFrom     = 2 + 4
	maxSnapshotBytes    = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errCorruptSnapshot reports a snapshot that is not believed; an older one or the log is used instead.
type errCorruptSnapshot struct{ reason string }

func (e *errCorruptSnapshot) Error() string { return "corrupt producer snapshot: " + e.reason }

func encodeSnapshot(entries map[id.ProducerID]*producerEntry) []byte {
	b := make([]byte, snapshotHeaderBytes, snapshotHeaderBytes+len(entries)*snapshotEntryBytes)
	binary.BigEndian.PutUint16(b, snapshotVersion)
	binary.BigEndian.PutUint32(b[6:], uint32(len(entries)))
	pids := make([]id.ProducerID, 0, len(entries))
	for pid := range entries {
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	for _, pid := range pids {
		e := entries[pid]
		last := batchMeta{lastSeq: record.NoSequence, lastOffset: id.NoOffset}
		if e.n > 0 {
			last = e.batches[e.n-1]
		}
		b = binary.BigEndian.AppendUint64(b, uint64(pid))
		b = binary.BigEndian.AppendUint16(b, uint16(e.epoch))
		b = binary.BigEndian.AppendUint32(b, uint32(last.lastSeq))
		b = binary.BigEndian.AppendUint64(b, uint64(last.lastOffset))
		b = binary.BigEndian.AppendUint32(b, uint32(last.offsetDelta))
		b = binary.BigEndian.AppendUint64(b, uint64(e.lastTimestamp))
		b = binary.BigEndian.AppendUint32(b, uint32(e.coordinatorEpoch))
		b = binary.BigEndian.AppendUint64(b, uint64(e.txnFirst))
	}
	binary.BigEndian.PutUint32(b[2:], crc32.Checksum(b[snapshotCRCFrom:], castagnoli))
	return b
}

func decodeSnapshot(b []byte) (map[id.ProducerID]*producerEntry, error) {
	if len(b) < snapshotHeaderBytes {
		return nil, &errCorruptSnapshot{fmt.Sprintf("%d bytes", len(b))}
	}
	if v := binary.BigEndian.Uint16(b); v != snapshotVersion {
		return nil, &errCorruptSnapshot{fmt.Sprintf("version %d", v)}
	}
	n := int64(int32(binary.BigEndian.Uint32(b[6:])))
	if n < 0 || n*snapshotEntryBytes != int64(len(b)-snapshotHeaderBytes) {
		return nil, &errCorruptSnapshot{fmt.Sprintf("%d entries announced in %d bytes", n, len(b))}
	}
	if got, want := crc32.Checksum(b[snapshotCRCFrom:], castagnoli), binary.BigEndian.Uint32(b[2:]); got != want {
		return nil, &errCorruptSnapshot{fmt.Sprintf("CRC %08x, not %08x", got, want)}
	}
	if n == 0 {
		return nil, nil
	}
	entries := make(map[id.ProducerID]*producerEntry, n)
	for b = b[snapshotHeaderBytes:]; len(b) > 0; b = b[snapshotEntryBytes:] {
		e := emptyProducer()
		e.epoch = id.ProducerEpoch(binary.BigEndian.Uint16(b[8:]))
		m := batchMeta{
			lastSeq:     int32(binary.BigEndian.Uint32(b[10:])),
			lastOffset:  id.Offset(binary.BigEndian.Uint64(b[14:])),
			offsetDelta: int32(binary.BigEndian.Uint32(b[22:])),
			timestamp:   int64(binary.BigEndian.Uint64(b[26:])),
		}
		if m.lastOffset >= 0 {
			e.addMeta(m)
		}
		e.lastTimestamp = m.timestamp
		e.coordinatorEpoch = int32(binary.BigEndian.Uint32(b[34:]))
		if first := id.Offset(binary.BigEndian.Uint64(b[38:])); first >= 0 {
			e.txnFirst = first
		}
		entries[id.ProducerID(binary.BigEndian.Uint64(b))] = &e
	}
	return entries, nil
}

// take writes a snapshot of the state at its end, unless there is one already. With durable it is synced at once; otherwise a
// torn one is recognised by its CRC.
func (p *producerState) take(at *place, durable bool) error {
	if p.end <= p.snapshotEnd {
		return nil
	}
	path := at.path(segmentName(p.end, suffixSnapshot))
	b := encodeSnapshot(p.entries)
	var err error
	if durable {
		err = vfs.WriteFile(at.fs, path, b)
	} else {
		err = writeUnsynced(at.fs, path, b)
	}
	if err != nil {
		return err
	}
	p.snapshotEnd = p.end
	if n, found := slices.BinarySearch(p.snapshots, p.end); !found {
		p.snapshots = slices.Insert(p.snapshots, n, p.end)
	}
	return nil
}

// readSnapshot loads the newest readable snapshot at or below the bound, removing unreadable ones, and sets end to where it
// ends; without any the state is empty and begins at start.
func (p *producerState) readSnapshot(at *place, start id.Offset, nowMs int64, o *Options) error {
	p.reset(start)
	p.snapshotEnd = start
	for n := len(p.snapshots); n > 0; n = len(p.snapshots) {
		end := p.snapshots[n-1]
		b, err := vfs.ReadFile(at.fs, at.path(segmentName(end, suffixSnapshot)), maxSnapshotBytes)
		var entries map[id.ProducerID]*producerEntry
		if err == nil {
			entries, err = decodeSnapshot(b)
		}
		var corrupt *errCorruptSnapshot
		switch {
		case err == nil:
			p.entries, p.end, p.snapshotEnd = entries, end, end
			p.expire(nowMs, o.producerExpiration())
			for pid, e := range p.entries {
				if e.txnFirst >= 0 {
					p.ongoing = insertTxn(p.ongoing, transaction{producer: pid, first: e.txnFirst, lastOffset: id.NoOffset})
				}
			}
			return nil
		case errors.As(err, &corrupt), errors.Is(err, fs.ErrNotExist):
			o.Logger.Warn("producer snapshot is not usable", "path", at.path(segmentName(end, suffixSnapshot)), "err", err)
			if err := p.removeSnapshot(at, end); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return nil
}

func (p *producerState) removeSnapshot(at *place, end id.Offset) error {
	if n, found := slices.BinarySearch(p.snapshots, end); found {
		p.snapshots = slices.Delete(p.snapshots, n, n+1)
	}
	err := at.fs.Remove(at.path(segmentName(end, suffixSnapshot)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// keepSnapshots removes the snapshots for which keep is false.
func (p *producerState) keepSnapshots(at *place, keep func(end id.Offset) bool) error {
	for _, end := range slices.Clone(p.snapshots) {
		if !keep(end) {
			if err := p.removeSnapshot(at, end); err != nil {
				return err
			}
		}
	}
	return nil
}

// markSnapshotDeleted renames the snapshot that belongs to a segment that goes, and returns the name to remove later.
func (p *producerState) markSnapshotDeleted(at *place, base id.Offset) (string, error) {
	n, found := slices.BinarySearch(p.snapshots, base)
	if !found {
		return "", nil
	}
	p.snapshots = slices.Delete(p.snapshots, n, n+1)
	name := segmentName(base, suffixSnapshot)
	err := at.fs.Rename(at.path(name), at.path(name+suffixDeleted))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return name + suffixDeleted, err
}

func writeUnsynced(fsys vfs.FS, path string, b []byte) error {
	f, err := fsys.OpenFile(path, createTruncate, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

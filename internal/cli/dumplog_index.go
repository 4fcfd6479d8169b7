package cli

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// maxIndexBytes bounds an index file; segment.index.bytes is at most 2 GiB.
const maxIndexBytes = 1<<31 - 1

// readIndex reads a file of fixed-size entries, without a torn last one.
func readIndex(path string, entry int) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxIndexBytes {
		return nil, fmt.Errorf("%s is larger than an index can be", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return b[:len(b)-len(b)%entry], nil
}

// openLog opens the log file beside an index.
func openLog(indexPath string) (*os.File, int64, error) {
	name, _, _ := strings.Cut(filepath.Base(indexPath), ".")
	f, err := os.Open(filepath.Join(filepath.Dir(indexPath), name+".log"))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// offsetIndex prints relative offset and position of each entry, and compares them with the log.
func (d *dump) offsetIndex(path string) error {
	base, err := baseOffsetOf(path)
	if err != nil {
		return err
	}
	b, err := readIndex(path, 8)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		fmt.Fprintf(d.out, "%s is empty.\n", path)
		return nil
	}
	if d.sanityOnly {
		if last := base + int64(int32(binary.BigEndian.Uint32(b[len(b)-8:]))); last < base {
			return fmt.Errorf("Corrupt index found, index file (%s) has non-zero size but the last offset is %d which is less than the base offset %d", path, last, base)
		}
		fmt.Fprintf(d.out, "%s passed sanity check.\n", path)
		return nil
	}
	f, size, err := openLog(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for i := 0; i < len(b); i += 8 {
		offset, position := base+int64(binary.BigEndian.Uint32(b[i:])), int64(binary.BigEndian.Uint32(b[i+4:]))
		if offset == base && i > 0 {
			return nil // the rest was never written
		}
		batch, err := readBatch(f, position, min(size, position+d.maxMessageBytes))
		if err != nil {
			return fmt.Errorf("%s: entry %d points to position %d, where the log has no batch: %w", path, i/8, position, err)
		}
		if last := int64(batch.LastOffset()); last != offset {
			full, err := filepath.Abs(path)
			if err != nil {
				return err
			}
			d.indexMismatches[full] = append(d.indexMismatches[full], [2]int64{offset, last})
		}
		if !d.verifyOnly {
			fmt.Fprintf(d.out, "offset: %d position: %d\n", offset, position)
		}
	}
	return nil
}

// timeIndex prints timestamp and offset of each entry, and compares them with the log.
func (d *dump) timeIndex(path string) error {
	base, err := baseOffsetOf(path)
	if err != nil {
		return err
	}
	b, err := readIndex(path, 12)
	if err != nil {
		return err
	}
	if d.sanityOnly {
		if n := len(b); n > 12 && int64(binary.BigEndian.Uint64(b[n-12:])) < int64(binary.BigEndian.Uint64(b)) {
			return fmt.Errorf("Corrupt time index found, time index file (%s) has non-zero size but the last timestamp is less than the first timestamp", path)
		}
		fmt.Fprintf(d.out, "%s passed sanity check.\n", path)
		return nil
	}
	offsets, err := readIndex(strings.TrimSuffix(path, ".timeindex")+".index", 8)
	if err != nil {
		return err
	}
	f, size, err := openLog(path)
	if err != nil {
		return err
	}
	defer f.Close()
	full, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	note := func(kind int, a, b int64) {
		d.timeErrors[kind][full] = append(d.timeErrors[kind][full], [2]int64{a, b})
	}
	previous := int64(-1)
	for i := 0; i < len(b); i += 12 {
		timestamp, offset := int64(binary.BigEndian.Uint64(b[i:])), base+int64(binary.BigEndian.Uint32(b[i+8:]))
		if offset == base && i > 0 {
			return nil
		}
		largest, last, err := batchAt(f, size, positionOf(offsets, base, offset), offset)
		if err != nil {
			return err
		}
		switch {
		case last != offset:
			note(2, offset, last)
		default:
			if largest != timestamp {
				note(0, timestamp, largest)
			}
			if previous >= timestamp {
				note(1, timestamp, previous)
			}
		}
		if !d.verifyOnly {
			fmt.Fprintf(d.out, "timestamp: %d offset: %d\n", timestamp, offset)
		}
		previous = timestamp
	}
	return nil
}

// positionOf looks up the position of the last indexed offset that is not above offset.
func positionOf(index []byte, base, offset int64) int64 {
	position := int64(0)
	for i := 0; i < len(index); i += 8 {
		at := base + int64(binary.BigEndian.Uint32(index[i:]))
		if at > offset || at == base && i > 0 {
			break
		}
		position = int64(binary.BigEndian.Uint32(index[i+4:]))
	}
	return position
}

// batchAt finds the first batch from a position on that ends at or after offset, and the largest timestamp in it; last is -1 if
// there is none.
func batchAt(f io.ReaderAt, size, position, offset int64) (largest, last int64, err error) {
	for position < size {
		batch, err := readBatch(f, position, size)
		if err != nil {
			return -1, -1, nil
		}
		position += int64(batch.SizeBytes())
		if int64(batch.LastOffset()) < offset {
			continue
		}
		largest = -1
		it := batch.Records(maxBatchBytes)
		var r record.Record
		for it.Next(&r) {
			largest = max(largest, r.TimestampMs)
		}
		err = it.Err()
		it.Close()
		return largest, int64(batch.LastOffset()), err
	}
	return -1, -1, nil
}

// txnIndex prints aborted transactions.
func (d *dump) txnIndex(path string) error {
	const entry = 2 + 4*8
	b, err := readIndex(path, entry)
	if err != nil {
		return err
	}
	for i := 0; i < len(b); i += entry {
		n := func(at int) int64 { return int64(binary.BigEndian.Uint64(b[i+at:])) }
		fmt.Fprintf(d.out, "version: %d producerId: %d firstOffset: %d lastOffset: %d lastStableOffset: %d\n",
			int16(binary.BigEndian.Uint16(b[i:])), n(2), n(10), n(18), n(26))
	}
	return nil
}

// producerSnapshot prints the producers a partition remembered.
func (d *dump) producerSnapshot(path string) error {
	b, err := readIndex(path, 1)
	if err != nil {
		return err
	}
	s := new(logrec.ProducerSnapshot)
	if len(b) < 6 {
		fmt.Fprintf(d.errs, "Snapshot failed validation, file %s is %d bytes long\n", path, len(b))
		return nil
	}
	if _, err := logrec.DecodeVersioned(b, s); err != nil {
		fmt.Fprintf(d.errs, "Snapshot failed schema validation: %v\n", err)
		return nil
	}
	if sum := crc32.Checksum(b[6:], crc32.MakeTable(crc32.Castagnoli)); sum != s.Crc {
		fmt.Fprintf(d.errs, "Snapshot is corrupt (CRC is no longer valid). Stored crc: %d. Computed crc: %d\n", s.Crc, sum)
		return nil
	}
	for _, p := range s.ProducerEntries {
		fmt.Fprintf(d.out, "producerId: %d producerEpoch: %d coordinatorEpoch: %d currentTxnFirstOffset: %s lastTimestamp: %d",
			p.ProducerID, p.Epoch, p.CoordinatorEpoch, optionalLong(p.CurrentTxnFirstOffset), p.Timestamp)
		if p.LastSequence >= 0 {
			fmt.Fprintf(d.out, " firstSequence: %d lastSequence: %d lastOffset: %d offsetDelta: %d timestamp: %d",
				firstSequence(p.LastSequence, p.OffsetDelta), p.LastSequence, p.LastOffset, p.OffsetDelta, p.Timestamp)
		}
		fmt.Fprintln(d.out)
	}
	return nil
}

// firstSequence is the sequence delta steps before last; sequences wrap from 2^31-1 to 0.
func firstSequence(last, delta int32) int32 {
	if delta > last {
		return math.MaxInt32 - (delta - last) + 1
	}
	return last - delta
}

func optionalLong(n int64) string {
	if n < 0 {
		return "OptionalLong.empty"
	}
	return fmt.Sprintf("OptionalLong[%d]", n)
}

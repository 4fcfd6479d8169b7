package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/moldau-io/moldau/internal/record"
)

// follow notes a record that does not follow the one before it.
func (d *dump) follow(path string, last, offset int64) error {
	if offset == last+1 {
		return nil
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	d.notConsecutive[full] = append(d.notConsecutive[full], [2]int64{last, offset})
	return nil
}

// inOrder are the files that m has something about, in the order in which Kafka's tool comes to them.
func (d *dump) inOrder(m map[string][][2]int64) []string {
	var found []string
	for _, path := range d.files {
		if len(m[path]) > 0 && !slices.Contains(found, path) {
			found = append(found, path)
		}
	}
	slices.Reverse(found) // computeIfAbsent puts the newest at the head of its bucket
	return javaHashOrder(found, javaStringHash, 16)
}

// contents prints a record's key and value, if they are asked for.
func (d *dump) contents(r *record.Record) error {
	if !d.printRecords {
		return nil
	}
	prefix := " "
	if d.skipMetadata {
		prefix = "| "
	}
	key, payload, err := d.show(r)
	if err != nil {
		return err
	}
	if key != nil {
		fmt.Fprintf(d.out, "%skey: %s", prefix, *key)
		prefix = " "
	}
	if payload != nil {
		fmt.Fprintf(d.out, "%spayload: %s", prefix, *payload)
	}
	return nil
}

// legacy prints an entry of the message formats 0 and 1 and returns the last offset seen.
func (d *dump) legacy(f io.ReaderAt, path string, position int64, size int, last int64) (int64, error) {
	b := make([]byte, size)
	if _, err := f.ReadAt(b, position); err != nil {
		return last, err
	}
	e, _, err := record.NextLegacy(b)
	if err != nil {
		return last, fmt.Errorf("%s: entry at position %d: %w", path, position, err)
	}
	fmt.Fprintf(d.out, "offset: %d position: %d %s: %d size: %d magic: %d compresscodec: %s crc: %d isvalid: %t\n", e.Offset(), position,
		e.TimestampTypeName(), e.TimestampMs(), size, e.Magic(), e.Codec(), e.CRC(), e.CheckCRC() == nil)
	if !d.deep {
		return last, nil
	}
	it := e.Records(maxBatchBytes)
	defer it.Close()
	var r record.Record
	for it.Next(&r) {
		if err := d.follow(path, last, int64(r.Offset)); err != nil {
			return last, err
		}
		last = int64(r.Offset)
		if !d.skipMetadata {
			in := it.Entry()
			fmt.Fprintf(d.out, "| offset: %d %s: %d keySize: %d valueSize: %d isValid: %t crc: %d", r.Offset, e.TimestampTypeName(), r.TimestampMs,
				sizeOf(r.Key), sizeOf(r.Value), in.CheckCRC() == nil, in.CRC())
		}
		if err := d.contents(&r); err != nil {
			return last, err
		}
		fmt.Fprintln(d.out)
	}
	if err := it.Err(); err != nil {
		return last, fmt.Errorf("%s: records of the entry at offset %d: %w", path, e.Offset(), err)
	}
	return last, nil
}

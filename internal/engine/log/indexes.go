package log

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Bytes of an entry.
const (
	offsetEntryBytes = 8  // int32 relative offset of a batch's last record, int32 position of the batch
	timeEntryBytes   = 12 // int64 timestamp, int32 relative offset
)

// errCorruptIndex reports an index that contradicts itself or its log; it is rebuilt.
type errCorruptIndex struct{ reason string }

func (e *errCorruptIndex) Error() string { return "corrupt index: " + e.reason }

// offsetIndex maps offsets to positions: each entry names a batch by its last offset and says where it starts. It is sparse.
type offsetIndex struct {
	entryFile
	base id.Offset
}

func (x *offsetIndex) init(at *place, base id.Offset) {
	x.entryFile.init(at, base, suffixIndex, offsetEntryBytes)
	x.base = base
}

func (x *offsetIndex) decode(b []byte) (last id.Offset, position int64) {
	return x.base + id.Offset(int32(binary.BigEndian.Uint32(b))), int64(int32(binary.BigEndian.Uint32(b[4:])))
}

// add appends an entry. The caller has checked that last is in range and beyond the entries before it.
func (x *offsetIndex) add(last id.Offset, position int64) {
	var b [offsetEntryBytes]byte
	binary.BigEndian.PutUint32(b[:], uint32(last-x.base))
	binary.BigEndian.PutUint32(b[4:], uint32(position))
	x.append(b[:])
}

// lookup returns the position from which a scan finds target: that of the last entry at or below it, or 0.
func (x *offsetIndex) lookup(target id.Offset) (position int64, err error) {
	n, b, err := x.search(func(entry []byte) bool { last, _ := x.decode(entry); return last > target })
	if err != nil || n < 0 {
		return 0, err
	}
	_, position = x.decode(b[:])
	return position, nil
}

// lookupPosition returns the last indexed position at or below limit, or 0.
func (x *offsetIndex) lookupPosition(limit int64) (position int64, err error) {
	n, b, err := x.search(func(entry []byte) bool { _, p := x.decode(entry); return p > limit })
	if err != nil || n < 0 {
		return 0, err
	}
	_, position = x.decode(b[:])
	return position, nil
}

// truncateTo removes the entries at and above offset.
func (x *offsetIndex) truncateTo(offset id.Offset) error {
	n, _, err := x.search(func(entry []byte) bool { last, _ := x.decode(entry); return last >= offset })
	if err != nil {
		return err
	}
	return x.truncate(n + 1)
}

// check looks at the last entry: it must lie in the segment. A file that Kafka preallocated ends in zeros and fails here.
func (x *offsetIndex) check(logSize int64) error {
	n, err := x.count()
	if err != nil || n == 0 {
		return err
	}
	var first, b [maxEntryBytes]byte
	if err := x.at(n-1, b[:]); err != nil {
		return err
	}
	if err := x.at(0, first[:]); err != nil {
		return err
	}
	last, position := x.decode(b[:])
	firstLast, _ := x.decode(first[:])
	if last < x.base || position < 0 || position >= logSize || n > 1 && last <= firstLast {
		return &errCorruptIndex{fmt.Sprintf("last of %d entries is %d at %d in a log of %d bytes from offset %d", n, last, position, logSize, x.base)}
	}
	return nil
}

// timeIndex maps timestamps to offsets: an entry (t, o) says that no record up to and including the batch that ends at o is
// later than t, and that this batch holds t.
type timeIndex struct {
	entryFile
	base id.Offset
}

func (x *timeIndex) init(at *place, base id.Offset) {
	x.entryFile.init(at, base, suffixTime, timeEntryBytes)
	x.base = base
}

func (x *timeIndex) decode(b []byte) (ts int64, offset id.Offset) {
	return int64(binary.BigEndian.Uint64(b)), x.base + id.Offset(int32(binary.BigEndian.Uint32(b[8:])))
}

// last returns the last entry, or (-1, base) when there is none.
func (x *timeIndex) last() (ts int64, offset id.Offset, err error) {
	n, b, err := x.final()
	if err != nil || n == 0 {
		return -1, x.base, err
	}
	ts, offset = x.decode(b[:])
	return ts, offset, nil
}

// add appends an entry unless it brings nothing new.
func (x *timeIndex) add(ts int64, offset id.Offset) error {
	lastTS, _, err := x.last()
	if err != nil || ts <= lastTS {
		return err
	}
	var b [timeEntryBytes]byte
	binary.BigEndian.PutUint64(b[:], uint64(ts))
	binary.BigEndian.PutUint32(b[8:], uint32(offset-x.base))
	x.append(b[:])
	return nil
}

// lookup returns the offset of the last entry at or before ts; a record later than ts, or the first at ts, is not before it.
func (x *timeIndex) lookup(ts int64) (id.Offset, error) {
	n, b, err := x.search(func(entry []byte) bool { t, _ := x.decode(entry); return t > ts })
	if err != nil || n < 0 {
		return x.base, err
	}
	_, offset := x.decode(b[:])
	return offset, nil
}

// truncateTo removes the entries at and above offset.
func (x *timeIndex) truncateTo(offset id.Offset) error {
	n, _, err := x.search(func(entry []byte) bool { _, o := x.decode(entry); return o >= offset })
	if err != nil {
		return err
	}
	return x.truncate(n + 1)
}

func (x *timeIndex) check() error {
	n, err := x.count()
	if err != nil || n == 0 {
		return err
	}
	var b [maxEntryBytes]byte
	if err := x.at(0, b[:]); err != nil {
		return err
	}
	first, _ := x.decode(b[:])
	ts, offset, err := x.last()
	if err != nil {
		return err
	}
	if ts < first || offset < x.base || n > 1 && ts == first {
		return &errCorruptIndex{fmt.Sprintf("last of %d time entries is %d at offset %d, the first is %d", n, ts, offset, first)}
	}
	return nil
}

// fits reports whether an offset can be written relative to base.
func fits(base, offset id.Offset) bool { return offset >= base && offset-base <= math.MaxInt32 }

// An aborted transaction in a .txnindex: version, producer id, first and last offset, last stable offset.
const abortedTxnBytes = 2 + 8 + 8 + 8 + 8

// txnIndex lists the aborted transactions whose marker is in the segment. Most segments have none, and no file.
type txnIndex struct{ entryFile }

func (x *txnIndex) init(at *place, base id.Offset) {
	x.h.init(at, base, suffixTxn)
	x.entrySize = abortedTxnBytes
	x.complete = true
}

func (x *txnIndex) add(t AbortedTxn) {
	b := make([]byte, 0, abortedTxnBytes)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(t.ProducerID))
	b = binary.BigEndian.AppendUint64(b, uint64(t.FirstOffset))
	b = binary.BigEndian.AppendUint64(b, uint64(t.LastOffset))
	b = binary.BigEndian.AppendUint64(b, uint64(t.LastStableOffset))
	x.append(b)
}

func decodeAborted(b []byte) (AbortedTxn, error) {
	if v := binary.BigEndian.Uint16(b); v != 0 {
		return AbortedTxn{}, &errCorruptIndex{fmt.Sprintf("aborted transaction of version %d", v)}
	}
	return AbortedTxn{
		ProducerID:       id.ProducerID(binary.BigEndian.Uint64(b[2:])),
		FirstOffset:      id.Offset(binary.BigEndian.Uint64(b[10:])),
		LastOffset:       id.Offset(binary.BigEndian.Uint64(b[18:])),
		LastStableOffset: id.Offset(binary.BigEndian.Uint64(b[26:])),
	}, nil
}

// collect appends the transactions that a committed reader of [from, bound) must know. done is true when later segments can
// have none of them.
func (x *txnIndex) collect(dst []AbortedTxn, from, bound id.Offset) (_ []AbortedTxn, done bool, err error) {
	n, err := x.count()
	var b [abortedTxnBytes]byte
	for i := 0; i < n && err == nil; i++ {
		if err = x.at(i, b[:]); err != nil {
			break
		}
		var t AbortedTxn
		if t, err = decodeAborted(b[:]); err != nil {
			break
		}
		if t.LastOffset >= from && t.FirstOffset < bound {
			dst = append(dst, t)
		}
		if t.LastStableOffset >= bound {
			return dst, true, nil
		}
	}
	return dst, false, err
}

// truncateTo removes the transactions whose marker is at or above offset.
func (x *txnIndex) truncateTo(offset id.Offset) error {
	n, err := x.count()
	if err != nil {
		return err
	}
	var b [abortedTxnBytes]byte
	for i := range n {
		if err := x.at(i, b[:]); err != nil {
			return err
		}
		if t, err := decodeAborted(b[:]); err != nil || t.LastOffset >= offset {
			return x.truncate(i)
		}
	}
	return nil
}

// readable returns the transactions up to the first that cannot be understood.
func (x *txnIndex) readable() ([]AbortedTxn, error) {
	n, err := x.count()
	var out []AbortedTxn
	var b [abortedTxnBytes]byte
	for i := 0; i < n && err == nil; i++ {
		if err = x.at(i, b[:]); err != nil {
			break
		}
		t, bad := decodeAborted(b[:])
		if bad != nil {
			break
		}
		out = append(out, t)
	}
	return out, err
}

// check finds a marker that cannot belong to the segment.
func (x *txnIndex) check() error {
	n, err := x.count()
	if err != nil {
		return err
	}
	var b [abortedTxnBytes]byte
	for i := range n {
		if err := x.at(i, b[:]); err != nil {
			return err
		}
		t, err := decodeAborted(b[:])
		if err != nil {
			return err
		}
		if t.LastOffset < x.h.base {
			return &errCorruptIndex{fmt.Sprintf("aborted transaction ends at %d, before the segment", t.LastOffset)}
		}
	}
	return nil
}

package logrec

import (
	"errors"
	"fmt"
	"math"

	"github.com/moldau-io/moldau/internal/wire"
)

// Record is a payload that belongs to a numbered record type.
type Record interface {
	wire.Message
	RecordType() int16
}

// MetadataRecord is a record of the metadata log, and TierRecord one of the remote log metadata topic.
type (
	MetadataRecord interface{ Record }
	TierRecord     interface{ Record }
)

// Key and Value are the halves of a coordinator's record.
type (
	Key   interface{ Record }
	Value interface{ Record }
)

// ErrUnknownType reports a record type that this release does not know.
var ErrUnknownType = errors.New("unknown record type")

// frameVersion is the only frame there is around metadata records.
const frameVersion = 1

// EncodeMetadata returns a metadata record's value: frame version, type, version and body. It panics at a version the record
// does not have.
func EncodeMetadata(rec Record, version int16) []byte {
	b, err := AppendMetadata(nil, rec, version)
	if err != nil {
		panic(fmt.Sprintf("logrec: encode %T version %d: %v", rec, version, err))
	}
	return b
}

// AppendMetadata appends what EncodeMetadata returns to dst.
func AppendMetadata(dst []byte, rec Record, version int16) ([]byte, error) {
	var w wire.Writer
	w.Uvarint(frameVersion)
	w.Uvarint(uint32(rec.RecordType()))
	w.Uvarint(uint32(version))
	rec.Encode(&w, version)
	return w.AppendTo(dst)
}

// DecodeMetadata reads a metadata record's value and returns the record with its version. Byte fields alias b.
func DecodeMetadata(b []byte) (MetadataRecord, int16, error) {
	return decodeFramed(b, newMetadataRecord)
}

// DecodeTier reads a remote log metadata record's value.
func DecodeTier(b []byte) (TierRecord, int16, error) { return decodeFramed(b, newTierRecord) }

func decodeFramed[T Record](b []byte, make func(int16) T) (rec T, version int16, err error) {
	var none T
	r := reader(b)
	if frame := r.Uvarint(); !r.Failed() && frame != frameVersion {
		r.Fail(fmt.Errorf("%w: frame version %d", wire.ErrMalformed, frame))
	}
	typ, v := r.Uvarint(), r.Uvarint()
	if !r.Failed() && (typ > math.MaxInt16 || v > math.MaxInt16) {
		r.Fail(fmt.Errorf("%w: type %d version %d", wire.ErrMalformed, typ, v))
	}
	if r.Failed() {
		return none, 0, fmt.Errorf("record frame: %w", r.Err())
	}
	if rec = make(int16(typ)); any(rec) == nil {
		return none, 0, fmt.Errorf("%w %d", ErrUnknownType, typ)
	}
	rec.Decode(r, int16(v))
	if err := r.Finish(); err != nil {
		return none, 0, fmt.Errorf("record type %d version %d: %w", typ, v, err)
	}
	return rec, int16(v), nil
}

// reader returns a reader of b that may allocate in proportion to b's length.
func reader(b []byte) *wire.Reader { return wire.NewReader(b, wire.NewBudget(len(b), nil)) }

// smallRecord is room for most keys and values of coordinators: offsets, transactions, short names.
const smallRecord = 80

// EncodeGroupKey returns a group, transaction or share coordinator's record key: type and body.
func EncodeGroupKey(k Key) []byte {
	var w wire.Writer
	w.Grow(smallRecord)
	putKey(&w, k)
	return take(&w, k)
}

// EncodeVersioned returns a message with its version in front: a coordinator record's value, or any other versioned struct.
func EncodeVersioned(m wire.Message, version int16) []byte {
	var w wire.Writer
	w.Grow(smallRecord)
	putVersioned(&w, m, version)
	return take(&w, m)
}

// EncodeGroupPair returns what EncodeGroupKey and EncodeVersioned do of a key and its value, in one piece of memory.
func EncodeGroupPair(k Key, v Value, version int16) (key, value []byte) {
	var w wire.Writer
	w.Grow(smallRecord)
	putKey(&w, k)
	n := w.Size()
	putVersioned(&w, v, version)
	b := take(&w, v)
	return b[:n:n], b[n:]
}

func putKey(w *wire.Writer, k Key) {
	w.Int16(k.RecordType())
	k.Encode(w, 0)
}

func putVersioned(w *wire.Writer, m wire.Message, version int16) {
	w.Int16(version)
	m.Encode(w, version)
}

func take(w *wire.Writer, m wire.Message) []byte {
	b, err := w.Take()
	if err != nil {
		panic(fmt.Sprintf("logrec: encode %T: %v", m, err))
	}
	return b
}

// DecodeVersioned reads a version and m at that version, ignoring what follows.
func DecodeVersioned(b []byte, m wire.Message) (version int16, err error) {
	r := reader(b)
	version = r.Int16()
	if !r.Failed() {
		m.Decode(r, version)
	}
	if r.Failed() {
		return 0, fmt.Errorf("%T: %w", m, r.Err())
	}
	return version, nil
}

// DecodeGroup reads a record of the group coordinator's log. A nil value is a tombstone and yields a nil Value. The error
// wraps ErrUnknownType for a type of a later release.
func DecodeGroup(key, value []byte) (Key, Value, error) {
	return decodePair(key, value, newGroupRecord)
}

// DecodeTxn reads a record of the transaction coordinator's log.
func DecodeTxn(key, value []byte) (Key, Value, error) { return decodePair(key, value, newTxnRecord) }

// DecodeShare reads a record of the share coordinator's log.
func DecodeShare(key, value []byte) (Key, Value, error) {
	return decodePair(key, value, newShareRecord)
}

func decodePair(key, value []byte, make func(int16) (Key, Value)) (Key, Value, error) {
	r := reader(key)
	typ := r.Int16()
	if r.Failed() {
		return nil, nil, fmt.Errorf("record key: %w", r.Err())
	}
	k, v := make(typ)
	if k == nil {
		return nil, nil, fmt.Errorf("%w %d", ErrUnknownType, typ)
	}
	if k.Decode(r, 0); r.Failed() {
		return nil, nil, fmt.Errorf("key of record type %d: %w", typ, r.Err())
	}
	if value == nil {
		return k, nil, nil
	}
	if _, err := DecodeVersioned(value, v); err != nil {
		return nil, nil, fmt.Errorf("value of record type %d: %w", typ, err)
	}
	return k, v, nil
}

// Form is what there is to know about one message of this package.
type Form struct {
	Name     string // Kafka's
	Min, Max int16  // versions, inclusive
	// FlexibleFrom is the first version with tagged fields and compact lengths; -1 if there is none.
	FlexibleFrom int16
	// New returns the message with its defaults.
	New func() wire.Message
}

// Forms returns every message of this package. The entries are shared: do not change them.
func Forms() []Form { return forms[:] }

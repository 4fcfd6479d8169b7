package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Options are a new batch's header fields. Start from NewOptions: the zero value names producer 0.
type Options struct {
	BaseOffset    id.Offset
	LeaderEpoch   id.LeaderEpoch
	Compression   Compression
	TimestampType TimestampType
	// LogAppendMs is the max timestamp of a LogAppendTime batch, in milliseconds.
	LogAppendMs   int64
	ProducerID    id.ProducerID
	ProducerEpoch id.ProducerEpoch
	BaseSequence  int32
	Transactional bool
	Control       bool
	// DeleteHorizonMs, if above 0, is when compaction may drop the batch's tombstones; it takes the base timestamp's place.
	DeleteHorizonMs int64
}

// NewOptions returns the options of a plain client batch: offset 0, no leader epoch, no producer, no compression.
func NewOptions() Options {
	return Options{LeaderEpoch: id.NoLeaderEpoch, ProducerID: id.NoProducer, ProducerEpoch: id.NoProducerEpoch,
		BaseSequence: NoSequence, LogAppendMs: NoTimestamp}
}

// Builder builds one batch at a time. Reset makes it ready for the next one and keeps its memory.
type Builder struct {
	opts    Options
	raw     []byte // the records, uncompressed
	out     []byte
	count   int32
	last    id.Offset
	baseTS  int64
	maxTS   int64
	sticky  error
	scratch []byte
}

// NewBuilder returns a builder for a batch with these options.
func NewBuilder(o Options) *Builder {
	b := new(Builder)
	b.Reset(o)
	return b
}

// Reset forgets the records and the batch built from them, whose memory is used again.
func (b *Builder) Reset(o Options) {
	*b = Builder{opts: o, raw: b.raw[:0], out: b.out[:0], scratch: b.scratch[:0], last: o.BaseOffset - 1, baseTS: NoTimestamp, maxTS: NoTimestamp}
	if o.DeleteHorizonMs > 0 {
		b.baseTS = o.DeleteHorizonMs
	}
}

// Append adds a record at the next offset. A nil key or value is null. An error (an offset, a size or a timestamp out of
// range) sticks: Build returns it too.
func (b *Builder) Append(timestampMs int64, key, value []byte, headers ...Header) error {
	return b.AppendAt(b.last+1, timestampMs, key, value, headers...)
}

// AppendAt adds a record at an offset beyond those before it.
func (b *Builder) AppendAt(o id.Offset, timestampMs int64, key, value []byte, headers ...Header) error {
	h := b.scratch[:0]
	for _, x := range headers {
		if x.Key == nil {
			return b.stick(errors.New("a record header has a null key"))
		}
		h = appendBytes(appendBytes(h, x.Key), x.Value)
	}
	b.scratch = h
	return b.append(o, timestampMs, key, value, len(headers), h)
}

// AppendRecord adds r, as an Iterator gave it, at offset o: its bytes are copied.
func (b *Builder) AppendRecord(o id.Offset, r *Record) error {
	return b.append(o, r.TimestampMs, r.Key, r.Value, r.HeaderCount, r.headers)
}

func (b *Builder) append(o id.Offset, timestampMs int64, key, value []byte, headerCount int, headers []byte) error {
	if b.sticky != nil {
		return b.sticky
	}
	if timestampMs < 0 && timestampMs != NoTimestamp {
		return b.stick(fmt.Errorf("invalid negative timestamp %d", timestampMs))
	}
	delta := o - b.opts.BaseOffset
	if o <= b.last || delta > math.MaxInt32 {
		return b.stick(fmt.Errorf("offset %d cannot follow offset %d in a batch that starts at %d", o, b.last, b.opts.BaseOffset))
	}
	if b.count == 0 && b.opts.DeleteHorizonMs <= 0 {
		b.baseTS = timestampMs
	}
	tsDelta := timestampMs - b.baseTS
	size := 1 + sizeVarlong(tsDelta) + sizeVarint(int32(delta)) + sizeBytes(key) + sizeBytes(value) + sizeVarint(int32(headerCount)) + len(headers)
	if int64(size)+int64(len(b.raw))+HeaderSize > math.MaxInt32 {
		return b.stick(fmt.Errorf("a batch cannot be larger than %d bytes", math.MaxInt32))
	}
	b.raw = appendVarint(b.raw, int32(size))
	b.raw = append(b.raw, 0)
	b.raw = appendVarlong(b.raw, tsDelta)
	b.raw = appendVarint(b.raw, int32(delta))
	b.raw = appendBytes(b.raw, key)
	b.raw = appendBytes(b.raw, value)
	b.raw = appendVarint(b.raw, int32(headerCount))
	b.raw = append(b.raw, headers...)
	b.count++
	b.last = o
	b.maxTS = max(b.maxTS, timestampMs)
	return nil
}

func (b *Builder) stick(err error) error {
	b.sticky = err
	return err
}

// Count is the number of records appended so far.
func (b *Builder) Count() int { return int(b.count) }

// SizeBytes is the size of the batch with the records appended so far, before compression.
func (b *Builder) SizeBytes() int { return HeaderSize + len(b.raw) }

// LastOffset is the offset of the last record appended, BaseOffset-1 if there is none.
func (b *Builder) LastOffset() id.Offset { return b.last }

// Build finishes the batch. It aliases the builder's memory and is valid until Reset. It fails without records and with
// the first error of an append.
func (b *Builder) Build() (Batch, error) {
	out, err := b.AppendTo(b.out[:0])
	if err != nil {
		return nil, err
	}
	b.out = out
	return Batch(out[:len(out):len(out)]), nil
}

// AppendTo finishes the batch at the end of dst, so that several batches can be built into one slice.
func (b *Builder) AppendTo(dst []byte) ([]byte, error) {
	if b.sticky != nil {
		return dst, fmt.Errorf("build a batch: %w", b.sticky)
	}
	if b.count == 0 {
		return dst, errors.New("build a batch: it has no records")
	}
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	dst, err := compress(dst, b.raw, b.opts.Compression)
	if err != nil {
		return dst[:start], fmt.Errorf("build a batch: %w", err)
	}
	maxTS := b.maxTS
	if b.opts.TimestampType == LogAppendTime {
		maxTS = b.opts.LogAppendMs
	}
	putHeader(dst[start:], &b.opts, int32(b.last-b.opts.BaseOffset), b.count, b.baseTS, maxTS)
	return dst, nil
}

// putHeader writes the header of the batch that fills b, its CRC last.
func putHeader(b []byte, o *Options, lastOffsetDelta, count int32, baseTS, maxTS int64) {
	attrs := Attributes(o.Compression.Codec) & AttrCodecMask
	if o.TimestampType == LogAppendTime {
		attrs |= AttrLogAppendTime
	}
	if o.Transactional {
		attrs |= AttrTransactional
	}
	if o.Control {
		attrs |= AttrControl
	}
	if o.DeleteHorizonMs > 0 {
		attrs |= AttrDeleteHorizon
	}
	be := binary.BigEndian
	be.PutUint64(b[posBaseOffset:], uint64(o.BaseOffset))
	be.PutUint32(b[posLength:], uint32(len(b)-LogOverhead))
	be.PutUint32(b[posLeaderEpoch:], uint32(o.LeaderEpoch))
	b[posMagic] = Magic
	be.PutUint16(b[posAttributes:], uint16(attrs))
	be.PutUint32(b[posLastOffsetDelta:], uint32(lastOffsetDelta))
	be.PutUint64(b[posBaseTimestamp:], uint64(baseTS))
	be.PutUint64(b[posMaxTimestamp:], uint64(maxTS))
	be.PutUint64(b[posProducerID:], uint64(o.ProducerID))
	be.PutUint16(b[posProducerEpoch:], uint16(o.ProducerEpoch))
	be.PutUint32(b[posBaseSequence:], uint32(o.BaseSequence))
	be.PutUint32(b[posCount:], uint32(count))
	Batch(b).SetCRC()
}

// EmptyBatch appends a batch without records to dst that keeps the offsets [o.BaseOffset, last] and the producer's state:
// what compaction leaves when it has removed every record of a producer's last batch.
func EmptyBatch(dst []byte, o Options, last id.Offset, timestampMs int64) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	o.Compression = Compression{}
	putHeader(dst[start:], &o, int32(last-o.BaseOffset), 0, NoTimestamp, timestampMs)
	return dst
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return appendVarint(dst, -1)
	}
	return append(appendVarint(dst, int32(len(b))), b...)
}

func sizeBytes(b []byte) int {
	if b == nil {
		return 1
	}
	return sizeVarint(int32(len(b))) + len(b)
}

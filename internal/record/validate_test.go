package record

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

const testNow = 1_700_000_000_000

func testOptions() ValidateOptions {
	return ValidateOptions{
		TopicPartition: id.TopicPartition{Topic: "t", Partition: 3}, ProduceVersion: 11, KeepCodec: true,
		TimestampBeforeMs: math.MaxInt64, TimestampAfterMs: 3_600_000, NowMs: testNow,
		MaxBatchBytes: 1 << 20, MaxSegmentBytes: 1 << 30, DecompressedLimit: testLimit,
	}
}

func simple(n int) []plain {
	out := make([]plain, n)
	for i := range out {
		out[i] = plain{Offset: int64(i), TimestampMs: testNow - 1000 + int64(i%7), Key: []byte{byte(i)}, Value: []byte(strings.Repeat("v", i%90))}
	}
	return out
}

// edit changes a batch and repairs its CRC.
func edit(b Batch, f func(Batch)) Batch {
	c := Batch(append([]byte(nil), b...))
	f(c)
	c.SetCRC()
	return c
}

func put32(pos int, v int32) func(Batch) {
	return func(b Batch) { binary.BigEndian.PutUint32(b[pos:], uint32(v)) }
}

func setAttr(a Attributes) func(Batch) {
	return func(b Batch) { binary.BigEndian.PutUint16(b[posAttributes:], uint16(b.Attributes()|a)) }
}

func opt(f func(*ValidateOptions)) ValidateOptions {
	o := testOptions()
	f(&o)
	return o
}

func withCodec(t *testing.T, c Codec, recs []plain) Batch {
	o := NewOptions()
	o.Compression.Codec = c
	return build(t, o, recs)
}

func TestValidateRefuses(t *testing.T) {
	good := withCodec(t, None, simple(3))
	noKey := simple(5)
	noKey[1].Key, noKey[2].Key, noKey[3].Key, noKey[4].Key = nil, nil, nil, nil
	late := simple(2)
	late[1].TimestampMs = testNow + 3_600_001
	mixed := simple(3)
	mixed[1].Key, mixed[2].TimestampMs = nil, testNow+3_600_001
	idem := NewOptions()
	idem.ProducerID, idem.ProducerEpoch = 7, 0
	old := append([]byte(nil), good...)
	old[posMagic] = 1
	badMagic := append([]byte(nil), good...)
	badMagic[posMagic] = 9
	flipped := append([]byte(nil), good...)
	flipped[len(flipped)-1] ^= 1
	short := append([]byte(nil), good...)
	binary.BigEndian.PutUint32(short[posLength:], 40)
	zst := withCodec(t, Zstd, simple(3))
	bomb := withCodec(t, Zstd, []plain{{Key: []byte("k"), Value: make([]byte, 5<<20)}})
	big := withCodec(t, None, []plain{{Key: []byte("k"), Value: make([]byte, 200<<10)}})
	gz := withCodec(t, Gzip, noKey)

	type row struct {
		name    string
		in      []byte
		o       ValidateOptions
		code    wire.ErrorCode
		message string
		records []RecordError
	}
	noKeyMsg := "Compacted topic cannot accept message without key in topic partition t-3"
	noKeyErrs := []RecordError{{1, noKeyMsg}, {2, noKeyMsg}, {3, noKeyMsg}, {4, noKeyMsg}}
	noKeyText := "One or more records have been rejected due to 4 record errors in total, and only showing the first three errors at most: " +
		"[RecordError(batchIndex=1, message='" + noKeyMsg + "'), RecordError(batchIndex=2, message='" + noKeyMsg + "'), RecordError(batchIndex=3, message='" + noKeyMsg + "')]"
	compacted := opt(func(o *ValidateOptions) { o.Compacted = true })
	tests := []row{
		{"nothing", nil, testOptions(), wire.ErrInvalidRecord, "Produce requests with version 11 must have at least one record batch per partition", nil},
		{"half a batch", good[:len(good)-1], testOptions(), wire.ErrInvalidRecord, "Produce requests with version 11 must have at least one record batch per partition", nil},
		{"two batches", append(append([]byte(nil), good...), good...), testOptions(), wire.ErrInvalidRecord, "Produce requests with version 11 are only allowed to contain exactly one record batch per partition", nil},
		{"two batches of a coordinator", append(append([]byte(nil), good...), good...), opt(func(o *ValidateOptions) { o.Origin = OriginCoordinator; o.ProduceVersion = 0 }), wire.ErrInvalidRecord, "Compressed outer record has more than one batch", nil},
		{"garbage behind the batch", append(append([]byte(nil), good...), make([]byte, 20)...), testOptions(), wire.ErrCorruptMessage, "Record size 0 is less than the minimum record overhead (14)", nil},
		{"magic 1", old, testOptions(), wire.ErrInvalidRecord, "Produce requests with version 11 are only allowed to contain record batches with magic version 2", nil},
		{"magic 9", badMagic, testOptions(), wire.ErrCorruptMessage, "Invalid magic found in record: 9", nil},
		{"shorter than a header", short, testOptions(), wire.ErrCorruptMessage, "Record batch is corrupt (the size 52 is smaller than the minimum allowed overhead 61)", nil},
		{"crc", flipped, testOptions(), wire.ErrCorruptMessage, "Record is corrupt (stored crc = " + itoa(Batch(flipped).CRC()) + ") in topic partition t-3.", nil},
		{"zstd before version 7", zst, opt(func(o *ValidateOptions) { o.ProduceVersion = 6 }), wire.ErrUnsupportedCompressionType, "Produce requests with version 6 are not allowed to use ZStandard compression", nil},
		{"unknown codec", edit(good, setAttr(5)), testOptions(), wire.ErrUnknownServerError, "Unknown compression type id: 5", nil},
		{"base offset", edit(good, func(b Batch) { b.SetBaseOffset(5) }), testOptions(), wire.ErrInvalidRecord, "The baseOffset of the record batch in the append to t-3 should be 0, but it is 5", nil},
		{"too large", good, opt(func(o *ValidateOptions) { o.MaxBatchBytes = 70 }), wire.ErrMessageTooLarge, "The record batch size in the append to t-3 is " + itoa(len(good)) + " bytes which exceeds the maximum configured value of 70).", nil},
		{"larger than a segment", good, opt(func(o *ValidateOptions) { o.MaxSegmentBytes = 70 }), wire.ErrRecordListTooLarge, "Message batch size is " + itoa(len(good)) + " bytes in append to partition t-3, which exceeds the maximum configured segment size of 70.", nil},
		{"too large after decompression", withCodec(t, LZ4, []plain{{Key: []byte("k"), Value: make([]byte, 200<<10)}}), opt(func(o *ValidateOptions) { o.KeepCodec = false; o.MaxBatchBytes = 100_000 }),
			wire.ErrMessageTooLarge, "Message batch size is " + itoa(len(big)) + " bytes in append to partition t-3 which exceeds the maximum configured size of 100000.", nil},
		{"negative offset range", edit(good, put32(posLastOffsetDelta, -2)), testOptions(), wire.ErrInvalidRecord, "Batch has an invalid offset range: [0, -2] in topic partition t-3", nil},
		{"no records", edit(good, put32(posCount, 0)), testOptions(), wire.ErrInvalidRecord, "Invalid reported count for record batch: 0 in topic partition t-3", nil},
		{"negative count", edit(good, put32(posCount, -1)), testOptions(), wire.ErrInvalidRecord, "Invalid reported count for record batch: -1 in topic partition t-3", nil},
		{"count against offsets", edit(good, put32(posCount, 2)), testOptions(), wire.ErrInvalidRecord, "Inconsistent batch offset range [0, 2] and count of records 2 in topic partition t-3", nil},
		{"fewer records than said", edit(edit(good, put32(posCount, 4)), put32(posLastOffsetDelta, 3)), testOptions(), wire.ErrInvalidRecord, reasonEOF, nil},
		{"more records than said", edit(edit(good, put32(posCount, 2)), put32(posLastOffsetDelta, 1)), testOptions(), wire.ErrInvalidRecord, "Incorrect declared batch size, records still remaining in file", nil},
		{"more records than said, compressed", edit(edit(zst, put32(posCount, 2)), put32(posLastOffsetDelta, 1)), testOptions(), wire.ErrInvalidRecord, "Incorrect declared batch size, records still remaining in file", nil},
		{"fewer records than said, compressed", edit(edit(zst, put32(posCount, 4)), put32(posLastOffsetDelta, 3)), testOptions(), wire.ErrInvalidRecord, reasonEOF, nil},
		{"control batch", edit(good, setAttr(AttrControl)), testOptions(), wire.ErrInvalidRecord, "Clients are not allowed to write control records in topic partition t-3", nil},
		{"idempotent without sequence", build(t, idem, simple(2)), testOptions(), wire.ErrInvalidRecord, "Invalid sequence number -1 in record batch with producerId 7 in topic partition t-3", nil},
		{"null keys on a compacted topic", withCodec(t, None, noKey), compacted, wire.ErrInvalidRecord, noKeyText, noKeyErrs},
		{"null keys on a compacted topic, gzip", gz, compacted, wire.ErrInvalidRecord, noKeyText, noKeyErrs},
		{"null keys on a compacted topic, recompressed", gz, opt(func(o *ValidateOptions) { o.Compacted = true; o.KeepCodec = false; o.Target.Codec = LZ4 }), wire.ErrInvalidRecord, noKeyText, noKeyErrs},
		{"from the future", withCodec(t, None, late), testOptions(), wire.ErrInvalidTimestamp, "One or more records have been rejected due to invalid timestamp",
			[]RecordError{{1, "Timestamp 1700003600001 of message with offset 1 is out of range. The timestamp should be within [-9223370336854775807, 1700003600000]"}}},
		{"from the past", withCodec(t, Snappy, simple(1)), opt(func(o *ValidateOptions) { o.TimestampBeforeMs = 999 }), wire.ErrInvalidTimestamp, "One or more records have been rejected due to invalid timestamp",
			[]RecordError{{0, "Timestamp 1699999999000 of message with offset 0 is out of range. The timestamp should be within [1699999999001, 1700003600000]"}}},
		{"a key missing and a time wrong", withCodec(t, None, mixed), compacted, wire.ErrInvalidTimestamp, "One or more records have been rejected due to invalid timestamp",
			[]RecordError{{1, noKeyMsg}, {2, "Timestamp 1700003600001 of message with offset 2 is out of range. The timestamp should be within [-9223370336854775807, 1700003600000]"}}},
		{"log append time from a client", edit(good, setAttr(AttrLogAppendTime)), opt(func(o *ValidateOptions) { o.TimestampType = LogAppendTime }), wire.ErrInvalidTimestamp, "One or more records have been rejected due to invalid timestamp",
			[]RecordError{
				{0, "Invalid timestamp type in message DefaultRecord(offset=0, timestamp=1699999999002, key=1 bytes, value=0 bytes). Producer should not set timestamp type to LogAppendTime."},
				{1, "Invalid timestamp type in message DefaultRecord(offset=1, timestamp=1699999999002, key=1 bytes, value=1 bytes). Producer should not set timestamp type to LogAppendTime."},
				{2, "Invalid timestamp type in message DefaultRecord(offset=2, timestamp=1699999999002, key=1 bytes, value=2 bytes). Producer should not set timestamp type to LogAppendTime."},
			}},
		{"decompression bomb", bomb, opt(func(o *ValidateOptions) { o.DecompressedLimit = 1 << 20 }), wire.ErrMessageTooLarge, "records compressed with zstd take more than 1048576 bytes", nil},
		{"record over the bound", withCodec(t, Gzip, []plain{{Key: []byte("k"), Value: make([]byte, 1000)}}), opt(func(o *ValidateOptions) { o.MaxRecordBytes = 1000 }), wire.ErrInvalidRecord, "Invalid record size: 1008 exceeds the configured maximum record size of 1000.", nil},
		{"decompression bomb that would be recompressed", withCodec(t, Zstd, []plain{{Key: []byte("k"), Value: make([]byte, maxRewriteBytes)}}), opt(func(o *ValidateOptions) { o.DecompressedLimit = 1 << 30; o.KeepCodec = false; o.Target.Codec = Gzip }), wire.ErrMessageTooLarge, "records compressed with zstd take more than 67108864 bytes", nil},
		{"wrong raft epoch", good, opt(func(o *ValidateOptions) { o.Origin = OriginRaftLeader; o.ProduceVersion = 0; o.LeaderEpoch = 4 }), wire.ErrInvalidRecord, "Append from Raft leader did not set the batch epoch correctly, expected 4 but the batch has -1", nil},
		{"replicated out of order", append(append([]byte(nil), good...), good...), opt(func(o *ValidateOptions) { o.Origin = OriginReplication; o.ProduceVersion = 0 }), wire.ErrUnknownServerError, "Out of order offsets found in append to t-3: 0 after 2", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Validate(append([]byte(nil), tt.in...), tt.o)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error is %v", err)
			}
			if e.Code != tt.code || e.Message != tt.message {
				t.Errorf("got %s %q\nwant %s %q", e.Code.Name(), e.Message, tt.code.Name(), tt.message)
			}
			if diff := cmp.Diff(tt.records, e.Records); diff != "" {
				t.Error(diff)
			}
			if code, ok := errors.AsType[wire.ErrorCode](err); !ok || code != tt.code {
				t.Errorf("errors.As finds code %v", code)
			}
		})
	}
}

func itoa[T ~int | ~uint32](n T) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

func TestValidateRefusesGarbagePayloads(t *testing.T) {
	for _, c := range allCodecs[1:] {
		b := withCodec(t, c, simple(50))
		cut := edit(b[:len(b)-4], func(x Batch) { binary.BigEndian.PutUint32(x[posLength:], uint32(len(x)-LogOverhead)) })
		junk := edit(b, func(x Batch) {
			for i := range x.Payload() {
				x.Payload()[i] = byte(i * 7)
			}
		})
		for name, in := range map[string]Batch{"cut": cut, "junk": junk} {
			_, err := Validate(in, testOptions())
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("%s, %s: accepted", c, name)
				continue
			}
			// A codec's complaint is Kafka's "unexpected" error; a payload that merely ends is an invalid record.
			if e.Code != wire.ErrUnknownServerError && e.Code != wire.ErrInvalidRecord {
				t.Errorf("%s, %s: %v", c, name, e)
			}
		}
	}
}

func TestValidateInPlace(t *testing.T) {
	for _, c := range allCodecs {
		recs := simple(100)
		in := withCodec(t, c, recs)
		want := append([]byte(nil), in...)
		v, err := Validate(in, testOptions())
		if err != nil {
			t.Fatalf("%s: %v", c, err)
		}
		if v.Rewritten || &v.Bytes[0] != &in[0] || v.Records != 100 || v.SourceCodec != c || v.LogAppendMs != NoTimestamp || v.MaxTimestampMs != testNow-1000+6 {
			t.Fatalf("%s: %+v", c, v)
		}
		if diff := cmp.Diff(want, v.Bytes); diff != "" {
			t.Fatalf("%s: bytes changed: %s", c, diff)
		}
		v.AssignOffsets(1000, 9)
		b := Batch(v.Bytes)
		if b.BaseOffset() != 1000 || b.LastOffset() != 1099 || b.LeaderEpoch() != 9 || v.LastOffset != 1099 || v.OffsetOfMaxTimestamp != 1099 || v.FirstOffset != 1000 {
			t.Fatalf("%s: %v, %+v", c, b, v)
		}
		if err := b.CheckCRC(); err != nil {
			t.Fatal(err)
		}
		for i, r := range collect(t, b) {
			if r.Offset != int64(1000+i) || cmp.Diff(r.Value, recs[i].Value) != "" {
				t.Fatalf("%s: record %d is %+v", c, i, r)
			}
		}
	}
}

func TestValidateTimestamps(t *testing.T) {
	for _, c := range []Codec{None, LZ4} {
		in := edit(withCodec(t, c, simple(3)), func(b Batch) { binary.BigEndian.PutUint64(b[posMaxTimestamp:], 5) }) // a lie
		v, err := Validate(in, testOptions())
		if err != nil || Batch(v.Bytes).MaxTimestamp() != testNow-1000+2 || Batch(v.Bytes).CheckCRC() != nil {
			t.Fatalf("%s: max timestamp is not repaired: %v, %v", c, Batch(v.Bytes), err)
		}
		v, err = Validate(in, opt(func(o *ValidateOptions) { o.TimestampType = LogAppendTime; o.TimestampBeforeMs = 1 }))
		b := Batch(v.Bytes)
		if err != nil || b.MaxTimestamp() != testNow || b.TimestampType() != LogAppendTime || b.CheckCRC() != nil || v.LogAppendMs != testNow || v.MaxTimestampMs != testNow {
			t.Fatalf("%s: log append time: %v, %+v, %v", c, b, v, err)
		}
		for _, r := range collect(t, b) {
			if r.TimestampMs != testNow {
				t.Fatalf("%s: record time %d", c, r.TimestampMs)
			}
		}
	}
	none := []plain{{TimestampMs: NoTimestamp, Value: []byte("x")}}
	v, err := Validate(withCodec(t, None, none), opt(func(o *ValidateOptions) { o.TimestampBeforeMs = 0; o.TimestampAfterMs = 0 }))
	if err != nil || v.MaxTimestampMs != NoTimestamp || v.OffsetOfMaxTimestamp != -1 {
		t.Fatalf("without a timestamp: %+v, %v", v, err)
	}
	// Kafka's rule, odd as it is: on a create-time topic a batch that claims log append time is stored as create time.
	v, err = Validate(edit(withCodec(t, None, simple(2)), setAttr(AttrLogAppendTime)), testOptions())
	if err != nil || Batch(v.Bytes).TimestampType() != CreateTime {
		t.Fatalf("log append time on a create-time topic: %v, %v", Batch(v.Bytes), err)
	}
}

func TestValidateRecompresses(t *testing.T) {
	scratch := new(Builder)
	for _, from := range allCodecs {
		for _, to := range allCodecs {
			o := NewOptions()
			o.Compression.Codec = from
			o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = 77, 3, 12, true
			recs := simple(300)
			in := build(t, o, recs)
			v, err := Validate(in, opt(func(o *ValidateOptions) { o.KeepCodec = false; o.Target.Codec = to; o.Scratch = scratch }))
			if err != nil {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			v.AssignOffsets(40, 2)
			b := Batch(v.Bytes)
			if v.Rewritten != (from != to) || b.Codec() != to || b.ProducerID() != 77 || b.ProducerEpoch() != 3 || b.BaseSequence() != 12 ||
				!b.IsTransactional() || b.Count() != 300 || b.LastOffset() != 339 || b.CheckCRC() != nil || v.LastOffset != 339 || v.SourceCodec != from {
				t.Fatalf("%s to %s: %v, %+v", from, to, b, v)
			}
			for i, r := range collect(t, b) {
				r.Offset -= 40
				if diff := cmp.Diff(recs[i], r); diff != "" {
					t.Fatalf("%s to %s, record %d: %s", from, to, i, diff)
				}
			}
		}
	}
}

func TestValidateRenumbersGaps(t *testing.T) {
	for _, c := range []Codec{None, Gzip} {
		o := NewOptions()
		o.Compression.Codec = c
		nb := NewBuilder(o)
		for i, off := range []id.Offset{0, 5, 9} {
			if err := nb.AppendAt(off, testNow+int64(i), nil, []byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		b, err := nb.Build()
		if err != nil {
			t.Fatal(err)
		}
		in := edit(b, put32(posLastOffsetDelta, 2)) // the header says 0 to 2
		v, err := Validate(in, testOptions())
		if err != nil || !v.Rewritten {
			t.Fatalf("%s: %+v, %v", c, v, err)
		}
		for i, r := range collect(t, Batch(v.Bytes)) {
			if r.Offset != int64(i) || r.Value[0] != byte(i) {
				t.Fatalf("%s: record %d is %+v", c, i, r)
			}
		}
	}
}

func TestValidateKeepsControlBatchesUncompressed(t *testing.T) {
	o := NewOptions()
	o.ProducerID, o.ProducerEpoch, o.Transactional = 5, 1, true
	in, err := EndTxnMarker(5, 1, true, testNow, []byte{0, 0, 0, 0, 0, 1})
	if err != nil {
		t.Fatal(err)
	}
	v, err := Validate(in, opt(func(o *ValidateOptions) {
		o.Origin, o.ProduceVersion, o.KeepCodec, o.Target.Codec = OriginCoordinator, 0, false, Zstd
	}))
	if err != nil || v.Rewritten || Batch(v.Bytes).Codec() != None || !Batch(v.Bytes).IsControl() {
		t.Fatalf("%+v, %v", v, err)
	}
}

func TestValidateFollower(t *testing.T) {
	var in []byte
	for i := range 3 {
		o := NewOptions()
		o.BaseOffset, o.LeaderEpoch = id.Offset(10+2*i), id.LeaderEpoch(4+i)
		in = append(in, build(t, o, simple(2))...)
	}
	whole := len(in)
	o := opt(func(o *ValidateOptions) {
		o.Origin = OriginReplication
		o.ProduceVersion = 0
		o.LeaderEpoch = 5
		o.MaxBatchBytes = 10
	})
	v, err := Validate(append(in, in[:30]...), o)
	if err != nil || v.Batches != 2 || v.FirstOffset != 10 || v.LastOffset != 13 || v.LastEpoch != 5 || v.OffsetOfMaxTimestamp != 11 || v.TrimmedBytes != whole/3+30 || v.Records != 4 {
		t.Fatalf("%+v, %v", v, err)
	}
}

// TestBoundOfRecordsIsForCompressedOnes: what was not compressed is bounded by the batch's size, and a record at the bound passes.
func TestBoundOfRecordsIsForCompressedOnes(t *testing.T) {
	for codec, most := range map[Codec]int{None: 10, Gzip: 1008} {
		b := withCodec(t, codec, []plain{{Key: []byte("k"), Value: make([]byte, 1000)}})
		it := Batch(b).Records(1 << 20)
		it.BoundRecords(most)
		var r Record
		if !it.Next(&r) || it.Err() != nil {
			t.Errorf("%v, at most %d bytes: %v", codec, most, it.Err())
		}
		it.Close()
	}
}

package record

import (
	"testing"
)

// seedBatches are honest batches in every codec.
func seedBatches(f *testing.F) []Batch {
	var out []Batch
	for _, c := range allCodecs {
		o := NewOptions()
		o.Compression.Codec = c
		recs := simple(4)
		recs[1].Headers = []Header{{[]byte("h"), nil}, {[]byte("i"), []byte("x")}}
		recs[2].Key, recs[3].Value = nil, nil
		out = append(out, build(f, o, recs))
	}
	control, err := LeaderChange(0, 1, testNow, []byte{0, 0, 0, 0, 0, 1, 0, 0, 0})
	if err != nil {
		f.Fatal(err)
	}
	return append(out, control)
}

// FuzzIterate walks whatever Next hands out, with a small decompression bound.
func FuzzIterate(f *testing.F) {
	for _, b := range seedBatches(f) {
		f.Add([]byte(b))
		f.Add(append([]byte(b), b...))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 1 << 18
		for len(in) > 0 {
			b, rest, err := Next(in)
			if err != nil {
				return
			}
			if len(b) < HeaderSize || len(b)+len(rest) != len(in) {
				t.Fatalf("Next cut %d bytes into %d and %d", len(in), len(b), len(rest))
			}
			_ = b.String()
			it := b.Records(limit)
			var r Record
			n, bytes := int32(0), 0
			for it.Next(&r) {
				n++
				bytes += r.SizeBytes
				if got := len(r.AppendHeaders(nil)); got != r.HeaderCount {
					t.Fatalf("%d headers of %d", got, r.HeaderCount)
				}
			}
			if n > max(b.Count(), 0) || it.Err() == nil && n != b.Count() {
				t.Fatalf("%d records of %d, %v", n, b.Count(), it.Err())
			}
			if b.Codec() != None && bytes > limit+1 {
				t.Fatalf("%d bytes of records under a limit of %d", bytes, limit)
			}
			it.Close()
			in = rest
		}
	})
}

// FuzzDecompress feeds each codec; what it can read is compressed and read again.
func FuzzDecompress(f *testing.F) {
	for _, b := range seedBatches(f) {
		f.Add(uint8(b.Codec()), b.Payload())
	}
	f.Fuzz(func(t *testing.T, codec uint8, payload []byte) {
		c := Codec(codec%4) + 1
		const limit = 1 << 18
		out, err := decompressAll(c, payload, limit)
		if len(out) > limit {
			t.Fatalf("%s: %d bytes under a limit of %d", c, len(out), limit)
		}
		if err != nil {
			return
		}
		packed, err := compress(nil, out, Compression{Codec: c})
		if err != nil {
			t.Fatal(err)
		}
		again, err := decompressAll(c, packed, limit)
		if err != nil || string(again) != string(out) {
			t.Fatalf("%s: %d bytes come back as %d, %v", c, len(out), len(again), err)
		}
	})
}

// decompressAll reads a payload to its end.
func decompressAll(c Codec, payload []byte, limit int) ([]byte, error) {
	s, err := openStream(c, payload, limit)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var out []byte
	for {
		b, err := s.more(nil)
		out = append(out, b...)
		if err != nil {
			if err.Error() == "EOF" {
				return out, nil
			}
			return out, err
		}
	}
}

// FuzzValidate looks at what Validate accepts: it must be a sound batch.
func FuzzValidate(f *testing.F) {
	for i, b := range seedBatches(f) {
		f.Add([]byte(b), uint8(i), uint8(i))
	}
	f.Fuzz(func(t *testing.T, in []byte, flags, target uint8) {
		for _, fixCRC := range []bool{false, true} {
			in := append([]byte(nil), in...)
			if fixCRC && len(in) >= HeaderSize {
				if b, _, err := Next(in); err == nil {
					b.SetCRC()
				}
			}
			o := testOptions()
			o.Origin = Origin(flags & 3)
			if o.Origin != OriginClient {
				o.ProduceVersion = 0
			}
			o.Compacted = flags&4 != 0
			o.KeepCodec = flags&8 != 0
			o.TimestampType = TimestampType(flags >> 4 & 1)
			o.Target.Codec = Codec(target % 5)
			o.DecompressedLimit = 1 << 18
			// Kafka takes a batch that claims log append time on a create-time topic, and the claimed time for the largest.
			if b, _, err := Next(in); err == nil {
				var plain, full walker
				if plain.walkPlain(b, &o) {
					err := full.walk(b, &o, nil)
					if err != nil || plain.count != full.count || plain.maxTimestampMs != full.maxTimestampMs || !full.consecutive {
						t.Fatalf("the quick walk sees %+v, the full one %+v, %v", plain, full, err)
					}
				}
			}
			claims := len(in) >= HeaderSize && Batch(in).TimestampType() == LogAppendTime && o.TimestampType == CreateTime
			v, err := Validate(in, o)
			if err != nil || o.Origin > OriginCoordinator {
				continue
			}
			v.AssignOffsets(100, 3)
			b, rest, err := Next(v.Bytes)
			if err != nil || len(rest) != 0 || b.CheckCRC() != nil || b.BaseOffset() != 100 || b.LeaderEpoch() != 3 {
				t.Fatalf("%v, %v, %d bytes left", b, err, len(rest))
			}
			it := b.Records(1 << 19)
			want := int32(0)
			for r := (Record{}); it.Next(&r); want++ {
				if r.OffsetDelta != want {
					t.Fatalf("record %d has delta %d", want, r.OffsetDelta)
				}
				if r.TimestampMs > b.MaxTimestamp() && !claims {
					t.Fatalf("record time %d is above the batch's %d", r.TimestampMs, b.MaxTimestamp())
				}
			}
			if it.Err() != nil {
				t.Fatal(it.Err())
			}
			it.Close()
		}
	})
}

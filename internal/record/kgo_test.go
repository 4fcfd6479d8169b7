package record

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestAgainstFranz lets franz-go's codecs read what we compress and we read what it compresses.
func TestAgainstFranz(t *testing.T) {
	rnd := newRand(t)
	theirs := map[Codec]kgo.CompressionCodec{Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(), LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression()}
	for c, codec := range theirs {
		recs := randomRecords(rnd, 1+rnd.IntN(200), 500)
		o := NewOptions()
		o.Compression.Codec = c
		ours := build(t, o, recs)

		var kb kmsg.RecordBatch
		if err := kb.ReadFrom(ours); err != nil {
			t.Fatalf("%s: kmsg: %v", c, err)
		}
		if kb.NumRecords != int32(len(recs)) || kb.LastOffsetDelta != int32(len(recs)-1) || int64(kb.FirstTimestamp) != recs[0].TimestampMs || kb.Magic != 2 {
			t.Fatalf("%s: kmsg reads the header as %+v", c, kb)
		}
		raw, err := kgo.DefaultDecompressor().Decompress(kb.Records, kgo.CompressionCodecType(c))
		if err != nil {
			t.Fatalf("%s: kgo cannot decompress: %v", c, err)
		}
		plainOpts := o
		plainOpts.Compression.Codec = None
		if diff := cmp.Diff([]byte(build(t, plainOpts, recs).Payload()), raw); diff != "" {
			t.Fatalf("%s: kgo decompresses to something else: %s", c, diff)
		}

		z, err := kgo.DefaultCompressor(codec)
		if err != nil {
			t.Fatal(err)
		}
		packed, kind := z.Compress(new(bytes.Buffer), raw)
		if Codec(kind) != c {
			t.Fatalf("%s: kgo compressed with %d", c, kind)
		}
		kb.Records = packed
		kb.Length = int32(49 + len(packed))
		foreign := Batch(kb.AppendTo(nil))
		foreign.SetCRC()
		if diff := cmp.Diff(recs, collect(t, foreign)); diff != "" {
			t.Fatalf("%s: from kgo: %s", c, diff)
		}
	}
}

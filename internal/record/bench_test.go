package record

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// benchBatch is a batch of about 64 KB of records of the given size, half compressible.
func benchBatch(tb testing.TB, c Codec, valueBytes int) Batch {
	rnd := rand.New(rand.NewPCG(1, uint64(valueBytes)))
	n := (64 << 10) / valueBytes
	recs := make([]plain, n)
	for i := range recs {
		v := make([]byte, valueBytes-10)
		for j := range v {
			if j%2 == 0 {
				v[j] = byte(rnd.Uint32())
			} else {
				v[j] = "the quick brown fox"[j%19]
			}
		}
		recs[i] = plain{TimestampMs: testNow + int64(i/10), Value: v}
	}
	o := NewOptions()
	o.Compression.Codec = c
	return build(tb, o, recs)
}

func BenchmarkValidate(b *testing.B) {
	for _, size := range []int{100, 1000} {
		for _, c := range allCodecs {
			b.Run(fmt.Sprintf("%dB/%s", size, c), func(b *testing.B) {
				in := benchBatch(b, c, size)
				o := testOptions()
				o.ProduceVersion = 11
				b.SetBytes(int64(len(benchBatch(b, None, size))))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Validate(in, o); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(in.Count()), "ns/record")
			})
		}
	}
}

func BenchmarkRecompress(b *testing.B) {
	for _, c := range allCodecs[1:] {
		b.Run(c.String(), func(b *testing.B) {
			in := benchBatch(b, None, 1000)
			o := testOptions()
			o.KeepCodec, o.Target.Codec, o.Scratch = false, c, new(Builder)
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Validate(in, o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestNoAllocations holds that neither a record nor a batch costs an allocation, whatever the codec.
func TestNoAllocations(t *testing.T) {
	for _, c := range allCodecs {
		small, large := benchBatch(t, c, 1000), benchBatch(t, c, 100)
		o := testOptions()
		count := func(in Batch) float64 {
			return testing.AllocsPerRun(50, func() {
				if _, err := Validate(in, o); err != nil {
					t.Fatal(err)
				}
			})
		}
		few, many := count(small), count(large)
		// A pool may lose an idle decompressor to the collector in the middle of a run, hence not exactly 0.
		if limit := map[Codec]float64{None: 0}[c] + 3; c == None && many != 0 || many > few+3 || many > limit {
			t.Errorf("%s: %v allocations for %d records, %v for %d", c, few, small.Count(), many, large.Count())
		}
	}
}

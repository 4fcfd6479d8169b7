package record

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTripEveryCodec(t *testing.T) {
	rnd := newRand(t)
	for _, c := range allCodecs {
		for _, maxLen := range []int{10, 2000, 200_000} {
			o := NewOptions()
			o.Compression.Codec = c
			recs := randomRecords(rnd, 1+rnd.IntN(1+100_000/maxLen/10), maxLen)
			b := build(t, o, recs)
			got, rest, err := Next(b)
			if err != nil || len(rest) != 0 {
				t.Fatalf("%s: Next: %d bytes left, %v", c, len(rest), err)
			}
			if err := got.CheckCRC(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(recs, collect(t, got)); diff != "" {
				t.Fatalf("%s, values up to %d bytes: %s", c, maxLen, diff)
			}
		}
	}
}

package record

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/moldau-io/moldau/internal/base/seed"
)

var allCodecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

// testLimit is a decompression bound that no honest test batch reaches.
const testLimit = 64 << 20

// newRand is the test's source of random numbers.
func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seed.Of(t), 0))
}

type plain struct {
	Offset      int64
	TimestampMs int64
	Key, Value  []byte
	Headers     []Header
}

func collect(t testing.TB, b Batch) []plain {
	t.Helper()
	it := b.Records(testLimit)
	defer it.Close()
	var out []plain
	var r Record
	for it.Next(&r) {
		p := plain{Offset: int64(r.Offset), TimestampMs: r.TimestampMs, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)}
		for _, h := range r.AppendHeaders(nil) {
			p.Headers = append(p.Headers, Header{bytes.Clone(h.Key), bytes.Clone(h.Value)})
		}
		out = append(out, p)
	}
	if err := it.Err(); err != nil {
		t.Fatalf("iterate %v: %v", b, err)
	}
	return out
}

func randomBytes(rnd *rand.Rand, maxLen int) []byte {
	switch rnd.IntN(6) {
	case 0:
		return nil
	case 1:
		return []byte{}
	}
	b := make([]byte, rnd.IntN(maxLen))
	for i := range b {
		b[i] = byte(rnd.IntN(1 + rnd.IntN(256))) // compressible in part
	}
	return b
}

func randomRecords(rnd *rand.Rand, n, maxLen int) []plain {
	out := make([]plain, n)
	for i := range out {
		p := plain{Offset: int64(i), TimestampMs: rnd.Int64N(1 << 42), Key: randomBytes(rnd, 50), Value: randomBytes(rnd, maxLen)}
		for range rnd.IntN(4) {
			p.Headers = append(p.Headers, Header{[]byte(fmt.Sprint("h", rnd.IntN(9))), randomBytes(rnd, 40)})
		}
		out[i] = p
	}
	return out
}

func build(t testing.TB, o Options, recs []plain) Batch {
	t.Helper()
	b := NewBuilder(o)
	for _, r := range recs {
		if err := b.Append(r.TimestampMs, r.Key, r.Value, r.Headers...); err != nil {
			t.Fatal(err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

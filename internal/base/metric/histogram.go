package metric

import (
	"math/bits"
	"sync/atomic"
)

// Histogram counts values in buckets that double every four steps, so that a quantile is off by at most a quarter. Observing is
// three atomic additions and allocates nothing. The zero value is ready.
type Histogram struct {
	count, sum atomic.Uint64
	buckets    [64 * steps]atomic.Uint32
}

const steps = 4 // buckets per doubling

// Observe counts one value; negative values count as 0.
func (h *Histogram) Observe(v int64) {
	if v < 0 {
		v = 0
	}
	h.count.Add(1)
	h.sum.Add(uint64(v))
	h.buckets[bucketOf(uint64(v))].Add(1)
}

// Count returns how many values were counted.
func (h *Histogram) Count() uint64 { return h.count.Load() }

func bucketOf(v uint64) int {
	if v < steps {
		return int(v)
	}
	n := bits.Len64(v) - 1 // v is in [2^n, 2^(n+1))
	return n*steps + int(v>>(n-2))&(steps-1)
}

// lowest returns the least value of a bucket.
func lowest(b int) uint64 {
	n := b / steps
	if n < 2 {
		return uint64(b)
	}
	return 1<<n + uint64(b%steps)<<(n-2)
}

var quantiles = [...]float64{0.5, 0.75, 0.95, 0.98, 0.99, 0.999}

// read returns the number and the sum of the values, and the value at each of the quantiles.
func (h *Histogram) read(scale float64) (count uint64, sum float64, at [len(quantiles)]float64) {
	var counts [len(h.buckets)]uint64
	for i := range h.buckets {
		counts[i] = uint64(h.buckets[i].Load())
		count += counts[i]
	}
	seen, b := uint64(0), 0
	for i, want := range quantiles {
		for b < len(counts)-1 && float64(seen+counts[b]) < want*float64(count) {
			seen += counts[b]
			b++
		}
		at[i] = float64(lowest(b)) * scale
	}
	return count, float64(h.sum.Load()) * scale, at
}

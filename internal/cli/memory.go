package cli

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// How far the heap may grow beyond what lives in it before the next collection, in percent.
const (
	growRarely = 200
	growOften  = 100
)

// Between these, in bytes that live in the heap, the percentage stays what it is.
const (
	smallHeap = 32 << 20
	largeHeap = 48 << 20
)

// tuneMemory lets the collector run rarely while the heap is small, which it mostly is: records are never in it. If much lives in
// it, as with very many members of groups, it runs more often, so that the process does not keep three times of that. Environment
// settings of the Go runtime win.
func tuneMemory() {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(growRarely)
	runtime.SetFinalizer(&collection{percent: growRarely}, (*collection).over)
}

// collection is garbage by itself: each collection finds it, and it stays for the next one.
type collection struct{ percent int }

func (c *collection) over() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	if metrics.Read(live); live[0].Value.Kind() == metrics.KindUint64 {
		if p := heapGrowth(live[0].Value.Uint64(), c.percent); p != c.percent {
			c.percent = p
			debug.SetGCPercent(p)
		}
	}
	runtime.SetFinalizer(c, (*collection).over)
}

// heapGrowth returns the percentage for a heap in which so many bytes live; now is the present one.
func heapGrowth(live uint64, now int) int {
	switch {
	case live < smallHeap:
		return growRarely
	case live > largeHeap:
		return growOften
	}
	return now
}

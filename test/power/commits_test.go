package power

import (
	"flag"
	"sync/atomic"
	"testing"
	"time"
)

var commits = flag.String("commits", "", "address of a running broker, Moldau's or Apache Kafka's: measure its acknowledged fsyncs")

// TestCommits counts what a broker acknowledges to 64 producers with flush.messages=1, each with one record under way.
func TestCommits(t *testing.T) {
	if *commits == "" {
		t.Skip("needs -commits")
	}
	one := "1"
	createTopic(t, *commits, map[string]*string{"flush.messages": &one})
	var next atomic.Uint64
	for _, seconds := range []time.Duration{2, 8} { // warm up, measure
		stop, l := make(chan struct{}), &ledger{}
		time.AfterFunc(seconds*time.Second, func() { l.close(); close(stop) })
		load(t, *commits, 64, &next, l, stop)
		t.Logf("%.0f acknowledged records a second", float64(len(l.acked))/float64(seconds))
	}
}

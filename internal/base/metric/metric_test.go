package metric

import (
	"io"
	"math"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/base/seed"
)

func TestNames(t *testing.T) {
	for _, c := range [][4]string{
		{"server", "BrokerTopicMetrics", "MessagesInPerSec", "kafka_server_brokertopicmetrics_messagesin_total"},
		{"server", "ReplicaManager", "PartitionCount", "kafka_server_replicamanager_partitioncount"},
		{"server", "raft-metrics", "current-epoch", "kafka_server_raft_metrics_current_epoch"},
	} {
		if got := Name(c[0], c[1], c[2]); got != c[3] {
			t.Errorf("Name(%q, %q, %q) = %q, want %q", c[0], c[1], c[2], got, c[3])
		}
	}
}

func TestScrape(t *testing.T) {
	r := NewRegistry()
	var h Histogram
	h.Observe(1000)
	n := 1.0
	r.Add(func(emit Emit, summary EmitSummary) {
		emit("kafka_x_total", Counter, n, "topic", "t\"1")
		emit("kafka_y", Gauge, -2)
		summary("kafka_z", &h, 0.001, "request", "Produce")
	})
	scrape := func() string {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		b, _ := io.ReadAll(w.Result().Body)
		return string(b)
	}
	n = 7
	got := scrape()
	for _, want := range []string{"kafka_x_total{topic=\"t\\\"1\"} 7\n", "kafka_y -2\n", "kafka_z_sum{request=\"Produce\"} 1\n", "kafka_z_count{request=\"Produce\"} 1\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestQuantilesAreOffByAQuarterAtMost(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed.Of(t), 1))
	var h Histogram
	var all []int64
	for range 20_000 {
		v := int64(math.Exp(rng.Float64() * 25))
		h.Observe(v)
		all = append(all, v)
	}
	slices.Sort(all)
	_, _, q := h.read(1)
	for i, p := range quantiles {
		got := q[i]
		want := float64(all[int(p*float64(len(all)))-1])
		if got > want*1.01 || got < want*0.75 {
			t.Errorf("quantile %v is %v, want about %v", p, got, want)
		}
	}
}

func TestBuckets(t *testing.T) {
	last := -1
	for v := uint64(0); v < 1<<16; v++ {
		b := bucketOf(v)
		if b < last || lowest(b) > v || b+1 < 64*steps && lowest(b) == lowest(b+1) && v >= steps {
			t.Fatalf("value %d in bucket %d, which begins at %d", v, b, lowest(b))
		}
		last = b
	}
	if b := bucketOf(math.MaxInt64); b >= 64*steps {
		t.Fatalf("bucket %d", b)
	}
}

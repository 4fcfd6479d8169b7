package embedded_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// series reads one figure; NaN where it is not served.
func series(text, name string) float64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				break
			}
			return v
		}
	}
	return math.NaN()
}

func scrape(t *testing.T, n *embedded.Node) string {
	t.Helper()
	resp, err := http.Get("http://" + n.MetricsAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// watched collects what scrapes have shown: every family with the names of its labels, and those that a scenario has seen take
// the value it should.
type watched struct {
	shown, moved map[string]bool
}

// familyOf reduces a sample to its family and label names: "name{a,b}". The parts of a summary are one family.
func familyOf(sample string, summaries map[string]bool) string {
	name, labels, _ := strings.Cut(strings.TrimSuffix(sample, "}"), "{")
	for _, suffix := range []string{"_sum", "_count"} {
		if base := strings.TrimSuffix(name, suffix); base != name && summaries[base] {
			name = base
		}
	}
	var names []string
	for _, pair := range strings.Split(labels, ",") {
		if key, _, ok := strings.Cut(pair, "="); ok && key != "quantile" {
			names = append(names, key)
		}
	}
	return name + "{" + strings.Join(names, ",") + "}"
}

// show takes in a scrape.
func (w *watched) show(text string) map[string]float64 {
	summaries, samples := map[string]bool{}, map[string]float64{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutSuffix(strings.TrimPrefix(line, "# TYPE "), " summary"); ok {
			summaries[name] = true
		}
		if sample, value, ok := strings.Cut(line, " "); ok && sample != "#" {
			samples[sample], _ = strconv.ParseFloat(value, 64)
			w.shown[familyOf(sample, summaries)] = true
		}
	}
	return samples
}

// want is a figure that must take a value: fixed, or that of other figures.
type want map[string]func(all map[string]float64) float64

func is(v float64) func(map[string]float64) float64 {
	return func(map[string]float64) float64 { return v }
}

// sumOf adds up the figures whose names begin so.
func sumOf(prefix string) func(map[string]float64) float64 {
	return func(all map[string]float64) (sum float64) {
		for name, v := range all {
			if strings.HasPrefix(name, prefix) {
				sum += v
			}
		}
		return sum
	}
}

// await scrapes until every figure has its value, and grows have grown since before.
func (w *watched) await(t *testing.T, n *embedded.Node, before map[string]float64, wants want, grows ...string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		text := scrape(t, n)
		all := w.show(text)
		var wrong []string
		for name, value := range wants {
			if got, ok := all[name]; !ok || got != value(all) {
				wrong = append(wrong, fmt.Sprintf("%s is %v, want %v", name, got, value(all)))
			}
		}
		for _, name := range grows {
			if all[name] <= before[name] {
				wrong = append(wrong, fmt.Sprintf("%s went from %v to %v", name, before[name], all[name]))
			}
		}
		if len(wrong) == 0 {
			summaries := map[string]bool{}
			for line := range strings.Lines(text) {
				if name, ok := strings.CutSuffix(strings.TrimPrefix(strings.TrimSpace(line), "# TYPE "), " summary"); ok {
					summaries[name] = true
				}
			}
			for _, name := range slices.Concat(slices.Collect(maps.Keys(wants)), grows) {
				w.moved[familyOf(name, summaries)] = true
			}
			return
		}
		if time.Now().After(deadline) {
			slices.Sort(wrong)
			t.Fatal(strings.Join(wrong, "\n"))
		}
	}
}

// elsewhere are the series that a node cannot be brought to move from outside, and the tests that see them move.
var elsewhere = map[string]string{
	"moldau_server_shed_total{}":                        "server.TestMemoryBoundShedsHolders, node.TestDoorFigures",
	"moldau_server_panics_total{}":                      "server.TestMisbehavior, node.TestDoorFigures",
	groupFigures + "event_queue_size{}":                 "coord.TestMetrics, node.TestCoordinatorFigures",
	groupFigures + "batch_buffer_cache_discard_count{}": "coord.TestMetrics, node.TestCoordinatorFigures",

	"kafka_log_logcleaner_deadthreadcount{}": "log.TestDeadWorkersAreCounted, node.TestCleanerFigures",

	"kafka_log_logmanager_offlinelogdirectorycount{}":        "log.TestFailedSyncTakesDirectoryOffline, node.TestDirectoryFigures",
	"kafka_log_logmanager_logdirectoryoffline{logDirectory}": "log.TestFailedSyncTakesDirectoryOffline, node.TestDirectoryFigures",
}

// TestEverySeriesMoves: what is served has been seen to take the value it should, every family of it.
func TestEverySeriesMoves(t *testing.T) {
	w := &watched{shown: map[string]bool{}, moved: map[string]bool{}}
	t.Run("traffic", w.traffic)
	t.Run("refusals", w.refusals)
	t.Run("connections", w.connections)
	t.Run("quorum", w.quorum)
	t.Run("cleaner", w.cleaner)
	t.Run("directories", w.directories)
	t.Run("groups", w.groups)
	t.Run("transactions", w.transactions)
	for family := range w.shown {
		if !w.moved[family] && elsewhere[family] == "" {
			t.Errorf("%s is served, and no scenario has seen it move", family)
		}
	}
	for family := range elsewhere {
		if !w.shown[family] || w.moved[family] {
			t.Errorf("%s is not served, or moves here after all", family)
		}
	}
}

const topicMetrics = "kafka_server_brokertopicmetrics_"

func (w *watched) traffic(t *testing.T) {
	n := embedded.Start(t, embedded.WithMetrics(), embedded.With("num.partitions", "2"), embedded.With("offsets.topic.num.partitions", "1"),
		embedded.With("log.segment.bytes", "1048576"))
	before := w.show(scrape(t, n))
	c := client(t, n, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	produce(t, c, "m", 0, 42)
	for range 3 { // two do not fit a segment
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "big", Value: make([]byte, 600_000)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := kadm.NewClient(c).DeleteRecords(t.Context(), kadm.Offsets{"big": {0: {Topic: "big", At: 2}}}); err != nil {
		t.Fatal(err)
	}
	wantAll(t, consume(t, client(t, n, kgo.ConsumeTopics("m"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(time.Minute)), 42), 0, 42)
	// The consumer waits in the purgatory by now; requests are counted after their answers were sent.
	w.await(t, n, before, want{
		topicMetrics + "messagesin_total":                                                is(45),
		topicMetrics + `messagesin_total{topic="m"}`:                                     is(42),
		topicMetrics + "bytesin_total":                                                   sumOf(topicMetrics + "bytesin_total{"),
		topicMetrics + `bytesin_total{topic="m"}`:                                        sumOf(`kafka_log_log_size{topic="m"`),
		topicMetrics + "bytesout_total":                                                  sumOf(`kafka_log_log_size{topic="m"`),
		topicMetrics + `bytesout_total{topic="m"}`:                                       sumOf(`kafka_log_log_size{topic="m"`),
		topicMetrics + "totalproducerequests_total":                                      is(4),
		topicMetrics + `totalproducerequests_total{topic="big"}`:                         is(3),
		"kafka_server_replicamanager_partitioncount":                                     is(4),
		"kafka_server_replicamanager_leadercount":                                        is(4),
		"kafka_server_replicamanager_atminisrpartitioncount":                             is(4),
		"kafka_server_replicamanager_produceridcount":                                    is(2), // one producer in two partitions
		`kafka_server_delayedoperationpurgatory_purgatorysize{delayedOperation="Fetch"}`: is(2),
		`kafka_log_log_logendoffset{topic="m",partition="0"}`:                            is(42),
		`kafka_log_log_logstartoffset{topic="big",partition="0"}`:                        is(2),
		`kafka_log_log_numlogsegments{topic="big",partition="0"}`:                        is(3),
		"kafka_controller_kafkacontroller_globaltopiccount":                              is(2),
		"kafka_controller_kafkacontroller_globalpartitioncount":                          is(4),
		`kafka_network_requestmetrics_totaltimems_count{request="Produce"}`:              sumOf(`kafka_network_requestmetrics_requests_total{request="Produce"`),
		`kafka_network_requestmetrics_requestqueuetimems_count{request="Produce"}`:       is(4),
		`kafka_network_requestmetrics_localtimems_count{request="Produce"}`:              is(4),
		`kafka_network_requestmetrics_responsesendtimems_count{request="Produce"}`:       is(4),
		`kafka_network_requestmetrics_totaltimems_count{request="FetchConsumer"}`:        sumOf(`kafka_network_requestmetrics_requests_total{request="Fetch",`),
	}, topicMetrics+"totalfetchrequests_total", topicMetrics+`totalfetchrequests_total{topic="m"}`,
		`kafka_network_requestmetrics_totaltimems_sum{request="Produce"}`, `kafka_network_requestmetrics_localtimems_sum{request="Produce"}`,
		`kafka_network_requestmetrics_requestbytes_sum{request="Produce"}`, `kafka_log_log_size{topic="m",partition="0"}`,
		`kafka_network_requestmetrics_requests_total{request="FetchConsumer",version="`+strconv.Itoa(fetchVersion)+`"}`)

	before = w.show(scrape(t, n))
	const groups = "kafka_coordinator_group_groupmetadatamanager_"
	g := client(t, n, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("m"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	consume(t, g, 42)
	w.await(t, n, before, want{groups + "numgroups": is(1), groups + "numgroupsstable": is(1), groups + "numgroupsempty": is(0)})
	g.Close()
	w.await(t, n, before, want{groups + "numgroups": is(1), groups + "numgroupsstable": is(0), groups + "numgroupsempty": is(1)})
}

// fetchVersion is the version in which the client library fetches.
const fetchVersion = 18

func (w *watched) refusals(t *testing.T) {
	n := embedded.Start(t, embedded.WithMetrics())
	before := w.show(scrape(t, n))
	c := client(t, n, kgo.ProducerBatchCompression(kgo.NoCompression()))
	a := kadm.NewClient(c)
	compact, small := "compact", "200"
	for topic, configs := range map[string]map[string]*string{"keys": {"cleanup.policy": &compact}, "small": {"max.message.bytes": &small}, "held": nil} {
		if _, err := a.CreateTopic(t.Context(), 1, 1, configs, topic); err != nil {
			t.Fatal(err)
		}
	}
	for topic, value := range map[string][]byte{"keys": []byte("no key"), "small": make([]byte, 1000)} {
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: value}).FirstErr(); err == nil {
			t.Fatalf("%s took what it must not", topic)
		}
	}
	n.Hold()
	held := make(chan error, 1)
	c.Produce(t.Context(), &kgo.Record{Topic: "held"}, func(_ *kgo.Record, err error) { held <- err })
	const purgatory = `kafka_server_delayedoperationpurgatory_purgatorysize{delayedOperation="Produce"}`
	w.await(t, n, before, want{
		topicMetrics + "failedproducerequests_total":                is(1),
		topicMetrics + `failedproducerequests_total{topic="keys"}`:  is(1),
		topicMetrics + `failedproducerequests_total{topic="small"}`: is(0),
		topicMetrics + "bytesrejected_total":                        sumOf(topicMetrics + `bytesrejected_total{topic="small"}`),
		purgatory:                                                   is(1),
	}, topicMetrics+`bytesrejected_total{topic="small"}`)
	n.Release()
	if err := <-held; err != nil {
		t.Error(err)
	}
	follower := api.NewFetchRequest()
	follower.ReplicaID, follower.SessionEpoch = 1, -1
	info, _ := api.Lookup(wire.Fetch)
	exchange(t, n, request(info, 12, follower, func(b []byte) []byte { return b }))
	w.await(t, n, before, want{purgatory: is(0), `kafka_network_requestmetrics_requests_total{request="FetchFollower",version="12"}`: is(1)})
}

// exchange sends a frame and reads its answer.
func exchange(t *testing.T, n *embedded.Node, frame []byte) []byte {
	t.Helper()
	c, err := net.Dial("tcp", n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(frame); err != nil {
		t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *watched) connections(t *testing.T) {
	const count, created = "kafka_server_socket_server_metrics_connection_count", "kafka_server_socket_server_metrics_connection_creation_total"
	n := embedded.Start(t, embedded.WithMetrics(), embedded.With("max.connections.per.ip", "2"))
	before := w.show(scrape(t, n))
	dial := func(n *embedded.Node) net.Conn {
		c, err := net.Dial("tcp", n.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	closed := func(c net.Conn) {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadAll(c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	}
	half := dial(n)
	if _, err := half.Write(append(binary.BigEndian.AppendUint32(nil, 1<<20-4), bytes.Repeat([]byte{0}, 600_000)...)); err != nil {
		t.Fatal(err)
	}
	w.await(t, n, before, want{count: is(1), created: is(1), "moldau_server_request_memory_bytes": is(1 << 20)})
	half.Close()
	w.await(t, n, before, want{count: is(0), "moldau_server_request_memory_bytes": is(0)})
	first := dial(n)
	dial(n)
	w.await(t, n, before, want{count: is(2), created: is(3)})
	closed(dial(n))
	if _, err := first.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	closed(first)
	w.await(t, n, before, want{count: is(1), created: is(3), "moldau_server_refused_total": is(1), "moldau_server_malformed_total": is(1)})

	n = embedded.Start(t, embedded.WithMetrics(), embedded.With("connections.max.idle.ms", "200"))
	closed(dial(n))
	w.await(t, n, before, want{count: is(0), "moldau_server_idle_closed_total": is(1)})
}

func (w *watched) quorum(t *testing.T) {
	const raft, controller = "kafka_server_raft_metrics_", "kafka_controller_kafkacontroller_"
	n := embedded.Start(t, embedded.WithMetrics(), embedded.With("metadata.max.idle.interval.ms", "20"))
	one := want{controller + "activecontrollercount": is(1), controller + "activebrokercount": is(1), raft + "current_leader": is(1),
		raft + "current_epoch": is(1), raft + "number_of_voters": is(1)}
	w.await(t, n, nil, one)
	w.await(t, n, w.show(scrape(t, n)), want{raft + "high_watermark": sumOf(raft + "log_end_offset")}, raft+"log_end_offset")
	n.Restart()
	one[raft+"current_epoch"] = is(2)
	w.await(t, n, nil, one)
	unregister := api.NewUnregisterBrokerRequest()
	unregister.BrokerID = 1
	info, _ := api.Lookup(wire.UnregisterBroker)
	exchange(t, n, request(info, 0, unregister, func(b []byte) []byte { return b }))
	w.await(t, n, nil, want{controller + "activebrokercount": is(0)})
}

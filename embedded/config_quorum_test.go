package embedded_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

const metadataDir = "/data/__cluster_metadata-0"

// quorumProofs are the keys of the node's identity, of the metadata log and of the broker's life in the cluster.
func quorumProofs() []proof {
	return []proof{
		{key: "node.id", how: static, see: func(t *testing.T) {
			w := rawNode(t, vfs.NewMem(), map[string]string{"node.id": "7", "controller.quorum.voters": "7@localhost:9093"})
			w.want(w.metadata().Brokers[0].NodeID, 7)
		}},
		{key: "broker.id", how: static, see: func(t *testing.T) {
			w := rawNode(t, vfs.NewMem(), map[string]string{"broker.id": "8", "controller.quorum.voters": "8@localhost:9093"}, "node.id")
			w.want(w.metadata().Brokers[0].NodeID, 8)
		}},
		{key: "process.roles", how: static, see: func(t *testing.T) { // a node that is less than both does not start as both
			for role, change := range map[string]map[string]string{
				"controller": {"listeners": "CONTROLLER://127.0.0.1:0", "advertised.listeners": "CONTROLLER://127.0.0.1:0"},
				"broker":     {"listeners": "PLAINTEXT://127.0.0.1:0", "advertised.listeners": "PLAINTEXT://127.0.0.1:0", "controller.quorum.voters": "2@localhost:9093"},
			} {
				change["process.roles"] = role
				without := map[string]string{"controller": "inter.broker.listener.name"}[role]
				_, err := startRaw(t, vfs.NewMem(), properties(change, without))
				wantError(t, err, "process.roles must be \"broker,controller\": separate roles are not supported yet")
			}
		}},
		{key: "controller.quorum.voters", how: static, see: func(t *testing.T) {
			for voters, want := range map[string]string{
				"1@localhost:9093,2@localhost:9094": "only a quorum of one is supported yet",
				"2@localhost:9093":                  "the node id 1 must be included in the set of voters",
			} {
				_, err := startRaw(t, vfs.NewMem(), properties(map[string]string{"controller.quorum.voters": voters}))
				wantError(t, err, want)
			}
		}},
		{key: "controller.listener.names", how: static, elsewhere: "internal/node.TestControllerListenerByName"},
		{key: "initial.broker.registration.timeout.ms", how: static, elsewhere: "internal/broker/lifecycle.TestRegistrationTimesOut"},
		{key: "controller.quorum.bootstrap.servers", how: static, see: dynamicQuorum},

		staticProof("broker.session.timeout.ms", "100", map[string]string{"broker.heartbeat.interval.ms": "60000"}, func(w *world) {
			w.eventually(func() string { return differs(alive(w), "fenced") })
		}),
		staticProof("broker.heartbeat.interval.ms", "300", map[string]string{"broker.session.timeout.ms": "100"}, func(w *world) {
			w.eventually(func() string { // again if the machine stood still meanwhile
				start := time.Now()
				for range 4 { // each heartbeat comes too late, and brings the broker back
					w.eventually(func() string { return differs(alive(w), "fenced") })
					w.eventually(func() string { return differs(alive(w), "alive") })
				}
				if took := time.Since(start); took > 5*time.Second {
					return fmt.Sprintf("four heartbeats took %v, and the default gives as many in 6 s", took)
				}
				return ""
			})
		}),
		{key: "controlled.shutdown.enable", how: static, see: func(t *testing.T) {
			for value, want := range map[string]bool{"true": true, "false": false} {
				mem := vfs.NewMem()
				w := rawNode(t, mem, map[string]string{"controlled.shutdown.enable": value})
				w.create("t", 1)
				w.stop()
				w.want(slices.ContainsFunc(metadataRecords(t, mem), func(m logrec.MetadataRecord) bool {
					r, ok := m.(*logrec.BrokerRegistrationChangeRecord)
					return ok && r.InControlledShutdown == 1
				}), want)
			}
		}},

		staticProof("metadata.max.idle.interval.ms", "10", map[string]string{}, func(w *world) {
			w.eventually(func() string { // again if the machine stood still meanwhile
				start := time.Now()
				from := metadataEnd(w)
				w.eventually(func() string {
					if metadataEnd(w) >= from+20 {
						return ""
					}
					return "no records of an idle controller"
				})
				if took := time.Since(start); took > 8*time.Second {
					return fmt.Sprintf("20 records took %v, as the default would", took)
				}
				return ""
			})
		}),
		staticProof("metadata.log.max.record.bytes.between.snapshots", "100", nil, func(w *world) {
			w.create("t", 3)
			w.eventually(func() string { return snapshots(w, 1) })
		}),
		staticProof("metadata.log.max.snapshot.interval.ms", "20", map[string]string{"metadata.max.idle.interval.ms": "10"}, func(w *world) {
			w.eventually(func() string { return snapshots(w, 3) })
		}),
		staticProof("metadata.log.segment.bytes", "8388608", nil, func(w *world) {
			for range 3 {
				w.fillMetadata(100)
			}
			w.eventually(func() string { return metadataSegments(w, 2) })
		}),
		staticProof("metadata.log.segment.ms", "50", map[string]string{"metadata.max.idle.interval.ms": "10"}, func(w *world) {
			w.eventually(func() string { return metadataSegments(w, 3) })
		}),
		staticProof("metadata.max.retention.ms", "1", quickSnapshots, cleaned),
		staticProof("metadata.max.retention.bytes", "1", quickSnapshots, cleaned),
	}
}

// quickSnapshots makes much to clean up.
var quickSnapshots = map[string]string{"metadata.log.max.snapshot.interval.ms": "20", "metadata.max.idle.interval.ms": "5", "metadata.log.segment.ms": "50"}

// alive says whether the cluster counts the only broker.
func alive(w *world) string {
	if len(w.metadata().Brokers) == 0 {
		return "fenced"
	}
	return "alive"
}

func metadataEnd(w *world) float64 {
	w.t.Helper()
	return series(w.n.Metrics(), "kafka_server_raft_metrics_log_end_offset")
}

func checkpoints(w *world) []string {
	w.t.Helper()
	names, _ := w.files(metadataDir, ".checkpoint")
	return slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, "00000000000000000000-") }) // from formatting
}

func snapshots(w *world, want int) string {
	if names := checkpoints(w); len(names) < want {
		return fmt.Sprintf("%d snapshots, want %d", len(names), want)
	}
	return ""
}

func metadataSegments(w *world, want int) string {
	if names, _ := w.files(metadataDir, ".log"); len(names) < want {
		return fmt.Sprintf("%d segments, want %d", len(names), want)
	}
	return ""
}

// cleaned waits until the beginning of the metadata log has gone behind the snapshots.
func cleaned(w *world) {
	first := ""
	w.eventually(func() string {
		names := checkpoints(w)
		if first == "" && len(names) > 0 {
			first = names[0]
		}
		segments, _ := w.files(metadataDir, ".log")
		switch {
		case first == "" || len(names) == 0:
			return "no snapshot"
		case slices.Contains(names, first):
			return "the first snapshot " + first + " stays"
		case len(segments) > 0 && strings.HasPrefix(segments[0], "00000000000000000000"):
			return "the log still begins with its first segment"
		}
		return ""
	})
}

// fillMetadata writes n records of 32 KB.
func (w *world) fillMetadata(n int) {
	w.t.Helper()
	w.step++
	text := strings.Repeat("x", 32_000)
	r := api.IncrementalAlterConfigsRequestResource{ResourceType: 4, ResourceName: "1"}
	for i := range n {
		r.Configs = append(r.Configs, api.IncrementalAlterConfigsRequestResourceConfig{Name: fmt.Sprintf("plugin.%d.%d", w.step, i), Value: &text})
	}
	var a api.IncrementalAlterConfigsResponse
	w.call(1, &api.IncrementalAlterConfigsRequest{Resources: []api.IncrementalAlterConfigsRequestResource{r}}, &a)
	if a.Responses[0].ErrorCode != wire.ErrNone {
		w.t.Fatalf("fill the metadata log: %v %s", a.Responses[0].ErrorCode, deref(a.Responses[0].ErrorMessage))
	}
}

// metadataRecords reads the first segment of the metadata log.
func metadataRecords(t *testing.T, fsys vfs.FS) []logrec.MetadataRecord {
	t.Helper()
	b, err := vfs.ReadFile(fsys, metadataDir+"/00000000000000000000.log", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	var out []logrec.MetadataRecord
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		b = rest
		if batch.IsControl() {
			continue
		}
		it := batch.Records(64 << 20)
		var r record.Record
		for it.Next(&r) {
			m, _, err := logrec.DecodeMetadata(r.Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, m)
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// dynamicQuorum starts a node whose voters are in its log, as `storage format --standalone` leaves them: the properties must
// name somebody to ask.
func dynamicQuorum(t *testing.T) {
	mem := vfs.NewMem()
	rng := rand.New(rand.NewPCG(1, 2))
	_, err := quorum.Format(quorum.FormatOptions{FS: mem, ClusterID: quorum.NewDirectoryID(rng).String(), NodeID: 1, MetadataDir: "/data", Dirs: []string{"/data"},
		Dynamic: true, Now: time.Now(), Rand: rng,
		Voters: []quorum.Voter{{ID: 1, DirectoryID: quorum.NewDirectoryID(rng), Endpoints: []quorum.Endpoint{{Name: "CONTROLLER", Host: "localhost", Port: 9093}}}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = startRaw(t, mem, properties(nil, "controller.quorum.voters"))
	wantError(t, err, "controller.quorum.bootstrap.servers")
	w := rawNode(t, mem, map[string]string{"controller.quorum.bootstrap.servers": "localhost:9093"}, "controller.quorum.voters")
	w.want(w.metadata().Brokers[0].NodeID, 1)
}

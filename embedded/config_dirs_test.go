package embedded_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// twoLogDirs is a node with two log directories in memory.
func twoLogDirs(t *testing.T, more ...string) *world {
	t.Helper()
	p := map[string]string{"log.dirs": "/data,/more"}
	for i := 0; i < len(more); i += 2 {
		p[more[i]] = more[i+1]
	}
	return rawNode(t, vfs.NewMem(), p)
}

// dirsOf says of each directory how many partitions of a topic it holds, and whether it is cordoned.
func (w *world) dirsOf(topic string) string {
	w.t.Helper()
	var a api.DescribeLogDirsResponse
	w.call(5, &api.DescribeLogDirsRequest{}, &a)
	var out []string
	for _, r := range a.Results {
		n := 0
		for _, t := range r.Topics {
			if t.Name == topic {
				n = len(t.Partitions)
			}
		}
		text := fmt.Sprint(r.LogDir, " ", n)
		if r.IsCordoned {
			text += " cordoned"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// move asks for the replica of partition 0 of a topic to be in a directory.
func (w *world) move(topic, dir string) wire.ErrorCode {
	w.t.Helper()
	var a api.AlterReplicaLogDirsResponse
	w.call(2, &api.AlterReplicaLogDirsRequest{Dirs: []api.AlterReplicaLogDirsRequestDir{{Path: dir,
		Topics: []api.AlterReplicaLogDirsRequestDirTopic{{Name: topic, Partitions: []int32{0}}}}}}, &a)
	return a.Results[0].Partitions[0].ErrorCode
}

// placed makes a topic of four partitions and says where they are.
func placed(w *world) string {
	w.step++
	topic := fmt.Sprint("t", w.step)
	w.create(topic, 4)
	return w.dirsOf(topic)
}

// moved has a log of some batches moved and says how long that took, if it is within a while.
func moved(w *world, batches int, atMost time.Duration) (took time.Duration, ok bool) {
	w.step++
	topic := fmt.Sprint("t", w.step)
	w.create(topic, 1)
	for range batches {
		w.must(topic, batch{})
	}
	to, want := "/more", "/data 0, /more 1"
	if w.dirsOf(topic) == want {
		to, want = "/data", "/data 1, /more 0"
	}
	w.want(w.move(topic, to), wire.ErrNone)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < atMost; <-tick.C {
		if w.dirsOf(topic) == want {
			return time.Since(start), true
		}
	}
	return 0, false
}

func dirProofs() []proof {
	const rate, window = "replica.alter.log.dirs.io.max.bytes.per.second", "alter.log.dirs.replication.quota.window."
	const cordoned, open = "/data 0 cordoned, /more 4", "/data 2, /more 2"
	movesSoon := func(w *world) string {
		if _, ok := moved(w, 2, 300*time.Millisecond); ok {
			return "soon"
		}
		return "late"
	}
	out := []proof{
		{key: "cordoned.log.dirs", how: static, see: func(t *testing.T) {
			w := twoLogDirs(t, "cordoned.log.dirs", "/data")
			w.want(placed(w), cordoned)
		}},
		{key: "cordoned.log.dirs", how: broker, see: func(t *testing.T) {
			w := twoLogDirs(t)
			w.want(placed(w), open)
			for value, want := range map[string]string{"/data": cordoned, "/more": "/data 4, /more 0 cordoned"} {
				w.alterAndSee(4, "1", "cordoned.log.dirs", value)
				w.eventually(func() string { return differs(placed(w), want) })
			}
			w.alter(4, "1", "cordoned.log.dirs", "")
			w.eventually(func() string { // the one that has fewer catches up, then both get some
				got := placed(w)
				if strings.Contains(got, "cordoned") || got == "/data 0, /more 4" || got == "/data 4, /more 0" {
					return got
				}
				return ""
			})
		}},
		{key: rate, how: static, elsewhere: "internal/base/conf.TestMoveRateIsDynamic"},
	}
	for how, name := range map[string]string{broker: "1", cluster: ""} {
		out = append(out, proof{key: rate, how: how, see: func(t *testing.T) {
			w := twoLogDirs(t)
			w.eventually(func() string { return differs(movesSoon(w), "soon") })
			w.alter(4, name, rate, "1")
			w.eventually(func() string { return differs(movesSoon(w), "late") })
			w.alter(4, name, rate, "")
			w.eventually(func() string { return differs(movesSoon(w), "soon") })
		}})
	}
	// At a rate of nothing a batch is copied whenever all samples are past.
	for key, x := range map[string]struct {
		value           string
		atLeast, atMost time.Duration
	}{"num": {"1", 900 * time.Millisecond, 8 * time.Second}, "size.seconds": {"2", 1900 * time.Millisecond, 8 * time.Second}} {
		out = append(out, proof{key: window + key, how: static, see: func(t *testing.T) {
			w := twoLogDirs(t, window+"num", "1", window+key, x.value)
			w.alterAndSee(4, "1", rate, "0")
			if took, ok := moved(w, 2, x.atMost); !ok || took < x.atLeast {
				t.Errorf("it took %v, and it is done: %v; want at least %v", took, ok, x.atLeast)
			}
		}})
	}
	return out
}

// Where all directories are cordoned the controller knows, from the start on: no topic is made here, and no replica may go there.
func TestAllCordoned(t *testing.T) {
	fsys := vfs.NewMem()
	start := func() *world { return rawNode(t, fsys, map[string]string{"log.dirs": "/data,/more"}) }
	w := start()
	w.create("t", 1)
	w.alter(4, "1", "cordoned.log.dirs", "*")
	w.eventually(func() string { // with another name each time, as the controller learns of it by a heartbeat
		w.step++
		return differs(fmt.Sprint(w.tryCreate(fmt.Sprint("u", w.step), 1)), fmt.Sprint(wire.ErrInvalidReplicationFactor))
	})
	for _, dir := range []string{"/data", "/more"} {
		w.want(w.move("t", dir), wire.ErrInvalidReplicaAssignment)
	}
	w.stop()
	w = start()
	w.want(w.dirsOf("t"), "/data 1 cordoned, /more 0 cordoned")
	w.want(w.tryCreate("v", 1), wire.ErrInvalidReplicationFactor)
	w.alter(4, "1", "cordoned.log.dirs", "/data")
	w.eventually(func() string { return differs(fmt.Sprint(w.tryCreate("w", 3)), fmt.Sprint(wire.ErrNone)) })
	w.eventually(func() string { return differs(w.dirsOf("w"), "/data 0 cordoned, /more 3") })
	w.want(w.move("t", "/more"), wire.ErrNone)
	for _, bad := range []string{"/none", "*,/data", "/data,/data"} {
		w.want(w.tryAlter(4, "1", "cordoned.log.dirs", bad).ErrorCode, wire.ErrInvalidRequest)
	}
	w.want(w.tryAlter(4, "", "cordoned.log.dirs", "*").ErrorCode, wire.ErrInvalidRequest)
}

// Before metadata.version 4.3-IV0 nobody is told that directories are cordoned, and no running broker can be told to cordon them; what
// its properties say counts once the version is raised.
func TestCordonedBeforeItsVersion(t *testing.T) {
	fsys := vfs.NewMem()
	if _, err := quorum.Format(quorum.FormatOptions{FS: fsys, ClusterID: "cluster", NodeID: 1, MetadataDir: "/data", Dirs: []string{"/data", "/more"},
		Features: []quorum.FeatureLevel{{Name: image.MetadataVersionFeature, Level: int16(image.Version43IV0) - 1}},
		Now:      time.Now(), Rand: rand.New(rand.NewPCG(1, 1))}); err != nil {
		t.Fatal(err)
	}
	w := rawNode(t, fsys, map[string]string{"log.dirs": "/data,/more", "cordoned.log.dirs": "*"})
	w.create("t", 2)
	w.want(w.dirsOf("t"), "/data 2, /more 0") // the first, as all are cordoned
	r := w.tryAlter(4, "1", "cordoned.log.dirs", "/data")
	w.want(r.ErrorCode, wire.ErrInvalidConfig)
	w.want(deref(r.ErrorMessage), "The cordoned.log.dirs configuration value cannot be set because it requires metadata.version >= 4.3-IV0")
	var a api.UpdateFeaturesResponse
	w.call(2, &api.UpdateFeaturesRequest{TimeoutMs: 5000, FeatureUpdates: []api.UpdateFeaturesRequestFeatureUpdate{
		{Feature: image.MetadataVersionFeature, MaxVersionLevel: int16(image.Version43IV0), UpgradeType: 1}}}, &a)
	w.want(a.ErrorCode, wire.ErrNone)
	w.eventually(func() string { return differs(w.dirsOf("t"), "/data 2 cordoned, /more 0 cordoned") })
	w.step = 100
	w.eventually(func() string { // with the next heartbeat
		w.step++
		return differs(fmt.Sprint(w.tryCreate(fmt.Sprint("t", w.step), 1)), fmt.Sprint(wire.ErrInvalidReplicationFactor))
	})
}

// directories are cordoned, and not.
func (w *watched) directories(t *testing.T) {
	x := newWorld(t, embedded.WithMetrics())
	const one, all = `kafka_log_logmanager_logdirectorycordoned{logDirectory="/data"}`, "kafka_log_logmanager_cordonedlogdirectorycount"
	before := w.show(scrape(t, x.n))
	w.await(t, x.n, before, want{one: is(0), all: is(0)})
	x.alter(4, "1", "cordoned.log.dirs", "*")
	w.await(t, x.n, before, want{one: is(1), all: is(1)})
	x.alter(4, "1", "cordoned.log.dirs", "")
	w.await(t, x.n, before, want{one: is(0), all: is(0)})
}

package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

const testCluster = "MkU3OEVBNTcwNTJENDM2Qg"

// openSchema accepts every config.
type openSchema struct{}

func (openSchema) Validate(image.ConfigResource, map[string]string, map[string]string) error {
	return nil
}
func (openSchema) IsList(image.ResourceType, string) bool            { return false }
func (openSchema) Default(image.ResourceType, string) (string, bool) { return "", false }
func (openSchema) StaticTopic(string) string                         { return "1" }
func (openSchema) EffectiveTopic(_, _, _ map[string]string) []controller.EffectiveConfig {
	return nil
}

func newController() *controller.Controller {
	return controller.New(controller.Config{
		NodeID: 1, ClusterID: testCluster, SupportedFeatures: controller.SupportedFeatures(), DefaultReplicationFactor: 1,
		DefaultPartitions: 1, SessionTimeout: 9 * time.Second, Schema: openSchema{},
	})
}

type testNode struct {
	t       testing.TB
	fs      vfs.FS
	dir     string
	dirID   id.UUID
	dynamic bool
	edit    func(*Options)
}

// format makes a directory for a quorum of one, with ids that no other has.
func format(t testing.TB, fsys vfs.FS, dir string, dynamic bool) *testNode {
	t.Helper()
	return formatWith(t, fsys, dir, dynamic, rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1)))
}

func formatWith(t testing.TB, fsys vfs.FS, dir string, dynamic bool, rnd *rand.Rand) *testNode {
	t.Helper()
	n := &testNode{t: t, fs: fsys, dir: dir, dynamic: dynamic, dirID: NewDirectoryID(rnd)}
	o := FormatOptions{FS: fsys, ClusterID: testCluster, NodeID: 1, MetadataDir: dir, Dirs: []string{dir}, Dynamic: dynamic, Now: time.Now(), Rand: rnd}
	if dynamic {
		o.Voters = []Voter{{ID: 1, DirectoryID: n.dirID, Endpoints: []Endpoint{{"CONTROLLER", "localhost", 19093}}}}
	}
	done, err := Format(o)
	if err != nil {
		t.Fatal(err)
	}
	n.dirID = done[0].DirectoryID
	return n
}

func (n *testNode) options() Options {
	o := DefaultOptions()
	o.FS, o.Dir, o.NodeID, o.ClusterID, o.DirectoryID, o.Seed = n.fs, n.dir, 1, testCluster, n.dirID, uint64(time.Now().UnixNano())
	o.Controller, o.SegmentBytes = newController(), 8<<20
	o.Endpoints = []Endpoint{{"CONTROLLER", "localhost", 19093}}
	if !n.dynamic {
		o.StaticVoters = []Voter{{ID: 1, Endpoints: o.Endpoints}}
	}
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(n.t.Output(), nil))
	}
	if n.edit != nil {
		n.edit(&o)
	}
	return o
}

// start opens and starts the node and waits until its controller is active.
func (n *testNode) start(publishers ...Publisher) *Quorum {
	n.t.Helper()
	q, err := Open(n.options())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, p := range publishers {
		q.Subscribe(p)
	}
	if err := q.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { q.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := q.AwaitImage(ctx, func(i *image.Image) bool { return i.Features.MetadataVersion == 33 }); err != nil {
		n.t.Fatalf("no metadata.version: %v, %+v", err, q.Status())
	}
	return q
}

// setConfig sets a config of all brokers and waits for the answer.
func setConfig(q *Quorum, key, value string) error { return setConfigs(q, []string{key}, value) }

// setConfigs sets several at once.
func setConfigs(q *Quorum, keys []string, value string) error {
	res := api.IncrementalAlterConfigsRequestResource{ResourceType: int8(image.ResourceBroker)}
	for _, k := range keys {
		res.Configs = append(res.Configs, api.IncrementalAlterConfigsRequestResourceConfig{Name: k, Value: &value})
	}
	req := api.NewIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, res)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	m, err := q.Do(ctx, Request{Message: req, APIVersion: 1, ReadCommitted: true})
	if err != nil {
		return err
	}
	for _, r := range m.(*api.IncrementalAlterConfigsResponse).Responses {
		if r.ErrorCode != wire.ErrNone {
			return r.ErrorCode
		}
	}
	return nil
}

func configOf(img *image.Image, key string) string {
	return img.Configs.Of(image.ConfigResource{Type: image.ResourceBroker})[key]
}

func TestOneNodeLivesAndComesBack(t *testing.T) {
	for _, dynamic := range []bool{false, true} {
		t.Run(fmt.Sprintf("dynamic=%t", dynamic), func(t *testing.T) {
			n := format(t, vfs.NewMem(), "/data", dynamic)
			for life := range 4 {
				q := n.start()
				for i := range life {
					if got := configOf(q.Image(), fmt.Sprint("key", i)); got != fmt.Sprint("value", i) {
						t.Fatalf("life %d: key%d is %q", life, i, got)
					}
				}
				if err := setConfig(q, fmt.Sprint("key", life), fmt.Sprint("value", life)); err != nil {
					t.Fatal(err)
				}
				if got := configOf(q.Image(), fmt.Sprint("key", life)); got != fmt.Sprint("value", life) {
					t.Fatalf("answered before it was published: %q", got)
				}
				s := q.Status()
				if s.Leader.ID != 1 || s.Leader.Epoch != id.LeaderEpoch(life+1) || !s.ActiveBroker || len(s.Voters) != 1 {
					t.Fatalf("life %d: %+v", life, s)
				}
				want := int16(0)
				if dynamic {
					want = 1
				}
				if s.KRaftVersion != want {
					t.Fatalf("kraft.version %d", s.KRaftVersion)
				}
				if err := q.Close(); err != nil {
					t.Fatal(err)
				}
				h, err := readState(n.fs, n.dir+"/"+logDirName)
				if err != nil || h.Epoch != id.LeaderEpoch(life+1) || h.Leader != 1 {
					t.Fatalf("quorum-state %+v, %v", h, err)
				}
			}
		})
	}
}

// TestDeposedWithUncommittedRecords: what was decided and not committed is told to nobody; it is committed by the next epoch,
// and then the controller and the image have it.
func TestDeposedWithUncommittedRecords(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	n.edit = func(o *Options) { o.ElectionTimeout = 20 * time.Millisecond }
	q := n.start()
	if err := setConfig(q, "a", "1"); err != nil {
		t.Fatal(err)
	}
	q.HoldBack(math.MaxInt32)
	answers := make(chan error, 2)
	for _, k := range []string{"b", "c"} {
		go func() { answers <- setConfig(q, k, "2") }()
	}
	end := q.Status().HighWatermark
	for deadline := time.Now().Add(10 * time.Second); q.Status().LogEndOffset < end+2; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("nothing was written: %+v", q.Status())
		}
	}
	if got := configOf(q.Image(), "b") + configOf(q.Image(), "c"); got != "" || len(answers) != 0 {
		t.Fatalf("told before the commit: %q", got)
	}
	q.Depose()
	for range 2 {
		if err := <-answers; !errors.Is(err, wire.ErrNotController) {
			t.Fatalf("answered with %v", err)
		}
	}
	q.HoldBack(0)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := q.AwaitImage(ctx, func(i *image.Image) bool { return configOf(i, "b") == "2" && configOf(i, "c") == "2" }); err != nil {
		t.Fatalf("%v, %+v", err, q.Status())
	}
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		err := setConfig(q, "d", "3")
		if err == nil {
			break
		}
		if !errors.Is(err, wire.ErrNotController) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if s := q.Status(); s.Leader.Epoch < 2 || configOf(q.Image(), "a") != "1" || configOf(q.Image(), "d") != "3" {
		t.Fatalf("%+v", s)
	}
}

// TestHeldBack: commits follow the log some records behind, decision by decision, and so do answers and images.
func TestHeldBack(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	n.edit = func(o *Options) { o.MaxIdleInterval = 0 }
	q := n.start()
	if err := setConfig(q, "before", "1"); err != nil {
		t.Fatal(err)
	}
	answers := map[string]chan error{}
	set := func(k string) {
		end := q.Status().LogEndOffset
		answer := make(chan error, 1)
		answers[k] = answer
		go func() { answer <- setConfig(q, k, "2") }()
		for deadline := time.Now().Add(10 * time.Second); q.Status().LogEndOffset != end+1; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%s is not written: %+v", k, q.Status())
			}
		}
	}
	q.HoldBack(2)
	set("a")
	set("b")
	if len(answers["a"]) != 0 || configOf(q.Image(), "a") != "" {
		t.Fatal("told before the commit")
	}
	set("c")
	if err := <-answers["a"]; err != nil {
		t.Fatal(err)
	}
	s := q.Status()
	if got := configOf(q.Image(), "a") + configOf(q.Image(), "b") + configOf(q.Image(), "c"); got != "2" || s.HighWatermark != s.LogEndOffset-2 {
		t.Fatalf("a, b and c are %q, %+v", got, s)
	}
	if len(answers["b"])+len(answers["c"]) != 0 {
		t.Fatal("told before the commit")
	}
	q.HoldBack(0)
	for _, k := range []string{"b", "c"} {
		if err := <-answers[k]; err != nil || configOf(q.Image(), k) != "2" {
			t.Fatalf("%s: %v", k, err)
		}
	}
}

// TestFeaturesKeepTheirOffset: after a restart publishers see the offset at which the feature levels changed, from the first image
// on, as everybody else does.
func TestFeaturesKeepTheirOffset(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	q := n.start()
	want := q.Image().FeaturesAt
	for _, k := range []string{"a", "b"} {
		if err := setConfig(q, k, "1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	var got []id.Offset
	q = n.start(PublisherFunc(func(_ *image.Delta, img *image.Image, _ Provenance) { got = append(got, img.FeaturesAt) }))
	if err := setConfig(q, "c", "1"); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if len(got) < 2 || slices.ContainsFunc(got, func(o id.Offset) bool { return o != want }) || q.Image().FeaturesAt != want {
		t.Errorf("published at %v, want %d each time", got, want)
	}
}

// TestDecisionTooLarge: a decision that fits no batch is refused and leaves no trace, and the next one works.
func TestDecisionTooLarge(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	n.edit = func(o *Options) { o.MaxIdleInterval = 0 } // what is in the log is counted
	q := n.start()
	before := q.Status().LogEndOffset
	value := strings.Repeat("x", 30_000)
	var keys []string
	for i := range maxBatchBytes/len(value) + 1 {
		keys = append(keys, fmt.Sprint("huge", i))
	}
	err := setConfigs(q, keys, value)
	if !errors.Is(err, wire.ErrRecordListTooLarge) {
		t.Fatalf("%v", err)
	}
	if err := setConfig(q, "small", "1"); err != nil {
		t.Fatal(err)
	}
	if configOf(q.Image(), "huge0") != "" || configOf(q.Image(), "small") != "1" || q.Status().LogEndOffset != before+1 {
		t.Fatalf("%+v", q.Status())
	}
	n.edit = func(o *Options) { o.SnapshotMaxNewRecordBytes = 1 }
	for i := range 4 { // together more than one batch of a snapshot may have
		if err := setConfigs(q, keys[i*70:(i+1)*70], value); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = n.start()
	awaitSnapshot(t, n, 0)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = n.start()
	for i, k := range keys {
		if got := configOf(q.Image(), k); (got == value) != (i < 280) {
			t.Fatalf("%s has %d bytes", k, len(got))
		}
	}
}

// TestFullDiskRefusesAndRecovers: a change that does not fit the disk is refused whole; the controller lives on, and takes changes
// again when there is room.
func TestFullDiskRefusesAndRecovers(t *testing.T) {
	mem := vfs.NewMem()
	n := format(t, mem, "/data", true)
	n.edit = func(o *Options) { o.MaxIdleInterval = 10 * time.Millisecond }
	q := n.start()
	if err := setConfig(q, "a", "1"); err != nil {
		t.Fatal(err)
	}
	mem.SetFree(0)
	for _, key := range []string{"b", "c"} {
		if err := setConfig(q, key, "2"); !errors.Is(err, wire.ErrKafkaStorageError) {
			t.Fatalf("a change on a full disk: %v", err)
		}
	}
	if got := configOf(q.Image(), "a") + configOf(q.Image(), "b"); got != "1" {
		t.Fatalf("a and b are %q, want the state before", got)
	}
	end := q.Status().LogEndOffset
	mem.SetFree(-1)
	for deadline := time.Now().Add(10 * time.Second); q.Status().LogEndOffset == end; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("the idle leader is silent after there was room: %+v", q.Status())
		}
	}
	if err := setConfig(q, "d", "3"); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = n.start()
	if got := configOf(q.Image(), "a") + configOf(q.Image(), "b") + configOf(q.Image(), "c") + configOf(q.Image(), "d"); got != "13" {
		t.Fatalf("the next life has %q, want what was answered", got)
	}
}

// TestFullDiskAfterTheFirstBatch: of a decision that takes several batches either all are in the log or none.
func TestFullDiskAfterTheFirstBatch(t *testing.T) {
	mem := vfs.NewMem()
	n := format(t, mem, "/data", false)
	q := n.start()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	o := n.options().withDefaults()
	m, err := openMetaLog(&o, bootstrapID)
	if err != nil {
		t.Fatal(err)
	}
	many := slices.Repeat(noOp(), maxBatchRecords+10)
	end, size := m.EndOffset(), m.SizeBytes()
	if err := m.appendRecords(7, 1, many, false); err != nil {
		t.Fatal(err)
	}
	if grown := m.EndOffset(); grown != end+id.Offset(len(many)) {
		t.Fatalf("the end is %d, want %d", grown, end+id.Offset(len(many)))
	}
	mem.SetFree(m.SizeBytes() - size - 20) // the second batch misses a few bytes
	end = m.EndOffset()
	if err := m.appendRecords(7, 1, many, false); !log.IsFull(err) || m.EndOffset() != end {
		t.Fatalf("%v, the end is %d, want %d", err, m.EndOffset(), end)
	}
	mem.SetFree(-1)
	if err := m.appendRecords(7, 1, many, false); err != nil {
		t.Fatal(err)
	}
	if got := m.EndOffset(); got != end+id.Offset(len(many)) {
		t.Fatalf("the end is %d, want %d", got, end+id.Offset(len(many)))
	}
}

// TestFailedFlushStops: after a failed fsync nobody knows what is on the disk. Nothing is answered as done any more.
func TestFailedFlushStops(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewMem())
	n := format(t, faults, "/data", true)
	q := n.start()
	faults.Add(vfs.Rule{Op: vfs.OpSync, Path: "*.log", Err: errors.New("the disk is gone")})
	if err := setConfig(q, "a", "1"); err == nil {
		t.Fatal("answered as done")
	}
	<-q.Failed()
	if q.Err() == nil || configOf(q.Image(), "a") != "" {
		t.Fatalf("%v, %q", q.Err(), configOf(q.Image(), "a"))
	}
	if err := setConfig(q, "b", "1"); err == nil {
		t.Fatal("still deciding")
	}
}

func TestCloseAnswersEverything(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	q := n.start()
	const ops = 200
	answers := make(chan Outcome, ops)
	for i := range ops {
		if i == ops/2 {
			go q.Close()
		}
		q.Submit(Request{Message: api.NewElectLeadersRequest()}, func(o Outcome) { answers <- o })
	}
	q.Close()
	for range ops {
		select {
		case <-answers:
		case <-time.After(10 * time.Second):
			t.Fatal("an operation was never answered")
		}
	}
	if err := setConfig(q, "a", "b"); !errors.Is(err, wire.ErrNotController) && !errors.Is(err, ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
}

func TestSnapshotsAndCleaning(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	n.edit = func(o *Options) {
		o.SnapshotMaxNewRecordBytes, o.RetentionBytes, o.SegmentBytes = 20_000, 100_000, 30_000
	}
	q := n.start()
	value := strings.Repeat("v", 500)
	for i := range 400 {
		if err := setConfig(q, fmt.Sprint("key", i%50), value+fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		if i%40 == 39 {
			awaitSnapshot(t, n, id.Offset(i-40))
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	list, err := listSnapshots(n.fs, n.dir+"/"+logDirName)
	if err != nil || len(list) < 2 || len(list) > 12 {
		t.Fatalf("snapshots %v, %v", list, err)
	}
	if start := q.Status().LogStartOffset; start == 0 || start > list[len(list)-1].Offset {
		t.Fatalf("the log starts at %d, snapshots %v", start, list)
	}
	deltas, fromSnapshot := 0, false
	q = n.start(PublisherFunc(func(d *image.Delta, img *image.Image, at Provenance) {
		deltas++
		fromSnapshot = fromSnapshot || at.FromSnapshot
	}))
	if !fromSnapshot {
		t.Fatal("the snapshot was not published")
	}
	for i := 350; i < 400; i++ {
		if got := configOf(q.Image(), fmt.Sprint("key", i%50)); got != value+fmt.Sprint(i) {
			t.Fatalf("key%d is %.20q", i%50, got)
		}
	}
	if m := q.d.raft.Membership(); m.KRaftVersion != 1 || len(m.Voters) != 1 {
		t.Fatalf("voters after a snapshot: %+v", m)
	}
}

// awaitSnapshot waits for a snapshot that ends beyond an offset.
func awaitSnapshot(t testing.TB, n *testNode, beyond id.Offset) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		entries, err := n.fs.List(n.dir + "/" + logDirName)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if p, rest, ok := parseSnapshotName(e.Name()); ok && rest == "" && p.Offset > beyond {
				return
			}
		}
	}
	t.Fatalf("no snapshot beyond offset %d", beyond)
}

func TestIdleLeaderWritesNoOps(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	n.edit = func(o *Options) { o.MaxIdleInterval = time.Millisecond }
	q := n.start()
	first := q.Status().LogEndOffset
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := q.AwaitImage(ctx, func(i *image.Image) bool { return i.Provenance.Offset > first+5 }); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefusesABrokenState(t *testing.T) {
	for name, text := range map[string]string{
		"not json": "{", "no version": `{"leaderId":1,"leaderEpoch":3}`, "version 2": `{"leaderId":1,"leaderEpoch":3,"data_version":2}`,
		"negative epoch": `{"leaderId":1,"leaderEpoch":-3,"data_version":1}`, "empty": "",
	} {
		n := format(t, vfs.NewMem(), "/data", true)
		if err := vfs.WriteFile(n.fs, n.dir+"/"+logDirName+"/"+fileState, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if q, err := Open(n.options()); err == nil {
			q.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOpenRefusesAQuorumThatCannotElect(t *testing.T) {
	for want, edit := range map[string]func(*Options){
		"no voter is known":       func(o *Options) { o.StaticVoters = nil },
		"more than one":           func(o *Options) { o.StaticVoters = append(o.StaticVoters, Voter{ID: 2}) },
		"but this is node 7 with": func(o *Options) { o.NodeID = 7 },
	} {
		n := format(t, vfs.NewMem(), "/data", false)
		n.edit = edit
		if _, err := Open(n.options()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	n := format(t, vfs.NewMem(), "/data", true)
	n.dirID = NewDirectoryID(rand.New(rand.NewPCG(5, 6)))
	if _, err := Open(n.options()); err == nil || !strings.Contains(err.Error(), "directory id "+n.dirID.String()) {
		t.Errorf("another directory: %v", err)
	}
}

func TestStateFile(t *testing.T) {
	for _, want := range []string{
		`{"leaderId":1,"leaderEpoch":1,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}`,
		`{"clusterId":"","leaderId":1,"leaderEpoch":1,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":1}],"data_version":0}`,
		`{"leaderId":-1,"leaderEpoch":2,"votedId":1,"votedDirectoryId":"J8aAPcfLQt2bqs1JT_rMgQ","data_version":1}`,
	} {
		h, err := decodeState([]byte(want))
		if err != nil {
			t.Fatal(err)
		}
		version := int16(1)
		if strings.Contains(want, `"data_version":0`) {
			version = 0
		}
		got, err := encodeState(h, version, raft.Voters{{Replica: raft.Replica{ID: 1}}})
		if err != nil || string(got) != want {
			t.Errorf("got  %s, %v\nwant %s", got, err, want)
		}
	}
}

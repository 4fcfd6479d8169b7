package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// metadata is a controller's working state and the image of what is committed, two folds of one log, as a node has them.
type metadata struct {
	ctl        *controller.Controller
	img        *image.Image
	delta      *image.Delta
	inTxn      bool
	dirty      bool
	activeFrom id.Offset
	seen       *decisions
	bugs       leaks
}

// leaks are mistakes of whoever drives a controller.
type leaks struct {
	publishDecided bool // the image is what is decided, committed or not
	keepOffice     bool // what was decided is not undone after a deposition
	skipCommitted  bool // own decisions are replayed once more when they are committed
}

// decisions counts what controllers decided in a test.
type decisions struct{ records, refused, handovers, undone int }

func newMetadata(n id.BrokerID, seen *decisions) *metadata {
	m := &metadata{img: image.Empty(), seen: seen}
	m.delta = image.NewDelta(m.img)
	m.ctl = controller.New(controller.Config{NodeID: n, ClusterID: "cluster", SupportedFeatures: controller.SupportedFeatures(),
		DefaultReplicationFactor: 2, DefaultPartitions: 2, SessionTimeout: 9 * time.Second, LeaderImbalanceCheck: 20 * time.Second,
		UncleanElectionCheck: 20 * time.Second, Bootstrap: controller.BootstrapRecords(controller.LatestFeatures()), Schema: anyConfig{}})
	return m
}

// anyConfig allows every config.
type anyConfig struct{}

func (anyConfig) Validate(image.ConfigResource, map[string]string, map[string]string) error {
	return nil
}
func (anyConfig) IsList(image.ResourceType, string) bool            { return false }
func (anyConfig) Default(image.ResourceType, string) (string, bool) { return "", false }
func (anyConfig) StaticTopic(key string) string {
	return map[string]string{"min.insync.replicas": "1", "unclean.leader.election.enable": "false"}[key]
}
func (anyConfig) EffectiveTopic(_, _, _ map[string]string) []controller.EffectiveConfig { return nil }

// Fold implements Machine.
func (m *metadata) Fold(first id.Offset, batch []Entry) error {
	var records []image.Record
	for _, e := range batch {
		r, ok := e.Data.(image.Record)
		if !ok {
			return nil // a control batch
		}
		records = append(records, r)
	}
	last := first + id.Offset(len(batch)) - 1
	for _, r := range records {
		if err := m.replay(r.Message); err != nil {
			return err
		}
	}
	if !m.inTxn && m.dirty {
		m.img = m.delta.Apply(image.Provenance{Offset: last, Epoch: batch[0].Epoch})
		m.delta, m.dirty = image.NewDelta(m.img), false
	}
	if m.ctl.Active() && first >= m.activeFrom && !m.bugs.skipCommitted {
		m.ctl.Committed(last)
		return nil
	}
	return m.ctl.Replay(first, records)
}

func (m *metadata) replay(r logrec.MetadataRecord) error {
	switch r.(type) {
	case *logrec.BeginTransactionRecord:
		m.inTxn = true
	case *logrec.EndTransactionRecord:
		m.inTxn = false
	case *logrec.AbortTransactionRecord:
		m.inTxn, m.dirty = false, false
		m.delta = image.NewDelta(m.img)
	default:
		m.dirty = true
		return m.delta.Replay(r)
	}
	return nil
}

// State implements Machine.
func (m *metadata) State() any {
	if m.bugs.publishDecided {
		return m.ctl.Image()
	}
	return m.img
}

// Load implements Machine.
func (m *metadata) Load(state any, at raft.Position) error {
	img := *state.(*image.Image)
	img.Provenance.Offset, img.Provenance.Epoch = at.Offset-1, at.Epoch
	if m.ctl.Active() {
		return errors.New("an active controller loads a snapshot")
	}
	m.img, m.delta, m.inTxn, m.dirty = &img, image.NewDelta(&img), false, false
	m.ctl.LoadSnapshot(&img)
	return nil
}

// Same implements Machine.
func (m *metadata) Same(a, b any) bool {
	return fingerprint(a.(*image.Image)) == fingerprint(b.(*image.Image))
}

func fingerprint(img *image.Image) string {
	var out []string
	for r := range img.Records(img.Features.MetadataVersion) {
		out = append(out, fmt.Sprintf("%d %x", r.Version, logrec.EncodeMetadata(r.Message, r.Version)))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// Every implements Pacer.
func (m *metadata) Every() int { return 37 }

// Whole implements Pacer.
func (m *metadata) Whole() bool { return !m.inTxn && !m.dirty }

// agree holds that a controller without anything undecided has decided what is committed.
func (m *metadata) agree() error {
	if m.inTxn || m.Same(m.ctl.Image(), m.img) {
		return nil
	}
	return fmt.Errorf("the working state is not what is committed:\n%s\n--\n%s", fingerprint(m.ctl.Image()), fingerprint(m.img))
}

// Lead implements Decider.
func (m *metadata) Lead(env Env) ([][]any, error) {
	if err := m.agree(); err != nil {
		return nil, err
	}
	m.seen.handovers++
	m.activeFrom = env.Next
	d, err := m.ctl.Activate(m.env(env), env.Epoch)
	if err != nil {
		return nil, err
	}
	return m.batches(d, env), nil
}

// Resign implements Decider.
func (m *metadata) Resign() error {
	m.seen.undone += m.ctl.Pending()
	if m.bugs.keepOffice {
		return nil
	}
	m.ctl.Resign()
	return m.agree()
}

func (m *metadata) env(env Env) controller.Env {
	return controller.Env{Now: env.Now, NextOffset: env.Next, Rand: env.Rand, APIVersion: 5, KRaftVersion: env.KRaftVersion, Forwarded: true}
}

// batches are the records of a decision, split anywhere unless it is atomic.
func (m *metadata) batches(d controller.Decision, env Env) (out [][]any) {
	if d.Err != nil {
		m.seen.refused++
	}
	m.seen.records += len(d.Records)
	for rest := d.Records; len(rest) > 0; {
		n := len(rest)
		if !d.Atomic && env.Rand.IntN(2) == 0 {
			n = 1 + env.Rand.IntN(n)
		}
		var batch []any
		for _, r := range rest[:n] {
			batch = append(batch, r)
		}
		out, rest = append(out, batch), rest[n:]
	}
	return out
}

// Propose implements Decider: a request as brokers and tools send them, sensible or not.
func (m *metadata) Propose(env Env) [][]any {
	e := m.env(env)
	if at, ok := m.ctl.Deadline(); ok && !env.Now.Before(at) {
		if d := m.ctl.Tick(e); len(d.Records) > 0 {
			return m.batches(d, env)
		}
	}
	broker, topic := int32(env.Rand.IntN(4)), fmt.Sprintf("topic%d", env.Rand.IntN(8))
	var req wire.Message
	switch env.Rand.IntN(12) {
	case 0, 1:
		r := api.NewBrokerRegistrationRequest()
		r.BrokerID, r.ClusterID, r.IncarnationID = broker, "cluster", id.UUID{0: byte(1 + env.Rand.IntN(3)), 1: byte(broker)}
		r.Listeners = []api.BrokerRegistrationRequestListener{{Name: "PLAINTEXT", Host: "h", Port: 9092}}
		r.LogDirs = []id.UUID{{0: 0xd0, 1: byte(broker), 15: 200}}
		for _, f := range controller.SupportedFeatures() {
			r.Features = append(r.Features, api.BrokerRegistrationRequestFeature{Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
		}
		req = r
	case 2, 3, 4, 5:
		r := api.NewBrokerHeartbeatRequest()
		r.BrokerID, r.WantFence, r.WantShutDown = broker, env.Rand.IntN(5) == 0, env.Rand.IntN(20) == 0
		r.CurrentMetadataOffset = int64(env.Next)
		if b := m.ctl.Image().Cluster.Broker(id.BrokerID(broker)); b != nil {
			r.BrokerEpoch = int64(b.Epoch)
		}
		req = r
	case 6, 7:
		r := api.NewCreateTopicsRequest()
		t := api.NewCreateTopicsRequestTopic()
		t.Name, t.NumPartitions, t.ReplicationFactor = topic, int32(1+env.Rand.IntN(3)), int16(1+env.Rand.IntN(2))
		r.Topics = append(r.Topics, t)
		req = r
	case 8:
		r := api.NewDeleteTopicsRequest()
		t := api.NewDeleteTopicsRequestTopic()
		t.Name = &topic
		r.Topics = append(r.Topics, t)
		r.TopicNames = []string{topic}
		req = r
	case 9:
		r := api.NewIncrementalAlterConfigsRequest()
		value := fmt.Sprint(env.Rand.IntN(1000))
		r.Resources = append(r.Resources, api.IncrementalAlterConfigsRequestResource{ResourceType: 2, ResourceName: topic,
			Configs: []api.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: &value}}})
		req = r
	case 10:
		r := api.NewAllocateProducerIDsRequest()
		r.BrokerID = broker
		if b := m.ctl.Image().Cluster.Broker(id.BrokerID(broker)); b != nil {
			r.BrokerEpoch = int64(b.Epoch)
		}
		req = r
	default:
		r := api.NewElectLeadersRequest()
		r.ElectionType = int8(env.Rand.IntN(2))
		req = r
	}
	return m.batches(m.ctl.Decide(e, req), env)
}

// TestController runs controllers on quorums under all faults: decisions that are not committed never leak, each state is a
// replay of what is committed, and who is deposed forgets.
func TestController(t *testing.T) {
	base, only := seed.First(t)
	var total Counts
	var seen decisions
	for n := range uint64(40) {
		o := harsh(base + n)
		o.ClientEvery = 20 * time.Millisecond
		o.Machine = func(id id.BrokerID) Machine { return newMetadata(id, &seen) }
		s, err := run(o, 6000)
		if err != nil {
			t.Fatalf("MOLDAU_SEED=%d: %v\n%+v", base+n, err, o)
		}
		total.Add(s.Counts)
		if only {
			return
		}
	}
	if seen.undone == 0 || seen.handovers == 0 || total.Installs == 0 {
		t.Errorf("nothing was put to the test: %+v", seen)
	}
	t.Logf("%+v, %+v", seen, total)
}

// TestControllerBugs proves that TestController can fail.
func TestControllerBugs(t *testing.T) {
	base := seed.Of(t)
	for name, bugs := range map[string]leaks{"decisions are published": {publishDecided: true}, "decisions outlive the office": {keepOffice: true},
		"decisions are applied twice": {skipCommitted: true}} {
		t.Run(name, func(t *testing.T) {
			for n := range uint64(100) {
				o := harsh(base + n)
				o.Voters, o.ClientEvery = 3, 20*time.Millisecond
				o.Machine = func(n id.BrokerID) Machine {
					m := newMetadata(n, &decisions{})
					if n >= 0 { // the replay has none
						m.bugs = bugs
					}
					return m
				}
				s := New(o)
				s.StartAll()
				if err := s.Run(4000); err != nil {
					t.Logf("run %d: %.200v", n, err)
					return
				}
			}
			t.Error("not found")
		})
	}
}

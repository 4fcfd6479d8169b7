package lifecycle_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/netx"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/broker/ctlhandler"
	"github.com/moldau-io/moldau/internal/broker/forward"
	"github.com/moldau-io/moldau/internal/broker/lifecycle"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

const cluster = "MkU3OEVBNTcwNTJENDM2Qg"

// node is a controller and the lifecycle of a broker, joined by pipes as in one process.
type node struct {
	t     *testing.T
	fs    vfs.FS
	dirID id.UUID
	prev  id.BrokerEpoch

	q     *quorum.Quorum
	srv   *server.Server
	line  *forward.Client
	life  *lifecycle.Manager
	ctl   *lifecycle.ControllerRegistration
	cut   atomic.Pointer[func(frame []byte) bool] // whether to cut the connection instead of passing a frame on
	dials atomic.Int32
}

func newNode(t *testing.T) *node {
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	n := &node{t: t, fs: vfs.NewMem(), prev: -1}
	done, err := quorum.Format(quorum.FormatOptions{FS: n.fs, ClusterID: cluster, NodeID: 1, MetadataDir: "/d", Dirs: []string{"/d"}, Now: time.Now(), Rand: rnd})
	if err != nil {
		t.Fatal(err)
	}
	n.dirID = done[0].DirectoryID
	return n
}

func (n *node) start() {
	n.t.Helper()
	b, _, err := conf.Load(conf.DevDefaults(), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	schema, err := ctlhandler.NewSchema(b)
	if err != nil {
		n.t.Fatal(err)
	}
	o := quorum.DefaultOptions()
	o.FS, o.Dir, o.NodeID, o.ClusterID, o.DirectoryID, o.Seed = n.fs, "/d", 1, cluster, n.dirID, uint64(time.Now().UnixNano())
	o.SegmentBytes = 8 << 20
	o.Endpoints = []quorum.Endpoint{{Name: "CONTROLLER", Host: "localhost", Port: 9093}}
	o.StaticVoters = []quorum.Voter{{ID: 1, Endpoints: o.Endpoints}}
	o.Controller = controller.New(controller.Config{NodeID: 1, ClusterID: cluster, SupportedFeatures: controller.SupportedFeatures(),
		DefaultReplicationFactor: 1, DefaultPartitions: 1, SessionTimeout: 9 * time.Second, Schema: schema,
		Bootstrap: controller.BootstrapRecords(controller.LatestFeatures())})
	if n.q, err = quorum.Open(o); err != nil {
		n.t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(n.t.Output(), nil))
	reg := server.NewRegistry()
	ctlhandler.New(ctlhandler.Options{Quorum: n.q, ClusterID: cluster, NodeID: 1, Logger: logger, SupportedFeatures: controller.SupportedFeatures()}).Register(reg)
	n.srv = server.New(server.Options{Registry: reg, Logger: logger, Memory: server.NewMemory(64 << 20), MaxRequestBytes: 1 << 20, Idle: -1})
	n.line = forward.New(forward.Options{Dial: n.dial, ClientID: "broker-1", Logger: logger})
	var inc id.UUID
	for i := range inc {
		inc[i] = byte(rand.Uint32())
	}
	n.life = lifecycle.New(lifecycle.Options{NodeID: 1, ClusterID: cluster, IncarnationID: inc,
		Endpoints: []image.Endpoint{{Name: "PLAINTEXT", Host: "localhost", Port: 9092}}, Features: controller.SupportedFeatures(),
		LogDirs: []id.UUID{n.dirID}, PreviousBrokerEpoch: n.prev, HeartbeatInterval: 2 * time.Second, SessionTimeout: 9 * time.Second,
		RegistrationTimeout: time.Minute, Line: n.line, Logger: logger})
	ctl := lifecycle.NewControllerRegistration(lifecycle.ControllerOptions{NodeID: 1, IncarnationID: inc,
		Endpoints: []image.Endpoint{{Name: "CONTROLLER", Host: "localhost", Port: 9093}}, Features: controller.SupportedFeatures(), Line: n.line, Logger: logger})
	n.ctl = ctl
	n.q.Subscribe(quorum.PublisherFunc(func(_ *image.Delta, img *image.Image, _ quorum.Provenance) {
		n.life.ImagePublished(img)
		ctl.ImagePublished(img)
	}))
	if err := n.q.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.life.Start()
	n.life.ReadyToUnfence()
}

func (n *node) stop() {
	n.life.Close()
	n.ctl.Close()
	n.line.Close()
	n.srv.Close()
	if err := n.q.Close(); err != nil {
		n.t.Error(err)
	}
}

func (n *node) dial(context.Context) (net.Conn, error) {
	n.dials.Add(1)
	a, b := netx.Pipe(0)
	if !n.srv.ServeConn(b, server.ConnTemplate{Listener: "CONTROLLER", SecurityProtocol: "PLAINTEXT", Principal: "User:ANONYMOUS"}) {
		return nil, errors.New("the controller does not take connections")
	}
	return &cutConn{Conn: a, n: n}, nil
}

// cutConn cuts itself when the test says so, before it passes an answer on.
type cutConn struct {
	net.Conn
	n    *node
	rest []byte
}

func (c *cutConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		var size [4]byte
		if _, err := io.ReadFull(c.Conn, size[:]); err != nil {
			return 0, err
		}
		body := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c.Conn, body); err != nil {
			return 0, err
		}
		if cut := c.n.cut.Load(); cut != nil && (*cut)(body) {
			_ = c.Close()
			return 0, io.ErrUnexpectedEOF
		}
		c.rest = append(size[:], body...)
	}
	k := copy(p, c.rest)
	c.rest = c.rest[k:]
	return k, nil
}

func (n *node) awaitUnfenced() {
	n.t.Helper()
	select {
	case <-n.life.Unfenced():
	case <-n.life.Failed():
		n.t.Fatal(n.life.Err())
	case <-time.After(20 * time.Second):
		n.t.Fatalf("still %v", n.life.State())
	}
}

// TestFirstUnfence: an empty directory to an unfenced broker, through frames, without a wait of fixed length; then a restart
// after a clean end, and one after a crash, neither of which waits for the session of the last incarnation.
func TestFirstUnfence(t *testing.T) {
	n := newNode(t)
	begin := time.Now()
	n.start()
	n.awaitUnfenced()
	t.Logf("unfenced after %v", time.Since(begin))
	img := n.q.Image()
	b := img.Cluster.Broker(1)
	if b == nil || b.Fenced || b.Epoch != n.life.BrokerEpoch() || b.CordonedDirectories == nil {
		t.Fatalf("broker %+v", b)
	}
	if m, err := n.line.Send(t.Context(), createTopic("a"), 7); err != nil || m.(*api.CreateTopicsResponse).Topics[0].ErrorCode != wire.ErrNone {
		t.Fatalf("%+v %v", m, err)
	}
	got := make(chan error, 1)
	n.life.AllocateProducerIDs(func(a *api.AllocateProducerIDsResponse, err error) {
		if err == nil && (a.ErrorCode != wire.ErrNone || a.ProducerIDLen != 1000) {
			err = a.ErrorCode
		}
		got <- err
	})
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	n.prev = n.life.BrokerEpoch()
	begin = time.Now()
	if err := n.life.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("shut down after %v", time.Since(begin))
	n.stop()

	for _, crash := range []bool{false, true} {
		begin = time.Now()
		n.start()
		n.awaitUnfenced()
		t.Logf("unfenced again after %v, crash %v", time.Since(begin), crash)
		if _, err := n.q.AwaitImage(t.Context(), func(i *image.Image) bool {
			p := i.Topics.Partition("a", 0)
			return p != nil && p.Leader == 1
		}); err != nil {
			t.Fatal(err)
		}
		n.prev = -1
		n.stop() // without a word to the controller: the next start finds the broker as it was
	}
}

func createTopic(name string) *api.CreateTopicsRequest {
	r := api.NewCreateTopicsRequest()
	r.Topics = []api.CreateTopicsRequestTopic{{Name: name, NumPartitions: 1, ReplicationFactor: 1}}
	return r
}

// TestLostAnswer: a connection that breaks before the answer arrives makes the request go out again.
func TestLostAnswer(t *testing.T) {
	n := newNode(t)
	n.start()
	defer n.stop()
	n.awaitUnfenced()
	var once atomic.Bool
	cut := func([]byte) bool { return once.CompareAndSwap(false, true) }
	n.cut.Store(&cut)
	before := n.dials.Load()
	m, err := n.line.Send(t.Context(), createTopic("b"), 7)
	if err != nil {
		t.Fatal(err)
	}
	// The first try has made the topic; the second finds it.
	if code := m.(*api.CreateTopicsResponse).Topics[0].ErrorCode; code != wire.ErrTopicAlreadyExists {
		t.Fatalf("second try answered %v", code)
	}
	if n.dials.Load() != before+1 {
		t.Fatalf("%d dials", n.dials.Load()-before)
	}
}

// TestEnvelope sends a client's request through a broker's desk: another server, whose handler forwards.
func TestEnvelope(t *testing.T) {
	n := newNode(t)
	n.start()
	defer n.stop()
	n.awaitUnfenced()
	reg := server.NewRegistry()
	errs := make(chan error, 8)
	for _, key := range []wire.APIKey{wire.CreateTopics, wire.Metadata} {
		info, _ := api.Lookup(key)
		reg.Register(server.API{Key: key, Min: info.Min, Max: info.Max, Handle: func(r *server.Request) {
			n.line.Forward(r, func(m wire.Message, err error) {
				if err != nil {
					errs <- err
					r.Close(err.Error())
					return
				}
				r.Answer(m)
			})
		}})
	}
	front := server.New(server.Options{Registry: reg, Logger: slog.New(slog.DiscardHandler), Memory: server.NewMemory(64 << 20), MaxRequestBytes: 1 << 20, Idle: -1})
	defer front.Close()
	client := forward.New(forward.Options{ClientID: "client", Dial: func(context.Context) (net.Conn, error) {
		a, b := netx.Pipe(0)
		front.ServeConn(b, server.ConnTemplate{Listener: "PLAINTEXT", SecurityProtocol: "PLAINTEXT", Principal: "User:ANONYMOUS"})
		return a, nil
	}, Timeout: 5 * time.Second})
	defer client.Close()
	for version := int16(2); version <= 7; version++ {
		m, err := client.Send(t.Context(), createTopic("v"+string(rune('0'+version))), version)
		if err != nil {
			t.Fatal(err)
		}
		topic := m.(*api.CreateTopicsResponse).Topics[0]
		if topic.ErrorCode != wire.ErrNone || version >= 5 && (topic.NumPartitions != 1 || len(topic.Configs) < 30) {
			t.Fatalf("version %d: %+v", version, topic)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go client.Send(ctx, api.NewMetadataRequest(), 9) //nolint:errcheck // its fate is told by errs
	if err := <-errs; !errors.Is(err, forward.ErrEnvelope) {
		t.Fatalf("a request that cannot be forwarded: %v", err)
	}
}

// TestControllerListener covers what the listener tells of itself.
func TestControllerListener(t *testing.T) {
	n := newNode(t)
	n.start()
	defer n.stop()
	n.awaitUnfenced()
	send := func(req wire.Request, version int16) wire.Message {
		t.Helper()
		m, err := n.line.Send(t.Context(), req, version)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	v := send(&api.ApiVersionsRequest{ClientSoftwareName: "n", ClientSoftwareVersion: "1.0"}, 4).(*api.ApiVersionsResponse)
	if v.ErrorCode != wire.ErrNone || len(v.ApiKeys) < 20 || len(v.FinalizedFeatures) != 6 || len(v.SupportedFeatures) != 7 {
		t.Errorf("%+v", v)
	}
	if v := send(&api.ApiVersionsRequest{ClientSoftwareName: "-", ClientSoftwareVersion: "1"}, 3).(*api.ApiVersionsResponse); v.ErrorCode != wire.ErrInvalidRequest {
		t.Errorf("%+v", v)
	}
	if _, err := n.q.AwaitImage(t.Context(), func(i *image.Image) bool { return i.Cluster.Controller(1) != nil }); err != nil {
		t.Fatal(err)
	}
	c := send(&api.DescribeClusterRequest{EndpointType: 2}, 1).(*api.DescribeClusterResponse)
	if c.ErrorCode != wire.ErrNone || len(c.Brokers) != 1 || c.ControllerID != 1 || c.Brokers[0].Port != 9093 {
		t.Errorf("%+v", c)
	}
	if c := send(&api.DescribeClusterRequest{EndpointType: 1}, 1).(*api.DescribeClusterResponse); c.ErrorCode != wire.ErrMismatchedEndpointType {
		t.Errorf("%+v", c)
	}
	q := send(&api.DescribeQuorumRequest{Topics: []api.DescribeQuorumRequestTopic{{TopicName: "__cluster_metadata",
		Partitions: []api.DescribeQuorumRequestTopicPartition{{}}}}}, 2).(*api.DescribeQuorumResponse)
	if p := q.Topics[0].Partitions[0]; p.LeaderID != 1 || len(p.CurrentVoters) != 1 || p.HighWatermark < 10 {
		t.Errorf("%+v", q)
	}
	if a := send(&api.UnregisterBrokerRequest{BrokerID: 77}, 0).(*api.UnregisterBrokerResponse); a.ErrorCode != wire.ErrBrokerIDNotRegistered ||
		a.ErrorMessage == nil || *a.ErrorMessage != "Broker ID 77 is not currently registered" {
		t.Errorf("%+v", a)
	}
}

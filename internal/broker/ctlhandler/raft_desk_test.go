package ctlhandler

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/engine/quorum/raftrpc"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

const raftCluster = "MkU3OEVBNTcwNTJENDM2Qg"

// soloController is a controller without a broker, behind a listener.
type soloController struct {
	t     *testing.T
	fs    vfs.FS
	dir   string
	dirID id.UUID
	q     *quorum.Quorum
	addr  string
}

// startController formats dir and runs the controller of a quorum of one on it.
func startController(t *testing.T, fsys vfs.FS, dir, listen string, edit func(*quorum.Options)) *soloController {
	t.Helper()
	c := &soloController{t: t, fs: fsys, dir: dir}
	done, err := quorum.Format(quorum.FormatOptions{FS: fsys, ClusterID: raftCluster, NodeID: 1, MetadataDir: dir, Dirs: []string{dir},
		Now: time.Now(), Rand: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))})
	if err != nil {
		t.Fatal(err)
	}
	c.dirID = done[0].DirectoryID
	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	c.addr = l.Addr().String()
	b, _, err := conf.Load(conf.DevDefaults(), nil)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := NewSchema(b)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	o := quorum.DefaultOptions()
	o.FS, o.Dir, o.NodeID, o.ClusterID, o.DirectoryID, o.Seed = fsys, dir, 1, raftCluster, c.dirID, uint64(time.Now().UnixNano())
	o.SegmentBytes, o.Logger = 8<<20, logger
	o.Endpoints = []quorum.Endpoint{{Name: "CONTROLLER", Host: "localhost", Port: uint16(l.Addr().(*net.TCPAddr).Port)}}
	o.StaticVoters = []quorum.Voter{{ID: 1, Endpoints: o.Endpoints}}
	o.Controller = controller.New(controller.Config{NodeID: 1, ClusterID: raftCluster, SupportedFeatures: controller.SupportedFeatures(),
		DefaultReplicationFactor: 1, DefaultPartitions: 1, SessionTimeout: 9 * time.Second, Schema: schema,
		Bootstrap: controller.BootstrapRecords(controller.LatestFeatures())})
	if edit != nil {
		edit(&o)
	}
	if c.q, err = quorum.Open(o); err != nil {
		t.Fatal(err)
	}
	reg := server.NewRegistry()
	New(Options{Quorum: c.q, ClusterID: raftCluster, NodeID: 1, Logger: logger, SupportedFeatures: controller.SupportedFeatures()}).Register(reg)
	NewRaft(RaftOptions{Quorum: c.q, ClusterID: raftCluster, NodeID: 1, Logger: logger}).Register(reg)
	srv := server.New(server.Options{Registry: reg, Logger: logger})
	served := make(chan error, 1)
	go func() {
		served <- srv.Serve(l, server.ConnTemplate{Listener: "CONTROLLER", SecurityProtocol: "PLAINTEXT", Principal: "User:ANONYMOUS"})
	}()
	t.Cleanup(func() {
		srv.Close()
		<-served
		if err := c.q.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := c.q.Start(); err != nil {
		t.Fatal(err)
	}
	c.await(func(i *image.Image) bool { return i.Features.MetadataVersion == 33 })
	return c
}

func (c *soloController) await(ok func(*image.Image) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := c.q.AwaitImage(ctx, ok); err != nil {
		c.t.Fatalf("%v; %+v", err, c.q.Status())
	}
}

// epoch is the quorum's.
func (c *soloController) epoch() id.LeaderEpoch { return c.q.Status().Leader.Epoch }

// setConfig has the controller write a record.
func (c *soloController) setConfig(value string) {
	c.t.Helper()
	res := api.IncrementalAlterConfigsRequestResource{ResourceType: int8(image.ResourceBroker)}
	res.Configs = []api.IncrementalAlterConfigsRequestResourceConfig{{Name: "message.max.bytes", Value: &value}}
	req := api.NewIncrementalAlterConfigsRequest()
	req.Resources = append(req.Resources, res)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	m, err := c.q.Do(ctx, quorum.Request{Message: req, APIVersion: 1, ReadCommitted: true})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, r := range m.(*api.IncrementalAlterConfigsResponse).Responses {
		if r.ErrorCode != wire.ErrNone {
			c.t.Fatal(r.ErrorCode)
		}
	}
}

// nodeConn is a connection of another node.
type nodeConn struct {
	t *testing.T
	net.Conn
	n int32
}

func (c *soloController) dial() *nodeConn {
	c.t.Helper()
	nc, err := net.Dial("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { nc.Close() })
	return &nodeConn{t: c.t, Conn: nc}
}

// send sends a request and returns its correlation id.
func (n *nodeConn) send(req wire.Request, version int16) {
	n.t.Helper()
	info, _ := api.Lookup(req.APIKey())
	n.n++
	var w wire.Writer
	h := wire.NewRequestHeader()
	h.RequestApiKey, h.RequestApiVersion, h.CorrelationID = int16(req.APIKey()), version, n.n
	h.Encode(&w, info.RequestHeaderVersion(version))
	req.Encode(&w, version)
	body, err := w.AppendTo(make([]byte, 4))
	if err != nil {
		n.t.Fatal(err)
	}
	binary.BigEndian.PutUint32(body, uint32(len(body)-4))
	if _, err := n.Write(body); err != nil {
		n.t.Fatal(err)
	}
}

// receive reads the answer to the last request.
func (n *nodeConn) receive(key wire.APIKey, version int16) wire.Message {
	n.t.Helper()
	if err := n.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		n.t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(n, size[:]); err != nil {
		n.t.Fatalf("no answer to %v: %v", key, err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(n, b); err != nil {
		n.t.Fatal(err)
	}
	info, _ := api.Lookup(key)
	r := wire.NewReader(b, nil)
	h := wire.NewResponseHeader()
	h.Decode(r, info.ResponseHeaderVersion(version))
	m := info.NewResponse()
	m.Decode(r, version)
	if err := r.Finish(); err != nil || h.CorrelationID != n.n {
		n.t.Fatalf("%v: %v, correlation id %d", key, err, h.CorrelationID)
	}
	return m
}

// ask sends a message and returns the answer.
func (n *nodeConn) ask(m raft.Message, l raftrpc.Limits) raft.Message {
	n.t.Helper()
	req, err := raftrpc.Request(m, raftCluster, l, 17)
	if err != nil {
		n.t.Fatal(err)
	}
	info, _ := api.Lookup(req.APIKey())
	version := info.Max
	n.send(req, version)
	a, err := raftrpc.FromResponse(n.receive(req.APIKey(), version), m, "CONTROLLER")
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

var observer = raft.Replica{ID: 7, DirectoryID: id.UUID{1, 2, 3}}

func (c *soloController) fetchAt(at raft.Position) raft.Message {
	return raft.Message{Type: raft.MsgFetch, From: observer, To: 1, Epoch: c.epoch(), Log: at, HighWatermark: -1}
}

var atOnce = raftrpc.Limits{MaxBytes: 1 << 20}

// TestObserverFollows reads the metadata log over the wire and waits for what is not there yet.
func TestObserverFollows(t *testing.T) {
	c := startController(t, vfs.NewMem(), "/d", "localhost:0", func(o *quorum.Options) { o.MaxIdleInterval = 0 })
	n := c.dial()
	at, hw := raft.Position{}, id.Offset(-1)
	var got []byte
	fetch := func(l raftrpc.Limits) raft.Message {
		t.Helper()
		m := c.fetchAt(at)
		m.HighWatermark = hw
		a := n.ask(m, l)
		if a.Error != wire.ErrNone || a.Diverging != nil || a.Snapshot != nil || a.Leader != 1 || a.Epoch != c.epoch() || len(a.Endpoints) != 1 {
			t.Fatalf("%+v", a)
		}
		got = append(got, a.Records...)
		for b := a.Records; len(b) > 0; {
			batch, rest, err := record.Next(b)
			if err != nil || batch.CheckCRC() != nil || batch.BaseOffset() != at.Offset {
				t.Fatalf("%v at offset %d", err, at.Offset)
			}
			at, b = raft.Position{Offset: batch.NextOffset(), Epoch: batch.LeaderEpoch()}, rest
		}
		hw = min(a.HighWatermark, at.Offset)
		return a
	}
	for at.Offset < c.q.Status().LogEndOffset {
		if a := fetch(raftrpc.Limits{MaxBytes: 100}); len(a.Records) == 0 {
			t.Fatal("nothing, though there is more")
		}
	}
	if hw != at.Offset {
		t.Fatalf("high watermark %d, end %d", hw, at.Offset)
	}
	if a := fetch(atOnce); len(a.Records) != 0 {
		t.Fatalf("%+v", a)
	}
	if a := fetch(raftrpc.Limits{MaxBytes: 1 << 20, MaxWaitMs: 5}); len(a.Records) != 0 {
		t.Fatalf("%+v", a)
	}
	// A fetch that waits is answered by the next record, long before its time is over.
	m := c.fetchAt(at)
	m.HighWatermark = hw
	req, err := raftrpc.Request(m, raftCluster, raftrpc.Limits{MaxBytes: 1 << 20, MaxWaitMs: 3_600_000}, 17)
	if err != nil {
		t.Fatal(err)
	}
	n.send(req, 17)
	c.setConfig("1000001")
	a, err := raftrpc.FromResponse(n.receive(wire.Fetch, 17), m, "CONTROLLER")
	if err != nil || len(a.Records) == 0 || a.Error != wire.ErrNone {
		t.Fatalf("%+v, %v", a, err)
	}
	got = append(got, a.Records...)
	whole, err := vfs.ReadFile(c.fs, filepath.Join(c.dir, "__cluster_metadata-0/00000000000000000000.log"), 1<<20)
	if err != nil || !bytes.HasPrefix(whole, got) || len(whole) != len(got) {
		t.Fatalf("%d bytes fetched, %d in the log, %v", len(got), len(whole), err)
	}
	// The tools see who follows.
	q := api.NewDescribeQuorumRequest()
	q.Topics = []api.DescribeQuorumRequestTopic{{TopicName: controller.ClusterMetadataTopic, Partitions: []api.DescribeQuorumRequestTopicPartition{{}}}}
	for version := int16(0); version <= 2; version++ {
		n.send(q, version)
		d := n.receive(wire.DescribeQuorum, version).(*api.DescribeQuorumResponse).Topics[0].Partitions[0]
		if len(d.Observers) != 1 || d.Observers[0].ReplicaID != 7 || d.Observers[0].LogEndOffset != int64(at.Offset) || len(d.CurrentVoters) != 1 {
			t.Fatalf("v%d: %+v", version, d)
		}
		o := d.Observers[0]
		if since := time.Now().UnixMilli() - o.LastFetchTimestamp; version >= 1 && (since < 0 || since > 60_000 || o.LastCaughtUpTimestamp > o.LastFetchTimestamp || o.LastCaughtUpTimestamp <= 0) {
			t.Fatalf("v%d: %+v", version, o)
		}
		if version >= 2 && o.ReplicaDirectoryID != observer.DirectoryID {
			t.Fatalf("%+v", o)
		}
	}
}

// TestRaftErrors goes through what Kafka refuses with a code of its own.
func TestRaftErrors(t *testing.T) {
	c := startController(t, vfs.NewMem(), "/d", "localhost:0", nil)
	n := c.dial()
	end := raft.Position{Offset: c.q.Status().LogEndOffset, Epoch: c.epoch()}
	vote := raft.Message{Type: raft.MsgVote, From: raft.Replica{ID: 2}, To: 1, Epoch: c.epoch(), Log: raft.Position{}}
	begin := raft.Message{Type: raft.MsgBeginEpoch, From: raft.Replica{ID: 2}, To: 1, Epoch: c.epoch(), Leader: 2}
	snap := raft.Message{Type: raft.MsgFetchSnapshot, From: observer, To: 1, Epoch: c.epoch(), Snapshot: &raft.Position{Offset: 3, Epoch: 1}}
	edit := func(m raft.Message, f func(*raft.Message)) raft.Message { f(&m); return m }
	for _, x := range []struct {
		name string
		m    raft.Message
		want wire.ErrorCode
	}{
		{"fetch, old epoch", edit(c.fetchAt(raft.Position{}), func(m *raft.Message) { m.Epoch-- }), wire.ErrFencedLeaderEpoch},
		{"fetch, epoch to come", edit(c.fetchAt(end), func(m *raft.Message) { m.Epoch++ }), wire.ErrUnknownLeaderEpoch},
		{"fetch, negative offset", c.fetchAt(raft.Position{Offset: -1}), wire.ErrInvalidRequest},
		{"fetch, negative last epoch", c.fetchAt(raft.Position{Offset: 1, Epoch: -1}), wire.ErrInvalidRequest},
		{"fetch, last epoch to come", c.fetchAt(raft.Position{Offset: 1, Epoch: end.Epoch + 1}), wire.ErrInvalidRequest},
		{"fetch, forged id", edit(c.fetchAt(end), func(m *raft.Message) { m.From.ID = 1 }), wire.ErrUnknownServerError},
		{"snapshot, unknown", snap, wire.ErrSnapshotNotFound},
		{"snapshot, bootstrap", edit(snap, func(m *raft.Message) { m.Snapshot = &raft.Position{} }), wire.ErrSnapshotNotFound},
		{"snapshot, old epoch", edit(snap, func(m *raft.Message) { m.Epoch-- }), wire.ErrFencedLeaderEpoch},
		{"snapshot, epoch to come", edit(snap, func(m *raft.Message) { m.Epoch++ }), wire.ErrUnknownLeaderEpoch},
		{"vote, old epoch", edit(vote, func(m *raft.Message) { m.Epoch--; m.PreVote = true }), wire.ErrFencedLeaderEpoch},
		{"vote, negative id", edit(vote, func(m *raft.Message) { m.From.ID = -1 }), wire.ErrInvalidRequest},
		{"vote, log of the epoch", edit(vote, func(m *raft.Message) { m.Log = end }), wire.ErrInvalidRequest},
		{"vote, negative offset", edit(vote, func(m *raft.Message) { m.Log.Offset = -1 }), wire.ErrInvalidRequest},
		{"vote, for another", edit(vote, func(m *raft.Message) { m.To = 3 }), wire.ErrInvalidVoterKey},
		{"vote, for another directory", edit(vote, func(m *raft.Message) { m.ToDirectory = id.UUID{9} }), wire.ErrInvalidVoterKey},
		{"vote, in this epoch", vote, wire.ErrNone},
		{"begin, old epoch", edit(begin, func(m *raft.Message) { m.Epoch-- }), wire.ErrFencedLeaderEpoch},
		{"begin, forged leader of this epoch", begin, wire.ErrInvalidRequest},
		{"begin, forged self", edit(begin, func(m *raft.Message) { m.From.ID, m.Leader = 1, 1 }), wire.ErrInvalidRequest},
		{"end, old epoch", edit(begin, func(m *raft.Message) { m.Type = raft.MsgEndEpoch; m.Epoch-- }), wire.ErrFencedLeaderEpoch},
		{"end, forged leader of this epoch", edit(begin, func(m *raft.Message) { m.Type = raft.MsgEndEpoch }), wire.ErrInvalidRequest},
	} {
		a := n.ask(x.m, atOnce)
		if a.Error != x.want || a.Granted || a.Epoch != c.epoch() || a.Leader != 1 {
			t.Errorf("%s: %v (granted %v, leader %d of epoch %d), want %v", x.name, a.Error, a.Granted, a.Leader, a.Epoch, x.want)
		}
	}
	if a := n.ask(c.fetchAt(raft.Position{Offset: 1 << 40, Epoch: end.Epoch}), atOnce); a.Diverging == nil || a.Diverging.Epoch != end.Epoch || a.Diverging.Offset > 1<<30 {
		t.Errorf("beyond the end: %+v", a)
	}
	// Still the leader, and the log goes on.
	c.setConfig("1000003")
	if s := c.q.Status(); s.Leader.ID != 1 || s.Leader.Epoch != end.Epoch {
		t.Errorf("%+v", s)
	}
}

// TestVoteIsDurableBeforeItsAnswer: whoever is told of a vote finds it in quorum-state.
func TestVoteIsDurableBeforeItsAnswer(t *testing.T) {
	c := startController(t, vfs.NewMem(), "/d", "localhost:0", func(o *quorum.Options) { o.ElectionTimeout = time.Hour })
	n := c.dial()
	state := func() string {
		t.Helper()
		b, err := vfs.ReadFile(c.fs, filepath.Join(c.dir, "__cluster_metadata-0/quorum-state"), 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	end := raft.Position{Offset: 1 << 40, Epoch: c.epoch()}
	vote := raft.Message{Type: raft.MsgVote, From: raft.Replica{ID: 2}, To: 1, Epoch: c.epoch() + 5, Log: end}
	a := n.ask(vote, atOnce)
	if !a.Granted || a.Epoch != vote.Epoch || a.Leader != id.NoBroker {
		t.Fatalf("%+v", a)
	}
	if s := state(); !strings.Contains(s, fmt.Sprintf(`"leaderEpoch":%d,"votedId":2`, vote.Epoch)) {
		t.Fatalf("answered, but quorum-state is %s", s)
	}
	if a := n.ask(vote, atOnce); !a.Granted {
		t.Fatalf("asked again: %+v", a)
	}
	vote.From.ID = 3
	if a := n.ask(vote, atOnce); a.Granted || a.Error != wire.ErrNone {
		t.Fatalf("a second vote in one epoch: %+v", a)
	}
	m := c.fetchAt(raft.Position{})
	m.Epoch = vote.Epoch
	if a := n.ask(m, atOnce); a.Error != wire.ErrNotLeaderOrFollower || a.HighWatermark != -1 {
		t.Fatalf("a fetch from who does not lead: %+v", a)
	}
	q := api.NewDescribeQuorumRequest()
	q.Topics = []api.DescribeQuorumRequestTopic{{TopicName: controller.ClusterMetadataTopic, Partitions: []api.DescribeQuorumRequestTopicPartition{{}}}}
	n.send(q, 2)
	if d := n.receive(wire.DescribeQuorum, 2).(*api.DescribeQuorumResponse).Topics[0].Partitions[0]; d.ErrorCode != wire.ErrNotLeaderOrFollower {
		t.Fatalf("%+v", d)
	}
}

// TestWaitingFetchLearnsOfTheLoss: a fetch that waits is told when its leader is none any more.
func TestWaitingFetchLearnsOfTheLoss(t *testing.T) {
	c := startController(t, vfs.NewMem(), "/d", "localhost:0", func(o *quorum.Options) { o.MaxIdleInterval = 0 })
	n := c.dial()
	s := c.q.Status()
	m := c.fetchAt(raft.Position{Offset: s.LogEndOffset, Epoch: s.Leader.Epoch})
	m.HighWatermark = s.HighWatermark
	req, err := raftrpc.Request(m, raftCluster, raftrpc.Limits{MaxBytes: 1, MaxWaitMs: 3_600_000}, 17)
	if err != nil {
		t.Fatal(err)
	}
	n.send(req, 17)
	c.awaitObserver()
	c.q.Depose()
	a, err := raftrpc.FromResponse(n.receive(wire.Fetch, 17), m, "CONTROLLER")
	if err != nil || a.Error != wire.ErrNotLeaderOrFollower {
		t.Fatalf("%+v, %v", a, err)
	}
}

// awaitObserver waits until the quorum knows of a replica that fetches.
func (c *soloController) awaitObserver() {
	c.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); len(c.q.Status().Observers) == 0; {
		if time.Now().After(deadline) {
			c.t.Fatal("the fetch is not seen")
		}
		done := make(chan struct{}) // lets the driver go round
		c.q.Ask(quorum.Ask{Message: raft.Message{Type: raft.MsgVote, From: raft.Replica{ID: 9}, To: 1}}, func(quorum.Reply) { close(done) })
		<-done
	}
}

// TestSnapshotInPieces fetches a snapshot, as a replica does that has nothing.
func TestSnapshotInPieces(t *testing.T) {
	c := startController(t, vfs.NewMem(), "/d", "localhost:0", func(o *quorum.Options) { o.SnapshotMaxNewRecordBytes = 1 })
	n := c.dial()
	var at raft.Position
	for deadline := time.Now().Add(20 * time.Second); ; {
		a := n.ask(c.fetchAt(raft.Position{}), atOnce)
		if a.Snapshot != nil {
			at = *a.Snapshot
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no snapshot: %+v", a)
		}
		c.setConfig("1000002")
	}
	m := raft.Message{Type: raft.MsgFetchSnapshot, From: observer, To: 1, Epoch: c.epoch(), Snapshot: &at}
	var got []byte
	for {
		m.At = int64(len(got))
		a := n.ask(m, raftrpc.Limits{MaxBytes: 100})
		if a.Error != wire.ErrNone || a.Snapshot == nil || *a.Snapshot != at || a.At != m.At || len(a.Records) == 0 || len(a.Records) > 100 || len(a.Endpoints) != 1 {
			t.Fatalf("%+v", a)
		}
		if got = append(got, a.Records...); int64(len(got)) == a.Size {
			break
		}
	}
	want, err := vfs.ReadFile(c.fs, filepath.Join(c.dir, fmt.Sprintf("__cluster_metadata-0/%020d-%010d.checkpoint", at.Offset, at.Epoch)), 1<<20)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
	}
	m.At = int64(len(got))
	if a := n.ask(m, atOnce); a.Error != wire.ErrPositionOutOfRange {
		t.Fatalf("%+v", a)
	}
	m.At = -1
	if a := n.ask(m, atOnce); a.Error != wire.ErrPositionOutOfRange {
		t.Fatalf("%+v", a)
	}
	// What is not about the metadata partition says at least who leads.
	req := api.NewFetchSnapshotRequest()
	req.Topics = []api.FetchSnapshotRequestTopic{{Name: "t", Partitions: []api.FetchSnapshotRequestTopicPartition{{Partition: 3}}}}
	n.send(req, 1)
	r := n.receive(wire.FetchSnapshot, 1).(*api.FetchSnapshotResponse)
	if p := r.Topics[0].Partitions[0]; p.ErrorCode != wire.ErrUnknownTopicOrPartition || p.Index != 3 || len(r.NodeEndpoints) != 1 || r.NodeEndpoints[0].NodeID != 1 {
		t.Fatalf("%+v", r)
	}
	req.Topics = nil
	n.send(req, 1)
	if r := n.receive(wire.FetchSnapshot, 1).(*api.FetchSnapshotResponse); r.ErrorCode != wire.ErrInvalidRequest {
		t.Fatalf("%+v", r)
	}
}

// TestClosedQuorumAnswers: nobody is left waiting.
func TestClosedQuorumAnswers(t *testing.T) {
	c := startController(t, vfs.NewMem(), "/d", "localhost:0", nil)
	if err := c.q.Close(); err != nil && !errors.Is(err, quorum.ErrClosed) {
		t.Fatal(err)
	}
	if a := c.dial().ask(c.fetchAt(raft.Position{}), atOnce); a.Error != wire.ErrBrokerNotAvailable {
		t.Fatalf("%+v", a)
	}
}

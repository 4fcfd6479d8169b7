package handler

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// replicaRig is a replica desk behind a real door, over real logs in memory.
type replicaRig struct {
	t        testing.TB
	replicas *replica.Manager
	desk     *ReplicaDesk
	img      *image.Image
	configs  map[string]replica.TopicConfig
	addr     string
	nextID   byte
	pids     fakeAllocator
	pidNow   atomic.Int64 // milliseconds
}

func (r *replicaRig) TopicConfig(_ *image.Image, topic string) replica.TopicConfig {
	if c, ok := r.configs[topic]; ok {
		return c
	}
	return replica.TopicConfig{Log: log.DefaultConfig(), MinInSyncReplicas: 1}
}

func newReplicaRig(t testing.TB) *replicaRig {
	t.Helper()
	r := &replicaRig{t: t, img: image.Empty(), configs: map[string]replica.TopicConfig{}}
	logs, err := log.Open(log.Options{FS: vfs.NewMem(), Dirs: []string{"/data"}, Config: log.DefaultConfig(), ClusterID: "c", NodeID: 1, AutoFormat: true, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	r.replicas = replica.New(replica.Options{Self: 1, Logs: logs, Configs: r, LagMax: time.Minute})
	next := int32(0)
	r.desk = NewReplicaDesk(ReplicaDeskDeps{Self: 1, Replicas: r.replicas, Logs: logs,
		SessionSlots: 10, Random: func() int32 { next++; return next }, FetchMaxBytes: func() int { return 55 << 20 }})
	reg := server.NewRegistry()
	r.desk.Register(reg)
	NewTxnDesk(TxnDeps{Replicas: r.replicas, Places: new(Places), ProducerIDs: NewProducerIDBlocks(&r.pids, func() time.Time { return time.UnixMilli(r.pidNow.Load()) }, nil)}).Register(reg)
	srv := server.New(server.Options{Registry: reg})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.Serve(l, server.ConnTemplate{Listener: "PLAINTEXT", SecurityProtocol: "PLAINTEXT", Principal: "User:ANONYMOUS"})
	}()
	t.Cleanup(func() {
		srv.Close()
		<-served
		r.replicas.Close()
		logs.Close(id.NoBrokerEpoch)
	})
	rack := "r2"
	for b := range int32(2) {
		r.replay(&logrec.RegisterBrokerRecord{BrokerID: b + 1, BrokerEpoch: 7, IncarnationID: id.UUID{9, byte(b)}, Rack: &rack,
			EndPoints: []logrec.RegisterBrokerRecordEndPoint{{Name: "PLAINTEXT", Host: fmt.Sprintf("host%d", b+1), Port: 9092}}})
	}
	return r
}

func (r *replicaRig) replay(records ...logrec.MetadataRecord) {
	r.t.Helper()
	d := image.NewDelta(r.img)
	for _, rec := range records {
		if err := d.Replay(rec); err != nil {
			r.t.Fatal(err)
		}
	}
	r.img = d.Apply(image.Provenance{Offset: r.img.Provenance.Offset + 1, Epoch: 1})
	if err := r.replicas.ApplyDelta(d, r.img); err != nil {
		r.t.Fatal(err)
	}
}

func (r *replicaRig) topic(name string, partitions int32) id.UUID {
	r.t.Helper()
	r.nextID++
	u := id.UUID{1, r.nextID}
	recs := []logrec.MetadataRecord{&logrec.TopicRecord{Name: name, TopicID: u}}
	for n := range partitions {
		recs = append(recs, &logrec.PartitionRecord{PartitionID: n, TopicID: u, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1})
	}
	r.replay(recs...)
	return u
}

func (r *replicaRig) lead(u id.UUID, n, leader int32) {
	c := logrec.NewPartitionChangeRecord()
	c.PartitionID, c.TopicID, c.Leader = n, u, leader
	r.replay(c)
}

// wireClient speaks frames on one connection.
type wireClient struct {
	t    testing.TB
	conn net.Conn
	corr int32
}

func (r *replicaRig) dial() *wireClient {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return &wireClient{t: r.t, conn: c}
}

func (c *wireClient) send(req wire.Request, version int16, clientID string) {
	c.t.Helper()
	c.corr++
	info, _ := api.Lookup(req.APIKey())
	var w wire.Writer
	(&wire.RequestHeader{RequestApiKey: int16(req.APIKey()), RequestApiVersion: version, CorrelationID: c.corr, ClientID: &clientID}).
		Encode(&w, info.RequestHeaderVersion(version))
	req.Encode(&w, version)
	body, err := w.AppendTo(make([]byte, 4))
	if err != nil {
		c.t.Fatal(err)
	}
	binary.BigEndian.PutUint32(body, uint32(len(body)-4))
	if _, err := c.conn.Write(body); err != nil {
		c.t.Fatal(err)
	}
}

// receive reads one answer; the error is that of the connection.
func (c *wireClient) receive(key wire.APIKey, version int16) (wire.Message, int32, error) {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	var size [4]byte
	if _, err := io.ReadFull(c.conn, size[:]); err != nil {
		return nil, 0, err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c.conn, body); err != nil {
		return nil, 0, err
	}
	info, _ := api.Lookup(key)
	rd := wire.NewReader(body, nil)
	var h wire.ResponseHeader
	h.Decode(rd, info.ResponseHeaderVersion(version))
	m := info.NewResponse()
	m.Decode(rd, version)
	if err := rd.Finish(); err != nil {
		c.t.Fatal(err)
	}
	return m, h.CorrelationID, nil
}

func ask[R any](c *wireClient, req wire.Request, version int16) *R {
	c.t.Helper()
	c.send(req, version, "test")
	m, corr, err := c.receive(req.APIKey(), version)
	if err != nil || corr != c.corr {
		c.t.Fatalf("answer %d to %d: %v", corr, c.corr, err)
	}
	return m.(any).(*R)
}

func clientBatch(t testing.TB, n int, change func(*record.Options)) []byte {
	t.Helper()
	o := record.NewOptions()
	if change != nil {
		change(&o)
	}
	b := record.NewBuilder(o)
	for i := range n {
		if err := b.Append(time.Now().UnixMilli(), []byte{byte(i)}, []byte("value")); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(out)
}

func produceTo(topic string, u id.UUID, version, acks int16, parts ...[]byte) *api.ProduceRequest {
	req := &api.ProduceRequest{Acks: acks, TimeoutMs: 5000}
	td := api.ProduceRequestTopicData{Name: topic}
	if version >= 13 {
		td = api.ProduceRequestTopicData{TopicID: u}
	}
	for i, b := range parts {
		td.PartitionData = append(td.PartitionData, api.ProduceRequestTopicDataPartitionData{Index: int32(i), Records: wire.Records{Bytes: b}})
	}
	req.TopicData = append(req.TopicData, td)
	return req
}

func fetchFrom(topic string, u id.UUID, version int16, offsets ...int64) *api.FetchRequest {
	req := api.NewFetchRequest()
	req.MaxBytes, req.MinBytes, req.MaxWaitMs = 1<<20, 1, 0
	ft := api.FetchRequestTopic{Topic: topic}
	if version >= 13 {
		ft = api.FetchRequestTopic{TopicID: u}
	}
	for i, o := range offsets {
		p := api.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = int32(i), o, 1<<20
		ft.Partitions = append(ft.Partitions, p)
	}
	req.Topics = append(req.Topics, ft)
	return req
}

// TestProduceAndFetchAllVersions writes with every version of Produce and reads it back with every version of Fetch.
func TestProduceAndFetchAllVersions(t *testing.T) {
	r := newReplicaRig(t)
	u := r.topic("t", 2)
	c := r.dial()
	next := int64(0)
	for v := int16(3); v <= 13; v++ {
		resp := ask[api.ProduceResponse](c, produceTo("t", u, v, -1, clientBatch(t, 2, nil)), v)
		p := resp.Responses[0].PartitionResponses[0]
		if p.ErrorCode != wire.ErrNone || p.BaseOffset != next || p.LogAppendTimeMs != -1 || (v >= 5 && p.LogStartOffset != 0) {
			t.Errorf("produce %d: %+v", v, p)
		}
		next += 2
	}
	for v := int16(4); v <= 18; v++ {
		req := fetchFrom("t", u, v, 3, 0)
		req.IsolationLevel = int8(v % 2)
		resp := ask[api.FetchResponse](c, req, v)
		if resp.ErrorCode != wire.ErrNone || len(resp.Responses) != 1 || len(resp.Responses[0].Partitions) != 2 {
			t.Fatalf("fetch %d: %+v", v, resp)
		}
		p := resp.Responses[0].Partitions[0]
		b, _, err := record.Next(p.Records.Bytes)
		if err != nil || b.BaseOffset() != 2 || b.CheckCRC() != nil || p.HighWatermark != next || p.LastStableOffset != next || p.PreferredReadReplica != -1 {
			t.Errorf("fetch %d: %v %v %+v", v, b, err, p)
		}
		if (p.AbortedTransactions != nil) != (req.IsolationLevel == 1) {
			t.Errorf("fetch %d: aborted transactions %v at isolation %d", v, p.AbortedTransactions, req.IsolationLevel)
		}
		if empty := resp.Responses[0].Partitions[1]; empty.Records.IsNull() || empty.Records.Size() != 0 || empty.HighWatermark != 0 {
			t.Errorf("fetch %d: empty partition %+v", v, empty)
		}
	}
}

// A partition that a request names twice counts once, as in Kafka, which collects the entries in a map.
func TestProduceNamesPartitionTwice(t *testing.T) {
	r := newReplicaRig(t)
	c := r.dial()
	bad := func(b []byte) []byte { return b[:40] }
	for _, version := range []int16{8, 13} {
		topic := fmt.Sprintf("t%d", version)
		u := r.topic(topic, 2)
		req := produceTo(topic, u, version, -1, clientBatch(t, 1, nil), clientBatch(t, 2, nil), clientBatch(t, 4, nil))
		req.TopicData[0].PartitionData[2].Index = 0
		again := produceTo(topic, u, version, -1, clientBatch(t, 8, nil)).TopicData[0]
		req.TopicData = append(req.TopicData, again)
		resp := ask[api.ProduceResponse](c, req, version)
		if len(resp.Responses) != 1 || len(resp.Responses[0].PartitionResponses) != 2 {
			t.Fatalf("version %d: %+v", version, resp)
		}
		for i, p := range resp.Responses[0].PartitionResponses {
			if p.Index != int32(i) || p.ErrorCode != wire.ErrNone || p.BaseOffset != 0 {
				t.Errorf("version %d: %+v", version, p)
			}
		}
		ends := func(want0, want1 int64) {
			t.Helper()
			f := ask[api.FetchResponse](c, fetchFrom(topic, u, version, 0, 0), version)
			if p := f.Responses[0].Partitions; p[0].HighWatermark != want0 || p[1].HighWatermark != want1 {
				t.Errorf("version %d: ends at %d and %d", version, p[0].HighWatermark, p[1].HighWatermark)
			}
		}
		ends(8, 2) // the last entry alone
		// A bad entry is what the answer tells of, wherever it stands; the good one is appended nevertheless.
		for i, batches := range [][2][]byte{{bad(clientBatch(t, 1, nil)), clientBatch(t, 1, nil)}, {clientBatch(t, 1, nil), bad(clientBatch(t, 1, nil))}} {
			req := produceTo(topic, u, version, -1, batches[0], clientBatch(t, 1, nil), batches[1])
			req.TopicData[0].PartitionData[2].Index = 0
			resp := ask[api.ProduceResponse](c, req, version)
			parts := resp.Responses[0].PartitionResponses
			if len(parts) != 2 || parts[0].ErrorCode != wire.ErrInvalidRecord || parts[0].BaseOffset != -1 || parts[1].ErrorCode != wire.ErrNone {
				t.Errorf("version %d: %+v", version, parts)
			}
			ends(9+int64(i), 3+int64(i))
		}
	}
}

func TestProduceErrors(t *testing.T) {
	r := newReplicaRig(t)
	u := r.topic("t", 1)
	moved := r.topic("moved", 1)
	r.lead(moved, 0, 2)
	good := clientBatch(t, 1, nil)
	legacy := slices.Clone(good)
	legacy[16] = 1
	strange := slices.Clone(good)
	strange[16] = 9
	corrupt := slices.Clone(good)
	corrupt[len(corrupt)-1] ^= 1
	zstd := clientBatch(t, 1, func(o *record.Options) { o.Compression = record.Compression{Codec: record.Zstd} })
	txn := clientBatch(t, 1, func(o *record.Options) {
		o.Transactional, o.ProducerID, o.ProducerEpoch, o.BaseSequence = true, 1, 0, 0
	})
	txnID := "tx"
	tests := []struct {
		name    string
		version int16
		req     *api.ProduceRequest
		want    wire.ErrorCode
	}{
		{"good", 8, produceTo("t", u, 8, 1, good), wire.ErrNone},
		{"null records", 8, produceTo("t", u, 8, 1, nil), wire.ErrUnknownServerError},
		{"no records", 8, produceTo("t", u, 8, 1, []byte{}), wire.ErrInvalidRecord},
		{"half a batch", 8, produceTo("t", u, 8, 1, good[:40]), wire.ErrInvalidRecord},
		{"two batches", 8, produceTo("t", u, 8, 1, slices.Concat(good, good)), wire.ErrInvalidRecord},
		{"old format", 8, produceTo("t", u, 8, 1, legacy), wire.ErrInvalidRecord},
		{"unknown format", 8, produceTo("t", u, 8, 1, strange), wire.ErrCorruptMessage},
		{"wrong CRC", 8, produceTo("t", u, 8, 1, corrupt), wire.ErrCorruptMessage},
		{"zstd too early", 6, produceTo("t", u, 6, 1, zstd), wire.ErrUnsupportedCompressionType},
		{"zstd", 7, produceTo("t", u, 7, 1, zstd), wire.ErrNone},
		{"transactional batch", 8, produceTo("t", u, 8, 1, txn), wire.ErrTransactionalIDAuthorizationFailed},
		{"unknown topic", 8, produceTo("nope", u, 8, 1, good), wire.ErrUnknownTopicOrPartition},
		{"unknown id", 13, produceTo("", id.UUID{44}, 13, 1, good), wire.ErrUnknownTopicID},
		{"zero id", 13, produceTo("", id.UUID{}, 13, 1, good), wire.ErrUnknownTopicID},
		{"acks 7", 8, produceTo("t", u, 8, 7, good), wire.ErrInvalidRequiredAcks},
		{"led elsewhere", 9, produceTo("moved", moved, 9, 1, good), wire.ErrNotLeaderOrFollower},
	}
	withID := produceTo("t", u, 8, 1, good)
	withID.TransactionalID = &txnID
	tests = append(tests, struct {
		name    string
		version int16
		req     *api.ProduceRequest
		want    wire.ErrorCode
	}{"transactional id without transactional records", 8, withID, wire.ErrNone})
	c := r.dial()
	for _, tt := range tests {
		resp := ask[api.ProduceResponse](c, tt.req, tt.version)
		p := resp.Responses[0].PartitionResponses[0]
		if p.ErrorCode != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, p.ErrorCode.Name(), tt.want.Name())
		}
		if p.ErrorCode != wire.ErrNone && (p.BaseOffset != -1 || p.LogAppendTimeMs != -1) {
			t.Errorf("%s: %+v", tt.name, p)
		}
	}
	// Since version 10 the answer names the leader and how to reach it.
	resp := ask[api.ProduceResponse](c, produceTo("moved", moved, 10, 1, good), 10)
	want := []api.ProduceResponseNodeEndpoint{{NodeID: 2, Host: "host2", Port: 9092, Rack: resp.NodeEndpoints[0].Rack}}
	if diff := cmp.Diff(want, resp.NodeEndpoints); diff != "" || *resp.NodeEndpoints[0].Rack != "r2" {
		t.Error(diff)
	}
	if l := resp.Responses[0].PartitionResponses[0].CurrentLeader; l.LeaderID != 2 || l.LeaderEpoch != 1 {
		t.Errorf("current leader %+v", l)
	}
	fresp := ask[api.FetchResponse](c, func() *api.FetchRequest {
		q := fetchFrom("", moved, 16, 0)
		q.Topics[0].Partitions[0].CurrentLeaderEpoch = 0
		return q
	}(), 16)
	if p := fresp.Responses[0].Partitions[0]; p.ErrorCode != wire.ErrFencedLeaderEpoch || p.CurrentLeader.LeaderID != 2 || len(fresp.NodeEndpoints) != 1 {
		t.Errorf("%+v %+v", p, fresp.NodeEndpoints)
	}
}

// TestRecordErrors checks that complaints about single records arrive (KIP-467).
func TestRecordErrors(t *testing.T) {
	r := newReplicaRig(t)
	cfg := r.TopicConfig(nil, "")
	cfg.Log.CleanupCompact, cfg.Log.CleanupDelete = true, false
	r.configs["compacted"] = cfg
	u := r.topic("compacted", 1)
	b := record.NewBuilder(record.NewOptions())
	b.Append(1, []byte("k"), nil)
	b.Append(1, nil, []byte("no key"))
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	resp := ask[api.ProduceResponse](r.dial(), produceTo("compacted", u, 9, -1, slices.Clone(out)), 9)
	p := resp.Responses[0].PartitionResponses[0]
	if p.ErrorCode != wire.ErrInvalidRecord || len(p.RecordErrors) != 1 || p.RecordErrors[0].BatchIndex != 1 || p.ErrorMessage == nil || *p.ErrorMessage == "" {
		t.Errorf("%+v", p)
	}
}

func TestAcksZero(t *testing.T) {
	r := newReplicaRig(t)
	u := r.topic("t", 1)
	c := r.dial()
	c.send(produceTo("t", u, 9, 0, clientBatch(t, 1, nil)), 9, "test")
	resp := ask[api.ProduceResponse](c, produceTo("t", u, 9, 1, clientBatch(t, 1, nil)), 9)
	if p := resp.Responses[0].PartitionResponses[0]; p.BaseOffset != 1 {
		t.Errorf("the produce without an answer was lost: %+v", p)
	}
	c.send(produceTo("nope", u, 9, 0, clientBatch(t, 1, nil)), 9, "test")
	if _, _, err := c.receive(wire.Produce, 9); !errors.Is(err, io.EOF) {
		t.Errorf("an error with acks=0 must close the connection: %v", err)
	}
}

func TestInternalTopics(t *testing.T) {
	r := newReplicaRig(t)
	u := r.topic("__consumer_offsets", 1)
	c := r.dial()
	req := produceTo("__consumer_offsets", u, 9, 1, clientBatch(t, 1, nil))
	if p := ask[api.ProduceResponse](c, req, 9).Responses[0].PartitionResponses[0]; p.ErrorCode != wire.ErrInvalidTopicException {
		t.Errorf("%+v", p)
	}
	c.send(req, 9, "__admin_client")
	m, _, err := c.receive(wire.Produce, 9)
	if err != nil || m.(*api.ProduceResponse).Responses[0].PartitionResponses[0].ErrorCode != wire.ErrNone {
		t.Errorf("%+v %v", m, err)
	}
}

// TestPipelinedProduces sends produces that wait; the answers come in order once they are committed.
func TestPipelinedProduces(t *testing.T) {
	r := newReplicaRig(t)
	u := r.topic("t", 1)
	r.replicas.Hold()
	c := r.dial()
	const n = 5
	for range n {
		c.send(produceTo("t", u, 9, -1, clientBatch(t, 1, nil)), 9, "test")
	}
	for r.replicas.Gauges().WaitingProduces < n {
		runtime.Gosched()
	}
	r.replicas.Release()
	for i := range n {
		m, corr, err := c.receive(wire.Produce, 9)
		if err != nil || corr != int32(i+1) {
			t.Fatalf("answer %d: %v", corr, err)
		}
		if p := m.(*api.ProduceResponse).Responses[0].PartitionResponses[0]; p.BaseOffset != int64(i) || p.ErrorCode != wire.ErrNone {
			t.Errorf("%+v", p)
		}
	}
}

func TestFetchSessions(t *testing.T) {
	r := newReplicaRig(t)
	u := r.topic("t", 2)
	c := r.dial()
	const v = 17
	full := fetchFrom("", u, v, 0, 0)
	full.SessionID, full.SessionEpoch = 0, 0
	full.Topics = append(full.Topics, api.FetchRequestTopic{TopicID: id.UUID{77}, Partitions: full.Topics[0].Partitions[:1]})
	resp := ask[api.FetchResponse](c, full, v)
	if resp.SessionID == 0 || len(resp.Responses) != 2 || resp.Responses[1].Partitions[0].ErrorCode != wire.ErrUnknownTopicID {
		t.Fatalf("%+v", resp)
	}
	sid := resp.SessionID
	step := func(epoch int32, change func(*api.FetchRequest)) *api.FetchResponse {
		req := api.NewFetchRequest()
		req.MaxBytes, req.MinBytes, req.SessionID, req.SessionEpoch = 1<<20, 1, sid, epoch
		if change != nil {
			change(req)
		}
		return ask[api.FetchResponse](c, req, v)
	}
	if resp = step(1, func(q *api.FetchRequest) {
		q.ForgottenTopicsData = []api.FetchRequestForgottenTopicsData{{TopicID: id.UUID{77}, Partitions: []int32{0}}}
	}); len(resp.Responses) != 0 || resp.SessionID != sid || resp.ErrorCode != wire.ErrNone {
		t.Errorf("nothing is new: %+v", resp)
	}
	ask[api.ProduceResponse](c, produceTo("t", u, 13, -1, nil, clientBatch(t, 1, nil)), 13)
	resp = step(2, nil)
	if len(resp.Responses) != 1 || len(resp.Responses[0].Partitions) != 1 || resp.Responses[0].Partitions[0].PartitionIndex != 1 ||
		resp.Responses[0].Partitions[0].Records.Size() == 0 {
		t.Errorf("partition 1 has news: %+v", resp)
	}
	if resp = step(2, nil); resp.ErrorCode != wire.ErrInvalidFetchSessionEpoch {
		t.Errorf("%+v", resp)
	}
	if resp = step(3, func(q *api.FetchRequest) { q.SessionID = 4711 }); resp.ErrorCode != wire.ErrFetchSessionIDNotFound || resp.SessionID != 0 {
		t.Errorf("%+v", resp)
	}
	if s := r.desk.FetchSessions(); s.Sessions != 1 || s.Partitions != 2 {
		t.Errorf("%+v", s)
	}
}

func TestListOffsetsDesk(t *testing.T) {
	r := newReplicaRig(t)
	u := r.topic("t", 1)
	c := r.dial()
	b := record.NewBuilder(record.NewOptions())
	for _, ts := range []int64{100, 300, 200} {
		b.Append(ts, nil, nil)
	}
	out, _ := b.Build()
	ask[api.ProduceResponse](c, produceTo("t", u, 9, -1, slices.Clone(out)), 9)
	tests := []struct {
		version   int16
		timestamp int64
		want      string
	}{
		{1, -1, "NONE 3 -1"}, {1, -2, "NONE 0 -1"}, {11, -1, "NONE 3 -1"}, {11, -2, "NONE 0 -1"},
		{7, -3, "NONE 1 300"}, {6, -3, "UNSUPPORTED_VERSION -1 -1"}, {8, -4, "NONE 0 -1"}, {7, -4, "UNSUPPORTED_VERSION -1 -1"},
		{9, -5, "NONE -1 -1"}, {8, -5, "UNSUPPORTED_VERSION -1 -1"}, {11, -6, "NONE -1 -1"}, {10, -6, "UNSUPPORTED_VERSION -1 -1"},
		{11, -7, "UNSUPPORTED_VERSION -1 -1"}, {4, 150, "NONE 1 300"}, {4, 301, "NONE -1 -1"}, {2, 0, "NONE 0 100"},
	}
	for _, tt := range tests {
		req := api.NewListOffsetsRequest()
		req.ReplicaID = -1
		req.Topics = []api.ListOffsetsRequestTopic{{Name: "t", Partitions: []api.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1, Timestamp: tt.timestamp}}}}
		p := ask[api.ListOffsetsResponse](c, req, tt.version).Topics[0].Partitions[0]
		if got := fmt.Sprintf("%s %d %d", p.ErrorCode.Name(), p.Offset, p.Timestamp); got != tt.want {
			t.Errorf("version %d timestamp %d: %s, want %s", tt.version, tt.timestamp, got, tt.want)
		}
	}
	req := api.NewListOffsetsRequest()
	req.ReplicaID = -1
	one := api.ListOffsetsRequestTopicPartition{CurrentLeaderEpoch: -1, Timestamp: -1}
	req.Topics = []api.ListOffsetsRequestTopic{{Name: "t", Partitions: []api.ListOffsetsRequestTopicPartition{one, one}}, {Name: "u", Partitions: []api.ListOffsetsRequestTopicPartition{one}}}
	resp := ask[api.ListOffsetsResponse](c, req, 7)
	if len(resp.Topics) != 2 || len(resp.Topics[0].Partitions) != 1 || resp.Topics[0].Partitions[0].ErrorCode != wire.ErrInvalidRequest ||
		resp.Topics[1].Partitions[0].ErrorCode != wire.ErrUnknownTopicOrPartition {
		t.Errorf("%+v", resp)
	}
}

func TestSmallReplicaAPIs(t *testing.T) {
	r := newReplicaRig(t)
	u := r.topic("t", 2)
	r.topic("a", 1)
	c := r.dial()
	ask[api.ProduceResponse](c, produceTo("t", u, 9, -1, clientBatch(t, 5, func(o *record.Options) { o.ProducerID, o.ProducerEpoch, o.BaseSequence = 9, 1, 0 })), 9)
	t.Run("OffsetForLeaderEpoch", func(t *testing.T) {
		for v := int16(2); v <= 4; v++ {
			req := &api.OffsetForLeaderEpochRequest{ReplicaID: -2, Topics: []api.OffsetForLeaderEpochRequestTopic{{Topic: "t", Partitions: []api.OffsetForLeaderEpochRequestTopicPartition{
				{Partition: 0, CurrentLeaderEpoch: -1, LeaderEpoch: 0}, {Partition: 0, CurrentLeaderEpoch: 3, LeaderEpoch: 0}, {Partition: 7, CurrentLeaderEpoch: -1}}}}}
			var got []string
			for _, p := range ask[api.OffsetForLeaderEpochResponse](c, req, v).Topics[0].Partitions {
				got = append(got, fmt.Sprintf("%s %d %d", p.ErrorCode.Name(), p.LeaderEpoch, p.EndOffset))
			}
			if diff := cmp.Diff([]string{"NONE 0 5", "UNKNOWN_LEADER_EPOCH -1 -1", "UNKNOWN_TOPIC_OR_PARTITION -1 -1"}, got); diff != "" {
				t.Error(diff)
			}
		}
	})
	t.Run("DescribeProducers", func(t *testing.T) {
		req := &api.DescribeProducersRequest{Topics: []api.DescribeProducersRequestTopic{{Name: "t", PartitionIndexes: []int32{0, 1, 5}}, {Name: "no", PartitionIndexes: []int32{0}}, {Name: "a/b", PartitionIndexes: []int32{0}}}}
		resp := ask[api.DescribeProducersResponse](c, req, 0)
		p := resp.Topics[0].Partitions
		if len(p[0].ActiveProducers) != 1 || p[0].ActiveProducers[0].ProducerID != 9 || p[0].ActiveProducers[0].LastSequence != 4 || len(p[1].ActiveProducers) != 0 ||
			p[2].ErrorCode != wire.ErrUnknownTopicOrPartition || resp.Topics[1].Partitions[0].ErrorCode != wire.ErrUnknownTopicOrPartition ||
			resp.Topics[2].Partitions[0].ErrorCode != wire.ErrInvalidTopicException {
			t.Errorf("%+v", resp)
		}
	})
	t.Run("DescribeLogDirs", func(t *testing.T) {
		for v := int16(1); v <= 5; v++ {
			resp := ask[api.DescribeLogDirsResponse](c, &api.DescribeLogDirsRequest{}, v)
			if len(resp.Results) != 1 || len(resp.Results[0].Topics) != 2 {
				t.Fatalf("%+v", resp)
			}
			d := resp.Results[0].Topics[1]
			if d.Name != "t" || len(d.Partitions) != 2 || d.Partitions[0].PartitionSize == 0 || d.Partitions[1].PartitionSize != 0 {
				t.Errorf("%+v", d)
			}
			resp = ask[api.DescribeLogDirsResponse](c, &api.DescribeLogDirsRequest{Topics: []api.DescribeLogDirsRequestTopic{{Topic: "t", Partitions: []int32{1, 9}}}}, v)
			if len(resp.Results[0].Topics) != 1 || len(resp.Results[0].Topics[0].Partitions) != 1 {
				t.Errorf("%+v", resp)
			}
			resp = ask[api.DescribeLogDirsResponse](c, &api.DescribeLogDirsRequest{Topics: []api.DescribeLogDirsRequestTopic{}}, v)
			if len(resp.Results[0].Topics) != 0 {
				t.Errorf("no topics asked for: %+v", resp)
			}
		}
	})
	t.Run("DeleteRecords", func(t *testing.T) {
		for v := int16(0); v <= 2; v++ {
			req := &api.DeleteRecordsRequest{TimeoutMs: 100, Topics: []api.DeleteRecordsRequestTopic{{Name: "t", Partitions: []api.DeleteRecordsRequestTopicPartition{
				{PartitionIndex: 0, Offset: int64(v)}, {PartitionIndex: 1, Offset: 4}, {PartitionIndex: 3, Offset: 0}}}}}
			var got []string
			for _, p := range ask[api.DeleteRecordsResponse](c, req, v).Topics[0].Partitions {
				got = append(got, fmt.Sprintf("%s %d", p.ErrorCode.Name(), p.LowWatermark))
			}
			if diff := cmp.Diff([]string{fmt.Sprintf("NONE %d", v), "OFFSET_OUT_OF_RANGE -1", "UNKNOWN_TOPIC_OR_PARTITION -1"}, got); diff != "" {
				t.Error(diff)
			}
		}
	})
	t.Run("InitProducerId", func(t *testing.T) {
		ask1 := func(v int16, change func(*api.InitProducerIDRequest)) string {
			req := api.NewInitProducerIDRequest()
			req.TransactionTimeoutMs, req.TransactionalID = 60000, nil
			if change != nil {
				change(req)
			}
			resp := ask[api.InitProducerIDResponse](c, req, v)
			return fmt.Sprintf("%s %d %d", resp.ErrorCode.Name(), resp.ProducerID, resp.ProducerEpoch)
		}
		r.pids.fail.Store(true)
		if got := ask1(0, nil); got != "COORDINATOR_LOAD_IN_PROGRESS -1 -1" {
			t.Error(got)
		}
		r.pids.fail.Store(false)
		r.pidNow.Add(1000)
		go func() {
			for r.pids.asked() < 2 {
				runtime.Gosched()
			}
			r.pids.give(1000, 10)
		}()
		for v := int16(0); v <= 5; v++ {
			if got := ask1(v, nil); got != fmt.Sprintf("NONE %d 0", 1000+v) {
				t.Error(got)
			}
		}
		if got := ask1(3, func(q *api.InitProducerIDRequest) { q.ProducerID, q.ProducerEpoch = 1000, 0 }); got != "NONE 1006 0" {
			t.Error(got)
		}
		if got := ask1(3, func(q *api.InitProducerIDRequest) { q.ProducerID = 1000 }); got != "INVALID_REQUEST -1 -1" {
			t.Error(got)
		}
	})
}

// fakeAllocator answers when the test says so.
type fakeAllocator struct {
	mu    sync.Mutex
	done  func(*api.AllocateProducerIDsResponse, error)
	calls int
	fail  atomic.Bool // refuse at once
}

func (f *fakeAllocator) AllocateProducerIDs(done func(*api.AllocateProducerIDsResponse, error)) {
	f.mu.Lock()
	f.done = done
	f.calls++
	f.mu.Unlock()
	if f.fail.Load() {
		done(nil, errors.New("refused"))
	}
}

func (f *fakeAllocator) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *fakeAllocator) give(start int64, n int32) {
	f.mu.Lock()
	done := f.done
	f.mu.Unlock()
	done(&api.AllocateProducerIDsResponse{ProducerIDStart: start, ProducerIDLen: n}, nil)
}

func TestProducerIDBlocks(t *testing.T) {
	now := time.UnixMilli(0)
	f := &fakeAllocator{}
	b := NewProducerIDBlocks(f, func() time.Time { return now }, nil)
	next := func() id.ProducerID {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // do not wait
		pid, err := b.Next(ctx)
		if err != nil && replica.ErrorCode(err) != wire.ErrCoordinatorLoadInProgress {
			t.Error(err)
		}
		return pid
	}
	want := func(calls int) {
		t.Helper()
		if f.calls != calls {
			t.Errorf("%d requests, want %d", f.calls, calls)
		}
	}
	b.Prefetch()
	b.Prefetch()
	if next() != -1 {
		t.Error("no block yet")
	}
	want(1)
	f.done(nil, errors.New("no controller"))
	next()
	want(1) // not before the backoff
	now = now.Add(time.Second)
	next()
	want(2)
	f.give(100, 10)
	for i := range 9 {
		if pid := next(); pid != id.ProducerID(100+i) {
			t.Errorf("id %d", pid)
		}
	}
	want(2)
	next() // 109: nine tenths are used
	want(3)
	f.give(105, 10) // overlaps: refused
	if next() != -1 {
		t.Error("an id was given twice")
	}
	now = now.Add(time.Second)
	next()
	want(4)
	f.give(500, 1)
	if next() != 500 || next() != -1 {
		t.Error("a block of one")
	}
}

// BenchmarkProduceRoundTrip sends prepared frames over one connection: what it allocates, the node allocates.
func BenchmarkProduceRoundTrip(b *testing.B) {
	r := newReplicaRig(b)
	u := r.topic("t", 1)
	for _, version := range []int16{9, 13} {
		b.Run(fmt.Sprint("v", version), func(b *testing.B) {
			c := r.dial()
			var w wire.Writer
			id := "bench"
			(&wire.RequestHeader{RequestApiKey: 0, RequestApiVersion: version, CorrelationID: 1, ClientID: &id}).Encode(&w, 2)
			produceTo("t", u, version, -1, clientBatch(b, 1, nil)).Encode(&w, version)
			frame, err := w.AppendTo(make([]byte, 4))
			if err != nil {
				b.Fatal(err)
			}
			binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
			answer := make([]byte, 512)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.conn.Write(frame); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c.conn, answer[:4]); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c.conn, answer[:binary.BigEndian.Uint32(answer)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A hundred fetches wait for days; their clients go away, by closing or by a reset, and so do the waits.
func TestFetchEndsWithItsClient(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a waiting connection does not notice")
	}
	r := newReplicaRig(t)
	u := r.topic("t", 1)
	before := runtime.NumGoroutine()
	var clients []*wireClient
	for range 100 {
		c := r.dial()
		req := fetchFrom("t", u, 13, 0)
		req.MaxWaitMs = 1<<31 - 1
		c.send(req, 13, "test")
		clients = append(clients, c)
	}
	awaitWaiting := func(want int) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for r.replicas.Gauges().WaitingFetches != want {
			if time.Now().After(deadline) {
				t.Fatalf("%d fetches wait, not %d", r.replicas.Gauges().WaitingFetches, want)
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	awaitWaiting(100)
	for i, c := range clients[:99] {
		if i%2 == 0 {
			c.conn.(*net.TCPConn).SetLinger(0)
		}
		c.conn.Close()
	}
	awaitWaiting(1) // the one whose client is still there
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+3; <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
	// It is answered as ever.
	if resp := ask[api.ProduceResponse](r.dial(), produceTo("t", u, 8, 1, clientBatch(t, 1, nil)), 8); resp.Responses[0].PartitionResponses[0].ErrorCode != wire.ErrNone {
		t.Errorf("%+v", resp)
	}
	awaitWaiting(0)
	clients[99].conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := clients[99].conn.Read(make([]byte, 100)); n == 0 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

package embedded_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/node"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// world is a node and a connection to it over which requests go one by one.
type world struct {
	t    testing.TB
	n    *embedded.Node // nil if the node was started without package embedded
	fsys vfs.FS
	addr string
	stop func()
	conn net.Conn
	sent int32
	id   string // client id
	step int    // counts observations that need something new each time
}

const patience = 15 * time.Second

func newWorld(t testing.TB, opts ...embedded.Option) *world {
	t.Helper()
	n := embedded.Start(t, opts...)
	w := &world{t: t, n: n, fsys: n.FS(), addr: n.Addr(), stop: n.Stop, id: "config-test"}
	w.connect()
	return w
}

func (w *world) connect() {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	w.conn = conn
}

// again is a second connection.
func (w *world) again() *world {
	w.t.Helper()
	other := *w
	other.connect()
	return &other
}

// properties are those of a node on free ports, with changes; keys in without are left out.
func properties(change map[string]string, without ...string) map[string]string {
	p := conf.DevDefaults()
	p["listeners"] = "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0"
	p["advertised.listeners"] = p["listeners"]
	p["group.initial.rebalance.delay.ms"] = "0"
	p["log.dirs"] = "/data"
	for _, k := range without {
		delete(p, k)
	}
	maps.Copy(p, change)
	return p
}

// startRaw starts a node on a file system of the test's, or says why it does not start.
func startRaw(t testing.TB, fsys vfs.FS, p map[string]string) (*node.Node, error) {
	t.Helper()
	b, _, err := conf.Load(p, nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return node.Start(ctx, node.Options{Config: b, FS: fsys, AutoFormat: true})
}

// rawNode starts a node whose properties are not package embedded's.
func rawNode(t testing.TB, fsys vfs.FS, change map[string]string, without ...string) *world {
	t.Helper()
	n, err := startRaw(t, fsys, properties(change, without...))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, fsys: fsys, addr: n.Addr(), id: "config-test"}
	w.stop = func() {
		if err := n.Shutdown(context.Background()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	}
	t.Cleanup(w.stop) // a second stop does nothing
	w.connect()
	return w
}

// call sends req and reads the answer into out, which keeps the memory of the frame.
func (w *world) call(version int16, req wire.Request, out wire.Message) {
	w.t.Helper()
	if err := w.try(version, req, out); err != nil {
		w.t.Fatalf("%T v%d: %v", req, version, err)
	}
}

func (w *world) try(version int16, req wire.Request, out wire.Message) error {
	info, _ := api.Lookup(req.APIKey())
	w.sent++
	e := new(wire.Writer)
	(&wire.RequestHeader{RequestApiKey: int16(req.APIKey()), RequestApiVersion: version, CorrelationID: w.sent, ClientID: &w.id}).Encode(e, info.RequestHeaderVersion(version))
	req.Encode(e, version)
	body, err := e.AppendTo(nil)
	if err != nil {
		return err
	}
	if err := w.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := w.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(w.conn, size[:]); err != nil {
		return err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(w.conn, b); err != nil {
		return err
	}
	r := wire.NewReader(b, nil)
	var h wire.ResponseHeader
	h.Decode(r, info.ResponseHeaderVersion(version))
	out.Decode(r, version)
	return r.Finish()
}

// eventually repeats until nothing is wrong any more.
func (w *world) eventually(wrong func() string) {
	w.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		text := wrong()
		if text == "" {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not within %v: %s", patience, text)
		}
	}
}

func (w *world) create(name string, partitions int32, configs ...string) wire.ErrorCode {
	w.t.Helper()
	code := w.tryCreate(name, partitions, configs...)
	if code != wire.ErrNone {
		w.t.Fatalf("create %s: %v", name, code)
	}
	w.eventually(func() string { // the metadata may tell of partitions that are not open yet
		m := w.metadata(name)
		if len(m.Topics) != 1 || m.Topics[0].ErrorCode != wire.ErrNone {
			return "topic " + name + " is not there"
		}
		for i := range m.Topics[0].Partitions {
			if _, code := w.tryOffset(name, int32(i), -1); code != wire.ErrNone {
				return fmt.Sprintf("partition %d of topic %s: %v", i, name, code)
			}
		}
		return ""
	})
	return code
}

func (w *world) tryCreate(name string, partitions int32, configs ...string) wire.ErrorCode {
	w.t.Helper()
	t := api.CreateTopicsRequestTopic{Name: name, NumPartitions: partitions, ReplicationFactor: -1}
	for i := 0; i+1 < len(configs); i += 2 {
		t.Configs = append(t.Configs, api.CreateTopicsRequestTopicConfig{Name: configs[i], Value: &configs[i+1]})
	}
	var a api.CreateTopicsResponse
	w.call(7, &api.CreateTopicsRequest{Topics: []api.CreateTopicsRequestTopic{t}, TimeoutMs: 10_000}, &a)
	return a.Topics[0].ErrorCode
}

// metadata asks without creating.
func (w *world) metadata(topics ...string) api.MetadataResponse {
	w.t.Helper()
	req := &api.MetadataRequest{Topics: []api.MetadataRequestTopic{}}
	for _, name := range topics {
		req.Topics = append(req.Topics, api.MetadataRequestTopic{Name: &name})
	}
	var a api.MetadataResponse
	w.call(9, req, &a)
	return a
}

// alter sets a key of a topic (2) or of a broker (4); an empty value unsets it.
func (w *world) alter(kind int8, name, key, value string) {
	w.t.Helper()
	if r := w.tryAlter(kind, name, key, value); r.ErrorCode != wire.ErrNone {
		w.t.Fatalf("alter %q %s=%s: %v %s", name, key, value, r.ErrorCode, deref(r.ErrorMessage))
	}
}

// alterAndSee waits until the node has the value, too: an alteration is answered when it is committed, and brokers learn of it from the
// metadata log, a moment later.
func (w *world) alterAndSee(kind int8, name, key, value string) {
	w.t.Helper()
	w.alter(kind, name, key, value)
	w.eventually(func() string { return differs(w.config(kind, name, key), value) })
}

func (w *world) tryAlter(kind int8, name, key, value string) api.IncrementalAlterConfigsResponseResponse {
	w.t.Helper()
	c := api.IncrementalAlterConfigsRequestResourceConfig{Name: key, Value: &value}
	if value == "" {
		c.ConfigOperation, c.Value = 1, nil
	}
	var a api.IncrementalAlterConfigsResponse
	w.call(1, &api.IncrementalAlterConfigsRequest{Resources: []api.IncrementalAlterConfigsRequestResource{
		{ResourceType: kind, ResourceName: name, Configs: []api.IncrementalAlterConfigsRequestResourceConfig{c}}}}, &a)
	return a.Responses[0]
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// batch is what one produce request sends.
type batch struct {
	partition int32
	ts        time.Time // now if zero
	values    [][]byte  // one small one if nil
	producer  bool      // idempotent, as pid
	pid       id.ProducerID
	key       []byte
	codec     record.Codec
}

// produce sends one batch with acks=all and returns its first offset.
func (w *world) produce(topic string, b batch) (int64, wire.ErrorCode) {
	w.t.Helper()
	o := record.NewOptions()
	o.Compression.Codec = b.codec
	if b.producer {
		o.ProducerID, o.ProducerEpoch, o.BaseSequence = b.pid, 0, 0
	}
	if b.ts.IsZero() {
		b.ts = time.Now()
	}
	if b.values == nil {
		b.values = [][]byte{[]byte("value")}
	}
	builder := record.NewBuilder(o)
	for _, v := range b.values {
		if err := builder.Append(b.ts.UnixMilli(), b.key, v); err != nil {
			w.t.Fatal(err)
		}
	}
	raw, err := builder.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	var a api.ProduceResponse
	w.call(9, &api.ProduceRequest{Acks: -1, TimeoutMs: 5000, TopicData: []api.ProduceRequestTopicData{{Name: topic,
		PartitionData: []api.ProduceRequestTopicDataPartitionData{{Index: b.partition, Records: wire.Records{Bytes: raw}}}}}}, &a)
	p := a.Responses[0].PartitionResponses[0]
	return p.BaseOffset, p.ErrorCode
}

// must produces and wants no error.
func (w *world) must(topic string, b batch) int64 {
	w.t.Helper()
	at, code := w.produce(topic, b)
	if code != wire.ErrNone {
		w.t.Fatalf("produce to %s: %v", topic, code)
	}
	return at
}

func fetchOf(topic string, offset int64, partitions ...int32) *api.FetchRequest {
	req := api.NewFetchRequest()
	req.SessionEpoch = -1
	t := api.FetchRequestTopic{Topic: topic}
	for _, p := range partitions {
		t.Partitions = append(t.Partitions, api.FetchRequestTopicPartition{Partition: p, CurrentLeaderEpoch: -1, FetchOffset: offset, LastFetchedEpoch: -1, LogStartOffset: -1, PartitionMaxBytes: 64 << 20})
	}
	req.Topics = []api.FetchRequestTopic{t}
	return req
}

// stored reads the batch at an offset of partition 0.
func (w *world) stored(topic string, offset int64) record.Batch {
	w.t.Helper()
	var a api.FetchResponse
	w.call(12, fetchOf(topic, offset, 0), &a)
	b, _, err := record.Next(a.Responses[0].Partitions[0].Records.Bytes)
	if err != nil {
		w.t.Fatalf("fetch of %s at %d: %v", topic, offset, err)
	}
	return b
}

// offset asks for a special offset of partition 0: -2 is the earliest, -1 the latest.
func (w *world) offset(topic string, which int64) int64 {
	w.t.Helper()
	at, code := w.tryOffset(topic, 0, which)
	if code != wire.ErrNone {
		w.t.Fatalf("offset %d of %s: %v", which, topic, code)
	}
	return at
}

func (w *world) tryOffset(topic string, partition int32, which int64) (int64, wire.ErrorCode) {
	w.t.Helper()
	var a api.ListOffsetsResponse
	w.call(6, &api.ListOffsetsRequest{ReplicaID: -1, Topics: []api.ListOffsetsRequestTopic{{Name: topic,
		Partitions: []api.ListOffsetsRequestTopicPartition{{PartitionIndex: partition, CurrentLeaderEpoch: -1, Timestamp: which}}}}}, &a)
	p := a.Topics[0].Partitions[0]
	return p.Offset, p.ErrorCode
}

// deleteRecords moves a log's start.
func (w *world) deleteRecords(topic string, before int64) {
	w.t.Helper()
	var a api.DeleteRecordsResponse
	w.call(2, &api.DeleteRecordsRequest{TimeoutMs: 5000, Topics: []api.DeleteRecordsRequestTopic{{Name: topic,
		Partitions: []api.DeleteRecordsRequestTopicPartition{{Offset: before}}}}}, &a)
	if code := a.Topics[0].Partitions[0].ErrorCode; code != wire.ErrNone {
		w.t.Fatalf("delete records of %s: %v", topic, code)
	}
}

// files lists the names in a directory that end in suffix, and sums up their sizes.
func (w *world) files(dir, suffix string) (names []string, size int64) {
	w.t.Helper()
	entries, err := w.fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0 // made with the first record
	}
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		names = append(names, e.Name())
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
	}
	return names, size
}

func (w *world) segments(topic string) int {
	w.t.Helper()
	names, _ := w.files("/data/"+topic+"-0", ".log")
	return len(names)
}

// checkpointed reads an offset from one of the checkpoint files, as text; empty if there is none.
func (w *world) checkpointed(file, topic string) string {
	w.t.Helper()
	b, err := vfs.ReadFile(w.fsys, "/data/"+file, 1<<20)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return ""
		}
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, topic+" 0 "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

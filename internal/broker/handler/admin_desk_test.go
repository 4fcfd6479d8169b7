package handler_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// adminClient speaks raw frames to a whole node: what it is told went down to the controller and came back through the image.
type adminClient struct {
	t    *testing.T
	conn net.Conn
	n    int32
}

func adminNode(t *testing.T, opts ...embedded.Option) (*embedded.Node, *adminClient) {
	t.Helper()
	n := embedded.Start(t, opts...)
	return n, dialAdmin(t, n)
}

func dialAdmin(t *testing.T, n *embedded.Node) *adminClient {
	t.Helper()
	conn, err := net.Dial("tcp", n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &adminClient{t: t, conn: conn}
}

// call sends req at version and decodes the answer into out.
func (c *adminClient) call(version int16, req wire.Request, out wire.Message) {
	c.t.Helper()
	c.callAs(version, version, req, out)
}

func (c *adminClient) callAs(version, answerVersion int16, req wire.Request, out wire.Message) {
	c.t.Helper()
	info, _ := api.Lookup(req.APIKey())
	c.n++
	name := "admin-test"
	w := new(wire.Writer)
	(&wire.RequestHeader{RequestApiKey: int16(req.APIKey()), RequestApiVersion: version, CorrelationID: c.n, ClientID: &name}).Encode(w, info.RequestHeaderVersion(version))
	if version <= info.Max {
		req.Encode(w, version)
	}
	body, err := w.AppendTo(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		c.t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(c.conn, size[:]); err != nil {
		c.t.Fatalf("%s v%d: %v", info.Name, version, err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c.conn, b); err != nil {
		c.t.Fatal(err)
	}
	r := wire.NewReader(b, nil)
	var h wire.ResponseHeader
	h.Decode(r, info.ResponseHeaderVersion(answerVersion))
	out.Decode(r, answerVersion)
	if err := r.Finish(); err != nil || h.CorrelationID != c.n {
		c.t.Fatalf("%s v%d: answer %d: %v", info.Name, version, h.CorrelationID, err)
	}
}

func (c *adminClient) create(name string, partitions int32, configs ...string) {
	c.t.Helper()
	topic := api.CreateTopicsRequestTopic{Name: name, NumPartitions: partitions, ReplicationFactor: 1}
	for i := 0; i+1 < len(configs); i += 2 {
		topic.Configs = append(topic.Configs, api.CreateTopicsRequestTopicConfig{Name: configs[i], Value: &configs[i+1]})
	}
	var a api.CreateTopicsResponse
	c.call(7, &api.CreateTopicsRequest{Topics: []api.CreateTopicsRequestTopic{topic}, TimeoutMs: 10_000}, &a)
	if a.Topics[0].ErrorCode != wire.ErrNone {
		c.t.Fatalf("create %s: %v", name, a.Topics[0].ErrorCode)
	}
	c.eventually(func() bool { return c.metadata(12, &name).ErrorCode == wire.ErrNone })
}

func (c *adminClient) eventually(ok func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			c.t.Fatal("did not happen within 10 s")
		}
	}
}

func (c *adminClient) metadata(version int16, name *string) api.MetadataResponseTopic {
	c.t.Helper()
	var a api.MetadataResponse
	c.call(version, &api.MetadataRequest{Topics: []api.MetadataRequestTopic{{Name: name}}}, &a)
	if len(a.Topics) != 1 {
		c.t.Fatalf("metadata v%d of one topic tells of %d", version, len(a.Topics))
	}
	return a.Topics[0]
}

func TestMetadataAtEveryVersion(t *testing.T) {
	n, c := adminNode(t)
	c.create("t", 3)
	for v := int16(0); v <= 13; v++ {
		for what, topics := range map[string][]api.MetadataRequestTopic{"all": nil, "none": {}, "one": {{Name: new("t")}}, "twice": {{Name: new("t")}, {Name: new("t")}}} {
			if v == 0 && topics == nil {
				continue // version 0 cannot say null
			}
			var a api.MetadataResponse
			c.call(v, &api.MetadataRequest{Topics: topics, IncludeTopicAuthorizedOperations: v >= 8, IncludeClusterAuthorizedOperations: v >= 8 && v <= 10}, &a)
			want := 1
			if what == "none" && v > 0 {
				want = 0
			}
			if len(a.Topics) != want || len(a.Brokers) != 1 || fmt.Sprintf("%s:%d", a.Brokers[0].Host, a.Brokers[0].Port) != n.Addr() {
				t.Fatalf("v%d, %s: %+v", v, what, a)
			}
			if v >= 1 && a.ControllerID != 1 || v >= 2 && (a.ClusterID == nil || *a.ClusterID != n.ClusterID()) {
				t.Errorf("v%d: controller %d, cluster %v", v, a.ControllerID, a.ClusterID)
			}
			if v >= 8 && v <= 10 && a.ClusterAuthorizedOperations != 8096 {
				t.Errorf("v%d: cluster operations %d", v, a.ClusterAuthorizedOperations)
			}
			if want == 0 {
				continue
			}
			x := a.Topics[0]
			if *x.Name != "t" || len(x.Partitions) != 3 || x.IsInternal || x.ErrorCode != wire.ErrNone || v >= 10 && x.TopicID.IsZero() || v >= 8 && x.TopicAuthorizedOperations != 3576 {
				t.Errorf("v%d, %s: %+v", v, what, x)
			}
			for i, p := range x.Partitions {
				if p.PartitionIndex != int32(i) || p.LeaderID != 1 || !slices.Equal(p.ReplicaNodes, []int32{1}) || !slices.Equal(p.IsrNodes, []int32{1}) || len(p.OfflineReplicas) > 0 {
					t.Errorf("v%d: partition %+v", v, p)
				}
			}
		}
	}
}

func TestMetadataRefusals(t *testing.T) {
	_, c := adminNode(t, embedded.With("auto.create.topics.enable", "false"))
	for name, want := range map[string]wire.ErrorCode{"missing": wire.ErrUnknownTopicOrPartition, "": wire.ErrInvalidTopicException, "a/b": wire.ErrInvalidTopicException,
		"..": wire.ErrInvalidTopicException, "nul\x00": wire.ErrInvalidTopicException, strings.Repeat("x", 250): wire.ErrInvalidTopicException} {
		if got := c.metadata(12, &name); got.ErrorCode != want || len(got.Partitions) != 0 {
			t.Errorf("%q: %+v, want %v", name, got, want)
		}
	}
	unknown := id.UUID{5: 1}
	for v, want := range map[int16]wire.ErrorCode{12: wire.ErrUnknownTopicID, 13: wire.ErrUnknownTopicID, 10: wire.ErrInvalidRequest, 11: wire.ErrInvalidRequest} {
		var a api.MetadataResponse
		c.call(v, &api.MetadataRequest{Topics: []api.MetadataRequestTopic{{TopicID: unknown, Name: new("")}}}, &a)
		if a.Topics[0].ErrorCode != want || a.Topics[0].TopicID != unknown {
			t.Errorf("v%d by an unknown id: %+v, want %v", v, a.Topics[0], want)
		}
	}
}

func TestMetadataCreatesTopicsOnDemand(t *testing.T) {
	_, c := adminNode(t, embedded.With("num.partitions", "4"))
	name := "made"
	ask := func(allow bool) api.MetadataResponseTopic {
		var a api.MetadataResponse
		c.call(12, &api.MetadataRequest{Topics: []api.MetadataRequestTopic{{Name: &name}}, AllowAutoTopicCreation: allow}, &a)
		return a.Topics[0]
	}
	if got := ask(false); got.ErrorCode != wire.ErrUnknownTopicOrPartition {
		t.Fatalf("without leave: %v", got.ErrorCode)
	}
	if got := ask(true); got.ErrorCode != wire.ErrUnknownTopicOrPartition {
		t.Fatalf("the first answer: %v", got.ErrorCode)
	}
	c.eventually(func() bool { x := ask(false); return x.ErrorCode == wire.ErrNone && len(x.Partitions) == 4 })
	var d api.DeleteTopicsResponse
	c.call(6, &api.DeleteTopicsRequest{Topics: []api.DeleteTopicsRequestTopic{{TopicID: ask(false).TopicID}}, TimeoutMs: 5000}, &d)
	if d.Responses[0].ErrorCode != wire.ErrNone || *d.Responses[0].Name != name {
		t.Fatalf("delete by id: %+v", d.Responses[0])
	}
	c.eventually(func() bool { return ask(false).ErrorCode == wire.ErrUnknownTopicOrPartition })
}

func TestApiVersions(t *testing.T) {
	n, c := adminNode(t)
	req := &api.ApiVersionsRequest{ClientSoftwareName: "test", ClientSoftwareVersion: "1.0", NodeID: -1}
	for v := int16(0); v <= 5; v++ {
		var a api.ApiVersionsResponse
		c.call(v, req, &a)
		ranges := map[wire.APIKey][2]int16{}
		for _, k := range a.ApiKeys {
			ranges[wire.APIKey(k.ApiKey)] = [2]int16{k.MinVersion, k.MaxVersion}
		}
		for key, want := range map[wire.APIKey][2]int16{wire.Produce: {0, 13}, wire.Fetch: {4, 18}, wire.Metadata: {0, 13}, wire.ApiVersions: {0, 5}, wire.CreateTopics: {2, 7}, wire.JoinGroup: {0, 9}, wire.ConsumerGroupHeartbeat: {0, 1}} {
			if ranges[key] != want {
				t.Errorf("v%d: %v is %v, want %v", v, key, ranges[key], want)
			}
		}
		for _, absent := range []wire.APIKey{wire.ShareGroupHeartbeat, wire.SaslHandshake, wire.Envelope, wire.BrokerRegistration} {
			if _, ok := ranges[absent]; ok {
				t.Errorf("v%d advertises %v, which is not served", v, absent)
			}
		}
		if v < 3 {
			continue
		}
		supported, finalized := map[string][2]int16{}, map[string]int16{}
		for _, f := range a.SupportedFeatures {
			supported[f.Name] = [2]int16{f.MinVersion, f.MaxVersion}
		}
		for _, f := range a.FinalizedFeatures {
			finalized[f.Name] = f.MaxVersionLevel
		}
		if _, zero := supported["group.version"]; zero != (v >= 4) || supported["metadata.version"] != [2]int16{7, 33} {
			t.Errorf("v%d supports %v", v, supported)
		}
		want := map[string]int16{"metadata.version": 33, "group.version": 1, "transaction.version": 2, "eligible.leader.replicas.version": 1, "share.version": 2, "streams.version": 1}
		if d := cmp.Diff(want, finalized); d != "" || a.FinalizedFeaturesEpoch < 1 {
			t.Errorf("v%d, epoch %d: %s", v, a.FinalizedFeaturesEpoch, d)
		}
	}
	cluster := n.ClusterID()
	for name, x := range map[string]struct {
		req  api.ApiVersionsRequest
		v    int16
		want wire.ErrorCode
	}{
		"this broker":          {api.ApiVersionsRequest{ClientSoftwareName: "a", ClientSoftwareVersion: "1", ClusterID: &cluster, NodeID: 1}, 5, wire.ErrNone},
		"another broker":       {api.ApiVersionsRequest{ClientSoftwareName: "a", ClientSoftwareVersion: "1", ClusterID: &cluster, NodeID: 2}, 5, wire.ErrRebootstrapRequired},
		"another cluster":      {api.ApiVersionsRequest{ClientSoftwareName: "a", ClientSoftwareVersion: "1", ClusterID: new("other"), NodeID: 1}, 5, wire.ErrRebootstrapRequired},
		"cluster without node": {api.ApiVersionsRequest{ClientSoftwareName: "a", ClientSoftwareVersion: "1", ClusterID: &cluster, NodeID: -1}, 5, wire.ErrInvalidRequest},
		"node without cluster": {api.ApiVersionsRequest{ClientSoftwareName: "a", ClientSoftwareVersion: "1", NodeID: 1}, 5, wire.ErrInvalidRequest},
		"no name":              {api.ApiVersionsRequest{ClientSoftwareVersion: "1", NodeID: -1}, 3, wire.ErrInvalidRequest},
		"bad name":             {api.ApiVersionsRequest{ClientSoftwareName: "-a", ClientSoftwareVersion: "1", NodeID: -1}, 4, wire.ErrInvalidRequest},
		"bad version":          {api.ApiVersionsRequest{ClientSoftwareName: "a", ClientSoftwareVersion: "1 0", NodeID: -1}, 3, wire.ErrInvalidRequest},
	} {
		var a api.ApiVersionsResponse
		c.call(x.v, &x.req, &a)
		if a.ErrorCode != x.want || (x.want != wire.ErrNone) != (len(a.ApiKeys) == 0) {
			t.Errorf("%s: %v with %d keys, want %v", name, a.ErrorCode, len(a.ApiKeys), x.want)
		}
	}
	var a api.ApiVersionsResponse
	c.callAs(99, 0, req, &a)
	if want := []api.ApiVersionsResponseApiKey{{ApiKey: 18, MaxVersion: 5}}; a.ErrorCode != wire.ErrUnsupportedVersion || !cmp.Equal(a.ApiKeys, want) {
		t.Errorf("version 99: %+v", a)
	}
}

func TestDescribeTopicPartitionsPages(t *testing.T) {
	_, c := adminNode(t)
	c.create("a", 3)
	c.create("b", 2)
	page := func(limit int32, cursor *api.DescribeTopicPartitionsRequestCursor, topics ...string) (string, *api.DescribeTopicPartitionsResponseNextCursor) {
		req := &api.DescribeTopicPartitionsRequest{ResponsePartitionLimit: limit, Cursor: cursor}
		for _, name := range topics {
			req.Topics = append(req.Topics, api.DescribeTopicPartitionsRequestTopic{Name: name})
		}
		var a api.DescribeTopicPartitionsResponse
		c.call(0, req, &a)
		text := ""
		for _, x := range a.Topics {
			text += *x.Name + "["
			if x.ErrorCode != wire.ErrNone {
				text += x.ErrorCode.Name()
			}
			for _, p := range x.Partitions {
				text += fmt.Sprint(p.PartitionIndex)
			}
			text += "]"
		}
		return text, a.NextCursor
	}
	got, next := "", (*api.DescribeTopicPartitionsResponseNextCursor)(nil)
	for i := 0; i == 0 || next != nil; i++ {
		var cursor *api.DescribeTopicPartitionsRequestCursor
		if next != nil {
			cursor = &api.DescribeTopicPartitionsRequestCursor{TopicName: next.TopicName, PartitionIndex: next.PartitionIndex}
		}
		var text string
		text, next = page(2, cursor)
		got += text + " "
	}
	if want := "a[01] a[2]b[0] b[1] "; got != want {
		t.Errorf("pages of two: %q, want %q", got, want)
	}
	if got, next := page(2000, nil, "b", "nope", "a", "b"); got != "a[012]b[01]nope[UNKNOWN_TOPIC_OR_PARTITION]" || next != nil {
		t.Errorf("named topics: %q, %v", got, next)
	}
	if got, next := page(0, nil); got != "a[0]" || next == nil {
		t.Errorf("limit 0 counts as 1: %q, %v", got, next)
	}
	for _, bad := range []api.DescribeTopicPartitionsRequestCursor{{TopicName: "a", PartitionIndex: -1}, {TopicName: "c"}} {
		if got, _ := page(10, &bad, "a"); got != "a[INVALID_REQUEST]" {
			t.Errorf("cursor %v: %q", bad, got)
		}
	}
}

func TestDescribeCluster(t *testing.T) {
	n, c := adminNode(t)
	for v := int16(0); v <= 2; v++ {
		var a api.DescribeClusterResponse
		c.call(v, &api.DescribeClusterRequest{EndpointType: 1, IncludeClusterAuthorizedOperations: true}, &a)
		if a.ErrorCode != wire.ErrNone || a.ClusterID != n.ClusterID() || a.ControllerID != 1 || len(a.Brokers) != 1 || a.ClusterAuthorizedOperations != 8096 {
			t.Errorf("v%d: %+v", v, a)
		}
	}
	for kind, want := range map[int8]wire.ErrorCode{2: wire.ErrMismatchedEndpointType, 7: wire.ErrUnsupportedEndpointType} {
		var a api.DescribeClusterResponse
		c.call(1, &api.DescribeClusterRequest{EndpointType: kind}, &a)
		if a.ErrorCode != want {
			t.Errorf("endpoint type %d: %v, want %v", kind, a.ErrorCode, want)
		}
	}
}

func (c *adminClient) config(kind int8, name, key string) (api.DescribeConfigsResponseResult, map[string]api.DescribeConfigsResponseResultConfig) {
	c.t.Helper()
	req := &api.DescribeConfigsRequest{IncludeSynonyms: true, IncludeDocumentation: true,
		Resources: []api.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name}}}
	if key != "" {
		req.Resources[0].ConfigurationKeys = []string{key}
	}
	var a api.DescribeConfigsResponse
	c.call(4, req, &a)
	all := map[string]api.DescribeConfigsResponseResultConfig{}
	for _, x := range a.Results[0].Configs {
		all[x.Name] = x
	}
	return a.Results[0], all
}

func (c *adminClient) alter(kind int8, name string, op int8, key string, value *string) (wire.ErrorCode, string) {
	c.t.Helper()
	var a api.IncrementalAlterConfigsResponse
	c.call(1, &api.IncrementalAlterConfigsRequest{Resources: []api.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name,
		Configs: []api.IncrementalAlterConfigsRequestResourceConfig{{Name: key, ConfigOperation: op, Value: value}}}}}, &a)
	text := ""
	if a.Responses[0].ErrorMessage != nil {
		text = *a.Responses[0].ErrorMessage
	}
	return a.Responses[0].ErrorCode, text
}

func TestTopicConfigsTakeEffect(t *testing.T) {
	_, c := adminNode(t)
	c.create("t", 1, "retention.ms", "5000")
	result, all := c.config(2, "t", "")
	if x := all["retention.ms"]; len(all) < 36 || *x.Value != "5000" || x.ConfigSource != 1 || x.ConfigType != 5 || x.Documentation == nil || len(x.Synonyms) != 1 {
		t.Errorf("%d keys, retention.ms %+v (%v)", len(all), x, result.ErrorCode)
	}
	if code, text := c.alter(2, "t", 0, "max.message.bytes", new("1000")); code != wire.ErrNone {
		t.Fatalf("alter: %v %s", code, text)
	}
	c.eventually(func() bool {
		_, all := c.config(2, "t", "max.message.bytes")
		return *all["max.message.bytes"].Value == "1000"
	})
	if code, text := c.alter(2, "t", 1, "max.message.bytes", nil); code != wire.ErrNone {
		t.Fatalf("delete: %v %s", code, text)
	}
	c.eventually(func() bool {
		_, all := c.config(2, "t", "max.message.bytes")
		return all["max.message.bytes"].ConfigSource == 5
	})
	for _, x := range []struct {
		name, key, value string
		want             wire.ErrorCode
	}{{"t", "retention.ms", "soon", wire.ErrInvalidConfig}, {"t", "no.such.key", "1", wire.ErrInvalidConfig}, {"nope", "retention.ms", "1", wire.ErrUnknownTopicOrPartition}} {
		if code, text := c.alter(2, x.name, 0, x.key, &x.value); code != x.want {
			t.Errorf("%+v: %v %s", x, code, text)
		}
	}
}

func TestBrokerConfigsTakeEffect(t *testing.T) {
	_, c := adminNode(t, embedded.With("log.retention.hours", "1"))
	_, all := c.config(4, "1", "")
	if x := all["log.retention.hours"]; *x.Value != "1" || x.ConfigSource != 4 || !x.ReadOnly {
		t.Errorf("log.retention.hours: %+v", x)
	}
	if x := all["ssl.keystore.password"]; !x.IsSensitive || x.Value != nil {
		t.Errorf("a password: %+v", x)
	}
	if code, text := c.alter(4, "", 0, "log.retention.ms", new("7777")); code != wire.ErrNone {
		t.Fatalf("cluster default: %v %s", code, text)
	}
	c.create("t", 1)
	c.eventually(func() bool {
		_, all := c.config(4, "1", "log.retention.ms")
		return all["log.retention.ms"].ConfigSource == 3
	})
	if _, all := c.config(2, "t", "retention.ms"); *all["retention.ms"].Value != "7777" || all["retention.ms"].ConfigSource != 3 {
		t.Errorf("the topic's default is %+v", all["retention.ms"])
	}
	for _, x := range []struct {
		name, key string
		op        int8
		value     *string
		want      wire.ErrorCode
		text      string
	}{
		{"2", "log.retention.ms", 0, new("1"), wire.ErrInvalidRequest, "Unexpected broker id, expected 1, but received 2"},
		{"x", "log.retention.ms", 0, new("1"), wire.ErrInvalidRequest, "Node id must be an integer, but it is: x"},
		{"1", "log.retention.ms", 0, nil, wire.ErrInvalidRequest, "Null value not supported for : log.retention.ms"},
		{"1", "node.id", 0, new("9"), wire.ErrInvalidRequest, "Cannot update these configs dynamically"},
	} {
		if code, text := c.alter(4, x.name, x.op, x.key, x.value); code != x.want || !strings.Contains(text, x.text) {
			t.Errorf("%+v: %v %q", x, code, text)
		}
	}
	var a api.AlterConfigsResponse
	twice := api.AlterConfigsRequestResource{ResourceType: 2, ResourceName: "t", Configs: []api.AlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: new("1")}}}
	c.call(2, &api.AlterConfigsRequest{Resources: []api.AlterConfigsRequestResource{twice, twice, {ResourceType: 77, ResourceName: "x"}}}, &a)
	for _, x := range a.Responses {
		if x.ErrorCode != wire.ErrInvalidRequest {
			t.Errorf("%s: %v", x.ResourceName, x.ErrorCode)
		}
	}
}

// TestConnectionLimitsTakeEffect: a dynamic bound holds for the next connection, and goes again.
func TestConnectionLimitsTakeEffect(t *testing.T) {
	n, c := adminNode(t)
	refused := func() bool {
		conn, err := net.Dial("tcp", n.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
		_, err = conn.Read(make([]byte, 1))
		return errors.Is(err, io.EOF)
	}
	if refused() {
		t.Fatal("refused without a bound")
	}
	if code, text := c.alter(4, "1", 0, "max.connections.per.ip", new("1")); code != wire.ErrNone {
		t.Fatalf("%v %s", code, text)
	}
	c.eventually(refused)
	if code, text := c.alter(4, "1", 1, "max.connections.per.ip", nil); code != wire.ErrNone {
		t.Fatalf("%v %s", code, text)
	}
	c.eventually(func() bool { return !refused() })
}

func TestBrokerLoggers(t *testing.T) {
	_, c := adminNode(t)
	if code, text := c.alter(8, "1", 0, "nobody", new("INFO")); code != wire.ErrInvalidConfig || text != "Logger nobody does not exist!" {
		t.Errorf("%v %q", code, text)
	}
	if r, _ := c.config(8, "2", ""); r.ErrorCode != wire.ErrInvalidRequest {
		t.Errorf("loggers of another broker: %v", r.ErrorCode)
	}
}

func TestListConfigResources(t *testing.T) {
	_, c := adminNode(t)
	c.create("t", 1)
	list := func(version int16, types ...int8) (string, wire.ErrorCode) {
		var a api.ListConfigResourcesResponse
		c.call(version, &api.ListConfigResourcesRequest{ResourceTypes: types}, &a)
		text := ""
		for _, x := range a.ConfigResources {
			text += fmt.Sprintf("%d:%s ", x.ResourceType, x.ResourceName)
		}
		return text, a.ErrorCode
	}
	for _, x := range []struct {
		version int16
		types   []int8
		want    string
		code    wire.ErrorCode
	}{{1, nil, "8:1 4:1 2:t ", 0}, {1, []int8{2}, "2:t ", 0}, {0, nil, "", 0}, {1, []int8{99}, "", wire.ErrUnsupportedVersion}} {
		if got, code := list(x.version, x.types...); got != x.want || code != x.code {
			t.Errorf("v%d %v: %q, %v; want %q", x.version, x.types, got, code, x.want)
		}
	}
}

func TestPartitionsAreAdded(t *testing.T) {
	_, c := adminNode(t)
	c.create("t", 1)
	var a api.CreatePartitionsResponse
	c.call(3, &api.CreatePartitionsRequest{TimeoutMs: 5000, Topics: []api.CreatePartitionsRequestTopic{{Name: "t", Count: 3}, {Name: "nope", Count: 3}}}, &a)
	codes := map[string]wire.ErrorCode{}
	for _, x := range a.Results {
		codes[x.Name] = x.ErrorCode
	}
	if codes["t"] != wire.ErrNone || codes["nope"] != wire.ErrUnknownTopicOrPartition {
		t.Fatalf("%v", codes)
	}
	name := "t"
	c.eventually(func() bool { return len(c.metadata(12, &name).Partitions) == 3 })
}

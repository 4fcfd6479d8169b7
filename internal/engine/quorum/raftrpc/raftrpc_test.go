package raftrpc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

const (
	cluster  = "MkU3OEVBNTcwNTJENDM2Qg"
	listener = "CONTROLLER"
)

func uuid(text string) id.UUID {
	u, err := id.ParseUUID(text)
	if err != nil {
		panic(err)
	}
	return u
}

var (
	one       = raft.Replica{ID: 1, DirectoryID: uuid("SWVX05qgTd2KwJ8ThLrvQA")}
	two       = raft.Replica{ID: 2, DirectoryID: uuid("J8aAPcfLQt2bqs1JT_rMgQ")}
	endpoints = []raft.Endpoint{{Name: listener, Host: "host1", Port: 9093}}
	limits    = Limits{MaxBytes: 1 << 20, MaxWaitMs: 500}
)

// asks are the messages whose requests Kafka built, by name.
func asks(version int16) map[string]raft.Message {
	begin := raft.Message{Type: raft.MsgBeginEpoch, From: raft.Replica{ID: 1}, To: 2, ToDirectory: two.DirectoryID, Epoch: 7, Leader: 1, Endpoints: endpoints}
	if version == 0 {
		begin.To, begin.ToDirectory, begin.Endpoints = -1, id.UUID{}, nil
	}
	return map[string]raft.Message{
		"VoteRequest": {Type: raft.MsgVote, From: one, To: 2, ToDirectory: two.DirectoryID, Epoch: 7, PreVote: version == 2,
			Log: raft.Position{Offset: 1234, Epoch: 6}},
		"BeginQuorumEpochRequest": begin,
		"EndQuorumEpochRequest": {Type: raft.MsgEndEpoch, From: raft.Replica{ID: 1}, To: 2, Epoch: 7, Leader: 1,
			Successors: []raft.Replica{two, {ID: 3, DirectoryID: one.DirectoryID}}},
		"FetchRequest": {Type: raft.MsgFetch, From: two, To: 1, Epoch: 7, Log: raft.Position{Offset: 1234, Epoch: 6}, HighWatermark: 1200},
		"FetchSnapshotRequest": {Type: raft.MsgFetchSnapshot, From: two, To: 1, Epoch: 7, Snapshot: &raft.Position{Offset: 900, Epoch: 6},
			At: 4096},
	}
}

// answers are the messages whose responses Kafka built, by name.
func answers() map[string]raft.Message {
	fetch := raft.Message{Type: raft.MsgFetchAnswer, From: one, To: 2, Epoch: 7, Leader: 1, Endpoints: endpoints, HighWatermark: 1200}
	diverging, snap, failed := fetch, fetch, fetch
	diverging.Diverging = &raft.Position{Offset: 1100, Epoch: 5}
	snap.Snapshot = &raft.Position{Offset: 900, Epoch: 6}
	failed.Leader, failed.Endpoints, failed.HighWatermark, failed.Error = id.NoBroker, nil, -1, wire.ErrNotLeaderOrFollower
	piece := raft.Message{Type: raft.MsgFetchSnapshotAnswer, From: one, To: 2, Epoch: 7, Leader: 1, Endpoints: endpoints, HighWatermark: -1,
		Snapshot: &raft.Position{Offset: 900, Epoch: 6}, At: 4096, Size: 5000, Records: []byte{1, 2, 3}}
	none := piece
	none.Snapshot, none.At, none.Size, none.Records, none.Error = nil, 0, 0, nil, wire.ErrSnapshotNotFound
	return map[string]raft.Message{
		"VoteResponse":                {Type: raft.MsgVoteAnswer, Epoch: 7, Leader: 1, Granted: true, Endpoints: endpoints, HighWatermark: -1},
		"VoteResponse.error":          {Type: raft.MsgVoteAnswer, Epoch: 7, Leader: id.NoBroker, Error: wire.ErrInvalidVoterKey, HighWatermark: -1},
		"BeginQuorumEpochResponse":    {Type: raft.MsgBeginEpochAnswer, Epoch: 7, Leader: 1, Endpoints: endpoints, HighWatermark: -1},
		"EndQuorumEpochResponse":      {Type: raft.MsgEndEpochAnswer, Epoch: 7, Leader: 1, Endpoints: endpoints, Error: wire.ErrFencedLeaderEpoch, HighWatermark: -1},
		"FetchResponse":               fetch,
		"FetchResponse.diverging":     diverging,
		"FetchResponse.snapshot":      snap,
		"FetchResponse.error":         failed,
		"FetchSnapshotResponse":       piece,
		"FetchSnapshotResponse.error": none,
	}
}

// firstWithEndpoints are the versions from which responses say where the leader is.
var firstWithEndpoints = map[string]int16{"VoteResponse": 1, "BeginQuorumEpochResponse": 1, "EndQuorumEpochResponse": 1, "FetchResponse": 17, "FetchSnapshotResponse": 1}

// TestAsKafkaBuildsThem compares every request and response with Kafka's bytes, in every version, and reads them back.
func TestAsKafkaBuildsThem(t *testing.T) {
	text, err := os.ReadFile("testdata/kafka.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var name, digits string
		var version int16
		if _, err := fmt.Sscan(line, &name, &version, &digits); err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		seen++
		t.Run(fmt.Sprintf("%s v%d", name, version), func(t *testing.T) {
			if strings.Contains(name, "Request") {
				checkRequest(t, name, version, want)
			} else {
				checkResponse(t, name, version, want)
			}
		})
	}
	if seen != 53 {
		t.Fatalf("%d vectors", seen)
	}
}

func checkRequest(t *testing.T, name string, version int16, want []byte) {
	m := asks(version)[name]
	req, err := Request(m, cluster, limits, version)
	if err != nil {
		t.Fatal(err)
	}
	if got := wire.Marshal(req, version); !bytes.Equal(got, want) {
		t.Fatalf("got\n%s\nwant\n%s", hex.Dump(got), hex.Dump(want))
	}
	info, _ := api.Lookup(req.APIKey())
	decoded := info.NewRequest()
	if err := wire.Unmarshal(want, decoded, version); err != nil {
		t.Fatal(err)
	}
	got, l, refusal := FromRequest(decoded, m.To, cluster)
	if refusal != nil {
		t.Fatalf("refused: %+v", refusal)
	}
	expect := m
	expect.Leader = id.NoBroker
	switch m.Type {
	case raft.MsgVote:
		expect.HighWatermark = -1
		if version == 0 {
			expect.From.DirectoryID, expect.ToDirectory = id.UUID{}, id.UUID{}
		}
	case raft.MsgBeginEpoch:
		expect.HighWatermark, expect.Leader = -1, m.From.ID
	case raft.MsgEndEpoch:
		expect.HighWatermark, expect.Leader = -1, m.From.ID
		if version == 0 {
			expect.Successors = []raft.Replica{{ID: 2}, {ID: 3}}
		}
	case raft.MsgFetch:
		if version < 17 {
			expect.From.DirectoryID = id.UUID{}
		}
		if version < 18 {
			expect.HighWatermark = 1<<63 - 1 // never waits for it
		}
		if l != limits {
			t.Errorf("%+v", l)
		}
	case raft.MsgFetchSnapshot:
		expect.HighWatermark = -1
		if version == 0 {
			expect.From.DirectoryID = id.UUID{}
		}
		if l.MaxBytes != limits.MaxBytes {
			t.Errorf("%+v", l)
		}
	}
	if diff := cmp.Diff(expect, got); diff != "" {
		t.Fatal(diff)
	}
}

func checkResponse(t *testing.T, name string, version int16, want []byte) {
	m := answers()[name]
	resp := Response(m, 100, listener, version)
	if got := wire.Marshal(resp, version); !bytes.Equal(got, want) {
		t.Fatalf("got\n%s\nwant\n%s", hex.Dump(got), hex.Dump(want))
	}
	base, _, _ := strings.Cut(name, ".")
	asked := asks(1)[strings.Replace(base, "Response", "Request", 1)]
	req, err := Request(asked, cluster, limits, 17)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := api.Lookup(req.APIKey())
	decoded := info.NewResponse()
	if err := wire.Unmarshal(want, decoded, version); err != nil {
		t.Fatal(err)
	}
	got, err := FromResponse(decoded, asked, listener)
	if err != nil {
		t.Fatal(err)
	}
	expect := m
	expect.From, expect.To, expect.Log, expect.At = raft.Replica{ID: asked.To, DirectoryID: asked.ToDirectory}, asked.From.ID, asked.Log, asked.At
	if version < firstWithEndpoints[base] {
		expect.Endpoints = nil
	}
	if len(got.Records) == 0 {
		got.Records = nil
	}
	if diff := cmp.Diff(expect, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestOldVoteCarriesNoQuestion(t *testing.T) {
	m := asks(2)["VoteRequest"]
	if _, err := Request(m, cluster, limits, 1); !errors.Is(err, wire.ErrUnsupportedVersion) {
		t.Fatal(err)
	}
	if _, err := Request(raft.Message{Type: raft.MsgVoteAnswer}, cluster, limits, 1); err == nil {
		t.Fatal("an answer became a request")
	}
}

// TestAnonymousFetch: who does not trust itself goes out under nobody's name.
func TestAnonymousFetch(t *testing.T) {
	for _, version := range []int16{13, 17, 18} {
		m := asks(version)["FetchRequest"]
		m.Anonymous = true
		req, err := Request(m, cluster, limits, version)
		if err != nil {
			t.Fatal(err)
		}
		got, _, refusal := FromRequest(req, 1, cluster)
		if refusal != nil || !got.Anonymous || got.From.ID != id.NoBroker {
			t.Fatalf("v%d: %+v, %+v", version, got, refusal)
		}
	}
}

// TestRefusedRequests: what is not about this cluster and its metadata partition never reaches the core.
func TestRefusedRequests(t *testing.T) {
	other := "AAAAAAAAAAAAAAAAAAAAAQ"
	type change struct {
		name string
		make func() wire.Message
		want wire.ErrorCode
	}
	var all []change
	add := func(name string, want wire.ErrorCode, edit func(map[string]wire.Message) wire.Message) {
		all = append(all, change{name, func() wire.Message {
			ms := map[string]wire.Message{}
			for n, m := range asks(1) {
				r, err := Request(m, cluster, limits, 17)
				if err != nil {
					t.Fatal(err)
				}
				ms[n] = r
			}
			return edit(ms)
		}, want})
	}
	vote := func(ms map[string]wire.Message) *api.VoteRequest { return ms["VoteRequest"].(*api.VoteRequest) }
	begin := func(ms map[string]wire.Message) *api.BeginQuorumEpochRequest {
		return ms["BeginQuorumEpochRequest"].(*api.BeginQuorumEpochRequest)
	}
	end := func(ms map[string]wire.Message) *api.EndQuorumEpochRequest {
		return ms["EndQuorumEpochRequest"].(*api.EndQuorumEpochRequest)
	}
	fetch := func(ms map[string]wire.Message) *api.FetchRequest { return ms["FetchRequest"].(*api.FetchRequest) }
	snap := func(ms map[string]wire.Message) *api.FetchSnapshotRequest {
		return ms["FetchSnapshotRequest"].(*api.FetchSnapshotRequest)
	}
	add("vote, other cluster", wire.ErrInconsistentClusterID, func(ms map[string]wire.Message) wire.Message { r := vote(ms); r.ClusterID = &other; return r })
	add("begin, other cluster", wire.ErrInconsistentClusterID, func(ms map[string]wire.Message) wire.Message { r := begin(ms); r.ClusterID = &other; return r })
	add("end, other cluster", wire.ErrInconsistentClusterID, func(ms map[string]wire.Message) wire.Message { r := end(ms); r.ClusterID = &other; return r })
	add("fetch, other cluster", wire.ErrInconsistentClusterID, func(ms map[string]wire.Message) wire.Message { r := fetch(ms); r.ClusterID = &other; return r })
	add("snapshot, other cluster", wire.ErrInconsistentClusterID, func(ms map[string]wire.Message) wire.Message { r := snap(ms); r.ClusterID = &other; return r })
	add("vote, no topics", wire.ErrInvalidRequest, func(ms map[string]wire.Message) wire.Message { r := vote(ms); r.Topics = nil; return r })
	add("begin, no partitions", wire.ErrInvalidRequest, func(ms map[string]wire.Message) wire.Message { r := begin(ms); r.Topics[0].Partitions = nil; return r })
	add("end, partition 1", wire.ErrInvalidRequest, func(ms map[string]wire.Message) wire.Message {
		r := end(ms)
		r.Topics[0].Partitions[0].PartitionIndex = 1
		return r
	})
	add("vote, other topic", wire.ErrInvalidRequest, func(ms map[string]wire.Message) wire.Message { r := vote(ms); r.Topics[0].TopicName = "t"; return r })
	add("fetch, no topics", wire.ErrInvalidRequest, func(ms map[string]wire.Message) wire.Message { r := fetch(ms); r.Topics = nil; return r })
	add("fetch, other topic", wire.ErrInvalidRequest, func(ms map[string]wire.Message) wire.Message {
		r := fetch(ms)
		r.Topics[0].TopicID = id.UUID{1}
		return r
	})
	add("fetch, by name alone", wire.ErrInvalidRequest, func(ms map[string]wire.Message) wire.Message {
		r := fetch(ms)
		r.Topics[0].TopicID = id.UUID{}
		return r
	})
	add("snapshot, no topics", wire.ErrInvalidRequest, func(ms map[string]wire.Message) wire.Message { r := snap(ms); r.Topics = nil; return r })
	add("snapshot, no partitions", wire.ErrInvalidRequest, func(ms map[string]wire.Message) wire.Message { r := snap(ms); r.Topics[0].Partitions = nil; return r })
	add("snapshot, negative size", wire.ErrInvalidRequest, func(ms map[string]wire.Message) wire.Message { r := snap(ms); r.MaxBytes = -1; return r })
	add("snapshot, other topic", wire.ErrUnknownTopicOrPartition, func(ms map[string]wire.Message) wire.Message { r := snap(ms); r.Topics[0].Name = "t"; return r })
	for _, c := range all {
		_, _, refusal := FromRequest(c.make(), 1, cluster)
		if got := codeOf(refusal); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// codeOf is the error of a refusal.
func codeOf(m wire.Message) wire.ErrorCode {
	switch m := m.(type) {
	case *api.VoteResponse:
		return m.ErrorCode
	case *api.BeginQuorumEpochResponse:
		return m.ErrorCode
	case *api.EndQuorumEpochResponse:
		return m.ErrorCode
	case *api.FetchResponse:
		return m.ErrorCode
	case *api.FetchSnapshotResponse:
		if len(m.Topics) > 0 {
			return m.Topics[0].Partitions[0].ErrorCode
		}
		return m.ErrorCode
	}
	return wire.ErrNone
}

// TestRefusedResponses: a response that is refused as a whole, or about something else, is no answer.
func TestRefusedResponses(t *testing.T) {
	asked := asks(1)["FetchRequest"]
	for name, r := range map[string]*api.FetchResponse{
		"refused":     {ErrorCode: wire.ErrInconsistentClusterID},
		"empty":       {},
		"other topic": {Responses: []api.FetchResponseResponse{{TopicID: id.UUID{9}, Partitions: make([]api.FetchResponseResponsePartition, 1)}}},
	} {
		_, err := FromResponse(r, asked, listener)
		if err == nil || name == "refused" && !errors.Is(err, wire.ErrInconsistentClusterID) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := FromResponse(api.NewMetadataResponse(), asked, listener); err == nil {
		t.Error("metadata is an answer")
	}
	r := Response(answers()["FetchResponse"], 0, listener, 17).(*api.FetchResponse)
	r.NodeEndpoints[0].Port = 70_000
	if m, err := FromResponse(r, asked, listener); err != nil || len(m.Endpoints) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

// FuzzRequests reads any bytes as any request: a message or a refusal, never a panic.
func FuzzRequests(f *testing.F) {
	for _, m := range asks(1) {
		if r, err := Request(m, cluster, limits, 17); err == nil {
			v := int16(1)
			if r.APIKey() == wire.Fetch {
				v = 17
			}
			f.Add(int16(r.APIKey()), v, wire.Marshal(r, v))
		}
	}
	f.Fuzz(func(t *testing.T, key, version int16, b []byte) {
		switch k := wire.APIKey(key); k {
		case wire.Vote, wire.BeginQuorumEpoch, wire.EndQuorumEpoch, wire.Fetch, wire.FetchSnapshot:
			info, _ := api.Lookup(k)
			req := info.NewRequest()
			if version < info.Min || version > info.Max || wire.Unmarshal(b, req, version) != nil {
				return
			}
			m, _, refusal := FromRequest(req, 1, cluster)
			if refusal == nil && m.Type.IsAnswer() {
				t.Fatalf("%+v", m)
			}
		}
	})
}

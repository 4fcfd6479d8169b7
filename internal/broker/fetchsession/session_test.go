package fetchsession

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// rig is a cache whose clock and ids the test sets.
type rig struct {
	*Cache
	now   int64
	next  int32
	names map[id.UUID]string
}

func newRig(slots int) *rig {
	r := &rig{next: 100, names: map[id.UUID]string{}}
	r.Cache = New(Options{Slots: slots, Now: func() int64 { return r.now }, TopicName: func(u id.UUID) string { return r.names[u] },
		Random: func() int32 { r.next++; return r.next }})
	return r
}

func part(topic string, n int32, offset id.Offset) Partition {
	return Partition{Topic: topic, Partition: n, FetchOffset: offset, MaxBytes: 1000, CurrentLeaderEpoch: -1, LastFetchedEpoch: -1}
}

func parts(names ...string) []Partition {
	var out []Partition
	for i, n := range names {
		out = append(out, part(n, int32(i), 0))
	}
	return out
}

// found says for each partition: high watermark 10, start 0, no records.
func found(ps []Partition) []News {
	var out []News
	for _, p := range ps {
		out = append(out, News{Partition: p, HighWatermark: 10})
	}
	return out
}

// full opens a session with the partitions and returns its id.
func (r *rig) full(t *testing.T, follower bool, ps ...Partition) int32 {
	t.Helper()
	x, code := r.Open(Request{Epoch: InitialEpoch, FromFollower: follower, Partitions: ps})
	if code != wire.ErrNone {
		t.Fatalf("open: %v", code)
	}
	sid, code := x.Finish(found(x.Partitions(nil)))
	if code != wire.ErrNone {
		t.Fatalf("finish: %v", code)
	}
	return sid
}

func order(ps []Partition) (s []string) {
	for _, p := range ps {
		s = append(s, fmt.Sprintf("%s-%d@%d", p.Topic, p.Partition, p.FetchOffset))
	}
	return s
}

func TestEpochs(t *testing.T) {
	for e, want := range map[int32]int32{FinalEpoch: FinalEpoch, InitialEpoch: 1, 1: 2, math.MaxInt32: 1, -7: FinalEpoch} {
		if got := NextEpoch(e); got != want {
			t.Errorf("NextEpoch(%d) = %d, want %d", e, got, want)
		}
	}
	r := newRig(10)
	sid := r.full(t, false, parts("a", "b")...)
	tests := []struct {
		name     string
		sid      int32
		epoch    int32
		topicIDs bool
		want     wire.ErrorCode
	}{
		{"unknown session", sid + 1, 1, false, wire.ErrFetchSessionIDNotFound},
		{"negative session", -5, 1, false, wire.ErrFetchSessionIDNotFound},
		{"no session", NoSession, 1, false, wire.ErrFetchSessionIDNotFound},
		{"epoch too high", sid, 2, false, wire.ErrInvalidFetchSessionEpoch},
		{"odd epoch", sid, -2, false, wire.ErrInvalidFetchSessionEpoch},
		{"ids against names", sid, 1, true, wire.ErrFetchSessionTopicIDError},
		{"right", sid, 1, false, wire.ErrNone},
		{"repeated", sid, 1, false, wire.ErrInvalidFetchSessionEpoch},
		{"next", sid, 2, false, wire.ErrNone},
	}
	for _, tt := range tests {
		if _, code := r.Open(Request{SessionID: tt.sid, Epoch: tt.epoch, UsesTopicIDs: tt.topicIDs}); code != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, code, tt.want)
		}
	}
}

func TestIncrementalChangesTheSet(t *testing.T) {
	r := newRig(10)
	sid := r.full(t, false, parts("a", "b", "c")...)
	x, code := r.Open(Request{SessionID: sid, Epoch: 1, Partitions: []Partition{part("d", 3, 7), part("b", 1, 5)},
		Forgotten: []Partition{part("a", 0, 0), part("nowhere", 9, 0)}})
	if code != wire.ErrNone {
		t.Fatal(code)
	}
	if diff := cmp.Diff([]string{"b-1@5", "c-2@0", "d-3@7"}, order(x.Partitions(nil))); diff != "" {
		t.Error(diff)
	}
	if s := r.Stats(); s.Sessions != 1 || s.Partitions != 3 {
		t.Errorf("stats %+v", s)
	}
	// Everything forgotten: the session goes, and the answer has none.
	x, code = r.Open(Request{SessionID: sid, Epoch: 2, Forgotten: []Partition{part("b", 1, 0), part("c", 2, 0), part("d", 3, 0)}})
	if code != wire.ErrNone || len(x.Partitions(nil)) != 0 {
		t.Errorf("%v, %v", code, order(x.Partitions(nil)))
	}
	if sid, code := x.Finish(nil); sid != NoSession || code != wire.ErrNone {
		t.Errorf("finish: %d %v", sid, code)
	}
	if s := r.Stats(); s.Sessions != 0 || s.Partitions != 0 {
		t.Errorf("stats %+v", s)
	}
}

// TestWhatIsSent gives one partition through a row of answers; each row says what is found and whether the client must hear of it.
func TestWhatIsSent(t *testing.T) {
	r := newRig(10)
	sid := r.full(t, false, parts("a")...)
	rows := []struct {
		name string
		news News
		sent bool
	}{
		{"nothing new", News{HighWatermark: 10}, false},
		{"high watermark", News{HighWatermark: 11}, true},
		{"told already", News{HighWatermark: 11}, false},
		{"start offset", News{HighWatermark: 11, LogStartOffset: 3}, true},
		{"records", News{HighWatermark: 11, LogStartOffset: 3, Bytes: 5}, true},
		{"error", News{HighWatermark: -1, LogStartOffset: -1, Error: wire.ErrNotLeaderOrFollower}, true},
		{"error again", News{HighWatermark: -1, LogStartOffset: -1, Error: wire.ErrNotLeaderOrFollower}, true},
		{"error over", News{HighWatermark: 11, LogStartOffset: 3}, true},
		{"diverging", News{HighWatermark: 11, LogStartOffset: 3, Urgent: true}, true},
		{"quiet", News{HighWatermark: 11, LogStartOffset: 3}, false},
	}
	epoch := int32(1)
	for _, row := range rows {
		x, code := r.Open(Request{SessionID: sid, Epoch: epoch})
		if code != wire.ErrNone {
			t.Fatal(code)
		}
		row.news.Partition = x.Partitions(nil)[0]
		news := []News{row.news}
		if got, code := x.Finish(news); got != sid || code != wire.ErrNone {
			t.Fatalf("%s: finish %d %v", row.name, got, code)
		}
		if news[0].Omit == row.sent {
			t.Errorf("%s: omit=%t", row.name, news[0].Omit)
		}
		epoch++
	}
}

func TestRotation(t *testing.T) {
	r := newRig(10)
	sid := r.full(t, false, parts("a", "b", "c")...)
	x, _ := r.Open(Request{SessionID: sid, Epoch: 1})
	ps := x.Partitions(nil)
	news := found(ps)
	news[0].Bytes = 100
	x.Finish(news)
	x, _ = r.Open(Request{SessionID: sid, Epoch: 2})
	if diff := cmp.Diff([]string{"b-1@0", "c-2@0", "a-0@0"}, order(x.Partitions(nil))); diff != "" {
		t.Error(diff)
	}
}

func TestAnswerOfAnOvertakenRequest(t *testing.T) {
	r := newRig(10)
	sid := r.full(t, false, parts("a")...)
	first, _ := r.Open(Request{SessionID: sid, Epoch: 1})
	r.Open(Request{SessionID: sid, Epoch: 2})
	if got, code := first.Finish(found(parts("a"))); got != sid || code != wire.ErrInvalidFetchSessionEpoch {
		t.Errorf("finish: %d %v", got, code)
	}
}

func TestFullFetchClosesTheSessionItNames(t *testing.T) {
	r := newRig(10)
	sid := r.full(t, false, parts("a")...)
	x, code := r.Open(Request{SessionID: sid, Epoch: FinalEpoch, Partitions: []Partition{part("a", 0, 1), part("b", 0, 2), part("a", 0, 3)}})
	if code != wire.ErrNone {
		t.Fatal(code)
	}
	if diff := cmp.Diff([]string{"a-0@3", "b-0@2"}, order(x.Partitions(nil))); diff != "" {
		t.Errorf("repeated partition: %s", diff)
	}
	if got, code := x.Finish(nil); got != NoSession || code != wire.ErrNone {
		t.Errorf("finish: %d %v", got, code)
	}
	if _, code := r.Open(Request{SessionID: sid, Epoch: 1}); code != wire.ErrFetchSessionIDNotFound {
		t.Errorf("old session: %v", code)
	}
}

// TestRepeatedPartitions checks that the two ways of dropping repetitions agree.
func TestRepeatedPartitions(t *testing.T) {
	for n := range 3 * fewPartitions {
		var in []Partition
		for i := range n {
			in = append(in, part("a", int32(i%7), id.Offset(i)))
		}
		want := map[int32]id.Offset{}
		for _, p := range in {
			want[p.Partition] = p.FetchOffset
		}
		got := map[int32]id.Offset{}
		for i, p := range distinct(in) {
			if p.Partition != int32(i) {
				t.Fatalf("%d partitions: order %v", n, order(in))
			}
			got[p.Partition] = p.FetchOffset
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d partitions: %s", n, diff)
		}
	}
}

func TestTopicIDs(t *testing.T) {
	r := newRig(10)
	known, late := id.UUID{1}, id.UUID{2}
	r.names[known] = "k"
	x, _ := r.Open(Request{Epoch: InitialEpoch, UsesTopicIDs: true, Partitions: []Partition{
		{Topic: "k", TopicID: known, Partition: 0}, {TopicID: late, Partition: 0}}})
	sid, _ := x.Finish(found(x.Partitions(nil)))
	r.names[late] = "l"
	x, code := r.Open(Request{SessionID: sid, Epoch: 1, UsesTopicIDs: true})
	if code != wire.ErrNone {
		t.Fatal(code)
	}
	if diff := cmp.Diff([]string{"k-0@0", "l-0@0"}, order(x.Partitions(nil))); diff != "" {
		t.Error(diff)
	}
	// The same name with another id is another partition.
	x, _ = r.Open(Request{SessionID: sid, Epoch: 2, UsesTopicIDs: true, Partitions: []Partition{{Topic: "k", TopicID: id.UUID{3}, Partition: 0, FetchOffset: 4}},
		Forgotten: []Partition{{TopicID: known, Partition: 0}}})
	if diff := cmp.Diff([]string{"l-0@0", "k-0@4"}, order(x.Partitions(nil))); diff != "" {
		t.Error(diff)
	}
}

func TestBoundOnPartitions(t *testing.T) {
	r := newRig(10)
	r.o.Partitions = 5
	a := r.full(t, false, parts("a", "b")...)
	if sid := r.full(t, false, parts("a", "b", "c", "d")...); sid != NoSession {
		t.Errorf("session %d beyond the bound", sid)
	}
	if sid := r.full(t, false, parts("a", "b", "c")...); sid == NoSession {
		t.Error("no session at the bound")
	}
	if _, code := r.Open(Request{SessionID: a, Epoch: 1, Partitions: []Partition{part("z", 9, 0)}}); code != wire.ErrFetchSessionIDNotFound {
		t.Errorf("grew beyond the bound: %v", code)
	}
	if s := r.Stats(); s.Sessions != 1 || s.Partitions != 3 {
		t.Errorf("%+v", s)
	}
}

func TestEviction(t *testing.T) {
	const age = EvictionMs + 1
	t.Run("no slots", func(t *testing.T) {
		if sid := newRig(0).full(t, false, parts("a")...); sid != NoSession {
			t.Errorf("session %d", sid)
		}
	})
	t.Run("young sessions stay", func(t *testing.T) {
		r := newRig(2)
		r.full(t, false, parts("a")...)
		r.full(t, false, parts("a")...)
		if sid := r.full(t, false, parts("a", "b", "c")...); sid != NoSession {
			t.Errorf("session %d", sid)
		}
	})
	t.Run("stale goes first", func(t *testing.T) {
		r := newRig(2)
		stale := r.full(t, true, parts("a", "b", "c")...)
		r.now = 10
		fresh := r.full(t, false, parts("a")...)
		r.now = age
		if sid := r.full(t, false, parts("a")...); sid == NoSession {
			t.Fatal("no session")
		}
		if _, code := r.Open(Request{SessionID: stale, Epoch: 1}); code != wire.ErrFetchSessionIDNotFound {
			t.Errorf("stale: %v", code)
		}
		if _, code := r.Open(Request{SessionID: fresh, Epoch: 1}); code != wire.ErrNone {
			t.Errorf("fresh: %v", code)
		}
		if s := r.Stats(); s.Evictions != 1 || s.Sessions != 2 || s.Partitions != 2 {
			t.Errorf("stats %+v", s)
		}
	})
	t.Run("smaller goes for larger, never the other way", func(t *testing.T) {
		r := newRig(2)
		small := r.full(t, false, parts("a")...)
		large := r.full(t, false, parts("a", "b", "c")...)
		r.now = age
		r.Open(Request{SessionID: small, Epoch: 1})
		r.Open(Request{SessionID: large, Epoch: 1})
		r.now++
		if sid := r.full(t, false, parts("a", "b")...); sid == NoSession {
			t.Error("the small one should have gone")
		}
		if sid := r.full(t, false, parts("a", "b")...); sid != NoSession {
			t.Error("the large one must stay, and the new one is too young to go")
		}
		if _, code := r.Open(Request{SessionID: large, Epoch: 2}); code != wire.ErrNone {
			t.Errorf("large: %v", code)
		}
	})
	t.Run("a follower takes a consumer's place at once", func(t *testing.T) {
		r := newRig(2)
		r.full(t, true, parts("a", "b")...)
		consumer := r.full(t, false, parts("a", "b", "c", "d")...)
		if sid := r.full(t, true, parts("a")...); sid == NoSession {
			t.Error("no session for the follower")
		}
		if _, code := r.Open(Request{SessionID: consumer, Epoch: 1}); code != wire.ErrFetchSessionIDNotFound {
			t.Errorf("consumer: %v", code)
		}
		if sid := r.full(t, true, parts("a", "b", "c")...); sid != NoSession {
			t.Error("young followers stay")
		}
	})
}

package replica

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// A scenario of this package is a function of a rig. It runs free, and in these ways, in which every produce with acks=all first
// goes through what a cluster may do to it. The scenario must come out the same.
//
//	held       the high watermark stays, and then one record behind, until nothing was found to be told or shown early
//	deposed    the high watermark stays, the leadership is lost, the log is cut to what was committed, and must be what a
//	           replay of that gives; then the leadership comes back, and the produce with it
//
// A scenario that counts leader epochs or requests runs held only.
const (
	wayFree    = ""
	wayHeld    = "held"
	wayDeposed = "deposed"
)

func allWays(t *testing.T, scenario func(*testing.T, *rig)) {
	t.Helper()
	inWays(t, scenario, wayFree, wayHeld, wayDeposed)
}

func freeAndHeld(t *testing.T, scenario func(*testing.T, *rig)) {
	t.Helper()
	inWays(t, scenario, wayFree, wayHeld)
}

func inWays(t *testing.T, scenario func(*testing.T, *rig), ways ...string) {
	t.Helper()
	for _, way := range ways {
		name := way
		if way == wayFree {
			name = "free"
		}
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.way = way
			scenario(t, r)
		})
	}
}

// ordeal is what a way does with a produce before it is let go.
func (r *rig) ordeal(timeout time.Duration, parts []AppendPartition) *answer {
	r.t.Helper()
	if r.fault != "no hold" {
		r.Hold()
	}
	mine := slices.Clone(parts)
	for i := range mine {
		mine[i].Batches = slices.Clone(mine[i].Batches)
	}
	before := r.shown(parts)
	a := r.send(-1, timeout, mine)
	if r.way == wayHeld {
		r.wantQuiet(a, parts, before)
		r.HoldBack(1)
		for _, p := range parts {
			if x, err := r.Partition(p.Topic, p.Partition); err == nil && x.IsLeader() {
				if hw, end := x.log().HighWatermark(), x.log().EndOffset(); hw >= end && hw > before[x.tp] {
					r.complain("%s: the high watermark is %d, and the log ends at %d", x.tp, hw, end)
				}
			}
		}
		r.Release()
		return a
	}
	r.wantQuiet(a, parts, before)
	mineOnly := r.depose(a, parts)
	r.Release()
	if !mineOnly {
		return a // nothing was appended
	}
	return r.send(-1, timeout, parts)
}

// shown are the ends that clients see.
func (r *rig) shown(parts []AppendPartition) map[id.TopicPartition]id.Offset {
	out := map[id.TopicPartition]id.Offset{}
	for _, p := range parts {
		tp := id.TopicPartition{Topic: p.Topic, Partition: p.Partition}
		if x, err := r.Partition(p.Topic, p.Partition); err == nil {
			out[tp] = x.log().HighWatermark()
		}
	}
	return out
}

// wantQuiet sees to it that nothing of a held produce is told or shown.
func (r *rig) wantQuiet(a *answer, parts []AppendPartition, before map[id.TopicPartition]id.Offset) {
	r.t.Helper()
	if res, done := a.get(); done {
		for i, x := range res {
			tp := id.TopicPartition{Topic: parts[i].Topic, Partition: parts[i].Partition}
			if x.Err == nil && x.BaseOffset >= before[tp] {
				r.complain("%s: offset %d is acknowledged, and %d is committed", tp, x.BaseOffset, before[tp])
			}
		}
	}
	for tp, hw := range before {
		x := r.partition(tp.Topic, tp.Partition)
		if got := x.log().HighWatermark(); got != hw {
			r.complain("%s: the high watermark went from %d to %d", tp, hw, got)
		}
		if !x.IsLeader() {
			continue
		}
		last, err := r.ListOffset(OffsetQuery{TopicPartition: tp, Timestamp: log.LatestTimestamp, CurrentLeaderEpoch: -1, Isolation: log.ReadHighWatermark})
		if err == nil && last.Offset > hw {
			r.complain("%s: the latest offset is %d, and %d is committed", tp, last.Offset, hw)
		}
		res := r.fetch(consumer(FetchPartition{Topic: tp.Topic, Partition: tp.Partition, Offset: hw}))
		if got := offsets(r.t, &res[0]); len(got) > 0 {
			r.complain("%s: a consumer sees batches %v, and %d is committed", tp, got, hw)
		}
	}
}

// depose takes the leadership of everything that a produce went to, and gives it back with a log without it. It is false if
// nothing of it waited.
func (r *rig) depose(a *answer, parts []AppendPartition) bool {
	r.t.Helper()
	if _, done := a.get(); done {
		return false
	}
	var topics []string
	for _, p := range parts {
		if x, err := r.Partition(p.Topic, p.Partition); err == nil && x.IsLeader() && !slices.Contains(topics, p.Topic) {
			topics = append(topics, p.Topic)
		}
	}
	for _, name := range topics {
		if r.fault != "no deposition" {
			r.lead(name, 2)
		}
	}
	res, done := a.get()
	if !done {
		r.complain("deposed, and the produce still waits")
	}
	for i, x := range res {
		if slices.Contains(topics, parts[i].Topic) && x.Err == nil && x.BaseOffset >= 0 {
			if p := r.partition(parts[i].Topic, parts[i].Partition); x.BaseOffset >= p.log().HighWatermark() {
				r.complain("%s: deposed, and offset %d is acknowledged", p.tp, x.BaseOffset)
			}
		}
		if code := ErrorCode(x.Err); i == 0 && len(res) == 1 && code != wire.ErrNotLeaderOrFollower {
			r.complain("deposed, the produce fails with %s", code.Name())
		}
	}
	for _, name := range topics {
		for _, p := range r.img.Topics.ByName(name).Partitions {
			tp := id.TopicPartition{Topic: name, Partition: p.ID}
			hw := r.partition(name, p.ID).log().HighWatermark()
			if r.fault != "no truncation" && r.fault != "no deposition" {
				if err := r.TruncateTo(tp, hw); err != nil {
					r.t.Fatal(err)
				}
			}
			if end := r.partition(name, p.ID).log().EndOffset(); end != hw {
				r.complain("%s: cut to %d, the log ends at %d", tp, hw, end)
			}
			r.wantReplay(tp)
		}
	}
	for _, name := range topics {
		r.lead(name, int32(self))
	}
	return true
}

// wantReplay holds a log against one that got the same batches from its leader.
func (r *rig) wantReplay(tp id.TopicPartition) {
	r.t.Helper()
	l := r.partition(tp.Topic, tp.Partition).log()
	content, err := content(l)
	if err != nil {
		r.t.Fatal(err)
	}
	logs, err := log.Open(log.Options{FS: vfs.NewMem(), Dirs: []string{"/replay"}, Config: l.Config(), ClusterID: "c", NodeID: self, AutoFormat: true,
		RetentionCheckInterval: time.Hour, FlushCheckInterval: log.Forever, RecoveryPointInterval: time.Hour,
		StartOffsetInterval: time.Hour, HighWatermarkInterval: time.Hour, ProducerExpiration: 24 * time.Hour, ProducerExpirationInterval: time.Hour})
	if err != nil {
		r.t.Fatal(err)
	}
	defer logs.Close(id.NoBrokerEpoch)
	other, err := logs.Create(tp, log.CreateOptions{TopicID: l.TopicID(), Config: l.Config()})
	if err != nil {
		r.t.Fatal(err)
	}
	if start := l.StartOffset(); start > 0 {
		if err := other.TruncateFullyAndStartAt(start); err != nil {
			r.t.Fatal(err)
		}
	}
	rest := slices.Clone(content)
	for len(rest) > 0 {
		var b record.Batch
		if b, rest, err = record.Next(rest); err != nil {
			r.t.Fatal(err)
		}
		if b.LastOffset() < l.StartOffset() {
			continue
		}
		if _, err := other.AppendAsFollower(b, b.LeaderEpoch()); err != nil {
			r.t.Fatal(err)
		}
	}
	other.AdvanceHighWatermark(l.HighWatermark())
	if diff := cmp.Diff(whole(r.t, other), whole(r.t, l)); diff != "" {
		r.complain("%s is not the replay of its log (-replay +log):\n%s", tp, diff)
	}
}

// whole is all that a log knows which its batches determine.
func whole(t testing.TB, l *log.Log) string {
	t.Helper()
	b, err := content(l)
	if err != nil {
		t.Fatal(err)
	}
	epochs := ""
	for rest := b; len(rest) > 0; {
		var one record.Batch
		if one, rest, err = record.Next(rest); err != nil {
			t.Fatal(err)
		}
		epochs += fmt.Sprintf(" %d@%d", l.EpochAt(one.BaseOffset()), one.BaseOffset())
	}
	first, err := l.LookupTimestamp(0)
	if err != nil {
		t.Fatal(err)
	}
	producers := l.Producers()
	slices.SortFunc(producers, func(a, b log.ProducerInfo) int { return int(a.ProducerID - b.ProducerID) })
	return fmt.Sprintf("start %d end %d high watermark %d stable %d\nepochs%s\nproducers %+v\nfirst timestamp %+v\n%d bytes %x", l.StartOffset(), l.EndOffset(),
		l.HighWatermark(), l.LastStableOffset(), epochs, producers, first, len(b), b)
}

// content are the batches of a log from its start on.
func content(l *log.Log) ([]byte, error) {
	var out bytes.Buffer
	for at := l.StartOffset(); at < l.EndOffset(); {
		res, err := l.Read(log.ReadRequest{Offset: at, MaxBytes: 1 << 20, MinOneMessage: true, Isolation: log.ReadLogEnd,
			Reader: log.Reader{ReplicaID: id.NoBroker, ReplicaEpoch: id.NoBrokerEpoch}, LastFetchedEpoch: id.NoLeaderEpoch})
		if err != nil {
			return nil, err
		}
		b, err := res.Section.Bytes()
		if err != nil {
			return nil, err
		}
		out.Write(b)
		for len(b) > 0 {
			var one record.Batch
			if one, b, err = record.Next(b); err != nil {
				return nil, err
			}
			at = one.NextOffset()
		}
		res.Section.Release()
	}
	return out.Bytes(), nil
}

// complain is an error of the test, or what a test of the ways waits for.
func (r *rig) complain(format string, args ...any) {
	if r.fault != "" {
		r.complaints++
		return
	}
	r.t.Helper()
	r.t.Errorf(format, args...)
}

// TestWaysCanFail: each fault of what the ways are built upon is found.
func TestWaysCanFail(t *testing.T) {
	for _, x := range []struct{ way, fault string }{{wayHeld, "no hold"}, {wayDeposed, "no hold"}, {wayDeposed, "no truncation"}, {wayDeposed, "no deposition"}} {
		r := newRig(t)
		r.topic("t", 1)
		r.mustProduce("t", 2)
		r.way, r.fault = x.way, x.fault
		r.produce(-1, time.Second, AppendPartition{Topic: "t", Batches: plain(t, 1)})
		r.Release()
		if r.complaints == 0 {
			t.Errorf("%s: %s, and nobody notices", x.way, x.fault)
		}
	}
}

// TestDeposedProducer: a producer whose batch was cut off sends it again, and it is no duplicate; one whose batch was committed is.
func TestDeposedProducer(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1)
	o := record.NewOptions()
	o.ProducerID, o.ProducerEpoch, o.BaseSequence = 7, 0, 0
	send := func() AppendResult {
		return r.produce(-1, longTime, AppendPartition{Topic: "t", Batches: batch(t, 3, 10, o)}).one(t)
	}
	if res := send(); res.Err != nil || res.BaseOffset != 0 {
		t.Fatalf("%+v", res)
	}
	r.way = wayDeposed
	o.BaseSequence = 3
	if res := send(); res.Err != nil || res.BaseOffset != 3 {
		t.Errorf("cut off and sent again: %+v", res)
	}
	if res := send(); res.Err != nil || res.BaseOffset != 3 || r.partition("t", 0).log().EndOffset() != 6 {
		t.Errorf("a duplicate: %+v", res)
	}
}

// TestRestartedAt: a follower whose leader begins behind its end starts anew there, and leads from there.
func TestRestartedAt(t *testing.T) {
	tp := id.TopicPartition{Topic: "t"}
	r := newRig(t)
	r.topic("t", 1)
	r.mustProduce("t", 5)
	if err := r.TruncateFullyAndStartAt(tp, 100); ErrorCode(err) != wire.ErrInvalidRequest {
		t.Errorf("a leader's log is cut: %v", err)
	}
	r.Hold()
	a := r.produce(-1, longTime, AppendPartition{Topic: "t", Batches: plain(t, 1)})
	r.lead("t", 2)
	wantCode(t, a.one(t).Err, wire.ErrNotLeaderOrFollower)
	if err := r.TruncateFullyAndStartAt(tp, 100); err != nil {
		t.Fatal(err)
	}
	l := r.partition("t", 0).log()
	if l.StartOffset() != 100 || l.EndOffset() != 100 || l.HighWatermark() != 100 || len(l.Producers()) != 0 {
		t.Errorf("the log goes from %d to %d, high watermark %d", l.StartOffset(), l.EndOffset(), l.HighWatermark())
	}
	r.wantReplay(tp)
	r.lead("t", int32(self))
	r.Release()
	for _, way := range []string{wayFree, wayHeld, wayDeposed} {
		r.way = way
		r.mustProduce("t", 2)
	}
	r.way = wayFree
	r.wantReplay(tp)
	if l.EndOffset() != 106 {
		t.Errorf("the log ends at %d", l.EndOffset())
	}
	res := r.fetch(consumer(FetchPartition{Topic: "t", Offset: 5}))
	wantCode(t, res[0].Err, wire.ErrOffsetOutOfRange)
}

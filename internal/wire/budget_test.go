package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"sync"
	"testing"

	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// allocated returns the bytes that f takes from the heap.
func allocated(f func()) int64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int64(after.TotalAlloc - before.TotalAlloc)
}

// decodeBounded decodes frame and fails the test if that took more memory than a frame of its size may.
func decodeBounded(t *testing.T, k kind, version int16, frame []byte) error {
	t.Helper()
	m := k.make()
	var r wire.Reader
	var b wire.Budget
	var complaint string
	// The runtime allocates a little now and then, so one good measurement out of several is enough.
	for range 5 {
		took := allocated(func() {
			b.Start(len(frame), nil)
			r.Reset(frame, &b)
			m.Decode(&r, version)
		})
		limit := int64(wire.BudgetFactor*len(frame) + wire.BudgetFloor)
		switch {
		case b.Used() > limit || took > limit+1024: // a kilobyte for the error
			complaint = fmt.Sprintf("took %d bytes, charged %d, limit %d", took, b.Used(), limit)
		case r.Err() == nil && took > b.Used()+1024:
			complaint = fmt.Sprintf("took %d bytes, charged only %d", took, b.Used())
		default:
			return r.Err()
		}
	}
	t.Errorf("%s %d: frame of %d bytes: %s (%v)", k.name, version, len(frame), complaint, r.Err())
	return r.Err()
}

func TestMemoryBound(t *testing.T) {
	rng := random(t)
	frames, refused, dear := 0, 0, 0
	// Few shapes cost more than the budget: about five frames of a round. A round without any says nothing, a second does.
	for round := 0; round < 6 && dear == 0; round++ {
		f, r, d := hostileRound(t, rng)
		frames, refused, dear = frames+f, refused+r, dear+d
	}
	t.Logf("%d hostile frames: %d refused as malformed, %d for their cost", frames, refused, dear)
	if dear == 0 || refused == 0 {
		t.Error("the frames do not tell anything")
	}
}

// hostileRound decodes an honest frame and its hostile relatives for every message, and counts the refusals.
func hostileRound(t *testing.T, rng *rand.Rand) (frames, refused, dear int) {
	for _, k := range kinds() {
		for v := k.lo; v <= k.hi; v++ {
			if v != k.lo && v != k.hi && rng.IntN(3) > 0 {
				continue
			}
			m := k.make()
			filler{Rand: rng, tags: k.flexible >= 0 && v >= k.flexible}.fill(reflect.ValueOf(m).Elem(), 0)
			honest := wire.Marshal(m, v)
			if err := decodeBounded(t, k, v, honest); err != nil {
				t.Errorf("%s %d: %v", k.name, v, err)
			}
			for _, frame := range hostile(rng, honest) {
				frames++
				if err := decodeBounded(t, k, v, frame); errors.Is(err, wire.ErrBudget) {
					dear++
				} else if err != nil {
					refused++
				}
			}
		}
	}
	return frames, refused, dear
}

// hostile returns frames that lie about counts: in front of nothing, and in front of as many of the smallest elements as fit.
func hostile(rng *rand.Rand, honest []byte) [][]byte {
	const padding = 96 << 10
	var list [][]byte
	for range 6 {
		at := 0
		if len(honest) > 0 {
			at = rng.IntN(len(honest))
		}
		head := bytes.Clone(honest[:at])
		count := uint32([]int{padding / 3, padding, 900_000, 1 << 30}[rng.IntN(4)])
		if rng.IntN(2) == 0 {
			head = binary.AppendUvarint(head, uint64(count))
		} else {
			head = binary.BigEndian.AppendUint32(head, count)
		}
		list = append(list, head)
		fill := []byte{0, 1, 1, 1, 2, 3, 0xff}[rng.IntN(7)]
		list = append(list, append(head, bytes.Repeat([]byte{fill}, padding)...))
	}
	return append(list, bytes.Repeat([]byte{1}, padding), bytes.Repeat([]byte{0xff}, 64))
}

// TestTagBomb sends structs full of unknown tagged fields.
func TestTagBomb(t *testing.T) {
	heartbeat := kind{"Heartbeat", 0, 4, 4, func() wire.Message { return new(api.HeartbeatRequest) }}
	body := func(n, size int) []byte {
		var w wire.Writer
		(&api.HeartbeatRequest{}).Encode(&w, 4)
		b, _ := w.AppendTo(nil)
		b = binary.AppendUvarint(b[:len(b)-1], uint64(n))
		for i := range n {
			b = binary.AppendUvarint(b, uint64(i+5))
			b = binary.AppendUvarint(b, uint64(size))
			b = append(b, make([]byte, size)...)
		}
		return b
	}
	for _, c := range []struct {
		n, size int
		ok      bool
	}{{10_000, 0, true}, {10_000, 100, true}, {10_001, 0, false}, {1, 1 << 20, true}} {
		if err := decodeBounded(t, heartbeat, 4, body(c.n, c.size)); (err == nil) != c.ok {
			t.Errorf("%d tags of %d bytes: %v", c.n, c.size, err)
		}
	}
	// A count without fields behind it, as large as a varint can say.
	b := body(0, 0)
	b = append(b[:len(b)-1], 0xff, 0xff, 0xff, 0xff, 0x0f)
	if err := decodeBounded(t, heartbeat, 4, b); !errors.Is(err, wire.ErrMalformed) {
		t.Error(err)
	}
	// Many of the smallest structs there are, each with an unknown field, which costs more than anything honest.
	var w wire.Writer
	w.Int8(0)
	w.Uvarint(50_001)
	for range 50_000 {
		w.String(true, "")
		w.Int32s(true, false, nil)
		w.Uvarint(1)
		w.Uvarint(9)
		w.Uvarint(0)
	}
	w.Int32(0)
	w.Tags(nil)
	frame, err := w.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	elect := kind{"ElectLeadersRequest", 0, 2, 2, func() wire.Message { return new(api.ElectLeadersRequest) }}
	if err := decodeBounded(t, elect, 2, frame); !errors.Is(err, wire.ErrBudget) {
		t.Error(err)
	}
	if err := wire.Unmarshal(frame, new(api.ElectLeadersRequest), 2); err != nil {
		t.Errorf("the frame is not well formed: %v", err)
	}
}

// TestNestedArrays has every level of a message claim as much as it can.
func TestNestedArrays(t *testing.T) {
	for _, k := range kinds() {
		for _, pattern := range [][]byte{{1}, {2}, {2, 1}, {3, 1, 1}, {0, 0, 0, 1}, {0, 0, 0, 2}, {0, 1}} {
			decodeBounded(t, k, k.hi, bytes.Repeat(pattern, 40_000/len(pattern)))
			decodeBounded(t, k, k.lo, bytes.Repeat(pattern, 40_000/len(pattern)))
		}
	}
}

func TestPool(t *testing.T) {
	p := wire.NewPool(100_000)
	var b wire.Budget
	b.Start(10_000, p)
	if err := b.Charge(20_000); err != nil || p.Used() < 20_000 {
		t.Fatalf("%v, %d used", err, p.Used())
	}
	if err := b.Charge(90_000); !errors.Is(err, wire.ErrPoolExhausted) || errors.Is(err, wire.ErrBudget) {
		t.Fatal(err)
	}
	if err := b.Charge(300_000); !errors.Is(err, wire.ErrBudget) {
		t.Fatal(err)
	}
	if !p.Take(10_000) || p.Take(90_000) {
		t.Fatal("the pool's limit does not hold")
	}
	p.Give(10_000)
	b.Release()
	b.Release()
	if p.Used() != 0 {
		t.Errorf("%d bytes were not returned", p.Used())
	}
	if err := b.Charge(1); err == nil {
		t.Error("charged after the release")
	}
	// Decoding through an exhausted pool says so, and starting anew returns what was held.
	frame := wire.Marshal(&logrec.TopicRecord{Name: string(make([]byte, 1000))}, 0)
	small := wire.NewPool(500)
	b.Start(len(frame), small)
	r := wire.NewReader(frame, &b)
	new(logrec.TopicRecord).Decode(r, 0)
	if !errors.Is(r.Err(), wire.ErrPoolExhausted) {
		t.Error(r.Err())
	}
	b.Start(10, p)
	if small.Used() != 0 {
		t.Errorf("%d bytes were not returned", small.Used())
	}
}

// TestSmallestElements decodes arrays of the smallest elements there are: the check of counts against the bytes left must not be
// too strict.
func TestSmallestElements(t *testing.T) {
	for _, k := range kinds() {
		m := k.make()
		smallest(reflect.ValueOf(m).Elem())
		for v := k.lo; v <= k.hi; v++ {
			frame := wire.Marshal(m, v)
			got := k.make()
			if err := wire.Unmarshal(frame, got, v); err != nil {
				t.Errorf("%s %d: %v", k.name, v, err)
			} else if again := wire.Marshal(got, v); !bytes.Equal(again, frame) {
				t.Errorf("%s %d: %x became %x", k.name, v, frame, again)
			}
		}
	}
}

// smallest gives every array three elements and leaves all else empty.
func smallest(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			smallest(v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			v.Set(reflect.MakeSlice(v.Type(), 3, 3))
			for i := range 3 {
				smallest(v.Index(i))
			}
		}
	case reflect.Pointer:
		v.SetZero()
	}
}

func TestPoolFromManySides(t *testing.T) {
	p := wire.NewPool(1 << 20)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var b wire.Budget
			for n := range 1000 {
				b.Start(10_000, p)
				for b.Charge(int64(1000*i+n+1)) == nil {
				}
				if used := p.Used(); used < b.Used() {
					t.Errorf("%d used in all, %d by one", used, b.Used())
				}
			}
			b.Release()
		})
	}
	wg.Wait()
	if p.Used() != 0 {
		t.Errorf("%d bytes were not returned", p.Used())
	}
}

// TestHonestFramesFit checks that large honest frames stay far from their budget.
func TestHonestFramesFit(t *testing.T) {
	fetch := &api.FetchRequest{Topics: make([]api.FetchRequestTopic, 100)}
	for i := range fetch.Topics {
		fetch.Topics[i].Partitions = make([]api.FetchRequestTopicPartition, 100)
	}
	meta := &api.MetadataRequest{}
	offsets := &api.OffsetFetchRequest{Groups: []api.OffsetFetchRequestGroup{{GroupID: "group"}}}
	commit := &api.OffsetCommitRequest{}
	configs := &api.AlterConfigsRequest{}
	for i := range 5000 {
		name := fmt.Sprintf("topic-%d", i)
		meta.Topics = append(meta.Topics, api.MetadataRequestTopic{Name: &name})
		offsets.Groups[0].Topics = append(offsets.Groups[0].Topics, api.OffsetFetchRequestGroupTopic{Name: name, PartitionIndexes: []int32{0}})
		commit.Topics = append(commit.Topics, api.OffsetCommitRequestTopic{Name: name, Partitions: make([]api.OffsetCommitRequestTopicPartition, 1)})
		configs.Resources = append(configs.Resources, api.AlterConfigsRequestResource{ResourceName: name,
			Configs: []api.AlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: &name}}})
	}
	for _, c := range []struct {
		m       wire.Request
		version int16
	}{{fetch, 17}, {fetch, 12}, {meta, 12}, {meta, 1}, {offsets, 9}, {commit, 9}, {configs, 2}} {
		frame := wire.Marshal(c.m, c.version)
		info, _ := api.Lookup(c.m.APIKey())
		b := wire.NewBudget(len(frame), nil)
		m := info.NewRequest()
		r := wire.NewReader(frame, b)
		m.Decode(r, c.version)
		share := float64(b.Used()) / float64(len(frame))
		t.Logf("%s %d: %d bytes, %.1f bytes of memory for each", info.Name, c.version, len(frame), share)
		if r.Finish() != nil || share > wire.BudgetFactor/2 {
			t.Errorf("%s %d: %v, %.1f bytes for each", info.Name, c.version, r.Err(), share)
		}
	}
}

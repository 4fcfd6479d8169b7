package wire_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// random is the test's source of random numbers.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seed.Of(t), 0))
}

// filler sets structs to random values by reflection, for our messages and kmsg's alike.
type filler struct {
	*rand.Rand
	tags    bool     // add unknown tagged fields
	letters []string // what strings are made of, if not of letters
	skip    []string
}

// since lists the fields that kmsg writes at every flexible version while Kafka has them from a later one and refuses them
// before that. They keep their defaults below that version.
var since = []struct {
	message, field string
	version        int16
}{
	{"ProduceResponse", "Brokers", 10},
	{"ProduceResponse", "CurrentLeader", 10},
	{"FetchRequest", "ReplicaState", 15},
	{"FetchRequest", "ReplicaDirectoryID", 17},
	{"FetchRequest", "HighWatermark", 18},
	{"FetchResponse", "Brokers", 16},
	{"VoteResponse", "NodeEndpoints", 1},
	{"FetchSnapshotRequest", "ReplicaDirectoryID", 1},
	{"FetchSnapshotResponse", "NodeEndpoints", 1},
	{"BrokerHeartbeatRequest", "OfflineLogDirs", 1},
	{"BrokerHeartbeatRequest", "CordonedLogDirs", 2},
}

var letters = []string{"a", "topic", "é", "漢字", "\U0001F600", "-", "0123456789", "\x00", strings.Repeat("long ", 40)}

func (f filler) text() string {
	var s string
	from := letters
	if f.letters != nil {
		from = f.letters
	}
	for range f.IntN(4) {
		s += from[f.IntN(len(from))]
	}
	return s
}

func (f filler) bytes() []byte {
	n := f.IntN(20)
	if f.IntN(20) == 0 {
		n = f.IntN(2000)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(f.Uint32())
	}
	return b
}

// number returns a random number with the interesting ones at hand.
func (f filler) number() int64 {
	switch f.IntN(6) {
	case 0:
		return -1
	case 1:
		return 0
	case 2:
		return int64(f.IntN(200))
	case 3:
		return 1<<63 - 1
	}
	return int64(f.Uint64())
}

func (f filler) fill(v reflect.Value, depth int) {
	if v.Type() == reflect.TypeFor[kmsg.Tags]() {
		if f.tags && f.IntN(6) == 0 {
			for range 1 + f.IntN(3) {
				v.Addr().Interface().(*kmsg.Tags).Set(uint32(100+f.IntN(3000)), f.bytes())
			}
		}
		return
	}
	switch x := v.Addr().Interface().(type) {
	case **wire.Tags:
		if f.tags && f.IntN(6) == 0 {
			var w wire.Writer
			n := 1 + f.IntN(3)
			for i := range n {
				b := f.bytes()
				w.Uvarint(uint32(100 + 900*i))
				w.Uvarint(uint32(len(b)))
				w.Raw(b)
			}
			raw, _ := w.AppendTo(nil)
			*x = &wire.Tags{Count: n, Raw: raw}
		}
		return
	case *wire.Records:
		x.Bytes = f.bytes()
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if d, ok := v.Addr().Interface().(interface{ Default() }); ok {
			d.Default()
		}
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if (name != "Version" || depth > 0) && !slices.Contains(f.skip, name) {
				f.fill(v.Field(i), depth+1)
			}
		}
	case reflect.Pointer:
		if v.SetZero(); f.IntN(4) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem(), depth+1)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(f.bytes())
			return
		}
		if f.IntN(8) == 0 {
			v.SetZero()
			return
		}
		n := f.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			f.fill(v.Index(i), depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(byte(f.Uint32())))
		}
	case reflect.String:
		v.SetString(f.text())
	case reflect.Bool:
		v.SetBool(f.IntN(2) == 0)
	case reflect.Float64:
		v.SetFloat(f.NormFloat64())
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(f.number()) & (1<<v.Type().Bits() - 1))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(f.number() << (64 - v.Type().Bits()) >> (64 - v.Type().Bits()))
	default:
		panic(v.Type())
	}
}

// oracle is what kmsg's requests and responses have in common.
type oracle interface {
	SetVersion(int16)
	AppendTo([]byte) []byte
	ReadFrom([]byte) error
	IsFlexible() bool
	MaxVersion() int16
}

func TestAgreesWithKmsg(t *testing.T) {
	rng := random(t)
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	compared := 0
	for _, info := range api.Table() {
		req := kmsg.RequestForKey(int16(info.Key))
		if req == nil {
			t.Logf("kmsg has no %s", info.Name)
			continue
		}
		if req.MaxVersion() != info.Max {
			t.Logf("%s: kmsg goes to version %d, Kafka to %d", info.Name, req.MaxVersion(), info.Max)
		}
		for version := info.Min; version <= min(info.Max, req.MaxVersion()); version++ {
			for range rounds {
				compare(t, rng, info.Name+"Request", version, info.Flexible(version),
					func() oracle { return kmsg.RequestForKey(int16(info.Key)) }, func() wire.Message { return info.NewRequest() })
				compare(t, rng, info.Name+"Response", version, info.Flexible(version),
					func() oracle { return kmsg.ResponseForKey(int16(info.Key)) }, func() wire.Message { return info.NewResponse() })
				compared += 2
			}
			if t.Failed() {
				break
			}
		}
	}
	t.Logf("%d messages, both ways", compared)
}

func compare(t *testing.T, rng *rand.Rand, name string, version int16, flexible bool, theirs func() oracle, ours func() wire.Message) {
	t.Helper()
	f := filler{Rand: rng, tags: flexible}
	for _, s := range since {
		if s.message == name && version < s.version {
			f.skip = append(f.skip, s.field)
		}
	}
	// kmsg -> us -> the same bytes.
	k := theirs()
	f.fill(reflect.ValueOf(k).Elem(), 0)
	k.SetVersion(version)
	if k.IsFlexible() != flexible {
		t.Errorf("%s %d: kmsg says flexible: %t", name, version, k.IsFlexible())
	}
	frame := k.AppendTo(nil)
	m := ours()
	r := wire.NewReader(frame, wire.NewBudget(len(frame), nil))
	m.Decode(r, version)
	if err := r.Finish(); err != nil {
		t.Errorf("%s %d: %v\n%s", name, version, err, show(k))
		return
	}
	if again := wire.Marshal(m, version); !bytes.Equal(again, frame) {
		t.Errorf("%s %d: decoded and encoded again\n%x, want\n%x\n%s", name, version, again, frame, show(k))
		return
	}
	// us -> kmsg -> the same bytes.
	m = ours()
	f.skip = nil
	f.fill(reflect.ValueOf(m).Elem(), 0)
	frame = wire.Marshal(m, version)
	k = theirs()
	k.SetVersion(version)
	if err := k.ReadFrom(frame); err != nil {
		t.Errorf("%s %d: kmsg cannot read ours: %v\n%x\n%s", name, version, err, frame, show(m))
		return
	}
	if again := k.AppendTo(nil); !bytes.Equal(again, frame) {
		t.Errorf("%s %d: kmsg wrote\n%x, we wrote\n%x\n%s", name, version, again, frame, show(m))
	}
}

func show(v any) string {
	s := fmt.Sprintf("%+v", v)
	if len(s) > 2000 {
		s = s[:2000]
	}
	return s
}

// TestRecordsAgreeWithKmsg does the same for the record payloads that kmsg has. Its structs begin with their version.
func TestRecordsAgreeWithKmsg(t *testing.T) {
	rng := random(t)
	type record interface {
		AppendTo([]byte) []byte
		ReadFrom([]byte) error
	}
	for _, c := range []struct {
		theirs func() record
		ours   func() wire.Message
		// bare says that our message has the version as a field.
		bare   bool
		lo, hi int16
	}{
		{func() record { return new(kmsg.OffsetCommitKey) }, func() wire.Message { return new(logrec.OffsetCommitKey) }, false, 0, 0},
		{func() record { return new(kmsg.OffsetCommitValue) }, func() wire.Message { return new(logrec.OffsetCommitValue) }, false, 0, 4},
		{func() record { return new(kmsg.GroupMetadataKey) }, func() wire.Message { return new(logrec.GroupMetadataKey) }, false, 0, 0},
		{func() record { return new(kmsg.GroupMetadataValue) }, func() wire.Message { return new(logrec.GroupMetadataValue) }, false, 0, 4},
		{func() record { return new(kmsg.TxnMetadataKey) }, func() wire.Message { return new(logrec.TransactionLogKey) }, false, 0, 0},
		{func() record { return new(kmsg.TxnMetadataValue) }, func() wire.Message { return new(logrec.TransactionLogValue) }, false, 0, 1},
		{func() record { return new(kmsg.ConsumerMemberMetadata) }, func() wire.Message { return new(logrec.ConsumerProtocolSubscription) }, false, 0, 3},
		{func() record { return new(kmsg.ConsumerMemberAssignment) }, func() wire.Message { return new(logrec.ConsumerProtocolAssignment) }, false, 0, 3},
		{func() record { return new(kmsg.ControlRecordKey) }, func() wire.Message { return new(logrec.ControlRecordTypeSchema) }, false, 0, 0},
		{func() record { return new(kmsg.EndTxnMarker) }, func() wire.Message { return new(logrec.EndTxnMarker) }, false, 0, 0},
		{func() record { return new(kmsg.LeaderChangeMessage) }, func() wire.Message { return new(logrec.LeaderChangeMessage) }, true, 0, 1},
	} {
		for v := c.lo; v <= c.hi; v++ {
			for range 50 {
				k := c.theirs()
				s := reflect.ValueOf(k).Elem()
				filler{Rand: rng, tags: true}.fill(s, 0)
				s.FieldByName("Version").SetInt(int64(v))
				frame := k.AppendTo(nil)
				body := frame
				if !c.bare {
					body = frame[2:]
				}
				m := c.ours()
				if err := wire.Unmarshal(body, m, v); err != nil {
					t.Fatalf("%T %d: %v\n%s", m, v, err, show(k))
				}
				again := wire.Marshal(m, v)
				if !bytes.Equal(again, body) {
					t.Fatalf("%T %d: decoded and encoded again\n%x, want\n%x\n%s", m, v, again, body, show(k))
				}
				k = c.theirs()
				if err := k.ReadFrom(append(frame[:len(frame)-len(body)], again...)); err != nil || !bytes.Equal(k.AppendTo(nil), frame) {
					t.Fatalf("%T %d: kmsg: %v", m, v, err)
				}
			}
		}
	}
}

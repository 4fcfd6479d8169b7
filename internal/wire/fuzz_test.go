package wire_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// check decodes body as k at a version derived from version, and holds what comes out to the rules: within the budget; what was
// accepted can be written, read back and written again as the same bytes; cut short it is refused or means the same.
func (k kind) check(t *testing.T, version int16, body []byte) {
	v := k.lo + int16(uint16(version)%uint16(k.hi-k.lo+1))
	var b wire.Budget
	b.Start(len(body), nil)
	r := wire.NewReader(body, &b)
	m := k.make()
	m.Decode(r, v)
	if limit := int64(len(body)*wire.BudgetFactor + wire.BudgetFloor); b.Used() > limit {
		t.Fatalf("%s %d: charged %d of %d", k.name, v, b.Used(), limit)
	}
	if r.Err() != nil {
		if r.Remaining() != 0 || r.Int64() != 0 {
			t.Fatal("reading went on after an error")
		}
		return
	}
	var w wire.Writer
	m.Encode(&w, v)
	first, err := w.AppendTo(nil)
	if errors.Is(err, wire.ErrTooLong) { // replaced characters made a string longer than it may be
		return
	}
	if err != nil {
		t.Fatalf("%s %d: %v", k.name, v, err)
	}
	again := k.make()
	if err := wire.Unmarshal(first, again, v); err != nil {
		t.Fatalf("%s %d: cannot read what was written: %v\n%x", k.name, v, err, first)
	}
	if second := wire.Marshal(again, v); !bytes.Equal(first, second) {
		t.Fatalf("%s %d: written as\n%x, read and written as\n%x", k.name, v, first, second)
	}
}

// seeds adds a random and an empty message of each kind at its lowest and highest version. The source is fixed: a fuzz target's
// seeds must be the same each time.
func seeds(f *testing.F, list []kind) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i, k := range list {
		for _, v := range []int16{k.lo, k.hi} {
			m := k.make()
			f.Add(int16(i), v-k.lo, wire.Marshal(m, v))
			filler{Rand: rng, tags: k.flexible >= 0 && v >= k.flexible}.fill(reflect.ValueOf(m).Elem(), 0)
			f.Add(int16(i), v-k.lo, wire.Marshal(m, v))
		}
	}
}

// family makes a fuzz target of the kinds that want picks.
func family(f *testing.F, want func(kind) bool) {
	var list []kind
	for _, k := range kinds() {
		if want(k) {
			list = append(list, k)
		}
	}
	if len(list) == 0 {
		f.Fatal("an empty family")
	}
	seeds(f, list)
	f.Fuzz(func(t *testing.T, which, version int16, body []byte) {
		list[int(uint16(which))%len(list)].check(t, version, body)
	})
}

func isAPI(k kind) bool {
	switch k.make().(type) {
	case wire.Request:
		return true
	}
	return false
}

func FuzzRequest(f *testing.F) {
	family(f, func(k kind) bool { return isAPI(k) && strings.HasSuffix(k.name, "Request") })
}

func FuzzResponse(f *testing.F) {
	family(f, func(k kind) bool { return isAPI(k) && strings.HasSuffix(k.name, "Response") })
}

// FuzzRecordStruct covers the record payloads and the other versioned structs without their frames.
func FuzzRecordStruct(f *testing.F) {
	family(f, func(k kind) bool { return !isAPI(k) && !strings.HasSuffix(k.name, "Header") })
}

// FuzzHeader reads request headers as a broker does, from a frame's first bytes, and response headers.
func FuzzHeader(f *testing.F) {
	client := "client"
	for _, i := range api.Table() {
		h := &wire.RequestHeader{RequestApiKey: int16(i.Key), RequestApiVersion: i.Max, CorrelationID: 1, ClientID: &client}
		f.Add(wire.Marshal(h, i.RequestHeaderVersion(i.Max)))
	}
	f.Add([]byte{0, 18, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, frame []byte) {
		r := wire.NewReader(frame, wire.NewBudget(len(frame), nil))
		h, info, err := api.ReadRequestHeader(r)
		if err == nil {
			v := info.RequestHeaderVersion(h.RequestApiVersion)
			kind{"RequestHeader", v, v, 2, func() wire.Message { return new(wire.RequestHeader) }}.check(t, v, frame)
		}
		kind{"ResponseHeader", 0, 1, 1, func() wire.Message { return new(wire.ResponseHeader) }}.check(t, int16(len(frame)%2), frame)
	})
}

// FuzzMetadataRecord reads framed records of the metadata log and of the remote log metadata topic.
func FuzzMetadataRecord(f *testing.F) {
	for _, m := range logrec.Forms() {
		if rec, ok := m.New().(logrec.Record); ok && !strings.HasSuffix(m.Name, "Key") && !strings.HasSuffix(m.Name, "Value") {
			f.Add(logrec.EncodeMetadata(rec, m.Max))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if rec, v, err := logrec.DecodeMetadata(b); err == nil {
			reframe(t, rec, v, func(b []byte) (logrec.Record, int16, error) { return logrec.DecodeMetadata(b) })
		}
		if rec, v, err := logrec.DecodeTier(b); err == nil {
			reframe(t, rec, v, func(b []byte) (logrec.Record, int16, error) { return logrec.DecodeTier(b) })
		}
	})
}

func reframe(t *testing.T, rec logrec.Record, v int16, decode func([]byte) (logrec.Record, int16, error)) {
	first, err := logrec.AppendMetadata(nil, rec, v)
	if errors.Is(err, wire.ErrTooLong) {
		return
	}
	again, _, err2 := decode(first)
	if err != nil || err2 != nil {
		t.Fatalf("%T %d: %v, %v", rec, v, err, err2)
	}
	if second := logrec.EncodeMetadata(again, v); !bytes.Equal(first, second) {
		t.Fatalf("%T %d: %x, then %x", rec, v, first, second)
	}
}

// FuzzGroupRecord, FuzzTxnRecord and FuzzShareRecord read keys and values of the coordinators' logs.
func FuzzGroupRecord(f *testing.F) { pairs(f, 1, logrec.DecodeGroup) }
func FuzzTxnRecord(f *testing.F)   { pairs(f, 2, logrec.DecodeTxn) }
func FuzzShareRecord(f *testing.F) { pairs(f, 3, logrec.DecodeShare) }

func pairs(f *testing.F, seed uint64, decode func(k, v []byte) (logrec.Key, logrec.Value, error)) {
	rng := rand.New(rand.NewPCG(seed, 0))
	forms := logrec.Forms()
	for i, m := range forms {
		k, ok := m.New().(logrec.Key)
		if !ok || !strings.HasSuffix(m.Name, "Key") {
			continue
		}
		filler{Rand: rng}.fill(reflect.ValueOf(k).Elem(), 0)
		value := forms[i+1] // a value follows its key
		for v := value.Min; v <= value.Max; v++ {
			x := value.New()
			filler{Rand: rng}.fill(reflect.ValueOf(x).Elem(), 0)
			f.Add(logrec.EncodeGroupKey(k), logrec.EncodeVersioned(x, v))
		}
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		k, v, err := decode(key, value)
		if err != nil {
			if k != nil || v != nil {
				t.Fatal("half a record with an error")
			}
			return
		}
		var w wire.Writer
		k.Encode(&w, 0)
		if again, err := w.AppendTo(nil); err == nil && len(again) > len(key)*3 {
			t.Fatalf("a key of %d bytes was written as %d", len(key), len(again))
		}
		if v == nil && value != nil {
			t.Fatal("a value was lost")
		}
	})
}

// FuzzControlRecord reads what control batches and transaction indexes carry.
func FuzzControlRecord(f *testing.F) {
	family(f, func(k kind) bool {
		switch k.make().(type) {
		case *logrec.ControlRecordTypeSchema, *logrec.EndTxnMarker, *logrec.LeaderChangeMessage, *logrec.SnapshotHeaderRecord,
			*logrec.SnapshotFooterRecord, *logrec.KRaftVersionRecord, *logrec.VotersRecord, *logrec.AbortedTxn, *logrec.ProducerSnapshot:
			return true
		}
		return false
	})
}

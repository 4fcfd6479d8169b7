package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVarints(t *testing.T) {
	for _, c := range []struct {
		hex   string
		value uint32
		bad   bool
	}{
		{"00", 0, false}, {"7f", 127, false}, {"8001", 128, false}, {"ffffffff0f", math.MaxUint32, false},
		{"8080808000", 0, false},                   // longer than need be
		{"ffffffff7f", math.MaxUint32, false},      // bits above 32 are dropped, as in Kafka
		{"ffffffffff00", 0, true}, {"80", 0, true}, // a sixth byte; the end
		{"", 0, true},
	} {
		r := wire.NewReader(unhex(t, c.hex), nil)
		if v := r.Uvarint(); v != c.value || r.Failed() != c.bad || r.Remaining() != 0 {
			t.Errorf("%s: %d, %v, %d left", c.hex, v, r.Err(), r.Remaining())
		}
	}
	for _, v := range []int32{0, -1, 1, 63, -64, 64, math.MaxInt32, math.MinInt32} {
		var w wire.Writer
		w.Varint(v)
		w.Varlong(int64(v) << 20)
		b, _ := w.AppendTo(nil)
		r := wire.NewReader(b, nil)
		if a, b := r.Varint(), r.Varlong(); a != v || b != int64(v)<<20 || r.Finish() != nil {
			t.Errorf("%d came back as %d, %d (%v)", v, a, b, r.Err())
		}
	}
}

func TestPrimitives(t *testing.T) {
	var w wire.Writer
	text := "día"
	uuid := id.UUID{1, 15: 2}
	w.Bool(true)
	w.Int8(-2)
	w.Int16(-3)
	w.Uint16(65535)
	w.Int32(-4)
	w.Uint32(math.MaxUint32)
	w.Int64(math.MinInt64)
	w.Float64(1.5)
	w.UUID(uuid)
	for _, flex := range []bool{false, true} {
		w.String(flex, text)
		w.NullString(flex, true, nil)
		w.NullString(flex, false, nil)
		w.Bytes(flex, true, nil)
		w.Bytes(flex, false, nil)
		w.Strings(flex, true, []string{"", text})
		w.ByteSlices(flex, false, [][]byte{{}, {1}})
		w.UUIDs(flex, true, []id.UUID{uuid})
		w.Int16s(flex, true, []int16{-1})
		w.Int64s(flex, true, nil)
	}
	b, err := w.AppendTo(nil)
	if err != nil || w.Size() != len(b) {
		t.Fatal(err)
	}
	r := wire.NewReader(b, wire.NewBudget(len(b), nil))
	if !r.Bool() || r.Int8() != -2 || r.Int16() != -3 || r.Uint16() != 65535 || r.Int32() != -4 || r.Uint32() != math.MaxUint32 ||
		r.Int64() != math.MinInt64 || r.Float64() != 1.5 || r.UUID() != uuid {
		t.Error("fixed-size values differ")
	}
	for _, flex := range []bool{false, true} {
		if s := r.String(flex); s != text {
			t.Errorf("string %q", s)
		}
		if s := r.NullString(flex, true); s != nil {
			t.Errorf("null string %q", *s)
		}
		if s := r.NullString(flex, true); s == nil || *s != "" {
			t.Error("empty string lost")
		}
		if b := r.Bytes(flex, true); b != nil {
			t.Errorf("null bytes %v", b)
		}
		if b := r.Bytes(flex, true); b == nil || len(b) != 0 {
			t.Error("empty bytes lost")
		}
		if d := cmp.Diff([]string{"", text}, r.Strings(flex, false)); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([][]byte{{}, {1}}, r.ByteSlices(flex, false)); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]id.UUID{uuid}, r.UUIDs(flex, false)); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]int16{-1}, r.Int16s(flex, false)); d != "" {
			t.Error(d)
		}
		if a := r.Int64s(flex, true); a != nil {
			t.Error("null array lost")
		}
	}
	if err := r.Finish(); err != nil {
		t.Error(err)
	}
}

func TestReaderStopsAtFirstError(t *testing.T) {
	r := wire.NewReader([]byte{0, 1}, nil)
	r.Int32()
	first := r.Err()
	if !errors.Is(first, wire.ErrMalformed) || r.Remaining() != 0 {
		t.Fatalf("%v, %d left", first, r.Remaining())
	}
	// Nothing is read any more, and nothing replaces the error.
	if r.Int8() != 0 || r.String(true) != "" || r.Strings(false, false) != nil || r.UUID() != (id.UUID{}) || r.Err() != first {
		t.Error("reading went on")
	}
	if err := wire.Unmarshal([]byte{0, 0, 0, 0, 9}, wire.NewResponseHeader(), 0); !errors.Is(err, wire.ErrTrailing) || !errors.Is(err, wire.ErrMalformed) {
		t.Error(err)
	}
	if err := wire.Unmarshal(nil, wire.NewRequestHeader(), 0); !errors.Is(err, wire.ErrVersion) {
		t.Error(err)
	}
}

// TestInvalidText holds the replacement of invalid UTF-8 against what Java makes of it.
func TestInvalidText(t *testing.T) {
	const x = "\uFFFD"
	for in, want := range map[string]string{
		"\x80": x, "a\xff\xfeb": "a" + x + x + "b", "\xc0\xaf": x + x, "\xc3x": x + "x", "\xe2\x82": x, "\xe2\x82x": x + "x",
		"\xed\xa0\x80": x, "\xed\xa0x": x + "x", "\xed\xa0": x, "\xe0\x80\x80": x + x + x, "\xf0\x90\x80x": x + "x", "\xf0\x90": x,
		"\xf4\x90\x80\x80": x + x + x + x, "\xf5\x80": x + x, "\uFFFD\x80": x + x, "é\x80é": "é" + x + "é",
	} {
		var w wire.Writer
		w.String(true, in)
		b, _ := w.AppendTo(nil)
		if got := wire.NewReader(b, nil).String(true); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// span is content by reference, as a range of a file would be.
type span string

func (s span) Size() int { return len(s) }

// file is a span that can be copied.
type file struct{ span }

func (f file) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, string(f.span))
	return int64(n), err
}

func TestChunks(t *testing.T) {
	big := bytes.Repeat([]byte("records."), 1000)
	m := &api.FetchResponse{Responses: []api.FetchResponseResponse{{Partitions: []api.FetchResponseResponsePartition{
		{Records: wire.Records{Bytes: []byte("few")}, DivergingEpoch: api.FetchResponseResponsePartitionDivergingEpoch{Epoch: 3}},
		{Records: wire.Records{Bytes: big}, DivergingEpoch: api.FetchResponseResponsePartitionDivergingEpoch{Epoch: 3}},
		{Records: wire.Records{Section: file{span(big)}}},
		{Records: wire.Records{Section: file{""}}},
		{},
	}}}}
	var w wire.Writer
	m.Encode(&w, 12)
	var joined []byte
	var referenced int
	for _, c := range w.Chunks() {
		switch {
		case c.Section != nil:
			joined = append(joined, c.Section.(file).span...)
			referenced++
		default:
			if &c.Bytes[0] == &big[0] {
				referenced++
			}
			joined = append(joined, c.Bytes...)
		}
		if c.Size() == 0 {
			t.Error("an empty chunk")
		}
	}
	if referenced != 2 {
		t.Errorf("%d pieces went by reference, want 2", referenced)
	}
	if len(joined) != w.Size() {
		t.Errorf("%d bytes in chunks, size says %d", len(joined), w.Size())
	}
	whole, err := w.AppendTo([]byte("x"))
	if err != nil || !bytes.Equal(whole[1:], joined) {
		t.Errorf("copied differently: %v", err)
	}
	if !bytes.Equal(wire.Marshal(m, 12), joined) {
		t.Error("marshalled differently")
	}
	var got api.FetchResponse
	if err := wire.Unmarshal(joined, &got, 12); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"few", string(big), string(big), "", ""} {
		p := got.Responses[0].Partitions[i]
		if string(p.Records.Bytes) != want || p.Records.IsNull() != (i == 4) {
			t.Errorf("partition %d: %d bytes, null %t", i, len(p.Records.Bytes), p.Records.IsNull())
		}
	}
	// A section that cannot be copied can still be sent.
	m.Responses[0].Partitions[2].Records.Section = span(big)
	w.Reset()
	if m.Encode(&w, 12); w.Size() != len(joined) || w.Err() != nil {
		t.Errorf("%d bytes, %v", w.Size(), w.Err())
	}
	if _, err := w.AppendTo(nil); !errors.Is(err, wire.ErrSection) {
		t.Error(err)
	}
}

func TestWriterErrors(t *testing.T) {
	var w wire.Writer
	for _, flex := range []bool{false, true} {
		w.Reset()
		if w.String(flex, strings.Repeat("x", 32767)); w.Err() != nil {
			t.Error(w.Err())
		}
		if w.String(flex, strings.Repeat("x", 32768)); !errors.Is(w.Err(), wire.ErrTooLong) {
			t.Error(w.Err())
		}
		if b, err := w.AppendTo(nil); b != nil || err == nil {
			t.Error("content in spite of the error")
		}
	}
	w.Reset()
	if new(api.ProduceRequest).Encode(&w, 2); !errors.Is(w.Err(), wire.ErrVersion) {
		t.Error(w.Err())
	}
}

func TestErrorCodes(t *testing.T) {
	if c := wire.ErrNotLeaderOrFollower; c != 6 || c.Name() != "NOT_LEADER_OR_FOLLOWER" || !c.Retriable() || !strings.HasPrefix(c.Message(), "For requests intended only for the leader") {
		t.Error(c)
	}
	if c := wire.ErrControllerIDNotRegistered; c != 136 || c.Retriable() {
		t.Error(c)
	}
	if c := wire.ErrUnknownServerError; c != -1 || c.Retriable() || c.Err() == nil {
		t.Error(c)
	}
	if c := wire.ErrNone; c.Message() != "NONE" || c.Err() != nil {
		t.Error(c)
	}
	for _, c := range []wire.ErrorCode{-2, 137, math.MaxInt16, math.MinInt16} {
		if c.Name() == "" || c.Retriable() || c.Message() != wire.ErrUnknownServerError.Message() {
			t.Errorf("%d: %v", int16(c), c)
		}
	}
	var code wire.ErrorCode
	if !errors.As(wrapped{wire.ErrUnknownTopicID.Err()}, &code) || code != wire.ErrUnknownTopicID {
		t.Error("a wrapped code is not found")
	}
	if wire.ListOffsets.String() != "ListOffsets" || wire.APIKey(5).String() != "API 5" || wire.APIKey(-1).String() != "API -1" || wire.APIKey(999).String() != "API 999" {
		t.Error("names of API keys")
	}
}

type wrapped struct{ error }

func (w wrapped) Unwrap() error { return w.error }

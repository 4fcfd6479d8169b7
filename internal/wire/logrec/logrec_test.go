package logrec_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

func TestMetadataFrame(t *testing.T) {
	rec := &logrec.TopicRecord{Name: "foo", TopicID: id.UUID{15: 1}}
	b := logrec.EncodeMetadata(rec, 0)
	// Frame 1, type 2, version 0, "foo", uuid, no tags: what DumpLogSegments shows for such a record.
	if got, want := hex.EncodeToString(b), "01020004666f6f"+"00000000000000000000000000000001"+"00"; got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	got, version, err := logrec.DecodeMetadata(b)
	if d := cmp.Diff(logrec.MetadataRecord(rec), got); d != "" || version != 0 || err != nil {
		t.Error(d, version, err)
	}
	for _, c := range []struct {
		what string
		b    []byte
		err  error
	}{
		{"empty", nil, wire.ErrMalformed},
		{"frame 0", append([]byte{0}, b[1:]...), wire.ErrMalformed},
		{"frame 2", append([]byte{2}, b[1:]...), wire.ErrMalformed},
		{"unknown type", append([]byte{1, 99}, b[2:]...), logrec.ErrUnknownType},
		{"type too large", append([]byte{1, 0x80, 0x80, 0x02}, b[2:]...), wire.ErrMalformed},
		{"unknown version", append([]byte{1, 2, 1}, b[3:]...), wire.ErrVersion},
		{"cut", b[:len(b)-1], wire.ErrMalformed},
		{"garbage behind", append(bytes.Clone(b), 0), wire.ErrTrailing},
	} {
		if rec, _, err := logrec.DecodeMetadata(c.b); !errors.Is(err, c.err) || rec != nil {
			t.Errorf("%s: %v, %v", c.what, rec, err)
		}
	}
}

func TestCoordinatorRecords(t *testing.T) {
	key := &logrec.OffsetCommitKey{Group: "g", Topic: "t", Partition: 3}
	k := logrec.EncodeGroupKey(key)
	if got := hex.EncodeToString(k); got != "0001"+"000167"+"000174"+"00000003" {
		t.Fatal(got)
	}
	value := &logrec.OffsetCommitValue{Offset: 9, LeaderEpoch: -1, Metadata: "m", CommitTimestamp: 5, ExpireTimestamp: -1}
	v := logrec.EncodeVersioned(value, 3)
	if got := hex.EncodeToString(v); got != "0003"+"0000000000000009"+"ffffffff"+"00016d"+"0000000000000005" {
		t.Fatal(got)
	}
	gotKey, gotValue, err := logrec.DecodeGroup(k, v)
	if d := cmp.Diff([]any{key, value}, []any{gotKey, gotValue}); d != "" || err != nil {
		t.Error(d, err)
	}
	gotKey, gotValue, err = logrec.DecodeGroup(k, nil)
	if d := cmp.Diff(logrec.Key(key), gotKey); d != "" || gotValue != nil || err != nil {
		t.Error("tombstone:", d, gotValue, err)
	}
	if _, _, err := logrec.DecodeGroup([]byte{0, 99}, v); !errors.Is(err, logrec.ErrUnknownType) {
		t.Error(err)
	}
	if _, _, err := logrec.DecodeGroup(k, []byte{0, 77}); !errors.Is(err, wire.ErrVersion) {
		t.Error(err)
	}
	if _, _, err := logrec.DecodeGroup(k, []byte{255, 255}); !errors.Is(err, wire.ErrVersion) {
		t.Error(err)
	}
	// A value of no bytes is no tombstone.
	if _, _, err := logrec.DecodeGroup(k, []byte{}); !errors.Is(err, wire.ErrMalformed) {
		t.Error(err)
	}
	if _, _, err := logrec.DecodeGroup(k, v[:len(v)-1]); !errors.Is(err, wire.ErrMalformed) {
		t.Error(err)
	}
	if _, _, err := logrec.DecodeGroup(k[:1], v); !errors.Is(err, wire.ErrMalformed) {
		t.Error(err)
	}
	txn := &logrec.TransactionLogKey{TransactionalID: "x"}
	if got, _, err := logrec.DecodeTxn(logrec.EncodeGroupKey(txn), nil); err != nil || cmp.Diff(logrec.Key(txn), got) != "" {
		t.Error(got, err)
	}
	share := &logrec.ShareUpdateKey{GroupID: "g", Partition: 1}
	if got, _, err := logrec.DecodeShare(logrec.EncodeGroupKey(share), nil); err != nil || cmp.Diff(logrec.Key(share), got) != "" {
		t.Error(got, err)
	}
}

func TestForms(t *testing.T) {
	for _, f := range logrec.Forms() {
		m := f.New()
		for v := f.Min; v <= f.Max; v++ {
			b := logrec.EncodeVersioned(m, v)
			got := f.New()
			if version, err := logrec.DecodeVersioned(append(b, 1, 2, 3), got); version != v || err != nil {
				t.Errorf("%s %d: %d, %v", f.Name, v, version, err)
			}
			if again := logrec.EncodeVersioned(got, v); !bytes.Equal(again, b) {
				t.Errorf("%s %d: %x, want %x", f.Name, v, again, b)
			}
		}
		for _, v := range []int16{f.Min - 1, f.Max + 1} {
			r := wire.NewReader(make([]byte, 1000), nil)
			if f.New().Decode(r, v); !errors.Is(r.Err(), wire.ErrVersion) {
				t.Errorf("%s %d: %v", f.Name, v, r.Err())
			}
		}
	}
}

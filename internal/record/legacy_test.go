package record

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
)

// legacyFiles are segments that kafka-clients 2.1.1 built (test/disk/testdata/OldRecords.java), by format, codec and kind of timestamp.
func legacyFiles(t testing.TB) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/legacy-*.hex")
	if err != nil || len(names) != 8 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	out := map[string][]byte{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "legacy-"), ".hex")] = b
	}
	return out
}

// TestLegacyFromJava reads every record of the old formats as it was written: absolute offsets with gaps, timestamps, nulls.
func TestLegacyFromJava(t *testing.T) {
	const start = 1700000000000
	for name, b := range legacyFiles(t) {
		part := strings.Split(name, "-")
		var want []Record
		offset := id.Offset(0)
		for batch := range 12 {
			for i := range 7 {
				r := Record{Offset: offset, TimestampMs: start + int64(1000*batch+i*37%100)}
				switch {
				case part[0] == "0":
					r.TimestampMs = NoTimestamp
				case part[2] == "append":
					r.TimestampMs = start + int64(1000*batch+500)
				}
				if i != 3 {
					r.Key = fmt.Appendf(nil, "key-%d", offset%5)
				}
				if i != 5 {
					r.Value = fmt.Appendf(nil, "value old-%s %d %s", name, offset, strings.Repeat("lorem ipsum ", batch))
				}
				want = append(want, r)
				if offset++; batch%4 == 3 && i%2 == 0 {
					offset++
				}
			}
		}
		entries := 0
		for len(b) > 0 {
			var e Legacy
			var err error
			if e, b, err = NextLegacy(b); err != nil || e.CheckCRC() != nil {
				t.Fatalf("%s: %v, %v", name, err, e.CheckCRC())
			}
			if e.Codec().String() != part[1] || fmt.Sprint(e.Magic()) != part[0] || e.LogAppendTime() != (part[2] == "append") {
				t.Fatalf("%s: codec %v, magic %d, append time %v", name, e.Codec(), e.Magic(), e.LogAppendTime())
			}
			entries++
			it := e.Records(1 << 20)
			var r Record
			most := int64(NoTimestamp)
			for it.Next(&r) {
				if len(want) == 0 {
					t.Fatalf("%s: too many records", name)
				}
				w := want[0]
				want = want[1:]
				if r.Offset != w.Offset || r.TimestampMs != w.TimestampMs || string(r.Key) != string(w.Key) || string(r.Value) != string(w.Value) ||
					(r.Key == nil) != (w.Key == nil) || (r.Value == nil) != (w.Value == nil) || r.HeaderCount != 0 || r.Sequence != NoSequence {
					t.Fatalf("%s: %d ts %d %q %q, want %d ts %d %q %q", name, r.Offset, r.TimestampMs, r.Key, r.Value, w.Offset, w.TimestampMs, w.Key, w.Value)
				}
				most = max(most, r.TimestampMs)
			}
			if it.Err() != nil || r.Offset != e.Offset() || most != e.TimestampMs() {
				t.Fatalf("%s: %v; last record %d, entry %d; largest timestamp %d, entry %d", name, it.Err(), r.Offset, e.Offset(), most, e.TimestampMs())
			}
			it.Close()
		}
		if wantEntries := map[bool]int{true: 84, false: 12}[part[1] == "none"]; entries != wantEntries || len(want) != 0 {
			t.Errorf("%s: %d entries, %d records missing", name, entries, len(want))
		}
	}
}

// TestLegacyZeroWrapper: a wrapper at offset 0 whose records count from 0 has the records' own offsets.
func TestLegacyZeroWrapper(t *testing.T) {
	e, _, err := NextLegacy(legacyFiles(t)["1-gzip-create"])
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint64(e, 0)
	it := e.Records(1 << 20)
	defer it.Close()
	var r Record
	for n := id.Offset(0); it.Next(&r); n++ {
		if r.Offset != n {
			t.Errorf("record %d at %d", n, r.Offset)
		}
	}
	if it.Err() != nil {
		t.Error(it.Err())
	}
}

// legacyEntry builds one entry.
func legacyEntry(magic int8, attributes byte, offset id.Offset, value []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(offset))
	b = append(b, make([]byte, 8)...)
	b = append(b, byte(magic), attributes)
	if magic == 1 {
		b = binary.BigEndian.AppendUint64(b, 1000)
	}
	b = binary.BigEndian.AppendUint32(b, 0xffffffff)
	if value == nil {
		b = binary.BigEndian.AppendUint32(b, 0xffffffff)
	} else {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...)
	}
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], Legacy(b).ComputeCRC())
	return b
}

func TestLegacyRefused(t *testing.T) {
	gz := func(parts ...[]byte) []byte {
		var all []byte
		for _, p := range parts {
			all = append(all, p...)
		}
		out, err := compress(nil, all, Compression{Codec: Gzip})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	plain := legacyEntry(1, 0, 5, []byte("v"))
	for name, c := range map[string]struct {
		entry []byte
		limit int
		want  string
	}{
		"no value":         {legacyEntry(1, 1, 5, nil), 1 << 20, "null value"},
		"nothing in it":    {legacyEntry(1, 1, 5, gz()), 1 << 20, "no inner records"},
		"zstd":             {legacyEntry(1, 4, 5, []byte("x")), 1 << 20, "compression zstd"},
		"unknown codec":    {legacyEntry(0, 7, 5, []byte("x")), 1 << 20, "compression"},
		"nested":           {legacyEntry(1, 1, 9, gz(legacyEntry(1, 1, 3, gz(plain)))), 1 << 20, "must not be compressed"},
		"offset too small": {legacyEntry(1, 1, 4, gz(plain)), 1 << 20, "invalid wrapper offset"},
		"not gzip":         {legacyEntry(0, 1, 4, []byte("this is not gzip at all")), 1 << 20, "decompress"},
		"too large":        {legacyEntry(0, 1, 4, gz(legacyEntry(0, 0, 4, make([]byte, 4096)))), 1024, "more than 1024 bytes"},
		"magic 2 in it":    {legacyEntry(0, 1, 4, gz(append(append(make([]byte, 8), 0, 0, 0, 60, 0, 0, 0, 0, 2), make([]byte, 60)...))), 1 << 20, "Invalid magic"},
	} {
		e, _, err := NextLegacy(c.entry)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		it := e.Records(c.limit)
		var r Record
		for it.Next(&r) {
		}
		it.Close()
		if it.Err() == nil || !strings.Contains(it.Err().Error(), c.want) {
			t.Errorf("%s: %v", name, it.Err())
		}
	}
	for name, b := range map[string][]byte{"magic 2": append(append(make([]byte, 8), 0, 0, 0, 60, 0, 0, 0, 0, 2), make([]byte, 60)...),
		"short format 1": {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}} {
		if _, _, err := NextLegacy(b); !errors.As(err, new(*CorruptError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A value longer than the entry.
	e := Legacy(legacyEntry(0, 0, 5, []byte("v")))
	binary.BigEndian.PutUint32(e[22:], 1000)
	it := e.Records(100)
	if var0 := new(Record); it.Next(var0) || it.Err() == nil {
		t.Error("a value beyond the entry's end is read")
	}
}

// TestLegacyDamaged flips bits: the CRC tells, and reading without asking it never panics nor runs on.
func TestLegacyDamaged(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seed.Of(t), 0))
	files := legacyFiles(t)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		file := files[name]
		for range 300 {
			e, _, err := NextLegacy(file)
			if err != nil {
				t.Fatal(err)
			}
			b := append([]byte(nil), e...)
			at := 12 + rnd.IntN(len(b)-12)
			b[at] ^= 1 << rnd.IntN(8)
			if bad, _, err := NextLegacy(b); err == nil {
				if bad.CheckCRC() == nil {
					t.Fatalf("%s: a flipped bit at %d is not noticed", name, at)
				}
				drain(bad)
			}
		}
	}
}

func drain(e Legacy) (n int) {
	it := e.Records(1 << 16)
	defer it.Close()
	var r Record
	for it.Next(&r) {
		n++
	}
	return n
}

func FuzzLegacy(f *testing.F) {
	for _, b := range legacyFiles(f) {
		f.Add(b[:min(len(b), 400)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, rest, err := NextLegacy(b)
		if err != nil {
			return
		}
		if len(e)+len(rest) != len(b) {
			t.Fatal("bytes are lost")
		}
		if n := drain(e); n > 1<<16 {
			t.Fatalf("%d records", n)
		}
	})
}

package record

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vectorFile reads a file of batches written by Apache Kafka's own record writers, kept beside the project.
func vectorFile(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile("../../../shared/reference/wire-vectors/records/" + name)
	if err != nil {
		t.Skipf("no wire vectors here: %v", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

type plan struct {
	Name    string
	Records []struct {
		Timestamp *int64
		Offset    *int64
		Key       []byte // base64; nil and empty differ
		Value     []byte
		Headers   []struct {
			Key   string
			Value []byte
		}
	}
}

// TestKafkaVectors reads every batch of the vectors, checks its CRC, and rebuilds it byte for byte.
func TestKafkaVectors(t *testing.T) {
	var vectors struct {
		Vectors []struct{ Name, Hex string }
	}
	vectorFile(t, "vectors.json", &vectors)
	if len(vectors.Vectors) == 0 {
		t.Fatal("no vectors in the file")
	}
	for _, v := range vectors.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			raw, err := hex.DecodeString(v.Hex)
			if err != nil {
				t.Fatal(err)
			}
			b, rest, err := Next(raw)
			if err != nil || len(rest) != 0 {
				t.Fatalf("Next: %d bytes left, %v", len(rest), err)
			}
			if err := b.CheckCRC(); err != nil {
				t.Fatal(err)
			}
			recs := collect(t, b)
			if len(recs) != int(b.Count()) {
				t.Fatalf("%d records, header says %d", len(recs), b.Count())
			}
			if b.Codec() != None && len(recs) > 0 {
				return // another compressor writes other bytes
			}
			o := Options{
				BaseOffset: b.BaseOffset(), LeaderEpoch: b.LeaderEpoch(), TimestampType: b.TimestampType(), LogAppendMs: b.MaxTimestamp(),
				ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(), BaseSequence: b.BaseSequence(),
				Transactional: b.IsTransactional(), Control: b.IsControl(),
			}
			if ms, ok := b.DeleteHorizonMs(); ok {
				o.DeleteHorizonMs = ms
			}
			if len(recs) == 0 {
				again := EmptyBatch(nil, o, b.LastOffset(), b.MaxTimestamp())
				if diff := cmp.Diff(raw, again); diff != "" {
					t.Fatal(diff)
				}
				return
			}
			if b.TimestampType() == LogAppendTime {
				return // the records' own timestamps cannot be read back
			}
			nb := NewBuilder(o)
			it := b.Records(testLimit)
			defer it.Close()
			for r := (Record{}); it.Next(&r); {
				if err := nb.AppendRecord(r.Offset, &r); err != nil {
					t.Fatal(err)
				}
			}
			again, err := nb.Build()
			if err != nil {
				t.Fatal(err)
			}
			if b.LastOffset() != again.LastOffset() {
				return // compaction removed the last record
			}
			if diff := cmp.Diff(raw, []byte(again)); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

// TestKafkaVectorContents compares the records of the vectors with the plans they were written from.
func TestKafkaVectorContents(t *testing.T) {
	var vectors struct {
		Vectors []struct{ Name, Hex string }
	}
	var plans struct{ Batches []plan }
	vectorFile(t, "vectors.json", &vectors)
	vectorFile(t, "plans.json", &plans)
	byName := map[string]plan{}
	for _, p := range plans.Batches {
		byName[p.Name] = p
	}
	checked := 0
	for _, v := range vectors.Vectors {
		p, ok := byName[v.Name]
		if !ok || Batch(mustHex(v.Hex)).IsControl() {
			continue // a control batch's plan names its type, not its bytes
		}
		raw, _ := hex.DecodeString(v.Hex)
		got := collect(t, Batch(raw))
		if len(got) != len(p.Records) {
			t.Errorf("%s: %d records, want %d", v.Name, len(got), len(p.Records))
			continue
		}
		for i, want := range p.Records {
			if diff := cmp.Diff(want.Key, got[i].Key); diff != "" {
				t.Errorf("%s, record %d, key: %s", v.Name, i, diff)
			}
			if diff := cmp.Diff(want.Value, got[i].Value); diff != "" {
				t.Errorf("%s, record %d, value: %s", v.Name, i, diff)
			}
			if len(want.Headers) != len(got[i].Headers) {
				t.Errorf("%s, record %d: %d headers, want %d", v.Name, i, len(got[i].Headers), len(want.Headers))
				continue
			}
			for j, h := range want.Headers {
				if string(got[i].Headers[j].Key) != h.Key || cmp.Diff(h.Value, got[i].Headers[j].Value) != "" {
					t.Errorf("%s, record %d, header %d: %q", v.Name, i, j, got[i].Headers[j])
				}
			}
		}
		checked++
	}
	if checked == 0 {
		t.Fatal("no vector has a plan")
	}
}

// TestForeignCompression reads batches that another implementation compressed and Kafka has read.
func TestForeignCompression(t *testing.T) {
	type rec struct {
		Key, Value *string
		Offset     int64
		Timestamp  int64
	}
	var file struct {
		Verified []struct {
			Name, Hex string
			Kafka     struct {
				Batches []struct {
					Compression string
					Records     []rec
				}
			}
		}
	}
	vectorFile(t, "verified.json", &file)
	for _, v := range file.Verified {
		raw, _ := hex.DecodeString(v.Hex)
		for _, want := range v.Kafka.Batches {
			var b Batch
			var err error
			if b, raw, err = Next(raw); err != nil {
				t.Fatalf("%s: %v", v.Name, err)
			}
			if b.Codec().String() != want.Compression {
				t.Errorf("%s: codec %s, want %s", v.Name, b.Codec(), want.Compression)
			}
			got := collect(t, b)
			if len(got) != len(want.Records) {
				t.Fatalf("%s: %d records, want %d", v.Name, len(got), len(want.Records))
			}
			for i, w := range want.Records {
				if got[i].Offset != w.Offset || got[i].TimestampMs != w.Timestamp || !sameHex(w.Key, got[i].Key) || !sameHex(w.Value, got[i].Value) {
					t.Errorf("%s, record %d: got %+v", v.Name, i, got[i])
				}
			}
		}
	}
}

func sameHex(want *string, got []byte) bool {
	if want == nil || got == nil {
		return want == nil && got == nil
	}
	return hex.EncodeToString(got) == *want
}

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

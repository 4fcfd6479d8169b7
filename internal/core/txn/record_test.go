package txn

import (
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
)

// unhex reads bytes that are written down in groups; "-" is none.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	if s == "-" {
		return nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The key of the transactional id "id".
const keyOfID = "0000 0002 6964"

// TestRecordsWritten: what the log gets at each level of transaction.version. Only version 1 has tags, and a tag is there if it
// says something. A transaction that is Empty has no list of partitions, one without partitions an empty one.
func TestRecordsWritten(t *testing.T) {
	preparing := &Transaction{ProducerID: 200, PreviousProducerID: 100, NextProducerID: 201, Epoch: 5, LastEpoch: 4, TimeoutMs: 1000, State: PrepareCommit,
		Partitions: []id.TopicPartition{{Topic: "t", Partition: 0}, {Topic: "t", Partition: 3}, {Topic: "u", Partition: 1}}, StartMs: 3000, UpdateMs: 4000, ClientVersion: 2}
	plain := &Transaction{ProducerID: 200, PreviousProducerID: id.NoProducer, NextProducerID: id.NoProducer, LastEpoch: -1, TimeoutMs: 1000, State: Ongoing,
		StartMs: 3000, UpdateMs: 4000}
	empty := &Transaction{ProducerID: 200, PreviousProducerID: 200, NextProducerID: id.NoProducer, LastEpoch: -1, TimeoutMs: 1000, State: Empty,
		StartMs: -1, UpdateMs: 4000}
	for _, c := range []struct {
		what  string
		t     *Transaction
		level int16
		want  string
	}{
		{"without tags", preparing, 0, "0000 00000000000000c8 0005 000003e8 02" +
			"00000002 0001 74 00000002 00000000 00000003 0001 75 00000001 00000001 0000000000000fa0 0000000000000bb8"},
		{"with tags", preparing, 1, "0001 00000000000000c8 0005 000003e8 02" +
			"03 02 74 03 00000000 00000003 00 02 75 02 00000001 00 0000000000000fa0 0000000000000bb8" +
			"03 00 08 0000000000000064 01 08 00000000000000c9 02 02 0002"},
		{"with tags that say nothing", plain, 2, "0001 00000000000000c8 0000 000003e8 01 01 0000000000000fa0 0000000000000bb8 00"},
		{"Empty", empty, 2, "0001 00000000000000c8 0000 000003e8 00 00 0000000000000fa0 ffffffffffffffff 01 00 08 00000000000000c8"},
		{"Empty without tags", empty, 0, "0000 00000000000000c8 0000 000003e8 00 ffffffff 0000000000000fa0 ffffffffffffffff"},
		{"gone", nil, 2, "-"},
	} {
		r := transactionRecord("id", c.t, c.level)
		if want := unhex(t, keyOfID); string(r.Key) != string(want) {
			t.Errorf("%s: key %x", c.what, r.Key)
		}
		if want := unhex(t, c.want); string(r.Value) != string(want) || (want == nil) != (r.Value == nil) {
			t.Errorf("%s:\n%x\nwant:\n%x", c.what, r.Value, want)
		}
	}
}

// TestRecordsRead: what the log of any release becomes. What a later release has added is passed over, tags and whole records; what
// nobody can have written stops the load, as what is behind it would mean something else without it.
func TestRecordsRead(t *testing.T) {
	const old = "0000 00000000000003e8 0064 000001f4 01 00000001 0001 74 00000002 00000003 00000000 00000000000007d0 0000000000000bb8"
	ongoing := &Transaction{ProducerID: 1000, PreviousProducerID: -1, NextProducerID: -1, Epoch: 100, LastEpoch: -1, TimeoutMs: 500, State: Ongoing,
		Partitions: []id.TopicPartition{{Topic: "t", Partition: 0}, {Topic: "t", Partition: 3}}, StartMs: 3000, UpdateMs: 2000}
	committed := &Transaction{ProducerID: 1000, PreviousProducerID: -1, NextProducerID: -1, Epoch: 100, LastEpoch: -1, TimeoutMs: 500, State: CompleteCommit,
		Partitions: []id.TopicPartition{{Topic: "t", Partition: 1}}, StartMs: 3000, UpdateMs: 2000}
	rotating := &Transaction{ProducerID: 1000, PreviousProducerID: 100, NextProducerID: 1001, Epoch: 100, LastEpoch: -1, TimeoutMs: 500, State: PrepareAbort,
		StartMs: 3000, UpdateMs: 2000, ClientVersion: 2}
	unused := &Transaction{ProducerID: 1000, PreviousProducerID: -1, NextProducerID: -1, Epoch: 100, LastEpoch: -1, TimeoutMs: 500, State: Empty,
		StartMs: -1, UpdateMs: 2000}
	for _, c := range []struct {
		what, key, value string
		want             *Transaction
		unknown, bad     bool
	}{
		{what: "version 0", key: keyOfID, value: old, want: ongoing},
		{what: "tags of a later release", key: keyOfID, value: "0001 00000000000003e8 0064 000001f4 04" +
			"02 02 74 02 00000001 02 64 05 0003666f6f 65 04 00000fa0 00000000000007d0 0000000000000bb8 02 64 05 0003666f6f 65 04 00000fa0", want: committed},
		{what: "all tags", key: keyOfID, value: "0001 00000000000003e8 0064 000001f4 03 01 00000000000007d0 0000000000000bb8" +
			"04 00 08 0000000000000064 01 08 00000000000003e9 02 02 0002 03 02 0007", want: rotating},
		{what: "no list of partitions", key: keyOfID, value: "0001 00000000000003e8 0064 000001f4 00 00 00000000000007d0 ffffffffffffffff 00", want: unused},
		{what: "a tombstone", key: keyOfID, value: "-"},
		{what: "a tombstone of another", key: "0000 0002 6965", value: "-", want: ongoing},
		{what: "another type", key: "0001 0002 6964", value: old, want: ongoing, unknown: true},
		{what: "a type to come", key: "7fff 01 02", value: "7fff 01 02", want: ongoing, unknown: true},
		{what: "a version to come", key: keyOfID, value: "0002 01", want: ongoing, unknown: true},
		{what: "a negative version", key: keyOfID, value: "ffff 01", want: ongoing, unknown: true},
		{what: "no key", key: "", value: old, want: ongoing, bad: true},
		{what: "half a key", key: "0000", value: old, want: ongoing, bad: true},
		{what: "no version", key: keyOfID, value: "", want: ongoing, bad: true},
		{what: "half a value", key: keyOfID, value: "0000 00000000000003e8", want: ongoing, bad: true},
		{what: "a state of nobody", key: keyOfID, value: "0001 00000000000003e8 0064 000001f4 08 01 00000000000007d0 0000000000000bb8 00", want: ongoing, bad: true},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := New(DefaultConfig())
			if known, err := s.Replay(0, id.NoProducer, unhex(t, keyOfID), unhex(t, old)); !known || err != nil {
				t.Fatal(known, err)
			}
			value := unhex(t, c.value)
			if c.value == "" {
				value = []byte{}
			}
			known, err := s.Replay(7, id.NoProducer, unhex(t, c.key), value)
			if c.bad != errors.Is(err, ErrBadRecord) || c.bad != (err != nil) {
				t.Errorf("error %v", err)
			}
			if !c.bad && known == c.unknown {
				t.Errorf("known: %v", known)
			}
			if got := s.txns["id"]; !reflect.DeepEqual(got, c.want) {
				t.Errorf("the transaction is\n%+v\nwant\n%+v", got, c.want)
			}
		})
	}
}

// TestTimesOfOthers: whatever time a log says a transaction began at, no deadline comes up for ever.
func TestTimesOfOthers(t *testing.T) {
	for _, start := range []int64{math.MinInt64, -2, -1, 0, 1 << 45, 1 << 53, math.MaxInt64/1_000_000 + 1_700_000_000_000, math.MaxInt64 - 1000, math.MaxInt64} {
		w := newWorld(t, 2)
		w.carry(shard.NoTicket, shard.Result{Records: []shard.Record{transactionRecord("a", &Transaction{ProducerID: 7, PreviousProducerID: 7,
			NextProducerID: id.NoProducer, LastEpoch: id.NoProducerEpoch, State: Ongoing, StartMs: start, TimeoutMs: 60_000,
			Partitions: []id.TopicPartition{{Topic: "t"}}}, w.level)}})
		w.settle()
		w.move(len(w.log))
		w.now = w.now.Add(24 * time.Hour)
		for n := 0; ; n++ {
			res, ok := w.s.Expire(w.now)
			if !ok {
				break
			}
			if n > 100 {
				t.Fatalf("began at %d: deadlines without end", start)
			}
			w.carry(shard.NoTicket, res)
			w.settle()
		}
		// The timeout of one that began at the end of time is a negative number, in Apache Kafka as well.
		over := start < w.now.UnixMilli() || start > math.MaxInt64-60_000
		if got := w.s.txns["a"].State; (got != Ongoing) != over {
			t.Errorf("began at %d: %v after a day", start, got)
		}
	}
}

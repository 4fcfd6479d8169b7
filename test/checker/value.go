package checker

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A record's value is, big-endian: 4 bytes CRC-32C of the rest, 8 value, 8 source, 8 delta, 8 time, the key as text, then zero
// bytes up to a length that depends on the value.
const valueHeader = 4 + 4*8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(r Record) []byte {
	b := make([]byte, 4, valueHeader+len(r.Key)+1+int(r.Value%97))
	for _, v := range []int64{r.Value, r.Source, r.Delta, r.Time} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	b = append(append(b, r.Key...), 0)
	b = b[:cap(b)]
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

// decode reads a record as a client got it. What is not as a generator wrote it is Wrong.
func decode(in *kgo.Record) Record {
	r := Record{Key: key(in.Topic, in.Partition), Offset: in.Offset, RecordKey: string(in.Key), Time: in.Timestamp.UnixMilli()}
	b := in.Value
	if len(b) < valueHeader || crc32.Checksum(b[4:], castagnoli) != binary.BigEndian.Uint32(b) {
		r.Wrong = fmt.Sprintf("%d bytes without a valid checksum", len(b))
		return r
	}
	num := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[4+8*i:])) }
	r.Value, r.Source, r.Delta = num(0), num(1), num(2)
	if name, _, _ := strings.Cut(string(b[valueHeader:]), "\x00"); name != r.Key {
		r.Wrong = "written for " + name
	} else if num(3) != r.Time {
		r.Wrong = fmt.Sprintf("written at %d, dated %d", num(3), r.Time)
	}
	return r
}

// key names a partition.
func key(topic string, partition int32) string { return topic + "/" + strconv.Itoa(int(partition)) }

func split(key string) (topic string, partition int32) {
	topic, text, _ := strings.Cut(key, "/")
	n, err := strconv.Atoi(text)
	if err != nil {
		panic("not a key: " + key) // keys are made by this package alone
	}
	return topic, int32(n)
}

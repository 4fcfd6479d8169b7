package diff

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// spec is one batch as a script describes it.
type spec struct {
	codec, key, value   string
	count               int
	ts, tsStep          int64
	pid                 int64
	epoch               int16
	seq                 int32
	attrs               int16
	magic               int8
	nullKey, nullValue  bool
	crcBad              bool
	countPlus, lastPlus int32
	baseOffset          int64
	trailing            int
	cut                 int
	length              int32
	deltaBad            bool
	headers             int
}

// started is one time for all scripts of a run, so that both sides get the same bytes.
var started = time.Now().UnixMilli()

// batches reads "key=value ... ; key=value ..." into bytes, a batch for each part. Keys:
//
//	codec=none|gzip|snappy|lz4|zstd  n=COUNT  key=K value=V (value=*1000 repeats)  nullkey nullvalue  headers=N
//	ts=now|now-MS|now+MS|MS  step=MS (between records)  pid=N|$saved epoch=N seq=N  txn control logappend
//	magic=N crc=bad count=+N lastdelta=+N base=N deltas=bad   trailing=N (bytes after) cut=N (bytes off the end) length=N
func batches(text string, vars map[string]any) ([]byte, error) {
	var out []byte
	for _, part := range strings.Split(text, ";") {
		s := spec{codec: "none", count: 1, key: "k", value: "v", ts: started, pid: -1, epoch: -1, seq: -1, magic: 2}
		for _, word := range strings.Fields(part) {
			if err := s.set(word, vars); err != nil {
				return nil, err
			}
		}
		b, err := s.build()
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}

func (s *spec) set(word string, vars map[string]any) error {
	k, v, _ := strings.Cut(word, "=")
	if name, ok := strings.CutPrefix(v, "$"); ok {
		saved, ok := vars[name]
		if !ok {
			return fmt.Errorf("nothing saved as $%s", name)
		}
		v = fmt.Sprint(saved)
	}
	if text, ok := strings.CutPrefix(v, "*"); ok {
		n, _ := strconv.Atoi(text)
		v = strings.Repeat("x", n)
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(v, "+"), 10, 64)
	switch k {
	case "codec", "key", "value", "ts":
		err = nil
	case "crc", "deltas", "nullkey", "nullvalue", "txn", "control", "logappend":
		err = nil
	}
	if err != nil {
		return fmt.Errorf("batch %s: %w", word, err)
	}
	switch k {
	case "codec":
		s.codec = v
	case "n":
		s.count = int(n)
	case "key":
		s.key = v
	case "value":
		s.value = v
	case "ts":
		s.ts = timestamp(v)
	case "step":
		s.tsStep = n
	case "pid":
		s.pid = n
	case "epoch":
		s.epoch = int16(n)
	case "seq":
		s.seq = int32(n)
	case "nullkey":
		s.nullKey = true
	case "nullvalue":
		s.nullValue = true
	case "headers":
		s.headers = int(n)
	case "logappend":
		s.attrs |= 1 << 3
	case "txn":
		s.attrs |= 1 << 4
	case "control":
		s.attrs |= 1 << 5
	case "attrs":
		s.attrs |= int16(n)
	case "magic":
		s.magic = int8(n)
	case "crc":
		s.crcBad = true
	case "count":
		s.countPlus = int32(n)
	case "lastdelta":
		s.lastPlus = int32(n)
	case "deltas":
		s.deltaBad = true
	case "base":
		s.baseOffset = n
	case "trailing":
		s.trailing = int(n)
	case "cut":
		s.cut = int(n)
	case "length":
		s.length = int32(n)
	default:
		return fmt.Errorf("batch: no key %q", k)
	}
	return nil
}

func timestamp(v string) int64 {
	if rest, ok := strings.CutPrefix(v, "now"); ok {
		n, _ := strconv.ParseInt(strings.TrimPrefix(rest, "+"), 10, 64)
		return started + n
	}
	n, _ := strconv.ParseInt(v, 10, 64)
	return n
}

func (s *spec) build() ([]byte, error) {
	var records []byte
	maxTS := s.ts
	for i := range s.count {
		r := kmsg.NewRecord()
		r.OffsetDelta = int32(i)
		if s.deltaBad && i > 0 {
			r.OffsetDelta = int32(i) * 2
		}
		r.TimestampDelta64 = int64(i) * s.tsStep
		maxTS = max(maxTS, s.ts+r.TimestampDelta64)
		if !s.nullKey {
			r.Key = []byte(s.key)
		}
		if !s.nullValue {
			r.Value = []byte(s.value)
		}
		for h := range s.headers {
			r.Headers = append(r.Headers, kmsg.Header{Key: fmt.Sprint("h", h), Value: []byte{byte(h)}})
		}
		// The length is a varint that does not count itself; with length 0 it takes one byte.
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		records = r.AppendTo(records)
	}
	attrs := s.attrs
	if s.codec != "none" {
		code, codec := codecs(s.codec)
		if codec == nil {
			attrs |= code // an unknown codec: the bytes stay as they are
		} else {
			c, err := kgo.DefaultCompressor(*codec)
			if err != nil {
				return nil, err
			}
			compressed, _ := c.Compress(new(bytes.Buffer), records)
			records, attrs = append([]byte(nil), compressed...), attrs|code
		}
	}
	b := kmsg.RecordBatch{
		FirstOffset: s.baseOffset, PartitionLeaderEpoch: -1, Magic: s.magic, Attributes: attrs,
		LastOffsetDelta: int32(s.count-1) + s.lastPlus, FirstTimestamp: s.ts, MaxTimestamp: maxTS,
		ProducerID: s.pid, ProducerEpoch: s.epoch, FirstSequence: s.seq, NumRecords: int32(s.count) + s.countPlus, Records: records,
	}
	b.Length = int32(49 + len(records))
	if s.length != 0 {
		b.Length = s.length
	}
	raw := b.AppendTo(nil)
	crc := crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli))
	if s.crcBad {
		crc++
	}
	binary.BigEndian.PutUint32(raw[17:], crc)
	raw = append(raw, make([]byte, s.trailing)...)
	return raw[:len(raw)-s.cut], nil
}

// codecs gives a codec's attribute bits and, for the known ones, its compressor.
func codecs(name string) (int16, *kgo.CompressionCodec) {
	var c kgo.CompressionCodec
	switch name {
	case "gzip":
		c = kgo.GzipCompression()
		return 1, &c
	case "snappy":
		c = kgo.SnappyCompression()
		return 2, &c
	case "lz4":
		c = kgo.Lz4Compression()
		return 3, &c
	case "zstd":
		c = kgo.ZstdCompression()
		return 4, &c
	default: // "5".."7": attribute bits without a codec, "1".."4": the bits over bytes that are not compressed
		n, _ := strconv.Atoi(name)
		return int16(n), nil
	}
}

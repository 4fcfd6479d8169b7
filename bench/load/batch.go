package load

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Batch encodes one uncompressed record batch of about size bytes of records with values of recordSize bytes.
func Batch(recordSize, size int) (batch []byte, records int) {
	value := make([]byte, recordSize)
	for i := range value {
		value[i] = byte('a' + i%26)
	}
	var body []byte
	for records == 0 || len(body)+recordSize <= size {
		r := kmsg.NewRecord()
		r.OffsetDelta, r.Value = int32(records), value
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		body = r.AppendTo(body)
		records++
	}
	now := time.Now().UnixMilli()
	b := kmsg.RecordBatch{Length: int32(49 + len(body)), PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: int32(records - 1),
		FirstTimestamp: now, MaxTimestamp: now, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(records), Records: body}
	batch = b.AppendTo(nil)
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
	return batch, records
}

// fetchAnswer reads one Fetch 12 answer of one partition: its fields up to the records, then the batches by their headers
// alone. It returns the bytes of records and the offset after the last whole batch.
func fetchAnswer(in *bufio.Reader, conn net.Conn, head, skip []byte, offset int64) (got, next int64, err error) {
	var size [4]byte
	if _, err = io.ReadFull(in, size[:]); err != nil {
		return 0, 0, err
	}
	left := int(binary.BigEndian.Uint32(size[:]))
	r := &counted{r: in, left: left}
	// correlation, header tags, throttle, error, session, topics 1+1, name, partitions 1+1, partition, error, hw, lso, start,
	// aborted, preferred, records length
	if _, err = io.ReadFull(r, head[:4+1+4]); err != nil {
		return 0, 0, err
	}
	var fixed [6]byte
	if _, err = io.ReadFull(r, fixed[:]); err != nil {
		return 0, 0, err
	}
	if code := int16(binary.BigEndian.Uint16(fixed[:])); code != 0 {
		return 0, 0, fmt.Errorf("fetch answered with error %d", code)
	}
	topics, err := binary.ReadUvarint(r)
	if err != nil || topics != 2 {
		return 0, offset, drain(r, skip, err)
	}
	name, err := binary.ReadUvarint(r)
	if err != nil || name == 0 || int(name) > len(head) {
		return 0, 0, fmt.Errorf("fetch answer: topic name of %d", name)
	}
	if _, err = io.ReadFull(r, head[:name-1]); err != nil {
		return 0, 0, err
	}
	if _, err = binary.ReadUvarint(r); err != nil {
		return 0, 0, err
	}
	if _, err = io.ReadFull(r, head[:4+2+8+8+8]); err != nil {
		return 0, 0, err
	}
	if code := int16(binary.BigEndian.Uint16(head[4:])); code != 0 {
		return 0, 0, fmt.Errorf("fetch answered with partition error %d", code)
	}
	if _, err = binary.ReadUvarint(r); err != nil { // aborted transactions: null
		return 0, 0, err
	}
	if _, err = io.ReadFull(r, head[:4]); err != nil {
		return 0, 0, err
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, 0, err
	}
	got, next = int64(n)-1, offset
	for at := int64(0); at < got; {
		if got-at < 61 {
			break
		}
		if _, err = io.ReadFull(r, head[:61]); err != nil {
			return 0, 0, err
		}
		body := int64(binary.BigEndian.Uint32(head[8:])) + 12
		base, last := int64(binary.BigEndian.Uint64(head)), int64(binary.BigEndian.Uint32(head[23:]))
		rest := min(body, got-at) - 61
		if err = discard(r, skip, int(rest)); err != nil {
			return 0, 0, err
		}
		if at += body; at <= got {
			next = base + last + 1
		}
	}
	return max(got, 0), next, drain(r, skip, nil)
}

// counted reads one frame's bytes.
type counted struct {
	r    *bufio.Reader
	left int
}

func (c *counted) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (c *counted) ReadByte() (byte, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	c.left--
	return c.r.ReadByte()
}

func discard(r io.Reader, skip []byte, n int) error {
	for n > 0 {
		k, err := r.Read(skip[:min(n, len(skip))])
		if n -= k; err != nil {
			return err
		}
	}
	return nil
}

func drain(c *counted, skip []byte, err error) error {
	if err != nil {
		return err
	}
	return discard(c, skip, c.left)
}

package checker

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rawTimeout bounds one request of a raw connection.
const rawTimeout = 8 * time.Second

// Dial opens a connection to the node, through the proxy if there is one.
type Dial func(ctx context.Context) (net.Conn, error)

// raw is a connection that sends what it is told and believes every answer.
type raw struct {
	dial Dial
	conn net.Conn
	corr int32
}

func (c *raw) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// ask sends one request in one version and reads its answer into req's response kind. After an error the connection is closed
// and the next ask opens another.
func (c *raw) ask(ctx context.Context, req kmsg.Request, version int16) (resp kmsg.Response, err error) {
	if c.conn == nil {
		if c.conn, err = c.dial(ctx); err != nil {
			return nil, fmt.Errorf("dial: %w", err)
		}
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.conn.SetDeadline(time.Now().Add(rawTimeout)); err != nil {
		return nil, err
	}
	req.SetVersion(version)
	c.corr++
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("checker")).AppendRequest(nil, req, c.corr)
	if _, err := c.conn.Write(frame); err != nil {
		return nil, fmt.Errorf("%s: %w", kmsg.NameForKey(req.Key()), err)
	}
	answer, err := readFrame(c.conn)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kmsg.NameForKey(req.Key()), err)
	}
	if got := int32(binary.BigEndian.Uint32(answer[4:])); got != c.corr {
		return nil, fmt.Errorf("%s: answer %d to request %d", kmsg.NameForKey(req.Key()), got, c.corr)
	}
	return decodeResponse(req, answer)
}

// decodeResponse reads a whole frame as the answer to req.
func decodeResponse(req kmsg.Request, frame []byte) (kmsg.Response, error) {
	resp := req.ResponseKind()
	body := frame[8:]
	if resp.IsFlexible() && resp.Key() != 18 {
		if len(body) == 0 || body[0] != 0 {
			return nil, fmt.Errorf("%s: tags in the answer's header", kmsg.NameForKey(req.Key()))
		}
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%s: %w", kmsg.NameForKey(req.Key()), err)
	}
	return resp, nil
}

// fetch reads one partition from an offset on at one isolation level.
func (c *raw) fetch(ctx context.Context, k string, from int64, committed bool) (*kmsg.FetchResponseTopicPartition, error) {
	topic, partition := split(k)
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.MinBytes, req.MaxWaitMillis = 8<<20, 0, 0
	req.SessionEpoch = -1
	if committed {
		req.IsolationLevel = 1
	}
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, from, 4<<20
	req.Topics = append(req.Topics, kmsg.FetchRequestTopic{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{p}})
	resp, err := c.ask(ctx, req, 12)
	if err != nil {
		return nil, err
	}
	r := resp.(*kmsg.FetchResponse)
	if r.ErrorCode != 0 || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("fetch of %s: error %d, %d topics", k, r.ErrorCode, len(r.Topics))
	}
	return &r.Topics[0].Partitions[0], nil
}

func boundsOf(p *kmsg.FetchResponseTopicPartition, epoch int32) Bounds {
	return Bounds{HighWatermark: p.HighWatermark, LastStable: p.LastStableOffset, LogStart: p.LogStartOffset, LeaderEpoch: epoch, Error: p.ErrorCode}
}

// leaderEpoch asks for a partition's leader epoch.
func (c *raw) leaderEpoch(ctx context.Context, k string) (int32, error) {
	topic, partition := split(k)
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	resp, err := c.ask(ctx, req, 9)
	if err != nil {
		return -1, err
	}
	for _, t := range resp.(*kmsg.MetadataResponse).Topics {
		for _, p := range t.Partitions {
			if p.Partition == partition && p.ErrorCode == 0 {
				return p.LeaderEpoch, nil
			}
		}
	}
	return -1, fmt.Errorf("metadata does not know %s", k)
}

// whole reads a partition from its first to its last offset, twice.
func (c *raw) whole(ctx context.Context, k string, compacted bool) (*Whole, error) {
	w := &Whole{Compacted: compacted}
	for _, committed := range []bool{false, true} {
		seen := map[Range]bool{}
		at := int64(-1)
		for {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			p, err := c.fetch(ctx, k, max(at, 0), committed)
			if err != nil {
				return nil, err
			}
			if at < 0 && p.ErrorCode == kerr.OffsetOutOfRange.Code && p.LogStartOffset > 0 {
				at = p.LogStartOffset
				continue
			}
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return nil, err
			}
			at = max(at, 0)
			end := p.HighWatermark
			if committed {
				end = p.LastStableOffset
			} else {
				w.Bounds = boundsOf(p, -1)
			}
			if at >= end {
				break
			}
			for _, t := range p.AbortedTransactions {
				seen[Range{t.ProducerID, t.FirstOffset}] = true
			}
			next, err := w.take(k, p, at, committed)
			if err != nil {
				return nil, err
			}
			if next <= at {
				return nil, fmt.Errorf("%s: a fetch at %d brings nothing, the log ends at %d", k, at, end)
			}
			at = next
		}
		for r := range seen {
			w.Aborted = append(w.Aborted, r)
		}
	}
	sortRanges(w.Aborted)
	return w, nil
}

// take adds what one Fetch answer brought from offset at on, and returns where to go on.
func (w *Whole) take(k string, p *kmsg.FetchResponseTopicPartition, at int64, committed bool) (int64, error) {
	topic, _ := split(k)
	partition := p.Partition // of which the answer says that it is
	o := kgo.ProcessFetchPartitionOpts{Topic: topic, Partition: partition, Offset: at, DisableCRCValidation: true}
	if committed {
		o.IsolationLevel = kgo.ReadCommitted()
	}
	got, next := kgo.ProcessFetchPartition(o, p, kgo.DefaultDecompressor(), nil)
	if got.Err != nil {
		return 0, got.Err
	}
	for _, r := range got.Records {
		if committed {
			w.Committed = append(w.Committed, decode(r))
		} else {
			w.All = append(w.All, decode(r))
		}
	}
	for _, b := range batches(p.RecordBatches) {
		next = max(next, b.Last+1)
		if !committed && (len(w.Batches) == 0 || b.Base > w.Batches[len(w.Batches)-1].Base || b.Base >= at) {
			w.Batches = append(w.Batches, b)
		}
	}
	return next, nil
}

// batches reads the headers of batches, by the layout of Kafka's message format 2. A cut last batch is left out.
func batches(b []byte) []Batch {
	var out []Batch
	u32 := func(at int) int32 { return int32(binary.BigEndian.Uint32(b[at:])) }
	u64 := func(at int) int64 { return int64(binary.BigEndian.Uint64(b[at:])) }
	for len(b) >= 61 {
		size := int(u32(8)) + 12
		if size < 61 {
			return append(out, Batch{Base: u64(0), Last: u64(0), PID: -1, Wrong: fmt.Sprintf("a batch of %d bytes", size)})
		}
		if size > len(b) {
			break
		}
		attributes := binary.BigEndian.Uint16(b[21:])
		x := Batch{Base: u64(0), Last: u64(0) + int64(u32(23)), PID: u64(43), Epoch: int16(binary.BigEndian.Uint16(b[51:])), Sequence: u32(53),
			Count: u32(57), LeaderEpoch: u32(12), Txn: attributes&16 != 0, Control: attributes&32 != 0}
		if sum := crc32.Checksum(b[21:size], castagnoli); sum != uint32(u32(17)) {
			x.Wrong = fmt.Sprintf("the batch's CRC is %08x, its bytes make %08x", uint32(u32(17)), sum)
		} else if x.Control && x.Txn && size >= 61+9 {
			// One record: length, attributes, time delta, offset delta, key length 4, then version and type.
			i := slices.Index(b[61:size], 8) // the key's length as a varint
			x.Commit = i >= 0 && 61+i+5 <= size && b[61+i+4] == 1
		}
		out = append(out, x)
		b = b[size:]
	}
	return out
}

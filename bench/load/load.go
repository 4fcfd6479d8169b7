package load

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Options says what a run sends.
type Options struct {
	Addr       string
	Topic      string
	Partitions int
	RecordSize int           // bytes of a record's value
	BatchSize  int           // bytes of a produce batch, about; one record when smaller than it
	Conns      int           // connections
	InFlight   int           // requests under way on each; 0: one
	Acks       int16         // -1, 1
	Duration   time.Duration // of the timed window
	FetchMax   int           // bytes asked for in one fetch
}

// Result is what a run moved in its window.
type Result struct {
	Bytes    int64 // of record batches
	Records  int64
	Requests int64
	Took     time.Duration
}

// MBps is megabytes (10^6) a second.
func (r Result) MBps() float64 { return float64(r.Bytes) / 1e6 / r.Took.Seconds() }

// RequestsPerSecond counts answered requests.
func (r Result) RequestsPerSecond() float64 { return float64(r.Requests) / r.Took.Seconds() }

// Frame encodes a request with its size and header.
func Frame(req kmsg.Request) []byte {
	b := make([]byte, 4, 256)
	b = binary.BigEndian.AppendUint16(b, uint16(req.Key()))
	b = binary.BigEndian.AppendUint16(b, uint16(req.GetVersion()))
	b = append(b, 0, 0, 0, 1, 0, 4)
	b = append(b, "load"...)
	if req.IsFlexible() {
		b = append(b, 0)
	}
	b = req.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// smallFrame bounds the requests of which a few fit into any socket's buffer, so that one thread can send those of all connections. The
// writes of longer ones block, and each connection needs a goroutine that may.
const smallFrame = 16 << 10

// Produce sends the same encoded batches until the time is over, o.InFlight of them under way on each connection. Frames shorter than
// 16 KB are sent like those of Ask, longer ones by a goroutine for each connection, with another one that reads the answers.
func Produce(ctx context.Context, o Options) (Result, error) {
	batch, records := Batch(o.RecordSize, o.BatchSize)
	frames := make([][]byte, o.Partitions)
	for p := range frames {
		frames[p] = produceFrame(o, int32(p), batch)
	}
	next := func(conn int, n int64) []byte { return frames[(int(n)+conn)%len(frames)] }
	check := func(_ int, answer []byte) error { return produceError(answer, len(o.Topic)) }
	send := large
	if len(frames[0]) < smallFrame {
		send = small
	}
	requests, took, err := send(ctx, o, next, check)
	return Result{Bytes: requests * int64(len(batch)), Records: requests * int64(records), Requests: requests, Took: took}, err
}

// Ask sends small frames over o.Conns connections until the time is over, o.InFlight of them under way on each, or one. next returns the
// nth frame of a connection, whose bytes it may use again at the next call; check looks at an answer without its size. Neither is called
// twice at once for one connection.
func Ask(ctx context.Context, o Options, next func(conn int, n int64) []byte, check func(conn int, answer []byte) error) (Result, error) {
	requests, took, err := small(ctx, o, next, check)
	return Result{Requests: requests, Took: took}, err
}

// produceError reads the one error code of a Produce 9 answer for one partition of a topic with a name of that many bytes. It
// looks where the code must be, because a decoder costs more than all else here: correlation id, tags, number of topics, name
// behind its length, number of partitions, partition.
func produceError(head []byte, name int) error {
	at := 4 + 1 + 1 + 1 + name + 1 + 4
	if len(head) < at+2 || head[5] != 2 || int(head[6]) != name+1 || head[7+name] != 2 {
		return fmt.Errorf("produce answered with %x", head[:min(len(head), 64)])
	}
	if code := int16(binary.BigEndian.Uint16(head[at:])); code != 0 {
		return fmt.Errorf("produce answered with error %d", code)
	}
	return nil
}

// large keeps o.InFlight requests under way on each of o.Conns connections, with two goroutines for each.
func large(ctx context.Context, o Options, next func(conn int, n int64) []byte, check func(conn int, answer []byte) error) (answered int64, took time.Duration, err error) {
	return fan(o, func(c net.Conn, i int) (int64, error) {
		return pipeline(ctx, c, max(o.InFlight, 1), func(n int64) []byte { return next(i, n) }, func(answer []byte) error { return check(i, answer) }, o.Duration)
	})
}

// pipeline keeps depth requests in flight on one connection and returns how many were answered in the window.
func pipeline(ctx context.Context, conn net.Conn, depth int, next func(int64) []byte, check func([]byte) error, d time.Duration) (int64, error) {
	slots := make(chan struct{}, depth)
	stop := make(chan struct{})
	sendErr := make(chan error, 1)
	var sent atomic.Int64
	go func() {
		defer close(sendErr)
		for n := int64(0); ; n++ {
			select {
			case slots <- struct{}{}:
			case <-stop:
				return
			}
			select {
			case <-stop:
				return
			default:
			}
			if _, err := conn.Write(next(n)); err != nil {
				sendErr <- err
				return
			}
			sent.Add(1)
		}
	}()
	deadline := time.Now().Add(d)
	in := bufio.NewReaderSize(conn, 64<<10)
	body := make([]byte, 64<<10)
	answered := int64(0)
	var err error
	for time.Now().Before(deadline) && ctx.Err() == nil {
		var n int
		if n, err = answer(in, &body); err != nil {
			break
		}
		if err = check(body[:n]); err != nil {
			break
		}
		answered++
		<-slots
	}
	close(stop)
	conn.Close()
	if serr := <-sendErr; err == nil && serr != nil && !errors.Is(serr, net.ErrClosed) {
		err = serr
	}
	return answered, err
}

func answer(in *bufio.Reader, body *[]byte) (int, error) {
	var head [4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n > len(*body) {
		*body = make([]byte, n)
	}
	_, err := io.ReadFull(in, (*body)[:n])
	return n, err
}

// fan runs one function on every connection and sums what they answered.
func fan(o Options, run func(net.Conn, int) (int64, error)) (int64, time.Duration, error) {
	conns := make([]net.Conn, o.Conns)
	for i := range conns {
		c, err := net.Dial("tcp", o.Addr)
		if err != nil {
			return 0, 0, err
		}
		conns[i] = c
	}
	var wg sync.WaitGroup
	var sum atomic.Int64
	errs := make(chan error, len(conns))
	began := time.Now()
	for i, c := range conns {
		wg.Add(1)
		go func() {
			defer wg.Done()
			n, err := run(c, i)
			sum.Add(n)
			if err != nil {
				errs <- err
			}
		}()
	}
	wg.Wait()
	select {
	case err := <-errs:
		return sum.Load(), time.Since(began), err
	default:
		return sum.Load(), time.Since(began), nil
	}
}

// Fetch reads partitions from their start, again and again, each connection its share of them, until the time is over.
func Fetch(ctx context.Context, o Options) (Result, error) {
	var bytes atomic.Int64
	run := func(conn net.Conn, first int) (int64, error) {
		defer conn.Close()
		n, b, err := fetchLoop(ctx, conn, o, int32(first%o.Partitions))
		bytes.Add(b)
		return n, err
	}
	requests, took, err := fan(o, run)
	return Result{Bytes: bytes.Load(), Requests: requests, Took: took}, err
}

func fetchLoop(ctx context.Context, conn net.Conn, o Options, partition int32) (requests, bytes int64, err error) {
	in := bufio.NewReaderSize(conn, 16)
	head := make([]byte, 1<<10)
	skip := make([]byte, 1<<20)
	offset := int64(0)
	for deadline := time.Now().Add(o.Duration); time.Now().Before(deadline) && ctx.Err() == nil; {
		if _, err := conn.Write(fetchFrame(o, partition, offset)); err != nil {
			return requests, bytes, err
		}
		got, next, err := fetchAnswer(in, conn, head, skip, offset)
		if err != nil {
			return requests, bytes, err
		}
		requests++
		bytes += got
		if offset = next; got == 0 {
			offset = 0 // the end: from the start again, as another consumer would
		}
	}
	return requests, bytes, nil
}

func fetchFrame(o Options, partition int32, offset int64) []byte {
	r := kmsg.NewPtrFetchRequest()
	r.SetVersion(12)
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes, r.SessionEpoch = 100, 1, int32(o.FetchMax), -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, offset, int32(o.FetchMax)
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.Partitions = o.Topic, []kmsg.FetchRequestTopicPartition{p}
	r.Topics = []kmsg.FetchRequestTopic{t}
	return Frame(r)
}

func produceFrame(o Options, partition int32, batch []byte) []byte {
	r := kmsg.NewPtrProduceRequest()
	r.SetVersion(9)
	r.Acks, r.TimeoutMillis = o.Acks, 10_000
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, batch
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.Partitions = o.Topic, []kmsg.ProduceRequestTopicPartition{p}
	r.Topics = []kmsg.ProduceRequestTopic{t}
	return Frame(r)
}

package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// listen runs serve on every connection until the test ends.
func listen(t *testing.T, serve func(c net.Conn) error) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		served := make(chan struct{})
		n := 0
		for ; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				break
			}
			go func() {
				defer func() { served <- struct{}{} }()
				defer c.Close()
				if err := serve(c); err != nil {
					t.Error("server:", err)
				}
			}()
		}
		for range n {
			<-served
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-ended
	})
	return ln.Addr().String()
}

// sized puts a frame's length before it.
func sized(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// frame reads one.
func frame(in *bufio.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(in, body)
	return body, err
}

// gone reports an error that the end of the loader's run leaves on the server's side.
func gone(err error) bool {
	var op *net.OpError
	return err == io.EOF || err == io.ErrUnexpectedEOF || errors.As(err, &op)
}

// ordinal is the only thing in the frames and answers of these tests, with padding behind it.
func ordinal(n int64, padding int) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(n)), bytes.Repeat([]byte{byte(n)}, padding)...)
}

func isOrdinal(b []byte, n int64, padding int) error {
	if !bytes.Equal(b, ordinal(n, padding)) {
		return fmt.Errorf("%d bytes that begin with %x, want number %d and %d bytes more", len(b), b[:min(len(b), 8)], n, padding)
	}
	return nil
}

// TestAsk answers so many requests at once, in pieces of so many bytes, whatever answer they cut.
func TestAsk(t *testing.T) {
	for _, c := range []struct{ conns, inFlight, together, piece, padding int }{
		{1, 0, 1, 1 << 20, 0},
		{3, 1, 1, 5, 0},
		{3, 5, 5, 1 << 20, 0}, // several answers in a segment
		{3, 5, 1, 1 << 20, 0}, // one answer, four more under way
		{2, 5, 3, 1, 3},
		{2, 5, 5, 3, 1},
		{2, 5, 2, 17, 20},
		{2, 7, 7, 1000, 3000},
		{2, 5, 5, 4096, 4084},      // answers exactly as long as the first buffer
		{2, 3, 3, 70_001, 100_000}, // answers longer than it
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			depth := int64(max(c.inFlight, 1))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			addr := listen(t, func(conn net.Conn) error {
				in := bufio.NewReader(conn)
				read := int64(0)
				for answered := int64(0); ; {
					for ; read < answered+depth; read++ { // all that may be under way is
						f, err := frame(in)
						if gone(err) {
							return nil
						}
						if err := errors.Join(err, isOrdinal(f, read, 2)); err != nil {
							return err
						}
					}
					if in.Buffered() > 0 {
						return fmt.Errorf("more than %d requests are under way", depth)
					}
					var out []byte
					for range c.together {
						out = append(out, sized(ordinal(answered, c.padding))...)
						answered++
					}
					for len(out) > 0 {
						n, err := conn.Write(out[:min(c.piece, len(out))])
						if err != nil {
							return nil
						}
						out = out[n:]
					}
				}
			})
			sent, checked := make([]int64, c.conns), make([]int64, c.conns)
			frames := make([][]byte, c.conns) // all of a connection in the same bytes
			for i := range frames {
				frames[i] = sized(ordinal(0, 2))
			}
			var enough atomic.Int32 // connections
			next := func(i int, n int64) []byte {
				if n != sent[i] {
					t.Errorf("frame %d of connection %d is asked for, want %d", n, i, sent[i])
				}
				sent[i]++
				copy(frames[i], sized(ordinal(n, 2)))
				return frames[i]
			}
			check := func(i int, answer []byte) error {
				n := checked[i]
				if checked[i]++; checked[i] == 300 && enough.Add(1) == int32(c.conns) {
					cancel()
				}
				return isOrdinal(answer, n, c.padding)
			}
			got, err := Ask(ctx, Options{Addr: addr, Conns: c.conns, InFlight: c.inFlight, Duration: time.Minute}, next, check)
			if err != nil {
				t.Fatal(err)
			}
			sum := int64(0)
			for _, n := range checked {
				sum += n
			}
			if got.Requests != sum || ctx.Err() == nil {
				t.Errorf("%d requests in %v, %d answers were checked", got.Requests, got.Took, sum)
			}
		})
	}
}

// TestRoom sends a frame that no socket has room for to a server that reads it when the loader has written what it could.
func TestRoom(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	const padding = 12 << 20
	asked := make(chan struct{})
	addr := listen(t, func(conn net.Conn) error {
		<-asked
		in := bufio.NewReader(conn)
		for n := int64(0); ; n++ {
			f, err := frame(in)
			if gone(err) {
				return nil
			}
			if err := errors.Join(err, isOrdinal(f, n, padding)); err != nil {
				return err
			}
			if _, err := conn.Write(sized(ordinal(n, 0))); err != nil {
				return nil
			}
		}
	})
	got, err := Ask(ctx, Options{Addr: addr, Conns: 1, InFlight: 2, Duration: time.Minute}, func(_ int, n int64) []byte {
		if n == 1 {
			close(asked)
		}
		return sized(ordinal(n, padding))
	}, func(_ int, answer []byte) error {
		n := int64(binary.BigEndian.Uint64(answer))
		if n == 2 {
			cancel()
		}
		return isOrdinal(answer, n, 0)
	})
	if err != nil || got.Requests < 3 {
		t.Fatalf("%d requests, %v", got.Requests, err)
	}
}

// hundredAnd answers a hundred requests rightly, one after the other, writes something else and says no more.
func hundredAnd(then []byte) func(net.Conn) error {
	return func(conn net.Conn) error {
		in := bufio.NewReader(conn)
		for n := range int64(100) {
			if _, err := frame(in); err != nil {
				return err
			}
			if _, err := conn.Write(sized(ordinal(n, 0))); err != nil {
				return err
			}
		}
		if _, err := frame(in); err != nil {
			return err
		}
		if _, err := conn.Write(then); err != nil {
			return err
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		// What is still under way is read, else the connection is reset, and the loader may see that before the last bytes.
		if _, err := io.Copy(io.Discard, in); err != nil && !gone(err) {
			return err
		}
		return nil
	}
}

// TestEnds lets a server answer a hundred requests rightly and then something else.
func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		then []byte // and the end of the connection
		want string
	}{
		{"wrong answer", sized(ordinal(7, 0)), "want number 100"},
		{"end between answers", nil, ""},
		{"end within a length", []byte{0, 0}, ""},
		{"end within an answer", []byte{0, 0, 0, 8, 1}, ""},
		{"answer behind which the end lies", sized(ordinal(100, 0)), ""},
		{"no length", []byte{0xff, 0xff, 0xff, 0xff, 0, 0}, "4294967295 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := listen(t, hundredAnd(c.then))
			checked := int64(0)
			got, err := Ask(context.Background(), Options{Addr: addr, Conns: 1, InFlight: 3, Duration: time.Minute},
				func(_ int, n int64) []byte { return sized(ordinal(n, 0)) },
				func(_ int, answer []byte) error { checked++; return isOrdinal(answer, checked-1, 0) })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v after %d requests, want one with %q", err, got.Requests, c.want)
			}
			if got.Requests < 100 {
				t.Errorf("%d answers counted, 100 were right", got.Requests)
			}
		})
	}
}

// TestReset lets a server end a connection with requests that it has not read.
func TestReset(t *testing.T) {
	addr := listen(t, func(conn net.Conn) error {
		_, err := frame(bufio.NewReaderSize(conn, 16))
		return err
	})
	_, err := Ask(context.Background(), Options{Addr: addr, Conns: 1, InFlight: 10, Duration: time.Minute},
		func(_ int, n int64) []byte { return sized(ordinal(n, 1000)) }, func(int, []byte) error { return nil })
	if err == nil {
		t.Fatal("no error")
	}
}

// TestTimeOver ends a run to which nobody answers.
func TestTimeOver(t *testing.T) {
	addr := listen(t, func(conn net.Conn) error {
		_, err := io.Copy(io.Discard, conn)
		if gone(err) {
			return nil
		}
		return err
	})
	got, err := Ask(context.Background(), Options{Addr: addr, Conns: 2, Duration: 20 * time.Millisecond},
		func(_ int, n int64) []byte { return sized(ordinal(n, 0)) }, func(int, []byte) error { return nil })
	if err != nil || got.Requests != 0 || got.Took < 20*time.Millisecond {
		t.Fatalf("%+v, %v", got, err)
	}
}

// TestProduce sends small batches and long ones, and sees the error of a partition.
func TestProduce(t *testing.T) {
	for _, batch := range []int{1, 64 << 10} {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			addr := listen(t, func(conn net.Conn) error {
				in := bufio.NewReader(conn)
				for n := 0; ; n++ {
					f, err := frame(in)
					if err != nil {
						return nil
					}
					req := kmsg.NewPtrProduceRequest()
					req.SetVersion(9)
					if err := req.ReadFrom(f[15:]); err != nil {
						return err
					}
					got := req.Topics[0]
					if got.Topic != "bench" || got.Partitions[0].Partition != int32(n%3) {
						return fmt.Errorf("request %d is for %s-%d", n, got.Topic, got.Partitions[0].Partition)
					}
					resp := req.ResponseKind().(*kmsg.ProduceResponse)
					p := kmsg.NewProduceResponseTopicPartition()
					p.Partition, p.BaseOffset = got.Partitions[0].Partition, int64(n)
					if n == 50 {
						p.ErrorCode = 6
					}
					topic := kmsg.NewProduceResponseTopic()
					topic.Topic, topic.Partitions = got.Topic, []kmsg.ProduceResponseTopicPartition{p}
					resp.Topics = []kmsg.ProduceResponseTopic{topic}
					if _, err := conn.Write(sized(resp.AppendTo(append(bytes.Clone(f[4:8]), 0)))); err != nil {
						return nil
					}
				}
			})
			got, err := Produce(context.Background(), Options{Addr: addr, Topic: "bench", Partitions: 3, RecordSize: 100, BatchSize: batch, Conns: 1, InFlight: 5,
				Acks: 1, Duration: time.Minute})
			if err == nil || !strings.Contains(err.Error(), "error 6") || got.Requests != 50 {
				t.Fatalf("%d requests, %v", got.Requests, err)
			}
		})
	}
}

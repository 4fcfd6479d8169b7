// Command skeleton is the least a broker can do, as the limit in the benchmarks: it reads a Produce frame, checks the CRC of its
// batch, appends it to one file and acknowledges; it answers a Fetch with a megabyte of that file by sendfile, and an OffsetCommit
// after writing its bytes. It validates nothing else, keeps no index and no state, and must never be mistaken for a broker.
package main

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	listen = flag.String("listen", "127.0.0.1:0", "address")
	path   = flag.String("file", "", "the log file")
	table  = crc32.MakeTable(crc32.Castagnoli)
	end    atomic.Int64
)

func main() {
	flag.Parse()
	f, err := os.Create(*path)
	if err == nil {
		var ln net.Listener
		if ln, err = net.Listen("tcp", *listen); err == nil {
			fmt.Println("Kafka Server started", ln.Addr())
			for {
				c, err := ln.Accept()
				if err != nil {
					break
				}
				go serve(c.(*net.TCPConn), f)
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func serve(c *net.TCPConn, log *os.File) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 16)
	var buf []byte
	out := make([]byte, 0, 256)
	sections, err := os.Open(*path)
	if err != nil {
		return
	}
	defer sections.Close()
	for {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint32(size[:]))
		if n > 100<<20 {
			return
		}
		if n > len(buf) {
			buf = make([]byte, n)
		}
		if _, err := io.ReadFull(in, buf[:n]); err != nil {
			return
		}
		switch binary.BigEndian.Uint16(buf) {
		case 0:
			out, err = produce(buf[:n], log, out[:0])
		case 1:
			out, err = fetch(c, buf[:n], sections, out[:0])
		case 8:
			out, err = commit(buf[:n], log, out[:0])
		default:
			return
		}
		if err == nil {
			_, err = c.Write(out)
		}
		if err != nil {
			return
		}
	}
}

// produce finds the batch of a frame made by bench/load: the last thing in it, before three empty tag sections.
func produce(frame []byte, log *os.File, out []byte) ([]byte, error) {
	r := kmsg.NewPtrProduceRequest()
	r.SetVersion(9)
	if err := r.ReadFrom(frame[15:]); err != nil {
		return nil, err
	}
	p := r.Topics[0].Partitions[0]
	if crc32.Checksum(p.Records[21:], table) != binary.BigEndian.Uint32(p.Records[17:]) {
		return nil, fmt.Errorf("bad CRC")
	}
	at := end.Add(int64(len(p.Records))) - int64(len(p.Records))
	if _, err := log.WriteAt(p.Records, at); err != nil {
		return nil, err
	}
	resp := r.ResponseKind().(*kmsg.ProduceResponse)
	rp := kmsg.NewProduceResponseTopicPartition()
	rp.Partition, rp.BaseOffset = p.Partition, at
	rt := kmsg.NewProduceResponseTopic()
	rt.Topic, rt.Partitions = r.Topics[0].Topic, []kmsg.ProduceResponseTopicPartition{rp}
	resp.Topics = []kmsg.ProduceResponseTopic{rt}
	out = append(out, 0, 0, 0, 0)
	out = append(out, frame[4:8]...)
	out = resp.AppendTo(append(out, 0))
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out, nil
}

// commit writes the frame and says that partition 0 of the topic "bench" is committed (version 8).
func commit(frame []byte, log *os.File, out []byte) ([]byte, error) {
	if _, err := log.WriteAt(frame, end.Add(int64(len(frame)))-int64(len(frame))); err != nil {
		return nil, err
	}
	out = append(out, 0, 0, 0, 0)
	out = append(out, frame[4:8]...)
	out = append(out, 0, 0, 0, 0, 0, 2, 6, 'b', 'e', 'n', 'c', 'h', 2, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out, nil
}

// fetch writes the head of a Fetch 12 answer, then a megabyte of the file, and returns the tail.
func fetch(c *net.TCPConn, frame []byte, f *os.File, out []byte) ([]byte, error) {
	r := kmsg.NewPtrFetchRequest()
	r.SetVersion(12)
	if err := r.ReadFrom(frame[15:]); err != nil {
		return nil, err
	}
	want := min(int64(r.MaxBytes), end.Load())
	out = append(out, 0, 0, 0, 0)
	out = append(out, frame[4:8]...)
	out = append(out, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2)
	out = binary.AppendUvarint(out, uint64(len(r.Topics[0].Topic)+1))
	out = append(out, r.Topics[0].Topic...)
	out = append(out, 2)
	out = append(out, make([]byte, 4+2+8+8+8)...)
	out = append(out, 0, 0xff, 0xff, 0xff, 0xff)
	out = binary.AppendUvarint(out, uint64(want+1))
	binary.BigEndian.PutUint32(out, uint32(int64(len(out)-4)+want+3))
	if _, err := c.Write(out); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if _, err := c.ReadFrom(io.LimitReader(f, want)); err != nil {
		return nil, err
	}
	return append(out[:0], 0, 0, 0), nil
}

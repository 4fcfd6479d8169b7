package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// proxy stands between a client and the node and misbehaves as networks do: of the answers to idempotent Produce requests it
// drops every tenth, with the connection, and of these requests it sends every tenth once more on a connection of its own and
// compares the offsets of the two answers.
type proxy struct {
	ln                           net.Listener
	node                         string
	produces                     atomic.Int64
	dropped, repeated, differing atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newProxy(listen, node string) (*proxy, error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	p := &proxy{ln: ln, node: node, conns: map[net.Conn]bool{}}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p, nil
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

func (p *proxy) close() {
	p.ln.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) track(c net.Conn, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on {
		p.conns[c] = true
	} else {
		delete(p.conns, c)
		c.Close()
	}
}

func (p *proxy) serve(client net.Conn) {
	p.track(client, true)
	defer p.track(client, false)
	up, err := net.Dial("tcp", p.node)
	if err != nil {
		return
	}
	p.track(up, true)
	defer p.track(up, false)
	waiting := make(chan []byte, 1000) // requests whose answers are due, in order
	go func() {
		defer close(waiting)
		for {
			req, err := readFrame(client)
			if err != nil {
				return
			}
			if answered(req) {
				waiting <- req
			}
			if _, err := up.Write(req); err != nil {
				return
			}
		}
	}()
	for req := range waiting {
		resp, err := readFrame(up)
		if err != nil {
			return
		}
		if idempotent(req) {
			n := p.produces.Add(1)
			if n%10 == 3 {
				p.repeat(req, resp)
			}
			if n%10 == 7 {
				p.dropped.Add(1)
				return
			}
		}
		if _, err := client.Write(resp); err != nil {
			return
		}
	}
}

// repeat sends the request again, alone, and compares offsets.
func (p *proxy) repeat(req, first []byte) {
	c, err := net.DialTimeout("tcp", p.node, 5*time.Second)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(req); err != nil {
		return
	}
	second, err := readFrame(c)
	if err != nil {
		return
	}
	p.repeated.Add(1)
	if a, b := offsets(req, first), offsets(req, second); a != b {
		p.differing.Add(1)
		fmt.Printf("proxy: a repeated request got %s, first %s\n", b, a)
	}
}

func readFrame(c io.Reader) ([]byte, error) {
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(b)
	if n > 100<<20 {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	b = append(b, make([]byte, n)...)
	_, err := io.ReadFull(c, b[4:])
	return b, err
}

// parse returns the Produce request in a frame, or nil.
func parse(frame []byte) *kmsg.ProduceRequest {
	if len(frame) < 14 || binary.BigEndian.Uint16(frame[4:]) != 0 {
		return nil
	}
	r := kmsg.NewPtrProduceRequest()
	r.SetVersion(int16(binary.BigEndian.Uint16(frame[6:])))
	body := frame[12:]
	if n := int16(binary.BigEndian.Uint16(body)); n > 0 {
		body = body[2+n:]
	} else {
		body = body[2:]
	}
	if r.IsFlexible() {
		body = body[1:] // header tags: clients send none
	}
	if r.ReadFrom(body) != nil {
		return nil
	}
	return r
}

func answered(frame []byte) bool {
	r := parse(frame)
	return r == nil || r.Acks != 0
}

// idempotent reports whether the frame is a Produce request of which every batch has a producer id.
func idempotent(frame []byte) bool {
	r := parse(frame)
	if r == nil || r.Acks == 0 || len(r.Topics) == 0 {
		return false
	}
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			if len(p.Records) < 61 || int64(binary.BigEndian.Uint64(p.Records[43:])) < 0 {
				return false
			}
		}
	}
	return true
}

// offsets lists partition, error and base offset of a Produce answer.
func offsets(req, frame []byte) string {
	r := parse(req)
	resp := r.ResponseKind().(*kmsg.ProduceResponse)
	body := frame[8:]
	if resp.IsFlexible() {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		return err.Error()
	}
	text := ""
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			text += fmt.Sprintf("%s-%d error %d offset %d; ", t.Topic, p.Partition, p.ErrorCode, p.BaseOffset)
		}
	}
	return text
}

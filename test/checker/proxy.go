package checker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// exchange is a request on its way through the proxy, and what is to be done with it.
type exchange struct {
	frame   []byte       // as received; replaced when the request is changed
	req     kmsg.Request // decoded; nil if the liar does not want this API
	answer  kmsg.Response
	noReply bool
}

// liar breaks rules between clients and node. Its calls come one at a time for each of request and answer.
type liar struct {
	keys map[int16]bool // the APIs it wants to see
	keep bool           // it lies to the final readings too
	// request may change x.req in place and return changed, or set x.answer: then the node does not see the request.
	request func(x *exchange) (changed bool)
	// response may change the answer in place.
	response func(x *exchange, resp kmsg.Response) (changed bool)
}

// Proxy stands between clients and node. It drops and repeats answers as networks do, and in tests it lies.
type Proxy struct {
	ln   net.Listener
	node func() string
	wg   sync.WaitGroup

	// Each produce answer is lost, with its connection, with a probability of Drop in 1000; each request is sent a second time on a
	// connection of its own with a probability of Repeat in 1000.
	Drop, Repeat      atomic.Int64
	Dropped, Repeated atomic.Int64
	Lied              atomic.Int64 // requests and answers changed or made up

	mu    sync.Mutex
	liar  *liar
	lieMu sync.Mutex // the liar's calls come one at a time
	conns map[net.Conn]bool
	rnd   *rand.Rand
}

// NewProxy listens on a free port of the loopback and forwards to the address that node names.
func NewProxy(node func() string, rnd *rand.Rand) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{ln: ln, node: node, conns: map[net.Conn]bool{}, rnd: rnd}
	p.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	return p, nil
}

// Dial opens a connection through the proxy.
func (p *Proxy) Dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", p.ln.Addr().String())
}

// Close ends all connections and waits for their goroutines.
func (p *Proxy) Close() {
	p.ln.Close()
	p.cut()
	p.wg.Wait()
}

// cut breaks all connections.
func (p *Proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// lie sets who lies from now on; nil: nobody.
func (p *Proxy) lie(l *liar) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.liar = l
}

func (p *Proxy) lying() *liar {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.liar
}

// honest makes the proxy forward and nothing else, unless whoever lies is to stay.
func (p *Proxy) honest() {
	if l := p.lying(); l == nil || !l.keep {
		p.lie(nil)
	}
	p.Drop.Store(0)
	p.Repeat.Store(0)
}

func (p *Proxy) track(c net.Conn, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on {
		p.conns[c] = true
	} else {
		delete(p.conns, c)
		c.Close()
	}
}

func (p *Proxy) chance(inThousand int64) bool {
	if inThousand == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rnd.Int64N(1000) < inThousand
}

func (p *Proxy) serve(client net.Conn) {
	p.track(client, true)
	defer p.track(client, false)
	up, err := net.DialTimeout("tcp", p.node(), 5*time.Second)
	if err != nil {
		return
	}
	p.track(up, true)
	defer p.track(up, false)
	waiting := make(chan *exchange, 256) // whose answers are due, in order
	p.wg.Go(func() {
		defer close(waiting)
		defer up.Close() // ends the loop below
		for {
			frame, err := readFrame(client)
			if err != nil {
				return
			}
			x := &exchange{frame: frame}
			p.look(x)
			if !x.noReply {
				waiting <- x
			}
			if x.answer != nil {
				continue
			}
			if _, err := up.Write(x.frame); err != nil {
				return
			}
		}
	})
	defer func() {
		client.Close()
		for range waiting {
		}
	}()
	for x := range waiting {
		if err := p.reply(client, up, x); err != nil {
			return
		}
	}
}

// look decodes a request for whoever lies and lets him change it.
func (p *Proxy) look(x *exchange) {
	if len(x.frame) < 12 {
		return
	}
	produce := binary.BigEndian.Uint16(x.frame[4:]) == 0
	l := p.lying()
	if !produce && (l == nil || !l.keys[int16(binary.BigEndian.Uint16(x.frame[4:]))]) {
		return
	}
	req := decodeRequest(x.frame)
	if r, ok := req.(*kmsg.ProduceRequest); ok && r.Acks == 0 {
		x.noReply = true
		return
	}
	if l == nil || req == nil || !l.keys[req.Key()] {
		return
	}
	x.req = req
	if l.request == nil {
		return
	}
	p.lieMu.Lock()
	defer p.lieMu.Unlock()
	changed := l.request(x)
	if changed || x.answer != nil {
		p.Lied.Add(1)
	}
	if changed {
		corr := int32(binary.BigEndian.Uint32(x.frame[8:]))
		x.frame = kmsg.NewRequestFormatter(kmsg.FormatterClientID("checker")).AppendRequest(nil, x.req, corr)
	}
}

var errDropped = errors.New("dropped")

// reply reads or makes the answer and passes it on, if no misfortune happens to it.
func (p *Proxy) reply(client, up net.Conn, x *exchange) error {
	corr := x.frame[8:12]
	if x.answer != nil {
		_, err := client.Write(encodeResponse(x.answer, corr))
		return err
	}
	frame, err := readFrame(up)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint16(x.frame[4:]) == 0 {
		if p.chance(p.Repeat.Load()) && idempotent(x.frame) {
			p.repeat(x.frame)
		}
		if p.chance(p.Drop.Load()) {
			p.Dropped.Add(1)
			return errDropped
		}
	}
	if l := p.lying(); l != nil && l.response != nil && x.req != nil {
		if resp, err := decodeResponse(x.req, frame); err == nil {
			p.lieMu.Lock()
			if l.response(x, resp) {
				p.Lied.Add(1)
				frame = encodeResponse(resp, corr)
			}
			p.lieMu.Unlock()
		}
	}
	_, err = client.Write(frame)
	return err
}

// repeat sends a request again, as a network does that delivers twice.
func (p *Proxy) repeat(frame []byte) {
	c, err := net.DialTimeout("tcp", p.node(), time.Second)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := c.Write(frame); err != nil {
		return
	}
	if _, err := readFrame(c); err == nil {
		p.Repeated.Add(1)
	}
}

func readFrame(c io.Reader) ([]byte, error) {
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(b)
	if n > 100<<20 || n < 4 {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	b = append(b, make([]byte, n)...)
	_, err := io.ReadFull(c, b[4:])
	return b, err
}

// decodeRequest reads a request frame, or returns nil for one that is not understood.
func decodeRequest(frame []byte) kmsg.Request {
	if len(frame) < 14 {
		return nil
	}
	req := kmsg.RequestForKey(int16(binary.BigEndian.Uint16(frame[4:])))
	if req == nil {
		return nil
	}
	req.SetVersion(int16(binary.BigEndian.Uint16(frame[6:])))
	body := frame[12:]
	n := max(int(int16(binary.BigEndian.Uint16(body))), 0)
	if len(body) < 2+n {
		return nil
	}
	body = body[2+n:]
	if req.IsFlexible() {
		if len(body) == 0 || body[0] != 0 {
			return nil // tags in the header: no client of ours sends any
		}
		body = body[1:]
	}
	if req.ReadFrom(body) != nil {
		return nil
	}
	return req
}

func encodeResponse(resp kmsg.Response, correlation []byte) []byte {
	b := append(make([]byte, 4), correlation...)
	if resp.IsFlexible() && resp.Key() != 18 {
		b = append(b, 0)
	}
	b = resp.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// idempotent reports whether every batch of a Produce request has a producer id.
func idempotent(frame []byte) bool {
	r, ok := decodeRequest(frame).(*kmsg.ProduceRequest)
	if !ok || r.Acks == 0 || len(r.Topics) == 0 {
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

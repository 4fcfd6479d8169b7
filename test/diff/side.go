package diff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// side is one of the two nodes: how to start and stop it, its connections and the values its answers gave.
type side struct {
	name    string
	command string // "CMD start --port P --dir D --props FILE", "CMD stop --dir D"
	dir     string
	addr    string
	// controller is where the node's controller listens.
	controller string
	conns      map[string]*conn
	vars       map[string]any
}

// start brings up a fresh node with the given properties beside those every side gets.
func (s *side) start(dir string, port int, props []string) error {
	s.dir, s.addr, s.controller = dir, fmt.Sprintf("localhost:%d", port), fmt.Sprintf("localhost:%d", port+101)
	s.conns, s.vars = map[string]*conn{}, map[string]any{"port": int32(port)}
	file := filepath.Join(dir, "extra.properties")
	if err := os.WriteFile(file, []byte(strings.Join(props, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	cmd := exec.Command("bash", "-c", s.command+` start --port "$1" --dir "$2" --props "$3"`, "start", fmt.Sprint(port), dir, file)
	// Apache Kafka lives for seconds here: little memory, and little time for compiling.
	cmd.Env = append(os.Environ(), "KAFKA_HEAP_OPTS=-Xmx400m -XX:TieredStopAtLevel=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("starting %s: %w\n%s", s.name, err, out)
	}
	return nil
}

func (s *side) stop() {
	for _, c := range s.conns {
		c.close()
	}
	_ = exec.Command("bash", "-c", s.command+` stop --dir "$1"`, "stop", s.dir).Run()
}

// conn is one raw connection.
type conn struct {
	net.Conn
	next    int32
	pending *pending
}

type pending struct {
	corr int32
	req  kmsg.Request // nil for raw bytes
}

func (c *conn) close() {
	if c.Conn != nil {
		_ = c.Conn.Close()
	}
}

// closedAnswer stands for a connection that the node closed instead of answering.
const closedAnswer = "connection closed"

// patience is for a machine that does other things too.
const patience = time.Minute

// do sends a row's request (unless it only collects) and returns the answer as a tree, closedAnswer, or nil for async.
func (s *side) do(r *row) (any, error) {
	c := s.conns[r.conn]
	if c == nil {
		addr := s.addr
		if strings.HasPrefix(r.conn, "controller") {
			addr = s.controller
		}
		nc, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			return nil, err
		}
		c = &conn{Conn: nc, next: 100}
		s.conns[r.conn] = c
	}
	if !r.collect {
		if err := s.send(c, r); err != nil {
			return nil, err
		}
		if r.async {
			return nil, nil
		}
	}
	if c.pending == nil {
		return nil, fmt.Errorf("line %d: nothing to collect on %s", r.line, r.conn)
	}
	p := c.pending
	c.pending = nil
	if req, ok := p.req.(*kmsg.ProduceRequest); ok && req.Acks == 0 {
		return "no answer (acks=0)", nil
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	body, err := readFrame(c)
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			c.close()
			delete(s.conns, r.conn)
			return nil, fmt.Errorf("line %d: %s gives no answer in %v", r.line, s.name, patience)
		}
		c.close()
		delete(s.conns, r.conn)
		return closedAnswer, nil
	}
	return decode(body, p)
}

func (s *side) send(c *conn, r *row) error {
	if r.raw != nil {
		c.pending = &pending{}
		_, _ = c.Write(r.raw) // a node may close before it read all: the read tells
		return nil
	}
	req, err := request(r, s.vars)
	if err != nil {
		return err
	}
	c.next++
	c.pending = &pending{corr: c.next, req: req}
	_, _ = c.Write(frame(req, c.next))
	return nil
}

// frame lays a request out with its header: version 2 when flexible, else 1.
func frame(req kmsg.Request, corr int32) []byte {
	b := make([]byte, 4, 256)
	b = binary.BigEndian.AppendUint16(b, uint16(req.Key()))
	b = binary.BigEndian.AppendUint16(b, uint16(req.GetVersion()))
	b = binary.BigEndian.AppendUint32(b, uint32(corr))
	b = append(b, 0, 4)
	b = append(b, "diff"...)
	if req.IsFlexible() {
		b = append(b, 0)
	}
	b = req.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func readFrame(c net.Conn) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 64<<20 {
		return nil, fmt.Errorf("an answer of %d bytes", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	return b, err
}

func decode(body []byte, p *pending) (any, error) {
	if p.req == nil {
		return blob(body), nil
	}
	if len(body) < 4 || int32(binary.BigEndian.Uint32(body)) != p.corr {
		return nil, fmt.Errorf("correlation id %x, want %d", body[:min(4, len(body))], p.corr)
	}
	resp := p.req.ResponseKind()
	body = body[4:]
	if resp.IsFlexible() && resp.Key() != 18 {
		if len(body) == 0 || body[0] != 0 {
			return nil, fmt.Errorf("an answer header with tags: %x", body[:min(8, len(body))])
		}
		body = body[1:]
	}
	if resp.Key() == 18 && len(body) >= 2 && binary.BigEndian.Uint16(body) == 35 {
		resp.SetVersion(0) // KIP-511: an unsupported version of ApiVersions is answered in version 0
	}
	if err := resp.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%s answer: %w (%x)", kmsg.NameForKey(resp.Key()), err, body[:min(64, len(body))])
	}
	// kmsg ignores trailing bytes; encode again to notice them.
	if again := resp.AppendTo(nil); len(again) != len(body) {
		return nil, fmt.Errorf("%s v%d answer has %d bytes, its fields make %d", kmsg.NameForKey(resp.Key()), resp.GetVersion(), len(body), len(again))
	}
	return tree(reflect.ValueOf(resp)), nil
}

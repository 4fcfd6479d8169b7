package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/netx"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// door is a server under test with the requests that its handlers have seen and not answered.
type door struct {
	*Server
	addr   string
	logs   *logBuffer
	parked chan *Request
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start serves Heartbeat (answered at once, with the member id's length as throttle time), Produce and OffsetCommit (parked,
// pipelined), Fetch (parked), ListGroups (panics) and ApiVersions.
func start(t *testing.T, change func(*Options)) *door {
	t.Helper()
	d := &door{parked: make(chan *Request, 1000), logs: new(logBuffer)}
	reg := NewRegistry()
	reg.Register(API{Key: wire.Heartbeat, Min: 0, Max: 4, Handle: func(r *Request) {
		var m api.HeartbeatRequest
		if r.Decode(&m) {
			r.Answer(&api.HeartbeatResponse{ThrottleTimeMs: int32(len(m.MemberID))})
		}
	}})
	park := func(r *Request) { d.parked <- r }
	reg.Register(API{Key: wire.Produce, Min: 3, Max: 13, Pipelined: true, Handle: park})
	reg.Register(API{Key: wire.OffsetCommit, Min: 2, Max: 10, Pipelined: true, Handle: park})
	reg.Register(API{Key: wire.Fetch, Min: 4, Max: 18, Handle: park})
	reg.Register(API{Key: wire.ListGroups, Min: 0, Max: 5, Handle: func(*Request) { panic("boom") }})
	reg.Register(API{Key: wire.ApiVersions, Min: 0, Max: 5, Handle: func(r *Request) {
		if r.Unsupported {
			r.Answer(&api.ApiVersionsResponse{ErrorCode: wire.ErrUnsupportedVersion})
			return
		}
		r.Answer(&api.ApiVersionsResponse{})
	}})
	o := Options{Registry: reg, Logger: slog.New(slog.NewTextHandler(d.logs, nil))}
	if change != nil {
		change(&o)
	}
	d.Server = New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.addr = l.Addr().String()
	go d.Serve(l, ConnTemplate{Listener: "PLAINTEXT", SecurityProtocol: "PLAINTEXT", Principal: "User:ANONYMOUS"})
	t.Cleanup(d.Close)
	return d
}

// next waits for a parked request.
func (d *door) next(t *testing.T) *Request {
	t.Helper()
	select {
	case r := <-d.parked:
		return r
	case <-time.After(10 * time.Second):
		t.Fatalf("no request arrived; %+v; log:\n%s", d.Stats(), d.logs)
		return nil
	}
}

// peer is a raw client.
type peer struct {
	net.Conn
	t *testing.T
}

func (d *door) dial(t *testing.T) *peer {
	t.Helper()
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &peer{c, t}
}

func frame(key wire.APIKey, version int16, correlation int32, m wire.Message) []byte {
	w := new(wire.Writer)
	info, _ := api.Lookup(key)
	hv := int16(1)
	if info.FlexibleFrom >= 0 && version >= info.FlexibleFrom {
		hv = 2
	}
	name := "test"
	(&wire.RequestHeader{RequestApiKey: int16(key), RequestApiVersion: version, CorrelationID: correlation, ClientID: &name}).Encode(w, hv)
	if m != nil {
		m.Encode(w, version)
	}
	body, err := w.AppendTo(nil)
	if err != nil {
		panic(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func heartbeat(correlation int32, member string) []byte {
	return frame(wire.Heartbeat, 1, correlation, &api.HeartbeatRequest{GroupID: "g", MemberID: member})
}

func produce(correlation int32) []byte {
	return frame(wire.Produce, 3, correlation, &api.ProduceRequest{Acks: -1})
}

func (p *peer) send(frames ...[]byte) {
	p.t.Helper()
	if _, err := p.Write(bytes.Join(frames, nil)); err != nil {
		p.t.Fatal(err)
	}
}

// answer reads one answer and returns its correlation id and body.
func (p *peer) answer() (int32, []byte) {
	p.t.Helper()
	id, body, err := p.tryAnswer()
	if err != nil {
		p.t.Fatalf("read an answer: %v", err)
	}
	return id, body
}

func (p *peer) tryAnswer() (int32, []byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(p, size[:]); err != nil {
		return 0, nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(p, b); err != nil {
		return 0, nil, err
	}
	return int32(binary.BigEndian.Uint32(b)), b[4:], nil
}

func (p *peer) wantClosed() {
	p.t.Helper()
	if id, _, err := p.tryAnswer(); err == nil {
		p.t.Fatalf("got an answer (%d) where the connection should close", id)
	} else if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		p.t.Fatal("the connection stayed open")
	}
}

func TestAnswersInRequestOrder(t *testing.T) {
	d := start(t, nil)
	p := d.dial(t)
	p.send(produce(1), produce(2), produce(3), heartbeat(4, "abc"))
	r1, r2, r3 := d.next(t), d.next(t), d.next(t)
	if got := []int32{r1.Header.CorrelationID, r2.Header.CorrelationID, r3.Header.CorrelationID}; fmt.Sprint(got) != "[1 2 3]" {
		t.Fatalf("handlers saw %v", got)
	}
	// Answered backwards; the heartbeat is a barrier and must not overtake.
	r3.Answer(&api.ProduceResponse{})
	r2.AnswerNothing()
	r1.Answer(&api.ProduceResponse{})
	for _, want := range []int32{1, 3, 4} {
		if got, _ := p.answer(); got != want {
			t.Fatalf("answer %d, want %d", got, want)
		}
	}
}

func TestBarrierHoldsBackWhatFollows(t *testing.T) {
	d := start(t, nil)
	p := d.dial(t)
	p.send(frame(wire.Fetch, 4, 1, &api.FetchRequest{}), produce(2), produce(3))
	fetch := d.next(t)
	// Another connection is served meanwhile: the barrier is the connection's own.
	q := d.dial(t)
	q.send(heartbeat(9, "x"))
	q.answer()
	select {
	case r := <-d.parked:
		t.Fatalf("request %d started while the fetch waits", r.Header.CorrelationID)
	default:
	}
	fetch.Answer(&api.FetchResponse{})
	(d.next(t)).Answer(&api.ProduceResponse{})
	(d.next(t)).Answer(&api.ProduceResponse{})
	for want := int32(1); want <= 3; want++ {
		if got, _ := p.answer(); got != want {
			t.Fatalf("answer %d, want %d", got, want)
		}
	}
}

// TestOverlapIsWithinAnAPI: what a client sends behind its records, and counts on, does not start before they are acknowledged.
func TestOverlapIsWithinAnAPI(t *testing.T) {
	d := start(t, nil)
	p := d.dial(t)
	commit := func(correlation int32) []byte {
		return frame(wire.OffsetCommit, 8, correlation, &api.OffsetCommitRequest{})
	}
	p.send(produce(1), produce(2), commit(3), commit(4), produce(5))
	for _, group := range [][]int32{{1, 2}, {3, 4}, {5}} {
		var under []*Request
		for _, want := range group {
			r := d.next(t)
			if r.Header.CorrelationID != want {
				t.Fatalf("request %d started, want %d", r.Header.CorrelationID, want)
			}
			under = append(under, r)
		}
		q := d.dial(t) // what could start now has by the time another connection is served
		q.send(heartbeat(9, "x"))
		q.answer()
		for i, r := range under {
			select {
			case early := <-d.parked:
				t.Fatalf("request %d started while %d waits", early.Header.CorrelationID, r.Header.CorrelationID)
			default:
			}
			if r.Key() == wire.Produce {
				r.Answer(&api.ProduceResponse{})
			} else {
				r.Answer(&api.OffsetCommitResponse{})
			}
			if got, _ := p.answer(); got != group[i] {
				t.Fatalf("answer %d, want %d", got, group[i])
			}
		}
	}
}

// TestLater: what handlers leave for later is done before the connection waits: for bytes, for answers, for its end.
func TestLater(t *testing.T) {
	postponed := make(chan bool, 100)
	d := start(t, func(o *Options) {
		o.Registry = NewRegistry()
		o.Registry.Register(API{Key: wire.OffsetCommit, Min: 2, Max: 10, Pipelined: true, Handle: func(r *Request) {
			answer := func() { r.Answer(&api.OffsetCommitResponse{}) }
			later := r.Later(answer)
			postponed <- later
			if !later {
				answer()
			}
		}})
		o.Registry.Register(API{Key: wire.Heartbeat, Min: 0, Max: 4, Handle: func(r *Request) {
			if r.Later(func() {}) {
				t.Error("a barrier was postponed")
			}
			r.Answer(&api.HeartbeatResponse{})
		}})
	})
	commit := func(correlation int32) []byte {
		return frame(wire.OffsetCommit, 8, correlation, &api.OffsetCommitRequest{})
	}
	for name, c := range map[string]struct {
		send [][]byte
		want []bool
		more int // answers to what is no commit
	}{
		"alone":              {[][]byte{commit(1)}, []bool{false}, 0},
		"the last is not":    {[][]byte{commit(1), commit(2), commit(3)}, []bool{true, true, false}, 0},
		"before a barrier":   {[][]byte{commit(1), commit(2), heartbeat(3, "x"), commit(4)}, []bool{true, true, false}, 1},
		"behind a barrier":   {[][]byte{heartbeat(1, "x"), commit(2)}, []bool{false}, 1},
		"before half a one":  {[][]byte{commit(1), commit(2)[:9]}, []bool{false}, 0},
		"before the bad end": {[][]byte{commit(1), {0xff, 0xff, 0xff, 0xff}}, []bool{false}, 0},
		"before a bad one":   {[][]byte{commit(1), frame(wire.OffsetCommit, 77, 2, nil)}, []bool{true}, 0},
		"more than may wait": {slices.Repeat([][]byte{commit(1)}, maxInFlight+5), append(slices.Repeat([]bool{true}, maxInFlight+4), false), 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := d.dial(t)
			p.send(slices.Concat(c.send...))
			for range len(c.want) + c.more {
				p.answer()
			}
			var got []bool
			for range c.want {
				got = append(got, <-postponed)
			}
			if !slices.Equal(got, c.want) {
				t.Fatalf("postponed %v, want %v", got, c.want)
			}
		})
	}
}

// TestManyAnswersAtOnce: answers that become due together leave whole and in order also where the socket takes a part of them only.
func TestManyAnswersAtOnce(t *testing.T) {
	d := start(t, nil)
	for _, size := range []int{0, 1000, 300_000} {
		p := d.dial(t)
		var waiting []*Request
		for i := range int32(maxInFlight) {
			p.send(produce(i))
		}
		for range maxInFlight {
			waiting = append(waiting, d.next(t))
		}
		body := func(i int32) *api.ProduceResponse {
			m := api.NewProduceResponse()
			m.ThrottleTimeMs = i
			for left := size; left > 0; left -= 30_000 {
				m.Responses = append(m.Responses, api.ProduceResponseResponse{Name: strings.Repeat(string(rune('0'+i)), min(left, 30_000))})
			}
			return m
		}
		for _, r := range slices.Backward(waiting) {
			r.Answer(body(r.Header.CorrelationID))
		}
		for i := range int32(maxInFlight) {
			w := new(wire.Writer)
			body(i).Encode(w, 3)
			want, err := w.AppendTo(nil)
			if err != nil {
				t.Fatal(err)
			}
			if id, got := p.answer(); id != i || !bytes.Equal(got, want) {
				t.Fatalf("answers of %d bytes: answer %d is not what was sent for %d", size, id, i)
			}
		}
	}
}

func TestFramesInPiecesAndInBulk(t *testing.T) {
	d := start(t, nil)
	p := d.dial(t)
	var all []byte
	var sizes []int
	for i, n := range []int{0, 1, 3000, 30000, 17, 4064, 4065, 8 << 10, 12, 32000, 1, 30000, 31000} {
		all = append(all, heartbeat(int32(i), strings.Repeat("m", n))...)
		sizes = append(sizes, n)
	}
	go func() {
		rest := all
		for i := 0; len(rest) > 0; i++ {
			n := min(len(rest), []int{1, 2, 5, 1000, 3, 9000}[i%6])
			if _, err := p.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	for i, n := range sizes {
		id, body := p.answer()
		if id != int32(i) || int(binary.BigEndian.Uint32(body)) != n {
			t.Fatalf("answer %d says %d, want %d saying %d", id, binary.BigEndian.Uint32(body), i, n)
		}
	}
}

func TestBadPeersAreClosed(t *testing.T) {
	huge := binary.BigEndian.AppendUint32(nil, 100<<20+1)
	for name, bytes := range map[string][]byte{
		"negative length":  {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"2 GiB":            {0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"length 0":         {0, 0, 0, 0},
		"above the limit":  huge,
		"TLS hello":        {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc},
		"HTTP":             []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"short header":     {0, 0, 0, 4, 0, 3, 0, 0},
		"unknown key":      frame(wire.APIKey(93), 0, 1, nil)[:],
		"removed key":      {0, 0, 0, 10, 0, 4, 0, 0, 0, 0, 0, 1, 0xff, 0xff},
		"negative key":     {0, 0, 0, 10, 0xff, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff},
		"unserved version": frame(wire.Fetch, 3, 1, nil),
		"future version":   frame(wire.Heartbeat, 5, 1, nil),
		"negative version": frame(wire.Heartbeat, -1, 1, nil),
		"client id lies":   {0, 0, 0, 10, 0, 12, 0, 0, 0, 0, 0, 1, 0x7f, 0xff},
		"body cut short":   cut(heartbeat(1, "member")),
	} {
		t.Run(name, func(t *testing.T) {
			d := start(t, nil)
			other := d.dial(t)
			other.send(heartbeat(1, "a"))
			other.answer()
			p := d.dial(t)
			p.send(bytes)
			p.wantClosed()
			other.send(heartbeat(2, "b"))
			if id, _ := other.answer(); id != 2 {
				t.Fatal("the other connection was harmed")
			}
			if s := d.Stats(); s.Malformed+s.Panics != 1 {
				t.Errorf("counted %+v", s)
			}
			if got := strings.Count(d.logs.String(), "\n"); got != 1 {
				t.Errorf("%d log lines, want 1:\n%s", got, d.logs)
			}
		})
	}
}

func cut(f []byte) []byte {
	f = f[:len(f)-3]
	binary.BigEndian.PutUint32(f, uint32(len(f)-4))
	return f
}

func trailing(f []byte) []byte {
	f = append(f, 1, 2, 3)
	binary.BigEndian.PutUint32(f, uint32(len(f)-4))
	return f
}

// Kafka reads the fields and does not look whether something follows.
func TestTrailingBytesArePassedOver(t *testing.T) {
	d := start(t, nil)
	p := d.dial(t)
	p.send(trailing(heartbeat(1, "member")), heartbeat(2, "x"))
	for want := int32(1); want <= 2; want++ {
		if id, _ := p.answer(); id != want {
			t.Fatalf("answer %d, want %d", id, want)
		}
	}
}

func TestBadFrameAfterGoodOnesStillAnswersThem(t *testing.T) {
	d := start(t, nil)
	p := d.dial(t)
	p.send(produce(1), []byte{0xff, 0xff, 0xff, 0xff})
	(d.next(t)).Answer(&api.ProduceResponse{})
	if id, _ := p.answer(); id != 1 {
		t.Fatal("the good request lost its answer")
	}
	p.wantClosed()
}

func TestUnknownApiVersionsVersion(t *testing.T) {
	for _, version := range []int16{6, 99, 32767, -1} {
		d := start(t, nil)
		p := d.dial(t)
		p.send(frame(wire.ApiVersions, version, 7, nil), heartbeat(8, ""))
		id, body := p.answer()
		var m api.ApiVersionsResponse
		if err := wire.Unmarshal(body, &m, 0); err != nil || id != 7 || m.ErrorCode != wire.ErrUnsupportedVersion {
			t.Errorf("version %d: %v, %+v", version, err, m)
		}
		if id, _ := p.answer(); id != 8 {
			t.Error("the connection did not go on")
		}
	}
}

// TestLyingConnectionsCostLittle: each announces 100 MB and sends 100 bytes.
func TestLyingConnectionsCostLittle(t *testing.T) {
	d := start(t, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 300
	var wg sync.WaitGroup
	for range n {
		p := d.dial(t)
		wg.Go(func() { p.send(append(binary.BigEndian.AppendUint32(nil, 100<<20), make([]byte, 100)...)) })
	}
	wg.Wait()
	eventually(t, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		arrived := 0
		for c := range d.conns {
			if c.in.have.Load() == 104 {
				arrived++
			}
		}
		return arrived == n
	})
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > n*16<<10 {
		t.Errorf("heap grew by %d KiB for %d connections", grown>>10, n)
	}
	p := d.dial(t)
	p.send(heartbeat(1, "still here"))
	p.answer()
}

// TestMemoryBoundShedsHolders: connections that hold memory and do not go on are cut when an honest one needs it.
func TestMemoryBoundShedsHolders(t *testing.T) {
	d := start(t, func(o *Options) {
		o.Memory = NewMemory(3 << 20)
		o.Memory.big.wait, o.Memory.small.wait = 50*time.Millisecond, 50*time.Millisecond
	})
	for range 14 {
		p := d.dial(t)
		p.send(append(binary.BigEndian.AppendUint32(nil, 50<<20), make([]byte, 80<<10)...))
	}
	eventually(t, func() bool { return d.opts.Memory.InUse() > 1<<20 })
	p := d.dial(t)
	p.send(frame(wire.Heartbeat, 1, 1, &api.HeartbeatRequest{MemberID: strings.Repeat("m", 32000)}))
	p.answer()
	q := d.dial(t)
	big := append(binary.BigEndian.AppendUint32(nil, 1<<20), frame(wire.Produce, 3, 5, nil)[4:]...)
	go q.Write(append(big, make([]byte, 4+1<<20-len(big))...))
	r := d.next(t)
	if r.Header.CorrelationID != 5 || len(r.Body) < 1<<20-100 {
		t.Fatalf("request %d with %d bytes", r.Header.CorrelationID, len(r.Body))
	}
	r.Answer(&api.ProduceResponse{})
	q.answer()
	if d.Stats().Shed == 0 {
		t.Error("nobody was cut")
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("did not happen within 10 s")
		}
	}
}

// TestSlowReaderHoldsUpNobody: an answer far larger than the socket's buffer does not block its giver.
func TestSlowReaderHoldsUpNobody(t *testing.T) {
	d := start(t, nil)
	p := d.dial(t)
	p.send(frame(wire.Fetch, 4, 1, &api.FetchRequest{}))
	r := d.next(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
	done := make(chan struct{})
	go func() {
		r.Answer(&api.FetchResponse{Responses: []api.FetchResponseResponse{{Topic: "t",
			Partitions: []api.FetchResponseResponsePartition{{Records: wire.Records{Bytes: content}}, {Records: wire.Records{Section: memSection(content)}}}}}})
		close(done)
	}()
	<-done // returns although nobody reads
	q := d.dial(t)
	q.send(heartbeat(2, "q"))
	q.answer()
	_, body := p.answer()
	if len(body) < 2*len(content) || !bytes.Contains(body, content) || !bytes.HasSuffix(bytes.TrimRight(body, "\x00"), []byte("f")) {
		t.Fatalf("answer of %d bytes does not hold the content", len(body))
	}
}

type memSection []byte

func (m memSection) Size() int { return len(m) }
func (m memSection) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}

func TestConnectionsPerAddress(t *testing.T) {
	d := start(t, func(o *Options) {
		o.Limits = &Limits{Connections: 100, PerIP: 1, PerIPByAddr: map[string]int{"127.0.0.1": 2}}
	})
	a, b := d.dial(t), d.dial(t)
	a.send(heartbeat(1, ""))
	a.answer()
	b.send(heartbeat(1, ""))
	b.answer()
	d.dial(t).wantClosed()
	a.Close()
	eventually(t, func() bool { return d.Stats().Connections == 1 })
	c := d.dial(t)
	c.send(heartbeat(1, ""))
	c.answer()
}

func TestMaxConnectionsWaits(t *testing.T) {
	d := start(t, func(o *Options) { o.Limits = &Limits{Connections: 1, PerIP: 100} })
	a := d.dial(t)
	a.send(heartbeat(1, ""))
	a.answer()
	b := d.dial(t) // in the backlog
	b.send(heartbeat(2, ""))
	a.Close()
	if id, _ := b.answer(); id != 2 {
		t.Fatal("the waiting connection was not served after the first had gone")
	}
}

func TestLimitsMayChange(t *testing.T) {
	d := start(t, func(o *Options) { o.Limits = &Limits{Connections: 1, PerIP: 0} })
	d.dial(t).wantClosed()
	d.SetLimits(Limits{Connections: 1, PerIP: 5})
	a := d.dial(t)
	a.send(heartbeat(1, ""))
	a.answer()
	b := d.dial(t) // in the backlog
	b.send(heartbeat(2, ""))
	d.SetLimits(Limits{Connections: 2, PerIP: 5})
	if id, _ := b.answer(); id != 2 {
		t.Fatal("the waiting connection was not served after the bound was raised")
	}
}

func TestIdleConnectionsAreSwept(t *testing.T) {
	start(t, func(o *Options) { o.Idle = 50 * time.Millisecond }).dial(t).wantClosed() // nobody asks for it

	d := start(t, func(o *Options) { o.Idle = time.Hour })
	idle, busy := d.dial(t), d.dial(t)
	busy.send(frame(wire.Fetch, 4, 1, &api.FetchRequest{}))
	r := d.next(t)
	eventually(t, func() bool { return d.Stats().Connections == 2 })
	now := time.Now()
	d.sweepIdle(now.Add(time.Hour / 2))
	if d.Stats().Idle != 0 {
		t.Errorf("swept %d before their time", d.Stats().Idle)
	}
	d.sweepIdle(now.Add(2 * time.Hour))
	idle.wantClosed()
	if d.Stats().Idle != 1 {
		t.Errorf("swept %d", d.Stats().Idle)
	}
	r.Answer(&api.FetchResponse{})
	if id, _ := busy.answer(); id != 1 {
		t.Error("a connection whose request waits was swept")
	}
}

// TestGoneClientEndsItsLongPoll: a handler that waits in the reader goroutine learns that nobody waits for it any more.
func TestGoneClientEndsItsLongPoll(t *testing.T) {
	in, out := make(chan struct{}), make(chan struct{})
	d := start(t, func(o *Options) {
		o.Idle = 100 * time.Millisecond
		o.Registry.Register(API{Key: wire.ListOffsets, Min: 1, Max: 1, Handle: func(r *Request) {
			close(in)
			<-r.Context().Done()
			r.Answer(&api.ListOffsetsResponse{})
			close(out)
		}})
	})
	p := d.dial(t)
	p.send(frame(wire.ListOffsets, 1, 1, &api.ListOffsetsRequest{}))
	<-in
	p.Close()
	select {
	case <-out:
	case <-time.After(10 * time.Second):
		t.Fatal("the handler still waits")
	}
}

func TestShutdownAnswersWhatIsUnderWay(t *testing.T) {
	d := start(t, nil)
	p, idle := d.dial(t), d.dial(t)
	idle.send(heartbeat(1, ""))
	idle.answer()
	waits := d.dial(t)
	p.send(produce(1), produce(2))
	r1, r2 := d.next(t), d.next(t)
	waits.send(produce(1), heartbeat(2, "behind a barrier"))
	r3 := d.next(t)
	done := make(chan struct{})
	go func() {
		d.Shutdown(context.Background())
		close(done)
	}()
	idle.wantClosed()
	eventually(t, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return !slices.ContainsFunc(d.snapshotLocked(), func(c *conn) bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return !c.draining
		})
	})
	p.send(produce(3)) // comes too late
	r3.Answer(&api.ProduceResponse{})
	waits.answer()
	waits.wantClosed()
	r2.Answer(&api.ProduceResponse{})
	r1.Answer(&api.ProduceResponse{})
	p.answer()
	p.answer()
	p.wantClosed()
	<-done
	if _, err := net.Dial("tcp", d.addr); err == nil {
		t.Error("still accepting")
	}
}

func TestShutdownIsBounded(t *testing.T) {
	d := start(t, nil)
	p := d.dial(t)
	p.send(produce(1))
	r := d.next(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d.Shutdown(ctx)
	<-r.Context().Done()
	r.Answer(&api.ProduceResponse{}) // too late, and harmless
	p.wantClosed()
}

func TestPipesServe(t *testing.T) {
	d := start(t, nil)
	a, b := netx.Pipe(0)
	d.ServeConn(b, ConnTemplate{Listener: "CONTROLLER"})
	p := &peer{a, t}
	p.send(heartbeat(1, "abc"), heartbeat(2, "abcd"))
	for want := int32(1); want <= 2; want++ {
		if id, body := p.answer(); id != want || int32(binary.BigEndian.Uint32(body)) != want+2 {
			t.Fatalf("answer %d %v", id, body)
		}
	}
	a.Close()
	eventually(t, func() bool { return d.Stats().Connections == 0 })
}

func TestMemoryComesBack(t *testing.T) {
	d := start(t, nil)
	p := d.dial(t)
	for i := range int32(20) {
		big := frame(wire.Produce, 3, i, nil)
		big = append(big, make([]byte, 300<<10)...)
		binary.BigEndian.PutUint32(big, uint32(len(big)-4))
		p.send(big)
		(d.next(t)).Answer(&api.ProduceResponse{})
		p.answer()
	}
	p.Close()
	eventually(t, func() bool { return d.opts.Memory.InUse() == 0 && d.Stats().Connections == 0 })
}

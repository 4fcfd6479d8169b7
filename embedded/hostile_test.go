package embedded_test

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// request encodes a frame of info at a version; damage changes the body.
func request(info *api.Info, version int16, m wire.Message, damage func([]byte) []byte) []byte {
	w := new(wire.Writer)
	name := "hostile"
	(&wire.RequestHeader{RequestApiKey: int16(info.Key), RequestApiVersion: version, CorrelationID: 1, ClientID: &name}).Encode(w, info.RequestHeaderVersion(version))
	head, _ := w.AppendTo(nil)
	w.Reset()
	m.Encode(w, version)
	body, err := w.AppendTo(nil)
	if err != nil {
		body = nil // defaults that the version cannot say
	}
	frame := append(head, damage(body)...)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)
}

// TestHostileRequestsHarmNobody sends every API, in every version, empty, whole with its defaults, damaged, and random. Each gets
// an answer or a closed connection; no handler panics; a client beside it is served all the while.
func TestHostileRequestsHarmNobody(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed.Of(t), 2))
	n := embedded.Start(t, embedded.WithMetrics())
	honest := client(t, n)
	produce(t, honest, "t", 0, 1)
	sent := 0
	for _, info := range api.Table() {
		if info.Key == wire.UnregisterBroker {
			continue // damaged in the right place it asks for this broker's end, and gets it
		}
		for version := info.Min; version <= info.Max; version++ {
			for round := range 8 {
				frame := request(&info, version, info.NewRequest(), func(b []byte) []byte {
					switch round {
					case 0:
						return b
					case 1:
						return nil
					case 2:
						return b[:rng.IntN(len(b)+1)]
					case 3, 4:
						b = make([]byte, rng.IntN(200))
						for i := range b {
							b[i] = byte(rng.Uint32())
						}
						return b
					default: // a few bytes that mean much: counts, lengths, nulls
						for range 1 + rng.IntN(4) {
							if len(b) > 0 {
								b[rng.IntN(len(b))] = []byte{0, 1, 2, 0x7f, 0x80, 0xff}[rng.IntN(6)]
							}
						}
						return b
					}
				})
				attack(t, n, frame)
				sent++
			}
		}
	}
	produce(t, honest, "t", 1, 2)
	text := scrape(t, n)
	if got := series(text, "moldau_server_panics_total"); got != 0 {
		t.Errorf("%v of %d requests made a handler panic", got, sent)
	}
}

// attack sends one frame on a connection of its own and waits a moment for what comes.
func attack(t *testing.T, n *embedded.Node, frame []byte) {
	t.Helper()
	c, err := net.Dial("tcp", n.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(frame); err != nil {
		return // closed already
	}
	// Some requests wait on purpose (a fetch, a join): they are left waiting by a client that goes.
	c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	var size [4]byte
	var ne net.Error
	if _, err := io.ReadFull(c, size[:]); errors.As(err, &ne) && ne.Timeout() {
		return
	}
}

package node

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// apisAt asks a listener what it serves.
func apisAt(t *testing.T, addr string) map[wire.APIKey]bool {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	w := new(wire.Writer)
	name := "test"
	(&wire.RequestHeader{RequestApiKey: int16(wire.ApiVersions), ClientID: &name}).Encode(w, 1)
	body, err := w.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	var a api.ApiVersionsResponse
	r := wire.NewReader(b[4:], nil)
	a.Decode(r, 0)
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	out := map[wire.APIKey]bool{}
	for _, k := range a.ApiKeys {
		out[wire.APIKey(k.ApiKey)] = true
	}
	return out
}

// TestControllerListenerByName: controller.listener.names says which listener is the controller's.
func TestControllerListenerByName(t *testing.T) {
	o := options(t, "/data", map[string]string{
		"listeners":                      "PLAINTEXT://127.0.0.1:0,FIRST://127.0.0.1:0,SECOND://127.0.0.1:0",
		"advertised.listeners":           "PLAINTEXT://127.0.0.1:0,FIRST://127.0.0.1:0",
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,FIRST:PLAINTEXT,SECOND:PLAINTEXT",
		"controller.listener.names":      "SECOND",
	})
	o.FS = vfs.NewMem()
	n, err := start(t, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range n.listeners.all() {
		served := apisAt(t, b.l.Addr().String())
		controller := b.Name == "SECOND"
		if served[wire.BrokerRegistration] != controller || served[wire.Produce] == controller {
			t.Errorf("listener %s: broker registration %v, produce %v", b.Name, served[wire.BrokerRegistration], served[wire.Produce])
		}
	}
}

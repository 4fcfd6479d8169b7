package node

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
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

// TestKeysWithoutEffectAreSaid: once when they are set, with the reason.
func TestKeysWithoutEffectAreSaid(t *testing.T) {
	var out lines
	o := options(t, "/data", nil)
	o.FS, o.Logger = vfs.NewMem(), slog.New(slog.NewTextHandler(&out, nil))
	n, err := start(t, o)
	if err != nil {
		t.Fatal(err)
	}
	alter := func(kind int8, name, key, value string) {
		t.Helper()
		done := make(chan error, 1)
		req := &api.IncrementalAlterConfigsRequest{Resources: []api.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name,
			Configs: []api.IncrementalAlterConfigsRequestResourceConfig{{Name: key, Value: &value}}}}}
		n.line.Start(req, 1, time.Now().Add(10*time.Second), func(m wire.Message, err error) {
			if err == nil && m.(*api.IncrementalAlterConfigsResponse).Responses[0].ErrorCode != wire.ErrNone {
				err = m.(*api.IncrementalAlterConfigsResponse).Responses[0].ErrorCode
			}
			done <- err
		})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	topics := api.NewCreateTopicsRequest()
	for _, name := range []string{"a", "b"} {
		value := "true"
		topics.Topics = append(topics.Topics, api.CreateTopicsRequestTopic{Name: name, NumPartitions: 1, ReplicationFactor: 1,
			Configs: []api.CreateTopicsRequestTopicConfig{{Name: "preallocate", Value: &value}}})
	}
	created := make(chan error, 1)
	n.line.Start(topics, 7, time.Now().Add(10*time.Second), func(_ wire.Message, err error) { created <- err })
	if err := <-created; err != nil {
		t.Fatal(err)
	}
	alter(4, "1", "background.threads", "9")
	alter(4, "1", "log.retention.ms", "1000")
	alter(4, "", "num.io.threads", "9")
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(out.String(), "num.io.threads"); {
		if time.Now().After(deadline) {
			t.Fatalf("not said: %s", out.String())
		}
		runtime.Gosched()
	}
	for key, want := range map[string]int{"preallocate": 1, "background.threads": 1, "num.io.threads": 1, "log.retention.ms": 0} {
		if got := strings.Count(out.String(), "The configuration '"+key+"' is accepted but has no effect yet: "+key+" "); got != want {
			t.Errorf("%s is said %d times, want %d", key, got, want)
		}
	}
}

// lines is a log for several writers.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

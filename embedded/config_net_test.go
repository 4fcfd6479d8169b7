package embedded_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// netProofs are the keys of listeners, connections and of what a request may ask for.
func netProofs() []proof {
	const protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT"
	out := []proof{
		staticProof("advertised.listeners", "PLAINTEXT://somewhere.test:1234", nil, func(w *world) {
			b := w.metadata().Brokers[0]
			w.want(fmt.Sprint(b.Host, ":", b.Port), "somewhere.test:1234")
		}),
		{key: "listeners", how: static, see: func(t *testing.T) {
			w := rawNode(t, vfs.NewMem(), map[string]string{"listeners": "PLAINTEXT://127.0.0.2:0,CONTROLLER://127.0.0.1:0"}, "advertised.listeners")
			host, port, _ := net.SplitHostPort(w.addr)
			w.want(host, "127.0.0.2")
			w.want(w.metadata().Brokers[0].Host, "127.0.0.2")
			if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil { // somebody else may have the port there
				defer c.Close()
				w.want(c.LocalAddr().String() != c.RemoteAddr().String(), true)
				other := *w
				other.conn = c
				var a api.DescribeClusterResponse
				if other.try(1, &api.DescribeClusterRequest{EndpointType: 1}, &a) == nil && a.ClusterID != "" {
					t.Error("the node listens at an address that is not its own")
				}
			}
		}},
		{key: "listener.security.protocol.map", how: static, see: func(t *testing.T) {
			change := map[string]string{"listeners": "OUTSIDE://127.0.0.1:0,INSIDE://127.0.0.1:0,CONTROLLER://127.0.0.1:0",
				"advertised.listeners": "OUTSIDE://out.test:1,INSIDE://in.test:2", "inter.broker.listener.name": "INSIDE"}
			_, err := startRaw(t, vfs.NewMem(), properties(change))
			wantError(t, err, "No security protocol defined for listener OUTSIDE")
			change["listener.security.protocol.map"] = protocols
			w := rawNode(t, vfs.NewMem(), change)
			w.want(w.metadata().Brokers[0].Host, "out.test")
		}},
		{key: "listeners", how: broker, see: listenersChange},
		{key: "listener.security.protocol.map", how: broker, see: listenersChange},
		{key: "inter.broker.listener.name", how: static, see: func(t *testing.T) {
			change := map[string]string{"listeners": "OUTSIDE://127.0.0.1:0,CONTROLLER://127.0.0.1:0", "advertised.listeners": "OUTSIDE://127.0.0.1:0",
				"listener.security.protocol.map": protocols, "inter.broker.listener.name": "OUTSIDE"}
			rawNode(t, vfs.NewMem(), change)
			change["inter.broker.listener.name"] = "INSIDE"
			_, err := startRaw(t, vfs.NewMem(), properties(change))
			wantError(t, err, "inter.broker.listener.name must be a listener name defined in advertised.listeners")
		}},
		{key: "security.inter.broker.protocol", how: static, see: func(t *testing.T) {
			rawNode(t, vfs.NewMem(), map[string]string{"security.inter.broker.protocol": "PLAINTEXT"}, "inter.broker.listener.name")
			_, err := startRaw(t, vfs.NewMem(), properties(map[string]string{"security.inter.broker.protocol": "SSL"}, "inter.broker.listener.name"))
			wantError(t, err, "must be a listener name defined in advertised.listeners")
		}},
		staticProof("connections.max.idle.ms", "150", nil, func(w *world) {
			if err := w.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				w.t.Fatal(err)
			}
			_, err := w.conn.Read(make([]byte, 1))
			w.want(err, io.EOF)
		}),
		staticProof("socket.request.max.bytes", "1000", nil, func(w *world) {
			w.want(requestOf(w, 500), "answered")
			w.want(requestOf(w, 1500), "closed")
		}),
		staticProof("fetch.max.bytes", "1024", nil, func(w *world) {
			w.create("t", 1)
			for range 5 {
				w.must("t", batch{values: [][]byte{make([]byte, 800)}})
			}
			req := fetchOf("t", 0, 0)
			req.MaxBytes = 64 << 20
			var a api.FetchResponse
			w.call(12, req, &a)
			if got := len(a.Responses[0].Partitions[0].Records.Bytes); got == 0 || got > 1024 {
				w.t.Errorf("%d bytes", got)
			}
		}),
		{key: "max.incremental.fetch.session.cache.slots", how: static, see: func(t *testing.T) {
			for slots, want := range map[string]bool{"1": true, "0": false} {
				w := newWorld(t, embedded.With("max.incremental.fetch.session.cache.slots", slots))
				w.create("t", 1)
				req := fetchOf("t", 0, 0)
				req.SessionEpoch = 0 // asks for a session
				var a api.FetchResponse
				w.call(12, req, &a)
				w.want(a.SessionID != 0, want)
			}
		}},
		staticProof("max.request.partition.size.limit", "2", nil, func(w *world) {
			w.create("t", 5)
			var a api.DescribeTopicPartitionsResponse
			w.call(0, &api.DescribeTopicPartitionsRequest{Topics: []api.DescribeTopicPartitionsRequestTopic{{Name: "t"}}, ResponsePartitionLimit: 1000}, &a)
			w.want(len(a.Topics[0].Partitions), 2)
			w.want(a.NextCursor != nil && a.NextCursor.PartitionIndex == 2, true)
		}),
		{key: "config.providers", how: static, see: func(t *testing.T) {
			t.Setenv("MOLDAU_RACK", "east")
			w := newWorld(t, embedded.With("config.providers", "env"), embedded.With("config.providers.env.class", "org.apache.kafka.common.config.provider.EnvVarConfigProvider"),
				embedded.With("broker.rack", "${env:MOLDAU_RACK}"))
			w.want(deref(w.metadata().Brokers[0].Rack), "east")
		}},
		staticProof("broker.rack", "west", nil, func(w *world) { w.want(deref(w.metadata().Brokers[0].Rack), "west") }),
	}
	out = append(out, dynamicProofs("max.connections", "1", nil, another, "served", "left waiting")...)
	out = append(out, dynamicProofs("max.connections.per.ip", "1", nil, another, "served", "closed")...)
	out = append(out, dynamicProofs("max.connections.per.ip.overrides", "127.0.0.1:1", nil, another, "served", "closed")...)
	return append(out, socketProofs()...)
}

// listenersChange adds a listener, whose name no static property knows, to a running node and takes it away again.
func listenersChange(t *testing.T) {
	w := newWorld(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	added := free.Addr().String()
	free.Close()
	old := strings.TrimPrefix(w.addr, "127.0.0.1:")
	all := "PLAINTEXT://127.0.0.1:" + old + ",CONTROLLER://127.0.0.1:0"
	r := w.tryAlter(4, "1", "listeners", all+",EXTRA://"+added)
	w.want(r.ErrorCode == wire.ErrInvalidRequest && strings.Contains(deref(r.ErrorMessage), "No security protocol defined for listener EXTRA"), true)
	w.alter(4, "1", "listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,EXTRA:PLAINTEXT")
	w.eventually(func() string { // the broker checks by what it knows already
		return differs(w.tryAlter(4, "1", "listeners", all+",EXTRA://"+added).ErrorCode.Name(), "NONE")
	})
	var conn net.Conn
	w.eventually(func() string {
		if conn, err = net.Dial("tcp", added); err != nil {
			return err.Error()
		}
		return ""
	})
	defer conn.Close()
	extra := *w
	extra.conn = conn
	w.want(extra.ask(patience, "x"), "served")
	w.alter(4, "1", "listeners", all)
	w.eventually(func() string { return differs(extra.ask(patience, "x"), "closed") })
	w.eventually(func() string {
		c, err := net.Dial("tcp", added)
		if err == nil {
			c.Close()
			return "the listener is still open"
		}
		return ""
	})
	w.want(w.ask(patience, "x"), "served") // who came by another listener stays
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("start: %v, want %s", err, text)
	}
}

// another opens one more connection and asks something on it.
func another(w *world) string {
	other := *w
	other.connect()
	defer other.conn.Close()
	return other.ask(100*time.Millisecond, "x")
}

// requestOf sends a request of at least size bytes.
func requestOf(w *world, size int) string {
	other := *w
	other.connect()
	defer other.conn.Close()
	if got := other.ask(patience, strings.Repeat("x", size)); got != "served" {
		return got
	}
	return "answered"
}

// ask sends a request with a client id and says what comes of it within some time.
func (w *world) ask(limit time.Duration, clientID string) string {
	info, _ := api.Lookup(wire.ApiVersions)
	e := new(wire.Writer)
	(&wire.RequestHeader{RequestApiKey: int16(wire.ApiVersions), RequestApiVersion: 0, ClientID: &clientID}).Encode(e, info.RequestHeaderVersion(0))
	body, err := e.AppendTo(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	frame := append([]byte{0, 0, byte(len(body) >> 8), byte(len(body))}, body...)
	if err := w.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.conn.Write(frame); err != nil {
		return "closed"
	}
	switch _, err := io.ReadFull(w.conn, make([]byte, 4)); {
	case err == nil:
		return "served"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "left waiting"
	default:
		return "closed"
	}
}

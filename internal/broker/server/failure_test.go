package server

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// full puts one element into every list of a request, and something into every name.
func full(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "UnknownTags" {
				full(v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte("bytes"))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		full(v.Index(0))
	case reflect.String:
		v.SetString("name")
	case reflect.Int32, reflect.Int8:
		v.SetInt(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		full(v.Elem())
	case reflect.Array:
		if v.Type() == reflect.TypeFor[id.UUID]() {
			v.Set(reflect.ValueOf(id.UUID{1, 2, 3}))
		}
	}
}

// TestEveryAPICanFail: there is an answer to each request that says the error, and names the parts it is about.
func TestEveryAPICanFail(t *testing.T) {
	for _, info := range api.Table() {
		switch info.Key {
		case wire.AlterReplicaLogDirs, wire.DescribeLogDirs, wire.AlterUserScramCredentials:
			continue // parts are sorted differently in the answer, or old versions have no place: the connection is closed
		}
		for version := info.Min; version <= info.Max; version++ {
			req := info.NewRequest()
			full(reflect.ValueOf(req).Elem())
			if p, ok := req.(*api.ProduceRequest); ok {
				p.Acks = -1
			}
			w := wire.Marshal(req, version)
			r := &Request{Body: w}
			r.Header.RequestApiKey, r.Header.RequestApiVersion = int16(info.Key), version
			m, ok := failure(r, wire.ErrUnknownServerError)
			if !ok {
				t.Errorf("%s version %d has no answer for a failure", info.Name, version)
				continue
			}
			back := info.NewResponse()
			if err := wire.Unmarshal(wire.Marshal(m, version), back, version); err != nil {
				t.Errorf("%s version %d: %v", info.Name, version, err)
				continue
			}
			if !says(reflect.ValueOf(back).Elem(), wire.ErrUnknownServerError) {
				t.Errorf("%s version %d: the answer does not say it: %+v", info.Name, version, back)
			}
		}
	}
}

func says(v reflect.Value, code wire.ErrorCode) bool {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if says(v.Field(i), code) {
				return true
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if says(v.Index(i), code) {
				return true
			}
		}
	}
	return v.Type() == codeType && v.Interface() == code
}

// TestHandlerPanics: the client is told, and the connection and the node go on.
func TestHandlerPanics(t *testing.T) {
	d := start(t, nil)
	p := d.dial(t)
	p.send(frame(wire.ListGroups, 0, 1, &api.ListGroupsRequest{}))
	n, body := p.answer()
	var a api.ListGroupsResponse
	if err := wire.Unmarshal(body, &a, 0); n != 1 || err != nil || a.ErrorCode != wire.ErrUnknownServerError {
		t.Errorf("answer %d: %+v %v", n, a, err)
	}
	p.send(heartbeat(2, "x"))
	if n, _ := p.answer(); n != 2 {
		t.Errorf("the next answer is %d", n)
	}
	// In a goroutine of somebody else.
	parked := api.NewProduceRequest()
	parked.Acks = -1
	parked.TopicData = []api.ProduceRequestTopicData{{Name: "t", PartitionData: []api.ProduceRequestTopicDataPartitionData{{Index: 7}}}}
	p.send(frame(wire.Produce, 9, 3, parked))
	r := d.next(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.Rescue()
		panic("boom in a callback")
	}()
	<-done
	n, body = p.answer()
	var pr api.ProduceResponse
	if err := wire.Unmarshal(body[1:], &pr, 9); n != 3 || err != nil || len(pr.Responses) != 1 || pr.Responses[0].Name != "t" || pr.Responses[0].PartitionResponses[0].Index != 7 ||
		pr.Responses[0].PartitionResponses[0].ErrorCode != wire.ErrUnknownServerError {
		t.Errorf("answer %d: %+v %v", n, pr, err)
	}
	if s := d.Stats(); s.Panics != 2 || strings.Count(d.logs.String(), "handler panicked") != 2 {
		t.Errorf("counted %+v", s)
	}
	// An answer that was begun is not sent twice.
	p.send(produce(4))
	r = d.next(t)
	func() {
		defer r.Rescue()
		r.Answer(&api.ProduceResponse{})
		panic("boom after the answer")
	}()
	if n, _ := p.answer(); n != 4 {
		t.Errorf("the next answer is %d", n)
	}
	p.wantClosed()
	r.Rescue() // no panic: nothing
	if r.Context().Err() != context.Canceled {
		t.Error("the connection lives")
	}
	// Nobody waits for an answer: the connection is all that can tell.
	p = d.dial(t)
	quiet := api.NewProduceRequest()
	quiet.Acks = 0
	p.send(frame(wire.Produce, 9, 5, quiet))
	func() {
		r := d.next(t)
		defer r.Rescue()
		panic("boom")
	}()
	p.wantClosed()
}

// TestSweeperThatPanics: the owner of the server hears of it, and can end the server.
func TestSweeperThatPanics(t *testing.T) {
	faults := make(chan error, 1)
	s := New(Options{Registry: NewRegistry(), Idle: 50 * time.Millisecond, Fault: func(err error) { faults <- err }})
	s.mu.Lock()
	s.conns[nil] = struct{}{} // breaks who looks at it
	s.mu.Unlock()
	if err := <-faults; !strings.HasPrefix(err.Error(), "the sweeper of connections: panic: ") {
		t.Errorf("%v", err)
	}
	s.mu.Lock()
	clear(s.conns)
	s.mu.Unlock()
	s.Shutdown(t.Context())
	if n := s.Stats().Panics; n != 1 {
		t.Errorf("%d panics", n)
	}
}

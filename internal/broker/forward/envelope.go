package forward

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// ErrEnvelope is the cause when the controller could not make anything of an envelope. A client gets UNKNOWN_SERVER_ERROR.
var ErrEnvelope = errors.New("the controller refused a forwarded request")

// Forward sends a client's request to the controller and calls done once with its answer, a message of the request's API. The
// request's bytes are copied before Forward returns; done must not block.
func (c *Client) Forward(r *server.Request, done func(wire.Message, error)) {
	info, ok := api.Lookup(r.Key())
	if !ok {
		done(nil, fmt.Errorf("forward API %d: %w", r.Key(), wire.ErrUnsupportedVersion))
		return
	}
	env, err := envelope(info, &r.Header, r.Body, r.Conn)
	if err != nil {
		done(nil, err)
		return
	}
	version, correlation := r.Version(), r.Header.CorrelationID
	c.Start(env, 0, time.Time{}, func(m wire.Message, err error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(unwrap(info, version, correlation, m.(*api.EnvelopeResponse)))
	})
}

func envelope(info *api.Info, h *wire.RequestHeader, body []byte, conn *server.ConnInfo) (*api.EnvelopeRequest, error) {
	var w wire.Writer
	h.Encode(&w, info.RequestHeaderVersion(h.RequestApiVersion))
	w.Raw(body)
	data, err := w.AppendTo(nil)
	if err != nil {
		return nil, fmt.Errorf("forward %s: %w", info.Name, err)
	}
	kind, name, ok := strings.Cut(conn.Principal, ":")
	if !ok {
		kind, name = "User", "ANONYMOUS"
	}
	ip := conn.ClientIP
	if v4 := ip.To4(); v4 != nil {
		ip = v4
	}
	if len(ip) != net.IPv4len && len(ip) != net.IPv6len {
		ip = net.IPv4(127, 0, 0, 1).To4() // a client in this process
	}
	return &api.EnvelopeRequest{
		RequestData:       data,
		RequestPrincipal:  logrec.EncodeVersioned(&logrec.DefaultPrincipalData{Type: kind, Name: name}, 0),
		ClientHostAddress: ip,
	}, nil
}

func unwrap(info *api.Info, version int16, correlation int32, env *api.EnvelopeResponse) (wire.Message, error) {
	if env.ErrorCode != wire.ErrNone {
		return nil, fmt.Errorf("forward %s: %w: %s", info.Name, ErrEnvelope, env.ErrorCode.Name())
	}
	r := wire.NewReader(env.ResponseData, wire.NewBudget(len(env.ResponseData), nil))
	var h wire.ResponseHeader
	h.Decode(r, info.ResponseHeaderVersion(version))
	m := info.NewResponse()
	m.Decode(r, version)
	if err := r.Finish(); err != nil {
		return nil, fmt.Errorf("answer to forwarded %s: %w", info.Name, err)
	}
	if h.CorrelationID != correlation {
		return nil, fmt.Errorf("answer to forwarded %s: %w: correlation id %d instead of %d", info.Name, ErrEnvelope, h.CorrelationID, correlation)
	}
	return m, nil
}

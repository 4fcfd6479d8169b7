package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// Kinds of endpoint that DescribeCluster tells apart (KIP-919).
const (
	endpointBroker     int8 = 1
	endpointController int8 = 2
)

// adminLine asks single nodes. franz-go looks up the controller in Metadata, which controllers do not serve, so that a tool with
// --bootstrap-controller finds the active controller itself and speaks to it directly; brokers pass on what is the controller's.
type adminLine struct {
	bootstrap   []string
	controllers bool // bootstrap names controllers
	properties  map[string]string
	clientID    string
	timeout     time.Duration
	clients     map[string]*kgo.Client                             // by address
	versions    map[string]map[int16]api.ApiVersionsResponseApiKey // by address, by API key
}

// bootstrapFlags declares --bootstrap-server and --bootstrap-controller, of which one is used.
func bootstrapFlags(p *argParser, required bool, server, controller []string) {
	p.exclusive(required,
		p.flag(argStore, "Brokers to ask first: host:port,...", server...),
		p.flag(argStore, "Controllers to ask first: host:port,...", controller...))
}

// newAdminLine reads the flags and the properties, and connects to nothing yet.
func newAdminLine(n *namespace, properties map[string]string, clientID string) (*adminLine, error) {
	a := &adminLine{properties: properties, clientID: clientID, timeout: defaultAPITimeout,
		clients: map[string]*kgo.Client{}, versions: map[string]map[int16]api.ApiVersionsResponseApiKey{}}
	list, key := n.str("bootstrap-server"), "bootstrap.servers"
	if n.has("bootstrap-controller") {
		list, key, a.controllers = n.str("bootstrap-controller"), "bootstrap.controllers", true
	}
	a.bootstrap = splitServers(list)
	if len(a.bootstrap) == 0 {
		return nil, errors.New("Failed to create new KafkaAdminClient")
	}
	for _, hostPort := range a.bootstrap {
		_, port, err := net.SplitHostPort(hostPort)
		if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
			return nil, fmt.Errorf("Failed to create new KafkaAdminClient: Invalid url in %s: %s", key, hostPort)
		}
	}
	if ms, err := strconv.ParseInt(properties["default.api.timeout.ms"], 10, 64); err == nil && ms > 0 {
		a.timeout = time.Duration(ms) * time.Millisecond
	}
	return a, nil
}

func (a *adminLine) close() {
	for _, c := range a.clients {
		c.Close()
	}
}

// retryPause is the wait before nodes are asked again.
const retryPause = 100 * time.Millisecond

// any asks a node of the bootstrap list, whichever answers. call is the name Kafka's admin client has for what is done.
func (a *adminLine) any(ctx context.Context, call string, req wire.Request) (wire.Message, error) {
	return a.until(ctx, call, func(ctx context.Context) (wire.Message, error) {
		var last error
		for _, address := range a.bootstrap {
			answer, err := a.ask(ctx, address, req)
			if err == nil || errors.As(err, new(*serverError)) || errors.As(err, new(*hopeless)) || isRefusal(err) {
				return answer, err
			}
			last = err
		}
		return nil, last
	})
}

// brokers is any for calls that Kafka's admin client makes to brokers only.
func (a *adminLine) brokers(ctx context.Context, call string, req wire.Request) (wire.Message, error) {
	if a.controllers {
		return nil, &serverError{code: int16(wire.ErrUnsupportedEndpointType),
			text: "This Admin API is not yet supported when communicating directly with the controller quorum."}
	}
	return a.any(ctx, call, req)
}

// controller asks the active controller, through a broker if the tool was given brokers.
func (a *adminLine) controller(ctx context.Context, call string, req wire.Request) (wire.Message, error) {
	if !a.controllers {
		return a.any(ctx, call, req)
	}
	return a.until(ctx, call, func(ctx context.Context) (wire.Message, error) {
		c, err := a.describeCluster(ctx, false)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(c.Brokers, func(b api.DescribeClusterResponseBroker) bool { return b.BrokerID == c.ControllerID })
		if i < 0 {
			return nil, errNoController
		}
		return a.ask(ctx, nodeAddress(c.Brokers[i]), req)
	})
}

// errNoController says that the quorum has no leader at the moment.
var errNoController = errors.New("no active controller is known")

// node asks one node of the cluster.
func (a *adminLine) node(ctx context.Context, call string, nodeID int32, req wire.Request) (wire.Message, error) {
	return a.until(ctx, call, func(ctx context.Context) (wire.Message, error) {
		c, err := a.describeCluster(ctx, false)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(c.Brokers, func(b api.DescribeClusterResponseBroker) bool { return b.BrokerID == nodeID })
		if i < 0 {
			return nil, errNoController
		}
		return a.ask(ctx, nodeAddress(c.Brokers[i]), req)
	})
}

func nodeAddress(b api.DescribeClusterResponseBroker) string {
	return net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
}

// until repeats what failed for want of a connection or of a leader, as long as the timeout allows.
func (a *adminLine) until(ctx context.Context, call string, ask func(context.Context) (wire.Message, error)) (wire.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	for {
		answer, err := ask(ctx)
		switch {
		case err == nil && !movedController(answer), errors.As(err, new(*serverError)), errors.As(err, new(*hopeless)):
			return answer, err
		case isRefusal(err):
			return nil, err
		}
		select {
		case <-ctx.Done():
			if err == nil {
				return answer, nil
			}
			return nil, &serverError{code: int16(wire.ErrRequestTimedOut), text: "Timed out waiting for a node assignment. Call: " + call}
		case <-time.After(retryPause):
		}
	}
}

// hopeless is an error that no second try mends.
type hopeless struct{ error }

// isRefusal reports whether the other side has said no for good, as when a password is wrong.
func isRefusal(err error) bool {
	var known *kerr.Error
	return errors.As(err, &known) && !known.Retriable
}

// movedController reports whether the node that was asked is the controller no more.
func movedController(m wire.Message) bool {
	var code wire.ErrorCode
	switch r := m.(type) {
	case *api.UpdateFeaturesResponse:
		code = r.ErrorCode
	case *api.UnregisterBrokerResponse:
		code = r.ErrorCode
	case *api.UnregisterControllerResponse:
		code = r.ErrorCode
	case *api.AddRaftVoterResponse:
		code = r.ErrorCode
	case *api.RemoveRaftVoterResponse:
		code = r.ErrorCode
	case *api.DescribeQuorumResponse:
		if code = r.ErrorCode; len(r.Topics) == 1 && len(r.Topics[0].Partitions) == 1 && code == wire.ErrNone {
			code = r.Topics[0].Partitions[0].ErrorCode
		}
		return code == wire.ErrNotLeaderOrFollower || code == wire.ErrNotController
	}
	return code == wire.ErrNotController
}

// describeCluster returns the nodes of the kind that the tool was given: brokers, or controllers.
func (a *adminLine) describeCluster(ctx context.Context, fenced bool) (*api.DescribeClusterResponse, error) {
	req := api.NewDescribeClusterRequest()
	req.EndpointType, req.IncludeFencedBrokers = endpointBroker, fenced
	if a.controllers {
		req.EndpointType = endpointController
	}
	m, err := a.any(ctx, "listNodes", req)
	if err != nil {
		return nil, err
	}
	r := m.(*api.DescribeClusterResponse)
	return r, answered(int16(r.ErrorCode), r.ErrorMessage)
}

// ask sends one request to one address, at the highest version that both sides have.
func (a *adminLine) ask(ctx context.Context, address string, req wire.Request) (wire.Message, error) {
	c, err := a.client(address)
	if err != nil {
		return nil, err
	}
	known := a.versions[address]
	if known == nil {
		m, err := send(ctx, c, versionsRequest(), 4)
		if err != nil {
			return nil, err
		}
		r := m.(*api.ApiVersionsResponse)
		if err := answered(int16(r.ErrorCode), nil); err != nil {
			return nil, err
		}
		known = map[int16]api.ApiVersionsResponseApiKey{}
		for _, k := range r.ApiKeys {
			known[k.ApiKey] = k
		}
		a.versions[address] = known
	}
	info, ok := api.Lookup(req.APIKey())
	if !ok {
		return nil, &hopeless{fmt.Errorf("no API %d", req.APIKey())}
	}
	at, ok := known[int16(info.Key)]
	version := min(info.Max, at.MaxVersion)
	if !ok || version < max(info.Min, at.MinVersion) {
		return nil, unsupportedVersion("The node does not support %s", screamingName(info.Name))
	}
	if d, ok := req.(*api.DescribeClusterRequest); ok {
		if d.IncludeFencedBrokers && version < 2 {
			return nil, unsupportedVersion("Including fenced broker endpoints is not supported with version %d", version)
		}
		if d.EndpointType != endpointBroker && version < 1 {
			return nil, unsupportedVersion("Attempted to write a non-default endpointType at version %d", version)
		}
	}
	return send(ctx, c, req, version)
}

// versionsRequest asks for API versions, and with them for the levels of features.
func versionsRequest() *api.ApiVersionsRequest {
	r := api.NewApiVersionsRequest()
	r.ClientSoftwareName, r.ClientSoftwareVersion = "moldau-tools", Version
	return r
}

func unsupportedVersion(format string, args ...any) error {
	return &serverError{code: int16(wire.ErrUnsupportedVersion), text: fmt.Sprintf(format, args...)}
}

// screamingName spells DescribeQuorum as DESCRIBE_QUORUM.
func screamingName(name string) string {
	var out strings.Builder
	for i, r := range name {
		if i > 0 && r >= 'A' && r <= 'Z' {
			out.WriteByte('_')
		}
		out.WriteRune(r)
	}
	return strings.ToUpper(out.String())
}

func (a *adminLine) client(address string) (*kgo.Client, error) {
	if c := a.clients[address]; c != nil {
		return c, nil
	}
	c, err := connect(address, a.properties, a.clientID, kgo.MaxVersions(nil))
	if err != nil {
		return nil, &hopeless{err}
	}
	a.clients[address] = c
	return c, nil
}

func send(ctx context.Context, c *kgo.Client, req wire.Request, version int16) (wire.Message, error) {
	info, _ := api.Lookup(req.APIKey())
	answer, err := c.SeedBrokers()[0].Request(ctx, &carried{info: info, body: req, version: version})
	if err != nil {
		return nil, err
	}
	return answer.(*carried).body, nil
}

// carried lets franz-go carry a message of internal/wire, so that no second description of it is needed.
type carried struct {
	info    *api.Info
	body    wire.Message
	version int16
}

var (
	_ kmsg.Request  = (*carried)(nil)
	_ kmsg.Response = (*carried)(nil)
)

// Key and the other methods are those of kmsg.Request and kmsg.Response.
func (c *carried) Key() int16         { return int16(c.info.Key) }
func (c *carried) MaxVersion() int16  { return c.version }
func (c *carried) SetVersion(v int16) { c.version = v }
func (c *carried) GetVersion() int16  { return c.version }
func (c *carried) IsFlexible() bool {
	return c.info.FlexibleFrom >= 0 && c.version >= c.info.FlexibleFrom
}
func (c *carried) AppendTo(b []byte) []byte { return append(b, wire.Marshal(c.body, c.version)...) }
func (c *carried) ReadFrom(b []byte) error  { return wire.Unmarshal(b, c.body, c.version) }
func (c *carried) ResponseKind() kmsg.Response {
	return &carried{info: c.info, body: c.info.NewResponse(), version: c.version}
}
func (c *carried) RequestKind() kmsg.Request {
	return &carried{info: c.info, body: c.info.NewRequest(), version: c.version}
}

// executionError gives a server's error the text of the Java exception that holds it.
func executionError(err error) error {
	var e *serverError
	if errors.As(err, &e) {
		return errors.New(javaException(e))
	}
	return err
}

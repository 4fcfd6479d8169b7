package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/moldau-io/moldau/internal/base/conf"
)

// defaultAPITimeout is default.api.timeout.ms of Kafka's clients: how long a command tries before it gives up.
const defaultAPITimeout = time.Minute

// serverError is an error code that a broker answered.
type serverError struct {
	code int16
	text string
}

func (e *serverError) Error() string { return e.text }

// answered turns an answer's error into an error; message is the broker's own text, if any.
func answered(code int16, message *string) error {
	if code == 0 {
		return nil
	}
	e := &serverError{code: code}
	var known *kerr.Error
	switch {
	case message != nil && *message != "":
		e.text = *message
	case errors.As(kerr.ErrorForCode(code), &known):
		e.text = known.Description
	default:
		e.text = fmt.Sprintf("The server answered error code %d", code)
	}
	return e
}

// isCode reports whether err is the broker's answer with this code.
func isCode(err error, want *kerr.Error) bool {
	var e *serverError
	return errors.As(err, &e) && e.code == want.Code
}

// checkBootstrap checks the form of a list of servers.
func checkBootstrap(list string) error {
	if strings.TrimSpace(list) == "" {
		return errors.New("Error while validating the bootstrap address\n")
	}
	for _, hostPort := range strings.Split(list, ",") {
		if hostPort = strings.TrimSpace(hostPort); hostPort == "" {
			continue
		}
		_, port, err := net.SplitHostPort(hostPort)
		if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
			return errors.New("Please provide valid host:port like host1:9091,host2:9092\n")
		}
	}
	return nil
}

// clientProperties reads the file of a tool's --command-config (or a like option) and the key=value arguments that go over it.
func clientProperties(file string, pairs []string) (map[string]string, error) {
	out := map[string]string{}
	if file != "" {
		var err error
		if out, err = conf.ReadFile(file); err != nil {
			return nil, err
		}
	}
	for _, p := range pairs {
		key, value, _ := strings.Cut(p, "=")
		out[key] = value
	}
	return out, nil
}

// connect makes a client of the properties, which are those of Kafka's Java clients as far as they concern the connection.
func connect(bootstrap string, properties map[string]string, clientID string, more ...kgo.Opt) (*kgo.Client, error) {
	if id := properties["client.id"]; id != "" {
		clientID = id
	}
	timeout := defaultAPITimeout
	if ms, err := strconv.ParseInt(properties["default.api.timeout.ms"], 10, 64); err == nil && ms > 0 {
		timeout = time.Duration(ms) * time.Millisecond
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(splitServers(bootstrap)...),
		kgo.ClientID(clientID),
		kgo.SoftwareNameAndVersion("moldau-tools", Version),
		kgo.RetryTimeout(timeout),
		kgo.RequestRetries(1 << 20), // the timeout is the bound
	}
	security, err := securityOptions(properties)
	if err != nil {
		return nil, err
	}
	opts = append(append(opts, security...), more...)
	return kgo.NewClient(opts...)
}

func splitServers(list string) []string {
	var out []string
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

var jaasField = regexp.MustCompile(`(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"`)

// securityOptions reads security.protocol and what belongs to it: PEM trust stores, PLAIN and SCRAM.
func securityOptions(p map[string]string) ([]kgo.Opt, error) {
	protocol := strings.ToUpper(p["security.protocol"])
	var opts []kgo.Opt
	switch protocol {
	case "", "PLAINTEXT", "SASL_PLAINTEXT":
	case "SSL", "SASL_SSL":
		c, err := tlsConfig(p)
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(c))
	default:
		return nil, fmt.Errorf("Invalid value %s for configuration security.protocol: String must be one of (case insensitive): "+
			"SASL_PLAINTEXT, PLAINTEXT, SASL_SSL, SSL", p["security.protocol"])
	}
	if !strings.HasPrefix(protocol, "SASL") {
		return opts, nil
	}
	login := map[string]string{}
	for _, m := range jaasField.FindAllStringSubmatch(p["sasl.jaas.config"], -1) {
		login[m[1]] = m[2]
	}
	switch mechanism := p["sasl.mechanism"]; mechanism {
	case "PLAIN":
		return append(opts, kgo.SASL(plain.Auth{User: login["username"], Pass: login["password"]}.AsMechanism())), nil
	case "SCRAM-SHA-256":
		return append(opts, kgo.SASL(scram.Auth{User: login["username"], Pass: login["password"]}.AsSha256Mechanism())), nil
	case "SCRAM-SHA-512":
		return append(opts, kgo.SASL(scram.Auth{User: login["username"], Pass: login["password"]}.AsSha512Mechanism())), nil
	default:
		return nil, fmt.Errorf("the SASL mechanism %q is not supported by this tool; PLAIN and SCRAM are", mechanism)
	}
}

func tlsConfig(p map[string]string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	pem := []byte(p["ssl.truststore.certificates"])
	if file := p["ssl.truststore.location"]; file != "" {
		if t := p["ssl.truststore.type"]; !strings.EqualFold(t, "PEM") {
			return nil, fmt.Errorf("the trust store %s is of type %s; this tool reads ssl.truststore.type=PEM", file, t)
		}
		var err error
		if pem, err = os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("reading ssl.truststore.location: %w", err)
		}
	}
	if len(pem) > 0 {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("the trust store has no PEM certificate")
		}
	}
	return c, nil
}

// timedOut gives an error that comes from not reaching any broker the text of Kafka's admin client.
func timedOut(err error, call string) error {
	var dial *net.OpError
	if err != nil && (errors.As(err, &dial) || errors.Is(err, context.DeadlineExceeded)) {
		return fmt.Errorf("Timed out waiting for a node assignment. Call: %s", call)
	}
	return err
}

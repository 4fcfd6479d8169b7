package conf

import (
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Endpoint is a named listener: where a node listens, or what it tells others.
type Endpoint struct {
	Name     string // in upper case
	Protocol string // PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
	Host     string // empty: all addresses
	Port     int32
}

// Addr returns host:port as net.Listen takes it.
func (e Endpoint) Addr() string { return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))) }

// Voter is one entry of controller.quorum.voters.
type Voter struct {
	ID   id.BrokerID
	Host string
	Port int32
}

// network is what is derived from the listener keys.
type network struct {
	protocols        map[string]string // listener name to security protocol
	listeners        []Endpoint
	advertisedBroker []Endpoint
	advertisedCtl    []Endpoint
	interBroker      string
	voters           []Voter
}

// Listeners returns all endpoints of the listeners key.
func (b *Broker) Listeners() []Endpoint { return b.net.listeners }

// BrokerListeners returns the listeners that serve clients and brokers.
func (b *Broker) BrokerListeners() []Endpoint { return b.filterListeners(false) }

// ControllerListeners returns the listeners named in controller.listener.names.
func (b *Broker) ControllerListeners() []Endpoint { return b.filterListeners(true) }

func (b *Broker) filterListeners(controller bool) []Endpoint {
	return slices.DeleteFunc(slices.Clone(b.net.listeners), func(e Endpoint) bool { return b.isControllerListener(e.Name) != controller })
}

// isControllerListener compares with the names as they are written, as Kafka does.
func (b *Broker) isControllerListener(name string) bool {
	return slices.Contains(b.List("controller.listener.names"), name)
}

// AdvertisedListeners returns what the broker tells its clients: advertised.listeners, or else its own listeners.
func (b *Broker) AdvertisedListeners() []Endpoint { return b.net.advertisedBroker }

// AdvertisedControllerListeners returns what a controller registers, in the order of controller.listener.names. An empty host
// stands for the machine's own name.
func (b *Broker) AdvertisedControllerListeners() []Endpoint { return b.net.advertisedCtl }

// InterBrokerListener returns the name of the listener on which brokers reach each other.
func (b *Broker) InterBrokerListener() string { return b.net.interBroker }

// SecurityProtocol returns the protocol of a listener, by name in upper case.
func (b *Broker) SecurityProtocol(listener string) (string, bool) {
	p, ok := b.net.protocols[listener]
	return p, ok
}

// QuorumVoters returns controller.quorum.voters in the order given.
func (b *Broker) QuorumVoters() []Voter { return b.net.voters }

// ForListener returns the text of a key for one listener: listener.name.<name>.<key> if set, else the key itself if set.
func (b *Broker) ForListener(listener, key string) (string, bool) {
	if v, ok := b.originals["listener.name."+strings.ToLower(listener)+"."+key]; ok {
		return v, true
	}
	v, ok := b.originals[key]
	return v, ok
}

var securityProtocols = []string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}

// resolveNetwork parses the listener keys. The order of the checks is the order in which Kafka meets them.
func (b *Broker) resolveNetwork() error {
	var err error
	if b.net.protocols, err = b.listenerProtocols(); err != nil {
		return err
	}
	if b.net.listeners, err = parseEndpoints(b.List("listeners"), b.net.protocols, true); err != nil {
		return err
	}
	if b.net.voters, err = parseVoters(b.List("controller.quorum.voters")); err != nil {
		return err
	}
	advertised := b.net.listeners
	given := !b.IsNull("advertised.listeners")
	if given {
		if advertised, err = parseEndpoints(b.List("advertised.listeners"), b.net.protocols, false); err != nil {
			return err
		}
	}
	for _, e := range advertised {
		if !b.isControllerListener(e.Name) {
			b.net.advertisedBroker = append(b.net.advertisedBroker, e)
		}
	}
	if !given {
		advertised = nil
	}
	b.net.advertisedCtl = b.advertisedController(advertised)
	b.net.interBroker, err = b.interBrokerName()
	return err
}

func (b *Broker) listenerProtocols() (map[string]string, error) {
	const key = "listener.security.protocol.map"
	pairs, err := parseCSVMap(key, b.Text(key))
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(pairs))
	for name, protocol := range pairs {
		protocol = strings.ToUpper(protocol)
		if !slices.Contains(securityProtocols, protocol) {
			return nil, failf("Invalid security protocol `%s` defined in %s", pairs[name], key)
		}
		out[strings.ToUpper(name)] = protocol
	}
	if b.IsSet(key) {
		return out, nil
	}
	// Without a map of the user's, controller listeners default to PLAINTEXT, unless some listener is a secure one.
	secure := func(name string) bool { return slices.Contains(securityProtocols[1:], name) }
	names := b.List("controller.listener.names")
	if slices.ContainsFunc(names, secure) {
		return out, nil
	}
	for _, l := range b.List("listeners") {
		name, _, ok := strings.Cut(l, ":")
		if !ok {
			return nil, failf("Unable to parse a listener name from %s", l)
		}
		if secure(strings.ToUpper(name)) {
			return out, nil
		}
	}
	for _, n := range names {
		if n != "PLAINTEXT" {
			out[n] = "PLAINTEXT"
		}
	}
	return out, nil
}

// parseCSVMap reads "a:b,c:d"; the last colon of an element separates.
func parseCSVMap(key, text string) (map[string]string, error) {
	out := map[string]string{}
	if text == "" {
		return out, nil
	}
	parts := splitList(text)
	for len(parts) > 0 && parts[len(parts)-1] == "" {
		parts = parts[:len(parts)-1]
	}
	for _, p := range parts {
		i := strings.LastIndexByte(p, ':')
		if i < 0 {
			return nil, failf("Error parsing configuration property '%s': Range [0, -1) out of bounds for length %d", key, len(p))
		}
		out[javaTrim(p[:i])] = javaTrim(p[i+1:])
	}
	return out, nil
}

var endpointURI = regexp.MustCompile(`^(.*)://\[?([0-9a-zA-Z\-%._:]*)\]?:(-?[0-9]+)$`)

func parseEndpoints(entries []string, protocols map[string]string, distinctPorts bool) ([]Endpoint, error) {
	out, err := readEndpoints(entries, protocols)
	if err == nil {
		err = checkEndpoints(out, entries, distinctPorts)
	}
	if err != nil {
		return nil, failf("Error creating broker listeners from '[%s]': %s", strings.Join(entries, ", "), err.Error())
	}
	return out, nil
}

func readEndpoints(entries []string, protocols map[string]string) ([]Endpoint, error) {
	out := make([]Endpoint, 0, len(entries))
	for _, entry := range entries {
		m := endpointURI.FindStringSubmatch(entry)
		if m == nil {
			return nil, failf("Unable to parse %s to a broker endpoint", entry)
		}
		port, err := strconv.ParseInt(m[3], 10, 32)
		if err != nil {
			return nil, failf("For input string: \"%s\"", m[3])
		}
		name := strings.ToUpper(m[1])
		protocol, ok := protocols[name]
		if !ok {
			return nil, failf("No security protocol defined for listener %s", name)
		}
		out = append(out, Endpoint{Name: name, Protocol: protocol, Host: m[2], Port: int32(port)})
	}
	return out, nil
}

func checkEndpoints(eps []Endpoint, entries []string, distinctPorts bool) error {
	shown := "[" + strings.Join(entries, ", ") + "]"
	names := map[string]bool{}
	byPort := map[int32][]Endpoint{}
	for _, e := range eps {
		if names[e.Name] {
			return failf("Each listener must have a different name, listeners: %s", shown)
		}
		names[e.Name] = true
		if e.Port != 0 {
			byPort[e.Port] = append(byPort[e.Port], e)
		}
	}
	if !distinctPorts {
		return nil
	}
	for port, same := range byPort {
		if len(same) < 2 {
			continue
		}
		var v4, v6, named int
		for _, e := range same {
			switch ip := net.ParseIP(e.Host); {
			case ip == nil:
				named++
			case ip.To4() != nil && !strings.Contains(e.Host, ":"):
				v4++
			default:
				v6++
			}
		}
		const onePort = "If you have two listeners on the same port then one needs to be IPv4 and the other IPv6, listeners: %s, port: %d"
		switch {
		case named > 1:
			return failf("Each listener must have a different port, listeners: %s", shown)
		case v4+v6 == 0:
		case v4+v6 == 2 && (v4 != 1 || named > 0):
			return failf(onePort, shown, port)
		case v4+v6 == 2:
		default:
			return failf("Each listener must have a different port unless exactly one listener has an IPv4 address and "+
				"the other IPv6 address, listeners: %s, port: %d", shown, port)
		}
	}
	return nil
}

// advertisedController picks an endpoint for each controller listener name: the advertised one, or else the listener itself;
// an unspecific host of the first is taken from this node's entry among the voters.
func (b *Broker) advertisedController(advertised []Endpoint) []Endpoint {
	var out []Endpoint
	for i, name := range b.List("controller.listener.names") {
		same := func(e Endpoint) bool { return strings.EqualFold(e.Name, name) && b.isControllerListener(e.Name) }
		if j := slices.IndexFunc(advertised, same); j >= 0 {
			out = append(out, advertised[j])
			continue
		}
		j := slices.IndexFunc(b.net.listeners, same)
		if j < 0 {
			continue
		}
		e := b.net.listeners[j]
		if e.Host == "0.0.0.0" {
			e.Host = ""
		}
		if i == 0 && e.Host == "" {
			for _, v := range b.net.voters {
				if v.ID == b.NodeID() {
					e.Host, e.Port = v.Host, v.Port
				}
			}
		}
		out = append(out, e)
	}
	return out
}

func (b *Broker) interBrokerName() (string, error) {
	if b.IsNull("inter.broker.listener.name") {
		return strings.ToUpper(b.Text("security.inter.broker.protocol")), nil
	}
	if b.IsSet("security.inter.broker.protocol") {
		return "", failf("Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.")
	}
	name := strings.ToUpper(b.Text("inter.broker.listener.name"))
	if _, ok := b.net.protocols[name]; !ok {
		return "", failf("Listener with name %s defined in inter.broker.listener.name not found in listener.security.protocol.map.", name)
	}
	return name, nil
}

var (
	hostPort  = regexp.MustCompile(`^(?:[0-9a-zA-Z\-%._]*://)?\[?([0-9a-zA-Z\-%._:]*)\]?:([0-9]+)$`)
	validHost = regexp.MustCompile(`^[0-9a-zA-Z\-%._:]*$`)
)

func parseVoters(entries []string) ([]Voter, error) {
	const form = " for the configuration controller.quorum.voters. Each entry should be in the form `{id}@{host}:{port}`."
	out := make([]Voter, 0, len(entries))
	for _, entry := range entries {
		parts := strings.Split(entry, "@")
		for len(parts) > 0 && parts[len(parts)-1] == "" { // as Java's split
			parts = parts[:len(parts)-1]
		}
		if len(parts) != 2 {
			return nil, failf("Invalid configuration value for controller.quorum.voters. Each entry should be in the form `{id}@{host}:{port}`.")
		}
		voterID, err := strconv.ParseInt(parts[0], 10, 32)
		if err != nil {
			return nil, failf("Failed to parse voter ID as an integer from %s", parts[0])
		}
		m := hostPort.FindStringSubmatch(parts[1])
		if m == nil {
			return nil, failf("Failed to parse host name from entry %s%s", entry, form)
		}
		port, err := strconv.ParseInt(m[2], 10, 32)
		if err != nil || port > 65535 {
			return nil, failf("Failed to parse host port from entry %s%s", entry, form)
		}
		v := Voter{ID: id.BrokerID(voterID), Host: m[1], Port: int32(port)}
		if i := slices.IndexFunc(out, func(o Voter) bool { return o.ID == v.ID }); i >= 0 {
			out[i] = v
			continue
		}
		out = append(out, v)
	}
	return out, nil
}

// HostPort is one entry of controller.quorum.bootstrap.servers.
type HostPort struct {
	Host string
	Port int32
}

// BootstrapControllers returns controller.quorum.bootstrap.servers.
func (b *Broker) BootstrapControllers() []HostPort {
	out, _ := parseBootstrap(b.List("controller.quorum.bootstrap.servers")) // checked by the key's rule
	return out
}

func parseBootstrap(entries []string) ([]HostPort, error) {
	out := make([]HostPort, 0, len(entries))
	const form = ` for the configuration controller.quorum.bootstrap.servers. Each entry should be in the form "{host}:{port}"`
	for _, entry := range entries {
		m := hostPort.FindStringSubmatch(entry)
		if m == nil {
			return nil, failf("Failed to parse host name from %s%s", entry, form)
		}
		port, err := strconv.ParseInt(m[2], 10, 32)
		if err != nil || port > 65535 {
			return nil, failf("Failed to parse host port from %s%s", entry, form)
		}
		out = append(out, HostPort{m[1], int32(port)})
	}
	return out, nil
}

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/netx"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/image"
)

// bound is an open listener.
type bound struct {
	conf.Endpoint
	l          net.Listener
	controller bool
	serving    bool
}

// listeners are the open ones, in the order of the listeners key; those that a dynamic change has opened come last.
type listeners struct {
	mu   sync.Mutex
	open []*bound
	// serves says that the broker is unfenced: what opens from now on serves at once.
	serves, closed bool
}

func (ls *listeners) all() []*bound {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return slices.Clone(ls.open)
}

// close closes every listener; none opens afterwards.
func (ls *listeners) close() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.closed = true
	for _, b := range ls.open {
		_ = b.l.Close() // nothing is served any more
	}
}

// listen opens all listeners, so that a taken port ends the start before the cluster hears of it. They serve later.
func (n *Node) listen(ctx context.Context) error {
	for _, e := range n.o.Config.Listeners() {
		if err := n.bind(ctx, n.o.Config, e); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) bind(ctx context.Context, config *conf.Broker, e conf.Endpoint) error {
	l, err := netx.Listen(ctx, e.Host, int(e.Port))
	if err != nil {
		return fmt.Errorf("listener %s: %w", e.Name, err)
	}
	b := &bound{Endpoint: e, l: l}
	for _, c := range config.ControllerListeners() {
		b.controller = b.controller || c.Name == e.Name
	}
	n.listeners.mu.Lock()
	defer n.listeners.mu.Unlock()
	if n.listeners.closed {
		return errors.Join(net.ErrClosed, l.Close())
	}
	n.listeners.open = append(n.listeners.open, b)
	return nil
}

// serveListeners opens the doors: the controller's, or those of the clients.
func (n *Node) serveListeners(controllers bool) {
	n.listeners.mu.Lock()
	defer n.listeners.mu.Unlock()
	n.listeners.serves = n.listeners.serves || !controllers
	for _, b := range n.listeners.open {
		if b.controller == controllers && !b.serving && !n.listeners.closed {
			n.serveOn(b)
		}
	}
}

// serveOn needs the listeners' mutex.
func (n *Node) serveOn(b *bound) {
	b.serving = true
	srv := n.srv
	if b.controller {
		srv = n.ctl
	}
	peer := server.ConnTemplate{Listener: b.Name, SecurityProtocol: b.Protocol, Principal: anonymous}
	n.running.Go(func() {
		defer n.panicked("listener " + b.Name)
		if err := srv.Serve(b.l, peer); err != nil {
			n.log.Error("listener ended", "listener", b.Name, "err", err)
		}
	})
}

// changeListeners opens the client listeners that a dynamic change has added and closes those it has left out, with their
// connections. Listeners are told apart by name, as in Kafka: one that keeps its name keeps its address. What the broker has
// registered with the cluster stays as it was.
func (n *Node) changeListeners(b *conf.Broker) error {
	wanted := b.BrokerListeners()
	named := func(name string) func(conf.Endpoint) bool {
		return func(e conf.Endpoint) bool { return e.Name == name }
	}
	var gone []*bound
	n.listeners.mu.Lock()
	n.listeners.open = slices.DeleteFunc(n.listeners.open, func(x *bound) bool {
		if x.controller || slices.ContainsFunc(wanted, named(x.Name)) {
			return false
		}
		gone = append(gone, x)
		return true
	})
	have := make(map[string]bool, len(n.listeners.open))
	for _, x := range n.listeners.open {
		have[x.Name] = true
	}
	n.listeners.mu.Unlock()
	for _, x := range gone {
		n.srv.CloseListener(x.Name)
		_ = x.l.Close() // it may not have served yet
		n.log.Info("listener closed", "listener", x.Name, "addr", x.l.Addr())
	}
	var errs []error
	for _, e := range wanted {
		if have[e.Name] {
			continue
		}
		if e.Protocol != "PLAINTEXT" {
			errs = append(errs, fmt.Errorf("listener %s uses %s: only PLAINTEXT is supported yet", e.Name, e.Protocol))
			continue
		}
		if err := n.bind(context.Background(), b, e); err != nil {
			errs = append(errs, err)
			continue
		}
		n.log.Info("listener opened", "listener", e.Name, "addr", e.Addr())
	}
	n.listeners.mu.Lock()
	serves := n.listeners.serves
	n.listeners.mu.Unlock()
	if serves {
		n.serveListeners(false)
	}
	return errors.Join(errs...)
}

// advertised returns what the node tells others about its listeners: a port 0 becomes the port that was given, an empty host
// this machine's name.
func (n *Node) advertised(all []conf.Endpoint) []image.Endpoint {
	var out []image.Endpoint
	for _, e := range all {
		for _, b := range n.listeners.all() {
			if b.Name == e.Name && e.Port == 0 {
				e.Port = int32(netx.Port(b.l.Addr()))
			}
		}
		if e.Host == "" {
			e.Host = hostname()
		}
		out = append(out, image.Endpoint{Name: e.Name, Host: e.Host, Port: uint16(e.Port), SecurityProtocol: protocolNumber(e.Protocol)})
	}
	return out
}

// Addr returns host:port of the first client listener, as a client on this machine can use it.
func (n *Node) Addr() string {
	for _, b := range n.listeners.all() {
		if b.controller {
			continue
		}
		host := b.Host
		if host == "" || host == "0.0.0.0" || host == "::" {
			host = "localhost"
		}
		return net.JoinHostPort(host, fmt.Sprint(netx.Port(b.l.Addr())))
	}
	return ""
}

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// Line is the line to the controller: *forward.Client.
type Line interface {
	// Start sends req and calls done once, without blocking. It retries NOT_CONTROLLER until the deadline.
	Start(req wire.Request, version int16, deadline time.Time, done func(wire.Message, error))
}

// Options makes a Manager.
type Options struct {
	NodeID        id.BrokerID
	ClusterID     string
	IncarnationID id.UUID // fresh for each start of the process
	Endpoints     []image.Endpoint
	Features      []image.VersionRange
	Rack          *string
	LogDirs       []id.UUID
	// PreviousBrokerEpoch is what the last clean shutdown left behind; -1 without one (KIP-966).
	PreviousBrokerEpoch id.BrokerEpoch
	CordonedDirs        []id.UUID

	HeartbeatInterval   time.Duration // broker.heartbeat.interval.ms
	SessionTimeout      time.Duration // broker.session.timeout.ms
	RegistrationTimeout time.Duration // initial.broker.registration.timeout.ms

	Line   Line
	Logger *slog.Logger
}

// ErrNotRegistered: the controller has not taken the broker's registration in time.
var ErrNotRegistered = errors.New("unable to register with the controller quorum")

// Manager runs the lifecycle of one broker.
type Manager struct {
	o        Options
	unfenced chan struct{}
	granted  chan struct{}
	failed   chan struct{}
	wake     chan struct{}
	stop     chan struct{}
	stopped  chan struct{}

	mu      sync.Mutex
	m       machine
	started bool
	closed  bool
	shown   bool // the image shows this incarnation unfenced
	err     error
}

// New returns a Manager that has not started.
func New(o Options) *Manager {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Manager{o: o, unfenced: make(chan struct{}), granted: make(chan struct{}), failed: make(chan struct{}),
		wake: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{})}
	reg := api.NewBrokerRegistrationRequest()
	reg.BrokerID, reg.ClusterID, reg.IncarnationID, reg.Rack = int32(o.NodeID), o.ClusterID, o.IncarnationID, o.Rack
	reg.LogDirs, reg.PreviousBrokerEpoch = o.LogDirs, int64(o.PreviousBrokerEpoch)
	for _, e := range o.Endpoints {
		reg.Listeners = append(reg.Listeners, api.BrokerRegistrationRequestListener{
			Name: e.Name, Host: e.Host, Port: e.Port, SecurityProtocol: e.SecurityProtocol})
	}
	for _, f := range o.Features {
		reg.Features = append(reg.Features, api.BrokerRegistrationRequestFeature{
			Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
	}
	m.m = machine{registration: *reg, interval: o.HeartbeatInterval, cordoned: o.CordonedDirs, epoch: id.NoBrokerEpoch, offset: -1}
	return m
}

// Start begins to register.
func (m *Manager) Start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started || m.closed {
		return
	}
	m.started = true
	now := time.Now()
	deadline := time.Time{}
	if m.o.RegistrationTimeout > 0 {
		deadline = now.Add(m.o.RegistrationTimeout)
	}
	m.m.start(now, deadline)
	go m.run()
}

// Unfenced is closed when the controller has unfenced the broker and the image shows it: now others send it requests.
func (m *Manager) Unfenced() <-chan struct{} { return m.unfenced }

// Failed is closed when the broker could not register, or nobody keeps its registration alive; Err says why.
func (m *Manager) Failed() <-chan struct{} { return m.failed }

// Err returns why the lifecycle failed, or nil.
func (m *Manager) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// BrokerEpoch returns the epoch of the registration; -1 before it.
func (m *Manager) BrokerEpoch() id.BrokerEpoch {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m.epoch
}

// State returns where the broker stands.
func (m *Manager) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m.state
}

// ReadyToUnfence says that the broker can serve: its logs are open and it has applied the metadata.
func (m *Manager) ReadyToUnfence() { m.change((*machine).readyToUnfence) }

// OfflineDirs reports the log directories that have failed.
func (m *Manager) OfflineDirs(dirs []id.UUID) {
	m.change(func(x *machine) { x.dirs(append([]id.UUID{}, dirs...), nil) })
}

// CordonedDirs reports the log directories that take no new replicas.
func (m *Manager) CordonedDirs(dirs []id.UUID) {
	m.change(func(x *machine) { x.dirs(nil, append([]id.UUID{}, dirs...)) })
}

// ImagePublished says how far the committed metadata was applied on this node. It does not block.
func (m *Manager) ImagePublished(img *image.Image) {
	defer m.poke()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.m.sawImage(img.Provenance.Offset)
	b := img.Cluster.Broker(m.o.NodeID)
	m.shown = b != nil && b.IncarnationID == m.o.IncarnationID && !b.Fenced
	if b != nil && b.IncarnationID == m.o.IncarnationID && len(b.Directories) == 0 && len(m.m.registration.LogDirs) > 0 &&
		img.Features.MetadataVersion.DirectoryAssignmentSupported() {
		m.m.lacksDirs()
	}
	m.announceLocked()
}

// Shutdown asks the controller to move leaderships away, and returns when it lets the broker go or ctx ends.
func (m *Manager) Shutdown(ctx context.Context) error {
	m.change(func(x *machine) { x.beginShutdown(time.Now()) })
	select {
	case <-m.granted:
		return nil
	case <-m.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("controlled shutdown: %w", ctx.Err())
	}
}

// Close ends the lifecycle without a word to the controller.
func (m *Manager) Close() {
	m.mu.Lock()
	started := m.started
	if !m.closed {
		m.closed = true
		close(m.stop)
		if !started {
			close(m.stopped)
		}
	}
	m.mu.Unlock()
	<-m.stopped
}

func (m *Manager) change(f func(*machine)) {
	defer m.poke()
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.m)
	m.announceLocked()
}

func (m *Manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// announceLocked tells the world what has come true.
func (m *Manager) announceLocked() {
	if m.m.unfenced && m.shown {
		closeOnce(m.unfenced)
	}
	if m.m.granted {
		closeOnce(m.granted)
	}
	if m.m.failed && m.err == nil {
		m.err = fmt.Errorf("%w: last answer %s", ErrNotRegistered, m.m.lastError.Name())
		closeOnce(m.failed)
	}
}

func closeOnce(ch chan struct{}) {
	select {
	case <-ch:
	default:
		close(ch)
	}
}

// run sends what the machine asks for.
func (m *Manager) run() {
	defer close(m.stopped)
	defer m.panicked()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		r, again := m.poll(now)
		switch {
		case r.registration != nil:
			m.register(r.registration, now)
			continue
		case r.heartbeat != nil:
			m.heartbeat(r.heartbeat, now)
			continue
		case !again.IsZero():
			timer.Reset(again.Sub(now))
		default:
			timer.Reset(time.Hour)
		}
		select {
		case <-m.wake:
		case <-timer.C:
		case <-m.stop:
			return
		}
	}
}

// poll asks the machine what to send.
func (m *Manager) poll(now time.Time) (request, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, again := m.m.poll(now)
	m.announceLocked()
	return r, again
}

// panicked ends the broker's life after a panic: without heartbeats it would be fenced, and would not know.
func (m *Manager) panicked() {
	p := recover()
	if p == nil {
		return
	}
	m.o.Logger.Error("the broker's lifecycle panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = fmt.Errorf("the broker's lifecycle: panic: %v", p)
	}
	closeOnce(m.failed)
}

func (m *Manager) register(r *api.BrokerRegistrationRequest, now time.Time) {
	info, _ := api.Lookup(r.APIKey())
	m.o.Line.Start(r, info.MaxStable(false), now.Add(m.o.SessionTimeout), func(a wire.Message, err error) {
		defer m.panicked()
		code, epoch := wire.ErrRequestTimedOut, id.NoBrokerEpoch
		if resp, ok := a.(*api.BrokerRegistrationResponse); ok && err == nil {
			code, epoch = resp.ErrorCode, id.BrokerEpoch(resp.BrokerEpoch)
		}
		if code != wire.ErrNone {
			m.o.Logger.Info("registration not accepted yet", "code", code.Name(), "err", err)
		} else {
			m.o.Logger.Info("registered with the controller", "incarnation", m.o.IncarnationID, "epoch", epoch)
		}
		m.change(func(x *machine) { x.registrationAnswered(time.Now(), code, epoch) })
	})
}

func (m *Manager) heartbeat(r *api.BrokerHeartbeatRequest, now time.Time) {
	info, _ := api.Lookup(r.APIKey())
	m.o.Line.Start(r, info.MaxStable(false), now.Add(max(m.o.SessionTimeout/2, m.o.HeartbeatInterval)), func(a wire.Message, err error) {
		defer m.panicked()
		code := wire.ErrRequestTimedOut
		resp, ok := a.(*api.BrokerHeartbeatResponse)
		if ok && err == nil {
			code = resp.ErrorCode
		}
		if code != wire.ErrNone {
			m.o.Logger.Warn("heartbeat failed", "code", code.Name(), "err", err)
		}
		m.change(func(x *machine) { x.heartbeatAnswered(time.Now(), code, resp) })
	})
}

// AllocateProducerIDs asks the controller for the next block of producer ids in the name of this incarnation. done is called
// once and must not block.
func (m *Manager) AllocateProducerIDs(done func(*api.AllocateProducerIDsResponse, error)) {
	r := api.NewAllocateProducerIDsRequest()
	r.BrokerID, r.BrokerEpoch = int32(m.o.NodeID), int64(m.BrokerEpoch())
	m.o.Line.Start(r, 0, time.Time{}, func(a wire.Message, err error) {
		resp, ok := a.(*api.AllocateProducerIDsResponse)
		switch {
		case err != nil:
			done(nil, fmt.Errorf("allocate producer ids: %w", err))
		case !ok:
			done(nil, fmt.Errorf("allocate producer ids: answer is a %T", a))
		default:
			done(resp, nil)
		}
	})
}

package lifecycle

import (
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

// ControllerOptions makes a ControllerRegistration.
type ControllerOptions struct {
	NodeID        id.BrokerID
	IncarnationID id.UUID
	Endpoints     []image.Endpoint // the controller listeners, as they are advertised
	Features      []image.VersionRange
	Line          Line
	Logger        *slog.Logger
}

// ControllerRegistration registers the controller of this process, active or not, with the active one (KIP-919). It does so
// whenever the image lacks this incarnation and its metadata.version knows such registrations; there is nothing else to do.
type ControllerRegistration struct {
	o   ControllerOptions
	req api.ControllerRegistrationRequest

	mu       sync.Mutex // guards the rest
	wanted   bool
	inFlight bool
	closed   bool
	retry    time.Duration
	timer    *time.Timer
}

// NewControllerRegistration returns a registration that acts on the images it is shown.
func NewControllerRegistration(o ControllerOptions) *ControllerRegistration {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &ControllerRegistration{o: o}
	c.req.ControllerID, c.req.IncarnationID = int32(o.NodeID), o.IncarnationID
	for _, e := range o.Endpoints {
		c.req.Listeners = append(c.req.Listeners, api.ControllerRegistrationRequestListener{
			Name: e.Name, Host: e.Host, Port: e.Port, SecurityProtocol: e.SecurityProtocol})
	}
	for _, f := range o.Features {
		c.req.Features = append(c.req.Features, api.ControllerRegistrationRequestFeature{
			Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
	}
	return c
}

// ImagePublished looks whether the committed metadata holds the registration. It does not block.
func (c *ControllerRegistration) ImagePublished(img *image.Image) {
	have := img.Cluster.Controller(c.o.NodeID)
	c.mu.Lock()
	c.wanted = img.Features.MetadataVersion.ControllerRegistrationSupported() && (have == nil || have.IncarnationID != c.o.IncarnationID)
	c.mu.Unlock()
	c.send()
}

// Close ends all attempts.
func (c *ControllerRegistration) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

func (c *ControllerRegistration) send() {
	c.mu.Lock()
	if !c.wanted || c.inFlight || c.closed || c.timer != nil {
		c.mu.Unlock()
		return
	}
	c.inFlight = true
	req := c.req
	c.mu.Unlock()
	c.o.Line.Start(&req, 0, time.Time{}, c.answered)
}

func (c *ControllerRegistration) answered(m wire.Message, err error) {
	code := wire.ErrRequestTimedOut
	if a, ok := m.(*api.ControllerRegistrationResponse); ok && err == nil {
		code = a.ErrorCode
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight = false
	if code == wire.ErrNone {
		c.retry = 0
		c.wanted = false // the image will show it; if it does not, the next image asks again
		return
	}
	if c.closed {
		return
	}
	c.o.Logger.Info("registration of the controller not accepted yet", "code", code.Name(), "err", err)
	c.retry = min(max(2*c.retry, 10*time.Millisecond), 5*time.Second)
	c.timer = time.AfterFunc(c.retry, func() {
		defer rescue(c.o.Logger)
		c.mu.Lock()
		c.timer = nil
		c.mu.Unlock()
		c.send()
	})
}

// rescue is deferred by the timers of this package: a panic in one of them ends the attempts, not the process.
func rescue(logger *slog.Logger) {
	if p := recover(); p != nil {
		logger.Error("an attempt to tell the controller something panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

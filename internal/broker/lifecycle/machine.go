package lifecycle

import (
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// State is where a broker stands, numbered as Kafka's BrokerState metric.
type State int8

// The states.
const (
	NotRunning         State = 0
	Starting           State = 1 // registering, or reading metadata up to the registration
	Recovery           State = 2 // caught up and still fenced
	Running            State = 3
	ControlledShutdown State = 6
	ShuttingDown       State = 7
)

// String returns Kafka's name of the state.
func (s State) String() string {
	switch s {
	case NotRunning:
		return "NOT_RUNNING"
	case Starting:
		return "STARTING"
	case Recovery:
		return "RECOVERY"
	case Running:
		return "RUNNING"
	case ControlledShutdown:
		return "PENDING_CONTROLLED_SHUTDOWN"
	default:
		return "SHUTTING_DOWN"
	}
}

// Retries of a registration, and heartbeats while a shutdown is pending, begin fast and slow down to the heartbeat interval.
const firstRetry = 2 * time.Millisecond

// machine is the state machine. Every method takes the time and changes the state; poll then says what to do.
type machine struct {
	registration api.BrokerRegistrationRequest
	interval     time.Duration

	state      State
	epoch      id.BrokerEpoch // -1 until registered
	registered bool
	ready      bool // others are done starting: the broker wants to be unfenced
	offset     id.Offset
	offline    []id.UUID
	cordoned   []id.UUID

	// amend says that the registration is to be sent once more, as it is: the metadata has room for what it did not keep.
	amend bool

	inFlight bool
	dirty    bool // something that a heartbeat carries has changed
	nextAt   time.Time
	retry    time.Duration

	unfenced bool // the controller has unfenced the broker once
	granted  bool // the controller lets the broker go
	// deadline ends a registration that does not succeed; lastError is why it did not.
	deadline  time.Time
	lastError wire.ErrorCode
	failed    bool
}

// start begins to register; deadline bounds how long.
func (m *machine) start(now, deadline time.Time) {
	m.state, m.epoch, m.offset = Starting, id.NoBrokerEpoch, -1
	m.nextAt, m.deadline = now, deadline
}

// request is what is to be sent: one of the two, or nothing.
type request struct {
	registration *api.BrokerRegistrationRequest
	heartbeat    *api.BrokerHeartbeatRequest
}

// poll returns what is to be sent now, and otherwise when to ask again at the latest.
func (m *machine) poll(now time.Time) (r request, again time.Time) {
	if m.state == NotRunning || m.failed || m.granted {
		return request{}, time.Time{}
	}
	if !m.registered && !m.deadline.IsZero() && !now.Before(m.deadline) {
		m.failed = true
		return request{}, time.Time{}
	}
	if m.inFlight {
		return request{}, time.Time{}
	}
	if m.registered && (m.amend || m.dirty && m.useful()) {
		m.nextAt = now
	}
	if now.Before(m.nextAt) {
		if !m.registered && !m.deadline.IsZero() && m.deadline.Before(m.nextAt) {
			return request{}, m.deadline
		}
		return request{}, m.nextAt
	}
	m.inFlight = true
	if !m.registered || m.amend {
		reg := m.registration
		return request{registration: &reg}, time.Time{}
	}
	m.dirty = false
	hb := api.NewBrokerHeartbeatRequest()
	hb.BrokerID, hb.BrokerEpoch, hb.CurrentMetadataOffset = m.registration.BrokerID, int64(m.epoch), int64(m.offset)
	hb.WantFence = !m.ready && m.state != ControlledShutdown
	hb.WantShutDown = m.state == ControlledShutdown
	hb.OfflineLogDirs = slices.Clone(m.offline)
	if m.offset >= id.Offset(m.epoch) { // before that the configuration may be an old one
		hb.CordonedLogDirs = append([]id.UUID{}, m.cordoned...)
	}
	return request{heartbeat: hb}, time.Time{}
}

// useful reports whether a heartbeat out of turn would bring the broker further: before it is unfenced only once the image has
// reached the registration.
func (m *machine) useful() bool {
	return m.unfenced || m.offset >= id.Offset(m.epoch)
}

func (m *machine) backOff(now time.Time) {
	m.retry = min(max(m.retry*2, firstRetry), m.interval)
	m.nextAt = now.Add(m.retry)
}

// registrationAnswered takes the outcome of a registration; code is the answer's, or REQUEST_TIMED_OUT without one.
func (m *machine) registrationAnswered(now time.Time, code wire.ErrorCode, epoch id.BrokerEpoch) {
	m.inFlight = false
	m.lastError = code
	if m.registered { // amended, or not: then an image that still lacks it asks again, and heartbeats go on
		m.amend, m.nextAt = false, now
		return
	}
	if code != wire.ErrNone {
		m.backOff(now)
		return
	}
	m.registered, m.epoch, m.retry = true, epoch, 0
	m.nextAt, m.dirty = now.Add(m.interval), true
}

// heartbeatAnswered takes the outcome of a heartbeat.
func (m *machine) heartbeatAnswered(now time.Time, code wire.ErrorCode, a *api.BrokerHeartbeatResponse) {
	m.inFlight = false
	if code != wire.ErrNone {
		m.lastError = code
		if m.state == ControlledShutdown && code == wire.ErrStaleBrokerEpoch {
			m.granted = true // nobody knows this incarnation any more
			return
		}
		m.backOff(now)
		return
	}
	m.nextAt = now.Add(m.interval)
	switch m.state {
	case Starting:
		if a.IsCaughtUp {
			m.state = Recovery
		}
		m.sawFence(a)
	case Recovery, Running:
		m.sawFence(a)
	case ControlledShutdown:
		if a.ShouldShutDown {
			m.state, m.granted = ShuttingDown, true
			return
		}
		m.backOff(now)
		return
	}
	m.retry = 0
}

func (m *machine) sawFence(a *api.BrokerHeartbeatResponse) {
	if m.ready && a.IsCaughtUp && !a.IsFenced {
		m.state, m.unfenced = Running, true
	}
}

// sawImage says how far the committed metadata was read.
func (m *machine) sawImage(offset id.Offset) {
	if !m.unfenced && m.registered && m.offset < id.Offset(m.epoch) && offset >= id.Offset(m.epoch) {
		m.dirty = true
	}
	m.offset = max(m.offset, offset)
}

// lacksDirs says that the image has this incarnation without its directories, although it could keep them: the broker registered
// before metadata.version was raised (KIP-858).
func (m *machine) lacksDirs() {
	if m.registered && m.state != ControlledShutdown && m.state != ShuttingDown {
		m.amend = true
	}
}

// readyToUnfence says that the broker can serve.
func (m *machine) readyToUnfence() {
	if !m.ready {
		m.ready, m.dirty = true, true
	}
}

// dirs says which directories have failed, and which are cordoned; nil leaves a list as it is.
func (m *machine) dirs(offline, cordoned []id.UUID) {
	if offline != nil && !slices.Equal(offline, m.offline) {
		m.offline, m.dirty = slices.Clone(offline), true
	}
	if cordoned != nil && !slices.Equal(cordoned, m.cordoned) {
		m.cordoned, m.dirty = slices.Clone(cordoned), true
	}
}

// beginShutdown asks to be let go. A broker that is not registered may go at once.
func (m *machine) beginShutdown(now time.Time) {
	switch {
	case !m.registered || m.state == NotRunning:
		m.state, m.granted = ShuttingDown, true
	case m.state != ControlledShutdown && m.state != ShuttingDown:
		m.state, m.nextAt, m.retry = ControlledShutdown, now, 0
	}
}

package lifecycle_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/broker/lifecycle"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// takenLine answers every registration as a controller does to which another broker of this id is alive.
type takenLine struct{}

func (takenLine) Start(req wire.Request, _ int16, _ time.Time, done func(wire.Message, error)) {
	if _, ok := req.(*api.BrokerRegistrationRequest); !ok {
		done(nil, errors.New("nothing but registrations can come"))
		return
	}
	done(&api.BrokerRegistrationResponse{ErrorCode: wire.ErrDuplicateBrokerRegistration, BrokerEpoch: -1}, nil)
}

// TestRegistrationTimesOut: initial.broker.registration.timeout.ms is how long a broker tries to register, to the moment.
func TestRegistrationTimesOut(t *testing.T) {
	for _, limit := range []time.Duration{3 * time.Second, 90 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			m := lifecycle.New(lifecycle.Options{NodeID: 1, HeartbeatInterval: 2 * time.Second, SessionTimeout: 9 * time.Second, RegistrationTimeout: limit, Line: takenLine{}})
			defer m.Close()
			start := time.Now()
			m.Start()
			<-m.Failed()
			if took := time.Since(start); took != limit {
				t.Errorf("gave up after %v, want %v", took, limit)
			}
			if err := m.Err(); !errors.Is(err, lifecycle.ErrNotRegistered) {
				t.Errorf("failed with %v", err)
			}
		})
	}
}

// brokenLine panics under who sends.
type brokenLine struct{}

func (brokenLine) Start(wire.Request, int16, time.Time, func(wire.Message, error)) { panic("boom") }

// brokenAnswers answers from a goroutine of its own with what nobody can read, and does not care who panics over it.
type brokenAnswers struct{}

func (brokenAnswers) Start(_ wire.Request, _ int16, _ time.Time, done func(wire.Message, error)) {
	go func() {
		defer func() { _ = recover() }()
		done((*api.BrokerRegistrationResponse)(nil), nil)
	}()
}

// TestPanicIsAFailure: a lifecycle that panics, also over an answer, has failed, and can be closed.
func TestPanicIsAFailure(t *testing.T) {
	for want, line := range map[string]lifecycle.Line{"the broker's lifecycle: panic: boom": brokenLine{}, "the broker's lifecycle: panic: runtime error: ": brokenAnswers{}} {
		m := lifecycle.New(lifecycle.Options{NodeID: 1, HeartbeatInterval: 2 * time.Second, SessionTimeout: 9 * time.Second, Line: line})
		m.Start()
		<-m.Failed()
		if err := m.Err(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("failed with %v, want %s", err, want)
		}
		m.Close()
	}
}

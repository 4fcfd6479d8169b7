package lifecycle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

func ms(n int) time.Time { return time.UnixMilli(int64(n)) }

// say tells in a line what poll wants.
func say(m *machine, now time.Time) string {
	r, again := m.poll(now)
	var s string
	switch {
	case r.registration != nil:
		s = "register"
	case r.heartbeat != nil:
		h := r.heartbeat
		s = fmt.Sprintf("heartbeat epoch=%d offset=%d fence=%v shutdown=%v", h.BrokerEpoch, h.CurrentMetadataOffset, h.WantFence, h.WantShutDown)
		if len(h.OfflineLogDirs) > 0 {
			s += fmt.Sprintf(" offline=%d", len(h.OfflineLogDirs))
		}
		if h.CordonedLogDirs != nil {
			s += fmt.Sprintf(" cordoned=%d", len(h.CordonedLogDirs))
		}
	case again.IsZero():
		s = "wait"
	default:
		s = fmt.Sprintf("wait until %d", again.UnixMilli())
	}
	return s + " " + m.state.String()
}

func answer(caughtUp, fenced, shutdown bool) *api.BrokerHeartbeatResponse {
	return &api.BrokerHeartbeatResponse{IsCaughtUp: caughtUp, IsFenced: fenced, ShouldShutDown: shutdown}
}

func TestMachine(t *testing.T) {
	tests := []struct {
		name string
		run  func(m *machine, step func(string))
	}{
		{"a registration whose directories were not kept is sent again, and heartbeats go on", func(m *machine, step func(string)) {
			m.lacksDirs() // it is not registered yet
			step(say(m, ms(0)) + " | register STARTING")
			m.registrationAnswered(ms(2), wire.ErrNone, 10)
			m.readyToUnfence()
			m.sawImage(10)
			step(say(m, ms(5)) + " | heartbeat epoch=10 offset=10 fence=false shutdown=false cordoned=0 STARTING")
			m.heartbeatAnswered(ms(6), wire.ErrNone, answer(true, false, false))
			m.lacksDirs()
			step(say(m, ms(7)) + " | register RUNNING")
			step(say(m, ms(8)) + " | wait RUNNING")
			m.registrationAnswered(ms(9), wire.ErrRequestTimedOut, id.NoBrokerEpoch)
			step(say(m, ms(10)) + " | heartbeat epoch=10 offset=10 fence=false shutdown=false cordoned=0 RUNNING")
			m.heartbeatAnswered(ms(11), wire.ErrNone, answer(true, false, false))
			m.lacksDirs()
			step(say(m, ms(12)) + " | register RUNNING")
			m.registrationAnswered(ms(13), wire.ErrNone, 10)
			step(say(m, ms(14)) + " | heartbeat epoch=10 offset=10 fence=false shutdown=false cordoned=0 RUNNING")
			m.heartbeatAnswered(ms(15), wire.ErrNone, answer(true, false, false))
			step(say(m, ms(16)) + " | wait until 2015 RUNNING")
		}},
		{"the first unfence waits for nothing but the image", func(m *machine, step func(string)) {
			step(say(m, ms(0)) + " | register STARTING")
			step(say(m, ms(1)) + " | wait STARTING")
			m.registrationAnswered(ms(2), wire.ErrNone, 10)
			m.readyToUnfence()
			step(say(m, ms(3)) + " | wait until 2002 STARTING") // the image is not there yet: a heartbeat would not help
			m.sawImage(9)
			step(say(m, ms(4)) + " | wait until 2002 STARTING")
			m.sawImage(10)
			step(say(m, ms(5)) + " | heartbeat epoch=10 offset=10 fence=false shutdown=false cordoned=0 STARTING")
			m.heartbeatAnswered(ms(6), wire.ErrNone, answer(true, false, false))
			step(say(m, ms(7)) + " | wait until 2006 RUNNING")
			step(say(m, ms(2006)) + " | heartbeat epoch=10 offset=10 fence=false shutdown=false cordoned=0 RUNNING")
		}},
		{"not ready: fenced heartbeats, and one more at once when it is", func(m *machine, step func(string)) {
			say(m, ms(0))
			m.registrationAnswered(ms(0), wire.ErrNone, 10)
			m.sawImage(12)
			step(say(m, ms(1)) + " | heartbeat epoch=10 offset=12 fence=true shutdown=false cordoned=0 STARTING")
			m.heartbeatAnswered(ms(2), wire.ErrNone, answer(true, true, false))
			step(say(m, ms(3)) + " | wait until 2002 RECOVERY")
			m.readyToUnfence()
			step(say(m, ms(4)) + " | heartbeat epoch=10 offset=12 fence=false shutdown=false cordoned=0 RECOVERY")
		}},
		{"registration is retried and given up", func(m *machine, step func(string)) {
			step(say(m, ms(0)) + " | register STARTING")
			m.registrationAnswered(ms(1), wire.ErrDuplicateBrokerRegistration, -1)
			step(say(m, ms(1)) + " | wait until 3 STARTING")
			step(say(m, ms(3)) + " | register STARTING")
			m.registrationAnswered(ms(3), wire.ErrDuplicateBrokerRegistration, -1)
			step(say(m, ms(3)) + " | wait until 7 STARTING")
			step(say(m, ms(60000)) + " | wait STARTING")
			if !m.failed || m.lastError != wire.ErrDuplicateBrokerRegistration {
				t.Errorf("failed %v, last %v", m.failed, m.lastError)
			}
		}},
		{"a failed directory is told at once", func(m *machine, step func(string)) {
			m.running()
			m.dirs([]id.UUID{{1}}, nil)
			step(say(m, ms(100)) + " | heartbeat epoch=10 offset=10 fence=false shutdown=false offline=1 cordoned=0 RUNNING")
			m.heartbeatAnswered(ms(101), wire.ErrRequestTimedOut, nil)
			step(say(m, ms(101)) + " | wait until 103 RUNNING")
			step(say(m, ms(103)) + " | heartbeat epoch=10 offset=10 fence=false shutdown=false offline=1 cordoned=0 RUNNING")
		}},
		{"controlled shutdown", func(m *machine, step func(string)) {
			m.running()
			m.beginShutdown(ms(50))
			step(say(m, ms(50)) + " | heartbeat epoch=10 offset=10 fence=false shutdown=true cordoned=0 PENDING_CONTROLLED_SHUTDOWN")
			m.heartbeatAnswered(ms(51), wire.ErrNone, answer(true, false, false))
			step(say(m, ms(51)) + " | wait until 53 PENDING_CONTROLLED_SHUTDOWN")
			step(say(m, ms(53)) + " | heartbeat epoch=10 offset=10 fence=false shutdown=true cordoned=0 PENDING_CONTROLLED_SHUTDOWN")
			m.heartbeatAnswered(ms(54), wire.ErrNone, answer(true, true, true))
			step(say(m, ms(55)) + " | wait SHUTTING_DOWN")
			if !m.granted {
				t.Error("not granted")
			}
		}},
		{"a broker that never registered may go", func(m *machine, step func(string)) {
			m.beginShutdown(ms(1))
			step(say(m, ms(1)) + " | wait SHUTTING_DOWN")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := &machine{interval: 2 * time.Second}
			m.start(ms(0), ms(60000))
			tt.run(m, func(s string) {
				t.Helper()
				if got, want, _ := strings.Cut(s, " | "); got != want {
					t.Fatalf("got  %s\nwant %s", got, want)
				}
			})
		})
	}
}

// running takes a machine through its start.
func (m *machine) running() {
	m.poll(ms(0))
	m.registrationAnswered(ms(0), wire.ErrNone, 10)
	m.readyToUnfence()
	m.sawImage(10)
	m.poll(ms(0))
	m.heartbeatAnswered(ms(0), wire.ErrNone, answer(true, false, false))
}

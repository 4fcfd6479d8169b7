package replica

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// TestPanicsAreFaults: a panic in a goroutine of the manager does not end the process, and its owner hears of it.
func TestPanicsAreFaults(t *testing.T) {
	var broken atomic.Bool
	faults := make(chan error, 10)
	r := newRigWith(t, func(o *Options) {
		o.LagMax = 10 * time.Millisecond
		o.Fault = func(err error) { faults <- err }
		o.Now = func() time.Time {
			if broken.Load() {
				panic("boom")
			}
			return time.Now()
		}
		o.Changes = noChanges{}
	})
	r.topic("t", 1)
	wantFault := func(want string) {
		t.Helper()
		select {
		case err := <-faults:
			if !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no fault: %s", want)
		}
	}
	broken.Store(true)
	wantFault("the watch over followers: panic: boom")
	broken.Store(false)
	r.deadlines.add(&deadline{at: time.Now(), expire: func() { panic("boom in a wait") }})
	wantFault("the end of waits: panic: boom in a wait")
	nobodys := &Partition{} // of no manager
	nobodys.at.Store(r.partition("t", 0).log())
	r.flusher.add(nobodys, id.Offset(1))
	wantFault("the flusher: panic: ")
}

type noChanges struct{ ISRChanges }

// TestPanicBesideOthers: a panic in one of the goroutines that share work comes to whoever gave it out, who is guarded.
func TestPanicBesideOthers(t *testing.T) {
	var calls atomic.Int64
	got := func() (p any) {
		defer func() { p = recover() }()
		side(100, func(i int) {
			if calls.Add(1); i == 3 {
				panic("boom at 3")
			}
		})
		return nil
	}()
	if text, _ := got.(string); !strings.HasPrefix(text, "boom at 3\n") || !strings.Contains(text, "TestPanicBesideOthers") {
		t.Errorf("%v, want the panic and where it was", got)
	}
	if n := calls.Load(); n < 1 || n > 100 {
		t.Errorf("%d calls", n)
	}
}

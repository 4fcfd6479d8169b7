package log

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// TestPanicIsAFault: a panic in the manager's goroutine does not end the process, and the owner hears of it.
func TestPanicIsAFault(t *testing.T) {
	var broken atomic.Bool
	faults := make(chan error, 10)
	cleaner := DefaultCleanerConfig()
	cleaner.Enable = false // it asks for the time, too
	m, err := Open(Options{FS: vfs.NewMem(), Dirs: []string{"/data"}, Config: DefaultConfig(), ClusterID: "c", NodeID: 1, AutoFormat: true,
		Cleaner: cleaner, Fault: func(err error) { faults <- err }, Now: func() time.Time {
			if broken.Load() {
				panic("boom")
			}
			return time.Now()
		}})
	if err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	m.poke()
	select {
	case err := <-faults:
		if !strings.Contains(err.Error(), "background work on logs: panic: boom") {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody heard of it")
	}
	broken.Store(false)
	if err := m.Close(id.NoBrokerEpoch); err != nil {
		t.Errorf("closed with %v", err)
	}
}

package log

import (
	"sync"
	"time"
)

// throttle holds the bytes that all workers read and write to a rate. A worker that was let pass owes its bytes, and the next one
// waits until they are paid.
type throttle struct {
	mu   sync.Mutex
	free time.Time // when the debt is paid
}

// forgive drops what is owed: it was reckoned at a rate that holds no more.
func (t *throttle) forgive() {
	t.mu.Lock()
	t.free = time.Time{}
	t.mu.Unlock()
}

// wait returns when so many more bytes may be read or written; errCleaningStopped when stop was closed before. A nil stop is for
// owners who do not wait.
func (t *throttle) wait(bytes int, perSecond float64, stop <-chan struct{}) error {
	select {
	case <-stop:
		return errCleaningStopped
	default:
	}
	cost := time.Duration(min(float64(bytes)/perSecond, 3600) * float64(time.Second))
	if stop == nil || cost <= 0 {
		return nil
	}
	now := time.Now()
	t.mu.Lock()
	if t.free.Before(now) {
		t.free = now
	}
	t.free = t.free.Add(cost)
	pause := t.free.Sub(now)
	t.mu.Unlock()
	if pause < time.Millisecond {
		return nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-stop:
		return errCleaningStopped
	}
}

package log

import (
	"errors"
	"fmt"
)

// ErrForeign reports a log whose files somebody else has changed while this process had them.
var ErrForeign = errors.New("another process has changed the log")

// CheckOwned compares the length of the active segment's file with what this process has written. If they differ somebody else
// writes to the log: nothing is written any more, not even by Close, and the error matches ErrForeign. What cannot be found out is
// no error. It guards logs whose directory another program may open without taking its lock.
func (l *Log) CheckOwned() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	if !l.born {
		return nil
	}
	s := l.active()
	f, err := s.log.acquire(false)
	if err != nil {
		return nil
	}
	defer s.log.release()
	if size, err := f.Size(); err == nil && size != s.size.Load() {
		err := fmt.Errorf("%w: %s has %d bytes, this process wrote %d", ErrForeign, s.log.path(), size, s.size.Load())
		l.setGone(err)
		return err
	}
	return nil
}

// Disown puts the log out of service: from now on everything is answered with why, and nothing is written, not even by Close.
func (l *Log) Disown(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.setGone(why)
}

//go:build linux

package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// processCPU is user and system seconds of one process, by the clock that counts them for it: in nanoseconds, where /proc has hundredths
// of a second, and with the threads that have ended.
func processCPU(pid int) float64 {
	// The kernel's name for that clock: the inverted process id, then three bits of which 2 means "as scheduled, of the whole process".
	const scheduled = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano()).Seconds()
}

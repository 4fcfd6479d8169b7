package main

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// bar draws progress on a terminal, ten times a second; elsewhere it stays silent.
type bar struct {
	name   string
	total  int
	done   atomic.Int64
	stop   chan struct{}
	ended  chan struct{}
	silent bool
}

func newBar(name string, total int) *bar {
	info, err := os.Stderr.Stat()
	b := &bar{name: name, total: max(total, 1), stop: make(chan struct{}), ended: make(chan struct{}),
		silent: err != nil || info.Mode()&os.ModeCharDevice == 0}
	go b.draw()
	return b
}

func (b *bar) add(n int) { b.done.Add(int64(n)) }
func (b *bar) set(n int) { b.done.Store(int64(n)) }

func (b *bar) end() {
	close(b.stop)
	<-b.ended
}

func (b *bar) draw() {
	defer close(b.ended)
	if b.silent {
		<-b.stop
		return
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		n := int(b.done.Load())
		filled := min(40, n*40/b.total)
		fmt.Fprintf(os.Stderr, "\r%-18s [%s%s] %3d%%", b.name, strings.Repeat("=", filled), strings.Repeat(" ", 40-filled), min(100, n*100/b.total))
		select {
		case <-tick.C:
		case <-b.stop:
			fmt.Fprint(os.Stderr, "\r\x1b[K")
			return
		}
	}
}

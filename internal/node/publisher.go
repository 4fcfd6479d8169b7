package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/quorum"
)

// maxUnpublished bounds the deltas that wait for the publisher. Beyond it the quorum's driver waits: a broker that cannot follow
// must not let its backlog grow without end.
const maxUnpublished = 1024

// publisher carries committed metadata from the quorum's driver, which must not do disk work, to the rooms, in order.
type publisher struct {
	steps []func(*image.Delta, *image.Image) error
	log   *slog.Logger
	queue chan published
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once
	// fault hears of a panic: the rooms do not show what is committed any more. It is set before the first delta.
	fault func(error)
}

type published struct {
	delta *image.Delta
	img   *image.Image
	// passed, if not nil, is closed when everything before it is in force; there is no delta then.
	passed chan struct{}
}

func newPublisher(log *slog.Logger, steps ...func(*image.Delta, *image.Image) error) *publisher {
	p := &publisher{steps: steps, log: log, fault: func(error) {}, queue: make(chan published, maxUnpublished), stop: make(chan struct{}), done: make(chan struct{})}
	go p.run()
	return p
}

// Publish implements quorum.Publisher.
func (p *publisher) Publish(delta *image.Delta, img *image.Image, _ quorum.Provenance) {
	select {
	case p.queue <- published{delta: delta, img: img}:
	case <-p.stop:
	}
}

func (p *publisher) run() {
	defer close(p.done)
	defer func() {
		if r := recover(); r != nil {
			p.log.Error("publishing metadata panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			p.once.Do(func() { close(p.stop) }) // the quorum does not wait for it
			p.fault(fmt.Errorf("publish metadata: panic: %v", r))
		}
	}()
	for {
		select {
		case <-p.stop:
			return
		case x := <-p.queue:
			if x.passed != nil {
				close(x.passed)
				continue
			}
			for _, step := range p.steps {
				if err := step(x.delta, x.img); err != nil {
					p.log.Error("metadata could not be applied in full", "offset", x.img.Provenance.Offset, "err", err)
				}
			}
		}
	}
}

// caughtUp waits until everything that was published by now is in force.
func (p *publisher) caughtUp(ctx context.Context) error {
	passed := make(chan struct{})
	select {
	case p.queue <- published{passed: passed}:
	case <-p.stop:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-passed:
		return nil
	case <-p.done:
		return errors.New("the publisher has stopped")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *publisher) close() {
	p.once.Do(func() { close(p.stop) })
	<-p.done
}

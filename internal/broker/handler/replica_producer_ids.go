package handler

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// ProducerIDAllocator asks the controller for a block of producer ids (AllocateProducerIds). It must not block; it calls done
// once, from any goroutine, with the answer or with why there is none.
type ProducerIDAllocator interface {
	AllocateProducerIDs(done func(*api.AllocateProducerIDsResponse, error))
}

const (
	// prefetchAt is the part of a block after which the next one is asked for.
	prefetchAt = 0.9
	// allocateBackoff is how long to wait after a refusal.
	allocateBackoff = 50 * time.Millisecond
	// blockWait is how long a producer waits for a block that is on its way. Older clients take the error that would follow for
	// a reason to complain, or to give up.
	blockWait = time.Second
)

// ProducerIDBlocks implements ProducerIDs over blocks from the controller. The next block is fetched before the present one is
// used up, so that no producer waits; ids left over at a restart are lost, which is the point of blocks.
type ProducerIDBlocks struct {
	source ProducerIDAllocator
	now    func() time.Time
	logger *slog.Logger

	mu       sync.Mutex // guards the rest
	cur      producerIDBlock
	next     producerIDBlock
	inFlight bool
	answered chan struct{} // closed when the request in flight is answered
	retryAt  time.Time
}

type producerIDBlock struct {
	next, end  id.ProducerID // end exclusive
	prefetchID id.ProducerID
}

// NewProducerIDBlocks returns blocks without an id in them. Prefetch or the first Next asks for some.
func NewProducerIDBlocks(source ProducerIDAllocator, now func() time.Time, logger *slog.Logger) *ProducerIDBlocks {
	if now == nil {
		now = time.Now
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &ProducerIDBlocks{source: source, now: now, logger: logger, cur: producerIDBlock{prefetchID: -1}}
}

// Next implements ProducerIDs.
func (b *ProducerIDBlocks) Next(ctx context.Context) (id.ProducerID, error) {
	pid, err := b.take()
	if err == nil {
		return pid, nil
	}
	b.mu.Lock()
	answered := b.answered
	b.mu.Unlock()
	if answered == nil {
		return b.take() // the answer was faster than this
	}
	ctx, cancel := context.WithTimeout(ctx, blockWait)
	defer cancel()
	select {
	case <-answered:
		return b.take()
	case <-ctx.Done():
		return pid, err
	}
}

// TryNext returns a new id if one is at hand, and sees to it that one will be.
func (b *ProducerIDBlocks) TryNext() (pid id.ProducerID, ok bool) {
	pid, err := b.take()
	return pid, err == nil
}

func (b *ProducerIDBlocks) take() (id.ProducerID, error) {
	b.mu.Lock()
	if b.cur.next == b.cur.end && b.next.next < b.next.end {
		b.cur, b.next = b.next, producerIDBlock{}
	}
	if b.cur.next == b.cur.end {
		ask := b.mayAsk()
		b.mu.Unlock()
		if ask {
			b.source.AllocateProducerIDs(b.allocated)
		}
		return id.NoProducer, fmt.Errorf("%w: no producer id at hand, the next block is on its way", wire.ErrCoordinatorLoadInProgress)
	}
	pid := b.cur.next
	b.cur.next++
	ask := pid == b.cur.prefetchID && b.mayAsk()
	b.mu.Unlock()
	if ask {
		b.source.AllocateProducerIDs(b.allocated)
	}
	return pid, nil
}

// Prefetch asks for a block if there is none. A broker calls it once it is registered.
func (b *ProducerIDBlocks) Prefetch() {
	b.mu.Lock()
	ask := b.cur.next == b.cur.end && b.mayAsk()
	b.mu.Unlock()
	if ask {
		b.source.AllocateProducerIDs(b.allocated)
	}
}

// mayAsk decides whether to send a request, and notes that one is sent. b.mu is held.
func (b *ProducerIDBlocks) mayAsk() bool {
	if b.inFlight || b.next.next < b.next.end || b.now().Before(b.retryAt) {
		return false
	}
	b.inFlight, b.answered = true, make(chan struct{})
	return true
}

func (b *ProducerIDBlocks) allocated(resp *api.AllocateProducerIDsResponse, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight = false
	close(b.answered)
	b.answered = nil
	if err == nil {
		err = resp.ErrorCode.Err()
	}
	if err == nil {
		err = b.keep(resp)
	}
	if err != nil {
		b.retryAt = b.now().Add(allocateBackoff)
		b.logger.Warn("no block of producer ids from the controller", "error", err)
	}
}

// keep checks a block and keeps it as the next one. b.mu is held.
func (b *ProducerIDBlocks) keep(resp *api.AllocateProducerIDsResponse) error {
	start, n := id.ProducerID(resp.ProducerIDStart), id.ProducerID(resp.ProducerIDLen)
	if start < b.cur.end || n <= 0 || start+n < start {
		return fmt.Errorf("block of %d producer ids from %d does not follow %d", n, start, b.cur.end)
	}
	b.next = producerIDBlock{next: start, end: start + n, prefetchID: start + id.ProducerID(float64(n)*prefetchAt)}
	return nil
}

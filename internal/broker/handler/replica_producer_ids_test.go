package handler

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TestProducerIDBlocksRefused: an answer without a block that can be used is one like a refusal. The block at hand goes on, and the
// next one is asked for when the wait is over, not before.
func TestProducerIDBlocksRefused(t *testing.T) {
	block := func(start int64, n int32) func(*fakeAllocator) {
		return func(f *fakeAllocator) { f.give(start, n) }
	}
	fails := func(code wire.ErrorCode) func(*fakeAllocator) {
		return func(f *fakeAllocator) { f.done(&api.AllocateProducerIDsResponse{ErrorCode: code}, nil) }
	}
	for name, refuse := range map[string]func(*fakeAllocator){
		"no answer":               func(f *fakeAllocator) { f.done(nil, errors.New("no controller")) },
		"stale epoch":             fails(wire.ErrStaleBrokerEpoch),
		"not registered":          fails(wire.ErrBrokerIDNotRegistered),
		"unknown error":           fails(wire.ErrUnknownServerError),
		"invalid request":         fails(wire.ErrInvalidRequest),
		"negative ids":            block(-1, 10),
		"ids below zero":          block(200, -1),
		"none":                    block(200, 0),
		"ids beyond the last one": block(math.MaxInt64-1, 10),
		"ids that are given":      block(100, 10),
		"the last of these":       block(109, 10),
	} {
		t.Run(name, func(t *testing.T) {
			now, f := time.UnixMilli(0), &fakeAllocator{}
			b := NewProducerIDBlocks(f, func() time.Time { return now }, nil)
			next := func(want id.ProducerID, calls int) {
				t.Helper()
				pid, ok := b.TryNext()
				if pid != want || ok != (want >= 0) || f.calls != calls {
					t.Errorf("id %d %v after %d requests, want %d after %d", pid, ok, f.calls, want, calls)
				}
			}
			next(-1, 1)
			f.give(100, 10)
			for i := range 9 {
				next(id.ProducerID(100+i), 1)
			}
			next(109, 2)
			refuse(f)
			next(-1, 2)
			now = now.Add(allocateBackoff - 1)
			next(-1, 2)
			now = now.Add(1)
			next(-1, 3)
			next(-1, 3)
			f.give(110, 10)
			next(110, 3)
		})
	}
}

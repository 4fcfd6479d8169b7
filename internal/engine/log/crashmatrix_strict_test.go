package log

import (
	"errors"
	"math"
	"os"
	"sync"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// The partitions that a strict matrix has besides: with flush.messages=1, so that an append which has returned is durable.
var (
	strictTP = id.TopicPartition{Topic: "strict"}
	secondTP = id.TopicPartition{Topic: "strict", Partition: 1}
)

// makeStrict lets half of the steps be about the strict partitions.
func (w *matrix) makeStrict() {
	w.strict = []id.TopicPartition{strictTP, secondTP}
	for _, tp := range w.strict {
		w.logs[tp] = newExpected()
	}
}

// The matrix with logs whose appends are acknowledged after an fsync, alone and many at a time, while they roll, are truncated, move and
// have flush.messages changed.
func TestCrashEverywhereStrict(t *testing.T) {
	crashTest(t, crashes()*3/10, (*matrix).makeStrict)
}

func TestCrashEverywhereStrictInTwoDirectories(t *testing.T) {
	if os.Getenv("MOLDAU_CRASHES") == "" {
		t.Skip("runs with MOLDAU_CRASHES")
	}
	crashTest(t, crashes()*2/10, (*matrix).makeStrict, "/more")
}

// It finds that an append is answered whose bytes are not on the disk.
func TestCrashEverywhereStrictFindsMistakes(t *testing.T) {
	race.Skip(t)
	seed := seed.Of(t)
	for run := range uint64(5) {
		w := newMatrix(t, seed+run)
		w.makeStrict()
		w.fault.Add(vfs.Rule{Op: vfs.OpSync, Path: "*.log", Skip: true})
		w.crashEverywhere(90, 1<<30)
		if w.failed != nil {
			return
		}
	}
	t.Error("not found in five runs")
}

func (w *matrix) strictStep() {
	tp := w.strict[w.rng.IntN(len(w.strict))]
	switch n := w.rng.IntN(20); {
	case n < 7:
		w.appendStrict(tp, false)
	case n < 14:
		w.groupCommit()
	case n < 16:
		w.truncate(tp)
	case n < 18:
		w.say("roll %v", tp)
		if err := w.log(tp).Roll(); err != nil {
			w.fail("roll: %v", err)
		}
	case n < 19:
		l := w.log(tp)
		c := l.Config()
		c.FlushMessages = []int64{1, 1, 3, math.MaxInt64}[w.rng.IntN(4)]
		w.say("flush.messages of %v is %d", tp, c.FlushMessages)
		l.SetConfig(c)
	default:
		w.m.Tick(w.clock.now())
	}
}

func (w *matrix) appendStrict(tp id.TopicPartition, deferred bool) {
	s := batchSpec{records: 1 + w.rng.IntN(3), size: 20 + w.rng.IntN(300), ts: w.clock.ms, fill: byte(w.rng.IntN(16))}
	w.append(tp, s.build(w.t), AppendInfo{LeaderEpoch: w.epoch(w.log(tp)), DeferFlush: deferred})
	if !deferred && w.failed == nil && w.log(tp).Config().FlushMessages == 1 {
		w.logs[tp].durable = w.logs[tp].end
	}
}

// groupCommit appends several times to both logs and then makes both durable side by side, as the appends of many producers are.
func (w *matrix) groupCommit() {
	for range 1 + w.rng.IntN(5) {
		if w.appendStrict(w.strict[w.rng.IntN(len(w.strict))], true); w.failed != nil {
			return
		}
	}
	w.say("flush the strict logs")
	errs := make([]error, len(w.strict))
	var wg sync.WaitGroup
	for i, tp := range w.strict {
		l := w.log(tp)
		wg.Go(func() { errs[i] = l.Flush(l.EndOffset()) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		w.fail("flush: %v", err)
		return
	}
	for _, tp := range w.strict {
		w.logs[tp].durable = w.logs[tp].end
	}
}

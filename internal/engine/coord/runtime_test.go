package coord

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

func start(t testing.TB, l Log, change func(*Options[*group.Shard])) *Groups {
	t.Helper()
	o := Options[*group.Shard]{Log: l, Linger: Adaptive, New: func(p int32) *group.Shard {
		return group.New(group.DefaultConfig(), rand.New(rand.NewPCG(uint64(p), 1)))
	}}
	if change != nil {
		change(&o)
	}
	r := New(o)
	t.Cleanup(r.Close)
	return r
}

// call is one operation and what became of it.
type call struct {
	mu   sync.Mutex
	done []string
}

func (c *call) reply(body any, code wire.ErrorCode) {
	s := code.Name()
	if code == wire.ErrNone {
		switch m := body.(type) {
		case *api.OffsetCommitResponse:
			s = m.Topics[0].Partitions[0].ErrorCode.Name()
		case *api.JoinGroupResponse:
			s = fmt.Sprintf("%s generation %d", m.ErrorCode.Name(), m.GenerationID)
		case *api.HeartbeatResponse:
			s = m.ErrorCode.Name()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = append(c.done, s)
}

// String is empty while the call waits.
func (c *call) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.done, " and ")
}

func commitRequest(name string, partition int32, offset int64) *api.OffsetCommitRequest {
	return &api.OffsetCommitRequest{GroupID: name, GenerationIDOrMemberEpoch: -1, RetentionTimeMs: -1, Topics: []api.OffsetCommitRequestTopic{{
		Name: "t", Partitions: []api.OffsetCommitRequestTopicPartition{{PartitionIndex: partition, CommittedOffset: offset, CommittedLeaderEpoch: -1}}}}}
}

func commit(r *Groups, p int32, name string, offset int64) *call {
	c := &call{}
	r.Do(p, c.reply, func(s *group.Shard, now time.Time, t shard.Ticket) shard.Result {
		return s.OffsetCommit(group.Turn{Now: now, Ticket: t, Version: 9}, commitRequest(name, 0, offset))
	})
	return c
}

func join(r *Groups, p int32, name string) *call {
	c := &call{}
	r.Do(p, c.reply, func(s *group.Shard, now time.Time, t shard.Ticket) shard.Result {
		return s.JoinGroup(group.Turn{Now: now, Ticket: t, Version: 3}, &api.JoinGroupRequest{GroupID: name, SessionTimeoutMs: 10_000,
			RebalanceTimeoutMs: 60_000, ProtocolType: "x", Protocols: []api.JoinGroupRequestProtocol{{Name: "p"}}})
	})
	return c
}

func fetch(r *Groups, p int32, name string) string {
	var resp api.OffsetFetchResponseGroup
	code := r.Read(p, func(s *group.Shard) {
		resp = s.FetchOffsets(&api.OffsetFetchRequestGroup{GroupID: name, MemberEpoch: -1, Topics: []api.OffsetFetchRequestGroupTopic{{Name: "t", PartitionIndexes: []int32{0}}}})
	})
	if code != wire.ErrNone {
		return code.Name()
	}
	return fmt.Sprint(resp.Topics[0].Partitions[0].CommittedOffset)
}

func expect(t *testing.T, what string, got fmt.Stringer, want string) {
	t.Helper()
	synctest.Wait()
	if s := got.String(); s != want {
		t.Errorf("%s: %q, want %q", what, s, want)
	}
}

func expectFetch(t *testing.T, r *Groups, p int32, name, want string) {
	t.Helper()
	synctest.Wait()
	if got := fetch(r, p, name); got != want {
		t.Errorf("fetch of %s: %s, want %s", name, got, want)
	}
}

// pass lets the bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

func TestReplyWaitsForWatermark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 2)
		r := start(t, l, nil)
		expect(t, "not elected", commit(r, 0, "g", 1), "NOT_COORDINATOR")
		r.Elected(0, 0)
		synctest.Wait()
		expect(t, "free", commit(r, 0, "g", 1), "NONE")
		expectFetch(t, r, 0, "g", "1")
		l.set(0, func(p *memPartition) { p.hold = true })
		first := commit(r, 0, "g", 2)
		second := commit(r, 0, "g", 3)
		stable := &call{}
		r.Do(0, func(body any, _ wire.ErrorCode) {
			stable.reply(nil, wire.ErrorCode(body.(api.OffsetFetchResponseGroup).Topics[0].Partitions[0].CommittedOffset))
		},
			func(s *group.Shard, now time.Time, tk shard.Ticket) shard.Result {
				return s.FetchStableOffsets(group.Turn{Now: now, Ticket: tk}, &api.OffsetFetchRequestGroup{GroupID: "g", MemberEpoch: -1, Topics: []api.OffsetFetchRequestGroupTopic{{Name: "t", PartitionIndexes: []int32{0}}}})
			})
		expect(t, "held", first, "")
		expect(t, "held, fetch of stable offsets", stable, "")
		expectFetch(t, r, 0, "g", "1")
		l.set(0, func(p *memPartition) { p.hold = false })
		expect(t, "released", first, "NONE")
		expect(t, "released", second, "NONE")
		expect(t, "released, fetch of stable offsets", stable, wire.ErrorCode(3).Name())
		expectFetch(t, r, 0, "g", "3")
		expect(t, "other partition", commit(r, 1, "g", 1), "NOT_COORDINATOR")
		r.Close()
		expect(t, "closed", commit(r, 0, "g", 1), "COORDINATOR_NOT_AVAILABLE")
	})
}

func TestDeposed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 1)
		r := start(t, l, nil)
		r.Elected(0, 0)
		synctest.Wait()
		expect(t, "committed", commit(r, 0, "g", 1), "NONE")
		l.set(0, func(p *memPartition) { p.hold = true })
		waiting := commit(r, 0, "g", 2)
		member := join(r, 0, "j")
		expect(t, "held", waiting, "")
		epoch := l.depose(0)
		// the next append finds out, and so does everybody who waits
		expect(t, "the one that finds out", commit(r, 0, "g", 3), "NOT_COORDINATOR")
		expect(t, "commit that waited", waiting, "NOT_COORDINATOR")
		expect(t, "join that waited", member, "NOT_COORDINATOR")
		expectFetch(t, r, 0, "g", "NOT_COORDINATOR")
		// elected again: only what was committed is there
		r.Elected(0, epoch)
		expectFetch(t, r, 0, "g", "1")
		expect(t, "a group that was never committed is gone", commit(r, 0, "g", 4), "NONE")
		// metadata tells first
		member = join(r, 0, "j")
		l.set(0, func(p *memPartition) { p.hold = true })
		waiting = commit(r, 0, "g", 5)
		r.Resigned(0, epoch-1)
		expect(t, "an old resignation", waiting, "")
		r.Elected(0, epoch)
		expect(t, "an election known already", waiting, "")
		r.Resigned(0, epoch+1)
		expect(t, "resigned", waiting, "NOT_COORDINATOR")
		expect(t, "resigned", member, "NOT_COORDINATOR")
		expect(t, "resigned", commit(r, 0, "g", 6), "NOT_COORDINATOR")
	})
}

func TestNewEpochReplacesOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 1)
		r := start(t, l, nil)
		r.Elected(0, 0)
		synctest.Wait()
		l.set(0, func(p *memPartition) { p.hold = true })
		waiting := commit(r, 0, "g", 2)
		r.Elected(0, l.depose(0))
		expect(t, "waited in the old epoch", waiting, "NOT_COORDINATOR")
		expectFetch(t, r, 0, "g", "-1")
		expect(t, "new epoch", commit(r, 0, "g", 3), "NONE")
		expectFetch(t, r, 0, "g", "3")
	})
}

func TestLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 1)
		r := start(t, l, func(o *Options[*group.Shard]) { o.LoadBufferBytes = 1 })
		r.Elected(0, 0)
		synctest.Wait()
		for i := range int64(20) {
			commit(r, 0, "g", i)
		}
		epoch := l.depose(0)
		gate := make(chan struct{})
		l.set(0, func(p *memPartition) { p.stall = gate })
		r.Elected(0, epoch)
		expect(t, "loading", commit(r, 0, "g", 100), "COORDINATOR_LOAD_IN_PROGRESS")
		expectFetch(t, r, 0, "g", "COORDINATOR_LOAD_IN_PROGRESS")
		if code := r.ReadAll(func(*group.Shard) {}); code != wire.ErrCoordinatorLoadInProgress {
			t.Errorf("list while loading: %v", code)
		}
		close(gate)
		expectFetch(t, r, 0, "g", "19")
		// a load that is not wanted any more stops, one that fails is over
		gate = make(chan struct{})
		l.set(0, func(p *memPartition) { p.stall = gate })
		r.Elected(0, l.depose(0))
		synctest.Wait()
		r.Resigned(0, id.NoLeaderEpoch)
		close(gate)
		expectFetch(t, r, 0, "g", "NOT_COORDINATOR")
		l.set(0, func(p *memPartition) {
			p.write(t, record.NewOptions(), []byte{0, 1, 0}, nil)
			p.stall = nil
		})
		r.Elected(0, l.depose(0))
		expectFetch(t, r, 0, "g", "NOT_COORDINATOR")
	})
}

func TestAppendFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 1)
		r := start(t, l, nil)
		r.Elected(0, 0)
		synctest.Wait()
		expect(t, "before", commit(r, 0, "g", 1), "NONE")
		l.set(0, func(p *memPartition) { p.refuse = fmt.Errorf("append: %w", wire.ErrNotEnoughReplicas) })
		expect(t, "refused", commit(r, 0, "g", 2), "NOT_ENOUGH_REPLICAS")
		expect(t, "join of a group that cannot be written", join(r, 0, "j"), "COORDINATOR_NOT_AVAILABLE generation -1")
		expectFetch(t, r, 0, "g", "1")
		l.set(0, func(p *memPartition) { p.refuse = nil })
		expect(t, "after", commit(r, 0, "g", 3), "NONE")
		expectFetch(t, r, 0, "g", "3")
	})
}

func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 1)
		r := start(t, l, nil)
		r.Elected(0, 0)
		synctest.Wait()
		l.set(0, func(p *memPartition) { p.hold = true })
		c := commit(r, 0, "g", 2)
		pass(4999 * time.Millisecond)
		expect(t, "just before", c, "")
		pass(2 * time.Millisecond)
		expect(t, "just after", c, "REQUEST_TIMED_OUT")
		l.set(0, func(p *memPartition) { p.hold = false })
		expect(t, "committed later", c, "REQUEST_TIMED_OUT")
		expectFetch(t, r, 0, "g", "2")
	})
}

func TestDeadlinesOfManyShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions, members = 20, 50
		l := newMemLog(t, partitions)
		r := start(t, l, nil)
		for p := range int32(partitions) {
			r.Elected(p, 0)
		}
		synctest.Wait()
		before := runtime.NumGoroutine()
		var calls []*call
		for p := range int32(partitions) {
			for m := range members {
				calls = append(calls, join(r, p, fmt.Sprintf("g%d", m)))
			}
		}
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines became %d with %d members", before, after, partitions*members)
		}
		pass(2999 * time.Millisecond)
		expect(t, "before the initial delay is over", calls[0], "")
		pass(2 * time.Millisecond)
		synctest.Wait()
		for _, c := range calls {
			expect(t, "after the initial delay", c, "NONE generation 1")
		}
		// nobody sends a heartbeat: all groups are empty after the session timeout
		pass(10 * time.Second)
		synctest.Wait()
		r.ReadAll(func(s *group.Shard) {
			for _, g := range s.ListGroups(nil, nil) {
				if g.GroupState != "Empty" {
					t.Errorf("group %s is %s", g.GroupID, g.GroupState)
				}
			}
		})
	})
}

func TestLingerSharesBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 1)
		r := start(t, l, func(o *Options[*group.Shard]) { o.Linger = 10 * time.Millisecond })
		r.Elected(0, 0)
		synctest.Wait()
		var calls []*call
		for i := range 100 {
			calls = append(calls, commit(r, 0, fmt.Sprintf("g%d", i), 1))
		}
		expect(t, "within the linger", calls[0], "")
		pass(11 * time.Millisecond)
		expect(t, "after the linger", calls[99], "NONE")
		if n := l.parts[0].appends; n != 1 {
			t.Errorf("%d appends", n)
		}
		// a full batch does not wait
		r2 := start(t, l, func(o *Options[*group.Shard]) { o.Linger, o.MaxBatchBytes = time.Hour, func(int32) int { return 1000 } })
		r2.Elected(0, 0)
		synctest.Wait()
		for i := range 100 {
			calls[i] = commit(r2, 0, fmt.Sprintf("g%d", i), 2)
		}
		expect(t, "in a full batch", calls[0], "NONE")
		expect(t, "in the open batch", calls[99], "")
		for _, b := range l.parts[0].batches[1:] {
			if len(b) > 1000 {
				t.Errorf("a batch of %d bytes", len(b))
			}
		}
	})
}

// TestReadyCallersShareABatch has callers that are ready to run when the first of them has decided: he gives way to them before he
// writes. Who was alone for long does so now and then only, which is enough to notice company. Who is ready comes when he is given
// way: the scheduler's order is nobody's promise.
func TestReadyCallersShareABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 1)
		r := start(t, l, nil)
		var ready []func()
		gave := 0
		r.giveWay = func() {
			gave++
			now := ready
			ready = nil
			for _, caller := range now {
				caller()
			}
		}
		r.Elected(0, 0)
		synctest.Wait()
		appends := func(commits int) int {
			before := l.parts[0].appends
			calls := make([]*call, commits)
			for i := range calls {
				ready = append(ready, func() { calls[i] = commit(r, 0, fmt.Sprintf("g%d", i), 1) })
			}
			for len(ready) > 0 {
				first := ready[0]
				ready = ready[1:]
				first()
			}
			synctest.Wait()
			for _, c := range calls {
				expect(t, "commit", c, "NONE")
			}
			return l.parts[0].appends - before
		}
		if n := appends(50); n != 1 || gave != 1 {
			t.Errorf("50 commits in %d appends, gave way %d times", n, gave)
		}
		for range lonelyAfter {
			appends(1)
		}
		if gave != 1+lonelyAfter {
			t.Errorf("gave way %d times", gave)
		}
		if n := appends(10); n != 10 || gave != 1+lonelyAfter {
			t.Errorf("10 commits in %d appends after a long time alone, gave way %d times", n, gave)
		}
		if n := appends(2 * lonelyTries); n != lonelyTries-lonelyAfter-10+1 {
			t.Errorf("%d commits in %d appends", 2*lonelyTries, n)
		}
		if n := appends(50); n != 1 {
			t.Errorf("50 commits in %d appends once company was noticed", n)
		}
	})
}

// TestMembersThatComeAtOnce joins a group without an initial delay twice, half a millisecond apart.
func TestMembersThatComeAtOnce(t *testing.T) {
	c, _, err := conf.Load(conf.DevDefaults(), []string{"group.initial.rebalance.delay.ms=0"})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newMemLog(t, 1), func(o *Options[*group.Shard]) { o.New = GroupOptions(c).New })
		r.Elected(0, 0)
		synctest.Wait()
		first := join(r, 0, "g")
		pass(500 * time.Microsecond)
		second := join(r, 0, "g")
		expect(t, "while members come", first, "")
		pass(2 * time.Millisecond)
		expect(t, "first", first, "NONE generation 1")
		expect(t, "second", second, "NONE generation 1")
	})
}

func TestOutOfStepReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 1)
		r := start(t, l, nil)
		r.Elected(0, 0)
		synctest.Wait()
		expect(t, "before", commit(r, 0, "g", 1), "NONE")
		l.set(0, func(p *memPartition) { p.copy(p.batches[0]) })
		expect(t, "out of step", commit(r, 0, "g", 2), "NOT_COORDINATOR")
		// the record is in the log all the same, so it is there after the reload
		expectFetch(t, r, 0, "g", "2")
		expect(t, "after", commit(r, 0, "g", 3), "NONE")
	})
}

func TestWaitingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 1)
		r := start(t, l, func(o *Options[*group.Shard]) { o.MaxWaiting = 3 })
		r.Elected(0, 0)
		synctest.Wait()
		l.set(0, func(p *memPartition) { p.hold = true })
		for range 3 {
			expect(t, "within the bound", commit(r, 0, "g", 1), "")
		}
		expect(t, "beyond the bound", commit(r, 0, "g", 1), "COORDINATOR_NOT_AVAILABLE")
	})
}

// TestNothingAcknowledgedIsLost commits from many goroutines while the watermark is held, appends fail and the leadership moves.
// Whatever was acknowledged must be what the last leader finds, or something later; whatever was visible to a fetch must not go
// back.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	seed := seed.Of(t)
	const partitions, clients, commits = 3, 12, 150
	l := newMemLog(t, partitions)
	r := start(t, l, nil)
	for p := range int32(partitions) {
		r.Elected(p, 0)
	}
	var wg sync.WaitGroup
	acked, seen := make([]int64, clients), make([]int64, clients)
	tried := make([]int64, clients)
	for i := range clients {
		acked[i], seen[i] = -1, -1 // what a fetch says of a group without offsets
	}
	for i := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			name, p := fmt.Sprintf("g%d", i), int32(i%partitions)
			for n := int64(1); n <= commits; n++ {
				tried[i] = n
				done := make(chan wire.ErrorCode, 1)
				r.Do(p, func(body any, code wire.ErrorCode) { done <- code }, func(s *group.Shard, now time.Time, t shard.Ticket) shard.Result {
					return s.OffsetCommit(group.Turn{Now: now, Ticket: t, Version: 9}, commitRequest(name, 0, n))
				})
				if <-done == wire.ErrNone {
					acked[i] = n
				}
				var got int64
				if _, err := fmt.Sscan(fetch(r, p, name), &got); err == nil {
					if got < seen[i] || got < acked[i] {
						t.Errorf("seed %d: client %d sees %d after it saw %d and was told %d", seed, i, got, seen[i], acked[i])
					}
					seen[i] = got
				}
			}
		}()
	}
	stop := make(chan struct{})
	var chaos sync.WaitGroup
	chaos.Add(1)
	go func() {
		defer chaos.Done()
		rnd := rand.New(rand.NewPCG(seed, 1))
		for {
			p := rnd.Int32N(partitions)
			switch rnd.IntN(4) {
			case 0:
				l.set(p, func(m *memPartition) { m.hold = true })
			case 1:
				l.set(p, func(m *memPartition) { m.refuse = wire.ErrKafkaStorageError })
			case 2:
				epoch := l.depose(p)
				if rnd.IntN(2) == 0 {
					r.Resigned(p, epoch)
				}
				r.Elected(p, epoch)
			}
			runtime.Gosched()
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
			}
			l.set(p, func(m *memPartition) { m.hold, m.refuse = false, nil })
		}
	}()
	wg.Wait()
	close(stop)
	chaos.Wait()
	for p := range int32(partitions) {
		l.set(p, func(m *memPartition) { m.hold, m.refuse = false, nil })
		r.Elected(p, l.depose(p))
	}
	for i := range clients {
		var got string
		for {
			if got = fetch(r, int32(i%partitions), fmt.Sprintf("g%d", i)); got != "COORDINATOR_LOAD_IN_PROGRESS" {
				break
			}
			runtime.Gosched()
		}
		var n int64
		fmt.Sscan(got, &n)
		if n < acked[i] || n < seen[i] || n > tried[i] {
			t.Errorf("seed %d: client %d finds %s, was told %d, saw %d, tried %d", seed, i, got, acked[i], seen[i], tried[i])
		}
	}
	if t.Failed() {
		return
	}
	total := 0
	for _, p := range l.parts {
		total += p.appends
	}
	t.Logf("%d commits in %d appends", clients*commits, total)
}

package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// takeOver is what a new leader does that has all of the log, also what is not committed yet.
func (w *world) takeOver() {
	w.pending = nil
	clear(w.tickets)
	w.leaders++
	w.s = New(w.cfg, rand.New(rand.NewPCG(w.leaders, 13)))
	w.s.Observe(w.image)
	w.s.Committed(id.Offset(w.hw))
	for i, r := range w.log {
		if _, err := w.s.Replay(id.Offset(i), id.NoProducer, r.Key, r.Value); err != nil {
			w.t.Fatalf("replay: %v", err)
		}
	}
	w.carry(shard.NoTicket, w.s.Loaded(w.now, id.Offset(len(w.log))))
	w.settle()
}

// silentMember is one that does not speak any more.
type silentMember struct {
	by time.Time // when it has to be gone
	// early says that it may be gone before: whoever does not come to a rebalance of a classic group is out.
	early bool
}

// silence follows the members of a group from the moment that it was loaded; keys are member ids.
type silence struct {
	*world
	group   string
	members map[string]silentMember
	kind    string
	seen    map[string]int // what members were when the group was loaded
}

func (w *world) kindOf(group string) string {
	switch e := w.s.groups[group]; {
	case e == nil:
		return "none"
	case e.consumer != nil:
		return "consumer"
	case e.classic != nil:
		return "classic"
	}
	return "modern"
}

func (w *world) has(group, memberID string) bool {
	e := w.s.groups[group]
	return e != nil && (e.consumer != nil && e.consumer.member(memberID) != nil || e.classic != nil && e.classic.byID[memberID] != nil)
}

// silent begins to follow all members but the ones in live.
func (w *world) silent(group string, live map[string]bool, seen map[string]int) *silence {
	s := &silence{world: w, group: group, members: map[string]silentMember{}, kind: w.kindOf(group), seen: seen}
	s.expect(live)
	return s
}

// expect says what is owed to members of a group that was loaded, or became classic, right now.
func (s *silence) expect(live map[string]bool) {
	millis := func(n int32) time.Time { return s.now.Add(time.Duration(n) * time.Millisecond) }
	e := s.s.groups[s.group]
	switch {
	case e == nil:
	case e.consumer != nil:
		for memberID, m := range e.consumer.members.All() {
			if live[memberID] {
				continue
			}
			kind, by := "consumer", s.now.Add(s.s.consumerSession(s.group))
			if m.classic != nil {
				kind, by = "classic in consumer", millis(m.classic.SessionTimeoutMs)
			}
			if m.epoch == epochStaticLeave {
				kind += " away"
			}
			if at := millis(m.rebalanceTimeoutMs); m.state == memberUnrevoked && m.epoch != epochStaticLeave {
				kind += " revoking"
				if at.Before(by) {
					kind, by = kind+" shorter", at
				}
			}
			s.seen[kind]++
			s.members[memberID] = silentMember{by: by}
		}
	case e.classic != nil:
		for memberID, m := range e.classic.byID {
			if !live[memberID] {
				s.seen["classic"]++
				s.members[memberID] = silentMember{millis(m.sessionTimeoutMs), true}
			}
		}
	}
}

// pass lets time pass and looks who is there. tick is how often, and how late one may be gone.
func (s *silence) pass(d, tick time.Duration) error {
	for end := s.now.Add(d); s.now.Before(end); {
		s.advance(tick)
		if err := s.look(tick); err != nil {
			return err
		}
	}
	return nil
}

func (s *silence) look(tick time.Duration) error {
	if kind := s.kindOf(s.group); kind != s.kind {
		if s.kind = kind; kind == "classic" {
			// The sessions of those that stay are started anew.
			for memberID, m := range s.members {
				if c := s.s.groups[s.group].classic.byID[memberID]; c != nil {
					m.by, m.early = s.now.Add(time.Duration(c.sessionTimeoutMs)*time.Millisecond), true
					s.members[memberID] = m
				}
			}
		}
	}
	for memberID, m := range s.members {
		there := s.has(s.group, memberID)
		switch {
		case there && !s.now.Before(m.by.Add(tick)):
			return fmt.Errorf("%s is still there %v after it should be gone", memberID, s.now.Sub(m.by))
		case !there && !m.early && s.now.Before(m.by):
			return fmt.Errorf("%s is gone %v before its time", memberID, m.by.Sub(s.now))
		case !there:
			delete(s.members, memberID)
		}
	}
	return nil
}

// end is when the last of those that are silent now has to be gone, if the group becomes a classic one in the last moment too.
func (s *silence) end() time.Duration {
	at := s.now
	for _, m := range s.members {
		if m.by.After(at) {
			at = m.by
		}
	}
	return at.Sub(s.now) + time.Minute
}

// reload loads the group again, like after the loss of the leadership: with what is committed, or with all of the log.
func (w *world) reload(rnd *rand.Rand) {
	if rnd.IntN(2) == 0 {
		w.restart()
	} else {
		w.takeOver()
	}
	w.out = nil
}

// beginSilent brings a group in the middle of anything.
func beginSilent(t *testing.T, seed uint64, rnd *rand.Rand) *simConsumers {
	s := newSimConsumers(t, seed, rnd)
	s.classic = 1 + rnd.IntN(4)
	for i := range 20 + rnd.IntN(120) {
		s.step(i)
		s.out = nil
	}
	return s
}

// form makes a classic group of n members, of which some may be static, that have their assignments.
func (w *world) form(rnd *rand.Rand, name string, n int) {
	for i := range n {
		req := api.NewJoinGroupRequest()
		req.GroupID, req.ProtocolType = name, "consumer"
		req.SessionTimeoutMs, req.RebalanceTimeoutMs = int32(6000+rnd.IntN(40_000)), int32(1000+rnd.IntN(60_000))
		req.Protocols = []api.JoinGroupRequestProtocol{{Name: "range", Metadata: consumerMetadata("t")}}
		if rnd.IntN(3) == 0 {
			req.GroupInstanceID = new(fmt.Sprintf("i%d", i+1))
		}
		w.do("former", 3, func(t Turn) shard.Result { return w.s.JoinGroup(t, req) })
	}
	for range 100 {
		if g := w.s.classic(name); g != nil && g.state == CompletingRebalance {
			req := api.NewSyncGroupRequest()
			req.GroupID, req.GenerationID, req.MemberID = name, g.generation, g.leader
			w.do("former", 5, func(t Turn) shard.Result { return w.s.SyncGroup(t, req) })
			return
		}
		w.advance(time.Second)
	}
}

// eachSeed makes so many random runs. Each has a seed of its own.
func eachSeed(t *testing.T, rounds, stream uint64, run func(seed uint64, rnd *rand.Rand)) {
	t.Helper()
	first := seed.Of(t)
	for n := range rounds {
		run(first+n, rand.New(rand.NewPCG(first+n, stream)))
	}
}

// TestSilentAfterLoad loads groups in the middle of anything. From then on nobody speaks: every member is gone after its session, or
// after its rebalance timeout if it had to give partitions back; not earlier, unless a rebalance of the classic protocol drops it; and
// not later, however often the group was loaded again before.
func TestSilentAfterLoad(t *testing.T) {
	seen := map[string]int{}
	eachSeed(t, 60, 21, func(seed uint64, rnd *rand.Rand) {
		s := beginSilent(t, seed, rnd)
		s.hold = rnd.IntN(2) == 0
		s.reload(rnd)
		for range rnd.IntN(4) {
			s.advance(time.Duration(rnd.IntN(5000)) * time.Millisecond)
			s.reload(rnd)
		}
		q := s.silent("g", nil, seen)
		if err := q.pass(q.end(), 50*time.Millisecond); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, durable(s.s))
		}
		s.emptied(t, seed, "g")
	})
	t.Logf("members at the load: %v", seen)
}

// emptied: nobody is left, and nobody waits.
func (w *world) emptied(t *testing.T, seed uint64, groups ...string) {
	t.Helper()
	w.release()
	w.advance(time.Second)
	for _, name := range groups {
		if e := w.s.groups[name]; e != nil && !e.empty() {
			t.Fatalf("seed %d: nobody lives, and group %s is\n%s", seed, name, durable(w.s))
		}
	}
	if len(w.tickets) > 0 {
		t.Fatalf("seed %d: tickets without an answer: %v", seed, w.tickets)
	}
}

// TestSilentClassicAfterLoad is the same for groups of nothing but the classic protocol, static members among them.
func TestSilentClassicAfterLoad(t *testing.T) {
	seen := map[string]int{}
	eachSeed(t, 60, 22, func(seed uint64, rnd *rand.Rand) {
		cfg := DefaultConfig()
		cfg.InitialRebalanceDelay = time.Duration(rnd.IntN(3)) * time.Second
		cfg.MaxSize = 2 + rnd.IntN(10)
		w := newWorld(t, cfg, seed)
		for i := range rnd.IntN(100) {
			randomStep(w, rnd, i)
		}
		w.release()
		w.form(rnd, "g0", 1+rnd.IntN(cfg.MaxSize))
		w.form(rnd, "g1", 1+rnd.IntN(cfg.MaxSize))
		for i := range rnd.IntN(8) {
			randomStep(w, rnd, i)
		}
		w.hold = rnd.IntN(2) == 0
		if w.cfg.MaxSize = 1 + rnd.IntN(10); rnd.IntN(2) == 0 {
			w.cfg.MaxSize = cfg.MaxSize
		}
		w.reload(rnd)
		for range rnd.IntN(4) {
			w.advance(time.Duration(rnd.IntN(5000)) * time.Millisecond)
			w.reload(rnd)
		}
		a, b := w.silent("g0", nil, seen), w.silent("g1", nil, seen)
		for end := w.now.Add(max(a.end(), b.end())); w.now.Before(end); {
			w.advance(50 * time.Millisecond)
			for _, q := range []*silence{a, b} {
				if err := q.look(50 * time.Millisecond); err != nil {
					t.Fatalf("seed %d: group %s: %v", seed, q.group, err)
				}
			}
		}
		w.emptied(t, seed, "g0", "g1")
	})
	t.Logf("members at the load: %v", seen)
}

// TestSilentWhileWritesFail: what is found out about silent members is not forgotten when it cannot be written.
func TestSilentWhileWritesFail(t *testing.T) {
	eachSeed(t, 30, 23, func(seed uint64, rnd *rand.Rand) {
		s := beginSilent(t, seed, rnd)
		s.release()
		s.reload(rnd)
		for end := s.now.Add(90 * time.Second); s.now.Before(end); {
			s.hold = true
			s.advance(time.Duration(50+rnd.IntN(1000)) * time.Millisecond)
			s.lose(wire.ErrNotEnoughReplicas)
		}
		s.release()
		// The longest session, once more in case that the group turns classic, and what a fence waits to be tried again.
		s.advance(2*time.Minute + time.Second)
		s.emptied(t, seed, "g")
	})
}

// TestLiveAfterLoad: some clients go on and the others never speak again. When the sessions of those are over the living have all
// there is to have, and they have it without waiting for anybody.
func TestLiveAfterLoad(t *testing.T) {
	eachSeed(t, 30, 24, func(seed uint64, rnd *rand.Rand) {
		s := beginSilent(t, seed, rnd)
		s.release()
		s.reload(rnd)
		s.clients = slices.DeleteFunc(s.clients, func(*simClient) bool { return rnd.IntN(2) == 0 })
		for range rnd.IntN(6) { // faster than sessions end
			s.live(time.Duration(rnd.IntN(5000)) * time.Millisecond)
			s.reload(rnd)
		}
		longest := s.cfg.Consumer.SessionTimeout
		if e := s.s.groups["g"]; e != nil && e.consumer != nil {
			for _, m := range e.consumer.members.All() {
				if m.classic != nil {
					longest = max(longest, time.Duration(m.classic.SessionTimeoutMs)*time.Millisecond)
				}
			}
		} else if e != nil {
			for _, m := range e.classic.list() {
				longest = max(longest, time.Duration(m.sessionTimeoutMs)*time.Millisecond)
			}
		}
		s.live(longest + time.Second)
		// A group that turned classic when the last silent member of the consumer protocol left has begun the sessions of the
		// silent classic ones anew, and a join phase that waits for them. Static ones are still there after that, for one more session.
		s.live(2 * time.Minute)
		if err := s.settled(); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, durable(s.s))
		}
	})
}

// live lets those go on who live; no answer is lost.
func (s *simConsumers) live(d time.Duration) {
	s.sure = true
	for end := s.now.Add(d); s.now.Before(end); {
		s.advance(250 * time.Millisecond)
		for _, c := range slices.Clone(s.clients) {
			s.heartbeat(c)
		}
		s.out = nil
	}
	s.sure = false
}

// settled: the group is of those who live, and is not in the middle of anything.
func (s *simConsumers) settled() error {
	e := s.s.groups["g"]
	if e != nil && e.classic != nil {
		g := e.classic
		if g.state != Stable && g.state != Empty {
			return fmt.Errorf("the group is %v", g.state)
		}
		var ids []string
		for _, c := range s.clients {
			ids = append(ids, c.memberID)
		}
		slices.Sort(ids)
		if have := slices.Sorted(maps.Keys(g.byID)); !slices.Equal(have, ids) {
			return fmt.Errorf("members are %v, those who live %v", have, ids)
		}
		return nil
	}
	return s.complete()
}

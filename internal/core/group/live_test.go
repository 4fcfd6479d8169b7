package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// liveClient is a client of a classic group: it waits for one answer at a time, and goes on from there.
type liveClient struct {
	name               string
	instance           *string
	session, rebalance time.Duration

	memberID   string
	generation int32
	to         func(*liveSim, *liveClient) // what it does next
	at         time.Time                   // and not before
	members    []string                    // a leader's, between join and sync
	has        string
	steady     bool // has its assignment and no reason to join again

	ticket shard.Ticket
	body   any
}

// liveSim runs clients against a classic group, while some die without a word and the group is loaded again and again.
type liveSim struct {
	*world
	rnd     *rand.Rand
	clients []*liveClient
	born    int
	loads   int            // how often the group is loaded, in 400 steps
	lost    map[string]int // what the loads have forgotten
}

func newLiveSim(t *testing.T, seed uint64, rnd *rand.Rand, lost map[string]int) *liveSim {
	cfg := DefaultConfig()
	cfg.InitialRebalanceDelay = time.Duration(rnd.IntN(2)) * time.Second
	s := &liveSim{world: newWorld(t, cfg, seed), rnd: rnd, loads: 1 + rnd.IntN(12), lost: lost}
	s.heard = func(ticket shard.Ticket, body any) {
		for _, c := range s.clients {
			if c.ticket == ticket {
				c.body = body
			}
		}
	}
	return s
}

// send asks for something; the answer comes with this step or a later one.
func (s *liveSim) send(c *liveClient, version int16, decide func(Turn) shard.Result) {
	c.ticket, c.body = s.last+1, nil
	s.do(c.name, version, decide)
}

func (s *liveSim) join(c *liveClient) {
	req := api.NewJoinGroupRequest()
	req.GroupID, req.MemberID, req.GroupInstanceID, req.ProtocolType = "g", c.memberID, c.instance, consumerProtocol
	req.SessionTimeoutMs, req.RebalanceTimeoutMs = int32(c.session.Milliseconds()), int32(c.rebalance.Milliseconds())
	req.Protocols = []api.JoinGroupRequestProtocol{{Name: "range", Metadata: consumerMetadata("t")}}
	c.steady = false
	s.send(c, 9, func(t Turn) shard.Result { return s.s.JoinGroup(t, req) })
}

func (s *liveSim) sync(c *liveClient) {
	req := api.NewSyncGroupRequest()
	req.GroupID, req.MemberID, req.GenerationID, req.GroupInstanceID = "g", c.memberID, c.generation, c.instance
	for _, m := range c.members {
		req.Assignments = append(req.Assignments, api.SyncGroupRequestAssignment{MemberID: m, Assignment: share(c.generation, m)})
	}
	s.send(c, 5, func(t Turn) shard.Result { return s.s.SyncGroup(t, req) })
}

// share is what a leader gives a member.
func share(generation int32, memberID string) []byte {
	return fmt.Appendf(nil, "%d of %s", generation, memberID)
}

func (s *liveSim) beat(c *liveClient) {
	req := &api.HeartbeatRequest{GroupID: "g", MemberID: c.memberID, GenerationID: c.generation, GroupInstanceID: c.instance}
	s.send(c, 4, func(t Turn) shard.Result { return s.s.Heartbeat(t, req) })
}

// step lets a client go on if it does not wait for an answer.
func (s *liveSim) step(c *liveClient) {
	if _, waits := s.tickets[c.ticket]; waits {
		return
	}
	if c.ticket != shard.NoTicket {
		s.take(c)
		c.ticket = shard.NoTicket
	}
	if !s.now.Before(c.at) {
		c.to(s, c)
	}
}

// take takes an answer in, which is nil if there was a failure instead.
func (s *liveSim) take(c *liveClient) {
	code := wire.ErrNotCoordinator
	c.at = s.now
	switch m := c.body.(type) {
	case *api.JoinGroupResponse:
		if code = m.ErrorCode; code == wire.ErrMemberIDRequired {
			c.memberID = m.MemberID
			return
		}
		if code != wire.ErrNone {
			break
		}
		c.memberID, c.generation, c.members, c.to = m.MemberID, m.GenerationID, nil, (*liveSim).sync
		if m.Leader == m.MemberID && !m.SkipAssignment {
			for _, o := range m.Members {
				c.members = append(c.members, o.MemberID)
			}
		}
	case *api.SyncGroupResponse:
		if code = m.ErrorCode; code == wire.ErrNone {
			c.has, c.steady, c.to = string(m.Assignment), true, (*liveSim).beat
		}
	case *api.HeartbeatResponse:
		if code = m.ErrorCode; code == wire.ErrNone {
			c.at = s.now.Add(c.session / 5)
		}
	}
	switch code {
	case wire.ErrNone:
	case wire.ErrNotCoordinator, wire.ErrNotEnoughReplicas, wire.ErrCoordinatorNotAvailable:
		if !c.steady { // a heartbeat is sent again, all else begins with the join
			c.to = (*liveSim).join
		}
	case wire.ErrRebalanceInProgress, wire.ErrIllegalGeneration:
		c.to = (*liveSim).join
	case wire.ErrUnknownMemberID:
		c.memberID, c.to = "", (*liveSim).join
	case wire.ErrFencedInstanceID:
		// Its id was never in the log, as in Kafka: it had it from a rebalance that was lost. The client ends, and is started again.
		s.lost["static id"]++
		c.memberID, c.to = "", (*liveSim).join
	default:
		s.t.Fatalf("%s hears %s", c.name, code.Name())
	}
}

// comes lets a new client in, of a static member or not; instances are few, so that one often takes the place of another.
func (s *liveSim) comes() {
	s.born++
	c := &liveClient{name: fmt.Sprintf("c%d", s.born), to: (*liveSim).join}
	c.session = time.Duration(6000+s.rnd.IntN(6000)) * time.Millisecond
	c.rebalance = c.session + time.Duration(s.rnd.IntN(30_000))*time.Millisecond
	if s.rnd.IntN(3) == 0 {
		c.instance = new(fmt.Sprintf("i%d", s.rnd.IntN(2)))
		// Its former incarnation is dead.
		s.clients = slices.DeleteFunc(s.clients, func(o *liveClient) bool { return o.instance != nil && *o.instance == *c.instance })
	}
	s.clients = append(s.clients, c)
}

// again is another load. It notes what is not in the log.
func (s *liveSim) again() {
	if g := s.s.classic("g"); g != nil {
		s.lost[g.state.String()]++
		if len(g.pendingJoin) > 0 {
			s.lost["pending"]++
		}
		for _, m := range g.list() {
			if m.isNew {
				s.lost["new"]++
			}
			if m.awaitingSync != shard.NoTicket {
				s.lost["awaiting sync"]++
			}
		}
	}
	s.reload(s.rnd)
}

// pass lets time pass in which everybody who lives goes on. harm is done now and then.
func (s *liveSim) pass(d time.Duration, harm func()) {
	const tick = 50 * time.Millisecond
	for end := s.now.Add(d); s.now.Before(end); {
		s.advance(tick)
		if harm != nil {
			harm()
		}
		for _, c := range slices.Clone(s.clients) {
			s.step(c)
		}
		s.out = nil
	}
}

func (s *liveSim) harm() {
	switch n := s.rnd.IntN(400); {
	case n < 20 && len(s.clients) < 5:
		s.comes()
	case n < 24 && len(s.clients) > 0: // dies
		k := s.rnd.IntN(len(s.clients))
		s.clients = slices.Delete(s.clients, k, k+1)
	case n < 30:
		if s.hold = !s.hold; !s.hold {
			s.release()
		}
	case n < 32:
		s.lose(wire.ErrNotEnoughReplicas)
	case n < 32+s.loads:
		s.again()
	}
}

// settled: the group is of those who live, all of one generation, and each has what the leader gave it.
func (s *liveSim) settled() error {
	g := s.s.classic("g")
	if len(s.clients) == 0 {
		if g != nil && g.state != Empty {
			return fmt.Errorf("nobody lives, and the group is %v", g.state)
		}
		return nil
	}
	var ids []string
	for _, c := range s.clients {
		if g == nil || g.byID[c.memberID] == nil {
			return fmt.Errorf("%q lives and is not in the group", c.memberID)
		}
		ids = append(ids, c.memberID)
		want := share(g.generation, c.memberID)
		if c.instance != nil { // its former id may have been given this
			want = g.byID[c.memberID].assignment
		}
		if !c.steady || c.generation != g.generation || c.has != string(want) || !strings.HasPrefix(c.has, fmt.Sprintf("%d of ", g.generation)) {
			return fmt.Errorf("%s, steady %v, has %q in generation %d; the group is %v in %d", c.memberID, c.steady, c.has, c.generation, g.state, g.generation)
		}
	}
	slices.Sort(ids)
	if have := slices.Sorted(maps.Keys(g.byID)); g.state != Stable || !slices.Equal(have, ids) {
		return fmt.Errorf("the group is %v with %v, those who live are %v", g.state, have, ids)
	}
	return nil
}

// TestLiveClassicAfterLoad: clients of a classic group come and die while it is loaded more often than sessions end. From the last load
// on the dead have one session and no more: then those who live have the group for themselves.
func TestLiveClassicAfterLoad(t *testing.T) {
	lost := map[string]int{}
	eachSeed(t, 60, 25, func(seed uint64, rnd *rand.Rand) {
		s := newLiveSim(t, seed, rnd, lost)
		s.pass(time.Duration(5+rnd.IntN(40))*time.Second, s.harm)
		s.release()
		s.again()
		longest := time.Duration(0)
		if g := s.s.classic("g"); g != nil {
			for _, m := range g.list() {
				longest = max(longest, time.Duration(m.sessionTimeoutMs)*time.Millisecond)
			}
		}
		for _, c := range s.clients {
			longest = max(longest, c.session)
		}
		// Who lives hears of the rebalance from a heartbeat, and a new group waits a little.
		s.pass(longest+longest/5+2*time.Second, nil)
		if err := s.settled(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	})
	t.Logf("lost with loads: %v", lost)
}

package partition

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/wire"
)

// live is the set of brokers that may be in sync, with their epochs.
type live map[id.BrokerID]id.BrokerEpoch

func (l live) Eligible(b id.BrokerID) (id.BrokerEpoch, bool) {
	e, ok := l[b]
	return e, ok
}

// TestScenarios runs testdata. Every scenario begins with a fresh replica on broker 1; brokers 1 to 5 are live with epoch 100.
//
//	apply leader=L epoch=E pepoch=P replicas=1,2 isr=1,2 [adding=..] [end=N] [now=MS]   take in a registration
//	fetch replica=R offset=N [end=N] [start=N] [epoch=N] [now=MS]                        a follower fetches
//	hw end=N [durable=N strict] [current=N] [min=N] [now=MS] [hold=N]                    the rule
//	append acks=A [min=N]                                                                may a produce be appended
//	waiting required=N hw=N epoch=E [min=N]                                              may it be answered
//	check epoch=E                                                                        KIP-320 fencing
//	expand replica=R hw=N / shrink end=N now=MS / accept isr=.. pepoch=P / reject code=NAME
//	low start=N                                                                          low watermark
//	dead broker=B / alive broker=B epoch=E
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := New(1)
		brokers := live{1: 100, 2: 100, 3: 100, 4: 100, 5: 100}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				s = New(1)
				brokers = live{1: 100, 2: 100, 3: 100, 4: 100, 5: 100}
				return "ok"
			}
			return step(&s, brokers, args{t, d})
		})
	})
}

type args struct {
	t *testing.T
	d *datadriven.TestData
}

func (a args) num(key string, def int64) int64 {
	for _, c := range a.d.CmdArgs {
		if c.Key == key && len(c.Vals) == 1 {
			n, err := strconv.ParseInt(c.Vals[0], 10, 64)
			if err != nil {
				a.d.Fatalf(a.t, "%v", err)
			}
			return n
		}
	}
	return def
}

func (a args) has(key string) bool { return a.d.HasArg(key) }

func (a args) ids(key string) []id.BrokerID {
	var out []id.BrokerID
	for _, c := range a.d.CmdArgs {
		if c.Key == key {
			for _, v := range strings.Split(strings.Join(c.Vals, ","), ",") {
				n, err := strconv.Atoi(strings.TrimSpace(v))
				if err != nil {
					a.d.Fatalf(a.t, "%v", err)
				}
				out = append(out, id.BrokerID(n))
			}
		}
	}
	return out
}

func step(s *State, brokers live, a args) string {
	off := func(key string, def int64) id.Offset { return id.Offset(a.num(key, def)) }
	minISR, now := int(a.num("min", 1)), a.num("now", 0)
	switch a.d.Cmd {
	case "apply":
		tr := s.Apply(Registration{Replicas: a.ids("replicas"), ISR: a.ids("isr"), Adding: a.ids("adding"), Leader: id.BrokerID(a.num("leader", -1)),
			LeaderEpoch: id.LeaderEpoch(a.num("epoch", 0)), PartitionEpoch: int32(a.num("pepoch", 0))}, off("end", 0), now)
		return fmt.Sprintf("stale=%t leader=%t became=%t resigned=%t newEpoch=%t start=%d", tr.Stale, tr.Leader, tr.BecameLeader, tr.Resigned, tr.NewEpoch, s.EpochStart())
	case "fetch":
		r := id.BrokerID(a.num("replica", 0))
		if code := s.CheckFollower(r, id.LeaderEpoch(a.num("leaderEpoch", -1))); code != wire.ErrNone {
			return code.Name()
		}
		moved, code := s.RecordFetch(FollowerFetch{Replica: r, BrokerEpoch: id.BrokerEpoch(a.num("epoch", 100)), Offset: off("offset", 0),
			LogStart: off("start", 0), LeaderEnd: off("end", 0), NowMs: now})
		return fmt.Sprintf("moved=%t %s", moved, code.Name())
	case "hw":
		p := Progress{End: off("end", 0), Durable: off("durable", 0), Strict: a.has("strict"), HighWatermark: off("current", 0), Hold: off("hold", -1)}
		return fmt.Sprint(s.HighWatermark(p, minISR, now, 1000, brokers))
	case "append":
		return s.CheckAppend(int16(a.num("acks", -1)), minISR).Name()
	case "waiting":
		done, code := s.CheckWaiting(off("required", 0), off("hw", 0), id.LeaderEpoch(a.num("epoch", 0)), minISR)
		return fmt.Sprintf("done=%t %s", done, code.Name())
	case "check":
		return s.CheckEpoch(id.LeaderEpoch(a.num("epoch", -1))).Name()
	case "expand":
		return proposal(s.ProposeExpand(id.BrokerID(a.num("replica", 0)), off("hw", 0), brokers))
	case "shrink":
		return proposal(s.ProposeShrink(off("end", 0), now, 1000, brokers))
	case "accept":
		return fmt.Sprint(s.Accepted(s.Pending(), a.ids("isr"), s.LeaderEpoch(), int32(a.num("pepoch", 0))), s.ISR())
	case "reject":
		retry := s.Rejected(s.Pending(), wire.ErrorCode(a.num("code", 0)))
		return fmt.Sprintf("%s retry=%t pending=%s", wire.ErrorCode(a.num("code", 0)).Name(), retry, proposal(s.Pending()))
	case "low":
		return fmt.Sprint(s.LowWatermark(off("start", 0), brokers))
	case "dead":
		delete(brokers, id.BrokerID(a.num("broker", 0)))
		return "ok"
	case "alive":
		brokers[id.BrokerID(a.num("broker", 0))] = id.BrokerEpoch(a.num("epoch", 100))
		return "ok"
	case "health":
		return fmt.Sprintf("underReplicated=%t underMinISR=%t atMinISR=%t", s.IsUnderReplicated(), s.IsUnderMinISR(minISR), s.IsAtMinISR(minISR))
	}
	return "unknown command " + a.d.Cmd
}

func proposal(p *Proposal) string {
	if p == nil {
		return "none"
	}
	return fmt.Sprintf("isr=%v epochs=%v leaderEpoch=%d partitionEpoch=%d", p.ISR, p.Epochs, p.LeaderEpoch, p.PartitionEpoch)
}

// TestHighWatermarkRandom drives a leader with random followers, registrations and proposals, and checks what must hold at every
// step: the watermark never falls, never passes the leader's end, and never passes the end of a replica of the maximal set.
func TestHighWatermarkRandom(t *testing.T) {
	seed := seed.Of(t)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		s := New(1)
		brokers := live{1: 1, 2: 1, 3: 1, 4: 1}
		replicas := []id.BrokerID{1, 2, 3, 4}[:1+r.IntN(4)]
		isr := replicas[:1+r.IntN(len(replicas))]
		pepoch := int32(0)
		s.Apply(Registration{Replicas: replicas, ISR: isr, Leader: 1}, 0, 0)
		var end, durable, hw id.Offset
		strict := r.IntN(2) == 0
		minISR := 1 + r.IntN(2)
		for now := int64(0); now < 3000; now += int64(r.IntN(40)) {
			switch r.IntN(6) {
			case 0, 1:
				end += id.Offset(r.IntN(5))
			case 2:
				durable = max(durable, end-id.Offset(r.IntN(4)))
			case 3:
				b := id.BrokerID(2 + r.IntN(3))
				if f := s.Follower(b); f != nil {
					at := min(end, max(f.end, 0)+id.Offset(r.IntN(6)))
					s.RecordFetch(FollowerFetch{Replica: b, BrokerEpoch: 1, Offset: at, LeaderEnd: end, NowMs: now})
					if p := s.ProposeExpand(b, hw, brokers); p != nil && f.end < hw {
						t.Fatalf("replica %d at %d proposed below high watermark %d", b, f.end, hw)
					}
				}
			case 4:
				s.ProposeShrink(end, now, 1000, brokers)
			case 5:
				if p := s.Pending(); p != nil {
					if r.IntN(2) == 0 {
						pepoch++
						s.Accepted(p, p.ISR, 0, pepoch)
					} else {
						s.Rejected(p, wire.ErrIneligibleReplica)
					}
				}
			}
			next := s.HighWatermark(Progress{End: end, Durable: durable, Strict: strict, HighWatermark: hw, Hold: id.NoOffset}, minISR, now, 1000, brokers)
			if next < hw || next > max(end, hw) || (strict && next > max(durable, hw)) {
				t.Fatalf("seed %d: high watermark %d -> %d with end %d durable %d strict %t", seed, hw, next, end, durable, strict)
			}
			for _, b := range s.ISR() {
				if f := s.Follower(b); f != nil && next > hw && f.end < next {
					t.Fatalf("seed %d: high watermark %d passed in-sync replica %d at %d", seed, next, b, f.end)
				}
			}
			if next > hw && s.IsUnderMinISR(minISR) {
				t.Fatalf("seed %d: high watermark rose under min.insync.replicas", seed)
			}
			hw = next
		}
	}
}

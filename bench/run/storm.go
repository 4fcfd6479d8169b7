package main

import (
	"context"
	"fmt"
	"time"

	"github.com/moldau-io/moldau/bench/load"
)

const (
	stormMembers = 100
	// stormBeat is the heartbeat interval of members in a storm. The clients' own default of 3 s would make the row as long, and
	// says nothing of the broker.
	stormBeat = 200 * time.Millisecond
)

// crowd makes the members of a group of that name over these connections; each must have so many partitions in the end, or whatever
// if that is 0.
type crowd func(callers []*caller, group string) (members []member, each int)

func classicStorm(callers []*caller, group string) ([]member, int) {
	var all []member
	for _, c := range callers {
		all = append(all, &classicMember{c: c, group: group, version: 9})
	}
	return all, 0
}

func consumerStorm(callers []*caller, group string) ([]member, int) {
	var all []member
	for i, c := range callers {
		all = append(all, &consumerMember{c: c, group: group, id: fmt.Sprintf("%s-member-%d", group, i)})
	}
	return all, 1
}

// stormServer starts a server without initial delay of groups, and connects the members to be.
func stormServer(ctx context.Context, who string) (*server, []*caller, error) {
	s, err := newServer(who, "group.initial.rebalance.delay.ms=0")
	if err != nil {
		return nil, nil, err
	}
	if err = createTopics(ctx, s.addr, stormMembers, "bench"); err == nil {
		err = awaitCoordinators(ctx, s.addr, 1)
	}
	var callers []*caller
	if err == nil {
		callers, err = dialCallers(s.addr, stormMembers)
	}
	if err != nil {
		s.stop()
		return nil, nil, err
	}
	return s, callers, nil
}

// stormRow lets members join a new group at once, one group after the other without a pause, and measures the time and the broker's
// CPU until all of a group have their assignment.
func stormRow(of crowd) func(context.Context, string) (figure, error) {
	return func(ctx context.Context, who string) (figure, error) {
		s, callers, err := stormServer(ctx, who)
		if err != nil {
			return figure{}, err
		}
		defer s.stop()
		defer closeCallers(callers)
		n := 0
		storms := func(atLeast time.Duration) (count int, took time.Duration, err error) {
			for began := time.Now(); count < 5 || time.Since(began) < atLeast; count++ {
				n++
				members, each := of(callers, fmt.Sprint("storm-", n))
				one := time.Now()
				if err := gather(members, each, stormBeat); err != nil {
					return count, took, err
				}
				took += time.Since(one)
			}
			return count, took, nil
		}
		if _, _, err := storms(s.warmUp()); err != nil {
			return figure{}, err
		}
		m := s.meter()
		count, took, err := storms(*window)
		if err != nil {
			return figure{}, err
		}
		cpu, foreign := m.stop()
		return figure{ms(took) / float64(count), cpu * 1000 / float64(count), foreign}, nil
	}
}

// firstStormRow measures one storm, before which nobody has joined a group of the broker: other code of it has run, that of the groups has
// not. The members' connections are there before.
func firstStormRow(ctx context.Context, who string) (figure, error) {
	s, callers, err := stormServer(ctx, who)
	if err != nil {
		return figure{}, err
	}
	defer s.stop()
	defer closeCallers(callers)
	o := load.Options{Addr: s.addr, Topic: "bench", Partitions: 6, RecordSize: 100, BatchSize: 1, Conns: 16, InFlight: 1, Acks: -1, Duration: s.warmUp() / 2,
		FetchMax: 64 << 10}
	if _, err := load.Produce(ctx, o); err != nil {
		return figure{}, err
	}
	if _, err := load.Fetch(ctx, o); err != nil {
		return figure{}, err
	}
	s.quiet()
	// A group that has committed: the files of its coordinator's partition are there, which Apache Kafka makes with the topic.
	members, each := classicStorm(callers, benchGroup(0))
	m := s.meter()
	began := time.Now()
	if err := gather(members, each, stormBeat); err != nil {
		return figure{}, err
	}
	took := time.Since(began)
	cpu, foreign := m.stop()
	return figure{ms(took), cpu * 1000, foreign}, nil
}

func dialCallers(addr string, n int) ([]*caller, error) {
	callers := make([]*caller, 0, n)
	for range n {
		c, err := dialCaller(addr)
		if err != nil {
			closeCallers(callers)
			return nil, err
		}
		callers = append(callers, c)
	}
	return callers, nil
}

func closeCallers(callers []*caller) {
	for _, c := range callers {
		c.close()
	}
}

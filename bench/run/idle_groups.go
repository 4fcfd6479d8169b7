package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	idleGroups  = 10_000
	idleMembers = 10
	lanes       = 100 // groups that are made at the same time, each over connections of its own
)

// idle makes the groups of one lane over a connection for each member.
type idle func(callers []*caller, groups []string) error

// classicIdle makes one group after the other.
func classicIdle(callers []*caller, groups []string) error {
	for _, group := range groups {
		var members []member
		for _, c := range callers {
			members = append(members, &classicMember{c: c, group: group, version: 3})
		}
		if err := gather(members, 0, 100*time.Millisecond); err != nil {
			return fmt.Errorf("%s: %w", group, err)
		}
	}
	return nil
}

// consumerIdle lets the members of all groups join, and then all of them beat until they have settled: between two target assignments of
// a group lies a second.
func consumerIdle(callers []*caller, groups []string) error {
	all := make([][]*consumerMember, len(groups))
	for i, group := range groups {
		for j, c := range callers {
			all[i] = append(all[i], &consumerMember{c: c, group: group, id: fmt.Sprintf("%s-member-%d-0123456789", group, j)})
		}
	}
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); {
		began, moved := time.Now(), 0
		for _, members := range all {
			if !slices.ContainsFunc(members, func(m *consumerMember) bool { return m.epoch != members[0].epoch || m.partition != 1 || m.news }) {
				continue
			}
			moved++
			for _, m := range members {
				if err := m.heartbeat(); err != nil {
					return err
				}
			}
		}
		if moved == 0 {
			return nil
		}
		time.Sleep(max(0, 500*time.Millisecond-time.Since(began)))
	}
	return fmt.Errorf("the groups have not settled within five minutes")
}

// idleRow makes the groups and measures what a server that nobody asks anything keeps for them: memory, and CPU in ten seconds.
func idleRow(of idle) func(context.Context, string) (figure, error) {
	return func(ctx context.Context, who string) (figure, error) {
		s, err := newServer(who, "group.initial.rebalance.delay.ms=50",
			"group.consumer.session.timeout.ms="+fmt.Sprint(session.Milliseconds()), "group.consumer.max.session.timeout.ms="+fmt.Sprint(session.Milliseconds()))
		if err != nil {
			return figure{}, err
		}
		defer s.stop()
		if err := createTopics(ctx, s.addr, idleMembers, "bench"); err != nil {
			return figure{}, err
		}
		if err := awaitCoordinators(ctx, s.addr, 1); err != nil {
			return figure{}, err
		}
		callers, err := dialCallers(s.addr, lanes*idleMembers)
		if err != nil {
			return figure{}, err
		}
		defer closeCallers(callers)
		errs := make(chan error, lanes)
		for lane := range lanes {
			var groups []string
			for i := lane; i < idleGroups; i += lanes {
				groups = append(groups, fmt.Sprint("idle-group-", i))
			}
			go func() { errs <- of(callers[lane*idleMembers:(lane+1)*idleMembers], groups) }()
		}
		var failed error
		for range lanes {
			if err := <-errs; err != nil {
				failed = err
			}
		}
		if failed != nil {
			return figure{}, failed
		}
		time.Sleep(10 * time.Second)
		m := s.meter()
		time.Sleep(10 * time.Second)
		cpu, foreign := m.stop()
		return figure{s.rss(), cpu * 1000 / 10, foreign}, nil
	}
}

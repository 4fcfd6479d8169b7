package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-io/moldau/internal/core/group"
)

// offsetsLoadRow commits a million offsets, a tenth of them not overwritten, by groups of one partition of __consumer_offsets, stops
// the server cleanly, and measures from the exec of its next process until the coordinator of that partition answers.
func offsetsLoadRow(ctx context.Context, who string) (figure, error) {
	const groups, partitions, rounds = 1000, 100, 10
	s, err := newServer(who)
	if err != nil {
		return figure{}, err
	}
	defer s.stop()
	if err := createTopics(ctx, s.addr, partitions, "bench"); err != nil {
		return figure{}, err
	}
	if err := awaitCoordinators(ctx, s.addr, 1); err != nil {
		return figure{}, err
	}
	c, err := dialCaller(s.addr)
	if err != nil {
		return figure{}, err
	}
	defer c.close()
	names := groupsOfOnePartition(groups)
	for round := range rounds {
		for _, name := range names {
			if err := c.commitAll(name, partitions, int64(round)); err != nil {
				return figure{}, err
			}
		}
	}
	s.end(false)
	began := time.Now()
	if _, _, err := s.again([]string{"bench"}, partitions); err != nil {
		return figure{}, err
	}
	if who == "kafka" {
		if began, err = execTime(s.pid); err != nil {
			return figure{}, err
		}
	}
	again, err := dialCaller(s.addr)
	if err != nil {
		return figure{}, err
	}
	defer again.close()
	if err := again.untilOffset(names[groups-1], rounds-1); err != nil {
		return figure{}, err
	}
	return figure{value: ms(time.Since(began)), cpu: processCPU(s.pid)}, nil
}

// groupsOfOnePartition returns names that __consumer_offsets has in its partition 7 of 50.
func groupsOfOnePartition(n int) []string {
	var names []string
	for i := 0; len(names) < n; i++ {
		if name := fmt.Sprint("load-", i); group.PartitionOf(name, 50) == 7 {
			names = append(names, name)
		}
	}
	return names
}

// commitAll commits one offset for all partitions of a topic. The first one of a coordinator may come while it loads.
func (c *caller) commitAll(name string, partitions int, offset int64) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.SetVersion(8)
	req.Group, req.Generation = name, -1
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "bench", Partitions: make([]kmsg.OffsetCommitRequestTopicPartition, partitions)}}
	for i := range req.Topics[0].Partitions {
		req.Topics[0].Partitions[i] = kmsg.OffsetCommitRequestTopicPartition{Partition: int32(i), Offset: offset, LeaderEpoch: -1}
	}
	for deadline := time.Now().Add(time.Minute); ; {
		resp := kmsg.NewPtrOffsetCommitResponse()
		if err := c.call(req, resp); err != nil {
			return err
		}
		switch code := resp.Topics[0].Partitions[0].ErrorCode; {
		case code == 0:
			return nil
		case !coordinatorComes(code) || time.Now().After(deadline):
			return fmt.Errorf("commit of %s: error %d", name, code)
		}
		time.Sleep(time.Millisecond)
	}
}

// untilOffset asks until the group's coordinator answers with the offset.
func (c *caller) untilOffset(name string, want int64) error {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.SetVersion(8)
	req.Groups = []kmsg.OffsetFetchRequestGroup{{Group: name, MemberEpoch: -1, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: "bench", Partitions: []int32{0}}}}}
	for deadline := time.Now().Add(2 * time.Minute); ; {
		resp := kmsg.NewPtrOffsetFetchResponse()
		if err := c.call(req, resp); err != nil {
			return err
		}
		g := resp.Groups[0]
		if g.ErrorCode == 0 {
			if got := g.Topics[0].Partitions[0].Offset; got != want {
				return fmt.Errorf("group %s is at %d, want %d", name, got, want)
			}
			return nil
		}
		if !coordinatorComes(g.ErrorCode) || time.Now().After(deadline) {
			return fmt.Errorf("offsets of %s: error %d", name, g.ErrorCode)
		}
		time.Sleep(time.Millisecond)
	}
}

// coordinatorComes reports COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE and NOT_COORDINATOR.
func coordinatorComes(code int16) bool { return slices.Contains([]int16{14, 15, 16}, code) }

package node

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TestDoorsWaitForCoordinators: after a kill the doors open when the coordinators are loaded, and who comes first is answered.
func TestDoorsWaitForCoordinators(t *testing.T) {
	mem := vfs.NewMem()
	o := options(t, "/data", map[string]string{"log.flush.interval.messages": "1"})
	o.FS = mem
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	n, err := start(t, o)
	if err != nil {
		t.Fatal(err)
	}
	create := &api.CreateTopicsRequest{TimeoutMs: 10_000, Topics: []api.CreateTopicsRequestTopic{{Name: coord.OffsetsTopic, NumPartitions: 1, ReplicationFactor: 1}}}
	a, err := n.line.Send(ctx, create, 7)
	if err != nil {
		t.Fatal(err)
	}
	if code := a.(*api.CreateTopicsResponse).Topics[0].ErrorCode; code != wire.ErrNone {
		t.Fatal(code)
	}
	if err := n.groups.AwaitLoaded(ctx, []int32{0}); err != nil {
		t.Fatal(err)
	}
	commit := api.NewOffsetCommitRequest()
	commit.GroupID, commit.Topics = "g", []api.OffsetCommitRequestTopic{{Name: "t", Partitions: []api.OffsetCommitRequestTopicPartition{{CommittedOffset: 7}}}}
	committed := make(chan wire.ErrorCode, 1)
	n.groups.Do(0, func(_ any, code wire.ErrorCode) { committed <- code }, func(s *group.Shard, now time.Time, ticket shard.Ticket) shard.Result {
		return s.OffsetCommit(group.Turn{Now: now, Ticket: ticket, Version: 9}, commit)
	})
	if code := <-committed; code != wire.ErrNone {
		t.Fatal(code)
	}

	disk, wait := vfs.NewFaults(mem.CrashClone(1)), &said{message: "clients wait for the coordinators", heard: make(chan struct{}, 1)}
	hold := func(string) error {
		select {
		case <-wait.heard:
		case <-ctx.Done():
		}
		return nil
	}
	for _, op := range []vfs.Op{vfs.OpOpen, vfs.OpCreate} { // whichever opens the log for its recovery
		disk.Add(vfs.Rule{Op: op, Path: coord.OffsetsTopic + "-0/*.log", Nth: 1, Call: hold})
	}
	o = options(t, "/data", nil)
	o.FS, o.Logger = disk, slog.New(wait)
	n, err = start(t, o)
	if err != nil {
		t.Fatal(err)
	}
	code := n.groups.Read(0, func(s *group.Shard) {
		if at, ok := s.Offset("g", "t", 0); !ok || at != 7 {
			t.Errorf("the group is at %d, %v", at, ok)
		}
	})
	if code != wire.ErrNone {
		t.Errorf("the first who asks for a group is told %s", code.Name())
	}
}

package handler

import (
	"testing"

	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TestTxnOffsetCommitLoading: clients that crash on a coordinator that loads hear of one that is not available.
func TestTxnOffsetCommitLoading(t *testing.T) {
	for version := int16(0); version <= 6; version++ {
		for code, want := range map[wire.ErrorCode]wire.ErrorCode{
			wire.ErrCoordinatorLoadInProgress: map[bool]wire.ErrorCode{true: wire.ErrCoordinatorNotAvailable, false: wire.ErrCoordinatorLoadInProgress}[version < 2],
			wire.ErrNotCoordinator:            wire.ErrNotCoordinator,
			wire.ErrNone:                      wire.ErrNone,
		} {
			below := &api.OffsetCommitResponse{Topics: []api.OffsetCommitResponseTopic{{Name: "t", Partitions: []api.OffsetCommitResponseTopicPartition{{PartitionIndex: 3, ErrorCode: code}}}}}
			got := asTxnOffsetCommit(below, version).Topics[0].Partitions[0]
			if got.ErrorCode != want || got.PartitionIndex != 3 {
				t.Errorf("version %d, %s: partition %d %s", version, code.Name(), got.PartitionIndex, got.ErrorCode.Name())
			}
		}
	}
}

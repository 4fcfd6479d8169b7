package group

import (
	"testing"

	"github.com/moldau-io/moldau/internal/wire"
)

// TestJoinWriteError: what a joining or syncing member is told when a group's record could not be written.
func TestJoinWriteError(t *testing.T) {
	for _, c := range []struct{ lost, told wire.ErrorCode }{
		{wire.ErrUnknownTopicOrPartition, wire.ErrCoordinatorNotAvailable},
		{wire.ErrNotEnoughReplicas, wire.ErrCoordinatorNotAvailable},
		{wire.ErrRequestTimedOut, wire.ErrCoordinatorNotAvailable},
		{wire.ErrNotLeaderOrFollower, wire.ErrNotCoordinator},
		{wire.ErrKafkaStorageError, wire.ErrNotCoordinator},
		{wire.ErrMessageTooLarge, wire.ErrUnknownServerError},
		{wire.ErrRecordListTooLarge, wire.ErrUnknownServerError},
		{wire.ErrInvalidFetchSize, wire.ErrUnknownServerError},
		{wire.ErrLeaderNotAvailable, wire.ErrLeaderNotAvailable},
	} {
		if told := joinWriteError(c.lost); told != c.told {
			t.Errorf("%s is told as %s, want %s", c.lost.Name(), told.Name(), c.told.Name())
		}
	}
}

package quorum

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/raft"
)

// stateV0 and stateV1 are the two versions of quorum-state, one JSON object on one line. Version 1 goes with kraft.version 1
// (KIP-853): it names the directory that was voted for.
type stateV0 struct {
	ClusterID     string         `json:"clusterId"`
	LeaderID      int32          `json:"leaderId"`
	LeaderEpoch   int32          `json:"leaderEpoch"`
	VotedID       int32          `json:"votedId"`
	AppliedOffset int64          `json:"appliedOffset"`
	CurrentVoters []stateV0Voter `json:"currentVoters"`
	DataVersion   int16          `json:"data_version"`
}

type stateV0Voter struct {
	VoterID int32 `json:"voterId"`
}

type stateV1 struct {
	LeaderID         int32  `json:"leaderId"`
	LeaderEpoch      int32  `json:"leaderEpoch"`
	VotedID          int32  `json:"votedId"`
	VotedDirectoryID string `json:"votedDirectoryId"`
	DataVersion      int16  `json:"data_version"`
}

// maxStateBytes bounds the file.
const maxStateBytes = 1 << 20

// encodeState writes h for a kraft.version.
func encodeState(h raft.HardState, kraftVersion int16, voters raft.Voters) ([]byte, error) {
	if kraftVersion >= 1 {
		return json.Marshal(stateV1{LeaderID: int32(h.Leader), LeaderEpoch: int32(h.Epoch), VotedID: int32(h.Voted.ID),
			VotedDirectoryID: h.Voted.DirectoryID.String(), DataVersion: 1})
	}
	s := stateV0{LeaderID: int32(h.Leader), LeaderEpoch: int32(h.Epoch), VotedID: int32(h.Voted.ID), CurrentVoters: []stateV0Voter{}}
	for _, v := range voters {
		s.CurrentVoters = append(s.CurrentVoters, stateV0Voter{int32(v.ID)})
	}
	return json.Marshal(s)
}

// decodeState reads either version.
func decodeState(b []byte) (raft.HardState, error) {
	h := raft.HardState{Voted: raft.NoReplica, Leader: id.NoBroker}
	var s struct {
		LeaderID         *int32  `json:"leaderId"`
		LeaderEpoch      *int32  `json:"leaderEpoch"`
		VotedID          *int32  `json:"votedId"`
		VotedDirectoryID *string `json:"votedDirectoryId"`
		DataVersion      *int16  `json:"data_version"`
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return h, err
	}
	switch {
	case s.DataVersion == nil:
		return h, errors.New("there is no data_version field")
	case *s.DataVersion < 0 || *s.DataVersion > 1:
		return h, fmt.Errorf("data_version (%d) is not within the min (0) and max (1) supported version", *s.DataVersion)
	case s.LeaderID == nil || s.LeaderEpoch == nil:
		return h, errors.New("leaderId or leaderEpoch is missing")
	case *s.LeaderEpoch < 0:
		return h, fmt.Errorf("leaderEpoch is %d", *s.LeaderEpoch)
	}
	h.Leader, h.Epoch = id.BrokerID(*s.LeaderID), id.LeaderEpoch(*s.LeaderEpoch)
	if s.VotedID != nil {
		h.Voted.ID = id.BrokerID(*s.VotedID)
	}
	if s.VotedDirectoryID != nil {
		u, err := id.ParseUUID(*s.VotedDirectoryID)
		if err != nil {
			return h, fmt.Errorf("votedDirectoryId: %w", err)
		}
		h.Voted.DirectoryID = u
	}
	return h, nil
}

// readState reads quorum-state; a node that never voted has none.
func readState(fsys vfs.FS, dir string) (raft.HardState, error) {
	path := filepath.Join(dir, fileState)
	b, err := vfs.ReadFile(fsys, path, maxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return raft.HardState{Leader: id.NoBroker, Voted: raft.NoReplica}, nil
	}
	if err != nil {
		return raft.HardState{}, fmt.Errorf("read quorum state: %w", err)
	}
	h, err := decodeState(b)
	if err != nil {
		// Without it the node could vote twice in an epoch. It is for a human to decide.
		return h, fmt.Errorf("read quorum state %s: %w", path, err)
	}
	return h, nil
}

// writeState replaces quorum-state, durably.
func writeState(fsys vfs.FS, dir string, h raft.HardState, m raft.Membership) error {
	b, err := encodeState(h, m.KRaftVersion, m.Voters)
	if err != nil {
		return fmt.Errorf("write quorum state: %w", err)
	}
	if err := vfs.ReplaceFile(fsys, filepath.Join(dir, fileState), suffixTmp, b); err != nil {
		return fmt.Errorf("write quorum state: %w", err)
	}
	return nil
}

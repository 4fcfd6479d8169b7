package raft

import (
	"fmt"
	"slices"

	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// startRecords are the control records that open the epoch. With kraft.version 1 the voters are written along when the log
// does not have them yet, or has them with old endpoints of this node.
func (r *Raft) startRecords() []record.ControlRecord {
	m := logrec.NewLeaderChangeMessage()
	m.LeaderID = int32(r.cfg.Self.ID)
	m.Voters, m.GrantingVoters = []logrec.LeaderChangeMessageVoter{}, []logrec.LeaderChangeMessageVoter{}
	for _, v := range r.members.Voters {
		m.Voters = append(m.Voters, logrec.LeaderChangeMessageVoter{VoterID: int32(v.ID)})
	}
	for _, n := range r.granted {
		m.GrantingVoters = append(m.GrantingVoters, logrec.LeaderChangeMessageVoter{VoterID: int32(n)})
	}
	out := []record.ControlRecord{{Type: record.ControlLeaderChange, Value: wire.Marshal(m, 0)}}
	if r.members.KRaftVersion < 1 {
		return out
	}
	old, _ := r.members.Voters.Find(r.cfg.Self.ID)
	if r.members.Offset >= 0 && sameVoter(old, r.cfg.Self) {
		return out
	}
	return append(out, MembershipRecords(r.members.KRaftVersion, r.members.Voters.With(r.cfg.Self))...)
}

// UpdateVoter notes how a voter of a static quorum describes itself (UpdateRaftVoter). An upgrade of kraft.version needs it
// of every voter. It reports false when this node does not lead a static quorum or v is not in it.
func (r *Raft) UpdateVoter(v Voter) bool {
	if r.role != Leader || r.members.KRaftVersion > 0 || !r.knows(v.ID) {
		return false
	}
	r.leading.known = r.leading.known.With(v)
	return true
}

// UpgradeRecords are the control records, one batch, that raise kraft.version: the level, and the voters with all that is
// known of them. They are nil when the level is in force. The error wraps INVALID_UPDATE_VERSION or NOT_CONTROLLER.
func (r *Raft) UpgradeRecords(level int16) ([]record.ControlRecord, error) {
	from := r.members.KRaftVersion
	switch {
	case r.role != Leader:
		return nil, fmt.Errorf("%w: this node does not lead the quorum", wire.ErrNotController)
	case level == from:
		return nil, nil
	case level < from:
		return nil, fmt.Errorf("%w: kraft.version cannot go back from %d to %d", wire.ErrInvalidUpdateVersion, from, level)
	}
	for _, v := range r.leading.known {
		switch {
		case v.DirectoryID.IsZero():
			return nil, fmt.Errorf("%w: the directory of voter %d is not known yet", wire.ErrInvalidUpdateVersion, v.ID)
		case level < v.MinVersion || level > v.MaxVersion:
			return nil, fmt.Errorf("%w: voter %d does not support kraft.version %d", wire.ErrInvalidUpdateVersion, v.ID, level)
		}
	}
	if len(r.leading.known) != len(r.members.Voters) {
		return nil, fmt.Errorf("%w: not all voters are known", wire.ErrInvalidUpdateVersion)
	}
	return MembershipRecords(level, r.leading.known), nil
}

func sameVoter(a, b Voter) bool {
	return a.Replica == b.Replica && a.MinVersion == b.MinVersion && a.MaxVersion == b.MaxVersion && slices.Equal(a.Endpoints, b.Endpoints)
}

// MembershipRecords are the control records that say who votes: the level of kraft.version and the voters.
func MembershipRecords(kraftVersion int16, voters Voters) []record.ControlRecord {
	v := logrec.NewKRaftVersionRecord()
	v.KRaftVersion = kraftVersion
	return []record.ControlRecord{
		{Type: record.ControlKRaftVersion, Value: wire.Marshal(v, 0)},
		{Type: record.ControlKRaftVoters, Value: wire.Marshal(voters.Record(), 0)},
	}
}

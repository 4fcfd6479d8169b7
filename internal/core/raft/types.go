package raft

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Replica names a copy of the log: a node and the directory it keeps it in. The zero directory means "not known", as in a
// static quorum.
type Replica struct {
	ID          id.BrokerID
	DirectoryID id.UUID
}

// NoReplica names nobody.
var NoReplica = Replica{ID: id.NoBroker}

// Position is the end of a log: the offset after its last record (exclusive), and that record's epoch.
type Position struct {
	Offset id.Offset
	Epoch  id.LeaderEpoch
}

// Behind reports whether a log that ends at p misses something of one that ends at o (the log comparison of an election).
func (p Position) Behind(o Position) bool {
	return p.Epoch < o.Epoch || p.Epoch == o.Epoch && p.Offset < o.Offset
}

// HardState is what must survive a restart: the file quorum-state.
type HardState struct {
	Epoch  id.LeaderEpoch
	Leader id.BrokerID // of Epoch, id.NoBroker when unknown
	Voted  Replica     // in Epoch, NoReplica when no vote was given
}

// Endpoint is where a voter listens for controllers, by listener name.
type Endpoint struct {
	Name string
	Host string
	Port uint16
}

// Voter is a member of the quorum with the kraft.version levels it supports.
type Voter struct {
	Replica
	Endpoints              []Endpoint
	MinVersion, MaxVersion int16
}

// Is reports whether r is this voter. A directory that either side does not know does not count.
func (v Voter) Is(r Replica) bool {
	return v.ID == r.ID && (v.DirectoryID.IsZero() || v.DirectoryID == r.DirectoryID)
}

// Voters is a set of voters, in order of id.
type Voters []Voter

// Find returns the voter with this id.
func (vs Voters) Find(n id.BrokerID) (Voter, bool) {
	i := slices.IndexFunc(vs, func(v Voter) bool { return v.ID == n })
	if i < 0 {
		return Voter{}, false
	}
	return vs[i], true
}

// Has reports whether r may vote.
func (vs Voters) Has(r Replica) bool {
	v, ok := vs.Find(r.ID)
	return ok && v.Is(r)
}

// Majority is how many voters make one.
func (vs Voters) Majority() int { return len(vs)/2 + 1 }

// With returns the set in which v takes the place of the voter with its id.
func (vs Voters) With(v Voter) Voters {
	out := slices.DeleteFunc(slices.Clone(vs), func(o Voter) bool { return o.ID == v.ID })
	out = append(out, v)
	slices.SortFunc(out, func(a, b Voter) int { return int(a.ID) - int(b.ID) })
	return out
}

// Record returns the set as the control record that carries it (kraft.version 1).
func (vs Voters) Record() *logrec.VotersRecord {
	r := logrec.NewVotersRecord()
	r.Voters = []logrec.VotersRecordVoter{}
	for _, v := range vs {
		rv := logrec.VotersRecordVoter{VoterID: int32(v.ID), VoterDirectoryID: v.DirectoryID, Endpoints: []logrec.VotersRecordVoterEndpoint{}}
		for _, e := range v.Endpoints {
			rv.Endpoints = append(rv.Endpoints, logrec.VotersRecordVoterEndpoint{Name: e.Name, Host: e.Host, Port: e.Port})
		}
		rv.KRaftVersionFeature.MinSupportedVersion, rv.KRaftVersionFeature.MaxSupportedVersion = v.MinVersion, v.MaxVersion
		r.Voters = append(r.Voters, rv)
	}
	return r
}

// VotersFrom reads the control record.
func VotersFrom(r *logrec.VotersRecord) Voters {
	var vs Voters
	for _, rv := range r.Voters {
		v := Voter{Replica: Replica{ID: id.BrokerID(rv.VoterID), DirectoryID: rv.VoterDirectoryID},
			MinVersion: rv.KRaftVersionFeature.MinSupportedVersion, MaxVersion: rv.KRaftVersionFeature.MaxSupportedVersion}
		for _, e := range rv.Endpoints {
			v.Endpoints = append(v.Endpoints, Endpoint{e.Name, e.Host, e.Port})
		}
		vs = vs.With(v)
	}
	return vs
}

// Membership is the newest set of voters and where it stands.
type Membership struct {
	KRaftVersion int16 // 0: static, from the configuration; 1: in the log (KIP-853)
	Voters       Voters
	// Offset is that of the Voters record; -1 when it comes from the bootstrap snapshot or the configuration.
	Offset id.Offset
}

// Role is a node's part in the current epoch.
type Role int8

// The roles.
const (
	Unattached  Role = iota // no leader known
	Prospective             // asking whether an election could be won
	Candidate               // asking for votes in a new epoch
	Leader
	Follower
	Resigned // was leader, and lets another be
)

var roleNames = [...]string{"Unattached", "Prospective", "Candidate", "Leader", "Follower", "Resigned"}

// String returns the role's name.
func (r Role) String() string { return roleNames[r] }

// Fold takes a control record that says who votes, found at offset at, into the membership. Others change nothing.
func (m *Membership) Fold(t record.ControlType, value []byte, at id.Offset) (changed bool, err error) {
	switch t {
	case record.ControlKRaftVersion:
		r := logrec.NewKRaftVersionRecord()
		if err := wire.Unmarshal(value, r, 0); err != nil {
			return false, err
		}
		m.KRaftVersion = r.KRaftVersion
		return true, nil
	case record.ControlKRaftVoters:
		r := logrec.NewVotersRecord()
		if err := wire.Unmarshal(value, r, 0); err != nil {
			return false, err
		}
		m.Voters, m.Offset = VotersFrom(r), at
		return true, nil
	}
	return false, nil
}

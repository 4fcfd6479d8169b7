package ctlhandler

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/engine/quorum/raftrpc"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// Raft is the floor below a RaftDesk: *quorum.Quorum.
type Raft interface {
	// Ask hands a request of another node to the quorum; done is called once and must not block.
	Ask(a quorum.Ask, done func(quorum.Reply))
	// Status describes the quorum now.
	Status() quorum.Status
}

// RaftOptions makes a RaftDesk.
type RaftOptions struct {
	Quorum    Raft
	ClusterID string
	NodeID    id.BrokerID
	Logger    *slog.Logger
}

// RaftDesk serves what other voters and observers ask the quorum: Vote, BeginQuorumEpoch, EndQuorumEpoch, Fetch of the metadata
// log and FetchSnapshot. They are never forwarded. It is immutable.
type RaftDesk struct{ o RaftOptions }

// NewRaft returns a RaftDesk.
func NewRaft(o RaftOptions) *RaftDesk {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &RaftDesk{o}
}

// Register adds the desk's APIs to the registry of the controller listener.
func (d *RaftDesk) Register(reg *server.Registry) {
	for key, handle := range map[wire.APIKey]func(*server.Request){wire.Vote: d.vote, wire.BeginQuorumEpoch: d.beginQuorumEpoch,
		wire.EndQuorumEpoch: d.endQuorumEpoch, wire.Fetch: d.fetch, wire.FetchSnapshot: d.fetchSnapshot} {
		info, ok := api.Lookup(key)
		if !ok {
			panic(fmt.Sprintf("ctlhandler: no API %v", key))
		}
		reg.Register(server.API{Key: key, Min: info.Min, Max: info.Max, Handle: handle})
	}
}

// ask decodes a request, hands its message to the quorum, and answers it when the quorum does. The connection's goroutine does
// not wait: a fetch may stay for long.
func (d *RaftDesk) ask(r *server.Request, req wire.Message) {
	if !r.Decode(req) {
		return
	}
	m, limits, refusal := raftrpc.FromRequest(req, d.o.NodeID, d.o.ClusterID)
	if refusal != nil {
		d.pointToLeader(refusal, r.Conn.Listener, r.Version())
		r.Answer(refusal)
		return
	}
	version, listener := r.Version(), r.Conn.Listener
	a := quorum.Ask{Message: m, MaxBytes: int(limits.MaxBytes), MaxWait: time.Duration(limits.MaxWaitMs) * time.Millisecond}
	d.o.Quorum.Ask(a, func(reply quorum.Reply) {
		defer r.Rescue()
		if code := reply.Message.Error; code != wire.ErrNone {
			d.o.Logger.Debug("a request of the quorum is refused", "request", m.Type.String(), "from", int(m.From.ID), "epoch", int(m.Epoch), "error", code.Name())
		}
		r.Answer(raftrpc.Response(reply.Message, reply.LogStartOffset, listener, version))
	})
}

// leaderAt returns the leader, and its endpoint of a listener if it is known.
func (d *RaftDesk) leaderAt(listener string) (id.BrokerID, raft.Endpoint, bool) {
	s := d.o.Quorum.Status()
	for _, v := range s.Voters {
		for _, e := range v.Endpoints {
			if v.ID == s.Leader.ID && e.Name == listener {
				return v.ID, raft.Endpoint(e), true
			}
		}
	}
	return s.Leader.ID, raft.Endpoint{}, false
}

package group

import (
	"math/rand/v2"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// TestSyncWaitsForWhatWasLoaded: a coordinator that is elected with an assignment in its log which is not committed yet tells nobody
// of it before it is. The next coordinator may not have it, and give the same generation to others.
func TestSyncWaitsForWhatWasLoaded(t *testing.T) {
	w := newWorld(t, DefaultConfig(), 1)
	subscription := consumerMetadata("t")
	w.s = New(w.cfg, rand.New(rand.NewPCG(1, 1)))
	client, protocol := "m", "range"
	value := &logrec.GroupMetadataValue{ProtocolType: "consumer", Generation: 1, Protocol: &protocol, Leader: &client, CurrentStateTimestamp: w.now.UnixMilli(),
		Members: []logrec.GroupMetadataValueMemberMetadata{{MemberID: client, ClientID: "c", ClientHost: "/h", RebalanceTimeout: 60_000, SessionTimeout: 10_000,
			Subscription: subscription, Assignment: []byte("mine")}}}
	if _, err := w.s.Replay(0, id.NoProducer, logrec.EncodeGroupKey(&logrec.GroupMetadataKey{Group: "g"}), logrec.EncodeVersioned(value, groupValueVersion)); err != nil {
		t.Fatal(err)
	}
	w.s.Loaded(w.now, 1)
	req := api.NewSyncGroupRequest()
	req.GroupID, req.MemberID, req.GenerationID = "g", client, 1
	res := w.s.SyncGroup(Turn{Now: w.now, Ticket: shard.Ticket(1), Version: 5}, req)
	if len(res.Answers) > 0 {
		t.Fatalf("answered at once: %+v", res.Answers[0].Body)
	}
	if a, ok := res.Reply.(*api.SyncGroupResponse); !ok || string(a.Assignment) != "mine" {
		t.Fatalf("the reply is %+v", res.Reply)
	}
}

package controller

import (
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// FuzzDecide feeds whatever decodes as a request to a controller with a few topics: it must neither panic nor decide records
// that its own state refuses.
func FuzzDecide(f *testing.F) {
	keys := []wire.APIKey{wire.CreateTopics, wire.DeleteTopics, wire.CreatePartitions, wire.AlterConfigs, wire.IncrementalAlterConfigs,
		wire.ElectLeaders, wire.AlterPartitionReassignments, wire.ListPartitionReassignments, wire.UpdateFeatures, wire.UnregisterBroker,
		wire.AllocateProducerIDs, wire.AlterPartition, wire.BrokerRegistration, wire.BrokerHeartbeat, wire.ControllerRegistration,
		wire.AssignReplicasToDirs, wire.UnregisterController, wire.AlterClientQuotas, wire.AlterUserScramCredentials}
	make := func() *world {
		w := newWorld(LatestFeatures())
		if _, err := w.c.Activate(w.env(0), 1); err != nil {
			f.Fatal(err)
		}
		w.log = append(w.log, w.cfg.Bootstrap...)
		for n := range int32(3) {
			w.decide(w.registration(n, 1), 4)
			w.decide(w.beat(n, false, false), 1)
		}
		w.decide(&api.CreateTopicsRequest{Topics: []api.CreateTopicsRequestTopic{{Name: "a", NumPartitions: 2, ReplicationFactor: 3}}}, 7)
		return w
	}
	w := make()
	a := w.c.Image().Topics.ByName("a")
	value := "2"
	for _, req := range []wire.Request{
		&api.CreateTopicsRequest{Topics: []api.CreateTopicsRequestTopic{{Name: "b", NumPartitions: -1, ReplicationFactor: -1,
			Assignments: []api.CreateTopicsRequestTopicAssignment{{BrokerIDs: []int32{0, 1}}}, Configs: []api.CreateTopicsRequestTopicConfig{{Name: minISRKey, Value: &value}}}}},
		&api.DeleteTopicsRequest{Topics: []api.DeleteTopicsRequestTopic{{TopicID: a.ID}}},
		&api.CreatePartitionsRequest{Topics: []api.CreatePartitionsRequestTopic{{Name: "a", Count: 3, Assignments: []api.CreatePartitionsRequestTopicAssignment{{BrokerIDs: []int32{0, 1, 2}}}}}},
		&api.IncrementalAlterConfigsRequest{Resources: []api.IncrementalAlterConfigsRequestResource{{ResourceType: 2, ResourceName: "a",
			Configs: []api.IncrementalAlterConfigsRequestResourceConfig{{Name: "cleanup.policy", ConfigOperation: 2, Value: &value}}}}},
		&api.AlterPartitionReassignmentsRequest{Topics: []api.AlterPartitionReassignmentsRequestTopic{{Name: "a",
			Partitions: []api.AlterPartitionReassignmentsRequestTopicPartition{{Replicas: []int32{2, 1, 0}}}}}},
		&api.AlterClientQuotasRequest{Entries: []api.AlterClientQuotasRequestEntry{{Entity: []api.AlterClientQuotasRequestEntryEntity{{EntityType: "user", EntityName: &value}},
			Ops: []api.AlterClientQuotasRequestEntryOp{{Key: "producer_byte_rate", Value: 1}}}}},
		&api.AlterUserScramCredentialsRequest{Upsertions: []api.AlterUserScramCredentialsRequestUpsertion{{Name: "u", Mechanism: 1, Iterations: 4096, SaltedPassword: []byte{1}}}},
		updateFeature(image.GroupVersionFeature, 0, safeDowngrade),
		w.registration(3, 2), w.beat(1, true, false),
	} {
		info, _ := api.Lookup(req.APIKey())
		for i, k := range keys {
			if k == req.APIKey() {
				f.Add(uint8(i), info.Max, wire.Marshal(req, info.Max))
			}
		}
	}
	f.Fuzz(func(t *testing.T, key uint8, version int16, body []byte) {
		info, _ := api.Lookup(keys[int(key)%len(keys)])
		if version < info.Min || version > info.Max {
			return
		}
		req := info.NewRequest()
		r := wire.NewReader(body, wire.NewBudget(len(body), nil))
		if req.Decode(r, version); r.Finish() != nil {
			return
		}
		w := make()
		before := fingerprint(w.c.state)
		d := w.decide(req, version)
		if d.Err != nil {
			if d.Err.Code == wire.ErrUnknownServerError && d.Err.Text != "" && d.Err.Text[0] == 'r' { // "record n: ...": the state refused it
				t.Fatal(d.Err)
			}
			if len(d.Records) > 0 || d.Answer != nil {
				t.Fatalf("refused, and yet %d records and %T", len(d.Records), d.Answer)
			}
		} else if d.Answer == nil {
			t.Fatal("neither answer nor refusal")
		} else {
			wire.Marshal(d.Answer, version)
		}
		checkInvariants(t, w.c.Image())
		w.c.Revert(id.Offset(len(w.log) - len(d.Records)))
		if fingerprint(w.c.state) != before {
			t.Fatal("taken back, the decision has left something")
		}
	})
}

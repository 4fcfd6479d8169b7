package image

import (
	"slices"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// TestEveryRecordAtEveryVersion: all 27 types of metadata records are read in all their versions, whatever this program writes
// itself, and what they leave is in the snapshot.
func TestEveryRecordAtEveryVersion(t *testing.T) {
	topic, acl, name := id.UUID{1}, id.UUID{2}, "u"
	change := logrec.NewPartitionChangeRecord()
	change.TopicID, change.PartitionID, change.Isr = topic, 0, []int32{1, 2}
	registration := logrec.NewBrokerRegistrationChangeRecord()
	registration.BrokerID, registration.BrokerEpoch, registration.Fenced = 1, 5, 1
	partition := logrec.NewPartitionRecord()
	partition.TopicID, partition.PartitionID, partition.Replicas, partition.Isr, partition.Leader = topic, 0, []int32{1, 2, 3}, []int32{1}, 1
	partition.EligibleLeaderReplicas = []int32{3}
	broker := logrec.NewRegisterBrokerRecord()
	broker.BrokerID, broker.BrokerEpoch, broker.Fenced = 1, 5, false
	token := logrec.NewDelegationTokenRecord()
	token.TokenID, token.Owner, token.Requester = "tok", "User:o", "User:o"
	// In an order in which each fits what came before. Changes says whether the record changes what is in a snapshot.
	all := []struct {
		m       logrec.MetadataRecord
		changes bool
	}{
		{&logrec.FeatureLevelRecord{Name: MetadataVersionFeature, FeatureLevel: int16(LatestMetadataVersion)}, true},
		{&logrec.FeatureLevelRecord{Name: ElrVersionFeature, FeatureLevel: 1}, true},
		{broker, true}, {&logrec.FenceBrokerRecord{ID: 1, Epoch: 5}, true}, {&logrec.UnfenceBrokerRecord{ID: 1, Epoch: 5}, true}, {registration, true},
		{&logrec.TopicRecord{Name: "t", TopicID: topic}, true}, {partition, true}, {change, true}, {&logrec.ClearElrRecord{}, true},
		{&logrec.ConfigRecord{ResourceType: 2, ResourceName: "t", Name: "k", Value: &name}, true},
		{&logrec.ClientQuotaRecord{Entity: []logrec.ClientQuotaRecordEntity{{EntityType: "user", EntityName: &name}}, Key: "k", Value: 1}, true},
		{&logrec.ProducerIDsRecord{NextProducerID: 7}, true},
		{&logrec.AccessControlEntryRecord{ID: acl, Principal: "User:p", Host: "*"}, true}, {&logrec.RemoveAccessControlEntryRecord{ID: acl}, true},
		{&logrec.UserScramCredentialRecord{Name: name, Mechanism: 1}, true}, {&logrec.RemoveUserScramCredentialRecord{Name: name, Mechanism: 1}, true},
		{token, true}, {&logrec.RemoveDelegationTokenRecord{TokenID: "tok"}, true},
		{&logrec.RegisterControllerRecord{ControllerID: 9}, true}, {&logrec.UnregisterControllerRecord{ControllerID: 9}, true},
		{&logrec.NoOpRecord{}, false}, {&logrec.ZkMigrationStateRecord{}, false},
		{&logrec.BeginTransactionRecord{}, false}, {&logrec.EndTransactionRecord{}, false}, {&logrec.AbortTransactionRecord{}, false},
		{&logrec.RemoveTopicRecord{TopicID: topic}, true}, {&logrec.UnregisterBrokerRecord{BrokerID: 1, BrokerEpoch: 5}, true},
	}
	img := Empty()
	seen := map[int16]bool{}
	for _, x := range all {
		seen[x.m.RecordType()] = true
		read := 0
		var next *Image
		for v := range int16(16) {
			b, err := logrec.AppendMetadata(nil, x.m, v)
			if err != nil {
				continue
			}
			m, got, err := logrec.DecodeMetadata(b)
			if err != nil || got != v {
				t.Fatalf("%T version %d: %v", x.m, v, err)
			}
			d := NewDelta(img)
			if err := d.Replay(m); err != nil {
				t.Fatalf("%T version %d: %v", x.m, v, err)
			}
			next, read = d.Apply(Provenance{}), read+1
		}
		if read == 0 {
			t.Fatalf("%T has no version", x.m)
		}
		if changed := !slices.Equal(contents(img), contents(next)); changed != x.changes {
			t.Errorf("%T changes the snapshot: %v", x.m, changed)
		}
		img = next
		s := NewSnapshotDelta(Empty())
		for r := range img.Records(img.Features.MetadataVersion) {
			if err := s.Replay(r.Message); err != nil {
				t.Fatalf("snapshot after %T: %v", x.m, err)
			}
		}
		if !slices.Equal(contents(s.Apply(Provenance{})), contents(img)) {
			t.Errorf("after %T the snapshot is not the image", x.m)
		}
	}
	if len(seen) != 27 {
		t.Errorf("%d types of records, want 27", len(seen))
	}
}

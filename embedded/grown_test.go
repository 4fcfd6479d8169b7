package embedded_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/moldau-io/moldau/embedded"
)

// TestGroupsStayWhileTheirTopicGrows: with 7 partitions the group would be in 6, and with 2 it is in 1.
func TestGroupsStayWhileTheirTopicGrows(t *testing.T) {
	n := embedded.Start(t, embedded.With("offsets.topic.num.partitions", "2"))
	a := kadm.NewClient(client(t, n))
	if _, err := a.CreateTopic(t.Context(), 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	var o kadm.Offsets
	o.AddOffset("t", 0, 7, -1)
	if err := a.CommitAllOffsets(t.Context(), "a", o); err != nil {
		t.Fatal(err)
	}
	if r, err := a.UpdatePartitions(t.Context(), 7, "__consumer_offsets"); err != nil || r.Error() != nil {
		t.Fatal(err, r.Error())
	}
	for grown := false; !grown; {
		topics, err := a.ListTopicsWithInternal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		grown = len(topics["__consumer_offsets"].Partitions) == 7
	}
	offsets, err := a.FetchOffsets(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := offsets.Lookup("t", 0); got.At != 7 {
		t.Errorf("committed %d, want 7", got.At)
	}
}

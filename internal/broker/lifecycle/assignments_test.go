package lifecycle

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// wireTape keeps what was sent, for the test to answer.
type wireTape struct {
	mu   sync.Mutex
	reqs []*api.AssignReplicasToDirsRequest
	done []func(wire.Message, error)
}

func (l *wireTape) Start(req wire.Request, _ int16, _ time.Time, done func(wire.Message, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reqs, l.done = append(l.reqs, req.(*api.AssignReplicasToDirsRequest)), append(l.done, done)
}

func (l *wireTape) answer(n int, m wire.Message, err error) {
	l.mu.Lock()
	done := l.done[n]
	l.mu.Unlock()
	done(m, err)
}

// said tells in a line what a request says.
func said(r *api.AssignReplicasToDirsRequest) string {
	var out []string
	for _, d := range r.Directories {
		for _, t := range d.Topics {
			for _, p := range t.Partitions {
				out = append(out, fmt.Sprintf("%d-%d in %d", t.TopicID[0], p.PartitionIndex, d.ID[0]))
			}
		}
	}
	slices.Sort(out)
	return fmt.Sprintf("epoch %d: %s", r.BrokerEpoch, strings.Join(out, ", "))
}

func TestAssignments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tape, epoch := &wireTape{}, id.NoBrokerEpoch
		disk := map[id.TopicPartition]id.UUID{}
		a := NewAssignments(AssignmentOptions{NodeID: 1, Epoch: func() id.BrokerEpoch { return epoch }, Line: tape,
			Where: func(tp id.TopicPartition) (id.UUID, bool) { d, ok := disk[tp]; return d, ok }})
		img := image.Empty()
		offset := id.Offset(0)
		publish := func(messages ...logrec.MetadataRecord) {
			t.Helper()
			d := image.NewDelta(img)
			for _, m := range messages {
				if err := d.Replay(m); err != nil {
					t.Fatal(err)
				}
				offset++
			}
			img = d.Apply(image.Provenance{Offset: offset})
			a.ImagePublished(d, img)
		}
		partition := func(topic byte, n int32, dir id.UUID) *logrec.PartitionRecord {
			return &logrec.PartitionRecord{TopicID: id.UUID{topic}, PartitionID: n, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1, Directories: []id.UUID{dir}}
		}
		want := func(n int, text string) {
			t.Helper()
			tape.mu.Lock()
			defer tape.mu.Unlock()
			got := ""
			if len(tape.reqs) > 0 {
				got = said(tape.reqs[len(tape.reqs)-1])
			}
			if len(tape.reqs) != n || got != text {
				t.Fatalf("%d requests, the last %q; want %d, %q", len(tape.reqs), got, n, text)
			}
		}
		feature := &logrec.FeatureLevelRecord{Name: image.MetadataVersionFeature, FeatureLevel: 33}
		disk[id.TopicPartition{Topic: "t", Partition: 0}] = id.UUID{10}
		disk[id.TopicPartition{Topic: "t", Partition: 1}] = id.UUID{20}
		publish(feature, &logrec.TopicRecord{Name: "t", TopicID: id.UUID{1}}, partition(1, 0, image.DirUnassigned), partition(1, 1, id.UUID{20}),
			partition(1, 2, image.DirUnassigned)) // one differs, one is right, one is not on disk
		want(0, "")
		epoch = 7
		publish(&logrec.NoOpRecord{})
		want(1, "epoch 7: 1-0 in 10")
		disk[id.TopicPartition{Topic: "u", Partition: 0}] = id.UUID{20}
		publish(&logrec.TopicRecord{Name: "u", TopicID: id.UUID{2}}, partition(2, 0, image.DirUnassigned))
		want(1, "epoch 7: 1-0 in 10") // one request at a time
		tape.answer(0, nil, errors.New("no answer"))
		want(1, "epoch 7: 1-0 in 10") // and a pause after a failure
		<-time.After(time.Second)
		synctest.Wait()
		want(2, "epoch 7: 1-0 in 10, 2-0 in 20")
		publish(&logrec.RemoveTopicRecord{TopicID: id.UUID{2}})
		tape.answer(1, &api.AssignReplicasToDirsResponse{}, nil)
		publish(&logrec.PartitionChangeRecord{TopicID: id.UUID{1}, PartitionID: 0, Leader: -2, Directories: []id.UUID{{10}}})
		<-time.After(time.Minute)
		want(2, "epoch 7: 1-0 in 10, 2-0 in 20") // the image says it now
		a.Close()
	})
}

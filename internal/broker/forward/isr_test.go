package forward

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/partition"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// tape keeps the requests that were sent, for the test to answer.
type tape struct {
	mu   sync.Mutex
	reqs []*api.AlterPartitionRequest
	done []func(wire.Message, error)
}

func (l *tape) Start(req wire.Request, _ int16, _ time.Time, done func(wire.Message, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reqs, l.done = append(l.reqs, req.(*api.AlterPartitionRequest)), append(l.done, done)
}

func (l *tape) sent() ([]*api.AlterPartitionRequest, []func(wire.Message, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reqs, l.done
}

func TestISRChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &tape{}
		c := &ISRChanges{self: 1, epoch: func() id.BrokerEpoch { return 7 }, line: l, waiting: map[isrKey]isrChange{}}
		var log []string
		send := func(topic byte, n int32, isr ...id.BrokerID) {
			p := &partition.Proposal{ISR: isr, Epochs: []id.BrokerEpoch{70, 71}, LeaderEpoch: 3, PartitionEpoch: 4}
			c.Send(id.UUID{topic}, n, p, func(isr []id.BrokerID, _ id.LeaderEpoch, epoch int32, code wire.ErrorCode) {
				log = append(log, fmt.Sprintf("%d-%d %v %d %s", topic, n, isr, epoch, code.Name()))
			})
		}
		send(1, 0, 1, 2)
		send(2, 0, 1)
		send(2, 1, 1)
		send(2, 1, 1, 2)
		reqs, done := l.sent()
		if len(reqs) != 1 || len(reqs[0].Topics) != 1 || reqs[0].BrokerEpoch != 7 || reqs[0].Topics[0].Partitions[0].NewIsrWithEpochs[1].BrokerEpoch != 71 {
			t.Fatalf("first request %+v", reqs)
		}
		done[0](nil, errors.New("no answer"))
		if reqs, _ = l.sent(); len(reqs) != 1 {
			t.Fatal("sent again without a pause")
		}
		<-time.After(isrRetry)
		synctest.Wait()
		if reqs, done = l.sent(); len(reqs) != 2 || len(reqs[1].Topics) != 2 || len(reqs[1].Topics[1].Partitions) != 2 {
			t.Fatalf("second request %+v", reqs[len(reqs)-1])
		}
		done[1](&api.AlterPartitionResponse{Topics: []api.AlterPartitionResponseTopic{
			{TopicID: id.UUID{1}, Partitions: []api.AlterPartitionResponseTopicPartition{{Isr: []int32{1, 2}, PartitionEpoch: 5}}},
			{TopicID: id.UUID{2}, Partitions: []api.AlterPartitionResponseTopicPartition{{ErrorCode: wire.ErrFencedLeaderEpoch}}}}}, nil)
		send(3, 0, 1)
		c.Close()
		_, done = l.sent()
		done[2](nil, errors.New("closed"))
		send(4, 0, 1)
		want := []string{"2-1 [] 0 OPERATION_NOT_ATTEMPTED", "1-0 [1 2] 5 NONE", "2-0 [] 0 FENCED_LEADER_EPOCH", "2-1 [] 0 UNKNOWN_SERVER_ERROR",
			"3-0 [] 0 OPERATION_NOT_ATTEMPTED", "4-0 [] 0 OPERATION_NOT_ATTEMPTED"}
		if fmt.Sprint(log) != fmt.Sprint(want) {
			t.Errorf("heard %q", log)
		}
	})
}

package main

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Error codes that members of groups act upon.
const (
	illegalGeneration   = 22
	unknownMember       = 25
	rebalanceInProgress = 27
	memberIDRequired    = 79
)

// groupRows are the rows about many members and many groups.
func groupRows() []row {
	return []row{
		{"100 members join a classic group at once, group.initial.rebalance.delay.ms=0: until all have their assignment", "ms", "ms a storm", false, stormRow(classicStorm)},
		{"the first 100 members that join a classic group at once, of a broker that has only served producers and consumers, group.initial.rebalance.delay.ms=0: until all have their assignment",
			"ms", "ms a storm", false, firstStormRow},
		{"100 members join a consumer group at once: until all have their assignment", "ms", "ms a storm", false, stormRow(consumerStorm)},
		{"10,000 classic groups of 10 members, idle: RSS", "MB", "ms/s", false, idleRow(classicIdle)},
		{"10,000 consumer groups of 10 members, idle: RSS", "MB", "ms/s", false, idleRow(consumerIdle)},
	}
}

// session is how long members may be silent: longer than any row takes.
const session = 30 * time.Minute

// gathering waits until all members of a group have settled.
type gathering struct {
	want int
	each int // partitions that each of them must have; 0: whatever
	done chan struct{}

	mu     sync.Mutex
	where  map[string]int32 // generation or epoch by member, of those that have what they must
	failed error
	over   bool
}

func newGathering(want, each int) *gathering {
	return &gathering{want: want, each: each, done: make(chan struct{}), where: map[string]int32{}}
}

// at says where a member is and how many partitions it has.
func (g *gathering) at(member string, generation int32, has int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.each != 0 && has != g.each {
		delete(g.where, member)
		return
	}
	g.where[member] = generation
	if len(g.where) < g.want || g.over {
		return
	}
	for _, at := range g.where {
		if at != generation {
			return
		}
	}
	g.over = true
	close(g.done)
}

// fail ends the waiting.
func (g *gathering) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		g.failed, g.over = err, true
		close(g.done)
	}
}

// wait waits for the next beat; false when all have settled.
func (g *gathering) wait(beat time.Duration) bool {
	t := time.NewTimer(beat)
	defer t.Stop()
	select {
	case <-g.done:
		return false
	case <-t.C:
		return true
	}
}

// member is one member of a group, on a connection that it may share with members of other groups.
type member interface {
	run(g *gathering, beat time.Duration) error
}

// gather lets members join at once and returns when they have settled.
func gather(members []member, each int, beat time.Duration) error {
	g := newGathering(len(members), each)
	limit := time.AfterFunc(time.Minute, func() { g.fail(fmt.Errorf("%d members have not settled within a minute", len(members))) })
	defer limit.Stop()
	var wg sync.WaitGroup
	for _, m := range members {
		wg.Go(func() {
			if err := m.run(g, beat); err != nil {
				g.fail(err)
			}
		})
	}
	wg.Wait()
	return g.failed
}

// classicMember speaks the classic protocol.
type classicMember struct {
	c          *caller
	group      string
	version    int16 // of JoinGroup: from 4 on a member asks for its id first
	id         string
	generation int32
}

func (m *classicMember) run(g *gathering, beat time.Duration) error {
	for {
		synced, err := m.join()
		if err != nil {
			return err
		}
		if !synced {
			continue
		}
		g.at(m.id, m.generation, 1)
		for {
			if !g.wait(beat) {
				return nil
			}
			ok, err := m.heartbeat()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
		}
	}
}

// subscription is what a consumer of topic "bench" says of itself, in version 0.
var subscription = append([]byte{0, 0, 0, 0, 0, 1, 0, 5}, "bench\xff\xff\xff\xff"...)

// assignment is a partition of topic "bench".
func assignment(partition int) []byte {
	b := append([]byte{0, 0, 0, 0, 0, 1, 0, 5}, "bench\x00\x00\x00\x01"...)
	b = binary.BigEndian.AppendUint32(b, uint32(partition))
	return append(b, 0xff, 0xff, 0xff, 0xff)
}

// join goes once through JoinGroup and SyncGroup; synced says whether the member has its assignment then.
func (m *classicMember) join() (synced bool, err error) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.SetVersion(m.version)
	req.Group, req.MemberID, req.ProtocolType = m.group, m.id, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(session.Milliseconds()), int32(session.Milliseconds())
	for _, name := range []string{"range", "cooperative-sticky"} {
		req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: subscription})
	}
	resp := kmsg.NewPtrJoinGroupResponse()
	if err := m.c.call(req, resp); err != nil {
		return false, err
	}
	switch code := resp.ErrorCode; {
	case code == 0:
	case code == memberIDRequired:
		m.id = resp.MemberID
		return false, nil
	case code == unknownMember:
		m.id = ""
		return false, nil
	case code == rebalanceInProgress:
		return false, nil
	case coordinatorComes(code):
		time.Sleep(10 * time.Millisecond)
		return false, nil
	default:
		return false, fmt.Errorf("join of %s: error %d", m.group, code)
	}
	m.id, m.generation = resp.MemberID, resp.Generation
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.SetVersion(3)
	sync.Group, sync.MemberID, sync.Generation = m.group, m.id, m.generation
	if resp.LeaderID == m.id {
		for i, o := range resp.Members {
			sync.GroupAssignment = append(sync.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: o.MemberID, MemberAssignment: assignment(i)})
		}
	}
	answer := kmsg.NewPtrSyncGroupResponse()
	if err := m.c.call(sync, answer); err != nil {
		return false, err
	}
	return m.stays("sync", answer.ErrorCode)
}

// stays says what an answer means: go on, or join again.
func (m *classicMember) stays(what string, code int16) (bool, error) {
	switch code {
	case 0:
		return true, nil
	case unknownMember:
		m.id = ""
		fallthrough
	case rebalanceInProgress, illegalGeneration:
		return false, nil
	}
	return false, fmt.Errorf("%s of %s: error %d", what, m.group, code)
}

// heartbeat says whether the member may stay as it is.
func (m *classicMember) heartbeat() (ok bool, err error) {
	req := kmsg.NewPtrHeartbeatRequest()
	req.SetVersion(3)
	req.Group, req.MemberID, req.Generation = m.group, m.id, m.generation
	resp := kmsg.NewPtrHeartbeatResponse()
	if err := m.c.call(req, resp); err != nil {
		return false, err
	}
	return m.stays("heartbeat", resp.ErrorCode)
}

// consumerMember speaks the consumer protocol of KIP-848.
type consumerMember struct {
	c         *caller
	group, id string
	epoch     int32
	has       []kmsg.ConsumerGroupHeartbeatRequestTopic
	partition int  // how many it has
	news      bool // the coordinator does not know yet that it has them
}

func (m *consumerMember) run(g *gathering, beat time.Duration) error {
	for {
		if err := m.heartbeat(); err != nil {
			return err
		}
		if m.news {
			continue
		}
		g.at(m.id, m.epoch, m.partition)
		if !g.wait(beat) {
			return nil
		}
	}
}

func (m *consumerMember) heartbeat() error {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.SetVersion(1)
	req.Group, req.MemberID, req.MemberEpoch = m.group, m.id, m.epoch
	switch {
	case m.epoch == 0:
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames, req.Topics = 60_000, []string{"bench"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	case m.news:
		req.Topics = m.has
	}
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	if err := m.c.call(req, resp); err != nil {
		return err
	}
	if coordinatorComes(resp.ErrorCode) {
		time.Sleep(10 * time.Millisecond)
		m.news = true
		return nil
	}
	if resp.ErrorCode != 0 {
		return fmt.Errorf("heartbeat of %s: error %d", m.group, resp.ErrorCode)
	}
	m.epoch, m.news = resp.MemberEpoch, false
	if resp.Assignment != nil {
		m.has, m.partition, m.news = []kmsg.ConsumerGroupHeartbeatRequestTopic{}, 0, true
		for _, t := range resp.Assignment.Topics {
			m.has = append(m.has, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: t.TopicID, Partitions: t.Partitions})
			m.partition += len(t.Partitions)
		}
	}
	return nil
}

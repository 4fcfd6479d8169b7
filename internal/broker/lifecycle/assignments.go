package lifecycle

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// maxAssignments bounds the partitions of one request, as Kafka does.
const maxAssignments = 2250

// AssignmentOptions makes Assignments.
type AssignmentOptions struct {
	NodeID id.BrokerID
	Epoch  func() id.BrokerEpoch // the broker's, at any time
	// Where is the log directory in which this broker holds a partition.
	Where  func(tp id.TopicPartition) (dir id.UUID, ok bool)
	Line   Line
	Logger *slog.Logger
}

// Assignments tells the controller in which directories this broker holds its partitions, where the metadata says something else
// (KIP-858). By that the controller knows what is lost when a directory fails. There is one request under way at most; the
// partitions that wait are bounded by those the broker holds.
type Assignments struct {
	o AssignmentOptions

	mu       sync.Mutex // guards the rest
	waiting  map[replicaKey]id.UUID
	inFlight bool
	closed   bool
	retry    time.Duration
	timer    *time.Timer
}

// replicaKey is a partition by the id of its topic.
type replicaKey struct {
	topic     id.UUID
	partition int32
}

// NewAssignments returns assignments that follow the images they are shown.
func NewAssignments(o AssignmentOptions) *Assignments {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Assignments{o: o, waiting: map[replicaKey]id.UUID{}}
}

// ImagePublished compares the changed partitions with what is on disk. It is called when the logs of the image exist, and does
// not block.
func (a *Assignments) ImagePublished(delta *image.Delta, img *image.Image) {
	if !img.Features.MetadataVersion.DirectoryAssignmentSupported() {
		return
	}
	a.mu.Lock()
	for _, t := range delta.Topics().Deleted() {
		for _, p := range t.Partitions {
			delete(a.waiting, replicaKey{t.ID, p.ID})
		}
	}
	for _, c := range delta.Topics().Changed() {
		t := img.Topics.ByID(c.ID)
		if t == nil {
			continue
		}
		for _, p := range t.Partitions {
			told, held := p.Directory(a.o.NodeID)
			if !held {
				continue
			}
			dir, here := a.o.Where(id.TopicPartition{Topic: t.Name, Partition: p.ID})
			if k := (replicaKey{t.ID, p.ID}); here && dir != told {
				a.waiting[k] = dir
			} else {
				delete(a.waiting, k)
			}
		}
	}
	a.mu.Unlock()
	a.send()
}

// Moved compares one partition that is about to be, or is no longer about to be, in another directory, with the newest image. It does
// not block.
func (a *Assignments) Moved(topicID id.UUID, tp id.TopicPartition, img *image.Image) {
	p := img.Topics.Partition(tp.Topic, tp.Partition)
	if t := img.Topics.ByID(topicID); t == nil || t.Name != tp.Topic || p == nil || !img.Features.MetadataVersion.DirectoryAssignmentSupported() {
		return
	}
	told, held := p.Directory(a.o.NodeID)
	dir, here := a.o.Where(tp)
	if !held || !here {
		return
	}
	a.mu.Lock()
	if k := (replicaKey{topicID, tp.Partition}); dir != told {
		a.waiting[k] = dir
	} else {
		delete(a.waiting, k)
	}
	a.mu.Unlock()
	a.send()
}

// Close ends all attempts.
func (a *Assignments) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
	}
}

// send asks for what waits, unless a request is under way or a pause is. Before the broker is registered nothing is sent; the
// image with its registration calls again.
func (a *Assignments) send() {
	epoch := a.o.Epoch()
	a.mu.Lock()
	if epoch == id.NoBrokerEpoch || len(a.waiting) == 0 || a.inFlight || a.closed || a.timer != nil {
		a.mu.Unlock()
		return
	}
	a.inFlight = true
	sent := map[replicaKey]id.UUID{}
	for k, dir := range a.waiting {
		if len(sent) == maxAssignments {
			break
		}
		sent[k] = dir
		delete(a.waiting, k)
	}
	a.mu.Unlock()
	a.o.Line.Start(a.request(sent, epoch), 0, time.Time{}, func(m wire.Message, err error) { a.answered(sent, m, err) })
}

func (a *Assignments) request(sent map[replicaKey]id.UUID, epoch id.BrokerEpoch) *api.AssignReplicasToDirsRequest {
	req := api.NewAssignReplicasToDirsRequest()
	req.BrokerID, req.BrokerEpoch = int32(a.o.NodeID), int64(epoch)
	for k, dir := range sent {
		i := slices.IndexFunc(req.Directories, func(d api.AssignReplicasToDirsRequestDirectory) bool { return d.ID == dir })
		if i < 0 {
			i = len(req.Directories)
			req.Directories = append(req.Directories, api.AssignReplicasToDirsRequestDirectory{ID: dir})
		}
		d := &req.Directories[i]
		j := slices.IndexFunc(d.Topics, func(t api.AssignReplicasToDirsRequestDirectoryTopic) bool { return t.TopicID == k.topic })
		if j < 0 {
			j = len(d.Topics)
			d.Topics = append(d.Topics, api.AssignReplicasToDirsRequestDirectoryTopic{TopicID: k.topic})
		}
		d.Topics[j].Partitions = append(d.Topics[j].Partitions, api.AssignReplicasToDirsRequestDirectoryTopicPartition{PartitionIndex: k.partition})
	}
	return req
}

// answered puts everything back when the request as a whole failed. What the controller refuses by itself is gone or not ours
// any more; the image will say so.
func (a *Assignments) answered(sent map[replicaKey]id.UUID, m wire.Message, err error) {
	code := wire.ErrRequestTimedOut
	if r, ok := m.(*api.AssignReplicasToDirsResponse); ok && err == nil {
		code = r.ErrorCode
	}
	a.mu.Lock()
	a.inFlight = false
	if code == wire.ErrNone {
		a.retry = 0
		a.mu.Unlock()
		a.send()
		return
	}
	for k, dir := range sent {
		if _, newer := a.waiting[k]; !newer {
			a.waiting[k] = dir
		}
	}
	if !a.closed {
		a.o.Logger.Info("directories of partitions not accepted yet", "partitions", len(sent), "code", code.Name(), "err", err)
		a.retry = min(max(2*a.retry, 10*time.Millisecond), 5*time.Second)
		a.timer = time.AfterFunc(a.retry, func() {
			defer rescue(a.o.Logger)
			a.mu.Lock()
			a.timer = nil
			a.mu.Unlock()
			a.send()
		})
	}
	a.mu.Unlock()
}

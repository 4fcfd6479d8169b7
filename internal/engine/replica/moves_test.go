package replica

import (
	"math"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// Moves keep to the rate that is set while they run, all together; without one they take no time.
func TestMoveRateHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRigOn(t, vfs.NewMem(), "/a,/b", nil)
		r.topic("t", 2)
		const batches = 40 // of 100 kB, in each partition
		for n := range int32(2) {
			for range batches {
				r.produce(1, longTime, AppendPartition{Topic: "t", Partition: n, Batches: batch(t, 1, 100_000, record.NewOptions())}).one(t)
			}
		}
		size := r.partition("t", 0).log().SizeBytes() + r.partition("t", 1).log().SizeBytes()
		// move sends both partitions to the other directory, and says how long that took.
		move := func(meanwhile func()) time.Duration {
			t.Helper()
			start := time.Now()
			var to [2]string
			for n := range int32(2) {
				to[n] = "/a"
				if filepath.Dir(r.partition("t", n).log().Path()) == "/a" {
					to[n] = "/b"
				}
				if err := r.AlterLogDir(id.TopicPartition{Topic: "t", Partition: n}, to[n]); err != nil {
					t.Fatal(err)
				}
			}
			meanwhile()
			synctest.Wait()
			for r.movesLeft() > 0 {
				time.Sleep(250 * time.Millisecond)
				synctest.Wait()
			}
			for n := range int32(2) {
				if at := filepath.Dir(r.partition("t", n).log().Path()); at != to[n] {
					t.Errorf("partition %d is in %s, want %s", n, at, to[n])
				}
			}
			return time.Since(start)
		}
		nothing := func() {}
		if d := move(nothing); d != 0 {
			t.Errorf("without a rate it took %v", d)
		}
		time.Sleep(time.Minute) // what was copied without a rate is forgotten
		r.SetMoveRate(size / 20)
		if d := move(nothing); d < 17*time.Second || d > 21*time.Second {
			t.Errorf("at a twentieth of the bytes per second it took %v", d)
		}
		time.Sleep(time.Minute)
		if d := move(func() { time.Sleep(10 * time.Second); r.SetMoveRate(size / 15) }); d < 13*time.Second || d > 17*time.Second {
			t.Errorf("at a twentieth of the bytes per second, and after 10 s at a fifteenth, it took %v", d)
		}
		time.Sleep(time.Minute)
		r.SetMoveRate(1)
		if d := move(func() { time.Sleep(time.Hour); r.SetMoveRate(math.MaxInt64) }); d != time.Hour {
			t.Errorf("at a byte per second, and after an hour without a bound, it took %v", d)
		}
	})
}

// movesLeft is how many replicas are on their way.
func (r *rig) movesLeft() int {
	r.moving.Lock()
	defer r.moving.Unlock()
	return len(r.moves)
}

// Nobody may send a replica to a cordoned directory, also not one that is there or does not exist; the directory is looked at first.
func TestMoveToACordonedDirectory(t *testing.T) {
	r := newRigOn(t, vfs.NewMem(), "/a,/b", nil)
	r.topic("t", 1)
	r.logs.SetCordoned([]string{"/a", "/b"})
	for _, topic := range []string{"t", "none"} {
		for _, dir := range []string{"/a", "/b"} {
			wantCode(t, r.AlterLogDir(id.TopicPartition{Topic: topic}, dir), wire.ErrInvalidReplicaAssignment)
		}
		wantCode(t, r.AlterLogDir(id.TopicPartition{Topic: topic}, "/c"), wire.ErrLogDirNotFound)
	}
	r.logs.SetCordoned(nil)
	wantCode(t, r.AlterLogDir(id.TopicPartition{Topic: "none"}, "/a"), wire.ErrUnknownTopicOrPartition)
}

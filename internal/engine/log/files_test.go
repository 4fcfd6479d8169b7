package log

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// countingFS counts the files that are open.
type countingFS struct {
	vfs.FS
	open, most, opens atomic.Int64
}

type countedFile struct {
	vfs.File
	fs *countingFS
}

func (c *countingFS) OpenFile(path string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := c.FS.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	c.opens.Add(1)
	for n := c.open.Add(1); ; {
		if most := c.most.Load(); n <= most || c.most.CompareAndSwap(most, n) {
			return &countedFile{f, c}, nil
		}
	}
}

func (f *countedFile) Close() error {
	f.fs.open.Add(-1)
	return f.File.Close()
}

// Thousands of partitions with several segments each are written, read and flushed with few descriptors.
func TestOpenFilesAreBounded(t *testing.T) {
	race.Skip(t)
	const partitions, limit = 2000, 100
	c := &countingFS{FS: mem(t)}
	ck := &clock{ms: epochMs}
	o := managerOptions(t, c, ck, "/data")
	o.MaxOpenFiles = limit
	o.Config.SegmentBytes = 300
	m := mustOpen(t, o)
	for p := range int32(partitions) {
		l, err := m.Create(partition("t", p), CreateOptions{Config: o.Config})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			mustAppend(t, l, batchSpec{size: 150})
		}
		if l.Segments() < 3 {
			t.Fatalf("%d segments", l.Segments())
		}
	}
	for _, l := range m.Logs() {
		if got := readAll(t, l); len(got) != 3 {
			t.Fatalf("%v: %d batches", l.TopicPartition(), len(got))
		}
		if err := l.Flush(3); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.most.Load(); n > limit+limit/2+4 { // the few are checkpoints and such
		t.Errorf("%d files were open at once", n)
	}
	if n := m.o.files.count(); n > limit {
		t.Errorf("%d files rest open", n)
	}
	// One log that is used all the time stays open while all others pass by.
	hot := m.Logs()[0]
	mustAppend(t, hot, batchSpec{})
	before := c.opens.Load()
	touches := 0
	for i, l := range m.Logs()[1:] {
		if i%20 == 0 {
			readAll(t, hot)
			touches++
		}
		readAll(t, l)
	}
	if n := c.opens.Load() - before; n > int64(3*partitions+touches) {
		t.Errorf("%d files were opened for %d", n, 3*partitions)
	}
	if err := m.Close(1); err != nil {
		t.Fatal(err)
	}
	if n := c.open.Load(); n != 0 {
		t.Errorf("%d files are open after the end", n)
	}
	m = mustOpen(t, o)
	if n := len(m.Logs()); n != partitions {
		t.Errorf("%d logs", n)
	}
	if n := m.o.files.count(); n > limit {
		t.Errorf("%d files are open after a start", n)
	}
	m.Close(1)
}

// Sections that are held count against the hard limit; beyond it reads fail for the moment, and nothing goes offline.
func TestOpenFilesHeldByReaders(t *testing.T) {
	o := managerOptions(t, mem(t), &clock{ms: epochMs}, "/data")
	o.MaxOpenFiles = 10
	m := mustOpen(t, o)
	defer m.Close(1)
	var logs []*Log
	for p := range int32(30) {
		l := mustCreate(t, m, partition("t", p))
		mustAppend(t, l, batchSpec{})
		logs = append(logs, l)
	}
	var held []*FileSection
	refused := 0
	for _, l := range logs {
		r, err := l.Read(ReadRequest{MaxBytes: 1000, Isolation: ReadLogEnd, LastFetchedEpoch: id.NoLeaderEpoch})
		if err != nil {
			if !errors.Is(err, syscall.EMFILE) || IsOffline(err) {
				t.Fatal(err)
			}
			refused++
			continue
		}
		held = append(held, r.Section)
	}
	if len(held) != 15 || refused != 15 {
		t.Errorf("%d sections, %d refused", len(held), refused)
	}
	for _, s := range held {
		if b, err := s.Bytes(); err != nil || checkWhole(b) != nil {
			t.Errorf("%v", err)
		}
		s.Release()
	}
	for _, l := range logs {
		readAll(t, l)
	}
}

// Many goroutines open, use and close at once.
func TestOpenFilesConcurrently(t *testing.T) {
	c := &countingFS{FS: mem(t)}
	o := managerOptions(t, c, &clock{ms: epochMs}, "/data")
	o.MaxOpenFiles = 16
	m := mustOpen(t, o)
	var logs []*Log
	for p := range int32(60) {
		l := mustCreate(t, m, partition("t", p))
		mustAppend(t, l, batchSpec{})
		logs = append(logs, l)
	}
	var wg sync.WaitGroup
	fail := make(chan error, 8)
	for w := range 4 {
		wg.Go(func() {
			for i := range 500 {
				l := logs[(i*7+w*13)%len(logs)]
				if got, err := readFrom(l, 0); err != nil || len(got) < 1 {
					select {
					case fail <- fmt.Errorf("%v: %d batches, %w", l.TopicPartition(), len(got), err):
					default:
					}
					return
				}
				if i%17 == 0 {
					l.sweep()
				}
				if i%31 == 0 {
					l.Flush(1)
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-fail:
		t.Error(err)
	default:
	}
	if n := c.most.Load(); n > 16+8+4 {
		t.Errorf("%d files were open at once", n)
	}
	m.Close(1)
	if n := c.open.Load(); n != 0 {
		t.Errorf("%d files are open after the end", n)
	}
}

package log

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

// held is a section that a reader keeps, with what it held at first.
type held struct {
	section *FileSection
	bytes   []byte
}

func hold(t *testing.T, l *Log, from id.Offset) held {
	t.Helper()
	r, err := l.Read(ReadRequest{Offset: from, MaxBytes: 1 << 20, MinOneMessage: true, Isolation: ReadLogEnd, LastFetchedEpoch: id.NoLeaderEpoch})
	if err != nil || r.Section == nil {
		t.Fatalf("read at %d: %v", from, err)
	}
	b, err := r.Section.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return held{r.Section, b}
}

func (h held) whole(t *testing.T, what string) {
	t.Helper()
	if got, err := h.section.Bytes(); err != nil || !bytes.Equal(got, h.bytes) {
		t.Errorf("%s: %d bytes of %d, %v", what, len(got), len(h.bytes), err)
	}
	h.section.Release()
	h.section.Release() // once is enough, twice is nothing
}

// Who reads a segment when it is cut away, emptied out, replaced or removed finishes with it, also when its files are gone; a section
// that the log now ends within is short, and never has other bytes than it had. Nobody's file stays open for ever.
func TestReadersAcrossTruncation(t *testing.T) {
	c := testConfig()
	c.SegmentBytes, c.FileDeleteDelay = 1000, time.Second
	ck := &clock{ms: epochMs}
	disk := mem(t)
	m := mustOpen(t, managerOptions(t, disk, ck, "/data"))
	l, err := m.Create(tp0, CreateOptions{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	fill := func(n int, fill byte) {
		for range n {
			mustAppend(t, l, batchSpec{size: 300, fill: fill, leader: 1})
		}
	}
	fill(10, 'a') // two in each segment
	first, cut, behind := hold(t, l, 0), hold(t, l, 4), hold(t, l, 8)
	if err := l.TruncateTo(5); err != nil {
		t.Fatal(err)
	}
	fill(5, 'b')
	ck.advance(2 * time.Second)
	m.Tick(ck.now()) // the files are gone now
	if vfs.Exists(disk, l.at.path(segmentName(8, suffixLog+suffixDeleted))) {
		t.Error("the deleted segment's file is still there")
	}
	behind.whole(t, "a segment behind the new end")
	first.whole(t, "a segment before it")
	if got, err := cut.section.Bytes(); err == nil && bytes.Equal(got, cut.bytes) || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a section across the new end: %d bytes, %v", len(got), err)
	} else if n := len(cut.bytes) / 2; err == nil && !bytes.Equal(got[:n], cut.bytes[:n]) {
		t.Error("what is before the new end changed")
	}
	cut.section.Release()

	emptied := hold(t, l, 2)
	if err := l.TruncateFullyAndStartAt(100); err != nil {
		t.Fatal(err)
	}
	fill(3, 'c')
	ck.advance(2 * time.Second)
	m.Tick(ck.now())
	emptied.whole(t, "a log that was emptied")
	if got := readAll(t, l); len(got) != 3 || got[0].BaseOffset() != 100 {
		t.Errorf("%d batches after that", len(got))
	}

	// The same name twice: a segment that begins where the removed one did, while that one is read.
	again := hold(t, l, 102)
	if err := l.TruncateTo(101); err != nil {
		t.Fatal(err)
	}
	fill(4, 'd')
	again.whole(t, "a segment whose name another has now")

	retained := hold(t, l, 100)
	l.AdvanceHighWatermark(l.EndOffset())
	c.RetentionBytes = 0
	l.SetConfig(c)
	if _, err := l.DeleteOldSegments(ck.now()); err != nil {
		t.Fatal(err)
	}
	ck.advance(2 * time.Second)
	m.Tick(ck.now())
	retained.whole(t, "a segment that retention took")

	fill(2, 'e')
	deleted := hold(t, l, l.StartOffset())
	if err := m.Delete(tp0); err != nil {
		t.Fatal(err)
	}
	ck.advance(2 * time.Second)
	m.Tick(ck.now())
	deleted.whole(t, "a deleted log")
	if n := m.o.files.count(); n != 0 {
		t.Errorf("%d files are open", n)
	}
	if err := m.Close(1); err != nil {
		t.Fatal(err)
	}
}

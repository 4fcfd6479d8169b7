package quorum

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/base/checkpoint"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// A crash may tear what was not durable yet, which is at most what one round of the driver writes; recovery cuts that off. To
// cut off more would be to forget what was committed, and with it what this node has told the cluster.
const maxTornBatches = 4 * maxOpsPerRound

// checkDamage reads the log's segments before recovery cuts them. A bad batch is torn if it can be explained by a crash, and
// damage if something durable lies behind it: the start of an epoch, before which everything was durable (the batch that
// starts it may be torn itself: Kafka names it in leader-epoch-checkpoint when it is appended), or more sound batches than a
// crash can leave. Damage is for a human to look at, and is an error that says where.
func checkDamage(fsys vfs.FS, dir string, from id.Offset) error {
	entries, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the metadata log: %w", err)
	}
	w := &damageWalk{fsys: fsys, next: -1}
	for _, e := range entries { // in order of base offsets
		stem, ok := strings.CutSuffix(e.Name(), ".log")
		if !ok || len(stem) != 20 {
			continue
		}
		base, err := strconv.ParseUint(stem, 10, 63)
		if err != nil {
			continue
		}
		if err := w.segment(filepath.Join(dir, e.Name()), id.Offset(base)); err != nil {
			return fmt.Errorf("read the metadata log: %w", err)
		}
	}
	if w.where == "" || w.badOffset < from { // a snapshot covers what is missing
		return nil
	}
	if w.behind > maxTornBatches {
		return fmt.Errorf("%s is damaged at byte %d (offset %d): %w; at least %d sound batches lie behind", w.where, w.badByte, w.badOffset, w.why, w.behind)
	}
	epochs, err := checkpoint.ReadEpochs(fsys, filepath.Join(dir, "leader-epoch-checkpoint"))
	if err != nil || len(epochs) == 0 { // it can be made anew, and says nothing
		return nil
	}
	if last := epochs[len(epochs)-1]; last.StartOffset > w.badOffset {
		return fmt.Errorf("%s is damaged at byte %d (offset %d): %w; epoch %d began behind that, at offset %d", w.where, w.badByte, w.badOffset, w.why,
			last.Epoch, last.StartOffset)
	}
	return nil
}

// damageWalk goes through segments and remembers the first bad batch, and how many sound ones follow.
type damageWalk struct {
	fsys      vfs.FS
	next      id.Offset // where the next batch must begin; -1 at the start
	where     string    // the segment with the first bad batch
	badByte   int64
	badOffset id.Offset
	why       error
	behind    int
	buf       []byte // of the file from start on
	start     int64
}

var errNotNext = errors.New("the batch does not follow the one before")

func (w *damageWalk) segment(path string, base id.Offset) error {
	f, err := w.fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	if w.next < 0 {
		w.next = base
	}
	w.buf, w.start = w.buf[:0], 0
	at := int64(0)
	for at < size && w.behind <= maxTornBatches {
		b, err := w.batch(f, at, size)
		if err != nil && !errors.As(err, new(*fs.PathError)) {
			if w.where == "" {
				w.where, w.badByte, w.badOffset, w.why = path, at, w.next, err
			}
			at++ // look for the next sound one
			continue
		}
		if err != nil {
			return err
		}
		if w.where != "" {
			w.behind++
		}
		w.next = b.NextOffset()
		at += int64(b.SizeBytes())
	}
	return nil
}

// batch reads the batch at a place, if there is a sound one that can stand there.
func (w *damageWalk) batch(f vfs.File, at, size int64) (record.Batch, error) {
	if size-at < record.HeaderSize {
		return nil, io.ErrUnexpectedEOF
	}
	head, err := w.read(f, at, record.HeaderSize)
	if err != nil {
		return nil, err
	}
	n := int64(record.Batch(head).SizeBytes())
	switch {
	case head[16] != 2:
		return nil, fmt.Errorf("magic %d is not 2", head[16])
	case n < record.HeaderSize || n > 2*maxBatchBytes:
		return nil, fmt.Errorf("the batch's length is %d", n)
	case n > size-at:
		return nil, io.ErrUnexpectedEOF
	case w.where == "" && record.Batch(head).BaseOffset() != w.next, record.Batch(head).BaseOffset() < w.next:
		return nil, errNotNext
	}
	b, err := w.read(f, at, int(n))
	if err != nil {
		return nil, err
	}
	batch, _, err := record.Next(b)
	if err == nil {
		err = batch.CheckCRC()
	}
	return batch, err
}

// read returns n bytes of f at a place, valid until the next call. The file is read in large pieces.
func (w *damageWalk) read(f vfs.File, at int64, n int) ([]byte, error) {
	if at < w.start || at+int64(n) > w.start+int64(len(w.buf)) {
		if cap(w.buf) < n {
			w.buf = make([]byte, max(n, readChunkBytes))
		}
		got, err := f.ReadAt(w.buf[:cap(w.buf)], at)
		w.buf, w.start = w.buf[:got], at
		if err != nil && (err != io.EOF || got < n) {
			return nil, err
		}
	}
	b := w.buf[at-w.start:]
	return b[:n], nil
}

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// metadataFold folds files of a metadata log into an image. It reads and never locks: a file that a node is writing shows what
// was in it.
type metadataFold struct {
	image    *image.Image
	next     id.Offset // of the record after the last one folded
	errs     io.Writer // where what was skipped is said
	problems int
	pending  []foldRecord // of an open metadata transaction
	open     bool         // there is one
}

// foldRecord is a record of the log with its offset.
type foldRecord struct {
	offset  id.Offset
	message logrec.MetadataRecord
}

// maxFoldProblems is how many records may be skipped before a file counts as damaged.
const maxFoldProblems = 100

func newMetadataFold(errs io.Writer) *metadataFold {
	return &metadataFold{image: image.Empty(), errs: errs}
}

// directory folds the newest snapshot of a metadata log's directory, and the segments after it.
func (f *metadataFold) directory(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, metadataTopic+"-0")); err == nil {
		dir = filepath.Join(dir, metadataTopic+"-0")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	newest, newestEpoch, newestName := int64(-1), int64(-1), ""
	var segments []string
	for _, e := range entries {
		if offset, epoch, ok := snapshotName(e.Name()); ok && (offset > newest || offset == newest && epoch > newestEpoch) {
			newest, newestEpoch, newestName = offset, epoch, e.Name()
		}
		if strings.HasSuffix(e.Name(), ".log") {
			segments = append(segments, e.Name())
		}
	}
	if newestName == "" && len(segments) == 0 {
		return fmt.Errorf("%s has no snapshot and no segment of a metadata log", dir)
	}
	if newestName != "" {
		if err := f.file(filepath.Join(dir, newestName)); err != nil {
			return err
		}
		f.next = id.Offset(newest) // a snapshot counts its records from 0; what it covers ends before the offset of its name
		f.image.Provenance.Offset = id.Offset(newest) - 1
	}
	slices.Sort(segments)
	for _, name := range segments {
		if err := f.file(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// file folds one snapshot or segment.
func (f *metadataFold) file(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a directory", path)
	}
	isSnapshot := strings.HasSuffix(path, ".checkpoint")
	if isSnapshot {
		f.next = 0
	}
	size := info.Size()
	finished := false
	for position := int64(0); position < size; {
		batch, err := readBatch(file, position, size)
		if errors.Is(err, record.ErrIncomplete) && !isSnapshot {
			f.warn("%s ends inside a batch, at position %d; what is before it is shown", path, position)
			return nil
		}
		if err == nil {
			err = batch.CheckCRC()
		}
		if err != nil {
			return fmt.Errorf("%s is damaged at position %d: %w", path, position, err)
		}
		last, err := f.batch(batch)
		if err != nil {
			return fmt.Errorf("%s, batch at position %d: %w", path, position, err)
		}
		finished = finished || last
		position += int64(batch.SizeBytes())
	}
	if isSnapshot && !finished {
		f.warn("%s has no footer: it was not finished", path)
	}
	return nil
}

// batch folds one batch and reports whether it ends a snapshot. Batches that are covered already are passed over.
func (f *metadataFold) batch(b record.Batch) (footer bool, err error) {
	if b.LastOffset() < f.next {
		return false, nil
	}
	it := b.Records(maxBatchBytes)
	defer it.Close()
	var ready []foldRecord
	for r := (record.Record{}); it.Next(&r); {
		if r.Offset < f.next {
			continue
		}
		if b.IsControl() {
			t, err := record.ParseControlKey(r.Key)
			footer = footer || err == nil && t == record.ControlSnapshotFooter
			continue
		}
		message, _, err := logrec.DecodeMetadata(slices.Clone(r.Value))
		if err != nil {
			if err := f.skip(r.Offset, err); err != nil {
				return false, err
			}
			continue
		}
		switch message.(type) {
		case *logrec.BeginTransactionRecord:
			f.open, f.pending = true, nil
		case *logrec.EndTransactionRecord:
			ready = append(ready, f.pending...)
			f.open, f.pending = false, nil
		case *logrec.AbortTransactionRecord:
			f.open, f.pending = false, nil
		default:
			if f.open {
				f.pending = append(f.pending, foldRecord{r.Offset, message})
			} else {
				ready = append(ready, foldRecord{r.Offset, message})
			}
		}
	}
	if err := it.Err(); err != nil {
		return footer, err
	}
	f.next = b.LastOffset() + 1
	if b.IsControl() || f.open && len(ready) == 0 {
		return footer, nil
	}
	return footer, f.apply(ready, image.Provenance{Offset: b.LastOffset(), Epoch: b.LeaderEpoch(), TimestampMs: b.MaxTimestamp()})
}

// apply folds records; one that contradicts the image is said and left out.
func (f *metadataFold) apply(records []foldRecord, at image.Provenance) error {
	for {
		delta := image.NewDelta(f.image)
		bad := -1
		for i, r := range records {
			if err := delta.Replay(r.message); err != nil {
				if err := f.skip(r.offset, err); err != nil {
					return err
				}
				bad = i
				break
			}
		}
		if bad < 0 {
			f.image = delta.Apply(at)
			return nil
		}
		records = slices.Delete(slices.Clone(records), bad, bad+1) // a delta that failed is of no use
	}
}

func (f *metadataFold) skip(offset id.Offset, cause error) error {
	f.problems++
	if f.problems > maxFoldProblems {
		return fmt.Errorf("record at offset %d: %w; that is one too many", offset, cause)
	}
	f.warn("The record at offset %d is left out: %v", offset, cause)
	return nil
}

func (f *metadataFold) warn(format string, args ...any) { fmt.Fprintf(f.errs, format+"\n", args...) }

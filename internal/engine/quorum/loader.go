package quorum

import (
	"fmt"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// loader folds committed batches into the image and tells the publishers. A metadata transaction (KIP-868) is published as
// one delta when it ends, or not at all. Nothing is published before the node has caught up with what was committed when it
// started: the first delta holds all of that, so that nobody acts on the past.
type loader struct {
	publishers []Publisher
	img        *image.Image
	delta      *image.Delta
	dirty      bool // the delta has records
	inTxn      bool
	next       id.Offset // the next offset to be folded
	// at is where the image ends, aligned to batches: what a snapshot may be made of.
	at       Provenance
	newBytes int64 // folded since the last snapshot
	caughtUp bool
}

func newLoader(known image.KnownConfig) *loader {
	img := image.EmptyKnowing(known)
	return &loader{img: img, delta: image.NewDelta(img), at: Provenance{Offset: -1, Epoch: 0, TimestampMs: record.NoTimestamp}}
}

// load replaces the image by a snapshot's.
func (l *loader) load(s *snapshot) error {
	d := image.NewSnapshotDelta(l.img)
	for _, r := range s.records {
		if err := d.Replay(r.Message); err != nil {
			return fmt.Errorf("load snapshot %s: %w", snapshotName(s.at), err)
		}
	}
	l.next, l.inTxn, l.newBytes = s.at.Offset, false, 0
	l.publish(d, Provenance{Offset: s.at.Offset - 1, Epoch: s.at.Epoch, TimestampMs: s.lastMs, FromSnapshot: true})
	return nil
}

// catchUp publishes for the first time, once everything below the high watermark is folded and there is something.
func (l *loader) catchUp(hw id.Offset) (now bool, err error) {
	if l.caughtUp || hw < 0 || l.next < hw || l.img.IsEmpty() {
		return false, nil
	}
	d := image.NewSnapshotDelta(image.Empty())
	for r := range l.img.Records(l.img.Features.MetadataVersion) {
		if err := d.Replay(r.Message); err != nil {
			return false, fmt.Errorf("the image does not replay: %w", err)
		}
	}
	l.caughtUp = true
	img := d.Apply(l.img.Provenance)
	img.FeaturesAt = l.img.FeaturesAt // the levels did not change now, and the number must not go back with the next image
	at := l.at
	at.FromSnapshot = true
	for _, p := range l.publishers {
		p.Publish(d, img, at)
	}
	return true, nil
}

// fold takes one committed batch. Its records are returned for the controller; nil for a control batch.
func (l *loader) fold(b record.Batch) ([]image.Record, error) {
	if b.BaseOffset() > l.next || b.NextOffset() <= l.next {
		return nil, fmt.Errorf("batch [%d, %d] does not follow offset %d", b.BaseOffset(), b.LastOffset(), l.next)
	}
	l.next = b.NextOffset()
	l.newBytes += int64(b.SizeBytes())
	end := Provenance{Offset: b.LastOffset(), Epoch: b.LeaderEpoch(), TimestampMs: b.MaxTimestamp()}
	if b.IsControl() {
		if !l.inTxn && !l.dirty {
			l.at = end // nothing to publish, but a snapshot may end here
		}
		return nil, nil
	}
	records, err := decodeRecords(b, nil)
	if err != nil {
		return nil, err
	}
	for i, r := range records {
		at := b.BaseOffset() + id.Offset(i)
		if err := l.replay(r.Message, at, end); err != nil {
			return nil, fmt.Errorf("metadata record at offset %d: %w", at, err)
		}
	}
	if !l.inTxn {
		l.publish(l.delta, end)
	}
	return records, nil
}

func (l *loader) replay(m logrec.MetadataRecord, at id.Offset, end Provenance) error {
	switch m.(type) {
	case *logrec.BeginTransactionRecord:
		if l.inTxn {
			return fmt.Errorf("a transaction begins inside a transaction")
		}
		if l.dirty { // what came before the transaction stands by itself
			before := end
			before.Offset = at - 1
			l.publish(l.delta, before)
		}
		l.inTxn = true
		return nil
	case *logrec.EndTransactionRecord:
		if !l.inTxn {
			return fmt.Errorf("a transaction ends that did not begin")
		}
		l.inTxn = false
		return nil
	case *logrec.AbortTransactionRecord:
		if !l.inTxn {
			return fmt.Errorf("a transaction is aborted that did not begin")
		}
		l.inTxn, l.dirty = false, false
		l.delta = image.NewDelta(l.img)
		return nil
	}
	l.dirty = true
	return l.delta.Replay(m)
}

// publish makes d the image and tells everybody.
func (l *loader) publish(d *image.Delta, at Provenance) {
	l.img = d.Apply(image.Provenance{Offset: at.Offset, Epoch: at.Epoch, TimestampMs: at.TimestampMs})
	l.at = at
	l.at.FromSnapshot = false
	l.delta, l.dirty = image.NewDelta(l.img), false
	if !l.caughtUp {
		return
	}
	for _, p := range l.publishers {
		p.Publish(d, l.img, at)
	}
}

// position is the snapshot that the image would make.
func (l *loader) position() raft.Position {
	return raft.Position{Offset: l.at.Offset + 1, Epoch: l.at.Epoch}
}

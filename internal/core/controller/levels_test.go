package controller

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// TestRecordsFitTheirLevel: at every metadata.version there is, decisions write records in versions that hold all of them: the log
// read back makes the state that the decisions made, and so does a snapshot. The same holds after an upgrade to the newest level.
func TestRecordsFitTheirLevel(t *testing.T) {
	seed := seed.Of(t)
	for mv := image.MinMetadataVersion; mv <= image.LatestMetadataVersion; mv++ {
		r := rand.New(rand.NewPCG(seed, uint64(mv)))
		levels := map[string]int16{image.MetadataVersionFeature: int16(mv)}
		if mv.ElrSupported() {
			levels[image.ElrVersionFeature] = 1
		}
		w := newWorld(levels)
		w.activate(t, 1)
		walk := func() {
			for range 250 {
				w.now = w.now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
				w.take(w.c.Tick(w.env(0)))
				req, version := w.randomRequest(r)
				w.decide(req, version)
			}
			checkReadBack(t, w, mv)
		}
		walk()
		if mv == image.LatestMetadataVersion {
			continue
		}
		up := updateFeature(image.MetadataVersionFeature, int16(image.LatestMetadataVersion), upgrade)
		if d := w.decide(up, 2); len(d.Records) != 1 {
			t.Fatalf("upgrade from %v: %s", mv, w.print(d))
		}
		walk()
	}
}

// checkReadBack compares the working state with what the encoded log, and an encoded snapshot, give.
func checkReadBack(t *testing.T, w *world, mv image.MetadataVersion) {
	t.Helper()
	again := func(r image.Record) image.Record {
		m, v, err := logrec.DecodeMetadata(logrec.EncodeMetadata(r.Message, r.Version))
		if err != nil || v != r.Version {
			t.Fatalf("%v: %T version %d: %v", mv, r.Message, r.Version, err)
		}
		return image.Record{Message: m, Version: v}
	}
	c := New(w.cfg)
	for i, r := range w.log {
		if err := c.Replay(id.Offset(i), []image.Record{again(r)}); err != nil {
			t.Fatalf("%v: %v", mv, err)
		}
	}
	if diff := cmp.Diff(fingerprint(w.c.state), fingerprint(c.state)); diff != "" {
		t.Fatalf("%v: the log read back gives another state:\n%s", mv, diff)
	}
	d := image.NewSnapshotDelta(image.Empty())
	for r := range w.c.Image().Records(w.c.Image().Features.MetadataVersion) {
		if err := d.Replay(again(r).Message); err != nil {
			t.Fatalf("%v: snapshot: %v", mv, err)
		}
	}
	img := d.Apply(image.Provenance{})
	if diff := cmp.Diff(records(w.c.Image()), records(img)); diff != "" {
		t.Fatalf("%v: the snapshot read back differs:\n%s", mv, diff)
	}
}

// records is an image as its encoded records, in order.
func records(img *image.Image) []string {
	var out []string
	for r := range img.Records(img.Features.MetadataVersion) {
		out = append(out, string(logrec.EncodeMetadata(r.Message, r.Version)))
	}
	slices.Sort(out)
	return out
}

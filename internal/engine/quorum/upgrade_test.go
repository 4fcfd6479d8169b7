package quorum

import (
	"context"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TestRaiseKRaftVersion: UpdateFeatures makes a static quorum a dynamic one, whose voters stand in the log; it stays so over
// restarts and snapshots, and there is no way back.
func TestRaiseKRaftVersion(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", false)
	q := n.start()
	update := func(level int16, kind int8, dry bool) *api.UpdateFeaturesResponse {
		t.Helper()
		req := api.NewUpdateFeaturesRequest()
		u := api.NewUpdateFeaturesRequestFeatureUpdate()
		u.Feature, u.MaxVersionLevel, u.UpgradeType = image.KRaftVersionFeature, level, kind
		req.FeatureUpdates, req.ValidateOnly = []api.UpdateFeaturesRequestFeatureUpdate{u}, dry
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		m, err := q.Do(ctx, Request{Message: req, APIVersion: 2, ReadCommitted: true})
		if err != nil {
			t.Fatal(err)
		}
		return m.(*api.UpdateFeaturesResponse)
	}
	if a := update(1, 1, true); a.ErrorCode != wire.ErrNone || q.Status().KRaftVersion != 0 {
		t.Fatalf("dry run: %v, %s, kraft.version %d", a.ErrorCode, *a.ErrorMessage, q.Status().KRaftVersion)
	}
	if a := update(1, 1, false); a.ErrorCode != wire.ErrNone {
		t.Fatalf("%v: %s", a.ErrorCode, *a.ErrorMessage)
	}
	check := func(life string) {
		t.Helper()
		// An image may be there before the controller is active; an answer is not.
		if err := setConfig(q, "probe", life); err != nil {
			t.Fatal(err)
		}
		if s := q.Status(); s.KRaftVersion != 1 || len(s.Voters) != 1 || s.Voters[0].ID != 1 || s.Voters[0].DirectoryID != n.dirID || !s.ActiveBroker {
			t.Fatalf("%s: %+v", life, s)
		}
	}
	check("after the upgrade")
	if a := update(0, 2, false); a.ErrorCode != wire.ErrInvalidUpdateVersion {
		t.Fatalf("back: %v", a.ErrorCode)
	}
	if a := update(1, 1, false); a.ErrorCode != wire.ErrNone {
		t.Fatalf("the same again: %v", a.ErrorCode)
	}
	if err := setConfig(q, "a", "1"); err != nil {
		t.Fatal(err)
	}
	for _, life := range []string{"second life", "third life"} {
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		if life == "third life" {
			n.edit = func(o *Options) { o.SnapshotMaxNewRecordBytes = 1 }
		}
		q = n.start()
		if configOf(q.Image(), "a") != "1" {
			t.Fatalf("%s: the config is lost", life)
		}
		check(life)
	}
	awaitSnapshot(t, n, 0)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = n.start()
	check("after a snapshot")
}

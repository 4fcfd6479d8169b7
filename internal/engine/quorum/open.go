package quorum

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"

	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// newDriver reads the directory: snapshots, log, quorum-state.
func newDriver(q *Quorum, rnd *rand.Rand) (*driver, error) {
	var known image.KnownConfig
	if q.o.Controller != nil {
		known = q.o.Controller.KnownConfig()
	}
	d := &driver{q: q, o: &q.o, ctl: q.o.Controller, rand: rnd, loader: newLoader(known), activeFrom: noOffset}
	list, err := listSnapshots(d.o.FS, d.o.logDir())
	if err != nil {
		return nil, err
	}
	members := raft.Membership{Offset: -1}
	for _, v := range d.o.StaticVoters {
		members.Voters = members.Voters.With(v.raft())
	}
	if err := d.oldBootstrap(); err != nil {
		return nil, err
	}
	newest := bootstrapID
	for _, p := range list {
		if p == bootstrapID {
			boot, err := readSnapshot(d.o.FS, d.o.logDir(), p)
			if err != nil {
				return nil, err
			}
			adopt(&members, boot.members)
			if d.ctl != nil && len(boot.records) > 0 {
				d.ctl.SetBootstrap(boot.records)
			}
		}
	}
	if n := len(list); n > 0 && list[n-1] != bootstrapID {
		newest = list[n-1]
		if d.snap, err = readSnapshot(d.o.FS, d.o.logDir(), newest); err != nil {
			return nil, err
		}
		adopt(&members, d.snap.members)
	}
	if d.log, err = openMetaLog(d.o, newest); err != nil {
		return nil, err
	}
	d.log.stop = q.stop
	if err := d.snaps.init(d, list); err != nil {
		d.log.Close()
		return nil, err
	}
	d.peers = peers{d: d}
	d.log.note(members, noOffset)
	if err := d.log.scan(newest.Offset); err != nil {
		d.log.Close()
		return nil, err
	}
	if err := d.checkVoters(); err != nil {
		d.log.Close()
		return nil, err
	}
	if d.hard, err = readState(d.o.FS, d.o.logDir()); err != nil {
		d.log.Close()
		return nil, err
	}
	return d, nil
}

// oldBootstrap takes the first records of a cluster that Apache Kafka up to 4.3 was formatted with from where it left them. Since
// then they are in the bootstrap snapshot, which comes later and wins.
func (d *driver) oldBootstrap() error {
	path := filepath.Join(d.o.Dir, fileBootstrap)
	if d.ctl == nil || !vfs.Exists(d.o.FS, path) {
		return nil
	}
	boot, err := readSnapshotFile(d.o.FS, path, bootstrapID)
	if err != nil {
		return err
	}
	for _, r := range boot.records {
		if l, ok := r.Message.(*logrec.FeatureLevelRecord); ok && l.Name == image.MetadataVersionFeature {
			d.ctl.SetBootstrap(boot.records)
			return nil
		}
	}
	return fmt.Errorf("No FeatureLevelRecord for %s was found in the bootstrap metadata from %s", image.MetadataVersionFeature, path)
}

// checkVoters refuses a quorum that could never elect anybody: without a way to other voters this node must be the only one.
func (d *driver) checkVoters() error {
	m := d.log.membership()
	if d.o.Transport != nil {
		return nil
	}
	var names []string
	for _, v := range m.Voters {
		names = append(names, fmt.Sprintf("%d (directory id %s)", v.ID, v.DirectoryID))
	}
	switch {
	case len(m.Voters) == 0:
		return errors.New("no voter is known: controller.quorum.voters is empty, and the directory was formatted without initial controllers")
	case len(m.Voters) > 1:
		return fmt.Errorf("the quorum has the voters %s, and a quorum of more than one is not supported yet", strings.Join(names, ", "))
	case !m.Voters.Has(raft.Replica{ID: d.o.NodeID, DirectoryID: d.o.DirectoryID}):
		return fmt.Errorf("the only voter is %s, but this is node %d with the directory id %s", names[0], d.o.NodeID, d.o.DirectoryID)
	}
	return nil
}

// adopt takes the voters of a snapshot, unless it has none.
func adopt(m *raft.Membership, from raft.Membership) {
	if from.KRaftVersion > 0 {
		m.KRaftVersion = from.KRaftVersion
		m.Voters, m.Offset = from.Voters, from.Offset
	}
}

// start tells the publishers what the snapshot holds and takes up the raft state.
func (d *driver) start() error {
	now := d.o.Now()
	if d.snap != nil {
		if err := d.loader.load(d.snap); err != nil {
			return err
		}
		d.snap = nil
		if d.ctl != nil {
			d.ctl.LoadSnapshot(d.loader.img)
		}
	}
	self := Voter{ID: d.o.NodeID, DirectoryID: d.o.DirectoryID, Endpoints: d.o.Endpoints}.raft()
	d.lastAppend = now
	d.raft = raft.New(raft.Config{Self: self, ElectionTimeout: d.o.ElectionTimeout, FetchTimeout: d.o.FetchTimeout,
		RequestTimeout: d.o.RequestTimeout, RetryBackoff: d.o.RetryBackoff, ElectionBackoffMax: d.o.ElectionBackoffMax, Log: d.log, Rand: d.rand},
		d.hard, d.log.membership(), now)
	return nil
}

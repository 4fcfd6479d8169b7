package controller

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// offlineDirRecords takes a broker out of the ISR of what was on directories that failed, and out of its registration.
func (c *Controller) offlineDirRecords(b *image.Broker, offline []id.UUID) []image.Record {
	var failed, left []id.UUID
	for _, d := range b.Directories {
		if slices.Contains(offline, d) {
			failed = append(failed, d)
		} else {
			left = append(left, d)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	records := c.leaderAndISR(leaderChange{remove: b.ID, add: image.NoLeader, unclean: image.NoLeader}, func(p *image.Partition) bool {
		dir, ok := p.Directory(b.ID)
		return ok && slices.Contains(failed, dir)
	})
	return append(records, image.Record{Version: 2, Message: registrationChange(b, func(m *logrec.BrokerRegistrationChangeRecord) {
		m.LogDirs = append([]id.UUID{}, left...)
	})})
}

// offlineDirsAfter is offlineDirRecords of a broker whose heartbeat has led to other records already. They count: a broker that
// is unfenced by the same heartbeat may lead what was on the directory. (Kafka looks at the state before, and leaves it so.)
func (c *Controller) offlineDirsAfter(env Env, b *image.Broker, offline []id.UUID, before []image.Record) []image.Record {
	if len(before) == 0 || len(offline) == 0 {
		return c.offlineDirRecords(b, offline)
	}
	now := c.state
	next, err := now.apply(env.NextOffset, before, c.epoch)
	if err != nil {
		return c.offlineDirRecords(b, offline) // the records do not fit, and the decision is going to be refused
	}
	c.state = next
	defer func() { c.state = now }()
	return c.offlineDirRecords(c.img.Cluster.Broker(b.ID), offline)
}

package image

import (
	"iter"

	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Records iterates over the records that make this image from nothing, in the order in which Kafka writes a snapshot: the
// feature levels first, since they decide how the rest is read, then brokers and controllers, topics, configs, quotas,
// producer ids, ACLs, SCRAM credentials and delegation tokens. Versions follow metadata.version v; what v cannot express is
// left out, as Kafka's lossy downgrade does. Pass im.Features.MetadataVersion for a snapshot without loss.
func (im *Image) Records(v MetadataVersion) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		if v == 0 && im.IsEmpty() {
			return
		}
		for _, r := range im.Features.records(v) {
			if !yield(r) {
				return
			}
		}
		if !im.Cluster.records(v, yield) || !im.Topics.records(v, im.Features.ElrEnabled(), yield) ||
			!im.Configs.records(yield) || !im.Quotas.records(yield) {
			return
		}
		if im.ProducerIDs.Next >= 0 {
			r := &logrec.ProducerIDsRecord{BrokerID: -1, BrokerEpoch: -1, NextProducerID: int64(im.ProducerIDs.Next)}
			if !yield(Record{Message: r}) {
				return
			}
		}
		im.securityRecords(v, yield)
	}
}

func (im *Image) securityRecords(v MetadataVersion, yield func(Record) bool) {
	for _, r := range im.ACLs.All() {
		if !yield(Record{Message: r}) {
			return
		}
	}
	if v.ScramSupported() {
		for _, r := range im.Scram.All() {
			if !yield(Record{Message: r}) {
				return
			}
		}
	}
	if v.DelegationTokenSupported() {
		for _, r := range im.Tokens.All() {
			if !yield(Record{Message: r}) {
				return
			}
		}
	}
}

// IsEmpty reports whether the image holds nothing that a snapshot would keep.
func (im *Image) IsEmpty() bool {
	return im.Features.MetadataVersion == 0 && len(im.Features.levels) == 0 && len(im.Cluster.brokers) == 0 &&
		len(im.Cluster.controllers) == 0 && im.Topics.Len() == 0 && im.Configs.byResource.Len() == 0 &&
		im.Quotas.byEntity.Len() == 0 && im.ProducerIDs.Next < 0 && im.ACLs.Len() == 0 &&
		im.Scram.byKey.Len() == 0 && im.Tokens.byID.Len() == 0
}

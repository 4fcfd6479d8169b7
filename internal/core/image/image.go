package image

import (
	"errors"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Record is one metadata record and the version in which it is, or will be, written.
type Record struct {
	Message logrec.MetadataRecord
	Version int16
}

// ErrInconsistent is the cause of every error of a replay: the record contradicts the image it is applied to.
var ErrInconsistent = errors.New("metadata record contradicts the image")

// Provenance says which record an image ends with.
type Provenance struct {
	// Offset of the last record in the image, inclusive; -1 in the empty image.
	Offset id.Offset
	// Epoch of the quorum leader that wrote it.
	Epoch id.LeaderEpoch
	// TimestampMs is the append time of the batch that holds it.
	TimestampMs int64
}

// Image is the metadata at one offset. See the package comment for what may be shared.
type Image struct {
	Provenance Provenance
	// FeaturesAt is the offset of the image in which the feature levels last changed; -1 before the first.
	FeaturesAt  id.Offset
	Features    *Features
	Cluster     *Cluster
	Topics      *Topics
	Configs     *Configs
	ProducerIDs ProducerIDs
	Quotas      *Quotas
	ACLs        *ACLs
	Scram       *Scram
	Tokens      *Tokens
}

// Empty returns the image before the first record.
func Empty() *Image { return EmptyKnowing(nil) }

// EmptyKnowing returns the image before the first record which, and all that are made from it, pass over configs that are not
// known; nil knows all.
func EmptyKnowing(known KnownConfig) *Image {
	return &Image{
		Provenance:  Provenance{Offset: -1, Epoch: -1, TimestampMs: -1},
		FeaturesAt:  -1,
		Features:    &Features{},
		Cluster:     &Cluster{},
		Topics:      newTopics(),
		Configs:     newConfigs(known),
		ProducerIDs: ProducerIDs{Next: -1},
		Quotas:      newQuotas(),
		ACLs:        newACLs(),
		Scram:       newScram(),
		Tokens:      newTokens(),
	}
}

// ProducerIDs is the high end of the blocks of producer ids handed out so far.
type ProducerIDs struct {
	// Next is the first producer id of the next block; -1 when no block was ever allocated.
	Next id.ProducerID
}

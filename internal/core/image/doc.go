// Package image is the metadata of a cluster as the committed records of __cluster_metadata describe it.
//
// An [Image] is immutable: whoever holds one may read it for ever, from any goroutine, without a lock. A [Delta] folds
// records over an image and [Delta.Apply] makes the next image. Images share structure: large sections are persistent
// hash tries ([Map]), so a delta over one topic among ten thousand costs what it changes and nothing more, and the image
// before it stays as it was. That is also how a controller undoes decisions that were never committed: it keeps the
// pointer to the older image.
//
// The package is pure. It refuses to know where records come from (log, snapshot or a decision not yet written), to
// validate what a controller should have validated, and to interpret sections it only carries (ACLs, SCRAM credentials,
// quotas, delegation tokens); it keeps those so that snapshots lose nothing. A record that contradicts the image (a change
// to a partition that does not exist) is an error of the log, reported as [ErrInconsistent] by [Delta.Replay].
//
// Record versions in a snapshot follow the metadata.version of the image, as KIP-630 and KIP-778 ask.
//
// Slices and pointers reachable from an image are shared: readers must not change them.
package image
